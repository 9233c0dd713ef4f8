"""Owns what a run tells while it goes on and at its end, and how programs get it: JSON lines.

Invariant: the last line is the result; every line is one object with its type.
"""

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from limes.cli.live.verdict import Verdict
from limes.cli.show import alerts, events
from limes.control.hunt.library import ReadyHunt
from limes.control.hunt.output import JSON, json_value, rows
from limes.control.hunt.result import HuntResult
from limes.v1 import alert_service_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What runs, once both processes are ready. `cgroup` and `folder` are shown short, if any."""

    address: str
    database: str
    loader: str
    plan: str
    source: str
    cgroup: str = ""
    folder: str = ""


class Reporter(Protocol):
    """Who tells a run: to a person, or as JSON lines."""

    def started(self, start: Start) -> None:
        """Both processes are ready."""

    def step(self, name: str, label: str, when: datetime) -> None:
        """A step of the drill begins (UTC)."""

    def events(self, kind: str, table: pa.Table) -> None:
        """Events were committed."""

    def alert(self, alert: alert_service_pb2.Alert) -> None:
        """An alert was raised."""

    def trouble(self, name: str, line: Mapping[str, Any]) -> None:
        """A process logged a warning or an error."""

    def settled(self) -> None:
        """Everything so far was committed and read by the rules: no alert of it is to come."""

    def alerts(self, found: Sequence[alert_service_pb2.Alert]) -> None:
        """All alerts of the run, whole."""

    def hunt(self, hunt: ReadyHunt, answer: HuntResult) -> None:
        """A hunt and its answer."""

    def result(self, verdict: Verdict, state: Path) -> None:
        """What came of it."""


class JsonReporter:
    """Tells a run as JSON lines on standard output; troubles go to standard error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settled = False

    def _write(self, **members: Any) -> None:
        line = JSON.encode(members).decode()
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def started(self, start: Start) -> None:
        """One line on what runs."""
        self._write(
            type="started",
            control=start.address,
            database=start.database,
            loader=start.loader,
            plan=start.plan,
            source=start.source,
        )

    def step(self, name: str, label: str, when: datetime) -> None:
        """One line."""
        self._write(type="step", name=name, label=label, started_at=json_value(when))

    def events(self, kind: str, table: pa.Table) -> None:
        """One line an event, with every column of its view; none after the run has settled."""
        with self._lock:
            if not self._settled:
                events.write_json({"type": "event", "kind": kind}, table, sys.stdout)

    def alert(self, alert: alert_service_pb2.Alert) -> None:
        """One line, as it was raised; none after the run has settled."""
        if not self._settled:
            self._write(type="alert", **alerts.plain(alert))

    def trouble(self, name: str, line: Mapping[str, Any]) -> None:
        """One line on standard error, as it was logged."""
        sys.stderr.write(JSON.encode({"process": name, **line}).decode() + "\n")

    def settled(self) -> None:
        """Tell no more events: the result follows."""
        with self._lock:
            self._settled = True

    def alerts(self, found: Sequence[alert_service_pb2.Alert]) -> None:
        """Nothing: each was told as it was raised."""

    def hunt(self, hunt: ReadyHunt, answer: HuntResult) -> None:
        """One line with question, columns and rows."""
        self._write(
            type="hunt",
            name=hunt.name,
            title=hunt.title,
            sql=hunt.sql,
            columns=answer.table.column_names,
            rows=[[json_value(value) for value in row] for row in rows(answer.table)],
        )

    def result(self, verdict: Verdict, state: Path) -> None:  # noqa: ARG002 - for people
        """The last line."""
        self._write(type="result", **verdict.plain())
