"""Owns how a command reaches the control plane: address and certificates from options and state.

Invariant: what is not given follows from the state directory, where `limes up` keeps it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limes.cli.options import DEFAULT_ADDRESS
from limes.control.client import ControlClient


def address_file(state: Path) -> Path:
    """Return where `limes up` notes the address it serves at."""
    return state / "control/address"


def address(state: Path, given: str | None) -> str:
    """Return the control plane's address: as given, else as noted, else the default."""
    if given:
        return given
    try:
        return address_file(state).read_text().strip() or DEFAULT_ADDRESS
    except OSError:
        return DEFAULT_ADDRESS


def client(
    state: Path,
    control: str | None = None,
    *,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> ControlClient:
    """Return a client with an analyst's certificate. Raises CertificateError."""
    certificate = certificate or state / "certs/admin.crt"
    return ControlClient(
        address(state, control),
        ca or state / "ca/ca.crt",
        certificate,
        key or certificate.with_suffix(".key"),
    )


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Take Ctrl-C for the end of following something, which is no fault."""
    try:
        yield
    except KeyboardInterrupt:
        return
