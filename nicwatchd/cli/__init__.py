"""The `nicwatchd` command."""
