"""Makes the bounded copies of the store that hunts read, and removes them when nobody does.

A snapshot is one read transaction: every table of it is of the same moment. What it leaves out is
stated, by kind, in `Snapshot.kinds`.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Final

import duckdb
import structlog
from limes.control.errors import HuntError, StoreError
from limes.control.hunt.config import HuntConfig
from limes.control.store.connection import Store, open_store
from limes.v1 import schema

LOG = structlog.get_logger()
MADE: Final = "hunt.snapshot_made"
FAILED: Final = "hunt.snapshot_failed"

FOLDER: Final = "limes-snapshot-"
COPY_ROWS: Final = 122_880  # a row group of DuckDB
COPY_MEMORY: Final = "1GB"
COPY_THREADS: Final = 2
# Integers of 128 bits, which DuckDB hands to Arrow as decimals of 38 digits, modulo 2^127.
WIDE: Final = frozenset({"HUGEINT", "UHUGEINT"})
BOUNDED: Final = (*schema.KINDS, "batch_log")
IMAGES: Final = "process_images"  # those of the rows that are kept
REST: Final = 3.0
LEAST_REST: Final = 0.5
ANCESTORS: Final = 64  # rounds in which images named by images are fetched


@dataclass(frozen=True, slots=True, kw_only=True)
class KindBound:
    """What a snapshot holds of one kind (or of the log of batches, by the time of its commits).

    Fewer rows than the store has when a bound cut it.
    """

    kind: str
    rows: int
    store_rows: int
    oldest_event_time: datetime | None


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """A file that hunts may read. Times are UTC; `begun` is by the monotonic clock.

    Making it took `seconds`.
    """

    path: Path
    begun: float
    made_at: datetime
    seconds: float
    kinds: tuple[KindBound, ...]
    readers: int = field(default=0)

    @property
    def oldest_event_time(self) -> datetime | None:
        """Return the time of the oldest event; None when there is none."""
        kinds = (kind for kind in self.kinds if kind.kind in schema.KINDS)
        return min((k.oldest_event_time for k in kinds if k.oldest_event_time), default=None)

    def age(self) -> float:
        """Return the seconds since it was begun."""
        return time.monotonic() - self.begun


class Snapshots:
    """Hands out snapshots, each made when it is asked for and no recent enough one is there.

    Its files lie in folders `limes-snapshot-<n>` of `directory`; what a dead server left of them is
    removed. One server uses a directory.
    """

    def __init__(self, store: Store, directory: Path, config: HuntConfig) -> None:
        self._store = store
        self._directory = directory.absolute()  # the worker runs elsewhere
        self._config = config
        self._making = threading.Lock()
        self._lock = threading.Lock()
        self._current: Snapshot | None = None
        self._made = 0
        self._closing = threading.Event()
        self._sweep()

    @contextmanager
    def lease(self, max_age: float | None = None) -> Iterator[Snapshot]:
        """Give a snapshot not older than `max_age` seconds; it stays until the block ends.

        None takes the configured age, or REST times as long as the last one took to make when that
        is more: a large store must not be busy with snapshots alone. So that nobody makes it so,
        a younger one than there is comes after a rest of LEAST_REST times as long. Raises
        HuntError when none can be made.
        """
        snapshot = self._take(max_age)
        try:
            yield snapshot
        finally:
            self._release(snapshot)

    def close(self) -> None:
        """Remove every snapshot; hunts that still read one keep what they have open."""
        self._closing.set()
        with self._making, self._lock:
            self._current = None
            self._sweep()
            with suppress(OSError):  # somebody else's files keep it
                self._directory.rmdir()

    def _sweep(self) -> None:
        for folder in self._directory.glob(f"{FOLDER}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _take(self, max_age: float | None) -> Snapshot:
        asked = time.monotonic()
        # While one is made the others wait: it may be recent enough for them too.
        with self._making:
            with self._lock:
                current = self._current
                if current is not None and current.begun >= asked - self._age(current, max_age):
                    current.readers += 1
                    return current
            if current is not None:
                rest_until = current.begun + (1 + LEAST_REST) * current.seconds
                self._closing.wait(max(0.0, rest_until - time.monotonic()))
            made = self._make()
            made.readers = 1
            with self._lock:
                old, self._current = self._current, made
                if old is not None and old.readers == 0:
                    remove(old)
            return made

    def _age(self, current: Snapshot, max_age: float | None) -> float:
        if max_age is not None:
            return max_age
        return max(self._config.snapshot_age_seconds, REST * current.seconds)

    def _release(self, snapshot: Snapshot) -> None:
        with self._lock:
            snapshot.readers -= 1
            if snapshot.readers == 0 and snapshot is not self._current:
                remove(snapshot)

    def _make(self) -> Snapshot:
        self._made += 1
        path = self._directory / f"{FOLDER}{self._made}" / "snapshot.duckdb"
        try:
            snapshot = make(self._store, path, self._config)
        except (duckdb.Error, StoreError, OSError) as error:
            shutil.rmtree(path.parent, ignore_errors=True)
            LOG.error(FAILED, error=str(error))  # noqa: TRY400 - one line, no traceback
            raise HuntError(
                f"Cannot make a snapshot to hunt in: {str(error).splitlines()[0]}. "
                f"Look for room and rights in {self._directory} on the control plane.",
                outcome="failed",
            ) from error
        LOG.info(
            MADE,
            rows=sum(kind.rows for kind in snapshot.kinds),
            bytes=path.stat().st_size,
            elapsed_ms=round(snapshot.seconds * 1000),
        )
        return snapshot


def remove(snapshot: Snapshot) -> None:
    shutil.rmtree(snapshot.path.parent, ignore_errors=True)


def make(store: Store, path: Path, config: HuntConfig) -> Snapshot:
    """Copy the newest rows of `store` to a new database at `path`, 0400 in a directory of 0700.

    Raises duckdb.Error, StoreError or OSError.
    """
    copy = open_store(path, memory_limit=COPY_MEMORY, threads=COPY_THREADS)
    try:
        with store.cursor() as source, copy.cursor() as target:
            source.begin()
            target.begin()
            begun, made_at = time.monotonic(), datetime.now(UTC)
            counts = copy_tables(source, target, config, made_at)
            target.execute(query("snapshot_views"))
            target.commit()
            source.rollback()
            kinds = tuple(bound(target, table, counts[table]) for table in BOUNDED)
    finally:
        copy.close()
    path.chmod(0o400)
    seconds = time.monotonic() - begun
    return Snapshot(path=path, begun=begun, made_at=made_at, seconds=seconds, kinds=kinds)


def copy_tables(
    source: duckdb.DuckDBPyConnection,
    target: duckdb.DuckDBPyConnection,
    config: HuntConfig,
    now: datetime,
) -> dict[str, int]:
    """Fill the tables of `target`; returns the number of rows of each in `source`."""
    counts = {}
    for (table,) in target.execute(query("tables")).fetchall():
        if table == IMAGES:
            continue
        rows = source.table(table)
        counts[table] = count(rows)
        if table in BOUNDED:
            rows = newest(rows, config, now)
        insert(target, table, rows)
    add_images(source, target)
    source.register("kept", target.execute(query("kept_images")).to_arrow_table())
    found = source.execute(query("named_images")).to_arrow_reader(COPY_ROWS)
    target.from_arrow(found).insert_into(IMAGES)
    source.unregister("kept")
    return counts


def newest(
    rows: duckdb.DuckDBPyRelation, config: HuntConfig, now: datetime
) -> duckdb.DuckDBPyRelation:
    """Return the rows within the bounds. Rows are stored in the order of their commits."""
    (last,) = rows.max("rowid").fetchone() or (None,)
    if last is not None and last >= config.snapshot_rows:
        first = duckdb.ConstantExpression(last - config.snapshot_rows + 1)
        rows = rows.filter(duckdb.ColumnExpression("rowid") >= first)
    if config.snapshot_hours:
        since = now.replace(tzinfo=None) - timedelta(hours=config.snapshot_hours)
        rows = rows.filter(
            duckdb.ColumnExpression("event_ingested") >= duckdb.ConstantExpression(since)
        )
    return rows


def add_images(source: duckdb.DuckDBPyConnection, target: duckdb.DuckDBPyConnection) -> None:
    """Copy the older images which rows of the snapshot name, then the parents of those.

    Otherwise a program that was started long ago would lose its name, not only its history.
    """
    held = count(target.table("process_execs"))
    if held == count(source.table("process_execs")):
        return
    for _ in range(ANCESTORS):
        missing = target.execute(query("missing_images")).to_arrow_table()
        source.register("missing", missing)
        found = source.execute(query("images")).to_arrow_reader(COPY_ROWS)
        target.from_arrow(found).insert_into("process_execs")
        source.unregister("missing")
        before, held = held, count(target.table("process_execs"))
        if held == before:
            return


def insert(target: duckdb.DuckDBPyConnection, table: str, rows: duckdb.DuckDBPyRelation) -> None:
    kinds = zip(rows.columns, rows.types, strict=True)
    if any(str(kind) in WIDE for kind in rows.types):
        rows = rows.select(*(exact(name, str(kind)) for name, kind in kinds))
    target.from_arrow(rows.to_arrow_reader(COPY_ROWS)).insert_into(table)


def exact(name: str, kind: str) -> duckdb.Expression:
    """Return a column in a form that Arrow carries; the table it is inserted in turns it back."""
    column = duckdb.ColumnExpression(name)
    return column.cast(duckdb.sqltypes.VARCHAR) if kind in WIDE else column


def bound(target: duckdb.DuckDBPyConnection, table: str, store_rows: int) -> KindBound:
    rows = target.table(table)
    moment = "event_time" if "event_time" in rows.columns else "event_ingested"
    (oldest,) = rows.min(moment).fetchone() or (None,)
    return KindBound(
        kind=table,
        rows=count(rows),
        store_rows=store_rows,
        oldest_event_time=None if oldest is None else oldest.replace(tzinfo=UTC),
    )


def count(rows: duckdb.DuckDBPyRelation) -> int:
    found = rows.count("*").fetchone()
    return int(found[0]) if found else 0


def query(name: str) -> str:
    folder = resources.files(__package__) / "queries"
    return (folder / f"{name}.sql").read_text(encoding="utf-8")
