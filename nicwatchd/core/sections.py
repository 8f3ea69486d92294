"""The settings of one interface: the general ones, as its `[[interface]]` section changes them.

The first section that matches counts. Whether one matches may not be known yet: IMDS tells the ids
of an ENI late, and only to who asks; and udev renames a link some milliseconds after it appears, so
until udev is done with it a pattern for names says nothing, in `exclude` neither. Until then the
interface is not touched: nothing is programmed for it, and nothing that stands is removed. An id
that IMDS does not list is as unknown as one that it did not answer for, since every ENI has all of
them.

Reads: the host's policy, the link, whether udev may still rename it, and what IMDS told of the ENI.
Gives: the interface's policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from nicwatchd.core.metadata import ENI_KEYS, Answer, EniMetadata, Value
from nicwatchd.core.model import Link, Reason
from nicwatchd.core.policy import AddressMode, Policy, Section

# What a section can match by that only IMDS knows, and the field of a reading that has it.
ID_FIELDS: Final = {
    "eni": "interface_id",
    "subnet": "subnet_id",
    "vpc": "vpc_id",
    "security_group": "security_groups",
}
ID_KEYS: Final = {
    name: next(key for key in ENI_KEYS if key.field == field) for name, field in ID_FIELDS.items()
}


@dataclass(frozen=True, slots=True)
class Own:
    """What applies to one interface.

    `awaits`: why its section is not known yet; then `policy` only keeps it ours to ask about.
    `unnamed`: it waits for udev to be done with the link's name.
    `notes`: what is worth knowing about how the policy came about.
    """

    policy: Policy
    awaits: Reason | None = None
    unnamed: bool = False
    notes: tuple[Reason, ...] = ()


def own_policy(
    policy: Policy,
    link: Link,
    told: EniMetadata,
    multus: tuple[str, ...] = (),
    *,
    named: bool = True,
) -> Own:
    """What applies to one interface.

    `multus` are the configuration files of Multus; `named`: udev does not rename the link any more.
    """
    if policy.every_link:  # a release, which asks no IMDS and leaves nobody out
        return Own(policy)
    for section in policy.sections:
        if not _may_match(section, link, told, named=named):
            continue
        if reason := _unknown(section, told, named=named):
            # Somebody else's, perhaps; but only IMDS can tell, so it has to be asked.
            unnamed = section.name is not None and not named
            return Own(replace(policy, manage=True), reason, unnamed)
        own = _beside_multus(_applied(policy, section), section, multus)
        break
    else:
        own = _beside_multus(policy, None, multus)
    return own if named else _unnamed(own)


def keys_named(sections: Iterable[Section]) -> frozenset[str]:
    """The keys of IMDS that tell whether one of these sections matches an interface."""
    every = list(sections)
    return frozenset(
        key.name for name, key in ID_KEYS.items() if any(getattr(each, name) for each in every)
    )


def _ids(section: Section, told: EniMetadata) -> Iterator[tuple[str, str, Answer[Any]]]:
    """Each id that the section matches by: what it is called, its value, and IMDS's answer."""
    wanted = ((name, getattr(section, name)) for name in ID_KEYS)
    return (
        (name, value, told.answer(ID_KEYS[name])) for name, value in wanted if value is not None
    )


def _unknown(section: Section, told: EniMetadata, *, named: bool) -> Reason | None:
    """Why it is not known yet whether a section that may match does."""
    ids = _ids(section, told)
    unknown = [str(ID_KEYS[name]) for name, wanted, said in ids if not _has(said, wanted)]
    awaited = ["IMDS tells its " + " and ".join(unknown)] if unknown else []
    if section.name is not None and not named:
        awaited.append("udev is done with the link, which it may rename")
    if not awaited:
        return None
    text = f"whether the settings of {section} apply to it is known once "
    return Reason("section-unknown", text + ", and ".join(awaited))


def _unnamed(own: Own) -> Own:
    """What applies to a link that udev may still rename: perhaps `exclude` has its name then."""
    patterns = tuple(pattern for pattern in own.policy.exclude if not _is_mac(pattern))
    if own.policy.manage is not None or not patterns:
        return own
    macs = tuple(filter(_is_mac, own.policy.exclude))
    text = "whether the settings exclude it is known once udev is done with the link, which it may "
    reason = Reason("name-unknown", f"{text}rename ({', '.join(patterns)})")
    return replace(own, policy=replace(own.policy, exclude=macs), awaits=reason, unnamed=True)


def _is_mac(pattern: str) -> bool:
    return ":" in pattern  # which the kernel has in no name


def _may_match(section: Section, link: Link, told: EniMetadata, *, named: bool) -> bool:
    """Whether nothing that is known says that the section is for other interfaces."""
    if named and section.name is not None and not fnmatchcase(link.name, section.name):
        return False
    if section.mac is not None and section.mac != link.mac:
        return False
    return not any(_lacks(said, wanted) for _, wanted, said in _ids(section, told))


def _has(said: Answer[Any], wanted: str) -> bool:
    """Whether IMDS named this id."""
    return isinstance(said, Value) and wanted in _listed(said.value)


def _lacks(said: Answer[Any], wanted: str) -> bool:
    """Whether IMDS named others; a list with a damaged line may have any."""
    return isinstance(said, Value) and said.whole and wanted not in _listed(said.value)


def _listed(said: str | tuple[str, ...]) -> tuple[str, ...]:
    return said if isinstance(said, tuple) else (said,)


def _applied(policy: Policy, section: Section) -> Policy:
    """The policy as the section changes it."""
    families = policy.families if section.families is None else section.families
    expect = policy.expect if section.expect is None else section.expect
    leave = section.leave_addresses
    return replace(
        policy,
        manage=section.manage,
        section=section,
        addresses=section.addresses or policy.addresses,
        leave_addresses=policy.leave_addresses if leave is None else leave,
        rules=section.rules or policy.rules,
        families=families,
        expect=expect & families,
    )


def _beside_multus(policy: Policy, section: Section | None, multus: tuple[str, ...]) -> Own:
    """What applies where Multus may have given the ENI's addresses to pods.

    Nothing in the kernel tells which these are: they may be in other namespaces. Only what the
    operator says of this very interface counts for more.
    """
    said = section is not None and section.addresses is not None
    if not multus or said or policy.addresses is AddressMode.NONE:
        return Own(policy)
    text = f"pods may have its addresses, since Multus is configured ({', '.join(multus)}): "
    text += "nicwatchd adds none to the link, unless an [[interface]] section says `addresses`"
    return Own(replace(policy, addresses=AddressMode.NONE), notes=(Reason("multus", text),))
