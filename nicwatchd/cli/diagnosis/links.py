"""Checks of the ENIs' links: down, without a carrier, MTU, and the kernel's settings of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nicwatchd.cli.diagnosis.facts import Eni, Facts
from nicwatchd.cli.diagnosis.findings import Finding, fail, warn
from nicwatchd.core.model import Family, Reason
from nicwatchd.core.policy import Forwarded, Ipv6Router
from nicwatchd.core.remedies import remedy_of

IPV6_MINIMUM: Final = 1280  # bytes; with a smaller MTU the kernel has no IPv6 on a link
VPC_MAXIMUM: Final = 9001  # bytes; EC2 drops what is larger
UNDECIDED: Final = ("detected", "awaiting-imds")  # states in which a link is left as it is
STRICT: Final = 1  # of rp_filter
EVEN_WHEN_FORWARDING: Final = 2  # of accept_ra


def down(facts: Facts) -> Iterator[Finding]:
    """A link is down, or has no carrier."""
    for eni in facts.served:
        name, what = eni.name, eni.eni or eni.link.mac
        if not eni.link.up and _is_to_come_up(facts, eni):
            continue
        if not eni.link.up:
            text = f"{name} ({what}) is down; nicwatchd sets a link up once, and no second time."
            yield fail("link-down", text, _mend("link-down", facts, eni))
        elif not eni.link.running:
            yield fail(
                "no-carrier",
                f"{name} ({what}) has no carrier: perhaps the ENI was detached by force. Nothing on"
                " this host mends that.",
                _mend("no-carrier", facts, eni),
                f"# if it is gone for good: echo 1 | sudo tee /sys/class/net/{name}/device/remove",
            )


def _is_to_come_up(facts: Facts, eni: Eni) -> bool:
    """Whether the daemon has still to set it up: it does so once it knows that it may."""
    said = facts.daemon.interface(eni.link.mac)
    causes = [
        cause["code"]
        for part in (said.get("ipv4"), said.get("ipv6"))
        if part
        for cause in part.get("causes", ())
    ]
    return said.get("state") in UNDECIDED and "link-down" not in causes


def _mend(code: str, facts: Facts, eni: Eni) -> str:
    """What the daemon says, too."""
    link, id_ = eni.link, facts.instance
    return remedy_of(
        Reason(code, ""),
        name=link.name,
        mac=link.mac,
        eni=eni.eni,
        device="" if eni.device is None else str(eni.device),
        instance=id_,
    )


def mtu(facts: Facts) -> Iterator[Finding]:
    """An MTU that IPv6 or the VPC cannot work with."""
    for eni in facts.served:
        size, name = eni.link.mtu, eni.name
        mend = f"sudo ip link set dev {name} mtu 9001"
        if 0 < size < IPV6_MINIMUM:
            text = f"the MTU of {name} is {size}: below {IPV6_MINIMUM} the link has no IPv6."
            yield fail("mtu", text, mend)
        elif size > VPC_MAXIMUM:
            text = f"the MTU of {name} is {size}: a VPC drops packets over {VPC_MAXIMUM} bytes."
            yield warn("mtu", text, mend)


def ipv6_off(facts: Facts) -> Iterator[Finding]:
    """An ENI has IPv6 addresses, and the kernel has no IPv6 on its link."""
    for eni in facts.served:
        has = sorted((ip for ip in eni.listed if Family(ip.version) is Family.V6), key=str)
        off = eni.sysctls.disable_ipv6
        if has and off and Family.V6 in facts.policy.families:
            text = f"IPv6 is off on {eni.name}, but EC2 has {has[0]} for it."
            yield fail(
                "ipv6-off", text, f"sudo sysctl -w net.ipv6.conf.{_key(eni.name)}.disable_ipv6=0"
            )


def unconfigured(facts: Facts) -> Iterator[Finding]:
    """The primary has addresses that nobody configured, and nicwatchd is not to do it."""
    for eni in facts.served:
        for note in eni.unconfigured:
            yield warn("address-unconfigured", f"{note.text}.", note.remedy)


def rp_filter(facts: Facts) -> Iterator[Finding]:
    """A strict filter drops the calls to published ports, whose answers are marked."""
    if facts.policy.forwarded is not Forwarded.CONNMARK:
        return  # elsewhere nicwatchd's rules satisfy it
    for eni in facts.served:
        if eni.sysctls.rp_filter == STRICT and any(eni.sources(Family.V4)):
            yield fail(
                "rp-filter",
                f"the reverse-path filter of {eni.name} is strict: it drops the IPv4 calls to"
                ' ports that containers publish there (forwarded = "connmark").',
                "sudo sysctl -w net.ipv4.conf.all.rp_filter=2",
            )


def accept_ra(facts: Facts) -> Iterator[Finding]:
    """With forwarding, the kernel ignores router advertisements unless accept_ra is 2.

    With 0, a network manager takes them itself, as systemd-networkd does.
    """
    for eni in facts.served:
        asked, needs = eni.sysctls, eni.is_primary or facts.policy.ipv6_router is Ipv6Router.RA
        if not (needs and asked.forwarding and asked.accept_ra == 1):
            continue
        if not eni.sources(Family.V6):
            continue
        default = any(r.family is Family.V6 and eni.index in r.links for r in facts.defaults)
        text = f"{eni.name} forwards IPv6 and has accept_ra=1: the kernel ignores router"
        mend = f"sudo sysctl -w net.ipv6.conf.{_key(eni.name)}.accept_ra=2"
        if default:
            yield warn("accept-ra", f"{text} advertisements, and its default route will end.", mend)
        else:
            yield fail("accept-ra", f"{text} advertisements, and it has no default route.", mend)


def _key(name: str) -> str:
    """A link's name in the name of a sysctl, where a dot separates."""
    return name.replace(".", "/")
