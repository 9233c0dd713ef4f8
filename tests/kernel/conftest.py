"""Real BPF programs on this kernel, scoped to a cgroup that each test makes and removes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from limes.sensor.cgroups import find_mount
from worlds import World, opened, unable

LOADERS = ("libbpf", "bcc")


@pytest.fixture(scope="session", autouse=True)
def root() -> None:
    if os.geteuid() != 0:
        unable("needs root")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """An empty cgroup of the test's own, removed with what it holds."""
    mount = find_mount(Path("/proc/self/mountinfo").read_text())
    path = mount / f"limes-test-{os.getpid()}-{time.monotonic_ns()}"
    path.mkdir()
    yield path
    for child in sorted(path.glob("**/"), key=lambda p: len(p.parts), reverse=True):
        child.rmdir()


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A stand-in device node: character device 1:7 takes real ioctls and answers ENOTTY."""
    path = tmp_path / "gpu0"
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 7))
    return path


@pytest.fixture(params=LOADERS)
def world(request: pytest.FixtureRequest, cgroup: Path, node: Path) -> Iterator[World]:
    """Hooks attached by each loader in turn."""
    with opened(request.param, cgroup, node) as world:
        yield world


@pytest.fixture
def libbpf_world(cgroup: Path, node: Path) -> Iterator[World]:
    """Hooks attached by libbpf."""
    with opened("libbpf", cgroup, node) as world:
        yield world
