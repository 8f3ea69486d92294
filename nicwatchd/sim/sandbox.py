"""A place to play in: private network and mount namespaces around a whole command.

`python -m nicwatchd.sim.sandbox CMD ARGS...` becomes CMD inside of it. Everything is an exec, so
that CMD keeps this process' id: its exit status and all signals are its own. Capable callers get
plain namespaces (SO_RCVBUFFORCE works there); everybody else gets a user namespace as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARKER: Final = "NICWATCHD_SANDBOX"  # this environment variable says that we are inside
USAGE_ERROR: Final = 2  # also: the sandbox cannot be made here
TOOLS: Final = {"unshare": "util-linux", "mount": "mount", "ip": "iproute2", "nft": "nftables"}
# CAP_NET_ADMIN (12) and CAP_SYS_ADMIN (21): with both, no user namespace is needed.
NEEDED_CAPABILITIES: Final = 1 << 12 | 1 << 21
# `ip netns` keeps its names in /run; a private tmpfs lets it do so without root.
SET_UP: Final = 'mount -t tmpfs -o mode=0755 tmpfs /run && ip link set lo up && exec "$@"'

# Each sysctl that forbids user namespaces, the value that does, and the command that allows them.
FORBIDDERS: Final = (
    ("kernel.unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("user.max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
)


class SandboxError(Exception):
    """The sandbox cannot be made, or is missing; the message is one line that says what to do."""


def inside() -> bool:
    """Whether this process already runs in a sandbox."""
    return MARKER in os.environ


def require() -> None:
    """Refuse to touch the machine's own namespaces."""
    if not inside():
        raise SandboxError(
            "this builds network namespaces: run it as `python -m nicwatchd.sim.sandbox COMMAND`"
        )


def reexec(command: Sequence[str] | None = None) -> None:
    """Replace this process by `command` (by default: itself) in a sandbox; a no-op inside.

    Raises SandboxError where that is not possible.
    """
    if inside():
        return
    environment = os.environ | {MARKER: "1", "PATH": search_path(os.environ)}
    wrapper = wrap(capable=has_capabilities())
    check(wrapper, environment)
    words = [*wrapper, *(command or sys.orig_argv)]
    os.execvpe(words[0], words, environment)  # noqa: S606, to become the command is the purpose


def search_path(environment: Mapping[str, str]) -> str:
    """PATH with the system's tools, which Debian keeps from ordinary users."""
    return os.pathsep.join(
        dict.fromkeys(
            [*environment.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin", "/sbin"]
        )
    )


def has_capabilities() -> bool:
    """Whether namespaces can be made without a user namespace."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16) & NEEDED_CAPABILITIES == NEEDED_CAPABILITIES
    return False


def wrap(*, capable: bool) -> list[str]:
    """The command that runs the words that follow it in a sandbox."""
    flags = ["--net", "--mount"] if capable else ["--map-root-user", "--net", "--mount"]
    return ["unshare", *flags, "--", "sh", "-c", SET_UP, "sh"]


def check(wrapper: Sequence[str], environment: Mapping[str, str]) -> None:
    """Try the sandbox with a harmless command; raise SandboxError when it cannot be made."""
    for tool, package in TOOLS.items():
        if shutil.which(tool, path=environment["PATH"]) is None:
            raise SandboxError(f"`{tool}` is missing: install the package {package}")
    trial = ["nft", "add", "table", "netdev", "trial"]
    result = subprocess.run(
        [*wrapper, *trial], env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise SandboxError(explain(result.stderr))


def explain(complaint: str, root: Path = Path("/proc/sys")) -> str:
    """One line that says why there is no sandbox here, and what to do about it."""
    for name, value, remedy in FORBIDDERS:
        knob = root / name.replace(".", "/")
        if knob.exists() and knob.read_text().strip() == value:
            return (
                f"user namespaces are forbidden here ({name}={value}): run as root, or `{remedy}`"
            )
    reason = " ".join(complaint.split()) or "no reason given"
    return f"namespaces cannot be made here ({reason}): run as root, outside of a container"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command line: `python -m nicwatchd.sim.sandbox CMD ARGS...`."""
    command = list(sys.argv[1:] if arguments is None else arguments)
    if not command:
        fail("usage: python -m nicwatchd.sim.sandbox COMMAND [ARGUMENT...]")
    try:
        reexec(command)
        os.execvp(command[0], command)  # noqa: S606, as above
    except (SandboxError, OSError) as error:
        fail(error)


def fail(reason: object) -> NoReturn:
    """One line on stderr, exit code 2."""
    sys.stderr.write(f"sandbox: {reason}\n")
    sys.exit(USAGE_ERROR)


if __name__ == "__main__":
    main()
