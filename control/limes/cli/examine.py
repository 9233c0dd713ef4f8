"""Owns the look at a host for `limes doctor`: kernel, privileges, cgroups, GPUs, and each hook.

Invariant: hooks are tried only in the scope of a cgroup made for it, which is removed again.
"""

import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Final

from limes.sensor.bpf import open_source
from limes.sensor.bpf.hooks import SIGNALS
from limes.sensor.bpf.libbpf import BTF, OBJECT, Libbpf
from limes.sensor.cgroups import find_mount
from limes.sensor.config import load_config
from limes.sensor.devices import driver_majors, gpu_majors
from limes.sensor.errors import SensorError
from limes.sensor.source import HookState

_BCC: Final = Path("/usr/lib/python3/dist-packages/bcc")
_GPU_FOLDERS: Final = ("/dev", "/dev/dri", "/dev/accel", "/dev/nvidia-caps")
_V1: Final = " - cgroup "


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing about the host; `problem` says what follows when it is bad."""

    name: str
    found: str
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that was found. `untried` says why no hook was tried; empty when they were."""

    facts: tuple[Fact, ...]
    hooks: tuple[HookState, ...] = ()
    loader: str = ""
    plan: str = ""
    untried: str = ""
    gpus: tuple[str, ...] = field(default=())

    @property
    def blind(self) -> tuple[str, ...]:
        """Signals that no hook serves; all of them when none was tried."""
        served = {hook.signal for hook in self.hooks if hook.state == "attached"}
        return tuple(signal.name for signal in SIGNALS if signal.name not in served)

    @property
    def sees_all(self) -> bool:
        """True when each signal has a hook."""
        return not self.blind


def examine(*, plan: str | None, loader: str | None, syscall_hooks: bool) -> Findings:
    """Look at this host; raises ConfigError for a plan or loader that there is not."""
    gpus = tuple(gpu_nodes())
    facts = (
        Fact(name="kernel", found=f"{platform.release()} {platform.machine()}"),
        _btf(),
        _user(),
        _cgroups(),
        _libbpf(),
        _bcc(),
        Fact(name="GPUs", found=", ".join(gpus) or "no device node of a GPU"),
    )
    settings = {"plan": plan, "loader": loader, "syscall_hooks": syscall_hooks}
    load_config(None, {**settings, "scope": ("/limes-doctor",)})  # a wrong word is no finding
    try:
        with own_cgroup() as scope:
            source = open_source(load_config(None, {**settings, "scope": (scope,)}))
            try:
                hooks, name, served = tuple(source.hooks), source.loader, source.plan
            finally:
                source.close()
    except SensorError as error:
        return Findings(facts=facts, gpus=gpus, untried=str(error))
    return Findings(facts=facts, gpus=gpus, hooks=hooks, loader=name, plan=served)


@contextmanager
def own_cgroup() -> Iterator[str]:
    """Make an empty cgroup and give its path; it is removed again. Raises SensorError."""
    root = find_mount(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    directory = root / f"limes-doctor-{secrets.token_hex(4)}"
    try:
        directory.mkdir()
    except OSError as error:
        raise SensorError(
            f"Cannot make a cgroup of its own to try hooks in: {directory}: {error.strerror}. "
            "Run as root."
        ) from error
    try:
        yield f"/{directory.name}"
    finally:
        directory.rmdir()


def gpu_nodes(folders: tuple[str, ...] = _GPU_FOLDERS) -> Iterator[str]:
    """Yield the device nodes that the sensor takes for GPUs, each with its driver's major."""
    majors = gpu_majors(driver_majors(), ())
    for folder in folders:
        for path in sorted(Path(folder).glob("*")):
            if path.is_char_device() and os.major(path.stat().st_rdev) in majors:
                yield f"{path} ({os.major(path.stat().st_rdev)})"


def _btf() -> Fact:
    try:
        size = BTF.stat().st_size
    except OSError:
        problem = "libbpf needs it (CONFIG_DEBUG_INFO_BTF=y); bcc needs kernel headers instead"
        return Fact(name="BTF", found=f"{BTF} is missing", problem=problem)
    return Fact(name="BTF", found=f"{BTF}, {size / 1e6:.1f} MB")


def _user() -> Fact:
    if os.geteuid() == 0:
        return Fact(name="user", found="root")
    problem = "hooks need root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
    return Fact(name="user", found=f"uid {os.geteuid()}", problem=problem)


def _cgroups() -> Fact:
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    try:
        root = find_mount(mounts)
    except SensorError as error:
        return Fact(name="cgroup v2", found="not mounted", problem=str(error))
    layout = "hybrid: v1 controllers beside it" if _V1 in mounts else "unified"
    return Fact(name="cgroup v2", found=f"{root}, {layout}")


def _libbpf() -> Fact:
    try:
        Libbpf()
    except SensorError as error:
        return Fact(name="libbpf", found="not there", problem=str(error))
    if not OBJECT.exists():
        return Fact(name="libbpf", found=f"{OBJECT} is missing", problem="run `make bpf`")
    return Fact(name="libbpf", found="there, with the prebuilt object")


def _bcc() -> Fact:
    if _BCC.exists() or util.find_spec("bcc"):
        return Fact(name="bcc", found="there")
    return Fact(name="bcc", found="not there (Debian: python3-bpfcc); only needed without libbpf")
