"""IMDS that does not answer as it should: nothing is lost, and the host says what is wrong."""

import pytest

from nicwatchd.sim.probe import all_answer
from nicwatchd.sim.script import Do
from tests.vm.enis import script
from tests.vm.host import PATIENCE, VmHost

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.once]


@pytest.mark.parametrize(
    ("on", "do", "state"),
    [
        ("all", "refuse", "unreachable"),
        ("all", "timeout", "unreachable"),
        ("all", "429", "throttled"),
        ("all", "slow", None),
        ("token", "403", "disabled"),
    ],
    ids=["refused", "unreachable", "throttled", "slow", "disabled"],
)
async def test_nothing_is_lost(host: VmHost, on: str, do: Do, state: str | None) -> None:
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2)) as (eni,):
        await host.until("ens6", "applied", since)
        before = await host.use(eni)
        if do == "403":
            host.imds.expire_tokens()
        host.imds.fault(on, do)
        try:
            await host.vm.try_run("nicwatchd", "reconcile")

            async def is_said() -> bool:
                return bool((await host.host_status())["imds"]["state"] == state)

            if state:
                await host.eventually(is_said)
            assert (await host.status("ens6"))["state"] == "applied"
            await host.has_kept(before)
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
        finally:
            host.imds.clear()

        async def is_well() -> bool:
            # It does not ask at once: where IMDS was disabled, 30 s later.
            await host.vm.try_run("nicwatchd", "reconcile")
            return bool((await host.host_status())["imds"]["state"] == "ok")

        await host.eventually(is_well)


async def test_an_eni_that_comes_while_imds_is_silent_is_served_when_it_speaks(
    host: VmHost,
) -> None:
    since = host.vm.journal.now
    fault = host.imds.fault("all", "timeout")
    try:
        async with host.plugged(script("ens6", 2)) as (eni,):
            await all_answer(host.vpc, host.paths(eni), PATIENCE)  # the leases prove it
            host.imds.clear(fault)
            await host.until("ens6", "applied", since)
        await host.until("ens6", "gone", since)
    finally:
        host.imds.clear()
