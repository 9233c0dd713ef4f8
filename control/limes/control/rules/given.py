"""Owns the events of cases: rows written as the views show them, turned into what tables hold.

Invariant: a column that the registry does not have is an error, never ignored.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any, Final

import pyarrow as pa
from limes.control.store.columns import arrow_schema
from limes.control.store.entries import Source
from limes.v1 import schema

START: Final = datetime(2026, 3, 1, 3, 40)  # noqa: DTZ001 - naive UTC, as the tables have it
BOOT_NS: Final = 86_400_000_000_000
FIRST_CGROUP: Final = 1000
_WORDS: Final = {"ipv4": 2, "ipv6": 10, "tcp": 6, "udp": 17}
_FILE_TYPES: Final = {"pipe": 1, "character_device": 2, "socket": 12, "internet_socket": 13}
# Of a case alone: when, in which cgroup by path, arguments as a person writes them.
_OWN: Final = frozenset(
    {"at", "host_id", "boot_id", "sensor_epoch", "cgroup_path", "process_command_line"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of a kind, as sensors send it."""

    kind: str
    source: Source
    seq: int
    row: dict[str, Any]

    def table(self) -> pa.Table:
        """Return the row as a batch of one."""
        return pa.Table.from_pylist([self.row], arrow_schema(self.kind))


Given = Sequence[dict[str, dict[str, Any]]]


def events_of(given: Given) -> tuple[Event, ...]:
    """Return the events of a case, each cgroup named by a `cgroup_events` row at the beginning.

    Raises ValueError for an unknown kind or column.
    """
    entries = [_entry(item) for item in given]
    cgroups = _Cgroups()
    rows = [(kind, cgroups.resolve(kind, dict(row))) for kind, row in entries]
    events: list[Event] = []
    for kind, row in (*cgroups.naming, *rows):
        events.append(_event(kind, row, len(events) + 1, len(cgroups.naming)))
    return tuple(events)


class _Cgroups:
    """Gives each cgroup path of a host its id."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], int] = {}
        self.naming: list[tuple[str, dict[str, Any]]] = []

    def resolve(self, kind: str, row: dict[str, Any]) -> dict[str, Any]:
        path = row.pop("cgroup_path", None)
        if path is None or kind == "cgroup_events":
            return row
        key = (row.get("host_id", "host-1"), path)
        if key not in self._ids:
            self._ids[key] = FIRST_CGROUP + len(self._ids)
            naming = {
                "cgroup_id": self._ids[key],
                "cgroup_event_path": path,
                "event_action": "seen",
            }
            own = {
                name: row[name] for name in ("host_id", "boot_id", "sensor_epoch") if name in row
            }
            self.naming.append(("cgroup_events", naming | own | {"at": 0.0}))
        return row | {"cgroup_id": self._ids[key]}


def _entry(item: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    if len(item) != 1:
        raise ValueError(f"an event is one kind with its columns, not {', '.join(item)}")
    kind, row = next(iter(item.items()))
    if kind not in schema.KINDS:
        raise ValueError(f"{kind} is no kind of event; there are {', '.join(schema.KINDS)}")
    return kind, row


def _event(kind: str, row: dict[str, Any], seq: int, first: int) -> Event:
    columns = {column.name: column for column in schema.KINDS[kind].columns}
    source = Source(
        row.get("host_id", "host-1"), row.get("boot_id", "boot-1"), row.get("sensor_epoch", 1)
    )
    at = float(row.get("at", max(0, seq - first)))
    full: dict[str, Any] = {
        name: "" if column.type == "string" else False if column.type == "bool" else 0
        for name, column in columns.items()
    }
    full |= {"event_seq": seq, "event_time": START + timedelta(seconds=at)}
    full |= {"event_boot_time_ns": BOOT_NS + round(at * 1e9), "event_action": 1}
    given = _values(kind, {name: value for name, value in row.items() if name not in _OWN})
    if "process_command_line" in row:
        given["process_args"] = _nul_ended(shlex.split(row["process_command_line"]))
    unknown = [name for name in given if name not in columns]
    if unknown:
        raise ValueError(f"{kind} has no column {', '.join(unknown)}")
    full |= {name: value for name, value in _defaults(given, seq).items() if name in columns}
    full |= {name: value for name, value in given.items() if value is not None}
    return Event(kind=kind, source=source, seq=seq, row=full)


def _values(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    """Turn words, addresses and lists into what the tables hold."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if name == "event_action":
            if value not in schema.KINDS[kind].actions:
                raise ValueError(f"{kind} has no event_action {value}")
            out[name] = schema.KINDS[kind].actions[value]
        elif name in ("source_ip", "destination_ip"):
            address = ip_address(value)
            number = int(address) + (0xFFFF << 32 if address.version == 4 else 0)
            out |= {f"{name}_hi": number >> 64, f"{name}_lo": number & (2**64 - 1)}
            if name == "destination_ip":
                out.setdefault("network_type", 2 if address.version == 4 else 10)
        elif name in ("network_type", "network_transport"):
            out[name] = _WORDS[value]
        elif name in ("process_stdin", "process_stdout", "process_stderr"):
            out[name] = _FILE_TYPES[value]
        elif name == "process_args" and isinstance(value, list):
            out[name] = _nul_ended(value)
        else:
            out[name] = value
    return out


def _defaults(given: dict[str, Any], seq: int) -> dict[str, Any]:
    """Return what a row need not say: one process an image, TCP, no result yet."""
    image = given.get("process_exec_id", 0)
    defaults = {
        "process_entity_id": image,
        "process_pid": image % 32768,
        "process_parent_entity_id": given.get("process_parent_exec_id", 0),
        "connection_id": seq,
        "network_transport": _WORDS["tcp"],
        "connection_error": -1,
        "file_links": 1,
    }
    if executable := given.get("process_executable"):
        defaults |= {
            "process_args": _nul_ended([executable]),
            "process_name": executable.rsplit("/", 1)[-1][:15],
        }
    return defaults


def _nul_ended(arguments: Sequence[str]) -> str:
    return "".join(f"{argument}\0" for argument in arguments)
