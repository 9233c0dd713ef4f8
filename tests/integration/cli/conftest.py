"""The command line as a person runs it: processes, their output, their end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

LIMES = (sys.executable, "-P", "-m", "limes.cli.main")
DEADLINE = 120.0

Done = subprocess.CompletedProcess[str]
Limes = Callable[..., Done]


def limes(*arguments: str | Path, timeout: float = DEADLINE, **environment: str) -> Done:
    """Run `limes` to its end."""
    return subprocess.run(
        [*LIMES, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, **environment},
    )


def wait_until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """Return the first true value of the condition."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.05)
    return found


@contextmanager
def running(
    *arguments: str | Path,
    log: Path,
    before: Sequence[str] = (),
    ready: str = "",
    **environment: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `limes` until the block ends, then stop it by SIGTERM; `log` gets all it says.

    With `ready`, the block begins once the log has that word. `before` is put before the command.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*before, *LIMES, *map(str, arguments)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    try:
        if ready:
            wait_until(
                lambda: ready in log.read_text() or process.poll() is not None, f"{ready} in {log}"
            )
            assert process.poll() is None, log.read_text()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE)


def logged(log: Path, event: str) -> list[dict[str, Any]]:
    """Return the log lines of an event."""
    lines = []
    for text in log.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("event") == event:
            lines.append(line)
    return lines


@pytest.fixture(scope="session")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The state directory of one replay of the recording that comes along, and what it told."""
    state = tmp_path_factory.mktemp("replayed") / "state"
    done = limes("replay", "--json", "--state", state)
    assert done.returncode == 0, done.stderr
    return state, [json.loads(line) for line in done.stdout.splitlines()]
