"""Sends what the spool holds to the control plane, in sequence, over one gRPC stream at a time.

Invariant: the numbers of a stream follow each other without a hole that was not declared as a Gap;
nothing leaves the spool before the control plane has acknowledged it.

Its threads never hold up the drain: they share with it only the spool and one condition.
"""

import platform
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from limes.sensor.errors import TransportError
from limes.sensor.segments import Entry
from limes.sensor.spool import EpochSpool, Hole, Spool
from limes.v1 import ingest_service_pb2 as pb
from limes.v1 import ingest_service_pb2_grpc as pb_grpc
from limes.v1 import schema

log = structlog.get_logger(__name__)

CONNECTED: Final = "publish.connected"
DISCONNECTED: Final = "publish.disconnected"
REFUSED: Final = "publish.refused"
GAP: Final = "publish.gap_declared"
EARLIER_SENT: Final = "publish.earlier_epoch_sent"
SET_ASIDE: Final = "publish.earlier_epoch_set_aside"

_FIRST_DELAY: Final = 0.1
_MAX_DELAY: Final = 15.0
_WINDOW_BYTES: Final = 16 << 20
_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 1 << 20),
    # Reconnecting is this module's work; gRPC's own pause would add to it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
_PERMANENT: Final = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The control plane's address and the files for mutual TLS."""

    address: str
    ca: Path
    certificate: Path
    key: Path

    def channel(self) -> grpc.Channel:
        """A channel with the files as they are now. Raises TransportError naming a missing one."""
        contents = []
        for path in (self.ca, self.key, self.certificate):
            try:
                contents.append(path.read_bytes())
            except OSError as error:
                raise TransportError(
                    f"Tried to read {path} for mutual TLS: {error.strerror}. Issue the sensor's "
                    "certificate with `limes ca issue`, or name the file in the configuration."
                ) from error
        credentials = grpc.ssl_channel_credentials(*contents)
        return grpc.secure_channel(self.address, credentials, options=_OPTIONS)


class _Feed:
    """The requests of one stream: Hello, then batches and gaps from where the server stands."""

    def __init__(self, epoch: EpochSpool, hello: pb.Hello, news: threading.Condition) -> None:
        self._epoch = epoch
        self._hello = hello
        self._news = news
        self._next_seq: int | None = None
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0
        self._ended = False

    def requests(self) -> Iterator[pb.StreamRequest]:
        """What gRPC sends; ends when `end` is called."""
        yield pb.StreamRequest(hello=self._hello)
        while (item := self._wait()) is not None:
            yield self._message(item)

    def _wait(self) -> Entry | Hole | None:
        """The next item in sequence, once there is one and the window has room for it."""
        while True:
            with self._news:
                if self._ended:
                    return None
                next_seq = self._next_seq
                ready = next_seq is not None and self._in_flight_bytes < _WINDOW_BYTES
                if not ready or next_seq is None or next_seq > self._epoch.last_seq:
                    self._news.wait()
                    continue
            # Outside the condition: the spool may have to read from disk.
            item = self._epoch.take(next_seq)
            with self._news:
                if item is None or self._next_seq != next_seq:
                    continue
                self._next_seq = item.last_seq + 1
                size = len(item.payload) if isinstance(item, Entry) else 0
                self._in_flight.append((item.last_seq, size))
                self._in_flight_bytes += size
            return item

    @staticmethod
    def _message(item: Entry | Hole) -> pb.StreamRequest:
        if isinstance(item, Hole):
            log.warning(GAP, first_seq=item.first_seq, last_seq=item.last_seq, cause=item.cause)
            gap = pb.Gap(first_seq=item.first_seq, last_seq=item.last_seq, cause=item.cause)
            return pb.StreamRequest(gap=gap)
        return pb.StreamRequest(
            batch=pb.EventBatch(
                kind=item.kind,  # type: ignore[arg-type]
                first_seq=item.first_seq,
                count=item.events,
                payload=item.payload,
            )
        )

    def go_on_from(self, next_seq: int) -> None:
        """Sends from this number on: after Settings, and again after a Rewind."""
        with self._news:
            self._next_seq = next_seq
            while self._in_flight and self._in_flight[-1][0] >= next_seq:
                self._in_flight_bytes -= self._in_flight.pop()[1]
            self._news.notify_all()

    def acknowledged(self, last_seq: int) -> None:
        """Makes room in the window."""
        with self._news:
            full = self._in_flight_bytes >= _WINDOW_BYTES
            while self._in_flight and self._in_flight[0][0] <= last_seq:
                self._in_flight_bytes -= self._in_flight.popleft()[1]
            if full:
                self._news.notify_all()

    def end(self) -> None:
        """Ends the requests after what was already handed to gRPC."""
        with self._news:
            self._ended = True
            self._news.notify_all()


