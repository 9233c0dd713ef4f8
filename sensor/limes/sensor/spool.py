"""The spool: batches that wait for their acknowledgement, on disk, bounded.

Invariant: every sequence number ever appended is acknowledged, can be read back, or is in a hole
that `take` reports with its cause.

Batches are written (not synced) before they are sent, so they outlive the sensor. Segments that
were filled, and all of them at a clean stop, are synced; when the host itself dies, what was
written in the last moments may be missing at the end. A batch gets its number in the same step in
which it is appended: a sensor that is killed before that has numbered nothing, so nothing is
missing from the sequence, and the next start writes a loss row saying that the one before did not
end cleanly (cause sensor_killed, count 0: unknown).

When the disk refuses, batches wait in memory (bounded) and the disk is tried again each second.
"""

import bisect
import contextlib
import fcntl
import os
import shutil
import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from limes.sensor import segments
from limes.sensor.errors import SpoolError
from limes.sensor.segments import Damage, Entry, Origin
from limes.v1 import schema

log = structlog.get_logger(__name__)

SPOOL_FULL: Final = "spool_full"
SPOOL_CORRUPT: Final = "spool_corrupt"
SPOOL_UNWRITABLE: Final = "spool_unwritable"
SENSOR_KILLED: Final = "sensor_killed"
STORE_RESET: Final = "store_reset"
REGISTRY_CHANGED: Final = "registry_changed"

_SEGMENT_BYTES: Final = 8 << 20
_RECYCLE_BYTES: Final = 256 << 10
_TAIL_BYTES: Final = 2 << 20
_MEMORY_BYTES: Final = 16 << 20
_RETRY_SECONDS: Final = 1.0
_CLEAN: Final = "clean"
_HOLES: Final = "holes"


class Hole(NamedTuple):
    """Numbers that cannot be sent any more, and why."""

    first_seq: int
    last_seq: int
    cause: str

    @property
    def events(self) -> int:
        """How many events are missing."""
        return self.last_seq - self.first_seq + 1


class _Waiting(NamedTuple):
    entry: Entry
    on_disk: bool


@dataclass(slots=True)
class _Segment:
    """A segment file and the range of numbers in it."""

    path: Path
    first_seq: int
    last_seq: int
    size: int


