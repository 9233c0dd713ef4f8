"""The room on the disk: said when it gets short, once, and when it is there again."""

import os
from pathlib import Path

import pytest
from limes.control.store.space import ENOUGH, LOW, Space
from structlog.testing import capture_logs


def test_a_disk_that_fills_is_said_once_and_so_is_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line at each look would bury the others."""
    found = list(os.statvfs(tmp_path))
    blocks = {"free": 1000}

    def statvfs(_path: Path) -> os.statvfs_result:
        found[0:2], found[4] = [4096, 4096], blocks["free"]
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", statvfs)
    space = Space(tmp_path / "limes.duckdb", 100 * 4096)
    with capture_logs() as said:
        for free in (1000, 100, 99, 3, 100, 1000):
            blocks["free"] = free
            space.look()
    assert [entry["event"] for entry in said] == [LOW, ENOUGH]
    blocks["free"] = 99
    assert space.room() == (99 * 4096, True)


def test_room_is_what_the_system_says(tmp_path: Path) -> None:
    """Free to an ordinary user, of the file system the database is on; nothing is demanded."""
    room = Space(tmp_path / "limes.duckdb", 0).room()
    assert room.free > 0
    assert not room.low


def test_without_a_disk_nothing_is_short(tmp_path: Path) -> None:
    """In memory, or where the system gives no answer."""
    for path in (None, tmp_path / "gone" / "limes.duckdb"):
        assert Space(path, 1 << 62).room() == (0, False)
