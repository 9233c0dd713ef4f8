"""Whose drill it is, and who may clear it."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from limes.drill import registry


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the records into a directory of the test."""
    folder = tmp_path / "records"
    monkeypatch.setattr(registry, "RECORDS", folder)
    return folder


def _record(records: Path, ident: str, directory: Path, *, pid: int, start_time: int) -> None:
    records.mkdir(exist_ok=True)
    record = {"ident": ident, "pid": pid, "start_time": start_time, "directories": [str(directory)]}
    (records / f"{ident}.json").write_text(json.dumps(record))


def _made(tmp_path: Path, name: str) -> Path:
    directory = tmp_path / name
    (directory / "log").mkdir(parents=True)
    return directory


def test_a_drill_of_a_running_owner_is_left_alone(tmp_path: Path, records: Path) -> None:
    """This process is alive, so its drill stays."""
    directory = _made(tmp_path, "limes-drill-0123abcd")
    registry.write("0123abcd", (directory,))
    assert registry.sweep(tmp_path / "cgroup", 1.0) == []
    assert directory.exists()
    registry.remove("0123abcd")
    assert not records.exists()


def test_a_drill_of_a_dead_owner_is_cleared(tmp_path: Path, records: Path) -> None:
    """The owner's pid is no process any more."""
    process = subprocess.Popen(["true"])
    process.wait()
    directory = _made(tmp_path, "limes-drill-0123abcd")
    _record(records, "0123abcd", directory, pid=process.pid, start_time=1)
    assert registry.sweep(tmp_path / "cgroup", 1.0) == ["0123abcd"]
    assert not directory.exists()
    assert not records.exists()


def test_a_reused_pid_is_not_the_owner(tmp_path: Path, records: Path) -> None:
    """The same pid with another start time is another process."""
    directory = _made(tmp_path, "limes-drill-0123abcd")
    _record(records, "0123abcd", directory, pid=os.getpid(), start_time=1)
    assert registry.sweep(tmp_path / "cgroup", 1.0) == ["0123abcd"]


def test_a_directory_without_the_drills_name_is_never_removed(
    tmp_path: Path, records: Path
) -> None:
    """A damaged record cannot make the sweep remove something else."""
    directory = _made(tmp_path, "precious")
    _record(records, "0123abcd", directory, pid=os.getpid(), start_time=1)
    assert registry.sweep(tmp_path / "cgroup", 1.0) == ["0123abcd"]
    assert (directory / "log").exists()


@pytest.mark.parametrize("text", ["", "{}", '{"ident": "../../etc"}', "[1]"])
def test_a_broken_record_is_ignored(records: Path, tmp_path: Path, text: str) -> None:
    """Nothing is cleared on the word of a file that does not parse."""
    records.mkdir()
    (records / "x.json").write_text(text)
    assert registry.sweep(tmp_path / "cgroup", 1.0) == []
    assert (records / "x.json").exists()
