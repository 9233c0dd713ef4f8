"""What the server's process tells systemd and the operator before it serves."""

import socket
from pathlib import Path

import pytest
from limes.control.config import ControlConfig
from limes.control.errors import PolicyError
from limes.control.roles import needed
from limes.control.serve import notify, read_policy, read_rules, why_not
from limes.v1 import (
    admin_service_pb2,
    alert_service_pb2,
    hunt_service_pb2,
    ingest_service_pb2,
)


def test_systemd_is_told_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The word goes to the socket that systemd named."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        notify("READY=1")
        assert listener.recv(64) == b"READY=1"


def test_an_abstract_socket_of_systemd_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name begins with @."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0limes-test-notify")
        monkeypatch.setenv("NOTIFY_SOCKET", "@limes-test-notify")
        notify("STOPPING=1")
        assert listener.recv(64) == b"STOPPING=1"


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by hand, it says nothing and fails at nothing."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_an_address_of_ours_has_nothing_against_it(address: str) -> None:
    """A free port of this host."""
    assert why_not(address) == ""


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("7443", "not of the form host:port"),
        (":7443", "not of the form host:port"),
        ("127.0.0.1:http", "not of the form host:port"),
        ("127.0.0.1:99999", "not of the form host:port"),
        ("192.0.2.1:7443", "Cannot assign requested address"),
    ],
)
def test_an_address_that_cannot_be_served_has_a_reason(address: str, reason: str) -> None:
    """The reason is the system's, in a few words."""
    assert reason in why_not(address)


def test_every_service_but_ingest_needs_an_analyst() -> None:
    """A service that is added is closed to sensors until somebody opens it."""
    roles = {
        f"{service.full_name}": needed(f"/{service.full_name}/{method.name}")
        for module in (admin_service_pb2, alert_service_pb2, hunt_service_pb2, ingest_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert roles.pop("limes.v1.IngestService") == "sensor"
    assert set(roles.values()) == {"analyst"}
    assert len(roles) == 3


def test_without_a_policy_no_cgroup_is_a_job() -> None:
    """The server runs, and knows no job."""
    assert read_policy(ControlConfig()).job_classes == ()


def test_a_policy_that_cannot_be_read_is_no_policy(tmp_path: Path) -> None:
    """A file that was asked for must be there."""
    with pytest.raises(PolicyError, match="policy"):
        read_policy(ControlConfig(policy=tmp_path / "policy.toml"))


def test_the_shipped_packs_are_the_default() -> None:
    """No configuration is needed for the first pack."""
    assert {rule.pack for rule in read_rules(ControlConfig())} == {"training_host"}
