"""Owns how alerts look: a row in a list, a whole one with its process tree, an object in JSON.

Invariant: an alert that rests on a simulated device says so in every form.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from limes.cli.output import Form, console, note, safe, show, write_json
from limes.cli.show.events import moment
from limes.cli.show.text import folded, hanging, shortened
from limes.cli.show.words import SIMULATED, duration
from limes.v1 import alert_service_pb2 as pb
from rich.text import Text

COLUMNS: Final = ("number", "raised_at", "severity", "rule", "cgroup", "summary")
STYLES: Final = {
    "critical": "bold white on red",
    "high": "bold red",
    "medium": "yellow",
    "low": "cyan",
}

Shorten = Callable[[str], str]
"""Puts agreed names for long folders into a line."""

INDENT: Final = "   "
_TREE_ROWS: Final = 2  # of the terminal that one process of a tree may take
_SUMMARY_ROWS: Final = 4
_LISTED: Final = 80  # characters of a summary in a list: `limes alerts show` has all of it
_LEAST: Final = {"rule": 0, "cgroup": 12, "summary": 40}  # characters in a list
_LATE_NS: Final = 600 * 10**9  # later than that it was read from a spool or a recording


def severity(alert: pb.Alert) -> str:
    """Return the severity as a word."""
    return pb.Severity.Name(alert.severity).removeprefix("SEVERITY_").lower()


def latency_ns(alert: pb.Alert) -> int:
    """Return the time from the newest event an alert rests on to its commit, in nanoseconds."""
    return alert.raised_at.ToNanoseconds() - alert.event_time.ToNanoseconds()


def plain(alert: pb.Alert) -> dict[str, Any]:
    """Return an alert as values for JSON and CSV."""
    return {
        "number": alert.number,
        "alert_id": alert.alert_id,
        "rule": alert.rule,
        "rule_version": alert.rule_version,
        "severity": severity(alert),
        "attack": list(alert.attack),
        "summary": alert.summary,
        "event_time": _iso(alert.event_time),
        "raised_at": _iso(alert.raised_at),
        "latency_ms": round(latency_ns(alert) / 1e6, 1),
        "host_id": alert.host_id,
        "cgroup": alert.cgroup_path,
        "cgroup_ancestors": list(alert.cgroup_ancestors),
        "process_entity_id": alert.process_entity_id,
        "process_tree": [
            {
                "process_entity_id": node.process_entity_id,
                "process_exec_id": node.process_exec_id,
                "process_pid": node.process_pid,
                "process_executable": node.process_executable,
                "process_command_line": node.process_command_line,
            }
            for node in alert.process_tree
        ],
        "evidence": [
            {"kind": item.kind, "sensor_epoch": item.epoch, "event_seq": item.event_seq}
            for item in alert.evidence
        ],
        "simulated_device": alert.simulated_device,
    }


def show_list(alerts: Sequence[pb.Alert], form: Form) -> None:
    """Show alerts as rows: in JSON and CSV with every column, on a terminal with the chief ones."""
    if form is Form.TABLE and not alerts:
        note("There are no such alerts.")
    elif form is Form.TABLE:
        rows = [
            {
                **plain(alert),
                "raised_at": _utc(alert.raised_at).strftime("%m-%d %H:%M:%S"),
                "summary": shortened(alert.summary, _LISTED),
            }
            for alert in alerts
        ]
        show(rows, COLUMNS, form, wide=COLUMNS[-1:], least=_LEAST)
    elif form is Form.JSON:
        for alert in alerts:
            write_json(plain(alert))
    else:
        show([plain(alert) for alert in alerts], list(plain(pb.Alert())), form)


def show_alert(alert: pb.Alert, form: Form) -> None:
    """Show one alert whole."""
    if form is Form.JSON:
        write_json(plain(alert))
        return
    screen = console()
    screen.print(drawn(alert, screen.width), soft_wrap=True)


def title(alert: pb.Alert) -> Text:
    """Return the first line of an alert: severity, rule, techniques."""
    name = severity(alert)
    return Text.assemble(
        (f" {name} ", STYLES.get(name, "")), "  ", (alert.rule, "bold"), "  ",
        (" ".join(alert.attack), "dim"),
    )  # fmt: skip


def drawn(alert: pb.Alert, width: int, shorten: Shorten = str) -> Text:
    """Return an alert with all that is needed to judge it, the process tree drawn."""
    room = width - len(INDENT)
    lines = [title(alert)]
    summary = shorten(safe(alert.summary))
    lines += [Text(part) for part in folded(summary, room, _SUMMARY_ROWS)]
    where = f" on {safe(alert.host_id)} at {moment(_utc(alert.event_time))} UTC"
    lines.append(Text.assemble((safe(alert.cgroup_path), "cyan"), where))
    lines += tree(alert.process_tree, room, shorten)
    lines += [Text(part, "dim") for part in folded(" · ".join(_facts(alert)), room, 3)]
    return Text(f"\n{INDENT}").join(line for each in lines for line in each.split("\n"))


def _facts(alert: pb.Alert) -> list[str]:
    """Return what is to be known beside: number, device, evidence, delay."""
    facts = [f"alert {alert.number}"]
    if alert.simulated_device:
        facts.append(SIMULATED)
    kinds = Counter(item.kind for item in alert.evidence)
    evidence = ", ".join(f"{count} of {kind}" for kind, count in sorted(kinds.items()))
    facts.append(f"evidence: {evidence or 'none'}")
    if latency_ns(alert) < _LATE_NS:
        facts.append(f"{duration(max(0, latency_ns(alert)))} after the event")
    return facts


def tree(nodes: Iterable[pb.ProcessNode], width: int, shorten: Shorten = str) -> list[Text]:
    """Return the lines of a process tree, the oldest ancestor first."""
    lines: list[Text] = []
    oldest_first = list(nodes)[::-1]
    for depth, node in enumerate(oldest_first):
        branch = "   " * (depth - 1) + "└─ " if depth else ""
        head = f"{branch}{node.process_pid or '?'}  "
        command = shorten(safe(node.process_command_line or node.process_executable))
        room = max(24, width - len(head))
        what = hanging(command, room, _TREE_ROWS, len(head))
        subject = depth == len(oldest_first) - 1
        lines.append(Text.assemble((head, "dim"), (what, "bold" if subject else "")))
    return lines


def _utc(value: Timestamp) -> datetime:
    return value.ToDatetime(UTC)


def _iso(value: Timestamp) -> str:
    return value.ToDatetime(UTC).isoformat().replace("+00:00", "Z")
