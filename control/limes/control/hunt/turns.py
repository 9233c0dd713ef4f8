"""Lets a few hunts run at once and a few more wait; the rest is told to come again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from limes.control.errors import HuntError
from limes.control.hunt.config import HuntConfig


class Turns:
    """The places in which hunts run. Any thread may ask for one."""

    def __init__(self, config: HuntConfig) -> None:
        self._config = config
        self._running = 0
        self._waiting = 0
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, cancelled: threading.Event) -> Iterator[None]:
        """Hold a place, waiting for it; `wake` makes it look at `cancelled`.

        Raises HuntError when too many wait already, when it waited too long, when cancelled.
        """
        self._enter(cancelled)
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def wake(self) -> None:
        """Make every waiting hunt look whether it was cancelled."""
        with self._changed:
            self._changed.notify_all()

    def _enter(self, cancelled: threading.Event) -> None:
        config = self._config
        with self._changed:
            if self._running >= config.concurrent and self._waiting >= config.queued:
                raise HuntError(
                    f"{self._running} hunts run and {self._waiting} wait, which is the limit: "
                    "ask again later.",
                    outcome="busy",
                )
            self._waiting += 1
            try:
                came = self._changed.wait_for(
                    lambda: self._running < config.concurrent or cancelled.is_set(),
                    config.queue_seconds,
                )
            finally:
                self._waiting -= 1
            if cancelled.is_set():
                raise HuntError("The hunt was cancelled.", outcome="cancelled")
            if not came:
                raise HuntError(
                    f"The hunt waited {config.queue_seconds} s for its turn, which is the limit: "
                    "ask again later.",
                    outcome="busy",
                )
            self._running += 1
