"""The command `limes`: all groups under one name, and the edge where errors become exit codes.

Invariant: exit 0 fine, 1 the answer is "no", 2 wrong usage, 3 cannot run; `--debug` shows why.
"""

import os
import sys
from importlib import metadata
from typing import Annotated, Final

import typer
from limes.cli import (
    alerts,
    ca,
    control,
    doctor,
    drill,
    events,
    hunt,
    replay,
    rules,
    sensor,
    status,
    up,
)
from limes.cli.commands import USAGE
from limes.cli.errors import explain
from typer._click.exceptions import NoArgsIsHelpError  # typer has no public name for it

PARENT_VARIABLE: Final = "LIMES_PARENT"
"""Set by `limes up` for its children: they end when the process of this number does."""

app = typer.Typer(
    name="",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 fine, 1 the answer is no, 2 wrong usage, 3 cannot run.",
)
for module in (alerts, ca, control, rules, sensor):
    app.add_typer(module.app)
for module in (up, status, events, hunt, drill, replay, doctor):
    module.declare(app)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"limes {metadata.version('limes')}\n")
        raise typer.Exit


@app.callback()
def top(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """See which cgroup, program and process tree does what on a host, and ask about it in SQL."""
    del version
    if debug:
        os.environ["LIMES_DEBUG"] = "1"


def run() -> None:
    """Run the command line and exit with its code."""
    _end_with_parent()
    # gRPC's C part has lines of its own for what reaches us as an error anyway.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        sys.exit(app(prog_name="limes", standalone_mode=False))
    except NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        sys.exit(USAGE)
    except Exception as error:
        told = None if os.environ.get("LIMES_DEBUG") else explain(error)
        if told is None:
            raise
        sys.stderr.write(f"limes: {told[0]}\n")
        sys.exit(told[1])


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent that started this as its child dies."""
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if not parent:
        return
    from limes.cli.live.parent import end_with  # only children pay for ctypes

    end_with(int(parent))


if __name__ == "__main__":
    run()
