"""Measures what a hunt costs: the snapshot, the worker, and what the writer notices of both.

A store is filled with synthetic events (70 % connections, 25 % execs with 120 bytes of arguments,
5 % GPU aggregates). Then, in this order: snapshots of it; hunts on one snapshot, each in a worker
of its own, from start to the last row; commits of 1,000 events, 20 a second, alone and while
snapshots are made without a pause. Run it alone on the machine: `python tests/bench/bench_hunt.py`.
"""

import argparse
import json
import os
import platform
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
from limes.control.hunt.config import HuntConfig
from limes.control.hunt.process import HuntProcess
from limes.control.hunt.service import worker_user
from limes.control.hunt.snapshot import Snapshot, Snapshots
from limes.control.hunt.wire import Job, Summary
from limes.control.store.columns import arrow_schema
from limes.control.store.connection import Store, open_store
from limes.control.store.entries import Batch, Source
from limes.control.store.writer import Writer

MIX: Final = {"connections": 0.70, "process_execs": 0.25, "gpu_activity": 0.05}
CHUNK: Final = 50_000
HUNTS: Final = {
    "SELECT 1": "SELECT 1",
    "bytes by cgroup": "SELECT cgroup_id, sum(source_bytes) FROM hunt.connections GROUP BY ALL",
    "search in arguments": (
        "SELECT count(*) FROM hunt.process_execs WHERE process_args LIKE '%ff9%'"
    ),
    "execs by connections": (
        "SELECT process_executable, count(*) FROM hunt.connections GROUP BY ALL ORDER BY 2 DESC"
    ),
    "10,000 whole rows": "SELECT * FROM hunt.connections LIMIT 10000",
}


class Peer:
    def acknowledge(self, last_seq: int) -> None: ...

    def finish(self) -> None: ...

    def rewind(self, next_seq: int, refused_seq: int) -> bool:
        raise AssertionError((next_seq, refused_seq))


