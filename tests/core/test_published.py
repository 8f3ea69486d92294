"""What a firewall publishes: from what nft and iptables-save printed on a real kernel.

The rules are those of Docker (nftables and iptables), Podman (netavark's and CNI's portmap),
kube-proxy (nftables), and of operators.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from nicwatchd.core.firewall import Firewall, both
from nicwatchd.core.model import Family
from nicwatchd.core.published import (
    Published,
    from_iptables,
    from_nft,
    is_compat,
    published,
)

RULESETS = Path(__file__).parent / "rulesets"


def read(name: str) -> str:
    return (RULESETS / name).read_text()


def brief(firewall: Firewall) -> set[str]:
    """What is published, in words."""
    return {_brief(each) for each in published(firewall)}


def _brief(port: Published) -> str:
    where = f" only to {port.only_to}" if port.only_to else ""
    link = f" by {port.link}" if port.link else ""
    return f"{port.protocol} {port.ports}{where}{link} -> {port.to}"


def of_table(name: str) -> Firewall:
    found = from_nft(read("publishing.json"))
    return Firewall(tuple(chain for chain in found.chains if chain.table == name))


def test_dockers_own_nftables() -> None:
    assert brief(of_table("ip docker-bridges")) == {
        "tcp 8080 -> 172.18.0.2",
        "udp 53 only to 10.0.2.11/32 -> 172.18.0.3",
        "tcp 8000-8010 -> 172.18.0.4",
    }


def test_kube_proxy_with_node_ports_on_two_addresses_and_a_service() -> None:
    assert brief(of_table("ip kube-proxy")) == {
        "tcp 443 only to 172.20.0.10/32 -> 10.244.0.5",
        *(
            f"{protocol} 30080 only to {ip}/32 -> 10.244.0.5"
            for protocol in ("tcp", "udp")
            for ip in ("10.0.2.11", "10.0.3.12")
        ),
    }


def test_maps_sets_and_links_of_operators() -> None:
    assert brief(of_table("inet nat2")) == {
        "tcp 80 by eth1 -> 10.9.9.9",
        "tcp 443 by eth1 -> 10.9.9.9",
        "tcp 81 -> 10.9.9.1",
        "tcp 82 -> 10.9.9.2",
        "tcp 22 -> fd00::2",
        "tcp 25 only to 10.0.2.11/32 -> 10.9.9.3",
    }


def test_what_only_filters_publishes_nothing() -> None:
    assert published(from_nft(read("hardening.json"))) == ()
    assert published(from_nft('{"nftables": []}')) == ()
    assert published(Firewall()) == ()


def test_iptables_of_docker_and_podman() -> None:
    assert brief(from_iptables(read("iptables.txt"), Family.V4)) == {
        "tcp 8080 -> 172.18.0.2",
        "tcp 8443 -> 10.88.0.3",
        "tcp 9000-9010 -> 10.88.0.3",
    }
    assert brief(from_iptables(read("ip6tables.txt"), Family.V6)) == {"udp 53 -> fd00::2"}
    legacy = from_iptables(read("iptables-legacy.txt"), Family.V4)
    assert brief(legacy) == {"tcp 8081 only to 10.0.2.11/32 -> 172.18.0.2"}
    assert brief(both([legacy, Firewall()])) == brief(legacy)


def test_nft_cannot_say_what_iptables_made() -> None:
    text = read("iptables-in-nft.json")
    assert is_compat(text)
    assert from_nft(text).unread
    assert not is_compat(read("publishing.json"))
    assert not from_nft(read("publishing.json")).unread
    assert published(from_nft(text)) == ()


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        (Published(Family.V4, "tcp", 80), True),
        (Published(Family.V6, "tcp", 80), False),
        (Published(Family.V4, "tcp", 80, link="eth1"), True),
        (Published(Family.V4, "tcp", 80, link="eth*"), True),
        (Published(Family.V4, "tcp", 80, link="eth0"), False),
    ],
)
def test_on_which_addresses(port: Published, *, expected: bool) -> None:
    assert port.is_on(ip_address("10.0.2.11"), "eth1") is expected


def test_only_one_address_is_published() -> None:
    ports = [p for p in published(of_table("ip docker-bridges")) if p.port == 53]
    assert [p.is_on(ip_address("10.0.2.11"), "eth1") for p in ports] == [True]
    assert [p.is_on(ip_address("10.0.2.12"), "eth1") for p in ports] == [False]


def test_jumps_in_a_circle_end() -> None:
    text = "*nat\n:PREROUTING ACCEPT [0:0]\n:A - [0:0]\n-A PREROUTING -j A\n-A A -j A\n"
    text += "-A A -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.1.1.1\n"
    assert brief(from_iptables(text, Family.V4)) == {"tcp 80 -> 10.1.1.1"}


def test_without_a_port_it_is_no_publishing() -> None:
    """A whole address led elsewhere is the operator's own routing."""
    text = "*nat\n:PREROUTING ACCEPT [0:0]\n"
    text += "-A PREROUTING -d 10.0.2.11/32 -j DNAT --to-destination 10.1.1.1\n"
    assert published(from_iptables(text, Family.V4)) == ()


@pytest.mark.parametrize("text", ["", "garbage\n-A", '-A X "', "*nat\n:PREROUTING\n-A PREROUTING"])
def test_garbage_is_skipped(text: str) -> None:
    assert published(from_iptables(text, Family.V4)) == ()


def test_what_is_not_json_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        from_nft("no ruleset")
