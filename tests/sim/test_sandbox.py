from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nicwatchd.sim import sandbox

ROOT = Path(sandbox.__file__).parents[2]
# A caller that is not capable, though its user namespace may know no other uid than 0. Linux asks
# for CAP_SETFCAP before uid 0 may be mapped into a new user namespace.
INCAPABLE = ("setpriv", "--inh-caps=-all", "--bounding-set=-all,+setfcap", "--")


def enter(
    *command: str, wrapper: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the sandbox from outside a sandbox."""
    clean = {key: value for key, value in os.environ.items() if key != sandbox.MARKER}
    return subprocess.run(
        [*wrapper, sys.executable, "-m", "nicwatchd.sim.sandbox", *command],
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("wrapper", [(), INCAPABLE])
def test_private_network_and_run(wrapper: tuple[str, ...]) -> None:
    script = "ls /run; cat /sys/class/net/lo/operstate; ip -br link; ip netns add x && ip netns"
    result = enter("sh", "-c", script, wrapper=wrapper)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1] == "x"
    assert [line.split()[0] for line in lines if "<" in line] == ["lo"]
    assert "UP" in result.stdout


def test_exit_status_passes() -> None:
    assert enter("sh", "-c", "exit 7").returncode == 7


def test_signals_pass() -> None:
    assert enter("sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM


def test_the_command_keeps_the_process_id() -> None:
    clean = {key: value for key, value in os.environ.items() if key != sandbox.MARKER}
    with subprocess.Popen(
        [sys.executable, "-m", "nicwatchd.sim.sandbox", "sh", "-c", "echo $$"],
        env=clean | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out, _ = process.communicate()
    assert int(out) == process.pid


def test_nested_use_changes_nothing() -> None:
    show = "readlink /proc/self/ns/net"
    again = f"{sys.executable} -m nicwatchd.sim.sandbox {show}"
    outer, inner = enter("sh", "-c", f"{show}; {again}").stdout.split()
    assert outer == inner
    assert outer != str(Path("/proc/self/ns/net").readlink())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "sandbox: usage: python -m nicwatchd.sim.sandbox COMMAND"),
        (("nonesuch-command",), "nonesuch-command"),
    ],
)
def test_bad_use(arguments: tuple[str, ...], complaint: str) -> None:
    result = enter(*arguments)
    assert result.returncode in {2, 127}
    assert complaint in result.stderr


def test_missing_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in sandbox.TOOLS:
        if tool != "nft":
            (tmp_path / tool).symlink_to("/bin/true")
    with pytest.raises(
        sandbox.SandboxError, match="`nft` is missing: install the package nftables"
    ):
        sandbox.check(["true"], {"PATH": str(tmp_path)})
    monkeypatch.delenv(sandbox.MARKER)
    with pytest.raises(sandbox.SandboxError, match=r"python -m nicwatchd\.sim\.sandbox"):
        sandbox.require()


def test_forbidden_user_namespaces() -> None:
    """In a user namespace that may not create others: a real refusal by the kernel."""
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    wrapper = ("unshare", "--map-root-user", "--", "sh", "-c", forbid, "sh", *INCAPABLE)
    result = enter("true", wrapper=wrapper)
    assert result.returncode == 2
    assert result.stderr == (
        "sandbox: user namespaces are forbidden here (user.max_user_namespaces=0):"
        " run as root, or `sysctl user.max_user_namespaces=10000`\n"
    )


@pytest.mark.parametrize(("knob", "value", "remedy"), sandbox.FORBIDDERS)
def test_each_forbidding_sysctl_is_explained(
    tmp_path: Path, knob: str, value: str, remedy: str
) -> None:
    file = tmp_path / knob.replace(".", "/")
    file.parent.mkdir()
    file.write_text(f"{value}\n")
    line = sandbox.explain("unshare: failed", tmp_path)
    assert f"{knob}={value}" in line
    assert remedy in line
    assert "\n" not in line


def test_any_other_refusal_is_quoted(tmp_path: Path) -> None:
    assert "(unshare: no\n" not in sandbox.explain("unshare: no\nway", tmp_path)
    assert "(unshare: no way)" in sandbox.explain("unshare: no\nway", tmp_path)
