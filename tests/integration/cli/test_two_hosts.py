"""Two hosts, as far as the network can tell: a sensor on one, the control plane on the other.

Each is a network namespace, wired to the other and to nothing else. Certificates come from
`limes ca`, and travel as an operator would copy them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from limes.cli.examine import own_cgroup
from limes.drill import cgroups

from .conftest import LIMES, Done, logged, running, wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel, pytest.mark.timeout(300)]

CONTROL, SENSOR = "10.77.31.1", "10.77.31.2"
PORT = 7443
NETNS = Path("/run/netns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """The namespaces by name, and the state directory of each."""

    control: str
    sensor: str
    folder: Path

    def on(self, name: str) -> tuple[str, ...]:
        """Return what is put before a command to run it on a host."""
        # Not `ip netns exec`: that hides the cgroup mounts below a /sys of its own.
        return ("nsenter", f"--net=/run/netns/{name}", "--")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Make two namespaces with a wire between them, and no other way out."""
    unique = f"{os.getpid():x}"
    control, sensor = f"limes-c-{unique}", f"limes-s-{unique}"
    wires = f"lc{unique}", f"ls{unique}"
    mounted = NETNS.exists()
    try:
        for name in (control, sensor):
            ip("netns", "add", name)
        ip(
            *("link", "add", wires[0], "netns", control, "type", "veth"),
            *("peer", "name", wires[1], "netns", sensor),
        )
        for name, wire, address in ((control, wires[0], CONTROL), (sensor, wires[1], SENSOR)):
            ip("-n", name, "address", "add", f"{address}/30", "dev", wire)
            for device in (wire, "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield Hosts(control=control, sensor=sensor, folder=tmp_path_factory.mktemp("hosts"))
    finally:
        for name in (control, sensor):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        if not mounted and not any(NETNS.iterdir()):  # the first `ip netns add` mounted it
            subprocess.run(["umount", str(NETNS)], check=True)
            NETNS.rmdir()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def limes_on(hosts: Hosts, name: str, *arguments: str | Path) -> Done:
    return subprocess.run(
        [*hosts.on(name), *LIMES, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def control(hosts: Hosts) -> Iterator[Path]:
    """Run the control plane on its host with certificates of its own; return its state."""
    state = hosts.folder / "control"
    for step in (
        ("init",),
        ("issue", "--role", "control", "--host", CONTROL),
        ("issue", "--role", "analyst"),
    ):
        assert limes_on(hosts, hosts.control, "ca", *step, "--state", state).returncode == 0
    with running(
        *("control", "serve", "--state", state, "--listen", f"{CONTROL}:{PORT}"),
        before=hosts.on(hosts.control),
        log=hosts.folder / "control.log",
        ready="control.ready",
    ):
        yield state


@contextmanager
def sensor(
    hosts: Hosts, state: Path, log: Path, *further: str, ready: str = "sensor.ready"
) -> Iterator[str]:
    """Run a sensor on its host, in the scope of a cgroup made for it; give the cgroup's path."""
    with own_cgroup() as scope:
        arguments = ("--state", str(state), "--control", f"{CONTROL}:{PORT}", "--scope", scope)
        with running(
            *("sensor", "run", *arguments, *further),
            before=hosts.on(hosts.sensor),
            log=log,
            ready=ready,
        ):
            yield scope


def hunt(hosts: Hosts, state: Path, sql: str) -> list[dict[str, Any]]:
    """Ask the control plane from its own host."""
    address = f"{CONTROL}:{PORT}"
    options = ("--json", "--max-age", "0", "--state", state, "--control", address)
    done = limes_on(hosts, hosts.control, "hunt", sql, *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def run_in(scope: str, *command: str) -> int:
    """Run a program in a cgroup and return its pid."""
    procs = cgroups.find_root() / scope.strip("/") / "cgroup.procs"
    script = f'echo $$ > {procs} && exec "$@"'
    process = subprocess.Popen(["/bin/sh", "-c", script, "sh", *command])
    assert process.wait(30) == 0
    return process.pid


def test_a_sensors_events_arrive(hosts: Hosts, control: Path, tmp_path: Path) -> None:
    """What runs in its scope is in the other host's database, under its name."""
    out = tmp_path / "gpu-07"
    issue = ("ca", "issue", "--role", "sensor", "--name", "gpu-07", "--out", out)
    assert limes_on(hosts, hosts.control, *issue, "--state", control).returncode == 0
    log = tmp_path / "sensor.log"
    with sensor(hosts, out, log, "--host-id", "gpu-07", ready="publish.connected") as scope:
        pid = run_in(scope, "/bin/echo", "from", "gpu-07")
        sql = (
            "SELECT host_id, cgroup_path, process_pid, process_command_line "
            "FROM hunt.process_execs WHERE process_executable LIKE '%/echo'"
        )
        found = wait_until(lambda: hunt(hosts, control, sql), "the event")
    assert found == [
        {
            "host_id": "gpu-07",
            "cgroup_path": scope,
            "process_pid": pid,
            "process_command_line": "/bin/echo from gpu-07",
        }
    ]


def issued(hosts: Hosts, control: Path, out: Path, role: str, name: str) -> None:
    """Lay a certificate of the control plane's authority out for the other host."""
    issue = ("ca", "issue", "--role", role, "--name", name, "--out", out, "--state", control)
    assert limes_on(hosts, hosts.control, *issue).returncode == 0


def refused(hosts: Hosts, state: Path, host_id: str) -> str:
    """Return the one line with which a sensor does not start."""
    options = ("--state", state, "--control", f"{CONTROL}:{PORT}", "--host-id", host_id)
    with own_cgroup() as scope:
        done = limes_on(hosts, hosts.sensor, "sensor", "run", *options, "--scope", scope)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    return done.stderr


def stranger(hosts: Hosts, control: Path, state: Path) -> None:
    """Make a certificate of another authority, beside the right authority's certificate."""
    for step in (("init",), ("issue", "--role", "sensor", "--name", "stranger")):
        assert limes_on(hosts, hosts.sensor, "ca", *step, "--state", state).returncode == 0
    (state / "ca/ca.crt").write_bytes((control / "ca/ca.crt").read_bytes())


def test_another_authoritys_certificate_is_one_line(
    hosts: Hosts, control: Path, tmp_path: Path
) -> None:
    """The sensor does not start: over TLS the server would close without a word."""
    stranger(hosts, control, tmp_path)
    line = refused(hosts, tmp_path, "stranger")
    assert "ca.crt did not sign it. Issue one with `limes ca issue`." in line


def test_anothers_name_is_one_line(hosts: Hosts, control: Path, tmp_path: Path) -> None:
    """The host id must be that of the certificate: nobody reports for another host."""
    issued(hosts, control, tmp_path, "sensor", "gpu-08")
    for kind in ("crt", "key"):
        (tmp_path / f"certs/gpu-08.{kind}").rename(tmp_path / f"certs/gpu-09.{kind}")
    line = refused(hosts, tmp_path, "gpu-09")
    assert "it names the host 'gpu-08', and this is 'gpu-09'. Give --host-id gpu-08" in line


def test_an_analysts_certificate_is_one_line(hosts: Hosts, control: Path, tmp_path: Path) -> None:
    """Roles are in the certificate; the line says which one is needed."""
    issued(hosts, control, tmp_path, "analyst", "eve")
    assert "its role is 'analyst', this needs 'sensor'" in refused(hosts, tmp_path, "eve")


def test_the_server_refuses_what_the_sensor_let_pass(
    hosts: Hosts, control: Path, tmp_path: Path
) -> None:
    """A daemon that does not look at its own certificate gets nothing in, and says so once."""
    stranger(hosts, control, tmp_path)
    log = tmp_path / "sensor.log"
    with own_cgroup() as scope, log.open("wb") as stream:
        settings = {
            "host_id": "stranger",
            "state": tmp_path,
            "control": f"{CONTROL}:{PORT}",
            "scope": json.dumps([scope]),
        }
        pairs = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        process = subprocess.Popen(
            [*hosts.on(hosts.sensor), sys.executable, "-P", "-m", "limes.sensor", *pairs],
            stderr=stream,
        )
        try:
            (said,) = wait_until(lambda: logged(log, "publish.disconnected"), "a refusal")
        finally:
            process.terminate()
            assert process.wait(60) == 0
    assert "UNAVAILABLE" in said["reason"]
    found = hunt(hosts, control, "SELECT host_id FROM hunt.sensors")
    assert "stranger" not in {row["host_id"] for row in found}
