"""`limes status`: how the control plane, its sensors and its rules are."""

import typer
from limes.cli import options
from limes.cli.commands import OK, command
from limes.cli.output import Form


def declare(app: typer.Typer) -> None:
    """Add the command to `limes`."""
    command(app, "status", "limes status --json")(status)


def status(
    as_json: options.AsJson = False,
    state: options.State = options.DEFAULT_STATE,
    control: options.Control = None,
    ca: options.Ca = None,
    certificate: options.Certificate = None,
    key: options.Key = None,
) -> None:
    """Show how the control plane, its sensors and its rules are."""
    from limes.cli.connect import client
    from limes.cli.show.status import show_status

    with client(state, control, ca=ca, certificate=certificate, key=key) as connection:
        show_status(connection.status(), Form.of(as_json=as_json, as_csv=False))
    raise typer.Exit(OK)
