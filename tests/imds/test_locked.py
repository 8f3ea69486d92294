"""systemd's IMDS lock (a prohibit route): passed with the mark, and named where that fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_the_mark_opens_the_lock() -> None:
    run = subprocess.run(
        ["unshare", "-rn", sys.executable, "-W", "error", str(HERE / "locked.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        check=False,
    )
    assert run.stderr == ""
    opened, locked = run.stdout.splitlines()
    assert opened == "Value(value='02:00:00:00:00:01')"
    assert locked.startswith("IMDS is unreachable (169.254.169.254: permission denied: a prohibit")
