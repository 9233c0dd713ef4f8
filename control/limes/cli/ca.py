"""`limes ca`: the private certificate authority of one installation."""

import shutil
import socket
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from limes.cli import options
from limes.cli.commands import command, group
from limes.cli.errors import UsageError
from limes.cli.output import note

if TYPE_CHECKING:
    from limes.control.ca import Files

app = group("ca", "Make the certificate authority, and certificates.")


class Role(StrEnum):
    """What a certificate allows."""

    sensor = "sensor"
    analyst = "analyst"
    control = "control"


@command(app, "init", "limes ca init --state ./state")
def init(state: options.State = options.DEFAULT_STATE) -> None:
    """Make the private certificate authority of an installation.

    Its key stays in the state directory, readable by its owner only: whoever has it can name
    sensors and analysts.
    """
    from limes.control import ca

    made = ca.init(state)
    note(f"Made a certificate authority. Its key never leaves this host: {made.key}")
    typer.echo(made.certificate)


@command(app, "issue", "limes ca issue --role sensor --name gpu-07 --out ./gpu-07")
def issue(
    role: Annotated[
        Role, typer.Option("--role", metavar="ROLE", help="sensor, analyst or control.")
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            callback=options.name,
            help="Host id of a sensor, or name of an analyst.",
        ),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="HOST",
            callback=options.hosts,
            help="Name or address of a control plane; repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            file_okay=False,
            help="Lay the files out here as a state directory for another host.",
        ),
    ] = None,
    days: Annotated[
        int, typer.Option("--days", metavar="N", min=1, max=36_500, help="How long it is valid.")
    ] = 365,
    state: options.State = options.DEFAULT_STATE,
) -> None:
    """Issue a certificate for a sensor, an analyst or a control plane.

    With --out, the directory gets ca/ca.crt and certs/NAME.crt and .key: copy it to the other host
    as its state directory. Without --name: this host, "admin" or "control", by role.
    """
    if host and role is not Role.control:
        raise UsageError("Got --host without --role control: only that certificate has addresses.")
    from limes.control import ca

    chosen = (
        name
        or {
            Role.sensor: socket.gethostname(),
            Role.analyst: "admin",
            Role.control: "control",
        }[role]
    )
    made = ca.issue(state, chosen, role.value, hosts=host or (), days=days)
    if out is not None:
        made = _lay_out(state, out, made.certificate, made.key)
    note(f"Issued a certificate with role {role.value} for {chosen}, valid for {days} days.")
    typer.echo(made.certificate)


def _lay_out(state: Path, out: Path, certificate: Path, key: Path) -> "Files":
    """Move the pair into `out`, with the authority's certificate: a state directory to copy."""
    from limes.control import ca
    from limes.control.errors import CertificateError

    authority, there = ca.ca_files(out).certificate, ca.files(out, certificate.stem)
    try:
        for directory in (authority.parent, there.key.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(ca.ca_files(state).certificate, authority)
        shutil.move(key, there.key)
        shutil.move(certificate, there.certificate)
    except OSError as error:
        raise CertificateError(
            f"Cannot lay the certificate out in {out}: {error.strerror}. Choose another --out."
        ) from error
    return there
