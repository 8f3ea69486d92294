"""For a daemon of a test, in which a fight is over after 8 s."""

from nicwatchd.core import fights

fights.WINDOW = 8.0  # type: ignore[misc]
