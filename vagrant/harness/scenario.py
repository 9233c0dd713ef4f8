"""Owns the drill inside a guest: the wheel goes in, JSON lines come out, or an error.

The contract: each line of standard output is an object with a "type" of TYPES, the one result comes
last, and the exit status is 0 when the result is ok, 1 when it is not. An event has its `kind` and
the columns of that kind's view in `hunt`; an alert has `rule` and `cgroup`.
"""

from pathlib import Path
from typing import Any

import msgspec

from harness.config import VAGRANT_DIR
from harness.errors import ScenarioError
from harness.vm import Completed, Guest, Sink

DRILL = VAGRANT_DIR / "scenarios" / "training_host" / "drill.sh"
TYPES = frozenset({"started", "step", "event", "alert", "hunt", "result"})
_LAST_LINES = 15

Row = dict[str, Any]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Rule and cgroup path of an alert, seen or expected."""

    rule: str
    cgroup: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The last line: what was expected and seen, the hook of each signal, event counts by kind."""

    ok: bool
    expected: tuple[Alert, ...]
    alerts: tuple[Alert, ...]
    events: dict[str, int]
    plan: dict[str, str]
    loader: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the drill: the exit status, and each line that was printed."""

    status: int
    events: tuple[Row, ...]
    alerts: tuple[Row, ...]
    result: Result

    def of_kind(self, kind: str) -> list[Row]:
        """Return the events of one kind, in the order in which they came."""
        return [event for event in self.events if event.get("kind") == kind]


def play(
    guest: Guest,
    wheel: Path,
    loader: str,
    *,
    timeout: float,
    on_stdout: Sink | None = None,
    on_stderr: Sink | None = None,
) -> Report:
    """Install the wheel in the guest, play the drill there and return its report.

    Raises ScenarioError when the output is not a report, GuestTimeoutError after `timeout` seconds.
    """
    guest.push(DRILL, "/root/drill.sh")
    guest.push(wheel, f"/root/{wheel.name}")
    done = guest.run(
        ["sh", "/root/drill.sh", f"/root/{wheel.name}", loader],
        timeout=timeout,
        on_stdout=on_stdout,
        on_stderr=on_stderr,
    )
    return parse(done)


def parse(done: Completed) -> Report:
    """Return what the drill's output says. Raises ScenarioError with its last words."""
    rows = [_row(line, done) for line in done.stdout.splitlines()]
    kinds = [row["type"] for row in rows]
    if done.status not in {0, 1} or kinds.count("result") != 1 or kinds[-1] != "result":
        raise _broken(f"no result as the last line, exit status {done.status}", done)
    try:
        result = msgspec.convert(rows[-1], Result)
    except msgspec.ValidationError as error:
        raise _broken(f"a result line where {error}", done) from error
    if result.ok != (done.status == 0):
        raise _broken(f"ok = {result.ok} but exit status {done.status}", done)
    return Report(
        status=done.status,
        events=tuple(row for row in rows if row["type"] == "event"),
        alerts=tuple(row for row in rows if row["type"] == "alert"),
        result=result,
    )


def _row(line: bytes, done: Completed) -> Row:
    try:
        row = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise _broken(f"a line that is no JSON: {line[:200]!r}", done) from error
    if not isinstance(row, dict) or row.get("type") not in TYPES:
        raise _broken(f"a line of no known type: {line[:200]!r}", done)
    return row


def _broken(found: str, done: Completed) -> ScenarioError:
    said = "\n  ".join(done.stderr.decode(errors="replace").splitlines()[-_LAST_LINES:])
    return ScenarioError(
        f"Read the drill's output and found {found}. Its standard error ended:\n  {said}"
    )
