"""Events in words: short, true, and safe to print."""

import errno
from typing import Any

import pytest
from limes.cli.output import safe
from limes.cli.show.words import duration, say, size
from limes.v1 import schema

BASE: dict[str, Any] = {
    "process_executable": "/usr/bin/ssh",
    "process_pid": 7,
    "process_parent_pid": 6,
    "network_transport": "tcp",
    "destination_ip": "203.0.113.9",
    "destination_port": 22,
    "connection_error": 0,
    "connection_duration_ns": 1_500_000_000,
    "source_bytes": 1234,
    "destination_bytes": 0,
}


def words(kind: str, **row: Any) -> str:
    return say(kind, {**BASE, **row}).what


def test_an_exec_shows_its_whole_command_line() -> None:
    """With what is odd about it behind."""
    row = {"event_action": "exec", "process_command_line": "ssh -N -R 1:b:2 c"}
    assert words("process_execs", process_flags=0, **row) == "ssh -N -R 1:b:2 c"
    flagged = words("process_execs", process_flags=2 | 16, **row)
    assert flagged == "ssh -N -R 1:b:2 c  [from a memfd, secrets replaced]"


@pytest.mark.parametrize(
    ("action", "error", "result"),
    [
        ("connection_established", 0, "established"),
        ("connection_failed", errno.ECONNREFUSED, "refused (ECONNREFUSED)"),
        ("connection_failed", errno.ETIMEDOUT, "no answer (ETIMEDOUT)"),
        ("connection_failed", errno.EACCES, "failed (EACCES)"),
        ("connection_failed", None, "no result"),
        ("connection_attempted", None, "attempted"),
    ],
)
def test_a_connect_shows_where_to_and_what_came_of_it(
    action: str, error: int | None, result: str
) -> None:
    """The result is a word and the name of the errno."""
    said = words("connections", event_action=action, connection_error=error)
    assert said == f"ssh → 203.0.113.9:22  {result}"


def test_a_closed_connection_shows_bytes_and_time() -> None:
    """Both ways."""
    said = words("connections", event_action="connection_closed")
    assert said == "ssh → 203.0.113.9:22  1.2 kB out, 0 B in, 1.5 s"


def test_ipv6_and_udp_are_told_apart() -> None:
    """An address of version 6 is in brackets, a protocol other than TCP is named."""
    row = {"destination_ip": "fd00::1", "network_transport": "udp", "destination_port": 53}
    said = words("connections", event_action="connection_attempted", **row)
    assert said == "ssh → [fd00::1]:53 udp  attempted"


@pytest.mark.parametrize("name", ["nvidia0", "nvidia0 (simulated device)"])
@pytest.mark.parametrize("kind", ["gpu_events", "gpu_activity"])
def test_a_simulated_device_is_called_one(kind: str, name: str) -> None:
    """Once, whatever its name says already."""
    row = {"gpu_device_name": name, "gpu_device_simulated": True, "gpu_calls": 9, "gpu_call": 1}
    assert words(kind, **row).count("simulated device") == 1


def test_a_real_device_is_not_called_simulated() -> None:
    """The mark is the event's, not the name's."""
    row = {"gpu_device_name": "nvidia0", "gpu_device_simulated": False}
    assert words("gpu_events", **row) == "ssh: first call on nvidia0"


def test_every_kind_has_words() -> None:
    """A new kind of event cannot be forgotten."""
    for kind in schema.KINDS:
        with pytest.raises(KeyError) as missing:
            say(kind, {})
        assert missing.value.args[0] != kind


@pytest.mark.parametrize("text", ["\x1b[2J", "a\rb", "a\nb", "\u202e", "\x9b31m"])
def test_what_a_terminal_would_act_on_is_escaped(text: str) -> None:
    """Command lines are an attacker's to choose."""
    assert safe(text).isprintable()
    row = {"event_action": "exec", "process_flags": 0, "process_command_line": text}
    assert words("process_execs", **row).isprintable()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (10**15, "1000.0 TB")],
)
def test_sizes(count: int, text: str) -> None:
    """In units of 1000."""
    assert size(count) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(1500, "2 µs"), (2_000_000, "2 ms"), (90 * 10**9, "90.0 s"), (600 * 10**9, "10 min")],
)
def test_durations(nanoseconds: int, text: str) -> None:
    """In the unit a person would choose."""
    assert duration(nanoseconds) == text
