"""For a daemon of a test, in which a fight is over after 2 s."""

from nicwatchd.core import fights

fights.WINDOW = 2.0  # type: ignore[misc]
