"""Arguments of execs: the inline part joined with the chunks that carry the rest.

Invariant: arguments that are not whole are flagged EXEC_F_ARGS_CUT; a chunk without an exec is
counted, never silently dropped.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from limes.sensor import strings
from limes.sensor.source import RECORD_DTYPES, Records
from limes.v1 import schema

_MAX_KEPT: Final = 2048  # chunks of 1 KiB: two MiB wait for their exec at most
_NONE: Final = np.empty(0, RECORD_DTYPES["exec_chunk"])


class Arguments:
    """Joins arguments across drains: chunks may come one drain before their exec record."""

    def __init__(self) -> None:
        self._kept = _NONE
        self.orphans = 0
        """Chunks dropped so far because their exec record never came."""

    def join(
        self, execs: Records, chunks: Records | None
    ) -> tuple[strings.Strings, npt.NDArray[np.uint8]]:
        """The process_args column of these execs, and their flags with what is cut marked."""
        inline_room = execs["args"].shape[1]
        copied = execs["args_copied"]
        inline = np.minimum(copied, inline_room)
        flags = execs["flags"].copy()
        mine = self._match(execs, chunks)
        if not len(mine[0]):
            flags |= (copied > inline_room).astype(np.uint8) * np.uint8(schema.EXEC_F_ARGS_CUT)
            return strings.heads(execs["args"], inline), flags
        rows, pieces = mine
        lengths = np.minimum(pieces["length"], pieces["data"].shape[1]).astype(np.int64)
        totals = np.bincount(rows, lengths, len(execs)).astype(np.int64) + inline
        flags |= (totals != copied).astype(np.uint8) * np.uint8(schema.EXEC_F_ARGS_CUT)
        return _interleave(execs["args"], inline, pieces["data"], lengths, totals), flags

    def _match(
        self, execs: Records, chunks: Records | None
    ) -> tuple[npt.NDArray[np.intp], Records]:
        """Row of the exec and the chunk, in row and index order, without holes."""
        kept_before = len(self._kept)
        if chunks is None or not len(chunks):
            pool = self._kept
        else:
            pool = np.concatenate((self._kept, chunks)) if kept_before else chunks
        if not len(pool):
            return np.empty(0, np.intp), pool
        order = np.argsort(execs["exec_id"])
        sorted_ids = execs["exec_id"][order]
        at = np.minimum(np.searchsorted(sorted_ids, pool["exec_id"]), len(execs) - 1)
        known = sorted_ids[at] == pool["exec_id"]
        self._keep(pool, known, kept_before)
        rows = order[at[known]]
        found = pool[known]
        by_row = np.lexsort((found["index"], rows))
        rows, found = rows[by_row], found[by_row]
        # A chunk counts only when all chunks before it are there: its rank equals its index.
        starts = np.searchsorted(rows, rows, side="left")
        whole = np.arange(len(rows)) - starts == found["index"]
        return rows[whole], found[whole]

    def _keep(self, pool: Records, known: npt.NDArray[np.bool_], old: int) -> None:
        """Keeps this drain's unmatched chunks for the next; those kept before are orphans."""
        waiting = ~known
        self.orphans += int(np.count_nonzero(waiting[:old]))
        fresh = pool[old:][waiting[old:]]
        if len(fresh) > _MAX_KEPT:
            self.orphans += len(fresh) - _MAX_KEPT
            fresh = fresh[:_MAX_KEPT]
        self._kept = fresh.copy() if len(fresh) else _NONE

    def hold(self, chunks: Records) -> None:
        """Takes the chunks of a drain that brought no exec record."""
        self._keep(
            np.concatenate((self._kept, chunks)),
            np.zeros(len(self._kept) + len(chunks), np.bool_),
            len(self._kept),
        )


def _interleave(
    inline_slots: npt.NDArray[np.uint8],
    inline: npt.NDArray[np.uint32],
    chunk_slots: npt.NDArray[np.uint8],
    lengths: npt.NDArray[np.int64],
    totals: npt.NDArray[np.int64],
) -> strings.Strings:
    """Each row's inline bytes followed by its chunks' bytes, by masks instead of a loop."""
    offsets = strings.offsets_of(totals)
    out = np.empty(int(offsets[-1]), np.uint8)
    chunk_bytes = totals - inline
    spans = np.stack((inline.astype(np.int64), chunk_bytes), axis=1).ravel()
    from_inline = np.repeat(np.tile(np.array([True, False]), len(totals)), spans)
    index = np.arange(max(inline_slots.shape[1], chunk_slots.shape[1]), dtype=np.uint16)
    width = inline_slots.shape[1]
    out[from_inline] = inline_slots[index[:width] < inline[:, None]]
    width = chunk_slots.shape[1]
    out[~from_inline] = chunk_slots[index[:width] < lengths[:, None]]
    return strings.utf8(strings.Strings(offsets, out.tobytes()))
