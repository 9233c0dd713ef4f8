"""`limes up --drill`: from kernel to judged alerts, and nothing left behind, however it ends."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from limes.control.rules.load import shipped_packs
from limes.drill import cgroups, registry

from .conftest import DEADLINE, LIMES, Done, limes, wait_until

pytestmark = [pytest.mark.root, pytest.mark.kernel, pytest.mark.timeout(600)]

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
FREE = ("--listen", "127.0.0.1:0")


def assert_nothing_left(said: str, state: Path) -> None:
    """Look for what a run could leave: its words name its drills, its state directory itself."""
    root = cgroups.find_root()
    for ident in set(re.findall(r"limes-drill-([0-9a-f]{8})\b", said)):
        assert [path for path in cgroups.paths(root, ident) if path.exists()] == []
        assert not (registry.RECORDS / f"{ident}.json").exists()
        assert not Path(f"/dev/shm/{cgroups.PREFIX}{ident}").exists()
        # Whoever was killed may wait for init to take note of it.
        wait_until(partial(none, ident), f"the processes of {ident}")
        assert ident not in Path("/proc/mounts").read_text()
    assert list(processes(str(state))) == []
    assert list((state / "drill").glob("*")) == []
    # The kernel frees programs a little later than their process.
    wait_until(lambda: not orphans(), "the end of every program without a process")


def none(word: str) -> bool:
    """Return whether no process has the word."""
    return not list(processes(word))


def processes(word: str) -> Iterator[str]:
    """Yield the command lines of processes that have the word in it, or in their cgroup."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().decode(errors="replace")
            if word in line or word in (path / "cgroup").read_text():
                yield f"{path.name} {line}"
        except OSError:
            continue


