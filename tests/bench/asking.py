"""A program: many clients that ask the control socket without end. `asking.py SOCKET NUMBER`.

Prints a line when all are connected, and goes on until it is ended.
"""

from __future__ import annotations

import asyncio
import sys

PATHS = ("/v1/status", "/v1/interfaces", "/readyz", "/metrics")


async def main(socket: str, number: int) -> None:
    """Connect all, then let each ask again as soon as it has its answer."""
    pairs = [await asyncio.open_unix_connection(socket) for _ in range(number)]
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    async with asyncio.TaskGroup() as group:
        for index, (reader, writer) in enumerate(pairs):
            path = PATHS[index % len(PATHS)]
            group.create_task(_ask(reader, writer, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: str) -> None:
    while True:
        writer.write(request.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
