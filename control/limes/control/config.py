"""The control plane's configuration: one TOML file; defaults < file < LIMES_CONTROL_* < flags.

Every key is documented in control.example.toml, which a test compares with the fields here.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from limes.control import ca
from limes.control.errors import ConfigError
from limes.control.hunt.config import HuntConfig

PREFIX: Final = "LIMES_CONTROL_"
DEFAULT_STATE: Final = Path("/var/lib/limes")

Positive = Annotated[int, msgspec.Meta(ge=1)]


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[store]`."""

    database: Path | None = None
    memory_limit: str = "2GB"
    threads: Annotated[int, msgspec.Meta(ge=0)] = 1
    free_warning_mib: Annotated[int, msgspec.Meta(ge=0)] = 4096


class IngestConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[ingest]`."""

    group_rows: Positive = 20_000
    group_milliseconds: Positive = 100
    queue_mib: Positive = 256
    message_mib: Annotated[int, msgspec.Meta(ge=4)] = 64
    labels: dict[str, dict[str, str]] = {}


class ControlConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it. Paths that are not given lie under `state`."""

    state: Path = DEFAULT_STATE
    listen: str = "127.0.0.1:7443"
    free_port: bool = False
    threads: Annotated[int, msgspec.Meta(ge=8)] = 256
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    policy: Path | None = None
    packs: tuple[Path, ...] = ()
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    store: StoreConfig = StoreConfig()
    ingest: IngestConfig = IngestConfig()
    hunt: HuntConfig = HuntConfig()

    @property
    def database(self) -> Path:
        return self.store.database or self.state / "control/limes.duckdb"

    @property
    def ca_path(self) -> Path:
        return self.ca or ca.ca_files(self.state).certificate

    @property
    def certificate_path(self) -> Path:
        return self.certificate or ca.files(self.state, "control").certificate

    @property
    def key_path(self) -> Path:
        return self.key or ca.files(self.state, "control").key


def load_config(
    path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
) -> ControlConfig:
    """Return the configuration from the file at `path`, the environment and `overrides`.

    `overrides` are keyed by dotted names ("store.threads"); values of None are left out. Raises
    ConfigError, naming the file or variable and the key.
    """
    found: dict[str, Any] = {}
    if path is not None:
        found = read(path)
        convert(found, str(path))
    variables = os.environ if environment is None else environment
    for name, field in names(ControlConfig).items():
        variable = PREFIX + name.replace(".", "_").upper()
        if variable in variables:
            put(found, name, variables[variable])
            convert(found, variable, field)
    for name, value in (overrides or {}).items():
        if value is not None:
            put(found, name, str(value) if isinstance(value, Path) else value)
    config = convert(found, "the command line")
    # Absolute: a hunt's worker runs in another directory than the server.
    return msgspec.structs.replace(config, state=config.state.absolute())


def read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"Cannot read configuration {path}: {error.strerror}. Give another with --config."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot parse configuration {path}: {error}. Mend that line.") from error


def convert(found: dict[str, Any], source: str, field: str = "") -> ControlConfig:
    """Check `found`; numbers may be given as text, as the environment has them."""
    try:
        return msgspec.convert(found, ControlConfig, strict=False, dec_hook=decode_path)
    except msgspec.ValidationError as error:
        where = f" (key {field})" if field else ""
        raise ConfigError(
            f"Cannot use the configuration from {source}{where}: {error}. "
            "control.example.toml documents every key."
        ) from error


def decode_path(kind: type, value: object) -> Path:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError("expected a path")


def names(kind: type[msgspec.Struct], prefix: str = "") -> dict[str, str]:
    """Return the dotted names of all keys that hold one value."""
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(kind):
        name = prefix + field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found |= names(field.type, f"{name}.")
        else:
            found[name] = name
    return found


def put(found: dict[str, Any], name: str, value: object) -> None:
    *sections, key = name.split(".")
    for section in sections:
        found = found.setdefault(section, {})
    found[key] = value
