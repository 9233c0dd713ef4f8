"""The writer: sequence, group commits, acknowledgement after commit, faults."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limes.control.store import query
from limes.control.store.connection import Store, open_store
from limes.control.store.entries import Batch, Goodbye, Hello, Missing, Source
from limes.control.store.writer import Writer
from limes.v1 import schema

from tests.conftest import MakeEvents, events

SOURCE = Source("node-1", "boot-1", 17)


@dataclass(eq=False)
class Told:
    """A peer that keeps what it is told, in order."""

    said: list[tuple[str, int]] = field(default_factory=list)
    heard: threading.Condition = field(default_factory=threading.Condition)

    def acknowledge(self, last_seq: int) -> None:
        self._keep("ack", last_seq)

    def rewind(self, next_seq: int, refused_seq: int) -> bool:
        self._keep("rewind", next_seq)
        return True

    def finish(self) -> None:
        self._keep("finish", 0)

    def _keep(self, word: str, value: int) -> None:
        with self.heard:
            self.said.append((word, value))
            self.heard.notify_all()

    def wait(self, word: str, value: int) -> None:
        with self.heard:
            assert self.heard.wait_for(lambda: (word, value) in self.said, 30), self.said


def batch(
    peer: Told, first: int, count: int, *, kind: str = "connections", source: Source = SOURCE
) -> Batch:
    table = events(kind, first, count)
    return Batch(
        source=source,
        peer=peer,
        first_seq=first,
        last_seq=first + count - 1,
        kind=kind,
        table=table,
        size=table.nbytes,
    )


def gap(peer: Told, first: int, last: int) -> Missing:
    return Missing(
        source=SOURCE,
        peer=peer,
        first_seq=first,
        last_seq=last,
        kind_number=0,
        outcome="gap",
        stage="spool",
        cause="spool_full",
    )


@pytest.fixture
def store() -> Iterator[Store]:
    found = open_store(None)
    yield found
    found.close()


def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with store.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def commit_all(store: Store, *items: Batch | Missing | Hello | Goodbye, **limits: Any) -> Writer:
    """Queue everything, then let the writer run until it is done."""
    writer = Writer(store, **limits)
    for item in items:
        assert writer.submit(item)
    writer.start()
    writer.close()
    return writer


def test_rows_get_host_boot_start_and_commit(store: Store) -> None:
    """Each row says who sent it and which commit brought it."""
    peer = Told()
    commit_all(store, batch(peer, 1, 2), batch(peer, 3, 1, kind="process_execs"))
    assert (
        rows(store, "SELECT host_id, boot_id, sensor_epoch, ingest_id FROM connections")
        == [("node-1", "boot-1", 17, 1)] * 2
    )
    assert rows(store, "SELECT event_seq FROM process_execs") == [(3,)]
    assert peer.said == [("ack", 3)]


def test_streams_share_a_commit_and_are_acknowledged_each(store: Store) -> None:
    """A group holds the batches of all streams; every one gets its own number back."""
    sources = [Source(f"node-{number}", "boot", 1) for number in range(5)]
    peers = [Told() for _ in sources]
    pairs = zip(sources, peers, strict=True)
    found = [batch(peer, 1, 3, source=source) for source, peer in pairs]
    writer = commit_all(store, *found)
    assert writer.counts.commits == 1
    assert rows(store, "SELECT DISTINCT ingest_id FROM connections") == [(1,)]
    assert [peer.said for peer in peers] == [[("ack", 3)]] * 5


def test_a_group_ends_at_its_bound(store: Store) -> None:
    """More rows than fit go into further commits, numbered in order."""
    peer = Told()
    found = [batch(peer, 1 + 10 * number, 10) for number in range(6)]
    writer = commit_all(store, *found, group_rows=20)
    assert writer.counts.commits == 3
    assert rows(store, "SELECT ingest_id, count(*) FROM connections GROUP BY 1 ORDER BY 1") == [
        (1, 20),
        (2, 20),
        (3, 20),
    ]


def test_a_batch_that_would_leave_a_gap_is_refused(store: Store) -> None:
    """Nothing of it is stored, and the stream is told what comes next."""
    peer = Told()
    writer = commit_all(store, batch(peer, 1, 2), batch(peer, 5, 2))
    assert rows(store, "SELECT event_seq FROM connections ORDER BY 1") == [(1,), (2,)]
    assert peer.said == [("ack", 2), ("rewind", 3)]
    assert writer.counts.rewinds == 1


def test_a_dead_calls_batches_do_not_let_the_next_call_pass_over_a_gap(store: Store) -> None:
    """What one call sent and lost is asked for again, whatever the next call sends."""
    dead, alive = Told(), Told()
    commit_all(store, batch(dead, 1, 2), batch(dead, 9, 2), batch(alive, 11, 2), batch(alive, 3, 8))
    assert rows(store, "SELECT event_seq FROM connections ORDER BY 1") == [
        (number,) for number in range(1, 11)
    ]
    assert ("rewind", 11) in alive.said
    assert ("ack", 10) in alive.said


def test_a_duplicate_is_suppressed_and_acknowledged(store: Store) -> None:
    """A batch that is committed already changes nothing; its stream may forget it."""
    first, second = Told(), Told()
    commit_all(store, batch(first, 1, 4))
    writer = commit_all(store, batch(second, 2, 2))
    assert rows(store, "SELECT count(*) FROM connections") == [(4,)]
    assert rows(store, "SELECT count(*) FROM batch_log") == [(1,)]
    assert second.said == [("ack", 4)]
    assert writer.counts.batches_duplicate == 1


def test_a_batch_partly_committed_is_cut(store: Store) -> None:
    """Only what is new of it is stored."""
    peer = Told()
    commit_all(store, batch(peer, 1, 4), batch(peer, 3, 5))
    assert rows(store, "SELECT event_seq FROM connections ORDER BY 1") == [
        (number,) for number in range(1, 8)
    ]
    assert rows(store, "SELECT first_seq, last_seq FROM batch_log ORDER BY 1") == [(1, 4), (5, 7)]


def test_a_declared_gap_becomes_a_loss_and_the_stream_goes_on(store: Store) -> None:
    """The loss says what is missing and why; it bears the first missing number."""
    peer = Told()
    commit_all(store, batch(peer, 1, 2), gap(peer, 3, 9), batch(peer, 10, 1))
    found = rows(
        store,
        "SELECT event_seq, event_action, loss_stage, loss_cause, loss_count, loss_first_seq,"
        " loss_last_seq FROM hunt.losses",
    )
    assert found == [(3, "gap", "spool", "spool_full", 7, 3, 9)]
    assert peer.said == [("ack", 10)]


def test_a_gap_over_committed_events_loses_only_the_rest(store: Store) -> None:
    """What is stored is not lost."""
    peer = Told()
    commit_all(store, batch(peer, 1, 5), gap(peer, 2, 8))
    assert rows(store, "SELECT loss_count, loss_first_seq, loss_last_seq FROM losses") == [
        (3, 6, 8)
    ]


def test_a_batch_the_database_refuses_is_a_loss_and_its_neighbours_are_stored(
    store: Store, make_events: MakeEvents
) -> None:
    """One bad batch neither stops the writer nor takes the group with it."""
    peer = Told()
    bad = batch(peer, 3, 2)
    index = bad.table.column_names.index("connection_id")
    words = bad.table.set_column(index, "connection_id", pa.array(["no", "number"]))
    bad = Batch(
        source=SOURCE, peer=peer, first_seq=3, last_seq=4, kind="connections", table=words, size=0
    )
    writer = commit_all(store, batch(peer, 1, 2, kind="process_execs"), bad, batch(peer, 5, 1))
    assert rows(store, "SELECT event_seq FROM process_execs ORDER BY 1") == [(1,), (2,)]
    assert rows(store, "SELECT event_seq FROM connections") == [(5,)]
    assert rows(store, "SELECT loss_cause, loss_first_seq, loss_last_seq FROM losses") == [
        ("malformed_batch", 3, 4)
    ]
    assert peer.said[-1] == ("ack", 5)
    assert writer.counts.batches_malformed == 1


def test_numbers_go_on_after_a_restart(store: Store) -> None:
    """A new writer knows every source's end and the number of the last commit."""
    peer = Told()
    commit_all(store, batch(peer, 1, 2))
    writer = Writer(store)
    assert writer.last_seq(SOURCE) == 2
    assert writer.last_seq(Source("other", "boot", 1)) == 0
    writer.submit(batch(peer, 3, 1))
    writer.start()
    writer.close()
    assert rows(store, "SELECT ingest_id, first_seq FROM batch_log ORDER BY 1") == [(1, 1), (2, 3)]


