"""Owns what other runners (the Vagrantfile) get: the same images, with ssh instead of the agent."""

import json
import shutil
from pathlib import Path

from harness import host, initrd, qemu, wheel
from harness.scenario import DRILL
from harness.vm import Prepared

KEY = "id_ed25519"
DESCRIPTION = "machine.json"


def export(prepared: Prepared, folder: Path) -> None:
    """Write kernel, initrd, a fresh ssh key, wheel and a description of the machine to `folder`.

    The images stay in the cache; the description says where. Raises HostError, BuildError.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    host.run([host.tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", folder / KEY])
    keys = (folder / f"{KEY}.pub").read_bytes()
    archive = initrd.build(prepared.busybox, prepared.kernel, authorized_keys=keys)
    (folder / "initrd").write_bytes(archive)
    shutil.copy(prepared.kernel.vmlinuz, folder / "vmlinuz")
    description = {
        "kernel": str(folder / "vmlinuz"),
        "initrd": str(folder / "initrd"),
        "kernel_command_line": qemu.kernel_command_line(prepared.machine),
        "disks": {name: str(path) for name, path in prepared.disks.by_serial().items()},
        "cpus": prepared.machine.cpus,
        "memory_mib": prepared.machine.memory_mib,
        "private_key": str(folder / KEY),
        "wheel": str(wheel.build(folder)),
        "scenario": str(DRILL),
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
