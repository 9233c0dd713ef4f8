"""`limes events`: events as the control plane commits them."""

from typing import Annotated

import typer
from limes.cli import options
from limes.cli.commands import command
from limes.cli.errors import UsageError
from limes.cli.output import Form
from limes.cli.reach import Reach, reaching


def declare(app: typer.Typer) -> None:
    """Add the command to `limes`."""
    command(app, "events", "limes events --kind connections --json")(reaching(events))


def events(
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only this kind (docs/events.md); repeatable."),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "--count",
            metavar="N",
            min=0,
            show_default=False,
            help="End after so many; 0: never.",
        ),
    ] = 0,
    as_json: options.AsJson = False,
    *,
    reach: Reach,
) -> None:
    """Show events as they are committed, from now on.

    One line an event for people; with --json every column. For what was before, use `limes hunt`.
    """
    form = Form.of(as_json=as_json, as_csv=False)
    from limes.cli.connect import until_interrupted
    from limes.cli.show.events import follow
    from limes.v1 import schema

    unknown = sorted(set(kind or ()) - set(schema.KINDS))
    if unknown:
        raise UsageError(
            f"There is no kind {', '.join(unknown)}. Kinds: {', '.join(schema.KINDS)}."
        )
    with (
        until_interrupted(),
        reach.client() as connection,
    ):
        follow(connection.tail(kind or ()), form, count)
