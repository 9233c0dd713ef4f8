"""The flag that signal handlers set: seen, kept, and never a lock that its own thread holds."""

import sys
import threading
from types import FrameType
from typing import Any

import pytest
from limes.control.wake import Wake


def test_it_is_waited_for_in_vain_until_it_is_set() -> None:
    """A wait says whether it was."""
    wake = Wake()
    assert not wake.wait(0.001)
    threading.Timer(0.01, wake.set).start()
    assert wake.wait(60)


def test_once_set_it_stays_set() -> None:
    """However often it is waited for."""
    wake = Wake()
    wake.set()
    assert [wake.wait(0) for _ in range(3)] == [True] * 3


@pytest.mark.timeout(60)
def test_it_can_be_set_in_the_middle_of_any_step_of_its_own() -> None:
    """As a signal handler does, which runs between two steps; a threading.Event hangs here."""
    wake = Wake()
    steps = 0

    def handler(_frame: FrameType, _event: str, _argument: Any) -> Any:
        nonlocal steps
        steps += 1
        wake.set()
        return handler

    tracing = sys.gettrace()
    sys.settrace(handler)
    try:
        found = [wake.wait(60), wake.wait(0)]
        wake.set()
    finally:
        sys.settrace(tracing)
    assert found == [True, True]
    assert steps > len(found)
