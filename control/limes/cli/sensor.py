"""`limes sensor run`: the daemon that watches the kernel and sends events."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from limes.cli import options
from limes.cli.commands import command, group
from limes.cli.errors import UsageError

if TYPE_CHECKING:
    from limes.sensor.config import SensorConfig

app = group("sensor", "Run the sensor.")


@command(app, "run", "limes sensor run --control 10.0.0.5:7443 --scope /slurm --host-id gpu-07")
def run(
    config: options.Config = None,
    state: options.DaemonState = None,
    control: Annotated[
        str | None,
        typer.Option(
            "--control", metavar="HOST:PORT", callback=options.address, help="Control plane."
        ),
    ] = None,
    host_id: Annotated[
        str | None,
        typer.Option(
            "--host-id",
            metavar="NAME",
            callback=options.name,
            help="As in the certificate. Default: the host name.",
        ),
    ] = None,
    scope: options.Scope = None,
    plan: options.Plan = None,
    loader: options.Loader = None,
    syscall_hooks: options.SyscallHooks = None,
    record: options.Record = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            "--replay",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Play a recording instead of the kernel.",
        ),
    ] = None,
    log_level: options.LogLevel = None,
) -> None:
    """Watch this host's kernel and send what happens to the control plane.

    Runs until SIGTERM or Ctrl-C, and leaves nothing in the kernel. Needs root, or CAP_BPF,
    CAP_PERFMON and CAP_NET_ADMIN. Every setting is documented in sensor.example.toml; flags win.
    """
    if replay and loader:
        raise UsageError("Got --replay and --loader: a recording needs no loader.")
    from limes.sensor.config import load_config
    from limes.sensor.errors import ConfigError
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
    # A mistake is told here, as every command tells it.
    check(options.configured(load_config, ConfigError, config, settings))
    replace_process(config, settings)


def check(config: "SensorConfig") -> None:
    """Raise CertificateError when the certificate cannot be this sensor's: no server would say why.

    TLS 1.3 ends the connection of a client whose certificate it does not like without a word.
    """
    from limes.control import ca
    from limes.control.errors import CertificateError
    from limes.control.roles import SENSOR, identity_of

    path = config.certificate_path
    found = identity_of(ca.check(path, config.key_path, config.ca_path, SENSOR))
    if found.name != config.host:
        raise CertificateError(
            f"Cannot use {path}: it names the host {found.name!r}, and this is {config.host!r}. "
            f"Give --host-id {found.name}, or issue one with `limes ca issue`."
        )
