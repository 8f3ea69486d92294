"""What `nicwatchd doctor` looks at, and what it thinks of that.

facts       what was read, as values
look        reads it all, once
managers, firewall, files      parts of that
findings    what a check may say
routing, links, imds, software, ports    the checks: pure functions of the facts
checks      the table of them
"""
