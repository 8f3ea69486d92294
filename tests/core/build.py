"""Short words for facts, so that a test's table reads like the situation that it is about."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final

from nicwatchd.core.metadata import (
    ABSENT,
    Absent,
    Answer,
    EniMetadata,
    FamilyMetadata,
    Unknown,
    Value,
)
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_BOOT,
    RTPROT_KERNEL,
    RTPROT_RA,
    SCOPE_LINK,
    Address,
    Family,
    IPAddress,
    IPNetwork,
    Link,
    Route,
)

V4, V6 = Family.V4, Family.V6
MAC: Final = "02:00:00:00:00:02"
PRIMARY: Final = "02:00:00:00:00:01"
ETH1: Final = Link(3, MAC, "eth1", up=True, driver="ena")
ETH0: Final = Link(2, PRIMARY, "eth0", up=True, driver="ena")
TABLE: Final = 1_000_959
ERROR: Final = Unknown("503")
IPV4, IPV6 = "10.0.2.10", "2001:db8:0:2::10"
NET4, NET6 = "10.0.2.0/24", "2001:db8:0:2::/64"


def ip(text: str) -> IPAddress:
    return ip_address(text)


def ips(*texts: str) -> tuple[IPAddress, ...]:
    return tuple(ip_address(text) for text in texts)


def net(text: str) -> IPNetwork:
    return ip_network(text)


def nets(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(text) for text in texts)


def permanent(text: str, index: int = 3, **more: Any) -> Address:
    """An operator's address: `10.0.2.10/24`."""
    interface = ip_interface(text)
    return Address(index, interface.ip, interface.network.prefixlen, **more)


def lease(text: str, index: int = 3, **more: Any) -> Address:
    """An address that a DHCP client brought."""
    return permanent(text, index, dynamic=True, **more)


def added(text: str, index: int = 3) -> Address:
    """An address that nicwatchd added: an IPv6 one is never preferred as a source."""
    v6 = ip_interface(text).version == 6
    return permanent(text, index, deprecated=v6, protocol=PROTOCOL)


def on_link(dst: str, index: int = 3, protocol: int = RTPROT_KERNEL) -> Route:
    """The main table's route to a prefix on a link."""
    network = net(dst)
    v4 = network.version == 4
    scope, metric = (SCOPE_LINK, 0) if v4 else (0, 256)
    return Route(network, MAIN_TABLE, index, protocol, scope=scope, metric=metric)


def ra_default(gateway: str = "fe80::1", index: int = 3) -> Route:
    return Route(net("::/0"), MAIN_TABLE, index, RTPROT_RA, ip(gateway), metric=1024)


def static(dst: str, via: str | None = None, index: int = 3, **more: Any) -> Route:
    """An operator's route of the main table."""
    more.setdefault("protocol", RTPROT_BOOT)
    return Route(net(dst), MAIN_TABLE, index, gateway=ip(via) if via else None, **more)


Said = str | Absent | Unknown  # what IMDS says of a key: items with spaces between, or an answer


def _addresses(said: Said) -> Answer[tuple[IPAddress, ...]]:
    return Value(ips(*said.split())) if isinstance(said, str) else said


def _networks(said: Said) -> Answer[tuple[IPNetwork, ...]]:
    return Value(nets(*said.split())) if isinstance(said, str) else said


def family(
    addresses: Said = ABSENT, prefixes: Said = ABSENT, cidrs: Said = ABSENT
) -> FamilyMetadata:
    """What IMDS says of one family; it has no other list."""
    said: dict[str, Answer[Any]] = dict.fromkeys(FamilyMetadata.__dataclass_fields__, ABSENT)
    said |= {"addresses": _addresses(addresses), "prefixes": _networks(prefixes)}
    return FamilyMetadata(**said | {"cidrs": _networks(cidrs)})


NONE: Final = family()
FULL4: Final = family(IPV4, cidrs=NET4)
FULL6: Final = family(IPV6, cidrs=NET6)


def eni(v4: FamilyMetadata = NONE, v6: FamilyMetadata = NONE, **more: Any) -> EniMetadata:
    """One good reading; the directory lists each key that is not ABSENT."""
    more.setdefault("mac", Value(MAC))
    reading = EniMetadata(v4=v4, v6=v6, **more)
    if "directory" in more:
        return reading
    answers = (pair for which in Family for pair in reading.lists(which))
    listed = {key.name for key, answer in answers if not isinstance(answer, Absent)}
    return replace(reading, directory=Value(frozenset({"mac", *listed})))


UNLISTED: Final = EniMetadata(
    directory=ABSENT, mac=ABSENT, interface_id=ABSENT, subnet_id=ABSENT, v4=NONE, v6=NONE
)
UNREAD: Final = EniMetadata(directory=ERROR, mac=ERROR)
