"""Columns to numbered batches: sequence, Arrow, zstd.

Invariant: every event gets the next number, over all kinds, in the order in which it is added.
"""

from typing import Final

import numpy as np
import zstandard
from limes.sensor.arrow import Column, Encoder
from limes.sensor.segments import Entry
from limes.v1 import schema

# A third of the CPU of level 1, for a third more bytes.
_LEVEL: Final = -20


class Batcher:
    """Numbers and encodes batches; `take` hands them over in sequence."""

    def __init__(self) -> None:
        self._encoders: dict[str, Encoder] = {}
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._entries: list[Entry] = []
        self.next_seq = 1

    @property
    def sequenced(self) -> int:
        """Events numbered so far."""
        return self.next_seq - 1

    def add(self, kind: str, count: int, columns: dict[str, Column]) -> None:
        """Numbers `count` events and encodes them; adds event_seq to the columns."""
        encoder = self._encoders.get(kind)
        if encoder is None:
            encoder = self._encoders[kind] = Encoder(schema.KINDS[kind])
        first = self.next_seq
        columns["event_seq"] = np.arange(first, first + count, dtype=np.uint64)
        payload = self._compressor.compress(encoder.encode(count, columns))
        self._entries.append(Entry(schema.KINDS[kind].number, first, count, payload))
        self.next_seq = first + count

    def take(self) -> list[Entry]:
        """The batches added since the last call."""
        entries, self._entries = self._entries, []
        return entries
