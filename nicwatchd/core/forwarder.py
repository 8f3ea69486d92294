"""What is marked on one host for the ports that containers publish, from one decision to the next.

Reads: the host with its treatments and verdicts, our nftables table as it was read, and what became
of writing it. Gives: the `Forwarding` of a decision, and the operations on the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from nicwatchd.core.evidence import Status
from nicwatchd.core.forwarding import (
    NO_FORWARDING,
    Forwarding,
    assign,
    reserved,
    standing,
    taken,
)
from nicwatchd.core.interface import Interface
from nicwatchd.core.metadata import Answer, Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    Family,
    Link,
    Operation,
    Reason,
    RemoveRuleset,
    Rule,
    Ruleset,
    SetRuleset,
)
from nicwatchd.core.outside import Outside
from nicwatchd.core.ownership import Owners
from nicwatchd.core.policy import Forwarded, Policy
from nicwatchd.core.port import Outcome
from nicwatchd.core.treatment import Managed, Primary

if TYPE_CHECKING:
    from nicwatchd.core.firewall import Published

MARK: Final = 'forwarded = "connmark" in the settings, then: sudo systemctl reload nicwatchd'
CONTAINER_KINDS: Final = ("bridge", "veth")
# s; a table that nft refused is tried again after this time, or at once if it is another one.
REFUSED_FOR: Final = 60.0
STRICT: Final = Reason(
    "strict-filter",
    "the interface's reverse-path filter is strict (rp_filter = 1), and drops the IPv4 calls to"
    " ports that containers publish on it: `sysctl net.ipv4.conf.all.rp_filter=2` makes it loose",
)


class Host(Protocol):
    """What the marks need of `nicwatchd.core.host`."""

    policy: Policy
    primary_mac: Answer[str]
    links: Mapping[int, Link] | None
    rules: tuple[Rule, ...]
    owners: Owners
    ruleset: Ruleset | None
    published: tuple[Published, ...]

    @property
    def interfaces(self) -> Mapping[int, Interface]:
        """By ifindex."""

    @property
    def enis(self) -> frozenset[int]:
        """The links that are ENIs of this host."""

    @property
    def outside(self) -> Outside:
        """What others decide of the links."""


def may_have_ruleset(host: Host) -> bool:
    """Whether our nftables table is to be read: else nobody starts to use nftables for us."""
    there = host.ruleset is not None and host.ruleset.text is not None
    wanted = host.policy.forwarded is Forwarded.CONNMARK
    marked = (rule for rule in host.rules if rule.protocol == PROTOCOL and rule.fwmark is not None)
    return wanted or there or any(marked)


def watches_ports(host: Host) -> bool:
    """Whether to read which ports containers publish: where no mark makes them answer.

    Only where there is what leads to containers: else nobody starts to use nftables for us.
    """
    if host.policy.forwarded is not Forwarded.OFF or host.policy.every_link:
        return False
    others = (link for i, link in (host.links or {}).items() if i not in host.interfaces)
    has_containers = any(link.kind in CONTAINER_KINDS for link in others)
    return has_containers and any(
        isinstance(i.treatment, Managed) for i in host.interfaces.values()
    )


@dataclass(frozen=True, slots=True)
class Refusal:
    """nft did not carry out an operation. `at`: when that was decided."""

    operation: Operation
    message: str
    at: float


class Forwarder:
    """The marks of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._wanted: str | None = None  # the text of the table; None: as it is
        self._refusal: Refusal | None = None

    # --- what there should be ----------------------------------------------------------------

    def conclude(self) -> Forwarding:
        """The marks, from what was just judged."""
        host, mask = self._host, self._host.policy.forwarded_mask
        self._wanted = ""
        if host.policy.forwarded is Forwarded.OFF:
            return Forwarding(reasons=dict(self._silent_ports()))
        before = self._standing(mask)
        served = {i for i, each in host.interfaces.items() if self._is_served(each, before)}
        if not isinstance(host.primary_mac, Value) and self._managed:
            self._wanted = None  # which link the primary is decides on what is marked
        if not served:
            return NO_FORWARDING
        conflict = taken(host.rules, mask)
        if conflict:
            return Forwarding(mask, reasons=dict.fromkeys(served, conflict))
        first, last = self._ranks(served, before)
        others = reserved(host.rules, mask)
        marks = assign(first | last, before, mask, others)
        if first - marks.keys():  # whoever can do without gives its mark up
            marks = assign(first, before, mask, others)
        families = self._in_main(served)
        plain = Forwarding(mask, marks, frozenset(marks), host.enis, families)
        if self._wanted is not None:
            self._wanted = plain.text()
        problem = self._problem()
        strict = (i for i in served & host.outside.strict if Family.V4 in self._families_of(i))
        reasons = dict.fromkeys(strict, STRICT)
        reasons |= {i: _none_left(mask) for i in served - marks.keys()}
        if problem is None:
            return Forwarding(mask, marks, plain.led, plain.enis, plain.families, reasons)
        there = host.ruleset is not None and host.ruleset.text is not None
        led = marks.keys() & before.keys() if there else frozenset()
        reasons = dict.fromkeys(served, problem)
        return Forwarding(mask, marks, frozenset(led), plain.enis, plain.families, reasons)

    def _silent_ports(self) -> Iterator[tuple[int, Reason]]:
        """For each interface, why ports that containers publish on it do not answer."""
        host = self._host
        if any(rule.fwmark for rule in host.rules if not rule.inverted):
            return  # somebody marks connections already
        for interface in self._managed:
            on = (ip for v in interface.verdicts.values() for ip in v.usable.addresses)
            name = interface.link.name
            found = {p: None for ip in on for p in host.published if p.is_on(ip, name)}
            if found:
                yield interface.link.index, _silent(tuple(found), name)

    @property
    def _managed(self) -> list[Interface]:
        every = self._host.interfaces.values()
        return [each for each in every if isinstance(each.treatment, Managed)]

    def _standing(self, mask: int) -> dict[int, int]:
        """The marks that rules in the kernel lead, by ifindex; the primary's may lead to main."""
        host = self._host
        found: dict[int, int] = {}
        for mark, table in standing(host.rules, mask):
            owners = host.owners.of(table)
            if table == MAIN_TABLE:
                owners = frozenset(self._primaries)
            found |= dict.fromkeys(owners, mark)
        return found

    def _is_served(self, interface: Interface, before: dict[int, int]) -> bool:
        """Whether there are rules for an interface, or were, and it is still being judged."""
        if not isinstance(interface.treatment, Managed):
            return False
        stays = interface.link.index in before and bool(interface.undecided)
        return stays or bool(self._families(interface))

    def _families_of(self, index: int) -> list[Family]:
        return self._families(self._host.interfaces[index])

    @staticmethod
    def _families(interface: Interface) -> list[Family]:
        verdicts = interface.verdicts.items()
        return [f for f, verdict in verdicts if verdict.usable or verdict.usable.by_device]

    def _ranks(self, served: set[int], before: dict[int, int]) -> tuple[set[int], set[int]]:
        """Who needs a mark, and who has one only if there are enough, by ifindex.

        The primary needs one if a rule of ours may select a container's address. If it has but a
        table of its own, a mark is better than none: without it, what containers answer goes as
        main says, which is right for most.
        """
        every = self._primaries
        its = every if self._is_needed(served) else set()
        if self._is_waiting(served):
            its = its | every & before.keys()
        return served | its, {i for i in every - its if self._host.interfaces[i].is_protected}

    def _in_main(self, served: set[int]) -> frozenset[Family]:
        """The families in which main decides for the primary's mark, if it has no table in them."""
        if self._is_needed(served):
            return frozenset(f for i in served for f in self._families(self._host.interfaces[i]))
        if not self._is_waiting(served):
            return frozenset()
        rules, mask = self._host.rules, self._host.policy.forwarded_mask
        leads = ((rule.family, standing([rule], mask)) for rule in rules)
        return frozenset(f for f, found in leads if any(table == MAIN_TABLE for _, table in found))

    @property
    def _primaries(self) -> set[int]:
        every = self._host.interfaces.items()
        return {index for index, each in every if isinstance(each.treatment, Primary)}

    def _is_needed(self, served: set[int]) -> bool:
        """Whether a rule of ours may select a container's address."""
        some = [self._host.interfaces[index] for index in served]
        prefixes = any(v.usable.prefixes for each in some for v in each.verdicts.values())
        return prefixes or any(each.facts.behind for each in some)

    def _is_waiting(self, served: set[int]) -> bool:
        """Whether it is not known yet if one may."""
        some = [self._host.interfaces[index] for index in served]
        return any(v.status is Status.WAITING for each in some for v in each.verdicts.values())

    def _problem(self) -> Reason | None:
        """Why the table is not as wanted, and cannot be made so now."""
        ruleset, wanted = self._host.ruleset, self._wanted
        if wanted is None or ruleset is None:
            return None
        if ruleset.text == wanted:
            self._refusal = None
            return None
        if ruleset.problem:
            return ruleset.problem
        refusal = self._refusal
        if refusal is None or refusal.operation != SetRuleset(wanted):
            return None
        return Reason(
            "nft-refused",
            f"`nft` did not accept nicwatchd's table, so ports that containers publish on this"
            f" interface do not answer: {refusal.message}; tried again every {REFUSED_FOR:g} s",
        )

    # --- operations on the table -------------------------------------------------------------

    def around(self, operations: Sequence[Operation], now: float) -> tuple[Operation, ...]:
        """The operations of a decision with those on our nftables table.

        It is made before the rules and removed after them.
        """
        ruleset, wanted = self._host.ruleset, self._wanted
        if ruleset is None or wanted is None or ruleset.text == (wanted or None):
            return tuple(operations)
        if not wanted:
            return (*operations, RemoveRuleset())
        refusal = self._refusal
        waits = (
            refusal is not None
            and refusal.operation == SetRuleset(wanted)
            and now < refusal.at + REFUSED_FOR
        )
        if ruleset.problem or waits:
            return tuple(operations)
        return (SetRuleset(wanted), *operations)

    @property
    def next_deadline(self) -> float | None:
        """When what `nft` refused is tried again."""
        return self._refusal.at + REFUSED_FOR if self._refusal else None

    def close(self, failures: Sequence[Outcome], now: float) -> None:
        """Take the failed operations of the decision of that time."""
        for each in failures:
            if isinstance(each.operation, SetRuleset):
                self._refusal = Refusal(each.operation, each.message, now)


def _silent(ports: Sequence[Published], name: str) -> Reason:
    port, families = ports[0], {each.family for each in ports}
    more = f" (and {len(ports) - 1} more)" if len(ports) > 1 else ""
    text = (
        f"port {port.ports}/{port.protocol}{more}, which a container publishes, answers nobody "
        f"beyond {name}'s subnet: the answers leave by the primary"
    )
    family = families.pop() if len(families) == 1 else None
    return Reason("published-port", text, MARK, family)


def _none_left(mask: int) -> Reason:
    return Reason(
        "marks-used-up",
        f"there are more interfaces than marks in `forwarded_mask` ({mask:#x}), so ports that"
        " containers publish on this interface do not answer",
    )
