"""`limes sensor run`: the daemon that watches the kernel and sends events."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from limes.cli import options
from limes.cli.commands import command, group

app = group("sensor", "Run the sensor.")


@command(app, "run", "limes sensor run --control 10.0.0.5:7443 --scope /slurm --host-id gpu-07")
def run(
    config: options.Config = None,
    state: options.DaemonState = None,
    control: Annotated[
        str | None, typer.Option("--control", metavar="HOST:PORT", help="Control plane.")
    ] = None,
    host_id: Annotated[
        str | None,
        typer.Option(
            "--host-id", metavar="NAME", help="As in the certificate. Default: the host name."
        ),
    ] = None,
    scope: options.Scope = None,
    plan: options.Plan = None,
    loader: options.Loader = None,
    syscall_hooks: options.SyscallHooks = None,
    record: options.Record = None,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", metavar="FILE", help="Play a recording instead of the kernel."),
    ] = None,
    log_level: options.LogLevel = None,
) -> None:
    """Watch this host's kernel and send what happens to the control plane.

    Runs until SIGTERM or Ctrl-C, and leaves nothing in the kernel. Needs root, or CAP_BPF,
    CAP_PERFMON and CAP_NET_ADMIN. Every setting is documented in sensor.example.toml; flags win.
    """
    from limes.sensor.config import load_config
    from limes.sensor.launch import replace_process

    settings = {
        "state": state,
        "control": control,
        "host_id": host_id,
        "scope": scope or None,
        "plan": plan,
        "loader": "replay" if replay else loader,
        "syscall_hooks": syscall_hooks,
        "record_file": record,
        "replay_file": replay,
        "log_level": log_level,
    }
    for package in ("numpy", "nanoarrow"):
        if find_spec(package) is None:
            raise ModuleNotFoundError(name=package)
    load_config(config, settings)  # a mistake is told here, as every command tells it
    replace_process(config, settings)
