"""Owns the options that commands share, so that each means the same everywhere.

Invariant: an option's help is one line; its default is stated where it is not evident.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import typer
from limes.cli.errors import UsageError

DEFAULT_STATE: Final = Path("/var/lib/limes")
DEFAULT_ADDRESS: Final = "127.0.0.1:7443"

Settings = TypeVar("Settings")

_MAX_PORT: Final = 65535
_MAX_NAME: Final = 64  # of a certificate's common name
_NAMED: Final = re.compile(r"[0-9A-Za-z_.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_HOST: Final = re.compile(r"\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_.-]+")


def address(text: str | None) -> str | None:
    """Check that it is a host and a port."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not _HOST.fullmatch(host) or not port.isdecimal() or int(port) > _MAX_PORT:
        raise typer.BadParameter(
            f"{text!r} is not of the form HOST:PORT, such as {DEFAULT_ADDRESS}."
        )
    return text


def cgroups(paths: list[str] | None) -> list[str] | None:
    """Check that each is the path of a cgroup; whether there is one, the sensor looks."""
    for path in paths or ():
        if not path.startswith("/") or ".." in path.split("/"):
            raise typer.BadParameter(
                f"{path!r} is no cgroup path: write it from the cgroup v2 root on, such as "
                "/system.slice, or / for the whole host."
            )
    return paths


def name(text: str | None) -> str | None:
    """Check that it can name a certificate and its files."""
    if text is not None and (not 0 < len(text) <= _MAX_NAME or "/" in text or text[0] == "."):
        raise typer.BadParameter(
            f"{text!r} names files: give 1 to {_MAX_NAME} characters without '/', and no dot first."
        )
    return text


def hosts(names: list[str] | None) -> list[str] | None:
    """Check that each is a name or an address, as a certificate can have."""
    for each in names or ():
        if not _NAMED.fullmatch(each):
            raise typer.BadParameter(f"{each!r} is neither a host name nor an address.")
    return names


def new_file(path: Path | None) -> Path | None:
    """Check that there is a folder for it."""
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"There is no folder {str(path.parent)!r} to write it to.")
    return path


def drill_folder(path: Path | None) -> Path | None:
    """Check that device nodes work there, and that the drill's sshd sees it."""
    if path is not None and path.resolve().is_relative_to("/run"):
        raise UsageError(
            f"A drill cannot keep its files in {path}: /run holds no device nodes and is hidden "
            "from its sshd. Choose another directory."
        )
    return path


def configured(
    load: Callable[[Path | None, Mapping[str, object]], Settings],
    fault: type[Exception],
    config: Path | None,
    flags: Mapping[str, object],
) -> Settings:
    """Load a configuration; raises UsageError when the flags are to blame, else `fault`."""
    try:
        return load(config, flags)
    except fault as error:
        load(config, {})  # at fault already without them: file or environment
        raise UsageError(str(error)) from error


State = Annotated[
    Path,
    typer.Option(
        "--state",
        metavar="DIR",
        envvar="LIMES_STATE",
        file_okay=False,
        help="Directory of certificates and data.",
    ),
]
Control = Annotated[
    str | None,
    typer.Option(
        "--control",
        metavar="HOST:PORT",
        envvar="LIMES_CONTROL",
        callback=address,
        help=f"Control plane. Default: the one of --state, else {DEFAULT_ADDRESS}.",
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="CA certificate. Default: ca/ca.crt in --state.",
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Own certificate. Default: certs/admin.crt in --state.",
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Its key. Default: beside the certificate.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="TOML file with further settings.",
    ),
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option(
        "--log-level", metavar="LEVEL", help="debug, info, warning or error. Default: info."
    ),
]
Policy = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Which cgroups are jobs, and what they may do.",
    ),
]
Scope = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="CGROUP",
        callback=cgroups,
        help="What to record, with all below it; repeatable; / is the host.",
    ),
]
Plan = Annotated[
    Literal["auto", "fentry", "tracepoint"] | None,
    typer.Option("--plan", metavar="PLAN", help="Kernel hooks: auto, fentry or tracepoint."),
]
Loader = Annotated[
    Literal["auto", "libbpf", "bcc"] | None,
    typer.Option("--loader", metavar="LOADER", help="auto, libbpf or bcc."),
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
        exists=True,
        file_okay=False,
        help="Folder of a rule pack; repeatable. Default: those that come along.",
    ),
]
Record = Annotated[
    Path | None,
    typer.Option(
        "--record",
        metavar="FILE",
        dir_okay=False,
        callback=new_file,
        help="Record the kernel's records into this file.",
    ),
]
DaemonState = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        file_okay=False,
        help=f"State directory. Default: {DEFAULT_STATE}.",
    ),
]
