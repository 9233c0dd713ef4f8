"""One mapped BPF ring buffer of fixed-size records, read as a numpy array without copying.

Invariant: the consumer position moves only past records that were handed out and released.
"""

import mmap
import threading
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_HEADER: Final = 8
_BUSY: Final = np.uint32(1 << 31)
_DISCARDED: Final = np.uint32(1 << 30)


def slot_dtype(record: np.dtype[Any]) -> np.dtype[Any]:
    """A record with the ring's header in front of it, so that neighbours in a ring are an array."""
    fields: Mapping[str, Any] = record.fields or {}
    return np.dtype(
        {
            "names": list(fields),
            "formats": [field[0] for field in fields.values()],
            "offsets": [_HEADER + field[1] for field in fields.values()],
            "itemsize": _HEADER + (record.itemsize + 7) // 8 * 8,
        }
    )


class Ring:
    """Consumer of the ring `map_fd` of `size` bytes whose records all have type `dtype`."""

    def __init__(self, map_fd: int, size: int, dtype: np.dtype[Any]) -> None:
        page = mmap.PAGESIZE
        self._dtype = slot_dtype(dtype)
        self._empty = np.empty(0, self._dtype)
        self._size = size
        self._consumer_map = mmap.mmap(map_fd, page, offset=0)
        # The producer's page, then the data twice over: a record never wraps in this view.
        self._data_map = mmap.mmap(map_fd, page + 2 * size, prot=mmap.PROT_READ, offset=page)
        self._consumer = memoryview(self._consumer_map)[:8].cast("Q")
        self._producer = memoryview(self._data_map)[:8].cast("Q")
        self._offset = page
        # Taking a lock orders the loads around it (acquire) and the stores before it (release):
        # a memoryview has no barriers of its own, and arm64 reorders.
        self._fence = threading.Lock()
        self._position = self._pending = self._consumer[0]

    def drain(self) -> npt.NDArray[np.void]:
        """The records that are complete, as a view that is valid until `release`.

        The view is one piece of memory, so that `tobytes` of it is one copy.
        """
        count = (self._producer[0] - self._position) // self._dtype.itemsize
        if not count:
            return self._empty
        start = self._offset + self._position % self._size
        with self._fence:
            lengths = np.ndarray((count,), "<u4", self._data_map, start, (self._dtype.itemsize,))
            flags = lengths & (_BUSY | _DISCARDED)
        if flags.any():
            busy = np.flatnonzero(flags & _BUSY)
            count = int(busy[0]) if len(busy) else count
            flags = flags[:count]
        with self._fence:
            self._pending = self._position + count * self._dtype.itemsize
            records = np.ndarray((count,), self._dtype, self._data_map, start)
        return records[flags == 0] if flags.any() else records

    def release(self) -> None:
        """Gives the room of the last drain back to the kernel."""
        if self._position != self._pending:
            with self._fence:
                self._consumer[0] = self._position = self._pending

    def close(self) -> None:
        """Unmaps the ring; views that are still held make this wait for them to go."""
        self._consumer.release()
        self._producer.release()
        for mapping in (self._consumer_map, self._data_map):
            try:
                mapping.close()
            except BufferError:  # somebody still holds a view: it is unmapped when that goes
                continue
