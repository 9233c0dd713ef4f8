"""Processes that run before the sensor does, read once from /proc.

Invariant: a process that vanishes while it is read is left out; nothing about it is made up.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
from limes.sensor import strings
from limes.sensor.arrow import Column
from limes.sensor.cgroups import CgroupTree
from limes.sensor.gpu import device_number
from limes.sensor.identity import TICK_NS, Identity
from limes.sensor.source import U32s, U64s
from limes.v1 import schema

SCANNED_EXEC_IDS: Final = 1 << 63
"""Ids minted here have this bit; the kernel side mints boot-clock times, which never reach it."""

_MAX_ARGS: Final = 32 << 10
_KTHREAD: Final = 0x00200000
_DELETED: Final = " (deleted)"
_NAMESPACES: Final = ("net", "pid", "mnt", "user")
_CLOSED: Final = 0
_ANONYMOUS: Final = 15
_SCANNED: Final = schema.KINDS["process_execs"].actions["scanned"]


class Image(NamedTuple):
    """The program a process runs: one row of process_execs in the making."""

    tgid: int
    ppid: int
    start_ns: int
    cgroup_id: int
    comm: str
    exe: str
    cwd: str
    args: bytes
    ids: tuple[int, int, int]
    capabilities: int
    file: tuple[int, int, int]
    namespaces: tuple[int, ...]
    stdio: tuple[int, ...]
    flags: int


class ProcessTable(Protocol):
    """The processes of a host."""

    def scan(self, cgroups: Mapping[int, str]) -> list[Image]:
        """The images that processes in scope run now; `cgroups` are those in scope, id to path."""

    def start_ns(self, pid: int) -> int:
        """Start time of a process by the boot clock; 0 when there is none."""


class Processes:
    """Reads processes from a mounted proc."""

    def __init__(self, proc: Path = Path("/proc"), tree: CgroupTree | None = None) -> None:
        self._proc = proc
        self._tree = tree

    def in_scope(self, cgroups: Mapping[int, str]) -> list[int]:
        """Process ids of the whole host, or of these cgroups when the scope is narrower."""
        if self._tree is None or "/" in self._tree.scope:
            return sorted(int(p.name) for p in self._proc.iterdir() if p.name.isdigit())
        found: set[int] = set()
        for path in cgroups.values():
            with contextlib.suppress(OSError):
                text = (self._tree.directory(path) / "cgroup.procs").read_text()
                found.update(map(int, text.split()))
        found.discard(0)
        return sorted(found)

    def scan(self, cgroups: Mapping[int, str]) -> list[Image]:
        """The images that processes in scope run now; kernel threads have none."""
        by_path = {path: cgroup_id for cgroup_id, path in cgroups.items()}
        images = []
        for pid in self.in_scope(cgroups):
            with contextlib.suppress(OSError, ValueError, IndexError):
                image = _read(self._proc / str(pid), pid, by_path)
                if image is not None:
                    images.append(image)
        return images

    def start_ns(self, pid: int) -> int:
        """Start time of a process by the boot clock; 0 when there is none."""
        try:
            return int(_stat(self._proc / str(pid))[1][19]) * TICK_NS
        except (OSError, ValueError, IndexError):
            return 0


def _read(base: Path, pid: int, by_path: Mapping[str, int]) -> Image | None:
    comm, stat = _stat(base)
    if int(stat[6]) & _KTHREAD:
        return None
    link = base / "exe"
    exe, inode = _text(link.readlink()), link.stat()
    flags = schema.EXEC_F_SCANNED
    if exe.startswith("/memfd:"):
        flags |= schema.EXEC_F_MEMFD
    if not inode.st_nlink:
        exe = exe.removesuffix(_DELETED)
    with (base / "cmdline").open("rb") as file:
        args = file.read(_MAX_ARGS + 1)
    if len(args) > _MAX_ARGS:
        args = args[:_MAX_ARGS]
        flags |= schema.EXEC_F_ARGS_CUT
    ids, capabilities = _credentials(base)
    cwd = ""
    with contextlib.suppress(OSError):
        cwd = _text((base / "cwd").readlink())
    return Image(
        tgid=pid,
        ppid=int(stat[1]),
        start_ns=int(stat[19]) * TICK_NS,
        cgroup_id=_cgroup(base, by_path),
        comm=_text(comm),
        exe=exe,
        cwd=cwd,
        args=args,
        ids=ids,
        capabilities=capabilities,
        file=(inode.st_ino, _device(inode.st_dev), inode.st_nlink),
        namespaces=tuple(_namespace(base, name) for name in _NAMESPACES),
        stdio=tuple(_file_type(base / "fd" / str(number)) for number in range(3)),
        flags=flags,
    )


def _text(value: object) -> str:
    """A name from the host as text that can be written: what is not UTF-8 is replaced."""
    return str(value).encode("utf-8", "replace").decode()


def _device(number: int) -> int:
    return device_number(os.major(number), os.minor(number))


def _stat(base: Path) -> tuple[str, list[str]]:
    """Task name, and the fields of stat after it (the first is the state)."""
    text = (base / "stat").read_text(errors="surrogateescape")
    opening, closing = text.index("("), text.rindex(")")
    return text[opening + 1 : closing], text[closing + 2 :].split()


def _credentials(base: Path) -> tuple[tuple[int, int, int], int]:
    """Real uid, effective uid, real gid; effective capabilities."""
    lines = (base / "status").read_text(errors="replace").splitlines()
    found = {key: rest.split() for key, _, rest in (line.partition(":") for line in lines)}
    uids, gids = found.get("Uid", ["0", "0"]), found.get("Gid", ["0"])
    ids = int(uids[0]), int(uids[1]), int(gids[0])
    return ids, int(found.get("CapEff", ["0"])[0], 16)


def _file_type(link: Path) -> int:
    """The file type of an open file, as exec records have it."""
    try:
        mode = link.stat().st_mode
    except OSError:
        return _CLOSED
    return mode >> 12 or _ANONYMOUS


def _namespace(base: Path, name: str) -> int:
    try:
        return (base / "ns" / name).stat().st_ino
    except OSError:
        return 0


def _cgroup(base: Path, by_path: Mapping[str, int]) -> int:
    """Cgroup v2 id of a process; 0 when its cgroup was not among those walked."""
    for line in (base / "cgroup").read_text(errors="surrogateescape").splitlines():
        if line.startswith("0::"):
            return by_path.get(line[3:], 0)
    return 0


def exec_ids(count: int) -> U64s:
    """Ids minted for this many images."""
    return np.arange(1, count + 1, dtype=np.uint64) | np.uint64(SCANNED_EXEC_IDS)


def tgids(images: Sequence[Image]) -> U32s:
    """Process ids of the images."""
    return np.array([image.tgid for image in images], np.uint32)


def starts(images: Sequence[Image]) -> U64s:
    """Start times of the images' processes by the boot clock, in whole ticks."""
    return np.array([image.start_ns for image in images], np.uint64)


