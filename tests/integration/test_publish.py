"""The publisher against a control plane whose every move the test decides, over mutual TLS."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from limes.control import ca
from limes.sensor import publish, spool
from limes.sensor.publish import Endpoint, Publisher
from limes.sensor.segments import Entry, Origin
from limes.sensor.spool import Spool
from limes.v1 import ingest_service_pb2 as pb
from limes.v1 import ingest_service_pb2_grpc as rpc

DEADLINE = 20.0
BOOT = "11111111-2222-3333-4444-555555555555"
END = object()


class Call:
    """One call of the service, in the test's hands."""

    def __init__(self, hello: pb.Hello) -> None:
        self.hello = hello
        self.requests: queue.Queue[Any] = queue.Queue()
        self.responses: queue.Queue[Any] = queue.Queue()
        self._came: list[tuple[int, int]] = []

    def next(self) -> pb.StreamRequest:
        """The next message from the sensor."""
        request = self.requests.get(timeout=DEADLINE)
        assert isinstance(request, pb.StreamRequest), request
        return request

    def ranges(self, count: int) -> list[tuple[int, int]]:
        """First number and count of the next batches; a gap is (first, -last)."""
        while len(self._came) < count:
            request = self.next()
            if request.HasField("gap"):
                self._came.append((request.gap.first_seq, -request.gap.last_seq))
            else:
                batches = request.batches.batches
                self._came += [(batch.first_seq, batch.count) for batch in batches]
        out, self._came = self._came[:count], self._came[count:]
        return out

    def settings(self, last_seq: int = 0, **labels: str) -> "Call":
        """Answers the Hello."""
        settings = pb.Settings(last_seq=last_seq, labels=labels)
        self.responses.put(pb.StreamResponse(settings=settings))
        return self

    def acknowledge(self, last_seq: int) -> None:
        self.responses.put(pb.StreamResponse(ack=pb.Ack(last_seq=last_seq)))

    def rewind(self, next_seq: int) -> None:
        self.responses.put(pb.StreamResponse(rewind=pb.Rewind(next_seq=next_seq)))

    def end(self, code: grpc.StatusCode | None = None, details: str = "") -> None:
        """Ends the call; with an error when a code is given."""
        self.responses.put((code, details) if code else END)


class Control(rpc.IngestServiceServicer):
    """A server whose calls wait for what the test says."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.streams: queue.Queue[Call] = queue.Queue()
        self.port = 0
        self._server: Any = None

    def Stream(self, request_iterator: Any, context: Any) -> Iterator[pb.StreamResponse]:  # noqa: N802
        stream = Call(next(request_iterator).hello)

        def read() -> None:
            try:
                for request in request_iterator:
                    stream.requests.put(request)
            except grpc.RpcError:
                pass
            stream.requests.put(END)
            stream.responses.put(END)

        threading.Thread(target=read, daemon=True).start()
        self.streams.put(stream)
        while (response := stream.responses.get()) is not END:
            if isinstance(response, tuple):
                context.abort(*response)
            yield response

    def start(self) -> None:
        made, authority = ca.files(self.state, "control"), ca.ca_files(self.state)
        credentials = grpc.ssl_server_credentials(
            [(made.key.read_bytes(), made.certificate.read_bytes())],
            authority.certificate.read_bytes(),
            require_client_auth=True,
        )
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        rpc.add_IngestServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def accept(self) -> Call:
        """The next call."""
        return self.streams.get(timeout=DEADLINE)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def fill(target: Spool, batches: int, *, start: int = 1, size: int = 100) -> None:
    for number in range(batches):
        target.append([Entry(1, start + number * 10, 10, b"x" * size)])


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    ca.init(folder)
    ca.issue(folder, "control", "control")
    ca.issue(folder, "gpu-07", "sensor")
    return folder


@pytest.fixture
def control(state: Path) -> Iterator[Control]:
    server = Control(state)
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnects at once, so that the tests do not wait for the back-off."""
    monkeypatch.setattr(publish, "_FIRST_DELAY", 0.02)
    monkeypatch.setattr(publish, "_MAX_DELAY", 0.05)


