"""Owns how a run is told to a person: steps as headings, under each what the sensor saw.

Invariant: in the order in which it happened, and in few lines: what is left out is counted.
"""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from os.path import commonpath
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pyarrow as pa
from limes.cli.layout import arranged
from limes.cli.live.report import Start
from limes.cli.live.timeline import Timeline
from limes.cli.live.verdict import Verdict, latency_summary
from limes.cli.output import console, emit, ending_with_reader, safe
from limes.cli.show import alerts as shown_alerts
from limes.cli.show import events as shown_events
from limes.cli.show.hunts import columns
from limes.cli.show.text import hanging, plural
from limes.cli.show.words import Said, say
from limes.control.hunt.library import ReadyHunt
from limes.control.hunt.result import HuntResult
from limes.v1 import alert_service_pb2
from rich.rule import Rule
from rich.syntax import Syntax
from rich.text import Text

_FOLDER: Final = "$DRILL"
_LINES: Final = 4  # of one step, cgroup and verb that are shown; the others are counted
_SQL_LINES: Final = 16  # a longer hunt is shown by its last SELECT
_PUMP_SECONDS: Final = 0.1
# Shown as they come; of the others a person wants the sum, or nothing.
_TOLD: Final = ("process_execs", "connections", "gpu_events", "losses")
_LOSSES: Final = "losses"
_PAUSE: Final = timedelta(seconds=1)  # without steps, a pause begins a new paragraph
_COUNTED: Final = {"process_forks": "fork", "process_exits": "exit"}
_SKIPPED_ACTIONS: Final = frozenset({"scanned", "connection_attempted", "connection_progress"})
_NAMES: Final = {
    "exec": "more program",
    "connect": "more connect",
    "closed": "more closed connection",
    "gpu": "more first GPU call",
}


class Told(Enum):
    """What a narrator tells, and when."""

    AS_IT_HAPPENS = "everything, as it happens"
    AFTERWARDS = "everything, once all is there: a recording comes faster than it happened"
    ALERTS = "alerts alone"


