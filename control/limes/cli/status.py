"""`limes status`: how the control plane, its sensors and its rules are."""

import typer
from limes.cli import options
from limes.cli.commands import OK, command
from limes.cli.output import Form
from limes.cli.reach import Reach, reaching


def declare(app: typer.Typer) -> None:
    """Add the command to `limes`."""
    command(app, "status", "limes status --json")(reaching(status))


def status(
    as_json: options.AsJson = False,
    *,
    reach: Reach,
) -> None:
    """Show how the control plane, its sensors and its rules are."""
    from limes.cli.show.status import show_status

    with reach.client() as connection:
        show_status(connection.status(), Form.of(as_json=as_json, as_csv=False))
    raise typer.Exit(OK)
