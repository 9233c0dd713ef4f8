"""Owns the reading of `machines.toml`; a key that is unknown or missing is an error that names it."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from harness.errors import ConfigError

VAGRANT_DIR = Path(__file__).resolve().parent.parent
REPO_DIR = VAGRANT_DIR.parent
MACHINES_FILE = VAGRANT_DIR / "machines.toml"


class _Table:
    """A TOML table whose keys are exactly the fields of the dataclass."""

    @classmethod
    def parse(cls, where: str, table: Any) -> Self:
        """Return the table as a `cls`. Raises ConfigError that names the key and the place."""
        if not isinstance(table, dict):
            raise ConfigError(f"{MACHINES_FILE.name}: [{where}] is missing or no table. Add it.")
        types = {field.name: field.type for field in fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(table) - set(types)):
            raise ConfigError(
                f"{MACHINES_FILE.name}: [{where}] has unknown key {unknown[0]!r}. "
                f"Known: {', '.join(sorted(types))}."
            )
        values: dict[str, Any] = {}
        for key, wanted in types.items():
            if key not in table:
                raise ConfigError(f"{MACHINES_FILE.name}: [{where}] lacks {key!r}. Add it.")
            values[key] = _typed(f"[{where}] {key}", table[key], wanted)
        return cls(**values)


def _typed(where: str, value: Any, wanted: Any) -> Any:
    if wanted == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif type(value) is wanted:
        return value
    raise ConfigError(f"{MACHINES_FILE.name}: {where} is {value!r}, wanted {wanted}. Change it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Root(_Table):
    suites: tuple[str, ...]
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Python(_Table):
    extras: tuple[str, ...]
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Initrd(_Table):
    suites: tuple[str, ...]
    busybox_package: str
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Qemu(_Table):
    suites: tuple[str, ...]
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(_Table):
    suites: tuple[str, ...]
    kernel_package: str
    cpus: int
    memory_mib: int
    kernel_args: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
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
                f"No machine {name!r} in {MACHINES_FILE.name}. Known: {', '.join(self.machines)}."
            )
        return self.machines[name]


def load(path: Path = MACHINES_FILE) -> Config:
    """Return the configuration in `path`. Raises ConfigError."""
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"Cannot read {path.name}: {error}. Mend the file.") from error
    if unknown := sorted(set(data) - {field.name for field in fields(Config)}):
        raise ConfigError(f"{path.name} has unknown table [{unknown[0]}]. Remove it.")
    machines = data.get("machines")
    if not isinstance(machines, dict) or not machines:
        raise ConfigError(f"{path.name} names no machine. Add a [machines.NAME] table.")
    return Config(
        root=Root.parse("root", data.get("root")),
        python=Python.parse("python", data.get("python")),
        initrd=Initrd.parse("initrd", data.get("initrd")),
        qemu=Qemu.parse("qemu", data.get("qemu")),
        machines={
            name: Machine.parse(f"machines.{name}", table) for name, table in machines.items()
        },
    )
