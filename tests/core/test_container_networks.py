"""Who owns the secondary ENIs: told by rules that only such a network makes, and by no name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nicwatchd.core.container_networks import container_network
from nicwatchd.core.model import MAIN_TABLE, PROTOCOL, Link, Rule
from tests.core.build import IPV4, V4, V6, net
from tests.core.scenes import APPLIED, ETH2, IGNORED, applied, selectors, two_enis

POD, POD6 = net("10.0.2.77/32"), net("2001:db8:0:2::77/128")
AWS, CILIUM = "Amazon VPC CNI", "Cilium"


def rule(priority: int, table: int = MAIN_TABLE, **more: object) -> Rule:
    return Rule(V4, priority, table, 3, **more)  # type: ignore[arg-type] # a field's


NODE_PORT = rule(1024, fwmark=0x80, fwmask=0x80)
TO_POD = rule(512, dst=POD)
FROM_POD = rule(1536, 2, src=POD)
EGRESS = rule(111, 11, src=POD)
MULTI = rule(109, fwmark=0x80, fwmask=0x80, iif="eth0")


@pytest.mark.parametrize(
    ("mark", "owner"),
    [
        pytest.param(NODE_PORT, AWS, id="NodePort"),
        pytest.param(replace(NODE_PORT, family=V6), AWS, id="with IPv6"),
        pytest.param(TO_POD, AWS, id="to a pod"),
        pytest.param(replace(TO_POD, family=V6, dst=POD6), AWS, id="to a pod, IPv6"),
        pytest.param(FROM_POD, AWS, id="from a pod"),
        pytest.param(replace(FROM_POD, dst=net("10.0.0.0/16")), AWS, id="from a pod to the VPC"),
        pytest.param(rule(10, 101, iif="vlan.eth.1"), AWS, id="a branch ENI"),
        pytest.param(EGRESS, CILIUM, id="Cilium, from a pod"),
        pytest.param(replace(EGRESS, family=V6, src=POD6), CILIUM, id="Cilium, IPv6"),
        pytest.param(MULTI, CILIUM, id="Cilium's NodePort"),
    ],
)
def test_one_mark_is_enough(mark: Rule, owner: str) -> None:
    assert container_network(["lo", "eth0"], [mark]) == owner
    assert container_network(["lo", "eth0"], [replace(mark, protocol=PROTOCOL)]) is None
    assert container_network(["lo", "eth0"], [replace(mark, action=6)]) is None


@pytest.mark.parametrize("mark", [rule(20, dst=POD), rule(110, 3, src=POD)])
def test_marks_that_others_have_too_need_ciliums_link(mark: Rule) -> None:
    assert container_network(["cilium_host"], [mark]) == CILIUM
    assert container_network(["eth0"], [mark]) is None


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(replace(NODE_PORT, priority=1025), id="another priority"),
        pytest.param(replace(NODE_PORT, fwmark=1), id="another mark"),
        pytest.param(replace(TO_POD, dst=net("10.0.0.0/16")), id="to a network"),
        pytest.param(replace(TO_POD, table=77), id="to another table"),
        pytest.param(replace(TO_POD, src=POD), id="from somewhere, too"),
        pytest.param(replace(FROM_POD, src=net("10.0.2.0/24")), id="from a network"),
        pytest.param(replace(FROM_POD, table=MAIN_TABLE), id="from an address to main"),
        pytest.param(replace(EGRESS, table=5000), id="a table that is not Cilium's"),
        pytest.param(rule(100, 255), id="Cilium's look-up of local"),
        pytest.param(rule(9, 2004, fwmark=0x200), id="Cilium's proxy"),
        pytest.param(rule(10, 101, iif="eth1"), id="another link"),
    ],
)
def test_what_is_no_mark(rule: Rule) -> None:
    """Cilium's links are there in each of its modes, and `eni1` is anybody's name."""
    links = ["lo", "eth0", "cilium_host", "cilium_net", "lxc_health", "eni1234", "vlan.eth.1"]
    assert container_network(links, [rule]) is None


def test_a_name_alone_takes_no_eni_from_us() -> None:
    motion = two_enis()
    for index, name in enumerate(("cilium_host", "cilium_vxlan", "lxc12ab", "eni12ab"), start=9):
        motion.plug(600.0, Link(index, f"02:00:00:00:01:{index:02x}", name, up=True, kind="veth"))
    motion.run(700.0)
    assert (motion.state(), motion.state(ETH2.index)) == (APPLIED, APPLIED)


@pytest.mark.parametrize("marks", [[TO_POD, FROM_POD], [EGRESS]], ids=["VPC CNI", "Cilium"])
def test_a_network_that_comes_later_has_the_enis_to_itself(marks: list[Rule]) -> None:
    motion = applied()
    motion.kernel.put(*marks)
    motion.run(motion.now + 10.0)
    assert motion.state() is IGNORED
    assert motion.reasons() == {"cni"}
    assert selectors(motion, 3, 4) | selectors(motion, 3, 6) == set()
    motion.kernel.drop(*marks)
    motion.run(motion.now + 60.0)
    assert motion.state() is APPLIED
    assert IPV4 in {str(a.ip) for a in motion.kernel.addresses_of(3)}
