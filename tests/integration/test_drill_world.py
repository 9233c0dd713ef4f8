"""The drill's world, played for real as root, and what is left of it: nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from limes.drill import DrillWorld, Step, registry
from limes.drill.cgroups import find_root, members
from limes.drill.errors import DrillError

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a drill makes namespaces and cgroups: root"),
    pytest.mark.timeout(900),
]

DRILL_RANGES = ("203.0.113.", "198.51.100.", "169.254.169.254")
DRILL_DEVICES = {"job_2", "job_3"}


def _namespaces(pids: list[int]) -> set[int]:
    return {Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in pids}


def _namespaces_in_use() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(path.stat().st_ino)
        except OSError:
            continue
    return found


def _pids(world: DrillWorld) -> list[int]:
    return [*members(world.cgroup), *members(world.outside_cgroup)]


def _leftovers() -> set[str]:
    """Return what bears the drill's prefix, but for drills that another process is playing."""
    root = find_root()
    places = (
        root.glob("limes-drill-*"),
        Path("/dev/shm").glob("limes-drill-*"),
        registry.RECORDS.glob("*.json"),
    )
    found = {str(path) for place in places for path in place}
    for file in registry.RECORDS.glob("*.json"):
        record = registry.read(file)
        if record is not None and record.alive() and record.pid != os.getpid():
            found = {path for path in found if record.ident not in path}
    return found


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


def _traces_in_the_host() -> set[str]:
    """Return the drill's addresses, devices and mounts in the caller's own namespaces."""
    addresses = Path("/proc/net/fib_trie").read_text().split()
    devices = {line.split(":")[0].strip() for line in _lines("/proc/net/dev")}
    mounts = {line.split(" ")[4] for line in _lines("/proc/self/mountinfo")}
    return {
        *(address for address in addresses if address.startswith(DRILL_RANGES)),
        *(devices & DRILL_DEVICES),
        *(mount for mount in mounts if "netns" in mount or "limes-drill" in mount),
    }


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """Give a state directory, and demand that nothing new is left, there or on the host."""
    before = _leftovers() | _traces_in_the_host()
    yield tmp_path / "state"
    assert _leftovers() | _traces_in_the_host() <= before
    assert not (tmp_path / "state").exists()


def test_a_whole_drill_plays_and_leaves_nothing(state_dir: Path) -> None:
    """Every step reaches its end and tells its truth; then all of it is gone."""
    seen: list[str] = []
    with DrillWorld.create(seed=20, state_dir=state_dir) as world:
        pids = _pids(world)
        namespaces = _namespaces(pids)
        steps = world.play(lambda step: seen.append(step.name))
        pids += _pids(world)
        truth = {step.name: step.truth for step in steps}
    assert seen == [step.name for step in steps] == list(truth)
    _check_truth(world, truth)
    assert len(namespaces) == 5
    assert not namespaces & _namespaces_in_use()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def _check_truth(world: DrillWorld, truth: dict[str, dict[str, Any]]) -> None:
    plan = world.plan
    jobs = {name: str(said["cgroup"]).rpartition("/")[2] for name, said in truth.items()}
    assert {name for name, job in jobs.items() if job == "job_2"} == {
        "agent", "metadata", "pool", "probing", "tunnel_argv", "tunnel_config",
    }  # fmt: skip
    answers = list(truth["probing"]["results"].values())
    counts = {answer: answers.count(answer) for answer in set(answers)}
    assert counts == {
        "refused": len(plan.refused),
        "silent": len(plan.silent),
        "open": len(plan.services),
    }
    assert "-R" in truth["tunnel_argv"]["argv"]
    assert "Forward" not in " ".join(truth["tunnel_config"]["argv"])
    for name, count in zip(("tunnel_argv", "tunnel_config"), plan.tunnel_bytes, strict=True):
        assert truth[name]["bytes_in"] == truth[name]["bytes_out"] == count
    assert truth["pool"]["ioctls"] == plan.pool_calls
    assert truth["pool"]["executable"] == str(world.hideout / plan.hidden_name)
    assert truth["benign_forks"]["forks"] == 201
    trained = truth["training_end"]["ioctls"]
    training = truth["training"]
    processes = [training["pid"], training["child"], *training["workers"]]
    assert set(trained) == set(processes)
    assert training["child_executable"] != training["executable"] == str(world.trainer)
    for name in ("training", "pool", "training_end"):
        assert str(truth[name]["gpu"]).endswith("(simulated device)")


