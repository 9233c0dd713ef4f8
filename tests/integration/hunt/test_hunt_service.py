"""Hunts as an analyst asks them: over mTLS, with limits, a queue, cancellation and an audit log."""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from limes.control import ca
from limes.control.client import ControlClient
from limes.control.config import ControlConfig
from limes.control.errors import ConfigError, HuntError
from limes.control.hunt import service
from limes.control.hunt.config import HuntConfig
from limes.control.hunt.service import worker_user
from limes.control.serve import ControlPlane
from limes.control.store.connection import open_store
from limes.control.store.entries import Batch
from limes.v1 import hunt_service_pb2 as pb
from limes.v1 import hunt_service_pb2_grpc as rpc

from .conftest import World, play

DEADLINE = 60.0
ENDLESS = "SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c"
ROWS = "SELECT i, md5(i::VARCHAR) AS h FROM range(100000) AS r(i)"


class Served:
    """A control plane with the incident in its store, and ways to reach it."""

    def __init__(self, state: Path, plane: ControlPlane, log: list[Any]) -> None:
        self.state = state
        self.plane = plane
        self.log = log
        self.address = f"127.0.0.1:{plane.port}"

    def client(self, name: str = "ada") -> ControlClient:
        files = ca.files(self.state, name)
        authority = ca.ca_files(self.state).certificate
        return ControlClient(self.address, authority, files.certificate, files.key)

    @contextmanager
    def stub(self, name: str = "ada") -> Iterator[rpc.HuntServiceStub]:
        files = ca.files(self.state, name)
        credentials = grpc.ssl_channel_credentials(
            ca.ca_files(self.state).certificate.read_bytes(),
            files.key.read_bytes(),
            files.certificate.read_bytes(),
        )
        with grpc.secure_channel(self.address, credentials) as channel:
            yield rpc.HuntServiceStub(channel)  # type: ignore[no-untyped-call]

    def audited(self, count: int) -> list[Any]:
        """Return the audit lines, waiting until there are `count`."""
        wait(lambda: len(self.log) >= count, f"{count} audit lines")
        return [entry for entry in self.log if entry["event"] == "hunt.finished"]


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_events: Any) -> Iterator[Serve]:
    """Start a control plane with the hunt limits that are given."""
    capture = structlog.testing.LogCapture()
    # Whatever level another test of this process has configured.
    logger = structlog.wrap_logger(
        structlog.PrintLogger(),
        processors=[capture],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
    )
    monkeypatch.setattr(service, "LOG", logger)
    planes = []

    def start(**limits: Any) -> Served:
        ca.init(tmp_path)
        for name, role in (("control", "control"), ("ada", "analyst"), ("node-17", "sensor")):
            ca.issue(tmp_path, name, role)
        config = ControlConfig(state=tmp_path, listen="127.0.0.1:0", hunt=HuntConfig(**limits))
        store = open_store(config.database)
        play(World(store=store, make_events=make_events))
        store.close()
        plane = ControlPlane(config)
        planes.append(plane)
        plane.start()
        return Served(tmp_path, plane, capture.entries)

    yield start
    for plane in planes:
        plane.stop()


