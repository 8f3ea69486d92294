"""nicwatchd: configures hot-plugged network interfaces (ENIs) on an EC2 host."""

__version__ = "0.2.0"
