"""Owns the flag that ends the control plane's wait: for threads and signal handlers alike.

Invariant: setting it never blocks. A handler runs in the middle of whatever the main thread does,
its wait included, and `threading.Event` then waits for a lock that this very thread holds.
"""

from queue import Empty, SimpleQueue


class Wake:
    """A flag that, once set, stays set."""

    def __init__(self) -> None:
        """It is not set."""
        self._queue: SimpleQueue[None] = SimpleQueue()  # the one whose put() is reentrant

    def set(self) -> None:
        """Set it; from any thread and any signal handler."""
        self._queue.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, at most so long; returns whether it is."""
        try:
            self._queue.get(timeout=seconds)
        except Empty:
            return False
        self.set()
        return True
