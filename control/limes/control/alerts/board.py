"""Owns the news that an alert was raised: the engine tells, those who follow wait.

Invariant: it holds no alert, only the number of the last one; alerts are read from the store.
"""

import threading


class AlertBoard:
    """The number of the last alert, and a way to wait for the next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._last = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        """True when no alert will come any more."""
        return self._closed

    def raised(self, last_number: int) -> None:
        """Tell that alerts up to `last_number` are committed."""
        with self._changed:
            self._last = max(self._last, last_number)
            self._changed.notify_all()

    def wait(self, after: int, timeout: float) -> bool:
        """Wait up to `timeout` seconds for an alert beyond `after`; True when there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._last > after or self._closed, timeout)
            return self._last > after

    def close(self) -> None:
        """Wake everyone for the last time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
