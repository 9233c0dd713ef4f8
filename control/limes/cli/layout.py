"""Owns how rows of text are laid out in a width: as a table, or each row as a record of its own.

Invariant: every character of every cell is there, and no line is wider than the width allows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

SHORT: Final = 28  # characters that are never folded: a time, an address with its port, a job
READABLE: Final = 24  # characters that a folded column needs, to be read at all
_GAP: Final = 2  # between columns
_EDGES: Final = 2  # left and right of a table


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's name and cells. Folded, it needs `least` characters; 0 is never folded."""

    name: str
    cells: Sequence[str]
    right: bool = False
    least: int | None = None

    @property
    def width(self) -> int:
        """Return how wide it is when nothing is folded."""
        return max(map(cell_len, (self.name, *self.cells)))

    @property
    def whole(self) -> bool:
        """Return whether it is never folded."""
        return self.width <= SHORT if self.least is None else self.least == 0

    @property
    def needed(self) -> int:
        """Return how wide it must be at least."""
        return self.width if self.whole else min(self.width, self.least or READABLE)


def arranged(columns: Sequence[Column], width: int) -> RenderableType:
    """Return a table where one can be read in that width, else a record a row."""
    rows = len(columns[0].cells) if columns else 0
    if not rows or len(columns) == 1 or fits(columns, width):
        return table(columns, fold_all=not fits(columns, width))
    return Group(*_records(columns, rows))


def fits(columns: Sequence[Column], width: int) -> bool:
    """Return whether a table of the columns can be read in that width."""
    gaps = _GAP * (len(columns) - 1) + _EDGES
    return sum(column.needed for column in columns) + gaps <= width


def table(columns: Sequence[Column], *, fold_all: bool = False) -> Table:
    """Return a table; numbers to the right."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        shown.add_column(
            Text(column.name),
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=column.whole and not fold_all,
            min_width=None if fold_all else column.needed,
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        shown.add_row(*map(Text, row))
    return shown


def _records(columns: Sequence[Column], rows: int) -> Iterator[RenderableType]:
    """Yield of each row its number and, a line each, name and value of its columns."""
    names = max(cell_len(column.name) for column in columns)
    for row in range(rows):
        yield Rule(Text(f"{row + 1} of {rows}", "bold"), align="left", style="dim")
        record = Table.grid(padding=(0, 2, 0, 0))
        record.add_column(min_width=min(names, SHORT), max_width=SHORT, overflow="fold")
        record.add_column(overflow="fold")
        for column in columns:
            record.add_row(Text(column.name, "dim"), Text(column.cells[row]))
        yield record
