"""Configuration: every key documented, precedence, and messages that name the key."""

import os
import stat
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest
from limes.sensor import launch
from limes.sensor.config import GpuNode, SensorConfig, load_config
from limes.sensor.errors import ConfigError

EXAMPLE = Path(__file__).parents[3] / "sensor/sensor.example.toml"
OPTIONAL = {"ca", "certificate", "key", "spool", "replay_file", "record_file"}


def load(
    tmp_path: Path, text: str = "", overrides: dict[str, object] | None = None, **environment: str
) -> SensorConfig:
    path = tmp_path / "sensor.toml"
    path.write_text(text)
    return load_config(path, overrides, environment=environment)


def test_example_has_every_key_and_no_other() -> None:
    """Keys without a default are there as a comment."""
    text = EXAMPLE.read_text()
    given = tomllib.loads(text)
    commented = {
        line[2:].split(" = ")[0]
        for line in text.splitlines()
        if line.startswith("# ") and " = " in line
    } & OPTIONAL
    assert given.keys() | commented == set(SensorConfig.__struct_fields__)
    assert commented == OPTIONAL


def test_example_is_the_default() -> None:
    """What the example says is what happens without a file."""
    assert load_config(EXAMPLE, environment={}) == load_config(None, environment={})


def test_each_key_of_the_example_is_explained() -> None:
    """A comment stands right above every key, or above the key it goes with."""
    lines = EXAMPLE.read_text().splitlines()
    with_pair = {"drain_max_ms", "flush_rows"}
    for number, line in enumerate(lines):
        key = line.removeprefix("# ").split(" = ")[0]
        if key in set(SensorConfig.__struct_fields__) - with_pair:
            assert lines[number - 1].startswith("# "), key


def test_flags_override_environment_overrides_file_overrides_default(tmp_path: Path) -> None:
    """The nearest to the person wins; None means not given."""
    text = 'host_id = "file"\ncontrol = "file:1"\nlog_level = "debug"\n'
    config = load(
        tmp_path,
        text,
        {"host_id": "flag", "control": None, "state": Path("/srv")},
        LIMES_SENSOR_HOST_ID="environment",
        LIMES_SENSOR_CONTROL="environment:1",
        LIMES_SENSOR_SPOOL_MIB="7",
        LIMES_SENSOR_SYSCALL_HOOKS="true",
        LIMES_SENSOR_SCOPE='["/job_1", "/job_2"]',
        HOME="/root",
    )
    assert (config.host_id, config.control, config.log_level) == ("flag", "environment:1", "debug")
    assert (config.spool_mib, config.syscall_hooks) == (7, True)
    assert config.scope == ("/job_1", "/job_2")
    assert config.state == Path("/srv")


def test_paths_lie_under_state_unless_named() -> None:
    """One folder is enough for a start."""
    config = SensorConfig(host_id="gpu-07", state=Path("/s"))
    assert config.ca_path == Path("/s/ca/ca.crt")
    assert config.certificate_path == Path("/s/certs/gpu-07.crt")
    assert config.key_path == Path("/s/certs/gpu-07.key")
    assert config.spool_path == Path("/s/sensor/spool")
    assert msgspec.structs.replace(config, ca=Path("/x"), spool=Path("/y")).ca_path == Path("/x")


def test_host_id_defaults_to_the_host_name() -> None:
    """As `limes ca issue` would name it."""
    assert SensorConfig().host == os.uname().nodename


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scpoe = []", ["scpoe", "sensor.toml"]),
        ("spool_mib = 0", ["spool_mib"]),
        ('spool_mib = "much"', ["spool_mib"]),
        ('plan = "kprobe"', ["plan", "kprobe"]),
        ("scope = []", ["scope is empty"]),
        ('scope = ["job_1"]', ["'job_1'", '"/system.slice"']),
        ('scope = ["/a/../b"]', ["'/a/../b'"]),
        ("drain_min_ms = 180", ["drain_min_ms is 180", "drain_max_ms = 100"]),
        ('loader = "replay"', ["replay_file"]),
        ('replay_file = "x"', ['loader = "replay"']),
        ("syscall_hooks = true", ["allow_syscall_hooks_on_whole_host"]),
        ('host_id = "a/b"', ["slash"]),
        ("host_id = ", ["Cannot parse", "sensor.toml"]),
        ('gpu_extra_nodes = [{ path = "/dev/x" }]', ["gpu_extra_nodes", "name"]),
    ],
)
def test_mistake_is_one_line_that_names_the_key(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    """What was tried, what was found, what to do."""
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value).strip() or "parse" in str(error.value)


def test_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    """Also a variable that is no key."""
    with pytest.raises(ConfigError, match="LIMES_SENSOR_SPOOL_MIB"):
        load(tmp_path, LIMES_SENSOR_SPOOL_MIB="much")
    with pytest.raises(ConfigError, match="LIMES_SENSOR_SCOPE"):
        load(tmp_path, LIMES_SENSOR_SCOPE="[/a")
    with pytest.raises(ConfigError, match="LIMES_SENSOR_NOPE"):
        load(tmp_path, LIMES_SENSOR_NOPE="1")


def test_missing_file_is_named(tmp_path: Path) -> None:
    """And the flag that gives another."""
    with pytest.raises(ConfigError, match="--config"):
        load_config(tmp_path / "none.toml")


def test_syscall_hooks_on_the_whole_host_need_a_yes_or_a_scope() -> None:
    """Either is enough."""
    said = {"syscall_hooks": True}
    assert load_config(None, {**said, "scope": ["/job_1"]}, environment={}).syscall_hooks
    yes = {**said, "allow_syscall_hooks_on_whole_host": True}
    assert load_config(None, yes, environment={}).whole_host


def test_gpu_node_is_a_device_that_exists(tmp_path: Path) -> None:
    """The number decides, not the name."""
    null = GpuNode(path=Path("/dev/null"), name="x")
    assert null.device() == (1, 3)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="no character device"):
        GpuNode(path=tmp_path / "file", name="x").device()
    with pytest.raises(ConfigError, match="Make it before"):
        GpuNode(path=tmp_path / "none", name="x").device()


def test_settings_survive_the_way_through_a_command_line() -> None:
    """What one program is told reaches the process that it becomes, types included."""
    given: dict[str, object] = {
        "host_id": "gpu-07",
        "scope": ("/a b", '/"c"'),
        "redact": False,
        "spool_mib": 7,
        "state": Path("/srv/x"),
        "plan": None,
    }
    argv = launch.command(Path("/etc/limes/sensor.toml"), given)
    start = argv.index("limes.sensor") + 1
    assert argv[0] == sys.executable
    assert argv[start : start + 2] == ["--config", "/etc/limes/sensor.toml"]
    settings = argv[start + 3 :: 2]
    assert load_config(None, environment={}, settings=settings) == load_config(
        None, given, environment={}
    )


def test_setting_without_a_value_is_a_mistake() -> None:
    """So is one for a key that does not exist."""
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        load_config(None, environment={}, settings=["redact"])
    with pytest.raises(ConfigError, match="nope"):
        load_config(None, environment={}, settings=["nope=1"])
