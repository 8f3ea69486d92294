"""What of an interface matters to the other links of its host.

Reads: one interface, with its treatment. Gives: a value for its neighbours and what stands on it.
"""

from __future__ import annotations

from nicwatchd.core.interface import Interface
from nicwatchd.core.metadata import Unknown
from nicwatchd.core.model import Family
from nicwatchd.core.stack import Ground
from nicwatchd.core.treatment import Managed, Primary, Released, Unmanaged


def ground_of(interface: Interface) -> Ground:
    """The interface as others see it."""
    facts, treatment = interface.facts, interface.treatment
    believed = facts.memory.believed
    unknown = (f for f in Family if isinstance(believed.of(f).cidrs, Unknown))
    ours = isinstance(treatment, Managed | Primary)
    # A link that is perhaps not ours stays as it is.
    groups = interface.groups if interface.own.awaits else {0, *interface.groups}
    return Ground(
        active=interface.is_polled and not isinstance(treatment, Released),
        managed=not isinstance(treatment, Unmanaged),
        grouped=ours and interface.link.group in groups,
        joined=ours and interface.link.group in interface.groups,
        subnets=facts.subnets,
        unknown=frozenset(unknown) if interface.is_polled else frozenset(),
        addresses=facts.addresses,
        routes=facts.routes,
    )
