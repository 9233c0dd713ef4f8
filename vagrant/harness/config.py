"""Owns the reading of `machines.toml`; an unknown or missing key is an error that names it."""

from pathlib import Path

import msgspec

from harness.errors import ConfigError

VAGRANT_DIR = Path(__file__).resolve().parent.parent
REPO_DIR = VAGRANT_DIR.parent
MACHINES_FILE = VAGRANT_DIR / "machines.toml"


# What each key means stands in machines.toml, once.


class Root(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    suites: tuple[str, ...]
    packages: tuple[str, ...]


class Python(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    extras: tuple[str, ...]
    packages: tuple[str, ...]


class Initrd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    suites: tuple[str, ...]
    busybox_package: str
    modules: tuple[str, ...]


class Qemu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    suites: tuple[str, ...]
    packages: tuple[str, ...]


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    suites: tuple[str, ...]
    kernel_package: str
    cpus: int
    memory_mib: int
    early_modules: tuple[str, ...]
    kernel_args: str


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    root: Root
    python: Python
    initrd: Initrd
    qemu: Qemu
    machines: dict[str, Machine]

    def machine(self, name: str | None) -> Machine:
        """Return the machine of that name, the first of the file for None. Raises ConfigError."""
        if name is None:
            return next(iter(self.machines.values()))
        if name not in self.machines:
            raise ConfigError(
                f"Looked for machine {name!r} in {MACHINES_FILE.name}, "
                f"found {', '.join(self.machines)}. Name one of these."
            )
        return self.machines[name]


def load(path: Path = MACHINES_FILE) -> Config:
    """Return the configuration in `path`. Raises ConfigError."""
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=Config)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"Cannot read {path.name}: {error}. Mend the file.") from error
    if not config.machines:
        raise ConfigError(f"{path.name} names no machine. Add a [machines.NAME] table.")
    return config
