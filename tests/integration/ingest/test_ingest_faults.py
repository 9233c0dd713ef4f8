"""The control plane's faults as an operator meets them: one clear line, exit status 3."""

import socket
from pathlib import Path

import grpc
import pytest
from limes.control import ca
from limes.control.client import ControlClient
from limes.control.errors import CertificateError, ControlError, UnreachableError
from limes.control.store.connection import open_store
from limes.v1 import admin_service_pb2 as pb
from limes.v1 import admin_service_pb2_grpc as rpc

from tests.conftest import MakeBatch

from .conftest import MakeSensor, Plane


def refused(plane: Plane, **settings: object) -> str:
    """Return the one line that a control plane which cannot run says."""
    plane.launch(**settings)
    assert plane.exit_status() == 3
    lines = [line for line in plane.said() if line]
    assert len(lines) == 1, lines
    return lines[0]


def test_a_port_that_is_taken(plane: Plane) -> None:
    """The address and why are named, and the other server goes on alone."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        plane.port = other.getsockname()[1]
        line = refused(plane)
    assert line.startswith(f"Cannot listen on 127.0.0.1:{plane.port}: Address already in use")
    assert "--listen" in line


def test_two_control_planes_do_not_share_a_port(plane: Plane, tmp_path: Path) -> None:
    """The second one says so instead of taking half of the streams."""
    plane.start()
    second = Plane(tmp_path / "second")
    second.port = plane.port
    assert "Address already in use" in refused(second)


def test_control_planes_of_one_instant_serve_each_at_its_own_port(tmp_path: Path) -> None:
    """All want the same port; one gets it at most, and none fails for want of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    planes = [Plane(tmp_path / name) for name in ("a", "b", "c")]
    for each in planes:
        each.port = port
        each.launch(free_port=True)
    addresses = {each.wait_for("control.ready")["address"] for each in planes}
    assert len(addresses) == 3
    assert [each.terminate() for each in planes] == [0, 0, 0]


def test_a_taken_port_is_given_up_for_a_free_one(plane: Plane) -> None:
    """Where that is wanted; one that is free is kept."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = plane.port = other.getsockname()[1]
        assert plane.start(free_port=True).port != taken
    assert plane.admin().status().version
    plane.terminate()
    plane.port = taken
    assert plane.start(free_port=True).port == taken


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1", "127.0.0.1:seventy", "192.0.2.1:7443"])
def test_an_address_that_is_none_of_ours(plane: Plane, listen: str) -> None:
    """Whatever the reason, the address is named."""
    assert refused(plane, listen=listen).startswith(f"Cannot listen on {listen}: ")


def test_a_database_that_another_process_has_open(plane: Plane) -> None:
    """The line names the process that holds it."""
    plane.start()
    other = plane.pid
    second = Plane.__new__(Plane)
    second.__dict__ = plane.__dict__ | {"port": 0, "_process": None}
    line = refused(second)
    assert f"process {other} " in line


def test_a_database_of_a_newer_schema(plane: Plane) -> None:
    """An older program does not touch it."""
    path = plane.state / "control/limes.duckdb"
    store = open_store(path)
    with store.cursor() as cursor:
        cursor.execute(
            "INSERT INTO schema_migrations VALUES ('9999_future', 'x', now()::TIMESTAMP)"
        )
    store.close()
    before = path.read_bytes()
    assert "9999_future, which this version of limes does not know" in refused(plane)
    assert path.read_bytes() == before


def test_a_database_that_is_damaged(plane: Plane) -> None:
    """The file is named and left as it is."""
    path = plane.state / "control/limes.duckdb"
    path.parent.mkdir()
    path.write_bytes(b"damaged" * 4096)
    assert refused(plane).startswith(f"Cannot open {path}: ")
    assert path.read_bytes() == b"damaged" * 4096


def test_a_missing_certificate(plane: Plane) -> None:
    """The line names the file and the commands that make it."""
    ca.files(plane.state, "control").certificate.unlink()
    line = refused(plane)
    assert "control.crt: No such file" in line
    assert "limes ca issue" in line


def test_an_expired_certificate(plane: Plane) -> None:
    """The line says until when it was valid."""
    ca.issue(plane.state, "control", "control", days=0)
    assert "control.crt: it is valid from" in refused(plane)


def test_a_certificate_of_the_wrong_role(plane: Plane) -> None:
    """A sensor's certificate cannot serve."""
    made = ca.issue(plane.state, "node-1", "sensor")
    line = refused(plane, certificate=str(made.certificate), key=str(made.key))
    assert "role is 'sensor', this needs 'control'" in line


