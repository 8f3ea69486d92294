"""The request socket against a peer that plays the kernel and says what the script says."""

from __future__ import annotations

import asyncio
import socket
from errno import EAFNOSUPPORT, ENODEV, ENOENT, EOPNOTSUPP, EPERM
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from nicwatchd.core.model import AddAddress, AddRule, Family, RemoveRule, Rule, SetUp
from nicwatchd.core.port import KernelError, Result, RouteAnswer
from nicwatchd.netlink.encode import Request
from nicwatchd.netlink.request import (
    BATCH,
    BREATH,
    DUMP_TRIES,
    QUESTIONS,
    Reply,
    RequestSocket,
    open_request_socket,
)
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.netlink.wire import HEADER, S32, attribute, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nicwatchd.netlink.wire import Message

ERROR, DONE, ROW = 2, 3, 32
REQUEST, MULTI, ACK, INTERRUPTED, CAPPED, TLVS = 0x1, 0x2, 0x4, 0x10, 0x100, 0x200
QUESTION = Request(34, 0, b"")


def error(sequence: int, errno: int = 0, words: str = "") -> bytes:
    """An acknowledgement, capped as we ask for it."""
    body = S32.pack(-errno) + HEADER.pack(16, 34, 0, sequence, 0)
    flags = CAPPED
    if words:
        flags |= TLVS
        body += attribute(1, words.encode() + b"\0")
    return pack(ERROR, flags, sequence, body)


def row(sequence: int, body: bytes = b"row.", flags: int = MULTI) -> bytes:
    return pack(ROW, flags, sequence, body)


def done(sequence: int, errno: int = 0, flags: int = MULTI) -> bytes:
    return pack(DONE, flags, sequence, S32.pack(-errno))


class Peer:
    """The kernel's ends: one for each time that a socket was opened."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []
        self.ours: list[socket.socket] = []

    def connect(self) -> socket.socket:
        ours, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.settimeout(0)
        end.settimeout(0)
        self.ends.append(end)
        self.ours.append(ours)
        return ours

    def say(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.ends[-1].send(datagram)

    def hear(self) -> list[Message]:
        """The next datagram's requests."""
        return list(unpack(self.ends[-1].recv(1 << 16)))

    def heard(self) -> list[int]:
        """Their sequence numbers."""
        return [message.sequence for message in self.hear()]


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    for end in peer.ends + peer.ours:
        end.close()


