"""A virtual machine under QEMU's software emulation, with interfaces that can be hot-plugged."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.vm.channels import Agent, Journal, Output, Qmp
from tests.vm.image import Image

QEMU: Final = "qemu-system-x86_64"
BOOT_PATIENCE: Final = 600.0  # s; it ends what hangs, on a machine that is busy with other things
UNPLUG_PATIENCE: Final = 30.0  # s
FIRST_SLOT, LAST_SLOT = 5, 0x1B  # of interfaces; EC2's primary is ens5, too
# Mitigations make emulation several times slower, and protect nothing here. On a busy machine the
# emulated timer is late at boot, which the kernel takes for a broken one, and panics. Emulated, two
# processors sometimes trip over code that the kernel patches at boot: after a panic it boots again.
KERNEL_LINE: Final = (
    "root=/dev/vda rw fsck.mode=skip mitigations=off no_timer_check 8250.nr_uarts=1"
    " console=ttyS0 quiet systemd.show_status=no panic=1"
)
# What `max` has beside it, such as AVX2 and guards of memory, takes an eighth more of emulation.
CPU: Final = "qemu64"
TIMED: Final = ("-accel", "tcg", "-smp", "2")
# One nanosecond of the machine's time for each instruction, by one processor for all.
COUNTED: Final = ("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-smp", "1")
# By its first letters software knows EC2; there the serial number is the same.
EC2_UUID: Final = "ec2e1916-9099-7caf-fd21-012345abcdef"
STARTED: Final = "b07a249cd024414a82dd00cd181378ff"  # SD_MESSAGE_STARTUP_FINISHED


@dataclass(frozen=True, slots=True)
class Nic:
    """A network interface: its MAC, the tap that it is joined to, and its PCI slot."""

    mac: str
    tap: str
    slot: int

    @property
    def id(self) -> str:
        """What QEMU calls it."""
        return f"nic{self.slot}"

    @property
    def name(self) -> str:
        """What udev calls it, by its slot."""
        return f"ens{self.slot}"


class VmError(Exception):
    """A command in the machine failed, or the machine did."""


class Vm:
    """`async with Vm(image, directory, popen, nic) as vm`: booted, with its primary interface.

    `popen` starts a process where the taps are; `directory` takes sockets and the console's log;
    `package`, if any, is a file that the machine finds as its disk /dev/vdb. What is written to the
    disk is gone with the machine. Its clock is the host's; or it is `counted` in instructions, so
    that whatever else the host does takes none of its time. `kernel_words` are more words for the
    kernel's command line.
    """

    def __init__(
        self,
        image: Image,
        directory: Path,
        popen: Callable[..., Awaitable[Process]],
        primary: Nic,
        package: Path | None = None,
        *,
        counted: bool = False,
        kernel_words: tuple[str, ...] = (),
    ) -> None:
        self._image, self._directory, self._popen, self._package = image, directory, popen, package
        self.console = directory / "console.log"
        self.qmp, self.agent = Qmp(directory / "qmp"), Agent(directory / "agent")
        self.journal = Journal(directory / "journal")
        self._clock = COUNTED if counted else TIMED
        self._kernel_line = " ".join((KERNEL_LINE, *kernel_words))
        self._nics = {primary.mac: primary}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        with (self._directory / "qemu.log").open("wb") as log:
            self._process = await self._popen(*self._command(), stdout=log, stderr=log)
        try:
            async with asyncio.timeout(BOOT_PATIENCE):
                for channel in (self.qmp, self.journal, self.agent):
                    await self._stack.enter_async_context(channel)
                await self._booted(0, 0)
        except TimeoutError:
            await self.__aexit__()
            raise VmError(f"it does not boot:\n{self.evidence()}") from None
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        self._process.kill()  # nothing of it is kept
        await self._process.wait()

    def _command(self) -> list[str]:
        (primary,) = self._nics.values()
        image = self._image
        return [
            *(QEMU, "-machine", "pc", *self._clock, "-cpu", CPU, "-m", "1G"),
            *("-nodefaults", "-no-user-config", "-display", "none"),
            *("-smbios", f"type=1,manufacturer=Amazon EC2,uuid={EC2_UUID},serial={EC2_UUID}"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append"),
            self._kernel_line,
            # All but interfaces in the high slots: theirs are theirs.
            *("-drive", f"file={image.disk},format=raw,if=none,id=root,snapshot=on"),
            *("-device", "virtio-blk-pci,drive=root,addr=0x1c"),
            *self._second_disk(),
            *("-device", "virtio-rng-pci,addr=0x1e"),
            *("-serial", f"file:{self.console}"),
            *("-qmp", f"unix:{self._directory / 'qmp'},server=on,wait=off"),
            *("-device", "virtio-serial-pci,addr=0x1f"),
            *self._port("agent", "org.qemu.guest_agent.0"),
            *self._port("journal", "journal"),
            *("-netdev", f"tap,id={primary.id},ifname={primary.tap},script=no,downscript=no"),
            *("-device", ",".join(f"{k}={v}" for k, v in _device(primary).items())),
        ]

    def _second_disk(self) -> list[str]:
        if self._package is None:
            return []
        return [
            *("-drive", f"file={self._package},format=raw,if=none,id=package,readonly=on"),
            *("-device", "virtio-blk-pci,drive=package,addr=0x1d"),
        ]

    def _port(self, name: str, port: str) -> list[str]:
        return [
            *("-chardev", f"socket,id={name},path={self._directory / name},server=on,wait=off"),
            *("-device", f"virtserialport,chardev={name},id={name}-port,name={port}"),
        ]

    async def _booted(self, events: int, entries: int) -> None:
        """Return once the agent answers and systemd has nothing left to start."""
        await self.qmp.event("VSERPORT_CHANGE", events, id="agent-port", open=True)
        await self.agent.sync()
        await self.journal.until(
            lambda entry: entry.fields.get("MESSAGE_ID") == STARTED, entries, BOOT_PATIENCE
        )

    async def reboot(self) -> None:
        """Restart it in good order."""
        events, entries = len(self.qmp.events), self.journal.now
        try:
            async with asyncio.timeout(BOOT_PATIENCE):
                self.agent.reboot()
                await self.qmp.event("RESET", events)
                await self._booted(len(self.qmp.events), entries)
        except TimeoutError:
            raise VmError(f"it does not boot again:\n{self.evidence()}") from None

    # --- interfaces ------------------------------------------------------------------------------

    async def plug(self, mac: str, tap: str) -> Nic:
        """Hot-plug an interface into the next free slot."""
        taken = {nic.slot for nic in self._nics.values()}
        slot = next(n for n in range(FIRST_SLOT, LAST_SLOT + 1) if n not in taken)
        nic = Nic(mac, tap, slot)
        net = {"type": "tap", "id": nic.id, "ifname": tap, "script": "no", "downscript": "no"}
        await self.qmp.ask("netdev_add", **net)
        await self.qmp.ask("device_add", **_device(nic))
        self._nics[mac] = nic
        return nic

    async def unplug(self, mac: str) -> None:
        """Detach an interface: the machine is asked, and gives it up."""
        nic = self._nics[mac]
        since = len(self.qmp.events)
        await self.qmp.ask("device_del", id=nic.id)
        async with asyncio.timeout(UNPLUG_PATIENCE):
            await self.qmp.event("DEVICE_DELETED", since, device=nic.id)
        await self.qmp.ask("netdev_del", id=nic.id)
        del self._nics[mac]

    # --- commands --------------------------------------------------------------------------------

    async def run(self, *command: str, stdin: str = "") -> str:
        """What a command writes to its standard output. Raises VmError when it fails."""
        ended = await self.agent.run(*command, stdin=stdin)
        if ended.code != 0:
            raise VmError(f"`{' '.join(command)}`: {ended.code}: {ended.err or ended.out}")
        return ended.out

    async def write(self, path: str, text: str) -> None:
        """Write a file, and the directories on the way to it."""
        await self.run("install", "-D", "-m", "644", "/dev/stdin", path, stdin=text)

    async def try_run(self, *command: str) -> Output:
        """Run a command that may fail."""
        return await self.agent.run(*command)

    def evidence(self) -> str:
        """All that it said, for whoever looks into a failure."""
        console = self.console.read_text(errors="replace") if self.console.exists() else ""
        qemu = (self._directory / "qemu.log").read_text(errors="replace")
        parts = {"QEMU": qemu, "console": console, "journal": self.journal.text()}
        return "\n".join(f"--- {name} ---\n{text}" for name, text in parts.items())


def _device(nic: Nic) -> dict[str, str]:
    return {
        "driver": "virtio-net-pci",
        "id": nic.id,
        "netdev": nic.id,
        "mac": nic.mac,
        "addr": f"{nic.slot:#x}",
        "romfile": "",
    }
