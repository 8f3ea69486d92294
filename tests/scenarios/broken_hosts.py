"""Broken hosts: how each is broken, what nicwatchd says of it, and what mends it, as it is printed.

`status`, `explain` and `doctor` each tell it. What `ip`, `sysctl`, `nft`, `kill` and nicwatchd mend
is run as it is printed, in the host's network namespace. What an AWS command, systemd or an edit of
the settings does, the sim does in its stead.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, cast
from weakref import WeakKeyDictionary

from nicwatchd.sim import containers, netns, router
from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.probe import PORT
from nicwatchd.sim.script import Do, EniScript, Step
from nicwatchd.sim.vpc import Vpc
from tests.scenarios.commands import nicwatchd_on
from tests.scenarios.doctoring import Doctor
from tests.scenarios.host import (
    QUICK,
    HostUnderTest,
    nothing,
    numbered,
    settings,
)
from tests.scenarios.publishing import PUBLISHED, docker_nftables
from tests.scenarios.software import eventually

Spoil = Callable[[Ec2], Awaitable[None]]
Mend = Callable[[HostUnderTest], Awaitable[None]]

ETH1: Final = numbered(1)
ETH2: Final = numbered(2, subnet=2)
TWO: Final = numbered(
    1, ipv4=("10.0.2.11", "10.0.2.12"), ipv6=("2001:db8:ec2:2::11", "2001:db8:ec2:2::12")
)
ENI1: Final = ETH1.facts()["interface-id"]
ENI2: Final = ETH2.facts()["interface-id"]
DEFAULT: Final = settings()
LEAVE: Final = 'primary = "leave"\negress = "leave"\n' + DEFAULT
CONNMARK: Final = settings(forwarded="connmark")
BRIDGED: Final = (IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64"))
ADDRESSES: Final = ("10.0.2.11", "2001:db8:ec2:2::11")  # of eth1
OF_PRIMARY: Final = ("10.0.1.10", "2001:db8:ec2:1::10")


ONLY_ROOT: Final = Path("/proc/self/uid_map").read_text().split()[2] == "1"  # in this sandbox
DAEMONS_UID: Final = 0 if ONLY_ROOT else 65534
ALLOWED_UID: Final = 4242 if ONLY_ROOT else 0
AS_DAEMON: Final = (
    *("setpriv", f"--reuid={DAEMONS_UID}", "--clear-groups"),
    *("--inh-caps=+net_admin,+dac_read_search", "--ambient-caps=+net_admin,+dac_read_search"),
)

# When it is broken: while the daemon runs and all is well, or before it starts.
AFTER: Final = "after"
BEFORE: Final = "before"


class Where(Enum):
    """Where it is told: beside a family's health, beside a state, or as its reason."""

    CAUSES = "causes"
    NOTES = "notes"
    REASONS = "reasons"


@dataclass(frozen=True)
class Finding:
    """What `doctor` tells: the code, words of the text, and a pattern of its remedy.

    `mend` empty: the remedy is the one that `status` and `explain` print. `besides`: the codes of
    other things that are amiss, too.
    """

    code: str
    words: str
    mend: str = ""
    besides: tuple[str, ...] = ()


@dataclass(frozen=True)
class BrokenHost:
    """One host. `remedy` is a pattern of what `status` prints; `words` must be in the text.

    `explain` tells the same words and remedies, and `fact`, from which it comes; where `status`
    sends people to `doctor`, it prints what mends it. `doctor`: what that tells; a text: why it is
    not the place.

    `mend` None: the remedy is a command, and is run as `explain` prints it. `then`: what is done
    once all is well, before the ENI has to work. `dead`: to which addresses, and `from_far` whether
    from beyond the VPC or from eth1's subnet, there is no answer on `port` while it is broken.
    `is_well`: somebody wants it so, and nothing fails.
    """

    name: str
    spoil: Spoil
    code: str
    words: tuple[str, ...]
    remedy: str
    fact: str
    doctor: Finding | str
    mend: Mend | None = None
    then: Mend | None = None
    on: str = "eth1"
    where: Where = Where.CAUSES
    is_well: bool = False
    dead: tuple[str, ...] = ADDRESSES
    from_far: bool = True
    port: int = PORT
    enis: tuple[EniScript, ...] = (ETH1,)
    config: str = DEFAULT
    moments: tuple[str, ...] = (AFTER, BEFORE)
    prepare: Spoil = nothing  # before the ENI is plugged
    wrapper: tuple[str, ...] = ()  # of the daemon
    harms_primary: bool = False
    lasts: float = 0.0

    def __str__(self) -> str:
        return self.name


