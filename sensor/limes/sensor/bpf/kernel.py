"""Kernel records from attached BPF programs: rings, aggregates and counters behind RecordSource.

Invariant: what this hands out came from the programs of bpf/; both loaders feed the same code.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from limes.sensor.bpf import syscall
from limes.sensor.bpf.plan import Attachment, Choice
from limes.sensor.bpf.ring import Ring
from limes.sensor.devices import driver_majors, gpu_majors
from limes.sensor.source import (
    DRAIN_ORDER,
    GPU_CELL_DTYPE,
    RECORD_DTYPES,
    HookState,
    Records,
    U32s,
    U64s,
)
from limes.v1 import schema

_CELL_MAP, _CELL_KEY, _CELL_VALUE = schema.CELLS["gpu"]
_CELL_KEY_DTYPE: Final = np.dtype(_CELL_KEY)
_CELL_VALUE_DTYPE: Final = np.dtype(_CELL_VALUE)
# struct gpu_seen_key of bpf/programs/gpu.bpf.c
_SEEN_KEY_DTYPE: Final = np.dtype([("start_ns", "<u8"), ("tgid", "<u4"), ("device", "<u4")])
_IMAGE: Final = np.dtype([("exec_id", "<u8"), ("start_ns", "<u8")])
# struct owner of bpf/lib/sock.h
_OWNER: Final = np.dtype(
    [
        ("cgroup_id", "<u8"),
        ("exec_id", "<u8"),
        ("start_ns", "<u8"),
        ("socket_id", "<u8"),
        ("opened_ns", "<u8"),
        ("reported_ns", "<u8"),
        ("tgid", "<u4"),
        ("local_port", "<u2"),
        ("established", "<u2"),
    ]
)
_PROGRESS_SOCKETS: Final = 4  # arguments of emit_progress
PROGRESS_NS: Final = 30_000_000_000


class KernelSource:
    """RecordSource over an attachment. Used from one thread only."""

    def __init__(
        self,
        loader: str,
        attachment: Attachment,
        choice: Choice,
        *,
        extra_nodes: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._loader = loader
        self._attachment = attachment
        self._choice = choice
        self._hooks = choice.states()
        self._cpus = syscall.possible_cpus()
        self._extra_nodes = tuple(extra_nodes)
        self._majors: dict[int, int] = {}
        records = schema.RECORDS
        self._rings = {
            name: Ring(
                attachment.map_fd(records[name].ring), records[name].ring_bytes, RECORD_DTYPES[name]
            )
            for name in DRAIN_ORDER
        }
        self._list_nodes()
        self._watch_devices()

    @property
    def loader(self) -> str:
        """Which loader attached the programs: libbpf or bcc."""
        return self._loader

    @property
    def plan(self) -> str:
        """The plan: fentry when any signal is served by it, else tracepoint."""
        return self._choice.plan()

    @property
    def hooks(self) -> Sequence[HookState]:
        """Every program that was considered, as it is now."""
        return self._hooks

    def _watch_devices(self) -> None:
        """Tells the kernel side the GPU majors, again and again: drivers come and go."""
        majors = gpu_majors(driver_majors(), self._extra_nodes)
        if majors == self._majors:
            return
        table = self._attachment.map_fd("gpu_majors")
        for major in self._majors.keys() | majors.keys():
            meaning = np.array([majors.get(major, 0)], "<u4")
            syscall.update(table, np.array([major], "<u4"), meaning)
        self._majors = majors

    def _list_nodes(self) -> None:
        listed = self._attachment.map_fd("gpu_nodes")
        for major, minor in self._extra_nodes:
            syscall.update(listed, np.array([major << 20 | minor], "<u4"), np.ones(1, "<u4"))

    def drain(self) -> Mapping[str, Records]:
        """Complete records by name, as views of the rings that hold until `release`."""
        drained = {}
        for name, ring in self._rings.items():
            records = ring.drain()
            if len(records):
                drained[name] = records
        return drained

    def release(self) -> None:
        """Gives the room of the last drain back to the kernel."""
        for ring in self._rings.values():
            ring.release()

    def gpu_cells(self) -> Records:
        """All cells of the GPU aggregates, summed over the CPUs."""
        self._watch_devices()
        keys, values = syscall.lookup_all(
            self._attachment.map_fd(_CELL_MAP), _CELL_KEY_DTYPE, _CELL_VALUE_DTYPE, slots=self._cpus
        )
        cells = np.zeros(len(keys), GPU_CELL_DTYPE)
        for name in _CELL_KEY_DTYPE.names or ():
            cells[name] = keys[name]
        if len(keys):
            used = values["calls"] > 0
            never = np.iinfo(np.uint64).max
            cells["calls"] = values["calls"].sum(axis=1)
            cells["first_ns"] = np.where(used, values["first_ns"], never).min(axis=1)
            cells["last_ns"] = values["last_ns"].max(axis=1)
        return cells

    def delete_gpu_cells(self, cells: Records) -> None:
        """Removes the cells with these keys, and that their processes were seen on the devices."""
        keys, seen = np.zeros(len(cells), _CELL_KEY_DTYPE), np.zeros(len(cells), _SEEN_KEY_DTYPE)
        for name in _CELL_KEY_DTYPE.names or ():
            keys[name] = cells[name]
        for name in _SEEN_KEY_DTYPE.names or ():
            seen[name] = cells[name]
        for table, rows in ((_CELL_MAP, keys), ("gpu_seen", np.unique(seen))):
            descriptor = self._attachment.map_fd(table)
            for index in range(len(rows)):
                with contextlib.suppress(FileNotFoundError):
                    syscall.delete(descriptor, rows[index : index + 1])

    def counters(self) -> U64s:
        """Loss counters so far, summed over the CPUs, by schema.COUNTERS number."""
        numbers = np.arange(len(schema.COUNTERS), dtype="<u4")
        slots = np.zeros((len(numbers), self._cpus), "<u8")
        syscall.lookup_each(self._attachment.map_fd("counters"), numbers, slots)
        totals: U64s = slots.sum(axis=1)
        return totals

    def seed_images(self, tgids: U32s, exec_ids: U64s, start_ns: U64s) -> None:
        """Notes each process's image, unless the kernel side knows one already."""
        descriptor = self._attachment.map_fd("images")
        keys = np.ascontiguousarray(tgids, "<u4")
        values = np.zeros(len(keys), _IMAGE)
        values["exec_id"], values["start_ns"] = exec_ids, start_ns
        known = np.zeros(1, _IMAGE)
        for index in range(len(keys)):
            key, value = keys[index : index + 1], values[index : index + 1]
            try:
                syscall.update(descriptor, key, value, syscall.NOEXIST)
            except FileExistsError:
                # Noted without an image when it was forked by a process that was not seeded yet.
                with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
                    syscall.lookup(descriptor, key, known)
                    if known["exec_id"][0] == 0:
                        syscall.update(descriptor, key, value)

    def report_progress(self) -> None:
        """Has a progress record written for each open socket that was silent for 30 s."""
        keys, owners = syscall.lookup_all(
            self._attachment.map_fd("sockets"), np.dtype("<u8"), _OWNER
        )
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        due = (
            keys[owners["reported_ns"][:, 0] + np.uint64(PROGRESS_NS) <= now] if len(keys) else keys
        )
        program = self._attachment.program_fd("emit_progress")
        for start in range(0, len(due), _PROGRESS_SOCKETS):
            arguments = np.zeros(_PROGRESS_SOCKETS, "<u8")
            part = due[start : start + _PROGRESS_SOCKETS]
            arguments[: len(part)] = part
            syscall.run_raw_tracepoint(program, arguments)

    def stop(self) -> None:
        """Detaches every hook; what the rings hold can still be drained."""
        self._attachment.detach()
        self._hooks = tuple(
            replace(hook, state="detached") if hook.state == "attached" else hook
            for hook in self._hooks
        )

    def close(self) -> None:
        """Stops, and gives back rings, maps and programs."""
        self.stop()
        while self._rings:
            self._rings.popitem()[1].close()
        self._attachment.close()

    @property
    def ring_bytes(self) -> int:
        """Pages of all rings, for telling them from the rest of the memory."""
        return sum(schema.RECORDS[name].ring_bytes for name in DRAIN_ORDER)
