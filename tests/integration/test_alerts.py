"""Alerts end to end in the control plane: writer, feed, engine and service, and kill -9 between."""

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from limes.control.alerts.reading import list_alerts
from limes.control.alerts.service import AlertServicer
from limes.control.policy import install_policy, parse_policy
from limes.control.rules.engine import Engine
from limes.control.rules.load import load_pack, shipped_packs
from limes.control.store.connection import Store, open_store
from limes.control.store.entries import Batch, Source
from limes.control.store.writer import Writer
from limes.v1 import alert_service_pb2 as pb
from limes.v1 import alert_service_pb2_grpc as rpc

from tests.conftest import events
from tests.unit.control.rules.conftest import BAD, YAML

POLICY = """
[[job_class]]
name = "training"
cgroups = ["/jobs/job_*"]
trainers = ["/opt/train"]
"""
DEADLINE = 30.0
METADATA = 0xFFFF_A9FE_A9FE  # ::ffff:169.254.169.254


class Acknowledged:
    """A stream that waits for the acknowledgement of what it sent."""

    def __init__(self) -> None:
        self._last = 0
        self._changed = threading.Condition()

    def acknowledge(self, last_seq: int) -> None:
        with self._changed:
            self._last = last_seq
            self._changed.notify_all()

    def finish(self) -> None: ...

    def rewind(self, next_seq: int, refused_seq: int) -> bool:
        raise AssertionError(f"{next_seq} was expected, {refused_seq} came")

    def wait(self, last_seq: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._last >= last_seq, DEADLINE)


@dataclass
class Plane:
    """Store, writer, engine and alert service, as the control plane puts them together."""

    store: Store
    writer: Writer
    engine: Engine
    stub: rpc.AlertServiceStub
    peer: Acknowledged
    next_seq: int = 1

    def send(self, kind: str, count: int = 1, **values: object) -> None:
        """Submit events of a sensor and wait until they are committed."""
        first, self.next_seq = self.next_seq, self.next_seq + count
        table = events(kind, first, count, **values)
        self.writer.submit(
            Batch(
                source=Source("host-1", "boot-1", 1),
                peer=self.peer,
                first_seq=first,
                last_seq=first + count - 1,
                kind=kind,
                table=table,
                size=0,
            )
        )
        self.peer.wait(first + count - 1)

    def job(self, number: int) -> None:
        """A job's cgroup and its one program."""
        self.send(
            "cgroup_events",
            cgroup_id=number,
            cgroup_event_path=f"/jobs/job_{number}",
            event_action=4,
        )
        self.send(
            "process_execs",
            cgroup_id=number,
            process_exec_id=number,
            process_entity_id=number,
            process_executable=f"/bin/tool{number}",
        )

    def asks_metadata(self, number: int) -> None:
        self.send(
            "connections",
            cgroup_id=number,
            process_exec_id=number,
            process_entity_id=number,
            destination_ip_lo=METADATA,
            destination_port=80,
            network_transport=6,
            network_type=2,
        )

    def follow(self, after: int = 0) -> "grpc.Call":
        return self.stub.FollowAlerts(pb.FollowAlertsRequest(after_number=after), timeout=DEADLINE)


@pytest.fixture
def plane() -> Iterator[Plane]:
    """A running control plane, in memory, without TLS."""
    store = open_store(None)
    with store.cursor() as cursor:
        install_policy(cursor, parse_policy(POLICY, source="test"))
    pack = next(folder for folder in shipped_packs() if folder.name == "training_host")
    writer = Writer(store)
    engine = Engine(store, load_pack(pack).rules)
    server = grpc.server(ThreadPoolExecutor(4))
    servicer = AlertServicer(store, engine.board)
    rpc.add_AlertServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    writer.start()
    engine.start()
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = rpc.AlertServiceStub(channel)  # type: ignore[no-untyped-call]
        yield Plane(store, writer, engine, stub, Acknowledged())
    writer.close()
    engine.close()
    server.stop(1).wait()
    store.close()
    assert engine.failure is None


