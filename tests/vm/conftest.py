"""One machine for each image, booted once; each test leaves it as it found it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator

import pytest
import pytest_asyncio

from nicwatchd.sim.probe import all_answer
from tests.vm import image
from tests.vm.denied import DEADLY, DROP_IN, denied
from tests.vm.host import PATIENCE, VmHost, package

DEFAULT = "trixie"
HOST = pytest.StashKey[VmHost]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--image NAME`, as often as there are hosts to try."""
    parser.addoption("--image", action="append", metavar="NAME", help=f"default: {DEFAULT}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test on each host; all tests on one before the next is booted."""
    if "host" in metafunc.fixturenames:
        first, *others = metafunc.config.getoption("image") or [DEFAULT]
        hosts = [first, *(pytest.param(name, marks=pytest.mark.further) for name in others)]
        metafunc.parametrize("host", hosts, indirect=True, scope="session")


def pytest_configure(config: pytest.Config) -> None:
    """What a test may say of itself."""
    config.addinivalue_line("markers", "client(name): needs this DHCP client in the image")
    config.addinivalue_line("markers", "only(image): is about what this image alone has")
    config.addinivalue_line("markers", "once: is about what is alike on each image")
    config.addinivalue_line("markers", "further: of the tests on several images, not on the first")
    config.addinivalue_line("markers", "peer: is about other software that routes by source, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about software that the host does without, or was seen on the first."""
    elsewhere = [item for item in items if isinstance(item, pytest.Function) and not _fits(item)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


def _fits(item: pytest.Function) -> bool:
    """Whether the host of a test has what the test is about, and it is to be seen there."""
    if "host" not in item.fixturenames:
        return True
    if item.get_closest_marker("once") and item.get_closest_marker("further"):
        return False
    recipe = image.RECIPES[str(item.callspec.params["host"])]
    clients = {marker.args[0] for marker in item.iter_markers("client")}
    only = {marker.args[0] for marker in item.iter_markers("only")}
    if only and str(item.callspec.params["host"]) not in only:
        return False
    wants_peer = item.get_closest_marker("peer") is not None
    return clients <= set(recipe.clients) and (recipe.peer_table is not None or not wants_peer)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[VmHost]:
    """An EC2 host with the package installed, restarted since: what a user has the next day."""
    directory = tmp_path_factory.mktemp(request.param)
    booted = VmHost(image.find(request.param), directory, package())
    async with booted:
        request.config.stash[HOST] = booted
        await booted.vm.write(DROP_IN, DEADLY)
        await booted.install()
        await booted.vm.reboot()
        await all_answer(booted.vpc, booted.paths(booted.vpc.primary), PATIENCE)
        yield booted
        assert denied(booted.vm.journal.entries) == [], "the unit's filter denies these calls"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the machine said goes with a failure."""
    report = yield
    if report.failed and HOST in item.config.stash:
        report.sections.append(("the machine", item.config.stash[HOST].vm.evidence()))
    return report
