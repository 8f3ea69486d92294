"""The instance metadata service: an IMDSv2 client and the parsing of what it says."""
