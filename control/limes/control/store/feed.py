"""Tells the rest of the process what each commit stored; a slow reader never holds up the writer.

A subscription hands out every commit number; when the reader lags, the rows themselves are let go
(and counted in `Delivery.skipped`), and are found in the store under those numbers.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One committed transaction.

    `tables` maps a kind that has rows to those rows: the columns of the physical table of that
    name, `ingest_id` first. `event_ingested` is naive UTC, as the tables have it.
    """

    ingest_id: int
    event_ingested: datetime
    tables: Mapping[str, pa.Table]

    @property
    def rows(self) -> int:
        return sum(table.num_rows for table in self.tables.values())


@dataclass(slots=True, kw_only=True)
class Delivery:
    """All commits since the last `take`: `first_ingest_id`..`last_ingest_id`, without holes.

    `tables` has, by kind, one Arrow table a commit; it lacks `skipped` rows of commits in that
    range, which were let go because the reader was slow. They are in the store: read them from
    `hunt.<kind>` by `ingest_id`.
    """

    first_ingest_id: int
    last_ingest_id: int
    event_ingested: datetime
    tables: dict[str, list[pa.Table]] = field(default_factory=dict)
    rows: int = 0
    skipped: int = 0


class Subscription:
    """One reader's place in the feed. `take` may be called from one thread at a time."""

    def __init__(self, feed: "CommitFeed", kinds: frozenset[str] | None, max_rows: int) -> None:
        self._feed = feed
        self._kinds = kinds
        self._max_rows = max_rows
        self._changed = threading.Condition()
        self._pending: Delivery | None = None
        self._closed = False

    def take(self, timeout: float) -> Delivery | None:
        """Return what was committed since the last call, waiting up to `timeout` seconds for it.

        Returns None when nothing was, or when the feed was closed and all is taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._pending is not None or self._closed, timeout)
            delivery, self._pending = self._pending, None
            return delivery

    @property
    def closed(self) -> bool:
        """True when nothing more will come; what is pending can still be taken."""
        return self._closed

    def close(self) -> None:
        """Leave the feed; wakes a waiting `take`. May be called more than once."""
        self._feed.forget(self)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def offer(self, commit: Commit) -> None:
        with self._changed:
            pending = self._pending
            if pending is None:
                pending = self._pending = Delivery(
                    first_ingest_id=commit.ingest_id,
                    last_ingest_id=commit.ingest_id,
                    event_ingested=commit.event_ingested,
                )
            pending.last_ingest_id = commit.ingest_id
            pending.event_ingested = commit.event_ingested
            for kind, table in commit.tables.items():
                if self._kinds is not None and kind not in self._kinds:
                    continue
                if pending.rows + table.num_rows > self._max_rows:
                    pending.skipped += table.num_rows
                    continue
                pending.tables.setdefault(kind, []).append(table)
                pending.rows += table.num_rows
            self._changed.notify_all()


class CommitFeed:
    """Publishes commits to any number of subscriptions, in order, after they are durable."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: list[Subscription] = []
        self._closed = False

    def subscribe(
        self, *, kinds: frozenset[str] | None = None, max_rows: int = 200_000
    ) -> Subscription:
        """Return a subscription that sees every later commit.

        `kinds` limits the rows that are handed over (None: all; an empty set: commit numbers only).
        `max_rows` bounds the rows held for a reader that lags.
        """
        subscription = Subscription(self, kinds, max_rows)
        with self._lock:
            if not self._closed:
                self._subscriptions.append(subscription)
                return subscription
        subscription.close()
        return subscription

    def publish(self, commit: Commit) -> None:
        """Hand `commit` to every subscription; returns at once."""
        with self._lock:
            subscriptions = tuple(self._subscriptions)
        for subscription in subscriptions:
            subscription.offer(commit)

    def forget(self, subscription: Subscription) -> None:
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def close(self) -> None:
        """End every subscription; they still hand out what is pending."""
        with self._lock:
            self._closed = True
            subscriptions = tuple(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()
