"""`nicwatchd doctor` on a simulated host, and its remedies, carried out there.

async with ec2_host(numbered(1)) as host:
    doctor = Doctor(host)
    (finding,) = await doctor.findings()
    await doctor.mend(finding)
    assert not await doctor.findings()
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from nicwatchd.sim.ec2 import Ec2
from tests.scenarios.commands import nicwatchd_on
from tests.scenarios.host import HostUnderTest

Finding = dict[str, Any]

# Where there is no systemd and no cloud: a remedy's other commands are carried out as they are.
SHELL: Final = """
set -e
sudo() { "$@"; }
systemctl() { echo "$@" >> "$RECORD"; }
resolvectl() { echo "resolvectl $@" >> "$RECORD"; }
aws() { echo "aws $@" >> "$RECORD"; }
nicwatchd() { "$PYTHON" -m nicwatchd.cli.main "$@" --runtime-directory "$DIRECTORY"; }
"""


class Doctor:
    """Examines a host whose files in /etc, /run and /usr are the test's own."""

    def __init__(self, ec2: Ec2, config: Path) -> None:
        self._ec2, self._config = ec2, config
        self.root = ec2.vpc.runtime_dir / "root"
        for name in ("etc", "run", "usr"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        if not (self.root / "proc").is_symlink():
            (self.root / "proc").symlink_to("/proc")

    @classmethod
    def of(cls, host: HostUnderTest) -> Doctor:
        """For a host whose daemon was started."""
        return cls(host.ec2, host.daemon.config)

    def write(self, name: str, text: str) -> None:
        """Write a file of the host."""
        file = self.root / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    @property
    def _words(self) -> tuple[str, ...]:
        return ("doctor", "--config", str(self._config), "--root", str(self.root))

    async def examine(self, wrapper: Sequence[str] = ()) -> dict[str, Any]:
        """What it says; the exit code must agree with that."""
        vpc = self._ec2.vpc
        ran = await nicwatchd_on(vpc, *self._words, "--json", wrapper=wrapper)
        assert ran.complaint == ""
        said: dict[str, Any] = json.loads(ran.out)
        assert ran.code == (1 if said["findings"] else 0)
        return said

    async def text(self) -> str:
        """What it prints for people."""
        return (await nicwatchd_on(self._ec2.vpc, *self._words)).out

    async def findings(self) -> list[Finding]:
        """What it found."""
        found: list[Finding] = (await self.examine())["findings"]
        return found

    async def codes(self) -> list[str]:
        """The codes of what it found, in order."""
        return [finding["code"] for finding in await self.findings()]

    async def one(self, code: str) -> Finding:
        """The only finding, which must have this code."""
        (finding,) = await self.findings()
        assert finding["code"] == code, finding
        return finding

    async def mend(self, finding: Finding) -> list[str]:
        """Carry out a remedy on the host; returns what it asked of systemd."""
        record = self._ec2.vpc.runtime_dir / "asked"
        record.write_text("")
        names = {"RECORD": record, "PYTHON": sys.executable, "DIRECTORY": self._ec2.vpc.runtime_dir}
        script = "".join(f"{name}='{value}'\n" for name, value in names.items())
        script += SHELL + finding["mend"]
        for name in ("/etc/systemd/", "/run/systemd/"):
            script = script.replace(name, f"{self.root}{name}")
        await self._ec2.vpc.exec(self._ec2.vpc.host, "sh", "-c", script)
        return record.read_text().splitlines()
