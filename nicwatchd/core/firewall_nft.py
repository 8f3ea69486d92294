"""nftables' rules, from the output of `nft -j list ruleset`.

Rules of iptables-nft that it cannot say in its own words are "xt" there, or comments: `is_compat`
tells, and then `iptables-save` has to be read (`firewall_iptables`).

Reads: the JSON. Gives: a `Firewall`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Final

from nicwatchd.core.firewall import (
    UNKNOWN,
    Chain,
    Field,
    Firewall,
    FirewallRule,
    Item,
    Match,
    Span,
    Verdict,
)
from nicwatchd.core.model import Family, IPAddress

FAMILIES: Final = {
    "ip": frozenset({Family.V4}),
    "ip6": frozenset({Family.V6}),
    "inet": frozenset(Family),
}
PAYLOADS: Final = {
    ("ip", "daddr"): Field.TO,
    ("ip6", "daddr"): Field.TO,
    ("ip", "saddr"): Field.FROM,
    ("ip6", "saddr"): Field.FROM,
    ("ip", "protocol"): Field.PROTOCOL,
    ("ip6", "nexthdr"): Field.PROTOCOL,
    ("tcp", "dport"): Field.PORT,
    ("udp", "dport"): Field.PORT,
    ("sctp", "dport"): Field.PORT,
    ("th", "dport"): Field.PORT,
}
METAS: Final = {
    "l4proto": Field.PROTOCOL,
    "nfproto": Field.FAMILY,
    "protocol": Field.FAMILY,
    "iifname": Field.IN,
    "iif": Field.IN,
    "oifname": Field.OUT,
    "oif": Field.OUT,
    "skuid": Field.UID,
}
FAMILY_NAMES: Final = {"ipv4": Family.V4, "ipv6": Family.V6, "ip": Family.V4, "ip6": Family.V6}
VERDICTS: Final = ("accept", "drop", "reject", "return", "jump", "goto")
# What a rule may do beside its verdict, of no concern here.
IDLE: Final = frozenset({"counter", "comment", "log", "mangle", "masquerade", "snat", "notrack"})
PORTED: Final = ("tcp", "udp", "sctp")

Expression = Any  # as nft's JSON has it


class _UnclearError(Exception):
    """An expression that is not understood."""


def from_nft(text: str) -> Firewall:
    """The rules of the families of IP. Raises ValueError where this is not JSON."""
    document = json.loads(text)
    listed = document.get("nftables", ()) if isinstance(document, dict) else ()
    entries: list[dict[str, Any]] = [e for e in listed if isinstance(e, dict)]
    reader = _Reader(entries)
    return Firewall(tuple(reader.chains()), unread=is_compat(text))


def is_compat(text: str) -> bool:
    """Whether some rules are iptables-nft's, and not in nftables' words."""
    return '"xt":' in text.replace(" ", "")


def _table(entry: Mapping[str, Any]) -> str:
    return f"{entry['family']} {entry['table']}"


class _Reader:
    """Reads the entries of one ruleset."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self._chains = [e["chain"] for e in entries if "chain" in e]
        self._rules: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for entry in entries:
            if "rule" in entry:
                rule = entry["rule"]
                self._rules.setdefault((_table(rule), rule["chain"]), []).append(rule)
        named = [e[kind] for e in entries for kind in ("set", "map") if kind in e]
        self._elements = {(_table(s), s["name"]): s.get("elem", []) for s in named}

    def chains(self) -> Iterator[Chain]:
        for chain in self._chains:
            families = FAMILIES.get(chain["family"])
            if families is None:  # bridge, arp, netdev: not on the way of what is routed
                continue
            table = _table(chain)
            rules = self._rules.get((table, chain["name"]), ())
            priority = chain.get("prio", 0)
            yield Chain(
                table,
                chain["name"],
                tuple(one for rule in rules for one in self._read(table, rule)),
                hook=chain.get("hook", ""),
                kind=chain.get("type", ""),
                priority=priority if isinstance(priority, int) else 0,
                policy=chain.get("policy", "accept"),
                families=families,
            )

    def _read(self, table: str, rule: Mapping[str, Any]) -> Iterator[FirewallRule]:
        """A rule; one with a map, as one rule for each of its elements."""
        matches: list[Match] = []
        verdict: Verdict | None = None
        for statement in rule.get("expr", ()):
            (kind, body) = next(iter(statement.items()))
            if kind == "match":
                matches += self._match(table, body)
            elif kind == "vmap":
                yield from self._by_map(table, tuple(matches), body)
                return
            elif kind == "dnat":
                yield from self._dnat(table, tuple(matches), body or {})
                return
            elif kind in VERDICTS:
                verdict = _verdict(statement)
            elif kind not in IDLE:
                matches.append(UNKNOWN)
        yield FirewallRule(tuple(matches), verdict, _text(table, rule))

    # --- selectors -----------------------------------------------------------------------------

    def _match(self, table: str, body: Mapping[str, Any]) -> list[Match]:
        """The matches that a match statement stands for: `tcp dport 80` is of the protocol, too."""
        if _is_local(body):
            return []  # of the host's own addresses: so are an ENI's
        if body.get("op") not in ("==", "!=", "in"):
            return [UNKNOWN]
        try:
            of, more = _field(body["left"])
            values = tuple(
                one for each in self._values(table, body["right"]) for one in _items(of, each)
            )
        except (_UnclearError, KeyError, TypeError, ValueError):
            return [UNKNOWN]
        return [*more, Match(of, values, negated=body["op"] == "!=")]

    def _values(self, table: str, right: Expression) -> list[Expression]:
        """The alternatives of a right side: a value, a set in braces, or a named set."""
        if isinstance(right, str) and right.startswith("@"):
            return [_plain(element) for element in self._elements.get((table, right[1:]), ())]
        if isinstance(right, dict) and "set" in right:
            inside = right["set"]
            inside = inside if isinstance(inside, list) else [inside]
            return [_plain(element) for element in inside]
        if isinstance(right, list):
            return [_plain(element) for element in right]
        return [right]

    # --- maps ----------------------------------------------------------------------------------

    def _by_map(
        self, table: str, matches: tuple[Match, ...], body: Mapping[str, Any]
    ) -> Iterator[FirewallRule]:
        """Those of `KEY vmap { VALUE : verdict, ... }`."""
        for key, value in self._pairs(table, body.get("data")):
            verdict = _verdict(value) if isinstance(value, dict) else None
            if verdict:
                yield FirewallRule((*matches, *_keyed(body.get("key"), key)), verdict)

    def _dnat(
        self, table: str, matches: tuple[Match, ...], body: Mapping[str, Any]
    ) -> Iterator[FirewallRule]:
        """`dnat to ADDRESS[:PORT]`, where both may come from a map."""
        address, port = body.get("addr"), body.get("port")
        if body.get("family") in FAMILY_NAMES:
            matches = (*matches, Match(Field.FAMILY, (FAMILY_NAMES[body["family"]],)))
        if isinstance(address, dict) and "map" in address:
            source = address["map"]
            for key, value in self._pairs(table, source.get("data")):
                to, mapped = _destination(value)
                more = _keyed(source.get("key"), key)
                yield FirewallRule((*matches, *more), Verdict("dnat", to=to, port=mapped))
            return
        to, _ = _destination(address)
        yield FirewallRule(
            matches, Verdict("dnat", to=to, port=port if isinstance(port, int) else None)
        )

    def _pairs(self, table: str, data: Expression) -> Iterator[tuple[Expression, Expression]]:
        if isinstance(data, str) and data.startswith("@"):
            elements = self._elements.get((table, data[1:]), ())
        else:
            elements = data.get("set", ()) if isinstance(data, dict) else ()
        for element in elements:
            if isinstance(element, list) and len(element) == 2:  # noqa: PLR2004 (key and value)
                yield _plain(element[0]), element[1]


