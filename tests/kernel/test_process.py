"""Exec, fork and exit as the kernel reports them, against what the processes say of themselves."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from limes.v1 import schema
from worlds import World, text

RUN = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"


def arguments(world: World, row: np.void) -> bytes:
    """The arguments of an exec, put together from its inline part and its chunks."""
    inline = row["args"].tobytes()[: min(int(row["args_copied"]), 512)]
    chunks = world.records("exec_chunk")
    if not len(chunks):
        return inline
    mine = np.sort(chunks[chunks["exec_id"] == row["exec_id"]], order="index")
    return inline + b"".join(c["data"].tobytes()[: c["length"]] for c in mine)


@pytest.mark.parametrize("length", [1, 511 - 10, 512, 1535, 1536, 20_000])
def test_an_exec_carries_all_its_arguments(world: World, length: int) -> None:
    """Arguments come whole at, below and beyond the sizes of the inline part and of a chunk."""
    world.python(RUN, "/bin/true", "x" * length)
    (row,) = world.execs("true")
    assert arguments(world, row) == b"/bin/true\0" + b"x" * length + b"\0"
    assert not row["flags"] & schema.EXEC_F_ARGS_CUT


def test_arguments_that_are_too_long_are_cut_and_flagged(world: World) -> None:
    """33,280 bytes are kept of longer arguments; their true length is told."""
    world.python(RUN, "/bin/true", *["y" * 1000] * 50)
    (row,) = world.execs("true")
    whole = b"/bin/true\0" + (b"y" * 1000 + b"\0") * 50
    assert arguments(world, row) == whole[:33280]
    assert row["args_bytes"] == len(whole)
    assert row["flags"] & schema.EXEC_F_ARGS_CUT


def test_an_exec_names_program_directory_and_inode(world: World, tmp_path: Path) -> None:
    """Path, working directory, device and inode are those of the file that runs."""
    program = tmp_path / "a" / ("p" * 60)
    program.parent.mkdir()
    shutil.copy("/bin/true", program)
    world.python(RUN, str(program), cwd=tmp_path)
    (row,) = world.execs("p" * 15)
    assert text(row, "exe") == str(program)
    assert text(row, "cwd") == str(tmp_path)[-127:]
    assert row["inode"] == program.stat().st_ino
    assert row["nlink"] == 1


def test_a_path_that_does_not_fit_keeps_its_end_and_is_flagged(
    world: World, tmp_path: Path
) -> None:
    """Of a long path the last components stay."""
    folder = tmp_path
    for letter in "abc":
        folder = folder / (letter * 90)
    folder.mkdir(parents=True)
    shutil.copy("/bin/true", folder / "prog")
    world.python(RUN, str(folder / "prog"))
    (row,) = world.execs("prog")
    assert text(row, "exe").endswith(f"/{'c' * 90}/prog")
    assert row["flags"] & schema.EXEC_F_PATH_CUT


def test_a_memfd_and_a_deleted_program_are_told(world: World, tmp_path: Path) -> None:
    """A memfd is flagged; a deleted file has no links."""
    world.python(
        "import os, sys\n"
        "fd = os.memfd_create('inno')\n"
        "os.write(fd, open('/bin/true', 'rb').read())\n"
        "os.execve(fd, ['renamed'], {})\n"
    )
    program = tmp_path / "gone"
    shutil.copy("/bin/true", program)
    world.python(
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY); os.unlink(sys.argv[1])\n"
        "os.execve(fd, ['gone'], {})\n",
        str(program),
    )
    rows = world.records("exec")
    found = {text(row, "exe"): row for row in rows}
    assert found["/memfd:inno"]["flags"] & schema.EXEC_F_MEMFD
    assert found[str(program)]["nlink"] == 0
    assert not found[str(program)]["flags"] & schema.EXEC_F_MEMFD


def test_an_exec_tells_namespaces_and_capabilities(world: World) -> None:
    """Those that the new program finds in /proc/self."""
    said = world.python(
        "import os\n"
        "for n in ('net', 'pid', 'mnt', 'user'): print(os.stat('/proc/self/ns/' + n).st_ino)\n"
        "print(int(next(l for l in open('/proc/self/status') if l.startswith('CapEff'))[7:], 16))\n"
    )
    (row,) = world.records("exec")
    members = ("net_ns", "pid_ns", "mnt_ns", "user_ns", "capabilities")
    assert [int(row[member]) for member in members] == [int(line) for line in said.split()]


def test_an_exec_tells_what_its_standard_streams_are(world: World) -> None:
    """A reverse shell's are one internet socket; others are told apart, closed ones too."""
    world.python(
        "import os, socket\n"
        "def run(*fds):\n"
        "    if os.fork() == 0:\n"
        "        for number in range(3):\n"
        "            os.close(number)\n"
        "            if fds[number] is not None: os.dup2(fds[number], number)\n"
        "        os.execv('/bin/true', ['true'])\n"
        "    os.wait()\n"
        "unix, other = socket.socketpair()\n"
        "inet = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)\n"
        "s, u, (r, w) = inet.fileno(), unix.fileno(), os.pipe()\n"
        "null, file = os.open('/dev/null', os.O_RDWR), os.open('/bin/true', os.O_RDONLY)\n"
        "run(s, s, s)\n"
        "run(u, u, u)\n"
        "run(r, file, os.eventfd(0))\n"
        "run(null, None, os.open('/', os.O_RDONLY))\n"
    )
    rows = world.execs("true")
    streams = [tuple(int(row[name]) for name in ("stdin", "stdout", "stderr")) for row in rows]
    assert streams == [(13, 13, 13), (12, 12, 12), (1, 8, 15), (2, 0, 4)]


