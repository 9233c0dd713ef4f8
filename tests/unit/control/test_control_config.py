"""The control plane's configuration: sources, their order, faults."""

import tomllib
from pathlib import Path

import msgspec
import pytest
from limes.control.config import ControlConfig, load_config
from limes.control.errors import ConfigError

EXAMPLE = Path(__file__).parents[3] / "control" / "control.example.toml"


def file(folder: Path, text: str) -> Path:
    path = folder / "control.toml"
    path.write_text(text)
    return path


def keys(kind: type[msgspec.Struct], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found |= keys(field.type, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = field.default
    return found


def test_the_example_is_the_defaults() -> None:
    """Every value that the shipped example sets is the default."""
    assert load_config(EXAMPLE, environment={}) == ControlConfig()


def test_the_example_documents_every_key_and_no_other() -> None:
    """A key is there with its default, or as a comment when its default follows from another."""
    section, found = "", set()
    for line in EXAMPLE.read_text().splitlines():
        text = line.removeprefix("# ")
        if text.startswith("["):
            section = text.strip("[]") + "."
        elif " = " in text and text.partition(" = ")[0].isidentifier():
            found.add(section + text.partition(" = ")[0])
    assert found | {"ingest.labels"} == set(keys(ControlConfig))


def test_the_example_states_a_default_for_every_key() -> None:
    """Each comment ends with it."""
    lines = EXAMPLE.read_text().splitlines()
    values = tomllib.loads(EXAMPLE.read_text())
    assert values["listen"] == "127.0.0.1:7443"
    for number, line in enumerate(lines):
        if " = " in line and line.partition(" = ")[0].isidentifier():
            assert "Default: " in lines[number - 1], line


def test_flags_beat_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    """Defaults < file < environment < flags."""
    path = file(tmp_path, 'listen = "a:1"\nthreads = 9\n[store]\nthreads = 1\nmemory_limit = "1GB"')
    environment = {"LIMES_CONTROL_THREADS": "10", "LIMES_CONTROL_STORE_THREADS": "2"}
    found = load_config(path, {"store.threads": 3, "listen": None}, environment=environment)
    assert (found.listen, found.threads) == ("a:1", 10)
    assert (found.store.threads, found.store.memory_limit) == (3, "1GB")


def test_paths_follow_from_the_state_directory(tmp_path: Path) -> None:
    """Certificates and database lie under `state` unless they are given."""
    found = load_config(None, {"state": tmp_path, "key": "/elsewhere/key"}, environment={})
    assert found.database == tmp_path / "control/limes.duckdb"
    assert found.ca_path == tmp_path / "ca/ca.crt"
    assert found.certificate_path == tmp_path / "certs/control.crt"
    assert found.key_path == Path("/elsewhere/key")


def test_labels_are_by_host(tmp_path: Path) -> None:
    """What the operator calls a host is sent to its sensor."""
    path = file(tmp_path, '[ingest.labels]\n"node-17" = { site = "hall-2" }')
    assert load_config(path, environment={}).ingest.labels == {"node-17": {"site": "hall-2"}}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("threads = ", "Cannot parse configuration .*control.toml"),
        ("treads = 3", "control.toml: .*treads"),
        ("threads = 2", r"control.toml: .*>= 8.*threads"),
        ("[store]\nthreads = -1", "threads"),
        ("[ingest]\ngroup_rows = 0", "group_rows"),
        ("state = 3", "state"),
        ('log_level = "loud"', "log_level"),
    ],
)
def test_a_fault_in_the_file_names_file_and_key(tmp_path: Path, text: str, fault: str) -> None:
    """One line says where and what."""
    with pytest.raises(ConfigError, match=fault) as found:
        load_config(file(tmp_path, text), environment={})
    assert "\n" not in str(found.value)


def test_a_fault_in_the_environment_names_the_variable() -> None:
    """The variable and the key are in the message."""
    with pytest.raises(ConfigError, match=r"LIMES_CONTROL_THREADS \(key threads\)"):
        load_config(None, environment={"LIMES_CONTROL_THREADS": "many"})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The message names the file and the flag."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file.*--config"):
        load_config(tmp_path / "nowhere.toml", environment={})


def test_a_relative_state_directory_is_made_absolute() -> None:
    """A hunt's worker runs in another directory: a relative path would name nothing there."""
    settings = load_config(None, {"state": "state"}, environment={})
    assert settings.state == Path.cwd() / "state"
