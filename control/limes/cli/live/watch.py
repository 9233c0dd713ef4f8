"""Owns what `limes up` learns from the control plane while it runs: events, hooks, alerts.

Invariant: nothing that is committed after `start` returned is missed; every callback runs in one of
two threads, one at a time.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from limes.cli.errors import ChildError, CommandError
from limes.cli.output import ending_with_reader
from limes.control.client import ControlClient, TailBatch
from limes.control.errors import ControlError
from limes.v1 import alert_service_pb2

_HEARTBEATS: Final = "sensor_health"
_HOOKS: Final = "sensor_hooks"
_LOSSES: Final = "losses"
_PATIENCE: Final = 0.2

Alert = alert_service_pb2.Alert


class Listener(Protocol):
    """Who is told of each batch of events and each alert."""

    def events(self, kind: str, table: pa.Table) -> None:
        """Rows of one kind, as the view of the kind shows them."""

    def alert(self, alert: Alert) -> None:
        """An alert that was just raised."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the watched sensor has sent so far."""

    events: Counter[str] = field(default_factory=Counter)
    hooks: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    heartbeat: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0
    gaps: int = 0

    def told(self) -> int:
        """Return how many sequence numbers are accounted for."""
        return self.events.total() + self.skipped + self.gaps

    def plan(self) -> dict[str, str]:
        """Return the attached hooks of each signal; a signal without any has an empty text."""
        found: dict[str, list[str]] = {}
        for (signal, hook), row in self.hooks.items():
            attached = found.setdefault(signal, [])
            if row["event_action"] == "attached":
                attached.append(hook)
        return {signal: ", ".join(hooks) for signal, hooks in found.items()}

    def blind(self) -> list[str]:
        """Return the signals that no hook serves."""
        return sorted(signal for signal, hooks in self.plan().items() if not hooks)


