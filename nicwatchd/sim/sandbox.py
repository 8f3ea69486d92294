"""The sandbox: runs a command in private network and mount namespaces.

`python -m nicwatchd.sim.sandbox CMD ARGS...` executes CMD in it. Each step is an exec, so CMD has
the id of this process: its exit status and all signals are its own. With enough capabilities, these
are plain namespaces (SO_RCVBUFFORCE works there); without, there is a user namespace as well.
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

MARKER: Final = "NICWATCHD_SANDBOX"  # set in the environment inside a sandbox
USAGE_ERROR: Final = 2  # also: the sandbox cannot be created here
TOOLS: Final = {"unshare": "util-linux", "mount": "mount", "ip": "iproute2", "nft": "nftables"}
# CAP_NET_ADMIN (12) and CAP_SYS_ADMIN (21): with both, no user namespace is needed.
NEEDED_CAPABILITIES: Final = 1 << 12 | 1 << 21
# `ip netns` keeps its names in /run; a private tmpfs lets it do so without root.
SET_UP: Final = 'mount -t tmpfs -o mode=0755 tmpfs /run && ip link set lo up && exec "$@"'

# Each sysctl that can forbid user namespaces, the value that does, and the command to allow them.
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
    """The sandbox is missing, or cannot be created; the message says in one line what to do."""


def inside() -> bool:
    """Whether this process already runs in a sandbox."""
    return MARKER in os.environ


def require() -> None:
    """Refuse to touch the machine's own namespaces."""
    if not inside():
        raise SandboxError(
            "this creates network namespaces: run it as `python -m nicwatchd.sim.sandbox COMMAND`"
        )


def reexec(command: Sequence[str] | None = None) -> None:
    """Replace this process with `command` (default: its own) in a sandbox; inside one, do nothing.

    Raises SandboxError if that is not possible.
    """
    if inside():
        return
    environment = os.environ | {MARKER: "1", "PATH": search_path(os.environ)}
    os.umask(0o022)  # as services have it: nobody else may write to the settings that a test makes
    wrapper = wrap(capable=has_capabilities())
    check(wrapper, environment)
    words = [*wrapper, *(command or sys.orig_argv)]
    os.execvpe(words[0], words, environment)  # noqa: S606, to become the command is the purpose


def search_path(environment: Mapping[str, str]) -> str:
    """PATH with the sbin directories, which Debian leaves out for ordinary users."""
    return os.pathsep.join(
        dict.fromkeys(
            [*environment.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin", "/sbin"]
        )
    )


def has_capabilities() -> bool:
    """Whether we can create namespaces without a user namespace."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16) & NEEDED_CAPABILITIES == NEEDED_CAPABILITIES
    return False


def wrap(*, capable: bool) -> list[str]:
    """The command prefix that runs the words after it in a sandbox."""
    # With cgroups of its own, nothing in it belongs to the unit of whoever runs the tests.
    flags = ["--net", "--mount", "--cgroup"]
    if not capable:
        flags.insert(0, "--map-root-user")
    return ["unshare", *flags, "--", "sh", "-c", SET_UP, "sh"]


def check(wrapper: Sequence[str], environment: Mapping[str, str]) -> None:
    """Try the sandbox with a harmless command. Raises SandboxError if it cannot be created."""
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
    """One line that says why the sandbox cannot be created here, and what to do about it."""
    for name, value, remedy in FORBIDDERS:
        knob = root / name.replace(".", "/")
        if knob.exists() and knob.read_text().strip() == value:
            return (
                f"user namespaces are forbidden here ({name}={value}): run as root, or `{remedy}`"
            )
    reason = " ".join(complaint.split()) or "no reason given"
    return f"namespaces cannot be created here ({reason}): run as root, outside a container"


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
