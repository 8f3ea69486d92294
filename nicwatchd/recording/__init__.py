"""Recordings: what the kernel and IMDS said over time, to be replayed in the simulator.

The service records, the sim replays, and neither imports the other: what they share is here.
"""
