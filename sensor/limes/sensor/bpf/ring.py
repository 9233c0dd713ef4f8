"""One mapped BPF ring buffer of fixed-size records, read as a numpy array without copying.

Invariant: the consumer position moves only past records that were handed out and released.
"""

import mmap
import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_HEADER: Final = 8
_BUSY: Final = np.uint32(1 << 31)
_DISCARDED: Final = np.uint32(1 << 30)


class Ring:
    """Consumer of the ring `map_fd` of `size` bytes whose records all have type `dtype`."""

    def __init__(self, map_fd: int, size: int, dtype: np.dtype[Any]) -> None:
        page = mmap.PAGESIZE
        self._dtype = dtype
        self._size = size
        self._stride = _HEADER + (dtype.itemsize + 7) // 8 * 8
        self._consumer_map = mmap.mmap(map_fd, page, offset=0)
        # The producer's page, then the data twice over: a record never wraps in this view.
        self._data_map = mmap.mmap(map_fd, page + 2 * size, prot=mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(self._consumer_map, "<u8", 1)
        self._producer = np.frombuffer(self._data_map, "<u8", 1)
        self._offset = page
        # Taking a lock orders the loads around it (acquire) and the stores before it (release):
        # numpy has no barriers of its own, and arm64 reorders.
        self._fence = threading.Lock()
        self._pending = int(self._consumer[0])

    def _strided(self, count: int, offset: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        start = self._offset + int(self._consumer[0]) % self._size + offset
        return np.ndarray((count,), dtype, self._data_map, start, (self._stride,))

    def drain(self) -> npt.NDArray[np.void]:
        """The records that are complete, as a view that is valid until `release`."""
        position = int(self._consumer[0])
        count = (int(self._producer[0]) - position) // self._stride
        if not count:
            return np.empty(0, self._dtype)
        with self._fence:
            lengths = self._strided(count, 0, np.dtype("<u4"))
            flags = lengths & (_BUSY | _DISCARDED)
        if flags.any():
            busy = np.flatnonzero(flags & _BUSY)
            count = int(busy[0]) if len(busy) else count
            flags = flags[:count]
        with self._fence:
            self._pending = position + count * self._stride
            records = self._strided(count, _HEADER, self._dtype)
        return records[flags == 0] if flags.any() else records

    def release(self) -> None:
        """Gives the room of the last drain back to the kernel."""
        with self._fence:
            self._consumer[0] = self._pending

    def close(self) -> None:
        """Unmaps the ring; views that are still held make this wait for them to go."""
        del self._consumer, self._producer
        for mapping in (self._consumer_map, self._data_map):
            try:
                mapping.close()
            except BufferError:  # somebody still holds a view: it is unmapped when that goes
                continue