def test_a_script_is_told_from_its_interpreter(world: World, tmp_path: Path) -> None:
    """The interpreter is the executable, the script an argument, and the exec is flagged."""
    script = tmp_path / "job"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    world.python(RUN, str(script))
    plain, row = world.records("exec")
    assert not plain["flags"] & schema.EXEC_F_SCRIPT
    assert row["flags"] & schema.EXEC_F_SCRIPT
    assert text(row, "exe") == str(Path("/bin/sh").resolve())
    assert arguments(world, row) == b"/bin/sh\0" + str(script).encode() + b"\0"


def test_a_program_started_through_the_loader_is_in_its_arguments(world: World) -> None:
    """`ld.so PROGRAM` runs the loader's file; who looks at executables alone sees only that."""
    loader = next(Path("/lib64").glob("ld-linux-*"))
    world.python(RUN, str(loader), "/bin/true")
    row = world.records("exec")[-1]
    assert text(row, "exe") == str(loader.resolve())
    assert arguments(world, row) == f"{loader}\0/bin/true\0".encode()


def test_a_file_that_never_had_a_name_has_no_links(world: World, tmp_path: Path) -> None:
    """O_TMPFILE, run by its descriptor: no path to find it by, but device and inode."""
    said = world.python(
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_TMPFILE | os.O_RDWR, 0o700)\n"
        "os.write(fd, open('/bin/true', 'rb').read())\n"
        "print(os.fstat(fd).st_ino, flush=True)\n"
        "again = os.open(f'/proc/self/fd/{fd}', os.O_RDONLY); os.close(fd)\n"
        "os.execve(again, ['quiet'], {})\n",
        str(tmp_path),
    )
    row = world.records("exec")[-1]
    assert (int(row["inode"]), int(row["nlink"])) == (int(said), 0)


def test_an_exec_by_another_thread_is_the_leaders(world: World) -> None:
    """The thread takes over the process id; start and parent stay those of the process."""
    said = world.python(
        "import os, threading, time\n"
        "print(os.getpid(), flush=True)\n"
        "threading.Thread(target=os.execv, args=('/bin/true', ['true'])).start()\n"
        "time.sleep(60)\n"
    )
    first, second = world.records("exec")
    assert int(first["tgid"]) == int(second["tgid"]) == int(said)
    assert first["start_ns"] == second["start_ns"]
    assert len(world.events("process_exits")) == 1


