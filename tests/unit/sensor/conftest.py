"""Synthetic kernel records, a source that plays them, and a reader of what the pipeline sends."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import settings
from limes.sensor import cgroups, decode, gpu, identity, pipeline, segments, spool
from limes.sensor.source import GPU_CELL_DTYPE, RECORD_DTYPES, HookState, Records, U32s, U64s
from limes.v1 import schema

# The machine may be busy: how long an example takes says nothing.
settings.register_profile("limes", deadline=None)
settings.load_profile("limes")

BOOT_ID = "11111111-2222-3333-4444-555555555555"
OFFSET_NS = 1_700_000_000_000_000_000
NUMBERS = {name: schema.KINDS[record.kind].number for name, record in schema.RECORDS.items()}
KIND_NAMES = {kind.number: name for name, kind in schema.KINDS.items()}


def records(name: str, count: int = 1, **members: object) -> Records:
    """Records with plausible headers; text is written as the kernel side writes it."""
    out = np.zeros(count, RECORD_DTYPES[name])
    if "time_ns" in (out.dtype.names or ()):
        out["time_ns"] = 5_000_000_000 + np.arange(count) * 1_000
        out["cgroup_id"] = 77
        out["exec_id"] = 1_000 + np.arange(count)
        out["start_ns"] = 4_000_000_000
        out["tgid"] = 300 + np.arange(count)
        out["kind"] = NUMBERS[name]
        out["version"] = schema.ABI_VERSION
        out["action"] = 1
    for member, value in members.items():
        if isinstance(value, bytes):
            write(out, member, value)
        else:
            out[member] = value
    return out


def write(out: Records, member: str, value: bytes) -> None:
    """Writes text into every record: paths of execs at the slot's end, the rest at its start."""
    room = out[member].shape[1]
    if member in {"exe", "cwd"}:
        out[member][:, :] = ord("?")  # what an earlier user of the ring left there
        out[member][:, room - 1] = 0
        out[member][:, room - 1 - len(value) : room - 1] = np.frombuffer(value, np.uint8)
        out[f"{member}_start"] = room - 1 - len(value)
    else:
        out[member][:, : len(value)] = np.frombuffer(value, np.uint8)
    if member == "args":
        out["args_bytes"] = out["args_copied"] = len(value)


def exec_records(count: int = 1, **members: object) -> Records:
    """Execs with text in every slot."""
    text = {"comm": b"python3", "exe": b"/usr/bin/python3.11", "cwd": b"/srv", "args": b"python3\0"}
    return records("exec", count, **{**text, **members})


def chunk(exec_id: int, index: int, data: bytes) -> Records:
    """One exec_chunk record."""
    out = records("exec_chunk", 1, exec_id=exec_id, index=index, length=len(data))
    out["data"][0, : len(data)] = np.frombuffer(data, np.uint8)
    return out


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 6_000_000_000
        self.offset = OFFSET_NS

    def boot_ns(self) -> int:
        return self.now

    def offset_ns(self) -> int:
        return self.offset


class ListSource:
    """A source that gives prepared drains, one per drain, and remembers what it was asked."""

    loader = "replay"
    plan = "tracepoint"

    def __init__(self, drains: Sequence[Mapping[str, Records]] = ()) -> None:
        self.drains = list(drains)
        self.hooks: list[HookState] = []
        self.cells = np.empty(0, GPU_CELL_DTYPE)
        self.losses = np.zeros(len(schema.COUNTERS), np.uint64)
        self.seeded: list[tuple[list[int], list[int], list[int]]] = []
        self.deleted: list[Records] = []
        self.calls: list[str] = []

    def drain(self) -> Mapping[str, Records]:
        self.calls.append("drain")
        return self.drains.pop(0) if self.drains else {}

    def release(self) -> None:
        self.calls.append("release")

    def gpu_cells(self) -> Records:
        self.calls.append("gpu_cells")
        return self.cells

    def delete_gpu_cells(self, cells: Records) -> None:
        self.deleted.append(cells)

    def counters(self) -> U64s:
        return self.losses

    def seed_images(self, tgids: U32s, exec_ids: U64s, start_ns: U64s) -> None:
        self.calls.append("seed_images")
        self.seeded.append((tgids.tolist(), exec_ids.tolist(), start_ns.tolist()))

    def report_progress(self) -> None:
        self.calls.append("report_progress")

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")


def read_batch(entry: segments.Entry) -> tuple[str, list[dict[str, Any]]]:
    """Kind and rows of a batch, as pyarrow reads them."""
    stream = zstandard.decompress(entry.payload)
    table = pa.ipc.open_stream(stream).read_all()
    table.validate(full=True)
    assert table.num_rows == entry.events
    assert table.column("event_seq").to_pylist() == list(range(entry.first_seq, entry.last_seq + 1))
    return KIND_NAMES[entry.kind], table.to_pylist()


class Rig:
    """A pipeline over a list of drains, with a spool in a temporary folder."""

    def __init__(self, folder: Path, drains: Sequence[Mapping[str, Records]] = ()) -> None:
        self.source = ListSource(drains)
        self.clock = FakeClock()
        self.identity = identity.Identity(host_id="gpu-07", boot_id=BOOT_ID, epoch=9)
        self.spool = spool.Spool(folder, segments.Origin(9, BOOT_ID), limit_bytes=1 << 26)
        self.around = pipeline.Surroundings(tree=None, processes=None, devices=gpu.Devices())
        self.pace = pipeline.Pace()
        self._pipeline: pipeline.Pipeline | None = None
        self._read = 1
        self.now_ns = 10**12

    @property
    def pipeline(self) -> pipeline.Pipeline:
        if self._pipeline is None:
            self._pipeline = pipeline.Pipeline(
                self.source,
                self.spool,
                identity=self.identity,
                clock=self.clock,
                surroundings=self.around,
                pace=self.pace,
            )
        return self._pipeline

    def step(self, milliseconds: int = 0) -> int:
        """One pass, this much later."""
        self.now_ns += milliseconds * 1_000_000
        return self.pipeline.step(self.now_ns)

    def sent(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """Kind and rows of each batch since the last call, in sequence."""
        out = []
        while (entry := self.spool.live.take(self._read)) is not None:
            assert isinstance(entry, segments.Entry)
            self._read = entry.last_seq + 1
            out.append(read_batch(entry))
        return out

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """All rows of one kind sent since the last call of `rows` or `sent`."""
        return [row for name, rows in self.sent() if name == kind for row in rows]


@pytest.fixture
def make() -> SimpleNamespace:
    """Builders of records: `records(name, n, ...)`, `execs(n, ...)`, `chunk(exec_id, i, data)`."""
    return SimpleNamespace(records=records, execs=exec_records, chunk=chunk)


@pytest.fixture
def context() -> decode.Context:
    """A decoding context without devices or cgroups."""
    return decode.Context(
        identity=identity.Identity(host_id="gpu-07", boot_id=BOOT_ID, epoch=9),
        devices=gpu.Devices(),
        cgroups=cgroups.CgroupNames(),
        offset_ns=OFFSET_NS,
    )


@pytest.fixture
def new_rig(tmp_path: Path) -> Callable[..., Rig]:
    """Makes rigs, each with a spool of its own."""
    made: list[Rig] = []

    def build(*drains: Mapping[str, Records]) -> Rig:
        made.append(Rig(tmp_path / f"spool-{len(made)}", drains))
        return made[-1]

    return build
