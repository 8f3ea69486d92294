"""What of a pause counts as the primary's silence."""

from __future__ import annotations

import pytest

from tests.bench.silence import INTERVAL, silence


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        pytest.param([], 1.0, id="nothing to compare with"),
        pytest.param([(9.0, 10.5), (10.5, 10.5 + INTERVAL)], 0.5 + INTERVAL, id="busy before"),
        pytest.param([(9.0, 12.0)], INTERVAL, id="busy all the while"),
        pytest.param([(10.2, 10.2 + INTERVAL), (10.25, 10.3)], 1.0, id="it tried as ever"),
        pytest.param([(1.0, 2.0), (20.0, 30.0)], 1.0, id="busy at other times"),
    ],
)
def test_what_the_machine_kept_from_trying_is_not_the_primarys(
    machine: list[tuple[float, float]], expected: float
) -> None:
    assert silence((10.0, 11.0), machine) == pytest.approx(expected)
