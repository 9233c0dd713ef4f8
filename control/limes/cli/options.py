"""Owns the options that commands share, so that each means the same everywhere.

Invariant: an option's help is one line; its default is stated where it is not evident.
"""

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_STATE: Final = Path("/var/lib/limes")
DEFAULT_ADDRESS: Final = "127.0.0.1:7443"

State = Annotated[
    Path,
    typer.Option(
        "--state", metavar="DIR", envvar="LIMES_STATE", help="Directory of certificates and data."
    ),
]
Control = Annotated[
    str | None,
    typer.Option(
        "--control",
        metavar="HOST:PORT",
        envvar="LIMES_CONTROL",
        help=f"Control plane. Default: the one of --state, else {DEFAULT_ADDRESS}.",
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option("--ca", metavar="FILE", help="CA certificate. Default: ca/ca.crt in --state."),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        metavar="FILE",
        help="Own certificate. Default: certs/admin.crt in --state.",
    ),
]
Key = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="Its key. Default: beside the certificate."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file with further settings.")
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level", metavar="LEVEL", help="debug, info, warning or error. Default: info."
    ),
]
Policy = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", help="Which cgroups are jobs, and what they may do."),
]
Scope = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="CGROUP",
        help="What to record, with all below it; repeatable; / is the host.",
    ),
]
Plan = Annotated[
    str | None,
    typer.Option("--plan", metavar="PLAN", help="Kernel hooks: auto, fentry or tracepoint."),
]
Loader = Annotated[
    str | None, typer.Option("--loader", metavar="LOADER", help="auto, libbpf or bcc.")
]
SyscallHooks = Annotated[
    bool | None,
    typer.Option(
        "--syscall-hooks/--no-syscall-hooks",
        help="Allow hooks on every system call, where GPU calls are seen by no other.",
    ),
]
Packs = Annotated[
    list[Path] | None,
    typer.Option(
        "--pack",
        metavar="DIR",
        help="Folder of a rule pack; repeatable. Default: those that come along.",
    ),
]
Record = Annotated[
    Path | None,
    typer.Option("--record", metavar="FILE", help="Record the kernel's records into this file."),
]
DaemonState = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help=f"State directory. Default: {DEFAULT_STATE}."),
]
