"""Checks of rules and routes: who takes an ENI's traffic, and what new subnets cost the primary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nicwatchd.cli.diagnosis.facts import Eni, Facts
from nicwatchd.cli.diagnosis.findings import Finding, fail, warn
from nicwatchd.core.model import (
    PROTOCOL,
    TO_TABLE,
    Family,
    IPAddress,
    IPNetwork,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    contains,
)
from nicwatchd.core.ownership import SHARED_TABLES
from nicwatchd.core.packet import Packet
from nicwatchd.core.policy import LEAVE_EGRESS, PRIMARY_EGRESS
from nicwatchd.core.port import Asked, RouteAnswer
from nicwatchd.core.rule_walk import rejecter, taker
from nicwatchd.core.shadow import FAR, FORBIDDEN
from nicwatchd.core.words import command, rule_text


def neighbour_in(subnet: IPNetwork) -> IPAddress:
    """An address of a subnet that a host may have: EC2 keeps the first four."""
    return subnet[5]


def questions(enis: Iterable[Eni]) -> Iterator[Asked]:
    """The look-ups that the checks of this module need."""
    every = tuple(enis)
    for family in Family:
        yield None, FAR[family], 0
    for eni in every:
        for ip in eni.sources():
            yield ip, FAR[Family(ip.version)], 0
        for server in eni.dns:
            yield None, server, eni.index
    for eni in every:
        if eni.is_primary:
            yield from (asked for asked, _, _ in _to_new_subnets(eni, every))


def _to_new_subnets(
    primary: Eni, every: Iterable[Eni]
) -> Iterator[tuple[Asked, IPAddress, IPNetwork]]:
    """From each address of the primary to a host in each subnet of other ENIs."""
    for other in every:
        if other.is_primary:
            continue
        for subnet in other.subnets:
            host = neighbour_in(subnet)
            if primary.has(host):
                continue
            for ip in primary.sources(Family(subnet.version)):
                yield (ip, host, 0), ip, subnet


# --- rules of others ---------------------------------------------------------------------------


def taken_away(facts: Facts) -> Iterator[Finding]:
    """A foreign rule leads an ENI's packets to another link, or nowhere."""
    said: dict[Rule, list[IPAddress]] = {}
    ends: dict[Rule, str] = {}
    for eni in facts.served:
        for ip in eni.sources():
            answer = facts.answers.get((ip, FAR[Family(ip.version)], 0))
            winner = _winner(facts, ip, answer, eni)
            if winner:
                said.setdefault(winner, []).append(ip)
                ends[winner] = _where(facts, answer)
    for rule, addresses in said.items():
        text = f"rule {rule_text(rule)}, not nicwatchd's, leads packets {ends[rule]}: "
        yield fail("rule-before", f"{text}{_answers(addresses)}.", *_give_way(facts, rule))


def _give_way(facts: Facts, rule: Rule) -> Iterator[str]:
    """What leads the packets by their ENI again.

    A rule that takes all traffic, as a VPN's does, is to go on, but for what is the ENI's: that is
    as the daemon says.
    """
    by = f"by rule {rule.priority} ("
    its = [
        cause["remedy"]
        for interface in (facts.daemon.status or {}).get("interfaces", ())
        for cause in (interface.get(rule.family.label.replace("IP", "ip")) or {}).get("causes", ())
        if by in cause["text"] and rule.src is None
    ]
    if its:
        yield from dict.fromkeys(its)
        return
    yield f"sudo {command(RemoveRule(rule), facts.name_of)}"
    yield "# it comes back if its maker runs again: find out who makes it"


def _winner(facts: Facts, ip: IPAddress, answer: RouteAnswer | int | None, eni: Eni) -> Rule | None:
    """The foreign rule that decides on packets from an address, where they do not leave by it."""
    if answer is None or (isinstance(answer, RouteAnswer) and answer.oif == eni.index):
        return None
    packet = Packet(ip, FAR[Family(ip.version)])
    if isinstance(answer, RouteAnswer):
        return taker(packet, facts.rules, answer.table)
    return rejecter(packet, facts.rules) if answer in FORBIDDEN else None


def _where(facts: Facts, answer: RouteAnswer | int | None) -> str:
    if isinstance(answer, RouteAnswer):
        return f"out by {facts.name_of(answer.oif) or 'another link'}"
    return "nowhere"


def _answers(addresses: list[IPAddress]) -> str:
    if len(addresses) == 1:
        return f"{addresses[0]} answers nobody there"
    return f"{addresses[0]} and {len(addresses) - 1} more answer nobody there"


def behind_ours(facts: Facts) -> Iterator[Finding]:
    """A foreign rule has our priority and came later: ours is asked first."""
    priority, names = facts.policy.numbers.priority, facts.name_of
    first: dict[Family, int] = {}
    for place, rule in enumerate(facts.rules):
        if rule.priority != priority or rule.table in SHARED_TABLES:
            continue
        if rule.protocol == PROTOCOL:
            first.setdefault(rule.family, place)
        elif rule.family in first and _overlaps(facts, rule) and rule.action == TO_TABLE:
            add = command(RemoveRule(rule), names).replace("rule del pref", "rule add pref")
            add = add.replace(f"pref {priority} ", f"pref {priority - 1} ")
            yield warn(
                "rule-behind",
                f"rule {rule_text(rule)}, not nicwatchd's, stands behind nicwatchd's of the same"
                " priority: it decides nothing for an ENI's addresses.",
                f"sudo {add}",
                f"sudo {command(RemoveRule(rule), names)}",
            )


