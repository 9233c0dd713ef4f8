"""Every command: its help, its example, what it loads, how its errors end."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from limes.cli import errors, main
from limes.cli.commands import CANNOT, EXAMPLES, USAGE
from limes.cli.main import app
from limes.cli.reference import commands
from limes.control.errors import HuntError
from limes.drill import StepFailed
from limes.sensor.errors import ConfigError

from .conftest import Parse

FIRST_SENTENCE = 70
LIMES = [sys.executable, "-P", "-m", "limes.cli.main"]


def leaves() -> Iterator[tuple[str, Any]]:
    """Yield each command that does something, with its name after `limes`."""
    for name, command in commands(typer.main.get_command(app), "limes"):
        if not getattr(command, "commands", None):
            yield name.removeprefix("limes "), command


LEAVES = dict(leaves())


def run(*arguments: str, code: str = "pass") -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; `code` runs before it."""
    start = f"import sys; sys.argv = {['limes', *arguments]!r}; {code}; "
    start += "from limes.cli.main import run; run()"
    return python(start)


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run some Python."""
    return subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("name", LEAVES)
def test_the_first_sentence_of_help_is_short(name: str) -> None:
    """One sentence that fits a line of the list of commands."""
    first = LEAVES[name].help.split("\n\n")[0]
    assert first.endswith(".")
    assert first.count(". ") == 0
    assert len(first) <= FIRST_SENTENCE


@pytest.mark.parametrize("name", LEAVES)
def test_help_ends_with_an_example(name: str) -> None:
    """The last line of `--help` is a command line of this command."""
    done = subprocess.run(
        [*LIMES, *name.split(), "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    last = done.stdout.rstrip().splitlines()[-1].strip()
    assert last == EXAMPLES[name]
    assert last.startswith(f"limes {name} ") or last == f"limes {name}"


@pytest.mark.parametrize("name", LEAVES)
def test_every_example_parses(name: str, parse: Parse) -> None:
    """What the help shows is accepted as it stands, by the command it belongs to."""
    program, words = EXAMPLES[name].split(" ", 1)
    assert program == "limes"
    assert parse(words) == [f"limes {name}"]


def test_no_example_without_its_command() -> None:
    """The table of examples and the commands are the same."""
    assert set(EXAMPLES) == set(LEAVES)


def test_help_loads_neither_side() -> None:
    """The list of commands is there at once: nothing heavy is imported for it."""
    code = (
        "import atexit; atexit.register(lambda: sys.stderr.write(repr("
        "{'duckdb', 'pyarrow', 'numpy', 'grpc', 'limes.drill', 'limes.sensor', 'limes.control'}"
        " & set(sys.modules))))"
    )
    done = run("--help", code=code)
    assert done.returncode == 0
    assert done.stderr == "set()"


WITHOUT_CONTROL = "sys.modules.update(dict.fromkeys(['duckdb', 'pyarrow', 'yaml']))"
WITHOUT_SENSOR = "sys.modules.update(dict.fromkeys(['numpy', 'nanoarrow']))"


def test_the_sensor_runs_without_the_control_planes_packages(tmp_path: Path) -> None:
    """A training host has no DuckDB: command and daemon get as far as what they are missing."""
    words = ["--set", "loader=replay", "--set", "replay_file=/nowhere"]
    daemon = python(
        f"import runpy, sys; {WITHOUT_CONTROL}; sys.argv[1:] = {words!r}; "
        "runpy.run_module('limes.sensor', run_name='__main__')"
    )
    command = run("sensor", "run", "--state", str(tmp_path), code=WITHOUT_CONTROL)
    assert daemon.returncode == command.returncode == CANNOT
    assert "Tried to open the recording /nowhere: No such file" in daemon.stderr
    assert command.stderr.startswith(f"limes: Cannot read certificate {tmp_path}/certs/")


@pytest.mark.parametrize(
    ("arguments", "code", "extra"),
    [
        (["hunt", "SELECT 1"], WITHOUT_CONTROL, "limes[control]"),
        (["rules", "list"], WITHOUT_CONTROL, "limes[control]"),
        (["sensor", "run"], WITHOUT_SENSOR, "limes[sensor]"),
        (["doctor"], WITHOUT_SENSOR, "limes[sensor]"),
    ],
)
def test_a_missing_extra_is_named(arguments: list[str], code: str, extra: str) -> None:
    """One line says what to install."""
    done = run(*arguments, code=code)
    assert done.returncode == CANNOT
    assert extra in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no"), CANNOT),
        (HuntError("no"), CANNOT),
        (StepFailed("no"), CANNOT),
        (errors.ChildError("no"), CANNOT),
        (errors.UsageError("no"), USAGE),
    ],
)
def test_errors_made_on_purpose_become_a_line_and_a_code(error: Exception, code: int) -> None:
    """Each part's errors end in the same way."""
    assert errors.explain(error) == ("no", code)


def test_an_error_of_several_lines_becomes_one() -> None:
    """What a library says is joined."""
    assert errors.explain(ConfigError("a\n  b")) == ("a b", CANNOT)


