"""Owns the step from hits to alerts and signals, within the engine's transaction.

Invariant: one alert a rule, version, host and entity as long as its hits lie less than the rule's
dedup_window apart from it; every further hit is a signal that names that alert.
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import duckdb
from limes.control.alerts.model import EPOCH, ancestors
from limes.control.alerts.tree import ProcessWalk
from limes.control.rules.hits import Hit
from limes.control.rules.model import Rule
from limes.control.store import query

SIGNAL_WINDOW: Final = timedelta(minutes=5)  # as in insert_signal.sql
REMEMBERED: Final = 10_000
ALERT_NUMBER: Final = "last_alert_number"
SIGNAL_NUMBER: Final = "last_signal_number"

Key = tuple[str, int, str, str, int]


@dataclass(slots=True, kw_only=True)
class Raised:
    """What one transaction raised; `last_alert` is the newest alert's number, 0 without one."""

    alerts: int = 0
    signals: int = 0
    last_alert: int = 0


class Raiser:
    """Writes hits as alerts and signals on the engine's connection.

    It remembers what is in the store anyway, so that a condition which goes on holding costs no
    query; what it does not remember it looks up.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._open: dict[Key, tuple[datetime, str]] = {}
        self._signalled: dict[Key, datetime] = {}
        self._numbers: dict[str, int] = {}

    def forget(self) -> None:
        """Remember nothing: the transaction was rolled back."""
        self._open.clear()
        self._signalled.clear()
        self._numbers.clear()

    def raise_all(self, hits: list[tuple[Rule, Hit]]) -> Raised:
        """Insert what is new; the caller commits."""
        raised = Raised()
        for rule, hit in hits:
            if self._is_known(rule, hit):
                continue
            alert_id = self._alert_of(rule, hit, raised)
            self._signal(rule, hit, alert_id, raised)
        if len(self._open) + len(self._signalled) > REMEMBERED:
            self.forget()
        return raised

    def _is_known(self, rule: Rule, hit: Hit) -> bool:
        """Tell whether an alert and a signal stand for this hit already."""
        opened = self._open.get(_key(rule, hit))
        signalled = self._signalled.get(_key(rule, hit, hit.process_exec_id))
        return (
            opened is not None
            and signalled is not None
            and _near(opened[0], hit, timedelta(seconds=rule.dedup_window))
            and _near(signalled, hit, SIGNAL_WINDOW)
        )

    def _alert_of(self, rule: Rule, hit: Hit, raised: Raised) -> str:
        """Return the id of the alert that a hit belongs to, raising it when there is none."""
        key = _key(rule, hit)
        opened = self._open.get(key)
        if opened is not None and _near(opened[0], hit, timedelta(seconds=rule.dedup_window)):
            return opened[1]
        self._cursor.execute(
            query.text("open_alert"),
            [rule.id, rule.version, hit.host_id, hit.dedup_key, hit.event_time, rule.dedup_window],
        )
        row = self._cursor.fetchone()
        if row is None:
            alert_id = alert_key(rule, hit)
            number = self._insert_alert(rule, hit, alert_id)
            raised.alerts += number > 0
            raised.last_alert = max(raised.last_alert, number)
            self._open[key] = hit.event_time, alert_id
        else:
            self._open[key] = row[1], row[0]
        return self._open[key][1]

    def _insert_alert(self, rule: Rule, hit: Hit, alert_id: str) -> int:
        """Return the number of the new alert; 0 when there is one of this id."""
        walk = ProcessWalk(cursor=self._cursor, host_id=hit.host_id, boot_id=hit.boot_id)
        tree = walk.tree(hit.process_entity_id, hit.process_exec_id)
        values = [
            self._last(ALERT_NUMBER) + 1,
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
        if row is None:
            return 0
        self._numbers[ALERT_NUMBER] = int(row[0])
        return int(row[0])

    def _signal(self, rule: Rule, hit: Hit, alert_id: str, raised: Raised) -> None:
        values = [
            self._last(SIGNAL_NUMBER) + 1,
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
        self._cursor.execute(query.text("insert_signal"), values)
        row = self._cursor.fetchone()
        if row is not None:
            raised.signals += 1
            self._numbers[SIGNAL_NUMBER] = int(row[0])
            self._signalled[_key(rule, hit, hit.process_exec_id)] = hit.event_time

    def _last(self, statement: str) -> int:
        """Return the last number given; nobody else gives any."""
        if statement not in self._numbers:
            row = self._cursor.execute(query.text(statement)).fetchone()
            self._numbers[statement] = int(row[0]) if row else 0
        return self._numbers[statement]


def alert_key(rule: Rule, hit: Hit) -> str:
    """Return the stable id of the alert a hit raises: rule, version, host, entity, time bucket."""
    seconds = int((hit.event_time - EPOCH).total_seconds())
    bucket = seconds // rule.dedup_window
    parts = [rule.id, str(rule.version), hit.host_id, hit.dedup_key, str(bucket)]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def _key(rule: Rule, hit: Hit, exec_id: int = 0) -> Key:
    return rule.id, rule.version, hit.host_id, hit.dedup_key, exec_id


def _near(known: datetime, hit: Hit, window: timedelta) -> bool:
    return abs(known - hit.event_time) < window
