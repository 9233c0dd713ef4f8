"""Which device numbers are GPUs: for the kernel side, and for the names of nodes.

Invariant: dynamic majors are read from /proc/devices, never assumed: each host has others.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

ALL_MINORS: Final = 1
LISTED_MINORS: Final = 2
MAX_MAJORS: Final = 4096

NVIDIA_MAJOR: Final = 195
DRM_MAJOR: Final = 226
DYNAMIC: Final = frozenset({"nvidia-uvm", "kfd", "accel"})
"""Drivers with a dynamic major: NVIDIA's unified memory, AMD's compute, DRM's accelerators."""


def driver_majors(proc: Path = Path("/proc")) -> dict[int, str]:
    """Character-device majors with their driver's name; empty when /proc/devices is unreadable."""
    try:
        text = (proc / "devices").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    rows = [line.split() for line in text.partition("Block devices:")[0].splitlines()]
    return {int(row[0]): row[1] for row in rows if len(row) == 2 and row[0].isdigit()}


def gpu_majors(drivers: Mapping[int, str], extra: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Class of each major that can be a GPU: all its minors, or only the extra nodes listed."""
    majors = {major: LISTED_MINORS for major, _ in extra}
    majors |= {major: ALL_MINORS for major, name in drivers.items() if name in DYNAMIC}
    majors |= {NVIDIA_MAJOR: ALL_MINORS, DRM_MAJOR: ALL_MINORS}
    return {major: meaning for major, meaning in majors.items() if major < MAX_MAJORS}


def lowest_major(extra: Iterable[tuple[int, int]]) -> int:
    """The lowest major of any GPU: dynamic majors (234 and up) and DRM's are above NVIDIA's."""
    return min((NVIDIA_MAJOR, *(major for major, _ in extra)))
