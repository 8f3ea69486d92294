"""What can be set, its defaults, and what each setting means: the text below each field.

The shipped `nicwatchd.toml`, its manual page and the page of the site are made from these texts
(`python -m tests.docs.generate`). `nicwatchd.service.settings` reads the files.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.model import (
    ALL_BITS,
    LINK_GROUP,
    RULE_PRIORITY,
    TABLE_BASE,
    TABLE_STEP,
    Numbers,
)
from nicwatchd.core.policy import (
    DEFAULT_MASK,
    AddressMode,
    Coexist,
    Forwarded,
    Ipv6Router,
    MtuMode,
    Policy,
    PrimaryMode,
    RuleMode,
)
from nicwatchd.imds.client import ImdsOptions
from nicwatchd.service.section_settings import (
    STRICT,
    TOLD,
    AddressOrCidr,
    Families,
    FamilyName,
    InterfaceSection,
    cidr,
    contradictions,
    expects_too_much,
    named,
)

Seconds = Annotated[float, Field(gt=0, le=86_400)]


Cidr = Annotated[IPv4Network | IPv6Network, PlainValidator(cidr)]


def _endpoint(text: str) -> str:
    """An endpoint is a scheme, a host and perhaps a port; the client adds the rest."""
    try:
        url = urlsplit(text)
        good = bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        good = False
    if not good or text != f"http://{url.netloc}" or "@" in text:
        raise ValueError("a URL without a path, such as 'http://169.254.169.254'")
    return text


Endpoint = Annotated[str, AfterValidator(_endpoint)]


def _mask(mask: int) -> int:
    """At least two bits, side by side: with one, there is nothing between none and all of them."""
    lowest = mask & -mask
    if not 0 < mask <= ALL_BITS or (mask + lowest) & mask or mask == lowest:
        raise ValueError("two or more bits side by side, such as 0x7f000000")
    return mask


class _Section(BaseModel):
    model_config = STRICT


class Interfaces(_Section):
    """Which interfaces are managed, and how."""

    drivers: list[str] = ["ena", "ixgbevf", "vif"]
    """nicwatchd manages the interfaces of these drivers: those of EC2, past and present."""
    exclude: list[str] = []
    """Interfaces to leave alone: names (shell patterns such as "eth1*") or MACs."""
    exclude_subnets: list[Cidr] = []
    """Interfaces in these subnets are left alone: ["10.0.9.0/24", "2001:db8:9::/64"]. A link that
    is down is set up only once IMDS has told its subnets of the families that are named here.
    """
    families: Families = ["ipv4", "ipv6"]
    """Families to use on EC2 interfaces. One that is not listed here is left alone: nicwatchd waits
    for nothing of it, programs nothing of it, and removes what it programmed before.
    """
    expect: list[FamilyName] = []
    """Families that every interface should have ("ipv4", "ipv6"). nicwatchd waits for them however
    long it takes. A family that is not listed here counts as absent if there is no evidence for it.
    """
    addresses: Literal["auto", "all", "none"] = "auto"
    """Which addresses to add of those that IMDS lists and the interface lacks. "auto": all
    of them; if address_wait is set, the first one only if no DHCP client configures it within that
    time, in IPv4 the others after it, in IPv6 at once. "all": all of them at once, whatever
    address_wait is. "none": none.
    """
    leave_addresses: list[AddressOrCidr] = []
    """Addresses to leave to others: ["10.0.2.50", "2001:db8:2::/80"]. nicwatchd never puts them on
    a link, although IMDS lists them: a cluster manager does, or a container has them. What is sent
    from them still leaves by their interface.
    """
    rules: Literal["auto", "subnet", "address"] = "auto"
    """How to select what an interface's addresses send. "address": one rule for each address; it
    touches no packet that is not the interface's own. "subnet": one rule for each subnet in which
    no other interface of this host has an address; it also matches what a proxy on this host sends
    in the name of other hosts of the subnet. "auto": by address up to 4 addresses of a family, by
    subnet beyond.
    """
    ipv6_router: Literal["ec2", "ra"] = "ec2"
    """The IPv6 router to use. "ec2": fe80:ec2::1, which answers in every subnet. "ra": the router
    that advertises itself on the link.
    """
    coexist: Literal["beside", "force"] = "beside"
    """Interfaces that a container network (VPC CNI, Cilium) owns. "beside": leave them alone.
    "force": manage them all the same.
    """
    mtu: Literal["ec2", "leave"] = "leave"
    """The MTU of a link that nicwatchd sets up, where no DHCP client does. "leave": the kernel's,
    1500. "ec2": 9001 on the link, if its driver takes that, and 1500 for the default route.
    """
    kernel_proof: bool = True
    """Program what DHCP and router advertisements prove before IMDS lists it."""
    forwarded: Literal["off", "connmark"] = "off"
    """Ports that containers publish on the addresses of interfaces (Docker, Podman, kube-proxy).
    "off": what a container answers leaves as main says, so such a port answers on the primary
    interface only. "connmark": an nftables table of nicwatchd's own, `inet nicwatchd`, marks
    connections with the interface that they came in by, and the answers leave by that. Needs the
    program nft, and reverse-path filters that are not strict: rp_filter = 2, and with firewalld
    IPv6_rpfilter=loose.
    """
    forwarded_mask: Annotated[int, AfterValidator(_mask)] = DEFAULT_MASK
    """The bits of those marks that are nicwatchd's, side by side; all others stay as they are.
    There are two marks fewer than the bits can count: with 7 bits, marks for 126 interfaces.
    """

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        expects_too_much(self.expect, self.families)
        return self


class Retry(_Section):
    """How often IMDS is asked, and how long to wait for what. Seconds, except for the counts."""

    first_interval: Seconds = 0.12
    """nicwatchd polls IMDS about a new interface at this interval ..."""
    first_for: Seconds = 10.0
    """... until the interface has this age, ..."""
    interval: Seconds = 0.25
    """... then at this one ..."""
    fast_for: Seconds = 35.0
    """... until the interface has this age. Then each interval is `growth` times the one before, up
    to `cap`.
    """
    growth: Annotated[float, Field(ge=1, le=10)] = 2.0
    cap: Seconds = 5.0
    keep: Seconds = 60.0
    """This schedule applies up to this age even if nothing is missing, because lists arrive in
    parts.
    """
    patience: Seconds = 180.0
    """After waiting for this long, the interface counts as overdue: nicwatchd writes a warning and
    polls only at the refresh interval. It never stops polling.
    """
    refresh: Seconds = 60.0
    """The poll interval of overdue interfaces, and while IMDS does not answer. About an interface
    that waits for nothing, 15 requests are sent in this time: for addresses most often. On a host
    with more than 16 interfaces, they share what 16 may ask.
    """
    settling: Seconds = 30.0
    """If there is no evidence for a family this long after IMDS first listed the interface, the
    family counts as absent, until there is some.
    """
    address_wait: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """How long to wait, from the moment a link appears, for a DHCP client to configure its first
    address. 0: not at all, but for NetworkManager (5 s) and dhcpcd (10 s, in IPv4, before an
    interface's other addresses); a client that comes later takes the address over.
    """
    doubts: Annotated[int, Field(ge=1, le=100)] = 3
    """A known address, prefix or subnet is given up once IMDS has left it out this many times in a
    row, over at least the time span `doubt_span`.
    """
    doubt_span: Seconds = 30.0


class Imds(_Section):
    """How to reach IMDS, and how many requests the whole host may send."""

    endpoints: Annotated[list[Endpoint], Field(min_length=1)] = [
        "http://169.254.169.254",
        "http://[fd00:ec2::254]",
    ]
    """The addresses of IMDS. nicwatchd uses the first that answers, for as long as it does. Changes
    in this section take effect at the next start.
    """
    requests_per_second: Annotated[float, Field(gt=0, le=1000)] = 50.0
    """How many requests nicwatchd may send, for all interfaces together: this rate, and after a
    quiet time `burst` at once. EC2 itself allows 1024 packets a second, which DNS and NTP share.
    """
    burst: Annotated[int, Field(ge=1, le=10_000)] = 500

    def options(self) -> ImdsOptions:
        """The options for the IMDS client."""
        return ImdsOptions(
            endpoints=tuple(self.endpoints),
            budget_rate=self.requests_per_second,
            budget_burst=self.burst,
        )


class KernelNumbers(_Section):
    """Numbers of our rules, tables and link group, for hosts where other software uses the same.

    The limits: our rules must come before main's, at 32766; and a table number, which may be up to
    2^32, is the base plus 256 times the ifindex, of which the last 23 bits count.
    """

    priority: Annotated[int, Field(ge=1, le=RULE_PRIORITY)] = RULE_PRIORITY
    """The priority of every rule. Smaller numbers win; the rule for main is at 32766. At 32765, all
    rules of others that were added without a priority win, too.
    """
    table_base: Annotated[int, Field(ge=TABLE_BASE, le=2_000_000_000, multiple_of=TABLE_STEP)] = (
        TABLE_BASE
    )
    """The number of an interface's routing table is this base, plus what makes it 255 modulo 256,
    plus 256 times its ifindex. The base is a multiple of 1000000.
    """
    group: Annotated[int, Field(ge=1, le=0x7FFF_FFFF)] = LINK_GROUP
    """The link group of all EC2 interfaces. A group other than 0 that somebody else set is left
    unchanged.
    """


class Settings(_Section):
    """All settings. Those outside of a section are for the host."""

    platform: Literal["auto", "ec2"] = "auto"
    """Manage this host only if its firmware says that it is on EC2 ("auto"), or in any case
    ("ec2"). A change takes effect at the next start.
    """
    primary: Literal["protect", "leave"] = "protect"
    """The primary interface while there are others. "protect": what its addresses send leaves by
    it, whatever a DHCP client or a router advertisement on another interface puts into the main
    table; it gets a table and rules like any other, and its secondary addresses and prefixes work
    like theirs. Its link, its first address and main's routes stay its manager's. "leave": only its
    link group is set.
    """
    egress: Annotated[str, Field(min_length=1, max_length=64)] = "primary"
    """Who carries the host's own traffic, which is bound to no address and no link. "primary":
    while another interface's default route in main would tie with the primary's or win, main has a
    copy of the primary's with a better metric. A name, MAC or ENI id ("eni-0123456789abcdef0"):
    that interface. "leave": main decides. What an operator chose (a default route by a VPN, or with
    the best metric) is left.
    """
    interfaces: Interfaces = Field(default_factory=Interfaces)
    retry: Retry = Field(default_factory=Retry)
    imds: Imds = Field(default_factory=Imds)
    kernel: KernelNumbers = Field(default_factory=KernelNumbers)
    interface: list[InterfaceSection] = []

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        for text in contradictions(self.interface, self.interfaces.families):
            raise PydanticCustomError(TOLD, "{text}", {"text": text})
        return self

    def policy(self) -> Policy:
        """The settings that the core uses for its decisions."""
        of, retry = self.interfaces, self.retry
        return Policy(
            drivers=frozenset(of.drivers),
            exclude=tuple(of.exclude),
            exclude_subnets=tuple(of.exclude_subnets),
            expect=named(of.expect),
            families=named(of.families),
            sections=tuple(each.section() for each in self.interface),
            addresses=AddressMode(of.addresses),
            leave_addresses=tuple(of.leave_addresses),
            rules=RuleMode(of.rules),
            primary=PrimaryMode(self.primary),
            egress=self.egress,
            ipv6_router=Ipv6Router(of.ipv6_router),
            coexist=Coexist(of.coexist),
            mtu=MtuMode(of.mtu),
            kernel_proof=of.kernel_proof,
            forwarded=Forwarded(of.forwarded),
            forwarded_mask=of.forwarded_mask,
            numbers=Numbers(self.kernel.priority, self.kernel.table_base, self.kernel.group),
            schedule=Schedule(
                first_interval=retry.first_interval,
                first_for=retry.first_for,
                interval=retry.interval,
                fast_for=retry.fast_for,
                growth=retry.growth,
                cap=retry.cap,
                keep=retry.keep,
                patience=retry.patience,
                refresh=retry.refresh,
            ),
            settling=retry.settling,
            address_wait=retry.address_wait,
            doubts=retry.doubts,
            doubt_span=retry.doubt_span,
        )
