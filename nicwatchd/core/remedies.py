"""What mends it: a remedy for each reason code that has one.

A reason that is made where more is known, a rule's number say, brings its own remedy.

Reads: a reason, and the interface that it is about. Gives: a command, or a sentence; "" where
nothing needs to be done, or nothing is known to help.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nicwatchd.core.model import Reason  # the command line reads this module, and must be fast

DOCTOR: Final = "nicwatchd doctor"
# What mends it where the interface is to go on without IMDS's word.
RELEASE: Final = "sudo nicwatchd release {name}  # if EC2 has not attached it: {assigned}"
ASSIGNED: Final = "aws ec2 describe-network-interfaces --filters Name=mac-address,Values={mac}"
ASSIGN_IPV6: Final = (
    "aws ec2 assign-ipv6-addresses --ipv6-address-count 1 --network-interface-id {eni}"
)
MANAGE: Final = "an [[interface]] section with `manage = true`, if nicwatchd is to serve it"
# Of rules, routes and addresses, both families.
WHO_REMOVES: Final = (
    "sudo bpftrace -e 'kprobe:fib_nl_delrule,kprobe:inet*_rtm_del* "
    '{{ printf("%s %d\\n", comm, pid) }}\'  # names who removes them'
)

# Nothing on the host mends it: EC2's side of the ENI has gone.
ATTACH: Final = (
    "aws ec2 attach-network-interface --network-interface-id {eni} --instance-id {instance} "
    "--device-index {device}  # if EC2 still has it attached: detach it first"
)

# By code; `{name}` and `{mac}` are the link's, `{eni}` is the ENI's id, `{device}` its number.
REMEDIES: Final[Mapping[str, str]] = {
    "primary-unknown": DOCTOR,
    "imds-unread": DOCTOR,
    "wrong-mac": DOCTOR,
    "no-first-ipv4": DOCTOR,
    "mac-unlisted": ASSIGNED,
    "no-eni": ASSIGNED,
    "held-elsewhere": "unassign it from one of the two: aws ec2 unassign-private-ip-addresses, "
    "or unassign-ipv6-addresses",
    "undecided-ipv4": 'families = ["ipv6"] in the settings, if it will never have IPv4',
    "undecided-ipv6": 'families = ["ipv4"] in the settings, if it will never have IPv6',
    "no-ipv6s": ASSIGN_IPV6,
    "no-ipv6-assigned": ASSIGN_IPV6,
    "no-router": 'ipv6_router = "ec2" in the settings',
    "kernel-refused": "sudo journalctl -u nicwatchd.service -n 20",
    "internal-error": "sudo nicwatchd bugreport",
    "route-in-the-way": "remove that route, or set `table_base` in the settings",
    "section-unknown": DOCTOR,
    "excluded": "take it out of `exclude`, `exclude_subnets` or `manage = false` in "
    "/etc/nicwatchd, then: sudo systemctl reload nicwatchd",
    "driver": "add its driver to `drivers` in /etc/nicwatchd/nicwatchd.toml",
    "cni": MANAGE,
    "managed-by-others": MANAGE,
    "released": "sudo nicwatchd reconcile {name}",
    "ipv6-off": "sudo sysctl -w net.ipv6.conf.{name}.disable_ipv6=0",
    "link-down": "sudo ip link set dev {name} up",
    "no-carrier": ATTACH,
    "foreign-group": "sudo ip link set dev {name} group default",
    "nft-missing": "sudo apt install nftables, or sudo dnf install nftables",
    "nft-refused": 'sudo nft list tables must work; or else forwarded = "off" in the settings',
    "strict-filter": "sudo sysctl -w net.ipv4.conf.all.rp_filter=2",
    "mark-taken": "other bits in `forwarded_mask` in the settings",
    "marks-used-up": "more bits in `forwarded_mask` in the settings",
    "same-address": "bind to the device: SO_BINDTODEVICE, curl --interface {name}",
    "fought-over": WHO_REMOVES,
    "odd-mtu": "sudo ip link set dev {name} mtu 9001",
}
# By how a code begins: the rest is a key of IMDS, or a family.
STEMS: Final[Mapping[str, str]] = {
    "unread-": DOCTOR,
    "outside-subnet-": DOCTOR,
    "lease-unlisted-": "renew the lease: sudo networkctl renew {name}",
}


def remedy_of(
    reason: Reason,
    *,
    name: str,
    mac: str,
    eni: str | None,
    device: str = "",
    instance: str = "",
) -> str:
    """What mends it, for the interface with this link and ENI, on the instance with this id."""
    if reason.remedy:
        return reason.remedy
    of_stem = (text for stem, text in STEMS.items() if reason.code.startswith(stem))
    found = REMEDIES.get(reason.code) or next(of_stem, "")
    return found.format(
        name=name,
        mac=mac,
        eni=eni or "eni-...",
        device=device or "N",
        instance=instance or "INSTANCE-ID",
    )


def assigns(remedy: str) -> bool:
    """Whether it gives the ENI an address: one too many, where IMDS only lags behind."""
    return "aws ec2 assign-" in remedy
