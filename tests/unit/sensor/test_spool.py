"""The spool: bounded, exact, and honest about what it no longer has."""

import errno
import itertools
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limes.sensor import segments, spool
from limes.sensor.errors import SpoolError
from limes.sensor.segments import Entry, Origin
from limes.sensor.spool import EpochSpool, Hole, Spool
from limes.v1 import schema

BOOT = "11111111-2222-3333-4444-555555555555"
SEGMENT = 4096


def entry(first: int, events: int = 10, size: int = 300, kind: int = 1) -> Entry:
    return Entry(kind, first, events, (b"%d/" % first * size)[:size])


def fill(
    target: Any, batches: int, *, start: int = 1, events: int = 10, size: int = 300
) -> list[Entry]:
    """Appends this many batches, one by one; returns them."""
    entries = [entry(start + number * events, events, size) for number in range(batches)]
    for one in entries:
        target.append([one])
    return entries


def drain(target: Any, next_seq: int = 1) -> list[Any]:
    """Everything from a number on, as a publisher would take it."""
    out = []
    while (item := target.take(next_seq)) is not None:
        assert item.first_seq == next_seq
        out.append(item)
        next_seq = item.last_seq + 1
    return out


@pytest.fixture(autouse=True)
def _small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is kept in memory, so that the tests read from disk."""
    monkeypatch.setattr(spool, "_TAIL_BYTES", 1000)
    monkeypatch.setattr(spool, "_RECYCLE_BYTES", 1000)


@pytest.fixture
def epoch(tmp_path: Path) -> EpochSpool:
    return EpochSpool(tmp_path / "epoch", Origin(7, BOOT), segment_bytes=SEGMENT)


def files(epoch: EpochSpool) -> list[str]:
    return sorted(path.name for path in epoch.folder.glob("*.segment"))


def test_batches_come_back_in_order_and_exactly(epoch: EpochSpool) -> None:
    """From several segments and from memory alike."""
    entries = fill(epoch, 40)
    assert len(files(epoch)) > 2
    assert drain(epoch) == entries
    assert epoch.lost == {}


def test_nothing_follows_until_it_is_appended(epoch: EpochSpool) -> None:
    """A publisher that has sent all waits."""
    fill(epoch, 2)
    assert epoch.take(21) is None
    fill(epoch, 1, start=21)
    assert epoch.take(21) == entry(21)


def test_rewind_reads_again_from_anywhere(epoch: EpochSpool) -> None:
    """Also back and forth, and from within a batch."""
    entries = fill(epoch, 40)
    for index in (39, 0, 20, 19, 21, 5):
        assert epoch.take(entries[index].first_seq) == entries[index]
    assert epoch.take(entries[7].first_seq + 3) == entries[7]


def test_acknowledged_segments_leave_the_disk(epoch: EpochSpool) -> None:
    """Only whole segments go, and never what is not acknowledged."""
    entries = fill(epoch, 40)
    before = files(epoch)
    epoch.acknowledge(entries[30].last_seq)
    assert 0 < len(files(epoch)) < len(before)
    assert drain(epoch, 311) == entries[31:]
    epoch.acknowledge(entries[-1].last_seq)
    assert epoch.drained
    assert epoch.bytes_waiting <= 1400


def test_acknowledgement_of_what_was_never_appended_is_ignored(epoch: EpochSpool) -> None:
    """A confused server cannot make the sensor forget."""
    entries = fill(epoch, 3)
    epoch.acknowledge(10**6)
    assert epoch.acked == entries[-1].last_seq
    fill(epoch, 1, start=31)
    assert epoch.take(31) is not None


def test_dropping_the_oldest_leaves_a_declared_hole(epoch: EpochSpool) -> None:
    """The hole has the range and the cause; what follows is intact."""
    entries = fill(epoch, 40)
    freed = epoch.drop_oldest()
    items = drain(epoch)
    assert freed > 0
    assert items[0] == Hole(1, items[0].last_seq, spool.SPOOL_FULL)
    assert items[1:] == entries[items[0].events // 10 :]
    assert epoch.lost == {spool.SPOOL_FULL: items[0].events}


def test_dropping_gives_up_what_memory_still_has_of_it(
    epoch: EpochSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted as lost is not sent all the same."""
    monkeypatch.setattr(spool, "_TAIL_BYTES", 1 << 20)
    entries = fill(epoch, 40)
    epoch.drop_oldest()
    items = drain(epoch)
    assert items[1:] == entries[items[0].events // 10 :]
    assert epoch.lost == {spool.SPOOL_FULL: items[0].events}


def test_dropping_again_widens_the_hole(epoch: EpochSpool) -> None:
    """Neighbouring holes of one cause are one."""
    fill(epoch, 40)
    epoch.drop_oldest()
    epoch.drop_oldest()
    holes = [item for item in drain(epoch) if isinstance(item, Hole)]
    assert len(holes) == 1


def test_dropping_what_was_acknowledged_loses_nothing(epoch: EpochSpool) -> None:
    """An acknowledged part of a segment is no loss."""
    fill(epoch, 40)
    epoch.acknowledge(50)
    epoch.drop_oldest()
    (hole,) = [item for item in drain(epoch, 51) if isinstance(item, Hole)]
    assert hole.first_seq == 51
    assert epoch.lost == {spool.SPOOL_FULL: hole.events}


def test_fresh_database_gets_a_gap_for_what_it_had_acknowledged(epoch: EpochSpool) -> None:
    """The server asks from 1 again; what is gone is declared, the rest sent."""
    entries = fill(epoch, 40)
    epoch.acknowledge(entries[30].last_seq)
    items = drain(epoch)
    assert items[0] == Hole(1, items[1].first_seq - 1, spool.STORE_RESET)
    assert items[1:] == entries[items[0].events // 10 :]
    assert epoch.lost == {}, "it was delivered once: the store lost it"


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def test_damaged_payload_becomes_a_hole_of_its_batch(epoch: EpochSpool) -> None:
    """The header still says which numbers are missing."""
    entries = fill(epoch, 40)
    flip(epoch.folder / files(epoch)[0], 64 + 32 + 332 + 32 + 5)
    items = drain(epoch)
    assert items[1] == Hole(11, 20, spool.SPOOL_CORRUPT)
    assert items[:1] + items[2:] == entries[:1] + entries[2:]
    assert epoch.lost == {spool.SPOOL_CORRUPT: 10}


def test_damaged_header_becomes_a_hole_up_to_the_next_batch(epoch: EpochSpool) -> None:
    """Reading goes on at the next header that is sound."""
    entries = fill(epoch, 40)
    flip(epoch.folder / files(epoch)[0], 64 + 332 + 9)
    items = drain(epoch)
    assert items[1] == Hole(11, 20, spool.SPOOL_CORRUPT)
    assert items[:1] + items[2:] == entries[:1] + entries[2:]


def test_damaged_hole_is_counted_once_however_often_it_is_asked_for(epoch: EpochSpool) -> None:
    """Rewinds do not multiply losses."""
    fill(epoch, 40)
    flip(epoch.folder / files(epoch)[0], 64 + 332 + 9)
    drain(epoch)
    drain(epoch)
    assert epoch.lost == {spool.SPOOL_CORRUPT: 10}


@pytest.mark.parametrize("kept", [0, 30, 64])
def test_truncated_segment_becomes_a_hole_up_to_the_next(epoch: EpochSpool, kept: int) -> None:
    """Whether it lost its end or everything."""
    entries = fill(epoch, 40)
    first, second = files(epoch)[:2]
    os.truncate(epoch.folder / first, kept)
    items = drain(epoch)
    assert items[0] == Hole(1, int(second.split(".")[0]) - 1, spool.SPOOL_CORRUPT)
    assert items[1:] == entries[items[0].events // 10 :]


def test_deleted_segment_becomes_a_hole(epoch: EpochSpool) -> None:
    """Somebody cleaned up by hand."""
    fill(epoch, 40)
    first, second = files(epoch)[:2]
    (epoch.folder / first).unlink()
    assert drain(epoch)[0] == Hole(1, int(second.split(".")[0]) - 1, spool.SPOOL_CORRUPT)


def refuse_reads(monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    """Makes reads at this offset or behind it fail as those of a broken disk do."""
    real = os.pread

    def pread(file: int, count: int, offset: int) -> bytes:
        if offset >= start:
            raise OSError(errno.EIO, "Input/output error")
        return real(file, count, offset)

    monkeypatch.setattr(os, "pread", pread)


@pytest.mark.parametrize("start", [0, 2000])
def test_disk_that_cannot_be_read_makes_holes(
    epoch: EpochSpool, monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    """What can be read is sent, and the rest is declared as damage, to the last number."""
    entries = fill(epoch, 40)
    refuse_reads(monkeypatch, start)
    items = drain(epoch)
    assert items[-1].last_seq == 400
    holes = [item for item in items if isinstance(item, Hole)]
    assert {hole.cause for hole in holes} == {spool.SPOOL_CORRUPT}
    assert [item for item in items if item not in holes] == [e for e in entries if e in items]


def test_disk_that_cannot_be_read_stops_no_start(
    epoch: EpochSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier start left is taken as far as the disk gives it."""
    fill(epoch, 5)
    refuse_reads(monkeypatch, 1000)
    again = EpochSpool.reopen(epoch.folder, segment_bytes=SEGMENT)
    assert again is not None
    assert 0 < again.last_seq < 50


class Full:
    """Makes every write fail with an error of the disk while `on` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = False
        self.error = errno.ENOSPC
        self._writev = os.writev
        monkeypatch.setattr(os, "writev", self.writev)
        monkeypatch.setattr(spool, "_RETRY_SECONDS", 0.0)

    def writev(self, file: int, pieces: list[bytes]) -> int:
        if self.on:
            raise OSError(self.error, os.strerror(self.error))
        return self._writev(file, pieces)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_disk_that_refuses_is_bridged_from_memory(
    epoch: EpochSpool, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Nothing is lost while memory lasts; afterwards the disk is used again."""
    disk = Full(monkeypatch)
    disk.error = error
    entries = fill(epoch, 5)
    disk.on = True
    entries += fill(epoch, 20, start=51)
    disk.on = False
    entries += fill(epoch, 20, start=251)
    assert drain(epoch) == entries
    assert epoch.lost == {}


def test_memory_is_bounded_while_the_disk_refuses(
    epoch: EpochSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound the oldest go, declared with their cause and counted."""
    monkeypatch.setattr(spool, "_MEMORY_BYTES", 3000)
    disk = Full(monkeypatch)
    disk.on = True
    entries = fill(epoch, 30)
    items = drain(epoch)
    assert items == [Hole(1, 200, spool.SPOOL_UNWRITABLE), *entries[20:]]
    assert epoch.lost == {spool.SPOOL_UNWRITABLE: 200}
    assert epoch.bytes_waiting == 3000


def test_short_write_is_completed(epoch: EpochSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel may take less than it was offered."""
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda file, pieces: real(file, [b"".join(pieces)[:100]]))
    monkeypatch.setattr(os, "write", lambda file, data, real=os.write: real(file, data[:50]))
    entries = fill(epoch, 12)
    epoch._tail.clear()
    assert drain(epoch) == entries


def test_failed_write_leaves_no_torn_record_behind(
    epoch: EpochSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is as it was before, so that later records follow sound ones."""
    entries = fill(epoch, 2)

    def torn(file: int, pieces: list[bytes], real: Any = os.writev) -> int:
        real(file, [b"".join(pieces)[:100]])
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", torn)
        patch.setattr(spool, "_RETRY_SECONDS", 0.0)
        epoch.append([entry(21)])
    entries += [entry(21), *fill(epoch, 30, start=31)]
    assert drain(epoch) == entries


# ------------------------------------------------------------ after a restart


def reopen(epoch: EpochSpool) -> Any:
    return EpochSpool.reopen(epoch.folder, segment_bytes=SEGMENT)


def test_what_a_killed_sensor_wrote_is_there_after_a_restart(epoch: EpochSpool) -> None:
    """No clean stop is needed: written is written."""
    entries = fill(epoch, 40)
    again = reopen(epoch)
    assert (again.origin, again.last_seq) == (epoch.origin, entries[-1].last_seq)
    assert drain(again) == entries


def test_torn_end_of_a_killed_sensor_is_no_damage_to_the_rest(epoch: EpochSpool) -> None:
    """The record under way at the kill was never sent."""
    entries = fill(epoch, 40)
    last = epoch.folder / files(epoch)[-1]
    with last.open("ab") as file:
        file.write(segments._record_header(entry(401))[:20])
    assert drain(reopen(epoch)) == entries


def test_torn_payload_at_the_end_is_declared(epoch: EpochSpool) -> None:
    """Its header is whole, so its range is known."""
    entries = fill(epoch, 40)
    last = epoch.folder / files(epoch)[-1]
    with last.open("ab") as file:
        file.write(segments._record_header(entry(401)) + b"half")
    assert drain(reopen(epoch)) == [*entries, Hole(401, 410, spool.SPOOL_CORRUPT)]


def test_holes_keep_their_cause_over_a_restart(epoch: EpochSpool) -> None:
    """What was dropped for room is still declared as that."""
    fill(epoch, 40)
    epoch.drop_oldest()
    hole = drain(epoch)[0]
    assert drain(reopen(epoch))[0] == hole


def test_what_was_acknowledged_before_a_restart_is_not_asked_for(epoch: EpochSpool) -> None:
    """Leading segments are gone because they were acknowledged; only a store that forgot asks."""
    entries = fill(epoch, 40)
    epoch.acknowledge(entries[30].last_seq)
    again = reopen(epoch)
    again.acknowledge(entries[30].last_seq)
    assert drain(again, 311) == entries[31:]
    assert again.lost == {}


def test_unreadable_segment_in_the_middle_is_a_hole(epoch: EpochSpool) -> None:
    """Its neighbours say which numbers it held."""
    fill(epoch, 40)
    _, second, third = files(epoch)[:3]
    flip(epoch.folder / second, 0)
    holes = [item for item in drain(reopen(epoch)) if isinstance(item, Hole)]
    assert holes == [
        Hole(int(second.split(".")[0]), int(third.split(".")[0]) - 1, spool.SPOOL_CORRUPT)
    ]


def test_unreadable_last_segment_is_declared_as_one_event_at_least(epoch: EpochSpool) -> None:
    """How many it held cannot be known; that it held some is said."""
    entries = fill(epoch, 40)
    last = files(epoch)[-1]
    first = int(last.split(".")[0])
    flip(epoch.folder / last, 0)
    items = drain(reopen(epoch))
    assert items[-1] == Hole(first, first, spool.SPOOL_CORRUPT)
    assert items[:-1] == [one for one in entries if one.first_seq < first]


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_single_damage_costs_only_what_it_touched(tmp_path: Path, data: st.DataObject) -> None:
    """Flip a byte or cut a file anywhere: every number is sent or declared, none twice."""
    folder = tmp_path / f"case-{next(CASES)}"
    epoch = EpochSpool(folder, Origin(7, BOOT), segment_bytes=SEGMENT)
    entries = fill(epoch, 40)
    target = folder / data.draw(st.sampled_from(files(epoch)))
    offset = data.draw(st.integers(0, target.stat().st_size - 1))
    if data.draw(st.booleans()):
        flip(target, offset)
    else:
        os.truncate(target, offset)
    again = reopen(epoch)
    items = drain(again)
    sent = [item for item in items if isinstance(item, Entry)]
    numbers = list(itertools.chain(*(range(i.first_seq, i.last_seq + 1) for i in items)))
    assert numbers == list(range(1, again.last_seq + 1))
    assert all(one in entries for one in sent)
    if target.name != files(epoch)[-1]:
        assert len(sent) >= 40 - 13, "a segment holds 13"


CASES = itertools.count()


# ------------------------------------------------------------ the folder


def new(folder: Path, number: int = 9, **more: Any) -> Spool:
    return Spool(folder, Origin(number, BOOT), limit_bytes=more.pop("limit", 1 << 26))


def test_folder_and_files_are_private(tmp_path: Path) -> None:
    """Command lines are nobody else's business."""
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o755)
    spooled = new(folder)
    spooled.append([entry(1)])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_folder_is_used_by_one_sensor_at_a_time(tmp_path: Path) -> None:
    """Two would send each other's batches."""
    first = new(tmp_path / "spool")
    with pytest.raises(SpoolError, match="in use by another sensor"):
        new(tmp_path / "spool", 10)
    first.close()
    new(tmp_path / "spool", 10).close()


def test_folder_that_cannot_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="Name a folder"):
        new(tmp_path / "file" / "spool")


def test_bound_holds_by_giving_up_the_oldest(tmp_path: Path) -> None:
    """Earlier epochs are older than the live one: they go first."""
    before = new(tmp_path, 8, limit=1 << 20)
    fill(before, 30, size=10_000)
    before.close()
    live = new(tmp_path, 9, limit=1 << 20)
    fill(live, 90, size=10_000)
    assert live.bytes_waiting <= 1 << 20
    assert drain(live.leftovers[0])[0].cause == spool.SPOOL_FULL
    assert [i for i in drain(live.live) if isinstance(i, Hole)] == []
    fill(live, 200, start=901, size=10_000)
    assert live.bytes_waiting <= 1 << 20
    assert drain(live.live)[0].cause == spool.SPOOL_FULL
    assert live.lost()[spool.SPOOL_FULL] == sum(
        item.events
        for one in (*live.leftovers, live.live)
        for item in drain(one)
        if isinstance(item, Hole)
    )


def test_clean_stop_with_everything_acknowledged_leaves_nothing(tmp_path: Path) -> None:
    """No leftovers, and no word of a kill."""
    first = new(tmp_path, 8)
    entries = fill(first, 3)
    first.live.acknowledge(entries[-1].last_seq)
    first.close()
    second = new(tmp_path, 9)
    assert (second.leftovers, second.causes) == ([], [])
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_clean_stop_without_acknowledgement_leaves_the_batches(tmp_path: Path) -> None:
    """The next start sends them; nobody was killed."""
    first = new(tmp_path, 8)
    entries = fill(first, 3)
    first.close()
    second = new(tmp_path, 9)
    assert second.causes == []
    assert drain(second.leftovers[0]) == entries
    second.finish(second.leftovers[0])
    assert second.leftovers == []


def test_killed_sensor_is_noticed_by_the_next(tmp_path: Path) -> None:
    """It left no mark of a clean end."""
    first = new(tmp_path, 8)
    fill(first, 3)
    os.close(first._lock_file)  # as the kernel does for the dead
    second = new(tmp_path, 9)
    assert second.causes == [spool.SENSOR_KILLED]
    assert len(second.leftovers) == 1


def test_sensor_killed_before_its_first_batch_left_nothing_to_send(tmp_path: Path) -> None:
    """It is said to have been killed; there is no epoch to speak of."""
    first = new(tmp_path, 8)
    first.live._open(1)
    os.close(first._lock_file)
    second = new(tmp_path, 9)
    assert (second.causes, second.leftovers) == ([spool.SENSOR_KILLED], [])


def test_epoch_without_a_readable_segment_is_reported_and_removed(tmp_path: Path) -> None:
    """Nothing can be said about its range, so a cause without range is."""
    first = new(tmp_path, 8)
    fill(first, 1)
    os.close(first._lock_file)
    (segment,) = first.live.folder.glob("*.segment")
    flip(segment, 0)
    second = new(tmp_path, 9)
    assert second.causes == [spool.SENSOR_KILLED, spool.SPOOL_CORRUPT]
    assert second.leftovers == []


def test_epoch_of_another_registry_is_declared_instead_of_sent(tmp_path: Path) -> None:
    """After an upgrade nobody can read its columns; how many there were is known."""
    before = Spool(tmp_path, Origin(8, BOOT, schema.ABI_VERSION + 1), limit_bytes=1 << 26)
    entries = fill(before, 40)
    before.close()
    live = new(tmp_path, 9)
    assert drain(live.leftovers[0]) == [Hole(1, entries[-1].last_seq, spool.REGISTRY_CHANGED)]
    assert live.lost() == {spool.REGISTRY_CHANGED: 400}


def test_start_on_a_full_disk_runs_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder exists, nothing can be written in it."""
    Full(monkeypatch).on = True
    live = new(tmp_path)
    entries = fill(live, 3)
    assert drain(live.live) == entries
