"""The ingest stream over mTLS: settings, acknowledgements, rewinds, gaps, sensors' faults."""

import threading
import time
from collections.abc import Callable

import grpc
import pytest
import zstandard
from limes.v1 import ingest_service_pb2 as pb

from tests.conftest import MakeBatch

from .conftest import MakeSensor, Plane, Sensor

TILES = """
    SELECT host_id, boot_id, sensor_epoch, min(first_seq), max(last_seq),
           sum(last_seq - first_seq + 1) AS settled
    FROM batch_log GROUP BY ALL ORDER BY ALL
"""


@pytest.fixture
def served(plane: Plane) -> Plane:
    return plane.start()


def one(batch: pb.EventBatch) -> pb.StreamRequest:
    return pb.StreamRequest(batches=pb.EventBatches(batches=[batch]))


def gap(first: int, last: int, cause: str = "spool_full") -> pb.StreamRequest:
    return pb.StreamRequest(gap=pb.Gap(first_seq=first, last_seq=last, cause=cause))


def test_events_are_acknowledged_and_in_the_database(
    served: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """What was acknowledged is found under the sensor's name after a stop."""
    stream, settings = make_sensor().stream()
    assert settings.last_seq == 0
    stream.send(make_batch("connections", 1, 3), make_batch("process_execs", 4, 2))
    stream.receive_ack(5)
    assert served.terminate() == 0
    assert served.rows("SELECT host_id, sensor_epoch, event_seq FROM connections ORDER BY 3") == [
        ("node-1", 17, 1),
        ("node-1", 17, 2),
        ("node-1", 17, 3),
    ]
    assert served.rows("SELECT count(*) FROM process_execs") == [(2,)]


def test_a_gap_is_refused_until_it_is_sent_or_declared(
    served: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """The server asks once for what comes next, then goes on from there."""
    stream, _ = make_sensor().stream()
    stream.send(*(make_batch("connections", first, 1) for first in (3, 4, 5, 6)))
    assert stream.receive().rewind.next_seq == 1
    stream.send(gap(1, 2, "sensor_killed"), make_batch("connections", 3, 4))
    stream.receive_ack(6)
    assert served.terminate() == 0
    assert served.rows(TILES) == [("node-1", "boot-1", 17, 1, 6, 6)]
    assert served.rows("SELECT loss_stage, loss_cause, loss_count FROM losses") == [
        ("sensor", "sensor_killed", 2)
    ]


def test_a_fresh_database_asks_from_the_beginning_and_takes_the_gap(
    served: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """A sensor that has come far meets an empty store: it declares what it no longer has."""
    stream, settings = make_sensor().stream()
    assert settings.last_seq == 0
    stream.send(make_batch("connections", 1001, 5))
    assert stream.receive().rewind.next_seq == 1
    stream.send(gap(1, 1000, "store_reset"), make_batch("connections", 1001, 5))
    stream.receive_ack(1005)
    with served.admin() as admin:
        (sensor,) = admin.status().sensors
    assert (sensor.last_seq, sensor.lost) == (1005, 1000)


def test_a_new_stream_goes_on_where_the_last_one_ended(
    served: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """Settings say what is committed; what is sent twice is stored once."""
    sensor = make_sensor()
    first, _ = sensor.stream()
    first.send(make_batch("connections", 1, 5))
    first.receive_ack(5)
    second, settings = sensor.stream()
    assert settings.last_seq == 5
    second.send(make_batch("connections", 3, 6))
    second.receive_ack(8)
    assert served.terminate() == 0
    assert served.rows("SELECT event_seq FROM connections ORDER BY 1") == [
        (number,) for number in range(1, 9)
    ]


def test_the_newest_stream_of_a_sensor_start_takes_over(
    served: Plane, make_sensor: MakeSensor
) -> None:
    """A stream whose sensor has gone unnoticed does not hold its place."""
    sensor = make_sensor()
    first, _ = sensor.stream()
    sensor.stream()
    error = first.ended()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "another stream" in error.details()


def test_each_start_of_a_sensor_has_its_own_sequence(
    served: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """What an earlier start left in the spool comes in a stream of its own."""
    old, new = make_sensor(epoch=1), make_sensor(epoch=2)
    for sensor, count in ((new, 4), (old, 2)):
        stream, settings = sensor.stream()
        assert settings.last_seq == 0
        stream.send(make_batch("connections", 1, count))
        stream.receive_ack(count)
    assert served.terminate() == 0
    assert served.rows(TILES) == [
        ("node-1", "boot-1", 1, 1, 2, 2),
        ("node-1", "boot-1", 2, 1, 4, 4),
    ]


def test_a_stream_that_is_ended_well_is_acknowledged_to_its_end(
    served: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """A sensor that stops hears of everything that it handed over."""
    stream, _ = make_sensor().stream()
    stream.send(*(make_batch("connections", 1 + 10 * n, 10) for n in range(30)))
    stream.half_close()
    assert stream.rest()[-1].ack.last_seq == 300


def malformed(kind: int = 4, payload: bytes = b"nonsense") -> pb.EventBatch:
    batch = pb.EventBatch(first_seq=3, count=2, payload=payload)
    batch.kind = kind  # type: ignore[assignment]
    return batch


def wrong_kind(make_batch: MakeBatch) -> pb.EventBatch:
    batch = make_batch("process_execs", 3, 2).batches.batches[0]
    batch.kind = pb.EVENT_KIND_CONNECTIONS
    return batch


def wrong_count(make_batch: MakeBatch) -> pb.EventBatch:
    batch = make_batch("connections", 3, 4).batches.batches[0]
    batch.count = 2
    return batch


def too_large(_: MakeBatch) -> pb.EventBatch:
    return malformed(payload=zstandard.compress(bytes(129 << 20)))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda _: malformed(), id="no zstd"),
        pytest.param(lambda _: malformed(payload=zstandard.compress(b"x")), id="no arrow"),
        pytest.param(lambda _: malformed(kind=200), id="unknown kind"),
        pytest.param(wrong_kind, id="columns of another kind"),
        pytest.param(wrong_count, id="wrong count"),
        pytest.param(too_large, id="too large"),
    ],
)
def test_a_malformed_batch_is_a_loss_with_its_range_and_the_stream_goes_on(
    served: Plane,
    make_sensor: MakeSensor,
    make_batch: MakeBatch,
    make: Callable[[MakeBatch], pb.EventBatch],
) -> None:
    """It is counted, logged and committed as a loss; what follows is stored."""
    stream, _ = make_sensor().stream()
    bad = one(make(make_batch))
    stream.send(make_batch("connections", 1, 2), bad, make_batch("connections", 5, 1))
    stream.receive_ack(5)
    with served.admin() as admin:
        status = admin.status()
    assert status.batches_malformed == 1
    assert status.sensors[0].lost == 2
    entry = served.wait_for("ingest.batch_malformed")
    assert (entry["first_seq"], entry["last_seq"], entry["host_id"]) == (3, 4, "node-1")
    assert served.terminate() == 0
    assert served.rows("SELECT event_seq FROM connections ORDER BY 1") == [(1,), (2,), (5,)]
    found = served.rows("SELECT loss_cause, loss_first_seq, loss_last_seq FROM losses")
    assert found == [("malformed_batch", 3, 4)]


def test_the_batches_of_one_message_are_stored_in_order(
    served: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """Also where one of them is no sound batch."""
    stream, _ = make_sensor().stream()
    first, third = make_batch("connections", 1, 2), make_batch("process_execs", 5, 3)
    batches = [first.batches.batches[0], malformed(), third.batches.batches[0]]
    stream.send(pb.StreamRequest(batches=pb.EventBatches(batches=batches)))
    stream.receive_ack(7)
    assert served.terminate() == 0
    assert served.rows("SELECT event_seq FROM connections ORDER BY 1") == [(1,), (2,)]
    assert served.rows("SELECT event_seq FROM process_execs ORDER BY 1") == [(5,), (6,), (7,)]
    found = served.rows("SELECT loss_cause, loss_first_seq, loss_last_seq FROM losses")
    assert found == [("malformed_batch", 3, 4)]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (one(pb.EventBatch(first_seq=1, count=0)), "is no range"),
        (one(pb.EventBatch(first_seq=0, count=2)), "is no range"),
        (gap(5, 4), "is no range"),
        (gap(1, (1 << 64) - 1), "is no range"),
        (gap(1, 1 << 62), "is longer than"),
        (pb.StreamRequest(), "neither batches nor a gap"),
    ],
)
def test_a_message_without_a_range_ends_the_stream(
    served: Plane, make_sensor: MakeSensor, request_: pb.StreamRequest, reason: str
) -> None:
    """There is nothing that could be stored or lost: the sensor is told what is wrong."""
    stream, _ = make_sensor().stream()
    stream.send(request_)
    error = stream.ended()
    assert reason in error.details()


def test_one_bad_sensor_does_not_disturb_the_others(
    served: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """Streams share commits, not faults."""
    good, bad = make_sensor("good"), make_sensor("bad")
    good_stream, _ = good.stream()
    bad_stream, _ = bad.stream()
    for number in range(20):
        batch = malformed()
        batch.first_seq = 1 + 2 * number
        bad_stream.send(one(batch))
        good_stream.send(make_batch("connections", 1 + 3 * number, 3))
    good_stream.receive_ack(60)
    bad_stream.receive_ack(40)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"host_id": "node-2"}, "its certificate 'node-1'"),
        ({"abi_version": 99}, "speaks version 99 of the event registry"),
        ({"boot_id": ""}, "lacks a boot_id"),
        ({"epoch": 0}, "lacks a boot_id or an epoch"),
    ],
)
def test_a_false_hello_is_refused_with_the_reason(
    served: Plane, make_sensor: MakeSensor, values: dict[str, object], reason: str
) -> None:
    """A host cannot speak for another, nor in another version."""
    sensor = make_sensor()
    stream = sensor.raw_stream()
    stream.send(sensor.hello(**values))
    error = stream.ended()
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason in error.details()
    served.wait_for("ingest.stream_refused")


