"""cgroup directories and moves, inside the scope and beside it."""

from limes.v1 import schema
from worlds import World, text

ACTIONS = schema.KINDS["cgroup_events"].actions


def test_directories_and_moves_under_the_scope_are_told(world: World) -> None:
    """mkdir, attach and rmdir carry the target's id, its path and who was moved."""
    inner = world.cgroup / "inner"
    inner.mkdir()
    identity = inner.stat().st_ino
    pid = int(
        world.python(
            "import os, sys\nopen(sys.argv[1], 'w').write(str(os.getpid())); print(os.getpid())\n",
            str(inner / "cgroup.procs"),
        )
    )
    inner.rmdir()
    rows = world.records("cgroup")
    rows = rows[rows["cgroup_id"] == identity]
    assert [int(a) for a in rows["action"]] == [
        ACTIONS["mkdir"],
        ACTIONS["attach"],
        ACTIONS["rmdir"],
    ]
    assert {text(row, "path") for row in rows} == {f"/{world.cgroup.name}/inner"}
    assert rows[1]["subject_tgid"] == pid
    assert set(rows["level"]) == {2}


def test_cgroups_beside_the_scope_are_not_told(libbpf_world: World) -> None:
    """A sibling's mkdir and rmdir leave no record."""
    sibling = libbpf_world.cgroup.parent / f"{libbpf_world.cgroup.name}-sibling"
    sibling.mkdir()
    sibling.rmdir()
    assert not len(libbpf_world.records("cgroup"))


def test_a_process_that_leaves_the_scope_is_told(libbpf_world: World) -> None:
    """A move out of scope of a process that was seen inside is an attach event."""
    outside = libbpf_world.cgroup.parent / "cgroup.procs"
    pid = int(
        libbpf_world.python(
            "import os, subprocess, sys\n"
            "code = 'import os, sys; open(sys.argv[1], \"w\").write(str(os.getpid()))'\n"
            "p = subprocess.Popen([sys.executable, '-c', code, sys.argv[1]]); p.wait()\n"
            "print(p.pid)\n",
            str(outside),
        )
    )
    rows = libbpf_world.records("cgroup")
    (left,) = rows[rows["subject_tgid"] == pid]
    assert left["action"] == ACTIONS["attach"]
    assert left["cgroup_id"] == outside.parent.stat().st_ino
