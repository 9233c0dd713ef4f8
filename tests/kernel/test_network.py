"""Connections as the kernel reports them, against what both ends know."""

import json
import socket

import pytest
from limes.sensor.bpf import kernel
from limes.sensor.source import Records
from limes.v1 import schema
from worlds import World

ACTIONS = schema.KINDS["connections"].actions

EXCHANGE = """
import json, socket, sys
host, sent, answered = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
server = socket.create_server((host, 0), family=socket.AF_INET6 if ':' in host else socket.AF_INET)
client = socket.create_connection(server.getsockname()[:2])
peer, _ = server.accept()
local, remote = client.getsockname()[1], client.getpeername()[1]
client.sendall(b'q' * sent); client.shutdown(socket.SHUT_WR)
while peer.recv(65536): pass
peer.sendall(b'a' * answered); peer.close()
while client.recv(65536): pass
client.close()
print(json.dumps([local, remote]))
"""


def steps(rows: Records, action: str) -> Records:
    return rows[rows["action"] == ACTIONS[action]]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(("sent", "answered"), [(1, 1), (12_345, 777_777)])
def test_a_tcp_connection_is_told_from_attempt_to_close(
    world: World, host: str, sent: int, answered: int
) -> None:
    """Attempt, establishment and close share an id; ports and payload bytes are exact."""
    local, remote = json.loads(world.python(EXCHANGE, host, str(sent), str(answered)))
    rows = world.records("connection")
    (attempted,) = steps(rows, "connection_attempted")
    (established,) = steps(rows, "connection_established")
    (closed,) = steps(rows, "connection_closed")
    assert attempted["socket_id"] == established["socket_id"] == closed["socket_id"]
    assert (closed["local_port"], closed["remote_port"]) == (local, remote)
    assert (established["error"], attempted["error"]) == (0, -1)
    assert (closed["bytes_sent"], closed["bytes_received"]) == (sent, answered)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    assert established["family"] == family
    packed = socket.inet_pton(family, host)
    assert established["remote"].tobytes() == (
        packed if family == socket.AF_INET6 else bytes(10) + b"\xff\xff" + packed
    )


def test_a_refused_connect_is_told_with_its_error(world: World) -> None:
    """ECONNREFUSED comes as connection_failed, once."""
    world.python(
        "import socket\n"
        "s = socket.create_server(('127.0.0.1', 0)); a = s.getsockname(); s.close()\n"
        "assert socket.socket().connect_ex(a) == 111\n"
    )
    rows = world.records("connection")
    (failed,) = steps(rows, "connection_failed")
    assert failed["error"] == 111
    assert len(steps(rows, "connection_attempted")) == 1


def test_a_udp_connect_is_told_with_its_result(libbpf_world: World) -> None:
    """Connecting a datagram socket is one attempt with error 0; sending needs no second record."""
    libbpf_world.python(
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 5353))\n"
    )
    (row,) = libbpf_world.records("connection")
    assert (row["action"], row["error"]) == (ACTIONS["connection_attempted"], 0)
    assert (row["protocol"], row["remote_port"]) == (socket.IPPROTO_UDP, 5353)


def test_a_connect_without_a_route_is_told(libbpf_world: World) -> None:
    """A connect that fails before its first packet comes with the errno of the call."""
    libbpf_world.python(
        "import ctypes, socket\n"
        "assert ctypes.CDLL(None).unshare(0x40000000) == 0\n"  # a network namespace with no route
        "assert socket.socket().connect_ex(('203.0.113.7', 80)) == 101\n"
    )
    (row,) = steps(libbpf_world.records("connection"), "connection_failed")
    assert row["error"] == 101
    assert row["remote"].tobytes()[12:] == socket.inet_aton("203.0.113.7")


def test_an_open_connection_reports_progress(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is still open is reported with its bytes so far when its time has come."""
    code = (
        "import socket, sys\n"
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "c = socket.create_connection(s.getsockname()); p, _ = s.accept()\n"
        "c.sendall(b'x' * 4321); p.recv(4321, socket.MSG_WAITALL)\n"
        "print('open', flush=True); sys.stdin.read()\n"
    )
    with world.running(code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        world.source.report_progress()
        assert not len(steps(world.records("connection"), "connection_progress"))
        monkeypatch.setattr(kernel, "PROGRESS_NS", 0)
        world.source.report_progress()
        (row,) = steps(world.records("connection"), "connection_progress")
    assert row["bytes_sent"] == 4321
    assert row["opened_ns"] < row["time_ns"]


def test_what_the_ring_cannot_hold_is_counted(libbpf_world: World) -> None:
    """Records made = records delivered + records counted as lost, exactly, without a drain."""
    made = 0
    code = (
        "import socket\n"
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "for _ in range(3001):\n"
        "    c = socket.create_connection(s.getsockname())\n"
        "    s.accept()[0].close(); c.close()\n"
    )
    for _ in range(3):
        libbpf_world.python(code)
        made += 3001 * 3
    lost = int(libbpf_world.source.counters()[_number("connection_ring_full")])
    delivered = len(libbpf_world.records("connection"))
    assert lost > 0
    assert delivered + lost == made


def _number(counter: str) -> int:
    return next(c.number for c in schema.COUNTERS if c.name == counter)
