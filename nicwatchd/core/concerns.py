"""What an event of the kernel may concern, beyond the object that it names.

Reads: events, and what of the host they may be about. Gives: whether they are. A wrong yes costs a
read; a wrong no is a change that is seen late.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable

from nicwatchd.core.model import MAIN_TABLE, Family, Route
from nicwatchd.core.port import AddressEvent, Event, LinkEvent, NexthopEvent, RouteEvent


def is_of_closed(
    event: Event, closed: Collection[Family], is_eni: Callable[[int], bool], *, by_us: bool
) -> bool:
    """Whether an error route for all destinations may have come or gone, or others with it.

    `closed` are the families that such a route closes now; `is_eni` tells it of an ifindex.
    """
    match event:
        case RouteEvent(table=table) if by_us or table != MAIN_TABLE:
            return False
        case RouteEvent(family=family, error=error, wide=wide, hops=hops, oif=oif):
            return error or (family in closed and (wide or not all(map(is_eni, hops or (oif,)))))
        case NexthopEvent():
            return bool(closed)
        case LinkEvent():  # IPv4 routes go without an event of their own
            return bool(closed) and (event.gone or event.down)
        case AddressEvent():
            return bool(closed) and event.deleted and not by_us
    return False


def leads_elsewhere(event: Event, *carriers: Container[int]) -> bool:
    """Whether packets of an ENI's may be led otherwise than they were, by whichever rule's table.

    What leads by an ENI goes with its link, its addresses or a next-hop object, without an event.
    `carriers` are the ENIs and what stands on them, by ifindex.
    """
    match event:
        case RouteEvent():
            return event.wide or event.heeded
        case NexthopEvent(oif=index):
            return event.heeded or _is_in(index, carriers)
        case LinkEvent(index=index):
            return (event.gone or event.down) and _is_in(index, carriers)
        case AddressEvent(index=index):
            return event.deleted and not event.link_local and _is_in(index, carriers)
    return False


def _is_in(index: int, some: Iterable[Container[int]]) -> bool:
    return any(index in each for each in some)


def is_of_defaults(event: Event, defaults: Iterable[Route], *, by_us: bool) -> bool:
    """Whether a default route of main may have come or gone. `defaults` are those of now."""
    match event:
        case RouteEvent(table=table, wide=wide):
            return table == MAIN_TABLE and wide and not by_us
        case NexthopEvent(oif=oif):
            return not oif or any(oif in route.links for route in defaults)
        case LinkEvent(index=index):  # IPv4 routes go without an event of their own
            ends = event.gone or event.down
            return ends and any(index in route.links for route in defaults)
        case AddressEvent(index=index):
            return event.deleted and any(index in route.links for route in defaults)
    return False
