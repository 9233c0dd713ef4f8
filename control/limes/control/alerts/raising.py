"""Owns the step from hits to alerts and signals, within the engine's transaction.

Invariant: one alert a rule, version, host and entity as long as its hits lie less than the rule's
dedup_window apart from it; every further hit is a signal that names that alert.
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import duckdb
from limes.control.alerts.model import ancestors
from limes.control.alerts.tree import ProcessWalk
from limes.control.rules.hits import Hit
from limes.control.rules.model import Rule
from limes.control.store import query


@dataclass(slots=True, kw_only=True)
class Raised:
    """What one transaction raised; `first_alert` is 0 when it raised none."""

    alerts: int = 0
    signals: int = 0
    last_alert: int = 0


class Raiser:
    """Writes hits as alerts and signals on the engine's connection."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor

    def raise_all(self, hits: list[tuple[Rule, Hit]]) -> Raised:
        """Insert what is new; the caller commits."""
        raised = Raised()
        for rule, hit in hits:
            alert_id = self._open_alert(rule, hit)
            if alert_id is None:
                alert_id = alert_key(rule, hit)
                number = self._insert_alert(rule, hit, alert_id)
                raised.alerts += number > 0
                raised.last_alert = max(raised.last_alert, number)
            raised.signals += self._insert_signal(rule, hit, alert_id)
        return raised

    def _open_alert(self, rule: Rule, hit: Hit) -> str | None:
        row = self._cursor.execute(
            query.text("open_alert"),
            [rule.id, rule.version, hit.host_id, hit.dedup_key, hit.event_time, rule.dedup_window],
        ).fetchone()
        return None if row is None else str(row[0])

    def _insert_alert(self, rule: Rule, hit: Hit, alert_id: str) -> int:
        """Return the number of the new alert; 0 when there is one of this id."""
        walk = ProcessWalk(cursor=self._cursor, host_id=hit.host_id, boot_id=hit.boot_id)
        tree = walk.tree(hit.process_entity_id, hit.process_exec_id)
        values = [
            self._last("last_alert_number") + 1,
            alert_id,
            datetime.now(UTC).replace(tzinfo=None),
            rule.id,
            rule.name,
            rule.version,
            rule.severity,
            list(rule.attack),
            hit.summary,
            hit.event_time,
            hit.host_id,
            hit.boot_id,
            hit.cgroup_id,
            hit.cgroup_path,
            list(ancestors(hit.cgroup_path)),
            hit.process_entity_id,
            hit.process_exec_id,
            [asdict(node) for node in tree],
            [asdict(item) for item in hit.evidence],
            hit.simulated_device,
            hit.dedup_key,
        ]
        row = self._cursor.execute(query.text("insert_alert"), values).fetchone()
        return 0 if row is None else int(row[0])

    def _insert_signal(self, rule: Rule, hit: Hit, alert_id: str) -> bool:
        values = [
            self._last("last_signal_number") + 1,
            alert_id,
            rule.id,
            rule.name,
            rule.version,
            rule.severity,
            hit.summary,
            hit.event_time,
            hit.host_id,
            hit.boot_id,
            hit.cgroup_id,
            hit.cgroup_path,
            hit.process_entity_id,
            hit.process_exec_id,
            [asdict(item) for item in hit.evidence],
            hit.simulated_device,
            hit.dedup_key,
        ]
        return self._cursor.execute(query.text("insert_signal"), values).fetchone() is not None

    def _last(self, statement: str) -> int:
        row = self._cursor.execute(query.text(statement)).fetchone()
        return int(row[0]) if row else 0


def alert_key(rule: Rule, hit: Hit) -> str:
    """Return the stable id of the alert a hit raises: rule, version, host, entity, time bucket."""
    seconds = int((hit.event_time - datetime(1970, 1, 1)).total_seconds())  # noqa: DTZ001 - naive UTC
    bucket = seconds // rule.dedup_window
    parts = [rule.id, str(rule.version), hit.host_id, hit.dedup_key, str(bucket)]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
