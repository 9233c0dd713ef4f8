"""Rows in a width: a table while one can be read, else records; never anything lost or torn."""

import io
import os
import pty
import re
import subprocess
import sys
import termios

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limes.cli.layout import Column, arranged
from limes.cli.show.hunts import columns
from rich.console import Console

WIDE_HUNT = {
    "event_time": ["2026-03-01 03:40:00.123", "2026-03-01 03:40:07.001"],
    "host_id": ["gpu-07", "gpu-07"],
    "cgroup_path": ["/slurm/uid_1000/job_4711/step_0", "/slurm/uid_1000/job_4711/step_0"],
    "process_executable": ["/usr/bin/ssh", "/usr/bin/python3.11"],
    "process_command_line": ["ssh -N -R 2222:localhost:22 u@203.0.113.9", "python3 agent.py"],
    "destination_ip": ["203.0.113.9", "10.20.0.14"],
    "destination_port": [22, 6379],
}


def shown(table: pa.Table, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True, color_system=None)
    console.print(arranged(columns(table), width))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_wide_answer_is_a_record_a_row_in_80_columns() -> None:
    """Each column has a line, its name beside its value, nothing folded that fits."""
    lines = shown(pa.table(WIDE_HUNT), 80)
    assert max(map(len, lines)) <= 80
    assert [line[:6] for line in lines if " of 2 " in line] == ["1 of 2", "2 of 2"]
    assert "process_command_line  ssh -N -R 2222:localhost:22 u@203.0.113.9" in lines
    assert "destination_port      6379" in lines
    assert len(lines) == 2 * (1 + len(WIDE_HUNT))


def test_the_same_answer_is_a_table_in_200_columns() -> None:
    """A line of names, a line each row."""
    lines = [line for line in shown(pa.table(WIDE_HUNT), 200) if line.strip(" ─")]
    assert lines[0].split() == list(WIDE_HUNT)
    assert len(lines) == 3
    assert "ssh -N -R 2222:localhost:22 u@203.0.113.9" in lines[1]


@pytest.mark.parametrize("width", [80, 200])
def test_a_long_column_beside_short_ones_is_folded_not_turned(width: int) -> None:
    """One command line makes no table unreadable; the address beside it stays whole."""
    table = pa.table({"ip": ["203.0.113.254:65535"], "command": ["word " * 60], "n": [3]})
    lines = shown(table, width)
    assert max(map(len, lines)) <= width
    assert lines[1].split() == ["ip", "command", "n"]
    assert "203.0.113.254:65535" in "\n".join(lines)


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(80, 200))
def test_everything_is_shown_within_the_width(widths: list[int], terminal: int) -> None:
    """Every character of every cell, as a table or as a record."""
    cells = [chr(ord("A") + place) * width for place, width in enumerate(widths)]
    lines = shown(pa.table({f"c{place}": [cell] for place, cell in enumerate(cells)}), terminal)
    assert max(map(len, lines)) <= terminal
    for cell in cells:
        assert "".join(lines).count(cell[0]) == len(cell)


def test_an_answer_without_rows_is_its_names() -> None:
    """However many columns there are."""
    text = "".join(shown(pa.table({name: pa.array([], pa.string()) for name in WIDE_HUNT}), 400))
    assert text.split()[: len(WIDE_HUNT)] == list(WIDE_HUNT)


def test_a_terminal_is_not_an_attacker_s_to_command() -> None:
    """Escapes, line breaks and direction marks in arguments are shown, not obeyed."""
    evil = "ls \x1b]0;owned\x07\x1b[2J\r\nfake row \u202egnp.exe [bold]not bold[/bold]"
    for width in (40, 400):
        table = pa.table({"process_command_line": [evil], "evil\x1b[31m": [1]})
        text = "\n".join(shown(table, width))
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
        assert "[/bold]" in text
    assert r"\x1b]0;owned\x07" in text
    assert len([line for line in text.splitlines() if "fake row" in line]) == 1


def test_a_column_that_may_be_folded_further_keeps_the_table() -> None:
    """A list says how little will do."""
    cells = ["/slurm/uid_1000/job_4711"]
    for least, table in ((None, False), (12, True)):
        found = [
            Column(name="rule", cells=["ssh_tunnel_command_line"], least=0),
            Column(name="cgroup", cells=cells, least=least),
        ]
        console = Console(width=44, file=io.StringIO(), record=True, color_system=None)
        console.print(arranged(found, 44))
        assert ("1 of 1" not in console.export_text()) is table


ANSWER = """
import datetime, pyarrow as pa
from limes.cli.output import Form
from limes.cli.show.hunts import show_answer
from limes.control.hunt.result import HuntResult
now = datetime.datetime.now(datetime.UTC)
show_answer(HuntResult(
    table=pa.table({f"column_{n}": ["x" * 20] for n in range(6)}), snapshot_time=now,
    snapshot_age=datetime.timedelta(), oldest_event_time=now, held=(), limit="",
    elapsed=datetime.timedelta(),
), Form.TABLE)
"""


ALERTS = """
from limes.cli.output import Form
from limes.cli.show.alerts import show_list
from limes.v1 import alert_service_pb2 as pb
show_list([pb.Alert(
    number=7, rule="gpu_use_by_undeclared_program", severity=pb.SEVERITY_HIGH,
    cgroup_path="/slurm/uid_1000/job_4711/step_0", summary="a program that was " * 9,
)], Form.TABLE)
"""


def on_a_terminal(width: int, code: str = ANSWER) -> str:
    """Return what some Python shows on a terminal of that width."""
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, width))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.DEVNULL,
        env={**environment, "TERM": "xterm"},
    ) as process:
        os.close(terminal)
        text = b""
        try:
            while piece := os.read(screen, 65536):
                text += piece
        except OSError:
            pass  # the process has ended
        assert process.wait(60) == 0
    os.close(screen)
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode())  # but for its colours


def test_the_terminal_itself_is_asked_how_wide_it_is() -> None:
    """Records at 80, a table at 200, and a table where nobody looks: lines may be long there."""
    assert "1 of 1" in on_a_terminal(80)
    assert "1 of 1" not in on_a_terminal(200)
    piped = subprocess.run(
        [sys.executable, "-P", "-c", ANSWER], capture_output=True, text=True, check=True, timeout=60
    )
    assert "1 of 1" not in piped.stdout


def test_alerts_are_a_list_in_80_and_in_200_columns() -> None:
    """The narrow one leaves the summary out, the wide one ends it with a word and a mark."""
    narrow, wide = on_a_terminal(80, ALERTS), on_a_terminal(200, ALERTS)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "1 of 1" not in narrow + wide
    for text in (narrow, wide):
        assert "gpu_use_by_undeclared_program" in text
    assert "summary" not in narrow
    assert "summary" in wide
    assert re.search(r" (a|program|that|was)…", wide)
