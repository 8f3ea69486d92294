"""Which requests a poll sends. Pure: the known answers in, the names of what to ask out.

A poll is one probe, and only news makes it a sweep. What is awaited is asked at each poll; what
is known is asked again in turn, now and then, since lists arrive in parts and early values can be
wrong. A small account keeps an interface near 5 requests/s at 4 polls/s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nicwatchd.core.metadata import ENI_KEYS, Absent, Answer, Role, Unknown, Value
from nicwatchd.core.model import Family
from nicwatchd.imds.parse import LEAVES

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRECTORY: Final = "directory"


def _names(*roles: Role) -> tuple[str, ...]:
    return tuple(key.name for key in ENI_KEYS if key.role in roles)


# What completeness hangs on is awaited while it is not listed, or has no value. The other lists
# come and go with an operator's wish.
ESSENTIAL: Final = _names(Role.ESSENTIAL)
LISTS: Final = _names(Role.ESSENTIAL, Role.OPTIONAL)
ONCE: Final = _names(Role.NAME, Role.ONCE)
FIRST: Final = _names(Role.WHOSE, Role.NAME)
NUMBERS: Final = _names(Role.SELDOM)
(MAC,) = _names(Role.WHOSE)

# Requests that one poll may cost on average. 4 polls/s and 5 requests/s allow 1.25; the rest is
# for the reads of the first sight, which weigh most in a short wait.
INCOME: Final = 1.15
CREDIT: Final = 2.0  # what can be saved up, so that a long quiet wait does not end in a burst
DEBT: Final = -12.0  # how far two awaited things at once may overdraw: 3 s of double probing
# A whole ENI's lists and directory are 7 requests. Refreshes come every 57 s on average, so that
# the steady budget, 8 per minute, has room for one more now and then, not at each.
NUMBER_EVERY: Final = 4  # sweeps


class Probes:
    """Chooses for one ENI; `mac` is the link's own. It holds the turn and the account.

    `answers` has the last answer for DIRECTORY and for each key of LEAVES; `listed` are the names
    of the last directory that could be read.
    """

    def __init__(self, mac: str) -> None:
        self._mac = mac
        self._turn: dict[str, int] = {}  # name -> the number of the request that asked it last
        self._sent = 0
        self._sweeps = 0
        self._account = 0.0

    def probe(self, listed: frozenset[str] | None, answers: Mapping[str, Answer[Any]]) -> list[str]:
        """The names to ask in a poll without a sweep. `listed` is None while the MAC is not."""
        self._account = min(self._account + INCOME, CREDIT)
        if listed is None:
            chosen = [DIRECTORY]
        else:
            hot = self._by_turn(self._awaited(listed, answers))
            cold = self._by_turn(self._repeated(listed, answers))
            chosen = (hot or cold)[:1]
            if len(hot) > 1 and self._account - 2 >= DEBT:
                chosen = hot[:2]
            elif hot and cold and self._account >= 2:  # noqa: PLR2004 - the probe and one more
                chosen = [hot[0], next(name for name in cold if name != hot[0])]
        self.asked(chosen)
        return chosen

    def sweep(self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]) -> list[str]:
        """The leaves to read in a sweep, once the directory is known: 6 or 7 when all is well.

        They are the lists, what is missing, and now and then one of the numbers in turn.
        """
        self._sweeps += 1
        numbers = [key for key in NUMBERS if key in listed]
        unseen = [key for key in numbers if not _known(answers, key)]
        again = self._by_turn(numbers)[:1] if self._sweeps % NUMBER_EVERY == 0 else []
        chosen = [
            *(key for key in LISTS if key in listed),
            *self._missing_facts(listed, answers),
            *(unseen or again),
        ]
        self.asked(chosen)
        return chosen

    def after_news(
        self, news: set[str], listed: frozenset[str], answers: Mapping[str, Answer[Any]]
    ) -> list[str]:
        """The leaves to read when `news` became known: what is missing, and what goes with it.

        What is for people's eyes only has its turn later, the name of the ENI aside, which the
        journal's entries bear: the first sight costs enough.
        """
        families: set[Family | None] = {LEAVES[key].key.family for key in news if key in LEAVES}
        families.discard(None)
        if MAC in news:  # what was read beside a wrong MAC may be another ENI's
            families = {Family.V4, Family.V6}
        keys = [
            *(key for key in LISTS if key in listed and LEAVES[key].key.family in families),
            *(key for key in LISTS if key in listed and not _known(answers, key)),
            *(key for key in self._missing_facts(listed, answers) if key in FIRST),
        ]
        return list(dict.fromkeys(keys))

    def asked(self, names: list[str]) -> None:
        """Take note of what is sent, beyond `probe` too."""
        self._account = max(self._account - len(names), DEBT)
        for name in names:
            self._sent += 1
            self._turn[name] = self._sent

    def _missing_facts(
        self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]
    ) -> list[str]:
        missing = [key for key in ONCE if key in listed and not _known(answers, key)]
        if MAC in listed and answers[MAC] != Value(self._mac):
            missing.insert(0, MAC)
        return missing

    def _awaited(self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]) -> list[str]:
        """What a family's completeness hangs on, lists that failed, a missing or wrong MAC."""
        names = [
            key
            for key in LISTS
            if key in listed
            and (
                isinstance(answers[key], Unknown) or (key in ESSENTIAL and not _known(answers, key))
            )
        ]
        if MAC in listed and answers[MAC] != Value(self._mac):
            names.append(MAC)
        if not (listed.issuperset(ESSENTIAL) and _known(answers, DIRECTORY)):
            names.append(DIRECTORY)
        return names

    def _repeated(self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]) -> list[str]:
        """What is asked in turn: directory, lists, numbers, and the ids that are missing."""
        ids = [key for key in self._missing_facts(listed, answers) if key != MAC]
        return [DIRECTORY, *(key for key in (*LISTS, *NUMBERS) if key in listed), *ids]

    def _by_turn(self, names: list[str]) -> list[str]:
        """Who waits longest comes first."""
        return sorted(names, key=lambda name: self._turn.get(name, -1))


def is_news(before: Answer[Any], now: Answer[Any]) -> bool:
    """Whether an answer tells something: a value came, changed or went. An error tells nothing."""
    if isinstance(now, Value):
        return before != now
    return isinstance(now, Absent) and isinstance(before, Value)


def _known(answers: Mapping[str, Answer[Any]], key: str) -> bool:
    return isinstance(answers[key], Value)
