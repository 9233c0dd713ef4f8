"""Segment files of the spool: batches one after another, each with its range and checksums.

Invariant: a batch is given back exactly as it was appended, or it is reported as damaged.

A segment is a header (magic, versions, epoch, boot id) and records; a record is a header of its own
(kind, count, first sequence number, lengths, checksums) and the payload.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from limes.v1 import schema

_MAGIC: Final = b"LIMESSPL"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sHHIQ40s")
_RECORD_MAGIC: Final = b"LREC"
_RECORD: Final = struct.Struct("<4sBxxxIIQII")
_SUM: Final = struct.Struct("<I")
_MAX_PIECES: Final = 512  # IOV_MAX is 1024

SUFFIX: Final = ".segment"


class Entry(NamedTuple):
    """One batch on its way: `payload` is the compressed Arrow stream."""

    kind: int
    first_seq: int
    events: int
    payload: bytes

    @property
    def last_seq(self) -> int:
        """Sequence number of the last event."""
        return self.first_seq + self.events - 1


class Damage(NamedTuple):
    """A stretch of a segment that cannot be read; last_seq is 0 when it is not known."""

    first_seq: int
    last_seq: int


class Origin(NamedTuple):
    """Whose batches a segment holds."""

    epoch: int
    boot_id: str
    abi_version: int = schema.ABI_VERSION


def name(first_seq: int) -> str:
    """File name of the segment that begins with this number."""
    return f"{first_seq:020d}{SUFFIX}"


def _record_header(entry: Entry) -> bytes:
    head = _RECORD.pack(
        _RECORD_MAGIC,
        entry.kind,
        entry.events,
        len(entry.payload),
        entry.first_seq,
        zlib.crc32(entry.payload),
        0,
    )[: -_SUM.size]
    return head + _SUM.pack(zlib.crc32(head))


def size_of(entry: Entry) -> int:
    """Bytes an entry takes in a segment."""
    return _RECORD.size + len(entry.payload)


class Writer:
    """A segment that is being written. A failed append leaves the file as it was before."""

    def __init__(self, folder: Path, first_seq: int, origin: Origin) -> None:
        """Makes the file with mode 0600. Raises OSError."""
        self.path = folder / name(first_seq)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self.path, flags, 0o600)
        self.size = 0
        try:
            self._write(
                [
                    _HEADER.pack(
                        _MAGIC,
                        _VERSION,
                        origin.abi_version,
                        0,
                        origin.epoch,
                        origin.boot_id.encode(),
                    )
                ]
            )
        except OSError:
            os.close(self._file)
            self.path.unlink(missing_ok=True)
            raise

    def append(self, entries: Sequence[Entry]) -> None:
        """Writes these batches. Raises OSError, after which none of them is in the file."""
        pieces: list[bytes] = []
        for entry in entries:
            pieces += (_record_header(entry), entry.payload)
        self._write(pieces)

    def _write(self, pieces: list[bytes]) -> None:
        before = self.size
        try:
            for start in range(0, len(pieces), _MAX_PIECES):
                self._write_all(pieces[start : start + _MAX_PIECES])
        except OSError:
            self.size = before
            os.ftruncate(self._file, before)
            os.lseek(self._file, before, os.SEEK_SET)
            raise

    def _write_all(self, pieces: list[bytes]) -> None:
        written = os.writev(self._file, pieces)
        self.size += written
        if written == sum(map(len, pieces)):
            return
        rest = memoryview(b"".join(pieces))[written:]
        while rest:
            written = os.write(self._file, rest)
            self.size += written
            rest = rest[written:]

    def sync(self) -> None:
        """Forces what was written onto the disk. Raises OSError."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Closes the file; what was written stays."""
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class _Head:
    kind: int
    count: int
    length: int
    first_seq: int
    checksum: int


def _parse(head: bytes) -> _Head | None:
    """A record's header, or None when these bytes are none."""
    if len(head) < _RECORD.size or not head.startswith(_RECORD_MAGIC):
        return None
    _, kind, count, length, first_seq, checksum, header_sum = _RECORD.unpack(head)
    if zlib.crc32(head[: -_SUM.size]) != header_sum:
        return None
    return _Head(kind, count, length, first_seq, checksum)


class Reader:
    """Reads a segment from its beginning, past damage where there is any."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, or ValueError when the file is not a segment."""
        self.path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self.origin = self._origin()
        except (OSError, ValueError):
            os.close(self._file)
            raise
        self._at = _HEADER.size
        self.damaged = False
        """True once bytes were skipped whose range is not known."""

    def _origin(self) -> Origin:
        head = os.pread(self._file, _HEADER.size, 0)
        if len(head) < _HEADER.size:
            raise ValueError(f"{self.path} is shorter than a segment's header")
        magic, version, abi_version, _, epoch, boot_id = _HEADER.unpack(head)
        if magic != _MAGIC or version != _VERSION:
            raise ValueError(f"{self.path} does not begin with a segment's header")
        try:
            boot = boot_id.rstrip(b"\0").decode("ascii")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} has no readable boot id") from error
        return Origin(epoch, boot, abi_version)

    def next(self, *, payload: bool = True) -> Entry | Damage | None:
        """The next batch, the range of a damaged one, or None at the end of the file.

        With payload=False the payload is neither read nor checked.
        """
        while True:
            head = os.pread(self._file, _RECORD.size, self._at)
            if not head:
                return None
            found = _parse(head)
            if found is None:
                self.damaged = True
                if not self._resync():
                    return None
                continue
            start = self._at + _RECORD.size
            self._at = start + found.length
            if not payload:
                return Entry(found.kind, found.first_seq, found.count, b"")
            data = os.pread(self._file, found.length, start)
            if len(data) != found.length or zlib.crc32(data) != found.checksum:
                return Damage(found.first_seq, found.first_seq + found.count - 1)
            return Entry(found.kind, found.first_seq, found.count, data)

    def _resync(self) -> bool:
        """Moves to the next place that holds a record's header; False when there is none."""
        position = self._at + 1
        while chunk := os.pread(self._file, 1 << 20, position):
            offset = chunk.find(_RECORD_MAGIC)
            while offset >= 0:
                if _parse(os.pread(self._file, _RECORD.size, position + offset)) is not None:
                    self._at = position + offset
                    return True
                offset = chunk.find(_RECORD_MAGIC, offset + 1)
            if len(chunk) < len(_RECORD_MAGIC):
                break
            # A magic number may straddle two chunks.
            position += len(chunk) - len(_RECORD_MAGIC) + 1
        return False

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)
