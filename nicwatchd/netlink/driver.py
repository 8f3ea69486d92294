"""The driver of a network interface, by ethtool's ioctl, which needs no sysfs and no privilege."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from typing import Final

SIOCETHTOOL: Final = 0x8946
ETHTOOL_GDRVINFO: Final = 3
DRVINFO_BYTES: Final = 196  # struct ethtool_drvinfo: cmd, driver[32], ...
SIOCGIFINDEX: Final = 0x8933
IFREQ: Final = struct.Struct("16sP16x")  # struct ifreq: ifr_name, ifr_data; 40 bytes in all
IFREQ_INDEX: Final = struct.Struct("16si20x")  # ... ifr_ifindex


class Drivers:
    """Looks up drivers in the network namespace in which it was created."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def driver(self, index: int, name: str) -> str | None:
        """The driver's name; None if the link has none, is gone, or was renamed.

        The ioctl takes a name, and udev may rename the link at any time, so the index is checked.
        """
        info = array.array("B", struct.pack("=I", ETHTOOL_GDRVINFO).ljust(DRVINFO_BYTES, b"\0"))
        address, _ = info.buffer_info()
        encoded = name.encode(errors="surrogateescape")
        try:
            fcntl.ioctl(self._socket, SIOCETHTOOL, IFREQ.pack(encoded, address))
            reply = fcntl.ioctl(self._socket, SIOCGIFINDEX, IFREQ_INDEX.pack(encoded, 0))
        except OSError:
            return None
        if IFREQ_INDEX.unpack(reply)[1] != index:
            return None
        return info.tobytes()[4:36].rstrip(b"\0").decode(errors="replace") or None
