"""Owns the host's ends of a guest's port and console; waiting here also drains the console."""

import selectors
import socket
import subprocess
import time
from collections.abc import Callable

from harness.errors import LostGuestError
from harness.guest.frames import Decoder, Kind, encode

_CONSOLE_KEPT_BYTES = 64 * 1024
# A panic's call trace is up to 45 lines, and what led to it stands above.
_CONSOLE_SHOWN_LINES = 80
_READ_BYTES = 256 * 1024
_END_SECONDS = 5.0


class Link:
    """Frames to and from the agent of one QEMU process."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", port: socket.socket, console: socket.socket
    ) -> None:
        self.process = process
        self._port = port
        self._console = console
        self._decoder = Decoder()
        self._log = bytearray()
        self._selector = selectors.DefaultSelector()
        self.watch(port, self._read_port)
        self.watch(console, self._read_console)

    def watch(self, source: socket.socket | int, on_ready: Callable[[], None]) -> None:
        """Call `on_ready` whenever the source is readable while `receive` waits."""
        self._selector.register(source, selectors.EVENT_READ, on_ready)

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a frame. Raises LostGuestError."""
        try:
            self._port.sendall(encode(kind, payload))
        except OSError as error:
            raise LostGuestError(self._lost()) from error

    def receive(self, deadline: float) -> tuple[Kind, bytes]:
        """Return the next frame.

        Raises TimeoutError at the deadline (monotonic seconds), LostGuestError when QEMU has gone.
        """
        while (frame := self._decoder.next()) is None:
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                key.data()
        return frame

    def _read_port(self) -> None:
        if not (data := self._port.recv(_READ_BYTES)):
            raise LostGuestError(self._lost())
        self._decoder.feed(data)

    def _read_console(self) -> None:
        if not (data := self._console.recv(_READ_BYTES)):
            self._selector.unregister(self._console)
        self._log += data
        del self._log[:-_CONSOLE_KEPT_BYTES]

    def console(self) -> str:
        """Return the end of what the guest's kernel and init said, for error messages."""
        self._console.setblocking(False)
        try:
            self._log += self._console.recv(_CONSOLE_KEPT_BYTES)
        except OSError:
            pass  # nothing new, or QEMU has gone: what was read before is shown
        finally:
            self._console.setblocking(True)
        lines = self._log.decode(errors="replace").replace("\r", "").splitlines()
        return "\n  ".join(lines[-_CONSOLE_SHOWN_LINES:]) or "(nothing)"

    def _lost(self) -> str:
        try:
            said = self.process.communicate(timeout=_END_SECONDS)[0].decode(errors="replace")
            found = (
                f"QEMU ended with {self.process.returncode}. It said: {said.strip() or '(nothing)'}"
            )
        except subprocess.TimeoutExpired:
            found = "QEMU still runs but closed the control channel."
        return f"Lost the guest. {found}\nConsole:\n  {self.console()}"

    def close(self) -> None:
        """End QEMU and wait until it has gone."""
        self.process.kill()
        self.process.communicate()
        self._selector.close()
        self._port.close()
        self._console.close()
