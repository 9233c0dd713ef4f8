"""The recording that comes along, through the real sensor, control plane, rules and hunts."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from limes.cli.live import sample
from limes.control.rules.load import shipped_packs

from .conftest import limes

RULES = {
    "cloud_metadata_access",
    "egress_to_unlisted_destination",
    "gpu_use_by_undeclared_program",
    "internal_probing",
    "miner_command_line",
    "ssh_tunnel_behaviour",
    "ssh_tunnel_command_line",
    "tunnel_or_pool_with_gpu",
}

CAPABILITIES = ("inh-caps", "ambient-caps", "bounding-set")

Replayed = tuple[Path, list[dict[str, Any]]]


def of_type(replayed: Replayed, name: str) -> list[dict[str, Any]]:
    return [line for line in replayed[1] if line["type"] == name]


def test_it_raises_the_alerts_of_the_incident(replayed: Replayed) -> None:
    """Each once, all of the agent's job, although nothing runs any more."""
    alerts = of_type(replayed, "alert")
    assert sorted(alert["rule"] for alert in alerts) == sorted(RULES)
    assert {alert["cgroup"].rsplit("/", 1)[1] for alert in alerts} == {"job_2"}
    assert {alert["host_id"] for alert in alerts} == {sample.HOST}


def test_a_simulated_device_stays_one(replayed: Replayed) -> None:
    """The mark is in the recording, not on the host that plays it."""
    gpu = [event for event in of_type(replayed, "event") if event["kind"].startswith("gpu_")]
    assert gpu
    assert all(event["gpu_device_simulated"] for event in gpu)
    assert all("simulated device" in event["gpu_device_name"] for event in gpu)
    assert {alert["rule"] for alert in of_type(replayed, "alert") if alert["simulated_device"]} >= {
        "gpu_use_by_undeclared_program",
        "tunnel_or_pool_with_gpu",
    }


def test_the_result_is_the_last_line(replayed: Replayed) -> None:
    """It counts what was told, and nothing was lost."""
    result = replayed[1][-1]
    assert result["type"] == "result"
    assert result["ok"] is True
    assert result["losses"] == {}
    told = [event["kind"] for event in of_type(replayed, "event")]
    assert result["events"] == {kind: told.count(kind) for kind in set(told)}


def test_hunts_and_their_sql_are_told(replayed: Replayed) -> None:
    """Two questions with answers."""
    hunts = of_type(replayed, "hunt")
    assert len(hunts) == 2
    for hunt in hunts:
        assert "SELECT" in hunt["sql"]
        assert hunt["rows"]
        assert len(hunt["rows"][0]) == len(hunt["columns"])


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """Return a directory that belongs to nobody, where nobody can reach it."""
    with TemporaryDirectory(prefix="limes-test-") as directory:
        os.chown(directory, 65534, 65534)
        yield Path(directory)


@pytest.mark.root
def test_it_needs_no_privilege(nobodys: Path) -> None:
    """Nobody can play it; to reach the code under test, wherever it lies, files may be read."""
    done = subprocess.run(
        [
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *(f"--{which}=-all,+dac_override,+dac_read_search" for which in CAPABILITIES),
            *(sys.executable, "-P", "-m", "limes.cli.main"),
            *("replay", "--state", str(nobodys)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "8 alerts" in done.stdout


def test_a_rule_that_cannot_run_ends_it_with_3(tmp_path: Path) -> None:
    """All else is told; the rule and its error are named last, where lint names them too."""
    (pack,) = shipped_packs()
    copy = tmp_path / pack.name
    shutil.copytree(pack, copy)
    broken = next(copy.glob("*/cloud_metadata_access.sql"))
    broken.write_text(broken.read_text().replace("destination_ip", "destination_eye"))
    done = limes("replay", "--pack", copy, "--state", tmp_path / "state")
    assert done.returncode == 3, done.stderr
    assert "7 alerts" in done.stdout
    assert re.search(r"(?m)^Cannot run: cloud_metadata_access: .*destination_eye", done.stdout)
    assert limes("rules", "lint", "--pack", copy).returncode == 1


CANNOT_EXECUTE = """
import sys
from limes.cli import main
sys.executable = sys.argv.pop(1)
main.run()
"""


def test_a_python_that_may_not_be_executed_is_one_line(tmp_path: Path) -> None:
    """As where an installation lies in another user's home: what it was, and what to do."""
    python = tmp_path / "python3"
    python.write_bytes(b"")
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-c", CANNOT_EXECUTE),
            *(python, "replay", "--state", tmp_path / "state"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(
        f"limes: Tried to start the control with {python}: Permission denied. "
    )
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_no_recording_is_one_line(tmp_path: Path) -> None:
    """The sensor's own words, not a log file to read."""
    wrong = tmp_path / "x.limesrec"
    wrong.write_bytes(b"nothing of the kind")
    done = limes("replay", wrong, "--policy", sample.POLICY, "--state", tmp_path / "state")
    assert done.returncode == 3
    assert done.stderr.startswith(f"limes: Read {wrong}: it ")
    assert done.stderr.count("\n") == 1


def test_a_broken_policy_is_one_line(tmp_path: Path) -> None:
    """The control plane's own words: file, key and conflict."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[[job_class]]\nname = "a"\ncgroups = ["jobs/*"]\n')
    done = limes("replay", sample.RECORDING, "--policy", policy, "--state", tmp_path / "state")
    assert done.returncode == 3
    assert done.stderr.startswith(f"limes: Cannot use policy {policy}: job_class[0].cgroups[0]: ")
    assert done.stderr.count("\n") == 1


def test_what_it_recorded_on_can_be_read(replayed: Replayed) -> None:
    """Command lines are whole: the tunnel's is there, argument by argument."""
    tunnels = [
        event
        for event in of_type(replayed, "event")
        if event["kind"] == "process_execs" and " -N -R " in event["process_command_line"]
    ]
    executables = {event["process_executable"] for event in tunnels}
    assert "/usr/bin/ssh" in executables
    for event in tunnels:
        assert len(event["process_args"].encode()) == event["process_args_bytes"]
    json.dumps(tunnels)