# --- how hosts are broken ------------------------------------------------------------------------


def ip(*lines: str) -> Spoil:
    """By `ip` on the host."""

    async def spoil(ec2: Ec2) -> None:
        for line in lines:
            await ec2.vpc.exec(ec2.vpc.host, "ip", *line.split())

    return spoil


def both(line: str, **items: tuple[str, str]) -> tuple[str, str]:
    """A line for `ip` in both families, each with its own of the items."""
    v4 = {name: pair[0] for name, pair in items.items()}
    v6 = {name: pair[1] for name, pair in items.items()}
    return line.format(**v4), f"-6 {line.format(**v6)}"


def sysctl(values: Mapping[str, str]) -> Spoil:
    """By sysctls below net."""

    async def spoil(ec2: Ec2) -> None:
        ec2.vpc.sysctl(ec2.vpc.host, values)

    return spoil


def nft(text: str) -> Spoil:
    """By a firewall on the host."""

    async def spoil(ec2: Ec2) -> None:
        await ec2.vpc._do(netns.nft, ec2.vpc.host, text)

    return spoil


def imds(on: str, do: Do, retry_after: str | None = None) -> Spoil:
    """By what IMDS does."""

    async def spoil(ec2: Ec2) -> None:
        ec2.imds.fault(on, do, retry_after=retry_after)
        ec2.imds.expire_tokens()

    return spoil


def chain(*steps: Spoil) -> Spoil:
    """One after the other."""

    async def spoil(ec2: Ec2) -> None:
        for step in steps:
            await step(ec2)

    return spoil


# A link that is no ENI and leads nowhere, like a VPN's whose other end is gone.
TUNNEL: Final = ip(
    "link add c-tun type veth peer name c-end", "link set c-tun up", "link set c-end up"
)


async def stuck_in_dad(ec2: Ec2) -> None:
    """A DHCPv6 client's address whose check for duplicates does not end."""
    show = ("ip", "-6", "addr", "show", "dev", "eth1")
    await ip("link set dev eth1 up")(ec2)

    async def has_link_local() -> bool:
        return "tentative" not in await ec2.vpc.exec(ec2.vpc.host, *show)

    await eventually(has_link_local)
    ec2.vpc.sysctl(ec2.vpc.host, {"ipv6/conf/eth1/dad_transmits": "600"})
    lifetime = "valid_lft 450 preferred_lft 140"
    await ip(f"-6 addr add 2001:db8:ec2:2::11/128 dev eth1 {lifetime}")(ec2)


def carrier(state: str) -> Spoil:
    """EC2's side of eth1, up or down."""

    async def spoil(ec2: Ec2) -> None:
        port = ec2.vpc._ports[ETH1.mac]
        lines = [f"link set {port.device} down"]
        if state == "up":  # all that the router had went with it
            lines = router.lines_to_prepare(port)[1:]
        await ec2.vpc._do(netns.ip, ec2.vpc.router, lines)

    return spoil


async def container(ec2: Ec2) -> None:
    """A container behind a bridge."""
    await containers.bridged(ec2.vpc, *BRIDGED)


async def publish(ec2: Ec2) -> None:
    """Its port is published as Docker does."""
    box = Peer("", "", BRIDGED[0][2], BRIDGED[1][2])
    await docker_nftables(cast("HostUnderTest", ec2), box)  # which has a VPC, too


async def two_enis_have_it(ec2: Ec2) -> None:
    """IMDS lists an address of eth1's on eth2, too."""
    ec2.imds.step("eth2", texts={"local-ipv4s": f"{ETH2.ipv4[0]}\n{ADDRESSES[0]}"})


async def eth2_gives_it_up(ec2: Ec2) -> None:
    ec2.imds.step("eth2", complete=True)