class Sensor:
    """A spool and its publisher."""

    def __init__(self, folder: Path, control: Control, epoch: int = 9) -> None:
        self.spool = Spool(folder, Origin(epoch, BOOT), limit_bytes=1 << 26)
        self.endpoint = Endpoint(
            address=f"127.0.0.1:{control.port}",
            ca=ca.ca_files(control.state).certificate,
            certificate=ca.files(control.state, "gpu-07").certificate,
            key=ca.files(control.state, "gpu-07").key,
        )
        self.publisher = Publisher(self.spool, self.endpoint, host_id="gpu-07")

    def send(self, batches: int, *, start: int = 1, size: int = 100) -> None:
        fill(self.spool, batches, start=start, size=size)
        self.publisher.notify()


@pytest.fixture
def new_sensor(tmp_path: Path, control: Control) -> Iterator[Callable[..., Sensor]]:
    made: list[Sensor] = []

    def build(**more: Any) -> Sensor:
        made.append(Sensor(tmp_path / "spool", control, **more))
        return made[-1]

    yield build
    for sensor in made:
        sensor.publisher.stop()
        sensor.spool.close()


MakeSensor = Callable[..., Sensor]


def test_hello_says_who_is_speaking(new_sensor: MakeSensor, control: Control) -> None:
    """Host, boot, epoch, registry version; nothing is sent before the Settings."""
    sensor = new_sensor()
    fill(sensor.spool, 1)
    sensor.publisher.start()
    stream = control.accept()
    assert (stream.hello.host_id, stream.hello.boot_id, stream.hello.epoch) == ("gpu-07", BOOT, 9)
    assert stream.hello.abi_version
    assert stream.hello.sensor_version[0].isdigit()
    assert stream.requests.empty()
    stream.settings(rack="r7")
    assert stream.ranges(1) == [(1, 10)]
    wait_until(lambda: sensor.publisher.labels == {"rack": "r7"})


def test_stream_goes_on_behind_what_is_committed(new_sensor: MakeSensor, control: Control) -> None:
    """What the control plane has is not sent again."""
    sensor = new_sensor()
    fill(sensor.spool, 5)
    sensor.publisher.start()
    assert control.accept().settings(30).ranges(2) == [(31, 10), (41, 10)]
    assert sensor.spool.live.acked == 30


def test_batches_follow_as_they_come(new_sensor: MakeSensor, control: Control) -> None:
    """A notified publisher sends without being asked."""
    sensor = new_sensor()
    sensor.publisher.start()
    stream = control.accept().settings()
    wait_until(lambda: sensor.publisher.connected)
    for number in range(20):
        sensor.send(1, start=1 + 10 * number)
        assert stream.ranges(1) == [(1 + 10 * number, 10)]


def test_acknowledged_batches_leave_the_spool(new_sensor: MakeSensor, control: Control) -> None:
    """And only they."""
    sensor = new_sensor()
    fill(sensor.spool, 5)
    sensor.publisher.start()
    stream = control.accept().settings()
    stream.ranges(5)
    stream.acknowledge(30)
    wait_until(lambda: sensor.spool.live.acked == 30)
    assert not sensor.publisher.wait_acknowledged(0.05)
    stream.acknowledge(50)
    assert sensor.publisher.wait_acknowledged(DEADLINE)


def test_rewind_sends_again_from_there(new_sensor: MakeSensor, control: Control) -> None:
    """In order, and on past what had been sent."""
    sensor = new_sensor()
    fill(sensor.spool, 4)
    sensor.publisher.start()
    stream = control.accept().settings()
    stream.ranges(4)
    stream.rewind(21)
    assert stream.ranges(2) == [(21, 10), (31, 10)]
    sensor.send(1, start=41)
    assert stream.ranges(1) == [(41, 10)]


