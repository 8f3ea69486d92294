"""An EC2 host that is a virtual machine: the VPC around it, its metadata service, and itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from difflib import unified_diff
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import eni_of
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import Path as ProbePath
from nicwatchd.sim.probe import all_answer, paths
from nicwatchd.sim.script import EniScript, Scenario
from tests.vm.channels import Entry
from tests.vm.image import Image
from tests.vm.vm import Nic, Vm
from tests.vm.vpc import TapVpc

PRIMARY: Final = EniScript(
    "ens5",
    "02:00:00:00:00:01",  # the image's networkd knows it by this
    ipv4=("10.0.1.10",),
    ipv6=("2001:db8:0:1::10",),
    subnet_ipv4="10.0.1.0/24",
    subnet_ipv6=("2001:db8:0:1::/64",),
    device_number=0,
)
PATIENCE: Final = 240.0  # s; emulated, on a busy machine. It measures nothing
PEER_PATIENCE: Final = 900.0  # s; cloud-init needs a minute for each event, and lags behind

FAR: Final = {Family.V4: "198.51.100.50", Family.V6: "2001:db8:5100::50"}
GROUP: Final = "3778"  # of links; ours
# In emulation, the command with its imports takes ten times as long.
GET: Final = """
import socket, sys
with socket.socket(socket.AF_UNIX) as call:
    call.connect("/run/nicwatchd/nicwatchd.sock")
    call.sendall(f"GET {sys.argv[1]} HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n".encode())
    sys.stdout.write(call.makefile(newline="").read().partition("\\r\\n\\r\\n")[2])
