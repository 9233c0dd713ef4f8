"""An exec's parent is who forked it, although init may have adopted it meanwhile."""

from typing import Any

import numpy as np
from limes.sensor.ancestry import with_forkers
from limes.v1 import schema

FORK = schema.KINDS["process_forks"].number
EXIT = schema.KINDS["process_exits"].number


def forks(make: Any, *rows: tuple[int, int, int], kind: int = FORK) -> Any:
    """Return forks of (start, pid, parent's pid); the parent's image is 10 times its pid."""
    out = make.records("process", len(rows), kind=kind)
    for row, (start, tgid, ppid) in enumerate(rows):
        out["start_ns"][row], out["tgid"][row], out["ppid"][row] = start, tgid, ppid
        out["parent_start_ns"][row], out["exec_id"][row] = ppid * 100, ppid * 10
    return out


def parents(execs: Any) -> list[tuple[int, int, int]]:
    names = ("ppid", "parent_start_ns", "parent_exec_id")
    return list(zip(*(execs[name].tolist() for name in names), strict=True))


def test_an_orphan_gets_back_who_forked_it(make: Any) -> None:
    """Pid, start and image of the parent, from the fork."""
    execs = make.execs(1, start_ns=50, tgid=7, ppid=1, parent_start_ns=1, parent_exec_id=0)
    out = with_forkers(execs, forks(make, (90, 9, 8), (50, 7, 6), (10, 5, 4)))
    assert parents(out) == [(6, 600, 60)]
    assert parents(execs) == [(1, 1, 0)]


def test_nothing_else_changes(make: Any) -> None:
    """Every other member is as the kernel wrote it."""
    execs = make.execs(3, ppid=1)
    execs["start_ns"] = [50, 60, 70]
    out = with_forkers(execs, forks(make, (60, 301, 6)))
    assert out["ppid"].tolist() == [1, 6, 1]
    touched = {"ppid", "parent_start_ns", "parent_exec_id"}
    for name in set(execs.dtype.names) - touched:
        assert np.array_equal(out[name], execs[name]), name


def test_another_process_of_the_same_pid_is_not_taken_for_it(make: Any) -> None:
    """Pid and start must both be the same."""
    execs = make.execs(1, start_ns=50, tgid=7, ppid=1)
    for processes in (forks(make, (51, 7, 6)), forks(make, (50, 8, 6))):
        assert with_forkers(execs, processes) is execs


def test_an_exit_is_no_fork(make: Any) -> None:
    """Both come in the same ring; an exit's parent may be init already."""
    execs = make.execs(1, start_ns=50, tgid=7, ppid=6)
    assert with_forkers(execs, forks(make, (50, 7, 1), kind=EXIT)) is execs


def test_a_parent_that_is_still_there_keeps_its_newer_image(make: Any) -> None:
    """It may have run another program between the fork and the child's exec."""
    execs = make.execs(1, start_ns=50, tgid=7, ppid=6, parent_exec_id=61)
    assert with_forkers(execs, forks(make, (50, 7, 6))) is execs


def test_a_flush_sends_the_forker(new_rig: Any, make: Any) -> None:
    """In the row that the control plane gets."""
    execs = make.execs(1, start_ns=50, tgid=7, ppid=1)
    rig = new_rig({"process": forks(make, (50, 7, 6)), "exec": execs})
    rig.step()
    (row,) = rig.rows("process_execs")
    assert row["process_parent_pid"] == 6
    assert row["process_parent_exec_id"] == int(
        rig.identity.kernel_ids(np.array([60], np.uint64))[0]
    )