def test_an_exit_tells_the_memory_a_process_had(world: World) -> None:
    """Within a few pages of what the child finds in its own status."""
    said = world.python(
        "import os\n"
        "if os.fork() == 0:\n"
        "    held = b'x' * (96 << 20)\n"
        "    del held\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    print(next(line for line in lines if line.startswith('VmHWM')).split()[1])\n"
        "    os.sys.stdout.flush()\n"
        "    os._exit(7)\n"
        "os.wait()\n"
    )
    exits = world.events("process_exits")
    (row,) = exits[exits["exit_code"] >> 8 == 7]
    told = int(row["max_rss_pages"]) * os.sysconf("SC_PAGE_SIZE") >> 10
    assert int(said) <= told < int(said) + 4096


def test_forks_and_exits_are_counted_exactly(world: World) -> None:
    """37 forks give 37 fork and 37 exit records with the codes the children chose; threads none."""
    world.python(
        "import os, threading\n"
        "t = [threading.Thread(target=lambda: None) for _ in range(5)]\n"
        "[x.start() for x in t]; [x.join() for x in t]\n"
        "for n in range(37):\n"
        "    pid = os.fork()\n"
        "    if pid == 0: os._exit(n)\n"
        "    os.waitpid(pid, 0)\n"
    )
    forks, exits = world.events("process_forks"), world.events("process_exits")
    assert len(forks) == 37
    assert len(exits) == 38  # the children and their parent
    assert sorted(exits["exit_code"] >> 8)[1:] == list(range(37))
    assert set(forks["tgid"]) < set(exits["tgid"])


def test_a_process_with_threads_ends_once_with_its_whole_cpu_time(world: World) -> None:
    """150 processes whose threads end together give 150 exits, each with the time it burned."""
    code = (
        "import os, sys, threading, time\n"
        "for n in range(150):\n"
        "    if os.fork() == 0:\n"
        "        for _ in range(6): threading.Thread(target=time.sleep, args=(9,)).start()\n"
        "        end = time.process_time() + 0.02\n"
        "        while time.process_time() < end: pass\n"
        "        os._exit(3)\n"
        "    os.wait()\n"
    )
    world.python(code)
    exits = world.events("process_exits")
    children = exits[exits["exit_code"] >> 8 == 3]
    assert len(children) == len(set(children["tgid"])) == 150
    assert (children["exec_id"] != 0).all()
    assert np.median(children["user_ns"] + children["system_ns"]) >= 12_000_000


def test_a_signal_that_ends_a_process_is_told(world: World) -> None:
    """The wait status of a killed child holds the signal."""
    world.python(
        "import os, signal\n"
        "pid = os.fork()\n"
        "if pid == 0: signal.pause()\n"
        "os.kill(pid, 9); os.waitpid(pid, 0)\n"
    )
    assert 9 in world.events("process_exits")["exit_code"] & 0x7F


def test_a_child_runs_its_parents_image_until_its_own_exec(world: World) -> None:
    """exec_id joins a fork to the image of its parent, and an exec to its parent's image."""
    world.python("import subprocess; subprocess.run(['/bin/true'])")
    python_row, true_row = world.records("exec")
    (fork,) = world.events("process_forks")
    assert fork["exec_id"] == python_row["exec_id"]
    assert true_row["parent_exec_id"] == python_row["exec_id"]
    assert true_row["ppid"] == python_row["tgid"]
    assert true_row["parent_start_ns"] == python_row["start_ns"]


def test_nothing_outside_the_scope_is_recorded(libbpf_world: World) -> None:
    """Processes of other cgroups leave no record at all."""
    for _ in range(5):
        subprocess.run(["/bin/true"], check=True)
    assert not libbpf_world.source.drain()
    assert os.getpid() not in libbpf_world.records("exec")["tgid"]
