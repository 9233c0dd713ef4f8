"""The private authority: what it issues, what it refuses to use."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from limes.control import ca
from limes.control.errors import CertificateError
from limes.control.roles import Identity, identity_of


@pytest.fixture
def state(tmp_path: Path) -> Path:
    ca.init(tmp_path)
    return tmp_path


def names_of(certificate: x509.Certificate) -> tuple[set[str], set[str]]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = found.get_values_for_type(x509.IPAddress)
    return set(found.get_values_for_type(x509.DNSName)), {str(each) for each in addresses}


@pytest.mark.parametrize("role", ["sensor", "analyst", "control"])
def test_a_certificate_bears_name_and_role_and_serves_in_it(state: Path, role: str) -> None:
    """CN and OU are what was asked for; nobody else may read the key."""
    made = ca.issue(state, "node-17", role)
    authority = ca.ca_files(state)
    found = ca.check(made.certificate, made.key, authority.certificate, role)
    assert identity_of(found) == Identity("node-17", role)
    assert made.key.stat().st_mode & 0o777 == 0o600
    assert authority.key.stat().st_mode & 0o777 == 0o600
    assert made.key.parent.stat().st_mode & 0o777 == 0o700


def test_a_control_certificate_names_loopback_and_the_given_hosts(state: Path) -> None:
    """Clients compare the address they called with these names."""
    made = ca.issue(state, "control", "control", hosts=["limes.example", "192.0.2.7"])
    words, addresses = names_of(ca.load_certificate(made.certificate))
    assert {"localhost", "limes.example"} <= words
    assert addresses == {"127.0.0.1", "::1", "192.0.2.7"}


def test_clients_cannot_serve_and_servers_cannot_call(state: Path) -> None:
    """The extended key usage parts the two."""
    for role, purpose in (
        ("sensor", ExtendedKeyUsageOID.CLIENT_AUTH),
        ("analyst", ExtendedKeyUsageOID.CLIENT_AUTH),
        ("control", ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        found = ca.load_certificate(ca.issue(state, role, role).certificate)
        usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [purpose]


def test_a_second_authority_is_refused(state: Path) -> None:
    """It would make every certificate of the first one worthless."""
    before = ca.ca_files(state).certificate.read_bytes()
    with pytest.raises(CertificateError, match="has one"):
        ca.init(state)
    assert ca.ca_files(state).certificate.read_bytes() == before


def test_issuing_without_an_authority_says_how_to_make_one(tmp_path: Path) -> None:
    """The message names the command."""
    with pytest.raises(CertificateError, match="limes ca init"):
        ca.issue(tmp_path, "node", "sensor")


@pytest.mark.parametrize("name", ["", ".", "..", "../admin", "a/b", ".hidden", "n" * 65])
def test_a_name_that_is_no_file_name_is_refused(state: Path, name: str) -> None:
    """A certificate's name never leads out of its directory."""
    with pytest.raises(CertificateError, match="give a name"):
        ca.issue(state, name, "sensor")


def test_an_unknown_role_is_refused(state: Path) -> None:
    """The message lists the roles."""
    with pytest.raises(CertificateError, match="use sensor, analyst, control"):
        ca.issue(state, "node", "root")


def test_an_expired_certificate_is_named_with_its_dates(state: Path) -> None:
    """It says from when to when it was valid."""
    made = ca.issue(state, "control", "control", days=0)
    with pytest.raises(CertificateError, match=r"control\.crt: it is valid from .* to .* UTC"):
        ca.check(made.certificate, made.key, ca.ca_files(state).certificate, "control")


def test_a_certificate_of_another_authority_is_refused(state: Path, tmp_path: Path) -> None:
    """The message names both files."""
    other = tmp_path / "other"
    ca.init(other)
    made = ca.issue(other, "control", "control")
    authority = ca.ca_files(state).certificate
    with pytest.raises(CertificateError, match=r"ca\.crt did not sign it"):
        ca.check(made.certificate, made.key, authority, "control")


def test_a_certificate_of_another_role_is_refused(state: Path) -> None:
    """The message says which role it has and which it needs."""
    made = ca.issue(state, "node", "sensor")
    with pytest.raises(CertificateError, match="role is 'sensor', this needs 'control'"):
        ca.check(made.certificate, made.key, ca.ca_files(state).certificate, "control")


def test_a_key_of_another_certificate_is_refused(state: Path) -> None:
    """Mixed-up files are noticed before anything is served."""
    one, two = ca.issue(state, "one", "control"), ca.issue(state, "two", "control")
    with pytest.raises(CertificateError, match="it is not the key of"):
        ca.check(one.certificate, two.key, ca.ca_files(state).certificate, "control")


def test_a_key_that_others_may_read_is_refused(state: Path) -> None:
    """A key that leaked is no key."""
    made = ca.issue(state, "control", "control")
    made.key.chmod(0o640)
    with pytest.raises(CertificateError, match="chmod 600"):
        ca.check(made.certificate, made.key, ca.ca_files(state).certificate, "control")


def test_files_that_are_no_pem_are_refused(state: Path) -> None:
    """Certificate and key are each named."""
    made = ca.issue(state, "control", "control")
    authority = ca.ca_files(state).certificate
    pem = made.certificate.read_bytes()
    made.certificate.write_text("nothing")
    with pytest.raises(CertificateError, match=r"control\.crt: it is not a PEM certificate"):
        ca.check(made.certificate, made.key, authority, "control")
    made.certificate.write_bytes(pem)
    made.key.write_text("nothing")
    with pytest.raises(CertificateError, match=r"control\.key: it is not a PEM key"):
        ca.check(made.certificate, made.key, authority, "control")
