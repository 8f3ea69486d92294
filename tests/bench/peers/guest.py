"""What is asked of the guest, and done to it, by other ways than its network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from nicwatchd.core.model import IPAddress
from tests.vm.host import VmHost

# What an agent may leave behind, by kind; a line each.
LOOKS: Final = {
    "addresses": "ip -o address",
    "rules": "ip -4 rule; ip -6 rule",
    "routes": "ip -4 route show table all; ip -6 route show table all",
    "files": "find /run/systemd/network /etc/systemd/network /etc/netplan /run/netplan -type f",
}
# All but the kernel's own, one by one.
FLUSH: Final = """
for family in -4 -6; do
  ip $family rule show | while IFS=: read -r priority _; do
    case $priority in
      0 | 32766 | 32767) ;;
      *) ip $family rule del priority "$priority" ;;
    esac
  done
done
"""
DROP_IN: Final = "/run/systemd/networkd.conf.d/10-nicwatchd.conf"  # an empty one here masks ours
RULE_LOG: Final = "/run/rules.log"


async def snapshot(host: VmHost) -> dict[str, list[str]]:
    """All that LOOKS shows now."""
    return {
        kind: (await host.vm.try_run("sh", "-c", look)).out.splitlines()
        for kind, look in LOOKS.items()
    }


async def all_of_it(host: VmHost) -> str:
    """The same in one text."""
    return "\n".join(line for lines in (await snapshot(host)).values() for line in lines)


async def flush_rules(host: VmHost) -> None:
    """Delete all rules but the kernel's. Somebody else may be faster: what is gone is gone."""
    await host.vm.try_run("sh", "-c", FLUSH)


async def hold(host: VmHost, address: IPAddress) -> None:
    """Answer on an address out of a delegated prefix, as a container would."""
    await host.vm.run("ip", "address", "add", f"{address}/{address.max_prefixlen}", "dev", "lo")


async def let_go(host: VmHost, address: IPAddress) -> None:
    """End that."""
    await host.vm.run("ip", "address", "del", f"{address}/{address.max_prefixlen}", "dev", "lo")


async def mask_drop_in(host: VmHost) -> None:
    """Take away what keeps systemd-networkd from deleting others' rules."""
    await host.vm.run("install", "-D", "/dev/null", DROP_IN)
    await host.vm.run("systemctl", "restart", "systemd-networkd")


@dataclass(slots=True)
class RuleLog:
    """What `ip -ts -o monitor rule` has said; there at the end."""

    text: str = ""


@asynccontextmanager
async def rule_log(host: VmHost) -> AsyncIterator[RuleLog]:
    """Every rule that comes and goes in the guest, with the guest's own clock."""
    log = RuleLog()
    await host.vm.run(
        *("systemd-run", "--quiet", "--collect", "--unit=rule-log"),
        *("--property=StandardOutput=file:" + RULE_LOG, "ip", "-ts", "-o", "monitor", "rule"),
    )
    try:
        yield log
    finally:
        log.text = await host.vm.run("cat", RULE_LOG)
        await host.vm.run("systemctl", "stop", "rule-log")
        await host.vm.run("rm", RULE_LOG)
