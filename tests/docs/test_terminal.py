"""The terminal that the README shows is what `nicwatchd status` prints for such a host."""

import textwrap

import pytest

from nicwatchd.cli.layout import Paint
from nicwatchd.cli.overview import overview
from nicwatchd.core.evidence import Status
from nicwatchd.core.health import Health
from nicwatchd.core.lifecycle import State
from nicwatchd.service.status import ImdsStatus, InterfaceStatus, ReasonStatus
from tests.cli.statuses import NOW, eni, family, host
from tests.docs.shown import ROOT

NO_IPV6 = ReasonStatus(code="undecided-ipv6", text="no IPv6 in IMDS yet (ipv6s); waiting 18 s more")
RULE_100 = ReasonStatus(
    code="leaves-elsewhere",
    text="10.0.8.9 answers nobody: its packets leave by ens5 instead of ens8, by rule 100 (from "
    "10.0.8.0/24 lookup 100), which is not nicwatchd's",
    remedy="sudo ip rule del pref 100 from 10.0.8.0/24 lookup 100",
)


def working(
    number: int, name: str, last: str, ipv4: str, ipv6: str, hours: float
) -> InterfaceStatus:
    since = NOW - hours * 3600
    return eni(
        number,
        name=name,
        eni=f"eni-0a1b2c3d4e5f607{last}",
        since=since,
        ipv4=family([ipv4], health_since=since),
        ipv6=family([ipv6], health_since=since),
    )


def terminal() -> str:
    """The host of the README."""
    waits = family(
        [],
        health=Health.NOT_WORKING,
        waits=True,
        causes=[NO_IPV6],
        verdict=Status.WAITING,
        health_since=NOW - 12,
        worked_after=None,
    )
    waiting = working(2, "ens7", "20", "10.0.3.12", "::", 12 / 3600).model_copy(
        update={
            "health": Health.NOT_WORKING,
            "waits": True,
            "state": State.AWAITING,
            "since": NOW - 12,
            "ipv6": waits,
        }
    )
    silent = family(
        ["10.0.8.9"],
        health=Health.NOT_WORKING,
        causes=[RULE_100],
        answering=[],
        silent=["10.0.8.9"],
        health_since=NOW - 180,
    )
    broken = working(3, "ens8", "33", "10.0.8.9", "2001:db8:8::9", 1).model_copy(
        update={"health": Health.NOT_WORKING, "ipv4": silent}
    )
    shown = host(
        working(0, "ens5", "11", "10.0.1.10", "2001:db8:1::10", 72),
        working(1, "ens6", "18", "10.0.2.11", "2001:db8:2::11", 2),
        waiting,
        broken,
        imds=ImdsStatus(state="ok", asked=NOW - 0.2, answered=NOW - 0.2),
    )
    return "\n".join(overview(shown.model_dump(mode="json"), NOW, Paint())) + "\n"


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/interfaces.md"])
def test_it_is_what_status_prints(page: str) -> None:
    text = textwrap.dedent((ROOT / page).read_text("utf-8"))
    indented = textwrap.indent(terminal(), "    ")
    assert terminal() in text or indented in text
    assert max(map(len, terminal().splitlines())) <= 80
