"""What streams hand to the writer, as values: openings, batches, and ranges that will never come.

A range is inclusive at both ends; its table, when it has one, has exactly its rows.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import pyarrow as pa
from limes.v1 import schema


class Source(NamedTuple):
    """One start of one sensor: its sequence numbers count from 1."""

    host_id: str
    boot_id: str
    epoch: int


class Peer(Protocol):
    """An open stream, told from the writer's thread; must not block."""

    def acknowledge(self, last_seq: int) -> None: ...

    def finish(self) -> None:
        """End the stream: all that it handed over is settled."""
        ...

    def rewind(self, next_seq: int, refused_seq: int) -> bool:
        """Ask for `next_seq`: `refused_seq` leaves a gap. False when that was asked already."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A stream was opened."""

    source: Source
    sensor_version: str
    kernel_release: str
    abi_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye:
    """A stream hands over nothing more; it ends once what came before is settled."""

    peer: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events first_seq..last_seq of one kind."""

    source: Source
    peer: Peer
    first_seq: int
    last_seq: int
    kind: str
    table: pa.Table
    size: int

    @property
    def rows(self) -> int:
        return self.last_seq - self.first_seq + 1

    @property
    def kind_number(self) -> int:
        return schema.KINDS[self.kind].number


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Events first_seq..last_seq will never come: declared by the sensor, or sent malformed."""

    source: Source
    peer: Peer
    first_seq: int
    last_seq: int
    kind_number: int
    outcome: str
    stage: str
    cause: str

    @property
    def rows(self) -> int:
        return 1

    @property
    def size(self) -> int:
        return 256


Entry = Batch | Missing
Item = Entry | Hello | Goodbye


def beyond(entry: Entry, last: int) -> Entry:
    """Return `entry` without the numbers up to `last`, which are committed; some are not."""
    cut = last + 1 - entry.first_seq
    if cut <= 0:
        return entry
    if isinstance(entry, Batch):
        return replace(entry, first_seq=last + 1, table=entry.table.slice(cut))
    return replace(entry, first_seq=last + 1)


def malformed(
    source: Source, peer: Peer, first_seq: int, last_seq: int, kind_number: int
) -> Missing:
    """Return what is committed in place of a batch that cannot be stored."""
    return Missing(
        source=source,
        peer=peer,
        first_seq=first_seq,
        last_seq=last_seq,
        kind_number=kind_number,
        outcome="malformed",
        stage="transport",
        cause="malformed_batch",
    )