def test_fresh_database_is_told_what_is_gone(
    new_sensor: MakeSensor, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that forgot gets a gap for what was acknowledged, then the rest."""
    monkeypatch.setattr(spool, "_RECYCLE_BYTES", 0)
    sensor = new_sensor()
    fill(sensor.spool, 3)
    sensor.publisher.start()
    stream = control.accept().settings()
    stream.ranges(3)
    stream.acknowledge(30)
    wait_until(lambda: sensor.spool.live.drained)
    sensor.send(1, start=31)
    stream.ranges(1)
    stream.end(grpc.StatusCode.UNAVAILABLE, "restarting")
    again = control.accept().settings(0)
    request = again.next()
    assert (request.gap.first_seq, request.gap.last_seq) == (1, 30)
    assert request.gap.cause == spool.STORE_RESET
    assert again.ranges(1) == [(31, 10)]


def test_hole_is_declared_before_what_follows_it(
    new_sensor: MakeSensor, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool overflowed while nobody listened."""
    monkeypatch.setattr(spool, "_TAIL_BYTES", 0)
    sensor = new_sensor()
    fill(sensor.spool, 2, size=9 << 20)
    sensor.spool.live.drop_oldest()
    sensor.publisher.start()
    stream = control.accept().settings()
    request = stream.next()
    assert (request.gap.first_seq, request.gap.last_seq) == (1, 10)
    assert request.gap.cause == spool.SPOOL_FULL


def test_restart_of_the_control_plane_is_survived(
    new_sensor: MakeSensor, control: Control, tmp_path: Path
) -> None:
    """The sensor comes back by itself and goes on where the new one stands."""
    sensor = new_sensor()
    fill(sensor.spool, 2)
    sensor.publisher.start()
    control.accept().settings().ranges(2)
    control.stop()
    sensor.send(2, start=21)
    wait_until(lambda: not sensor.publisher.connected)
    control.start()
    assert control.accept().settings(10).ranges(3) == [(11, 10), (21, 10), (31, 10)]
    assert sensor.publisher.failures >= 1


def test_earlier_epoch_goes_first_in_a_stream_of_its_own(
    new_sensor: MakeSensor, control: Control, tmp_path: Path
) -> None:
    """With the epoch it was numbered in; when it is acknowledged its folder goes."""
    before = Spool(tmp_path / "spool", Origin(8, BOOT), limit_bytes=1 << 26)
    fill(before, 3)
    before.close()
    sensor = new_sensor()
    fill(sensor.spool, 1)
    sensor.publisher.start()
    earlier = control.accept()
    assert earlier.hello.epoch == 8
    assert earlier.settings(10).ranges(2) == [(11, 10), (21, 10)]
    assert control.streams.empty()
    earlier.acknowledge(30)
    live = control.accept()
    assert live.hello.epoch == 9
    assert live.settings().ranges(1) == [(1, 10)]
    assert [p.name for p in (tmp_path / "spool").iterdir() if p.is_dir()] == [f"{9:020d}"]


def test_earlier_epoch_that_is_committed_already_is_only_asked_about(
    new_sensor: MakeSensor, control: Control, tmp_path: Path
) -> None:
    """The acknowledgement was lost with the sensor; nothing is sent twice."""
    before = Spool(tmp_path / "spool", Origin(8, BOOT), limit_bytes=1 << 26)
    fill(before, 3)
    before.close()
    new_sensor().publisher.start()
    earlier = control.accept().settings(30)
    assert control.accept().hello.epoch == 9
    assert earlier.requests.get(timeout=DEADLINE) is END


def test_earlier_epoch_that_is_refused_does_not_hold_up_the_present(
    new_sensor: MakeSensor, control: Control, tmp_path: Path
) -> None:
    """It is set aside, stays on disk and is tried again at the next start."""
    before = Spool(tmp_path / "spool", Origin(8, BOOT), limit_bytes=1 << 26)
    fill(before, 3)
    before.close()
    new_sensor().publisher.start()
    control.accept().end(grpc.StatusCode.FAILED_PRECONDITION, "too old")
    assert control.accept().hello.epoch == 9
    assert (tmp_path / "spool" / f"{8:020d}").is_dir()


def test_refusal_is_said_once_and_tried_again(new_sensor: MakeSensor, control: Control) -> None:
    """A wrong role is for a person to mend; meanwhile the spool absorbs."""
    with structlog.testing.capture_logs() as entries:
        sensor = new_sensor()
        fill(sensor.spool, 1)
        sensor.publisher.start()
        for _ in range(3):
            control.accept().end(grpc.StatusCode.PERMISSION_DENIED, "role analyst, not sensor")
        stream = control.accept().settings()
        assert stream.ranges(1) == [(1, 10)]
    refusals = [entry for entry in entries if entry["event"] == publish.REFUSED]
    assert len(refusals) == 1
    assert "role analyst, not sensor" in refusals[0]["reason"]
    assert sensor.publisher.failures == 3


def test_missing_certificate_is_named_and_taken_once_it_is_there(
    tmp_path: Path, control: Control
) -> None:
    """Enrolment may come after the start."""
    sensor = Sensor(tmp_path / "spool", control)
    late = tmp_path / "late.crt"
    endpoint = Endpoint(
        address=sensor.endpoint.address,
        ca=sensor.endpoint.ca,
        certificate=late,
        key=sensor.endpoint.key,
    )
    publisher = Publisher(sensor.spool, endpoint, host_id="gpu-07")
    with structlog.testing.capture_logs() as entries:
        publisher.start()
        wait_until(lambda: publisher.failures >= 2)
    (refusal,) = [entry for entry in entries if entry["event"] == publish.REFUSED]
    assert str(late) in refusal["reason"]
    assert "limes ca issue" in refusal["reason"]
    late.write_bytes(sensor.endpoint.certificate.read_bytes())
    control.accept().settings()
    wait_until(lambda: publisher.connected)
    publisher.stop()
    sensor.spool.close()


def test_certificate_of_a_foreign_authority_gets_nowhere(tmp_path: Path, control: Control) -> None:
    """Neither side talks to a stranger; the reason is logged."""
    foreign = tmp_path / "foreign"
    ca.init(foreign)
    ca.issue(foreign, "gpu-07", "sensor")
    sensor = Sensor(tmp_path / "spool", control)
    made = ca.files(foreign, "gpu-07")
    endpoint = Endpoint(
        address=sensor.endpoint.address,
        ca=sensor.endpoint.ca,
        certificate=made.certificate,
        key=made.key,
    )
    publisher = Publisher(sensor.spool, endpoint, host_id="gpu-07")
    with structlog.testing.capture_logs() as entries:
        publisher.start()
        wait_until(lambda: publisher.failures >= 2)
        publisher.stop()
    assert control.streams.empty()
    assert [entry["event"] for entry in entries] == [publish.DISCONNECTED]
    sensor.spool.close()


def test_window_bounds_what_is_under_way(
    new_sensor: MakeSensor, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not acknowledge gets no more than the window, until it does."""
    monkeypatch.setattr(publish, "_WINDOW_BYTES", 1000)
    sensor = new_sensor()
    fill(sensor.spool, 30, size=300)
    sensor.publisher.start()
    stream = control.accept().settings()
    assert stream.ranges(4)[-1] == (31, 10)
    assert stream.requests.empty()
    stream.acknowledge(20)
    assert stream.ranges(2) == [(41, 10), (51, 10)]


def test_stop_leaves_what_is_not_acknowledged(
    new_sensor: MakeSensor, control: Control, tmp_path: Path
) -> None:
    """The next start finds it."""
    sensor = new_sensor()
    fill(sensor.spool, 3)
    sensor.publisher.start()
    control.accept().settings().ranges(3)
    sensor.publisher.stop()
    sensor.publisher.stop()
    sensor.spool.close()
    again = Spool(tmp_path / "spool", Origin(10, BOOT), limit_bytes=1 << 26)
    assert again.leftovers[0].take(1) == Entry(1, 1, 10, b"x" * 100)
    again.close()


def test_publisher_that_cannot_connect_stops_at_once(tmp_path: Path, control: Control) -> None:
    """Nobody listens at the address; notifying it is harmless."""
    control.stop()
    sensor = Sensor(tmp_path / "spool", control)
    sensor.publisher.start()
    wait_until(lambda: sensor.publisher.failures >= 1)
    sensor.send(3)
    sensor.publisher.stop()
    assert not sensor.publisher._thread.is_alive()
    sensor.spool.close()
    control.start()


def test_fault_of_the_publisher_ends_the_sensor_instead_of_filling_the_spool(
    tmp_path: Path, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that died unseen would look like a quiet host."""
    told = threading.Event()
    sensor = Sensor(tmp_path / "spool", control)
    publisher = Publisher(sensor.spool, sensor.endpoint, host_id="gpu-07")
    monkeypatch.setattr(sensor.spool.live, "acknowledge", lambda last_seq: 1 / 0)
    publisher.start(on_failure=told.set)
    control.accept().settings()
    assert told.wait(DEADLINE)
    assert isinstance(publisher.failure, ZeroDivisionError)
    publisher.stop()
    sensor.spool.close()


def test_fault_of_the_sending_side_ends_the_sensor_too(
    tmp_path: Path, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is open and sends nothing would look like a quiet host."""
    told = threading.Event()
    sensor = Sensor(tmp_path / "spool", control)
    publisher = Publisher(sensor.spool, sensor.endpoint, host_id="gpu-07")
    monkeypatch.setattr(sensor.spool.live, "take", lambda next_seq: 1 / 0)
    publisher.start(on_failure=told.set)
    control.accept().settings()
    assert told.wait(DEADLINE)
    assert isinstance(publisher.failure, ZeroDivisionError)
    assert not publisher.connected
    publisher.stop()
    sensor.spool.close()
