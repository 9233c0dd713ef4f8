"""`limes alerts`: what the rules found."""

import re
from typing import Annotated, Final

import typer
from limes.cli import options
from limes.cli.commands import NO, command, group
from limes.cli.errors import UsageError
from limes.cli.output import Form, note
from limes.cli.reach import Reach, reaching

_ALERT: Final = re.compile(r"0*[1-9][0-9]*|[0-9a-f]{32}")

app = group("alerts", "Read what the rules found.")

After = Annotated[
    int,
    typer.Option(
        "--after",
        metavar="N",
        min=0,
        show_default=False,
        help="Only alerts with a higher number.",
    ),
]


@command(app, "list", "limes alerts list --json")
@reaching
def list_(
    after: After = 0,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Most alerts to show.")
    ] = 1000,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
    *,
    reach: Reach,
) -> None:
    """List alerts in the order in which they were raised."""
    form = Form.of(as_json=as_json, as_csv=as_csv)
    from limes.cli.show.alerts import show_list

    with reach.client() as connection:
        show_list(connection.list_alerts(after_number=after, limit=limit), form)


@command(app, "follow", "limes alerts follow --json")
@reaching
def follow(
    after: After = 0,
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
    """Show each alert as it is raised, after those that there are."""
    form = Form.of(as_json=as_json, as_csv=False)
    from itertools import islice

    from limes.cli.connect import until_interrupted
    from limes.cli.show.alerts import show_alert

    with (
        until_interrupted(),
        reach.client() as connection,
    ):
        for alert in islice(connection.follow_alerts(after_number=after), count or None):
            show_alert(alert, form)


@command(app, "show", "limes alerts show 1")
@reaching
def show(
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="Number of the alert, or its id.")],
    as_json: options.AsJson = False,
    *,
    reach: Reach,
) -> None:
    """Show one alert with its process tree and evidence.

    Exit code 1 when there is no such alert.
    """
    form = Form.of(as_json=as_json, as_csv=False)
    if not _ALERT.fullmatch(alert):
        raise UsageError(
            f"{alert!r} names no alert: give a number from 1 on, or an id of 32 hexadecimal digits."
        )
    from limes.cli.show.alerts import show_alert

    numbered = alert.isdecimal() and len(alert) < 20
    with reach.client() as connection:
        if numbered:
            found = connection.list_alerts(after_number=max(0, int(alert) - 1), limit=1)
            found = [each for each in found if each.number == int(alert)]
        else:
            found = connection.list_alerts(alert_id=alert, limit=1)
    if not found:
        note(f"There is no alert {alert}. `limes alerts list` shows all.")
        raise typer.Exit(NO)
    show_alert(found[0], form)
