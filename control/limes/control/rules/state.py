"""Owns how far each rule has read and whether it works, in memory and in the table `rule_state`.

Invariant: what is saved is never ahead of what was read and alerted on.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
from limes.control.rules.model import Rule
from limes.control.store import query

RUNNING = "running"
FAILING = "failing"


@dataclass(slots=True, kw_only=True)
class RuleState:
    """One rule's place. `retry_at` is in the engine's clock; it rests `rest` seconds."""

    rule: Rule
    watermark: int
    saved: int
    status: str = RUNNING
    error: str = ""
    retry_at: float = 0.0
    rest: float = 0.0

    def fail(self, error: str, now: float, *, first: float, most: float) -> None:
        """Mark it failing; it rests `first` seconds, twice as long each time, `most` at most.

        Only one that went well for `most` seconds since it was tried again begins anew.
        """
        again = self.rest > 0 and now <= self.retry_at + most
        self.rest = min(2 * self.rest, most) if again else first
        self.status, self.error, self.retry_at = FAILING, error, now + self.rest

    def recover(self) -> None:
        """Mark it running again."""
        self.status, self.error = RUNNING, ""


def read_states(cursor: duckdb.DuckDBPyConnection, rules: tuple[Rule, ...]) -> list[RuleState]:
    """Return where each rule goes on: a new one where the others are, the first ones at 0.

    Rules on signals count signals, the others commits.
    """
    known = {row[0]: row[2] for row in cursor.execute(query.text("rule_states")).fetchall()}
    states = []
    for rule in rules:
        peers = [
            known[peer.id]
            for peer in rules
            if peer.id in known and peer.on_signals == rule.on_signals
        ]
        start = known.get(rule.id, max(peers, default=0))
        state = RuleState(rule=rule, watermark=start, saved=start)
        save_state(cursor, state)
        states.append(state)
    return states


def save_state(cursor: duckdb.DuckDBPyConnection, state: RuleState) -> None:
    """Write a rule's saved place and how it is, within the caller's transaction."""
    rule = state.rule
    cursor.execute(
        query.text("save_rule_state"),
        [rule.id, rule.name, rule.version, state.saved, state.status, state.error, _now()],
    )


def advance(cursor: duckdb.DuckDBPyConnection, places: dict[str, int]) -> None:
    """Move the saved places of rules, given by id, within the caller's transaction."""
    for place in set(places.values()):
        rules = [rule_id for rule_id, own in places.items() if own == place]
        cursor.execute(query.text("advance_rules"), [place, _now(), rules])


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
