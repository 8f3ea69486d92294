"""`nicwatchd migrate` on a host of real namespaces: the tool's rules go, and no connection does."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from nicwatchd.core.model import Family
from tests.scenarios.host import HostUnderTest, complete, ec2_host, numbered
from tests.scenarios.streams import streams

ETH1: Final = numbered(1, ipv4=("10.0.2.11", "10.0.2.12"))
TABLE: Final = 10001
ALIAS: Final = "10.0.2.12/32"

# What amazon-ec2-net-utils and systemd-networkd have of a link, and what is left when it ends.
UP: Final = [
    f"ip address replace {ALIAS} dev eth1",
    f"ip route replace default via 10.0.2.1 dev eth1 table {TABLE} proto static",
    f"ip route replace 10.0.2.0/24 dev eth1 table {TABLE} proto static",
    f"ip -6 route replace default via fe80:ec2::1 dev eth1 table {TABLE} proto static",
    f"ip rule add pref {TABLE} from 10.0.2.11 lookup {TABLE} proto static",
    f"ip rule add pref {TABLE} from 10.0.2.12 lookup {TABLE} proto static",
    f"ip -6 rule add pref {TABLE} from 2001:db8:ec2:2::11 lookup {TABLE} proto static",
]
DOWN: Final = [
    f"ip rule del pref {TABLE} from 10.0.2.11 lookup {TABLE}",
    f"ip rule del pref {TABLE} from 10.0.2.12 lookup {TABLE}",
    f"ip -6 rule del pref {TABLE} from 2001:db8:ec2:2::11 lookup {TABLE}",
    f"ip route flush table {TABLE}",
    f"ip -6 route flush table {TABLE}",
    f"ip address del {ALIAS} dev eth1",
]
SYSTEMCTL: Final = """\
#!/bin/sh
# systemd, as far as a migration asks it: a unit's state is a file.
units="$(dirname "$0")/units"
verb="$1"; shift
case "$verb" in
list-units) for u in "$units"/*.active; do echo "$(basename "$u" .active) loaded active x"; done ;;
is-enabled) if [ -e "$units/$1.enabled" ]; then echo enabled; else echo disabled; exit 1; fi ;;
is-active) if [ -e "$units/$1.active" ]; then echo active; else echo inactive; exit 3; fi ;;
enable) for u in "$@"; do touch "$units/$u.enabled"; done ;;
disable) for u in "$@"; do rm -f "$units/$u.enabled"; done ;;
start) for u in "$@"; do touch "$units/$u.active"; case "$u" in policy*) set -e; UP ;; esac; done ;;
stop) for u in "$@"; do rm -f "$units/$u.active"; case "$u" in policy*) DOWN ;; esac; done ;;
esac
"""


class NetUtils:
    """amazon-ec2-net-utils on a host, by hand: its files, its units, what it has in the kernel."""

    def __init__(self, host: HostUnderTest, directory: Path) -> None:
        self.host = host
        self.root, self.programs = directory / "root", directory / "programs"
        self._file("/usr/lib/udev/rules.d/99-vpc-policy-routes.rules", 'SUBSYSTEM=="net"\n')
        self._file("/usr/lib/systemd/network/80-ec2.network", "[Match]\nDriver=ena\n")
        alias = "/run/systemd/network/70-eth1.network.d/ec2net_alias.conf"
        self._file(alias, f"[Address]\nAddress={ALIAS}\n")
        units = self.programs / "units"
        units.mkdir(parents=True)
        for unit in ("policy-routes@eth1.service", "refresh-policy-routes@eth1.timer"):
            for state in ("enabled", "active"):
                (units / f"{unit}.{state}").touch()
        text = SYSTEMCTL.replace("UP", "; ".join(UP)).replace("DOWN", "; ".join(DOWN))
        for name, script in (("systemctl", text), ("udevadm", "#!/bin/sh\n")):
            (self.programs / name).write_text(script)
            (self.programs / name).chmod(0o755)

    def _file(self, name: str, text: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    async def configure(self) -> None:
        """The link comes, DHCP serves it, and the tool configures it; nicwatchd is there, too."""
        await self.host.plug("eth1")
        for family in Family:
            await self.host.vpc.lease(self.host.eni("eth1"), family)
        for line in UP:
            await self.host.ip(line.removeprefix("ip "))

    async def migrate(self, *words: str) -> tuple[int, str]:
        """Run the command on the host; its exit code and all that it says."""
        path = f"{self.programs}:{os.environ['PATH']}"
        daemon = self.host.daemon
        command = ["env", f"PATH={path}", sys.executable, "-m", "nicwatchd.cli.main", "migrate"]
        command += ["--root", str(self.root), "--config", str(daemon.config)]
        command += ["--runtime-directory", str(daemon.socket.parent), *words]
        pipe = asyncio.subprocess.PIPE
        process = await self.host.vpc.popen(
            self.host.vpc.host, *command, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def rules(self) -> list[str]:
        lines = (await self.host.ip("rule")) + (await self.host.ip("-6 rule"))
        return [line for line in lines.splitlines() if f"lookup {TABLE}" in line]


async def test_net_utils_hands_over_and_takes_back(tmp_path: Path) -> None:
    async with ec2_host(ETH1) as host:
        tool = NetUtils(host, tmp_path)
        await tool.configure()
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        before = await tool.rules()
        assert len(before) == 3
        async with streams(host, "eth1"):
            code, out = await tool.migrate("--dry-run")
            assert code == 0, out
            assert await tool.rules() == before
            code, out = await tool.migrate("--yes", "--altnames")
            assert code == 0, out
            assert await tool.rules() == []
            # The address that went with the tool is nicwatchd's now.
            assert "10.0.2.12" in (await host.status("eth1"))["ipv4"]["added"]
            assert not (await host.status("eth1"))["notes"]
            eni = (await host.status("eth1"))["eni"]
            assert eni in await host.ip("link show eth1")
        await host.all_reachable("eth1")
        async with streams(host, "eth1"):
            code, out = await tool.migrate("--undo", "--yes")
            assert code == 0, out
            assert await tool.rules() == before
            assert eni not in await host.ip("link show eth1")
        await host.all_reachable("eth1")
        assert not (tool.root / "etc/udev/rules.d/99-vpc-policy-routes.rules").exists()


async def test_what_nicwatchd_does_not_have_stays_the_tools(tmp_path: Path) -> None:
    async with ec2_host(ETH1) as host:
        tool = NetUtils(host, tmp_path)
        await tool.configure()
        await host.until("eth1", complete)
        await host.ip(f"rule add pref {TABLE} from 10.0.2.99 lookup {TABLE} proto static")
        before = await tool.rules()
        for how in ("--dry-run", "--yes"):
            code, out = await tool.migrate(how)
            assert code == 1, out
            assert "no interface with 10.0.2.99" in out
        assert await tool.rules() == before
        await host.ip(f"rule del pref {TABLE} from 10.0.2.99 lookup {TABLE}")


@pytest.mark.parametrize("way", ["finish", "undo"])
async def test_a_daemon_that_dies_in_the_middle(way: str, tmp_path: Path) -> None:
    """The tool's rules stay until nicwatchd is there again, or the operator takes it back."""
    async with ec2_host(ETH1) as host:
        tool = NetUtils(host, tmp_path)
        await tool.configure()
        await host.until("eth1", complete)
        before = await tool.rules()
        # It dies just before the tool's service would be stopped, when the timer is.
        script = (tool.programs / "systemctl").read_text()
        dying = script.replace(
            "stop) ",
            f'stop) case "$1" in refresh*timer) kill -9 {host.daemon.process.pid};; esac; ',
        )
        (tool.programs / "systemctl").write_text(dying)
        code, out = await tool.migrate("--yes")
        assert code == 1, out
        assert "not running" in out
        assert await tool.rules() == before
        (tool.programs / "systemctl").write_text(script)
        await host.daemon.process.wait()
        await host.daemon.start(host.daemon.config.read_text())
        await host.until("eth1", complete)
        code, out = await tool.migrate(*(("--yes",) if way == "finish" else ("--undo", "--yes")))
        assert code == 0, out
        assert await tool.rules() == ([] if way == "finish" else before)
        await host.all_reachable("eth1")