async def test_a_dump_is_all_of_its_datagrams(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    peer.say(row(1, b"one.") + row(1, b"skip"), row(1, b"two."), done(1))
    rows = await requests.dump(QUESTION, lambda body: None if body == b"skip" else body)
    assert rows == [b"one.", b"two."]


@pytest.mark.parametrize(
    "interrupted",
    [
        (row(1, flags=MULTI | INTERRUPTED), done(1)),
        (row(1), done(1, flags=MULTI | INTERRUPTED)),
    ],
    ids=["in a row", "at the end"],
)
async def test_an_interrupted_dump_is_repeated(peer: Peer, interrupted: tuple[bytes]) -> None:
    requests = RequestSocket(peer.connect)
    peer.say(*interrupted, row(2, b"new."), done(2))
    assert await requests.dump(QUESTION, bytes) == [b"new."]


async def test_a_dump_that_is_always_interrupted_is_given_up(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    for sequence in range(1, DUMP_TRIES + 1):
        peer.say(done(sequence, flags=MULTI | INTERRUPTED))
    with pytest.raises(KernelError, match="interrupted 5 times"):
        await requests.dump(QUESTION, bytes)


@pytest.mark.parametrize("errno", [ENOENT, ENODEV, EAFNOSUPPORT, EOPNOTSUPP])
async def test_a_dump_of_nothing_is_empty(peer: Peer, errno: int) -> None:
    requests = RequestSocket(peer.connect)
    peer.say(done(1, errno), error(2, errno))
    assert await requests.dump(QUESTION, bytes) == []
    assert await requests.dump(QUESTION, bytes) == []


async def test_a_refused_dump_says_the_kernels_words(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    peer.say(error(1, EPERM, "not for you"))
    with pytest.raises(KernelError, match="not for you"):
        await requests.dump(QUESTION, bytes)
    assert peer.ours[0].fileno() == -1  # nothing of it can be taken for the next answer


async def test_answers_to_other_questions_are_passed_over(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    peer.say(row(99, b"alien"), row(0, b"event"), row(1, b"ours"))
    assert await requests.get(QUESTION) == b"ours"


async def test_a_question_may_be_answered_with_an_errno(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    peer.say(error(1, ENODEV))
    assert await requests.get(QUESTION) == ENODEV


async def test_the_kernel_tells_of_what_failed_in_a_batch_and_of_its_end(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    peer.say(error(1, EPERM, "no") + error(3, ENOENT), error(4))
    assert await requests.batch([QUESTION] * 4) == [
        Reply(EPERM, "no"),
        Reply(0, ""),
        Reply(ENOENT, ""),
        Reply(0, ""),
    ]
    sent = peer.hear()  # one send
    assert [(message.sequence, message.flags) for message in sent] == [
        *((number, REQUEST) for number in (1, 2, 3)),
        (4, REQUEST | ACK),
    ]
    peer.say(error(5, EPERM), error(6, ENODEV))
    assert [reply.errno for reply in await requests.batch([QUESTION] * 2)] == [EPERM, ENODEV]
    assert await requests.batch([]) == []


@pytest.mark.usefixtures("namespace")
async def test_a_failure_that_the_kernel_could_not_tell_of_fails_the_batch() -> None:
    """With our buffer full, what is left out would else count as done."""

    def connect() -> socket.socket:
        sock = open_request_socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the smallest that there is
        return sock

    kernel = NetlinkKernel(RequestSocket(connect))
    rule = RemoveRule(Rule(Family.V4, 100, 77))
    assert [o.errno for o in await kernel.run([rule])] == [ENOENT]
    with pytest.raises(KernelError, match="No buffer space"):
        await kernel.run([rule] * BATCH)
    kernel.close()


async def test_questions_are_sent_together_and_answered_in_order(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    last = QUESTIONS + 1
    rest = b"".join(row(number, b"%04d" % number) for number in range(3, last))
    peer.say(row(2, b"two.") + error(1, ENODEV), rest, row(last, b"last"))
    answers = await requests.ask([QUESTION] * last)
    assert answers[:3] == [ENODEV, b"two.", b"0003"]
    assert (answers[-2:], len(answers)) == ([b"%04d" % QUESTIONS, b"last"], last)
    assert [peer.heard(), peer.heard()] == [[*range(1, last)], [last]]
    assert await requests.ask([]) == []


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("dst", ["127.0.0.1", "::1"])
async def test_answers_to_all_questions_of_one_send_fit_into_the_buffer(dst: str) -> None:
    kernel = NetlinkKernel()
    await kernel.run([SetUp(1)])
    asked = [(ip_address(dst), ip_address(dst), 0)] * (2 * BATCH + 1)
    answers = await kernel.route_gets(asked)
    assert [isinstance(each, RouteAnswer) and each.oif for each in answers] == [1] * len(asked)
    kernel.close()


async def test_the_rest_of_the_program_breathes_during_a_long_batch(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    for first in (1, BATCH + 1):  # the kernel answers at once: nothing is ever waited for
        peer.say(b"".join(error(number) for number in range(first, first + BATCH)))
    encoded = 0
    seen = []

    def encode() -> Iterator[Request]:
        nonlocal encoded
        for _ in range(2 * BATCH):
            encoded += 1
            yield QUESTION

    batch = asyncio.ensure_future(requests.batch(encode()))
    while not batch.done():
        seen.append(encoded)
        await asyncio.sleep(0)
    assert await batch == [Reply(0, "")] * (2 * BATCH)
    assert BATCH in seen


async def test_the_rest_of_the_program_breathes_while_many_questions_are_asked(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    for first in range(1, 2 * BATCH, QUESTIONS):
        peer.say(b"".join(row(number) for number in range(first, first + QUESTIONS)))
    asking = asyncio.ensure_future(requests.ask([QUESTION] * (2 * BATCH)))
    turns = 0
    while not asking.done():
        turns += 1
        await asyncio.sleep(0)
    assert await asking == [b"row."] * (2 * BATCH)
    assert turns > 2


async def test_the_rest_of_the_program_breathes_during_a_long_dump(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    rows = BREATH // 2000
    for _ in range(3 * rows):
        peer.say(row(1, bytes(2000)))
    peer.say(done(1))
    dump = asyncio.ensure_future(requests.dump(QUESTION, bytes))
    turns = 0
    while not dump.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(await dump) == 3 * rows
    assert turns > 2


async def test_words_behind_an_uncapped_request(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    request = pack(QUESTION.type, 0, 1, b"12345678")
    body = S32.pack(-EPERM) + request + attribute(1, b"words\0")
    peer.say(pack(ERROR, TLVS, 1, body))
    assert await requests.batch([QUESTION]) == [Reply(EPERM, "words")]


async def test_a_silent_kernel_is_given_up_and_its_socket_replaced(peer: Peer) -> None:
    requests = RequestSocket(peer.connect, timeout=0.01)
    with pytest.raises(KernelError, match=r"no answer from the kernel in 0\.01 s"):
        await requests.get(QUESTION)
    assert requests.port_id is None
    assert peer.ours[0].fileno() == -1
    requests._timeout = 5
    waiting = asyncio.ensure_future(requests.get(QUESTION))
    await asyncio.sleep(0)
    peer.say(row(2, b"late"))
    assert await waiting == b"late"
    assert len(peer.ends) == 2


async def test_a_cancelled_request_leaves_no_answers_behind(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    waiting = asyncio.ensure_future(requests.dump(QUESTION, bytes))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert peer.ours[0].fileno() == -1


async def test_a_broken_socket_is_an_error_of_the_kernel(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    peer.ends[0].close()
    with pytest.raises(KernelError, match="the netlink socket failed"):
        await requests.get(QUESTION)


async def test_requests_wait_for_each_other(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    both = asyncio.gather(requests.get(QUESTION), requests.get(QUESTION))
    await asyncio.sleep(0)
    assert peer.heard() == [1]
    with pytest.raises(BlockingIOError):
        peer.heard()
    peer.say(row(1, b"first"), row(2, b"second"))
    assert list(await both) == [b"first", b"second"]


async def test_sequence_numbers_start_again_in_time(peer: Peer) -> None:
    requests = RequestSocket(peer.connect)
    requests._sequence = 0xFFFFFFFF
    peer.say(row(1, b"fresh"))
    assert await requests.get(QUESTION) == b"fresh"


@pytest.mark.usefixtures("namespace")
async def test_batches_beyond_one_send_and_dumps_beyond_one_datagram() -> None:
    kernel = NetlinkKernel()
    rules = [
        Rule(Family.V6, 100, 77, src=ip_network((0x20010DB8 << 96 | i, 128)))
        for i in range(5 * BATCH + 1)
    ]
    outcomes = await kernel.run([AddRule(rule) for rule in rules])
    assert {outcome.result for outcome in outcomes} == {Result.DONE}
    assert [rule for rule in await kernel.rules() if rule.table == 77] == rules
    outcomes = await kernel.run([RemoveRule(rule) for rule in rules] * 2)
    errnos = [outcome.errno for outcome in outcomes]
    assert errnos == [0] * len(rules) + [ENOENT] * len(rules)
    kernel.close()


@pytest.mark.usefixtures("namespace")
async def test_the_kernels_own_words_reach_the_outcome() -> None:
    kernel = NetlinkKernel()
    add = AddAddress(1, ip_address("10.0.0.5"))
    _, again = await kernel.run([add, add])
    assert again.message == "ipv4: Address already assigned"
    kernel.close()
