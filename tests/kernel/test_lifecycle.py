"""Start and stop: what is attached, what is refused, and that nothing stays."""

from pathlib import Path

import numpy as np
import pytest
from limes.sensor.bpf import kernel, load_request, resolve_scopes, syscall
from limes.sensor.bpf.hooks import PROGRAMS
from limes.sensor.bpf.libbpf import LibbpfLoader
from limes.sensor.bpf.plan import Refused, search
from limes.sensor.config import SensorConfig
from limes.sensor.errors import AbiMismatch, ConfigError, KernelUnsupported, SensorError
from limes.v1 import schema
from worlds import World, opened


def bpf_descriptors() -> list[str]:
    """What this process holds of the kernel's BPF side: programs, maps and links live by these."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = entry.readlink()
        except FileNotFoundError:  # the folder's own descriptor
            continue
        if "bpf" in target.name:
            found.append(target.name)
    return found


@pytest.mark.parametrize("loader", ["libbpf", "bcc"])
def test_after_a_stop_nothing_is_left_in_the_kernel(loader: str, cgroup: Path, node: Path) -> None:
    """Programs, maps and links are held while the source is open; after close none is."""
    pinned = set(Path("/sys/fs/bpf").iterdir())
    with opened(loader, cgroup, node) as world:
        held = bpf_descriptors()
        assert sum("prog" in name for name in held) > 8
        assert sum("map" in name for name in held) > 8
        world.source.stop()
        world.python("pass")
        assert not len(world.records("exec"))
    assert bpf_descriptors() == []
    assert set(Path("/sys/fs/bpf").iterdir()) == pinned


def test_records_made_before_a_stop_can_still_be_drained(libbpf_world: World) -> None:
    """stop detaches; what the rings hold is not lost."""
    libbpf_world.python("pass")
    libbpf_world.source.stop()
    assert len(libbpf_world.records("exec")) == 1
    assert {hook.state for hook in libbpf_world.source.hooks} <= {
        "detached",
        "refused",
        "not_used",
    }


def test_every_program_has_a_state_that_explains_itself(world: World) -> None:
    """No hook is silent: each program is attached, or says why not."""
    hooks = {hook.hook: hook for hook in world.source.hooks}
    assert set(hooks) == {program.hook for program in PROGRAMS.values()}
    for hook in hooks.values():
        assert hook.state == "attached" or hook.detail
        assert (hook.state == "refused") == (hook.error != 0)


def test_a_refused_program_gives_way_to_the_next_plan(cgroup: Path) -> None:
    """When the kernel refuses a program the signal is served by the next way, and says so."""
    mount = cgroup.parent
    config = SensorConfig(scope=(f"/{cgroup.name}",), syscall_hooks=True)
    request = load_request(config)
    assert request.cgroup_root == mount
    loader = LibbpfLoader(request)

    def attach(names: object) -> object:
        wanted = list(names)  # type: ignore[call-overload]
        for name in wanted:
            if PROGRAMS[name].hook.startswith("f"):
                raise Refused(name, 1, "refused by the test")
        return loader.attach(wanted)

    attachment, choice = search(request, attach)  # type: ignore[arg-type]
    try:
        served = {h.signal: h.plan for h in choice.states() if h.state == "attached"}
        assert served["gpu_ioctl"] == served["connect_result"] == "tracepoint"
    finally:
        attachment.close()


def test_a_kernel_that_refuses_exec_is_unsupported(cgroup: Path) -> None:
    """Without sight of exec the sensor does not start, and names hook and errno."""
    request = load_request(SensorConfig(scope=(f"/{cgroup.name}",)))

    def attach(names: object) -> object:
        raise Refused("handle_exec", 1, "refused by the test")

    with pytest.raises(KernelUnsupported, match=r"sched_process_exec for process_exec.*EPERM"):
        search(request, attach)  # type: ignore[arg-type]


def test_a_scope_that_is_no_cgroup_is_an_error(cgroup: Path) -> None:
    """A missing scope never becomes the whole host."""
    with pytest.raises(ConfigError, match="is no cgroup"):
        resolve_scopes(("/no-such-cgroup-here",), cgroup.parent)
    with pytest.raises(ConfigError, match="1 to 4 can be watched"):
        resolve_scopes((), cgroup.parent)


def test_an_object_of_another_abi_is_refused(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An object built from another registry is named as such before anything is loaded."""
    request = load_request(SensorConfig(scope=(f"/{cgroup.name}",)))
    monkeypatch.setattr(schema, "ABI_VERSION", schema.ABI_VERSION + 1)
    with pytest.raises(AbiMismatch, match="speaks event ABI"):
        LibbpfLoader(request).attach(["handle_exec"])
    broken = tmp_path / "limes.bpf.o"
    broken.write_bytes(b"not an object")
    with pytest.raises(AbiMismatch, match="Cannot read"):
        LibbpfLoader(request, broken).attach(["handle_exec"])
    with pytest.raises(SensorError, match="Build it with `make bpf`"):
        LibbpfLoader(request, tmp_path / "missing.o")


def image_of(world: World, tgid: int) -> int:
    value = np.zeros(1, kernel._IMAGE)
    key = np.array([tgid], "<u4")
    syscall.lookup(world.source._attachment.map_fd("images"), key, value)
    return int(value["exec_id"][0])


def test_a_process_that_leaves_the_scope_is_forgotten(libbpf_world: World) -> None:
    """What runs outside is not watched to its end, so its pid must not keep its image."""
    with libbpf_world.running("print('up', flush=True); input()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert image_of(libbpf_world, process.pid) != 0
        (libbpf_world.cgroup.parent / "cgroup.procs").write_text(str(process.pid))
        with pytest.raises(FileNotFoundError):
            image_of(libbpf_world, process.pid)


def test_seeding_fills_what_is_unknown_and_overwrites_nothing(libbpf_world: World) -> None:
    """A process noted without an image gets one; an image the kernel minted stays."""
    with libbpf_world.running("print('up', flush=True); input()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        minted = image_of(libbpf_world, process.pid)
        orphan, fresh = 1 << 22, (1 << 22) + 1  # beyond any pid of this machine
        seeds = np.array([process.pid, orphan, fresh], np.uint32)
        starts = np.ones(3, np.uint64)
        libbpf_world.source.seed_images(seeds[1:2], np.zeros(1, np.uint64), starts[1:2])
        libbpf_world.source.seed_images(seeds, np.array([7, 8, 9], np.uint64), starts)
        assert image_of(libbpf_world, process.pid) == minted
        assert image_of(libbpf_world, orphan) == 8
        assert image_of(libbpf_world, fresh) == 9
