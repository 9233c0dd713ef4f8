"""`limes up`: control plane and sensor on one machine, in one go; with a drill if wanted."""

from pathlib import Path
from typing import Annotated

import typer
from limes.cli import options
from limes.cli.commands import command
from limes.cli.errors import UsageError


def declare(app: typer.Typer) -> None:
    """Add the command to `limes`."""
    command(app, "up", "limes up --drill --state ./state")(up)


def up(
    drill: Annotated[
        bool, typer.Option("--drill", help="Play the modelled incident and judge what was seen.")
    ] = False,
    scope: options.Scope = None,
    policy: options.Policy = None,
    packs: options.Packs = None,
    plan: options.Plan = None,
    loader: options.Loader = None,
    syscall_hooks: options.SyscallHooks = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            callback=options.address,
            help="Default: 127.0.0.1:7443, or a free port.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Play the drill of this seed again.")
    ] = None,
    record: options.Record = None,
    as_json: options.AsJson = False,
    state: options.State = options.DEFAULT_STATE,
) -> None:
    """Run control plane and sensor on this machine, in one go.

    Two processes, mutual TLS between them, one DuckDB file; the first start makes certificates.
    What is recorded must be said: --scope /system.slice, or --scope / for the whole host. With
    --drill it is the drill's own cgroup; the exit code is then 1 unless exactly the expected alerts
    came, and 3 when a rule cannot run. On a terminal it stays up until Ctrl-C.
    """
    _check(drill=drill, scope=scope, policy=policy, seed=seed, state=state)
    from limes.cli.live import run
    from limes.cli.live.session import SensorOptions
    from limes.sensor.config import load_config
    from limes.sensor.errors import ConfigError

    if scope:
        hooks = {"scope": scope, "syscall_hooks": syscall_hooks}
        options.configured(load_config, ConfigError, None, hooks)
    sensor = SensorOptions(
        scope=tuple(scope or ()),
        plan=plan,
        loader=loader,
        syscall_hooks=syscall_hooks,
        record=record,
    )
    raise typer.Exit(
        run.up(
            run.UpOptions(
                state=state,
                listen=listen,
                policy=policy,
                packs=tuple(packs or ()),
                sensor=sensor,
                drill=drill,
                seed=seed,
                as_json=as_json,
            )
        )
    )


def _check(
    *,
    drill: bool,
    scope: list[str] | None,
    policy: Path | None,
    seed: int | None,
    state: Path,
) -> None:
    if drill and policy:
        raise UsageError("Got --drill and --policy: the drill brings a policy that fits it.")
    if drill:
        options.drill_folder(state)
    if not drill and seed is not None:
        raise UsageError("Got --seed without --drill: only a drill has one.")
    if not drill and not scope:
        raise UsageError(
            "What to record was not said: give --scope CGROUP (repeatable), --scope / for the "
            "whole host, or --drill."
        )