"""

ROOT: Final = Path(__file__).parents[2]

Status = dict[str, Any]


def package() -> Path:
    """The Debian package that `make deb` made last. Raises FileNotFoundError, with advice."""
    made = list((ROOT / "dist").glob("nicwatchd_*_amd64.deb"))
    if not made:
        raise FileNotFoundError("there is no package in dist/: run `make deb`")
    return max(made, key=lambda path: path.stat().st_mtime)


class VmHost:
    """`async with VmHost(image, directory, package) as host`: booted, its primary in use.

    Without a package, nicwatchd stays out of it: what is said of it below then has no answer.
    `counted`, `kernel_words`: see `Vm`.
    """

    def __init__(
        self,
        image: Image,
        directory: Path,
        package: Path | None = None,
        *,
        counted: bool = False,
        kernel_words: tuple[str, ...] = (),
    ) -> None:
        self.imds = ImdsServer(Scenario(PRIMARY.mac, (PRIMARY,)))
        self.vpc = TapVpc(primary=eni_of(PRIMARY))
        self.peer_table = image.peer_table
        self._image, self._directory, self._package = image, directory, package
        self._counted, self._kernel_words = counted, kernel_words
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._stack.enter_async_context(self.vpc)
            await self.imds.start(*self.vpc.imds_sockets())
            self._stack.push_async_callback(self.imds.stop)
            primary = self.vpc.primary
            nic = Nic(primary.mac, await self.vpc.add_tap(primary), slot=5)
            vpc = self.vpc

            async def popen(*command: str, **options: Any) -> asyncio.subprocess.Process:
                return await vpc.popen(vpc.router, *command, **options)

            vm = Vm(
                *(self._image, self._directory, popen, nic, self._package),
                counted=self._counted,
                kernel_words=self._kernel_words,
            )
            self.vm = await self._stack.enter_async_context(vm)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # --- interfaces ------------------------------------------------------------------------------

    @asynccontextmanager
    async def plugged(self, *scripts: EniScript, dhcp: bool = True) -> AsyncIterator[list[Eni]]:
        """Hot-plug ENIs, one after the other, and detach those that are left at the end."""
        enis = [await self.plug(script, dhcp=dhcp) for script in scripts]
        try:
            yield enis
        finally:
            for script in scripts:
                if any(eni.mac == script.mac for eni in self.vpc.enis):
                    await self.unplug(script)

    async def plug(self, script: EniScript, *, dhcp: bool = True) -> Eni:
        """Hot-plug one. IMDS's clock for it starts a moment before."""
        eni = eni_of(script)
        tap = await self.vpc.add_tap(eni, dhcp=dhcp)
        self.imds.plug(script)
        await self.vm.plug(script.mac, tap)
        return eni

    async def unplug(self, script: EniScript) -> None:
        """Detach one; IMDS knows at once."""
        await self.vm.unplug(script.mac)
        self.imds.unplug(script.name)
        await self.vpc.unplug(eni_of(script))

    async def use(self, *enis: Eni) -> list[str]:
        """Return once everybody reaches the ENIs and nothing of ours changes any more: `ours`."""
        if self.peer_table is not None:
            await self.eventually(lambda: self.peer_serves(*enis), PEER_PATIENCE)
        await all_answer(self.vpc, self.paths(*enis), PATIENCE)
        # Addresses answer long before the DHCP client has its routes. Until then, nicwatchd's table
        # lacks what it takes over from main, and main may have nicwatchd's default instead.
        for eni in (self.vpc.primary, *enis):
            if self.vpc.serves_dhcp(eni):
                await self.eventually(partial(self._leads_out, eni))
        before: list[str] = []
        while before != (now := await self._settled()):
            before = now
        return now

    async def _leads_out(self, eni: Eni) -> bool:
        """Whether main has default routes by an ENI, of each of its families, not nicwatchd's."""
        families = {f"-{address.version}" for address in eni.addresses()}
        link = await self.link_of(eni)
        shown = [
            await self.vm.run("ip", family, "route", "show", "default", "dev", link)
            for family in families
        ]
        return all(any("proto 236" not in line for line in s.splitlines()) for s in shown)

    async def link_of(self, eni: Eni) -> str:
        """What the guest calls the link of an ENI."""
        links = json.loads(await self.vm.run("ip", "-json", "link"))
        return next(str(link["ifname"]) for link in links if link.get("address") == eni.mac)

    async def _settled(self) -> list[str]:
        """What is ours, once the daemon has read everything anew and waits for nothing."""

        async def is_settled() -> bool:
            return (await self.vm.try_run("nicwatchd", "reconcile")).code == 0

        await self.eventually(is_settled)
        return await self.ours()

    async def has_kept(self, programmed: list[str]) -> None:
        """Raise AssertionError unless all that is ours is what it was.

        Whoever reconfigures a link takes its addresses away for a moment, and with them the kernel
        takes routes. So beside other software it may take a moment.
        """

        async def kept() -> bool:
            return await self.ours() == programmed

        if self.peer_table is not None:
            with suppress(TimeoutError):
                await self.eventually(kept)
        there = await self.ours()
        assert there == programmed, "\n".join(unified_diff(programmed, there, "was", "is", n=0))

    def from_afar(self, eni: Eni) -> tuple[ProbePath, ...]:
        """From the far hosts alone: what nicwatchd does not protect is left with that."""
        return paths(self.vpc.far_hosts, eni.addresses())

    def to_primary(self, *enis: Eni) -> tuple[ProbePath, ...]:
        """From everybody to the primary: also from the subnets of these ENIs."""
        return paths(self.vpc.peers(self.vpc.primary, *enis), self.vpc.primary.addresses())

    async def leads(self, family: Family) -> str:
        """The link by which the host's own traffic leaves for a far host."""
        words = ("ip", "-json", f"-{family.value}", "route", "get", FAR[family])
        (found,) = json.loads(await self.vm.run(*words))
        return str(found["dev"])

    def paths(self, *enis: Eni) -> tuple[ProbePath, ...]:
        """From each far host and neighbour to each address of the ENIs."""
        return paths(self.vpc.peers(*enis), [a for eni in enis for a in eni.addresses()])

    async def peer_serves(self, *enis: Eni) -> bool:
        """Whether other software has a rule for each address of the ENIs."""
        rules = [
            line.split()
            for family in ("-4", "-6")
            for line in (await self.vm.run("ip", family, "rule")).splitlines()
            if " proto 236" not in line
        ]
        sources = {rule[2] for rule in rules}
        return sources >= {str(address) for eni in enis for address in eni.addresses()}

    # --- nicwatchd -------------------------------------------------------------------------------

    async def install(self) -> None:
        """Install the package as users do, on the running machine; it is started by that."""
        if self._package is None:
            raise ValueError("this host was made without a package")
        size = self._package.stat().st_size  # the disk's is rounded up
        await self.vm.run("sh", "-c", f"head -c {size} /dev/vdb >/run/nicwatchd.deb")
        await self.vm.run("dpkg", "--install", "/run/nicwatchd.deb")
        await self.vm.run("systemctl", "is-active", "nicwatchd")

    async def settings(self, text: str = "") -> None:
        """Run nicwatchd with these settings on top; without any, with those of the image."""
        await self.vm.write("/etc/nicwatchd/conf.d/test.toml", text)
        await self.vm.run("systemctl", "restart", "nicwatchd")

    async def until(self, name: str, state: str, since: int = 0) -> Entry:
        """The entry, counted from number `since`, by which an interface got to a state."""

        def is_it(entry: Entry) -> bool:
            fields = entry.fields
            return (fields.get("INTERFACE"), fields.get("NICWATCHD_STATE")) == (name, state)

        try:
            return await self.vm.journal.until(is_it, since, PATIENCE)
        except TimeoutError:
            raise TimeoutError(f"{name} is not {state}: {await self.status(name)}") from None

    async def status(self, name: str) -> Status:
        """What nicwatchd says of an interface; nothing, where it knows none of that name."""
        host = await self.host_status()
        return next((i for i in host["interfaces"] if i["name"] == name), {})

    async def host_status(self) -> Status:
        """What nicwatchd says of the host."""
        return dict(json.loads(await self._get("/v1/status")))

    async def is_in_our_group(self, name: str) -> bool:
        """Whether a link is there, and in the group of the ENIs."""
        shown = (await self.vm.try_run("ip", "-json", "link", "show", "dev", name)).out
        return shown != "" and str(json.loads(shown)[0]["group"]) == GROUP

    async def metrics(self) -> str:
        """What a scraper is told."""
        return await self._get("/metrics")

    async def _get(self, path: str) -> str:
        """What the control socket answers."""
        return await self.vm.run("python3", "-I", "-S", "-c", GET, path)

    async def ours(self) -> list[str]:
        """All rules and routes that carry our mark, a line each.

        Rules are in their order for each selector; of two selectors, no packet sees which is first.
        """
        # `ip rule show proto` filters nothing, and `ip route show proto` does not print it.
        said = [
            await self.vm.run("ip", family, *what)
            for family in ("-4", "-6")
            for what in (("rule",), ("route", "show", "table", "all"))
        ]
        lines = (
            sorted(text.splitlines(), key=lambda line: line.partition(" lookup ")[0])
            for text in said
        )
        return [line for of in lines for line in of if " proto 236" in line]

    async def keeps_nothing(self) -> None:
        """Wait until nothing of ours is left: what is told first goes a moment later."""

        async def is_clean() -> bool:
            return not await self.ours()

        await self.eventually(is_clean)

    async def ours_of(self, name: str) -> list[str]:
        """... those that lead to the table of an interface, or are in it."""
        table = str((await self.status(name))["table"])
        return [line for line in await self.ours() if table in line.split()]

    async def eventually(
        self, holds: Callable[[], Awaitable[bool]], within: float = PATIENCE
    ) -> None:
        """Return once an asynchronous predicate holds; TimeoutError after `within` s."""
        async with asyncio.timeout(within):
            while not await holds():  # noqa: ASYNC110 (the machine tells no other way)
                await asyncio.sleep(0.2)
