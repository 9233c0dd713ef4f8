"""What ad-hoc SQL may not do: each known way out of a hunt is refused, or harms only its worker."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from limes.control.errors import HuntError
from limes.control.hunt.process import HuntProcess
from limes.control.hunt.snapshot import Snapshot

DEADLINE = 120.0

REFUSED = {
    "read the snapshot's own file": "SELECT * FROM read_blob('{own}')",
    "read the snapshot's own file as a database": "SELECT * FROM read_duckdb('{own}')",
    "overwrite the snapshot": "COPY (SELECT 1) TO '{own}'",
    "overwrite the snapshot with a table": "COPY connections TO '{own}' (FORMAT parquet)",
    "export": "EXPORT DATABASE '{folder}/out'",
    "attach the snapshot again": "ATTACH '{own}' AS again",
    "attach a new file": "ATTACH '{folder}/new.duckdb'",
    "detach": "DETACH snapshot",
    "install an extension": "INSTALL httpfs",
    "load an extension": "LOAD httpfs",
    "load a file as an extension": "LOAD '{folder}/evil.duckdb_extension'",
    "read from the network": "SELECT * FROM read_csv('http://127.0.0.1:9/x')",
    "read an object store": "SELECT * FROM read_parquet('s3://bucket/x')",
    "insert": "INSERT INTO losses SELECT * FROM losses",
    "insert in a CTE": "WITH x AS (INSERT INTO losses SELECT * FROM losses RETURNING *) FROM x",
    "update": "UPDATE losses SET loss_count = 0",
    "delete": "DELETE FROM losses",
    "truncate": "TRUNCATE losses",
    "drop": "DROP TABLE losses",
    "drop a view": "DROP VIEW hunt.losses",
    "alter": "ALTER TABLE losses ADD COLUMN x INTEGER",
    "create": "CREATE TABLE mine AS SELECT 1",
    "create a temporary table": "CREATE TEMP TABLE mine AS SELECT 1",
    "create a table of a pivot": "CREATE TEMP TABLE t AS PIVOT losses ON loss_cause USING count(*)",
    "create a macro": "CREATE TEMP MACRO mine() AS 1",
    "create a secret": "CREATE SECRET mine (TYPE s3)",
    "checkpoint": "CHECKPOINT",
    "force a checkpoint": "FORCE CHECKPOINT",
    "force a checkpoint by a function": "SELECT * FROM force_checkpoint()",
    "vacuum": "VACUUM",
    "nextval": "SELECT nextval('some_sequence')",
    "two statements": "SELECT 1; SELECT 2",
    "a hidden second statement": "SELECT 1; -- nothing to see\nDROP TABLE losses",
    "a type, then a select": "CREATE TEMP TYPE t AS ENUM ('a'); SELECT 1",
    "a macro, then a pivot": (
        "CREATE TEMP MACRO m() AS 1; FROM (PIVOT losses ON loss_cause USING count(*))"
    ),
    "a lasting step": "CREATE TABLE mine AS SELECT 1; SELECT 1",
    "a step in the snapshot": "CREATE TABLE snapshot.main.mine AS SELECT 1; SELECT 1",
    "a step that is hidden": "/* */ CREATE TABLE mine AS SELECT 1; SELECT 1",
    "a step that only looks like one": "-- CREATE TEMP TABLE a AS\nDROP TABLE losses; SELECT 1",
    "a step without a question": "CREATE TEMP TABLE a AS SELECT 1; CREATE TEMP TABLE b AS SELECT 1",
    "a step that reads a file": "CREATE TEMP TABLE a AS FROM read_text('/etc/passwd'); FROM a",
    "a temporary view": "CREATE TEMP VIEW a AS SELECT 1; SELECT 1",
    "no statement": " -- nothing",
    "pragma": "PRAGMA memory_limit='100GB'",
    "unlock": "SET lock_configuration = false",
    "enable access": "SET enable_external_access = true",
    "bring the file system back": "SET GLOBAL disabled_filesystems = ''",
    "reset": "RESET disabled_filesystems",
    "set a variable": "SET VARIABLE window_start = now()",
    "more memory": "SET memory_limit = '100GB'",
    "use": "USE memory",
    "call": "CALL pragma_version()",
    "explain": "EXPLAIN ANALYZE SELECT 1",
    "prepare": "PREPARE p AS SELECT 1",
    "end the transaction": "COMMIT",
    "a statement in a statement": "SELECT * FROM query('DROP TABLE losses')",
    "a file by replacement": "SELECT * FROM '/etc/passwd'",
    "a file as CSV": "SELECT * FROM read_csv('/etc/passwd')",
    "a file as text": "SELECT * FROM read_text('/etc/passwd')",
    "its environment": "SELECT * FROM read_text('/proc/self/environ')",
    "sniff a file": "SELECT * FROM sniff_csv('/etc/passwd')",
    "list files": "SELECT * FROM glob('/*')",
    "write to its own output": "COPY (SELECT 1) TO '/dev/stdout'",
    "secrets": "SELECT * FROM duckdb_secrets()",
    "environment variables": "SELECT getenv('PATH')",
    "a Python variable": "SELECT * FROM job",
    "a Python module": "SELECT os.getcwd()",
    "a pointer of Arrow": "SELECT * FROM arrow_scan(1, 2, 3)",
    "a pointer of Python": "SELECT * FROM python_map_function(1)",
    "a log file": "SELECT * FROM enable_logging(storage = 'file', storage_path = '{folder}')",
}

# Statements that are let through and must do no harm.
HARMLESS = {
    "checkpoint as a function": "SELECT * FROM checkpoint()",
    "settings": "SELECT * FROM duckdb_settings()",
    "log in memory": "SELECT * FROM enable_logging()",
    "write a log": "SELECT write_log('x')",
    "a step": "CREATE TEMP TABLE a AS SELECT 1 AS b; SELECT b FROM a",
    "a step that hides a table": "CREATE OR REPLACE TEMP TABLE losses AS SELECT 1; FROM losses",
    "nested parentheses": "(" * 5_000 + "SELECT 1" + ")" * 5_000,
}


def state(snapshot: Snapshot) -> tuple[str, list[Path]]:
    """Return what must not change: the file's content and its neighbours."""
    digest = hashlib.sha256(snapshot.path.read_bytes()).hexdigest()
    return digest, sorted(snapshot.path.parent.iterdir())


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED.keys())
def test_attack_is_refused_and_changes_nothing(
    sql: str, run: Callable[..., object], snapshot: Snapshot
) -> None:
    """An attack ends in one line that blames the statement, and leaves the snapshot as it was."""
    before = state(snapshot)
    with pytest.raises(HuntError) as caught:
        run(sql.format(own=snapshot.path, folder=snapshot.path.parent))
    assert caught.value.outcome == "refused"
    assert "\n" not in str(caught.value)
    assert state(snapshot) == before


