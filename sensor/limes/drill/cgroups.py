"""Owns the drill's cgroup v2 directories: where they lie, who is ended in them, their removal.

Invariant: a process is ended only because it is in a directory that this module made.
"""

import errno
import os
import re
import signal
import time
from pathlib import Path

from limes.drill.errors import NotPermitted, WorldError

PREFIX = "limes-drill-"
OUTSIDE_PREFIX = "limes-drill-outside-"
KILL_FILE = "cgroup.kill"
JOBS = ("job_1", "job_2", "job_3")

_MOUNTINFO = Path("/proc/self/mountinfo")
_POLL = 0.02


def find_root(mountinfo: Path = _MOUNTINFO) -> Path:
    """Return where cgroup v2 is mounted; raises WorldError when it is not."""
    for line in mountinfo.read_text().splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if right.split(" ")[0] == "cgroup2" and fields[3] == "/":
            return Path(_unescape(fields[4]))
    raise WorldError(
        f"Looked for cgroup v2 in {mountinfo}: it is not mounted from its root. "
        "Mount it: mkdir -p /sys/fs/cgroup/unified && "
        "mount -t cgroup2 none /sys/fs/cgroup/unified"
    )


def make(root: Path, ident: str) -> tuple[Path, Path]:
    """Make the jobs' tree and the outside's directory; return both."""
    jobs, outside = paths(root, ident)
    try:
        jobs.mkdir()
        for job in JOBS:
            (jobs / job).mkdir()
        outside.mkdir()
    except OSError as error:
        raise NotPermitted(
            f"Cannot make cgroup {error.filename}: {error.strerror}. "
            "The drill needs root and a writable cgroup v2 mount"
        ) from error
    return jobs, outside


def paths(root: Path, ident: str) -> tuple[Path, Path]:
    """Return the two directories of a drill, existing or not."""
    return root / f"{PREFIX}{ident}", root / f"{OUTSIDE_PREFIX}{ident}"


def members(directory: Path) -> list[int]:
    """Return the pids in a directory and below it."""
    pids: list[int] = []
    for file in [directory / "cgroup.procs", *directory.glob("*/cgroup.procs")]:
        try:
            pids.extend(int(pid) for pid in file.read_text().split())
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
    return pids


def remove(directory: Path, deadline: float) -> None:
    """End every process in a directory, then remove it; `deadline` is in seconds from now."""
    if not directory.exists():
        return
    end = time.monotonic() + deadline
    while True:
        _kill(directory)
        try:
            for child in sorted(directory.iterdir()):
                if child.is_dir():
                    child.rmdir()
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if time.monotonic() > end:
                raise WorldError(
                    f"Cannot remove cgroup {directory}: still holds {members(directory)} after "
                    f"{deadline:.0f} s. End them and remove it with rmdir"
                ) from error
        else:
            return
        time.sleep(_POLL)


def _kill(directory: Path) -> None:
    # Asked for first: opening a missing file for writing tries to create it, which cgroupfs
    # refuses with a permission error.
    if (directory / KILL_FILE).exists():
        (directory / KILL_FILE).write_text("1")
        return
    # Before Linux 5.14: one by one, and again by the caller until nobody is left.
    for pid in members(directory):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