def test_processes_of_a_job_are_in_its_cgroup_and_in_a_namespace_of_ours(state_dir: Path) -> None:
    """Nothing runs in the caller's namespace, and the trainer is where the policy says."""
    inside: dict[str, set[int]] = {}
    before = _traces_in_the_host()

    def look(step: Step) -> None:
        if step.name == "probing":
            for job in ("job_1", "job_2"):
                inside[job] = set(members(world.cgroup / job))

    with DrillWorld.create(state_dir=state_dir) as world:
        steps = world.play(look)
        own = Path("/proc/self/ns/net").stat().st_ino
        assert own not in _namespaces(_pids(world))
        assert _traces_in_the_host() <= before
    truth = {step.name: step.truth for step in steps}
    assert inside["job_1"] == {truth["training"]["pid"], *truth["training"]["workers"]}
    assert inside["job_2"] == {truth["agent"]["pid"]}


def test_no_namespace_can_reach_beyond_the_drill(state_dir: Path) -> None:
    """None has a default route, and each interface but loopback has its peer in another one."""
    with DrillWorld.create(state_dir=state_dir) as world:
        pids = {Path(f"/proc/{pid}/ns/net").stat().st_ino: pid for pid in _pids(world)}
        assert len(pids) == 5
        for pid in pids.values():
            rows = Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]
            assert all(row.split()[1] != "00000000" for row in rows)
            devices = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
            names = {line.split(":")[0].strip() for line in devices}
            assert names <= {"lo", "eth0", "eth1", "job_2", "job_3"}


def test_an_error_in_the_middle_removes_everything(state_dir: Path) -> None:
    """The caller's error comes through, and nothing stays."""

    def fail(step: Step) -> None:
        if step.name == "metadata":
            raise ZeroDivisionError

    pids: list[int] = []
    with pytest.raises(ZeroDivisionError):
        _play(state_dir, fail, pids)
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def _play(state_dir: Path, on_step: Callable[[Step], object], pids: list[int]) -> None:
    with DrillWorld.create(state_dir=state_dir) as world:
        pids.extend(_pids(world))
        world.play(on_step)


def test_a_world_that_cannot_be_made_leaves_nothing(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper that does not start ends `create` with the reason."""
    monkeypatch.setattr("limes.drill.ssh._SERVER", "Nonsense yes\n")
    with pytest.raises(DrillError, match="bad configuration"):
        DrillWorld.create(state_dir=state_dir)


def test_a_kernel_without_cgroup_kill_is_cleared_too(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 5.14 the processes are ended one by one."""
    monkeypatch.setattr("limes.drill.cgroups.KILL_FILE", "cgroup.not_there")
    with DrillWorld.create(state_dir=state_dir) as world:
        pids = _pids(world)
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("place", ["/run/limes-test", "/proc/limes-test"])
def test_a_state_directory_that_cannot_serve_is_refused(place: str) -> None:
    """One line that names the directory; nothing is left."""
    before = _leftovers()
    with pytest.raises(DrillError, match=place.rpartition("/")[0]) as caught:
        DrillWorld.create(state_dir=Path(place))
    assert "\n" not in str(caught.value)
    assert _leftovers() <= before


def test_two_drills_do_not_meet(state_dir: Path) -> None:
    """The same seed twice at once: same addresses, other cgroups and namespaces."""
    with (
        DrillWorld.create(seed=1, state_dir=state_dir) as one,
        DrillWorld.create(seed=1, state_dir=state_dir) as other,
    ):
        assert one.plan == other.plan
        assert one.cgroup_path != other.cgroup_path
        assert not set(_pids(one)) & set(_pids(other))
        assert all(Path(f"/proc/{pid}").exists() for pid in _pids(one))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_in_the_middle_removes_everything(state_dir: Path, number: signal.Signals) -> None:
    """Ended from outside, the drill takes everything with it and says so by its status."""
    with _started(state_dir, "probing") as process:
        process.send_signal(number)
        process.communicate(timeout=300)
    assert process.returncode == 128 + number


def test_what_a_killed_drill_left_is_cleared_by_the_next(state_dir: Path) -> None:
    """SIGKILL gives no chance to clean up; the next `create` does it, and only then."""
    before = _leftovers()
    with _started(state_dir, "metadata") as process:
        process.kill()
        process.communicate(timeout=60)
    assert _leftovers() > before
    with DrillWorld.create(state_dir=state_dir) as world:
        assert all(world.ident in left for left in _leftovers() - before)
    # Only who made the state directory removes it, and that one was killed.
    state_dir.rmdir()


def _started(state_dir: Path, step: str) -> subprocess.Popen[str]:
    """Start a drill in a process of its own; return it once a step has begun."""
    process = subprocess.Popen(
        [sys.executable, "-m", "limes.drill", "--state-dir", str(state_dir)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.split()[1:2] == [step]:
            return process
    raise AssertionError(f"the drill ended before {step}")
