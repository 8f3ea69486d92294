"""That no call of the daemon is denied is seen at the end: see the fixture `host`."""

import pytest

from tests.vm.denied import DROP_IN, is_logged_call
from tests.vm.host import PATIENCE, VmHost

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_denied_call_would_be_seen(host: VmHost) -> None:
    """The kernel of this machine logs such calls, and the daemon runs with that."""
    since = host.vm.journal.now
    logs = "--property=SystemCallLog=chroot"
    await host.vm.run("systemd-run", "--wait", "--quiet", logs, "chroot", "/", "true")
    await host.vm.journal.until(is_logged_call, since, PATIENCE)
    shown = await host.vm.run("systemctl", "show", "-P", "DropInPaths", "nicwatchd")
    assert DROP_IN in shown.split()
