"""Whether a link has a family's protocol at all.

Hardening guides switch IPv6 off by sysctl, for all links or for new ones, or when the host boots;
and the kernel takes it from a link whose MTU is too small for it. Then nothing of it can be
configured, and there is nothing to wait for: the family is off. What switches it on again is
reported by an event of the link.

Reads: a link. Gives: why it lacks a family.
"""

from __future__ import annotations

from typing import Final

from nicwatchd.core.model import Family, Link, Reason

IPV6_MIN_MTU: Final = 1280  # RFC 8200, section 5; the kernel has no IPv6 on a link with less
JUMBO: Final = 9001  # EC2's within a VPC


def why_off(family: Family, link: Link) -> Reason | None:
    """Why the kernel has not this family on the link; None: it has it."""
    if family is Family.V4 or (link.has_ipv6 and not link.disable_ipv6):
        return None
    knob = f"net.ipv6.conf.{link.name}.disable_ipv6"
    if link.disable_ipv6:
        why, remedy = f"by the sysctl {knob}", f"sudo sysctl -w {knob}=0"
    elif 0 < link.mtu < IPV6_MIN_MTU:
        why = f"since the link's MTU is {link.mtu}, and IPv6 needs {IPV6_MIN_MTU}"
        remedy = f"sudo ip link set dev {link.name} mtu {JUMBO}"
    else:
        why = "on the whole host (booted with ipv6.disable=1?)"
        remedy = "boot without ipv6.disable=1"
    text = f"IPv6 is off {why}; nicwatchd looks again when that changes"
    return Reason("ipv6-off", text, remedy)
