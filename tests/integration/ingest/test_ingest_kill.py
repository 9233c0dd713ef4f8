"""Killing the control plane with -9: what was acknowledged is there, nothing is there twice."""

import random
import threading
import time

import grpc
import pytest
from limes.v1 import ingest_service_pb2 as pb

from tests.conftest import MakeBatch

from .conftest import DEADLINE, MakeSensor, Plane, Sensor, Stream

KILLS = 6
SENSORS = 4
EVENTS = 40  # of a batch


class Persistent:
    """A sensor that sends batch after batch, and after each break goes on behind its last
    acknowledgement, as if it had not heard what the server says is committed."""

    def __init__(self, sensor: Sensor, batches: list[pb.StreamRequest]) -> None:
        self.sensor = sensor
        self.batches = batches
        self.acknowledged = 0
        self.again = 0
        self.enough = threading.Event()
        self._changed = threading.Condition()

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                stream, _ = self.sensor.stream()
                self.follow(stream)
            except grpc.RpcError:
                self.again += 1
                time.sleep(0.02)  # the pause of a back-off, not a wait for something

    def follow(self, stream: Stream) -> None:
        next_batch = self.acknowledged // EVENTS
        for batch in self.batches[next_batch : next_batch + 4]:
            stream.send(batch)
        sent = next_batch + 4
        while not self.enough.is_set():
            response = stream.receive()
            assert response.HasField("ack"), response
            while self.acknowledged < response.ack.last_seq:
                with self._changed:
                    self.acknowledged = min(self.acknowledged + EVENTS, response.ack.last_seq)
                    self._changed.notify_all()
                stream.send(self.batches[sent])
                sent += 1

    def wait_beyond(self, last_seq: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.acknowledged > last_seq, DEADLINE)


@pytest.mark.timeout(280)
def test_no_acknowledged_event_is_lost_and_none_is_stored_twice(
    plane: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """Several sensors, several kills in the middle of commits; counted in the end."""
    chance = random.Random(20260301)
    batches = [make_batch("connections", 1 + EVENTS * n, EVENTS) for n in range(4_000)]
    plane.start()
    sensors = [Persistent(make_sensor(f"node-{n}"), batches) for n in range(SENSORS)]
    threads = [threading.Thread(target=sensor.run, daemon=True) for sensor in sensors]
    for thread in threads:
        thread.start()
    for _ in range(KILLS):
        for sensor in sensors:
            sensor.wait_beyond(sensor.acknowledged + EVENTS * chance.randrange(3, 12))
        plane.kill()
        plane.start()
    for sensor in sensors:
        sensor.wait_beyond(sensor.acknowledged)
    plane.kill()
    for sensor in sensors:
        sensor.enough.set()
    for thread in threads:
        thread.join(DEADLINE)
    found = plane.rows(
        "SELECT host_id, count(*), count(DISTINCT event_seq), min(event_seq), max(event_seq)"
        " FROM connections GROUP BY 1 ORDER BY 1"
    )
    assert len(found) == SENSORS
    for sensor, (host, rows, distinct, first, last) in zip(sensors, found, strict=True):
        assert host == sensor.sensor.name
        assert rows == distinct == last - first + 1
        assert first == 1
        assert last >= sensor.acknowledged > 0
        assert sensor.again >= KILLS
    assert plane.rows("SELECT count(*) FROM losses") == [(0,)]
    commits = plane.rows("SELECT count(DISTINCT ingest_id), max(ingest_id) FROM batch_log")
    assert commits[0][0] == commits[0][1]
    tiles = plane.rows(
        "SELECT host_id, max(last_seq), sum(last_seq - first_seq + 1) FROM batch_log GROUP BY 1"
    )
    assert all(last == settled for _, last, settled in tiles)


def test_a_stop_commits_what_it_took_and_leaves_a_whole_file(
    plane: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """SIGTERM in the middle of a stream: exit 0, acknowledgements arrive, no log file is left."""
    plane.start()
    stream, _ = make_sensor().stream()
    batches = [make_batch("connections", 1 + EVENTS * n, EVENTS) for n in range(300)]
    stream.send(*batches[:5])
    stream.receive_ack(5 * EVENTS)
    stream.send(*batches[5:])
    assert plane.terminate() == 0
    last_seq, error = stream.until_ended()
    assert "the control plane is stopping" in error.details()
    acknowledged = max(5 * EVENTS, last_seq)
    found = plane.rows("SELECT count(*), max(event_seq) FROM connections")
    assert found == [(acknowledged, acknowledged)]
    assert [path.name for path in (plane.state / "control").iterdir()] == ["limes.duckdb"]


def test_numbers_of_commits_go_on_after_a_restart(
    plane: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """The order of arrival is one order over all runs of the server."""
    sensor = make_sensor()
    for start in range(3):
        plane.start()
        stream, settings = sensor.stream()
        assert settings.last_seq == 2 * start
        stream.send(make_batch("connections", settings.last_seq + 1, 2))
        stream.receive_ack(2 * start + 2)
        stream.close()
        assert plane.terminate() == 0
    assert plane.rows("SELECT DISTINCT ingest_id FROM connections ORDER BY 1") == [(1,), (2,), (3,)]


def test_a_store_that_cannot_grow_stops_the_server_with_one_line(
    plane: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """A full disk: exit 3, nothing acknowledged that is not there, and a restart goes on."""
    sensor = make_sensor()
    plane.start(file_size_limit=6 << 20)
    stream, _ = sensor.stream()
    chance = random.Random(20260301)
    batches = [
        make_batch(
            "process_execs",
            1 + EVENTS * n,
            EVENTS,
            process_args=[chance.randbytes(2000).hex() for _ in range(EVENTS)],
        )
        for n in range(120)
    ]
    stream.send(*batches)
    acknowledged, _ = stream.until_ended()
    assert plane.exit_status() == 3
    (line,) = [line for line in plane.said() if line]
    assert line.startswith("Cannot commit to ")
    assert 0 < acknowledged < 120 * EVENTS
    plane.start()
    stream, settings = sensor.stream()
    assert settings.last_seq >= acknowledged
    stream.send(*batches[settings.last_seq // EVENTS :])
    stream.receive_ack(120 * EVENTS)
    assert plane.terminate() == 0
    found = plane.rows("SELECT count(*), count(DISTINCT event_seq) FROM process_execs")
    assert found == [(120 * EVENTS, 120 * EVENTS)]
    assert plane.rows("SELECT count(*) FROM losses") == [(0,)]
