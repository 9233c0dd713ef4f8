"""Owns which QEMU runs: a newer one unpacked into the cache where to be had, else the installed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import apt, cache, host
from harness.config import Qemu
from harness.errors import HarnessError

# Five-level paging is slow under emulation.
_NEW_CPU = "max,-la57"
# The least that numpy's wheels accept; its qemu64 lacks SSE4.2. 7.2 emulates cmpxchg16b, which
# numpy demands, in a way that panics some guests newer than 6.1: those need the newer QEMU.
_OLD_CPU = "Nehalem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """A QEMU that starts on this host: how to call it, its CPU model, its version line."""

    command: tuple[str, ...]
    cpu: str
    version: str


def emulator(qemu: Qemu) -> Emulator:
    """Return the newer QEMU from the cache where it can be had, else the installed one."""
    try:
        folder = cache.entry(
            "qemu",
            {
                "suites": qemu.suites,
                "packages": qemu.packages,
                "recipe": cache.file_hash(Path(__file__)),
            },
            lambda draft: _unpack(qemu, draft),
        )
        return _unpacked(folder)
    except HarnessError:
        installed = host.tool("qemu-system-x86_64")
        return Emulator(command=(installed,), cpu=_OLD_CPU, version=_version((installed,)))


def _unpack(qemu: Qemu, draft: Path) -> None:
    with apt.apt_for(qemu.suites) as fetch:
        fetch.unpack(qemu.packages, draft)
    # Kept only when it starts: its libraries come from the installed QEMU's dependencies.
    _unpacked(draft)


def _unpacked(folder: Path) -> Emulator:
    command = (
        str(folder / "usr/bin/qemu-system-x86_64"),
        *("-L", str(folder / "usr/share/qemu")),
        *("-L", str(folder / "usr/share/seabios")),
    )
    return Emulator(command=command, cpu=_NEW_CPU, version=_version(command))


def _version(command: Sequence[str]) -> str:
    return host.run([*command, "--version"]).splitlines()[0]
