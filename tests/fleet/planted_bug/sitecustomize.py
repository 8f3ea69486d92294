"""A bug in the daemon, planted: Python imports this module at its start, if it is on its path."""

from nicwatchd.core import evidence, interface
from nicwatchd.core.evidence import Verdict, Witness
from nicwatchd.core.model import Family
from nicwatchd.core.policy import Policy


def judge(family: Family, witness: Witness, policy: Policy) -> Verdict:
    """As the real one, but for eth1."""
    if witness.link.name == "eth1":
        raise ZeroDivisionError("planted")
    return evidence.judge(family, witness, policy)


vars(interface)["judge"] = judge
