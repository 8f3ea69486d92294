"""Steps and answers: what a driver that says nothing has said."""

from nicwatchd.core.metadata import EniMetadata, Value
from nicwatchd.core.steps import ObjectsRead, PrimaryReading, Reading
from tests.core.build import MAC, PRIMARY


def test_what_was_not_read_is_not_there() -> None:
    read = ObjectsRead()
    assert (read.addresses, read.routes, read.tables) == ({}, {}, {})
    not_read = (None, None)  # an empty answer would be that there is nothing
    assert (read.own, read.rules) == not_read
    assert read.udev_done == frozenset()


def test_an_answer_of_imds_is_no_bug() -> None:
    reading, primary = Reading(3, MAC, EniMetadata()), PrimaryReading(Value(PRIMARY))
    assert (reading.error, reading.trace) == ("", "")
    assert (primary.error, primary.trace) == ("", "")
