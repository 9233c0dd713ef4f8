"""The stages between the kernel's records and the spool, in order, in one thread.

Invariant: within one flush a cgroup's path goes before the execs in it, and an exec before whatever
its process did.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog
from limes.sensor import ancestry, decode, gpu, health, procfs, redact, strings
from limes.sensor.arguments import Arguments
from limes.sensor.arrow import Column
from limes.sensor.batches import Batcher
from limes.sensor.cgroups import CgroupNames
from limes.sensor.clock import Clock
from limes.sensor.errors import AbiMismatch
from limes.sensor.health import Hooks, Losses, Stamp
from limes.sensor.identity import TICK_NS, Identity
from limes.sensor.source import Records, RecordSource, Tree, U64s, pick
from limes.sensor.spool import Spool
from limes.v1 import schema

log = structlog.get_logger(__name__)

_SECOND_NS: Final = 1_000_000_000
_MAX_EXECS: Final = 2048  # of one batch: its strings then fit the processor's cache
_MAX_ARGS_BYTES: Final = 8 << 20  # of one batch
_MAX_ROWS: Final = 20_000  # of one batch
_BUSY_ROWS: Final = 500
_BUSY_FLUSH: Final = 2.5  # intervals between flushes while there are so many
_BUSY_PASS: Final = 2000  # rows of one pass; the rings hold several times as many
_WALK_EVERY_NS: Final = 500_000_000
_QUIET_NS: Final = 30 * _SECOND_NS
_FORK: Final = schema.KINDS["process_forks"].number
_EXIT: Final = schema.KINDS["process_exits"].number
_SEEN: Final = schema.KINDS["cgroup_events"].actions["seen"]
_CALLS: Final = schema.KINDS["gpu_activity"].actions["calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the sensor knows of its host beside the kernel's records."""

    tree: Tree | None
    processes: procfs.ProcessTable | None
    devices: gpu.Devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often to look and to send, in nanoseconds."""

    drain_min_ns: int = 10_000_000
    drain_max_ns: int = 100_000_000
    flush_ns: int = 200_000_000
    flush_rows: int = _MAX_ROWS


class Timer:
    """True once per period."""

    def __init__(self, period_ns: int) -> None:
        self._period = period_ns
        self._next = 0

    def due(self, now_ns: int) -> bool:
        """True when the period has passed since the last time it was."""
        if now_ns < self._next:
            return False
        self._next = now_ns + self._period
        return True


class Pipeline:
    """Drains a source, and gives numbered batches to the spool."""

    def __init__(
        self,
        source: RecordSource,
        spool: Spool,
        *,
        identity: Identity,
        clock: Clock,
        surroundings: Surroundings,
        pace: Pace,
        notify: Callable[[], None] = lambda: None,
        redacting: bool = True,
    ) -> None:
        self._source = source
        self._spool = spool
        self._clock = clock
        self._around = surroundings
        self._pace = pace
        self._notify = notify
        self._redacting = redacting
        self._names = CgroupNames()
        self._context = decode.Context(
            identity=identity,
            devices=surroundings.devices,
            cgroups=self._names,
            offset_ns=clock.offset_ns(),
        )
        self._arguments = Arguments()
        self._activity = gpu.Activity()
        self._losses = Losses()
        self._hooks = Hooks()
        self._batcher = Batcher()
        self._held: dict[str, list[bytes]] = {}
        self._types: dict[str, np.dtype[Any]] = {}
        self._held_rows = 0
        self._held_since = 0
        self._flushed_at = 0
        self._walked_at = 0
        self._walk_wanted = False
        self._unknown_records = 0
        self._second = Timer(_SECOND_NS)
        self._gpu_timer = Timer(2 * _SECOND_NS)
        self._health_timer = Timer(5 * _SECOND_NS)
        self._progress_timer = Timer(5 * _SECOND_NS)
        self._minute = Timer(60 * _SECOND_NS)
        self._interval = pace.drain_min_ns
        self._stopping = False
        self._asked = False

    # ------------------------------------------------------------ the loop

    def start(self, now_ns: int) -> None:
        """Announces cgroups and processes that are older than the sensor, its hooks and itself."""
        stamp = self._stamp()
        found = self._around.tree.walk() if self._around.tree else {}
        self._announce(self._names.add(found), stamp)
        if self._around.processes is not None:
            self._scan(self._around.processes, found)
        self._send_hooks(stamp)
        self._send_losses(stamp, [("sensor", cause, 0) for cause in self._spool.causes])
        self._send_health(stamp, "started")
        for timer in (
            self._second,
            self._gpu_timer,
            self._health_timer,
            self._progress_timer,
            self._minute,
        ):
            timer.due(now_ns)
        self._hand_over()

    def run(self) -> None:
        """Passes until `stop` is called, then empties the source and flushes."""
        self._interval = self._pace.drain_min_ns
        while not self._stopping:
            time.sleep(self.pause(self.step(time.monotonic_ns())) / _SECOND_NS)
        self.finish()

    def pause(self, rows: int) -> int:
        """Nanoseconds to wait after a pass that drained so many rows: short under load.

        A wake-up costs more than a look at empty rings, so it comes seldom when there is little.
        """
        if rows >= _BUSY_PASS:
            self._interval = self._pace.drain_min_ns
        else:
            self._interval = min(self._interval * 2, self._pace.drain_max_ns)
        return self._interval

    @property
    def stopping(self) -> bool:
        """True once `stop` was called."""
        return self._stopping

    def stop(self) -> None:
        """Ends `run` after the pass under way; safe in a signal handler."""
        self._stopping = True

    def ask(self) -> None:
        """Has the next pass look at everything, and end with a heartbeat; safe in a signal handler.

        Whatever happened before the call then has a lower sequence number than that heartbeat.
        """
        self._asked = True

    def step(self, now_ns: int) -> int:
        """One pass: drain, hold, and when it is time flush. Returns the rows drained."""
        asked, self._asked = self._asked, False
        # Cells are read before the rings, so that the execs they refer to are sent before them.
        cells = self._source.gpu_cells() if self._gpu_timer.due(now_ns) or asked else None
        rows = self._drain()
        each_second = self._second.due(now_ns) or asked
        if each_second or cells is not None or (self._held_rows and self._is_due(now_ns)):
            self._decode_held(now_ns)
            if cells is not None and len(cells):
                self._read_gpu(cells)
            if each_second:
                self._each_second(now_ns)
            if asked:
                self._send_health(self._stamp(), "heartbeat")
            self._hand_over()
        return rows

    def finish(self) -> None:
        """Detaches, empties the rings, and hands over all that is left."""
        self._source.stop()
        cells = self._source.gpu_cells()
        now_ns = time.monotonic_ns()
        while self._drain():
            if self._held_rows >= self._pace.flush_rows:
                self._decode_held(now_ns)
                self._hand_over()
        self._decode_held(now_ns)
        stamp = self._stamp()
        self._send_gpu_activity(cells)
        self._count_losses(stamp)
        self._send_hooks(stamp)
        self._send_health(stamp, "stopping")
        self._hand_over()

    def _is_due(self, now_ns: int) -> bool:
        """True at once after a quiet spell, and then at the flush interval or at many rows.

        A flush costs about the same for ten rows as for a thousand, so under load it comes later.
        """
        interval = self._pace.flush_ns
        if self._held_rows >= _BUSY_ROWS:
            interval = int(interval * _BUSY_FLUSH)
        return self._held_rows >= self._pace.flush_rows or now_ns - self._flushed_at >= interval

    def _drain(self) -> int:
        """Holds copies of what the rings have, so that their room is free again."""
        rows = 0
        for name, records in self._source.drain().items():
            if len(records):
                rows += len(records)
                # Bytes: copying and joining arrays of records goes member by member.
                self._held.setdefault(name, []).append(records.tobytes())
                self._types[name] = records.dtype
        self._source.release()
        self._held_rows += rows
        return rows

    def _take(self, name: str) -> Records | None:
        """What is held of one record, checked; it cannot be written to."""
        parts = self._held.pop(name, None)
        if parts is None:
            return None
        records = np.frombuffer(b"".join(parts), self._types[name])
        if "version" in (records.dtype.names or ()):
            version = int(records["version"][0])
            if version != schema.ABI_VERSION:
                raise AbiMismatch(
                    f"Drained {name} records of version {version} of the event registry; this "
                    f"sensor was built with version {schema.ABI_VERSION}. Rebuild the BPF object."
                )
        return records

    # ------------------------------------------------------------ one flush

    def _decode_held(self, now_ns: int) -> None:
        """Decodes what is held: cgroups are named first; what refers to another row follows it."""
        self._flushed_at = now_ns
        if not self._held_rows:
            return
        self._held_rows = 0
        cgroups, execs, chunks = map(self._take, ("cgroup", "exec", "exec_chunk"))
        processes, connections, gpus = map(self._take, ("process", "connection", "gpu"))
        if cgroups is not None:
            self._names.learn(cgroups)
        self._name_cgroups(now_ns, cgroups, execs, processes, connections, gpus)
        self._send("cgroup_events", cgroups)
        if execs is not None and processes is not None:
            execs = ancestry.with_forkers(execs, processes)
        self._send_execs(execs, chunks)
        self._send_processes(processes)
        self._send("connections", connections)
        self._send("gpu_events", gpus)

    def _hand_over(self) -> None:
        """Puts the numbered batches into the spool and tells the publisher."""
        entries = self._batcher.take()
        if entries:
            self._spool.append(entries)
            self._notify()

    def _name_cgroups(self, now_ns: int, *drained: Records | None) -> None:
        """Walks the cgroup tree when records name a cgroup that is not known, but not too often."""
        tree = self._around.tree
        if tree is None:
            return
        ids = [records["cgroup_id"] for records in drained if records is not None]
        if not self._walk_wanted and not self._names.missing(ids):
            return
        if now_ns - self._walked_at < _WALK_EVERY_NS:
            self._walk_wanted = True
            return
        self._walk_wanted = False
        self._announce(self._names.add(tree.walk()), self._stamp())
        self._names.give_up(ids)
        self._walked_at = now_ns

    def _send(self, kind: str, records: Records | None) -> None:
        if records is None:
            return
        for start in range(0, len(records), _MAX_ROWS):
            part = records[start : start + _MAX_ROWS]
            self._batcher.add(kind, len(part), decode.decode(kind, self._context, part))

    def _send_execs(self, execs: Records | None, chunks: Records | None) -> None:
        if execs is None:
            if chunks is not None:
                self._arguments.hold(chunks)
            return
        args, flags = self._arguments.join(execs, chunks)
        for start, end in _exec_parts(execs["args_copied"]):
            part, rows = execs[start:end], np.arange(start, end)
            whole = end - start == len(execs)
            columns = decode.decode("process_execs", self._context, part)
            columns["process_args"] = args if whole else args.take(rows)
            columns["process_flags"] = flags[start:end]
            self._redact(columns)
            self._batcher.add("process_execs", end - start, columns)

    def _redact(self, columns: dict[str, Column]) -> None:
        args, flags = columns["process_args"], columns["process_flags"]
        assert isinstance(args, strings.Strings)
        assert isinstance(flags, np.ndarray)
        if self._redacting:
            columns["process_args"], columns["process_flags"] = redact.redact(args, flags)

    def _send_processes(self, processes: Records | None) -> None:
        if processes is None:
            return
        kinds = processes["kind"]
        forks, exits = pick(processes, kinds == _FORK), pick(processes, kinds == _EXIT)
        self._unknown_records += len(processes) - len(forks) - len(exits)
        self._send("process_forks", forks)
        self._send("process_exits", exits)

    # ------------------------------------------------------------ now and then

    def _stamp(self) -> Stamp:
        return Stamp(self._clock.boot_ns(), self._context.offset_ns)

    def _each_second(self, now_ns: int) -> None:
        self._context.offset_ns = self._clock.offset_ns()
        if self._progress_timer.due(now_ns):
            self._source.report_progress()
        stamp = self._stamp()
        self._count_losses(stamp)
        self._send_hooks(stamp)
        if self._health_timer.due(now_ns):
            self._send_health(stamp, "heartbeat")
        if self._minute.due(now_ns):
            self._names.expire(stamp.boot_ns)

    def _count_losses(self, stamp: Stamp) -> None:
        sensor = {
            "exec_chunk_orphaned": self._arguments.orphans,
            "unknown_record": self._unknown_records,
        }
        grown = self._losses.grown(self._source.counters(), sensor)
        for stage, cause, count in grown:
            log.warning("sensor.lost", stage=stage, cause=cause, count=count)
        self._send_losses(stamp, grown)

    def _send_losses(self, stamp: Stamp, losses: list[tuple[str, str, int]]) -> None:
        if losses:
            self._batcher.add("losses", len(losses), Losses.columns(stamp, losses))

    def _send_hooks(self, stamp: Stamp) -> None:
        changed = self._hooks.changes(self._source.hooks)
        if changed:
            self._batcher.add("sensor_hooks", len(changed), Hooks.columns(stamp, changed))

    def _send_health(self, stamp: Stamp, action: str) -> None:
        row = health.health(
            stamp,
            action,
            events=self._batcher.sequenced,
            lost=self._losses.total + sum(self._spool.lost().values()),
            spool_bytes=self._spool.bytes_waiting,
            loader=self._source.loader,
        )
        self._batcher.add("sensor_health", 1, row)

    def _announce(self, cgroup_ids: list[int], stamp: Stamp) -> None:
        """Rows for cgroups that were found by a walk."""
        if not cgroup_ids:
            return
        count = len(cgroup_ids)
        ids = np.array(cgroup_ids, np.uint64)
        values = {**stamp.columns(count, _SEEN), "cgroup_id": ids, **self._names.columns(ids)}
        self._batcher.add("cgroup_events", count, decode.rows("cgroup_events", count, values))

    def _scan(self, processes: procfs.ProcessTable, cgroups: Mapping[int, str]) -> None:
        """Rows for the images that run already; the kernel side learns their ids first."""
        images = processes.scan(cgroups)
        ids = procfs.exec_ids(len(images))
        self._source.seed_images(procfs.tgids(images), ids, procfs.starts(images))
        self._drain()
        # Whoever ran execve meanwhile has a row of its own coming.
        newer: set[int] = set()
        for part in self._held.get("exec", ()):
            newer.update(np.frombuffer(part, self._types["exec"])["tgid"].tolist())
        kept = [row for row, image in enumerate(images) if image.tgid not in newer]
        images = [images[row] for row in kept]
        if not images:
            return
        stamp = self._stamp()
        values = procfs.columns(images, ids[kept], self._context.identity, stamp.boot_ns)
        values["event_time"] = stamp.columns(len(images), 0)["event_time"]
        columns = decode.rows("process_execs", len(images), values)
        self._redact(columns)
        self._batcher.add("process_execs", len(images), columns)

    def _read_gpu(self, cells: Records) -> None:
        """Sends what grew, and deletes the quiet cells of processes that have ended."""
        self._send_gpu_activity(cells)
        processes = self._around.processes
        quiet = gpu.quiet(cells, self._clock.boot_ns(), _QUIET_NS)
        if processes is None or not len(quiet):
            return
        now = {tgid: processes.start_ns(tgid) for tgid in np.unique(quiet["tgid"]).tolist()}
        starts = np.array([now[tgid] for tgid in quiet["tgid"].tolist()], np.uint64)
        tick = np.uint64(TICK_NS)
        dead = starts // tick != quiet["start_ns"] // tick
        if dead.any():
            self._source.delete_gpu_cells(quiet[dead])

    def _send_gpu_activity(self, cells: Records) -> None:
        active, grown = self._activity.since_last(cells)
        if len(active):
            columns = _gpu_activity(self._context, active, grown)
            self._batcher.add("gpu_activity", len(active), columns)


def _gpu_activity(context: decode.Context, cells: Records, grown: U64s) -> dict[str, Column]:
    """Columns of gpu_activity."""
    count = len(cells)
    names, simulated = context.devices.describe(cells["device"])
    values: dict[str, Column] = {
        "event_time": decode.times(cells["last_ns"], context.offset_ns),
        "event_boot_time_ns": cells["last_ns"],
        "cgroup_id": cells["cgroup_id"],
        "process_entity_id": context.identity.entities(cells["tgid"], cells["start_ns"]),
        "process_exec_id": context.identity.kernel_ids(cells["exec_id"]),
        "process_pid": cells["tgid"],
        "event_action": np.full(count, _CALLS, np.uint8),
        "gpu_device_major": cells["device"] >> np.uint32(gpu.MINOR_BITS),
        "gpu_device_minor": cells["device"] & np.uint32((1 << gpu.MINOR_BITS) - 1),
        "gpu_device_name": names,
        "gpu_device_simulated": simulated,
        "gpu_call": cells["command"],
        "gpu_calls": grown,
        "gpu_first_boot_time_ns": cells["first_ns"],
        "gpu_last_boot_time_ns": cells["last_ns"],
    }
    return decode.rows("gpu_activity", count, values)


def _exec_parts(copied: npt.NDArray[Any]) -> list[tuple[int, int]]:
    """Where to cut execs into batches of bounded rows and argument bytes."""
    count = len(copied)
    if count <= _MAX_EXECS and int(copied.sum(dtype=np.int64)) <= _MAX_ARGS_BYTES:
        return [(0, count)]
    total = np.cumsum(copied, dtype=np.int64)
    parts, start = [], 0
    while start < count:
        before = int(total[start - 1]) if start else 0
        end = int(np.searchsorted(total, before + _MAX_ARGS_BYTES, side="right"))
        end = min(max(end, start + 1), start + _MAX_EXECS, count)
        parts.append((start, end))
        start = end
    return parts
