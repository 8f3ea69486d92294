"""Is anything called working that is not, and for how long? Looked at while time passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from nicwatchd.core.health import Health
from nicwatchd.core.host import Host
from nicwatchd.core.model import Family
from tests.chaos.truth import PRIMARY, Truth
from tests.chaos.verdicts import callers, own
from tests.chaos.watched_kernel import WatchedKernel

BEAT: Final = 0.25  # s from one look to the next
AT_MOST: Final = 1.0  # s

# By the MAC of an ENI and a family: the paths that are dead.
Flattered: TypeAlias = Mapping[tuple[str, Family], list[str]]


@dataclass(slots=True)
class Flattery:
    """Since when each family of an ENI is called working although a path is dead that counts.

    Those count whose address the ENI has in truth, if the daemon says that it answers, or knew it
    at the last quiet point.
    """

    wrongs: list[str] = field(default_factory=list)
    _since: dict[tuple[str, Family], float] = field(default_factory=dict)
    _last: tuple[object, Flattered] | None = None  # and what it was found from

    def look(self, host: Host | None, kernel: WatchedKernel, truth: Truth, now: float) -> None:
        """Look once. `host` is what the daemon knows; None: it does not run."""
        found = {} if host is None else self._found(host, kernel, truth)
        self._since = {key: self._since.get(key, now) for key in found}
        for key, since in self._since.items():
            if AT_MOST < now - since <= AT_MOST + BEAT:  # told once
                self.wrongs.append(f"{key} is called working for {now - since} s: {found[key]}")

    def _found(self, host: Host, kernel: WatchedKernel, truth: Truth) -> Flattered:
        """What is flattered now; nearly always all is as at the last look."""
        basis = (truth, kernel.changes, [(i.key, i.health) for i in host.interfaces.values()])
        if self._last is None or self._last[0] != basis:
            self._last = (basis, dict(_flattered(host, kernel, truth)))
        return self._last[1]


def _flattered(
    host: Host, kernel: WatchedKernel, truth: Truth
) -> Iterator[tuple[tuple[str, Family], list[str]]]:
    hosts = callers(truth)
    for interface in host.interfaces.values():
        mac = interface.link.mac
        if mac not in (PRIMARY, *truth.secondaries):
            continue
        on_link = {address.ip for address in interface.facts.addresses}
        its = own(truth, mac, on_link, is_protected=bool(truth.beside))
        for family, health in interface.health.items():
            if health.health is Health.WORKING:
                counts = its & {*health.answering, *(i for m, i in truth.steady if m == mac)}
                dead = [
                    f"{host} to {ip}"
                    for ip in counts
                    for host in hosts[family]
                    if ip.version == family and not kernel.answers(mac, ip, host)
                ]
                if dead:
                    yield (mac, family), dead
