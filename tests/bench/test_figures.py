import math

import pytest

from tests.bench import report
from tests.bench.figures import Figure, Limit, percentile


def test_a_percentile_is_a_sample_that_was_seen() -> None:
    samples = [float(number) for number in range(1, 97)]
    assert percentile(samples, 99) == 96.0
    assert percentile(samples, 50) == 48.0
    assert percentile([7.0], 99) == 7.0


@pytest.mark.parametrize(("samples", "met"), [([0.1, 0.2], True), ([0.1, 0.3], False), ([], False)])
def test_a_budget_is_met_up_to_its_limit(samples: list[float], met: bool) -> None:
    assert Figure("it", samples, limits=(Limit("max", 0.2),)).met is met


def test_nothing_measured_is_nothing_met() -> None:
    assert math.isinf(Figure("it", []).value("median"))


def test_the_table_says_what_was_missed() -> None:
    figure = Figure(
        "it", [0.1, 0.2, 0.5], limits=(Limit("median", 0.15), Limit("max", 0.5)), note="in the rain"
    )
    *_, row = report.table([figure]).splitlines()
    expected = "median 200 ms, max 500 ms (in the rain) | median 150 ms, 500 ms | **missed**"
    assert row == f"| it | {expected} |"


def test_a_share_is_printed_in_percent_and_a_rate_by_its_time() -> None:
    assert Figure("it", [0.0005], unit="%").text(0.0005) == "0.050 %"
    assert Figure("it", [4.56], unit="", suffix="/s").text(4.56) == "4.6/s"


def test_the_machine_is_named_by_its_kind_alone() -> None:
    assert {"CPU", "kernel", "Python", "nicwatchd"} <= report.machine().keys()
