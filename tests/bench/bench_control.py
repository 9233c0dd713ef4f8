"""Measures how many events a second the control plane commits over mTLS from 50 synthetic sensors.

Each round measures, one after the other, the ceiling (DuckDB alone: the writer's tables inserted
in groups of the same size, nothing else running) and the whole way (50 TLS connections of their
own, every event acknowledged after commit). The sensors run in a second process on the same cores
and send batches that were encoded and compressed beforehand: their own work is measured elsewhere.
The server is the one that is shipped: the rules run beside, and lag when it is saturated
(`rules_behind_s`: how long after the last acknowledgement they have read everything).

Mix: 70 % connections, 25 % execs with 120 bytes of arguments, 5 % GPU aggregates.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import pyarrow as pa
import zstandard
from limes.control import ca
from limes.control.client import ControlClient
from limes.control.store import rows
from limes.control.store.columns import arrow_schema
from limes.control.store.connection import open_store
from limes.control.store.entries import Batch, Source
from limes.v1 import ingest_service_pb2 as pb
from limes.v1 import schema

MIX: Final = (("process_execs", 0.25), ("connections", 0.70), ("gpu_activity", 0.05))
CGROUPS: Final = 100  # of each host
ARGUMENT_BYTES: Final = 120
GROUP_ROWS: Final = 20_000
IN_FLIGHT: Final = 4  # batches that a sensor sends ahead of the acknowledgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is sent: by each of `sensors`, `batches` groups of `batch` events (three kinds)."""

    sensors: int
    batch: int
    batches: int

    @property
    def events(self) -> int:
        return self.sensors * self.batch * self.batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a batch is about: its numbers, and the images that its processes run."""

    kind: str
    first: int
    count: int
    images: range
    random: np.random.Generator


def identity(name: str, rows: Rows) -> pa.Array | None:
    """Return numbers and ids: each exec is a new image, other events are of images seen before."""
    numbers = np.arange(rows.first, rows.first + rows.count, dtype=np.uint64)
    own = {"process_execs": "process_exec_id", "cgroup_events": "cgroup_id"}.get(rows.kind)
    if name == "event_seq":
        return pa.array(numbers)
    if name == own:
        return pa.array(numbers)
    if name in {"process_exec_id", "process_entity_id"}:
        chosen = rows.random.integers(rows.images.start, rows.images.stop, rows.count)
        return pa.array(chosen, pa.uint64())
    if name == "cgroup_id":
        return pa.array(rows.random.integers(1, CGROUPS + 1, rows.count), pa.uint64())
    return None


def column(field: pa.Field, rows: Rows) -> pa.Array:
    """Return plausible values of a column: times that grow, long arguments, small numbers."""
    count, random = rows.count, rows.random
    found = identity(field.name, rows)
    if found is not None:
        return found
    if pa.types.is_timestamp(field.type):
        now = time.time_ns() // 1000
        return pa.array(now + np.arange(count), field.type)
    if pa.types.is_boolean(field.type):
        return pa.array(np.zeros(count, bool))
    if field.name == "process_args":
        tails = random.integers(0, 1 << 62, count)
        texts = [f"/usr/bin/python3\0-c\0{tail:x}".ljust(ARGUMENT_BYTES, "a") for tail in tails]
        return pa.array(texts)
    if pa.types.is_string(field.type):
        return pa.array([f"/usr/bin/program-{n}" for n in random.integers(0, 300, count)])
    high = 1 << 40 if field.name.endswith("_ns") else 500
    high = min(high, 1 << (field.type.bit_width - 1))
    return pa.array(random.integers(0, high, count), field.type)


def events(rows: Rows) -> pa.Table:
    columns = arrow_schema(rows.kind)
    return pa.Table.from_arrays([column(field, rows) for field in columns], schema=columns)


def one_sensor(plan: Plan) -> list[tuple[str, int, pa.Table]]:
    """Return what one sensor sends, in order: kind, first number, rows."""
    random = np.random.default_rng(7)
    made, seq, images = [], 1, range(1, 2)
    counts = [("cgroup_events", CGROUPS)]
    for _ in range(plan.batches):
        counts += [(kind, round(plan.batch * share)) for kind, share in MIX]
    counts[-1] = (counts[-1][0], counts[-1][1] - CGROUPS)
    for kind, count in counts:
        if kind == "process_execs":
            images = range(seq, seq + count)
        rows = Rows(kind=kind, first=seq, count=count, images=images, random=random)
        made.append((kind, seq, events(rows)))
        seq += count
    return made


def encode(kind: str, first: int, table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    payload = zstandard.ZstdCompressor(level=1).compress(sink.getvalue())
    batch = pb.EventBatch(
        kind=f"EVENT_KIND_{kind.upper()}",
        first_seq=first,
        count=table.num_rows,
        payload=payload,
    )
    return pb.StreamRequest(batches=pb.EventBatches(batches=[batch])).SerializeToString()


def cpu_seconds(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def process_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class NoPeer:
    def finish(self) -> None: ...

    def acknowledge(self, last_seq: int) -> None: ...

    def rewind(self, next_seq: int, refused_seq: int) -> bool:
        return False


def ceiling(plan: Plan, sent: list[tuple[str, int, pa.Table]], folder: Path) -> dict[str, float]:
    """Insert the same rows in groups of the same size by DuckDB alone; return the figures."""
    peer = NoPeer()
    queue = [
        Batch(
            source=Source(f"host-{sensor}", "boot", 1),
            peer=peer,
            first_seq=first,
            last_seq=first + table.num_rows - 1,
            kind=kind,
            table=table,
            size=0,
        )
        for kind, first, table in sent
        for sensor in range(plan.sensors)
    ]
    store = open_store(folder / "ceiling" / "limes.duckdb")  # as the server opens it
    connection = store.cursor()
    cpu, began = cpu_seconds(resource.RUSAGE_SELF), time.perf_counter()
    ingest_id = 0
    while queue:
        group: list[Batch] = []
        while queue and sum(batch.rows for batch in group) < GROUP_ROWS:
            group.append(queue.pop())
        ingest_id += 1
        stamp = rows.Stamp(
            ingest_id=ingest_id, event_ingested=datetime.now(UTC).replace(tzinfo=None)
        )
        connection.begin()
        for kind, table in rows.event_tables(stamp, group, []).items():
            connection.from_arrow(table).insert_into(kind)
        connection.commit()
    elapsed = time.perf_counter() - began
    cpu = cpu_seconds(resource.RUSAGE_SELF) - cpu
    connection.close()
    store.close()
    return {"events_per_second": plan.events / elapsed, "cpu_us": cpu / plan.events * 1e6}


class Sensor:
    """One stream, IN_FLIGHT batches ahead of the acknowledgement."""

    def __init__(
        self, number: int, address: str, state: Path, sent: list[bytes], last: int
    ) -> None:
        name = f"host-{number}"
        made = ca.files(state, name)
        credentials = grpc.ssl_channel_credentials(
            ca.ca_files(state).certificate.read_bytes(),
            made.key.read_bytes(),
            made.certificate.read_bytes(),
        )
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.secure_channel(address, credentials, options)
        self._window = threading.Semaphore(IN_FLIGHT * len(MIX))
        self._hello = pb.Hello(
            host_id=name, boot_id="boot", epoch=time.time_ns(), abi_version=schema.ABI_VERSION
        )
        self._sent = sent
        self._last = last
        self.latencies: list[float] = []

    def run(self, start: threading.Barrier) -> None:
        method = self._channel.stream_stream(
            "/limes.v1.IngestService/Stream",
            request_serializer=lambda raw: raw,
            response_deserializer=pb.StreamResponse.FromString,
        )
        times: dict[int, float] = {}
        ends = [0]

        def requests() -> Iterator[bytes]:
            yield pb.StreamRequest(hello=self._hello).SerializeToString()
            start.wait()
            for index, raw in enumerate(self._sent):
                self._window.acquire()
                times[index] = time.perf_counter()
                yield raw
            done.wait()

        done = threading.Event()
        for raw in self._sent:
            batch = pb.StreamRequest.FromString(raw).batches.batches[0]
            ends.append(batch.first_seq + batch.count - 1)
        count = 0
        for response in method(requests()):
            if not response.HasField("ack"):
                continue
            while count < len(self._sent) and ends[count + 1] <= response.ack.last_seq:
                self.latencies.append(time.perf_counter() - times[count])
                count += 1
                self._window.release()
            if response.ack.last_seq == self._last:
                done.set()
        self._channel.close()


def sensors_process(address: str, state: Path, plan: Plan, spool: Path) -> None:
    """Run all sensors, print their figures as JSON. Runs in a process of its own."""
    raw = spool.read_bytes()
    sizes = json.loads(spool.with_suffix(".json").read_text())
    sent, offset = [], 0
    for size in sizes["sizes"]:
        sent.append(raw[offset : offset + size])
        offset += size
    sensors = [
        Sensor(number, address, state, sent, sizes["last"]) for number in range(plan.sensors)
    ]
    start = threading.Barrier(plan.sensors + 1)
    with ThreadPoolExecutor(plan.sensors) as pool:
        running = [pool.submit(sensor.run, start) for sensor in sensors]
        start.wait()
        began = time.perf_counter()
        for future in running:
            future.result()
        elapsed = time.perf_counter() - began
    latencies = sorted(latency for sensor in sensors for latency in sensor.latencies)
    figures = {
        "elapsed": elapsed,
        "cpu": cpu_seconds(resource.RUSAGE_SELF),
        "ack_p50_ms": latencies[len(latencies) // 2] * 1000,
        "ack_p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
    }
    print(json.dumps(figures))


SERVER: Final = """
import sys
from limes.control.config import load_config
from limes.control.serve import serve
sys.exit(serve(load_config(None, {"state": sys.argv[1], "listen": "127.0.0.1:0"})))
"""


def wait_ready(server: subprocess.Popen[str]) -> str:
    """Return the address of the server once it serves."""
    assert server.stderr is not None
    for line in server.stderr:
        if line.startswith("{") and (entry := json.loads(line))["event"] == "control.ready":
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return str(entry["address"])
    raise SystemExit("the control plane did not start")


def served(plan: Plan, spool: Path, folder: Path) -> dict[str, float]:
    """Send everything over mTLS to a control plane of its own; return the figures."""
    state = folder / "served"
    ca.init(state)
    ca.issue(state, "control", "control")
    admin = ca.issue(state, "admin", "analyst")
    for number in range(plan.sensors):
        ca.issue(state, f"host-{number}", "sensor")
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(state)], stderr=subprocess.PIPE, text=True
    ) as server:
        address = wait_ready(server)
        arguments = [address, str(state), str(spool), *map(str, vars_of(plan))]
        figures = json.loads(
            subprocess.run(
                [sys.executable, __file__, "--sensors-process", *arguments],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
        )
        cpu_sending, ended = process_cpu_seconds(server.pid), time.perf_counter()
        authority = ca.ca_files(state).certificate
        with ControlClient(address, authority, admin.certificate, admin.key) as client:
            while (status := client.status()).rules_ingest_id < status.last_ingest_id:
                time.sleep(0.1)
        behind = time.perf_counter() - ended
        cpu_all = process_cpu_seconds(server.pid)
        server.terminate()
        server.wait()
    if status.events_committed != plan.events:
        raise SystemExit(f"{plan.events} events were sent, {status.events_committed} committed")
    size = (state / "control/limes.duckdb").stat().st_size
    return {
        "events_per_second": plan.events / figures["elapsed"],
        "cpu_us": cpu_sending / plan.events * 1e6,
        "cpu_with_all_rules_us": cpu_all / plan.events * 1e6,
        "rules_behind_s": behind,
        "sensor_cpu_us": figures["cpu"] / plan.events * 1e6,
        "ack_p50_ms": figures["ack_p50_ms"],
        "ack_p99_ms": figures["ack_p99_ms"],
        "bytes_per_event": size / plan.events,
    }


def vars_of(plan: Plan) -> tuple[int, int, int]:
    return plan.sensors, plan.batch, plan.batches


def summary(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return median, least and most of each figure."""
    return {
        name: {
            "median": statistics.median(values),
            "least": min(values),
            "most": max(values),
        }
        for name in rounds[0]
        if (values := [each[name] for each in rounds])
    }


