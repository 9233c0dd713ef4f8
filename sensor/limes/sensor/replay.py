"""Recorded kernel records: the recorder, and the source that plays them back.

Invariant: a recording holds what the source gave, byte for byte, with the types it was given in; it
is refused when the registry has changed since.

A recording is a magic number, a header (JSON, length first) and frames: a number (what it holds),
the count of rows, the count of bytes, the bytes. Beside the kernel's records it holds what the
sensor read of its host at that moment: walks of the cgroup tree and the scan of the processes; and
which device nodes were watched beside those of GPU drivers, a simulated one with its mark. Command
lines are in it as they were, secrets included: the file is made with mode 0600.
"""

import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np
from limes.sensor.clock import Clock
from limes.sensor.errors import AbiMismatch, ConfigError
from limes.sensor.gpu import Device
from limes.sensor.procfs import Image, ProcessTable
from limes.sensor.source import (
    DRAIN_ORDER,
    GPU_CELL_DTYPE,
    RECORD_DTYPES,
    HookState,
    Records,
    RecordSource,
    Tree,
    U32s,
    U64s,
)
from limes.v1 import schema

_MAGIC: Final = b"LIMESREC"
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_FRAME: Final = struct.Struct("<BxxxIQ")
_LENGTH: Final = struct.Struct("<I")
_FRAMES: Final = (*DRAIN_ORDER, "gpu_cells", "counters", "end_of_drain", "walk", "scan")
_DTYPES: Final[dict[str, np.dtype[np.void]]] = {**RECORD_DTYPES, "gpu_cells": GPU_CELL_DTYPE}
_COUNTERS_DTYPE: Final = np.dtype("<u8")
_WALK: Final = msgspec.json.Decoder(dict[int, str])
_SCAN: Final = msgspec.json.Decoder(list[Image])


def _layout() -> dict[str, object]:
    """The registry as far as a recording depends on it, in JSON's types."""
    described = {name: np.dtype(dtype).descr for name, dtype in _DTYPES.items()}
    counters = [counter.name for counter in schema.COUNTERS]
    loaded: dict[str, object] = json.loads(json.dumps({"arrays": described, "counters": counters}))
    return loaded


class Recorder:
    """A source that writes everything its inner source gives into a file."""

    def __init__(
        self,
        inner: RecordSource,
        path: Path,
        *,
        boot_id: str,
        clock: Clock,
        devices: Iterable[Device] = (),
    ) -> None:
        """Makes the file, replacing what is there. Raises ConfigError."""
        self._inner = inner
        try:
            path.unlink(missing_ok=True)
            self._file: BinaryIO = os.fdopen(os.open(path, _FLAGS, 0o600), "wb")
        except OSError as error:
            raise ConfigError(
                f"Tried to make the recording {path}: {error.strerror}. Name a file in a folder "
                "that the sensor may write, with record_file."
            ) from error
        header = {
            "layout": _layout(),
            "boot_id": boot_id,
            "boot_ns": clock.boot_ns(),
            "offset_ns": clock.offset_ns(),
            "plan": inner.plan,
            "devices": list(devices),
        }
        text = json.dumps(header).encode()
        self._file.write(_MAGIC + _LENGTH.pack(len(text)) + text)

    @property
    def loader(self) -> str:
        """The inner source's loader."""
        return self._inner.loader

    @property
    def plan(self) -> str:
        """The inner source's plan."""
        return self._inner.plan

    @property
    def hooks(self) -> Sequence[HookState]:
        """The inner source's hooks."""
        return self._inner.hooks

    def _write(self, name: str, rows: int, data: bytes) -> None:
        self._file.write(_FRAME.pack(_FRAMES.index(name), rows, len(data)) + data)

    def walked(self, tree: Tree) -> "RecordedTree":
        """The tree, whose walks are written."""
        return RecordedTree(tree, lambda found: self._write_json("walk", found))

    def scanned(self, processes: ProcessTable) -> "RecordedProcesses":
        """The processes, whose scans are written."""
        return RecordedProcesses(processes, lambda images: self._write_json("scan", images))

    def _write_json(self, name: str, value: object) -> None:
        self._write(name, 1, msgspec.json.encode(value))

    def drain(self) -> Mapping[str, Records]:
        """The inner source's records, after they were written."""
        records = self._inner.drain()
        for name, array in records.items():
            if len(array):
                self._write(name, len(array), array.astype(RECORD_DTYPES[name]).tobytes())
        if any(map(len, records.values())):
            self._write("end_of_drain", 0, b"")
        return records

    def release(self) -> None:
        """Passed on."""
        self._inner.release()

    def gpu_cells(self) -> Records:
        """The inner source's cells, after they were written."""
        cells = self._inner.gpu_cells()
        if len(cells):
            self._write("gpu_cells", len(cells), cells.tobytes())
        return cells

    def delete_gpu_cells(self, cells: Records) -> None:
        """Passed on."""
        self._inner.delete_gpu_cells(cells)

    def counters(self) -> U64s:
        """The inner source's counters, after they were written when any is not 0."""
        counters = self._inner.counters()
        if counters.any():
            self._write("counters", len(counters), counters.tobytes())
        return counters

    def seed_images(self, tgids: U32s, exec_ids: U64s, start_ns: U64s) -> None:
        """Passed on."""
        self._inner.seed_images(tgids, exec_ids, start_ns)

    def report_progress(self) -> None:
        """Passed on."""
        self._inner.report_progress()

    def stop(self) -> None:
        """Passed on."""
        self._inner.stop()

    def close(self) -> None:
        """Closes the inner source and the file."""
        self._inner.close()
        self._file.close()