def test_a_policy_that_is_not_there(plane: Plane) -> None:
    """A broken policy is no reason to run without one."""
    assert "policy" in refused(plane, policy=str(plane.state / "policy.toml"))


def test_a_sensors_certificate_cannot_ask_and_an_analysts_cannot_send(
    plane: Plane, make_sensor: MakeSensor
) -> None:
    """Each service needs its role, which is in the certificate."""
    plane.start()
    sensor = make_sensor()
    analyst = ca.files(plane.state, "admin")
    sensor.made = analyst
    stream = sensor.raw_stream()
    stream.send(sensor.hello())
    error = stream.ended()
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "has role 'analyst', this needs 'sensor'" in error.details()
    authority = ca.ca_files(plane.state).certificate
    node = ca.files(plane.state, "node-1")
    with pytest.raises(CertificateError, match="role is 'sensor', this needs 'analyst'"):
        ControlClient(plane.address, authority, node.certificate, node.key)


@pytest.mark.parametrize("fault", ["another authority", "expired"])
def test_a_sensor_whose_certificate_is_no_good_gets_no_stream(
    plane: Plane, make_sensor: MakeSensor, tmp_path: Path, fault: str
) -> None:
    """TLS itself refuses it; nothing of it reaches the store."""
    plane.start()
    sensor = make_sensor()
    if fault == "another authority":
        other = tmp_path / "other"
        ca.init(other)
        sensor.made = ca.issue(other, "node-1", "sensor")
    else:
        sensor.made = ca.issue(plane.state, "node-1", "sensor", days=0)
    stream = sensor.raw_stream()
    stream.send(sensor.hello())
    assert stream.ended().code() is grpc.StatusCode.UNAVAILABLE
    with plane.admin() as admin:
        assert not admin.status().sensors


def test_a_caller_without_a_certificate_is_refused(plane: Plane) -> None:
    """The server demands one before it hears anything."""
    plane.start()
    credentials = grpc.ssl_channel_credentials(ca.ca_files(plane.state).certificate.read_bytes())
    with grpc.secure_channel(plane.address, credentials) as channel:
        stub = rpc.AdminServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as found:
            stub.GetStatus(pb.GetStatusRequest(), timeout=30)
    assert found.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_that_finds_nobody_says_where_it_looked(plane: Plane) -> None:
    """The address, the reason and what to check are in one line."""
    plane.start()
    assert plane.terminate() == 0
    with plane.admin() as admin, pytest.raises(UnreachableError) as found:
        admin.status()
    assert f"Cannot reach the control plane at {plane.address}" in str(found.value)
    assert "\n" not in str(found.value)


def test_a_client_does_not_trust_a_server_of_another_authority(
    plane: Plane, tmp_path: Path
) -> None:
    """The line says that it is the certificate."""
    plane.start()
    other = tmp_path / "other"
    ca.init(other)
    made = ca.issue(other, "admin", "analyst")
    authority = ca.ca_files(other).certificate
    with (
        ControlClient(plane.address, authority, made.certificate, made.key) as client,
        pytest.raises(CertificateError, match="Cannot trust the control plane"),
    ):
        client.status()


def test_a_client_does_not_trust_a_server_under_a_name_it_does_not_have(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate for other addresses is not taken for this one."""
    monkeypatch.setattr(ca, "LOOPBACK", ("192.0.2.7",))
    ca.issue(plane.state, "control", "control")
    plane.start()
    with plane.admin() as admin, pytest.raises(CertificateError, match="Cannot trust"):
        admin.status()


def test_a_tail_shows_events_as_the_views_do(
    plane: Plane, make_sensor: MakeSensor, make_batch: MakeBatch
) -> None:
    """Words for numbers, addresses as text, the kinds that were asked for and no other."""
    plane.start()
    stream, _ = make_sensor().stream()
    with plane.admin() as admin:
        tail = admin.tail(["connections"])
        stream.send(
            make_batch("process_execs", 1, 1),
            make_batch("connections", 2, 1, destination_ip_lo=0xFFFF_CB00_7109, network_type=2),
        )
        found = next(tail)
        tail.close()
    assert found.kind == "connections"
    (row,) = found.table.to_pylist()
    assert row["destination_ip"] == "203.0.113.9"
    assert row["network_type"] == "ipv4"
    assert row["event_action"] == "connection_attempted"
    assert row["host_id"] == "node-1"


def test_a_tail_of_an_unknown_kind_is_refused(plane: Plane) -> None:
    """The answer lists the kinds there are."""
    plane.start()
    with (
        plane.admin() as admin,
        pytest.raises(ControlError, match=r"no kind gremlins.*connections"),
    ):
        next(admin.tail(["gremlins"]))
