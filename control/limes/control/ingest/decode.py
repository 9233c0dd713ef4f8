"""Decodes a batch: zstd, then one Arrow IPC stream, into a table with the registry's columns.

Nothing a sensor sends is trusted: sizes are bounded before memory is taken.
"""

import struct
from typing import Final

import numpy as np
import pyarrow as pa
import zstandard
from limes.control.errors import IngestError
from limes.control.store.columns import KINDS_BY_NUMBER, arrow_schema

MAX_PAYLOAD_BYTES: Final = 128 << 20  # of one batch, decompressed
MAX_BATCH_EVENTS: Final = 1 << 20
END_OF_TIME: Final = 253_402_300_800_000_000  # year 10000 in microseconds: beyond what reads it

DECOMPRESS_ERRORS: Final = (zstandard.ZstdError, MemoryError)


def decode(kind_number: int, first_seq: int, count: int, payload: bytes) -> tuple[str, pa.Table]:
    """Return the name of the kind and the batch's rows, columns as in `arrow_schema`, no nulls.

    Raises IngestError, saying what is wrong, for anything but a sound batch of `count` events
    numbered from `first_seq`.
    """
    kind = KINDS_BY_NUMBER.get(kind_number)
    if kind is None:
        raise IngestError(f"kind {kind_number} is not in the event registry")
    if not 0 < count <= MAX_BATCH_EVENTS:
        raise IngestError(f"{count} events in a batch; 1 to {MAX_BATCH_EVENTS} are taken")
    table = read_stream(decompress(payload), arrow_schema(kind))
    if table.num_rows != count:
        raise IngestError(f"the batch says {count} events and has {table.num_rows}")
    check_rows(table, first_seq)
    return kind, table


def decompress(payload: bytes) -> bytes:
    try:
        size = zstandard.get_frame_parameters(payload).content_size
        if size > MAX_PAYLOAD_BYTES:  # also: unknown
            raise IngestError(f"the payload does not state a size of at most {MAX_PAYLOAD_BYTES}")
        return zstandard.ZstdDecompressor().decompress(payload, max_output_size=MAX_PAYLOAD_BYTES)
    except DECOMPRESS_ERRORS as error:
        raise IngestError(f"the payload is not a zstd frame: {error}") from error


def read_stream(stream: bytes, expected: pa.Schema) -> pa.Table:
    try:
        messages = pa.ipc.MessageReader.open_stream(pa.BufferReader(stream))
        for number, message in enumerate(messages):
            check_message(number, message)
        with pa.ipc.open_stream(stream) as reader:
            check_schema(reader.schema, expected)
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, EOFError, MemoryError) as error:
        raise IngestError(f"the payload is not a sound Arrow stream: {error}") from error
    return table


def check_message(number: int, message: pa.ipc.Message) -> None:
    """Let only a schema and plain record batches pass: compressed ones could unfold to any size."""
    expected = "record batch" if number else "schema"
    if message.type != expected:
        raise IngestError(f"message {number} of the Arrow stream is a {message.type}")
    if number and has_body_compression(memoryview(message.metadata)):
        raise IngestError(f"message {number} of the Arrow stream has compressed buffers")


def has_body_compression(metadata: memoryview) -> bool:
    """Tell whether the RecordBatch of an IPC message (a flatbuffer) sets its `compression`."""
    try:
        (root,) = struct.unpack_from("<I", metadata, 0)
        header = flatbuffer_field(metadata, root, 2)
        if header is None:
            raise IngestError("a message of the Arrow stream has no header")
        (offset,) = struct.unpack_from("<I", metadata, header)
        return flatbuffer_field(metadata, header + offset, 3) is not None
    except struct.error as error:
        raise IngestError("a message of the Arrow stream is damaged") from error


def flatbuffer_field(data: memoryview, table: int, index: int) -> int | None:
    """Return where field `index` of the flatbuffer table lies, None when it is absent."""
    (back,) = struct.unpack_from("<i", data, table)
    vtable = table - back
    (size,) = struct.unpack_from("<H", data, vtable)
    slot = 4 + 2 * index
    if slot + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", data, vtable + slot)
    return table + int(offset) if offset else None


def check_schema(found: pa.Schema, expected: pa.Schema) -> None:
    """Compare names, order and types; nullability is compared by the rows."""
    if found.names == expected.names and found.types == expected.types:
        return
    for index, field in enumerate(expected):
        if index >= len(found):
            raise IngestError(f"column {field.name} is missing")
        have = found.field(index)
        if (have.name, have.type) != (field.name, field.type):
            raise IngestError(
                f"column {index} is {have.name} {have.type}, not {field.name} {field.type}"
            )
    raise IngestError(f"column {found.field(len(expected)).name} is not in the event registry")


def check_rows(table: pa.Table, first_seq: int) -> None:
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            raise IngestError(f"column {name} has {column.null_count} nulls; none is allowed")
    numbers = table.column("event_seq").to_numpy()
    if int(numbers[0]) != first_seq or np.any(np.diff(numbers) != 1):
        raise IngestError(f"event_seq does not count from {first_seq} without holes")
    times = table.column("event_time").cast(pa.int64()).to_numpy()
    if times.min() < 0 or times.max() >= END_OF_TIME:
        raise IngestError("event_time lies outside the years 1970 to 9999")
