"""The echoes of our own work: the kernel is told not to send them to the event socket.

The kernel tells every subscriber of every change, the one who made it too. Of routes and rules we
need no such word, because what was written is read back. A start with 64 ENIs writes thousands.
"""

from __future__ import annotations

import socket
import struct
from array import array
from typing import Final

from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_DELRULE, RTM_NEWROUTE, RTM_NEWRULE

SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
INSTRUCTION: Final = struct.Struct("HBBI")  # struct sock_filter: what, steps if so, if not, value
PROGRAM: Final = struct.Struct("HP")  # struct sock_fprog: how many instructions, and where
# linux/bpf_common.h; loads are of network byte order.
LOAD_16, LOAD_32, IF_EQUAL, RETURN = 0x28, 0x20, 0x15, 0x06
TYPE_AT, PORT_AT = 4, 12  # in struct nlmsghdr
WHOLE: Final = 0xFFFFFFFF
UNHEARD: Final = (RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWRULE, RTM_DELRULE)


def drop_echoes(sock: socket.socket, port: int) -> None:
    """From now on this socket gets no word of routes and rules that `port` changed.

    Raises OSError where the kernel refuses that.
    """
    code = array("B", _program(port))
    address, size = code.buffer_info()
    program = PROGRAM.pack(size // INSTRUCTION.size, address)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def _program(port: int) -> bytes:
    """Another's, or of another type: all of it. Else nothing."""
    types = [
        (IF_EQUAL, len(UNHEARD) - position, 0, socket.htons(number))
        for position, number in enumerate(UNHEARD)
    ]
    steps = [
        (LOAD_32, 0, 0, PORT_AT),
        (IF_EQUAL, 0, len(types) + 1, socket.htonl(port)),
        (LOAD_16, 0, 0, TYPE_AT),
        *types,
        (RETURN, 0, 0, WHOLE),
        (RETURN, 0, 0, 0),
    ]
    return b"".join(INSTRUCTION.pack(*step) for step in steps)