class Narrator:
    """Tells a run to a person on standard output."""

    def __init__(self, told: Told = Told.AS_IT_HAPPENS) -> None:
        """Begin to tell, in a thread: `told` says what and when."""
        self._told = told
        self._screen = console()
        self._errors = console(sys.stderr)
        self._width = min(self._screen.width, 120)
        self._lock = threading.Lock()
        self._timeline: Timeline[Callable[[], None]] = Timeline()
        self._shown: Counter[tuple[str, str]] = Counter()
        self._hidden: Counter[tuple[str, str]] = Counter()
        self._cgroup = ""
        self._folder = ""
        self._cgroups: set[str] = set()
        self._last: datetime | None = None
        self._ended = threading.Event()
        self._pump = threading.Thread(target=self._tell_due, name="narrator", daemon=True)
        if told is not Told.AFTERWARDS:
            self._pump.start()

    # ------------------------------------------------------------ as it happens

    def started(self, start: Start) -> None:
        """A few lines on what runs."""
        self._cgroup, self._folder = start.cgroup, start.folder
        lines = [
            ("control", f"{start.address}, mutual TLS; database {start.database}"),
            ("sensor", f"loader {start.loader}, plan {start.plan}"),
            ("source", start.source),
        ]
        if start.folder:
            lines.append(("", f"{_FOLDER} is {start.folder}"))
        with self._lock:
            for name, text in lines:
                style = "" if name else "dim"
                self._print(Text.assemble((f"{name:<8} ", "bold"), (safe(text), style)))
            self._explain_cgroup()

    def step(self, name: str, label: str, when: datetime) -> None:
        """A heading, once what came before it was told."""
        self._put(when, partial(self._tell_heading, f"{name}: {label}"))

    def events(self, kind: str, table: pa.Table) -> None:
        """Lines for what a person wants to see, counts for the others."""
        if self._told is Told.ALERTS and kind != _LOSSES:
            return
        if kind in _COUNTED:
            self._count(_COUNTED[kind], table)
        elif kind in _TOLD:
            self._cgroups.update(table["cgroup_path"].to_pylist() if kind != _LOSSES else ())
            for row in table.to_pylist():
                if row["event_action"] in _SKIPPED_ACTIONS or row.get("loss_count") == 0:
                    continue
                when = row["event_time"].replace(tzinfo=UTC)
                cgroup = row.get("cgroup_path") or "sensor"
                self._put(when, partial(self._tell_event, when, cgroup, say(kind, row)))

    def alert(self, alert: alert_service_pb2.Alert) -> None:
        """A line at the time at which it was raised."""
        when = alert.raised_at.ToDatetime(UTC)
        self._put(when, partial(self._tell_alert, when, alert))

    def trouble(self, name: str, line: Mapping[str, Any]) -> None:
        """A line on standard error, at once."""
        hidden = {"event", "level", "timestamp"}
        fields = ", ".join(f"{key} {value}" for key, value in line.items() if key not in hidden)
        style = "yellow" if line["level"] == "warning" else "bold red"
        said = f"{name}: {line['event']}: {fields}"
        with self._lock:
            self._errors.print(Text(safe(said), style), soft_wrap=True)

    def settled(self) -> None:
        """Tell what was held back; from here on nothing is told as it happens."""
        self._ended.set()
        if self._pump.is_alive():
            self._pump.join()
        with self._lock:
            if self._told is Told.AFTERWARDS:
                self._cgroup = _parent(self._cgroups)
                self._explain_cgroup()
            for tell in self._timeline.rest():
                tell()
            self._sum_up()

    # ------------------------------------------------------------ at the end

    def alerts(self, found: Sequence[alert_service_pb2.Alert]) -> None:
        """Every alert whole, with its process tree."""
        self._rule(plural(len(found), "alert"))
        for number, alert in enumerate(found):
            self._print(Text("\n" if number else "", end=""))
            self._print(shown_alerts.drawn(alert, self._width, self._shorten))

    def hunt(self, hunt: ReadyHunt, answer: HuntResult) -> None:
        """The question, the end of its SQL and the answer."""
        self._rule("hunt")
        self._print(Text(hanging(hunt.title, self._width, 3, 0), "bold"))
        above, select = last_select(hunt.sql)
        if above:
            self._print(Text(f"{hunt.path}, from line {above + 1}:", "dim"))
        sql = Syntax(select, "sql", background_color="default")
        emit(self._screen, sql if self._screen.is_terminal else Text(select))
        emit(self._screen, arranged(columns(answer.table), self._screen.width))

    def result(self, verdict: Verdict, state: Path) -> None:
        """What came, what did not, and where to ask more."""
        self._rule("result")
        total = sum(verdict.events.values())
        self._print(Text(f"{plural(total, 'event')} stored, {verdict.lost} lost."))
        for signal, hooks in verdict.plan.items():
            style = "dim" if hooks else "bold red"
            self._print(Text.assemble(f"  {signal:<20} ", (hooks or "no hook", style)))
        latency = latency_summary(verdict.latencies_ms())
        if latency and self._told is not Told.AFTERWARDS:
            median, longest = latency["p50"], latency["max"]
            said = f"From event to alert: median {median:.0f} ms, longest {longest:.0f} ms."
            self._print(Text(said))
        for text, style in _judgement(verdict):
            self._print(Text(text, style))
        self._print(Text(f"\nDatabase: {verdict.database}. While the control plane runs, ask it:"))
        for command in ("hunt 'FROM hunt.alerts'", "alerts show 1", "status"):
            self._print(Text(f"  limes {command} --state {state}", "dim"))

    # ------------------------------------------------------------ inside

    def _put(self, when: datetime, tell: Callable[[], None]) -> None:
        with self._lock:
            self._timeline.put(when, tell)

    def _explain_cgroup(self) -> None:
        if self._cgroup:
            self._print(Text(f"         cgroups are relative to {safe(self._cgroup)}", "dim"))

    def _count(self, what: str, table: pa.Table) -> None:
        times, cgroups = table["event_time"].to_pylist(), table["cgroup_path"].to_pylist()
        for when, cgroup in zip(times, cgroups, strict=True):
            self._put(when.replace(tzinfo=UTC), partial(self._add, cgroup, what, 1))

    def _tell_due(self) -> None:
        with ending_with_reader():
            while not self._ended.wait(_PUMP_SECONDS):
                with self._lock:
                    for tell in self._timeline.due(datetime.now(UTC)):
                        tell()

    def _tell_heading(self, text: str) -> None:
        self._sum_up()
        self._print(Text(f"\n{text}", "bold"))

    def _tell_event(self, when: datetime, cgroup: str, said: Said) -> None:
        if self._told is Told.AFTERWARDS:
            if self._last is None or when - self._last > _PAUSE:
                self._sum_up()
                self._print(Text())
            self._last = when
        key = (cgroup, said.verb)
        if self._shown[key] >= _LINES and said.tone != "bad":
            self._add(cgroup, _NAMES.get(said.verb, said.verb), 1)
            return
        self._shown[key] += 1
        self._print(self._line(when, cgroup, said))

    def _tell_alert(self, when: datetime, alert: alert_service_pb2.Alert) -> None:
        name = shown_alerts.severity(alert)
        said = Said("ALERT", f"{name}: {alert.rule}")
        text = self._line(when, alert.cgroup_path, said)
        text.highlight_words(["ALERT", name], shown_alerts.STYLES.get(name, ""))
        self._print(text)

    def _add(self, cgroup: str, what: str, count: int) -> None:
        self._hidden[cgroup, what] += count

    def _line(self, when: datetime, cgroup: str, said: Said) -> Text:
        said = said._replace(what=self._shorten(said.what))
        return shown_events.line(when, self._short(cgroup), said, width=self._width, column=6)

    def _sum_up(self) -> None:
        """Say what of the step was not shown."""
        cgroups: dict[str, list[str]] = {}
        for (cgroup, what), count in sorted(self._hidden.items()):
            cgroups.setdefault(cgroup, []).append(plural(count, what))
        for cgroup, parts in cgroups.items():
            text = f"{'':<12}  {safe(self._short(cgroup)):<6}  and {', '.join(parts)}"
            self._print(Text(text, "dim"))
        self._hidden.clear()
        self._shown.clear()

    def _short(self, cgroup: str) -> str:
        if self._cgroup and cgroup.startswith(self._cgroup + "/"):
            return cgroup[len(self._cgroup) + 1 :]
        return cgroup

    def _shorten(self, text: str) -> str:
        return text.replace(self._folder, _FOLDER) if self._folder else text

    def _rule(self, text: str) -> None:
        self._screen.print()
        self._screen.print(Rule(Text(text, "bold"), align="left", style="dim"))

    def _print(self, text: Text) -> None:
        self._screen.print(text, soft_wrap=True)


