"""Owns the micro-batch: the temporary tables `new_<kind>` on the engine's connection.

Invariant: a row is at work once; one whose image or cgroup is not known yet is held back until it
is, or until its time is up, and then is at work as it is.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

import duckdb
import structlog
from limes.control.rules.model import SIGNALS
from limes.control.store import query
from limes.v1 import schema

LOG = structlog.get_logger()
UNREADABLE: Final = "commit_unreadable"  # the cause of losses
HOLD_OVERFLOW: Final = "rules.hold_overflow"
HOLD_ROWS: Final = 50_000  # of a kind; more are not worth their memory
# Kinds of the subject "none" have no image and no cgroup to wait for; cgroup events name their own.
HOLDABLE: Final = frozenset(
    {
        "process_execs",
        "process_forks",
        "process_exits",
        "connections",
        "gpu_events",
        "gpu_activity",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Rows of one kind that wait. `deadline` is in the engine's clock, seconds."""

    rows: int
    first_ingest_id: int
    deadline: float


@dataclass(slots=True, kw_only=True)
class Content:
    """What is at work: per kind the time of its oldest event, for kinds that have rows.

    `present` names every kind the commits stored, also those that nobody asked for. `before` is the
    commit before the oldest one that rows at work, or rows that wait, may be of.
    """

    before: int = 0
    present: frozenset[str] = frozenset()
    oldest: dict[str, datetime] = field(default_factory=dict)


