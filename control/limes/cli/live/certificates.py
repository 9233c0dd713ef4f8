"""Owns what `limes up` makes on first start: a private authority and the three certificates.

Invariant: what is there and good is used as it is; a certificate that expired is issued anew, an
authority never is.
"""

import socket
from pathlib import Path

from limes.cli.errors import CommandError
from limes.control import ca
from limes.control.errors import CertificateError

ADMIN = "admin"
CONTROL = "control"


def prepare(state: Path) -> None:
    """Make sure of the authority, and of the certificates of control plane and analyst."""
    if not ca.ca_files(state).certificate.exists():
        ca.init(state)
    _ensure(state, CONTROL, "control")
    _ensure(state, ADMIN, "analyst")


def prepare_sensor(state: Path, host_id: str = "") -> None:
    """Make sure of the certificate of a sensor; without an id, that of this host."""
    name = host_id or socket.gethostname()
    if name in (CONTROL, ADMIN):
        raise CommandError(
            f"Cannot name the sensor's certificate {name!r}: the state directory has that name for "
            "another. Rename the host, or run the parts with --host-id."
        )
    _ensure(state, name, "sensor")


def _ensure(state: Path, name: str, role: str) -> None:
    files = ca.files(state, name)
    try:
        ca.check(files.certificate, files.key, ca.ca_files(state).certificate, role)
    except CertificateError:
        ca.issue(state, name, role)