def test_a_follower_gets_each_alert_as_it_is_raised(plane: Plane) -> None:
    """In order, once, with everything that is needed to judge it."""
    plane.job(7)
    call = plane.follow()
    plane.asks_metadata(7)
    alert = next(call).alert
    assert (alert.number, alert.rule, alert.severity) == (
        1,
        "cloud_metadata_access",
        pb.SEVERITY_HIGH,
    )
    assert (alert.cgroup_path, list(alert.cgroup_ancestors)) == ("/jobs/job_7", ["/jobs", "/"])
    assert [node.process_executable for node in alert.process_tree] == ["/bin/tool7"]
    assert [(item.kind, item.event_seq) for item in alert.evidence] == [("connections", 3)]
    plane.job(8)
    plane.asks_metadata(7)
    plane.asks_metadata(8)
    second = next(call).alert
    assert (second.number, second.cgroup_path) == (2, "/jobs/job_8")
    call.cancel()


def test_a_follower_that_comes_back_misses_nothing(plane: Plane) -> None:
    """It names the last number it has seen."""
    for number in range(1, 6):
        plane.job(number)
        plane.asks_metadata(number)
    first = plane.follow()
    numbers = [next(first).alert.number for _ in range(3)]
    first.cancel()
    again = plane.follow(after=numbers[-1])
    numbers += [next(again).alert.number for _ in range(2)]
    again.cancel()
    assert numbers == [1, 2, 3, 4, 5]


def test_a_follower_ends_with_the_engine(plane: Plane) -> None:
    """It gets what is left, then the end."""
    plane.job(1)
    call = plane.follow()
    plane.asks_metadata(1)
    assert next(call).alert.number == 1
    plane.engine.board.close()
    assert list(call) == []


def test_alerts_are_listed_by_number_limit_and_id(plane: Plane) -> None:
    """In the order of raising."""
    call = plane.follow()
    for number in (1, 2, 3):
        plane.job(number)
        plane.asks_metadata(number)
        next(call)
    call.cancel()

    def listed(**request: object) -> list[int]:
        answer = plane.stub.ListAlerts(pb.ListAlertsRequest(**request), timeout=DEADLINE)  # type: ignore[arg-type]
        return [alert.number for alert in answer.alerts]

    assert listed() == [1, 2, 3]
    assert listed(after_number=1, limit=1) == [2]
    (third,) = plane.stub.ListAlerts(pb.ListAlertsRequest(after_number=2)).alerts
    assert listed(alert_id=third.alert_id) == [3]
    assert listed(alert_id="unknown") == []


def test_a_burst_is_read_to_the_last_event(plane: Plane) -> None:
    """What the writer commits while a pass runs is in the next one: the last event counts."""
    plane.job(1)
    for _ in range(30):
        plane.send(
            "connections",
            500,
            cgroup_id=1,
            process_exec_id=1,
            destination_ip_lo=0xFFFF_7F00_0001,
            destination_port=80,
            network_transport=6,
            network_type=2,
        )
    plane.asks_metadata(1)
    call = plane.follow()
    assert next(call).alert.rule == "cloud_metadata_access"
    call.cancel()


def test_killed_at_any_moment_it_alerts_on_each_event_once(tmp_path: Path) -> None:
    """After kill -9, again and again, no alert is missing and none is there twice."""
    rule = tmp_path / "pack" / "execution" / "bad_program.yml"
    rule.parent.mkdir(parents=True)
    rule.write_text(
        YAML.format(
            id="00000000-0000-0000-0000-000000000001",
            name="bad_program",
            version=1,
            severity="high",
            dedup_window="1h",
            window="0s",
        )
    )
    rule.with_suffix(".sql").write_text(BAD)
    database, last = tmp_path / "limes.duckdb", 31
    script = Path(__file__).with_name("killed_engine.py")
    rng = random.Random(20260301)
    kills = 0
    while True:
        child = subprocess.Popen(
            [sys.executable, script, database, rule, str(last)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        with child, child.stdout:
            for _ in range(rng.randint(1, 8)):
                if not child.stdout.readline():
                    break
            else:
                # A pass takes about 20 ms: the kill falls somewhere in the next one.
                threading.Event().wait(rng.uniform(0, 0.03))
                child.kill()
                kills += 1
                continue
            assert child.wait(DEADLINE) == 0
            break
    assert kills >= 4
    store = open_store(database)
    with store.cursor() as cursor:
        alerts = list_alerts(cursor)
        cursor.execute("SELECT count(*) FROM hunt.signals")
        signals = cursor.fetchone()
    store.close()
    assert [alert.number for alert in alerts] == list(range(1, last + 1))
    assert [alert.cgroup_path for alert in alerts] == [f"/jobs/job_{n}" for n in range(1, last + 1)]
    assert signals == (last,)
