"""What earlier editions of nicwatchd left in the kernel."""

from __future__ import annotations

import re

from nicwatchd.core.model import Family
from tests.scenarios.host import HostUnderTest


async def first_edition(host: HostUnderTest) -> None:
    """Make what there is of eth1 what the first edition left. The daemon is stopped."""
    index = host.vpc.ifindex(host.eni("eth1"))
    now, old = 1_000_191 + 256 * index, 1_000_000 + index
    for family in Family:
        v = f"-{family.value}"
        for line in (await host.ip(f"{v} route show table {now}")).splitlines():
            words = re.sub(r" proto \S+", "", line.strip()).replace(" pref medium", "")
            await host.ip(f"{v} route add {words} table {old} proto 236")
        subnet = {Family.V4: "10.0.2.0/24", Family.V6: "2001:db8:ec2:2::/64"}[family]
        for priority, selector in ((32601, "oif eth1"), (32602, f"iif lo from {subnet}")):
            main = "lookup main suppress_prefixlength 0 suppress_ifgroup 3778"
            await host.ip(f"{v} rule add pref 32600 {selector} {main} protocol 236")
            await host.ip(f"{v} rule add pref {priority} {selector} lookup {old} protocol 236")
        shown = (await host.ip(f"{v} rule")).splitlines()
        for line in shown:
            if line.startswith("32765:") and "proto 236" in line:
                words = line.split(":", 1)[1].replace(" proto 236", " protocol 236")
                await host.ip(f"{v} rule del pref 32765 {words.replace('from all ', '')}")
        await host.ip(f"{v} route flush table {now}")
