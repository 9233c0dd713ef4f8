"""The sensor's configuration: one TOML file; defaults < file < LIMES_SENSOR_* < flags.

Every key is documented in sensor.example.toml; a test compares the two in both directions.
"""

import os
import socket
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from limes.sensor.errors import ConfigError

PREFIX: Final = "LIMES_SENSOR_"
DEFAULT_STATE: Final = Path("/var/lib/limes")

Positive = Annotated[int, msgspec.Meta(ge=1)]


class GpuNode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device node to watch beside those of the GPU drivers."""

    path: Path
    name: str
    simulated: bool = False

    def device(self) -> tuple[int, int]:
        """Major and minor number of the node. Raises ConfigError when it is no device node."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise ConfigError(
                f"Looked for the device node {self.path} of gpu_extra_nodes: {error.strerror}. "
                "Make it before the sensor starts, or take it out."
            ) from error
        if not stat.S_ISCHR(status.st_mode):
            raise ConfigError(
                f"Looked for the device node {self.path} of gpu_extra_nodes: it is no character "
                "device. Name a device node."
            )
        return os.major(status.st_rdev), os.minor(status.st_rdev)


class SensorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it. Paths that are not given lie under `state`."""

    host_id: str = ""
    control: str = "127.0.0.1:7443"
    state: Path = DEFAULT_STATE
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    scope: tuple[str, ...] = ("/",)
    plan: Literal["auto", "fentry", "tracepoint"] = "auto"
    loader: Literal["auto", "libbpf", "bcc", "replay"] = "auto"
    syscall_hooks: bool = False
    allow_syscall_hooks_on_whole_host: bool = False
    gpu_extra_nodes: tuple[GpuNode, ...] = ()
    redact: bool = True

    drain_min_ms: Positive = 10
    drain_max_ms: Positive = 100
    flush_ms: Positive = 200
    flush_rows: Positive = 20_000

    spool: Path | None = None
    spool_mib: Positive = 1024

    replay_file: Path | None = None
    record_file: Path | None = None

    @property
    def host(self) -> str:
        """The host's id: as configured, else the host name."""
        return self.host_id or socket.gethostname()

    @property
    def ca_path(self) -> Path:
        """Certificate of the authority that signed the control plane's certificate."""
        return self.ca or self.state / "ca/ca.crt"

    @property
    def certificate_path(self) -> Path:
        """Certificate of this sensor."""
        return self.certificate or self.state / f"certs/{self.host}.crt"

    @property
    def key_path(self) -> Path:
        """Key of this sensor's certificate."""
        return self.key or self.state / f"certs/{self.host}.key"

    @property
    def spool_path(self) -> Path:
        """Folder of the spool."""
        return self.spool or self.state / "sensor/spool"

    @property
    def whole_host(self) -> bool:
        """True when every cgroup is in scope."""
        return "/" in self.scope


def load_config(
    path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
) -> SensorConfig:
    """Return the configuration from the file at `path`, the environment, `overrides`, `settings`.

    Overrides of None are left out; settings are texts KEY=VALUE. Raises ConfigError, naming the
    file, variable or setting, and the key.
    """
    found: dict[str, Any] = {}
    if path is not None:
        found = _read(path)
        _convert(found, str(path))
    variables = os.environ if environment is None else environment
    for variable in sorted(name for name in variables if name.startswith(PREFIX)):
        found[variable.removeprefix(PREFIX).lower()] = _value(variable, variables[variable])
        _convert(found, variable)
    for name, value in (overrides or {}).items():
        if value is not None:
            found[name] = str(value) if isinstance(value, Path) else value
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"Cannot parse the setting {setting!r}: write KEY=VALUE.")
        found[key] = _value(setting, value)
        _convert(found, setting)
    config = _convert(found, "the command line")
    _check(config)
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"Cannot read configuration {path}: {error.strerror}. Give another with --config."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot parse configuration {path}: {error}. Mend that line.") from error


def _value(source: str, text: str) -> object:
    """The value of a variable or setting: a list in TOML's form, else the text itself."""
    if not text.startswith("["):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"Cannot parse {text!r} of {source}: {error}. Write a list as TOML does."
        ) from error


def _convert(found: dict[str, Any], source: str) -> SensorConfig:
    """Check `found`; numbers may be given as text, as the environment has them."""
    try:
        return msgspec.convert(found, SensorConfig, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"Cannot use the configuration from {source}: {error}. "
            "sensor.example.toml documents every key."
        ) from error


def _path(kind: type, value: object) -> object:
    """Paths, which msgspec does not know."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"{kind} in the configuration")


def _check(config: SensorConfig) -> None:
    """Conflicts between keys."""
    for path in config.scope:
        if not path.startswith("/") or ".." in path.split("/"):
            raise ConfigError(
                f"scope has {path!r}: write cgroup paths below the cgroup v2 root, such as "
                '"/system.slice", or "/" for the whole host.'
            )
    if not config.scope:
        raise ConfigError('scope is empty: name at least one cgroup, or "/" for the whole host.')
    if config.drain_min_ms > config.drain_max_ms:
        raise ConfigError(
            f"drain_min_ms is {config.drain_min_ms}, more than drain_max_ms = "
            f"{config.drain_max_ms}: swap them."
        )
    if (config.loader == "replay") != (config.replay_file is not None):
        raise ConfigError(
            f'loader is "{config.loader}" and replay_file is {config.replay_file}: '
            'give both loader = "replay" and replay_file, or neither.'
        )
    if config.syscall_hooks and config.whole_host and not config.allow_syscall_hooks_on_whole_host:
        raise ConfigError(
            "syscall_hooks slow every system call, and scope is the whole host: narrow scope, "
            "or set allow_syscall_hooks_on_whole_host = true."
        )
    if "/" in config.host:
        raise ConfigError(f"host_id is {config.host!r}: it names files, so it cannot hold a slash.")
