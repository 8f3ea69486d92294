"""What the status of an interface comes to, for the commands that judge by it.

It takes the JSON of any daemon of v1: one that is older has no keys for the health, and is judged
by the state, as it was then. A document of the journal has no host.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Document: TypeAlias = dict[str, Any]  # JSON, as served

FAMILIES: Final = {"ipv4": "IPv4", "ipv6": "IPv6"}
SETTLED: Final = ("applied", "ignored")
WORKING: Final = "working"
NOT_HAD: Final = ("absent", "off")  # verdicts on the facts: the ENI does not have the family


def families(interface: Document) -> dict[str, Document]:
    """The families that the daemon told anything of, by their name for people."""
    parts = ((label, interface.get(key)) for key, label in FAMILIES.items())
    return {label: part for label, part in parts if part}


def health(interface: Document) -> str | None:
    """Whether it works: the worst of its families; None: left alone, unknown, or not told."""
    told: str | None = interface.get("health")
    return told


def is_judged(interface: Document) -> bool:
    """Whether it counts among those that work or do not."""
    return health(interface) is not None or interface["state"] != "ignored"


def works(interface: Document) -> bool:
    """Whether nothing is amiss with it. What is left alone is well."""
    told = health(interface)
    if told is not None:
        return told == WORKING
    return interface["state"] in SETTLED and not interface.get("fought_over")


def changed(interface: Document) -> float:
    """When its state, or its health, became what it is (Unix epoch)."""
    parts = families(interface).values()
    times = [interface["since"], *(part.get("health_since") or 0.0 for part in parts)]
    return float(max(times))


def is_well(document: Document) -> bool:
    """Whether the whole host is: it is ready, every interface works, no problem of the daemon."""
    is_ready = document.get("ready", True) and all(map(works, document["interfaces"]))
    return bool(is_ready) and not document.get("problems")


def find(interfaces: list[Document], target: str) -> Document | None:
    """The interface with this name, MAC, ENI id, address, or delegated prefix around the address.

    Of two links with one name or MAC, the first.
    """
    wanted = target.strip().lower()
    for each in interfaces:
        if wanted in (each["name"].lower(), each["mac"], each.get("eni")):
            return each
    address = normal(target)
    if address is None:
        return None
    has = (each for each in interfaces if address in addresses(each))
    holds = (each for each in interfaces if prefix_of(each, address))
    return next(has, None) or next(holds, None)


def normal(target: str) -> str | None:
    """An address as the daemon writes it; None if it is no address."""
    from ipaddress import ip_address  # only here: `status` without a target needs none

    try:
        return str(ip_address(target.strip().strip("[]")))
    except ValueError:
        return None


def addresses(interface: Document) -> list[str]:
    """All addresses that are the ENI's, of both families, each once."""
    keys = ("addresses", "answering", "silent", "added")
    parts = families(interface).values()
    return list(dict.fromkeys(ip for part in parts for key in keys for ip in part.get(key, ())))


def prefix_of(interface: Document, address: str) -> str | None:
    """The delegated prefix of the ENI that holds an address."""
    from ipaddress import ip_address, ip_network

    ip = ip_address(address)
    for part in families(interface).values():
        for prefix in part.get("prefixes", ()):
            if ip in ip_network(prefix):
                return str(prefix)
    return None
