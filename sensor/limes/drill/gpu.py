"""Owns the simulated GPU: a node of our own that takes real ioctls, and the calls issued on it.

Invariant: no NVIDIA device is ever opened; the node is the kernel's `full` device (1:7), which
answers every ioctl with ENOTTY. Whoever shows it says "simulated device".
"""

import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from limes.drill.errors import NotPermitted, WorldError

SIMULATED = "simulated device"

_FULL = os.makedev(1, 7)
# name: (number, size of the argument, offset of the deciding u32 in it)
_CALLS = {
    "SYS_PARAMS": (0xD6, 8, 0),
    "CARD_INFO": (0xC8, 72, 0),
    "RM_ALLOC": (0x2B, 48, 12),
    "RM_CONTROL": (0x2A, 32, 8),
    "RM_FREE": (0x29, 16, 8),
    "RM_VID_HEAP_CONTROL": (0x4A, 184, 8),
    "RM_MAP_MEMORY": (0x4E, 56, 44),
    "REGISTER_FD": (0xC9, 4, 0),
    "NUMA_INFO": (0xD7, 560, 0),
}
# The order and the control commands of a recorded cuInit (H100, driver 535), shortened; the
# recording holds no classes, so each RM_ALLOC carries the class that fits its place.
_CONTEXT_BIRTH = (
    ("SYS_PARAMS", 0),
    ("CARD_INFO", 0),
    ("RM_ALLOC", 0x0041),
    ("RM_CONTROL", 0x00000101),
    ("RM_FREE", 0),
    ("SYS_PARAMS", 0),
    ("CARD_INFO", 0),
    ("RM_ALLOC", 0x0041),
    ("RM_CONTROL", 0x00000D04),
    ("RM_CONTROL", 0x00000D04),
    ("RM_CONTROL", 0x00000214),
    ("RM_CONTROL", 0x00000A04),
    ("RM_CONTROL", 0x00000215),
    ("RM_CONTROL", 0x00000205),
    ("RM_CONTROL", 0x00000201),
    ("RM_CONTROL", 0x00000202),
    ("REGISTER_FD", 0),
    ("NUMA_INFO", 0),
    ("RM_ALLOC", 0x0080),
    ("RM_CONTROL", 0x00801402),
    ("RM_CONTROL", 0x00800292),
    ("RM_CONTROL", 0x00800280),
    ("REGISTER_FD", 0),
    ("RM_ALLOC", 0x2080),
    ("RM_CONTROL", 0x2080018B),
    ("RM_CONTROL", 0x2080014A),
    ("RM_CONTROL", 0x20801303),
    ("RM_CONTROL", 0x20800102),
    ("RM_CONTROL", 0x20801701),
    ("RM_CONTROL", 0x20801823),
    ("RM_CONTROL", 0x2080012F),
    ("RM_CONTROL", 0x20801201),
    ("RM_ALLOC", 0xC661),
    ("RM_MAP_MEMORY", 0),
    ("RM_ALLOC", 0x90F1),
    ("RM_VID_HEAP_CONTROL", 2),
    ("RM_ALLOC", 0xA06C),
    ("RM_ALLOC", 0xC86F),
    ("RM_ALLOC", 0xCBC0),
    ("RM_ALLOC", 0x0040),
)
# What a rank repeats while it waits at a barrier.
_STEADY = (("RM_CONTROL", 0x20801303), ("RM_CONTROL", 0x2080014A), ("RM_CONTROL", 0x20800102))


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNode:
    """One device node that the drill uses as a GPU."""

    path: Path
    major: int
    minor: int
    simulated: bool = True

    def label(self) -> str:
        """Return the node's name as a user must see it."""
        return f"{self.path} ({SIMULATED})"


def call_tables() -> dict[str, list[tuple[int, int, int, int]]]:
    """Return `birth` and `steady`: lists of (request, argument size, offset, u32 value)."""
    return {
        name: [_encode(*call) for call in calls]
        for name, calls in (("birth", _CONTEXT_BIRTH), ("steady", _STEADY))
    }


def make_node(path: Path) -> GpuNode:
    """Make the simulated node and return it; raises NotPermitted when it cannot be used."""
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, _FULL)
        _probe(path)
    except OSError as error:
        raise NotPermitted(
            f"Cannot make the {SIMULATED} {path}: {error.strerror}. Device nodes need CAP_MKNOD "
            "and a file system mounted without nodev: choose another state directory"
        ) from error
    return GpuNode(path=path, major=os.major(_FULL), minor=os.minor(_FULL))


def _probe(path: Path) -> None:
    request, size, _, _ = _encode(*_CONTEXT_BIRTH[0])
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, request, bytearray(size))
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
    else:
        raise WorldError(f"The {SIMULATED} {path} accepted an ioctl; it must answer ENOTTY")
    finally:
        os.close(descriptor)


def _encode(name: str, value: int) -> tuple[int, int, int, int]:
    number, size, offset = _CALLS[name]
    read_write = 3 << 30
    return read_write | size << 16 | ord("F") << 8 | number, size, offset, value
