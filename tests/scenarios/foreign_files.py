"""Files by which other software tells whose links are: a private /etc/cni/net.d and /run/udev.

Only the daemon that is started with the wrapper sees them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNTS: Final = """
set -e
mount -t overlay -o lowerdir=/etc,upperdir=$0/upper,workdir=$0/work,userxattr overlay /etc
mkdir -p /etc/cni/net.d /run/udev
mount --bind $0/cni /etc/cni/net.d
mount --bind $0/udev /run/udev
exec "$@"
"""


@dataclass(frozen=True)
class ForeignFiles:
    """The directories as a test sees them, and the command that shows them to the daemon."""

    cni: Path
    udev: Path
    wrapper: tuple[str, ...]

    def configure(self, name: str, kind: str, *others: str) -> Path:
        """Write a CNI configuration as a program that replaces it at once does."""
        plugins = {"plugins": [{"type": each} for each in (kind, *others)]}
        text = json.dumps({"cniVersion": "0.4.0", **(plugins if others else {"type": kind})})
        return _written(self.cni / name, text)

    def mark(self, index: int, manager: str | None) -> None:
        """What udev has of a link; None: no mark, among what it always has."""
        marks = [] if manager is None else [f"E:ID_NET_MANAGED_BY={manager}"]
        lines = ["I:123456", "E:ID_BUS=pci", *marks, "E:ID_NET_DRIVER=ena", "G:systemd", "V:1"]
        _written(self.udev / "data" / f"n{index}", "\n".join((*lines, "")))


def _written(file: Path, text: str) -> Path:
    new = file.with_name(f".{file.name}")
    new.write_text(text, encoding="utf-8")
    return new.rename(file)


@contextmanager
def foreign_files() -> Iterator[ForeignFiles]:
    """Empty directories; udev does not seem to run."""
    root = Path(tempfile.mkdtemp(dir="/run"))
    for name in ("upper", "work", "cni", "udev/data"):
        (root / name).mkdir(parents=True)
    wrapper = ("unshare", "--mount", "sh", "-c", MOUNTS, str(root))
    try:
        yield ForeignFiles(root / "cni", root / "udev", wrapper)
    finally:
        shutil.rmtree(root)
