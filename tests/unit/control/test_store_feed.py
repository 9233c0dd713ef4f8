"""The feed of commits: nobody misses a number, nobody holds up the writer."""

import threading
from datetime import datetime

import pyarrow as pa
from limes.control.store.feed import Commit, CommitFeed

NOW = datetime(2026, 3, 1)  # noqa: DTZ001 - naive UTC, as the tables have it


def commit(ingest_id: int, **rows: int) -> Commit:
    tables = {kind: pa.table({"event_seq": list(range(count))}) for kind, count in rows.items()}
    return Commit(ingest_id=ingest_id, event_ingested=NOW, tables=tables)


def test_a_reader_gets_all_commits_since_it_last_looked() -> None:
    """One delivery joins what came meanwhile, without holes."""
    feed = CommitFeed()
    subscription = feed.subscribe()
    feed.publish(commit(4, connections=2))
    feed.publish(commit(5, connections=3, process_execs=1))
    delivery = subscription.take(0)
    assert delivery is not None
    assert (delivery.first_ingest_id, delivery.last_ingest_id) == (4, 5)
    assert [table.num_rows for table in delivery.tables["connections"]] == [2, 3]
    assert (delivery.rows, delivery.skipped) == (6, 0)
    assert subscription.take(0) is None


def test_a_slow_reader_loses_rows_but_no_number() -> None:
    """Rows beyond the bound are let go and counted; the range still covers their commits."""
    feed = CommitFeed()
    subscription = feed.subscribe(max_rows=4)
    feed.publish(commit(1, connections=3))
    feed.publish(commit(2, connections=3))
    feed.publish(commit(3, connections=1))
    delivery = subscription.take(0)
    assert delivery is not None
    assert (delivery.first_ingest_id, delivery.last_ingest_id) == (1, 3)
    assert (delivery.rows, delivery.skipped) == (4, 3)


def test_a_reader_of_one_kind_sees_the_numbers_of_all_commits() -> None:
    """Other kinds are neither handed over nor counted as skipped."""
    feed = CommitFeed()
    subscription = feed.subscribe(kinds=frozenset({"process_execs"}))
    feed.publish(commit(1, connections=3))
    delivery = subscription.take(0)
    assert delivery is not None
    assert (delivery.last_ingest_id, delivery.tables, delivery.skipped) == (1, {}, 0)


def test_a_waiting_reader_is_woken_by_a_commit_and_by_the_end() -> None:
    """`take` returns as soon as there is something, or nothing will come any more."""
    feed = CommitFeed()
    subscription = feed.subscribe()
    found: list[int] = []

    def read() -> None:
        while not subscription.closed:
            if delivery := subscription.take(60):
                found.append(delivery.last_ingest_id)

    reader = threading.Thread(target=read)
    reader.start()
    feed.publish(commit(1, connections=1))
    feed.close()
    reader.join(30)
    assert not reader.is_alive()
    if delivery := subscription.take(0):
        found.append(delivery.last_ingest_id)
    assert found == [1]


def test_a_reader_that_left_gets_nothing() -> None:
    """A closed subscription is forgotten, also when it is closed twice."""
    feed = CommitFeed()
    subscription = feed.subscribe()
    subscription.close()
    subscription.close()
    feed.publish(commit(1, connections=1))
    assert subscription.take(0) is None


def test_nobody_can_subscribe_to_a_feed_that_has_ended() -> None:
    """A late reader is not left waiting for ever."""
    feed = CommitFeed()
    feed.close()
    assert feed.subscribe().closed
