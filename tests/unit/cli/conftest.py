"""What the tests of the command line share: alerts and rows of events as the server gives them."""

import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from limes.cli.main import app
from limes.cli.reference import commands
from limes.v1 import alert_service_pb2 as pb

START = datetime(2026, 3, 1, 3, 40, tzinfo=UTC)

MakeAlert = Callable[..., pb.Alert]


Parse = Callable[[str], list[str]]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Return what parses a command line and names its command, which does not run.

    The files that it names need not be there.
    """
    root = typer.main.get_command(app)
    called: list[str] = []

    def noting(name: str) -> Callable[..., None]:
        return lambda **_options: called.append(name)

    for name, command in commands(root, "limes"):
        if not getattr(command, "commands", None):
            monkeypatch.setattr(command, "callback", noting(name))
        for option in command.params:
            monkeypatch.setattr(option.type_descriptor.parameter_info, "exists", False)

    def run(words: str) -> list[str]:
        called.clear()
        root.main(shlex.split(words), standalone_mode=False)
        return called

    return run


@pytest.fixture
def make_alert() -> MakeAlert:
    """Return a maker of alerts; `commands` are those of the process tree, oldest first."""

    def make(
        rule: str = "some_rule",
        cgroup: str = "/jobs/7",
        *,
        commands: tuple[str, ...] = ("init", "sh -c x", "ssh -R 1:b:2 c"),
        late: timedelta = timedelta(milliseconds=200),
        **members: Any,
    ) -> pb.Alert:
        alert = pb.Alert(
            number=members.pop("number", 1),
            rule=rule,
            cgroup_path=cgroup,
            severity=members.pop("severity", pb.SEVERITY_HIGH),
            host_id="gpu-07",
            **members,
        )
        for pid, command in reversed(list(enumerate(commands, start=100))):
            alert.process_tree.add(process_pid=pid, process_command_line=command)
        alert.event_time.FromDatetime(START)
        alert.raised_at.FromDatetime(START + late)
        return alert

    return make