def orphans() -> list[str]:
    """Return the programs of ours in the kernel that no process holds."""
    listed = subprocess.run(
        ["bpftool", "--json", "prog", "list"], capture_output=True, text=True, check=True
    )
    return [
        program["name"]
        for program in json.loads(listed.stdout)
        if program.get("name", "").startswith(("handle_", "emit_")) and not program.get("pids")
    ]


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, list[dict[str, Any]]]:
    """One drill in JSON lines: how it ended, and each line."""
    state = tmp_path_factory.mktemp("drilled") / "state"
    done = limes("up", "--drill", "--json", "--state", state, *FREE)
    assert_nothing_left(done.stdout, state)
    return done, [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def drilling(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Give a run that has come to its fourth step, and the log of all it says."""
    log = tmp_path / "log"
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            [*LIMES, "up", "--drill", "--json", "--state", tmp_path / "state", *FREE],
            stdout=stream,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        wait_until(lambda: '"name":"probing"' in log.read_text(), "a step")
        yield process, log


Drilled = tuple[Done, list[dict[str, Any]]]


def of_type(drilled: Drilled, name: str, **values: Any) -> list[dict[str, Any]]:
    return [
        line
        for line in drilled[1]
        if line["type"] == name and all(line[key] == value for key, value in values.items())
    ]


def test_exactly_the_expected_alerts_come(drilled: Drilled) -> None:
    """All eight of the agent's job, none of the trainer or the benign job; exit code 0."""
    done, lines = drilled
    assert done.returncode == 0, done.stderr
    result = lines[-1]
    assert result["type"] == "result"
    assert result["ok"] is True
    pairs = [(alert["rule"], alert["cgroup"]) for alert in result["alerts"]]
    assert sorted(pairs) == sorted((each["rule"], each["cgroup"]) for each in result["expected"])
    assert {rule for rule, _ in pairs} == RULES
    assert {cgroup.rsplit("/", 1)[1] for _, cgroup in pairs} == {"job_2"}


def test_every_alert_has_attribution(drilled: Drilled) -> None:
    """cgroup with ancestors, process tree to the agent, evidence, ATT&CK ids."""
    for alert in of_type(drilled, "alert"):
        parent = alert["cgroup"].rsplit("/", 1)[0]
        assert alert["cgroup_ancestors"] == [parent, "/"]
        assert "agent.py" in alert["process_tree"][-1]["process_command_line"]
        assert alert["evidence"]
        assert alert["attack"]


def test_the_time_from_act_to_alert_is_told(drilled: Drilled) -> None:
    """Median, 99th percentile and longest, of the alerts' own times."""
    told = sorted(alert["latency_ms"] for alert in drilled[1][-1]["alerts"])
    latency = drilled[1][-1]["latency_ms"]
    assert (latency["p50"], latency["p99"], latency["max"]) == (told[3], told[-1], told[-1])
    assert told[0] > 0


def test_events_are_those_of_the_kernel(drilled: Drilled) -> None:
    """Command lines as long as the kernel says, connects with results, simulated GPU calls."""
    execs = of_type(drilled, "event", kind="process_execs", event_action="exec")
    tunnel = [event for event in execs if " -N -R " in event["process_command_line"]]
    assert tunnel
    for event in execs:
        assert len(event["process_args"].encode()) == event["process_args_bytes"]
    connections = of_type(drilled, "event", kind="connections")
    refused = [event for event in connections if event["connection_error"] == 111]
    assert len({event["connection_id"] for event in refused}) == 21
    gpu = of_type(drilled, "event", kind="gpu_activity")
    assert {event["cgroup_path"].rsplit("/", 1)[1] for event in gpu} == {"job_1", "job_2", "job_3"}
    assert all("simulated device" in event["gpu_device_name"] for event in gpu)


def test_only_the_drills_cgroup_is_recorded(drilled: Drilled) -> None:
    """Nobody else's process on this host is in any event."""
    events = of_type(drilled, "event")
    paths = {str(event["cgroup_path"]) for event in events if event.get("cgroup_path")}
    assert len({path.split("/")[1] for path in paths}) == 1
    assert all(path.startswith("/limes-drill-") for path in paths)


def test_every_signal_has_a_hook_and_nothing_is_lost(drilled: Drilled) -> None:
    """The result says which; the sensor counted no loss."""
    result = drilled[1][-1]
    assert all(result["plan"].values())
    assert {"process_exec", "connect_result", "gpu_ioctl"} <= set(result["plan"])
    assert result["blind"] == []
    assert result["losses"] == {}
    told = [event["kind"] for event in of_type(drilled, "event")]
    assert result["events"] == {kind: told.count(kind) for kind in set(told)}


def test_steps_and_hunts_are_told(drilled: Drilled) -> None:
    """Each step once, in order, then two hunts with answers."""
    steps = [step["name"] for step in of_type(drilled, "step")]
    assert steps[0] == "training"
    assert steps[-1] == "training_end"
    assert len(steps) == len(set(steps)) == 11
    assert all(hunt["rows"] for hunt in of_type(drilled, "hunt"))
    assert len(of_type(drilled, "hunt")) == 2


@pytest.fixture(scope="module")
def changed_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack that lacks one rule and has one that alerts for the benign job."""
    (pack,) = shipped_packs()
    copy = tmp_path_factory.mktemp("pack") / pack.name
    subprocess.run(["cp", "-r", pack, copy], check=True)
    for path in copy.glob("*/miner_command_line.*"):
        path.unlink()
    model = next(copy.glob("*/cloud_metadata_access.yml"))
    text = model.read_text().replace("name: cloud_metadata_access", "name: any_clone")
    number = "id: 6f1d6a4e-5a0e-4b7b-9f53-1d3a3a4b9e10"
    (model.parent / "any_clone.yml").write_text(re.sub(r"(?m)^id: .*$", number, text))
    select, _, _ = model.with_suffix(".sql").read_text().partition("WHERE")
    (model.parent / "any_clone.sql").write_text(
        f"{select}WHERE starts_with(c.destination_ip, '198.51.100.')\n"
    )
    return copy


def test_a_missing_and_an_unexpected_alert_end_it_with_1(
    tmp_path: Path, changed_pack: Path
) -> None:
    """Each is named; the output for people says so in words."""
    arguments = ("--state", tmp_path / "state", "--pack", changed_pack, *FREE)
    done = limes("up", "--drill", *arguments)
    assert done.returncode == 1, done.stderr
    job = r"in /limes-drill-\w+/job"
    assert re.search(rf"(?m)^Missing: miner_command_line {job}_2$", done.stdout)
    assert re.search(rf"(?m)^Unexpected: any_clone {job}_3$", done.stdout)
    assert_nothing_left(done.stdout, tmp_path / "state")
    assert "Exactly the" not in done.stdout


def test_people_are_told_that_the_device_is_simulated(tmp_path: Path) -> None:
    """Every line that names the GPU says so; no line is wider than a terminal."""
    done = limes("up", "--drill", "--state", tmp_path / "state", *FREE)
    assert done.returncode == 0, done.stderr
    text = re.sub(r"\n {20,}", " ", done.stdout)  # a cell may go on below
    for line in text.splitlines():
        if "nvidia0" in line and "$DRILL" not in line:
            assert "simulated" in line, line
    lines = (line for line in done.stdout.splitlines() if str(tmp_path) not in line)
    assert [line for line in lines if len(line) > 100] == []
    assert "\x1b" not in done.stdout
    assert "8 alerts" in done.stdout
    assert "Exactly the 8 expected alerts came, and no other." in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """In the middle of the drill; the exit code says that there was no answer."""
    with drilling(tmp_path) as (process, log):
        process.send_signal(number)
        assert process.wait(DEADLINE) == 130
    stopping, said = [line for line in log.read_text().splitlines() if not line.startswith("{")]
    assert stopping == "Stopping."
    name = {"SIGINT": "Ctrl-C"}.get(number.name, number.name)
    assert said.startswith(f"limes: Stopped by {name} in step 4 of 11, probing. Not played to the ")
    assert "probing, metadata, benign_git, tunnel_argv, " in said
    assert "Nothing was judged. Nothing of the drill is left on this host." in said
    assert_nothing_left(log.read_text(), tmp_path / "state")


def test_a_second_ctrl_c_does_not_cut_the_clearing_up_short(tmp_path: Path) -> None:
    """However impatient somebody is, nothing stays."""
    with drilling(tmp_path) as (process, log):
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "Stopping." in log.read_text(), "the first signal's word")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        assert process.wait(DEADLINE) == 130
    assert_nothing_left(log.read_text(), tmp_path / "state")


def test_a_drill_alone_says_what_was_left_undone(tmp_path: Path) -> None:
    """As under a sensor."""
    command = [*LIMES, "drill", "--state-dir", tmp_path / "state/drill"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while " probing " not in said:
            said += process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        said += process.stderr.read()
        assert process.wait(DEADLINE) == 130
    assert "Stopped by SIGTERM in step 4 of 11, probing." in said.splitlines()[-1]
    assert_nothing_left(said, tmp_path / "state")


def test_killed_it_takes_its_children_along_and_the_next_run_clears_up(tmp_path: Path) -> None:
    """kill -9 leaves cgroups for the next drill to remove, but no sensor and no control plane."""
    state = tmp_path / "state"
    with drilling(tmp_path) as (process, log):
        process.kill()
        process.wait(DEADLINE)
    wait_until(
        lambda: not [line for line in processes(str(state)) if "\0--state\0" in line],
        "the children's end",
    )
    wait_until(lambda: not orphans(), "the end of its programs")
    done = limes("up", "--drill", "--json", "--state", state, *FREE)
    assert done.returncode == 0, done.stderr
    assert_nothing_left(log.read_text() + done.stdout, state)


def test_on_a_terminal_it_stays_up_to_be_asked(tmp_path: Path) -> None:
    """The verdict is told, hunts and alerts answer meanwhile, Ctrl-C ends it with the verdict."""
    state = tmp_path / "state"
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        [*LIMES, "up", "--drill", "--state", state, *FREE],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
    ) as process:
        os.close(terminal)
        text = ""
        while "go on until Ctrl-C" not in text:
            text += os.read(screen, 65536).decode(errors="replace")
        assert "\x1b[" in text  # in colours
        found = limes("hunt", "SELECT count(*) AS n FROM hunt.alerts", "--json", "--state", state)
        assert json.loads(found.stdout) == {"n": 8}
        assert limes("alerts", "show", "1", "--state", state).returncode == 0
        os.write(screen, b"\x03")
        process.send_signal(signal.SIGINT)
        while True:
            try:
                if not os.read(screen, 65536):
                    break
            except OSError:
                break
        assert process.wait(DEADLINE) == 0
    os.close(screen)


def test_a_child_that_dies_ends_it(tmp_path: Path) -> None:
    """Without a control plane there is no answer: one line, exit code 3."""
    with drilling(tmp_path) as (process, log):
        (victim,) = [line for line in processes(str(tmp_path / "state")) if "\0serve\0" in line]
        os.kill(int(victim.split()[0]), signal.SIGKILL)
        assert process.wait(DEADLINE) == 3
    assert log.read_text().splitlines()[-1].startswith("limes: ")
    assert_nothing_left(log.read_text(), tmp_path / "state")


def test_drills_of_one_instant_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Nobody says where to listen: each comes to its own verdict at an address of its own."""
    states = [tmp_path / "a", tmp_path / "b"]
    with ThreadPoolExecutor() as pool:
        both = list(
            pool.map(lambda state: limes("up", "--drill", "--json", "--state", state), states)
        )
    assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
    started = [json.loads(done.stdout.splitlines()[0]) for done in both]
    assert started[0]["control"] != started[1]["control"]
    for done, state in zip(both, states, strict=True):
        assert_nothing_left(done.stdout, state)


def test_a_state_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    """The second run says whose it is, in one line, and the first comes to its end."""
    with drilling(tmp_path) as (process, _):
        files = {path: path.read_bytes() for path in (tmp_path / "state").glob("*.toml")}
        done = limes("up", "--drill", "--state", tmp_path / "state")
        assert done.returncode == 3
        assert done.stderr.count("\n") == 1
        assert f"`limes up` or `limes replay` of pid {process.pid} does" in done.stderr
        assert files == {path: path.read_bytes() for path in files}
        assert process.wait(DEADLINE) == 0


def test_a_port_in_use_is_left_alone(tmp_path: Path) -> None:
    """Given, it is an error in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ("--scope", "/x", "--state", tmp_path / "state", "--listen", address)
        done = limes("up", *arguments)
        assert done.returncode == 3
        assert done.stderr.splitlines()[-1].startswith(f"limes: Cannot listen on {address}: ")


def test_a_scope_that_is_no_cgroup_is_one_line(tmp_path: Path) -> None:
    """The sensor's words; the control plane is stopped again."""
    done = limes("up", "--scope", "/limes-none", "--state", tmp_path / "state", *FREE)
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert last.startswith("limes: Looked for the cgroup /limes-none of the scope: ")


def test_without_root_a_drill_says_so(tmp_path: Path) -> None:
    """One line, before anything is made."""
    done = subprocess.run(
        [
            *("setpriv", "--reuid=65534", "--clear-groups"),
            *(f"--{which}=-all,+dac_override" for which in ("inh-caps", "ambient-caps")),
            *(*LIMES, "up", "--drill", "--state", str(tmp_path / "state")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("limes: A drill makes cgroups, namespaces and a device node")
    assert done.stderr.count("\n") == 1
