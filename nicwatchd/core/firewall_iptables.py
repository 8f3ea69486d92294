"""iptables' rules, from the output of `iptables-save` and `ip6tables-save`.

Reads: the text. Gives: a `Firewall`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Final

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
from nicwatchd.core.model import Family

# The kernel's order of the tables, where a hook has several.
PRIORITIES: Final = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
HOOKS: Final = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
# Targets that decide nothing here: the next rule is asked.
IDLE: Final = frozenset(
    {"MARK", "CONNMARK", "LOG", "NFLOG", "MASQUERADE", "SNAT", "TCPMSS", "CT", "DSCP", "TRACE"}
)
FINAL: Final = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject", "RETURN": "return"}
SHORT: Final = {
    "-p": Field.PROTOCOL,
    "-d": Field.TO,
    "-s": Field.FROM,
    "-i": Field.IN,
    "-o": Field.OUT,
    "--dport": Field.PORT,
    "--dports": Field.PORT,
    "--destination-ports": Field.PORT,
    "--uid-owner": Field.UID,
}
# Options with a value that select nothing of concern, as does "is of this host" for an ENI.
SAID: Final = frozenset({"--comment", "--reject-with", "--to-ports", "--log-prefix", "--log-level"})
LOCAL: Final = ("--dst-type", "LOCAL")


def from_iptables(text: str, family: Family) -> Firewall:
    """The rules of one family. What is not of iptables-save's form is skipped."""
    chains: dict[tuple[str, str], list[FirewallRule]] = {}
    policies: dict[tuple[str, str], str] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":") and len(parts := line[1:].split()) > 1:
            chains.setdefault((table, parts[0]), [])
            policies[table, parts[0]] = parts[1]
        elif line.startswith("-A "):
            _, name, *words = _words(line)
            chains.setdefault((table, name), []).append(_rule(words, f"iptables {line}"))
    made = (
        _chain(table, name, tuple(rules), policies.get((table, name), "-"), family)
        for (table, name), rules in chains.items()
    )
    return Firewall(tuple(made))


def _words(line: str) -> list[str]:
    if '"' not in line:
        return line.split()
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _chain(
    table: str, name: str, rules: tuple[FirewallRule, ...], policy: str, family: Family
) -> Chain:
    of_kernel = name in HOOKS
    return Chain(
        f"iptables {family.label} {table}",
        name,
        rules,
        hook=name.lower() if of_kernel else "",
        kind="nat" if table == "nat" else "filter",
        priority=PRIORITIES.get(table, 0),
        policy="drop" if policy == "DROP" else "accept",
        families=frozenset({family}),
    )


def _rule(words: list[str], text: str) -> FirewallRule:
    matches, rest = [*_matches(words)], iter(words)
    target, going, to = "", False, ""
    for word in rest:
        if word in ("-j", "-g"):
            target, going = next(rest, ""), word == "-g"
        elif word == "--to-destination":
            to = next(rest, "")
    verdict = _verdict(target, to, going=going)
    if verdict is None and target and target not in IDLE:
        matches.append(UNKNOWN)
    return FirewallRule(tuple(matches), verdict, text)


def _matches(words: list[str]) -> Iterator[Match]:
    """The selectors of a rule, up to its target; `! -o br0` is a negated one."""
    negated, position = False, 0
    while position < len(words) and words[position] not in ("-j", "-g"):
        word, value = words[position], words[position + 1 : position + 2]
        position += 2
        if word == "!":
            negated, position = True, position - 1
            continue
        if word in SHORT and value:
            yield _match(SHORT[word], value[0], negated=negated)
        elif word != "-m" and word not in SAID and (word, *value) != LOCAL:
            yield UNKNOWN
            position -= 0 if value and not value[0].startswith("-") else 1
        negated = False


def _match(of: Field, value: str, *, negated: bool) -> Match:
    try:
        return Match(of, tuple(_items(of, value)), negated)
    except ValueError:
        return UNKNOWN


def _items(of: Field, value: str) -> Iterator[Item]:
    if of in (Field.PORT, Field.UID):
        yield from (_span(each, "-" if of is Field.UID else ":") for each in value.split(","))
    elif of in (Field.TO, Field.FROM):
        yield from (ip_network(each, strict=False) for each in value.split(","))
    elif of in (Field.IN, Field.OUT):
        yield f"{value[:-1]}*" if value.endswith("+") else value
    else:
        yield value


def _span(text: str, between: str) -> Span:
    first, _, last = text.partition(between)
    return int(first), int(last or first)


def _verdict(target: str, to: str, *, going: bool) -> Verdict | None:
    if target == "DNAT":
        return _dnat(to)
    if target in FINAL:
        return Verdict(FINAL[target])
    if not target or target in IDLE or (target.isupper() and target in ("REDIRECT", "NOTRACK")):
        return None
    return Verdict("goto" if going else "jump", target)


def _dnat(to: str) -> Verdict:
    """`172.18.0.2:80`, `[fd00::2]:80`, or an address alone."""
    bare = to.startswith("[") or to.count(":") == 1
    host, _, port = to.rpartition(":") if bare else (to, "", "")
    first = port.partition("-")[0]
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return Verdict("dnat")
    return Verdict("dnat", to=address, port=int(first) if first.isdecimal() else None)
