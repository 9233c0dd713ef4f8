"""Real rings, natively: CPU per record from ring to Arrow; every record accounted for.

`storm`: a second process has the kernel write connection records into the real ring at a given
rate (the progress program, by test run on one open socket) while this one drains, decodes and
encodes. Made = delivered + counted as lost, exactly, or the run fails. `execs`: real execs with
120 bytes of arguments, drained and decoded afterwards in one go. Scoped to a cgroup of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from limes.sensor import decode, gpu, redact, strings
from limes.sensor.arguments import Arguments
from limes.sensor.arrow import Encoder
from limes.sensor.bpf import open_source, syscall
from limes.sensor.bpf.kernel import _OWNER, KernelSource
from limes.sensor.cgroups import CgroupNames, find_mount
from limes.sensor.clock import SystemClock
from limes.sensor.config import SensorConfig
from limes.sensor.identity import Identity
from limes.sensor.source import Records
from limes.v1 import schema

RING_FULL = next(c.number for c in schema.COUNTERS if c.name == "connection_ring_full")
HOLD = """
import socket, sys
s = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(s.getsockname()); p, _ = s.accept()
print('open', flush=True); sys.stdin.read()
"""
EXECS = """
import os, sys
argv = ['/bin/true', '--a-typical-argument=of-some-length', '--another-one=/with/a/path/in/it']
argv.append('x' * (119 - sum(len(a) + 1 for a in argv)))
for _ in range(int(sys.argv[1])):
    os.waitpid(os.posix_spawn('/bin/true', argv, {}), 0)
"""


@contextmanager
def scoped() -> Iterator[tuple[KernelSource, Path]]:
    mount = find_mount(Path("/proc/self/mountinfo").read_text())
    cgroup = mount / f"limes-bench-{os.getpid()}"
    cgroup.mkdir()
    config = SensorConfig(scope=(f"/{cgroup.name}",), loader="libbpf", syscall_hooks=False)
    try:
        source = open_source(config)
        try:
            yield source, cgroup
        finally:
            source.close()
    finally:
        cgroup.rmdir()


def inside(cgroup: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    procs = cgroup / "cgroup.procs"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        preexec_fn=lambda: procs.write_text(str(os.getpid())),  # noqa: PLW1509  one thread
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def context() -> decode.Context:
    return decode.Context(
        identity=Identity(host_id="bench", boot_id="bench", epoch=1),
        devices=gpu.Devices(),
        cgroups=CgroupNames(),
        offset_ns=SystemClock().offset_ns(),
    )


def produce(program: int, key: int, rate: int, seconds: float) -> int:
    """Runs the program at `rate` records a second; how many it made. For a child process."""
    arguments = np.full(4, key, "<u8")
    made, begin = 0, time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        for _ in range(min(1000, max(0, int(elapsed * rate) - made) // 4)):
            syscall.run_raw_tracepoint(program, arguments)
            made += 4
    return made


class Consumer:
    """Drains as the pipeline does: copies at each pass, decodes and encodes at each flush."""

    def __init__(self, source: KernelSource) -> None:
        self._source = source
        self._context = context()
        self._encoder = Encoder(schema.KINDS["connections"])
        self._held: list[Records] = []
        self.delivered = 0

    def drain(self) -> int:
        records = self._source.drain().get("connection")
        if records is not None:
            self._held.append(np.frombuffer(records.tobytes(), records.dtype))
        self._source.release()
        return 0 if records is None else len(records)

    def flush(self) -> None:
        if not self._held:
            return
        whole = b"".join(part.tobytes() for part in self._held)
        records, self._held = np.frombuffer(whole, self._held[0].dtype), []
        for start in range(0, len(records), 20_000):
            part = records[start : start + 20_000]
            columns = decode.decode("connections", self._context, part)
            columns["event_seq"] = np.arange(len(part), dtype="u8")
            self._encoder.encode(len(part), columns)
            self.delivered += len(part)


def storm(rate: int, seconds: float) -> dict[str, float]:
    """One run; raises SystemExit when a record is not accounted for."""
    with scoped() as (source, cgroup):
        holder = inside(cgroup, HOLD)
        assert holder.stdout is not None
        holder.stdout.readline()
        keys, _ = syscall.lookup_all(source._attachment.map_fd("sockets"), np.dtype("<u8"), _OWNER)
        source.drain()
        source.release()
        reading, writing = os.pipe()
        program = source._attachment.program_fd("emit_progress")
        child = os.fork()
        if child == 0:
            os.write(writing, str(produce(program, int(keys[0]), rate, seconds)).encode())
            os._exit(0)
        consumer = Consumer(source)
        cpu, done = time.process_time(), False
        while not done:
            done = os.waitpid(child, os.WNOHANG)[0] == child
            for _ in range(5):
                consumer.drain()
                time.sleep(0.01)
            consumer.flush()
        while consumer.drain():
            consumer.flush()
        consumer.flush()
        cpu = time.process_time() - cpu
        made = int(os.read(reading, 32))
        lost = int(source.counters()[RING_FULL])
        holder.communicate()
    if made != consumer.delivered + lost:
        raise SystemExit(f"made {made}, delivered {consumer.delivered}, counted lost {lost}")
    return {
        "made": made,
        "delivered": consumer.delivered,
        "lost_counted": lost,
        "records_per_second": made / seconds,
        "cpu_ns_per_record": cpu / max(1, consumer.delivered) * 1e9,
    }


def execs(count: int) -> dict[str, float]:
    """Nanoseconds of CPU per exec, arguments, redaction and Arrow included, after a warm-up."""
    encoder, about = Encoder(schema.KINDS["process_execs"]), context()
    with scoped() as (source, cgroup):
        for _ in range(2):
            inside(cgroup, EXECS, str(count)).communicate()
            arguments = Arguments()
            begin = time.process_time()
            drained = source.drain()
            rows, chunks = drained["exec"].copy(), drained.get("exec_chunk")
            for start in range(0, len(rows), 2048):
                part = rows[start : start + 2048]
                args, flags = arguments.join(part, chunks if start == 0 else None)
                columns = decode.decode("process_execs", about, part)
                assert isinstance(args, strings.Strings)
                columns["process_args"], columns["process_flags"] = redact.redact(args, flags)
                columns["event_seq"] = np.arange(len(part), dtype="u8")
                encoder.encode(len(part), columns)
            source.release()
            cpu = time.process_time() - begin
    return {"execs": len(rows), "cpu_ns_per_exec": cpu / len(rows) * 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=int, default=500_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name, rounds in (
        ("storm", [storm(options.rate, options.seconds) for _ in range(options.rounds)]),
        ("execs", [execs(3000) for _ in range(options.rounds)]),
    ):
        for key in rounds[0]:
            values = sorted(run[key] for run in rounds)
            figures = {"min": values[0], "median": statistics.median(values), "max": values[-1]}
            print(name, key, json.dumps({k: round(v, 1) for k, v in figures.items()}))


if __name__ == "__main__":
    main()