class RecordedTree:
    """A cgroup tree whose walks are noted."""

    def __init__(self, inner: Tree, note: Callable[[Mapping[int, str]], None]) -> None:
        self._inner = inner
        self._note = note

    def walk(self) -> Mapping[int, str]:
        """The inner tree's walk, after it was noted."""
        found = self._inner.walk()
        self._note(found)
        return found


class RecordedProcesses:
    """A process table whose scans are noted."""

    def __init__(self, inner: ProcessTable, note: Callable[[list[Image]], None]) -> None:
        self._inner = inner
        self._note = note

    def scan(self, cgroups: Mapping[int, str]) -> list[Image]:
        """The inner table's scan, after it was noted."""
        images = self._inner.scan(cgroups)
        self._note(images)
        return images

    def start_ns(self, pid: int) -> int:
        """The inner table's answer."""
        return self._inner.start_ns(pid)


class ReplaySource:
    """Plays a recording back, one recorded drain per drain, as fast as it is asked."""

    loader: Final = "replay"

    def __init__(self, path: Path) -> None:
        """Opens a recording. Raises ConfigError or AbiMismatch, naming the file."""
        self._path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise ConfigError(
                f"Tried to open the recording {path}: {error.strerror}. Give the path of a file "
                "that a sensor wrote with record_file."
            ) from error
        try:
            header = self._header()
        except (ConfigError, AbiMismatch):
            self._file.close()
            raise
        self.boot_id = str(header["boot_id"])
        self.boot_ns = int(header["boot_ns"])
        self.offset_ns = int(header["offset_ns"])
        self.plan = str(header["plan"])
        self.devices: list[Device] = [
            (int(number), str(name), bool(simulated))
            for number, name, simulated in header["devices"]
        ]
        self.hooks: Sequence[HookState] = ()
        self.finished = False
        self._next: tuple[str, bytes] | None = None
        self._walked: dict[int, str] = {}
        self._cells = np.empty(0, GPU_CELL_DTYPE)
        self._counters = np.zeros(len(schema.COUNTERS), np.uint64)

    def _header(self) -> dict[str, Any]:
        try:
            magic = self._file.read(len(_MAGIC))
            length = _LENGTH.unpack(self._file.read(_LENGTH.size))[0] if magic == _MAGIC else 0
            header: dict[str, Any] = json.loads(self._file.read(length))
        except (struct.error, ValueError) as error:
            raise ConfigError(
                f"Read {self._path}: it has no whole header. It is not a recording of a sensor: "
                "name a file that record_file made."
            ) from error
        if header["layout"] != _layout():
            raise AbiMismatch(
                f"Read {self._path}: it was recorded with another event registry. "
                "Play it with the version of Limes that recorded it, or record it again."
            )
        return header

    def _frame(self) -> tuple[str, bytes] | None:
        if self._next is not None:
            frame, self._next = self._next, None
            return frame
        head = self._file.read(_FRAME.size)
        if len(head) < _FRAME.size:
            return None
        number, _, size = _FRAME.unpack(head)
        data = self._file.read(size)
        return (_FRAMES[number], data) if len(data) == size else None

    def _take(self, name: str) -> bytes | None:
        """The next frame's bytes when it is of this name; it stays for later when it is not."""
        frame = self._frame()
        if frame is not None and frame[0] == name:
            return frame[1]
        self._next = frame
        return None

    def walk(self) -> Mapping[int, str]:
        """The cgroups of the recorded host, as far as it had walked them by now."""
        while (data := self._take("walk")) is not None:
            self._walked.update(_WALK.decode(data))
        return self._walked

    def scan(self, cgroups: Mapping[int, str]) -> list[Image]:
        """The processes of the recorded host when the recording began."""
        del cgroups
        data = self._take("scan")
        return [] if data is None else _SCAN.decode(data)

    def start_ns(self, pid: int) -> int:
        """No process of the recorded host is known to live: 0."""
        del pid
        return 0

    def drain(self) -> Mapping[str, Records]:
        """The records of the next recorded drain; empty, with `finished` set, at the end."""
        out: dict[str, Records] = {}
        while (frame := self._frame()) is not None:
            name, data = frame
            if name == "end_of_drain":
                return out
            if name == "gpu_cells":
                self._cells = np.frombuffer(data, GPU_CELL_DTYPE)
            elif name == "counters":
                self._counters = np.frombuffer(data, _COUNTERS_DTYPE)
            elif name == "walk":
                self._walked.update(_WALK.decode(data))
            elif name == "scan":
                continue
            else:
                out[name] = np.frombuffer(data, RECORD_DTYPES[name])
        self.finished = True
        return out

    def release(self) -> None:
        """Nothing to give back."""

    def gpu_cells(self) -> Records:
        """The latest recorded cells."""
        return self._cells

    def delete_gpu_cells(self, cells: Records) -> None:
        """A recording keeps its cells."""

    def counters(self) -> U64s:
        """The latest recorded counters."""
        return self._counters

    def seed_images(self, tgids: U32s, exec_ids: U64s, start_ns: U64s) -> None:
        """A recording's images are as they were recorded."""

    def report_progress(self) -> None:
        """A recording's progress records are in it."""

    def stop(self) -> None:
        """Nothing is attached."""

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
