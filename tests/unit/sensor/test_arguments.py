"""Arguments joined from the inline part and chunks, whatever the order of arrival."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limes.sensor.arguments import Arguments
from limes.v1 import schema

CUT = schema.EXEC_F_ARGS_CUT


def split(make: Any, exec_id: int, args: bytes) -> Any:
    """An exec record and the chunks that carry the rest of its arguments."""
    record = make.execs(1, exec_id=exec_id, args=args[:512])
    record["args_bytes"] = record["args_copied"] = len(args)
    rest = args[512:]
    chunks = [
        make.chunk(exec_id, index, rest[start : start + 1024])
        for index, start in enumerate(range(0, len(rest), 1024))
    ]
    return record, chunks


def argv(length: int, letter: bytes = b"a") -> bytes:
    return (letter * 9 + b"\0") * (length // 10) + letter * (length % 10)


@settings(deadline=None)
@given(st.data())
def test_every_exec_gets_its_own_chunks_in_order(data: st.DataObject) -> None:
    """Short and long arguments mixed, chunks of different execs interleaved."""
    from types import SimpleNamespace

    make = SimpleNamespace(**MAKE)
    lengths = data.draw(
        st.lists(st.sampled_from([0, 5, 512, 513, 1536, 1537, 4000, 32768]), min_size=1, max_size=6)
    )
    wanted = [argv(length, bytes([97 + index])) for index, length in enumerate(lengths)]
    records, chunks = [], []
    for index, args in enumerate(wanted):
        record, more = split(make, 50 + index, args)
        records.append(record)
        chunks += more
    data.draw(st.randoms()).shuffle(chunks)
    joined, flags = Arguments().join(
        np.concatenate(records), np.concatenate(chunks) if chunks else None
    )
    assert [joined.row(index) for index in range(len(joined))] == wanted
    assert not flags.any()


@pytest.fixture(autouse=True)
def _keep_builders(make: Any) -> None:
    MAKE.update(vars(make))


MAKE: dict[str, object] = {}


def test_a_missing_chunk_cuts_the_arguments_there(make: Any) -> None:
    """What comes after a hole is not glued to what comes before it."""
    record, chunks = split(make, 9, argv(4000))
    args, flags = Arguments().join(record, np.concatenate([chunks[0], chunks[2], chunks[3]]))
    assert args.row(0) == argv(4000)[: 512 + 1024]
    assert flags[0] & CUT


def test_long_arguments_without_any_chunk_are_flagged(make: Any) -> None:
    """The inline part is there, and marked as not the whole."""
    record, _ = split(make, 9, argv(700))
    args, flags = Arguments().join(record, None)
    assert args.row(0) == argv(700)[:512]
    assert flags[0] & CUT


def test_flags_of_the_kernel_side_stay(make: Any) -> None:
    """Joining only adds."""
    record, chunks = split(make, 9, argv(700))
    record["flags"] = schema.EXEC_F_MEMFD | CUT
    _, flags = Arguments().join(record, chunks[0])
    assert flags[0] == schema.EXEC_F_MEMFD | CUT


def test_chunks_wait_one_drain_for_their_exec(make: Any) -> None:
    """Both orders of arrival give the same arguments."""
    record, chunks = split(make, 9, argv(2000))
    other = make.execs(1, exec_id=8)
    arguments = Arguments()
    arguments.join(other, np.concatenate(chunks))
    args, flags = arguments.join(record, None)
    assert args.row(0) == argv(2000)
    assert not flags.any()
    assert arguments.orphans == 0


def test_chunks_partly_from_the_drain_before_are_joined(make: Any) -> None:
    """A drain may cut between two chunks of one exec."""
    record, chunks = split(make, 9, argv(3000))
    arguments = Arguments()
    arguments.hold(chunks[0])
    args, flags = arguments.join(record, np.concatenate(chunks[1:]))
    assert args.row(0) == argv(3000)
    assert not flags.any()


def test_orphans_are_dropped_and_counted_after_one_more_drain(make: Any) -> None:
    """A chunk whose exec record was lost does not wait for ever."""
    arguments = Arguments()
    arguments.hold(make.chunk(7, 0, b"x"))
    assert arguments.orphans == 0
    arguments.join(make.execs(1, exec_id=8), None)
    assert arguments.orphans == 1
    arguments.join(make.execs(1, exec_id=7), None)
    assert arguments.orphans == 1


def test_chunks_kept_are_bounded(make: Any) -> None:
    """A flood of orphans cannot fill the memory; each is counted."""
    arguments = Arguments()
    arguments.hold(make.records("exec_chunk", 5000))
    assert arguments.orphans == 5000 - 2048


def test_invalid_utf8_in_a_chunk_is_replaced(make: Any) -> None:
    """A character may also be split between the inline part and a chunk: then it is whole again."""
    text = b"a" * 511 + "é".encode() + b"\xff\0"
    record, chunks = split(make, 9, text)
    args, _ = Arguments().join(record, chunks[0])
    assert args.row(0) == text.decode("utf-8", "replace").encode()
    assert "é" in args.row(0).decode()


def test_a_length_beyond_the_slot_is_not_believed(make: Any) -> None:
    """Even a wrong record cannot make the reader run past a slot."""
    record, chunks = split(make, 9, argv(700))
    chunks[0]["length"] = 5000
    args, flags = Arguments().join(record, chunks[0])
    assert len(args.row(0)) == 512 + 1024
    assert flags[0] & CUT