def test_a_stream_begins_with_a_hello(
    served: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """Nothing is taken from a stranger."""
    stream = make_sensor().raw_stream()
    stream.send(make_batch("connections", 1, 1))
    assert "not a Hello" in stream.ended().details()


def test_the_operators_labels_are_sent_to_their_host(plane: Plane, make_sensor: MakeSensor) -> None:
    """Each host gets its own."""
    plane.start(ingest={"labels": {"node-1": {"site": "hall-2"}}})
    _, settings = make_sensor("node-1").stream()
    assert dict(settings.labels) == {"site": "hall-2"}
    _, settings = make_sensor("node-2").stream()
    assert dict(settings.labels) == {}


def test_many_streams_are_served_at_once(
    served: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """Forty hosts at once: each one's events are all there, once."""
    sensors = [make_sensor(f"node-{number}") for number in range(40)]

    def run(sensor: Sensor) -> None:
        stream, _ = sensor.stream()
        for number in range(10):
            stream.send(make_batch("connections", 1 + 7 * number, 7))
        stream.receive_ack(70)

    threads = [threading.Thread(target=run, args=(sensor,)) for sensor in sensors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with served.admin() as admin:
        status = admin.status()
    assert status.events_committed == 40 * 70
    assert {sensor.last_seq for sensor in status.sensors} == {70}
    assert all(sensor.connected for sensor in status.sensors)


def test_calls_beyond_the_servers_threads_are_refused_at_once(
    plane: Plane, make_sensor: MakeSensor
) -> None:
    """A stream too many is told so; it does not wait unseen."""
    plane.start(threads=8)
    sensors = [make_sensor(f"node-{number}") for number in range(9)]
    for sensor in sensors[:8]:
        sensor.stream()
    last = sensors[8].raw_stream()
    last.send(sensors[8].hello())
    assert last.ended().code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_sensors_that_left_are_shown_as_such(
    served: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """Status keeps every sensor that was ever seen, and says which are there."""
    here, gone = make_sensor("here"), make_sensor("gone")
    here.stream()
    stream, _ = gone.stream()
    stream.send(make_batch("connections", 1, 3))
    stream.receive_ack(3)
    stream.close()
    served.wait_for("ingest.stream_closed")
    with served.admin() as admin:
        found = {sensor.host_id: sensor for sensor in admin.status().sensors}
    assert found["here"].connected
    assert not found["gone"].connected
    assert found["gone"].last_seq == 3


def test_one_sensor_has_no_more_streams_than_its_share(
    served: Plane, make_sensor: MakeSensor
) -> None:
    """The threads are for all: a fifth stream is refused, another host's first is not."""
    sensor = make_sensor()
    streams = []
    for sensor.epoch in range(1, 5):
        streams.append(sensor.stream()[0])
    error = sensor.raw_stream().ended()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "'node-1' has 4 calls open" in error.details()
    make_sensor("node-2").stream()
    streams[0].half_close()
    assert streams[0].rest() == []
    deadline = time.monotonic() + 20
    while True:  # the server counts an end a moment after it has told it
        again = sensor.raw_stream()
        again.send(sensor.hello())
        try:
            assert again.receive().HasField("settings")
            break
        except grpc.RpcError:
            assert time.monotonic() < deadline


def test_status_warns_when_the_disk_is_nearly_full(plane: Plane) -> None:
    """In the log, and for whoever asks, before nothing can be committed any more."""
    plane.start(store={"free_warning_mib": 1 << 40})
    plane.wait_for("store.space_low")
    with plane.admin() as admin:
        status = admin.status()
    assert status.disk_low
    assert 0 < status.disk_free_bytes < 1 << 60