def columns(
    images: Sequence[Image], ids: U64s, identity: Identity, boot_ns: int
) -> dict[str, Column]:
    """Columns of process_execs that these images fill; they count as seen at `boot_ns`."""
    count = len(images)
    rows = {image.tgid: row for row, image in enumerate(images)}
    parents = [rows.get(image.ppid) for image in images]
    parent_ids = [0 if row is None else int(ids[row]) for row in parents]
    parent_starts = [0 if row is None else images[row].start_ns for row in parents]
    parent_tgids = [0 if row is None else images[row].tgid for row in parents]
    parent_entities = identity.entities(
        np.array(parent_tgids, np.uint32), np.array(parent_starts, np.uint64)
    )
    users = np.array([image.ids for image in images], np.uint32).reshape(count, 3)
    file = np.array([image.file for image in images], np.uint64).reshape(count, 3)
    namespaces = np.array([image.namespaces for image in images], np.uint32).reshape(count, 4)
    stdio = np.array([image.stdio for image in images], np.uint8).reshape(count, 3)
    lengths = np.array([len(image.args) for image in images], np.uint32)
    args = strings.Strings(strings.offsets_of(lengths), b"".join(image.args for image in images))
    return {
        "event_boot_time_ns": np.full(count, boot_ns, np.uint64),
        "cgroup_id": np.array([image.cgroup_id for image in images], np.uint64),
        "process_entity_id": identity.entities(tgids(images), starts(images)),
        "process_exec_id": identity.kernel_ids(ids),
        "process_pid": tgids(images),
        "event_action": np.full(count, _SCANNED, np.uint8),
        "process_parent_entity_id": parent_entities,
        "process_parent_exec_id": identity.kernel_ids(np.array(parent_ids, np.uint64)),
        "process_parent_pid": np.array([image.ppid for image in images], np.uint32),
        "process_name": strings.from_list([image.comm for image in images]),
        "process_executable": strings.from_list([image.exe for image in images]),
        "process_args": strings.utf8(args),
        "process_args_bytes": lengths,
        "process_working_directory": strings.from_list([image.cwd for image in images]),
        "file_inode": file[:, 0],
        "file_device": file[:, 1],
        "file_links": file[:, 2],
        "user_id": users[:, 0],
        "user_effective_id": users[:, 1],
        "group_id": users[:, 2],
        "network_namespace": namespaces[:, 0],
        "pid_namespace": namespaces[:, 1],
        "mount_namespace": namespaces[:, 2],
        "user_namespace": namespaces[:, 3],
        "process_capabilities": np.array([image.capabilities for image in images], np.uint64),
        "process_stdin": stdio[:, 0],
        "process_stdout": stdio[:, 1],
        "process_stderr": stdio[:, 2],
        "process_flags": np.array([image.flags for image in images], np.uint8),
    }
