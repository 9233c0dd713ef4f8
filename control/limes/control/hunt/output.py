"""Turns a hunt's answer into text: cells for people, JSON lines or CSV for programs.

Nothing that was read from an event reaches a terminal unescaped: command lines are an attacker's to
choose.
"""

import csv
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TextIO

import msgspec
import pyarrow as pa
from limes.control.hunt.result import HuntResult

NULL: Final = "-"
JSON: Final = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def notes(result: HuntResult) -> list[str]:
    """Return, in lines of text, what the rows were read from and what was left out."""
    age = result.snapshot_age.total_seconds()
    oldest = result.oldest_event_time
    since = moment_text(oldest) if oldest else "none"
    made = moment_text(result.snapshot_time)
    lines = [f"Snapshot of {made} UTC, {age:.1f} s old; oldest event: {since}."]
    lines += [
        f"Bounded: {held.kind} has its newest {held.rows:,} of {held.store_rows:,} rows"
        f"{f', since {moment_text(held.oldest_event_time)}' if held.oldest_event_time else ''}."
        for held in result.held
        if held.rows < held.store_rows
    ]
    if result.limit:
        lines.append(f"The answer was cut at {result.limit}: narrow or aggregate it.")
    return lines


def cells(table: pa.Table) -> list[list[str]]:
    """Return the cells of each column as text; absent values as "-"."""
    return [
        [safe(cell_text(value)) for chunk in column.chunks for value in chunk.to_pylist()]
        for column in table.columns
    ]


def is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind)
    )


def write_json(table: pa.Table, stream: TextIO) -> None:
    """Write one JSON object a row and line. Times are ISO 8601 in UTC, bytes base64."""
    names = table.column_names
    for row in rows(table):
        found = JSON.encode(dict(zip(names, map(json_value, row), strict=True)))
        stream.write(f"{found.decode()}\n")


def write_csv(table: pa.Table, stream: TextIO) -> None:
    """Write a line of names and one a row; absent values are empty, lists and structs JSON."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in rows(table):
        writer.writerow("" if value is None else cell_text(value) for value in row)


def rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as Python values."""
    for batch in table.to_batches():
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def json_value(value: Any) -> Any:
    match value:
        case Decimal() if value == value.to_integral_value():
            return int(value)
        case datetime():
            return f"{value.isoformat().removesuffix('+00:00')}Z"
        case dict():
            return {str(key): json_value(inner) for key, inner in value.items()}
        case list() | tuple():
            return [json_value(inner) for inner in value]
    return value


def cell_text(value: Any) -> str:
    if value is None:
        return NULL
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return JSON.encode(json_value(value)).decode().strip('"')


def moment_text(value: datetime) -> str:
    """Return a time to the millisecond, without its zone."""
    return value.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")


def safe(text: str) -> str:
    """Return the text with everything escaped that a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
