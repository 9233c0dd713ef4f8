"""`limes rules`: the rules that are loaded, and the proof that they work."""

from pathlib import Path
from typing import Annotated

import typer
from limes.cli import options
from limes.cli.commands import NO, OK, command, group
from limes.cli.output import Form

app = group("rules", "Read, check and prove rules.")

Packs = Annotated[
    list[Path] | None,
    typer.Option("--pack", help="Folder of a pack; repeatable. Default: those that come along."),
]


@command(app, "list", "limes rules list")
def list_(
    packs: Packs = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
) -> None:
    """List the rules of packs with severity and ATT&CK techniques."""
    form = Form.of(as_json=as_json, as_csv=as_csv)
    from limes.cli.show.rules import show_list

    show_list(packs, form)


@command(app, "test", "limes rules test cloud_metadata_access")
def test_(
    names: Annotated[list[str] | None, typer.Argument(help="Rules. Default: all.")] = None,
    packs: Packs = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
) -> None:
    """Run the cases of rules through the real engine, each in several orders of arrival.

    Exit code 1 when a case fails.
    """
    form = Form.of(as_json=as_json, as_csv=as_csv)
    from limes.cli.show.rules import show_test

    raise typer.Exit(OK if show_test(packs, names or (), form) else NO)
