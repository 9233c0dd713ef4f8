"""The machine that the Vagrantfile boots: the same images, reached over ssh on loopback."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import qemu, vm
from harness.export import DESCRIPTION, KEY, export

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(900)]

DEADLINE_SECONDS = 90.0


@pytest.fixture
def exported(prepared: vm.Prepared, tmp_path: Path) -> Path:
    """A folder with everything another runner needs."""
    folder = tmp_path / "limes"
    export(prepared, folder)
    return folder


@pytest.fixture
def ssh_port(prepared: vm.Prepared, exported: Path) -> Iterator[int]:
    """The loopback port that leads to the ssh server of a guest booted from the exported files."""
    machine = json.loads((exported / DESCRIPTION).read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *prepared.emulator.command,
        *("-accel", "tcg", "-machine", "q35", "-cpu", prepared.emulator.cpu, "-smp", "2"),
        *("-m", str(machine["memory_mib"]), "-nodefaults", "-display", "none", "-no-reboot"),
        *("-kernel", machine["kernel"], "-initrd", machine["initrd"]),
        *("-append", machine["kernel_command_line"]),
        # restrict: the guest reaches nothing, not even the host; only the forward leads in.
        *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", "virtio-net-pci,netdev=net"),
        *qemu.disk_arguments(prepared.disks),
    ]
    process = qemu.start(command, ())
    try:
        yield port
    finally:
        process.kill()
        process.communicate()


def test_the_exported_machine_is_reached_over_ssh(ssh_port: int, exported: Path) -> None:
    """With the exported key alone one logs in and finds what the scenario needs."""
    command = [
        *("ssh", "-F", "none", "-i", str(exported / KEY), "-p", str(ssh_port)),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"),
        *("root@127.0.0.1", "python -c 'import duckdb, grpc' && stat -fc %T /sys/fs/cgroup"),
    ]
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        # 255 is ssh's own: the server is not there yet.
        if done.returncode != 255 or time.monotonic() > end:
            break
        time.sleep(0.5)
    assert (done.returncode, done.stdout) == (0, "cgroup2fs\n"), done.stderr
