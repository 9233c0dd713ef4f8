"""`limes control serve`: the daemon that stores events, runs rules and answers hunts."""

from typing import Annotated

import typer
from limes.cli import options
from limes.cli.commands import command, group

app = group("control", "Run the control plane.")


@command(app, "serve", "limes control serve --listen 10.0.0.5:7443 --policy policy.toml")
def serve(
    config: options.Config = None,
    state: options.DaemonState = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            callback=options.address,
            help="Where to serve; port 0 takes a free one.",
        ),
    ] = None,
    policy: options.Policy = None,
    packs: options.Packs = None,
    log_level: options.LogLevel = None,
) -> None:
    """Store what sensors send, run rules on it and answer hunts.

    Runs until SIGTERM or Ctrl-C. Certificates are made by `limes ca`. Every setting is documented
    in control.example.toml; flags win over the file.
    """
    from limes.control.config import load_config
    from limes.control.errors import ConfigError
    from limes.control.serve import serve as run

    settings = {
        "state": state,
        "listen": listen,
        "policy": policy,
        "packs": [str(pack) for pack in packs] if packs else None,
        "log_level": log_level,
    }
    raise typer.Exit(run(options.configured(load_config, ConfigError, config, settings)))
