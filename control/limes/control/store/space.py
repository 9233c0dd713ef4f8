"""Watches how much room the file system of the database has left.

Nothing is deleted to make room: the operator is told while there is still time.
"""

import os
from pathlib import Path
from typing import Final, NamedTuple

import structlog

LOG = structlog.get_logger()
LOW: Final = "store.space_low"
ENOUGH: Final = "store.space_enough"
LOOK_SECONDS: Final = 10.0  # how often the server looks


class Room(NamedTuple):
    """Free bytes, and whether they are fewer than they should be."""

    free: int
    low: bool


class Space:
    """The file system of `path`, which should have `warn_bytes` free. None: in memory, no limit."""

    def __init__(self, path: Path | None, warn_bytes: int) -> None:
        self._path = path
        self._warn_bytes = warn_bytes
        self._low = False

    def room(self) -> Room:
        """Return what is free to an ordinary user; 0 and not low when that cannot be known."""
        if self._path is None:
            return Room(0, low=False)
        try:
            found = os.statvfs(self._path.parent)
        except OSError:
            return Room(0, low=False)
        free = found.f_bavail * found.f_frsize
        return Room(free, low=free < self._warn_bytes)

    def look(self) -> None:
        """Log when it has become low, and when there is enough again."""
        room = self.room()
        if room.low == self._low:
            return
        self._low = room.low
        told = {"database": str(self._path), "free_mib": room.free >> 20}
        if room.low:
            LOG.warning(
                LOW,
                **told,
                warn_mib=self._warn_bytes >> 20,
                effect="when it is full, nothing is committed and the control plane stops",
            )
        else:
            LOG.info(ENOUGH, **told)
