"""`limes rules`: the rules that are loaded, and the proof that they work."""

from typing import Annotated

import typer
from limes.cli import options
from limes.cli.commands import NO, OK, command, group
from limes.cli.output import Form

app = group("rules", "Read, check and prove rules.")


@command(app, "list", "limes rules list")
def list_(
    packs: options.Packs = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
) -> None:
    """List the rules of packs with severity and ATT&CK techniques."""
    form = Form.of(as_json=as_json, as_csv=as_csv)
    from limes.cli.show.rules import show_list

    show_list(packs, form)


@command(app, "lint", "limes rules lint --json")
def lint(
    packs: options.Packs = None,
    lock: Annotated[
        bool, typer.Option("--lock", help="Write versions.lock first, for what is there now.")
    ] = False,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
) -> None:
    """Check packs: words, ids, columns, cases, versions.

    Every issue of every rule is shown with file and line. Exit code 1 when there is one.
    """
    form = Form.of(as_json=as_json, as_csv=as_csv)
    from limes.cli.show.rules import show_lint

    raise typer.Exit(OK if show_lint(packs, form, lock=lock) else NO)


@command(app, "test", "limes rules test cloud_metadata_access")
def test_(
    names: Annotated[list[str] | None, typer.Argument(metavar="RULE", help="Default: all.")] = None,
    packs: options.Packs = None,
    as_json: options.AsJson = False,
    as_csv: options.AsCsv = False,
) -> None:
    """Run the cases of rules through the real engine.

    Each case runs in several orders of arrival, on an empty database with the real schema. Exit
    code 1 when a case fails.
    """
    form = Form.of(as_json=as_json, as_csv=as_csv)
    from limes.cli.show.rules import show_test

    raise typer.Exit(OK if show_test(packs, names or (), form) else NO)