def test_subscribers_hear_of_a_commit_when_it_can_be_read(store: Store) -> None:
    """A commit is published with its rows once it is durable."""
    subscription = store.feed.subscribe()
    peer = Told()
    commit_all(store, batch(peer, 1, 2), gap(peer, 3, 3))
    delivery = subscription.take(0)
    assert delivery is not None
    assert delivery.last_ingest_id == store.last_ingest_id() == 1
    assert {kind: tables[0].num_rows for kind, tables in delivery.tables.items()} == {
        "connections": 2,
        "losses": 1,
    }
    stored = rows(store, "SELECT * FROM connections ORDER BY event_seq")
    handed = [tuple(row.values()) for row in delivery.tables["connections"][0].to_pylist()]
    assert handed == stored


def test_cgroups_are_kept_by_id_with_their_first_path(store: Store) -> None:
    """The dimension table has one row a cgroup, so that the views repeat no event."""
    peer = Told()
    actions = schema.KINDS["cgroup_events"].actions
    table = events(
        "cgroup_events",
        1,
        4,
        cgroup_id=[7, 7, 8, 9],
        cgroup_event_path=["/job_1", "/other", "", "/job_2"],
        event_action=[actions["mkdir"], actions["attach"], actions["seen"], actions["seen"]],
        slurm_job_id="4711",
    )
    entry = Batch(
        source=SOURCE, peer=peer, first_seq=1, last_seq=4, kind="cgroup_events", table=table, size=0
    )
    commit_all(store, entry)
    found = rows(store, "SELECT cgroup_id, cgroup_path, slurm_job_id FROM hunt.cgroups ORDER BY 1")
    assert found == [(7, "/job_1", "4711"), (9, "/job_2", "4711")]
    assert rows(store, "SELECT count(*) FROM hunt.cgroup_events") == [(4,)]


