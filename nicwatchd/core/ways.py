"""By which links IMDS may be asked where the host's routes do not lead to it.

A full-tunnel VPN, a kill switch, or a blackhole for IMDS's address lead the host's own packets
elsewhere, or nowhere. Every ENI of the instance reaches IMDS, and a socket that is bound to one
uses only routes through it.

Reads: the interfaces, and the names of links. Gives: the names of the links to bind to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nicwatchd.core.interface import Interface
from nicwatchd.core.policy import Policy
from nicwatchd.core.treatment import Primary, Unmanaged
from nicwatchd.core.words import NameOf

# Links to try in one go, besides the first: each costs requests, and a host may have 64 ENIs.
AT_ONCE: Final = 3


def ways_to_imds(
    interfaces: Iterable[Interface], policy: Policy, name_of: NameOf, failures: int
) -> tuple[str, ...]:
    """The links to bind to, the best first: the primary's, then others in turn.

    Before IMDS has named the primary, that is most likely the oldest link. The link of an ENI that
    is a port of a bridge, bond or VRF is that one, since it has the addresses. `failures` in a row
    came before: each time other ENIs have their turn.
    """
    usable = [i for i in interfaces if _is_usable(i, policy)]
    usable.sort(key=lambda i: (not isinstance(i.treatment, Primary), i.link.index))
    names = [name_of(i.link.master or i.link.index) for i in usable]
    first, *others = dict.fromkeys(name for name in names if name) or [None]
    if first is None:
        return ()
    start = failures * AT_ONCE % len(others) if others else 0
    return (first, *(others[start:] + others[:start])[:AT_ONCE])


def _is_usable(interface: Interface, policy: Policy) -> bool:
    """Whether it is an ENI that is up. Those that the settings exclude are left alone."""
    link, treatment = interface.link, interface.treatment
    excluded = isinstance(treatment, Unmanaged) and treatment.reason.code == "excluded"
    return link.up and link.driver in policy.drivers and not excluded
