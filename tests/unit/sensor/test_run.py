"""What surrounds a run: the unit file, the word to systemd, the process of its own."""

import configparser
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from limes.sensor import run
from limes.sensor.__main__ import main

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "sensor/limes-sensor.service"
CONTROL_UNIT = ROOT / "control/limes-control.service"


def read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    assert parser.read(path)
    return parser


@pytest.fixture
def unit() -> configparser.ConfigParser:
    return read(UNIT)


def test_units_keep_their_state_apart_and_private() -> None:
    """Two users share no state directory: each start would take the other's files from it."""
    found = set()
    for path, name in ((UNIT, "SENSOR"), (CONTROL_UNIT, "CONTROL")):
        service = read(path)["Service"]
        directory = service["StateDirectory"]
        assert service["StateDirectoryMode"] == "0700"
        assert service["Environment"] == f"LIMES_{name}_STATE=%S/{directory}"
        found.add(directory.split("/")[0])
    assert len(found) == 2


def test_unit_starts_the_documented_command_and_waits_for_ready(
    unit: configparser.ConfigParser,
) -> None:
    """The sensor tells systemd when its hooks are attached."""
    service = unit["Service"]
    assert service["ExecStart"] == "/usr/bin/limes sensor run --config /etc/limes/sensor.toml"
    assert service["Type"] == "notify"


def test_unit_leaves_time_for_a_clean_stop(unit: configparser.ConfigParser) -> None:
    """Longer than the wait for acknowledgements, or what is left would be a kill."""
    assert int(unit["Service"]["TimeoutStopSec"]) >= 2 * run._ACK_SECONDS


def test_unit_grants_what_loading_needs(unit: configparser.ConfigParser) -> None:
    """The capabilities that the loader asks for, and those for reading other processes."""
    granted = set(unit["Service"]["CapabilityBoundingSet"].split())
    assert {"CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"} <= granted
    assert {"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"} <= granted


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By path or abstract name."""
    name = f"@limes-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + name[1:] if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        run.tell_systemd("READY=1")
        assert server.recv(64) == b"READY=1"


def test_nobody_is_told_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by hand, there is no socket."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    run.tell_systemd("READY=1")


def test_mistake_in_the_configuration_is_one_line_and_exit_3(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No traceback for what a person can mend."""
    assert main(["--set", "spool_mib=0"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("limes sensor: Cannot use the configuration")
    assert error.count("\n") == 1


def test_daemon_imports_nothing_that_only_a_terminal_needs() -> None:
    """Memory on a training host belongs to the training."""
    code = (
        "import sys, limes.sensor.__main__; "
        "print([m for m in ('rich.console', 'typer', 'duckdb', 'pyarrow', 'importlib.metadata', "
        "'limes.control') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
