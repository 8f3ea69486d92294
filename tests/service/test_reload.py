"""Settings that are read again: what cannot be used is a problem until it is mended."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from pathlib import Path

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import MAIN_TABLE, RTPROT_DHCP, Route
from nicwatchd.service import journal
from nicwatchd.service.control import Control
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.main import _reload
from tests.service.conftest import Host, until
from tests.service.test_control import say


async def answer(daemon: Daemon, path: Path, what: str) -> tuple[int, dict[str, object]]:
    """What the control socket answers."""
    control = Control(daemon, path)
    await control.start()
    try:
        request = f"GET {what} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        head, _, body = (await say(control, request.encode())).partition(b"\r\n\r\n")
    finally:
        await control.close()
    return int(head.split()[1]), json.loads(body)


async def test_what_cannot_be_used_is_a_problem_until_mended(host: Host, tmp_path: Path) -> None:
    index = host.plug_primary()
    router = ip_address("10.0.1.1")
    default = Route(ip_network("0.0.0.0/0"), MAIN_TABLE, index, RTPROT_DHCP, router, metric=1024)
    host.kernel.put(default)
    config, socket = tmp_path / "nicwatchd.toml", tmp_path / "nicwatchd.sock"
    async with host.daemon() as daemon:
        await until(daemon, "eth0", lambda s: s.state is State.IGNORED and not s.waits)
        assert daemon.status().ready
        before = daemon.host.policy

        config.write_text('[interfaces]\nexlude = ["eth7"]\n', encoding="utf-8")
        _reload(daemon, config, host.write)
        status = daemon.status()
        assert status.bad_settings is not None
        assert "did you mean 'exclude'?" in status.bad_settings
        assert status.bad_settings.endswith("mend that, then: sudo systemctl reload nicwatchd")
        assert status.problems == [status.bad_settings]
        assert status.unready == [status.bad_settings]
        code, ready = await answer(daemon, socket, "/readyz")
        assert (code, ready["status"], ready["waiting"]) == (503, "failing", [status.bad_settings])
        # A restart could not start again, so whoever restarts by /healthz must not.
        assert await answer(daemon, socket, "/healthz") == (200, {"status": "ok", "problems": []})
        assert host.entries[-1].message_id == journal.RELOAD_FAILED
        assert daemon.host.policy is before

        config.write_text('[interfaces]\nexclude = ["eth7"]\n', encoding="utf-8")
        _reload(daemon, config, host.write)
        status = daemon.status()
        assert (status.bad_settings, status.problems, status.ready) == (None, [], True)
