"""`limes replay`: a recording, fed through the real sensor and control plane."""

from pathlib import Path
from typing import Annotated

import typer
from limes.cli import options
from limes.cli.commands import command


def declare(app: typer.Typer) -> None:
    """Add the command to `limes`."""
    command(app, "replay", "limes replay drill.limesrec --policy drill-policy.toml")(replay)


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Recording, as `--record` writes it.")
    ],
    policy: options.Policy = None,
    as_json: options.AsJson = False,
    state: options.State = options.DEFAULT_STATE,
) -> None:
    """Play a recording through sensor and control plane.

    Needs neither root nor BPF: the records are those that a kernel gave when it was recorded,
    everything after them is real. On a terminal it stays up until Ctrl-C, to be asked.
    """
    from limes.cli.live import run
    from limes.cli.live.session import SensorOptions

    raise typer.Exit(
        run.replay(
            run.UpOptions(
                state=state,
                listen=None,
                policy=policy,
                sensor=SensorOptions(replay=file),
                drill=False,
                seed=None,
                as_json=as_json,
            )
        )
    )
