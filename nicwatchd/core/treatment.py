"""How we treat an interface, depending on what it is. Determined anew in each decision.

Reads: the link, its subnets, the policy, the releases, the primary's MAC as IMDS gives it, and who
else manages the ENIs of this host. Gives: one `Treatment`, on which polling, planning and the
lifecycle depend.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

from nicwatchd.core.addresses import as_network
from nicwatchd.core.metadata import Answer, Value
from nicwatchd.core.model import Address, IPNetwork, Link, Reason, contains
from nicwatchd.core.policy import Coexist, Policy
from nicwatchd.core.releases import Releases

# Who owns a link by udev's word has it alone; but beside networkd we work, since it configures ENIs
# by default.
BESIDE_US: Final = ("", "io.systemd.Network", "nicwatchd")
LOOPBACK_MAC: Final = "00:00:00:00:00:00"
PRIMARY: Final = Reason(
    "primary", "this is the primary interface, which the host's own software configures"
)


@dataclass(frozen=True, slots=True)
class Released:
    """The operator released it: we remove everything of ours, and leave it alone."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Primary:
    """The primary interface: the host's own software configures it; we set only its group."""

    reason: Reason = PRIMARY


@dataclass(frozen=True, slots=True)
class Unmanaged:
    """Not ours to program. `asked`: we still poll IMDS about it, because other ENIs need that."""

    reason: Reason
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Managed:
    """An ENI that we configure."""


Treatment: TypeAlias = Released | Primary | Unmanaged | Managed


def treat(
    link: Link,
    places: Iterable[IPNetwork],
    policy: Policy,
    releases: Releases,
    primary_mac: Answer[str],
    owner: str | None,
    manager: str = "",
) -> Treatment:
    """How one link is treated.

    `places` are the subnets and addresses on the link, `owner` the container network that owns the
    secondary ENIs of this host, if one does, `manager` whose the link is by udev's word. `policy`
    is the interface's own: a section that says `manage` beats what is said of ENIs in general.
    """
    if (link.index, link.mac) in releases:
        back = f"to have it managed again, run `nicwatchd reconcile {link.name}`"
        return Released(Reason("released", f"released by the operator; {back}"))
    if is_primary(link, primary_mac):
        return Primary()
    if policy.every_link:
        return Managed()
    if policy.manage is False:
        return Unmanaged(Reason("excluded", f"excluded by the settings: {policy.section}"))
    if hands_off := _hands_off(link, policy, owner, manager):
        return hands_off
    excluding = (o for o in policy.exclude_subnets for place in places if contains(o, place))
    if not policy.manage and (outer := next(excluding, None)):
        text = f"its subnet is excluded by the settings (exclude_subnets: {outer})"
        return Unmanaged(Reason("excluded", text))
    return Managed()


def is_asked_about(treatment: Treatment) -> bool:
    """Whether to poll IMDS about an interface: about all except those that nothing depends on."""
    return not isinstance(treatment, Unmanaged) or treatment.asked


def is_eni(treatment: Treatment) -> bool:
    """Whether a link is an ENI of this host's, configured by us or not; not another's, or a NIC."""
    return not isinstance(treatment, Unmanaged)


def reason_of(treatment: Treatment) -> Reason | None:
    """Why an interface is not ours to program; None where it is."""
    return None if isinstance(treatment, Managed) else treatment.reason


def places_of(subnets: Iterable[IPNetwork], addresses: Iterable[Address]) -> tuple[IPNetwork, ...]:
    """The networks of an interface. DHCPv6 configures a /128, and its subnet may come later."""
    return (*subnets, *(as_network(address.ip) for address in addresses))


def is_candidate(link: Link, policy: Policy) -> bool:
    """Whether to track a link: it is hardware, or the settings name its driver."""
    has_mac = link.mac not in ("", LOOPBACK_MAC)
    return has_mac and (is_hardware(link, policy) or policy.every_link)


def is_hardware(link: Link, policy: Policy) -> bool:
    """Whether a link may be an ENI, and is none that stands on one."""
    return link.kind is None or link.driver in policy.drivers


def is_nic(link: Link) -> bool:
    """Whether a link is hardware; `lo`, a bridge, a tunnel and the like are not."""
    return link.kind is None and link.mac not in ("", LOOPBACK_MAC)


def is_primary(link: Link, primary_mac: Answer[str]) -> bool:
    """Whether the link is the primary: IMDS's top-level `mac` says so, never a device number."""
    return isinstance(primary_mac, Value) and primary_mac.value == link.mac


def _hands_off(link: Link, policy: Policy, owner: str | None, manager: str) -> Unmanaged | None:
    """Why we must not touch this link; None if it is an ENI for us to manage."""
    named = (p for p in policy.exclude if fnmatchcase(link.name, p) or link.mac == p.lower())
    if not policy.manage and (pattern := next(named, None)):
        return Unmanaged(Reason("excluded", f"excluded by the settings (exclude: {pattern})"))
    if link.driver not in policy.drivers:
        known = ", ".join(sorted(policy.drivers))
        return Unmanaged(
            Reason("driver", f"its driver is {link.driver or 'unknown'}, not one of {known}")
        )
    if link.master:
        text = f"the link is a port of the interface with index {link.master}"
        # Other ENIs may share its subnet, and its addresses may be on a bridge, which is no ENI.
        return Unmanaged(Reason("enslaved", text), asked=True)
    if policy.manage:
        return None
    if manager not in BESIDE_US:
        text = f"{manager} manages it, by udev's word (ID_NET_MANAGED_BY)"
        return Unmanaged(Reason("managed-by-others", text))
    if owner and policy.coexist is not Coexist.FORCE:
        return Unmanaged(Reason("cni", f"{owner} owns the secondary interfaces of this host"))
    return None