def wait(condition: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        time.sleep(0.01)


def workers() -> set[int]:
    """Return the workers of this process that run."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent[0] != "Z" and int(parent[1]) == os.getpid() and b"hunt.worker" in command:
                found.add(int(entry.name))
    return found


def test_hunt_is_answered_with_what_it_was_read_from(serve: Serve) -> None:
    """An answer has the snapshot's age, its oldest event and what it holds of each kind."""
    with serve().client() as client:
        result = client.hunt("SELECT count(*) AS n FROM hunt.connections")
    (row,) = result.table.to_pylist()
    held = {kind.kind: kind for kind in result.held}
    assert row["n"] == held["connections"].rows == held["connections"].store_rows > 50
    assert timedelta(0) <= result.snapshot_age < timedelta(seconds=DEADLINE)
    assert result.oldest_event_time == min(
        kind.oldest_event_time
        for kind in result.held
        if kind.oldest_event_time and kind.kind != "batch_log"
    )
    assert result.limit == ""


def test_audit_names_analyst_statement_and_outcome(serve: Serve) -> None:
    """Each hunt, answered or refused, leaves one line that says who asked what and how it ended."""
    served = serve()
    good, bad = "SELECT 1 AS one", "DROP TABLE losses"
    with served.client() as client:
        client.hunt(good)
        with pytest.raises(HuntError, match="type DROP"):
            client.hunt(bad)
    answered, refused = served.audited(2)
    assert (answered["analyst"], answered["outcome"], answered["rows"]) == ("ada", "answered", 1)
    assert answered["sql_sha256"] == hashlib.sha256(good.encode()).hexdigest()
    assert (refused["sql"], refused["outcome"], refused["rows"]) == (bad, "refused", 0)
    assert "type DROP" in refused["error"]
    assert refused["elapsed_ms"] >= 0


def test_sensor_may_not_hunt(serve: Serve) -> None:
    """A certificate of another role is refused before anything is read."""
    served = serve()
    with served.stub("node-17") as stub, pytest.raises(grpc.RpcError) as caught:
        list(stub.Hunt(pb.HuntRequest(sql="SELECT 1")))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert served.log == []


def test_rows_beyond_the_limit_are_cut_and_it_is_said(serve: Serve) -> None:
    """The answer stops at the rows asked for, at the server's most, and names that limit."""
    with serve(max_rows=700).client() as client:
        asked = client.hunt(ROWS, max_rows=5)
        most = client.hunt(ROWS, max_rows=100_000)
        exact = client.hunt("SELECT * FROM range(700)", max_rows=700)
    assert (asked.table.num_rows, asked.limit) == (5, "5 rows")
    assert (most.table.num_rows, most.limit) == (700, "700 rows")
    assert (exact.table.num_rows, exact.limit) == (700, "")


def test_bytes_beyond_the_limit_are_cut_and_it_is_said(serve: Serve) -> None:
    """An answer longer than the limit of bytes ends there, however many messages it takes."""
    with serve(max_result_mib=3, default_rows=200_000).client() as client:
        result = client.hunt(ROWS)
    assert result.limit == "3 MiB"
    assert 2 << 20 < result.table.nbytes <= 3 << 20


def test_time_is_bounded_by_the_server_s_most(serve: Serve) -> None:
    """An analyst may ask for less time than the server's limit, not for more."""
    served = serve(timeout_seconds=1)
    with served.client() as client, pytest.raises(HuntError, match="longer than its 1 s") as caught:
        client.hunt(ENDLESS, timeout_seconds=1000)
    assert caught.value.outcome == "timeout"
    assert served.audited(1)[0]["outcome"] == "timeout"
    assert not workers()


def test_statement_beyond_the_limit_is_refused(serve: Serve) -> None:
    """A statement too long to hand over is refused with both lengths."""
    with serve().client() as client, pytest.raises(HuntError, match="limit is 57344"):
        client.hunt("SELECT 1 -- " + "x" * 60_000)


def test_cancelling_ends_the_worker(serve: Serve) -> None:
    """When the analyst cancels, the worker is killed, its place is free and the log says so."""
    served = serve(concurrent=1, queued=0)
    with served.stub() as stub:
        call = stub.Hunt(pb.HuntRequest(sql=ENDLESS))
        wait(workers, "a worker")
        call.cancel()
        wait(lambda: not workers(), "the worker's end")
        assert served.audited(1)[0]["outcome"] == "cancelled"
    with served.client() as client:
        assert client.hunt("SELECT 1").table.num_rows == 1


def test_analyst_who_takes_nothing_is_left_at_the_timeout(serve: Serve) -> None:
    """A call whose answer nobody reads does not hold its place beyond the time it has."""
    served = serve(timeout_seconds=5, default_rows=1_000_000, max_result_mib=64)
    with served.stub() as stub:
        call = stub.Hunt(
            pb.HuntRequest(sql="SELECT i, repeat('x', 1000) FROM range(60000) AS r(i)")
        )
        next(call)
        (line,) = served.audited(1)
        # Not the worker's own deadline, which has a message: it stood still, its pipe was full.
        assert (line["outcome"], line["error"]) == ("timeout", "")
        assert not workers()
        call.cancel()


def test_hunts_beyond_the_places_wait_and_beyond_the_queue_are_told(serve: Serve) -> None:
    """One runs, one waits and is answered later, the third is told that both are taken."""
    served = serve(concurrent=1, queued=1)
    answers: list[int] = []

    def ask() -> None:
        with served.client() as client:
            answers.append(client.hunt("SELECT 1").table.num_rows)

    with served.stub() as stub, served.client() as client:
        first = stub.Hunt(pb.HuntRequest(sql=ENDLESS))
        wait(workers, "a worker")
        second = threading.Thread(target=ask)
        second.start()
        turns = served.plane.hunts._turns
        wait(lambda: turns._waiting == 1, "a waiting hunt")
        with pytest.raises(HuntError, match="1 hunts run and 1 wait") as caught:
            client.hunt("SELECT 1")
        assert caught.value.outcome == "busy"
        assert answers == []
        first.cancel()
        second.join(DEADLINE)
    assert answers == [1]


def test_hunt_cancelled_while_it_waits_leaves_the_queue(serve: Serve) -> None:
    """A waiting hunt whose analyst leaves never runs, and its place in the queue is free."""
    served = serve(concurrent=1, queued=1)
    turns = served.plane.hunts._turns
    with served.stub() as stub:
        first = stub.Hunt(pb.HuntRequest(sql=ENDLESS))
        wait(workers, "a worker")
        second = stub.Hunt(pb.HuntRequest(sql="SELECT 2"))
        wait(lambda: turns._waiting == 1, "a waiting hunt")
        second.cancel()
        wait(lambda: turns._waiting == 0, "an empty queue")
        (line,) = served.audited(1)
        assert (line["sql"], line["outcome"]) == ("SELECT 2", "cancelled")
        first.cancel()
        served.audited(2)


def test_fresh_snapshot_sees_what_was_just_committed(serve: Serve, make_events: Any) -> None:
    """An age of 0 asks for a snapshot made now; a greater one takes the last if young enough."""
    served = serve()
    count = "SELECT count(*) AS n FROM hunt.losses"
    with served.client() as client:
        before = client.hunt(count).table.to_pylist()[0]["n"]
        add_loss(served, make_events)
        old = client.hunt(count, max_age_seconds=3600)
        new = client.hunt(count, max_age_seconds=0)
    assert old.table.to_pylist() == [{"n": before}]
    assert new.table.to_pylist() == [{"n": before + 1}]
    assert new.snapshot_time > old.snapshot_time
    assert old.snapshot_age > timedelta(0)


def add_loss(served: Served, make_events: Any) -> None:
    """Commit one event through the writer that serves."""
    world = World(store=served.plane.store, make_events=make_events)
    world.next_seq = served.plane.writer.last_seq(world.source) + 1
    commits = served.plane.store.last_ingest_id()
    world.add("losses", loss_stage="sensor", loss_cause="test", loss_count=1)
    (entry,) = world.entries
    assert isinstance(entry, Batch)
    assert served.plane.writer.submit(entry)
    wait(lambda: served.plane.store.last_ingest_id() > commits, "the commit")


def test_stopping_the_server_ends_hunts_and_removes_snapshots(serve: Serve, tmp_path: Path) -> None:
    """After a stop there is neither a worker nor a copy of the data."""
    served = serve()
    snapshots = tmp_path / "control" / "snapshots"
    with served.stub() as stub:
        call = stub.Hunt(pb.HuntRequest(sql=ENDLESS))
        wait(workers, "a worker")
        assert list(snapshots.iterdir())
        stopping = threading.Thread(target=served.plane.stop)
        stopping.start()
        with pytest.raises(grpc.RpcError):
            list(call)
        stopping.join(DEADLINE)
    assert [entry["outcome"] for entry in served.log] == ["cancelled"]
    assert not workers()
    assert not snapshots.exists()


def test_unknown_user_for_workers_is_a_configuration_error() -> None:
    """A user that does not exist, or root, is refused when the server starts."""
    with pytest.raises(ConfigError, match=r"hunt\.user.*there is none"):
        worker_user("no-such-user-here")
    with pytest.raises(ConfigError, match=r"as root \(hunt\.user\)"):
        worker_user("root")
