"""Owns a scratch database, with the real migrations and views, for cases and tests.

Invariant: it begins empty after each `reset`; what is committed is committed as the writer does it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from limes.control.rules.given import Event
from limes.control.store import dimensions, query, rows
from limes.control.store.connection import open_store
from limes.control.store.entries import Batch
from limes.v1 import schema


class _NoPeer:
    """Nobody waits for the acknowledgement of a case."""

    def acknowledge(self, last_seq: int) -> None: ...

    def finish(self) -> None: ...

    def rewind(self, next_seq: int, refused_seq: int) -> bool:
        return bool(next_seq and refused_seq)


class Scratch:
    """A store that events are put into, without sensors and streams."""

    def __init__(self, path: Path | None = None) -> None:
        """Open it in memory, or at `path`, with what is there already."""
        self.store = open_store(path, threads=1)  # what cases run is too small to share out
        self._cursor = self.store.cursor()
        self.last_ingest_id = self.store.last_ingest_id()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Forget everything."""
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._cursor.close()
        self.store.close()

    def reset(self) -> None:
        """Delete every event, alert and place."""
        for kind in schema.KINDS:
            self._cursor.execute(query.text("scratch_clear_kind").replace("{kind}", kind))
        self._cursor.execute(query.text("scratch_clear"))
        self.last_ingest_id = 0

    def commit(self, events: Sequence[Event]) -> int:
        """Store events in one commit, and return its number."""
        self.last_ingest_id += 1
        stamp = rows.Stamp(
            ingest_id=self.last_ingest_id,
            event_ingested=datetime.now(UTC).replace(tzinfo=None),
        )
        batches = [_batch(event) for event in events]
        tables = rows.event_tables(stamp, batches, ())
        self._cursor.begin()
        for kind, table in tables.items():
            self._cursor.from_arrow(table).insert_into(kind)
        self._cursor.from_arrow(rows.batch_log(stamp, batches)).insert_into("batch_log")
        dimensions.keep(self._cursor, tables)
        self._cursor.commit()
        return stamp.ingest_id


def _batch(event: Event) -> Batch:
    return Batch(
        source=event.source,
        peer=_NoPeer(),
        first_seq=event.seq,
        last_seq=event.seq,
        kind=event.kind,
        table=event.table(),
        size=0,
    )