class MicroBatch:
    """The tables `new_<kind>` and `held_<kind>` of one connection."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, kinds: frozenset[str]) -> None:
        """Make the tables of `kinds`, empty."""
        self._cursor = cursor
        self._filled: set[str] = set()
        self.held: dict[str, Held] = {}
        for kind in kinds & schema.KINDS.keys():
            self._run("new_rows_empty", kind)
        for kind in kinds & HOLDABLE:
            self._run("held_empty", kind)
        cursor.execute(query.text("new_signals_create"))

    def fill(
        self,
        after: int,
        until: int,
        kinds: frozenset[str],
        *,
        now: float = 0.0,
        hold_until: float | None = None,
        behind: bool = False,
    ) -> Content:
        """Take the commits after `after` up to `until` to work and return what that is.

        With `hold_until`, rows that are not attributed yet wait until then; rows that waited
        before come back when they are, or when `now` is past their time. With `behind` these stay:
        the work is for a rule that from now on gets them together with the others.

        When it fails everything is as it was before.
        """
        was = dict(self.held), set(self._filled)
        self._cursor.begin()
        try:
            content = self._fill(after, until, kinds, now, hold_until, behind=behind)
            self._cursor.commit()
        except BaseException:
            self.held, self._filled = was
            self._cursor.rollback()
            raise
        return content

    def _fill(
        self,
        after: int,
        until: int,
        kinds: frozenset[str],
        now: float,
        hold_until: float | None,
        *,
        behind: bool,
    ) -> Content:
        present = self._present(after, until)
        wanted = kinds & (present | self.held.keys())
        self.clear(keep=wanted)
        before = [held.first_ingest_id - 1 for kind, held in self.held.items() if kind in wanted]
        content = Content(before=min([after, *before]), present=present)
        for kind in wanted:
            self._filled.add(kind)
            self._run("new_rows", kind, after, until)
            if hold_until is not None and kind in HOLDABLE:
                oldest = (
                    self._join(kind, hold_until)
                    if behind
                    else self._hold(kind, after, now, hold_until)
                )
            else:
                oldest = self._one("new_rows_oldest", kind)[0]
            if oldest is not None:
                content.oldest[kind] = oldest
        return content

    def fill_signals(self, after: int, until: int) -> Content:
        """Take the signals after `after` up to `until` to work."""
        self._cursor.execute(query.text("new_signals_create"))
        self._cursor.execute(query.text("new_signals_fill"), [after, until])
        oldest = self._one("new_rows_oldest", SIGNALS)[0]
        return Content() if oldest is None else Content(oldest={SIGNALS: oldest})

    def step_over(self, after: int, until: int, *, waiting: frozenset[str]) -> Content:
        """Write off the commits after `after` up to `until`, and rows of the kinds `waiting`.

        Their number is in `losses` afterwards, and no row is at work.
        """
        lost = schema.KINDS["losses"].actions["lost"]
        self._cursor.begin()
        try:
            self._cursor.execute(query.text("losses_of_commits"), [after, until, lost, UNREADABLE])
            for kind in self.held.keys() & waiting:
                self._run("losses_of_waiting", kind, lost, UNREADABLE)
            self._cursor.commit()
        except BaseException:
            self._cursor.rollback()
            raise
        self.forget(keep=self.held.keys() - waiting)
        self.clear()
        return Content(before=after, present=frozenset({"cgroup_events"}))

    def forget(self, *, keep: AbstractSet[str]) -> None:
        """Let no row wait any more that is of a kind not in `keep`."""
        for kind in self.held.keys() - keep:
            del self.held[kind]
            self._run("held_empty", kind)

    def clear(self, *, keep: frozenset[str] = frozenset()) -> None:
        """Leave no row at work, but in the tables that the caller makes anew.

        Made anew, not emptied: deleted rows would keep their memory.
        """
        for kind in self._filled - keep:
            self._run("new_rows_empty", kind)
        self._filled &= keep

    def _hold(self, kind: str, after: int, now: float, hold_until: float) -> datetime | None:
        """Hold rows back, take those back whose wait is over; returns the oldest time at work."""
        earlier = self.held.pop(kind, None)
        if earlier is not None:
            self._run("new_rows_held", kind, earlier.first_ingest_id, after)
        oldest, unresolved = self._unresolved(kind)
        if unresolved > HOLD_ROWS:
            self._run("held_empty", kind)
            return oldest
        if earlier is None and not unresolved:
            return oldest
        self._run("held_replace", kind, now, hold_until)
        return self._take_out(kind)

    def _join(self, kind: str, hold_until: float) -> datetime | None:
        """Hold rows back beside those that wait; returns the oldest time at work."""
        oldest, unresolved = self._unresolved(kind)
        if unresolved > HOLD_ROWS or (kind not in self.held and not unresolved):
            return oldest
        self._run("held_add", kind, hold_until)
        return self._take_out(kind)

    def _unresolved(self, kind: str) -> tuple[datetime | None, int]:
        """Return the oldest time at work and how many rows have names that are not known yet."""
        oldest, unresolved = self._one("new_rows_unresolved", kind)
        if unresolved > HOLD_ROWS:
            LOG.warning(HOLD_OVERFLOW, kind=kind, rows=unresolved, effect="judged as they are")
        return oldest, unresolved

    def _take_out(self, kind: str) -> datetime | None:
        """Take the rows that wait out of those at work; returns the oldest time at work."""
        rows, first, deadline = self._one("held_count", kind)
        if rows:
            self._run("held_remove", kind)
            self.held[kind] = Held(rows=rows, first_ingest_id=first, deadline=deadline)
        return cast("datetime | None", self._one("new_rows_oldest", kind)[0])

    def _present(self, after: int, until: int) -> frozenset[str]:
        if until <= after:
            return frozenset()
        self._cursor.execute(query.text("kinds_committed"), [after, until])
        numbers = self._cursor.fetchall()
        names = {kind.number: name for name, kind in schema.KINDS.items()}
        return frozenset(names[n] if outcome == "stored" else "losses" for n, outcome in numbers)

    def _run(self, statement: str, kind: str, *values: float | str) -> None:
        # The only names ever put into a statement are those of the registry.
        if kind not in schema.KINDS and kind != SIGNALS:
            raise KeyError(kind)
        self._cursor.execute(query.text(statement).replace("{kind}", kind), list(values))

    def _one(self, statement: str, kind: str) -> tuple[Any, ...]:
        self._run(statement, kind)
        row: tuple[Any, ...] = self._cursor.fetchone() or ()
        return row