async def not_as_root(ec2: Ec2) -> None:
    """The daemon runs as a user of its own. Its directory is not: the settings are there, too."""
    ec2.vpc.runtime_dir.chmod(0o1777)


# A script. Its `ip` is there for a while: a busy machine gives the daemon the CPU later.
FLUSH: Final = "{ echo rule flush proto 236; sleep 0.15; } | ip -force -batch -"
FLUSHES: Final = ("sh", "-c", f"while :; do {FLUSH}; sleep 0.2; done")
# A program that has its own socket.
DELETES: Final = """
import socket, struct, time
kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
kernel.bind((0, 0))
while True:
    for family in (socket.AF_INET, socket.AF_INET6):
        error = 0
        while not error:
            of_236 = struct.pack("=4B8xHHB3x", family, 0, 0, 0, 5, 21, 236)
            kernel.send(struct.pack("=IHHII", 16 + len(of_236), 33, 5, 0, 0) + of_236)
            (error,) = struct.unpack_from("=i", kernel.recv(4096), 16)
    time.sleep(0.3)
"""
ASKS: Final = """
import socket, time
while True:
    with socket.create_connection(("169.254.169.254", 80), timeout=5) as connection:
        connection.sendall(b"GET /latest/meta-data/ HTTP/1.0\\r\\n\\r\\n")
        while connection.recv(4096):
            pass
        time.sleep(0.01)
"""
GREEDY: Final = (sys.executable, "-c", ASKS)
CULPRITS: Final[WeakKeyDictionary[Vpc, asyncio.subprocess.Process]] = WeakKeyDictionary()
# A fight is over once nobody has removed anything for 8 s, which is more than between two tries.
SHORT_FIGHTS: Final = (
    "env",
    f"PYTHONPATH={Path(__file__).parent / 'short_fights'}:{os.environ.get('PYTHONPATH', '.')}",
)


def started(command: Sequence[str]) -> Spoil:
    """By a process on the host, which goes on until somebody ends it."""

    async def spoil(ec2: Ec2) -> None:
        CULPRITS[ec2.vpc] = await ec2.vpc.popen(ec2.vpc.host, *command)

    return spoil


MENDS: Final = re.compile(r"^( *[Mm]end: +)(.*)$")


def pasted(shown: str) -> list[str]:
    """What is to be done, as somebody copies it from the terminal, line breaks and all."""
    found: list[str] = []
    indent = ""
    for line in shown.splitlines():
        if begin := MENDS.match(line):
            indent = " " * len(begin[1])
            found.append(begin[2])
        elif indent and line.startswith(indent):
            found[-1] += f"\n{line.removeprefix(indent)}"
        else:
            indent = ""
    return found


async def explained(host: HostUnderTest, name: str) -> list[str]:
    """What `explain` says is to be done, as it is copied from the terminal."""
    words = ("explain", name, "--config", str(host.daemon.config))
    return pasted((await nicwatchd_on(host.vpc, *words)).out)


# --- what mends them, where it is not a command of the host --------------------------------------


def reload(config: str) -> Mend:
    """Edit the settings, and reload them."""

    async def mend(host: HostUnderTest) -> None:
        await host.reload(config)

    return mend


async def imds_answers(host: HostUnderTest) -> None:
    """What the AWS command changes, or time: IMDS answers as it should."""
    host.imds.clear()


async def stop_who_removes(host: HostUnderTest) -> None:
    """`explain` shows who it is, and a person ends that."""
    (mend,) = (each for each in await explained(host, "eth1") if each.startswith("ps "))
    shown = await host.vpc.exec(host.vpc.host, "sh", "-c", mend)
    culprit = CULPRITS[host.vpc]
    assert str(culprit.pid) in shown.split()
    assert FLUSH in shown
    culprit.terminate()
    await culprit.wait()


async def kill_who_asks(host: HostUnderTest) -> None:
    """What `doctor` prints ends who asks too much; then EC2 lets the others ask again."""
    doctor = Doctor.of(host)
    (finding,) = [each for each in await doctor.findings() if each["code"] == "imds-throttled"]
    await doctor.mend(finding)
    await CULPRITS[host.vpc].wait()
    host.imds.clear()


