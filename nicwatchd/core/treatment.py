"""Which links are ENIs that we manage, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from nicwatchd.core.metadata import Answer, Value
from nicwatchd.core.model import Link, Reason, Rule
from nicwatchd.core.policy import Coexist, Policy

# Amazon's VPC CNI (EKS): "from all fwmark 0x80/0x80 lookup main" keeps node traffic on the primary.
VPC_CNI_PRIORITY: Final = 1024
VPC_CNI_MARK: Final = 0x80
LOOPBACK_MAC: Final = "00:00:00:00:00:00"
CILIUM_LINK: Final = "cilium_host"


def is_candidate(link: Link, policy: Policy) -> bool:
    """Whether a link is hardware, or of a driver that the settings name, and so worth a word."""
    has_mac = link.mac not in ("", LOOPBACK_MAC)
    return has_mac and (link.kind is None or link.driver in policy.drivers)


def container_network(links: Mapping[int, Link], rules: Iterable[Rule]) -> str | None:
    """The container network that owns this host's secondary ENIs, if one shows its marks."""
    if any(link.name == CILIUM_LINK for link in links.values()):
        return "Cilium"
    if any(rule.priority == VPC_CNI_PRIORITY and rule.fwmark == VPC_CNI_MARK for rule in rules):
        return "Amazon VPC CNI"
    return None


def hands_off(link: Link, policy: Policy, owner: str | None) -> Reason | None:
    """Why nothing at all of this link may be touched; None when it is an ENI for us to see to."""
    if any(fnmatchcase(link.name, p) or link.mac == p.lower() for p in policy.exclude):
        return Reason("excluded", "excluded by the settings")
    if link.driver not in policy.drivers:
        known = ", ".join(sorted(policy.drivers))
        return Reason("driver", f"driver {link.driver or 'unknown'} is none of {known}")
    if link.master:
        return Reason("enslaved", f"enslaved to the interface with index {link.master}")
    if owner and policy.coexist is not Coexist.FORCE:
        return Reason("cni", f"{owner} owns the secondary interfaces of this host")
    return None


def is_primary(link: Link, primary_mac: Answer[str]) -> bool:
    """Whether the link is the primary: IMDS's top-level `mac` says so, never a device number."""
    return isinstance(primary_mac, Value) and primary_mac.value == link.mac
