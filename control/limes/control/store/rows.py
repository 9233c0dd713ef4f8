"""Makes the tables that a commit inserts: the batches' columns behind the control plane's own.

The columns are those of the physical tables, in their order: `insert_into` goes by position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
from limes.control.store.columns import arrow_schema
from limes.control.store.entries import Batch, Entry, Missing, Source
from limes.v1 import schema

# Below this mean size the chunks of a group are copied into one: each costs DuckDB more than that.
SMALL_CHUNK: Final = 2048
TIME: Final = pa.timestamp("us")
WORDS: Final = pa.dictionary(pa.int32(), pa.string())
LOG_SCHEMA: Final = pa.schema(
    [
        ("ingest_id", pa.uint64()),
        ("event_ingested", TIME),
        ("host_id", pa.string()),
        ("boot_id", pa.string()),
        ("sensor_epoch", pa.uint64()),
        ("first_seq", pa.uint64()),
        ("last_seq", pa.uint64()),
        ("event_kind", pa.uint8()),
        ("batch_outcome", pa.string()),
    ]
)


Part = tuple[Source, pa.Table]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Number and time (naive UTC) of a commit."""

    ingest_id: int
    event_ingested: datetime


def event_tables(
    stamp: Stamp, batches: Sequence[Batch], missing: Sequence[Missing]
) -> dict[str, pa.Table]:
    """Return the rows to insert, by kind; each of `missing` makes a row of `losses`."""
    grouped: dict[str, list[Part]] = {}
    for batch in batches:
        grouped.setdefault(batch.kind, []).append((batch.source, batch.table))
    for entry in missing:
        grouped.setdefault("losses", []).append((entry.source, loss(stamp, entry)))
    return {kind: stamped(stamp, parts) for kind, parts in grouped.items()}


def stamped(stamp: Stamp, parts: Sequence[Part]) -> pa.Table:
    """Join batches of one kind and put the control plane's columns before theirs."""
    events = pa.concat_tables([table for _, table in parts])
    if len(parts) > 1 and events.num_rows < SMALL_CHUNK * len(parts):
        events = events.combine_chunks()
    counts = np.array([table.num_rows for _, table in parts])
    sources = [source for source, _ in parts]
    own = {
        "ingest_id": pa.array(np.full(events.num_rows, stamp.ingest_id, np.uint64)),
        "event_ingested": times(stamp.event_ingested, events.num_rows),
        "host_id": words([source.host_id for source in sources], counts),
        "boot_id": words([source.boot_id for source in sources], counts),
        "sensor_epoch": pa.array(
            np.repeat(np.array([source.epoch for source in sources], np.uint64), counts)
        ),
    }
    return pa.table(own | dict(zip(events.column_names, events.columns, strict=True)))


def times(value: datetime, count: int) -> pa.Array:
    return pa.array(np.full(count, np.datetime64(value, "us")), TIME)


def words(values: list[str], counts: np.ndarray) -> pa.DictionaryArray:
    """Return each value `count` times, as indices into the distinct ones."""
    distinct = {value: index for index, value in enumerate(dict.fromkeys(values))}
    indices = np.repeat(np.array([distinct[value] for value in values], np.int32), counts)
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(list(distinct), pa.string()))


def loss(stamp: Stamp, entry: Missing) -> pa.Table:
    """Return the row of `losses` that stands for events that will never come.

    It bears the first of their numbers, which no event has.
    """
    row: dict[str, object] = {
        "event_seq": entry.first_seq,
        "event_time": stamp.event_ingested,
        "event_action": schema.KINDS["losses"].actions["gap"],
        "loss_stage": entry.stage,
        "loss_cause": entry.cause,
        "loss_count": entry.last_seq - entry.first_seq + 1,
        "loss_first_seq": entry.first_seq,
        "loss_last_seq": entry.last_seq,
    }
    columns = arrow_schema("losses")
    return pa.Table.from_pylist([dict.fromkeys(columns.names, 0) | row], columns)


def batch_log(stamp: Stamp, entries: Sequence[Entry]) -> pa.Table:
    """Return the rows of `batch_log`: what of each sequence the commit settles, and how."""
    rows = [
        {
            "ingest_id": stamp.ingest_id,
            "event_ingested": stamp.event_ingested,
            "host_id": entry.source.host_id,
            "boot_id": entry.source.boot_id,
            "sensor_epoch": entry.source.epoch,
            "first_seq": entry.first_seq,
            "last_seq": entry.last_seq,
            "event_kind": entry.kind_number,
            "batch_outcome": "stored" if isinstance(entry, Batch) else entry.outcome,
        }
        for entry in entries
    ]
    return pa.Table.from_pylist(rows, LOG_SCHEMA)
