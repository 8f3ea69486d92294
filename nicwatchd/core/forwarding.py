"""Ports that containers publish on an ENI: their answers leave by the ENI that was asked.

A published port is DNAT: what a container answers has the container's own address as its source
until the last moment, so no rule `from ADDRESS` can tell by which ENI it has to leave. Connection
tracking can. An nftables table of ours, `inet nicwatchd`, marks each connection with the ENI that
it came in by, in the bits of a mask, and gives the mark to the packets that come back:

    a packet comes in by                                  then
    an ENI, from whoever made the connection              the connection gets the ENI's mark
    an ENI, from a port published of another host         the packet gets the connection's mark
    any other link: from a container                      the packet gets the connection's mark

A rule `fwmark MARK/MASK lookup T`, with its guard, leads such a packet to the table of the ENI.
What the host itself sends or gets is routed as ever: it meets no prerouting hook, or has no mark.

Connections that came in by the primary need a mark where a rule of ours may select the container
by its address: one of an ENI's prefix. Where the primary has a table of its own, they have one
too, if there are enough. The rules for marks come before those for sources.

Reads: the ENIs to mark, the rules in the kernel, the mask. Gives: the marks, the text of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from nicwatchd.core.model import (
    ALL_BITS,
    MAIN_TABLE,
    PROTOCOL,
    Family,
    Numbers,
    Reason,
    Rule,
)

TABLE: Final = "inet nicwatchd"


def marks_in(mask: int) -> list[int]:
    """The marks of a mask, in order: neither none of its bits nor all of them.

    No bits are "not marked"; all are the mark of systemd's sockets for IMDS (0x7fff0815), as seen
    through the default mask.
    """
    lowest = mask & -mask
    return [number * lowest for number in range(1, mask // lowest)]


def reserved(rules: Iterable[Rule], mask: int) -> frozenset[int]:
    """The marks that rules of others select by their whole number."""
    foreign = (rule for rule in rules if rule.protocol != PROTOCOL and rule.fwmark is not None)
    whole = (rule.fwmark or 0 for rule in foreign if rule.fwmask in (None, ALL_BITS))
    return frozenset(mark & mask for mark in whole)


def taken(rules: Iterable[Rule], mask: int) -> Reason | None:
    """Which rule of others has bits of the mask in its own; None: no rule has."""
    for rule in rules:
        theirs = ALL_BITS if rule.fwmask is None else rule.fwmask
        if rule.protocol == PROTOCOL or rule.fwmark is None or theirs == ALL_BITS:
            continue
        if theirs & mask:
            text = (
                f"the rule at priority {rule.priority} with fwmark {rule.fwmark:#x}/{theirs:#x}"
                f" uses bits of {mask:#x}, so nothing is marked, and ports that containers publish"
                " on this interface do not answer; choose other bits with `forwarded_mask`"
            )
            return Reason("mark-taken", text)
    return None


def standing(rules: Iterable[Rule], mask: int) -> Iterator[tuple[int, int]]:
    """The marks of our rules with this mask, each with the table that it leads to."""
    for rule in rules:
        is_lead = rule.suppress_prefixlength is None and rule.dst is None
        if rule.protocol == PROTOCOL and rule.fwmask == mask and is_lead:
            yield rule.fwmark or 0, rule.table


def assign(
    indices: AbstractSet[int],
    before: Mapping[int, int],
    mask: int,
    others: AbstractSet[int] = frozenset(),
) -> dict[int, int]:
    """A mark for each link, by ifindex, as far as there are any.

    What it has `before`, by rules that stand, it keeps. Else it is made from the ifindex: the next
    one that is free. `others` are not to be given.
    """
    marks = marks_in(mask)
    free = set(marks) - others
    given: dict[int, int] = {}
    for index in sorted(indices & before.keys()):
        if before[index] in free:
            given[index] = before[index]
            free.remove(before[index])
    for index in sorted(indices - given.keys()):
        start = index % len(marks)
        mark = next((each for each in (*marks[start:], *marks[:start]) if each in free), None)
        if mark is not None:
            given[index] = mark
            free.remove(mark)
    return given


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What is marked on one host, as of one decision.

    `marks` are by ifindex; those in `led` have their rules. `enis` are all ENIs of the host.
    `families` are those in which the primary needs its mark, whether it has a table or not.
    `reasons`, by ifindex: why an interface is not served.
    """

    mask: int = 0
    marks: Mapping[int, int] = field(default_factory=dict)
    led: frozenset[int] = frozenset()
    enis: frozenset[int] = frozenset()
    families: frozenset[Family] = frozenset()
    reasons: Mapping[int, Reason] = field(default_factory=dict)

    def mark(self, index: int) -> tuple[int, int] | None:
        """The mark of an interface that rules are to lead, and the mask; None: no rules."""
        return (self.marks[index], self.mask) if index in self.led else None

    def remarks(self, index: int) -> tuple[Reason, ...]:
        """Why an interface is not served."""
        return (self.reasons[index],) if index in self.reasons else ()

    def to_main(self, index: int, numbers: Numbers) -> tuple[Rule, ...]:
        """The rules of the primary where it has no table of its own: main decides."""
        if index not in self.led:
            return ()
        mark, mask, last = self.marks[index], self.mask, numbers.priority
        return tuple(
            Rule(family, last, MAIN_TABLE, fwmark=mark, fwmask=mask)
            for family in sorted(self.families)
        )

    def text(self) -> str:
        """The table, for `nft -f`, which replaces what stands in one transaction.

        Links have their numbers, which no rename changes. In one line it is valid, too.
        """
        if not self.marks:
            return ""
        others = ALL_BITS & ~self.mask
        mask = f"{self.mask:#010x}"
        by, back = [], []
        lines = [f"table {TABLE};", f"delete table {TABLE};", f"table {TABLE} {{"]
        for index, number in sorted(self.marks.items()):
            mark = f"{number:#010x}"
            one = f"& {others:#010x} | {mark}"
            lines += [
                f"chain from_{index} {{",
                f"ct direction original ct mark & {mask} != {mark} ct mark set ct mark {one};",
                "};",
                f"chain to_{index} {{",
                f"meta mark set meta mark {one};",
                "};",
            ]
            by.append(f"{index} : jump from_{index}")
            back.append(f"{mark} : goto to_{index}")
        enis = ", ".join(map(str, sorted(self.enis | self.marks.keys())))
        lines += [
            "chain prerouting {",
            # After connection tracking and before anybody who marks in `mangle`.
            "type filter hook prerouting priority mangle - 1; policy accept;",
            f"meta iif vmap {{ {', '.join(by)} }};",
            f"meta iif {{ {enis} }} ct direction original return;",
            f"meta iif {{ {enis} }} ct status & dnat == 0 return;",
            f"ct mark & {mask} vmap {{ {', '.join(back)} }};",
            "};",
            "};",
        ]
        return "\n".join(lines) + "\n"


NO_FORWARDING: Final = Forwarding()
GONE: Final = f"table {TABLE};\ndelete table {TABLE};\n"  # whether it is there or not
