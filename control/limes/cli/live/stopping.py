"""Owns how a run ends that Ctrl-C, SIGTERM or SIGHUP stops: what it says, what is undone.

Invariant: a second signal does not cut short what takes the run down, which is bounded in time.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from limes.cli.errors import StoppedError

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STDERR: Final = 2
_NAMES: Final = {signal.SIGINT: "Ctrl-C"}


def stop_by_signals() -> None:
    """Let each of the signals end a run in order, leaving nothing behind: by KeyboardInterrupt."""
    for number in _SIGNALS:
        signal.signal(number, _stop)


@contextmanager
def telling(undone: Callable[[], str]) -> Iterator[None]:
    """Raise StoppedError with what `undone` returns, once a signal has ended the block."""
    try:
        yield
    except KeyboardInterrupt as stop:
        by = stop.args[0] if stop.args else _NAMES[signal.SIGINT]
        raise StoppedError(f"Stopped by {by} {undone()}") from None


class Course:
    """How far a drill has come, in words for when it is stopped."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._begun = 0
        self._played = False

    def play(self, names: tuple[str, ...]) -> None:
        """Say which steps there are."""
        self._names = names

    def step(self) -> None:
        """A step begins."""
        self._begun += 1

    def played(self) -> None:
        """Every step has ended."""
        self._played = True

    def undone(self) -> str:
        """Return what the drill has not done; all of it is gone by then."""
        total = len(self._names)
        if self._played:
            where, rest = f"after all {total} steps", ""
        elif not self._begun:
            where, rest = "before the first step of the drill", ""
        else:
            where = f"in step {self._begun} of {total}, {self._names[self._begun - 1]}"
            rest = f" Not played to the end: {', '.join(self._names[self._begun - 1 :])}."
        return f"{where}.{rest} Nothing was judged. Nothing of the drill is left on this host."


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the handler's signature
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    # Not by the stream: the signal may have come in the middle of a write to it.
    with suppress(OSError):
        os.write(_STDERR, b"Stopping.\n")
    found = signal.Signals(number)
    raise KeyboardInterrupt(_NAMES.get(found, found.name))
