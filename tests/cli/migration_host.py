"""A host to migrate, for tests: real files under a directory, units and a kernel as data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from nicwatchd.cli.migration.system import Ran, System

PRIMARY, SECOND = "02:00:00:00:00:01", "02:00:00:00:00:02"
TABLE = 1_000_959
FOUND = {"udevadm", "networkctl", "nmcli"}

Hook = Callable[["Host"], None]


def interface(name: str = "eth1", **changes: Any) -> dict[str, Any]:
    """The daemon's status of an applied ENI."""
    return {
        "name": name,
        "mac": SECOND,
        "eni": "eni-0123456789abcdef0",
        "state": "applied",
        "fought_over": False,
        "reasons": [],
        "table": TABLE,
        "ipv4": {"addresses": ["10.0.2.11", "10.0.2.12"], "prefixes": ["10.0.2.64/28"]},
        "ipv6": {"addresses": ["2001:db8:ec2:2::11"], "prefixes": []},
        **changes,
    }


def primary() -> dict[str, Any]:
    """... and of a primary that is left alone."""
    reasons = [{"code": "primary", "text": "it is the primary interface"}]
    left = {"state": "ignored", "reasons": reasons, "eni": "eni-0aaaaaaaaaaaaaaaa"}
    return interface("eth0", mac=PRIMARY, ipv4=None, ipv6=None, **left)