def settings_by_doctor(code: str) -> Mend:
    """Change the settings by the commands that `doctor` prints, and reload them."""

    async def mend(host: HostUnderTest) -> None:
        doctor = Doctor.of(host)
        finding = next(each for each in await doctor.findings() if each["code"] == code)
        assert await doctor.mend(finding) == ["reload nicwatchd"]
        await host.reload(host.daemon.config.read_text(encoding="utf-8"))

    return mend


async def ec2_attaches_it(host: HostUnderTest) -> None:
    """At last; and nicwatchd is told to serve it again."""
    host.imds.step("eth1", complete=True)
    await Doctor.of(host).mend({"mend": "sudo nicwatchd reconcile eth1"})


def on_ec2(step: Spoil) -> Mend:
    """What is done in EC2, or by what is no command of ours to run."""

    async def mend(host: HostUnderTest) -> None:
        await step(host.ec2)

    return mend


# --- the hosts -----------------------------------------------------------------------------------

LISTED: Final = "IMDS local-ipv4s 10.0.2.11"
ROUTERS: Final = ("10.0.1.1", "fe80:ec2::1")
SUBNETS: Final = ("10.0.2.0/24", "2001:db8:ec2:2::/64")
EXCLUDED: Final = settings(exclude_subnets=["10.0.0.0/16"]).replace(
    'exclude_subnets = ["10.0.0.0/16"]', 'exclude_subnets = ["10.9.0.0/16", "10.0.2.0/23"]'
)
INSERT: Final = "sudo nft insert rule inet hardening output ip daddr 169.254.169.254 meta skuid"
OPTIONS: Final = "aws ec2 modify-instance-metadata-options --instance-id [-A-Za-z0-9]+"
DOCTOR: Final = "(sudo )?nicwatchd doctor"
HARDENED: Final = """
table inet hardening {{ chain output {{
  type filter hook output priority filter; policy accept;
  ip daddr 169.254.169.254 {rule}
  ip6 daddr fd00:ec2::254 {rule}
  }}
}}
"""
NFT_HIDDEN: Final = 'mount --bind /dev/null /usr/sbin/nft; exec "$@"'


async def show_nft(host: HostUnderTest) -> None:
    """What a package manager does: `nft` is there."""
    pid = str(host.daemon.process.pid)
    await host.vpc.exec(host.vpc.host, "nsenter", "-t", pid, "-m", "umount", "/usr/sbin/nft")


