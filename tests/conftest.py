"""What tests of several folders share: events of any kind, and batches as a sensor sends them."""

from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pytest
import structlog
import zstandard
from limes.control.store.columns import arrow_schema
from limes.v1 import ingest_service_pb2 as pb
from limes.v1 import schema

# What a test runs in this process must not set logging up for all that follow, with the level, and
# the captured stderr, of that one test: configured already, it stays as it is.
structlog.configure(cache_logger_on_first_use=False)

START = datetime(2026, 3, 1, tzinfo=UTC).replace(tzinfo=None)

MakeEvents = Callable[..., pa.Table]
MakeBatch = Callable[..., pb.StreamRequest]


def events(kind: str, first_seq: int, count: int, **values: object) -> pa.Table:
    """Return `count` events from `first_seq` on; a value is for all rows, or a list of one each."""
    arrays = []
    for field in arrow_schema(kind):
        value = values.get(field.name, default(field))
        if field.name == "event_seq" and field.name not in values:
            value = list(range(first_seq, first_seq + count))
        rows = value if isinstance(value, list) else [value] * count
        arrays.append(pa.array(rows, field.type))
    return pa.Table.from_arrays(arrays, schema=arrow_schema(kind))


def default(field: pa.Field) -> object:
    if pa.types.is_string(field.type):
        return ""
    if pa.types.is_timestamp(field.type):
        return START
    if pa.types.is_boolean(field.type):
        return False
    return int(field.name == "event_action")


def stream(table: pa.Table) -> bytes:
    """Return the table as one Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def batch(kind: str, first_seq: int, count: int, **values: object) -> pb.StreamRequest:
    """Return a batch of events as a sensor sends it."""
    payload = zstandard.compress(stream(events(kind, first_seq, count, **values)), 1)
    number = schema.KINDS[kind].number
    message = pb.EventBatch(first_seq=first_seq, count=count, payload=payload)
    message.kind = number  # type: ignore[assignment]
    return pb.StreamRequest(batches=pb.EventBatches(batches=[message]))


@pytest.fixture(scope="session")
def make_events() -> MakeEvents:
    return events


@pytest.fixture(scope="session")
def make_batch() -> MakeBatch:
    return batch
