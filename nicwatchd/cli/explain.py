"""`nicwatchd explain`: why an interface is as it is, or which way a packet takes."""

from __future__ import annotations

import argparse

from nicwatchd.cli.output import USAGE, fail


def explain(arguments: argparse.Namespace) -> int:
    """Explain one interface, or the way of a packet; what else the arguments may be is wrong."""
    path = (arguments.source, arguments.destination, arguments.mark, arguments.iif)
    if arguments.interface is not None and not any(path):
        from nicwatchd.cli.explain_interface import explain_interface

        return explain_interface(arguments)
    if arguments.interface is None and arguments.source and arguments.destination:
        from nicwatchd.cli.explain_path import explain_path

        return explain_path(arguments)
    if arguments.interface is not None:
        return fail("either one interface or a packet (--from and --to), not both", USAGE)
    return fail("name an interface, or a packet: --from ADDRESS --to ADDRESS", USAGE)