def test_a_defect_keeps_its_traceback() -> None:
    """Only what was raised on purpose is shortened."""
    assert errors.explain(KeyError("x")) is None
    assert errors.explain(ModuleNotFoundError(name="limes.nothing")) is None


def test_debug_shows_where_an_error_came_from() -> None:
    """The traceback is there for who asks for it, and for nobody else."""
    quiet = run("status", "--state", "/nowhere")
    assert quiet.returncode == CANNOT
    assert "Traceback" not in quiet.stderr
    loud = run("--debug", "status", "--state", "/nowhere")
    assert "Traceback" in loud.stderr
    assert "CertificateError: Cannot read certificate /nowhere/" in loud.stderr


@pytest.mark.parametrize(
    "line",
    [
        "up",
        "up --seed 4 --scope /",
        "up --drill --policy /etc/passwd",
        "up --drill --policy /nowhere",
        "up --drill --state /run/limes",
        "up --drill --state /etc/passwd",
        "up --drill --seed x",
        "up --drill --pack /nowhere",
        "up --scope x",
        "up --scope /a/../b",
        "up --scope / --syscall-hooks",
        "up --scope / --plan kprobe",
        "up --scope / --loader replay",
        "up --scope / --listen 7443",
        "up --scope / --listen localhost:70000",
        "up --scope / --record /nowhere/file",
        "status --control nobody",
        "status --ca /nowhere",
        "status --certificate /nowhere",
        "status --key /nowhere",
        "status --state /etc/passwd",
        "events --kind process_exec",
        "events --count -1",
        "hunt",
        "hunt ''",
        "hunt --file /dev/null",
        "hunt 'SELECT 1' --file x",
        "hunt --file /nowhere/x.sql",
        "hunt 'SELECT 1' --rows many",
        "hunt 'SELECT 1' --timeout -1",
        "hunt 'SELECT 1' --max-age -1",
        "drill --seed x",
        "drill --state-dir /run/limes",
        "drill --state-dir /etc/passwd",
        "replay /nowhere",
        "replay --policy /nowhere",
        "replay --pack /nowhere",
        "replay --state /etc/passwd",
        "doctor --plan x",
        "doctor --loader replay",
        "alerts list --after -1",
        "alerts list --limit 0",
        "alerts list --json --csv",
        "alerts follow --count -1",
        "alerts show",
        "alerts show 0",
        "alerts show some_rule",
        "ca issue",
        "ca issue --role king",
        "ca issue --role sensor --name a/b",
        "ca issue --role sensor --name ''",
        "ca issue --role sensor --name .a",
        "ca issue --role sensor --host gpu-07",
        "ca issue --role sensor --days 0",
        "ca issue --role sensor --days 99999999",
        "ca issue --role sensor --out /etc/passwd",
        "ca issue --role control --host 'a b'",
        "control serve --config /nowhere",
        "control serve --listen here",
        "control serve --log-level loud",
        "control serve --pack /nowhere",
        "control serve --policy /nowhere",
        "rules list --json --csv",
        "rules list --pack /nowhere",
        "rules lint --pack /nowhere",
        "rules test --pack /nowhere",
        "rules test no_such_rule",
        "sensor run --config /nowhere",
        "sensor run --control here",
        "sensor run --host-id a/b",
        "sensor run --scope x",
        "sensor run --scope / --syscall-hooks",
        "sensor run --plan x",
        "sensor run --loader x",
        "sensor run --loader replay",
        "sensor run --log-level x",
        "sensor run --replay /nowhere",
        "sensor run --replay /etc/passwd --loader libbpf",
        "sensor run --record /nowhere/file",
        "nothing",
        "--nothing",
        "hunt --nothing",
    ],
)
def test_wrong_usage_ends_with_2(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on standard error says what is wrong, and nothing is on standard output."""
    monkeypatch.setattr(sys, "argv", ["limes", *shlex.split(line)])
    with pytest.raises(SystemExit) as ended:
        main.run()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (USAGE, ""), said.err
    assert said.err.startswith("limes: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("line", ["", "alerts", "ca"])
def test_a_group_without_a_command_shows_its_commands(line: str) -> None:
    """It is wrong usage all the same."""
    done = run(*shlex.split(line))
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert "Commands:" in done.stderr


def test_flags_are_not_blamed_for_the_file(tmp_path: Path) -> None:
    """A configuration that is wrong by itself cannot be run; with good flags or bad ones."""
    config = tmp_path / "sensor.toml"
    config.write_text('plan = "kprobe"\n')
    done = run("sensor", "run", "--config", str(config), "--scope", "/x")
    assert done.returncode == CANNOT
    assert str(config) in done.stderr


def test_an_address_from_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the variable."""
    monkeypatch.setenv("LIMES_CONTROL", "nobody")
    done = run("status")
    assert done.returncode == USAGE
    assert "LIMES_CONTROL" in done.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    """`limes ... | head` ends without a word, and not as if all had been well."""
    with subprocess.Popen(
        [*LIMES, "rules", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == b""
        assert command.wait(60) == 1
