"""String columns: slots to offsets and bytes, valid UTF-8 always."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limes.sensor import strings

ROWS = st.lists(st.binary(max_size=20), min_size=1, max_size=12)


def slots(rows: list[bytes], width: int = 24, fill: bytes = b"\0") -> Any:
    return np.frombuffer(b"".join(row.ljust(width, fill) for row in rows), np.uint8).reshape(
        len(rows), width
    )


def values(column: strings.Strings) -> list[bytes]:
    return [column.row(index) for index in range(len(column))]


def replaced(row: bytes) -> bytes:
    return row.decode("utf-8", "replace").encode()


@given(ROWS)
def test_heads_take_the_given_lengths(rows: list[bytes]) -> None:
    """NULs inside are kept: arguments are separated by them."""
    column = strings.heads(slots(rows, fill=b"?"), np.array([len(row) for row in rows]))
    assert values(column) == [replaced(row) for row in rows]


@given(ROWS)
def test_nul_ended_slots_end_at_the_first_nul(rows: list[bytes]) -> None:
    """What follows the NUL is not part of the string."""
    matrix = slots([row + b"\0left over"[: 24 - len(row)] for row in rows])
    assert values(strings.nul_ended(matrix)) == [replaced(row.partition(b"\0")[0]) for row in rows]


def test_a_slot_without_a_nul_is_taken_whole() -> None:
    """A name may fill its slot."""
    assert values(strings.nul_ended(slots([b"x" * 24]))) == [b"x" * 24]


@given(ROWS)
def test_tails_begin_where_they_say_and_end_before_the_nul(rows: list[bytes]) -> None:
    """Paths are written from the end; the bytes before them are of no meaning."""
    rows = [row.replace(b"\0", b"/") for row in rows]
    matrix = np.array([list(row.rjust(23, b"?") + b"\0") for row in rows], np.uint8)
    starts = np.array([23 - len(row) for row in rows], np.uint16)
    assert values(strings.tails(matrix, starts)) == [replaced(row) for row in rows]


def test_tails_stop_at_an_early_nul() -> None:
    """A path that was ended before the slot's end."""
    matrix = slots([b"???/bin/sh\0junk", b"/usr/bin/true\0j"], width=16)
    starts = np.array([3, 0], np.uint16)
    assert values(strings.tails(matrix, starts)) == [b"/bin/sh", b"/usr/bin/true"]


@pytest.mark.parametrize("start", [15, 16, 65535])
def test_tails_that_begin_at_or_after_the_end_are_empty(start: int) -> None:
    """A path that could not be read has its start at the slot's end."""
    column = strings.tails(slots([b"????????"], width=16), np.array([start], np.uint16))
    assert values(column) == [b""]


@given(ROWS)
def test_utf8_replaces_only_in_the_rows_that_need_it(rows: list[bytes]) -> None:
    """A character cut at a row's end is not completed by the next row."""
    column = strings.Strings(strings.offsets_of(np.array([len(r) for r in rows])), b"".join(rows))
    assert values(strings.utf8(column)) == [replaced(row) for row in rows]


def test_a_character_cut_between_two_rows_is_replaced_in_both() -> None:
    """The whole buffer is valid UTF-8 here, its rows are not."""
    whole = "é".encode()
    column = strings.Strings(np.array([0, 1, 2], np.int32), whole)
    assert values(strings.utf8(column)) == ["\N{REPLACEMENT CHARACTER}".encode()] * 2


@given(ROWS, st.data())
def test_take_gives_the_rows_in_the_order_asked(rows: list[bytes], data: st.DataObject) -> None:
    """Rows may repeat and be left out."""
    column = strings.Strings(strings.offsets_of(np.array([len(r) for r in rows])), b"".join(rows))
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20))
    assert values(column.take(np.array(picked, np.intp))) == [rows[i] for i in picked]


@given(ROWS, st.data())
def test_replace_changes_these_rows_alone(rows: list[bytes], data: st.DataObject) -> None:
    """The other rows keep their bytes, whatever the new lengths."""
    column = strings.Strings(strings.offsets_of(np.array([len(r) for r in rows])), b"".join(rows))
    picked = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1))))
    new = [data.draw(st.binary(max_size=30)) for _ in picked]
    expected = list(rows)
    for index, value in zip(picked, new, strict=True):
        expected[index] = value
    assert values(column.replace(picked, new)) == expected


def test_lists_and_constants() -> None:
    """Undecodable file names are replaced, not refused."""
    assert values(strings.from_list(["a", "", "b\udcff"])) == [b"a", b"", b"b?"]
    assert values(strings.from_list([])) == []
    assert values(strings.constant("né", 2)) == ["né".encode()] * 2
