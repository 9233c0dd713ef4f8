"""The harness itself: statuses travel, hangs end, and no QEMU outlives its harness."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from harness import __main__ as cli
from harness import vm
from harness.config import VAGRANT_DIR
from harness.errors import BootError, GuestRefusedError, GuestTimeoutError, LostGuestError

# Preparing from empty caches takes about a minute, more on a busy machine.
pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(900)]

DEADLINE_SECONDS = 60.0


def until(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds; fail when it does not within the deadline."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited {DEADLINE_SECONDS:g} s until {what}"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """Return the pids of a process's children, none when it has gone."""
    try:
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def runs(pid: int) -> bool:
    """Return whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("status", [0, 1, 77])
def test_exit_status_travels(guest: vm.Guest, status: int) -> None:
    """A command's exit status in the guest is the one reported on the host."""
    assert guest.run(["sh", "-c", f"exit {status}"], timeout=30).status == status


def test_a_signal_travels_as_its_negative(guest: vm.Guest) -> None:
    """A command that a signal ended says which."""
    assert guest.run(["sh", "-c", "kill -TERM $$"], timeout=30).status == -signal.SIGTERM


def test_output_environment_and_folder_travel(guest: vm.Guest) -> None:
    """Both outputs come back apart; environment and working directory reach the command."""
    done = guest.run(
        ["sh", "-c", 'printf %s "$GIVEN"; pwd >&2; exit 3'],
        timeout=30,
        env={"GIVEN": "a b\nc"},
        cwd="/usr",
    )
    assert (done.status, done.stdout, done.stderr) == (3, b"a b\nc", b"/usr\n")


def test_output_larger_than_any_buffer_arrives_whole(guest: vm.Guest) -> None:
    """Nothing of a long output is lost at the command's end."""
    done = guest.run(["head", "-c", "3000001", "/dev/zero"], timeout=60)
    assert done.stdout == bytes(3_000_001)


def test_output_arrives_while_the_command_runs(guest: vm.Guest) -> None:
    """A sink gets what was said before the command ended, even when it then hangs."""
    seen: list[bytes] = []
    with pytest.raises(GuestTimeoutError, match="still running in the guest after 2 s"):
        guest.run(["sh", "-c", "echo early; sleep 1000"], timeout=2, on_stdout=seen.append)
    assert b"".join(seen) == b"early\n"


def test_a_hung_command_is_killed_and_the_guest_stays_usable(guest: vm.Guest) -> None:
    """After a timeout the command's whole session is gone and the next command runs."""
    with pytest.raises(GuestTimeoutError, match="Its last line: waiting"):
        guest.run(["sh", "-c", "echo waiting; sleep 4711; true"], timeout=2)
    assert guest.run(["pgrep", "-f", "sleep 4711"], timeout=30).status == 1


def test_a_command_may_leave_a_child_that_holds_its_output(guest: vm.Guest) -> None:
    """A daemon left behind does not keep the command from ending."""
    done = guest.run(["sh", "-c", "sleep 30 & echo started"], timeout=20)
    assert (done.status, done.stdout) == (0, b"started\n")
    assert guest.run(["pkill", "-x", "sleep"], timeout=30).status == 0


def test_a_command_that_does_not_exist_is_refused(guest: vm.Guest) -> None:
    """The error names the command."""
    with pytest.raises(GuestRefusedError, match="cannot start /no/such: No such file"):
        guest.run(["/no/such"], timeout=30)


def test_files_travel_with_their_mode(guest: vm.Guest, tmp_path: Path) -> None:
    """A file pushed and pulled is the same, byte by byte, and keeps its permission bits."""
    source = tmp_path / "file"
    source.write_bytes(os.urandom(1_000_003))
    source.chmod(0o750)
    guest.push(source, "/root/made/for/it")
    assert guest.pull("/root/made/for/it") == source.read_bytes()
    assert guest.run(["stat", "-c", "%a", "/root/made/for/it"], timeout=30).stdout == b"750\n"


def test_a_file_that_does_not_exist_is_refused(guest: vm.Guest) -> None:
    """Pulling what is not there names the path, and the channel stays in step."""
    with pytest.raises(GuestRefusedError, match="/no/such"):
        guest.pull("/no/such")
    assert guest.run(["true"], timeout=30).status == 0


