"""Owns a running guest: boots it, runs commands, moves files; leaving `boot` leaves no QEMU."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import initrd, qemu
from harness.busybox import busybox
from harness.config import Config, Machine
from harness.emulator import Emulator, emulator
from harness.errors import BootError, GuestRefusedError, GuestTimeoutError, LostGuestError
from harness.guest.frames import Kind, split
from harness.kernel import Kernel, kernel
from harness.link import Link
from harness.pythonimage import python_image
from harness.rootimage import root_image

BOOT_TIMEOUT_SECONDS = 120.0
TRANSFER_TIMEOUT_SECONDS = 60.0
# After a kill the agent answers at once; a guest that does not is lost.
KILL_GRACE_SECONDS = 15.0

Sink = Callable[[bytes], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything a boot needs, all of it in the cache."""

    machine: Machine
    emulator: Emulator
    kernel: Kernel
    busybox: Path
    disks: qemu.Disks


def prepare(config: Config, name: str | None = None) -> Prepared:
    """Return the parts of the machine, building what the cache lacks. Raises HarnessError."""
    machine = config.machine(name)
    parts = kernel(machine, (*machine.early_modules, *config.initrd.modules))
    return Prepared(
        machine=machine,
        emulator=emulator(config.qemu),
        kernel=parts,
        busybox=busybox(config.initrd),
        disks=qemu.Disks(
            root=root_image(config.root), python=python_image(config.python), modules=parts.modules
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a command in the guest left: status as in subprocess (negative for a signal)."""

    status: int
    stdout: bytes
    stderr: bytes


class Guest:
    """A booted guest; made by `boot`."""

    def __init__(self, link: Link, hello: dict[str, str]) -> None:
        self.link = link
        self.kernel_release = hello["kernel"]
        self.python_version = hello["python"]

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        cwd: str = "/root",
        on_stdout: Sink | None = None,
        on_stderr: Sink | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> Completed:
        """Run a command and return what it left; the sinks get its output as it comes.

        `terminal` (rows, columns) gives it a terminal. Raises GuestTimeoutError after `timeout`
        seconds, when the command's session has been killed; GuestRefusedError when it cannot start.
        """
        request = {"argv": list(argv), "env": dict(env or {}), "cwd": cwd, "tty": terminal}
        self.link.send(Kind.RUN, json.dumps(request).encode())
        output = _Output(on_stdout, on_stderr)
        try:
            status = self._until_exit(output, time.monotonic() + timeout)
        except TimeoutError:
            self._kill(output)
            raise GuestTimeoutError(
                f"`{' '.join(argv)}` was still running in the guest after {timeout:g} s and was "
                f"killed. Give it longer, or see where it hangs. {output.last_words()}"
            ) from None
        return Completed(status=status, stdout=bytes(output.stdout), stderr=bytes(output.stderr))

    def _until_exit(self, output: "_Output", deadline: float) -> int:
        while True:
            kind, payload = self.link.receive(deadline)
            if kind is Kind.EXIT:
                return int(json.loads(payload)["status"])
            if kind is Kind.FAIL:
                raise GuestRefusedError(f"The guest refused: {payload.decode()}.")
            output.take(kind, payload)

    def _kill(self, output: "_Output") -> None:
        self.link.send(Kind.KILL)
        try:
            self._until_exit(output, time.monotonic() + KILL_GRACE_SECONDS)
        except TimeoutError:
            raise LostGuestError(
                f"The guest did not answer within {KILL_GRACE_SECONDS:g} s of a kill; it hangs.\n"
                f"Console:\n  {self.link.console()}"
            ) from None

    def push(self, source: Path | bytes, destination: str, mode: int | None = None) -> None:
        """Write a file, or bytes, to the guest. Raises GuestRefusedError, GuestTimeoutError."""
        data = source if isinstance(source, bytes) else source.read_bytes()
        if mode is None:
            mode = 0o644 if isinstance(source, bytes) else source.stat().st_mode & 0o777
        request = {"path": destination, "mode": mode}
        self.link.send(Kind.PUT, json.dumps(request).encode())
        for part in split(data):
            self.link.send(Kind.DATA, part)
        self.link.send(Kind.DATA)
        self._transfer_frame(destination)

    def push_tree(self, source: Path, destination: str) -> None:
        """Write all files below `source` to the guest, caches of Python left out."""
        for path in sorted(source.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                self.push(path, f"{destination}/{path.relative_to(source)}")

    def pull(self, source: str) -> bytes:
        """Return the content of a guest's file. Raises GuestRefusedError, GuestTimeoutError."""
        self.link.send(Kind.GET, json.dumps({"path": source}).encode())
        data = bytearray()
        while part := self._transfer_frame(source):
            data += part
        return bytes(data)

    def _transfer_frame(self, path: str) -> bytes:
        try:
            kind, payload = self.link.receive(time.monotonic() + TRANSFER_TIMEOUT_SECONDS)
        except TimeoutError:
            raise GuestTimeoutError(
                f"The transfer of {path} stood still for {TRANSFER_TIMEOUT_SECONDS:g} s.\n"
                f"Console:\n  {self.link.console()}"
            ) from None
        if kind is Kind.FAIL:
            raise GuestRefusedError(
                f"The guest refused the transfer of {path}: {payload.decode()}."
            )
        return payload


class _Output:
    """Collects a command's output and passes it on."""

    def __init__(self, on_stdout: Sink | None, on_stderr: Sink | None) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._sinks = {Kind.OUT: on_stdout, Kind.ERR: on_stderr}

    def take(self, kind: Kind, payload: bytes) -> None:
        (self.stdout if kind is Kind.OUT else self.stderr).extend(payload)
        if sink := self._sinks[kind]:
            sink(payload)

    def last_words(self) -> str:
        said = (self.stderr or self.stdout).decode(errors="replace").strip().splitlines()
        return f"Its last line: {said[-1]}" if said else "It had said nothing."


@contextmanager
def boot(
    prepared: Prepared, *, icount: bool = False, timeout: float = BOOT_TIMEOUT_SECONDS
) -> Iterator[Guest]:
    """Give a booted guest; QEMU has gone when the block is left, and dies with this thread.

    With `icount` the guest has one CPU and its clock advances a nanosecond per instruction.
    Raises BootError with the console's end when the agent does not report in `timeout` seconds.
    """
    link = _start(prepared, icount=icount)
    try:
        yield Guest(link, _hello(link, timeout))
    finally:
        link.close()


def _start(prepared: Prepared, *, icount: bool) -> Link:
    port, port_end = socket.socketpair()
    console, console_end = socket.socketpair()
    with port_end, console_end, _memory_file(initrd.build(prepared.busybox, prepared.kernel)) as fd:
        command = qemu.arguments(
            prepared.emulator,
            prepared.machine,
            prepared.disks,
            vmlinuz=prepared.kernel.vmlinuz,
            initrd_fd=fd,
            port_fd=port_end.fileno(),
            console_fd=console_end.fileno(),
            icount=icount,
        )
        process = qemu.start(command, (fd, port_end.fileno(), console_end.fileno()))
    return Link(process, port, console)


@contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    """Give a descriptor of a file without a name: nothing to clean up after a killed run."""
    fd = os.memfd_create("initrd")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        yield fd
    finally:
        os.close(fd)


def _hello(link: Link, timeout: float) -> dict[str, str]:
    try:
        kind, payload = link.receive(time.monotonic() + timeout)
    except TimeoutError:
        raise BootError(
            f"The guest's agent did not report within {timeout:g} s. Console:\n  {link.console()}"
        ) from None
    except LostGuestError as error:
        raise BootError(f"The guest went down while booting. {error}") from error
    assert kind is Kind.HELLO
    hello: dict[str, str] = json.loads(payload)
    return hello
