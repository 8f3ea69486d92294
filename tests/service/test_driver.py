"""The driver: what it asks of the host beside the kernel."""

from __future__ import annotations

from pathlib import Path

from nicwatchd.service.driver import udev_is_done


def test_udev_that_may_not_be_looked_at_is_not_done(tmp_path: Path) -> None:
    """`exists` raises then; the core waits for as long as udev may take."""

    class Closed(type(tmp_path)):  # type: ignore[misc] # the platform's kind of path
        def exists(self) -> bool:
            raise PermissionError(13, "Permission denied")

    assert udev_is_done(3, tmp_path)
    (tmp_path / "control").touch()
    assert not udev_is_done(3, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "n3").touch()
    assert udev_is_done(3, tmp_path)
    assert not udev_is_done(3, Closed(tmp_path))