@pytest.mark.parametrize("sql", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_is_let_through_changes_nothing(
    sql: str, run: Callable[..., object], snapshot: Snapshot
) -> None:
    """A statement that only sounds dangerous is answered, and leaves the snapshot as it was."""
    before = state(snapshot)
    run(sql)
    assert state(snapshot) == before


LOCKED = {
    "access_mode": "read_only",
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "max_expression_depth": "250",
    "temp_directory": "",
    "lock_configuration": "true",
    "memory_limit": "512.0 MiB",
    "threads": "2",
}


def test_each_of_duckdb_s_locks_is_on(run: Callable[..., tuple[pa.Table, object]]) -> None:
    """The layers overlap, so that one may fail: hence each is looked at by itself."""
    table, _ = run("SELECT name, value FROM duckdb_settings()")
    settings = {row["name"]: row["value"] for row in table.to_pylist()}
    assert {name: settings[name] for name in LOCKED} == LOCKED
    table, _ = run("SELECT readonly FROM duckdb_databases() WHERE database_name = 'snapshot'")
    assert table.to_pylist() == [{"readonly": True}]


BOMBS = {
    "a list": "SELECT list(i) FROM range(1000000000) AS r(i)",
    "a range as a list": "SELECT len(range(1000000000))",
    "a string": "SELECT len(repeat('x', 3000000000))",
    "growing strings": (
        "WITH RECURSIVE t AS (SELECT 'xxxxxxxx' AS s UNION ALL SELECT s || s FROM t) "
        "SELECT max(len(s)) FROM t"
    ),
    "a step": "CREATE TEMP TABLE a AS SELECT i, hash(i) FROM range(1000000000) r(i); SELECT 1",
    "a sort": "SELECT i, hash(i) AS h FROM range(1000000000) AS r(i) ORDER BY h",
    "a hash table": "SELECT hash(i) AS h, count(*) FROM range(1000000000) AS r(i) GROUP BY h",
}


@pytest.mark.parametrize("sql", BOMBS.values(), ids=BOMBS.keys())
def test_memory_bomb_is_stopped_at_the_limit(sql: str, run: Callable[..., object]) -> None:
    """A hunt that wants more memory than the limit is stopped by it, and is told so."""
    with pytest.raises(HuntError, match="MiB") as caught:
        run(sql, timeout_seconds=DEADLINE)
    assert caught.value.outcome == "memory"


def test_kernel_stops_what_duckdb_s_own_limit_lets_through(run: Callable[..., object]) -> None:
    """With DuckDB's limit out of the way the address space still bounds a worker."""
    with pytest.raises(HuntError, match="1500 MiB of address space") as caught:
        run(BOMBS["a list"], memory_mib=1 << 20, address_space_mib=1500)
    assert caught.value.outcome == "memory"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(1+" * 12_000 + "1" + ")" * 12_000,
        "SELECT " + " + ".join(["1"] * 20_000),
        "SELECT " + "[" * 20_000 + "]" * 20_000,
        "SELECT " + "CASE WHEN true THEN " * 2_500 + "1" + " END" * 2_500,
        "SELECT * FROM " + "(SELECT * FROM " * 3_000 + "losses" + ")" * 3_000,
        "WITH " + ", ".join(f"c{i} AS (FROM c{i - 1})" for i in range(1, 1500)) + " FROM c1499",
    ],
    ids=["parentheses", "terms", "brackets", "cases", "subqueries", "names"],
)
def test_statement_bomb_ends_its_own_process_at_most(sql: str, run: Callable[..., object]) -> None:
    """A statement made to break the parser is refused, or breaks one worker, which is all."""
    with pytest.raises(HuntError) as caught:
        run(sql, timeout_seconds=DEADLINE)
    assert caught.value.outcome in {"refused", "memory", "timeout"}


