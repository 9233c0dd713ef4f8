"""A drill is judged by exactly what it had to cause."""

from datetime import timedelta
from typing import Any

import pytest
from limes.cli.live.verdict import judge, latency_summary
from limes.cli.live.watch import Seen
from limes.v1 import alert_service_pb2
from limes.v1.admin_service_pb2 import RuleStatus

from .conftest import MakeAlert

WANTED = [("a", "/jobs/7"), ("b", "/jobs/7")]


def seen(**attached: str) -> Seen:
    """Return what was seen of hooks: signal to state."""
    found = Seen()
    for signal, state in attached.items():
        found.hooks[signal, f"tp/{signal}"] = {"event_action": state}
    return found


def verdict(alerts: list[alert_service_pb2.Alert], found: Seen | None = None, **other: Any) -> Any:
    expected = other.get("expected", WANTED)
    return judge(found or seen(exec="attached"), alerts, expected, loader="libbpf", database="x")


def test_exactly_the_expected_alerts_are_fine(make_alert: MakeAlert) -> None:
    """In any order."""
    found = verdict([make_alert("b"), make_alert("a")])
    assert found.ok
    assert found.plain()["ok"] is True
    assert found.plain()["plan"] == {"exec": "tp/exec"}


def test_a_missing_alert_is_named(make_alert: MakeAlert) -> None:
    """It is not fine, and the rule and its cgroup are said."""
    found = verdict([make_alert("a")])
    assert not found.ok
    assert found.missing == (("b", "/jobs/7"),)


def test_an_alert_of_another_cgroup_is_missing_and_unexpected(make_alert: MakeAlert) -> None:
    """The benign job must not be blamed for what the other did."""
    found = verdict([make_alert("a"), make_alert("b", "/jobs/8")])
    assert not found.ok
    assert found.missing == (("b", "/jobs/7"),)
    assert found.unexpected == (("b", "/jobs/8"),)


def test_an_alert_that_came_twice_is_unexpected(make_alert: MakeAlert) -> None:
    """Once is expected."""
    found = verdict([make_alert("a"), make_alert("b"), make_alert("b")])
    assert not found.ok
    assert found.unexpected == (("b", "/jobs/7"),)


def test_a_loss_is_not_fine(make_alert: MakeAlert) -> None:
    """Even when every alert came."""
    found = seen(exec="attached")
    found.losses["exec_ring_full"] = 3
    judged = verdict([make_alert("a"), make_alert("b")], found)
    assert not judged.ok
    assert judged.plain()["losses"] == {"exec_ring_full": 3}


@pytest.mark.parametrize("cause", ["gpu_seen_full", "spool_full"])
def test_what_lost_nothing_is_fine(cause: str, make_alert: MakeAlert) -> None:
    """A counter that costs no event, or a row that counts none, is no loss."""
    found = seen(exec="attached")
    found.losses[cause] = 5 if cause == "gpu_seen_full" else 0
    assert verdict([make_alert("a"), make_alert("b")], found).ok


@pytest.mark.parametrize("state", ["refused", "not_used", "detached"])
def test_a_blind_signal_is_not_fine(state: str, make_alert: MakeAlert) -> None:
    """A hook that is not there would make silence look like peace."""
    found = seen(exec="attached", gpu=state)
    judged = verdict([make_alert("a"), make_alert("b")], found)
    assert not judged.ok
    assert judged.blind == ("gpu",)


def test_a_rule_that_cannot_run_is_not_fine(make_alert: MakeAlert) -> None:
    """Whatever came, its alerts could be missing."""
    rules = [RuleStatus(rule="a"), RuleStatus(rule="c", error="no such column")]
    found = judge(Seen(), [make_alert("a")], None, loader="x", database="x", rules=rules)
    assert not found.ok
    assert found.plain()["broken_rules"] == {"c": "no such column"}


def test_without_expectations_any_alert_is_fine(make_alert: MakeAlert) -> None:
    """A recording is shown, not judged."""
    found = judge(Seen(), [make_alert("a")], None, loader="replay", database="x")
    assert found.ok
    assert found.unexpected == ()


def test_latencies_are_of_nearest_rank(make_alert: MakeAlert) -> None:
    """Median, 99th percentile and longest are values that there were."""
    alerts = [make_alert(late=timedelta(milliseconds=number)) for number in (40, 10, 30, 20)]
    assert latency_summary(verdict(alerts).latencies_ms()) == {"p50": 20, "p99": 40, "max": 40}
    assert latency_summary([]) is None