class EpochSpool:
    """The batches of one start of the sensor. Appending and reading may be in two threads."""

    def __init__(self, folder: Path, origin: Origin, *, segment_bytes: int) -> None:
        self.folder = folder
        self.origin = origin
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._writer: segments.Writer | None = None
        self._unsynced: list[segments.Writer] = []
        self._tail: list[_Waiting] = []
        self._tail_bytes = 0
        self._unsaved_bytes = 0
        self._disk_bytes = 0
        self._holes: list[Hole] = []
        self._reader: segments.Reader | None = None
        self._retry_at = 0.0
        self.last_seq = 0
        self.acked = 0
        self.lost: dict[str, int] = {}
        """Events given up in this run, by cause."""

    @property
    def bytes_waiting(self) -> int:
        """Bytes on disk, and those in memory that are not on disk."""
        return self._disk_bytes + self._unsaved_bytes

    @property
    def drained(self) -> bool:
        """True when everything appended so far was acknowledged."""
        return self.acked >= self.last_seq

    # ------------------------------------------------------------ writing side

    def append(self, entries: Sequence[Entry]) -> None:
        """Takes batches in sequence; a disk that refuses is no error here."""
        with self._lock:
            on_disk = self._store(entries)
            size = sum(len(entry.payload) for entry in entries)
            self._tail += [_Waiting(entry, on_disk) for entry in entries]
            self._tail_bytes += size
            self.last_seq = entries[-1].last_seq
            if on_disk:
                self._segments[-1].last_seq = self.last_seq
            else:
                self._unsaved_bytes += size
            self._trim()

    def _store(self, entries: Sequence[Entry]) -> bool:
        if self._retry_at and time.monotonic() < self._retry_at:
            return False
        try:
            writer = self._writer or self._open(entries[0].first_seq)
            writer.append(entries)
        except OSError as error:
            if not self._retry_at:
                log.warning("spool.unwritable", folder=str(self.folder), error=error.strerror)
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            return False
        if self._retry_at:
            log.info("spool.writable_again", folder=str(self.folder))
            self._retry_at = 0.0
        segment = self._segments[-1]
        self._disk_bytes += writer.size - segment.size
        segment.size = writer.size
        if writer.size >= self._segment_bytes:
            self._rotate()
        return True

    def _open(self, first_seq: int) -> segments.Writer:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        writer = self._writer = segments.Writer(self.folder, first_seq, self.origin)
        self._segments.append(_Segment(writer.path, first_seq, first_seq - 1, 0))
        return writer

    def _rotate(self) -> None:
        """Ends the segment that is being written; the reading side syncs and closes it."""
        if self._writer is not None:
            self._unsynced.append(self._writer)
            self._writer = None

    def _trim(self) -> None:
        """Frees memory: what is on disk first, what is not only beyond the hard limit."""
        drop = 0
        limit = _TAIL_BYTES
        for entry, on_disk in self._tail:
            if not on_disk:
                limit = _MEMORY_BYTES
            if self._tail_bytes <= limit:
                break
            self._tail_bytes -= len(entry.payload)
            if not on_disk:
                self._unsaved_bytes -= len(entry.payload)
                self._note(Hole(entry.first_seq, entry.last_seq, SPOOL_UNWRITABLE))
            drop += 1
        del self._tail[:drop]

    def _note(self, hole: Hole) -> None:
        """Keeps and counts a hole, but for what was acknowledged or is in another hole."""
        first = max(hole.first_seq, self.acked + 1)
        for other in self._holes:
            if other.first_seq <= first <= other.last_seq:
                first = other.last_seq + 1
        if first > hole.last_seq:
            return
        hole = hole._replace(first_seq=first)
        known = sum(
            max(0, min(other.last_seq, hole.last_seq) - max(other.first_seq, first) + 1)
            for other in self._holes
        )
        self.lost[hole.cause] = self.lost.get(hole.cause, 0) + hole.events - known
        last = self._holes[-1] if self._holes else None
        if last and last.cause == hole.cause and last.last_seq + 1 == hole.first_seq:
            self._holes[-1] = last._replace(last_seq=hole.last_seq)
        else:
            bisect.insort(self._holes, hole)
        # Best effort: after a restart an unnamed hole is still declared, with a vaguer cause.
        with contextlib.suppress(OSError), (self.folder / _HOLES).open("a") as file:
            file.write(f"{hole.first_seq} {hole.last_seq} {hole.cause}\n")

    def drop_oldest(self, cause: str = SPOOL_FULL) -> int:
        """Gives up the oldest segment; returns the bytes freed, 0 when none is left."""
        with self._lock:
            if not self._segments:
                return 0
            if len(self._segments) == 1:
                self._rotate()
            segment = self._segments.pop(0)
            self._disk_bytes -= segment.size
            # What memory still has of it is given up with it, or the hole would not be true.
            self._forget(segment.last_seq)
            self._note(Hole(segment.first_seq, segment.last_seq, cause))
        segment.path.unlink(missing_ok=True)
        return segment.size

    # ------------------------------------------------------------ reading side

    def take(self, next_seq: int) -> Entry | Hole | None:
        """What to send as number `next_seq`: a batch, a hole, or None when nothing follows yet.

        A batch may begin before `next_seq` when that number lies inside it.
        """
        with self._lock:
            if next_seq > self.last_seq:
                return None
            if self._tail and next_seq >= self._tail[0].entry.first_seq:
                at = bisect.bisect_right(self._tail, next_seq, key=lambda w: w.entry.first_seq)
                return self._tail[at - 1].entry
            path, follows = self._place(next_seq)
        damaged = False
        if path is not None:
            found, damaged = self._read(path, next_seq)
            if isinstance(found, Entry) and found.first_seq <= next_seq:
                return found
            if found is not None:
                damaged = damaged or isinstance(found, Damage)
                inside = found.first_seq <= next_seq
                follows = min(follows, found.last_seq + 1 if inside else found.first_seq)
        return self._hole(next_seq, follows, damaged=damaged)

    def _place(self, next_seq: int) -> tuple[Path | None, int]:
        """The segment that may hold this number, and the first number known to be after it."""
        at = bisect.bisect_right(self._segments, next_seq, key=lambda s: s.first_seq)
        if at < len(self._segments):
            follows = self._segments[at].first_seq
        elif self._tail:
            follows = self._tail[0].entry.first_seq
        else:
            follows = self.last_seq + 1
        if at and self._segments[at - 1].last_seq >= next_seq:
            return self._segments[at - 1].path, follows
        return None, follows

    def _read(self, path: Path, next_seq: int) -> tuple[Entry | Damage | None, bool]:
        """What the segment has at or after this number, and whether some of it was unreadable."""
        try:
            if self._reader is not None and self._reader.path == path:
                found = self._seek(self._reader, next_seq)
                if found is not None and found.first_seq <= next_seq:
                    return found, False
            # After a rewind the reader stands too far on: begin the file anew.
            self._close_reader()
            self._reader = segments.Reader(path)
            found = self._seek(self._reader, next_seq)
        except (OSError, ValueError) as error:
            log.warning("spool.segment_unreadable", path=str(path), error=str(error))
            self._close_reader()
            return None, True
        # A file that ends before the number it should have was cut.
        return found, found is None or self._reader.damaged

    @staticmethod
    def _seek(reader: segments.Reader, next_seq: int) -> Entry | Damage | None:
        while (found := reader.next()) is not None:
            if found.last_seq >= next_seq:
                return found
        return None

    def _hole(self, next_seq: int, follows: int, *, damaged: bool) -> Hole:
        """The hole that begins at this number and ends before `follows` at the latest."""
        with self._lock:
            for hole in self._holes:
                if hole.first_seq <= next_seq <= hole.last_seq:
                    return Hole(next_seq, min(hole.last_seq, follows - 1), hole.cause)
                if hole.first_seq > next_seq:
                    follows = min(follows, hole.first_seq)
                    break
            oldest = self._segments[0].first_seq if self._segments else self.last_seq + 1
            if damaged:
                cause = SPOOL_CORRUPT
            elif next_seq <= self.acked or next_seq < oldest:
                cause = STORE_RESET
            else:
                cause = SENSOR_KILLED
            hole = Hole(next_seq, follows - 1, cause)
            self._note(hole)
        return hole

    def acknowledge(self, last_seq: int) -> None:
        """Lets everything up to this number go. A number never appended is ignored."""
        with self._lock:
            self.acked = max(self.acked, min(last_seq, self.last_seq))
            self._forget(self.acked)
            self._holes = [hole for hole in self._holes if hole.last_seq > self.acked]
            gone = self._done_segments()
        for segment in gone:
            segment.path.unlink(missing_ok=True)

    def _forget(self, last_seq: int) -> None:
        """Frees the memory of batches up to this number."""
        done = 0
        for entry, on_disk in self._tail:
            if entry.last_seq > last_seq:
                break
            self._tail_bytes -= len(entry.payload)
            if not on_disk:
                self._unsaved_bytes -= len(entry.payload)
            done += 1
        del self._tail[:done]

    def _done_segments(self) -> list[_Segment]:
        """Takes out the acknowledged segments; a small one that is being written stays."""
        gone = [segment for segment in self._segments if segment.last_seq <= self.acked]
        if self._writer is not None and gone and gone[-1] is self._segments[-1]:
            if self._writer.size < _RECYCLE_BYTES:
                gone.pop()
            else:
                self._rotate()
        del self._segments[: len(gone)]
        self._disk_bytes -= sum(segment.size for segment in gone)
        return gone

    def maintain(self) -> None:
        """Syncs and closes filled segments: work that may block, for the reading side's thread."""
        if not self._unsynced:
            return
        with self._lock:
            writers, self._unsynced = self._unsynced, []
        for writer in writers:
            if writer.path.exists():
                with contextlib.suppress(OSError):
                    writer.sync()
            writer.close()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def close(self) -> None:
        """Syncs what is there and marks the end as clean; removes the folder when nothing waits."""
        with self._lock:
            self._rotate()
        self.maintain()
        self._close_reader()
        if self.drained:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        with contextlib.suppress(OSError):
            (self.folder / _CLEAN).touch(mode=0o600)

    # ------------------------------------------------------------ after a restart

    @classmethod
    def reopen(cls, folder: Path, *, segment_bytes: int) -> "EpochSpool | None":
        """What an earlier start left; None when the folder holds no readable segment."""
        found: list[_Segment] = []
        origin: Origin | None = None
        holes = _read_holes(folder / _HOLES)
        unreadable: list[int] = []
        for path in sorted(folder.glob(f"*{segments.SUFFIX}")):
            first_seq = int(path.name.removesuffix(segments.SUFFIX))
            if found:
                found[-1].last_seq = min(found[-1].last_seq, first_seq - 1)
            try:
                reader = segments.Reader(path)
            except (OSError, ValueError) as error:
                log.warning("spool.segment_unreadable", path=str(path), error=str(error))
                unreadable.append(first_seq)
                continue
            origin = origin or reader.origin
            last_seq = max(_last_of(reader), first_seq - 1)
            found.append(_Segment(path, first_seq, last_seq, path.stat().st_size))
            reader.close()
        if origin is None:
            return None
        for first_seq in unreadable:
            # How far it went is known from what follows; that it held one event at least, always.
            after = [segment.first_seq for segment in found if segment.first_seq > first_seq]
            holes.append(Hole(first_seq, min(after, default=first_seq + 1) - 1, SPOOL_CORRUPT))
        spool = cls(folder, origin, segment_bytes=segment_bytes)
        spool._segments = found
        spool._disk_bytes = sum(segment.size for segment in found)
        spool._holes = sorted(holes)
        spool.last_seq = max([found[-1].last_seq, *(hole.last_seq for hole in holes)])
        return spool


