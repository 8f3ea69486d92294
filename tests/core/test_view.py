"""What is noted of an interface: the words that status, the journal and `explain` show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nicwatchd.core.evidence import Status, Verdict
from nicwatchd.core.interface import Interface
from nicwatchd.core.lifecycle import State
from nicwatchd.core.memory import Memory, remember
from nicwatchd.core.model import Item, Reason
from nicwatchd.core.moves import Elsewhere
from nicwatchd.core.policy import Policy
from tests.core.build import ETH1, IPV4, IPV6, MAC, NET4, NET6, V4, V6, eni, family, ips, lease

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


def on_eth2(*items: str, **why: Any) -> dict[Item, Elsewhere]:
    return {each: Elsewhere("eth2", each, **why) for each in ips(*items)}


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
            {"memory": READ, "elsewhere": on_eth2(IPV6, "10.0.2.9")},
            [kept("10.0.2.9"), kept(IPV6), ("refused", "ipv6s: x")],
            id="listed here too, sorted",
        ),
        pytest.param(
            {"addresses": (lease(f"{IPV4}/24"),), "elsewhere": on_eth2(IPV4)},
            [("held-elsewhere", f"DHCP configured {IPV4} here, but IMDS lists it on eth2")],
            id="a lease",
        ),
        pytest.param({"elsewhere": on_eth2(IPV4)}, [], id="it is only there"),
        pytest.param(
            {"memory": READ, "elsewhere": on_eth2(IPV6, its_own=True)},
            [
                ("held-elsewhere", f"IMDS lists {IPV6} here, but it is configured on eth2"),
                ("refused", "ipv6s: x"),
            ],
            id="an address of another link",
        ),
        pytest.param(
            {"memory": READ, "elsewhere": on_eth2(IPV6, because="has no carrier")},
            [
                (
                    "held-elsewhere",
                    f"IMDS lists {IPV6} here too, but eth1 has no carrier: it is on eth2",
                ),
                ("refused", "ipv6s: x"),
            ],
            id="listed on both, and of no use here",
        ),
        pytest.param(
            {"moved": {ips(IPV6)[0]: "eth2"}},
            [
                (
                    "held-elsewhere",
                    (
                        f"IMDS listed {IPV6} here before, does not confirm it any more, "
                        "and lists it on eth2"
                    ),
                )
            ],
            id="listed here once",
        ),
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
        elsewhere=on_eth2(IPV4),
        shadows=(Reason("shadowed", "x"),),
        fight=Reason("fought-over", "x"),
        surprise=Reason("internal-error", "x"),
    )
    assert [note.code for note in view.notes] == [
        *("internal-error", "a", "b", "no-ipv6", "held-elsewhere", "shadowed", "fought-over"),
        *("refused", "link-down", "foreign-group"),
    ]
    assert view.key == (3, MAC)
