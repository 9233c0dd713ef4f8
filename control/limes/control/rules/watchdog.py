"""Owns the time limit of a rule: it interrupts a query that runs too long.

Invariant: only the query it was set for is interrupted, never the one after.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import duckdb


class Watchdog:
    """A thread that interrupts the queries of one connection after their time."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rule-watchdog", daemon=True)

    def __enter__(self) -> Self:
        """Start watching."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Interrupt what the connection runs within the block after `seconds`."""
        with self._changed:
            self._deadline = time.monotonic() + seconds
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._deadline = None
                self._changed.notify_all()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                if self._deadline is None:
                    self._changed.wait()
                    continue
                left = self._deadline - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                self._cursor.interrupt()
                self._deadline = None
