"""The ways into a virtual machine that are not its network: JSON lines over Unix sockets."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

LINE_LIMIT: Final = 64 * 1024 * 1024  # bytes: output of a command, or an entry of the journal
SYNC_PATIENCE: Final = 2.0  # s until a question that may have been lost is asked again
POLL: Final = 0.05  # s between questions whether a command has ended; the agent tells no other way

Json = dict[str, Any]


class ChannelError(Exception):
    """QEMU or the agent refused something; the text says what."""


class Channel:
    """One socket. What arrives is handed to `_receive`, in a task of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        reader, self._writer = await self._connect()
        self._task = asyncio.create_task(self._read(reader))
        return self

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            try:
                return await asyncio.open_unix_connection(self._path, limit=LINE_LIMIT)
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(POLL)  # QEMU makes it, and says so to nobody

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        async for line in reader:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # a reboot cut it in two, or the line is empty
            async with self._news:
                self._receive(said)
                self._news.notify_all()

    def _receive(self, said: Json) -> None:
        raise NotImplementedError

    def _send(self, said: Json) -> None:
        self._writer.write(json.dumps(said).encode() + b"\n")


class Asking(Channel):
    """A channel of questions and answers, one at a time, and perhaps of events."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._turn = asyncio.Lock()
        self._answers: list[Json] = []
        self.events: list[Json] = []

    def _receive(self, said: Json) -> None:
        (self.events if "event" in said else self._answers).append(said)

    async def ask(self, command: str, **arguments: object) -> Any:
        """What a command returns. Raises ChannelError."""
        async with self._turn:
            self._answers.clear()
            self._send({"execute": command, "arguments": arguments})
            async with self._news:
                await self._news.wait_for(lambda: self._answers)
                answer = self._answers.pop()
        if "error" in answer:
            raise ChannelError(f"{command}: {answer['error'].get('desc')}")
        return answer.get("return")


class Qmp(Asking):
    """QEMU's monitor."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        async with self._news:
            await self._news.wait_for(lambda: self._answers)  # its greeting
        await self.ask("qmp_capabilities")
        return self

    async def event(self, name: str, since: int = 0, **data: object) -> None:
        """Return once an event with these data has come, counted from number `since`."""

        def has_come() -> bool:
            return any(
                event["event"] == name and data.items() <= event.get("data", {}).items()
                for event in self.events[since:]
            )

        async with self._news:
            await self._news.wait_for(has_come)


@dataclass(frozen=True, slots=True)
class Output:
    """How a command in the machine ended."""

    code: int
    out: str
    err: str


class Agent(Asking):
    """The guest agent: runs commands as root in the machine."""

    _serial = itertools.count(1)

    async def sync(self) -> None:
        """Return once the agent answers (again)."""
        while True:
            number = next(self._serial)
            try:
                async with asyncio.timeout(SYNC_PATIENCE):
                    if await self.ask("guest-sync", id=number) == number:
                        return
            except TimeoutError:
                continue

    def reboot(self) -> None:
        """Begin to restart the machine."""
        self._send({"execute": "guest-shutdown", "arguments": {"mode": "reboot"}})  # no answer

    async def run(self, *command: str, stdin: str = "") -> Output:
        """Run a command to its end."""
        started = await self.ask(
            "guest-exec",
            path=command[0],
            arg=list(command[1:]),
            env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER=", "LC_ALL=C.UTF-8"],
            **{"input-data": base64.b64encode(stdin.encode()).decode()},
            **{"capture-output": True},
        )
        while True:
            ended = await self.ask("guest-exec-status", pid=started["pid"])
            if ended["exited"]:
                break
            await asyncio.sleep(POLL)
        out, err = (
            base64.b64decode(ended.get(f"{which}-data", "")).decode(errors="replace")
            for which in ("out", "err")
        )
        return Output(ended.get("exitcode", -ended.get("signal", 1)), out, err)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the machine's journal."""

    at: float  # monotonic, of our own clock, when it arrived
    fields: Json

    @property
    def message(self) -> str:
        """Its text."""
        return str(self.fields.get("MESSAGE", ""))


class Journal(Channel):
    """The machine's journal, as it grows."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.entries: list[Entry] = []

    def _receive(self, said: Json) -> None:
        self.entries.append(Entry(time.monotonic(), said))

    @property
    def now(self) -> int:
        """The number of the next entry."""
        return len(self.entries)

    async def until(
        self, wanted: Callable[[Entry], bool], since: int = 0, within: float = 60.0
    ) -> Entry:
        """The first entry of that kind, from number `since` on; TimeoutError after `within` s."""
        async with asyncio.timeout(within), self._news:
            await self._news.wait_for(lambda: any(map(wanted, self.entries[since:])))
            return next(filter(wanted, self.entries[since:]))

    def text(self) -> str:
        """All of it, a line each, for people."""
        return "\n".join(
            f"{entry.fields.get('__MONOTONIC_TIMESTAMP', '?'):>12} "
            f"{entry.fields.get('SYSLOG_IDENTIFIER', '?')}: {entry.message}"
            for entry in self.entries
        )
