"""Clocks: the boot clock of kernel records and what lies between it and UTC.

Invariant: event times come from the boot clock plus an offset measured within the last second.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What the pipeline asks about time."""

    def boot_ns(self) -> int:
        """The boot clock now (CLOCK_BOOTTIME), in nanoseconds."""

    def offset_ns(self) -> int:
        """UTC minus boot clock, in nanoseconds, measured now."""


class SystemClock:
    """The clocks of this host."""

    def boot_ns(self) -> int:
        """The boot clock now, in nanoseconds."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def offset_ns(self) -> int:
        """UTC minus boot clock; the tightest of three readings, as a preempted one is off."""
        best, offset = 1 << 62, 0
        for _ in range(3):
            before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            real = time.clock_gettime_ns(time.CLOCK_REALTIME)
            width = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - before
            if width < best:
                best, offset = width, real - before - width // 2
        return offset


class RecordedClock:
    """The clocks of a recorded host, as they stood when the recording began."""

    def __init__(self, *, boot_ns: int, offset_ns: int) -> None:
        self._boot_ns = boot_ns
        self._offset_ns = offset_ns

    def boot_ns(self) -> int:
        """Boot clock of the recorded host when the recording began."""
        return self._boot_ns

    def offset_ns(self) -> int:
        """UTC minus boot clock, as recorded."""
        return self._offset_ns
