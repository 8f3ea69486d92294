"""Which links stand on ENIs: bridges, bonds, VLANs and the like, one on the other.

Reads: all links of the host. Gives: the ENIs beneath each link that stands on one. These are facts
of the kernel alone: IFLA_MASTER, IFLA_LINK and the kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from nicwatchd.core.model import Link

OPEN_VSWITCH: Final = "openvswitch"
# Their frames are those of the link beneath. A tunnel names a link in IFLA_LINK, too, but what it
# carries is another network; a veth names its other end.
LAYER_KINDS: Final = frozenset(
    {
        "bond",
        "bridge",
        "ipvlan",
        "ipvtap",
        "macvlan",
        "macvtap",
        OPEN_VSWITCH,
        "team",
        "vlan",
        "vrf",
    }
)


def layers(links: Iterable[Link], enis: AbstractSet[int]) -> dict[int, Link]:
    """The links that may stand on others, by ifindex; of 5,000 containers there are few."""
    return {
        link.index: link for link in links if link.kind in LAYER_KINDS and link.index not in enis
    }


def beneath(links: Mapping[int, Link], enis: AbstractSet[int]) -> dict[int, frozenset[int]]:
    """The ENIs beneath each link that stands on any, by ifindex."""
    candidates = layers(links.values(), enis)
    found: dict[int, frozenset[int]] = {index: frozenset({index}) for index in enis}
    changed = bool(candidates)
    while changed:  # at most once for each storey
        changed = False
        for lower, upper in _steps(links, candidates, enis):
            mine = found.get(upper, frozenset()) | found.get(lower, frozenset())
            changed |= len(mine) > len(found.get(upper, ()))
            found[upper] = mine
    return {index: of for index, of in found.items() if index in candidates and of}


def _steps(
    links: Mapping[int, Link], candidates: Mapping[int, Link], enis: AbstractSet[int]
) -> Iterator[tuple[int, int]]:
    """Pairs of a link and one that stands on it."""
    for index in (*enis, *candidates):
        link = links[index]
        master = candidates.get(link.master)
        if master is None:
            pass
        elif master.kind == OPEN_VSWITCH:
            # A switch has one master for all of its ports, and its own ports name no link.
            yield from ((index, i) for i, each in candidates.items() if each.kind == OPEN_VSWITCH)
        else:
            yield index, master.index
        if index in candidates and (link.lower in candidates or link.lower in enis):
            yield link.lower, index
