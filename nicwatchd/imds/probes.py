"""Chooses the requests that a poll sends. Pure: takes the known answers, returns names to ask for.

An ordinary poll is one probe, and reads more only if that has news. A key that we wait for is asked
at each poll. Known keys are asked again in turn, now and then, because lists arrive in parts and
early values can be wrong. A small account keeps an interface near 5 requests/s at 4 polls/s.
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


# A family is complete only with its ESSENTIAL keys, so we wait for these while they are not listed
# or have no value. The other lists appear and vanish as the operator wishes.
ESSENTIAL: Final = _names(Role.ESSENTIAL)
LISTS: Final = _names(Role.ESSENTIAL, Role.OPTIONAL)
ONCE: Final = _names(Role.NAME, Role.ONCE)
FIRST: Final = _names(Role.WHOSE, Role.NAME)
NUMBERS: Final = _names(Role.SELDOM)
(MAC,) = _names(Role.WHOSE)

# Requests that one poll may cost on average. 4 polls/s and 5 requests/s allow 1.25; the difference
# pays for the reads when a MAC is first listed, which weigh most in a short wait.
INCOME: Final = 1.15
CREDIT: Final = 2.0  # the most that can be saved, so that a long quiet wait ends without a burst
DEBT: Final = -12.0  # the overdraft while two keys are awaited: 3 s of double probing
# The directory and the lists of an ENI take 7 requests. Refreshes come every 57 s on average, so
# the steady budget of 8 per minute has room for one more request in some sweeps, not in all.
NUMBER_EVERY: Final = 4  # sweeps


class Probes:
    """Chooses for one ENI; `mac` is the link's. Keeps the order of past requests, and the account.

    `answers` has the latest answer for DIRECTORY and for each key of LEAVES; `listed` has the names
    in the last directory that could be read.
    """

    def __init__(self, mac: str) -> None:
        self._mac = mac
        self._last_asked: dict[str, int] = {}  # name -> the number of the latest request for it
        self._sent = 0
        self._sweeps = 0
        self._account = 0.0

    def probe(self, listed: frozenset[str] | None, answers: Mapping[str, Answer[Any]]) -> list[str]:
        """The names to ask in a poll that is no sweep. `listed` is None while the MAC is not."""
        self._account = min(self._account + INCOME, CREDIT)
        if listed is None:
            chosen = [DIRECTORY]
        else:
            hot = self._oldest_first(self._awaited(listed, answers))
            cold = self._oldest_first(self._repeated(listed, answers))
            chosen = (hot or cold)[:1]
            if len(hot) > 1 and self._account - 2 >= DEBT:
                chosen = hot[:2]
            elif hot and cold and self._account >= 2:  # noqa: PLR2004 - the probe and one more
                chosen = [hot[0], next(name for name in cold if name != hot[0])]
        self.asked(chosen)
        return chosen

    def sweep(self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]) -> list[str]:
        """The leaves to read in a sweep, once the directory is known: usually 6 or 7.

        They are the lists, the missing facts, and in every 4th sweep one of the numbers, in turn.
        """
        self._sweeps += 1
        numbers = [key for key in NUMBERS if key in listed]
        unseen = [key for key in numbers if not _known(answers, key)]
        again = self._oldest_first(numbers)[:1] if self._sweeps % NUMBER_EVERY == 0 else []
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
        """The leaves to read after `news`: the missing ones, and the lists of the same family.

        Facts that are only displayed are read later, except for the ENI id, which the journal
        needs: the reads when a MAC is first listed cost enough.
        """
        families: set[Family | None] = {LEAVES[key].key.family for key in news if key in LEAVES}
        families.discard(None)
        if MAC in news:  # answers read beside a wrong MAC may belong to another ENI
            families = {Family.V4, Family.V6}
        keys = [
            *(key for key in LISTS if key in listed and LEAVES[key].key.family in families),
            *(key for key in LISTS if key in listed and not _known(answers, key)),
            *(key for key in self._missing_facts(listed, answers) if key in FIRST),
        ]
        return list(dict.fromkeys(keys))

    def asked(self, names: list[str]) -> None:
        """Record names that are asked, including those that `probe` did not choose."""
        self._account = max(self._account - len(names), DEBT)
        for name in names:
            self._sent += 1
            self._last_asked[name] = self._sent

    def _missing_facts(
        self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]
    ) -> list[str]:
        missing = [key for key in ONCE if key in listed and not _known(answers, key)]
        if MAC in listed and answers[MAC] != Value(self._mac):
            missing.insert(0, MAC)
        return missing

    def _awaited(self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]) -> list[str]:
        """Essential keys without a value, lists that failed, a missing or wrong MAC."""
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
        """The names asked in turn: the directory, lists, numbers, and the missing ids."""
        ids = [key for key in self._missing_facts(listed, answers) if key != MAC]
        return [DIRECTORY, *(key for key in (*LISTS, *NUMBERS) if key in listed), *ids]

    def _oldest_first(self, names: list[str]) -> list[str]:
        """Names by the time of their latest request, the oldest first."""
        return sorted(names, key=lambda name: self._last_asked.get(name, -1))


def is_news(before: Answer[Any], now: Answer[Any]) -> bool:
    """Whether a value has appeared, changed or vanished. An error is not news."""
    if isinstance(now, Value):
        return before != now
    return isinstance(now, Absent) and isinstance(before, Value)


def _known(answers: Mapping[str, Answer[Any]], key: str) -> bool:
    return isinstance(answers[key], Value)
