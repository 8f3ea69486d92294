"""nicwatchd: makes a hot-plugged network interface on an EC2 host simply work."""

__version__ = "0.1.0"