class Publisher:
    """The thread that keeps a stream to the control plane open and feeds it from the spool."""

    def __init__(self, spool: Spool, endpoint: Endpoint, *, host_id: str) -> None:
        self._spool = spool
        self._endpoint = endpoint
        self._host_id = host_id
        self._news = threading.Condition()
        self._stopping = False
        self._call: Any = None
        self._channel: grpc.Channel | None = None
        self._set_aside: list[EpochSpool] = []
        self._said: tuple[str, str] | None = None
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self.connected = False
        self.failures = 0
        """Streams that failed or were refused so far."""
        self.labels: dict[str, str] = {}

    def start(self) -> None:
        """Begins to connect."""
        self._thread.start()

    def notify(self) -> None:
        """Says that the spool has more to send."""
        with self._news:
            self._news.notify_all()

    def wait_acknowledged(self, timeout: float) -> bool:
        """Waits until everything in the live epoch was acknowledged; False when time ran out."""
        deadline = time.monotonic() + timeout
        with self._news:
            while not self._spool.live.drained:
                rest = deadline - time.monotonic()
                if rest <= 0:
                    return False
                self._news.wait(min(rest, 0.05))
        return True

    def stop(self) -> None:
        """Ends the stream and the thread; what is not acknowledged stays in the spool."""
        with self._news:
            self._stopping = True
            call = self._call
            self._news.notify_all()
        if call is not None:
            call.cancel()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        delay = _FIRST_DELAY
        while not self._stopping:
            epoch = self._next_epoch()
            if self._stream(epoch):
                delay = _FIRST_DELAY
                if epoch is not self._spool.live and epoch.drained:
                    log.info(EARLIER_SENT, epoch=epoch.origin.epoch, last_seq=epoch.last_seq)
                    self._spool.finish(epoch)
                    continue
            self._pause(delay)
            delay = min(delay * 2, _MAX_DELAY)
        self._close_channel()

    def _next_epoch(self) -> EpochSpool:
        for epoch in self._spool.leftovers:
            if epoch not in self._set_aside:
                return epoch
        return self._spool.live

    def _pause(self, delay: float) -> None:
        """Waits with jitter, so that many sensors do not come back at once."""
        deadline = time.monotonic() + delay * random.uniform(0.5, 1.0)  # noqa: S311
        with self._news:
            while not self._stopping and (rest := deadline - time.monotonic()) > 0:
                self._news.wait(rest)

    def _stream(self, epoch: EpochSpool) -> bool:
        """Runs one stream until it ends; True when the control plane took the Hello."""
        feed = _Feed(epoch, self._hello(epoch), self._news)
        settled = False
        try:
            call = self._open(feed)
            for response in call:
                self._take(response, feed, epoch)
                if not settled:
                    settled = True
                    self._connected(epoch)
                epoch.maintain()
                if epoch is not self._spool.live and epoch.drained:
                    feed.end()
        except grpc.RpcError as error:
            self._failed(error, epoch)
        except TransportError as error:
            self.failures += 1
            self._say_once(REFUSED, str(error))
            self._close_channel()
        finally:
            feed.end()
            self.connected = False
            with self._news:
                self._call = None
        return settled

    def _open(self, feed: _Feed) -> Any:
        if self._channel is None:
            self._channel = self._endpoint.channel()
        call = pb_grpc.IngestServiceStub(self._channel).Stream(  # type: ignore[no-untyped-call]
            feed.requests()
        )
        with self._news:
            self._call = call
            if self._stopping:
                call.cancel()
        return call

    def _hello(self, epoch: EpochSpool) -> pb.Hello:
        return pb.Hello(
            host_id=self._host_id,
            boot_id=epoch.origin.boot_id,
            epoch=epoch.origin.epoch,
            abi_version=schema.ABI_VERSION,
            sensor_version=metadata.version("limes"),
            kernel_release=platform.release(),
        )

    def _take(self, response: pb.StreamResponse, feed: _Feed, epoch: EpochSpool) -> None:
        what = response.WhichOneof("message")
        if what == "ack":
            epoch.acknowledge(response.ack.last_seq)
            feed.acknowledged(response.ack.last_seq)
        elif what == "rewind":
            feed.go_on_from(response.rewind.next_seq)
        elif what == "settings":
            self.labels = dict(response.settings.labels)
            epoch.acknowledge(response.settings.last_seq)
            if not self.connected:
                feed.go_on_from(response.settings.last_seq + 1)

    def _connected(self, epoch: EpochSpool) -> None:
        self.connected = True
        self._said = None
        log.info(CONNECTED, control=self._endpoint.address, epoch=epoch.origin.epoch)

    def _failed(self, error: grpc.RpcError, epoch: EpochSpool) -> None:
        if self._stopping:
            return
        self.failures += 1
        code, details = error.code(), error.details() or ""
        if code in _PERMANENT:
            self._say_once(REFUSED, f"{code.name}: {details}")
            if epoch is not self._spool.live:
                self._set_aside.append(epoch)
                log.warning(SET_ASIDE, epoch=epoch.origin.epoch, reason=details)
        else:
            self._say_once(DISCONNECTED, f"{code.name}: {details}")
        self._close_channel()

    def _say_once(self, event: str, reason: str) -> None:
        """Logs a state of the connection when it changes, not at each attempt."""
        if self._said != (event, reason):
            self._said = (event, reason)
            log.warning(event, control=self._endpoint.address, reason=reason)

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
