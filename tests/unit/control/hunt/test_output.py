"""Answers as people and programs see them: exact, and complete."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from limes.control.hunt.output import cells, notes, write_csv, write_json
from limes.control.hunt.result import Held, HuntResult

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


def test_cells_have_every_value(table: pa.Table) -> None:
    """As people read it; an absent one is a dash."""
    found = dict(zip(table.column_names, cells(table), strict=True))
    assert found["large"] == [str(2**64 - 1)]
    assert found["wide"] == [str(2**128 - 1)]
    assert (found["part"], found["absent"]) == (["1.50"], ["-"])
    assert found["moment"] == ["2026-03-01 03:40:00.123"]


def test_answer_without_rows_still_has_its_columns() -> None:
    """An empty answer has no cells, CSV its names, JSON nothing."""
    empty = pa.table({"host_id": pa.array([], pa.string())})
    lines, objects = io.StringIO(), io.StringIO()
    write_csv(empty, lines)
    write_json(empty, objects)
    assert cells(empty) == [[]]
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
