"""String columns built from fixed slots of kernel records, without an object per row.

Invariant: the bytes of every row are valid UTF-8; what was not is replaced by U+FFFD.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Bytes2d = npt.NDArray[np.uint8]
Lengths = npt.NDArray[Any]

_INDEX: Final = np.arange(4096, dtype=np.uint16)


@dataclass(frozen=True, slots=True)
class Strings:
    """A column of strings: row i is data[offsets[i]:offsets[i + 1]] (Arrow's layout)."""

    offsets: npt.NDArray[np.int32]
    data: bytes

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, index: int) -> bytes:
        """Bytes of one row."""
        return self.data[self.offsets[index] : self.offsets[index + 1]]

    def take(self, rows: npt.NDArray[np.intp]) -> "Strings":
        """The rows with these numbers, in this order; rows may repeat."""
        if not self.data:
            return Strings(np.zeros(len(rows) + 1, np.int32), b"")
        starts = self.offsets[:-1][rows]
        lengths = self.offsets[1:][rows] - starts
        offsets = offsets_of(lengths)
        if not offsets[-1]:
            return Strings(offsets, b"")
        source = np.repeat(starts - offsets[:-1], lengths)
        source += np.arange(len(source), dtype=np.int32)
        return Strings(offsets, np.frombuffer(self.data, np.uint8)[source].tobytes())

    def replace(self, rows: Sequence[int], values: Sequence[bytes]) -> "Strings":
        """A copy in which these rows (ascending) hold these bytes."""
        pieces, at = [], 0
        lengths = np.diff(self.offsets)
        for row, value in zip(rows, values, strict=True):
            pieces += [self.data[at : self.offsets[row]], value]
            at = int(self.offsets[row + 1])
            lengths[row] = len(value)
        pieces.append(self.data[at:])
        return Strings(offsets_of(lengths), b"".join(pieces))


def offsets_of(lengths: Lengths) -> npt.NDArray[np.int32]:
    """Arrow offsets of rows with these lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def from_list(values: Sequence[str]) -> Strings:
    """A column of these few strings; lone surrogates (undecodable file names) are replaced."""
    joined = "".join(values)
    if joined.isascii():
        lengths = np.fromiter(map(len, values), np.int32, len(values))
        return Strings(offsets_of(lengths), joined.encode())
    encoded = [value.encode("utf-8", "replace") for value in values]
    return Strings(offsets_of(np.array([len(v) for v in encoded], np.int32)), b"".join(encoded))


def constant(value: str, count: int) -> Strings:
    """A column of one string."""
    encoded = value.encode()
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(len(encoded))
    return Strings(offsets, encoded * count)


def heads(slots: Bytes2d, lengths: Lengths) -> Strings:
    """The first `lengths[i]` bytes of each slot, NULs included."""
    width = int(lengths.max(initial=0))
    if not width:
        return Strings(np.zeros(len(slots) + 1, np.int32), b"")
    mask = _INDEX[:width] < lengths.astype(np.uint16)[:, None]
    # Taken out of one piece of memory: row by row costs three times as much for short ones.
    whole = np.ascontiguousarray(slots[:, :width])
    return utf8(Strings(offsets_of(lengths), whole[mask].tobytes()))


def nul_ended(slots: Bytes2d) -> Strings:
    """Each slot up to its first NUL (or its end)."""
    ends = slots == 0
    lengths = ends.argmax(axis=1)
    # argmax gives 0 both for a NUL in front and for no NUL at all.
    lengths[(lengths == 0) & (slots[:, 0] != 0)] = slots.shape[1]
    return heads(slots, lengths)


def tails(slots: Bytes2d, starts: Lengths) -> Strings:
    """Each slot from `starts[i]` to the NUL that ends it: strings written from the slot's end."""
    last = slots.shape[1] - 1
    starts = np.minimum(starts, last)
    low = int(starts.min(initial=last))
    mask = _INDEX[low:last] >= starts[:, None]
    slots = np.ascontiguousarray(slots[:, low:last])
    data = slots[mask].tobytes()
    lengths: Lengths = last - starts.astype(np.int32)
    if b"\0" in data:
        mask &= np.logical_and.accumulate((slots != 0) | ~mask, axis=1)
        data = slots[mask].tobytes()
        lengths = mask.sum(axis=1)
    return utf8(Strings(offsets_of(lengths), data))


def utf8(strings: Strings) -> Strings:
    """The same column with every byte that is not UTF-8 replaced; costs nothing for ASCII."""
    if strings.data.isascii():
        return strings
    high = np.flatnonzero(np.frombuffer(strings.data, np.uint8) & 0x80)
    rows = np.unique(np.searchsorted(strings.offsets, high, side="right") - 1)
    changed, values = [], []
    for row in rows.tolist():
        old = strings.row(row)
        new = old.decode("utf-8", "replace").encode()
        if new != old:
            changed.append(row)
            values.append(new)
    return strings.replace(changed, values) if changed else strings
