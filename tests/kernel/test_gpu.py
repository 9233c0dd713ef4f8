"""GPU calls on a simulated device (character device 1:7), counted by the kernel."""

from pathlib import Path

import numpy as np
from limes.sensor.bpf import kernel, syscall
from limes.v1 import schema
from worlds import World

CALLS = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
other = os.open('/dev/null', os.O_RDWR)
for command, times in ((0xc020462a, 13), (0xc030462b, 7)):
    for _ in range(times):
        try: fcntl.ioctl(fd, command, bytes(64))
        except OSError: pass
        try: fcntl.ioctl(other, command, bytes(64))
        except OSError: pass
"""


def test_calls_are_counted_by_process_device_and_command(world: World, node: Path) -> None:
    """13 and 7 calls on the node give cells of 13 and 7; calls on other files give none."""
    world.python(CALLS, str(node))
    world.python(CALLS, str(node))
    cells = world.source.gpu_cells()
    counts = sorted((int(c["command"]), int(c["calls"])) for c in cells)
    assert counts == [(0xC020462A, 13)] * 2 + [(0xC030462B, 7)] * 2
    assert set(cells["device"]) == {world.device[0] << 20 | world.device[1]}
    assert len(set(cells["tgid"])) == 2
    assert (cells["first_ns"] < cells["last_ns"]).all()
    seen = world.source._attachment.map_fd("gpu_seen")
    assert len(syscall.lookup_all(seen, kernel._SEEN_KEY_DTYPE, np.dtype("<u4"))[0]) == 2
    first = cells["tgid"] == cells["tgid"][0]
    world.source.delete_gpu_cells(cells[first])
    assert len(world.source.gpu_cells()) == 2
    (left,) = syscall.lookup_all(seen, kernel._SEEN_KEY_DTYPE, np.dtype("<u4"))[0]
    assert left["tgid"] != cells["tgid"][0]


def test_the_first_call_of_a_process_is_told_at_once(world: World, node: Path) -> None:
    """One gpu record for each process and device, however many calls there are."""
    world.python(CALLS, str(node))
    (row,) = world.records("gpu")
    assert (row["device_major"], row["device_minor"]) == world.device
    assert row["command"] == 0xC020462A
    (image,) = world.records("exec")
    assert row["exec_id"] == image["exec_id"]
    assert row["action"] == schema.KINDS["gpu_events"].actions["first_call"]
