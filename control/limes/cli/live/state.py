"""Owns the hold of one run on its state directory, from its making to the run's end.

Invariant: two runs never share a state directory, however close together they start.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limes.cli.errors import CommandError


@contextmanager
def held(state: Path) -> Iterator[None]:
    """Make the state directory, for its owner only, and keep other runs out; CommandError."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (state / "log").mkdir(mode=0o700, exist_ok=True)
        lock = os.open(state / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CommandError(
            f"Cannot use {state} as the state directory: {error.strerror}. Give another (--state), "
            "or run as its owner."
        ) from error
    try:
        _take(lock, state)  # the kernel lets go of it when this process ends, however it ends
        yield
    finally:
        os.close(lock)


def _take(lock: int, state: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(lock, 20, 0).decode(errors="replace") or "?"
        raise CommandError(
            f"Cannot use {state} as the state directory: `limes up` or `limes replay` of pid "
            f"{owner} does. Stop that one, or give another (--state)."
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
