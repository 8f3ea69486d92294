"""All forms of links, addresses, rules and routes that this kernel takes from `ip`, and its words.

What needs a module that containers lack (MPLS, IOAM), or a newer `ip` (dscp, flow labels), is put
together by hand in `BY_HAND`.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterable
from functools import cache
from typing import Final

from nicwatchd.netlink.encode import Request
from nicwatchd.netlink.events import RECEIVE, open_event_socket
from nicwatchd.netlink.request import RequestSocket
from nicwatchd.netlink.wire import (
    IFADDR,
    IFINFO,
    ROUTE,
    RULE,
    Message,
    attribute,
    attribute_u32,
    unpack,
)
from tests.netlink.conftest import network_namespace

NEWLINK, NEWADDR, NEWROUTE, NEWRULE, NEWNEXTHOP = 16, 20, 24, 32, 104
GETLINK, GETADDR, GETROUTE, GETRULE, GETNEXTHOP = 18, 22, 26, 34, 106
FAMILIES: Final = (2, 10, 128)  # and multicast routing's

# The kernel takes any byte but a slash, a colon, white space and `%`, up to 15 of them.
NAMES: Final = (
    *(b"exactly15chars_", b"-n", b"..a", b"a\\b", b"a=b,c", b"a;b", b"a@b", b"$(id)", b"`id`"),
    *(b"it's", b'q"uote', b'a{b="c"}', b"eth1.100", b"<b>&amp;", b"#", b"*", b"?[x]", b"~"),
    *("ünïcode".encode(), "e\u0301".encode(), "網路".encode(), "\u202eltr".encode()),
    *(b"bad\xff\xfe", b"\xc3", b"esc\x1b[31m", b"bell\x07", b"del\x7f", b"\x01\x02", b"\x80"),
)

SETUP: Final = """\
link set lo up
link add eth1 type veth peer name p-eth1
link set p-eth1 up
link set eth1 up
link add br0 type bridge
link set br0 up
link add mv0 link eth1 type macvlan
address add 10.0.2.10/24 dev eth1
address add 2001:db8:2::10/64 dev eth1 nodad
"""
ADDRESSES: Final = """\
address add 10.1.1.1 peer 10.1.1.2/32 dev eth1
address add 10.1.2.1/24 broadcast + anycast 10.1.2.9 dev eth1
address add 10.1.3.1/24 scope 77 dev eth1 valid_lft 100 preferred_lft 50
address add 10.1.4.1/24 dev eth1 label eth1:0 metric 77
address add 0.0.0.1/0 dev eth1
address add 255.255.255.254/31 dev eth1
address add 2001:db8:5::1 peer 2001:db8:5::2/128 dev eth1
address add 2001:db8:6::1/64 dev eth1 mngtmpaddr noprefixroute home nodad
address add 2001:db8:7::1/128 dev eth1 optimistic
address add 2001:db8:8::1/0 dev eth1
address add 2001:db8:9::1/64 dev eth1 scope site
address add ::ffff:1.2.3.4/128 dev eth1
"""
RULES: Final = """\
rule add fwmark 0x1/0xff lookup 100
rule add ipproto tcp sport 1000-2000 dport 80 lookup 100
rule add tun_id 7 lookup 100
rule add l3mdev pref 1000
rule add uidrange 0-0 lookup 100
rule add pref 500 goto 32766
rule add pref 501 goto 30000
rule add pref 502 nop
rule add pref 503 blackhole
rule add pref 504 from 192.0.2.4 prohibit
rule add pref 505 unreachable
rule add pref 506 lookup 100 suppress_prefixlength 0 suppress_ifgroup 7
rule add pref 507 tos 0x10 lookup 100
rule add pref 508 iif nosuch lookup 100
rule add pref 509 oif nosuch lookup 100
rule add pref 510 not from 10.0.0.0/8 lookup 100
rule add pref 511 from 10.0.0.0/8 realms 1/2 lookup 100
rule add pref 512 from 0.0.0.0/0 to 10.0.0.0/8 lookup 100
rule add pref 513 nat 192.0.2.1 from 192.0.2.2
rule add pref 4294967295 lookup 4294967295
"""
RULES_V6: Final = """\
rule add pref 516 tos 0x10 lookup 100
rule add pref 517 from ::/0 iif lo oif eth1 lookup 100
rule add pref 518 ipproto 50 lookup 4294967295
rule add pref 519 fwmark 0xffffffff/0xffffffff to ::1 unreachable
"""
ROUTES: Final = """\
nexthop add id 1 via 10.0.2.1 dev eth1
nexthop add id 2 via 10.0.2.2 dev eth1
nexthop add id 3 group 1,3/2
nexthop add id 4 blackhole
nexthop add id 5 group 1/2 type resilient buckets 32
nexthop add id 7 dev eth1
nexthop add id 8 fdb via 10.0.2.3
route add 198.51.100.0/24 nexthop via 10.0.2.1 weight 5 nexthop via 10.0.2.2 weight 255
route add 198.51.101.0/24 via inet6 fe80::1 dev eth1
route add 198.51.102.0/24 nexthop via inet6 fe80::1 dev eth1 nexthop via 10.0.2.1 dev eth1 onlink
route add 198.51.103.0/24 nhid 1
route add 198.51.104.0/24 nhid 4
route add 198.51.105.0/24 nhid 5
route add 198.51.106.0/24 nhid 3
route add 198.51.107.0/24 encap ip id 7 dst 10.0.0.1 dev eth1
route add blackhole 198.51.108.0/24
route add prohibit 198.51.109.0/24
route add unreachable 198.51.110.0/24 metric 5
route add throw 198.51.111.0/24
route add multicast 224.1.0.0/16 dev eth1
route add broadcast 10.9.9.255 dev eth1
route add anycast 10.9.9.1 dev eth1
route add local 10.9.0.0/16 dev lo table 100
route add 198.51.112.0/24 via 10.0.2.1 mtu lock 1400 advmss 1300 rto_min 50ms quickack 1
route add 198.51.113.0/24 via 10.0.2.1 realms 3/4 initcwnd 10 features ecn congctl reno
route add 198.51.114.0/24 tos 0x10 via 10.0.2.1 table 4294967295 proto 250
route add 198.51.115.0/24 dev eth1 scope 200 src 10.0.2.10 metric 4294967295
route add default via 10.0.2.1 dev eth1 ttl-propagate disabled
"""
ROUTES_V6: Final = """\
nexthop add id 6 via fe80::1 dev eth1
nexthop add id 9 blackhole
route add 2001:db8:105::/64 nhid 6
route add 2001:db8:106::/64 nhid 9
route add 2001:db8:107::/64 encap seg6 mode encap segs 2001:db8::1 dev eth1
route add 2001:db8:108::/64 encap seg6local action End dev eth1
route add blackhole 2001:db8:110::/64
route add prohibit 2001:db8:111::/64
route add throw 2001:db8:112::/64
route add 2001:db8:113::/64 dev eth1 expires 100
route add 2001:db8:114::/64 via fe80::1 dev eth1 pref high
route add 2001:db8:115::/64 from 2001:db8:9::/64 via fe80::1 dev eth1
route add anycast 2001:db8:116::1 dev eth1
route add 2001:db8:117::/64 nexthop via fe80::1 dev eth1 weight 3 nexthop via fe80::2 dev eth1
route add multicast ff05::/16 dev eth1 table 100
"""

# RTA_ENCAP_TYPE 1 is MPLS, 6 is IOAM; FRA_DSCP, FRA_FLOWLABEL and its mask are those of Linux 6.13.
BY_HAND: Final = (
    Message(
        NEWROUTE,
        *(0, 0, 0),
        ROUTE.pack(2, 24, 0, 0, 254, 3, 0, 1, 0)
        + attribute(1, bytes([198, 51, 100, 0]))
        + attribute(21, b"\1\0")
        + attribute(22 | 0x8000, attribute(1, bytes.fromhex("00064100")))
        + attribute_u32(4, 7),
    ),
    Message(
        NEWROUTE,
        *(0, 0, 0),
        ROUTE.pack(28, 20, 0, 0, 254, 3, 0, 1, 0) + attribute(1, b"\0\6\x41\0"),  # a label's
    ),
    Message(
        NEWRULE,
        *(0, 0, 0),
        RULE.pack(10, 0, 0, 0, 100, 0, 0, 1, 0)
        + attribute_u32(6, 514)
        + attribute(25, b"\x0a")
        + attribute(26, b"\0\0\0\1")
        + attribute(27, b"\0\0\0\xff"),
    ),
)


def ip_batch(lines: str, *options: str) -> None:
    """Have `ip` do all of this; raises what it could not do."""
    subprocess.run(["ip", *options, "-batch", "-"], input=lines.encode(), check=True)


def build() -> None:
    """All forms, in the current network namespace."""
    ip_batch(SETUP)
    for name in NAMES:
        subprocess.run([b"ip", b"link", b"add", name, b"type", b"bridge"], check=True)
    ip_batch(ADDRESSES)
    ip_batch(RULES)
    ip_batch(RULES_V6, "-6")
    ip_batch(ROUTES)
    ip_batch(ROUTES_V6, "-6")
    subprocess.run(["ip", "mrule", "add", "pref", "520", "lookup", "100"], check=True)


@cache
def messages() -> tuple[Message, ...]:
    """What this kernel says of all of them: notifications as they come and go, and dumps."""
    with network_namespace():
        heard = open_event_socket()
        build()
        dumped = asyncio.run(_dumps())
        ip_batch("link del eth1\n")
        said = [message for datagram in _datagrams(heard) for message in unpack(datagram)]
        heard.close()
    return tuple(dict.fromkeys((*BY_HAND, *dumped, *said)))


def _datagrams(heard: socket.socket) -> Iterable[bytes]:
    while True:
        try:
            yield heard.recv(RECEIVE)
        except BlockingIOError:
            return


async def _dumps() -> list[Message]:
    requests = RequestSocket()
    asked = [
        (NEWLINK, Request(GETLINK, 0, IFINFO.pack(0, 0, 0, 0, 0))),
        (NEWADDR, Request(GETADDR, 0, IFADDR.pack(0, 0, 0, 0, 0))),
        (NEWNEXTHOP, Request(GETNEXTHOP, 0, bytes(8))),
    ]
    for family in FAMILIES:
        asked.append((NEWRULE, Request(GETRULE, 0, RULE.pack(family, *(0,) * 8))))
        asked.append((NEWROUTE, Request(GETROUTE, 0, ROUTE.pack(family, *(0,) * 8))))
    found = []
    for kind, request in asked:
        found += [Message(kind, 0, 0, 0, body) for body in await requests.dump(request, bytes)]
    requests.close()
    return found
