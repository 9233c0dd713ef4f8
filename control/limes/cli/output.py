"""Owns how rows of plain values are shown: a table for people, JSON lines or CSV for programs.

Invariant: the same rows and names in each form; nothing else is written to standard output.
"""

import csv
import json
import os
import signal
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from typing import Any, Final, TextIO

from limes.cli.errors import UsageError
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH: Final = 100  # columns, where there is no terminal to ask
WIDE: Final = 150  # columns of a terminal that has room for sentences in a table
NOTHING: Final = "-"

Row = Mapping[str, Any]


class Form(Enum):
    """How rows are shown."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"

    @classmethod
    def of(cls, *, as_json: bool, as_csv: bool) -> "Form":
        """Return the form that the two shared options ask for; raises UsageError for both."""
        if as_json and as_csv:
            raise UsageError("Got both --json and --csv: give one of them.")
        return cls.JSON if as_json else cls.CSV if as_csv else cls.TABLE


def console(stream: TextIO | None = None, *, width: int | None = None) -> Console:
    """Return a console: coloured on a terminal, plain text elsewhere, never emphasised by guess."""
    file = stream or sys.stdout
    if width is None and not file.isatty():
        width = PLAIN_WIDTH
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def emit(screen: Console, what: RenderableType) -> None:
    """Print; in a file or a pipe without the blanks that fill tables up at their right."""
    if screen.is_terminal:
        screen.print(what)
        return
    with screen.capture() as capture:
        screen.print(what)
    lines = (line.rstrip() for line in capture.get().splitlines())
    screen.file.write("".join(f"{line}\n" for line in lines))
    screen.file.flush()


def reader_left() -> None:
    """Write nowhere from now on, as nobody reads standard output any more (`| head`)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def ending_with_reader() -> Iterator[None]:
    """In a thread: end the run as Ctrl-C does when nobody reads standard output any more."""
    try:
        yield
    except BrokenPipeError:
        reader_left()
        os.kill(os.getpid(), signal.SIGINT)


def working(text: str) -> AbstractContextManager[object]:
    """Show on a terminal, beside the data, that something is under way."""
    screen = console(sys.stderr)
    return screen.status(text) if screen.is_terminal else nullcontext()


def note(text: str) -> None:
    """Write a line for the person, beside the data."""
    sys.stderr.write(f"{text}\n")


def show(
    rows: Iterable[Row],
    columns: Sequence[str],
    form: Form,
    *,
    title: str = "",
    whole: Collection[str] = (),
    wide: Collection[str] = (),
) -> None:
    """Write the columns of the rows to standard output.

    In a table `whole` ones are not folded, and `wide` ones are left out of a narrow terminal.
    """
    if form is Form.JSON:
        for row in rows:
            write_json({name: row[name] for name in columns})
    elif form is Form.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_plain(row[name]) for name in columns] for row in rows)
    else:
        narrow = sys.stdout.isatty() and console().width < WIDE
        shown = [name for name in columns if not (narrow and name in wide)]
        _show_table(list(rows), shown, title, whole)


def write_json(row: Row) -> None:
    """Write one object as a line, at once: a reader may be waiting for it."""
    sys.stdout.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def safe(text: str) -> str:
    """Return the text with everything escaped that a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _show_table(
    rows: list[Row], columns: Sequence[str], title: str, whole: Collection[str]
) -> None:
    table = Table(
        title=title or None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in columns:
        numbers = bool(rows) and all(isinstance(row[name], int | float) for row in rows)
        right = numbers and not any(isinstance(row[name], bool) for row in rows)
        table.add_column(
            name, justify="right" if right else "left", overflow="fold", no_wrap=name in whole
        )
    for row in rows:
        table.add_row(*(Text(safe(_cell(row[name]))) for name in columns))
    # Where nobody looks at a terminal, a folded cell is worse than a long line.
    width = None if sys.stdout.isatty() else 10_000
    emit(console(width=width), table)


def _cell(value: Any) -> str:
    if value is None or value in ("", []):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
