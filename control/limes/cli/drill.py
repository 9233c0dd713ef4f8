"""`limes drill`: the modelled incident, played alone."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from limes.cli import options
from limes.cli.commands import command
from limes.cli.output import note

if TYPE_CHECKING:
    from limes.cli.live.stopping import Course
    from limes.drill import Step


def declare(app: typer.Typer) -> None:
    """Add the command to `limes`."""
    command(app, "drill", "limes drill --seed 7 --truth")(drill)


def drill(
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Play the drill of this seed again.")
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            metavar="DIR",
            file_okay=False,
            callback=options.drill_folder,
            help="Where its files lie while it lasts; not in /run.",
        ),
    ] = None,
    truth: Annotated[
        bool, typer.Option("--truth", help="Print what each step did, as JSON lines.")
    ] = False,
) -> None:
    """Play the modelled incident on this host, harmlessly.

    Everything happens in cgroups and network namespaces of its own, and nothing is left behind
    (docs/drill.md). Needs root. Nobody watches: `limes up --drill` plays it under a sensor.
    """
    from limes.cli.live.stopping import Course, stop_by_signals, telling
    from limes.drill import DEFAULT_STATE_DIR, DrillWorld

    stop_by_signals()
    course = Course()
    with (
        telling(course.undone),
        DrillWorld.create(seed=seed, state_dir=state_dir or DEFAULT_STATE_DIR) as world,
    ):
        note(f"cgroup {world.cgroup_path}, seed {world.seed}, policy:\n{world.policy_toml()}")
        course.play(world.step_names())
        for step in world.play(lambda step: _show(course, step)):
            if truth:
                sys.stdout.write(json.dumps({"step": step.name, **step.truth}) + "\n")
        course.played()


def _show(course: "Course", step: "Step") -> None:
    course.step()
    note(f"{step.started_at:%H:%M:%S.%f} {step.name:<15} {step.label}")
