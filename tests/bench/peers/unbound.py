"""By which link the guest would send what is bound to nothing: a look each 50 ms, in the guest.

A program of the guest asks the kernel for the route to each far host, without a source address: as
a connection does that binds to nothing. It does not send anything, and asks no agent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nicwatchd.core.model import Family
from tests.bench.peers import judge
from tests.bench.peers.measure import Found
from tests.vm.host import PRIMARY, VmHost

UNIT: Final = "unbound"
PROGRAM: Final = "/run/unbound.py"
LOG: Final = "/run/unbound.log"
INTERVAL: Final = 0.05  # s between two looks

# Its arguments are the interval and the far hosts. It writes a line when an answer changes, as
# `judge.stretches` reads them, and in the end, on SIGTERM, how often it looked.
LOOK: Final = r"""
import signal, socket, struct, sys, time

GET_ROUTE, NEW_ROUTE, REQUEST, DESTINATION, DEVICE = 26, 24, 1, 1, 4
kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
over = False


def end(*_):
    global over
    over = True


def question(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = struct.pack("=8BI", family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
    body += struct.pack("=HH", 4 + len(packed), DESTINATION) + packed
    return struct.pack("=IHHII", 16 + len(body), GET_ROUTE, REQUEST, 0, 0) + body


def link(asked):
    kernel.send(asked)
    answer = kernel.recv(8192)
    if struct.unpack_from("=H", answer, 4)[0] != NEW_ROUTE:
        return "nothing"
    at = 16 + 12
    while at < len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == DEVICE:
            try:
                return socket.if_indextoname(struct.unpack_from("=I", answer, at + 4)[0])
            except OSError:
                return "nothing"
        at += (length + 3) & ~3
    return "nothing"


signal.signal(signal.SIGTERM, end)
interval, *far = sys.argv[1:]
questions = {"IPv4": [question(a) for a in far if ":" not in a]}
questions["IPv6"] = [question(a) for a in far if ":" in a]
seen, looks, began, latest, longest = {}, 0, time.monotonic(), None, 0.0
while not over:
    now = time.monotonic()
    longest = max(longest, now - (latest or now))
    latest = now
    for family, asked in questions.items():
        links = ",".join(sorted({link(one) for one in asked}))
        if seen.get(family) != links:
            seen[family] = links
            print(f"{now:.3f} {family} {links}", flush=True)
    looks += 1
    time.sleep(max(0.0, began + looks * float(interval) - time.monotonic()))
print(f"{time.monotonic():.3f} looks {looks} {longest:.3f}", flush=True)
"""


@asynccontextmanager
async def looking(host: VmHost) -> AsyncIterator[Found]:
    """Look until the end; then the dictionary has what was seen.

    By family: the longest stretch, in s, in which something unbound did not leave by the primary;
    None where it still does not. `looks`: how many; `between looks`: the longest time, in s.
    """
    found: Found = {}
    far = [str(address) for peer in host.vpc.far_hosts for address in peer.addresses]
    await host.vm.write(PROGRAM, LOOK)
    await host.vm.run(
        *("systemd-run", "--quiet", "--collect", f"--unit={UNIT}"),
        f"--property=StandardOutput=file:{LOG}",
        *("/usr/bin/python3", PROGRAM, str(INTERVAL), *far),
    )
    yield found
    await host.vm.run("systemctl", "stop", UNIT)
    text = await host.vm.run("cat", LOG)
    await host.vm.run("rm", LOG, PROGRAM)
    found |= {f.label: judge.stretch(text, f.label, PRIMARY.name) for f in Family}
    found["looks"], found["between looks"] = judge.looks(text)
    found["changes"] = text.splitlines()[:-1]
