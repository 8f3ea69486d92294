"""A program: asks the control socket for `GET /` each millisecond. `pinging.py SOCKET PID`.

PID is the daemon's. On SIGTERM it prints a line for each question: when it was sent (monotonic),
and for how long the daemon's loop was kept from it, both in ns. That is the time until the answer,
less the time in which the daemon, or this program, was ready to run and had no core: this is the
machine's doing, and not the loop's.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from types import FrameType

INTERVAL = 0.001  # s
QUESTION = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BUFFER = 65536


class Pinger:
    """One connection, with one question at a time."""

    def __init__(self, path: str, pid: int) -> None:
        self._asked: list[tuple[int, int]] = []
        self._over = False
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        # The loop's thread, and our own.
        self._queued = [
            os.open(f"/proc/{each}/task/{each}/schedstat", os.O_RDONLY)
            for each in (pid, os.getpid())
        ]

    def end(self, _number: int, _frame: FrameType | None) -> None:
        """Take this question as the last one."""
        self._over = True

    def run(self) -> None:
        """Ask until the end."""
        size = self._ask()
        while not self._over:
            waited, began = self._waits(), time.monotonic_ns()
            if self._ask() != size:
                raise RuntimeError("the answer is not what it was")
            took = time.monotonic_ns() - began
            self._asked.append((began, took - (self._waits() - waited)))
            time.sleep(INTERVAL)

    def _ask(self) -> int:
        """The size of the answer."""
        self._socket.sendall(QUESTION)
        answer = self._socket.recv(BUFFER)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._socket.recv(BUFFER)
        return len(body)

    def _waits(self) -> int:
        """ns for which the two have waited for a core so far."""
        return sum(int(os.pread(each, 256, 0).split()[1]) for each in self._queued)

    def tell(self) -> None:
        """Print what was measured."""
        sys.stdout.writelines(f"{began} {kept}\n" for began, kept in self._asked)


def main(path: str, pid: int) -> None:
    """See above."""
    pinger = Pinger(path, pid)
    signal.signal(signal.SIGTERM, pinger.end)
    gc.disable()
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    pinger.run()
    pinger.tell()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
