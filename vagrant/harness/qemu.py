"""Owns QEMU's command line, and that QEMU dies with the harness.

Always `-accel tcg`: hardware virtualisation is never asked for, so every host gives the same guest.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import host
from harness.config import Machine
from harness.emulator import Emulator

# init is handed to a shell: on Debian's kernels the support for #! is itself a module.
# no_timer_check: on a busy host the emulated timer can miss its check at boot, which is a panic.
_KERNEL_ARGS = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check rdinit=/bin/busybox"
_INIT_ARGS = "-- sh /init"
PORT_NAME = "limes.agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """The read-only images, found in the guest by serial number: the field's name."""

    root: Path
    python: Path
    modules: Path

    def by_serial(self) -> dict[str, Path]:
        """Return the images by serial number."""
        return {"root": self.root, "python": self.python, "modules": self.modules}


def kernel_command_line(machine: Machine) -> str:
    """Return what the kernel is told: the harness's own part, then the machine's."""
    return f"{_KERNEL_ARGS} {machine.kernel_args} {_INIT_ARGS}"


def arguments(
    emulator: Emulator,
    machine: Machine,
    disks: Disks,
    *,
    vmlinuz: Path,
    initrd_fd: int,
    port_fd: int,
    console_fd: int,
    icount: bool,
) -> list[str]:
    """Return the command line. With `icount` one CPU runs, one nanosecond per instruction."""
    timing = ["-icount", "shift=0,sleep=off"] if icount else []
    cpus = 1 if icount else machine.cpus
    # A string move would count once per byte, as on no processor: libc and kernel copy by words.
    model = f"{emulator.cpu},-erms,-fsrm" if icount else emulator.cpu
    return [
        *emulator.command,
        *("-accel", "tcg,thread=single" if icount else "tcg,thread=multi"),
        *timing,
        *("-machine", "q35", "-cpu", model, "-smp", str(cpus)),
        *("-m", str(machine.memory_mib), "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-vga", "none"),
        *("-kernel", str(vmlinuz), "-initrd", f"/proc/self/fd/{initrd_fd}"),
        *("-append", kernel_command_line(machine)),
        *("-chardev", f"socket,id=console,fd={console_fd}", "-serial", "chardev:console"),
        *("-chardev", f"socket,id=port,fd={port_fd}", "-device", "virtio-serial-pci"),
        *("-device", f"virtserialport,chardev=port,name={PORT_NAME}"),
        *("-device", "virtio-rng-pci"),
        *disk_arguments(disks),
    ]


def disk_arguments(disks: Disks) -> list[str]:
    """Return QEMU's arguments for the images."""
    words: list[str] = []
    for name, image in disks.by_serial().items():
        words += ["-drive", f"id={name},file={image},format=raw,if=none,readonly=on"]
        words += ["-device", f"virtio-blk-pci,drive={name},serial={name}"]
    return words


def start(command: Sequence[str], pass_fds: Sequence[int]) -> "subprocess.Popen[bytes]":
    """Start QEMU so that it is killed when the calling thread ends, however that happens."""
    return subprocess.Popen(
        [host.tool("setpriv"), "--pdeathsig=KILL", "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=pass_fds,
        # Ctrl-C in a terminal is for the harness, which then ends QEMU.
        start_new_session=True,
    )
