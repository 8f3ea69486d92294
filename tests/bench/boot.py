"""Measures whether nicwatchd delays the boot, on a virtual machine (see tests/vm).

`make bench-boot` boots one machine over and over, which takes minutes.
"""

from __future__ import annotations

import sys
from typing import Final

from tests.bench import counted
from tests.bench.figures import Figure, Limit
from tests.vm.host import VmHost

ROUNDS: Final = 3
LATER: Final = 0.5  # s; the emulated processor is many times slower than a real one
USEC: Final = 1e6
WITHOUT, ENABLED, SILENT = "without nicwatchd", "with it", "with it, IMDS silent"
KINDS: Final = (WITHOUT, ENABLED, SILENT)


async def measure(*, quick: bool) -> list[Figure]:
    """The time from the start of userspace to multi-user.target. The kinds of boot take turns.

    The machine counts its own time (see `Vm`), so other work of this host affects no figure.
    """
    reached: dict[str, list[float]] = {kind: [] for kind in KINDS}
    ready: list[float] = []
    async with counted.installed() as host:
        for _ in range(1 if quick else ROUNDS):
            for kind in KINDS:
                await _boot(host, kind)
                reached[kind].append(await _since_userspace(host, "multi-user.target"))
                if kind != WITHOUT:
                    ready.append(await _since_userspace(host, "nicwatchd.service"))
    later = [
        Figure(f"boot: multi-user.target, {k}", s, "s", show=SHOWN) for k, s in reached.items()
    ]
    return [
        *later,
        Figure("boot: nicwatchd is ready", ready, "s", show=SHOWN),
        *(_difference(reached, kind) for kind in (ENABLED, SILENT)),
    ]


SHOWN: Final = ("median", "max")


def _difference(reached: dict[str, list[float]], kind: str) -> Figure:
    """By how much the target is delayed, compared with no nicwatchd."""
    pairs = zip(reached[kind], reached[WITHOUT], strict=True)
    return Figure(
        f"boot: delay of multi-user.target, {kind}",
        [enabled - without for enabled, without in pairs],
        "s",
        limits=(Limit("median", LATER),),
        show=SHOWN,
    )


async def _boot(host: VmHost, kind: str) -> None:
    """Restart the machine, and return when it has nothing left to start."""
    await host.vm.run("systemctl", "disable" if kind == WITHOUT else "enable", "nicwatchd")
    host.imds.clear()
    if kind == SILENT:
        host.imds.fault("all", "timeout")
    await host.vm.reboot()


async def _since_userspace(host: VmHost, unit: str) -> float:
    """When a unit became active, in seconds since systemd began."""
    show = ("systemctl", "show", "--value", "--property")
    began = await host.vm.run(*show, "UserspaceTimestampMonotonic")
    active = await host.vm.run(*show, "ActiveEnterTimestampMonotonic", unit)
    return (int(active) - int(began)) / USEC


if __name__ == "__main__":
    sys.exit(counted.main("bench-boot", __doc__, measure))
