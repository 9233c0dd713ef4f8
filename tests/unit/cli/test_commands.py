"""Every command: its help, its example, what it loads, how its errors end."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from limes.cli import errors
from limes.cli.commands import CANNOT, EXAMPLES, USAGE
from limes.cli.main import app
from limes.cli.reference import commands
from limes.control.errors import HuntError
from limes.drill import StepFailed
from limes.sensor.errors import ConfigError

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


def noting(called: list[str], name: str) -> Callable[..., None]:
    """Return what stands in for a command: it notes that it was called."""
    return lambda **_options: called.append(name)


@pytest.mark.parametrize("name", LEAVES)
def test_every_example_parses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the help shows is accepted as it stands, by the command it belongs to."""
    root = typer.main.get_command(app)
    called: list[str] = []
    for each, command in commands(root, "limes"):
        if not getattr(command, "commands", None):
            monkeypatch.setattr(command, "callback", noting(called, each))
    program, *words = shlex.split(EXAMPLES[name])
    assert program == "limes"
    root.main(words, standalone_mode=False)
    assert called == [f"limes {name}"]


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
        (["sensor", "run", "--replay", "x"], WITHOUT_SENSOR, "limes[sensor]"),
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
    quiet = run("sensor", "run", "--config", "/nowhere")
    assert quiet.returncode == CANNOT
    assert "Traceback" not in quiet.stderr
    loud = run("--debug", "sensor", "run", "--config", "/nowhere")
    assert "Traceback" in loud.stderr
    assert "ConfigError: Cannot read configuration /nowhere" in loud.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["up"],
        ["up", "--seed", "4", "--scope", "/"],
        ["up", "--drill", "--policy", "x"],
        ["hunt"],
        ["hunt", "SELECT 1", "--file", "x"],
        ["hunt", "--file", "/nowhere/x.sql"],
        ["rules", "list", "--json", "--csv"],
        ["ca", "issue", "--role", "king"],
        ["nothing"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    """It says what is wrong on standard error, and nothing on standard output."""
    done = run(*arguments)
    assert done.returncode == USAGE
    assert done.stdout == ""
    assert done.stderr


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
