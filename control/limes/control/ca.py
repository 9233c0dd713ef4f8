"""The private certificate authority: makes it, and issues certificates for the three roles.

Keys are files of mode 0600; the role is the certificate's OU, its name the CN.
"""

import datetime as dt
import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from limes.control.errors import CertificateError
from limes.control.roles import ANALYST, CONTROL, SENSOR, identity_of

ROLES: Final = (SENSOR, ANALYST, CONTROL)
CA_DAYS: Final = 3650
DAYS: Final = 365
BACKDATE: Final = dt.timedelta(minutes=5)  # hosts whose clocks lag a little must accept it
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
MAX_NAME: Final = 64  # of a common name, by X.520


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where a certificate and its key lie."""

    certificate: Path
    key: Path


def ca_files(state: Path) -> Files:
    return Files(certificate=state / "ca/ca.crt", key=state / "ca/ca.key")


def files(state: Path, name: str) -> Files:
    """Return where the certificate and key of `name` lie under the state directory."""
    return Files(certificate=state / f"certs/{name}.crt", key=state / f"certs/{name}.key")


def init(state: Path, *, days: int = CA_DAYS) -> Files:
    """Make the authority under `state` and return its files.

    Raises CertificateError when there is one already: its certificates would be worth nothing.
    """
    made = ca_files(state)
    if made.certificate.exists() or made.key.exists():
        raise CertificateError(
            f"Cannot make a certificate authority: {made.certificate.parent} has one. "
            "Certificates it issued would be refused; move it away to begin anew."
        )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Limes CA {os.urandom(4).hex()}")])
    builder = (
        base(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
    )
    write(made, key, builder.sign(key, hashes.SHA256()))
    return made


def issue(
    state: Path, name: str, role: str, *, hosts: Iterable[str] = (), days: int = DAYS
) -> Files:
    """Issue a certificate for `name` in `role` and return its files, replacing what is there.

    `hosts` are further names and addresses of a control certificate, beside loopback and this
    host's name. Raises CertificateError when the authority is missing, or the name or role is
    no good.
    """
    if role not in ROLES:
        raise CertificateError(
            f"Cannot issue a certificate for role {role!r}: use {', '.join(ROLES)}."
        )
    if not 0 < len(name) <= MAX_NAME or Path(name).name != name or name.startswith("."):
        raise CertificateError(
            f"Cannot issue a certificate for {name!r}: give a name of 1 to {MAX_NAME} characters "
            "without '/'."
        )
    authority = ca_files(state)
    ca_certificate = load_certificate(authority.certificate)
    ca_key = load_key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
        ]
    )
    names = (*LOOPBACK, socket.gethostname(), *hosts) if role == CONTROL else (name,)
    purpose = (
        ExtendedKeyUsageOID.SERVER_AUTH if role == CONTROL else ExtendedKeyUsageOID.CLIENT_AUTH
    )
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = (
        base(subject, ca_certificate.subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(alternative_names(names), critical=False)
        .add_extension(issuer_key, critical=False)
    )
    made = files(state, name)
    write(made, key, builder.sign(ca_key, hashes.SHA256()))
    return made


def check(certificate: Path, key: Path, authority: Path, role: str) -> x509.Certificate:
    """Return the certificate when it can serve in `role`.

    Its key fits, the authority signed it, it is valid now.

    Raises CertificateError, naming the file and what is wrong.
    """
    found = load_certificate(certificate)
    issuer = load_certificate(authority)
    if load_key(key).public_key() != found.public_key():
        raise CertificateError(f"Cannot use {key}: it is not the key of {certificate}.")
    try:
        found.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise CertificateError(
            f"Cannot use {certificate}: {authority} did not sign it. "
            "Issue one with `limes ca issue`."
        ) from error
    now = dt.datetime.now(dt.UTC)
    for path, each in ((certificate, found), (authority, issuer)):
        if not each.not_valid_before_utc <= now <= each.not_valid_after_utc:
            raise CertificateError(
                f"Cannot use {path}: it is valid from {each.not_valid_before_utc:%Y-%m-%d %H:%M} "
                f"to {each.not_valid_after_utc:%Y-%m-%d %H:%M} UTC. Check the clock, or issue a "
                "new one with `limes ca issue`."
            )
    if identity_of(found).role != role:
        raise CertificateError(
            f"Cannot use {certificate}: its role is {identity_of(found).role or 'none'!r}, this "
            f"needs {role!r}. Issue one with `limes ca issue --role {role}`."
        )
    return found


def load_certificate(path: Path) -> x509.Certificate:
    """Return the PEM certificate at `path`. Raises CertificateError."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise CertificateError(
            f"Cannot read certificate {path}: {error.strerror}. Make it with `limes ca init` and "
            "`limes ca issue`."
        ) from error
    except ValueError as error:
        raise CertificateError(f"Cannot use {path}: it is not a PEM certificate.") from error


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the PEM key at `path`. Raises CertificateError, also when others could read it."""
    try:
        if path.stat().st_mode & 0o077:
            raise CertificateError(f"Cannot use {path}: others may read it. Run chmod 600 {path}.")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise CertificateError(f"Cannot read key {path}: {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise CertificateError(
            f"Cannot use {path}: it is not a PEM key without password."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"Cannot use {path}: it is not an elliptic-curve key.")
    return key


def base(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def alternative_names(names: Iterable[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([general_name(name) for name in dict.fromkeys(names)])


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write(made: Files, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """Write both files whole or not at all; the key is never readable by others."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        made.key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(made.key, pem, 0o600)
        replace(made.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise CertificateError(
            f"Cannot write {error.filename or made.key}: {error.strerror}. "
            "Give a state directory that this user may write (--state)."
        ) from error


def replace(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        os.fchmod(stream.fileno(), mode)
    temporary.replace(path)
