"""What is noted of an interface: the words that status, the journal and `explain` show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nicwatchd.core.evidence import Status, Verdict
from nicwatchd.core.interface import Interface
from nicwatchd.core.lifecycle import State
from nicwatchd.core.memory import Memory, remember
from nicwatchd.core.model import Reason
from nicwatchd.core.policy import Policy
from tests.core.build import ETH1, IPV4, IPV6, MAC, NET4, NET6, V4, V6, eni, family, ip, lease

VIEW = Interface(ETH1, 0.0, Policy()).view()
READ = remember(
    Memory(),
    eni(family(f"{IPV4} 10.0.2.9", cidrs=NET4), family(IPV6, cidrs=NET6), refused=("ipv6s: x",)),
    *(MAC, 0.0, Policy()),
)
VERDICTS = {
    V4: Verdict(
        V4, Status.READY, (Reason("unsaid", "it is ready"),), notes=(Reason("a", "noted"),)
    ),
    V6: Verdict(
        V6, Status.ABSENT, (Reason("no-ipv6", "there is none"),), notes=(Reason("b", "too"),)
    ),
}
DOWN = ("link-down", "the link is down; its routes return when it is up")
FOREIGN = (
    "foreign-group",
    (
        "somebody else put the link into group 5, so nicwatchd does not put it into 3778; packets "
        "from other interfaces' addresses may take the main table's routes through this link"
    ),
)
FAILED = Reason("kernel-refused", "no")
IGNORED: dict[str, Any] = {"state": State.IGNORED, "failures": (FAILED,)}


def kept(item: str) -> tuple[str, str]:
    text = f"IMDS lists {item} here too, but it is kept on eth2 until IMDS no longer lists it there"
    return ("held-elsewhere", text)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param(
            {"verdicts": VERDICTS},
            [("a", "noted"), ("b", "too"), ("no-ipv6", "there is none")],
            id="what was noted, and why a family is absent",
        ),
        pytest.param({"memory": READ}, [("refused", "ipv6s: x")], id="what the parser refused"),
        pytest.param({"link": replace(ETH1, up=False)}, [DOWN], id="down"),
        pytest.param({"link": replace(ETH1, group=5)}, [FOREIGN], id="a foreign group"),
        pytest.param({"link": replace(ETH1, group=3778)}, [], id="ours"),
        pytest.param(
            {"link": replace(ETH1, group=77), "groups": frozenset({77, 3778})}, [], id="once ours"
        ),
        pytest.param({"link": replace(ETH1, group=1)}, [("foreign-group", ...)], id="any other"),
        pytest.param(IGNORED, [("kernel-refused", "no")], id="ignored: what does not go"),
        pytest.param(
            {**IGNORED, "link": replace(ETH1, up=False, group=5), "failures": ()},
            [],
            id="ignored: the link is its owner's business",
        ),
        pytest.param({"failures": (FAILED,)}, [], id="what is waited for is no note"),
        pytest.param(
            {"memory": READ, "elsewhere": {ip(IPV6): "eth2", ip("10.0.2.9"): "eth2"}},
            [kept("10.0.2.9"), kept(IPV6), ("refused", "ipv6s: x")],
            id="listed here too, sorted",
        ),
        pytest.param(
            {"addresses": (lease(f"{IPV4}/24"),), "elsewhere": {ip(IPV4): "eth2"}},
            [("held-elsewhere", f"DHCP configured {IPV4} here, but IMDS lists it on eth2")],
            id="a lease",
        ),
        pytest.param({"elsewhere": {ip(IPV4): "eth2"}}, [], id="it is only there"),
    ],
)
def test_what_is_noted(facts: dict[str, Any], expected: list[tuple[str, Any]]) -> None:
    notes = replace(VIEW, **facts).notes
    assert [note.code for note in notes] == [code for code, _ in expected]
    assert all(text in (..., note.text) for note, (_, text) in zip(notes, expected, strict=True))


def test_what_comes_first() -> None:
    """A bug, then what was judged, then what others do."""
    view = replace(
        VIEW,
        link=replace(ETH1, up=False, group=5),
        verdicts=VERDICTS,
        memory=READ,
        elsewhere={ip(IPV4): "eth2"},
        shadows=(Reason("shadowed", "x"),),
        fight=Reason("fought-over", "x"),
        surprise=Reason("internal-error", "x"),
    )
    assert [note.code for note in view.notes] == [
        *("internal-error", "a", "b", "no-ipv6", "held-elsewhere", "shadowed", "fought-over"),
        *("refused", "link-down", "foreign-group"),
    ]
    assert view.key == (3, MAC)
