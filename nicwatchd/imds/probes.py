"""Chooses the requests that a poll sends. Pure: takes the known answers, returns names to ask for.

While something is awaited, a poll is one probe, and reads more only if that has news. A key that we
wait for is asked at each poll. Known keys are asked again in turn, now and then, because lists
arrive in parts and early values can be wrong: once nothing is awaited, the directory and each list
come up in every 7th poll at the latest, so that a prefix that comes last is seen in 2 s. What is
only displayed has to wait for that. A small account keeps an interface within 10 requests/s at
first, and 5 requests/s at 4 polls/s. At rest a poll reads the keys whose turn it is by the rota.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nicwatchd.core.metadata import ENI_KEYS, Absent, Answer, Role, Unknown, Value
from nicwatchd.core.model import Family
from nicwatchd.core.polling import Depth
from nicwatchd.core.rota import ALWAYS, DIRECTORY, SOMETIMES, rota
from nicwatchd.imds.parse import LEAVES

if TYPE_CHECKING:
    from collections.abc import Mapping


def _names(*roles: Role) -> tuple[str, ...]:
    return tuple(key.name for key in ENI_KEYS if key.role in roles)


# A family is complete only with its ESSENTIAL keys, so we wait for these while they are not listed
# or have no value. The other lists appear and vanish as the operator wishes.
ESSENTIAL: Final = _names(Role.ESSENTIAL)
LISTS: Final = _names(Role.ESSENTIAL, Role.OPTIONAL)
ONCE: Final = _names(Role.NAME, Role.ONCE)
# Those of them that can change are read again in each sweep.
NAMED: Final = _names(Role.NAMED)
CHANGING: Final = frozenset(
    key.name for key in ENI_KEYS if key.role is Role.NAMED and key.has_lines
)
FIRST: Final = _names(Role.WHOSE, Role.NAME)
NUMBERS: Final = _names(Role.SELDOM)
(MAC,) = _names(Role.WHOSE)

# Requests that one poll may cost on average: 9 polls/s, with jitter, and 10 requests/s allow 1.1, 4
# polls/s and 5 requests/s allow 1.2. The difference pays for the reads when a MAC is first listed,
# which weigh most in a short wait.
INCOME: Final = {Depth.MISSING: 1.02, Depth.AWAITED: 1.15}
CREDIT: Final = 2.0  # the most that can be saved, so that a long quiet wait ends without a burst
DEBT: Final = -8.0  # the overdraft for the first reads, and while two keys are awaited
# The directory and the lists of an ENI take 7 requests, in each `refresh` of one that is overdue.
NUMBER_EVERY: Final = 4  # sweeps
TURN: Final = 7  # polls: the directory and the six lists
EMPTY_FIRST: Final = 3  # a list that is listed and empty may have its value next
REST: Final = 40  # polls between two looks at what is only displayed, while something is awaited


class Probes:
    """Chooses for one ENI; `mac` is the link's. Keeps the order of past requests, and the account.

    `answers` has the latest answer for DIRECTORY and for each key of LEAVES; `listed` has the names
    in the last directory that could be read. `named` are the keys by which the settings tell whose
    section applies: nothing is done for the ENI before they are known, so they are asked at once.
    """

    def __init__(self, mac: str) -> None:
        self.named: frozenset[str] = frozenset()
        self._mac = mac
        self._last_asked: dict[str, int] = {}  # name -> the number of the latest request for it
        self._last_poll: dict[str, int] = {}  # ... and of the poll
        self._sent = 0
        self._polls = 0
        self._sweeps = 0
        self._account = 0.0

    def probe(
        self,
        listed: frozenset[str] | None,
        answers: Mapping[str, Answer[Any]],
        depth: Depth = Depth.AWAITED,
    ) -> list[str]:
        """The names to ask in a poll that is no sweep. `listed` is None while the MAC is not."""
        self._account = min(self._account + INCOME.get(depth, 0.0), CREDIT)
        self._polls += 1
        if listed is None:
            chosen = [DIRECTORY]
        elif depth is Depth.ROTA:
            chosen = self._by_rota(listed, answers)
        elif hot := self._oldest_first(self._awaited(listed, answers)):
            chosen = self._while_waiting(hot, listed, answers)
        else:
            chosen = self._in_turn(listed, answers)
        self.asked(chosen)
        return chosen

    def _while_waiting(
        self, hot: list[str], listed: frozenset[str], answers: Mapping[str, Answer[Any]]
    ) -> list[str]:
        """What is awaited; and what is known as far as the account has something left for it."""
        if len(hot) > 1 and self._account - 2 >= DEBT:
            return hot[:2]
        if self._account < 2:  # noqa: PLR2004 - the probe and one more
            return hot[:1]
        shown = self._shown(listed, answers)
        rested = [name for name in shown if self._age(name) > REST]
        empty = {key for key in LISTS if key in listed and not _known(answers, key)}

        def urgency(name: str) -> float:
            return self._age(name) * (EMPTY_FIRST if name in empty else 1)

        lists = sorted((*self._repeated(listed), *rested), key=urgency, reverse=True)
        others = (*lists, *self._oldest_first(shown))
        return [hot[0], *[name for name in others if name != hot[0]][:1]]

    def _in_turn(self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]) -> list[str]:
        """The next that is known; and what is only displayed where that has to wait too long."""
        lists, shown = self._repeated(listed), self._oldest_first(self._shown(listed, answers))
        oldest = sorted(map(self._age, lists), reverse=True)
        is_room = all(age + place < TURN for place, age in enumerate(oldest))
        chosen = self._oldest_first([*lists, *shown] if is_room else lists)[:1]
        waits = bool(shown) and self._age(shown[0]) > TURN and shown[0] not in chosen
        if waits and self._account >= 2:  # noqa: PLR2004 - the probe and one more
            chosen.append(shown[0])
        return chosen

    def _by_rota(self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]) -> list[str]:
        """The keys whose turn it is, what is missing among them."""
        missing = dict.fromkeys(self._missing_facts(listed, answers), SOMETIMES)
        if MAC in missing:  # until then nothing that is read counts
            missing[MAC] = ALWAYS
        turns = rota(listed, self.named) | missing
        return [name for name, every in turns.items() if self._age(name) >= every]

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
            *(k for k in sorted(self.named & CHANGING & listed) if _known(answers, k)),
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
            *(k for k in self._missing_facts(listed, answers) if k in {*FIRST, *self.named}),
        ]
        return list(dict.fromkeys(keys))

    def asked(self, names: list[str]) -> None:
        """Record names that are asked, including those that `probe` did not choose."""
        self._account = max(self._account - len(names), DEBT)
        for name in names:
            self._sent += 1
            self._last_asked[name] = self._sent
            self._last_poll[name] = self._polls

    def _missing_facts(
        self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]
    ) -> list[str]:
        keys = (*ONCE, *(key for key in NAMED if key in self.named))
        missing = [key for key in keys if key in listed and not _known(answers, key)]
        if MAC in listed and answers[MAC] != Value(self._mac):
            missing.insert(0, MAC)
        return missing

    def _awaited(self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]) -> list[str]:
        """Essential keys without a value, lists that failed, a missing or wrong MAC, named ids."""
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
        names += [key for key in sorted(self.named & listed) if not _known(answers, key)]
        if not (listed.issuperset({*ESSENTIAL, *self.named}) and _known(answers, DIRECTORY)):
            names.append(DIRECTORY)
        return names

    def _repeated(self, listed: frozenset[str]) -> list[str]:
        """The names that decisions depend on, asked in turn: the directory and the lists."""
        return [DIRECTORY, *(key for key in LISTS if key in listed)]

    def _shown(self, listed: frozenset[str], answers: Mapping[str, Answer[Any]]) -> list[str]:
        """The names of what is only displayed: the numbers, and the missing ids."""
        ids = [key for key in self._missing_facts(listed, answers) if key != MAC]
        return [*(key for key in NUMBERS if key in listed), *ids]

    def _oldest_first(self, names: list[str]) -> list[str]:
        """Names by the time of their latest request, the oldest first."""
        return sorted(names, key=self._last)

    def _last(self, name: str) -> int:
        return self._last_asked.get(name, -1)

    def _age(self, name: str) -> float:
        """Polls since it was asked."""
        return self._polls - self._last_poll[name] if name in self._last_poll else float("inf")


def is_news(before: Answer[Any], now: Answer[Any]) -> bool:
    """Whether a value has appeared, changed or vanished. An error is not news."""
    if isinstance(now, Value):
        return before != now
    return isinstance(now, Absent) and isinstance(before, Value)


def _known(answers: Mapping[str, Answer[Any]], key: str) -> bool:
    return isinstance(answers[key], Value)
