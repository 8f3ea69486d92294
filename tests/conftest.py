"""The order of the tests: what lasts long begins first, so that no worker ends with it alone.

And how hypothesis looks for examples: however slow the machine is, that is no failure.
"""

from __future__ import annotations

import os
from itertools import islice

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each worker begin with its share of the tests marked `lasts`, the longest first.

    With `--dist worksteal`, xdist gives each worker a part of the list, in order and of one size;
    a worker that is done takes tests from the end of another's part, never from its beginning.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = sorted((item for item in items if _lasts(item)), key=_lasts, reverse=True)
    others = iter([item for item in items if not _lasts(item)])
    bounds = [len(items) * worker // workers for worker in range(workers + 1)]
    dealt: list[pytest.Item] = []
    for worker in range(workers):
        dealt += long[worker::workers]
        dealt += islice(others, max(0, bounds[worker + 1] - len(dealt)))
    items[:] = dealt


def _lasts(item: pytest.Item) -> float:
    """About how many seconds a test lasts; 0 for nearly all."""
    mark = item.get_closest_marker("lasts")
    return float(mark.args[0]) if mark else 0.0
