"""Owns reading alerts back from the store, as values.

Invariant: alerts come in the order of raising.
"""

from typing import Any, Final

import duckdb
from limes.control.alerts.model import Alert, EvidenceId, ProcessNode
from limes.control.store import query

MOST: Final = 1_000_000


def list_alerts(
    cursor: duckdb.DuckDBPyConnection, *, after: int = 0, alert_id: str = "", limit: int = MOST
) -> list[Alert]:
    """Return at most `limit` alerts numbered beyond `after`; with `alert_id`, that one at most."""
    cursor.execute(query.text("list_alerts"), [after, alert_id, limit])
    names = [column[0] for column in cursor.description or ()]
    return [_alert(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _alert(row: dict[str, Any]) -> Alert:
    row["attack"] = tuple(row["attack"])
    row["cgroup_ancestors"] = tuple(row["cgroup_ancestors"])
    row["process_tree"] = tuple(ProcessNode(**node) for node in row["process_tree"])
    row["evidence"] = tuple(EvidenceId(**item) for item in row["evidence"])
    return Alert(**row)
