"""Sends what the spool holds to the control plane, in sequence, over one gRPC stream at a time.

Invariant: the numbers of a stream follow each other without a hole that was not declared as a Gap;
nothing leaves the spool before the control plane has acknowledged it.

It runs in a thread of its own with an event loop (the blocking API of gRPC wakes ten times a second
when idle); with the drain it shares only the spool.
"""

import asyncio
import contextlib
import functools
import platform
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from grpc import aio
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
_MESSAGE_BYTES: Final = 256 << 10  # of a message of several batches, but for the last of them
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


def version() -> str:
    """Version of the installed distribution, from the name of its folder of metadata.

    importlib.metadata says the same, and takes 3 MB of memory for it.
    """
    for folder in sys.path:
        for path in Path(folder or ".").glob("limes-*.dist-info"):
            return path.name.removeprefix("limes-").removesuffix(".dist-info")
    return "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The control plane's address and the files for mutual TLS."""

    address: str
    ca: Path
    certificate: Path
    key: Path

    def channel(self) -> aio.Channel:
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
        return aio.secure_channel(self.address, credentials, options=_OPTIONS)


class _Feed:
    """What one stream sends: where it stands, and how much is on its way."""

    def __init__(self, epoch: EpochSpool) -> None:
        self._epoch = epoch
        self._next_seq = 0
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0
        self.news = asyncio.Event()

    def go_on_from(self, next_seq: int) -> None:
        """Sends from this number on: after Settings, and again after a Rewind."""
        self._next_seq = next_seq
        while self._in_flight and self._in_flight[-1][0] >= next_seq:
            self._in_flight_bytes -= self._in_flight.pop()[1]
        self.news.set()

    def acknowledged(self, last_seq: int) -> None:
        """Makes room in the window."""
        while self._in_flight and self._in_flight[0][0] <= last_seq:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
        self.news.set()

    async def next(self) -> list[Entry] | Hole:
        """What follows in sequence, once there is something and the window has room for it.

        Batches that are ready come together: a message costs both sides more than a batch in it.
        """
        while (item := self._following()) is None:
            self.news.clear()
            if self._full or self._epoch.last_seq < self._next_seq:
                await self.news.wait()
        if isinstance(item, Hole):
            self._goes(item.last_seq, 0)
            return item
        entries, size = [], 0
        while isinstance(item, Entry):
            entries.append(item)
            size += len(item.payload)
            self._goes(item.last_seq, len(item.payload))
            item = self._following() if size < _MESSAGE_BYTES else None
        return entries

    @property
    def _full(self) -> bool:
        return self._in_flight_bytes >= _WINDOW_BYTES

    def _following(self) -> Entry | Hole | None:
        return None if self._full else self._epoch.take(self._next_seq)

    def _goes(self, last_seq: int, size: int) -> None:
        self._next_seq = last_seq + 1
        self._in_flight.append((last_seq, size))
        self._in_flight_bytes += size


def _message(item: list[Entry] | Hole) -> pb.StreamRequest:
    if isinstance(item, Hole):
        log.warning(GAP, first_seq=item.first_seq, last_seq=item.last_seq, cause=item.cause)
        gap = pb.Gap(first_seq=item.first_seq, last_seq=item.last_seq, cause=item.cause)
        return pb.StreamRequest(gap=gap)
    batches = [
        pb.EventBatch(
            kind=entry.kind,  # type: ignore[arg-type]
            first_seq=entry.first_seq,
            count=entry.events,
            payload=entry.payload,
        )
        for entry in item
    ]
    return pb.StreamRequest(batches=pb.EventBatches(batches=batches))


def _fault(task: asyncio.Task[None]) -> BaseException | None:
    """What ended a task, when that was an error."""
    return task.exception() if task.done() and not task.cancelled() else None


def _end_with(call: Any, sender: asyncio.Task[None]) -> None:
    """Ends the call when the sender failed: the reading side would wait for ever."""
    if _fault(sender) is not None:
        call.cancel()


