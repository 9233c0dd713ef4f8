"""Clocks: what the offset is, and that a recording's time stands still."""

import time

from limes.sensor.clock import RecordedClock, SystemClock


def test_boot_clock_plus_offset_is_utc() -> None:
    """To well within the microsecond-to-millisecond that a busy machine may take to read both."""
    clock = SystemClock()
    before = time.time_ns()
    told = clock.boot_ns() + clock.offset_ns()
    after = time.time_ns()
    slack = 5_000_000
    assert before - slack <= told <= after + slack


def test_recorded_clock_says_what_was_recorded() -> None:
    """Whenever it is played."""
    clock = RecordedClock(boot_ns=5, offset_ns=7)
    assert (clock.boot_ns(), clock.offset_ns()) == (5, 7)
