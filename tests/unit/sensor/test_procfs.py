"""The start-up scan: /proc as a folder of files, and this very process."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limes.sensor import procfs
from limes.sensor.cgroups import CgroupTree
from limes.sensor.identity import Identity
from limes.v1 import schema

MakeRig = Callable[..., Any]

NAMESPACES = ("net", "pid", "mnt", "user")
IDENTITY = Identity(host_id="gpu-07", boot_id="b", epoch=1)


def stat_line(pid: int, comm: str, ppid: int, ticks: int, flags: Any = 0) -> str:
    fields = ["S", str(ppid), "0", "0", "0", "0", str(flags), *["0"] * 12, str(ticks), *["0"] * 30]
    return f"{pid} ({comm}) {' '.join(fields)}\n"


@pytest.fixture
def proc(tmp_path: Path) -> Any:
    """A folder like /proc, and a function that adds a process to it."""
    root = tmp_path / "proc"
    root.mkdir()
    (root / "meminfo").touch()

    def add(
        pid: int,
        *,
        comm: str = "worker",
        ppid: int = 1,
        ticks: int = 500,
        args: bytes = b"worker\0-x\0",
        cgroup: str = "/job_1",
        flags: Any = 0,
    ) -> Any:
        base = root / str(pid)
        (base / "ns").mkdir(parents=True)
        (base / "stat").write_text(stat_line(pid, comm, ppid, ticks, flags))
        (base / "status").write_text(
            "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t100\t0\t0\t0\nCapEff:\t0000000000200001\n"
        )
        (base / "cmdline").write_bytes(args)
        (base / "cgroup").write_text(f"1:cpu:/v1\n0::{cgroup}\n")
        program = tmp_path / f"program-{pid}"
        program.write_bytes(b"\x7fELF")
        (base / "exe").symlink_to(program)
        (base / "cwd").symlink_to(tmp_path)
        for name in NAMESPACES:
            (base / "ns" / name).touch()
        (base / "fd").mkdir()
        (base / "fd" / "0").symlink_to("/dev/null")
        (base / "fd" / "1").symlink_to(program)
        return base

    return root, add


def test_scan_reads_what_the_kernel_side_would_have_said(proc: Any, tmp_path: Path) -> None:
    """Ids, path, arguments, directory, file, users, namespaces, cgroup."""
    root, add = proc
    base = add(42)
    (image,) = procfs.Processes(root).scan({9: "/job_1"})
    program = tmp_path / "program-42"
    assert (image.tgid, image.ppid, image.start_ns, image.cgroup_id) == (42, 1, 5 * 10**9, 9)
    assert (image.comm, image.exe, image.cwd) == ("worker", str(program), str(tmp_path))
    assert image.args == b"worker\0-x\0"
    assert image.ids == (1000, 0, 100)
    assert (image.file[0], image.file[2]) == (program.stat().st_ino, 1)
    assert image.namespaces == tuple((base / "ns" / n).stat().st_ino for n in NAMESPACES)
    assert image.capabilities == 1 << 21 | 1
    assert image.stdio == (2, 8, 0)  # a character device, a file, closed
    assert image.flags == schema.EXEC_F_SCANNED


def test_names_with_brackets_and_spaces_do_not_shift_the_fields(proc: Any) -> None:
    """A task name may hold anything, also `) S 1`."""
    root, add = proc
    add(42, comm="a) S 7 (b", ticks=123)
    (image,) = procfs.Processes(root).scan({})
    assert (image.comm, image.start_ns) == ("a) S 7 (b", 1_230_000_000)
    assert procfs.Processes(root).start_ns(42) == 1_230_000_000


def test_kernel_threads_and_vanished_processes_are_left_out(proc: Any) -> None:
    """Neither has an image to speak of."""
    root, add = proc
    add(2, flags=0x00200040)
    add(43)
    (root / "43" / "cmdline").unlink()
    add(44)
    assert [image.tgid for image in procfs.Processes(root).scan({})] == [44]
    assert procfs.Processes(root).start_ns(99) == 0


def test_long_arguments_are_cut_and_flagged(proc: Any) -> None:
    """32 KiB, as the kernel side has it."""
    root, add = proc
    add(42, args=b"x" * 40_000)
    (image,) = procfs.Processes(root).scan({})
    assert len(image.args) == 32 << 10
    assert image.flags & schema.EXEC_F_ARGS_CUT


def test_whole_host_means_every_process(proc: Any) -> None:
    """Names that are no numbers are no processes."""
    root, add = proc
    for pid in (7, 30, 100):
        add(pid)
    assert procfs.Processes(root).in_scope({}) == [7, 30, 100]


def test_narrow_scope_means_the_members_of_its_cgroups(proc: Any, tmp_path: Path) -> None:
    """A member named twice is read once; a cgroup that is gone has none."""
    root, _ = proc
    mount = tmp_path / "cgroup"
    for path, text in {"job_1": "5\n6\n", "job_1/step_0": "6\n0\n"}.items():
        (mount / path).mkdir(parents=True)
        (mount / path / "cgroup.procs").write_text(text)
    tree = CgroupTree(mount, ["/job_1"])
    processes = procfs.Processes(root, tree)
    assert processes.in_scope({**tree.walk(), 1: "/gone"}) == [5, 6]


def test_columns_link_children_to_parents_that_were_scanned_too(proc: Any) -> None:
    """A parent outside the scan leaves no made-up ids."""
    root, add = proc
    add(10, ppid=1, ticks=100)
    add(11, ppid=10, ticks=200)
    images = procfs.Processes(root).scan({})
    ids = procfs.exec_ids(len(images))
    columns: dict[str, Any] = procfs.columns(images, ids, IDENTITY, 77)
    assert columns["process_parent_entity_id"].tolist() == [0, IDENTITY.entity(10, 10**9)]
    assert columns["process_entity_id"].tolist()[0] == IDENTITY.entity(10, 10**9)
    assert columns["process_parent_exec_id"].tolist() == [0, columns["process_exec_id"][0]]
    assert columns["process_parent_pid"].tolist() == [1, 10]
    assert columns["event_boot_time_ns"].tolist() == [77, 77]


def test_minted_ids_never_meet_the_kernels() -> None:
    """Boot-clock times stay below the bit that marks a minted id."""
    ids = procfs.exec_ids(3)
    assert len(set(ids.tolist())) == 3
    assert all(int(number) >> 63 for number in ids)


def test_this_process_is_read_as_it_is() -> None:
    """The real /proc, compared with what the process knows of itself."""
    (image,) = [i for i in procfs.Processes().scan({}) if i.tgid == os.getpid()]
    assert (image.tgid, image.ppid, image.cwd) == (os.getpid(), os.getppid(), str(Path.cwd()))
    assert image.ids == (os.getuid(), os.geteuid(), os.getgid())
    assert image.namespaces[0] == Path("/proc/self/ns/net").stat().st_ino
    assert image.file[0] == Path("/proc/self/exe").stat().st_ino
    assert image.args == Path("/proc/self/cmdline").read_bytes()


def test_scan_seeds_the_kernel_before_rows_and_leaves_out_who_execs_meanwhile(
    new_rig: MakeRig, make: Any, proc: Any
) -> None:
    """A process whose exec is in the first drain gets no second row."""
    root, add = proc
    add(10, ppid=1, args=b"tool\0--password\0hunter2\0")
    add(11, ppid=10)
    rig = new_rig({"exec": make.execs(1, tgid=11)})
    rig.around = type(rig.around)(
        tree=None, processes=procfs.Processes(root), devices=rig.around.devices
    )
    rig.pipeline.start(rig.now_ns)
    tgids, exec_ids, starts = rig.source.seeded[0]
    assert (tgids, starts) == ([10, 11], [5 * 10**9] * 2)
    assert rig.source.calls.index("seed_images") < rig.source.calls.index("drain")
    (row,) = rig.rows("process_execs")
    assert (row["process_pid"], row["event_action"]) == (10, 2)
    assert row["process_args"] == "tool\0--password\0[redacted]\0"
    assert row["process_flags"] == schema.EXEC_F_SCANNED | schema.EXEC_F_REDACTED
    assert row["process_exec_id"] == rig.identity.kernel_ids(np.array(exec_ids[:1], np.uint64))[0]
    rig.step(1000)
    (row,) = rig.rows("process_execs")
    assert (row["process_pid"], row["event_action"]) == (11, 1)
