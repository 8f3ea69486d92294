"""A link's name may hold nearly any byte: what is told of it is valid, and safe for terminals."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from nicwatchd.cli.layout import Paint
from nicwatchd.cli.overview import overview
from nicwatchd.netlink.wire import text
from nicwatchd.service import metrics
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.status import shown
from tests.netlink.forms import NAMES
from tests.service.conftest import Host, until
from tests.service.test_daemon import is_applied

LINES = frozenset({"NICWATCHD_REASONS", "NICWATCHD_OBJECT_LIST"})  # of several lines


def check(daemon: Daemon, name: str) -> None:
    """The status, the metrics, and what a terminal shows name the link, and hold no control."""
    status = daemon.status()
    document = json.loads(status.model_dump_json().encode())
    assert name in {each["name"] for each in document["interfaces"]}
    assert document == json.loads(json.dumps(document))
    said = metrics.render(status, daemon.counts()).decode()
    labels = {
        sample.labels["interface"]
        for family in text_string_to_metric_families(said)
        for sample in family.samples
        if "interface" in sample.labels
    }
    assert name in labels
    for line in overview(document, time.time(), Paint()):
        assert all(part.isprintable() for part in line.split("\n"))
        line.encode()


async def test_whatever_a_link_is_called(host: Host) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        index = host.plug()
        await until(daemon, "eth1", is_applied)
        for packed in NAMES:
            name = text(packed)
            host.kernel.set_link(replace(host.link(index), name=name))
            await until(daemon, shown(name), is_applied)
            assert name in {rule.oif for rule in host.kernel._state.rules}
            check(daemon, shown(name))
        assert daemon.problems() == []
    for entry in host.entries:
        assert entry.message.isprintable()
        for field, value in entry.fields.items():
            lines = value.split("\n") if field in LINES else [value]
            assert all(line.isprintable() for line in lines), (field, value)
    assert daemon.host.surprises == 0