def _overlaps(facts: Facts, rule: Rule) -> bool:
    source = rule.src
    if source is None or rule.inverted:
        return False
    nets = [net for eni in facts.served if not eni.is_primary for net in eni.subnets]
    return any(contains(source, net) or contains(net, source) for net in nets)


# --- routes ------------------------------------------------------------------------------------


def default_route(facts: Facts) -> Iterator[Finding]:
    """The host's own traffic leaves by another ENI than it should, or may."""
    wanted = _egress(facts)
    if wanted is None:
        return
    for family in Family:
        every = [route for route in facts.defaults if route.family is family]
        its = [route for route in every if wanted.index in route.links]
        away = [r for r in every if r.oif != wanted.index and facts.by_index(r.oif)]
        if not its:
            continue
        now = facts.oif((None, FAR[family], 0))
        best = min(route.metric for route in every)
        kept = any(route.protocol == PROTOCOL and route.metric == best for route in its)
        for route in away:
            if route.metric == best and route.oif == now:
                yield _beaten(facts, wanted, route)
            elif route.metric == best and not kept:
                yield _tied(facts, wanted, route)


def _egress(facts: Facts) -> Eni | None:
    """The ENI that is to carry the host's own traffic; None: whoever main says."""
    egress = facts.policy.egress
    if egress == LEAVE_EGRESS:
        return None
    if egress == PRIMARY_EGRESS:
        return facts.primary
    return next((e for e in facts.enis if egress in (e.name, e.link.mac, e.eni)), None)


def _beaten(facts: Facts, wanted: Eni, route: Route) -> Finding:
    link = facts.name_of(route.oif) or "?"
    text = f"{route.family.label} leaves by {link} (metric {route.metric}), not by {wanted.name}"
    silent = [
        ip
        for ip in wanted.sources(route.family)
        if facts.oif((ip, FAR[route.family], 0)) not in (None, wanted.index)
    ]
    if silent:
        return fail(
            "default-route",
            f"{text}: {silent[0]} answers nobody outside its subnet.",
            *_demote(facts, route),
        )
    return warn("default-route", f"{text}, so the host's own traffic does.", *_demote(facts, route))


def _tied(facts: Facts, wanted: Eni, route: Route) -> Finding:
    link = facts.name_of(route.oif) or "?"
    text = f"the {route.family.label} default routes by {link} and by {wanted.name} have the same"
    text += f" metric ({route.metric}): which of them is used is chance."
    return warn("default-route", text, *_demote(facts, route))


def _demote(facts: Facts, route: Route) -> Iterator[str]:
    link = facts.name_of(route.oif) or "?"
    yield f"sudo {command(RemoveRoute(route), facts.name_of)}"
    yield f"# for good: RouteMetric=2048 in the .network file of {link}"


def new_subnet(facts: Facts) -> Iterator[Finding]:
    """Hosts in the subnet of a secondary ENI do not reach the primary any more."""
    primary = facts.primary
    if not primary:
        return
    lost: dict[IPNetwork, list[IPAddress]] = {}
    for asked, ip, subnet in _to_new_subnets(primary, facts.enis):
        taken_by = facts.by_index(facts.oif(asked) or 0)
        if taken_by and not taken_by.is_primary and subnet in taken_by.subnets:
            lost.setdefault(subnet, []).append(ip)
    for subnet, addresses in lost.items():
        text = f"hosts in {subnet} no longer reach {', '.join(map(str, addresses))}: the answers"
        text += f" leave by the ENI in that subnet, not by {primary.name}, and EC2 drops them."
        yield warn("new-subnet", text, *protect(facts))


def protect(facts: Facts) -> Iterator[str]:
    """The commands that have a daemon protect the primary."""
    if not facts.daemon.works:
        yield "sudo systemctl enable --now nicwatchd"
        return
    file = facts.config.parent / "conf.d" / "primary.toml"
    yield f"sudo mkdir -p {file.parent}"
    yield f"echo 'primary = \"protect\"' | sudo tee {file}"
    yield "sudo systemctl reload nicwatchd"


def unserved(facts: Facts) -> Iterator[Finding]:
    """There are secondary ENIs, and no daemon serves them."""
    if facts.daemon.works or facts.not_ec2:
        return
    for eni in facts.others:
        silent = [
            ip
            for ip in eni.sources()
            if facts.oif((ip, FAR[Family(ip.version)], 0)) not in (None, eni.index)
        ]
        if eni.is_managed and silent:
            yield fail(
                "unserved",
                f"{silent[0]} answers nobody outside its subnet: packets from it leave by another"
                f" ENI than {eni.name}, and nicwatchd does not run.",
                "sudo systemctl enable --now nicwatchd",
            )


def error_route(facts: Facts) -> Iterator[Finding]:
    """Main's best default route is an error."""
    for family in Family:
        used = any(eni.sources(family) for eni in facts.enis)
        errors = [r for r in facts.errors if r.family is family and r.dst.prefixlen == 0]
        best = min((r.metric for r in facts.defaults if r.family is family), default=None)
        for route in errors:
            if used and (best is None or route.metric < best):
                text = f"the best {family.label} default route of the main table is an error"
                text += f" route ({command(RemoveRoute(route), facts.name_of).split(' del ')[1]}):"
                text += " what has no route of its own goes nowhere, and no ENI's rule may honour"
                text += " main's other routes."
                yield warn(
                    "error-route", text, f"sudo {command(RemoveRoute(route), facts.name_of)}"
                )
