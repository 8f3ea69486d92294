"""A poisoned or slow IMDS is bounded: in time by the deadlines, in memory by the size of a body.

Each row is another way in which what answers can misbehave. Whatever it does, the key that it does
it to is unknown, all others have their answers, and nothing that it says gets to a terminal.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import pytest

from nicwatchd.core.metadata import EniMetadata, Unknown, Value
from nicwatchd.core.polling import Depth
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.imds.eni import EniReader
from nicwatchd.imds.transport import Timeouts
from tests.imds.conftest import MAC, TIMEOUTS
from tests.imds.hostile import BOMB, OK, Hostile, reply, serving

MACS: Final = "network/interfaces/macs/"
LEAVES: Final = {
    "device-number": b"1",
    "interface-id": b"eni-1",
    "ipv6s": b"2001:db8:0:2::10",
    "local-ipv4s": b"10.0.2.10",
    "mac": MAC.encode(),
    "subnet-id": b"subnet-1",
    "subnet-ipv4-cidr-block": b"10.0.2.0/24",
    "subnet-ipv6-cidr-blocks": b"2001:db8:0:2::/64",
}
TREE: Final = {
    "mac": b"02:00:00:00:00:01",
    MACS: f"{MAC}/\n02:00:00:00:00:01/".encode(),
    f"{MACS}{MAC}/": "\n".join(LEAVES).encode(),
    **{f"{MACS}{MAC}/{key}": value for key, value in LEAVES.items()},
}
# Long enough for what is well-behaved, on a busy machine too.
PATIENT: Final = Timeouts(connect=2.0, read=2.0, total=4.0)
MEMORY: Final = 4 << 20  # bytes; a bound. What is sent may be without end
LINE: Final = b"X-Padding: " + b"x" * 4000 + b"\r\n"
KIB: Final = b"2001:db8:0:2::11\n" * 60
ESCAPES: Final = "\x1b]0;owned\x07\x1b[2J\x00\u202e\r\n"

# Every one of them makes the key unknown.
ATTACKS: Final = {
    "a body without end": Hostile((OK + b"\r\n", KIB * 16), endless=True),
    "... in chunks": Hostile(
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b"x" * 0x4000 + b"\r\n"),
        endless=True,
    ),
    "a body that drips": Hostile((OK + b"Content-Length: 9000\r\n\r\n", b"x"), 0.05, endless=True),
    "headers that drip": Hostile((OK, b"X", b"-"), 0.05, endless=True),
    "headers without end": Hostile((OK, LINE), endless=True),
    "one header of a megabyte": Hostile((OK + b"X: " + b"x" * (1 << 20) + b"\r\n\r\n",)),
    "ten thousand headers": Hostile((OK + b"X: 1\r\n" * 10_000 + b"Content-Length: 0\r\n\r\n",)),
    "a status without end": Hostile((b"HTTP/1.1 200 ", b"O" * 4096), endless=True),
    "information without end": Hostile((b"HTTP/1.1 100 Continue\r\n\r\n",), endless=True),
    "nothing": Hostile(hold=True),
    "an end before the beginning": Hostile(),
    "a reset": Hostile(reset=True),
    "a reset in the body": Hostile((OK + b"Content-Length: 9000\r\n\r\n", b"x" * 99), reset=True),
    "less than was promised": Hostile((OK + b"Content-Length: 9000\r\n\r\nabc",)),
    "less, and then nothing": Hostile((OK + b"Content-Length: 9000\r\n\r\nabc",), hold=True),
    "a length that is negative": Hostile((OK + b"Content-Length: -1\r\n\r\nabc",)),
    "a length that is no number": Hostile((OK + b"Content-Length: many\r\n\r\nabc",)),
    "a length beyond all": Hostile(
        (OK + b"Content-Length: 99999999999999999999\r\n\r\n", KIB * 80)
    ),
    "two lengths": Hostile((OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nabc",)),
    "chunks of garbage": Hostile(
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",)
    ),
    "a chunk of a negative length": Hostile(
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n0\r\n\r\n",)
    ),
    "a chunk that promises more": Hostile(
        (OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n", KIB * 80), hold=True
    ),
    "a gzip bomb": Hostile((reply(BOMB, b"Content-Encoding: gzip"),)),
    "a deflate that is none": Hostile((reply(b"\xffabc", b"Content-Encoding: deflate"),)),
    "no HTTP": Hostile((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",)),
    "zeros": Hostile((bytes(70_000),)),
    "escape sequences in the status": Hostile(
        (b"HTTP/1.1 \x1b[2J " + ESCAPES.encode() + b"\r\n\r\n",)
    ),
    "a redirect to elsewhere": Hostile(
        (reply(b"", b"Location: http://192.0.2.1/evil", status=b"302 Found"),)
    ),
    "a redirect to itself": Hostile((reply(b"", b"Location: ipv6s", status=b"307 Moved"),)),
    "a cookie, and an error": Hostile(
        (reply(b"x", b"Set-Cookie: a=b; Domain=169.254.169.254", status=b"500 No"),)
    ),
    "another protocol": Hostile(
        (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",), hold=True
    ),
    "bytes that are no text": Hostile((reply(b"\xff\xfe\x80" * 99),)),
    "escape sequences": Hostile((reply(ESCAPES.encode()),)),
    "HTML": Hostile((reply(b"<!DOCTYPE html><html><body>Sign in</body></html>"),)),
}
attacks = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


def begin(attack: Hostile, on: str) -> Hostile:
    """The attack anew, on a part of the tree."""
    return replace(attack, on=on, asked=[], tree=dict(TREE))


def is_safe(text: str) -> bool:
    """Whether a text can be shown on a terminal, and is short."""
    return text.isprintable() and len(text) < 500


def every(metadata: EniMetadata) -> tuple[object, ...]:
    """All answers."""
    return (
        *(metadata.directory, metadata.mac, metadata.interface_id, metadata.subnet_id),
        *(metadata.device_number, metadata.v4.addresses, metadata.v4.cidrs),
        *(metadata.v6.addresses, metadata.v6.cidrs),
    )


def whys(metadata: EniMetadata) -> list[str]:
    """Why what is unknown is so."""
    return [answer.why for answer in every(metadata) if isinstance(answer, Unknown)]


@asynccontextmanager
async def asking(hostile: Hostile, timeouts: Timeouts) -> AsyncIterator[ImdsClient]:
    """A client that knows this server alone."""
    async with (
        serving(hostile) as endpoint,
        ImdsClient(ImdsOptions((endpoint,), timeouts=timeouts)) as client,
    ):
        yield client


@attacks
async def test_a_key_is_unknown_and_all_others_are_read(attack: Hostile) -> None:
    hostile = begin(attack, "/ipv6s")
    async with asking(hostile, PATIENT) as client:
        reader = EniReader(client, MAC)
        tracemalloc.start()
        metadata = await reader.poll(depth=Depth.EVERYTHING)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert isinstance(metadata.v6.addresses, Unknown)
        assert isinstance(metadata.v4.addresses, Value)
        assert isinstance(metadata.v4.cidrs, Value)
        assert isinstance(metadata.v6.cidrs, Value)
        assert all(map(is_safe, whys(metadata))), whys(metadata)
        assert is_safe(str(client.condition))
        assert peak < MEMORY
        assert "/evil" not in "".join(hostile.asked)
        # It ends, and all is known.
        hostile.on = "never"
        assert isinstance((await reader.poll(depth=Depth.EVERYTHING)).v6.addresses, Value)


@attacks
async def test_no_token_is_made_of_it(attack: Hostile) -> None:
    hostile = begin(attack, "/api/token")
    async with asking(hostile, TIMEOUTS) as client:
        assert isinstance(await client.get("mac"), Unknown)
        assert client.condition.state != "ok"
        assert is_safe(str(client.condition))
        assert client.condition.retry_at is not None


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(b"t" * (1 << 20), id="of a megabyte"),
        pytest.param(b"a\r\nX-Evil: 1", id="of two lines"),
        pytest.param(b"a\x00b", id="with a zero"),
        pytest.param(b"\x1b[2J", id="of escape sequences"),
        pytest.param(b"", id="of nothing"),
    ],
)
async def test_a_token_that_is_none(token: bytes) -> None:
    hostile = Hostile((reply(token),), on="/api/token", tree=dict(TREE))
    async with asking(hostile, TIMEOUTS) as client:
        assert isinstance(await client.get("mac"), Unknown)
        assert is_safe(str(client.condition))
        assert hostile.asked == ["/latest/api/token"]


@pytest.mark.parametrize("lines", [257, 1000, 3000])
async def test_a_list_has_an_end(lines: int) -> None:
    tree = dict(TREE)
    tree[f"{MACS}{MAC}/ipv6s"] = b"\n".join(b"2001:db8:0:2::%x" % n for n in range(16, 16 + lines))
    hostile = Hostile(on="never", tree=tree)
    async with serving(hostile) as endpoint, ImdsClient(ImdsOptions((endpoint,))) as client:
        metadata = await EniReader(client, MAC).poll(depth=Depth.EVERYTHING)
    answer = metadata.v6.addresses
    assert isinstance(answer, Value)
    assert len(answer.value) == 256
    assert metadata.refused
    assert all(map(is_safe, metadata.refused))


@pytest.mark.parametrize("key", LEAVES)
@pytest.mark.parametrize("how", ["alone", "before", "behind", "within"])
async def test_no_escape_sequence_gets_through(key: str, how: str) -> None:
    good, bad = LEAVES[key], ESCAPES.encode()
    said = {
        "alone": bad,
        "before": bad + b"\n" + good,
        "behind": good + b"\n" + bad,
        "within": good[:1] + bad.strip() + good[1:],
    }
    hostile = Hostile(on="never", tree=TREE | {f"{MACS}{MAC}/{key}": said[how]})
    async with serving(hostile) as endpoint, ImdsClient(ImdsOptions((endpoint,))) as client:
        metadata = await EniReader(client, MAC).poll(depth=Depth.EVERYTHING)
    assert all(map(is_safe, [*whys(metadata), *metadata.refused]))
    values = [answer.value for answer in every(metadata) if isinstance(answer, Value)]
    assert all(is_safe(str(value)) for value in values)
    assert metadata.refused or whys(metadata)
