"""Owns the order in which things are told: by when they happened, although they arrive later.

Invariant: everything that was put in comes out once; what comes too late comes at once.
"""

import heapq
import itertools
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

# Draining, sending, committing and tailing take some 0.2 to 0.6 s.
HOLD: Final = timedelta(milliseconds=800)


class Timeline(Generic[Item]):
    """Holds items for a moment, so that they come out in the order of their times."""

    def __init__(self, hold: timedelta = HOLD) -> None:
        self._hold = hold
        self._heap: list[tuple[datetime, int, Item]] = []
        self._order = itertools.count()

    def put(self, when: datetime, item: Item) -> None:
        """Add an item."""
        heapq.heappush(self._heap, (when, next(self._order), item))

    def due(self, now: datetime) -> list[Item]:
        """Take out, in order, what happened long enough before `now`."""
        return self._take(now - self._hold)

    def rest(self) -> list[Item]:
        """Take out everything, in order."""
        return self._take(None)

    def _take(self, until: datetime | None) -> list[Item]:
        taken = []
        while self._heap and (until is None or self._heap[0][0] <= until):
            taken.append(heapq.heappop(self._heap)[2])
        return taken
