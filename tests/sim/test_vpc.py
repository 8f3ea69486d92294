from __future__ import annotations

import asyncio
import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim import netns
from nicwatchd.sim.parts import Eni, Subnet
from nicwatchd.sim.probe import Acceptor, paths, reach, watch_primary
from nicwatchd.sim.vpc import LeakError, Vpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def link_flags(vpc: Vpc, eni: Eni) -> dict[str, object]:
    """What `ip -d -j link` says of an ENI's link on the host."""
    (link,) = json.loads(await vpc.exec(vpc.host, "ip", "-d", "-j", "link", "show", eni.name))
    assert isinstance(link, dict)
    return link


async def first_line(vpc: Vpc, *command: str) -> AsyncIterator[str]:
    """Lines of a command that runs on, in the host's namespace."""
    process = await vpc.popen(vpc.host, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    while line := await process.stdout.readline():
        yield line.decode()
