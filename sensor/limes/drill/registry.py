"""Owns the record of which process owns which drill, so that a crashed one can be cleared.

Invariant: a drill is cleared only when its record names a process that no longer runs. Records
lie in /run, which a reboot empties together with every cgroup and namespace.
"""

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from limes.drill import cgroups

RECORDS = Path("/run/limes-drill")

_IDENT = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One drill: its id, its owner (pid and start time in clock ticks) and its directories."""

    ident: str
    pid: int
    start_time: int
    directories: tuple[str, ...]

    def alive(self) -> bool:
        """Return whether the owner still runs."""
        return start_time(self.pid) == self.start_time


def start_time(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot, or None when it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def write(ident: str, directories: tuple[Path, ...]) -> None:
    """Record that this process owns a drill."""
    own = start_time(os.getpid())
    if own is None:
        raise AssertionError
    record = Record(
        ident=ident,
        pid=os.getpid(),
        start_time=own,
        directories=tuple(str(directory) for directory in directories),
    )
    RECORDS.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = RECORDS / f".{ident}"
    temporary.write_text(json.dumps(asdict(record)))
    temporary.replace(RECORDS / f"{ident}.json")


def remove(ident: str) -> None:
    """Forget a drill."""
    (RECORDS / f"{ident}.json").unlink(missing_ok=True)
    try:
        RECORDS.rmdir()
    except OSError:
        return  # another drill's record lies there


def sweep(root: Path, deadline: float) -> list[str]:
    """Clear every drill whose owner is gone; return their ids."""
    swept = []
    for file in sorted(RECORDS.glob("*.json")):
        record = read(file)
        if record is None or record.alive():
            continue
        clear(root, record.ident, tuple(map(Path, record.directories)), deadline)
        swept.append(record.ident)
    return swept


def clear(root: Path, ident: str, directories: tuple[Path, ...], deadline: float) -> None:
    """End the processes of a drill and remove its cgroups, directories and record."""
    for cgroup in cgroups.paths(root, ident):
        cgroups.remove(cgroup, deadline)
    for directory in directories:
        if directory.name == cgroups.PREFIX + ident and directory.exists():
            shutil.rmtree(directory)
    remove(ident)


def read(file: Path) -> Record | None:
    """Return a record, or None when it is gone or is not one."""
    try:
        record = Record(**json.loads(file.read_text()))
    except (FileNotFoundError, TypeError, ValueError):
        return None
    return record if _IDENT.fullmatch(record.ident) else None