def _last_of(reader: segments.Reader) -> int:
    """Last number of a segment, from its records' headers."""
    last = 0
    try:
        while (found := reader.next(payload=False)) is not None:
            last = max(last, found.last_seq)
    except (
        OSError
    ) as error:  # what comes behind it is missing, and found to be when it is asked for
        log.warning("spool.segment_unreadable", path=str(reader.path), error=str(error))
    return last


def _read_holes(path: Path) -> list[Hole]:
    holes: list[Hole] = []
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return holes
    for line in lines:
        parts = line.split()
        if len(parts) == 3 and parts[0].isdigit() and parts[1].isdigit():
            holes.append(Hole(int(parts[0]), int(parts[1]), parts[2]))
    return holes


class Spool:
    """The spool's folder: the live epoch and what earlier starts left, under one bound."""

    def __init__(
        self,
        folder: Path,
        origin: Origin,
        *,
        limit_bytes: int,
    ) -> None:
        """Makes the folder (0700) and locks it. Raises SpoolError."""
        self._folder = folder
        self._limit = limit_bytes
        self._full = False
        segment_bytes = min(_SEGMENT_BYTES, max(limit_bytes // 8, 1 << 16))
        self._lock_file = _claim(folder)
        self.causes: list[str] = []
        """What went wrong with earlier starts in a way that has no range: loss causes."""
        self.leftovers: list[EpochSpool] = []
        for path in sorted(p for p in folder.iterdir() if p.is_dir()):
            self._reopen(path, segment_bytes)
        live = folder / f"{origin.epoch:020d}"
        self.live = EpochSpool(live, origin, segment_bytes=segment_bytes)

    def _reopen(self, path: Path, segment_bytes: int) -> None:
        if not (path / _CLEAN).exists():
            self.causes.append(SENSOR_KILLED)
        earlier = EpochSpool.reopen(path, segment_bytes=segment_bytes)
        if earlier is not None and earlier.drained:
            shutil.rmtree(path, ignore_errors=True)  # it was killed before its first batch
            return
        if earlier is not None:
            self.leftovers.append(earlier)
            if earlier.origin.abi_version != schema.ABI_VERSION:
                # Its columns are of another registry: nobody would take them any more.
                while earlier.drop_oldest(REGISTRY_CHANGED):
                    pass
            return
        if any(path.glob(f"*{segments.SUFFIX}")):
            self.causes.append(SPOOL_CORRUPT)
        shutil.rmtree(path, ignore_errors=True)

    def append(self, entries: Sequence[Entry]) -> None:
        """Takes batches of the live epoch in sequence, and keeps the bound."""
        self.live.append(entries)
        self.enforce()

    def enforce(self) -> None:
        """Gives up the oldest segments while there is more than the bound."""
        waiting = self.bytes_waiting
        if waiting <= self._limit:
            self._full = False
            return
        if not self._full:
            self._full = True
            log.warning("spool.full", folder=str(self._folder), limit_bytes=self._limit)
        for epoch in (*self.leftovers, self.live):
            while waiting > self._limit and (freed := epoch.drop_oldest()):
                waiting -= freed

    @property
    def bytes_waiting(self) -> int:
        """Bytes of all epochs."""
        return sum(epoch.bytes_waiting for epoch in (*self.leftovers, self.live))

    def lost(self) -> dict[str, int]:
        """Events given up in this run, by cause."""
        out: dict[str, int] = {}
        for epoch in (*self.leftovers, self.live):
            for cause, count in epoch.lost.items():
                out[cause] = out.get(cause, 0) + count
        return out

    def finish(self, epoch: EpochSpool) -> None:
        """Lets an earlier epoch go that was acknowledged whole."""
        epoch.close()
        self.leftovers = [other for other in self.leftovers if other is not epoch]

    def close(self) -> None:
        """Closes every epoch; what waits stays for the next start. Safe to call twice."""
        if self._lock_file < 0:
            return
        for epoch in (*self.leftovers, self.live):
            epoch.close()
        os.close(self._lock_file)
        self._lock_file = -1


def _claim(folder: Path) -> int:
    """Makes the folder private and takes its lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
        if status.st_uid != os.geteuid():
            raise SpoolError(
                f"The spool folder {folder} belongs to uid {status.st_uid}, the sensor runs as "
                f"uid {os.geteuid()}: give it to the sensor, or name another with spool."
            )
        if stat.S_IMODE(status.st_mode) != 0o700:
            folder.chmod(0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock_file = os.open(folder / "lock", flags, 0o600)
    except OSError as error:
        raise SpoolError(
            f"Tried to make the spool folder {folder}: {error.strerror}. Name a folder that the "
            "sensor may write, with spool."
        ) from error
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock_file)
        raise SpoolError(
            f"The spool folder {folder} is in use by another sensor: stop it, or name another "
            "folder with spool."
        ) from error
    return lock_file
