"""Owns what an alert is, between the engine that raises it and the service that sends it.

Invariant: the summary of an alert of a simulated device says "simulated device".
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

SIMULATED: Final = "simulated device"
EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC, as the tables have it


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceId:
    """Where one event is found: kind, start of the sensor, sequence number."""

    kind: str
    sensor_epoch: int
    event_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessNode:
    """One process of a tree, with the image it ran."""

    process_entity_id: int
    process_exec_id: int
    process_pid: int
    process_executable: str
    process_command_line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. Times are naive UTC; `number` counts in the order of raising, from 1."""

    number: int
    alert_id: str
    raised_at: datetime
    rule_id: str
    rule: str
    rule_version: int
    severity: str
    attack: tuple[str, ...]
    summary: str
    event_time: datetime
    host_id: str
    boot_id: str
    cgroup_id: int
    cgroup_path: str
    cgroup_ancestors: tuple[str, ...]
    process_entity_id: int
    process_exec_id: int
    process_tree: tuple[ProcessNode, ...]
    evidence: tuple[EvidenceId, ...]
    simulated_device: bool
    dedup_key: str


def ancestors(cgroup_path: str) -> tuple[str, ...]:
    """Return the paths above a cgroup, innermost first; none for an unattributed one."""
    if not cgroup_path.startswith("/") or cgroup_path == "/":
        return ()
    levels = cgroup_path.strip("/").split("/")
    return tuple("/" + "/".join(levels[:end]) for end in range(len(levels) - 1, -1, -1))


def labelled(summary: str, *, simulated: bool) -> str:
    """Return the summary, saying that the device is simulated when it is."""
    if simulated and SIMULATED not in summary:
        return f"{summary} ({SIMULATED})"
    return summary
