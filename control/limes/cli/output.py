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
from limes.cli.layout import Column, arranged, fits
from rich.console import Console, RenderableType

PLAIN_WIDTH: Final = 100  # columns, where there is no terminal to ask
NOTHING: Final = "-"
NO_LEAST: Final[Mapping[str, int]] = {}

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
    wide: Collection[str] = (),
    least: Mapping[str, int] = NO_LEAST,
) -> None:
    """Write the columns of the rows to standard output.

    A terminal that is too narrow for a table of them all leaves the `wide` ones out, when that is
    enough. `least` is of some the width that they need when folded; 0 is never folded.
    """
    if form is Form.JSON:
        for row in rows:
            write_json({name: row[name] for name in columns})
    elif form is Form.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_plain(row[name]) for name in columns] for row in rows)
    else:
        _show_table(list(rows), columns, wide, least)


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


def table_width() -> int | None:
    """Return how wide a table may be; None is the terminal's width.

    Where nobody looks at a terminal, a folded cell is worse than a long line.
    """
    return None if sys.stdout.isatty() else 10_000


def _show_table(
    rows: list[Row], names: Sequence[str], wide: Collection[str], least: Mapping[str, int]
) -> None:
    columns = [
        Column(
            name=name,
            cells=[safe(_cell(row[name])) for row in rows],
            right=bool(rows) and all(_is_number(row[name]) for row in rows),
            least=least.get(name),
        )
        for name in names
    ]
    screen = console(width=table_width())
    narrow = [column for column in columns if column.name not in wide]
    if not fits(columns, screen.width) and fits(narrow, screen.width):
        columns = narrow
    emit(screen, arranged(columns, screen.width))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None or value in ("", []):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
