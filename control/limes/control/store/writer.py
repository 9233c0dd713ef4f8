"""Writes what sensors sent: the only thread that inserts events, in group commits.

Nothing is acknowledged before the commit that holds it; a batch that leaves a gap is never taken.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import duckdb
import pyarrow as pa
import structlog
from limes.control.errors import StoreError
from limes.control.store import dimensions, query, rows
from limes.control.store.connection import Store
from limes.control.store.entries import (
    Batch,
    Entry,
    Goodbye,
    Hello,
    Item,
    Missing,
    Peer,
    Source,
    beyond,
    malformed,
)
from limes.control.store.feed import Commit

LOG = structlog.get_logger()
BATCH_REFUSED: Final = "ingest.batch_refused"
ROLLBACK_REFUSED: Final = "store.rollback_refused"

# What an insert raises when the fault lies in one batch. All else, and whatever a commit raises (a
# full disk among it), stops the writer: to call good batches malformed would lose them.
REFUSALS: Final = (
    duckdb.DataError,
    duckdb.IntegrityError,
    duckdb.InvalidInputException,
    pa.ArrowException,
)
# After a commit the writer rests for this many times its length, so that many small batches share
# one; a single event after a pause is committed at once.
REST: Final = 3.0


@dataclass(slots=True, kw_only=True)
class WriterCounts:
    """What the writer did since the server started."""

    events_committed: int = 0
    commits: int = 0
    batches_duplicate: int = 0
    batches_malformed: int = 0
    rewinds: int = 0


@dataclass(slots=True)
class Group:
    """What one commit stores, and whom to tell after it. `last` is the new end of each source."""

    last: dict[Source, int] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    acknowledge: dict[Peer, Source] = field(default_factory=dict)
    rewind: dict[Peer, Entry] = field(default_factory=dict)
    duplicates: int = 0


class Writer:
    """Takes entries from any thread, commits them from its own.

    `group_rows` and `group_seconds` bound a group; `queue_bytes` bounds what waits: `submit` blocks
    beyond it. When the store fails, nothing is taken any more, `failure` says why and `on_failure`
    is called.
    """

    def __init__(
        self,
        store: Store,
        *,
        group_rows: int = 20_000,
        group_seconds: float = 0.1,
        queue_bytes: int = 256 << 20,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._connection = store.cursor()
        self._group_rows = group_rows
        self._group_seconds = group_seconds
        self._queue_bytes = queue_bytes
        self._changed = threading.Condition()
        self._queue: deque[Item] = deque()
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._closing = False
        self._last: dict[Source, int] = {}
        self._last_commit: dict[Source, datetime] = {}
        self._read_progress()
        self._ingest_id = store.last_ingest_id()
        self.counts = WriterCounts()
        self.failure: StoreError | None = None
        self._on_failure = on_failure
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def last_seq(self, source: Source) -> int:
        """Return the last committed sequence number of `source`; 0 when there is none."""
        return self._last.get(source, 0)

    def progress(self, source: Source) -> tuple[int, datetime | None]:
        """Return the last committed number of `source` and when it was committed, naive UTC."""
        return self._last.get(source, 0), self._last_commit.get(source)

    def submit(self, item: Item) -> bool:
        """Queue `item`, waiting for room. Returns False when nothing is taken any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_bytes < self._queue_bytes or self._closing)
            if self._closing:
                return False
            self._queue.append(item)
            if isinstance(item, Entry):
                self._waiting_bytes += item.size
                self._waiting_rows += item.rows
            self._changed.notify_all()
        return True

    def close(self) -> None:
        """Take nothing more, commit and acknowledge what waits, end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        self._connection.close()

    def _read_progress(self) -> None:
        found = self._connection.execute(query.text("last_sequences")).fetchall()
        for host, boot, epoch, last_seq, last_commit in found:
            self._last[Source(host, boot, epoch)] = last_seq
            self._last_commit[Source(host, boot, epoch)] = last_commit

    def _run(self) -> None:
        rest_until = 0.0
        try:
            while entries := self._collect(rest_until):
                began = time.monotonic()
                self._commit(entries)
                ended = time.monotonic()
                rest_until = ended + min(REST * (ended - began), self._group_seconds)
        except BaseException as error:
            self._fail(error)  # a server whose writer is dead must not go on taking events
            if not isinstance(error, (duckdb.Error, StoreError)):
                raise

    def _collect(self, rest_until: float) -> list[Item]:
        """Wait for entries, then for the end of the rest or a full group; empty when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            self._changed.wait_for(
                lambda: self._waiting_rows >= self._group_rows or self._closing,
                max(0.0, rest_until - time.monotonic()),
            )
            taken: list[Item] = []
            room = self._group_rows
            while self._queue and room > 0:
                item = self._queue.popleft()
                taken.append(item)
                if isinstance(item, Entry):
                    room -= item.rows
                    self._waiting_rows -= item.rows
                    self._waiting_bytes -= item.size
            self._changed.notify_all()
        return taken

    def _commit(self, entries: list[Item]) -> None:
        """Store `entries` in one transaction; when one is refused, each in its own."""
        try:
            self._store_group(entries)
        except REFUSALS as error:
            if len(entries) > 1:
                for entry in entries:
                    self._commit([entry])
                return
            self._refused(entries[0], error)

    def _refused(self, entry: Item, error: Exception) -> None:
        reason = str(error).splitlines()[0]
        if not isinstance(entry, Batch):
            raise StoreError(reason) from error
        LOG.error(BATCH_REFUSED, host_id=entry.source.host_id, kind=entry.kind, error=reason)
        lost = malformed(
            entry.source, entry.peer, entry.first_seq, entry.last_seq, entry.kind_number
        )
        self._store_group([lost])

    def _store_group(self, entries: list[Item]) -> None:
        group = self._arrange(entry for entry in entries if isinstance(entry, Entry))
        hellos = [entry for entry in entries if isinstance(entry, Hello)]
        now = datetime.now(UTC).replace(tzinfo=None)
        commit: Commit | None = None
        if hellos or group.last:
            self._connection.begin()
            try:
                self._insert_hellos(hellos, now)
                if group.last:
                    commit = self._insert(group, now)
                self._end_transaction()
            except BaseException:
                self._roll_back()
                raise
        self._last.update(group.last)
        self._last_commit.update(dict.fromkeys(group.last, now))
        self._tell(group, commit)
        for entry in entries:
            if isinstance(entry, Goodbye):
                entry.peer.finish()

    def _end_transaction(self) -> None:
        try:
            self._connection.commit()
        except duckdb.Error as error:
            raise StoreError(str(error).splitlines()[0]) from error

    def _roll_back(self) -> None:
        try:
            self._connection.rollback()
        except duckdb.Error as error:
            LOG.debug(ROLLBACK_REFUSED, error=str(error).splitlines()[0])

    def _arrange(self, entries: Iterable[Entry]) -> Group:
        """Put each entry in its place: next in sequence, cut, a duplicate, or beyond a gap."""
        group = Group()
        for entry in entries:
            last = group.last.get(entry.source, self._last.get(entry.source, 0))
            if entry.first_seq > last + 1:
                group.rewind.setdefault(entry.peer, entry)
                continue
            group.acknowledge[entry.peer] = entry.source
            if entry.last_seq <= last:
                group.duplicates += 1
                continue
            group.last[entry.source] = entry.last_seq
            new = beyond(entry, last)
            if isinstance(new, Batch):
                group.batches.append(new)
            else:
                group.missing.append(new)
        return group

    def _insert_hellos(self, hellos: list[Hello], now: datetime) -> None:
        for hello in hellos:
            source = hello.source
            self._connection.execute(
                query.text("upsert_sensor"),
                [*source, hello.sensor_version, hello.kernel_release, hello.abi_version, now],
            )

    def _insert(self, group: Group, now: datetime) -> Commit:
        """Insert the group's rows by kind, its losses, its log, its cgroups and images."""
        stamp = rows.Stamp(ingest_id=self._ingest_id + 1, event_ingested=now)
        tables = rows.event_tables(stamp, group.batches, group.missing)
        for kind, table in tables.items():
            self._connection.from_arrow(table).insert_into(kind)
        log = rows.batch_log(stamp, [*group.batches, *group.missing])
        self._connection.from_arrow(log).insert_into("batch_log")
        dimensions.keep(self._connection, tables)
        return Commit(ingest_id=stamp.ingest_id, event_ingested=now, tables=tables)

    def _tell(self, group: Group, commit: Commit | None) -> None:
        """Count, then tell subscribers and streams: the commit is durable."""
        counts = self.counts
        counts.batches_duplicate += group.duplicates
        if commit is not None:
            self._ingest_id = commit.ingest_id
            counts.commits += 1
            counts.events_committed += sum(batch.rows for batch in group.batches)
            counts.batches_malformed += sum(m.outcome == "malformed" for m in group.missing)
            self._store.feed.publish(commit)
        for peer, source in group.acknowledge.items():
            peer.acknowledge(self._last.get(source, 0))
        for peer, entry in group.rewind.items():
            next_seq = self._last.get(entry.source, 0) + 1
            counts.rewinds += peer.rewind(next_seq, entry.first_seq)

    def _fail(self, error: BaseException) -> None:
        reason = (str(error) or repr(error)).splitlines()[0]
        self.failure = StoreError(
            f"Cannot commit to {self._store.path}: {reason}. Sensors keep what is not "
            "acknowledged. Mend the cause (is the disk full?), then start the control plane again."
        )
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._on_failure()
