"""A run told to a person: in order, in few lines, nothing left out unsaid."""

import re
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from limes.cli.live.narrate import Narrator, Told, last_select
from limes.cli.live.report import Start

from .conftest import START, MakeAlert

CGROUP = "/limes-drill-x"
START_OF = Start(
    address="127.0.0.1:1",
    database="/s/db",
    loader="libbpf",
    plan="fentry",
    source=f"cgroup {CGROUP}",
    cgroup=CGROUP,
    folder="/s/drill/x",
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def execs(*rows: tuple[float, str, str]) -> pa.Table:
    """Return execs of (seconds after the start, job, command line)."""
    return pa.Table.from_pylist(
        [
            {
                "event_time": at(seconds).replace(tzinfo=None),
                "event_action": "exec",
                "cgroup_path": f"{CGROUP}/{job}",
                "process_command_line": command,
                "process_flags": 0,
            }
            for seconds, job, command in rows
        ]
    )


def forks(count: int, seconds: float, job: str) -> pa.Table:
    row = {"event_time": at(seconds).replace(tzinfo=None), "cgroup_path": f"{CGROUP}/{job}"}
    return pa.Table.from_pylist([row] * count)


def connections(count: int, seconds: float) -> pa.Table:
    row: dict[str, Any] = {
        "event_time": at(seconds).replace(tzinfo=None),
        "event_action": "connection_failed",
        "cgroup_path": f"{CGROUP}/job_2",
        "process_executable": "/bin/scan",
        "network_transport": "tcp",
        "destination_ip": "10.0.0.1",
        "destination_port": 1,
        "connection_error": 111,
    }
    return pa.Table.from_pylist([row] * count)


def told(narrator: Narrator, capsys: pytest.CaptureFixture[str]) -> list[str]:
    narrator.settled()
    return capsys.readouterr().out.splitlines()


def test_events_come_below_their_step(capsys: pytest.CaptureFixture[str]) -> None:
    """Also when they arrive after the next step has begun."""
    narrator = Narrator()
    narrator._timeline._hold = timedelta(days=36500)
    narrator.started(START_OF)
    narrator.step("one", "first", at(1))
    narrator.step("two", "second", at(5))
    narrator.events("process_execs", execs((2, "job_1", "early"), (6, "job_1", "late")))
    out = [line for line in told(narrator, capsys) if re.search("early|late|first|second", line)]
    assert [line.split()[-1] for line in out] == ["first", "early", "second", "late"]


def test_cgroups_and_the_drills_folder_are_shown_short(capsys: pytest.CaptureFixture[str]) -> None:
    """What the short forms stand for is said above."""
    narrator = Narrator()
    narrator.started(START_OF)
    narrator.events("process_execs", execs((2, "job_1", "/s/drill/x/tool --flag")))
    text = "\n".join(told(narrator, capsys))
    assert re.search(r"03:40:02.000  job_1   exec +\$DRILL/tool --flag", text)
    assert "$DRILL is /s/drill/x" in text
    assert f"cgroups are relative to {CGROUP}" in text


def test_a_storm_is_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Four of a kind are shown, the others counted."""
    narrator = Narrator()
    narrator.started(START_OF)
    narrator.events("process_forks", forks(201, 2, "job_3"))
    narrator.events("connections", connections(30, 3))
    out = told(narrator, capsys)
    assert sum("refused (ECONNREFUSED)" in line for line in out) == 4
    assert any(re.search(r"job_2 +and 26 more connects", line) for line in out)
    assert any(re.search(r"job_3 +and 201 forks", line) for line in out)


def test_an_alert_is_told_where_it_belongs(
    capsys: pytest.CaptureFixture[str], make_alert: MakeAlert
) -> None:
    """As a line with severity and rule, under its cgroup."""
    narrator = Narrator()
    narrator.started(START_OF)
    narrator.alert(make_alert("some_rule", f"{CGROUP}/job_2"))
    assert any(
        re.search(r"03:40:00.200  job_2   ALERT +high: some_rule", line)
        for line in told(narrator, capsys)
    )


def test_losses_are_told_and_rows_that_count_none_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is lost silently."""
    narrator = Narrator()
    row = {
        "event_time": at(1).replace(tzinfo=None),
        "event_action": "lost",
        "loss_stage": "kernel",
        "loss_cause": "exec_ring_full",
    }
    narrator.events("losses", pa.Table.from_pylist([{**row, "loss_count": 7}]))
    narrator.events("losses", pa.Table.from_pylist([{**row, "loss_count": 0}]))
    out = told(narrator, capsys)
    assert [line.split(maxsplit=2)[2] for line in out if "lost" in line] == [
        "lost     7 events: kernel, exec_ring_full"
    ]


def test_a_plain_run_tells_alerts_and_losses_alone(
    capsys: pytest.CaptureFixture[str], make_alert: MakeAlert
) -> None:
    """On a busy host every exec would be too much; `limes events` shows them."""
    narrator = Narrator(Told.ALERTS)
    narrator.events("process_execs", execs((2, "job_1", "hidden")))
    narrator.alert(make_alert("some_rule"))
    text = "\n".join(told(narrator, capsys))
    assert "hidden" not in text
    assert "some_rule" in text


def test_a_recording_is_told_in_paragraphs(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing waits: all of it is there at once, and is told in order at the end."""
    narrator = Narrator(Told.AFTERWARDS)
    narrator.events("process_execs", execs((9, "job_1", "third"), (1, "job_2", "first")))
    narrator.events("process_execs", execs((1.5, "job_1", "second")))
    assert capsys.readouterr().out == ""
    out = told(narrator, capsys)
    assert out[0].strip() == f"cgroups are relative to {CGROUP}"
    assert [line.split()[-1] if line else "" for line in out[1:]] == [
        "",
        "first",
        "second",
        "",
        "third",
    ]


def test_trouble_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning of a process is one line beside the data."""
    narrator = Narrator()
    narrator.trouble("sensor", {"event": "publish.refused", "level": "warning", "reason": "no"})
    narrator.settled()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip() == "sensor: publish.refused: reason no"


def test_a_long_hunt_is_shown_by_its_last_select() -> None:
    """With the number of lines above it; a short one is shown whole."""
    short = "-- Why.\nSELECT 1\nFROM x;"
    assert last_select(short) == (0, short)
    long = "WITH a AS (\n" + "    SELECT 1,\n" * 20 + ")\n\nSELECT b\nFROM a;"
    assert last_select(long) == (23, "SELECT b\nFROM a;")
