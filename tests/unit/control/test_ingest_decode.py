"""Decoding a batch: what is sound passes whole, anything else is named and refused."""

import random

import pyarrow as pa
import pytest
import zstandard
from limes.control.errors import IngestError
from limes.control.ingest import decode as module
from limes.control.ingest.decode import decode
from limes.v1 import schema

from tests.conftest import MakeEvents

CONNECTIONS = schema.KINDS["connections"].number


def stream(table: pa.Table, options: pa.ipc.IpcWriteOptions | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def send(table: pa.Table, count: int | None = None, first_seq: int = 1) -> tuple[str, pa.Table]:
    number = table.num_rows if count is None else count
    return decode(CONNECTIONS, first_seq, number, zstandard.compress(stream(table)))


@pytest.mark.parametrize("kind", schema.KINDS)
def test_a_sound_batch_passes_whole(kind: str, make_events: MakeEvents) -> None:
    """Every kind of the registry comes out as it went in."""
    table = make_events(kind, 5, 3)
    payload = zstandard.compress(stream(table))
    assert decode(schema.KINDS[kind].number, 5, 3, payload) == (kind, table)


def test_a_batch_may_come_in_several_record_batches(make_events: MakeEvents) -> None:
    """How the rows are cut does not matter."""
    table = pa.concat_tables([make_events("connections", 1, 2), make_events("connections", 3, 2)])
    assert send(table)[1].num_rows == 4


def test_an_unknown_kind_is_refused() -> None:
    """A kind of a newer registry cannot be stored."""
    with pytest.raises(IngestError, match="kind 99 is not in the event registry"):
        decode(99, 1, 1, b"")


@pytest.mark.parametrize("payload", [b"", b"not zstd", zstandard.compress(b"x" * 100)[:-4]])
def test_a_payload_that_is_no_zstd_frame_is_refused(payload: bytes) -> None:
    """Empty, foreign and cut payloads are told from sound ones."""
    with pytest.raises(IngestError, match="zstd"):
        decode(CONNECTIONS, 1, 1, payload)


def test_a_payload_that_would_unfold_too_far_is_refused_before_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The size is read from the frame's header; a frame that hides it is refused too."""
    monkeypatch.setattr(module, "MAX_PAYLOAD_BYTES", 1 << 20)
    bomb = zstandard.compress(bytes((1 << 20) + 1))
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 21))
    for payload in (bomb, hidden):
        with pytest.raises(IngestError, match="does not state a size of at most"):
            decode(CONNECTIONS, 1, 1, payload)


def test_compressed_arrow_buffers_are_refused(make_events: MakeEvents) -> None:
    """Only the outer frame may be compressed: its size is known before memory is taken."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    payload = zstandard.compress(stream(make_events("connections", 1, 1000), options))
    with pytest.raises(IngestError, match="compressed buffers"):
        decode(CONNECTIONS, 1, 1000, payload)


def test_dictionaries_are_refused(make_events: MakeEvents) -> None:
    """Only plain record batches of the registry's types pass."""
    table = make_events("process_execs", 1, 2)
    index = table.column_names.index("process_name")
    table = table.set_column(index, "process_name", table.column(index).dictionary_encode())
    with pytest.raises(IngestError, match="dictionary"):
        decode(schema.KINDS["process_execs"].number, 1, 2, zstandard.compress(stream(table)))


def test_a_missing_a_foreign_and_a_mistyped_column_are_named(make_events: MakeEvents) -> None:
    """The schema must be the registry's, exactly."""
    table = make_events("connections", 1, 2)
    last = table.num_columns - 1
    with pytest.raises(IngestError, match="column network_namespace is missing"):
        send(table.remove_column(last))
    with pytest.raises(IngestError, match="column extra is not in the event registry"):
        send(table.append_column("extra", pa.array([1, 2])))
    with pytest.raises(
        IngestError, match="is network_namespace int64, not network_namespace uint32"
    ):
        send(table.set_column(last, "network_namespace", pa.array([1, 2], pa.int64())))
    with pytest.raises(IngestError, match="column 0 is"):
        send(table.select(list(reversed(table.column_names))))


def test_nulls_are_refused(make_events: MakeEvents) -> None:
    """Absence is a value of the registry's, not a null."""
    table = make_events("connections", 1, 2)
    index = table.column_names.index("source_port")
    table = table.set_column(index, "source_port", pa.array([None, 1], pa.uint16()))
    with pytest.raises(IngestError, match="column source_port has 1 nulls"):
        send(table)


@pytest.mark.parametrize("count", [0, 2, 4, (1 << 20) + 1])
def test_a_false_count_is_refused(count: int, make_events: MakeEvents) -> None:
    """The message's count is the number of rows, within bounds."""
    with pytest.raises(IngestError, match="events"):
        send(make_events("connections", 1, 3), count)


@pytest.mark.parametrize("numbers", [[2, 3, 4], [1, 2, 4], [1, 1, 2], [3, 2, 1]])
def test_numbers_that_do_not_count_from_the_first_are_refused(
    numbers: list[int], make_events: MakeEvents
) -> None:
    """An event's number is what the batch's place in the sequence says."""
    with pytest.raises(IngestError, match="event_seq does not count from 1"):
        send(make_events("connections", 1, 3, event_seq=numbers))


@pytest.mark.parametrize("time", [-1, 253_402_300_800_000_000, (1 << 63) - 1])
def test_times_beyond_the_calendar_are_refused(time: int, make_events: MakeEvents) -> None:
    """A time that no reader can show must not reach the tables."""
    with pytest.raises(IngestError, match="event_time lies outside"):
        send(make_events("connections", 1, 1, event_time=time))


def test_text_that_is_not_utf8_is_refused(make_events: MakeEvents) -> None:
    """Strings are checked before the database sees them."""
    table = make_events("process_execs", 1, 1, process_name="PLACEHOLDER")
    payload = zstandard.compress(stream(table).replace(b"PLACEHOLDER", b"PLACE\xff\xfeLDER"))
    with pytest.raises(IngestError, match="not a sound Arrow stream"):
        decode(schema.KINDS["process_execs"].number, 1, 1, payload)


def test_damage_anywhere_is_refused_or_harmless(make_events: MakeEvents) -> None:
    """Whatever bytes a sensor sends, decoding ends with rows or with an IngestError."""
    chance = random.Random(20260301)
    number = schema.KINDS["process_execs"].number
    sound = stream(make_events("process_execs", 1, 9, process_name="name", process_args="a\0b"))
    refused = 0
    for _ in range(3_000):
        damaged = bytearray(sound)
        for _ in range(chance.choice((1, 1, 2, 8))):
            damaged[chance.randrange(len(damaged))] = chance.getrandbits(8)
        if chance.random() < 0.2:
            del damaged[chance.randrange(len(damaged)) :]
        try:
            _, table = decode(number, 1, 9, zstandard.compress(bytes(damaged)))
        except IngestError:
            refused += 1
        else:
            assert table.num_rows == 9
            table.to_pylist()
    assert refused > 300
