"""What IMDS lists of one family, and what is amiss with it.

Reads: a reading of IMDS, and the addresses that DHCP configured. Gives: the lists, what of them is
good, and a reason for each list that is missing or damaged, for each item that lies in no subnet,
and for each leased address that the lists do not have.
"""

from __future__ import annotations

from dataclasses import dataclass

from nicwatchd.core.bounds import within
from nicwatchd.core.metadata import KEYS, Absent, EniMetadata, ImdsKey, Unknown, Value
from nicwatchd.core.model import Family, IPAddress, IPNetwork, Reason


@dataclass(frozen=True, slots=True)
class Lists:
    """IMDS's three lists of one family, empty where unknown; the good items lie in a subnet."""

    addresses: tuple[IPAddress, ...]
    prefixes: tuple[IPNetwork, ...]
    subnets: tuple[IPNetwork, ...]
    good_addresses: tuple[IPAddress, ...]
    good_prefixes: tuple[IPNetwork, ...]

    @classmethod
    def of(cls, family: Family, imds: EniMetadata) -> Lists:
        """What a reading, or the memory of several, has of this family."""
        said = imds.of(family)
        addresses = said.addresses.value if isinstance(said.addresses, Value) else ()
        prefixes = said.prefixes.value if isinstance(said.prefixes, Value) else ()
        subnets = said.cidrs.value if isinstance(said.cidrs, Value) else ()
        return cls(
            addresses,
            prefixes,
            subnets,
            good_addresses=tuple(ip for ip in addresses if within(ip, subnets)),
            good_prefixes=tuple(prefix for prefix in prefixes if within(prefix, subnets)),
        )

    @property
    def cidrs(self) -> str:
        """The subnets, for people."""
        return ", ".join(map(str, self.subnets))


def missing(family: Family, imds: EniMetadata) -> tuple[Reason, ...]:
    """A reason for each list that is missing or could not be read."""
    said = imds.of(family)
    reasons = [
        Reason(f"unread-{key}", _unread(key, answer))
        for key, answer in imds.lists(family)
        if isinstance(answer, Unknown)
    ]
    if isinstance(said.addresses, Absent) and not isinstance(said.prefixes, Value):
        key = KEYS[family]["addresses"]
        reasons.append(Reason(f"no-{key}", f"IMDS lists no {key} yet"))
    if isinstance(said.cidrs, Absent):
        key = KEYS[family]["cidrs"]
        reasons.append(Reason(f"no-{key}", f"IMDS lists no {key} yet"))
    return tuple(reasons)


def damaged(family: Family, imds: EniMetadata) -> tuple[Reason, ...]:
    """The lists of which a part was refused: what else they have is not known."""
    return tuple(
        Reason(f"unread-{key}", f"{key}: a part of it was refused, so it may lack something")
        for key, answer in imds.lists(family)
        if isinstance(answer, Value) and not answer.whole
    )


def _unread(key: ImdsKey, answer: Unknown) -> str:
    return answer.why if answer.why.startswith(key.name) else f"{key}: {answer.why}"


def strays(family: Family, said: Lists) -> tuple[Reason, ...]:
    """A reason for each address and prefix that lies in none of the subnets."""
    if not said.subnets:
        return ()
    good = {*said.good_addresses, *said.good_prefixes}
    return tuple(
        Reason(
            f"outside-subnet-{family.label.lower()}",
            f"{item} is outside the subnet's CIDRs ({said.cidrs}); nicwatchd does not use it",
        )
        for item in (*said.addresses, *said.prefixes)
        if item not in good
    )


def unlisted_leases(
    family: Family, said: Lists, leases: tuple[IPAddress, ...]
) -> tuple[Reason, ...]:
    """A reason for each leased address that IMDS does not list: it lags, or the lease is old."""
    key = KEYS[family]["addresses"]
    code = f"lease-unlisted-{family.label.lower()}"
    return tuple(
        Reason(code, f"DHCP configured {ip}, but IMDS does not list it in {key}")
        for ip in leases
        if ip not in said.addresses
    )


def strange_leases(
    family: Family, said: Lists, strangers: tuple[IPAddress, ...]
) -> tuple[Reason, ...]:
    """A note for each leased address of another network than IMDS names (`strangers`)."""
    return tuple(
        Reason(
            f"lease-outside-subnet-{family.label.lower()}",
            f"DHCP configured {ip}, which is in none of the subnet's CIDRs ({said.cidrs}): its"
            " traffic is left to main",
        )
        for ip in strangers
    )
