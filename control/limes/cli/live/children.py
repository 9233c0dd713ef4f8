"""Owns the processes that `limes up` starts: their start, what they say, their stop.

Invariant: each ends with this process, by SIGTERM first; all they say is in their log file.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from limes.cli.errors import ChildError
from limes.cli.main import PARENT_VARIABLE

STOP_SECONDS: Final = 20.0  # a sensor waits up to 10 s for its last acknowledgement
_LOOK_SECONDS: Final = 0.05
_LOUD: Final = frozenset({"warning", "error", "critical"})

Line = Mapping[str, Any]
OnTrouble = Callable[[str, Line], None]


class Child:
    """One `limes` process. Its log lines are kept by event name: the latest of each."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        on_trouble: OnTrouble,
    ) -> None:
        """Start it; `log` gets what it says, and the log of the start before is kept as .1."""
        self.name = name
        self._on_trouble = on_trouble
        self._lines: dict[str, Line] = {}
        self._last_words = ""
        self._stopping = False
        self._news = threading.Condition()
        if log.exists():
            log.replace(log.with_suffix(".1.log"))
        # A file, not a pipe: a child that outlives this process must be able to say why it ends.
        self._log = log.open("w+", encoding="utf-8", errors="replace")
        # -P: with -m alone, whatever lies in the current directory could be imported as root.
        command = [sys.executable, "-P", "-m", "limes.cli.main", *arguments]
        try:
            self._process = self._start(command, log, environment)
        except OSError as error:
            self._log.close()
            raise ChildError(
                f"Tried to start the {name} with {sys.executable}: {error.strerror}. Use an "
                "installation whose Python this user may execute, folders above it included."
            ) from error
        self._reader = threading.Thread(target=self._read, name=f"{name}-log", daemon=True)
        self._reader.start()

    def _start(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with log.open("ab") as stream:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                env={**os.environ, **environment, PARENT_VARIABLE: str(os.getpid())},
                process_group=0,  # Ctrl-C is for the parent, which stops its children in order
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def said(self, event: str) -> Line | None:
        """Return the latest log line of an event, if there was one."""
        with self._news:
            return self._lines.get(event)

    def wait_said(self, *events: str, seconds: float) -> Line:
        """Wait for a log line of one of the events; raises ChildError when none comes."""
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                for event in events:
                    if event in self._lines:
                        return self._lines[event]
                if not self._reader.is_alive():
                    raise self.failure()
                rest = deadline - time.monotonic()
                if rest <= 0:
                    raise ChildError(
                        f"Waited {seconds:.0f} s for the {self.name} to say {events[0]}: it did "
                        f"not. Read {self._log.name}."
                    )
                self._news.wait(min(rest, 0.2))

    def wait(self, seconds: float) -> int:
        """Wait for its end by itself and return its status; raises ChildError in good time."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise ChildError(
                f"Waited {seconds:.0f} s for the {self.name} to end: it goes on. "
                f"Read {self._log.name}."
            ) from error
        self._reader.join()
        return status

    def ended(self, seconds: float) -> bool:
        """Wait at most so long for its end; True when it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def failure(self) -> ChildError:
        """Return what it ended with, as an error: its own last line where it has one."""
        self._reader.join()
        status = self._process.wait()
        words = self._last_words.removeprefix("limes: ").removeprefix("limes sensor: ")
        if words and status > 0:
            return ChildError(words)
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        return ChildError(f"The {self.name} ended {how}. Read {self._log.name}.")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        self._process.send_signal(number)

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """End it by SIGTERM, after `seconds` by SIGKILL; False when that was needed."""
        self._stopping = True
        clean = True
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                clean = False
                self._process.kill()
                self._process.wait()
        self._reader.join()
        self._log.close()
        return clean

    def __enter__(self) -> Self:
        """Return the child."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def _read(self) -> None:
        """Follow the log until the process has ended and all of it was read."""
        pending = ""
        while True:
            ended = self._process.poll() is not None
            while text := self._log.readline():
                pending += text
                if pending.endswith("\n"):
                    self._take(pending.rstrip("\n"))
                    pending = ""
            if ended:
                break
            time.sleep(_LOOK_SECONDS)
        if pending:
            self._take(pending)
        with self._news:
            self._news.notify_all()

    def _take(self, text: str) -> None:
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict) or "event" not in line:
            self._last_words = text
            return
        with self._news:
            self._lines[line["event"]] = line
            self._news.notify_all()
        if line.get("level") in _LOUD and not self._stopping:
            self._on_trouble(self.name, line)
