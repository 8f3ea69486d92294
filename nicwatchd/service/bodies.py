"""The bodies of answers: made once, however many ask, and written piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Final

# Bytes. What is longer is written in pieces, each once the one before has been taken, so that a
# client that does not read costs one piece, and not a copy of the status of a large host.
PIECE: Final = 1 << 16


class Bodies:
    """The last body for each request, and what it was made from."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[object, bytes]] = {}

    def of(self, request: str, facts: object, make: Callable[[], str]) -> bytes:
        """The body for this request; made anew if the facts are not equal to the last ones."""
        last = self._made.get(request)
        if last is None or last[0] != facts:
            last = self._made[request] = (facts, make().encode())
        return last[1]


def in_pieces(body: bytes) -> bytes | BytesIO:
    """A body for aiohttp, which writes a file piece by piece."""
    return body if len(body) <= PIECE else BytesIO(body)
