"""Which container network gives the secondary ENIs of this host to its containers, if one does.

It is recognised by any of the rules that only such a network makes. A name alone proves nothing:
Cilium has its links in every mode, and owns ENIs only in one; and anybody may call a link `eni1`.

Reads: the names of all links, and all rules of the host. Gives: the name of the network.

Sources: the priorities in amazon-vpc-cni-k8s (pkg/networkutils) and in Cilium
(pkg/datapath/linux/linux_defaults).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nicwatchd.core.model import MAIN_TABLE, PROTOCOL, IPNetwork, Rule

VPC_CNI: Final = "Amazon VPC CNI"
CILIUM: Final = "Cilium"

# Of packets for a NodePort that came in by the primary: they are answered by main. The VPC CNI and
# Cilium use the same mark.
NODE_PORT_MARK: Final = 0x80
# The links of branch ENIs, which pods with security groups have: `iif vlan.eth.1 lookup 101`.
VPC_CNI_BRANCH: Final = "vlan.eth"
CILIUM_LINK: Final = "cilium_host"
CILIUM_TABLES: Final = range(10, 200)  # 10 + the number of the ENI


def container_network(links: Iterable[str], rules: Iterable[Rule]) -> str | None:
    """The container network that owns this host's secondary ENIs; None: there are no signs."""
    foreign = [rule for rule in rules if rule.protocol != PROTOCOL and rule.action == 1]
    if any(_is_of_vpc_cni(rule) for rule in foreign):
        return VPC_CNI
    has_cilium = CILIUM_LINK in set(links)
    if any(_is_of_cilium(rule, has_link=has_cilium) for rule in foreign):
        return CILIUM
    return None


def _is_of_vpc_cni(rule: Rule) -> bool:
    match rule.priority:
        case 1024:  # not with NodePort support off and external SNAT on
            return rule.fwmark == NODE_PORT_MARK
        case 512:
            return _leads_to_pod(rule)
        case 1536:
            return _leads_from_pod(rule)
        case _:
            branch = rule.iif is not None and rule.iif.startswith(VPC_CNI_BRANCH)
            return branch and rule.table != MAIN_TABLE


def _is_of_cilium(rule: Rule, *, has_link: bool) -> bool:
    """The numbers that others like too count only where Cilium's link is there."""
    match rule.priority:
        case 109:
            return rule.fwmark == NODE_PORT_MARK
        case 111:
            return _leads_from_pod(rule) and rule.table in CILIUM_TABLES
        case 110:  # as 111: of earlier versions
            return has_link and _leads_from_pod(rule)
        case 20:
            return has_link and _leads_to_pod(rule)
        case _:
            return False


def _leads_to_pod(rule: Rule) -> bool:
    """`to POD lookup main`, where the route to the pod's veth is; and nothing more."""
    others = (rule.src, rule.iif, rule.oif, rule.fwmark, rule.suppress_prefixlength)
    return _is_host(rule.dst) and rule.table == MAIN_TABLE and others == (None,) * len(others)


def _leads_from_pod(rule: Rule) -> bool:
    """`from POD [to CIDR] lookup T`, where T is the ENI's."""
    others = (rule.iif, rule.oif, rule.fwmark)
    return _is_host(rule.src) and rule.table != MAIN_TABLE and others == (None,) * len(others)


def _is_host(network: IPNetwork | None) -> bool:
    return network is not None and network.prefixlen == network.max_prefixlen