class Watch:
    """Follows the control plane in threads of its own, for one start of a sensor."""

    def __init__(self, client: ControlClient, listener: Listener) -> None:
        self._client = client
        self._listener = listener
        self._news = threading.Condition()
        self._told = threading.Lock()
        self.epoch = 0
        self._waiting: list[TailBatch] = []
        self._failure: Exception | None = None
        self._stopping = False
        self._threads: list[threading.Thread] = []
        self._alerts_told = 0
        self.seen = Seen()
        self.last_alert_before = 0

    def start(self) -> None:
        """Begin to follow; raises ControlError."""
        numbers = [alert.number for alert in self._client.list_alerts(limit=1_000_000)]
        self.last_alert_before = max(numbers, default=0)
        tail = self._client.tail()
        for name, body in (
            ("tail", lambda: self._follow_events(tail)),
            ("alerts", self._follow_alerts),
        ):
            thread = threading.Thread(target=body, name=f"watch-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def attend(self, epoch: int) -> None:
        """Say which start of a sensor counts; what came of it before is told now."""
        with self._told:
            self.epoch = epoch
            waiting, self._waiting = self._waiting, []
            for batch in waiting:
                self._take(batch)

    def stop(self) -> None:
        """Expect the end of the control plane: no failure is one from now on."""
        self._stopping = True

    def join(self, seconds: float) -> None:
        """Wait for both threads, which end with the control plane."""
        for thread in self._threads:
            thread.join(seconds)

    def wait_heartbeat(self, after: datetime, seconds: float) -> dict[str, Any]:
        """Wait for a heartbeat of the sensor later than `after` (UTC) and return its row."""
        self._wait(
            lambda: bool(self.seen.heartbeat) and self.seen.heartbeat["event_time"] >= after,
            f"a heartbeat of the sensor after {after:%H:%M:%S} UTC",
            seconds,
        )
        return self.seen.heartbeat

    def wait_hooks(self, seconds: float) -> None:
        """Wait until the sensor has said what became of its hooks."""
        self._wait(lambda: bool(self.seen.hooks), "the sensor's hooks", seconds)

    def wait_events(self, last_seq: int, seconds: float) -> None:
        """Wait until every event up to a sequence number was told, or is known to be lost."""
        self._wait(
            lambda: self.seen.told() >= last_seq,
            f"events up to number {last_seq} of the sensor",
            seconds,
        )

    def wait_rules(self, ingest_id: int, seconds: float) -> None:
        """Wait until the rules have read everything up to a commit, held rows included.

        Raises CommandError when for so many seconds they get no further.
        """
        before, deadline, pause = -1, 0.0, 0.05
        while True:
            status = self._client.status()
            if status.rules_ingest_id >= ingest_id and not status.rules_held:
                return
            if status.rules_ingest_id > before:
                before, deadline = status.rules_ingest_id, time.monotonic() + seconds
            elif time.monotonic() > deadline:
                raise CommandError(
                    f"Waited {seconds:.0f} s for the rules to read commit {ingest_id}: they stay "
                    f"at {status.rules_ingest_id}, with {status.rules_held} events held back. Read "
                    "log/control.log in the state directory."
                )
            time.sleep(pause)
            pause = min(1.0, pause * 2)  # a status costs the server a few queries

    def alerts(self, seconds: float) -> list[Alert]:
        """Return the alerts raised since the start, once each was told."""
        found = self._client.list_alerts(after_number=self.last_alert_before, limit=1_000_000)
        last = max((alert.number for alert in found), default=0)
        self._wait(lambda: self._alerts_told >= last, f"alert {last} to be told", seconds)
        return found

    def failure(self) -> Exception | None:
        """Return what ended one of the threads against expectation."""
        return self._failure

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for a condition; raises when for so many seconds no event came either."""
        before, deadline = -1, 0.0
        with self._news:
            while not condition():
                if self._failure is not None:
                    raise self._failure
                if self.seen.told() > before:
                    before, deadline = self.seen.told(), time.monotonic() + seconds
                rest = deadline - time.monotonic()
                if rest <= 0:
                    raise ChildError(
                        f"Waited {seconds:.0f} s for {what}: none came. Read the logs in log/ of "
                        "the state directory."
                    )
                self._news.wait(min(rest, _PATIENCE))

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            with ending_with_reader():
                yield
        except ControlError as error:
            if not self._stopping:
                with self._news:
                    self._failure = error
                    self._news.notify_all()

    def _follow_events(self, tail: Iterator[TailBatch]) -> None:
        with self._noting_failure():
            for batch in tail:
                with self._told:
                    if self.epoch:
                        self._take(batch)
                    else:
                        self._waiting.append(batch)

    def _follow_alerts(self) -> None:
        with self._noting_failure():
            for alert in self._client.follow_alerts(after_number=self.last_alert_before):
                with self._told:
                    self._listener.alert(alert)
                with self._news:
                    self._alerts_told = alert.number
                    self._news.notify_all()

    def _take(self, batch: TailBatch) -> None:
        """Note and tell the rows of the watched start; others are an earlier start's leftovers."""
        own = pc.equal(batch.table["sensor_epoch"], pa.scalar(self.epoch, pa.uint64()))
        table = batch.table.filter(own)
        with self._news:
            self.seen.skipped += batch.skipped
            self.seen.events[batch.kind] += table.num_rows
            if batch.kind in (_HEARTBEATS, _HOOKS, _LOSSES):
                for row in table.to_pylist():
                    self._note(batch.kind, row)
            self._news.notify_all()
        if table.num_rows:
            self._listener.events(batch.kind, table)

    def _note(self, kind: str, row: dict[str, Any]) -> None:
        if kind == _HOOKS:
            self.seen.hooks[row["hook_signal"], row["hook_name"]] = row
        elif kind == _LOSSES:
            self.seen.losses[row["loss_cause"]] += row["loss_count"]
            if row["event_action"] == "gap":  # a row of the server's, for rows that never came
                self.seen.gaps += row["loss_count"] - 1
        else:
            self.seen.heartbeat = {**row, "event_time": row["event_time"].replace(tzinfo=UTC)}