def _parent(cgroups: AbstractSet[str]) -> str:
    """Return the cgroup that all of these are below; empty when that is the root."""
    paths = [PurePosixPath(path) for path in cgroups if path.startswith("/")]
    if not paths:
        return ""
    common = PurePosixPath(commonpath(paths))
    common = common.parent if str(common) in cgroups else common
    return "" if common == PurePosixPath("/") else str(common)


def last_select(sql: str) -> tuple[int, str]:
    """Return the last part of a SELECT, which says what it gives, and the number of lines above."""
    lines = sql.strip().splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("SELECT")]
    first = starts[-1] if starts and len(lines) > _SQL_LINES else 0
    return first, "\n".join(lines[first:])


def _judgement(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Yield the last lines, each with its style."""
    for rule, error in verdict.broken.items():
        yield f"Cannot run: {rule}: {safe(error)}. `limes rules lint` says more.", "bold red"
    for rule, cgroup in verdict.missing:
        yield f"Missing: {rule} in {safe(cgroup)}", "bold red"
    for rule, cgroup in verdict.unexpected:
        yield f"Unexpected: {rule} in {safe(cgroup)}", "bold red"
    for cause, count in verdict.losses.items():
        yield f"Lost: {count} by {cause}", "bold red"
    for signal in verdict.blind:
        yield f"Not seen here: {signal}. `limes doctor` says why.", "bold red"
    if verdict.expected is not None and verdict.ok:
        yield f"Exactly the {len(verdict.expected)} expected alerts came, and no other.", "green"