HOSTS: Final = (
    BrokenHost(
        "a: IMDS is dropped by a firewall",
        nft(HARDENED.format(rule="drop")),
        "primary-unknown",
        ("IMDS is unreachable", "no connection after 1 s", f"asks as uid {os.geteuid()}"),
        DOCTOR,
        fact="unknown: not asked yet",
        doctor=Finding(
            "imds-firewall",
            f"the firewall drops what nicwatchd (uid {os.geteuid()}) sends to 169.254.169.254",
            f"{INSERT} {os.geteuid()} accept",
        ),
        moments=(BEFORE,),
    ),
    BrokenHost(
        "a2: only some users may talk to IMDS",
        chain(
            nft(HARDENED.format(rule=f"meta skuid != {ALLOWED_UID} reject")),
            not_as_root,
        ),
        "primary-unknown",
        ("IMDS is unreachable", f"nicwatchd asks as uid {DAEMONS_UID}"),
        DOCTOR,
        fact="unknown: not asked yet",
        doctor=Finding(
            "imds-firewall",
            f"only uid {ALLOWED_UID} may talk to 169.254.169.254",
            f"{INSERT} {DAEMONS_UID} accept",
        ),
        moments=(BEFORE,),
        wrapper=AS_DAEMON,
    ),
    BrokenHost(
        "b: IMDS is disabled",
        imds("token", "403"),
        "primary-unknown",
        ("IMDS is disabled", "403 on the token"),
        DOCTOR,
        fact="unknown: not asked yet",
        mend=imds_answers,
        doctor=Finding("imds-disabled", "IMDS is disabled", f"{OPTIONS} --http-endpoint enabled"),
        moments=(BEFORE,),
        lasts=35.0,  # a daemon that was refused asks again after 30 s
    ),
    BrokenHost(
        "c: IMDS's answer does not come through the last hop",
        imds("token", "timeout"),
        "primary-unknown",
        ("timed out after 2 s on the token", "perhaps the hop limit"),
        DOCTOR,
        fact="unknown: not asked yet",
        mend=imds_answers,
        doctor=Finding(
            "imds-hop-limit",
            "perhaps the hop limit",
            f"{OPTIONS} --http-put-response-hop-limit 2",
        ),
        moments=(BEFORE,),
    ),
    BrokenHost(
        "IMDS throttles",
        chain(started(GREEDY), imds("all", "429", retry_after="1")),
        "primary-unknown",
        ("IMDS throttles us", "429 on the token"),
        DOCTOR,
        fact="unknown: not asked yet",
        doctor=Finding(
            "imds-throttled",
            "IMDS throttles this host (169.254.169.254: 429 on the token); python",
            "# best have it ask less: .* sudo kill [0-9]+ # python.*",
        ),
        mend=kill_who_asks,
        moments=(BEFORE,),
    ),
    BrokenHost(
        "f: a foreign rule sends it to the primary",
        ip(
            *both("route add default via {via} dev eth0 table 100", via=ROUTERS),
            *both("rule add pref 100 from {net} lookup 100", net=SUBNETS),
        ),
        "leaves-elsewhere",
        (
            "answers nobody",
            "leave by eth0 instead of eth1",
            "by rule 100 (from ",
            "not nicwatchd's",
        ),
        "sudo ip (-6 )?rule del pref 100 from (10.0.2.0/24|2001:db8:ec2:2::/64) lookup 100",
        fact=LISTED,
        doctor=Finding(
            "rule-before",
            "rule 100: from 10.0.2.0/24 lookup 100, not nicwatchd's, leads packets out by eth0",
        ),
    ),
    BrokenHost(
        "a foreign rule rejects it",
        ip(*both("rule add pref 90 from {ip} unreachable", ip=ADDRESSES)),
        "leaves-elsewhere",
        ("answers nobody: its packets are rejected, by rule 90 (from ", "unreachable)"),
        "sudo ip (-6 )?rule del pref 90 from (10.0.2.11|2001:db8:ec2:2::11) unreachable",
        fact=LISTED,
        doctor=Finding(
            "rule-before",
            "rule 90: from 10.0.2.11 unreachable, not nicwatchd's, leads packets nowhere",
        ),
    ),
    BrokenHost(
        "a full tunnel as wg-quick makes it",
        chain(
            TUNNEL,
            ip(
                *both("route add {all} dev c-tun table 51820", all=("default", "::/0")),
                *both("rule add not fwmark 51820 lookup 51820"),
                *both("rule add lookup main suppress_prefixlength 0"),
            ),
        ),
        "leaves-elsewhere",
        ("leave by c-tun instead of eth1", "(not from all fwmark 0xca6c lookup 51820)"),
        "sudo ip (-6 )?rule add pref [0-9]+ iif lo from [0-9a-f.:]+ lookup [0-9]+",
        fact=LISTED,
        doctor=Finding(
            "rule-before",
            "not from all fwmark 0xca6c lookup 51820, not nicwatchd's, leads packets out by c-tun",
        ),
        harms_primary=True,
    ),
    BrokenHost(
        "g: its subnet is excluded",
        nothing,
        "excluded",
        ("excluded by the settings", "10.0.2.0/23"),
        "take it out of .*/etc/nicwatchd, then: (sudo )?systemctl reload nicwatchd",
        fact="IMDS local-ipv4s 10.0.2.11",
        doctor="the operator wants it so: nothing hurts",
        mend=reload(DEFAULT),
        where=Where.REASONS,
        is_well=True,
        config=EXCLUDED,
        moments=(BEFORE,),
    ),
    BrokenHost(
        "h: the link is down",
        ip("link set dev eth1 down"),
        "link-down",
        ("the link is down", "eth1 answers nobody"),
        "sudo ip link set dev eth1 up",
        fact="kernel link-down",
        doctor=Finding("link-down", f"eth1 ({ENI1}) is down"),
        moments=(AFTER,),
    ),
    BrokenHost(
        "no carrier",
        carrier("down"),
        "no-carrier",
        ("eth1 has no carrier", "EC2 is detaching it", "nothing on this host mends that"),
        f"aws ec2 attach-network-interface --network-interface-id {ENI1} "
        "--instance-id [-A-Za-z0-9]+ --device-index 1 "
        "# if EC2 still has it attached: detach it first",
        fact="kernel no-carrier",
        doctor=Finding("no-carrier", "has no carrier: perhaps the ENI was detached by force."),
        mend=on_ec2(carrier("up")),
        moments=(AFTER,),
    ),
    BrokenHost(
        "e: somebody keeps removing rules",
        started(FLUSHES),
        "fought-over",
        ("was removed", "name port id", "perhaps ip (child of sh, pid "),
        "ps -wwfp [0-9]+ # sh runs ip: stop or configure it",
        fact="its facts are complete",
        doctor=Finding("fought-over", "perhaps ip (child of sh, pid "),
        mend=stop_who_removes,
        dead=(),  # but for moments
        moments=(AFTER,),
        wrapper=SHORT_FIGHTS,
        harms_primary=True,
    ),
    BrokenHost(
        "a program keeps removing rules",
        started((sys.executable, "-c", DELETES)),
        "fought-over",
        ("was removed", "name port id", "perhaps python"),
        "sudo kill [0-9]+ # python.*",
        fact="its facts are complete",
        doctor=Finding("fought-over", "perhaps python"),
        dead=(),
        moments=(AFTER,),
        wrapper=SHORT_FIGHTS,
        harms_primary=True,
    ),
    BrokenHost(
        "o: IMDS never lists the MAC",
        nothing,
        "mac-unlisted",
        (f"IMDS does not list the MAC {ETH1.mac}; did EC2 attach this interface?",),
        "sudo nicwatchd release eth1 # if EC2 has not attached it: "
        f"aws ec2 describe-network-interfaces --filters Name=mac-address,Values={ETH1.mac}",
        fact="does not list its MAC; asked",
        doctor=Finding(
            "mac-unlisted", f"eth1, IPv4 and IPv6: IMDS does not list the MAC {ETH1.mac}"
        ),
        then=ec2_attaches_it,
        enis=(replace(ETH1, steps=(Step(listed=False),)),),
        config=settings(QUICK, expect=["ipv4", "ipv6"]),  # else it is no ENI after a while
        moments=(BEFORE,),
    ),
    BrokenHost(
        "i: an address on two ENIs",
        two_enis_have_it,
        "held-elsewhere",
        ("IMDS lists 10.0.2.11 here too", "kept on eth1"),
        "aws ec2 unassign-private-ip-addresses --private-ip-addresses 10.0.2.11 "
        f"--network-interface-id {ENI2}",
        fact="IMDS local-ipv4s 10.0.2.12, 10.0.2.11",
        doctor=Finding("held-elsewhere", "IMDS lists 10.0.2.11 here too, but it is kept on eth1"),
        mend=on_ec2(eth2_gives_it_up),
        on="eth2",
        dead=(),
        enis=(ETH1, ETH2),
        moments=(AFTER,),
    ),
    BrokenHost(
        "IPv6 is switched off by sysctl",
        sysctl({"ipv6/conf/eth1/disable_ipv6": "1"}),
        "ipv6-off",
        ("IPv6 is off by the sysctl net.ipv6.conf.eth1.disable_ipv6",),
        "sudo sysctl -w net.ipv6.conf.eth1.disable_ipv6=0",
        fact="kernel no-ipv6",
        doctor=Finding("ipv6-off", "IPv6 is off on eth1, but EC2 has 2001:db8:ec2:2::11 for it."),
        where=Where.NOTES,
        is_well=True,
        dead=ADDRESSES[1:],
        moments=(AFTER,),
    ),
    BrokenHost(
        "an MTU too small for IPv6",
        ip("link set dev eth1 mtu 1200"),
        "ipv6-off",
        ("the link's MTU is 1200, and IPv6 needs 1280",),
        "sudo ip link set dev eth1 mtu 9001",
        fact="kernel no-ipv6",
        doctor=Finding("mtu", "the MTU of eth1 is 1200: below 1280 the link has no IPv6."),
        where=Where.NOTES,
        is_well=True,
        dead=ADDRESSES[1:],
        moments=(AFTER,),
    ),
    BrokenHost(
        "an address whose check for duplicates does not end",
        stuck_in_dad,
        "address-tentative",
        ("2001:db8:ec2:2::11 is tentative", "duplicates"),
        "sudo ip -6 addr del 2001:db8:ec2:2::11/128 dev eth1; "
        "sudo ip -6 addr add 2001:db8:ec2:2::11/128 dev eth1 nodad",
        fact="tentative 2001:db8:ec2:2::11: it cannot be used yet",
        doctor=Finding("address-tentative", "eth1 waits for IPv6: 2001:db8:ec2:2::11 is tentative"),
        dead=ADDRESSES[1:],
        moments=(BEFORE,),
    ),
    BrokenHost(
        "m: a container's port on the ENI's address",
        publish,
        "published-port",
        ("port 8080", "which a container publishes", "the answers leave by the primary"),
        'forwarded = "connmark" in the settings, then: sudo systemctl reload nicwatchd',
        fact="IPv4: degraded",
        doctor=Finding(
            "published-port",
            f"tcp port {PUBLISHED} -> 172.18.0.2 does not answer on 10.0.2.11 (eth1)",
            r"(?s)sudo mkdir.*forwarded = \"connmark\".*sudo systemctl reload nicwatchd",
        ),
        mend=settings_by_doctor("published-port"),
        prepare=container,
        port=PUBLISHED,
    ),
    BrokenHost(
        "strict reverse-path filters",
        sysctl({f"ipv4/conf/{name}/rp_filter": "1" for name in ("all", "default", "eth0")}),
        "strict-filter",
        ("reverse-path filter is strict", "drops the IPv4 calls"),
        "sudo sysctl -w net.ipv4.conf.all.rp_filter=2",
        fact="(rp_filter = 1)",
        doctor=Finding("rp-filter", "the reverse-path filter of eth0 is strict"),
        prepare=chain(container, publish),
        dead=ADDRESSES[:1],
        port=PUBLISHED,
        config=CONNMARK,
        moments=(AFTER,),
    ),
    BrokenHost(
        "nft is not installed",
        nothing,
        "nft-missing",
        ("`nft` is not installed", "do not answer"),
        "sudo apt install nftables, or sudo dnf install nftables",
        fact="IPv4: degraded",
        doctor=Finding("nft-missing", "the program `nft` is not installed"),
        mend=show_nft,
        prepare=chain(container, publish),
        port=PUBLISHED,
        config=CONNMARK,
        wrapper=("unshare", "-m", "sh", "-c", NFT_HIDDEN, "sh"),
        moments=(BEFORE,),
    ),
    BrokenHost(
        "n: the default route by the new ENI, the primary left alone",
        ip(
            "link set eth1 up",
            "route add default via 10.0.2.1 dev eth1 metric 100 onlink",
            "-6 route add ::/0 via fe80:ec2::1 dev eth1 metric 100",
        ),
        "leaves-elsewhere",
        ("answers nobody", "leave by eth1 instead of eth0, by a route of main"),
        "sudo ip (-6 )?route del default dev eth1",
        fact="kernel DHCP 10.0.1.10",
        doctor=Finding(
            "leaves-elsewhere", "eth0, IPv4: 10.0.1.10 answers nobody", besides=("new-subnet",)
        ),
        on="eth0",
        dead=OF_PRIMARY,
        config=LEAVE,
        harms_primary=True,
    ),
    BrokenHost(
        "nb: hosts of the new subnet and the primary, left alone",
        ip("link set eth1 up", *both("route add {net} dev eth1 metric 10", net=SUBNETS)),
        "leaves-elsewhere",
        ("answers no host of 10.0.2.0/24", "leave by eth1 instead of eth0, by a route of main"),
        'primary = "protect" in the settings, then: sudo systemctl reload nicwatchd',
        fact="kernel DHCP 10.0.1.10",
        doctor=Finding(
            "new-subnet",
            "hosts in 10.0.2.0/24 no longer reach 10.0.1.10",
            '(?s)sudo mkdir.*primary = "protect".*sudo systemctl reload nicwatchd',
        ),
        mend=settings_by_doctor("new-subnet"),
        on="eth0",
        dead=OF_PRIMARY,
        from_far=False,
        config=LEAVE,
        harms_primary=True,
    ),
)
