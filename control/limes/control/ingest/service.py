"""The ingest service: one call is one stream of one sensor start.

A call only checks and decodes; the writer alone decides what is next in sequence, so that a dead
call cannot make an acknowledgement pass over a gap.
"""

import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Final

import grpc
import structlog
from limes.control.errors import IngestError
from limes.control.ingest.decode import decode
from limes.control.roles import Identity, identity
from limes.control.store.columns import KINDS_BY_NUMBER
from limes.control.store.entries import Batch, Goodbye, Hello, Missing, Source, malformed
from limes.control.store.writer import Writer
from limes.v1 import ingest_service_pb2 as pb
from limes.v1 import ingest_service_pb2_grpc as rpc
from limes.v1 import schema

LOG = structlog.get_logger()
STREAM_OPENED: Final = "ingest.stream_opened"
STREAM_CLOSED: Final = "ingest.stream_closed"
STREAM_REFUSED: Final = "ingest.stream_refused"
BATCH_MALFORMED: Final = "ingest.batch_malformed"
GAP_DECLARED: Final = "ingest.gap_declared"

MAX_NAME: Final = 255
MAX_SEQ: Final = (1 << 64) - 1
MAX_GAP: Final = 1 << 48  # events; more were not made since the host began


class Call:
    """One open stream, as the writer sees it (a Peer), and its queue of responses."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._responses: queue.SimpleQueue[pb.StreamResponse | None] = queue.SimpleQueue()
        self._refused_seq: int | None = None
        self.ending = ""

    def acknowledge(self, last_seq: int) -> None:
        self._refused_seq = None
        self._responses.put(pb.StreamResponse(ack=pb.Ack(last_seq=last_seq)))

    def rewind(self, next_seq: int, refused_seq: int) -> bool:
        """Ask once for what is missing: batches under way behind a refused one are not news."""
        if self._refused_seq is not None and refused_seq > self._refused_seq:
            return False
        self._refused_seq = refused_seq
        self._responses.put(pb.StreamResponse(rewind=pb.Rewind(next_seq=next_seq)))
        return True

    def send(self, response: pb.StreamResponse) -> None:
        self._responses.put(response)

    def finish(self) -> None:
        self.end("")

    def end(self, reason: str) -> None:
        """End the stream after what is queued; `reason` is empty when the sensor left."""
        self.ending = self.ending or reason
        self._responses.put(None)

    def responses(self) -> Iterator[pb.StreamResponse]:
        """Yield responses as they come; of acknowledgements that wait together only the newest."""
        while (response := self._responses.get()) is not None:
            newest: pb.StreamResponse | None = response
            while newest is not None and newest.HasField("ack") and not self._responses.empty():
                following = self._responses.get()
                if following is None or not following.HasField("ack"):
                    yield newest
                newest = following
            if newest is None:
                return
            yield newest


class IngestServicer(rpc.IngestServiceServicer):
    """Serves `IngestService`. `labels` gives the operator's labels by host."""

    def __init__(self, writer: Writer, labels: Mapping[str, Mapping[str, str]]) -> None:
        self._writer = writer
        self._labels = labels
        self._lock = threading.Lock()
        self._calls: dict[Source, Call] = {}
        self._stopping = False

    def connected(self) -> frozenset[Source]:
        """Return the sensor starts whose stream is open."""
        with self._lock:
            return frozenset(self._calls)

    def stop(self) -> None:
        """Take nothing more from any stream; they stay open for acknowledgements until `finish`."""
        self._stopping = True

    def finish(self) -> None:
        """End every stream, after the acknowledgements that are queued."""
        with self._lock:
            calls = tuple(self._calls.values())
        for call in calls:
            call.end("the control plane is stopping")

    def Stream(  # noqa: N802 - the name is the RPC's
        self, request_iterator: Iterator[pb.StreamRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.StreamResponse]:
        """Serve one stream: Settings, then acknowledgements and rewinds until either side ends."""
        hello = self._greet(request_iterator, context)
        call = self._open(hello, context)
        reader = threading.Thread(
            target=self._read, args=(call, request_iterator), name="ingest-reader", daemon=True
        )
        reader.start()
        try:
            yield from call.responses()
        finally:
            self._close(call)
        if call.ending:
            context.abort(grpc.StatusCode.UNAVAILABLE, call.ending)

    def _greet(self, requests: Iterator[pb.StreamRequest], context: grpc.ServicerContext) -> Hello:
        """Return the Hello that opens the stream; aborts the call when it may not be opened."""
        first = next(requests, None)
        if self._stopping:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the control plane is stopping")
        try:
            return read_hello(first, identity(context))
        except IngestError as error:
            LOG.warning(STREAM_REFUSED, peer=context.peer(), error=str(error))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            raise

    def _open(self, hello: Hello, context: grpc.ServicerContext) -> Call:
        call = Call(hello.source)
        with self._lock:
            older = self._calls.get(call.source)
            self._calls[call.source] = call
        if older is not None:
            older.end("another stream of this sensor start was opened")
        if not (context.add_callback(lambda: call.end("")) and self._writer.submit(hello)):
            self._close(call)
            context.abort(grpc.StatusCode.UNAVAILABLE, "the control plane is stopping")
        settings = pb.Settings(
            last_seq=self._writer.last_seq(call.source),
            labels=self._labels.get(call.source.host_id, {}),
        )
        call.send(pb.StreamResponse(settings=settings))
        LOG.info(STREAM_OPENED, **call.source._asdict(), last_seq=settings.last_seq)
        return call

    def _close(self, call: Call) -> None:
        with self._lock:
            if self._calls.get(call.source) is call:
                del self._calls[call.source]
        last_seq = self._writer.last_seq(call.source)
        LOG.info(STREAM_CLOSED, **call.source._asdict(), last_seq=last_seq, reason=call.ending)

    def _read(self, call: Call, requests: Iterator[pb.StreamRequest]) -> None:
        """Hand what the sensor sends to the writer, until the stream ends or nothing is taken."""
        try:
            for request in requests:
                if self._stopping or call.ending:
                    return  # `finish` ends the stream, behind the acknowledgements
                if not all(map(self._writer.submit, read_entries(request, call))):
                    return
            self._writer.submit(Goodbye(peer=call))
        except grpc.RpcError:
            call.end("")  # the sensor went away: what it sent is with the writer
        except IngestError as error:
            LOG.warning(STREAM_REFUSED, **call.source._asdict(), error=str(error))
            call.end(str(error))
        except BaseException:
            call.end("the control plane failed on a message")  # never a stream without a reader
            raise


def read_hello(request: pb.StreamRequest | None, who: Identity) -> Hello:
    """Return the opening of a stream. Raises IngestError when it is missing or false."""
    if request is None or not request.HasField("hello"):
        raise IngestError("the first message of the stream is not a Hello")
    hello = request.hello
    if hello.host_id != who.name:
        raise IngestError(
            f"the sensor calls itself {hello.host_id!r}, its certificate {who.name!r}: "
            "set host_id to the certificate's name, or issue another certificate"
        )
    if hello.abi_version != schema.ABI_VERSION:
        raise IngestError(
            f"the sensor speaks version {hello.abi_version} of the event registry, the control "
            f"plane {schema.ABI_VERSION}: install the same version of limes on both"
        )
    if not 0 < len(hello.boot_id) <= MAX_NAME or not hello.epoch:
        raise IngestError("the Hello lacks a boot_id or an epoch")
    return Hello(
        source=Source(hello.host_id, hello.boot_id, hello.epoch),
        sensor_version=hello.sensor_version[:MAX_NAME],
        kernel_release=hello.kernel_release[:MAX_NAME],
        abi_version=hello.abi_version,
    )


def read_entries(request: pb.StreamRequest, call: Call) -> Iterator[Batch | Missing]:
    """Yield what a message of an open stream asks to store; a bad batch as the loss it is.

    Raises IngestError when the message states no range of sequence numbers: the stream must end.
    """
    if request.HasField("batches"):
        for batch in request.batches.batches:
            yield read_batch(batch, call)
    elif request.HasField("gap"):
        yield read_gap(request.gap, call)
    else:
        raise IngestError("a message of the stream has neither batches nor a gap")


def read_batch(batch: pb.EventBatch, call: Call) -> Batch | Missing:
    last_seq = batch.first_seq + batch.count - 1
    if not batch.count or not 0 < batch.first_seq <= last_seq <= MAX_SEQ:
        raise IngestError(f"a batch of {batch.count} events from {batch.first_seq} is no range")
    try:
        kind, table = decode(batch.kind, batch.first_seq, batch.count, batch.payload)
    except IngestError as error:
        LOG.warning(
            BATCH_MALFORMED,
            **call.source._asdict(),
            kind=KINDS_BY_NUMBER.get(batch.kind, batch.kind),
            first_seq=batch.first_seq,
            last_seq=last_seq,
            error=str(error),
        )
        return malformed(call.source, call, batch.first_seq, last_seq, min(batch.kind, 255))
    return Batch(
        source=call.source,
        peer=call,
        first_seq=batch.first_seq,
        last_seq=last_seq,
        kind=kind,
        table=table,
        size=table.nbytes,
    )


def read_gap(gap: pb.Gap, call: Call) -> Missing:
    if not 0 < gap.first_seq <= gap.last_seq < MAX_SEQ:
        raise IngestError(f"a gap from {gap.first_seq} to {gap.last_seq} is no range")
    if gap.last_seq - gap.first_seq >= MAX_GAP:
        raise IngestError(f"a gap from {gap.first_seq} to {gap.last_seq} is longer than {MAX_GAP}")
    cause = gap.cause if gap.cause.isidentifier() and len(gap.cause) <= 64 else "unstated"
    LOG.warning(
        GAP_DECLARED,
        **call.source._asdict(),
        first_seq=gap.first_seq,
        last_seq=gap.last_seq,
        cause=cause,
    )
    return Missing(
        source=call.source,
        peer=call,
        first_seq=gap.first_seq,
        last_seq=gap.last_seq,
        kind_number=0,
        outcome="gap",
        stage=schema.CAUSES.get(cause, "transport"),
        cause=cause,
    )
