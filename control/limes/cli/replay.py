"""`limes replay`: a recording, fed through the real sensor and control plane."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from limes.cli import options
from limes.cli.commands import command


def declare(app: typer.Typer) -> None:
    """Add the command to `limes`."""
    command(app, "replay", "limes replay --json")(replay)


def replay(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Made by --record. Default: a drill that comes along.",
        ),
    ] = None,
    policy: options.Policy = None,
    packs: options.Packs = None,
    as_json: options.AsJson = False,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="DIR",
            file_okay=False,
            help="Default: a new directory for temporary use.",
        ),
    ] = None,
) -> None:
    """Play a recording through sensor and control plane.

    Needs neither root nor BPF: the records are those that a kernel gave when it was recorded,
    everything after them is real. They come under the host name "replay". On a terminal it stays up
    until Ctrl-C, to be asked. Exit code 3 when a rule cannot run: its alerts could be missing.
    """
    from limes.cli.live import run, sample
    from limes.cli.live.session import SensorOptions

    if file is None:
        file, policy = sample.RECORDING, policy or sample.POLICY
    with ExitStack() as stack:
        if state is None:
            state = Path(stack.enter_context(TemporaryDirectory(prefix="limes-replay-")))
        status = run.replay(
            run.UpOptions(
                state=state,
                listen=None,
                policy=policy,
                packs=tuple(packs or ()),
                sensor=SensorOptions(replay=file, host_id=sample.HOST),
                drill=False,
                seed=None,
                as_json=as_json,
            )
        )
    raise typer.Exit(status)
