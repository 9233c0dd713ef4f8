"""`limes doctor`: what the sensor can see on this host, and what not."""

from typing import Annotated

import typer
from limes.cli import options
from limes.cli.commands import NO, OK, command
from limes.cli.output import Form


def declare(app: typer.Typer) -> None:
    """Add the command to `limes`."""
    command(app, "doctor", "limes doctor --json")(doctor)


def doctor(
    plan: options.Plan = None,
    loader: options.Loader = None,
    syscall_hooks: Annotated[
        bool,
        typer.Option("--syscall-hooks", help="Try the hooks that slow every system call, too."),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Say what the sensor can see on this host, and what not.

    Tries each kernel hook by attaching it for a moment, scoped to an empty cgroup of its own that
    is removed at once; nothing is recorded. Without root it says what it could not try. Exit code
    1 when a signal is not seen, or could not be tried.
    """
    from limes.cli.examine import examine
    from limes.cli.show.doctor import show_findings

    findings = examine(plan=plan, loader=loader, syscall_hooks=syscall_hooks)
    show_findings(findings, Form.of(as_json=as_json, as_csv=False))
    raise typer.Exit(OK if findings.sees_all else NO)
