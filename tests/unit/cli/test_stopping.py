"""What a stopped drill says it has not done."""

import pytest
from limes.cli.commands import STOPPED
from limes.cli.errors import StoppedError, explain
from limes.cli.live.stopping import Course, telling

NAMES = ("training", "probing", "pool")


def course(begun: int, *, played: bool = False) -> Course:
    found = Course()
    found.play(NAMES if begun else ())
    for _ in range(begun):
        found.step()
    if played:
        found.played()
    return found


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (course(0), "before the first step of the drill. Nothing was judged."),
        (course(2), "in step 2 of 3, probing. Not played to the end: probing, pool. Nothing was "),
        (course(3, played=True), "after all 3 steps. Nothing was judged."),
    ],
)
def test_what_is_undone_is_named(found: Course, words: str) -> None:
    """The step it was in, too: it has not come to its end."""
    assert found.undone().startswith(words)


def test_a_signal_is_named_and_ends_it_with_130() -> None:
    """Once everything in the block was taken down."""
    with pytest.raises(StoppedError) as stopped, telling(lambda: "early."):
        raise KeyboardInterrupt("SIGTERM")
    assert explain(stopped.value) == ("Stopped by SIGTERM early.", STOPPED)
    with pytest.raises(StoppedError, match=r"Stopped by Ctrl-C early\."), telling(lambda: "early."):
        raise KeyboardInterrupt
