"""cloud-init's hotplug: a udev rule, which has it configure the network anew at each new link.

Only that ends. What cloud-init wrote (under netplan the file 50-cloud-init.yaml, with the primary's
DHCP in it) stays, and so do its rules of interfaces that are there: they come before nicwatchd's,
and route the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from nicwatchd.cli.migration.findings import Finding, Ground
from nicwatchd.cli.migration.steps import Step
from nicwatchd.cli.migration.system import System

TOOL: Final = "cloud-init hotplug"
RULE: Final = "*cloud-init-hook-hotplug.rules"
DIRECTORIES: Final = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d")
# cloud-init reads these in order, and the last one wins.
SETTINGS: Final = "/etc/cloud/cloud.cfg.d/zz-nicwatchd.cfg"
USER_DATA: Final = "/var/lib/cloud/instance/user-data.txt"
NO_DHCP: Final = (
    "under netplan it was what started DHCP on a new interface: nicwatchd adds the addresses "
    "from IMDS, but no DNS servers and no MTU from a lease"
)


def find(ground: Ground) -> Finding | None:
    """What there is of it; None if it is not at work."""
    system = ground.system
    rules = list(_rules(system))
    if not rules:
        return None
    refusals = []
    if ground.addresses == "none":
        refusals.append(
            "under netplan it is what starts DHCP on a new interface, and with the setting "
            '`addresses = "none"` nicwatchd would not add the addresses either'
        )
    notes = [
        "what cloud-init wrote stays as it is, its rules too: they route as nicwatchd's do",
        NO_DHCP,
    ]
    if "hotplug" in (system.read(USER_DATA) or ""):
        notes.append("the user data asks for hotplug: a new instance of this image would have it")
    return Finding(
        TOOL,
        tuple(f"its udev rule {rule}" for rule in rules),
        tuple(_steps(system, rules)),
        tuple(notes),
        tuple(refusals),
    )


def _rules(system: System) -> Iterator[str]:
    """Its udev rules that are in force: an empty file masks those of directories behind it."""
    seen: set[str] = set()
    for directory in DIRECTORIES:
        for name in system.find(directory, RULE):
            file = name.rsplit("/", 1)[1]
            if file not in seen and (system.read(name) or "").strip():
                yield name
            seen.add(file)


def _steps(system: System, rules: list[str]) -> Iterator[Step]:
    kept = ", ".join(kept_events(system))
    yield Step(
        "file",
        f"write {SETTINGS}: updates: {{network: {{when: [{kept}]}}}}",
        "so that cloud-init does not install its rule again",
        {
            "path": SETTINGS,
            "text": "# Written by `nicwatchd migrate`: hotplug is off.\n"
            f"updates: {{network: {{when: [{kept}]}}}}\n",
        },
    )
    for rule in rules:
        is_theirs = rule.startswith(DIRECTORIES[0])
        path = rule if is_theirs else f"{DIRECTORIES[0]}/{rule.rsplit('/', 1)[1]}"
        what = f"remove {rule}" if is_theirs else f"mask {rule} with an empty {path}"
        args = {"path": path, "text": None if is_theirs else ""}
        yield Step("file", what, "it has cloud-init run at each new interface", args)
    reload = [["udevadm", "control", "--reload-rules"]]
    why = "udev reads its rules again"
    yield Step("command", "udevadm control --reload-rules", why, {"do": reload, "undo": reload})


def kept_events(system: System) -> list[str]:
    """When else cloud-init configures the network, as its last settings that say so have it."""
    names = ["/etc/cloud/cloud.cfg", *system.find("/etc/cloud/cloud.cfg.d", "*.cfg")]
    events: list[str] = []
    for name in names:
        text = system.read(name) or ""
        # A list in brackets, or an item in each line.
        found = re.search(r"(?m)^[^#\n]*\bwhen:\s*(\[[^\]]*\]|(?:\n\s*-\s*\S+)+)", text)
        if "updates" in text and found:
            events = re.findall(r"[a-z][a-z-]*", found[1])
    return [event for event in events if event != "hotplug"]
