"""Which DHCP clients are waited for, how long, and in which words: see docs/decisions/0029.

Reads: the policy, and which client serves a link. Gives: for how long the first addresses are left
to a client, and when and why a plan waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nicwatchd.core.model import Family, Plan, Reason
from nicwatchd.core.policy import Policy

# The clients that are waited for by name.
NETWORK_MANAGER: Final = "NetworkManager"
DHCPCD: Final = "dhcpcd"
# s from the moment a link appears; they have a lease after 1 to 3 and after 2 to 8.
NETWORK_MANAGER_PATIENCE: Final = 5.0
DHCPCD_PATIENCE: Final = 10.0


def patience(client: str, policy: Policy) -> float:
    """For how long, from the moment a link appears, its first addresses are left to a client."""
    return policy.address_wait or (NETWORK_MANAGER_PATIENCE if client == NETWORK_MANAGER else 0.0)


def deadlines(plan: Plan, policy: Policy, seen: float) -> Iterator[float]:
    """When waiting may end, if something of a plan waits; `seen`: when the link appeared."""
    if plan.awaited:
        yield from (seen + NETWORK_MANAGER_PATIENCE, seen + DHCPCD_PATIENCE)
    if policy.address_wait:
        yield seen + policy.address_wait


def awaited(plan: Plan, policy: Policy) -> Iterator[Reason]:
    """For what a plan waits, and for how long."""
    for ip in plan.awaited:
        wait, who = policy.address_wait, "a DHCP client"
        if ip in plan.addresses:  # it is there, and others wait for what replaces it
            wait, who = DHCPCD_PATIENCE, "dhcpcd"
        elif not wait:
            wait, who = NETWORK_MANAGER_PATIENCE, "NetworkManager"
        text = f"waiting up to {wait:g} s for {who} to configure {ip}"
        yield Reason("address-awaited", text, family=Family(ip.version))