def _plain(element: Expression) -> Expression:
    """An element of a set, without its timeout, counter or comment."""
    return element["elem"]["val"] if isinstance(element, dict) and "elem" in element else element


def _is_local(body: Mapping[str, Any]) -> bool:
    """Whether this is `fib daddr type local`."""
    left = body.get("left")
    asked = left.get("fib") if isinstance(left, dict) else None
    is_type = isinstance(asked, dict) and asked.get("result") == "type"
    return is_type and body.get("op") == "==" and body.get("right") == "local"


def _field(left: Expression) -> tuple[Field, list[Match]]:
    """What an expression selects by, and what it says besides. Raises _UnclearError."""
    if "meta" in left:
        of = METAS.get(left["meta"]["key"])
        if of:
            return of, []
    if "payload" in left:
        payload = left["payload"]
        protocol = payload.get("protocol", "")
        of = PAYLOADS.get((protocol, payload.get("field", "")))
        if of:
            return of, [Match(Field.PROTOCOL, (protocol,))] if protocol in PORTED else []
    raise _UnclearError


def _items(of: Field, value: Expression) -> list[Item]:
    """A value as the field has it. Raises _UnclearError, KeyError, TypeError, ValueError."""
    if of in (Field.PORT, Field.UID):
        return [_span(value)]
    if of in (Field.TO, Field.FROM):
        return [*_networks(value)]
    if not isinstance(value, str):
        raise _UnclearError
    if of is Field.FAMILY:
        return [FAMILY_NAMES[value]]
    return [value]


def _span(value: Expression) -> Span:
    if isinstance(value, dict) and "range" in value:
        first, last = value["range"]
        return int(first), int(last)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _UnclearError
    return value, value


def _networks(value: Expression) -> Iterator[Item]:
    if isinstance(value, str):
        yield ip_network(value)
    elif "prefix" in value:
        yield ip_network(f"{value['prefix']['addr']}/{value['prefix']['len']}")
    else:
        raise _UnclearError


def _keyed(left: Expression, key: Expression) -> tuple[Match, ...]:
    """What a map's key selects: of a concatenation, each of its parts."""
    if isinstance(left, dict) and "concat" in left:
        if isinstance(key, dict) and "concat" in key and len(key["concat"]) == len(left["concat"]):
            parts = zip(left["concat"], key["concat"], strict=True)
            return tuple(match for one in parts for match in _keyed(*one))
        return (UNKNOWN,)
    try:
        of, more = _field(left)
        return (*more, Match(of, tuple(_items(of, key))))
    except (_UnclearError, KeyError, TypeError, ValueError):
        return (UNKNOWN,)


def _verdict(statement: Mapping[str, Any]) -> Verdict | None:
    for action in VERDICTS:
        if action in statement:
            body = statement[action]
            chain = body.get("target", "") if isinstance(body, dict) else ""
            return Verdict(action, chain if action in ("jump", "goto") else "")
    return None


def _destination(value: Expression) -> tuple[IPAddress | None, int | None]:
    """An address, perhaps with a port, as `dnat` has it."""
    parts = value.get("concat", ()) if isinstance(value, dict) else (value,)
    to = next((p for p in parts if isinstance(p, str)), None)
    port = next((p for p in parts if isinstance(p, int)), None)
    try:
        return (None if to is None else ip_address(to)), port
    except ValueError:
        return None, port


def _text(table: str, rule: Mapping[str, Any]) -> str:
    comment = rule.get("comment")
    name = f"nft table {table}, chain {rule['chain']}"
    return f"{name} ({comment})" if comment else name
