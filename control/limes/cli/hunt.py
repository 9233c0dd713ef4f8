"""`limes hunt`: one SELECT over what the sensors saw."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from limes.cli import options
from limes.cli.commands import command
from limes.cli.errors import UsageError
from limes.cli.output import Form, working
from limes.cli.reach import Reach, reaching

Sql = Annotated[
    str | None, typer.Argument(metavar="SQL", help="One SELECT over the views of schema hunt.")
]
File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="Read the SELECT from here; - is standard input."),
]
Rows = Annotated[
    int,
    typer.Option(
        "--rows", metavar="N", min=0, show_default=False, help="Most rows. Default: the server's."
    ),
]
Timeout = Annotated[
    int,
    typer.Option(
        "--timeout", metavar="S", min=0, show_default=False, help="Default: the server's, its most."
    ),
]
MaxAge = Annotated[
    int | None,
    typer.Option("--max-age", metavar="S", min=0, help="Age of a snapshot that will do."),
]

EXAMPLE = "limes hunt 'SELECT process_executable, count(*) FROM hunt.process_execs GROUP BY ALL'"


def declare(app: typer.Typer) -> None:
    """Add the command to `limes`."""
    command(app, "hunt", EXAMPLE)(reaching(hunt))


def hunt(
    sql: Sql = None,
    file: File = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
    rows: Rows = 0,
    timeout: Timeout = 0,
    max_age: MaxAge = None,
    *,
    reach: Reach,
) -> None:
    """Ask in SQL what happened on every host.

    Processes, connections, GPU use and alerts are the views of docs/events.md. It runs in a
    locked-down process on the server, on a snapshot whose age is said, within limits that are named
    when they cut.
    """
    form = Form.of(as_json=as_json, as_csv=as_csv)
    question = _question(sql, file)
    from limes.cli.show.hunts import show_answer

    with (
        reach.client() as connection,
        working("Hunting"),
    ):
        answer = connection.hunt(
            question, timeout_seconds=timeout, max_rows=rows, max_age_seconds=max_age
        )
    show_answer(answer, form)


def _question(sql: str | None, file: Path | None) -> str:
    if (sql is None) == (file is None):
        raise UsageError("A hunt needs its SELECT once: as the argument, or with --file.")
    text = sql or "" if file is None else _read(file)
    if not text.strip():
        raise UsageError("The hunt is empty: ask one SELECT, such as 'SHOW ALL TABLES'.")
    return text


def _read(file: Path) -> str:
    if str(file) == "-":
        return sys.stdin.read()
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"Cannot read the hunt {file}: {reason}. Name a file of SQL.") from error
