"""That no call of the daemon is denied is seen at the end: see the fixture `host`."""

import pytest

from tests.vm.denied import DROP_IN, is_killed_call
from tests.vm.host import PATIENCE, VmHost

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_denied_call_would_be_seen(host: VmHost) -> None:
    """The kernel of this machine logs such calls, and the daemon runs with that."""
    since = host.vm.journal.now
    denies = "--property=SystemCallFilter=~chroot"
    words = ("systemd-run", "--wait", "--collect", "--quiet", denies, "chroot", "/", "true")
    run = await host.vm.try_run(*words)
    assert run.code != 0
    await host.vm.journal.until(is_killed_call, since, PATIENCE)
    shown = await host.vm.run("systemctl", "show", "-P", "DropInPaths", "nicwatchd")
    assert DROP_IN in shown.split()