def test_losses_beyond_all_counting_are_the_most_that_can_be_counted(store: Store) -> None:
    """What one sensor claims to have lost breaks nobody's view of the sensors."""
    most = (1 << 64) - 1
    hello = Hello(source=SOURCE, sensor_version="1", kernel_release="6.1", abi_version=1)
    table = events("losses", 1, 2, loss_count=most)
    entry = Batch(
        source=SOURCE, peer=Told(), first_seq=1, last_seq=2, kind="losses", table=table, size=0
    )
    commit_all(store, hello, entry)
    assert rows(store, "SELECT lost FROM hunt.sensors") == [(most,)]
    assert [row[-1] for row in rows(store, query.text("sensors"))] == [most]


def test_an_image_told_again_multiplies_no_event(store: Store) -> None:
    """Whatever a sensor repeats, each event is one row of its view, with the first image told."""
    peer = Told()
    execs = events("process_execs", 1, 4, process_exec_id=[7, 7, 0, 0], process_name=list("abcd"))
    again = events("process_execs", 5, 2, process_exec_id=7, process_name="z")
    events_of_it = events("connections", 7, 3, process_exec_id=[7, 7, 0])
    entries = [
        Batch(
            source=SOURCE,
            peer=peer,
            first_seq=first,
            last_seq=first + table.num_rows - 1,
            kind=kind,
            table=table,
            size=0,
        )
        for kind, first, table in (
            ("process_execs", 1, execs),
            ("process_execs", 5, again),
            ("connections", 7, events_of_it),
        )
    ]
    commit_all(store, *entries, group_rows=4)
    assert store.last_ingest_id() > 1
    found = rows(store, "SELECT event_seq, process_name FROM hunt.connections ORDER BY 1")
    assert found == [(7, "a"), (8, "a"), (9, None)]
    assert rows(store, "SELECT count(*) FROM hunt.process_execs") == [(6,)]


