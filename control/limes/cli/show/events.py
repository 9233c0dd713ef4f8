"""Owns the line of an event, on a terminal and as JSON.

Invariant: a line never grows beyond some rows of the terminal; what was cut off is counted in it.
"""

import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TextIO

import pyarrow as pa
from limes.cli.output import Form, console, safe
from limes.cli.show.text import hanging
from limes.cli.show.words import Said, say
from limes.control.client import TailBatch
from limes.control.hunt.output import JSON, json_value
from rich.console import Console
from rich.text import Text

Row = Mapping[str, Any]

TONES: Final = {"good": "green", "odd": "yellow", "bad": "bold red", "gpu": "magenta"}
_ROWS: Final = 4  # of a terminal that one event may take
_VERB: Final = 8


def json_line(head: Mapping[str, Any], row: Row) -> str:
    """Return the row as one JSON object, with further members first."""
    values = {name: json_value(value) for name, value in row.items()}
    return JSON.encode({**head, **values}).decode()


def write_json(head: Mapping[str, Any], table: pa.Table, stream: TextIO) -> None:
    """Write every row as a line, with all columns of its view."""
    stream.writelines(json_line(head, row) + "\n" for row in table.to_pylist())
    stream.flush()


def moment(value: datetime) -> str:
    """Return the time of day to the millisecond."""
    return value.strftime("%H:%M:%S.%f")[:-3]


def line(value: datetime, cgroup: str, said: Said, *, width: int, column: int) -> Text:
    """Return an event's line: time, cgroup, verb, what; long arguments go on below, indented."""
    tone = TONES.get(said.tone, "")
    head = Text.assemble((moment(value), "dim"), "  ", (f"{safe(cgroup):<{column}}", "cyan"), "  ")
    indent = head.cell_len + _VERB + 1
    head.append(f"{said.verb:<{_VERB}} ", tone or "bold")
    room = max(24, width - indent)
    return head.append(hanging(said.what, room, _ROWS, indent), tone)


def follow(batches: Iterator[TailBatch], form: Form, count: int) -> None:
    """Show events until the batches end, or `count` of them were shown when it is not 0."""
    screen = console()
    shown = 0
    for batch in batches:
        if batch.skipped:
            sys.stderr.write(f"{batch.skipped} events were left out: this reader was too slow.\n")
        table = batch.table.slice(0, count - shown) if count else batch.table
        shown += table.num_rows
        if form is Form.JSON:
            write_json({"kind": batch.kind}, table, sys.stdout)
        else:
            _print(screen, batch.kind, table)
        if count and shown >= count:
            return


def _print(screen: Console, kind: str, table: pa.Table) -> None:
    for row in table.to_pylist():
        cgroup = row.get("cgroup_path") or "-"
        text = line(row["event_time"], cgroup, say(kind, row), width=screen.width, column=12)
        screen.print(text, soft_wrap=True)