def test_endless_query_is_killed_at_its_time(start: Callable[..., HuntProcess]) -> None:
    """A hunt that does not end is killed when its time is over, and the limit is named."""
    process = start(
        "SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c",
        timeout_seconds=1.0,
    )
    with pytest.raises(HuntError, match=r"longer than its 1 s") as caught:
        list(process.frames())
    assert caught.value.outcome == "timeout"
    process.close()
    assert not Path(f"/proc/{process.pid}").exists()


def test_cpu_time_is_limited_by_the_kernel(run: Callable[..., object]) -> None:
    """A worker that nobody watches any more still ends, by its limit of CPU time."""
    with pytest.raises(HuntError, match="1 s of CPU time"):
        run("SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c", cpu_seconds=1)


def sealed(pid: int) -> dict[str, str]:
    """Return /proc/<pid>/status of a worker once it is sealed."""
    user = "65534" if os.geteuid() == 0 else str(os.geteuid())
    give_up = time.monotonic() + DEADLINE
    while time.monotonic() < give_up:
        text = Path(f"/proc/{pid}/status").read_text()
        status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        limits = Path(f"/proc/{pid}/limits").read_text()
        if status["Uid"].split()[1] == user and re.search(r"Max processes +0 +0", limits):
            return status
        time.sleep(0.01)
    raise AssertionError(f"worker {pid} was not sealed")


ENDLESS = "SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c"


def test_worker_has_given_up_all_it_does_not_need(start: Callable[..., HuntProcess]) -> None:
    """While it runs, a worker can open, start and become nothing, and is bounded by the kernel."""
    process = start(ENDLESS)
    status = sealed(process.pid)
    assert status["NoNewPrivs"] == "1"
    assert {status[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
    if os.geteuid() == 0:
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
        assert status["Groups"].split() == []
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    for name, value in {
        "Max open files": 0,
        "Max processes": 0,
        "Max file size": 0,
        "Max core file size": 0,
        "Max address space": 2048 << 20,
    }.items():
        assert re.search(rf"^{name} +{value} +{value} ", limits, re.MULTILINE), name
    assert os.getsid(process.pid) == process.pid
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        assert "NoNewPrivs:\t1\n" in (thread / "status").read_text()


def test_worker_holds_only_the_snapshot_and_its_pipes(
    start: Callable[..., HuntProcess], snapshot: Snapshot
) -> None:
    """No descriptor of the server reaches a worker."""
    process = start(ENDLESS)
    sealed(process.pid)
    held = [str(entry.readlink()) for entry in Path(f"/proc/{process.pid}/fd").iterdir()]
    files = {name for name in held if not name.startswith(("pipe:", "anon_inode:"))}
    assert files <= {str(snapshot.path), "/dev/null", "/dev/urandom"}
    assert str(snapshot.path) in files
    assert not [name for name in held if name.startswith("socket:")]


PARENT = """
import os, sys
from limes.control.hunt.process import HuntProcess
from limes.control.hunt.wire import Job
process = HuntProcess(Job(snapshot=sys.argv[1], sql=sys.argv[2], max_rows=1, max_result_mib=1,
    memory_mib=256, address_space_mib=2048, threads=1, cpu_seconds=600, parent_pid=os.getpid(),
    user_id=int(sys.argv[3]), group_id=int(sys.argv[3])), timeout_seconds=600)
print(process.pid, flush=True)
list(process.frames())
"""


def test_worker_dies_with_a_server_that_was_killed(snapshot: Snapshot) -> None:
    """Killing the server with -9 leaves no worker behind."""
    user = "65534" if os.geteuid() == 0 else "-1"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(snapshot.path), ENDLESS, user],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        sealed(worker)
        parent.send_signal(signal.SIGKILL)
    give_up = time.monotonic() + DEADLINE
    while Path(f"/proc/{worker}").exists() and alive(worker):
        assert time.monotonic() < give_up, f"worker {worker} outlived its server"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Return whether the process runs; one that nobody has waited for yet does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_errors_do_not_name_the_server_s_files(
    run: Callable[..., object], snapshot: Snapshot
) -> None:
    """What an analyst is told names neither the snapshot nor any file of the server."""
    with pytest.raises(HuntError) as caught:
        run(f"SELECT * FROM read_blob('{snapshot.path}')")
    assert str(snapshot.path.parent) not in str(caught.value)
