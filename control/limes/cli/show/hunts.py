"""Owns how the answer to a hunt is shown; the forms themselves are the control plane's.

Invariant: what the rows were read from, and what a limit cut, is said beside them.
"""

import sys

import pyarrow as pa
from limes.cli.layout import Column, arranged
from limes.cli.output import Form, console, emit, note, table_width
from limes.control.hunt.output import cells, is_number, notes, safe, write_csv, write_json
from limes.control.hunt.result import HuntResult


def show_answer(answer: HuntResult, form: Form) -> None:
    """Show the rows on standard output, and the notes on standard error."""
    if form is Form.JSON:
        write_json(answer.table, sys.stdout)
    elif form is Form.CSV:
        write_csv(answer.table, sys.stdout)
    else:
        screen = console(width=table_width())
        emit(screen, arranged(columns(answer.table), screen.width))
    sys.stdout.flush()
    for text in notes(answer):
        note(text)


def columns(table: pa.Table) -> list[Column]:
    """Return the columns of an answer as text."""
    return [
        Column(name=safe(field.name), cells=column, right=is_number(field.type))
        for field, column in zip(table.schema, cells(table), strict=True)
    ]
