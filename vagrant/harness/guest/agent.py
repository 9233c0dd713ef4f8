"""Owns the guest's side of the control channel: one request at a time, until the host goes away.

Run as `python3 -m harness.guest.agent PORT` below a PID 1 that reaps; when it ends, so does the VM.
"""

import contextlib
import fcntl
import json
import os
import pty
import selectors
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

from harness.guest.frames import MAX_PAYLOAD, Decoder, Kind, encode, split


class Port:
    """The virtio-serial port as frames; sending and receiving block."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR)
        self._decoder = Decoder()

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        data = memoryview(encode(kind, payload))
        while data:
            data = data[os.write(self.fd, data) :]

    def send_json(self, kind: Kind, value: object) -> None:
        self.send(kind, json.dumps(value).encode())

    def receive(self) -> tuple[Kind, bytes]:
        """Return the next frame. Raises EOFError when the host has gone."""
        while (frame := self._decoder.next()) is None:
            self.fill()
        return frame

    def pending(self) -> tuple[Kind, bytes] | None:
        """Return a frame already received; never reads."""
        return self._decoder.next()

    def fill(self) -> None:
        """Read once; it does not block when the port is readable. Raises EOFError."""
        if not (data := os.read(self.fd, MAX_PAYLOAD)):
            raise EOFError
        self._decoder.feed(data)


class Command:
    """A running command with its pipes, or with a terminal of its own."""

    def __init__(self, request: dict[str, Any]) -> None:
        """Start what a RUN frame asks for. Raises OSError."""
        self.terminal: int | None = None
        self.outputs: dict[int, Kind] = {}
        settings: dict[str, Any] = {
            "args": request["argv"],
            "env": {**os.environ, **request["env"]},
            "cwd": request["cwd"],
        }
        if request["tty"] is None:
            self._start_piped(settings)
        else:
            self._start_on_terminal(settings, request["tty"])

    def _start_piped(self, settings: dict[str, Any]) -> None:
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        try:
            self.process = subprocess.Popen(
                **settings,
                stdin=subprocess.DEVNULL,
                stdout=out_end,
                stderr=err_end,
                start_new_session=True,
            )
        finally:
            os.close(out_end)
            os.close(err_end)
        self.outputs = {out: Kind.OUT, err: Kind.ERR}

    def _start_on_terminal(self, settings: dict[str, Any], size: list[int]) -> None:
        self.terminal, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
        try:
            settings["args"] = ["setsid", "--ctty", *settings["args"]]
            self.process = subprocess.Popen(**settings, stdin=slave, stdout=slave, stderr=slave)
        finally:
            os.close(slave)
        self.outputs = {self.terminal: Kind.OUT}

    def handle(self, kind: Kind, payload: bytes) -> None:
        """Do what the host asks of a running command."""
        if kind is Kind.KILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        elif kind is Kind.INPUT and self.terminal is not None:
            os.write(self.terminal, payload)

    def close(self) -> None:
        for fd in self.outputs:
            os.close(fd)


def _forward(fd: int, kind: Kind, port: Port) -> bool:
    """Send what can be read from `fd` now; return False when there is nothing (more)."""
    try:
        data = os.read(fd, MAX_PAYLOAD)
    except OSError:
        # EIO: a terminal whose last user has gone. EAGAIN: a pipe left open by a child, empty.
        return False
    if data:
        port.send(kind, data)
    return bool(data)


def _relay(port: Port, command: Command, selector: selectors.BaseSelector, exited: int) -> None:
    """Pass bytes both ways until the command has ended."""
    while True:
        for key, _ in selector.select():
            if key.fd == exited:
                return
            if key.fd == port.fd:
                port.fill()
            elif not _forward(key.fd, command.outputs[key.fd], port):
                selector.unregister(key.fd)
        while (frame := port.pending()) is not None:
            command.handle(*frame)


def _run(port: Port, request: dict[str, Any]) -> None:
    try:
        command = Command(request)
    except OSError as error:
        port.send(Kind.FAIL, f"cannot start {request['argv'][0]}: {error.strerror}".encode())
        return
    exited = os.pidfd_open(command.process.pid)
    with selectors.DefaultSelector() as selector:
        for fd in (*command.outputs, exited, port.fd):
            selector.register(fd, selectors.EVENT_READ)
        _relay(port, command, selector, exited)
    os.close(exited)
    # What a surviving child writes later is not this command's; what is in the pipes now is.
    for fd, kind in command.outputs.items():
        os.set_blocking(fd, False)
        while _forward(fd, kind, port):
            pass
    command.close()
    port.send_json(Kind.EXIT, {"status": command.process.wait()})


def _put(port: Port, request: dict[str, Any]) -> None:
    path = Path(request["path"])
    failure = ""
    data = bytearray()
    while part := port.receive()[1]:
        data += part
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(request["mode"])
    except OSError as error:
        failure = str(error)
    port.send(Kind.FAIL if failure else Kind.DONE, failure.encode())


def _get(port: Port, request: dict[str, Any]) -> None:
    try:
        data = Path(request["path"]).read_bytes()
    except OSError as error:
        port.send(Kind.FAIL, str(error).encode())
        return
    for part in split(data):
        port.send(Kind.DATA, part)
    port.send(Kind.DATA)


def serve(port: Port) -> None:
    """Answer requests for ever. Raises EOFError when the host has gone."""
    port.send_json(Kind.HELLO, {"kernel": os.uname().release, "python": sys.version.split()[0]})
    handlers = {Kind.RUN: _run, Kind.PUT: _put, Kind.GET: _get}
    while True:
        kind, payload = port.receive()
        # KILL and INPUT may arrive after their command ended by itself.
        if handler := handlers.get(kind):
            handler(port, json.loads(payload))


if __name__ == "__main__":
    # It let this program find its own modules; the commands are to start without it.
    del os.environ["PYTHONPATH"]
    with contextlib.suppress(EOFError):
        serve(Port(sys.argv[1]))
