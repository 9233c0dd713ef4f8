"""Cgroup names: mounts found, walks, records learnt, the dead remembered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limes.sensor import cgroups
from limes.sensor.cgroups import CgroupNames, CgroupTree, find_mount
from limes.sensor.errors import KernelUnsupported

MakeRig = Callable[..., Any]

UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
)
SEEN, RMDIR = 4, 2


@pytest.mark.parametrize(
    ("mountinfo", "expected"),
    [
        (UNIFIED, "/sys/fs/cgroup"),
        (HYBRID, "/sys/fs/cgroup/unified"),
        (UNIFIED.replace("/sys/fs/cgroup", "/a\\040b"), "/a b"),
        (HYBRID + UNIFIED, "/sys/fs/cgroup"),
    ],
)
def test_mount_is_found_on_unified_and_hybrid_hosts(mountinfo: str, expected: Any) -> None:
    """The fields before the dash vary in number; spaces are escaped."""
    assert str(find_mount(mountinfo)) == expected


def test_host_without_cgroup_v2_is_an_error_that_says_what_to_do() -> None:
    """v1 alone cannot attribute."""
    with pytest.raises(KernelUnsupported, match="mount one"):
        find_mount(HYBRID.splitlines()[1])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for path in ("job_1/step_0", "job_1/step_1", "job_10", "other"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "cgroup.procs").touch()
    return tmp_path


def test_walk_of_the_host_gives_every_cgroup(tree: Path) -> None:
    """Root included; files are no cgroups."""
    found = CgroupTree(tree).walk()
    assert sorted(found.values()) == [
        "/",
        "/job_1",
        "/job_1/step_0",
        "/job_1/step_1",
        "/job_10",
        "/other",
    ]
    assert found[(tree / "job_1/step_0").stat().st_ino] == "/job_1/step_0"


def test_walk_of_a_scope_stays_inside_it(tree: Path) -> None:
    """A name that only begins alike is outside; a scope that is gone is left out."""
    found = CgroupTree(tree, ["/job_1/", "/gone"]).walk()
    assert sorted(found.values()) == ["/job_1", "/job_1/step_0", "/job_1/step_1"]


def test_paths_are_learnt_from_records(make: Any) -> None:
    """Leading slash or not, the path is one below the root."""
    names = CgroupNames()
    names.learn(make.records("cgroup", 1, cgroup_id=5, path=b"/job_1"))
    names.learn(make.records("cgroup", 1, cgroup_id=6, path=b"job_2"))
    assert (names.path(5), names.path(6)) == ("/job_1", "/job_2")


def test_columns_carry_path_level_and_labels(make: Any) -> None:
    """Rows of the same cgroup share what is said of it; an unknown one has an empty path."""
    names = CgroupNames()
    names.add({5: "/system.slice/slurmstepd.scope/job_7/step_0", 6: "/"})
    columns: dict[str, Any] = names.columns(np.array([6, 5, 99, 5], np.uint64))
    assert [columns["cgroup_event_path"].row(i) for i in range(3)] == [
        b"/",
        b"/system.slice/slurmstepd.scope/job_7/step_0",
        b"",
    ]
    assert columns["cgroup_level"].tolist() == [0, 4, 0, 4]
    assert columns["slurm_job_id"].row(3) == b"7"
    assert columns["slurm_step_id"].row(0) == b""


def test_only_unknown_ids_are_missing() -> None:
    """Id 0 means no cgroup; what a walk did not find causes no further walk."""
    names = CgroupNames()
    names.add({5: "/a"})
    known = np.array([5, 5, 0], np.uint64)
    unknown = np.array([5, 8, 8], np.uint64)
    assert not names.missing([known])
    assert names.missing([known, unknown])
    names.give_up([unknown])
    assert not names.missing([known, unknown])
    assert names.add({8: "/late"}) == [8]


def test_a_single_record_is_looked_at_too() -> None:
    """A column of one row has no neighbours."""
    assert CgroupNames().missing([np.array([8], np.uint64)])


def test_untraceable_ids_are_bounded() -> None:
    """A host that makes and removes cgroups all day does not fill the memory."""
    names = CgroupNames()
    names.give_up([np.arange(1, 10_000, dtype=np.uint64)])
    assert len(names._unknown) == 4096


def test_removed_cgroups_are_remembered_for_an_hour(make: Any) -> None:
    """Events that come late still find their path."""
    names = CgroupNames()
    names.add({5: "/a"})
    second = 10**9
    names.learn(make.records("cgroup", 1, cgroup_id=5, action=RMDIR, time_ns=10 * second))
    names.expire(3600 * second)
    assert names.path(5) == "/a"
    names.expire(3611 * second)
    assert names.path(5) == ""


def test_the_dead_are_bounded(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first."""
    monkeypatch.setattr(cgroups, "_MAX_DEAD", 10)
    names = CgroupNames()
    for number in range(1, 21):
        names.learn(
            make.records("cgroup", 1, cgroup_id=number, action=RMDIR, time_ns=number, path=b"/a")
        )
    assert names.path(1) == ""
    assert names.path(20) == "/a"
    assert len(names) <= 11


def test_a_path_that_fills_its_slot_waits_for_a_walk(make: Any) -> None:
    """It was cut: the walk knows the whole; if that fails too, the cut one is better than none."""
    cut = b"/" + b"x" * 254
    names = CgroupNames()
    names.learn(make.records("cgroup", 1, cgroup_id=5, path=cut))
    ids = [np.array([5], np.uint64)]
    assert names.missing(ids)
    names.give_up(ids)
    assert names.path(5) == cut.decode()
    other = CgroupNames()
    other.learn(make.records("cgroup", 1, cgroup_id=5, path=cut))
    assert other.add({5: "/whole"}) == [5]
    assert other.path(5) == "/whole"


def test_walk_announces_before_the_batch_that_needs_it(
    new_rig: MakeRig, make: Any, tree: Path
) -> None:
    """An event in a cgroup the kernel said nothing of is preceded by a `seen` row, once."""
    cgroup_id = (tree / "job_1").stat().st_ino
    rig = new_rig(
        {"exec": make.execs(2, cgroup_id=cgroup_id)}, {"exec": make.execs(1, cgroup_id=cgroup_id)}
    )
    rig.around = type(rig.around)(tree=CgroupTree(tree), processes=None, devices=rig.around.devices)
    rig.step()
    rig.step(1000)
    sent = [(kind, rows) for kind, rows in rig.sent() if kind in ("cgroup_events", "process_execs")]
    assert [kind for kind, _ in sent] == ["cgroup_events", "process_execs", "process_execs"]
    seen = {row["cgroup_id"]: row for row in sent[0][1]}
    assert seen[cgroup_id]["event_action"] == SEEN
    assert seen[cgroup_id]["cgroup_event_path"] == "/job_1"


def test_walks_are_not_more_frequent_than_every_half_second(
    new_rig: MakeRig, make: Any, tree: Path
) -> None:
    """A storm of unknown cgroups costs two walks a second; the one put off is made up for."""
    rig = new_rig(
        *({"exec": make.execs(1, cgroup_id=number)} for number in range(10**6, 10**6 + 9))
    )
    walks = []

    class Counting(CgroupTree):
        def walk(self) -> dict[int, str]:
            walks.append(rig.now_ns)
            return super().walk()

    rig.around = type(rig.around)(tree=Counting(tree), processes=None, devices=rig.around.devices)
    for _ in range(9):
        rig.step(200)
    assert 3 <= len(walks) <= 5
