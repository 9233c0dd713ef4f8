"""Recordings: what was drained is what is played back."""

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limes.sensor import replay
from limes.sensor.errors import AbiMismatch, ConfigError
from limes.sensor.procfs import Image
from limes.sensor.replay import Recorder, ReplaySource
from limes.sensor.source import GPU_CELL_DTYPE
from limes.v1 import schema

MakeRig = Callable[..., Any]

BOOT = "11111111-2222-3333-4444-555555555555"


class Clock:
    def boot_ns(self) -> int:
        return 5

    def offset_ns(self) -> int:
        return 7


@pytest.fixture
def recording(tmp_path: Path, new_rig: MakeRig, make: Any) -> Any:
    """A file recorded from three drains, cells and counters; and what they held."""
    drains = [
        {"exec": make.execs(3), "exec_chunk": make.chunk(5, 0, b"x")},
        {},
        {"connection": make.records("connection", 2), "exec": make.execs(0)},
    ]
    source = new_rig(*drains).source
    source.cells = np.ones(2, GPU_CELL_DTYPE)
    source.losses[4] = 9
    path = tmp_path / "x.limesrec"
    node = (1 << 20 | 7, "nvidia0", True)
    recorder = Recorder(source, path, boot_id=BOOT, clock=Clock(), devices=[node])
    for number in range(3):
        recorder.drain()
        if not number:
            recorder.gpu_cells()
            recorder.counters()
    recorder.stop()
    recorder.close()
    assert source.calls[-2:] == ["stop", "close"]
    return path, drains


def test_replay_gives_what_was_recorded(recording: Any) -> None:
    """Drain by drain; empty ones are not recorded."""
    path, drains = recording
    source = ReplaySource(path)
    assert (source.boot_id, source.boot_ns, source.offset_ns) == (BOOT, 5, 7)
    assert (source.loader, source.plan) == ("replay", "tracepoint")
    assert source.devices == [(1 << 20 | 7, "nvidia0", True)]
    first, second = source.drain(), source.drain()
    assert first["exec"].tobytes() == drains[0]["exec"].tobytes()
    assert first["exec_chunk"].tobytes() == drains[0]["exec_chunk"].tobytes()
    assert list(second) == ["connection"]
    assert source.gpu_cells().tobytes() == np.ones(2, GPU_CELL_DTYPE).tobytes()
    assert source.counters()[4] == 9
    assert not source.finished
    assert source.drain() == {}
    assert source.finished
    source.close()


def test_recording_that_ends_in_a_frame_is_played_up_to_there(recording: Any) -> None:
    """A recorder that was killed leaves half a frame."""
    path, _ = recording
    path.write_bytes(path.read_bytes()[:-60])
    source = ReplaySource(path)
    assert len(source.drain()["exec"]) == 3
    assert source.drain() == {}
    assert source.finished
    source.close()


def test_recording_of_another_registry_is_refused(
    recording: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes would be read as other columns."""
    path, _ = recording
    monkeypatch.setattr(replay, "_layout", lambda: {"arrays": {}, "counters": []})
    with pytest.raises(AbiMismatch, match="record it again"):
        ReplaySource(path)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"LIMESREC", b"LIMESREC\xff\0\0\0{"])
def test_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    """The message names the file."""
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a recording"):
        ReplaySource(path)


def test_missing_recording_is_named(tmp_path: Path) -> None:
    """With what to give instead."""
    with pytest.raises(ConfigError, match="record_file"):
        ReplaySource(tmp_path / "none")


def test_layout_covers_every_record_and_counter() -> None:
    """A change of any of them makes old recordings unreadable, and says so."""
    layout: Any = replay._layout()
    assert set(layout["arrays"]) == {*schema.RECORDS, "gpu_cells"}
    assert layout["counters"] == [counter.name for counter in schema.COUNTERS]


def test_recording_is_private_and_replaces_an_older_one(recording: Any, new_rig: MakeRig) -> None:
    """It holds command lines as they were; a link in its place is not followed."""
    path, _ = recording
    target = path.with_name("target")
    target.write_text("precious")
    path.unlink()
    path.symlink_to(target)
    Recorder(new_rig().source, path, boot_id=BOOT, clock=Clock()).close()
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert target.read_text() == "precious"


def test_recording_that_cannot_be_made_is_named(tmp_path: Path, new_rig: MakeRig) -> None:
    """The folder is missing."""
    with pytest.raises(ConfigError, match="record_file"):
        Recorder(new_rig().source, tmp_path / "none" / "x", boot_id=BOOT, clock=Clock())


class Tree:
    """A host whose second walk finds more than its first."""

    def __init__(self) -> None:
        self.walks = [{5: "/job_1"}, {5: "/job_1", 77: "/job_2"}]

    def walk(self) -> dict[int, str]:
        return self.walks.pop(0)


class Processes:
    """A host with one process."""

    def scan(self, cgroups: Mapping[int, str]) -> list[Image]:
        return [
            Image(
                tgid=9,
                ppid=1,
                start_ns=10**9,
                cgroup_id=5,
                comm="worker",
                exe="/bin/worker",
                cwd="/",
                args=b"worker\0\xff\0",
                ids=(1, 2, 3),
                file=(4, 5, 6),
                capabilities=1 << 21,
                namespaces=(7, 8, 9, 10),
                stdio=(2, 1, 15),
                flags=schema.EXEC_F_SCANNED,
            )
        ]

    def start_ns(self, pid: int) -> int:
        return 0


def test_replay_sends_what_was_sent_when_it_was_recorded(
    tmp_path: Path, new_rig: MakeRig, make: Any
) -> None:
    """Older processes and cgroups found by walks included."""

    def rows(rig: Any) -> list[Any]:
        rig.pipeline.start(rig.now_ns)
        for _ in range(3):
            rig.step(1000)
        rig.pipeline.finish()
        return [(kind, rows) for kind, rows in rig.sent() if kind != "sensor_health"]

    first = new_rig({"exec": make.execs(2)}, {"connection": make.records("connection", 3)})
    path = tmp_path / "x.limesrec"
    recorder = Recorder(first.source, path, boot_id=BOOT, clock=first.clock)
    first.around = type(first.around)(
        tree=recorder.walked(Tree()),
        processes=recorder.scanned(Processes()),
        devices=first.around.devices,
    )
    first.source = recorder
    recorded = rows(first)
    recorder.close()
    second = new_rig()
    second.source = ReplaySource(path)
    second.around = type(first.around)(
        tree=second.source, processes=second.source, devices=first.around.devices
    )
    replayed = rows(second)
    second.source.close()
    assert {kind for kind, _ in recorded} == {"cgroup_events", "process_execs", "connections"}
    assert without_numbers(replayed) == without_numbers(recorded)


def without_numbers(batches: list[Any]) -> list[Any]:
    """Kind and rows but for the sequence: heartbeats are numbered too."""
    return [
        (kind, [{name: row[name] for name in row if name != "event_seq"} for row in rows])
        for kind, rows in batches
    ]
