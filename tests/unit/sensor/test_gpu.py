"""GPU devices by number, differences between readings, quiet cells."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limes.sensor import gpu
from limes.sensor.source import GPU_CELL_DTYPE

MakeRig = Callable[..., Any]

DEVICES = """Character devices:
  1 mem
195 nvidia
226 drm
235 kfd
508 nvidia-uvm
509 nvidia-caps

Block devices:
508 virtblk
"""


@pytest.fixture
def proc(tmp_path: Path) -> Any:
    (tmp_path / "devices").write_text(DEVICES)
    return tmp_path


@pytest.mark.parametrize(
    ("major", "minor", "name"),
    [
        (195, 0, "nvidia0"),
        (195, 7, "nvidia7"),
        (195, 254, "nvidia-modeset"),
        (195, 255, "nvidiactl"),
        (508, 0, "nvidia-uvm"),
        (508, 1, "nvidia-uvm-tools"),
        (509, 3, "nvidia-caps:3"),
        (226, 0, "card0"),
        (226, 129, "renderD129"),
        (235, 0, "kfd"),
        (77, 1, "char-77:1"),
    ],
)
def test_nodes_are_named_by_their_number(major: int, minor: int, name: str, proc: Any) -> None:
    """Fixed majors, and dynamic ones from /proc/devices."""
    devices = gpu.Devices(proc=proc)
    assert devices.name(gpu.device_number(major, minor)) == (name, False)


def test_stand_in_says_so_wherever_it_is_shown(proc: Any) -> None:
    """The configured name comes first, also over a driver's."""
    stand_in, real = gpu.device_number(1, 7), gpu.device_number(195, 0)
    devices = gpu.Devices([(stand_in, "toy", True), (real, "big", False)], proc=proc)
    names, simulated = devices.describe(np.array([stand_in, real, stand_in], np.uint32))
    assert [names.row(i) for i in range(3)] == [
        b"toy (simulated device)",
        b"big",
        b"toy (simulated device)",
    ]
    assert simulated.tolist() == [True, False, True]


def test_unreadable_proc_still_gives_a_name(tmp_path: Path) -> None:
    """The number is better than nothing."""
    assert gpu.Devices(proc=tmp_path).name(gpu.device_number(508, 0)) == ("char-508:0", False)


def test_a_driver_that_was_loaded_again_is_named_by_its_new_major(proc: Path) -> None:
    """Majors are given out anew: the number of one driver may become another's."""
    devices = gpu.Devices(proc=proc)
    number = np.array([gpu.device_number(508, 0)], np.uint32)
    assert devices.describe(number)[0].row(0) == b"nvidia-uvm"
    (proc / "devices").write_text(DEVICES.replace("508 nvidia-uvm", "508 accel"))
    assert devices.describe(number)[0].row(0) == b"accel:0"


def cells(*rows: tuple[int, int, int]) -> Any:
    """Rows of (tgid, command, calls)."""
    out = np.zeros(len(rows), GPU_CELL_DTYPE)
    for index, (tgid, command, calls) in enumerate(rows):
        out[index]["tgid"], out[index]["command"], out[index]["calls"] = tgid, command, calls
    return out


def grown(activity: gpu.Activity, reading: Any) -> dict[tuple[int, int], int]:
    active, calls = activity.since_last(reading)
    return {
        (int(cell["tgid"]), int(cell["command"])): int(n)
        for cell, n in zip(active, calls, strict=True)
    }


def test_first_reading_counts_whole_and_later_ones_by_difference() -> None:
    """Cells are matched by their whole key, in whatever order they come."""
    activity = gpu.Activity()
    assert grown(activity, cells((1, 7, 10), (2, 7, 5))) == {(1, 7): 10, (2, 7): 5}
    assert grown(activity, cells((2, 7, 9), (1, 7, 10), (1, 8, 3))) == {(2, 7): 4, (1, 8): 3}
    assert grown(activity, cells((1, 7, 10), (1, 8, 3), (2, 7, 9))) == {}


def test_a_cell_that_began_anew_counts_whole() -> None:
    """Fewer calls than before: it was deleted and made again."""
    activity = gpu.Activity()
    grown(activity, cells((1, 7, 10)))
    assert grown(activity, cells((1, 7, 4))) == {(1, 7): 4}


def test_a_cell_that_vanished_and_came_back_counts_whole() -> None:
    """Nothing is remembered of a cell that a reading did not have."""
    activity = gpu.Activity()
    grown(activity, cells((1, 7, 10), (2, 7, 1)))
    grown(activity, cells((2, 7, 1)))
    assert grown(activity, cells((1, 7, 12), (2, 7, 1))) == {(1, 7): 12}


def test_empty_readings_are_no_error() -> None:
    """A host without GPU calls."""
    activity = gpu.Activity()
    assert grown(activity, cells()) == {}
    assert grown(activity, cells((1, 7, 1))) == {(1, 7): 1}


def test_every_member_of_the_key_tells_cells_apart() -> None:
    """A hash that forgot a member would mix two processes' calls."""
    base = cells((1, 7, 1))
    keys = {int(gpu.cell_keys(base)[0])}
    for member in ("cgroup_id", "exec_id", "start_ns", "tgid", "device", "command"):
        other = base.copy()
        other[member] += 1
        keys.add(int(gpu.cell_keys(other)[0]))
    assert len(keys) == 7


def test_quiet_cells_of_dead_processes_are_deleted_and_others_kept(
    new_rig: MakeRig, tmp_path: Path
) -> None:
    """The start time decides: a reused pid does not keep a dead process's cell."""

    class Table:
        """Process 1 lives, 2 is gone, 3 is another one by now."""

        def start_ns(self, pid: int) -> int:
            return {1: 50 * 10**9, 3: 90 * 10**9}.get(pid, 0)

    rig = new_rig()
    rig.around = type(rig.around)(tree=None, processes=Table(), devices=rig.around.devices)
    reading = cells((1, 7, 1), (2, 7, 1), (3, 7, 1), (4, 7, 1))
    reading["start_ns"] = 50 * 10**9 + 123
    reading["last_ns"] = [10**9, 10**9, 10**9, 100 * 10**9]
    rig.source.cells = reading
    rig.clock.now = 101 * 10**9
    rig.step(2000)
    (deleted,) = rig.source.deleted
    assert deleted["tgid"].tolist() == [2, 3]
