"""The small parts of a hunt: frames, results, turns, shipped files."""

import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from limes.control.errors import HuntError
from limes.control.hunt.config import HuntConfig
from limes.control.hunt.library import read_hunt, shipped_hunts
from limes.control.hunt.outcomes import CODES, OUTCOMES
from limes.control.hunt.result import collect
from limes.control.hunt.turns import Turns
from limes.control.hunt.wire import FRAME_BYTES, FRAME_HEAD, MAX_SQL_BYTES, Frame, Job, pack
from limes.control.hunt.worker import FrameWriter
from limes.v1 import hunt_service_pb2 as pb
from msgspec import msgpack


def test_job_with_the_longest_statement_fits_a_pipe() -> None:
    """Handing a job to a worker never waits for it: the whole of it fits the pipe's 64 KiB."""
    job = Job(
        snapshot="/" + "x" * 4096,
        sql="x" * MAX_SQL_BYTES,
        max_rows=2**63 - 1,
        max_result_mib=2**31,
        memory_mib=2**31,
        address_space_mib=2**31,
        threads=2**31,
        cpu_seconds=2**31,
        parent_pid=2**31,
        user_id=2**31,
        group_id=2**31,
    )
    assert len(msgpack.encode(job)) < 64 << 10


def test_frames_are_cut_at_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long answer becomes frames of the greatest size and a rest, joined to the same bytes."""
    written = bytearray()
    monkeypatch.setattr("limes.control.hunt.worker.write_all", written.extend)
    data = bytes(range(256)) * (FRAME_BYTES // 100)
    writer = FrameWriter()
    for start in range(0, len(data), 100_000):
        writer.write(data[start : start + 100_000])
    writer.finish()
    sizes, joined = [], bytearray()
    while written:
        kind, length = FRAME_HEAD.unpack_from(written)
        assert kind == Frame.ARROW
        sizes.append(length)
        joined += written[FRAME_HEAD.size : FRAME_HEAD.size + length]
        del written[: FRAME_HEAD.size + length]
    assert joined == data
    assert sizes[:-1] == [FRAME_BYTES] * (len(sizes) - 1)


def test_frame_that_is_too_long_is_never_made() -> None:
    """The reader refuses longer frames, so the writer must not make one."""
    with pytest.raises(AssertionError):
        pack(Frame.ARROW, b"x" * (FRAME_BYTES + 1))


def responses(*, table: pa.Table, complete: bool = True) -> list[pb.HuntResponse]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data = bytes(sink.getvalue())
    header = pb.HuntHeader(snapshot_age_ms=1500, kinds=[pb.SnapshotKind(kind="losses", rows=1)])
    header.snapshot_time.FromSeconds(1_760_000_000)
    made = [pb.HuntResponse(header=header)]
    made += [pb.HuntResponse(arrow=data[i : i + 50]) for i in range(0, len(data), 50)]
    if complete:
        made.append(pb.HuntResponse(summary=pb.HuntSummary(rows=2, limit="2 rows", elapsed_ms=7)))
    return made


def test_answer_is_put_together_from_pieces() -> None:
    """Pieces of any size make the table again; absent times are None, not 1970."""
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    found = collect(responses(table=table))
    assert found.table == table
    assert found.snapshot_age.total_seconds() == 1.5
    assert found.snapshot_time.timestamp() == 1_760_000_000
    assert found.oldest_event_time is None
    assert found.held[0].oldest_event_time is None
    assert (found.limit, found.elapsed.total_seconds()) == ("2 rows", 0.007)


def test_answer_without_its_summary_is_an_error() -> None:
    """An answer that ends early is not taken for a short one."""
    with pytest.raises(HuntError, match="before its summary"):
        collect(responses(table=pa.table({"a": [1]}), complete=False))


def test_each_outcome_has_a_code_of_its_own() -> None:
    """What the server means is what the client is told."""
    assert {OUTCOMES[code] for code in CODES.values()} == set(CODES)


def test_turn_comes_when_one_is_given_back() -> None:
    """With every place taken a hunt waits, and goes on as soon as one is free."""
    turns = Turns(HuntConfig(concurrent=1, queued=1))
    never = threading.Event()
    went = threading.Event()

    def second() -> None:
        with turns.turn(never):
            went.set()

    thread = threading.Thread(target=second)
    with turns.turn(never):
        thread.start()
        while turns._waiting == 0:
            time.sleep(0.001)
        assert not went.is_set()
    thread.join(30)
    assert went.is_set()


def test_turn_is_refused_when_it_does_not_come_in_time() -> None:
    """Waiting is bounded, and the bound is named."""
    turns = Turns(HuntConfig(concurrent=1, queued=1, queue_seconds=1))
    never = threading.Event()
    with (
        turns.turn(never),
        pytest.raises(HuntError, match="waited 1 s for its turn") as caught,
        turns.turn(never),
    ):
        raise AssertionError("there was no place")
    assert caught.value.outcome == "busy"
    with turns.turn(never):
        assert turns._running == 1


def test_shipped_hunts_say_what_they_answer() -> None:
    """Each shipped hunt has a title, and ends as a statement does."""
    hunts = shipped_hunts()
    assert set(hunts) == {
        "everything_the_alerting_cgroup_did",
        "who_talked_where_and_used_which_gpu",
    }
    for hunt in hunts.values():
        assert hunt.title
        assert not hunt.title.endswith(".")
        assert hunt.sql.endswith(";\n")


def test_file_without_a_comment_is_named_after_itself(tmp_path: Path) -> None:
    """A hunt of one's own needs no title."""
    path = tmp_path / "mine.sql"
    path.write_text("SELECT 1")
    assert read_hunt(path).title == "mine"
