"""Owns every process of a drill: how it is started, spoken to, waited for and ended.

Invariant: each one is in a cgroup of the drill before its program starts, and no wait is without
a deadline.
"""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limes.drill.errors import StepFailed, WorldError

# Generous: an emulated guest takes ten times as long as a host, and nothing waits this long when
# things go right.
DEADLINE = 240.0

_LAUNCH = Path(__file__).with_name("launch.py")
_POLL = 0.02
_TCP_LISTEN = "0A"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a process runs: cgroup directory, network namespace path, private accounts."""

    cgroup: Path
    network: str | None = None
    accounts: Path | None = None

    def arguments(self) -> list[str]:
        """Return the launcher's options."""
        options = ["--new-net"] if self.network is None else ["--net", self.network]
        if self.accounts is not None:
            options += ["--etc", str(self.accounts)]
        return [*options, "--cgroup", str(self.cgroup)]


class Actor:
    """One running process that may be spoken to in JSON lines."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        """Take over a process whose standard error goes to `log`."""
        self.name = name
        self.log = log
        self._process = process
        self._pending = b""

    @property
    def pid(self) -> int:
        """Return the pid, which is also the pid of the program started."""
        return self._process.pid

    def running(self) -> bool:
        """Return whether the process has not ended."""
        return self._process.poll() is None

    def tell(self, message: object) -> None:
        """Send one JSON line; raises StepFailed when nobody reads it."""
        stdin = self._process.stdin
        if stdin is None:
            raise StepFailed(f"{self.name} takes no input")
        try:
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError as error:
            raise self.failure("it ended early") from error

    def hear(self, deadline: float = DEADLINE) -> Any:
        """Return the next JSON line; raises StepFailed at the end of output or the deadline."""
        stdout = self._process.stdout
        if stdout is None:
            raise StepFailed(f"{self.name} gives no output")
        end = time.monotonic() + deadline
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise self.failure(f"no answer in {deadline:.0f} s")
                chunk = os.read(stdout.fileno(), 65536)
                if not chunk:
                    raise self.failure("it ended early")
                self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError as error:
            raise self.failure(f"it wrote {line[:200]!r}") from error

    def ask(self, message: object, deadline: float = DEADLINE) -> Any:
        """Send one JSON line and return the answer."""
        self.tell(message)
        return self.hear(deadline)

    def wait(self, deadline: float = DEADLINE) -> int:
        """Close its input and return its exit status; raises StepFailed at the deadline."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            return self._process.wait(deadline)
        except subprocess.TimeoutExpired as error:
            raise self.failure(f"still running after {deadline:.0f} s") from error

    def failure(self, what: str) -> StepFailed:
        """Return the error to raise: what happened and the last thing the process said."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        said = f"; it said: {lines[-1]}" if lines else ""
        return StepFailed(f"Ran {self.name} (pid {self.pid}): {what}{said}")

    def forget(self) -> None:
        """Reap the process, which must have been ended, and close its pipes."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        self._process.wait(DEADLINE)


@dataclass(slots=True)
class Company:
    """All processes started for one drill."""

    logs: Path
    actors: list[Actor] = field(default_factory=list)

    def start(
        self,
        name: str,
        argv: Sequence[str],
        place: Place,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Actor:
        """Start a program in a place and return it; its input and output are pipes."""
        log = self.logs / f"{len(self.actors):02d}-{name}.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-B", str(_LAUNCH)),
                    *place.arguments(),
                    "--",
                    *argv,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**base_environment(), **(env or {})},
                cwd=cwd or self.logs,
                # A Ctrl-C at the terminal is for the owner, who then ends everybody in order.
                start_new_session=True,
            )
        actor = Actor(name, process, log)
        self.actors.append(actor)
        return actor

    def run(
        self,
        name: str,
        argv: Sequence[str],
        place: Place,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Actor:
        """Run a program in a place to its end; raises StepFailed when it fails."""
        actor = self.start(name, argv, place, env=env, cwd=cwd)
        status = actor.wait()
        if status != 0:
            raise actor.failure(f"exit status {status}")
        return actor

    def forget(self) -> None:
        """Reap everybody, after they were ended."""
        for actor in self.actors:
            actor.forget()
        self.actors.clear()


def base_environment() -> dict[str, str]:
    """Return the small environment that every drill process starts from."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"}


def wait_until(condition: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    """Return once a condition holds; raises WorldError naming `what` at the deadline."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise WorldError(f"Waited {deadline:.0f} s for {what}: it did not happen")
        time.sleep(_POLL)


def listening(pid: int, address: str, port: int) -> bool:
    """Return whether anyone in the network namespace of `pid` listens on an IPv4 endpoint."""
    octets = [int(octet) for octet in address.split(".")]
    value = int.from_bytes(bytes(octets), sys.byteorder)
    wanted = f"{value:08X}:{port:04X}"
    try:
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(fields[1] == wanted and fields[3] == _TCP_LISTEN for fields in map(str.split, lines))


def gone(pid: int) -> bool:
    """Return whether a process has ended, reaped or not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return text.rpartition(")")[2].split()[0] in "ZX"
