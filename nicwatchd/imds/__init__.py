"""The instance metadata service: an IMDSv2 client and the parsers of its answers."""
