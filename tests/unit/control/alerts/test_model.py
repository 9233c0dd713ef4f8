"""Alerts as values, as they are sent, and the news of them."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from limes.control.alerts.board import AlertBoard
from limes.control.alerts.model import Alert, EvidenceId, ProcessNode, ancestors, labelled
from limes.control.alerts.service import to_proto
from limes.control.rules.given import START
from limes.control.rules.model import SEVERITIES
from limes.v1 import alert_service_pb2 as pb

ALERT = Alert(
    number=3,
    alert_id="a1",
    raised_at=START + timedelta(seconds=1, microseconds=250_000),
    rule_id="r",
    rule="a_rule",
    rule_version=2,
    severity="high",
    attack=("T1572",),
    summary="It happened.",
    event_time=START,
    host_id="host-1",
    boot_id="boot-1",
    cgroup_id=5,
    cgroup_path="/jobs/job_2",
    cgroup_ancestors=("/jobs", "/"),
    process_entity_id=2**64 - 1,
    process_exec_id=7,
    process_tree=(
        ProcessNode(
            process_entity_id=2**64 - 1,
            process_exec_id=7,
            process_pid=70,
            process_executable="/bin/x",
            process_command_line="x y",
        ),
    ),
    evidence=(EvidenceId(kind="connections", sensor_epoch=9, event_seq=11),),
    simulated_device=True,
    dedup_key="[]",
)


@pytest.mark.parametrize(
    ("path", "above"),
    [
        ("/a/b/c", ("/a/b", "/a", "/")),
        ("/a", ("/",)),
        ("/", ()),
        ("unattributed", ()),
    ],
)
def test_ancestors_come_innermost_first(path: str, above: tuple[str, ...]) -> None:
    """The root is the last; what has no path has no ancestors."""
    assert ancestors(path) == above


def test_a_simulated_device_is_always_named() -> None:
    """Once, whatever the rule's author wrote."""
    assert labelled("used gpu0", simulated=True) == "used gpu0 (simulated device)"
    assert labelled("used a simulated device", simulated=True) == "used a simulated device"
    assert labelled("used nvidia0", simulated=False) == "used nvidia0"


def test_everything_of_an_alert_is_sent() -> None:
    """Each field of the message is filled from the alert."""
    message = to_proto(ALERT)
    assert {field.name for field, _ in message.ListFields()} == {
        field.name for field in pb.Alert.DESCRIPTOR.fields
    }
    assert message.severity == pb.SEVERITY_HIGH
    assert message.event_time.ToDatetime() == ALERT.event_time
    assert message.raised_at.ToMicroseconds() % 1_000_000 == 250_000
    assert message.evidence[0].epoch == 9
    assert message.process_tree[0].process_pid == 70


def test_every_severity_has_a_number() -> None:
    """Words and numbers grow together."""
    numbers = [to_proto(replace(ALERT, severity=word)).severity for word in SEVERITIES]
    assert numbers == [1, 2, 3, 4]


def test_the_board_wakes_who_waits() -> None:
    """For an alert beyond the one that was seen, or for the end."""
    board = AlertBoard()
    assert board.wait(0, 0.0) is False
    board.raised(2)
    assert board.wait(1, 0.0) is True
    assert board.wait(2, 0.0) is False
    seen: list[bool] = []
    waiting = threading.Thread(target=lambda: seen.append(board.wait(2, 30.0)))
    waiting.start()
    board.raised(3)
    waiting.join(10)
    board.close()
    assert (seen, board.closed) == ([True], True)
    assert board.wait(3, 30.0) is False