class Publisher:
    """The thread that keeps a stream to the control plane open and feeds it from the spool."""

    def __init__(self, spool: Spool, endpoint: Endpoint, *, host_id: str) -> None:
        self._spool = spool
        self._endpoint = endpoint
        self._host_id = host_id
        self._on_failure: Callable[[], None] = lambda: None
        self._version = version()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._feed: _Feed | None = None
        self._channel: aio.Channel | None = None
        self._set_aside: list[EpochSpool] = []
        self._said: tuple[str, str] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self.connected = False
        self.failure: Exception | None = None
        """What ended the thread, when that was not `stop`: a fault of the program."""
        self.failures = 0
        """Streams that failed or were refused so far."""
        self.labels: dict[str, str] = {}

    # ------------------------------------------------------------ called from other threads

    def start(self, on_failure: Callable[[], None] = lambda: None) -> None:
        """Begins to connect; `on_failure` is called from its thread when a fault ends it."""
        self._on_failure = on_failure
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def notify(self) -> None:
        """Says that the spool has more to send."""
        feed = self._feed
        if feed is not None and not feed.news.is_set():
            self._soon(feed.news.set)

    def wait_acknowledged(self, timeout: float) -> bool:
        """Waits until everything in the live epoch was acknowledged; False when time ran out."""
        deadline = time.monotonic() + timeout
        while not self._spool.live.drained:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def stop(self) -> None:
        """Ends the stream and the thread; what is not acknowledged stays in the spool."""
        self._stopping = True
        if self._thread.is_alive():
            self._soon(self._cancel)
            self._thread.join(timeout=5)

    def _soon(self, call: Callable[[], None]) -> None:
        """Has the loop's thread call this."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(call)

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._publish())
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, events must not pile up unsaid
            self.failure = error
            self._on_failure()

    async def _publish(self) -> None:
        self._main = asyncio.current_task()
        delay = _FIRST_DELAY
        try:
            while not self._stopping:
                epoch = self._next_epoch()
                if await self._stream(epoch):
                    delay = _FIRST_DELAY
                    if epoch is not self._spool.live and epoch.drained:
                        log.info(EARLIER_SENT, epoch=epoch.origin.epoch, last_seq=epoch.last_seq)
                        self._spool.finish(epoch)
                        continue
                # Jitter, so that many sensors do not come back at once.
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
                delay = min(delay * 2, _MAX_DELAY)
        finally:
            await self._close_channel()

    def _next_epoch(self) -> EpochSpool:
        for epoch in self._spool.leftovers:
            if epoch not in self._set_aside:
                return epoch
        return self._spool.live

    async def _stream(self, epoch: EpochSpool) -> bool:
        """Runs one stream until it ends; True when the control plane took the Hello."""
        settled = False
        call = sender = None
        try:
            call = await self._open(epoch)
            feed = _Feed(epoch)
            while (response := await call.read()) is not aio.EOF:
                self._take(response, feed, epoch)
                if not settled:
                    settled = True
                    self._connected(epoch, feed)
                    sender = asyncio.create_task(self._send(call, feed))
                    sender.add_done_callback(functools.partial(_end_with, call))
                epoch.maintain()
                if epoch is not self._spool.live and epoch.drained:
                    await call.done_writing()
                    break
            else:
                await self._check(call)
        except grpc.RpcError as error:
            await self._failed(error, epoch)
        except TransportError as error:
            self.failures += 1
            self._say_once(REFUSED, str(error))
        except asyncio.CancelledError:
            if sender is not None and (fault := _fault(sender)) is not None:
                raise fault from None
            raise
        finally:
            self.connected = False
            self._feed = None
            if sender is not None:
                sender.cancel()
            if call is not None:
                call.cancel()
        return settled

    @staticmethod
    async def _check(call: Any) -> None:
        """Raises when the stream ended with an error."""
        code = await call.code()
        if code is not grpc.StatusCode.OK:
            raise aio.AioRpcError(
                code,
                await call.initial_metadata(),
                await call.trailing_metadata(),
                details=await call.details(),
            )

    @staticmethod
    async def _send(call: Any, feed: _Feed) -> None:
        # The reading side learns why the stream ended, and acts on it.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            while True:
                await call.write(_message(await feed.next()))

    async def _open(self, epoch: EpochSpool) -> Any:
        if self._channel is None:
            self._channel = self._endpoint.channel()
        stub = pb_grpc.IngestServiceStub(self._channel)  # type: ignore[no-untyped-call]
        call = stub.Stream()
        hello = pb.Hello(
            host_id=self._host_id,
            boot_id=epoch.origin.boot_id,
            epoch=epoch.origin.epoch,
            abi_version=schema.ABI_VERSION,
            sensor_version=self._version,
            kernel_release=platform.release(),
        )
        with contextlib.suppress(asyncio.InvalidStateError):  # it ended already: reading says why
            await call.write(pb.StreamRequest(hello=hello))
        return call

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
            if self._feed is not feed:
                feed.go_on_from(response.settings.last_seq + 1)

    def _connected(self, epoch: EpochSpool, feed: _Feed) -> None:
        self.connected = True
        self._feed = feed
        self._said = None
        log.info(CONNECTED, control=self._endpoint.address, epoch=epoch.origin.epoch)

    async def _failed(self, error: grpc.RpcError, epoch: EpochSpool) -> None:
        self.failures += 1
        code, details = error.code(), error.details() or ""
        if code in _PERMANENT:
            self._say_once(REFUSED, f"{code.name}: {details}")
            if epoch is not self._spool.live:
                self._set_aside.append(epoch)
                log.warning(SET_ASIDE, epoch=epoch.origin.epoch, reason=details)
        else:
            self._say_once(DISCONNECTED, f"{code.name}: {details}")
        await self._close_channel()

    def _say_once(self, event: str, reason: str) -> None:
        """Logs a state of the connection when it changes, not at each attempt."""
        if self._said != (event, reason):
            self._said = (event, reason)
            log.warning(event, control=self._endpoint.address, reason=reason)

    async def _close_channel(self) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
