"""Owns the judgement of a drill: exactly the expected alerts, nothing lost, no signal blind.

Invariant: it is made from what the store holds after everything was committed and read.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from limes.cli.live.watch import Seen
from limes.cli.show.alerts import latency_ns, severity
from limes.v1 import admin_service_pb2, alert_service_pb2, schema

Pair = tuple[str, str]
"""Rule and cgroup path."""

# A counter of these says that something was not seen twice, not that it was not seen.
_HARMLESS = frozenset(c.name for c in schema.COUNTERS if c.loses.startswith("nothing"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run came to. `expected` is None when nothing in particular was.

    `broken` rules, each with its error, found nothing that they should have: no verdict holds.
    """

    expected: tuple[Pair, ...] | None
    alerts: tuple[alert_service_pb2.Alert, ...]
    events: dict[str, int]
    plan: dict[str, str]
    loader: str
    losses: dict[str, int]
    blind: tuple[str, ...]
    broken: dict[str, str]
    database: str

    @property
    def seen(self) -> Counter[Pair]:
        """Each alert's rule and cgroup, and how often it came."""
        return Counter((alert.rule, alert.cgroup_path) for alert in self.alerts)

    @property
    def missing(self) -> tuple[Pair, ...]:
        """What was expected and did not come."""
        return tuple(sorted((Counter(self.expected or ()) - self.seen).elements()))

    @property
    def unexpected(self) -> tuple[Pair, ...]:
        """What came and was not expected, or came once more than expected."""
        if self.expected is None:
            return ()
        return tuple(sorted((self.seen - Counter(self.expected)).elements()))

    @property
    def lost(self) -> int:
        """Events counted as lost on their way."""
        return sum(self.losses.values())

    @property
    def ok(self) -> bool:
        """True when exactly the expected alerts came, nothing was lost, every signal was seen.

        And every rule ran.
        """
        return not (self.missing or self.unexpected or self.lost or self.blind or self.broken)

    def latencies_ms(self) -> list[float]:
        """Time from event to alert of each alert, in milliseconds, ascending."""
        return sorted(latency_ns(alert) / 1e6 for alert in self.alerts)

    def plain(self) -> dict[str, Any]:
        """Return it as values for JSON."""
        expected = self.expected or ()
        return {
            "ok": self.ok,
            "expected": [{"rule": rule, "cgroup": cgroup} for rule, cgroup in expected],
            "missing": [{"rule": rule, "cgroup": cgroup} for rule, cgroup in self.missing],
            "unexpected": [{"rule": rule, "cgroup": cgroup} for rule, cgroup in self.unexpected],
            "alerts": [
                {
                    "rule": alert.rule,
                    "cgroup": alert.cgroup_path,
                    "severity": severity(alert),
                    "simulated_device": alert.simulated_device,
                    "latency_ms": round(latency_ns(alert) / 1e6, 1),
                }
                for alert in self.alerts
            ],
            "events": self.events,
            "plan": self.plan,
            "blind": list(self.blind),
            "broken_rules": self.broken,
            "loader": self.loader,
            "latency_ms": latency_summary(self.latencies_ms()),
            "losses": self.losses,
            "database": self.database,
        }


def judge(
    seen: Seen,
    alerts: Sequence[alert_service_pb2.Alert],
    expected: Iterable[Pair] | None,
    *,
    loader: str,
    database: str,
    rules: Iterable[admin_service_pb2.RuleStatus] = (),
) -> Verdict:
    """Return the verdict on a run."""
    losses = {cause: count for cause, count in seen.losses.items() if count}
    return Verdict(
        expected=None if expected is None else tuple(expected),
        alerts=tuple(alerts),
        events=dict(sorted(seen.events.items())),
        plan=seen.plan(),
        loader=loader,
        losses={cause: count for cause, count in losses.items() if cause not in _HARMLESS},
        blind=tuple(seen.blind()),
        broken={rule.rule: rule.error for rule in rules if rule.error},
        database=database,
    )


def latency_summary(values: Sequence[float]) -> dict[str, float] | None:
    """Return median, 99th percentile (nearest rank) and greatest; None without any value."""
    if not values:
        return None
    return {name: round(values[_rank(len(values), share)], 1) for name, share in _SHARES.items()}


_SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


def _rank(count: int, share: float) -> int:
    return max(0, math.ceil(count * share) - 1)
