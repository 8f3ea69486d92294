"""What the daemon does without, in a process of its own: an import cannot be undone."""

import subprocess
import sys

import pytest

DAEMON = "import nicwatchd.service.lean, nicwatchd.service.main"
HASHES = """
import hashlib, hmac
for name in ("md5", "sha1", "sha256", "sha512", "blake2b", "sha3_256"):
    print(hashlib.new(name, b"x").hexdigest())
print(hmac.new(b"key", b"x", "sha256").hexdigest())
"""


def said(*lines: str) -> list[str]:
    """What a fresh Python prints; what it warns of, or logs, is an error."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.splitlines()


def test_openssl_and_the_library_of_the_metrics_are_not_loaded() -> None:
    (names,) = said(DAEMON, "import sys; print(*sys.modules)")
    assert {"asyncio", "aiohttp", "nicwatchd.service.daemon"} <= set(names.split())
    assert not {"_ssl", "prometheus_client", "http.server"} & set(names.split())
    mapped = "\n".join(
        said(DAEMON, "import pathlib; print(pathlib.Path('/proc/self/maps').read_text())")
    )
    assert "libc." in mapped
    assert "libcrypto" not in mapped
    assert "libssl" not in mapped


def test_pythons_own_hashes_are_those_of_openssl() -> None:
    assert said(DAEMON, HASHES) == said(HASHES)


@pytest.mark.parametrize("lacks", ["_md5", "_blake2"])
def test_a_python_without_all_hashes_keeps_openssls(lacks: str) -> None:
    hide = (
        "import importlib.util as u; find = u.find_spec",
        f"u.find_spec = lambda name: None if name == '{lacks}' else find(name)",
    )
    assert said(*hide, DAEMON, "import _hashlib; print(_hashlib.__name__)") == ["_hashlib"]


def test_metrics_are_there_for_who_asks_and_ssl_stays_away() -> None:
    load = (
        "import sys, threading; from nicwatchd.service import prometheus",
        "threads = [threading.Thread(target=prometheus.load) for _ in range(4)]",
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]",
        "loaded = len(sys.modules)",
        "from nicwatchd.service import metrics",
        "print(metrics.CONTENT_TYPE.partition(';')[0], sys.modules['ssl'])",
        "print(len(sys.modules) - loaded)",  # the loop, which comes after that, imports nothing
    )
    assert said(DAEMON, *load) == ["text/plain None", "0"]


def test_a_process_that_has_ssl_keeps_it() -> None:
    load = ("import ssl", DAEMON, "from nicwatchd.service import prometheus", "prometheus.load()")
    assert said(*load, "print(ssl.create_default_context.__name__)") == ["create_default_context"]
