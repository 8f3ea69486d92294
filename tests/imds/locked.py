"""Run by test_locked.py in its own network namespace: an IMDS that is locked as systemd does it.

A prohibit route covers the address, and only the mark gets past it. It does not cover the server's
answers, which go to the same address here. Prints what the client
answers, one line each.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys

from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.script import Scenario

MAC = "02:00:00:00:00:01"
LOCK = """\
link set lo up
address add 169.254.169.254/32 dev lo
rule add priority 10 fwmark 0x7fff0815 lookup local
rule add priority 20 ipproto tcp dport 80 lookup 77
rule add priority 100 lookup local
rule del priority 0
route add prohibit 169.254.169.254 table 77
"""
NO_WAY = "rule del priority 10"


def ip(commands: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)


async def main() -> None:
    ip(LOCK)
    server = ImdsServer(Scenario(MAC))
    await server.start(("169.254.169.254", 80))
    options = ImdsOptions(endpoints=("http://169.254.169.254",))
    async with ImdsClient(options) as client:
        sys.stdout.write(f"{await client.get('mac')}\n")
    ip(NO_WAY)
    async with ImdsClient(options) as client:
        await client.get("mac")
        sys.stdout.write(f"{client.condition}\n")
    await server.stop()


asyncio.run(main())