def test_a_sensor_is_known_once_it_said_hello(store: Store) -> None:
    """A start of a sensor has one row, however often it connects."""
    hello = Hello(source=SOURCE, sensor_version="1", kernel_release="6.1", abi_version=1)
    commit_all(store, hello, hello, batch(Told(), 1, 2))
    found = rows(store, "SELECT host_id, last_seq, lost, kernel_release FROM hunt.sensors")
    assert found == [("node-1", 2, 0, "6.1")]


def test_a_stream_ends_after_what_it_handed_over_is_settled(store: Store) -> None:
    """The goodbye is answered behind the acknowledgements."""
    peer = Told()
    commit_all(store, batch(peer, 1, 2), Goodbye(peer=peer))
    assert peer.said == [("ack", 2), ("finish", 0)]


def test_a_single_event_is_committed_without_waiting_for_more(store: Store) -> None:
    """A group is held back only while commits follow each other."""
    peer = Told()
    writer = Writer(store, group_seconds=3600)
    writer.start()
    writer.submit(batch(peer, 1, 1))
    peer.wait("ack", 1)
    writer.close()


def test_a_full_queue_slows_the_streams_down(store: Store) -> None:
    """`submit` waits for room instead of taking memory without bound."""
    peer = Told()
    writer = Writer(store, queue_bytes=1)
    writer.submit(batch(peer, 1, 1))
    second = threading.Thread(target=writer.submit, args=(batch(peer, 2, 1),), daemon=True)
    second.start()
    assert second.is_alive()
    writer.start()
    second.join(30)
    peer.wait("ack", 2)
    writer.close()


def test_nothing_is_taken_after_the_end(store: Store) -> None:
    """A closed writer says so."""
    writer = commit_all(store)
    assert not writer.submit(batch(Told(), 1, 1))


class Failing:
    """A connection whose first commit fails as that of a full disk does; a smaller one fits."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._failed = False

    def commit(self) -> None:
        if not self._failed:
            self._failed = True
            raise duckdb.TransactionException("Failed to commit: No space left on device")
        self._connection.commit()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_a_store_that_fails_stops_the_writer_unacknowledged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is acknowledged, nothing more is taken, and whoever runs the server is told why."""
    failed = threading.Event()
    writer = Writer(store, on_failure=failed.set)
    monkeypatch.setattr(writer, "_connection", Failing(writer._connection))
    peer = Told()
    writer.submit(batch(peer, 1, 2))
    writer.start()
    assert failed.wait(30)
    assert peer.said == []
    assert not writer.submit(batch(peer, 3, 1))
    assert "No space left on device" in str(writer.failure)
    assert writer.last_seq(SOURCE) == 0
    writer.close()
    assert rows(store, "SELECT count(*) FROM connections") == [(0,)]
    assert rows(store, "SELECT count(*) FROM losses") == [(0,)]


RANGES = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 12), st.booleans()), min_size=1, max_size=25
)


@settings(max_examples=40, deadline=None)
@given(ranges=RANGES, group_rows=st.integers(1, 60))
def test_whatever_comes_in_whatever_order_each_number_is_settled_once(
    ranges: list[tuple[int, int, bool]], group_rows: int
) -> None:
    """The log tiles 1..last without holes or overlaps, and every number is an event or a loss."""
    store = open_store(None)
    peer = Told()
    items = [
        gap(peer, first, first + count - 1) if missing else batch(peer, first, count)
        for first, count, missing in ranges
    ]
    writer = commit_all(store, *items, group_rows=group_rows)
    last = writer.last_seq(SOURCE)
    stored = [row[0] for row in rows(store, "SELECT event_seq FROM connections")]
    lost = rows(store, "SELECT loss_first_seq, loss_last_seq FROM losses")
    settled = stored + [number for a, b in lost for number in range(a, b + 1)]
    assert sorted(settled) == list(range(1, last + 1))
    log = rows(store, "SELECT first_seq, last_seq FROM batch_log ORDER BY first_seq")
    assert [number for a, b in log for number in range(a, b + 1)] == list(range(1, last + 1))
    acks = [value for word, value in peer.said if word == "ack"]
    assert acks == sorted(acks)
    assert max(acks, default=0) <= last
    store.close()