def show(title: str, figures: dict[str, dict[str, float]]) -> None:
    print(title)
    for name, figure in figures.items():
        spread = f"{figure['least']:,.1f} to {figure['most']:,.1f}"
        print(f"  {name:20} {figure['median']:>12,.1f}   ({spread})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sensors", type=int, default=50)
    parser.add_argument("--batch", type=int, default=5_000)
    parser.add_argument("--batches", type=int, default=12, help="of each sensor")
    parser.add_argument("--json", type=Path, help="write the figures here")
    chosen = parser.parse_args()
    plan = Plan(sensors=chosen.sensors, batch=chosen.batch, batches=chosen.batches)
    found: dict[str, list[dict[str, float]]] = {"ceiling": [], "served": []}
    with tempfile.TemporaryDirectory() as name:
        sent = one_sensor(plan)
        spool = Path(name) / "spool"
        encoded = [encode(*each) for each in sent]
        spool.write_bytes(b"".join(encoded))
        last = sent[-1][1] + sent[-1][2].num_rows - 1
        described = {"sizes": [len(raw) for raw in encoded], "last": last}
        spool.with_suffix(".json").write_text(json.dumps(described))
        for number in range(chosen.rounds):
            with tempfile.TemporaryDirectory(dir=name) as folder:
                found["ceiling"].append(ceiling(plan, sent, Path(folder)))
                found["served"].append(served(plan, spool, Path(folder)))
            print(
                f"round {number + 1}: ceiling {found['ceiling'][-1]['events_per_second']:,.0f}, "
                f"served {found['served'][-1]['events_per_second']:,.0f} events/s",
                file=sys.stderr,
            )
    python = f"Python {platform.python_version()}"
    report: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {python}",
        "plan": f"{plan.sensors} sensors, {plan.events:,} events a round, {chosen.rounds} rounds",
        "ceiling": summary(found["ceiling"]),
        "served": summary(found["served"]),
    }
    print(
        f"Control plane over mTLS: {report['plan']} on {report['machine']}; median (least to most)"
    )
    show("ceiling: DuckDB alone, same tables and groups", report["ceiling"])
    show("served: mTLS, acknowledged after commit", report["served"])
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sensors-process"]:
        address, state, spool, *numbers = sys.argv[2:]
        sensors, batch, batches = map(int, numbers)
        plan = Plan(sensors=sensors, batch=batch, batches=batches)
        sensors_process(address, Path(state), plan, Path(spool))
    else:
        sys.exit(main())