@dataclass
class Host:
    """What `System` sees. `hooks` are what a command does, by its text."""

    root: Path
    status: dict[str, Any]
    rules: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)
    addresses: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    altnames: dict[str, list[str]] = field(default_factory=dict)
    units: dict[str, list[str]] = field(default_factory=dict)  # is-enabled, is-active
    environment: str = ""
    hooks: dict[str, Hook] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)  # commands that fail, by their text
    ran: list[str] = field(default_factory=list)  # commands that change something
    adopted: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)  # what nicwatchd left to the tool that ended
    paused: int = 0

    @classmethod
    def made(cls, root: Path, *interfaces: dict[str, Any]) -> Host:
        """A host whose ENIs nicwatchd has applied, but for what `interfaces` say."""
        status = {
            "idle": None,
            "released": False,
            "problems": [],
            "primary_mac": PRIMARY,
            "interfaces": [primary(), *(interfaces or (interface(),))],
        }
        host = cls(root, status)
        for source in ("10.0.2.11", "10.0.2.12", "10.0.2.64/28", "2001:db8:ec2:2::11"):
            host.add_rule(source, 32765, TABLE, protocol="236")
        for family in (4, 6):
            host.add_default(family, "eth1", TABLE, protocol="236")
        host.addresses = {"eth0": [], "eth1": []}
        return host

    @property
    def system(self) -> System:
        return System(self.root, self._run, self._ask, self._pause)

    # --- what there is -----------------------------------------------------------------------

    def write(self, name: str, text: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def add_rule(self, source: str, priority: int, table: int, protocol: str = "static") -> None:
        net = ip_network(source)
        row = {"priority": priority, "src": str(net.network_address), "table": str(table)}
        row |= {"protocol": protocol, "version": net.version}
        if net.prefixlen != net.max_prefixlen:
            row["srclen"] = net.prefixlen
        self.rules.append(row)

    def add_default(self, family: int, dev: str, table: int, protocol: str = "static") -> None:
        row = {"type": "unicast", "dst": "default", "dev": dev, "table": str(table)}
        self.routes.append({**row, "protocol": protocol, "version": family})

    def add_address(self, link: str, text: str, **more: Any) -> None:
        local, _, length = text.partition("/")
        row = {"local": local, "prefixlen": int(length), "scope": "global", **more}
        self.addresses.setdefault(link, []).append(row)

    def files(self) -> dict[str, str]:
        """All files and links, by name; not the record."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = f"/{path.relative_to(self.root)}"
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file() and not name.startswith("/var/lib/nicwatchd"):
                found[name] = path.read_text()
        return found

    def state(self) -> Any:
        """All that a migration changes and `--undo` puts back."""
        units = {name: list(state) for name, state in self.units.items()}
        rules = sorted(json.dumps(rule, sort_keys=True) for rule in self.rules)
        return self.files(), units, rules, self.altnames

    # --- the seam ----------------------------------------------------------------------------

    def _pause(self, seconds: float) -> None:
        del seconds
        self.paused += 1

    def _ask(self, method: str, path: str) -> Any:
        if method == "POST":
            adopted = parse_qs(urlsplit(path).query)["adopt"]
            self.adopted += adopted
            self.ran.append(f"POST {path}")
            for ip in self.lost & {*adopted}:
                self.add_address("eth1", f"{ip}/32")
        return self.status

    def _run(self, command: tuple[str, ...]) -> Ran:
        text = " ".join(command)
        if text in self.failing:
            return Ran(1, err=f"{text} is broken")
        ran = self._systemctl(command) if command[0] == "systemctl" else self._other(command)
        if text in self.hooks:
            self.hooks[text](self)
        return ran

    def _other(self, command: tuple[str, ...]) -> Ran:
        if command[0] in FOUND:
            self.ran.append(" ".join(command))
            return Ran(0)
        match command:
            case ("ip", "-details", "-json", *what):
                return Ran(0, json.dumps(self._shown(what)))
            case ("ip", "-json", "link", "show"):
                macs = {one["name"]: one["mac"] for one in self.status["interfaces"]}
                rows = [
                    {"ifname": name, "address": mac, "altnames": self.altnames.get(name, [])}
                    for name, mac in macs.items()
                ]
                return Ran(0, json.dumps(rows))
        self.ran.append(" ".join(command))
        return self._change(command)

    def _change(self, command: tuple[str, ...]) -> Ran:
        match command:
            case ("ip", family, "rule", "del", "pref", pref, "from", source, "lookup", table):
                wanted = (int(pref), source.split("/")[0], table, int(family[1:]))
                kept = [r for r in self.rules if _identity(r) != wanted]
                found, self.rules = len(kept) < len(self.rules), kept
                return Ran(0) if found else Ran(2, err="No such file or directory")
            case ("ip", _, "route", "flush", "table", table):
                self.routes = [row for row in self.routes if row["table"] != table]
            case ("ip", "address", "del", address, "dev", link):
                local = address.split("/")[0]
                on = self.addresses[link]
                self.addresses[link] = [row for row in on if row["local"] != local]
                if local in self.adopted:
                    self.add_address(link, f"{local}/32")
            case ("ip", "link", "property", verb, "dev", link, "altname", name):
                names = self.altnames.setdefault(link, [])
                names.append(name) if verb == "add" else names.remove(name)
            case _:
                raise AssertionError(command)
        return Ran(0)

    def _shown(self, what: list[str]) -> list[dict[str, Any]]:
        if what == ["address"]:
            return [{"ifname": n, "addr_info": rows} for n, rows in self.addresses.items()]
        family = int(what[0][1:])
        rows = self.rules if what[1] == "rule" else self.routes
        return [row for row in rows if row["version"] == family]

    def _systemctl(self, command: tuple[str, ...]) -> Ran:
        verb, names = command[1], command[2:]
        if verb == "list-units":
            lines = [f"{u} loaded {s[1]} x" for u, s in self.units.items() if "@" in u]
            return Ran(0, "\n".join(lines))
        if verb == "show":
            return Ran(0, self.environment)
        if verb in ("is-enabled", "is-active"):
            state = self.units.get(names[0], ["not-found", "inactive"])
            said = state[0 if verb == "is-enabled" else 1]
            return Ran(0 if said in ("enabled", "active") else 1, said)
        self.ran.append(" ".join(command))
        for name in names:
            state = self.units.setdefault(name, ["disabled", "inactive"])
            where, value = {
                "enable": (0, "enabled"),
                "disable": (0, "disabled"),
                "mask": (0, "masked"),
                "unmask": (0, "disabled"),
                "start": (1, "active"),
                "stop": (1, "inactive"),
            }[verb]
            state[where] = value
        return Ran(0)


def _identity(rule: dict[str, Any]) -> tuple[int, str, str, int]:
    return rule["priority"], rule["src"], rule["table"], rule["version"]