def test_the_guest_is_what_the_tests_need(guest: vm.Guest) -> None:
    """Debian's 6.1 with BTF and cgroup v2 at its usual place, and no way out but loopback."""
    checks = "test -r /sys/kernel/btf/vmlinux && test -e /sys/fs/cgroup/cgroup.controllers"
    assert guest.run(["sh", "-c", checks], timeout=30).status == 0
    assert guest.kernel_release.startswith("6.1.")
    assert guest.python_version.startswith("3.11.")
    assert guest.run(["ls", "/sys/class/net"], timeout=30).stdout == b"lo\n"


def test_what_limes_requires_can_be_imported(guest: vm.Guest) -> None:
    """The virtual environment has both sides' requirements, and bcc from the distribution."""
    modules = "bcc, cryptography, duckdb, grpc, msgspec, nanoarrow, numpy, pyarrow, zstandard"
    done = guest.run(["python", "-c", f"import {modules}"], timeout=120)
    assert (done.status, done.stderr) == (0, b"")


def test_an_agent_that_dies_is_reported_with_the_console(prepared: vm.Prepared) -> None:
    """Losing the agent takes the machine down at once and says what the kernel said."""
    with (
        vm.boot(prepared) as doomed,
        pytest.raises(LostGuestError, match=r"(?s)QEMU ended with 0.*Attempted to kill init"),
    ):
        doomed.run(["sh", "-c", "kill -KILL $PPID; sleep 60"], timeout=60)


def test_an_agent_that_hangs_is_reported(
    prepared: vm.Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that does not even answer a kill is lost, not waited for."""
    monkeypatch.setattr(vm, "KILL_GRACE_SECONDS", 1.0)
    with vm.boot(prepared) as doomed, pytest.raises(LostGuestError, match="did not answer within"):
        doomed.run(["sh", "-c", "kill -STOP $PPID; sleep 60"], timeout=1)


def test_a_boot_that_fails_shows_the_console(prepared: vm.Prepared) -> None:
    """A kernel that cannot start its first program leaves its own words in the error."""
    machine = msgspec.structs.replace(prepared.machine, kernel_args="rdinit=/no/such")
    broken = dataclasses.replace(prepared, machine=machine)
    with pytest.raises(BootError, match=r"(?s)went down while booting.*panic"), vm.boot(broken):
        pass


def test_a_boot_that_takes_too_long_ends(prepared: vm.Prepared) -> None:
    """The wait for the agent has an end, and the machine is gone with it."""
    before = children(os.getpid())
    with (
        pytest.raises(BootError, match=r"did not report within 0\.2 s"),
        vm.boot(prepared, timeout=0.2),
    ):
        pass
    assert children(os.getpid()) == before


@pytest.fixture
def busy_harness(prepared: vm.Prepared) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A harness of its own process whose guest runs a command without end, and its QEMU's pid."""
    assert prepared
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "--", "sh", "-c", "echo ready; sleep 1000"],
        cwd=VAGRANT_DIR,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (emulator,) = children(process.pid)
        assert b"qemu-system" in Path(f"/proc/{emulator}/cmdline").read_bytes()
        yield process, emulator
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_leaves_no_qemu(
    busy_harness: tuple[subprocess.Popen[bytes], int], how: signal.Signals
) -> None:
    """However the harness ends, its QEMU ends with it."""
    process, emulator = busy_harness
    process.send_signal(how)
    process.wait(DEADLINE_SECONDS)
    until(lambda: not runs(emulator), "QEMU had gone")


def test_the_command_line_returns_the_guests_status(capfd: pytest.CaptureFixture[str]) -> None:
    """`harness run` prints what the command prints and ends with its status."""
    assert cli.main(["run", "--", "sh", "-c", "echo out; echo err >&2; exit 9"]) == 9
    captured = capfd.readouterr()
    assert captured.out == "out\n"
    assert captured.err.endswith("err\n")


def test_the_command_line_says_what_it_cannot_do(capfd: pytest.CaptureFixture[str]) -> None:
    """A hung command is one line on standard error and exit status 3."""
    assert cli.main(["run", "--timeout", "1", "--", "sleep", "1000"]) == 3
    assert "harness: `sleep 1000` was still running in the guest" in capfd.readouterr().err
