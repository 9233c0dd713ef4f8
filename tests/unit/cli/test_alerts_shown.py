"""An alert as a person sees it, and as a program gets it."""

import json
from datetime import timedelta

import pytest
from limes.cli.output import Form
from limes.cli.show.alerts import drawn, plain, show_list, tree
from limes.v1 import alert_service_pb2 as pb

from .conftest import MakeAlert


def lines(alert: pb.Alert, width: int = 90) -> list[str]:
    return drawn(alert, width).plain.splitlines()


def test_the_tree_goes_down_to_the_process(make_alert: MakeAlert) -> None:
    """The oldest ancestor first, each child below its parent."""
    nodes = make_alert().process_tree
    assert [line.plain for line in tree(nodes, 80)] == [
        "100  init",
        "└─ 101  sh -c x",
        "   └─ 102  ssh -R 1:b:2 c",
    ]


def test_a_long_command_line_stays_within_the_width(make_alert: MakeAlert) -> None:
    """It takes two lines at most, and what is left out is counted."""
    nodes = make_alert(commands=("sh", "x " * 400)).process_tree
    first, second = (line.plain for line in tree(nodes, 60))
    assert first == "100  sh"
    assert len(second.splitlines()) == 2
    assert all(len(line) <= 60 for line in second.splitlines())
    assert "more" in second


def test_everything_needed_is_there(make_alert: MakeAlert) -> None:
    """Severity, rule, techniques, summary, cgroup, host, evidence and delay."""
    alert = make_alert(summary="It did it", attack=["T1572"], severity=pb.SEVERITY_CRITICAL)
    alert.evidence.add(kind="connections", epoch=1, event_seq=2)
    alert.evidence.add(kind="connections", epoch=1, event_seq=3)
    text = "\n".join(lines(alert))
    for part in (
        "critical",
        "some_rule",
        "T1572",
        "It did it",
        "/jobs/7 on gpu-07 at 03:40:00.000 UTC",
        "evidence: 2 of connections",
        "200 ms after the event",
    ):
        assert part in text


def test_a_simulated_device_is_said(make_alert: MakeAlert) -> None:
    """In the drawing and in the values; and never of a real one."""
    assert "simulated device" in lines(make_alert(simulated_device=True))[-1]
    assert plain(make_alert(simulated_device=True))["simulated_device"] is True
    assert "simulated" not in "\n".join(lines(make_alert()))


def test_no_delay_is_claimed_for_a_recording(make_alert: MakeAlert) -> None:
    """What was read months later was not raised months after the event in any useful sense."""
    assert "after the event" not in lines(make_alert(late=timedelta(days=90)))[-1]


def test_an_alert_cannot_move_the_cursor(make_alert: MakeAlert) -> None:
    """Summary, cgroup and command lines are escaped."""
    alert = make_alert(cgroup="/x\x1b[2J", summary="\x1b[2J", commands=("\x1b[2J",))
    assert "\x1b" not in "".join(lines(alert))


def test_json_has_everything(make_alert: MakeAlert, capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line, with every member of the alert."""
    show_list([make_alert("a"), make_alert("b")], Form.JSON)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["rule"], second["rule"]) == ("a", "b")
    assert first["latency_ms"] == 200.0
    assert first["process_tree"][0]["process_command_line"] == "ssh -R 1:b:2 c"
    members = {field.name for field in pb.Alert.DESCRIPTOR.fields} - {"cgroup_path"}
    assert members <= set(first)


def test_an_empty_list_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A person who sees nothing would wonder; the data is empty."""
    show_list([], Form.TABLE)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "There are no such alerts.\n")


def test_csv_has_a_line_of_names(make_alert: MakeAlert, capsys: pytest.CaptureFixture[str]) -> None:
    """Also without any alert."""
    show_list([], Form.CSV)
    assert capsys.readouterr().out.startswith("number,alert_id,rule,")
