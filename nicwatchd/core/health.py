"""Does an ENI work? The state says what we did; this says whether its addresses answer.

Reads: what is known of an interface, and the kernel's answers to look-ups. Gives: a `FamilyHealth`
for each family: whether packets from its addresses leave by it, and if not, why, and what mends it.
What the host cannot know, a security group perhaps, is not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nicwatchd.core.model import Family, IPAddress, Reason


class Health(StrEnum):
    """Whether a family of an ENI works, as far as the host can know."""

    WORKING = "working"  # every address that the ENI has answers
    DEGRADED = "degraded"  # some answer, or all that are known while more may be missing
    NOT_WORKING = "not-working"


@dataclass(frozen=True, slots=True)
class FamilyHealth:
    """The verdict on one family. `causes` say why it is not working; each with its remedy.

    `waits`: all causes will end by themselves, as far as we know: facts are still missing.
    `answering` are the addresses whose packets leave by the ENI; `silent` those that are the ENI's
    and do not answer. `since`: when it became so (monotonic seconds).
    """

    family: Family
    health: Health
    since: float
    causes: tuple[Reason, ...] = ()
    waits: bool = False
    answering: tuple[IPAddress, ...] = ()
    silent: tuple[IPAddress, ...] = ()
