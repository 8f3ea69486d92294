from tests.bench import idle
from tests.bench.idle import Second

# The time, ns of CPU, TCP segments, messages of the kernel, renewals.
PRINTED = """\
0 1000000000 10 0 0
1 1000000000 10 0 0
2 1001000000 10 0 0
3 1008000000 24 0 0
4 1014000000 24 3 1
5 1017000000 30 4 1
"""


def test_each_second_is_told_from_the_others_by_what_happened() -> None:
    quiet, turn, look, renewal, both = idle.seconds_of(idle.samples_in(PRINTED))
    assert quiet == Second(0, asked=False, told=False, renewed=False)
    assert turn == Second(1_000_000, asked=False, told=False, renewed=False)
    assert look == Second(7_000_000, asked=True, told=False, renewed=False)
    assert renewal == Second(6_000_000, asked=False, told=True, renewed=True)
    assert both == Second(3_000_000, asked=True, told=True, renewed=False)


def test_an_item_is_measured_where_nothing_else_happened() -> None:
    found = idle.items(idle.seconds_of(idle.samples_in(PRINTED)))
    assert found == {"a turn without news": [1.0], "a look at IMDS": [7.0], "renewals": [6.0]}


def test_the_figures_are_of_the_whole_time() -> None:
    instructions, share = idle.figures_of(idle.samples_in(PRINTED), idle.BUDGETED)
    assert instructions.samples == [17 / 5 * 60]
    assert instructions.note == "a turn without news: 1.0, a look at IMDS: 7.0, renewals: 6.0"
    assert share.text(share.value("max")) == "0.340 %"
    assert not share.met
