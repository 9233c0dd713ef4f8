"""Owns how the answer to a hunt is shown; the forms themselves are the control plane's.

Invariant: what the rows were read from, and what a limit cut, is said beside them.
"""

import sys

from limes.cli.output import Form, console, emit, note
from limes.control.hunt.output import notes, rich_table, write_csv, write_json
from limes.control.hunt.result import HuntResult


def show_answer(answer: HuntResult, form: Form) -> None:
    """Show the rows on standard output, and the notes on standard error."""
    if form is Form.JSON:
        write_json(answer.table, sys.stdout)
    elif form is Form.CSV:
        write_csv(answer.table, sys.stdout)
    else:
        width = None if sys.stdout.isatty() else 10_000
        emit(console(width=width), rich_table(answer.table))
    sys.stdout.flush()
    for text in notes(answer):
        note(text)
