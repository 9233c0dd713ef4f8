"""Puts the pieces of a hunt's answer together again, on the analyst's side."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from google.protobuf.timestamp_pb2 import Timestamp
from limes.control.errors import HuntError
from limes.v1 import hunt_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the snapshot held of one kind: fewer rows than the store when it left out older ones."""

    kind: str
    rows: int
    store_rows: int
    oldest_event_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HuntResult:
    """The answer to one hunt. Times are UTC. `limit` names the limit that cut it, or is empty."""

    table: pa.Table
    snapshot_time: datetime
    snapshot_age: timedelta
    oldest_event_time: datetime | None
    held: tuple[Held, ...]
    limit: str
    elapsed: timedelta


def collect(responses: Iterable[pb.HuntResponse]) -> HuntResult:
    """Return the answer from the messages of one call.

    Raises HuntError when it is incomplete; what the call itself raises passes through.
    """
    header: pb.HuntHeader | None = None
    summary: pb.HuntSummary | None = None
    stream = io.BytesIO()
    for response in responses:
        match response.WhichOneof("message"):
            case "header":
                header = response.header
            case "arrow":
                stream.write(response.arrow)
            case "summary":
                summary = response.summary
    if header is None or summary is None:
        raise HuntError("The answer ended before its summary: ask again.", outcome="failed")
    stream.seek(0)
    with pa.ipc.open_stream(stream) as reader:
        table = reader.read_all()
    return HuntResult(
        table=table,
        snapshot_time=header.snapshot_time.ToDatetime(UTC),
        snapshot_age=timedelta(milliseconds=header.snapshot_age_ms),
        oldest_event_time=moment(header, header.oldest_event_time),
        held=tuple(
            Held(
                kind=kind.kind,
                rows=kind.rows,
                store_rows=kind.store_rows,
                oldest_event_time=moment(kind, kind.oldest_event_time),
            )
            for kind in header.kinds
        ),
        limit=summary.limit,
        elapsed=timedelta(milliseconds=summary.elapsed_ms),
    )


def moment(message: pb.HuntHeader | pb.SnapshotKind, value: Timestamp) -> datetime | None:
    return value.ToDatetime(UTC) if message.HasField("oldest_event_time") else None
