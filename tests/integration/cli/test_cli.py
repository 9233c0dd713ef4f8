"""Each command against a control plane that serves what a replay has stored."""

import csv
import io
import json
import re
import shlex
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from limes.cli.commands import EXAMPLES
from limes.cli.examine import own_cgroup
from limes.cli.live import sample
from limes.cli.main import app
from limes.control.rules.load import load_pack, shipped_packs
from limes.v1 import schema

from .conftest import LIMES, Done, limes, logged, running, wait_until

ROOT = Path(__file__).parents[3]

Replayed = tuple[Path, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def served(replayed: Replayed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Return the options that reach a control plane over what was replayed."""
    state, _ = replayed
    log = tmp_path_factory.mktemp("served") / "control.log"
    arguments = ("control", "serve", "--state", state, "--listen", "127.0.0.1:0")
    with running(*arguments, "--policy", sample.POLICY, log=log, ready="control.ready"):
        address = logged(log, "control.ready")[0]["address"]
        yield ["--state", str(state), "--control", address]


def rows(done: Done) -> list[dict[str, Any]]:
    """Return the JSON lines of a command that went well."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(done: Done) -> str:
    """Return the one line of a command that could not run."""
    assert done.returncode == 3, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("limes: ")
    return done.stderr.removeprefix("limes: ").rstrip("\n")


# ------------------------------------------------------------ what is there


@pytest.mark.parametrize(
    "name",
    ["status", "hunt", "alerts list", "alerts show", "rules list", "rules lint", "rules test"],
)
def test_the_examples_of_the_help_work(name: str, served: list[str]) -> None:
    """As they stand, but for the address."""
    assert app.registered_groups  # importing it declares every command
    _, *words = shlex.split(EXAMPLES[name])
    where = [] if name.startswith("rules") else served
    done = limes(*words, *where)
    assert done.returncode == 0, done.stderr
    assert done.stdout or name == "rules lint"


def asked() -> list[str]:
    """Return the questions that README and quickstart ask of a state directory."""
    pages = [ROOT / "README.md", ROOT / "docs/quickstart.md"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return re.findall(r"limes ((?:alerts|hunt|status) [^\n]*--state state[^\n]*)", text)


@pytest.mark.parametrize("words", asked())
def test_the_questions_of_readme_and_quickstart_are_answered(words: str, served: list[str]) -> None:
    """As they stand, but for the address."""
    before, _, after = words.partition(" --state state")
    done = limes(*shlex.split(before + after), *served)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_status_has_sensor_store_and_rules(served: list[str], replayed: Replayed) -> None:
    """Everything the server said, as one object."""
    (status,) = rows(limes("status", "--json", *served))
    assert [sensor["host_id"] for sensor in status["sensors"]] == [sample.HOST]
    assert status["sensors"][0]["last_seq"] == sum(replayed[1][-1]["events"].values())
    rules = {rule["rule"] for rule in status["rules"]}
    assert rules == {rule.name for folder in shipped_packs() for rule in load_pack(folder).rules}
    assert rules > {alert["rule"] for alert in replayed[1] if alert["type"] == "alert"}
    assert status["rules_ingest_id"] == status["last_ingest_id"]


def test_status_is_readable(served: list[str]) -> None:
    """A table for each, without the colours that only a terminal understands."""
    done = limes("status", *served)
    assert done.returncode == 0
    assert "internal_probing" in done.stdout
    assert "rules have read all of them" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_hunt_gives_the_same_rows_in_each_form(served: list[str]) -> None:
    """JSON lines, CSV with names, a table; the notes are beside them."""
    sql = "SELECT rule, severity FROM hunt.alerts ORDER BY rule"
    objects = rows(limes("hunt", sql, "--json", *served))
    assert len(objects) == 8
    comma = limes("hunt", sql, "--csv", *served)
    assert list(csv.DictReader(io.StringIO(comma.stdout))) == objects
    table = limes("hunt", sql, *served)
    assert [line.split() for line in table.stdout.splitlines()[3:] if line.strip()] == [
        list(row.values()) for row in objects
    ]
    assert "Snapshot of" in table.stderr
    assert "Snapshot of" not in table.stdout


def test_a_hunt_comes_from_a_file_or_standard_input(served: list[str], tmp_path: Path) -> None:
    """Both give what the argument gives."""
    sql = "SELECT count(*) AS n FROM hunt.process_execs"
    (expected,) = rows(limes("hunt", sql, "--json", *served))
    file = tmp_path / "x.sql"
    file.write_text(sql)
    assert rows(limes("hunt", "--file", file, "--json", *served)) == [expected]
    piped = subprocess.run(
        [*LIMES, "hunt", "--file", "-", "--json", *served],
        input=sql,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(piped.stdout) == expected


def test_a_limit_that_cut_is_named(served: list[str]) -> None:
    """On standard error, with the number of rows."""
    done = limes("hunt", "FROM hunt.process_execs", "--rows", "3", "--json", *served)
    assert len(rows(done)) == 3
    assert "cut at 3 rows" in done.stderr


def test_alerts_are_listed_in_each_form(served: list[str]) -> None:
    """With the same numbers; --after leaves out the earlier ones."""
    objects = rows(limes("alerts", "list", "--json", *served))
    assert [alert["number"] for alert in objects] == list(range(1, 9))
    comma = limes("alerts", "list", "--csv", *served)
    assert [row["alert_id"] for row in csv.DictReader(io.StringIO(comma.stdout))] == [
        alert["alert_id"] for alert in objects
    ]
    later = rows(limes("alerts", "list", "--after", "5", "--json", *served))
    assert [alert["number"] for alert in later] == [6, 7, 8]


def test_an_alert_is_shown_with_its_process_tree(served: list[str]) -> None:
    """By number or by id; the tree is drawn down to the process."""
    tunnel = next(
        alert
        for alert in rows(limes("alerts", "list", "--json", *served))
        if alert["rule"] == "ssh_tunnel_command_line"
    )
    by_number = limes("alerts", "show", str(tunnel["number"]), *served)
    by_id = limes("alerts", "show", tunnel["alert_id"], *served)
    assert by_number.stdout == by_id.stdout
    lines = by_number.stdout.splitlines()
    (leaf,) = [number for number, line in enumerate(lines) if "└─" in line and "  ssh -F" in line]
    assert "agent.py" in "".join(lines[:leaf])
    assert rows(limes("alerts", "show", tunnel["alert_id"], "--json", *served)) == [tunnel]


def test_an_alert_that_there_is_not_ends_with_1(served: list[str]) -> None:
    """The answer is no; it says where to look."""
    done = limes("alerts", "show", "4711", *served)
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no alert 4711" in done.stderr


def test_alerts_are_followed(served: list[str]) -> None:
    """Those there are come first; --count ends it."""
    found = rows(limes("alerts", "follow", "--count", "8", "--json", *served))
    assert [alert["number"] for alert in found] == list(range(1, 9))


@pytest.mark.parametrize("arguments", [["alerts", "follow"], ["events"]])
def test_following_ends_well_with_ctrl_c(arguments: list[str], served: list[str]) -> None:
    """That is how one ends it."""
    with subprocess.Popen(
        [*LIMES, *arguments, *served], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        # It has connected once its threads are there.
        threads = Path(f"/proc/{process.pid}/task")
        wait_until(lambda: len(list(threads.iterdir())) > 3, "a connection")
        process.send_signal(2)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(30) == 0


def test_events_are_shown_as_they_are_committed(tmp_path: Path) -> None:
    """With every column in JSON, one line each for people."""
    log, state = tmp_path / "control.log", tmp_path / "state"
    for step in (["init"], ["issue", "--role", "control"], ["issue", "--role", "analyst"]):
        assert limes("ca", *step, "--state", state).returncode == 0
    issued = limes("ca", "issue", "--role", "sensor", "--name", "replay", "--state", state)
    assert issued.returncode == 0
    arguments = ("control", "serve", "--state", state, "--listen", "127.0.0.1:0")
    with running(*arguments, log=log, ready="control.ready"):
        address = logged(log, "control.ready")[0]["address"]
        where = ["--state", str(state), "--control", address]
        shown: dict[str, Done] = {}
        count = ("--kind", "process_execs", "--count", "5")
        watchers = [
            threading.Thread(
                target=lambda form=form: shown.update(
                    {form: limes("events", *count, *form.split(), *where)}
                )
            )
            for form in ("", "--json")
        ]
        for watcher in watchers:
            watcher.start()
        while any(watcher.is_alive() for watcher in watchers):
            done = limes(
                *("sensor", "run", "--host-id", "replay", "--replay", sample.RECORDING, *where)
            )
            assert done.returncode == 0, done.stderr
    events = rows(shown["--json"])
    assert len(events) == 5
    assert {event["kind"] for event in events} == {"process_execs"}
    columns = {column.name for column in schema.KINDS["process_execs"].columns}
    assert columns <= set(events[0])
    assert shown[""].stdout.count(" exec ") == 5


# ------------------------------------------------------------ certificates


def test_certificates_are_made_and_kept_from_others(tmp_path: Path) -> None:
    """The file's name is the data; keys are readable by their owner alone."""
    state, out = tmp_path / "state", tmp_path / "gpu-07"
    made = limes("ca", "init", "--state", state)
    assert made.stdout.strip() == str(state / "ca/ca.crt")
    assert "Its key never leaves this host" in made.stderr
    issue = ("ca", "issue", "--role", "sensor", "--name", "gpu-07", "--out", out, "--state", state)
    assert limes(*issue).stdout.strip() == str(out / "certs/gpu-07.crt")
    assert (out / "ca/ca.crt").read_bytes() == (state / "ca/ca.crt").read_bytes()
    assert not (out / "ca/ca.key").exists()
    assert not (state / "certs/gpu-07.key").exists()
    for key in (state / "ca/ca.key", out / "certs/gpu-07.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_second_authority_is_refused(tmp_path: Path) -> None:
    """It would make the first one's certificates worthless."""
    assert limes("ca", "init", "--state", tmp_path).returncode == 0
    assert "has one" in refused(limes("ca", "init", "--state", tmp_path))


def test_without_an_authority_nothing_is_issued(tmp_path: Path) -> None:
    """It says how to make one."""
    line = refused(limes("ca", "issue", "--role", "analyst", "--state", tmp_path))
    assert "limes ca init" in line


def test_the_server_wants_an_analyst(served: list[str], replayed: Replayed) -> None:
    """A sensor's certificate reads nothing: the error says which role it needs."""
    certificate = replayed[0] / f"certs/{sample.HOST}.crt"
    line = refused(limes("status", *served, "--certificate", str(certificate)))
    assert "its role is 'sensor', this needs 'analyst'" in line


def test_another_authoritys_server_is_not_trusted(served: list[str], tmp_path: Path) -> None:
    """An analyst of one installation gets no answer from another."""
    for step in (["init"], ["issue", "--role", "analyst"]):
        assert limes("ca", *step, "--state", tmp_path).returncode == 0
    line = refused(limes("status", "--state", tmp_path, "--control", served[-1]))
    assert "Cannot trust the control plane" in line or "its CA issued" in line


# ------------------------------------------------------------ what cannot run


def test_no_control_plane_is_one_line(replayed: Replayed) -> None:
    """With the address that was tried and what to do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    line = refused(limes("status", "--state", replayed[0], "--control", address))
    assert line.startswith(f"Cannot reach the control plane at {address}: ")
    assert "limes control serve" in line


@pytest.mark.parametrize("sql", ["DROP TABLE alerts", "INSERT INTO x VALUES (1)", "SELEC 1"])
def test_sql_that_is_no_question_is_refused(sql: str, served: list[str]) -> None:
    """One line says what it was and what a hunt may be."""
    assert refused(limes("hunt", sql, *served))


def test_a_hunt_that_runs_too_long_is_stopped(served: list[str]) -> None:
    """The line names the limit."""
    endless = "SELECT count(*) FROM range(100000000000) AS a(x) WHERE x % 7 = 3"
    assert "1 s" in refused(limes("hunt", endless, "--timeout", "1", *served))


def test_a_taken_port_is_one_line(served: list[str], tmp_path: Path) -> None:
    """It says who could be asked to stop, and which option chooses another."""
    for step in (["init"], ["issue", "--role", "control"]):
        limes("ca", *step, "--state", tmp_path)
    done = limes("control", "serve", "--state", tmp_path, "--listen", served[-1])
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"limes: Cannot listen on {served[-1]}: Address already in use.")


def test_a_locked_database_is_one_line(served: list[str]) -> None:
    """It names the process that has it."""
    done = limes("control", "serve", "--state", served[1], "--listen", "127.0.0.1:0")
    assert done.returncode == 3
    assert "One control plane may use a database" in done.stderr.splitlines()[-1]


def test_a_database_of_a_newer_schema_is_one_line(tmp_path: Path) -> None:
    """An older version must not write into it."""
    database = tmp_path / "control/limes.duckdb"
    done = limes("replay", "--json", "--state", tmp_path)
    assert done.returncode == 0
    with duckdb.connect(database) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES ('9999_later', 'x', now())")
    done = limes("control", "serve", "--state", tmp_path, "--listen", "127.0.0.1:0")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("limes: ")
    assert "9999" in done.stderr.splitlines()[-1]


def test_a_broken_rule_is_found_and_named(tmp_path: Path) -> None:
    """lint says no, test cannot run; both with file and line."""
    (pack,) = shipped_packs()
    copy = tmp_path / pack.name
    subprocess.run(["cp", "-r", pack, copy], check=True)
    rule = next(copy.glob("*/internal_probing.yml"))
    rule.write_text(rule.read_text().replace("severity: high", "severity: dreadful"))
    linted = limes("rules", "lint", "--pack", copy, "--json")
    assert linted.returncode == 1
    places = [json.loads(line)["place"] for line in linted.stdout.splitlines()]
    number = rule.read_text().splitlines().index("severity: dreadful") + 1
    assert f"{rule}:{number}" in places
    assert f"{rule}:{number}: " in refused(limes("rules", "test", "--pack", copy))


def test_a_case_that_fails_ends_with_1(tmp_path: Path) -> None:
    """It shows rule, case and what differed."""
    (pack,) = shipped_packs()
    copy = tmp_path / pack.name
    subprocess.run(["cp", "-r", pack, copy], check=True)
    cases = next(copy.glob("*/cloud_metadata_access.cases.yml"))
    cases.write_text(cases.read_text().replace("169.254.169.254", "169.254.169.1"))
    done = limes("rules", "test", "cloud_metadata_access", "--pack", copy, "--json")
    assert done.returncode == 1
    failed = [row for row in map(json.loads, done.stdout.splitlines()) if not row["passed"]]
    assert failed
    assert all("did not come" in row["problem"] for row in failed)


# ------------------------------------------------------------ what a host allows

ROOT_MOUNTS = ("unshare", "--mount", "--propagation", "private", "sh", "-c")


def in_changed_mounts(change: str, *arguments: str) -> Done:
    """Run `limes` as root where some mounts were changed, for it alone."""
    command = shlex.join([*LIMES, *arguments])
    return subprocess.run(
        [*ROOT_MOUNTS, f"{change} && exec {command}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


NO_CGROUP2 = (
    "while umount $(awk '$3 == \"cgroup2\" {print $2; exit}' /proc/mounts); do :; done 2>/dev/null"
)
NO_BTF = "mount -t tmpfs none /sys/kernel/btf"


@pytest.mark.root
@pytest.mark.kernel
def test_doctor_says_what_every_hook_does_here() -> None:
    """Each signal is there; nothing is left behind."""
    done = limes("doctor", "--json", "--syscall-hooks")
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["sees_all"] else 1)
    states: dict[str, set[str]] = {hook["signal"]: set() for hook in found["hooks"]}
    for hook in found["hooks"]:
        states[hook["signal"]].add(hook["state"])
    assert {"process_exec", "tcp_state", "connect_result", "gpu_ioctl"} <= set(states)
    assert found["blind"] == [name for name, seen in states.items() if "attached" not in seen]
    root = next(fact["found"] for fact in found["facts"] if fact["name"] == "cgroup v2")
    assert not list(Path(root.split(",")[0]).glob("limes-doctor-*"))


@pytest.mark.root
@pytest.mark.kernel
def test_doctor_does_not_touch_system_calls_unasked() -> None:
    """Those hooks slow the whole host for a moment: it says that they were not tried."""
    found = json.loads(limes("doctor", "--json").stdout)
    hooks = {hook["hook"]: hook for hook in found["hooks"]}
    for name in ("tp_btf/sys_enter", "tp_btf/sys_exit"):
        assert hooks[name]["state"] == "not_used"


def test_doctor_works_without_privileges() -> None:
    """It says what it could not try, and that it does not know."""
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *LIMES, "doctor"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == ""
    assert "No hook was tried. Cannot " in done.stdout


@pytest.mark.root
def test_doctor_names_a_missing_cgroup_v2() -> None:
    """With the command that mounts it."""
    done = in_changed_mounts(NO_CGROUP2, "doctor")
    assert done.returncode == 1
    assert "not mounted" in done.stdout
    assert "mount -t cgroup2" in done.stdout


@pytest.mark.root
def test_doctor_names_a_missing_btf() -> None:
    """And what takes its place."""
    done = in_changed_mounts(NO_BTF, "doctor", "--loader", "libbpf")
    assert done.returncode == 1
    assert "/sys/kernel/btf/vmlinux is missing" in done.stdout


@pytest.fixture
def cgroup() -> Iterator[str]:
    """Return the path of an empty cgroup."""
    with own_cgroup() as path:
        yield path


@pytest.mark.root
@pytest.mark.parametrize(
    ("change", "word"), [(NO_CGROUP2, "cgroup v2"), (NO_BTF, "BTF")], ids=["cgroup2", "btf"]
)
def test_a_sensor_that_cannot_run_here_says_why(
    change: str, word: str, cgroup: str, replayed: Replayed
) -> None:
    """One line, before anything is attached."""
    identity = ("--state", str(replayed[0]), "--host-id", sample.HOST)
    arguments = ("--loader", "libbpf", "--scope", cgroup, *identity)
    done = in_changed_mounts(change, "sensor", "run", *arguments)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert word in done.stderr


def test_a_sensor_without_privileges_says_which(replayed: Replayed) -> None:
    """The capabilities are named."""
    done = subprocess.run(
        [
            *("setpriv", "--bounding-set=-all", "--inh-caps=-all", *LIMES),
            *("sensor", "run", "--scope", "/x"),
            *("--state", str(replayed[0]), "--host-id", sample.HOST),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "CAP_BPF" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.root
def test_the_drill_plays_alone(tmp_path: Path) -> None:
    """Steps to standard error, with --truth what each did as JSON to standard output."""
    done = limes("drill", "--seed", "7", "--truth", "--state-dir", tmp_path / "drill")
    steps = [row["step"] for row in rows(done)]
    assert steps[0] == "training"
    assert steps[-1] == "training_end"
    assert "simulated device" in done.stderr
