"""Owns what a rule is: identity, severity, SQL, and how its hits become alerts.

Invariant: the id of a rule never changes, and its SQL does not change without its version.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Severity = Literal["low", "medium", "high", "critical"]
Status = Literal["experimental", "test", "stable"]

SEVERITIES: Final[tuple[Severity, ...]] = ("low", "medium", "high", "critical")
SIGNALS: Final = "signals"

# What the SQL of every rule returns, by name; further columns are refused.
RESULT_COLUMNS: Final[dict[str, str]] = {
    "event_time": "TIMESTAMP",
    "host_id": "VARCHAR",
    "boot_id": "VARCHAR",
    "cgroup_id": "UBIGINT",
    "cgroup_path": "VARCHAR",
    "process_entity_id": "UBIGINT",
    "process_exec_id": "UBIGINT",
    "summary": "VARCHAR",
    "evidence": "STRUCT(kind VARCHAR, sensor_epoch UBIGINT, event_seq UBIGINT)[]",
    "simulated_device": "BOOLEAN",
}
_COMMENT: Final = re.compile(r"('(?:[^']|'')*')|--[^\n]*")
_NEW: Final = re.compile(r"\bnew_([a-z_]+)\b")
_SPACE: Final = re.compile(r"\s+")


def bare(sql: str) -> str:
    """Return SQL without comments and with single spaces."""
    return _SPACE.sub(" ", _COMMENT.sub(r"\1", sql)).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, as loaded. `window` and `dedup_window` are seconds."""

    id: str
    name: str
    version: int
    status: Status
    severity: Severity
    description: str
    attack: tuple[str, ...]
    requires: dict[str, tuple[str, ...]]
    false_positives: tuple[str, ...]
    blind_spots: tuple[str, ...]
    triage: tuple[str, ...]
    references: tuple[str, ...]
    dedup_key: tuple[str, ...]
    dedup_window: int
    window: int
    sql: str
    path: Path
    pack: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds whose arrival makes it run: those it reads as `new_<kind>`."""
        return tuple(sorted(set(_NEW.findall(bare(self.sql)))))

    @property
    def on_signals(self) -> bool:
        """True when it reads the hits of other rules, and runs after them."""
        return SIGNALS in self.kinds

    @property
    def sql_hash(self) -> str:
        """SHA-256 of the SQL without comments and spacing."""
        return hashlib.sha256(bare(self.sql).encode()).hexdigest()

    @property
    def sql_path(self) -> Path:
        return self.path.with_suffix(".sql")

    @property
    def cases_path(self) -> Path:
        return self.path.with_suffix(".cases.yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Rules that are shipped, locked and tested together, in order of name."""

    name: str
    path: Path
    description: str
    rules: tuple[Rule, ...]

    @property
    def lock_path(self) -> Path:
        return self.path / "versions.lock"
