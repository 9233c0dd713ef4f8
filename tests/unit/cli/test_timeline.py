"""Things are told in the order in which they happened."""

from datetime import UTC, datetime, timedelta

from limes.cli.live.timeline import Timeline

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOLD = timedelta(seconds=1)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def test_what_arrives_in_disorder_comes_out_in_order() -> None:
    """A connection may be committed before the step during which it was made is told."""
    timeline: Timeline[str] = Timeline(HOLD)
    for seconds, item in ((2, "third"), (4, "first"), (3, "second")):
        timeline.put(ago(seconds), item)
    assert timeline.due(NOW) == ["first", "second", "third"]
    assert timeline.due(NOW) == []


def test_what_is_too_young_is_held() -> None:
    """Something older may still come."""
    timeline: Timeline[str] = Timeline(HOLD)
    timeline.put(ago(0.5), "young")
    assert timeline.due(NOW) == []
    timeline.put(ago(0.7), "older")
    assert timeline.due(NOW + HOLD) == ["older", "young"]


def test_what_comes_too_late_is_not_lost() -> None:
    """It is told at once, out of order."""
    timeline: Timeline[str] = Timeline(HOLD)
    timeline.put(ago(2), "early")
    assert timeline.due(NOW) == ["early"]
    timeline.put(ago(9), "late")
    assert timeline.due(NOW) == ["late"]


def test_the_rest_comes_in_order_too() -> None:
    """At the end nothing is held back; of one time, in the order of arrival."""
    timeline: Timeline[str] = Timeline(HOLD)
    for item in ("a", "b", "c"):
        timeline.put(NOW, item)
    assert timeline.rest() == ["a", "b", "c"]
