"""The kernel side as a RecordSource: scopes resolved, programs chosen and attached, devices named.

Invariant: a scope that is not an existing cgroup is an error, never silently the whole host.
"""

from pathlib import Path
from typing import Final

from limes.sensor import memory
from limes.sensor.bpf.kernel import KernelSource
from limes.sensor.bpf.libbpf import BTF, LibbpfLoader
from limes.sensor.bpf.plan import MAX_SCOPES, LoadRequest, Scope, search
from limes.sensor.cgroups import find_mount
from limes.sensor.config import SensorConfig
from limes.sensor.devices import lowest_major
from limes.sensor.errors import ConfigError, KernelUnsupported, PrivilegeError

_CAP_EFFECTIVE: Final = "CapEff:"
_CAPS: Final = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}


def _require_privileges(status: Path = Path("/proc/self/status")) -> None:
    text = status.read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith(_CAP_EFFECTIVE))
    held = int(line.split()[1], 16)
    has = {name: bool(held >> bit & 1) for name, bit in _CAPS.items()}
    if has["CAP_SYS_ADMIN"]:
        return
    missing = [name for name in ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN") if not has[name]]
    if missing:
        raise PrivilegeError(
            f"Cannot load BPF programs: this process lacks {', '.join(missing)}. Run as root, or "
            "grant them (systemd: AmbientCapabilities=)."
        )


def resolve_scopes(paths: tuple[str, ...], root: Path) -> tuple[Scope, ...]:
    """The cgroups behind paths below the cgroup v2 root; none for the whole host.

    Raises ConfigError when a path is no cgroup or there are more than the kernel side can watch.
    """
    if "/" in paths:
        return ()
    if not 0 < len(paths) <= MAX_SCOPES:
        raise ConfigError(
            f"Read the scope: {len(paths)} cgroups, but 1 to {MAX_SCOPES} can be watched. Name a "
            "common ancestor."
        )
    scopes = []
    for path in paths:
        directory = root / path.strip("/")
        if not (directory / "cgroup.procs").exists():
            raise ConfigError(
                f"Looked for the cgroup {path} of the scope: {directory} is no cgroup. Make it "
                "before the sensor starts, or name another."
            )
        level = len(Path(path.strip("/")).parts)
        inode = directory.stat().st_ino
        scopes.append(Scope(cgroup_id=inode, level=level, directory=directory))
    return tuple(scopes)


def load_request(config: SensorConfig) -> LoadRequest:
    """What the configuration asks the kernel for. Raises ConfigError or KernelUnsupported."""
    mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    root = find_mount(mountinfo)
    scopes = resolve_scopes(config.scope, root)
    whole_host_allowed = config.allow_syscall_hooks_on_whole_host
    return LoadRequest(
        scopes=scopes,
        plan=config.plan,
        syscall_hooks=config.syscall_hooks and (bool(scopes) or whole_host_allowed),
        cgroup_root=root,
        gpu_lowest_major=lowest_major(node.device() for node in config.gpu_extra_nodes),
    )


def _choose_loader(config: SensorConfig) -> str:
    if config.loader != "auto":
        return config.loader
    return "libbpf" if BTF.exists() else "bcc"


def open_source(config: SensorConfig) -> KernelSource:
    """Loads and attaches what the configuration asks for.

    Raises PrivilegeError, KernelUnsupported, ConfigError, AbiMismatch or SensorError.
    """
    _require_privileges()
    request = load_request(config)
    name = _choose_loader(config)
    if name == "libbpf":
        attachment, choice = search(request, LibbpfLoader(request).attach)
    elif name == "bcc":
        # bcc comes from the distribution and is heavy: only who asks for it pays.
        from limes.sensor.bpf.bcc_loader import BccLoader  # noqa: PLC0415

        attachment, choice = search(request, BccLoader(request).attach)
    else:
        raise KernelUnsupported(f"Cannot load with {name}: choose libbpf or bcc.")
    # The loader's copies of the kernel's BTF are freed by now, but glibc keeps the pages.
    memory.give_back()
    extra = [node.device() for node in config.gpu_extra_nodes]
    return KernelSource(name, attachment, choice, extra_nodes=extra)
