"""A kernel source scoped to one cgroup, ways to act inside it, and what came of that."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from limes.sensor.bpf import open_source
from limes.sensor.bpf.kernel import KernelSource
from limes.sensor.cgroups import find_mount
from limes.sensor.config import GpuNode, SensorConfig
from limes.sensor.errors import SensorError
from limes.sensor.source import RECORD_DTYPES, Records
from limes.v1 import schema


def unable(reason: str) -> None:
    """Skips, or fails where the tests must run: a skip that nobody sees is a hole."""
    if os.environ.get("LIMES_RUN_KERNEL_TESTS") == "1":
        pytest.fail(f"kernel tests must run here: {reason}")
    pytest.skip(reason)


def text(row: np.void, field: str) -> str:
    """A NUL-ended string of a record; paths begin where their `_start` says."""
    names = row.dtype.names or ()
    start = int(row[f"{field}_start"]) if f"{field}_start" in names else 0
    return bytes(row[field].tobytes()[start:].partition(b"\0")[0]).decode()


class World:
    """A source scoped to one cgroup, and ways to act inside it."""

    def __init__(self, source: KernelSource, cgroup: Path, device: tuple[int, int]) -> None:
        self.source = source
        self.cgroup = cgroup
        self.device = device
        self._kept: dict[str, list[Records]] = {}

    def python(self, code: str, *arguments: str, cwd: Path | None = None) -> str:
        """Runs Python code in a process that joins the cgroup before its exec; its output."""
        procs = self.cgroup / "cgroup.procs"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            preexec_fn=lambda: procs.write_text(str(os.getpid())),
            capture_output=True,
            text=True,
            check=True,
            cwd=cwd,
        )
        return done.stdout.strip()

    @contextmanager
    def running(self, code: str) -> Iterator[subprocess.Popen[str]]:
        """Python code that runs inside the cgroup until its standard input closes."""
        procs = self.cgroup / "cgroup.procs"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            preexec_fn=lambda: procs.write_text(str(os.getpid())),  # noqa: PLW1509  one thread
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            yield process
            process.communicate()

    def records(self, name: str) -> Records:
        """Everything drained so far of one record."""
        for kind, rows in self.source.drain().items():
            self._kept.setdefault(kind, []).append(rows.copy())
        self.source.release()
        parts = self._kept.get(name, [])
        return np.concatenate(parts) if parts else np.empty(0, RECORD_DTYPES[name])

    def execs(self, comm: str) -> Records:
        """Execs so far of programs with this task name."""
        rows = self.records("exec")
        return rows[[text(row, "comm") == comm for row in rows]]

    def events(self, kind: str) -> Records:
        """Process records so far of one kind."""
        rows = self.records("process")
        return rows[rows["kind"] == schema.KINDS[kind].number]


@contextmanager
def opened(loader: str, cgroup: Path, node: Path) -> Iterator[World]:
    mount = find_mount(Path("/proc/self/mountinfo").read_text())
    config = SensorConfig(
        scope=(f"/{cgroup.relative_to(mount)}",),
        loader=loader,  # type: ignore[arg-type]
        syscall_hooks=True,
        gpu_extra_nodes=(GpuNode(path=node, name="test node", simulated=True),),
    )
    try:
        source = open_source(config)
    except SensorError as error:
        if "Cannot import bcc" not in str(error):
            raise
        unable(str(error))
    try:
        status = node.stat()
        yield World(source, cgroup, (os.major(status.st_rdev), os.minor(status.st_rdev)))
    finally:
        source.close()
