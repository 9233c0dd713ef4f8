"""Answers as people and programs see them: exact, complete, and harmless to a terminal."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limes.control.hunt.output import notes, rich_table, write_csv, write_json
from limes.control.hunt.result import Held, HuntResult
from rich.console import Console

MOMENT = datetime(2026, 3, 1, 3, 40, 0, 123456, tzinfo=UTC).replace(tzinfo=None)
VALUES: dict[str, tuple[pa.DataType, Any]] = {
    "text": (pa.string(), "a b"),
    "absent": (pa.string(), None),
    "large": (pa.uint64(), 2**64 - 1),
    "wide": (pa.decimal256(39, 0), Decimal(2**128 - 1)),
    "part": (pa.decimal128(9, 2), Decimal("1.50")),
    "ratio": (pa.float64(), 0.1),
    "yes": (pa.bool_(), True),
    "moment": (pa.timestamp("us"), MOMENT),
    "zoned": (pa.timestamp("us", tz="UTC"), MOMENT.replace(tzinfo=UTC)),
    "list": (pa.list_(pa.string()), ["x", None]),
    "struct": (pa.struct([("n", pa.decimal256(39, 0))]), {"n": Decimal(7)}),
    "span": (pa.month_day_nano_interval(), (0, 1, 0)),
}


@pytest.fixture
def table() -> pa.Table:
    return pa.table({name: pa.array([value], kind) for name, (kind, value) in VALUES.items()})


def shown(table: pa.Table, width: int = 400) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, color_system=None)
    console.print(rich_table(table))
    return console.export_text()


def test_json_is_one_object_a_line_with_exact_values(table: pa.Table) -> None:
    """Each row is a JSON object; large integers stay integers, times are ISO 8601 in UTC."""
    stream = io.StringIO()
    write_json(pa.concat_tables([table, table]), stream)
    first, second = stream.getvalue().splitlines()
    assert first == second
    row = json.loads(first, parse_float=Decimal)
    assert row.pop("span")
    assert row == {
        "text": "a b",
        "absent": None,
        "large": 2**64 - 1,
        "wide": 2**128 - 1,
        "part": Decimal("1.50"),
        "ratio": Decimal("0.1"),
        "yes": True,
        "moment": "2026-03-01T03:40:00.123456Z",
        "zoned": "2026-03-01T03:40:00.123456Z",
        "list": ["x", None],
        "struct": {"n": 7},
    }


def test_csv_has_names_then_rows(table: pa.Table) -> None:
    """CSV has a header, empty cells for absent values and whole numbers."""
    stream = io.StringIO()
    write_csv(table, stream)
    names, row = csv.reader(io.StringIO(stream.getvalue()))
    found = dict(zip(names, row, strict=True))
    assert names == list(VALUES)
    assert (found["absent"], found["wide"], found["part"]) == ("", str(2**128 - 1), "1.50")
    assert (found["list"], found["yes"]) == ('["x",null]', "true")


def test_table_shows_every_value(table: pa.Table) -> None:
    """On a terminal every column and value is there; an absent one is a dash."""
    text = shown(table)
    for part in (*VALUES, str(2**64 - 1), str(2**128 - 1), "1.50", "2026-03-01 03:40:00.123", "-"):
        assert part in text


def test_terminal_is_not_an_attacker_s_to_command() -> None:
    """Escapes, line breaks and direction marks in arguments are shown, not obeyed."""
    evil = "ls \x1b]0;owned\x07\x1b[2J\r\nfake row \u202egnp.exe [bold]not bold[/bold]"
    text = shown(pa.table({"process_command_line": [evil], "evil\x1b[31m": [1]}))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert r"\x1b]0;owned\x07" in text
    assert "[bold]not bold[/bold]" in text
    assert len([line for line in text.splitlines() if "fake row" in line]) == 1


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.integers(80, 200),
)
def test_narrow_table_folds_and_never_cuts(widths: list[int], terminal: int) -> None:
    """From 80 characters on every character of every cell is shown, within the terminal's width."""
    cells = [chr(ord("A") + place) * width for place, width in enumerate(widths)]
    text = shown(pa.table({f"c{place}": [cell] for place, cell in enumerate(cells)}), terminal)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= terminal
    for cell in cells:
        assert text.count(cell[0]) == len(cell)


def test_short_columns_stay_whole_beside_long_ones() -> None:
    """An address is not torn apart because a command line beside it is long."""
    text = shown(pa.table({"ip": ["203.0.113.254:65535"], "command": ["word " * 60]}), 80)
    assert "203.0.113.254:65535" in text


def test_answer_without_rows_still_has_its_columns() -> None:
    """An empty answer shows its header, CSV its names, JSON nothing."""
    empty = pa.table({"host_id": pa.array([], pa.string())})
    lines, objects = io.StringIO(), io.StringIO()
    write_csv(empty, lines)
    write_json(empty, objects)
    assert "host_id" in shown(empty)
    assert (lines.getvalue(), objects.getvalue()) == ("host_id\n", "")


def result(**values: Any) -> HuntResult:
    return HuntResult(
        **{
            "table": pa.table({}),
            "snapshot_time": datetime(2026, 3, 1, 3, 52, 10, tzinfo=UTC),
            "snapshot_age": timedelta(seconds=1.25),
            "oldest_event_time": datetime(2026, 2, 28, tzinfo=UTC),
            "held": (),
            "limit": "",
            "elapsed": timedelta(seconds=1),
        }
        | values
    )


def test_notes_say_age_and_oldest_event() -> None:
    """The first note names the snapshot's time, its age and the oldest event."""
    (note,) = notes(result())
    assert note.startswith("Snapshot of 2026-03-01 03:52:10.000 UTC, 1.2 s old; ")
    assert note.endswith("oldest event: 2026-02-28 00:00:00.000.")
    assert notes(result(oldest_event_time=None))[0].endswith("oldest event: none.")


def test_notes_say_what_a_bound_left_out_and_what_was_cut() -> None:
    """Every kind that is not whole has a note, and so has a limit that cut the answer."""
    oldest = datetime(2026, 3, 1, 1, 17, tzinfo=UTC)
    held = (
        Held(kind="connections", rows=2_000_000, store_rows=8_341_206, oldest_event_time=oldest),
        Held(kind="losses", rows=3, store_rows=3, oldest_event_time=oldest),
        Held(kind="gpu_events", rows=0, store_rows=4, oldest_event_time=None),
    )
    first, second, last = notes(result(held=held, limit="10000 rows"))[1:]
    assert first.startswith("Bounded: connections has its newest 2,000,000 of 8,341,206 rows, ")
    assert first.endswith("since 2026-03-01 01:17:00.000.")
    assert second == "Bounded: gpu_events has its newest 0 of 4 rows."
    assert last == "The answer was cut at 10000 rows: narrow or aggregate it."
