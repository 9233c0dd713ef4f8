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
    """One rule's place. `retry_at` is in the engine's clock, seconds."""

    rule: Rule
    watermark: int
    saved: int = -1
    status: str = RUNNING
    error: str = ""
    retry_at: float = 0.0

    def fail(self, error: str, retry_at: float) -> None:
        """Mark it failing; it stays where it is until `retry_at`."""
        self.status, self.error, self.retry_at = FAILING, error, retry_at
        self.saved = -1

    def recover(self) -> None:
        """Mark it running again."""
        self.status, self.error = RUNNING, ""
        self.saved = -1


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
        states.append(RuleState(rule=rule, watermark=start))
    return states


def save_state(cursor: duckdb.DuckDBPyConnection, state: RuleState, watermark: int) -> None:
    """Write one rule's place, within the caller's transaction."""
    rule = state.rule
    now = datetime.now(UTC).replace(tzinfo=None)
    cursor.execute(
        query.text("save_rule_state"),
        [rule.id, rule.name, rule.version, watermark, state.status, state.error, now],
    )