def column(field: pa.Field, first: int, count: int, random: np.random.Generator) -> pa.Array:
    if field.name == "event_seq":
        return pa.array(np.arange(first, first + count, dtype=np.uint64))
    if pa.types.is_timestamp(field.type):
        return pa.array(time.time_ns() // 1000 + np.arange(count), field.type)
    if field.name == "process_args":
        tails = random.integers(0, 1 << 62, count)
        return pa.array([f"/usr/bin/python3\0-c\0{tail:x}".ljust(120, "a") for tail in tails])
    if pa.types.is_string(field.type):
        return pa.array([f"/usr/bin/program-{n}" for n in random.integers(0, 300, count)])
    if field.name in {"process_exec_id", "connection_id", "process_entity_id"}:
        return pa.array(random.integers(1, 1 << 60, count), field.type)
    return pa.array(
        random.integers(0, min(500, 1 << (field.type.bit_width - 1)), count), field.type
    )


class Filler:
    """Hands events of the mix to a writer."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.source = Source("bench", "boot", 1)
        self.next_seq = 1
        self.random = np.random.default_rng(7)

    def add(self, events: int) -> None:
        for kind, share in MIX.items():
            count = round(events * share)
            schema = arrow_schema(kind)
            arrays = [column(f, self.next_seq, count, self.random) for f in schema]
            table = pa.Table.from_arrays(arrays, schema=schema)
            last = self.next_seq + count - 1
            batch = Batch(
                source=self.source,
                peer=Peer(),
                first_seq=self.next_seq,
                last_seq=last,
                kind=kind,
                table=table,
                size=table.nbytes,
            )
            assert self.writer.submit(batch)
            self.next_seq = last + 1

    def settle(self) -> None:
        """Wait until all that was handed over is committed."""
        while self.writer.last_seq(self.source) < self.next_seq - 1:
            assert self.writer.failure is None
            time.sleep(0.0005)


def spread(values: list[float], unit: float = 1.0) -> dict[str, float]:
    ordered = sorted(value * unit for value in values)
    return {
        "median": round(statistics.median(ordered), 3),
        "min": round(ordered[0], 3),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
        "max": round(ordered[-1], 3),
    }


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def snapshots_of(store: Store, folder: Path, rounds: int) -> tuple[dict[str, Any], Snapshot]:
    snapshots = Snapshots(store, folder, HuntConfig())
    taken: list[Snapshot] = []

    def make() -> None:
        with snapshots.lease(0) as snapshot:
            taken.append(snapshot)

    cpu = time.process_time()
    seconds = [timed(make) for _ in range(rounds)]
    figures = {
        "rows": sum(kind.rows for kind in taken[-1].kinds),
        "mib": round(taken[-1].path.stat().st_size / (1 << 20), 1),
        "seconds": spread(seconds),
        "cpu_seconds_each": round((time.process_time() - cpu) / rounds, 3),
    }
    return figures, taken[-1]


def hunt(snapshot: Snapshot, sql: str, peaks: dict[str, int] | None = None) -> int:
    """Run a hunt to its last row; returns their number, and its memory in `peaks`."""
    user_id, group_id = worker_user("nobody")
    config = HuntConfig()
    job = Job(
        snapshot=str(snapshot.path),
        sql=sql,
        max_rows=config.default_rows,
        max_result_mib=config.max_result_mib,
        memory_mib=config.memory_mib,
        address_space_mib=config.address_space_mib,
        threads=config.threads,
        cpu_seconds=60,
        parent_pid=os.getpid(),
        user_id=user_id,
        group_id=group_id,
    )
    process = HuntProcess(job, timeout_seconds=30)
    ended = threading.Event()
    watch = threading.Thread(target=watch_memory, args=(process.pid, ended, peaks))
    if peaks is not None:
        watch.start()
    try:
        return next(frame.rows for frame in process.frames() if isinstance(frame, Summary))
    finally:
        ended.set()
        if peaks is not None:
            watch.join()
        process.close()


def watch_memory(pid: int, ended: threading.Event, peaks: dict[str, int]) -> None:
    """Keep the greatest resident memory and address space of a worker, in MiB."""
    while not ended.wait(0.001):
        text = Path(f"/proc/{pid}/status").read_text()
        for name, value in re.findall(r"^(VmHWM|VmPeak):\s+(\d+) kB", text, re.MULTILINE):
            peaks[name] = max(peaks.get(name, 0), int(value) >> 10)


def commits(filler: Filler, seconds: float) -> list[float]:
    """Return how long each of the commits took, from submission to the end of the commit."""
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        filler.add(1000)
        found.append(timed(filler.settle))
        time.sleep(0.05)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "control" / "limes.duckdb")
        writer = Writer(store)
        writer.start()
        filler = Filler(writer)
        for _ in range(options.rows // CHUNK):
            filler.add(CHUNK)
        filler.settle()
        figures: dict[str, Any] = {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python "
            f"{platform.python_version()}, DuckDB {duckdb.__version__}",
        }
        figures["snapshot"], snapshot = snapshots_of(store, Path(folder) / "s", options.rounds)
        figures["hunt_seconds"] = {
            name: spread([timed(partial(hunt, snapshot, sql)) for _ in range(options.rounds)])
            for name, sql in HUNTS.items()
        }
        figures["worker_peak_mib"] = {}
        for name, sql in HUNTS.items():
            hunt(snapshot, sql, figures["worker_peak_mib"].setdefault(name, {}))
        figures["commit_ms_alone"] = spread(commits(filler, options.seconds), 1000)
        stop = threading.Event()
        others = Snapshots(store, Path(folder) / "t", HuntConfig())

        def keep_making() -> None:
            while not stop.is_set():
                with others.lease(0):
                    pass

        thread = threading.Thread(target=keep_making)
        thread.start()
        figures["commit_ms_during_snapshots"] = spread(commits(filler, options.seconds), 1000)
        stop.set()
        thread.join()
        writer.close()
        store.close()
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
