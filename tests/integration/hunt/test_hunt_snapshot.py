"""Snapshots: of one moment, bounded, honest about their bounds, and gone when nobody reads them."""

import stat
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from limes.control.errors import HuntError
from limes.control.hunt.config import HuntConfig
from limes.control.hunt.snapshot import Snapshot, Snapshots
from limes.control.policy import install_policy, parse_policy
from limes.control.store.entries import Batch, Entry
from limes.control.store.writer import Writer
from limes.v1 import schema

from .conftest import IMAGES, START, World

Make = Callable[..., Snapshots]


@pytest.fixture
def make(world: World, tmp_path: Path) -> Make:
    def begin(**limits: Any) -> Snapshots:
        return Snapshots(world.store, tmp_path / "snapshots", HuntConfig(**limits))

    return begin


def ask(snapshot: Snapshot, sql: str) -> list[Any]:
    with duckdb.connect(str(snapshot.path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def folders(tmp_path: Path) -> list[str]:
    directory = tmp_path / "snapshots"
    found = directory.iterdir() if directory.exists() else ()
    return sorted(path.name.removeprefix("limes-snapshot-") for path in found)


def test_every_table_and_view_of_the_store_is_there(make: Make, world: World) -> None:
    """A snapshot has the store's tables, macros and views, and `new_<kind>` for each kind."""
    names = "SELECT schema_name || '.' || {0}_name FROM duckdb_{0}s() WHERE NOT internal"
    with make().lease(0) as snapshot, world.store.cursor() as cursor:
        for what in ("table", "view"):
            want = {name for (name,) in cursor.execute(names.format(what)).fetchall()}
            have = {name for (name,) in ask(snapshot, names.format(what))}
            assert want <= have
        assert {f"main.new_{kind}" for kind in (*schema.KINDS, "signals")} <= have
        for name in sorted(have):
            ask(snapshot, f"SELECT count(*) FROM {name}")
        assert ask(snapshot, "SELECT window_start() < now()") == [(True,)]


def test_rows_are_those_of_the_store(played: World, snapshot: Snapshot) -> None:
    """What a hunt reads in an unbounded snapshot is what the store holds, value by value."""
    with played.store.cursor() as cursor:
        for kind in schema.KINDS:
            sql = f"FROM hunt.{kind} ORDER BY event_seq"
            assert ask(snapshot, sql) == cursor.execute(sql).fetchall()
        for table in (
            "policy_allow",
            "policy_internal",
            "alerts",
            "cgroups",
            "process_images",
            "sensors",
        ):
            sql = f"FROM {table} ORDER BY ALL"
            assert ask(snapshot, sql) == cursor.execute(sql).fetchall() != []


def test_bound_keeps_the_newest_rows_and_states_what_is_left_out(make: Make, world: World) -> None:
    """Beyond the bound the oldest rows of a kind are left out; the counts of both are stated."""
    world.add("losses", at=0, count=10, loss_cause="old")
    world.add("losses", at=60, count=7, loss_cause="new")
    world.add("sensor_health", at=0, count=3)
    world.commit()
    with make(snapshot_rows=7).lease(0) as snapshot:
        kinds = {kind.kind: kind for kind in snapshot.kinds}
        assert ask(snapshot, "SELECT loss_cause, count(*) FROM losses GROUP BY ALL") == [("new", 7)]
    assert (kinds["losses"].rows, kinds["losses"].store_rows) == (7, 17)
    assert (kinds["sensor_health"].rows, kinds["sensor_health"].store_rows) == (3, 3)
    assert kinds["losses"].oldest_event_time == (START + timedelta(seconds=60)).replace(tzinfo=UTC)
    assert snapshot.oldest_event_time == START.replace(tzinfo=UTC)
    assert kinds["connections"].oldest_event_time is None


def test_bound_of_the_log_of_batches_is_stated(make: Make, world: World) -> None:
    """Views that rest on the log of batches may lack old sensors: what it lacks is stated too."""
    for _ in range(9):
        world.add("losses", loss_cause="x")
    world.commit()
    with make(snapshot_rows=5).lease(0) as snapshot:
        (log,) = (kind for kind in snapshot.kinds if kind.kind == "batch_log")
    assert (log.rows, log.store_rows) == (5, 9)
    assert snapshot.oldest_event_time == START.replace(tzinfo=UTC)


def test_bound_of_time_leaves_out_what_was_committed_before(make: Make, world: World) -> None:
    """With a bound of hours, rows committed earlier are left out whatever their own time is."""
    world.add("losses", count=2)
    world.commit()
    with world.store.cursor() as cursor:
        cursor.execute("UPDATE losses SET event_ingested = event_ingested - INTERVAL 2 HOUR")
    world.add("losses", count=3)
    world.commit()
    with make(snapshot_hours=1).lease(0) as snapshot:
        (losses,) = (kind for kind in snapshot.kinds if kind.kind == "losses")
    assert (losses.rows, losses.store_rows) == (3, 5)


def test_images_of_kept_rows_are_kept_with_their_ancestors(make: Make, world: World) -> None:
    """A program started before the bound keeps its name, and so does what started it."""
    for at, exec_id in enumerate((1, 201, 202, 101)):
        world.exec(exec_id, at=at)
    for at in range(5):
        world.exec(301, at=10 + at)
    world.connect(202, "10.0.0.1", 22, "a", at=20)
    world.commit()
    with make(snapshot_rows=5).lease(0) as snapshot:
        images = ask(snapshot, "SELECT DISTINCT process_exec_id FROM process_execs ORDER BY ALL")
        (connection,) = ask(snapshot, "SELECT process_executable FROM hunt.connections")
        (execs,) = (kind for kind in snapshot.kinds if kind.kind == "process_execs")
    assert images == [(1,), (201,), (202,), (301,)]  # 101 is nobody's ancestor
    assert connection == (IMAGES[202][2],)
    assert (execs.rows, execs.store_rows) == (8, 9)


def test_snapshot_is_of_one_moment_while_events_are_committed(make: Make, world: World) -> None:
    """Commits of two kinds at once are in a snapshot whole or not at all, while the writer goes on.

    Every commit holds one connection and one loss, so a snapshot always has as many of both.
    """
    writer = Writer(world.store, group_rows=2, group_seconds=0)
    writer.start()
    stop = threading.Event()
    committed: list[int] = []

    def write() -> None:
        while not stop.is_set():
            for kind in ("connections", "losses"):
                world.add(kind, count=1)
            pair = [entry for entry in world.entries if isinstance(entry, Batch)]
            world.entries.clear()
            submit_together(writer, pair)
            while writer.last_seq(world.source) < world.next_seq - 1:
                assert writer.failure is None
                time.sleep(0.001)
            committed.append(world.next_seq)

    thread = threading.Thread(target=write)
    thread.start()
    snapshots = make()
    sizes = []
    try:
        for _ in range(8):
            before = len(committed)
            with snapshots.lease(0) as snapshot:
                rows = {kind.kind: kind.rows for kind in snapshot.kinds}
            sizes.append((before, rows["connections"], rows["losses"]))
    finally:
        stop.set()
        thread.join()
        writer.close()
    assert all(connections == losses for _, connections, losses in sizes)
    assert sizes[-1][1] > sizes[0][1], "the writer stood still"


def submit_together(writer: Writer, entries: Sequence[Entry]) -> None:
    """Hand both to the writer so that it takes them into one group."""
    with writer._changed:
        for entry in entries:
            assert writer.submit(entry)


def test_snapshot_is_used_again_until_it_is_too_old(make: Make, tmp_path: Path) -> None:
    """A recent enough snapshot is handed out again; an older one is replaced and removed."""
    snapshots = make()
    with snapshots.lease(0) as first:
        pass
    with snapshots.lease(3600) as again:
        assert again is first
    assert folders(tmp_path) == ["1"]
    with snapshots.lease(0) as second:
        assert second is not first
        assert second.begun > first.begun
    assert folders(tmp_path) == ["2"]


def test_slow_snapshot_is_used_longer_unless_a_newer_one_is_asked_for(make: Make) -> None:
    """By default a snapshot serves three times as long as it took to make, and its age is told."""
    snapshots = make(snapshot_age_seconds=0)
    with snapshots.lease() as first:
        first.seconds = 3600.0
    with snapshots.lease() as again:
        assert again is first
    first.seconds = 0.0
    with snapshots.lease() as second:
        assert second is not first
    second.seconds = 0.2
    with snapshots.lease(0) as third:
        assert third is not second


def test_whoever_always_asks_for_a_new_one_waits_for_the_store_to_rest(make: Make) -> None:
    """One hunter must not keep the store busy with snapshots; what was promised is kept."""
    snapshots = make()
    with snapshots.lease(0) as first:
        first.seconds = 1.0
    with snapshots.lease(0) as second:
        assert second.begun >= first.begun + 1.5 * first.seconds


def test_closing_does_not_wait_for_a_rest(make: Make) -> None:
    """A server that stops does not hang on a large snapshot's rest."""
    snapshots = make()
    with snapshots.lease(0) as first:
        first.seconds = 3600.0
    hunter = threading.Thread(target=lambda: snapshots.lease(0).__enter__(), daemon=True)
    hunter.start()
    snapshots.close()
    hunter.join(20)
    assert not hunter.is_alive()


def test_snapshot_stays_while_it_is_read(make: Make, tmp_path: Path) -> None:
    """An old snapshot goes with its last reader, not before."""
    snapshots = make()
    with snapshots.lease(0) as first:
        with snapshots.lease(0) as second:
            assert folders(tmp_path) == ["1", "2"]
            assert first.path.exists()
            assert second.path.exists()
        assert folders(tmp_path) == ["1", "2"]
    assert folders(tmp_path) == ["2"]
    snapshots.close()
    assert folders(tmp_path) == []


def test_hunts_at_once_share_one_snapshot(make: Make, tmp_path: Path) -> None:
    """Hunts that accept the same age wait for one snapshot instead of making one each."""
    snapshots = make()
    taken: list[Snapshot] = []
    gate = threading.Barrier(5)

    def hunt() -> None:
        gate.wait()
        with snapshots.lease(60) as snapshot:
            taken.append(snapshot)

    threads = [threading.Thread(target=hunt) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 5
    assert len({id(snapshot) for snapshot in taken}) == 1
    assert folders(tmp_path) == ["1"]


def test_files_are_private(make: Make) -> None:
    """Nobody but the server's user can read a snapshot, and nobody writes it."""
    with make().lease(0) as snapshot:
        assert stat.S_IMODE(snapshot.path.stat().st_mode) == 0o400
        assert stat.S_IMODE(snapshot.path.parent.stat().st_mode) == 0o700
        assert [path.name for path in snapshot.path.parent.iterdir()] == ["snapshot.duckdb"]


def test_what_a_dead_server_left_is_removed_and_nothing_else(make: Make, tmp_path: Path) -> None:
    """Snapshots that an earlier process could not remove go at the start; other files stay."""
    for folder in ("limes-snapshot-9", "mine"):
        left = tmp_path / "snapshots" / folder / "snapshot.duckdb"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"x")
    snapshots = make()
    assert folders(tmp_path) == ["mine"]
    with snapshots.lease(0):
        pass
    snapshots.close()
    assert folders(tmp_path) == ["mine"]


def test_snapshot_that_cannot_be_made_is_one_line_and_leaves_nothing(
    world: World, tmp_path: Path
) -> None:
    """Without a place for it the hunt fails with what to do; the next one tries again."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the directory should be")
    snapshots = Snapshots(world.store, blocked, HuntConfig())
    with pytest.raises(HuntError, match="Cannot make a snapshot") as caught, snapshots.lease(0):
        raise AssertionError("there is no snapshot")
    assert caught.value.outcome == "failed"
    assert "\n" not in str(caught.value)
    blocked.unlink()
    with snapshots.lease(0) as snapshot:
        assert snapshot.path.exists()


def test_wide_integers_are_copied_exactly(make: Make, world: World) -> None:
    """Addresses beyond 2^127 survive, though the decimals that Arrow gets cannot hold them."""
    policy = '[[job_class]]\nname = "a"\ncgroups = ["/a"]\n[[job_class.allow]]\ncidr = "fe80::/10"'
    with world.store.cursor() as cursor:
        install_policy(cursor, parse_policy(policy, source="test"))
    with make().lease(0) as snapshot:
        (row,) = ask(snapshot, "SELECT first_ip_value, last_ip_value FROM policy_allow")
    assert row == (0xFE80 << 112, (0xFEC0 << 112) - 1)


def test_age_grows(make: Make) -> None:
    """The stated age is the time since the snapshot began, the stated time that moment."""
    before = datetime.now(UTC)
    with make().lease(0) as snapshot:
        first = snapshot.age()
        assert 0 <= first <= snapshot.age()
        assert before <= snapshot.made_at <= datetime.now(UTC)
