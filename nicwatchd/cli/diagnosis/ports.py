"""Checks of containers: ports that they publish on ENIs, and addresses of ENIs that they hold."""

from __future__ import annotations

from collections.abc import Iterator

from nicwatchd.cli.diagnosis.facts import Eni, Facts
from nicwatchd.cli.diagnosis.findings import Finding, fail, warn
from nicwatchd.core.model import Family, IPAddress, ours
from nicwatchd.core.policy import Forwarded
from nicwatchd.core.published import Published, published


def published_ports(facts: Facts) -> Iterator[Finding]:
    """Published ports that do not answer on a secondary ENI: what comes back is not marked.

    The answers of a container have its own source until they leave, so no rule sees whose they are.
    """
    if facts.firewall is None or facts.policy.forwarded is Forwarded.CONNMARK:
        return
    every = published(facts.firewall)
    for eni in facts.others:
        if not eni.is_managed:
            continue
        for family in Family:
            hit = _on(facts, every, eni, family)
            if not hit:
                continue
            port, address = hit[0]
            more = len({(p.protocol, p.ports) for p, _ in hit}) - 1
            to = f" -> {port.to}" if port.to else ""
            text = (
                f"{port.protocol} port {port.ports}{to} does not answer on {address} ({eni.name})"
            )
            text += f", nor do {more} more" if more else ""
            text += ": a container publishes it, and its answers leave by another ENI."
            yield warn("published-port", text, *_mark(facts))


def _on(
    facts: Facts, every: tuple[Published, ...], eni: Eni, family: Family
) -> list[tuple[Published, IPAddress]]:
    """What is published on addresses of an ENI and leads off the host; each with an address."""
    local = {a.ip for each in facts.enis for a in each.addresses}
    found = []
    for port in every:
        if port.family is family and port.to not in local:
            address = next((ip for ip in eni.sources() if port.is_on(ip, eni.name)), None)
            if address:
                found.append((port, address))
    return found


def _mark(facts: Facts) -> Iterator[str]:
    file = facts.config.parent / "conf.d" / "forwarded.toml"
    yield f"sudo mkdir -p {file.parent}"
    yield r"printf '[interfaces]\nforwarded = " + r'"connmark"\n' + "' \\"
    yield f"  | sudo tee {file}"
    yield "sudo systemctl reload nicwatchd"


def container_addresses(facts: Facts) -> Iterator[Finding]:
    """The host has an address on a link, and a route that leads to it in a container."""
    for eni in facts.served:
        for address in eni.addresses:
            away = facts.host_routes.get(address.ip, frozenset()) - {eni.index}
            if not away or ours(address):
                continue  # nicwatchd takes its own off by itself
            link = facts.name_of(min(away)) or "another link"
            flag = "-6 " if Family(address.ip.version) is Family.V6 else ""
            yield fail(
                "container-address",
                f"{address.ip} is on {eni.name} itself, and a route leads to it by {link}: the host"
                " answers, and the container gets nothing.",
                f"sudo ip {flag}addr del {address.ip}/{address.prefixlen} dev {eni.name}",
            )
