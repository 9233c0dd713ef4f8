"""Owns what the SQL of a rule gives: hits, checked against the columns every rule must return.

Invariant: a hit is complete; a rule that returns anything else is refused, not guessed at.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import duckdb
from limes.control.alerts.model import EPOCH, EvidenceId, labelled
from limes.control.errors import RuleError
from limes.control.rules.model import RESULT_COLUMNS, Rule

FETCH: Final = 1000
EVIDENCE: Final = 64
SLOT: Final = 300  # seconds; finer than any dedup_window need be
_MUST: Final = ("event_time", "host_id", "summary", "evidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One row that a rule returned. Absent ids are 0, absent texts empty."""

    event_time: datetime
    host_id: str
    boot_id: str
    cgroup_id: int
    cgroup_path: str
    process_entity_id: int
    process_exec_id: int
    summary: str
    evidence: tuple[EvidenceId, ...]
    simulated_device: bool
    dedup_key: str


def run_rule(cursor: duckdb.DuckDBPyConnection, rule: Rule) -> list[Hit]:
    """Run the SQL of a rule and return its hits: the oldest of five minutes an entity and image.

    Raises RuleError when it does not return RESULT_COLUMNS, duckdb.Error when it cannot run.
    """
    cursor.execute(rule.sql)
    names = [column[0] for column in cursor.description or ()]
    check_columns(rule, names)
    first: dict[tuple[str, str, int, int], Hit] = {}
    for row in _rows(cursor):
        hit = _hit(rule, dict(zip(names, row, strict=True)))
        slot = int((hit.event_time - EPOCH).total_seconds()) // SLOT
        key = (hit.host_id, hit.dedup_key, hit.process_exec_id, slot)
        known = first.get(key)
        if known is None or hit.event_time < known.event_time:
            first[key] = hit
    return sorted(first.values(), key=lambda hit: (hit.event_time, hit.dedup_key))


def check_columns(rule: Rule, names: list[str]) -> None:
    """Raise RuleError unless the names are those of RESULT_COLUMNS, in any order."""
    missing = [name for name in RESULT_COLUMNS if name not in names]
    extra = [name for name in names if name not in RESULT_COLUMNS]
    if missing or extra or len(names) != len(RESULT_COLUMNS):
        raise RuleError(
            f"its SQL must return {', '.join(RESULT_COLUMNS)}; "
            f"missing: {', '.join(missing) or '-'}; "
            f"not wanted: {', '.join(extra) or '-'}",
            path=rule.sql_path,
            rule=rule.name,
        )


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(FETCH):
        yield from rows


def _hit(rule: Rule, row: dict[str, Any]) -> Hit:
    absent = [name for name in _MUST if row[name] is None]
    if absent:
        raise RuleError(
            f"its SQL returned a row without {', '.join(absent)}",
            path=rule.sql_path,
            rule=rule.name,
        )
    simulated = bool(row["simulated_device"])
    return Hit(
        event_time=row["event_time"],
        host_id=row["host_id"],
        boot_id=row["boot_id"] or "",
        cgroup_id=row["cgroup_id"] or 0,
        cgroup_path=row["cgroup_path"] or "unattributed",
        process_entity_id=row["process_entity_id"] or 0,
        process_exec_id=row["process_exec_id"] or 0,
        summary=labelled(row["summary"], simulated=simulated),
        evidence=tuple(EvidenceId(**item) for item in row["evidence"][:EVIDENCE]),
        simulated_device=simulated,
        dedup_key=json.dumps([row[name] for name in rule.dedup_key], default=str),
    )
