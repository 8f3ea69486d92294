"""With `forwarded = "connmark"`: the marks that there must be at a quiet point."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from nicwatchd.core.model import MAIN_TABLE, PROTOCOL, Family, Numbers, Rule


def wrong_marks(
    wanted: Mapping[int, Iterable[Rule]],
    primary: int,
    dead: frozenset[int],
    rules: Sequence[Rule],
    text: str,
) -> list[str]:
    """All that is not as it must be, a line each.

    `wanted` are the other rules of each ENI, by ifindex; `primary` is the primary's. `dead` are
    ENIs that are gone in all but name, and may have what they had. `rules` are all of the host, in
    their order; `text` is the nftables table.
    """
    numbers = Numbers()
    own = [rule for rule in rules if rule.protocol == PROTOCOL]
    marked = [rule for rule in own if rule.fwmark is not None]
    led = {(r.family, numbers.index_of(r.table)) for r in marked if r.table != MAIN_TABLE}
    led -= {(family, index) for family in Family for index in dead}
    due = {(rule.family, index) for index, some in wanted.items() for rule in some}
    wrong = [f"marks of {led}, and not of {due}"] if led != due else []
    in_table = {int(index) for index in re.findall(r"goto to_(\d+)", text)} - dead
    main = any(r.table == MAIN_TABLE and r.suppress_prefixlength is None for r in marked)
    enis = {index for _, index in due} | ({primary} if main else set())
    if in_table != enis:
        wrong.append(f"marked are {in_table}, and not {enis}")
    alive = {numbers.table_of(index) for index in wanted}
    for family in Family:
        of = [rule for rule in own if rule.family is family]
        lead = [place for place, rule in enumerate(of) if rule in marked]
        late = [n for n, r in enumerate(of) if r.src and not r.iif and r.table in alive]
        if lead and late and max(lead) > min(late):
            wrong.append(f"a source comes before a mark: {of[min(late)]}")
    return wrong
