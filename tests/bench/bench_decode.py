"""Measures what a record costs the sensor from the drained ring to the numbered batch.

For each ring and drain size: the copy out of the ring, decoding to columns, arguments joined,
secrets looked for, Arrow IPC; and, beside it, with zstd, which is what goes into the spool. CPU
time of the process, on records as the kernel side writes them: execs with 120 bytes of arguments
(no secrets in them), addresses, several cgroups.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import zstandard
from limes.sensor import decode, gpu, memory, redact
from limes.sensor.arguments import Arguments
from limes.sensor.arrow import Encoder
from limes.sensor.cgroups import CgroupNames
from limes.sensor.identity import Identity
from limes.sensor.source import RECORD_DTYPES, Records
from limes.v1 import schema

RINGS: Final = {
    "process_execs": "exec",
    "process_forks": "process",
    "process_exits": "process",
    "connections": "connection",
    "gpu_events": "gpu",
    "cgroup_events": "cgroup",
}
SIZES: Final = (100, 500, 2_000, 20_000)
MAX_EXECS: Final = 2_048  # of one batch, as in the pipeline
CGROUPS: Final = 32
ARGS: Final = (
    b"/usr/bin/python3\0-m\0torch.distributed.run\0--nproc_per_node=8\0train.py\0"
    b"--config\0/data/runs/config.yaml\0--lr\0003e-4\0"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What decoding needs beside the records."""

    context: decode.Context
    arguments: Arguments
    encoders: dict[str, Encoder]
    compressor: zstandard.ZstdCompressor

    def run(self, kind: str, ring: Records, *, compress: bool) -> int:
        """Takes the records out of the ring and makes their batches; returns the bytes."""
        size = 0
        step = MAX_EXECS if kind == "process_execs" else 20_000
        records = np.frombuffer(ring.tobytes(), ring.dtype)
        for start in range(0, len(records), step):
            part = records[start : start + step]
            columns = decode.decode(kind, self.context, part)
            if kind == "process_execs":
                args, flags = self.arguments.join(part, None)
                columns["process_args"], columns["process_flags"] = redact.redact(args, flags)
            columns["event_seq"] = np.arange(1, len(part) + 1, dtype=np.uint64)
            stream = self.encoders[kind].encode(len(part), columns)
            size += len(self.compressor.compress(stream) if compress else stream)
        return size


def write_tail(records: Records, member: str, value: bytes) -> None:
    """Writes a path as the kernel side does: from the end of its slot."""
    end = records[member].shape[1] - 1
    records[member][:, end - len(value) : end] = np.frombuffer(value, np.uint8)
    records[f"{member}_start"] = end - len(value)


def make(kind: str, count: int) -> Records:
    """Records with plausible values."""
    random = np.random.default_rng(1)
    records = np.zeros(count, RECORD_DTYPES[RINGS[kind]])
    records["time_ns"] = 10**15 + np.cumsum(random.integers(1_000, 90_000, count))
    records["cgroup_id"] = 4_000 + np.sort(random.integers(0, CGROUPS, count))
    records["exec_id"] = random.integers(1, 1 << 50, count)
    records["start_ns"] = records["time_ns"] - random.integers(0, 10**12, count).astype(np.uint64)
    records["tgid"] = random.integers(300, 1 << 22, count)
    records["kind"] = schema.KINDS[kind].number
    records["version"], records["action"] = schema.ABI_VERSION, 1
    if kind == "process_execs":
        write_tail(records, "exe", b"/usr/lib/python3.11/bin/python3")
        write_tail(records, "cwd", b"/home/trainer/work")
        records["comm"][:, :7] = np.frombuffer(b"python3", np.uint8)
        args = ARGS.ljust(119, b"x")[:119] + b"\0"
        records["args"][:, :120] = np.frombuffer(args, np.uint8)
        records["args_bytes"] = records["args_copied"] = 120
        # One letter differs from row to row, so that the rows are not all alike.
        records["args"][:, 118] = random.integers(97, 123, count)
    elif kind == "connections":
        records["remote"] = random.integers(0, 256, (count, 16))
        records["socket_id"] = random.integers(1, 1 << 40, count)
        records["opened_ns"] = records["time_ns"] - np.uint64(5_000_000)
    elif kind == "gpu_events":
        records["device_major"], records["device_minor"] = 195, random.integers(0, 8, count)
    elif kind == "cgroup_events":
        records["path"][:, :6] = np.frombuffer(b"/job_1", np.uint8)
    return records


def measure(work: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of CPU for one call, measured `rounds` times over at least 50 ms each."""
    work()
    started = time.process_time()
    work()
    calls = max(1, int(0.05 / max(time.process_time() - started, 1e-6)))
    out = []
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(calls):
            work()
        out.append((time.process_time() - started) / calls)
    return out


def bench(rounds: int) -> dict[str, Any]:
    """Nanoseconds a record, by kind and drain size: median, least, most; and bytes a record."""
    names = CgroupNames()
    names.add({4_000 + number: f"/slurm/job_{number}/step_0" for number in range(CGROUPS)})
    tool = Bench(
        context=decode.Context(
            identity=Identity(host_id="bench", boot_id="bench", epoch=1),
            devices=gpu.Devices(),
            cgroups=names,
            offset_ns=1_700_000_000_000_000_000,
        ),
        arguments=Arguments(),
        encoders={kind: Encoder(schema.KINDS[kind]) for kind in RINGS},
        compressor=zstandard.ZstdCompressor(level=-20),
    )
    found: dict[str, Any] = {}
    for kind in RINGS:
        for size in SIZES:
            ring = make(kind, size)
            entry = found.setdefault(kind, {}).setdefault(str(size), {})
            for name, compress in (("arrow_ns", False), ("with_zstd_ns", True)):

                def work(kind: str = kind, ring: Records = ring, compress: bool = compress) -> int:
                    return tool.run(kind, ring, compress=compress)

                values = [seconds / size * 1e9 for seconds in measure(work, rounds)]
                entry[name] = {
                    "median": statistics.median(values),
                    "least": min(values),
                    "most": max(values),
                }
            entry["bytes"] = tool.run(kind, ring, compress=True) / size
    return found


def show(found: dict[str, Any]) -> None:
    print("kind             drain     ns to Arrow (least to most)   with zstd   bytes   goal")
    for kind, sizes in found.items():
        goal = "1,000" if kind == "process_execs" else "150"
        for size, entry in sizes.items():
            arrow, both = entry["arrow_ns"], entry["with_zstd_ns"]
            spread = f"({arrow['least']:,.0f} to {arrow['most']:,.0f})"
            print(
                f"{kind:15} {int(size):>7,} {arrow['median']:>13,.0f} {spread:>17} "
                f"{both['median']:>11,.0f} {entry['bytes']:>7.1f} {goal:>6}"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here")
    chosen = parser.parse_args()
    memory.keep_freed()  # as the sensor does
    found = bench(chosen.rounds)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"Ring copy + decode + Arrow, CPU per record, {chosen.rounds} rounds, {machine}")
    show(found)
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": machine, "kinds": found}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
