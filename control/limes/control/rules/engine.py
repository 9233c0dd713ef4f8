"""Owns detection: rules run on what each commit brought, in the order of arrival, and alert once.

Invariant: alerts and the place of the rules that raised them are committed together; a rule that
fails keeps its place and stops no other rule.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import duckdb
import structlog
from limes.control.alerts.board import AlertBoard
from limes.control.alerts.raising import Raised, Raiser
from limes.control.errors import RuleError
from limes.control.rules.batch import Content, MicroBatch
from limes.control.rules.hits import Hit, run_rule
from limes.control.rules.model import Rule
from limes.control.rules.state import FAILING, RuleState, advance, read_states, save_state
from limes.control.rules.watchdog import Watchdog
from limes.control.store import query
from limes.control.store.connection import Store

LOG = structlog.get_logger()

RULE_FAILED: Final = "rules.rule_failed"
RULE_PUT_OFF: Final = "rules.rule_put_off"
RULE_RECOVERED: Final = "rules.rule_recovered"
COMMIT_STEPPED_OVER: Final = "rules.commit_stepped_over"
ENGINE_FAILED: Final = "rules.engine_failed"
ALERTS_RAISED: Final = "rules.alerts_raised"

# What the rows of a commit can bring about; any other failure is a defect, or the disk's.
UNREADABLE: Final = duckdb.OutOfMemoryException, duckdb.InterruptException, duckdb.DataError
CHUNK: Final = 8  # commits a pass when catching up: at most 160,000 rows
SAVE_SECONDS: Final = 1.0  # how often a place is saved that raised nothing
# After a pass the engine rests for some times its length: a busy host costs it a part of a core.
REST: Final = 2.0
CATCH_UP_SECONDS: Final = 0.2
REST_SECONDS: Final = 0.2
STOP_SECONDS: Final = 5.0  # of reading on when the server stops; the rest is read at the next start


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds: how long an unattributed row waits, a rule runs, a failing rule rests.

    No rule of a pass is begun after `budget`; those left keep their place and catch up. `fill` is
    how long it may take to read what the rules run on.
    """

    fill: float = 30.0
    hold: float = 2.0
    rule: float = 60.0
    budget: float = 60.0
    retry: float = 2.0  # doubled each time
    retry_most: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """What the engine did so far. `position` is the last commit it has read to its end."""

    position: int
    passes: int
    alerts: int
    held_rows: int
    last_pass_seconds: float
    failing: tuple[tuple[str, str], ...]


class Engine:
    """Runs rules. `process` does it here and now, `start` in a thread of its own."""

    def __init__(
        self,
        store: Store,
        rules: Sequence[Rule],
        *,
        board: AlertBoard | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_failure: Callable[[], None] = lambda: None,
        tried: bool = False,
    ) -> None:
        """Make it ready to read on; `tried` says that the rules are known to run."""
        self._store = store
        self._cursor = store.cursor()
        self._limits = limits or Limits()
        self._clock = clock
        self.board = board or AlertBoard()
        self._cursor.execute(query.text("assign_all_job_cgroups"))
        kinds = frozenset(kind for rule in rules for kind in rule.kinds)
        self._batch = MicroBatch(self._cursor, kinds)
        self._raiser = Raiser(self._cursor)
        self._watchdog = Watchdog(self._cursor)
        states = read_states(self._cursor, tuple(rules))
        self._on_events = [state for state in states if not state.rule.on_signals]
        self._on_signals = [state for state in states if state.rule.on_signals]
        self._position = max((state.watermark for state in self._on_events), default=0)
        self._alone_until = 0  # commits up to it are taken to work one by one
        self._read = self._position, 0  # told together, once its alerts are committed
        self._saved_at = clock()
        self._passes = 0
        self._alerts = 0
        self._last_pass = 0.0
        self._stop = threading.Event()
        self._stop_by = float("inf")
        self._on_failure = on_failure
        self._thread: threading.Thread | None = None
        self.failure: BaseException | None = None
        self._watchdog.__enter__()
        if not tried:
            self._try_all()

    def start(self) -> None:
        """Follow the commits in a thread, beginning with what is unread."""
        self._thread = threading.Thread(target=self._follow, name="rules")
        self._thread.start()

    def close(self) -> None:
        """Read what is committed, for STOP_SECONDS at most, save every place, end the thread."""
        self._stop_by = self._clock() + STOP_SECONDS
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self.failure is None:
            self._save_if_due(force=True)
        self._watchdog.__exit__(None, None, None)
        self.board.close()
        self._cursor.close()

    def status(self) -> EngineStatus:
        """Return what it did so far."""
        states = [*self._on_events, *self._on_signals]
        return EngineStatus(
            position=self._read[0],
            passes=self._passes,
            alerts=self._alerts,
            held_rows=self._read[1],
            last_pass_seconds=self._last_pass,
            failing=tuple((s.rule.name, s.error) for s in states if s.status == FAILING),
        )

    def process(self, until: int, *, flush: bool = False) -> None:
        """Run the rules on all commits up to `until`; with `flush`, on rows held back too."""
        began = self._clock()
        self._catch_up(began)
        while True:
            after = self._position
            states = [s for s in self._on_events if s.watermark == after and s.status != FAILING]
            kinds = frozenset(kind for state in states for kind in state.rule.kinds)
            # Rules that failed went back to before the rows that waited for them alone.
            self._batch.forget(keep=kinds)
            if after >= until and not self._due(began, flush=flush):
                break
            upper = max(after, min(after + CHUNK, until))
            now = float("inf") if flush else self._clock()
            upper, content = self._take(after, upper, kinds, now=now)
            self._position = upper
            self._pass(states, content, after, upper)
        self._run_on_signals()
        self._read = self._position, sum(held.rows for held in self._batch.held.values())
        self._save_if_due()
        self._last_pass = self._clock() - began

    def _try_all(self) -> None:
        """Run every rule on nothing: one that cannot run is known before the first event comes."""
        for state in (*self._on_events, *self._on_signals):
            try:
                with self._watchdog.limit(self._limits.rule):
                    run_rule(self._cursor, state.rule)
            except (duckdb.Error, RuleError) as error:
                self._failed(state, error)

    def _due(self, now: float, *, flush: bool) -> bool:
        return any(flush or held.deadline <= now for held in self._batch.held.values())

    def _catch_up(self, now: float) -> None:
        """Bring rules that stayed behind nearer to the others, once their rest is over.

        Bounded in time, so that the others do not wait for it.
        """
        for state in self._on_events:
            if state.status == FAILING and now < state.retry_at:
                continue
            while state.watermark < self._position and self._clock() < now + CATCH_UP_SECONDS:
                after = state.watermark
                upper = min(after + CHUNK, self._position)
                upper, content = self._take(
                    after, upper, frozenset(state.rule.kinds), now=self._clock(), behind=True
                )
                self._pass([state], content, after, upper)
                if state.watermark < upper:
                    break

    def _take(
        self, after: int, upper: int, kinds: frozenset[str], *, now: float, behind: bool = False
    ) -> tuple[int, Content]:
        """Take commits to work: the next alone when they fail, and over it when that fails too."""
        alone = min(after + 1, upper)
        reason = ""
        for end in dict.fromkeys([alone] if after < self._alone_until else [upper, alone]):
            # What rows name may come yet, but not what long ago rows name.
            young = not behind or end == self._position
            try:
                with self._watchdog.limit(self._limits.fill):
                    content = self._batch.fill(
                        after,
                        end,
                        kinds,
                        now=now,
                        hold_until=now + self._limits.hold if young else None,
                        behind=behind,
                    )
            except UNREADABLE as error:
                reason = " ".join(str(error).split())[:500]
                self._alone_until = max(self._alone_until, upper)
            else:
                return end, content
        LOG.error(COMMIT_STEPPED_OVER, after=after, until=alone, error=reason)
        waiting = frozenset[str]() if behind else kinds
        return alone, self._batch.step_over(after, alone, waiting=waiting)

    def _pass(self, states: list[RuleState], content: Content, after: int, upper: int) -> None:
        """Run `states` on what is at work and commit what they found."""
        if "cgroup_events" in content.present:
            self._cursor.execute(query.text("assign_new_job_cgroups"), [after, upper])
        hits: list[tuple[Rule, Hit]] = []
        done: list[RuleState] = []
        end = self._clock() + self._limits.budget
        for state in states:
            if self._clock() > end:
                state.watermark = min(state.watermark, content.before)
                LOG.warning(RULE_PUT_OFF, rule=state.rule.name, budget=self._limits.budget)
                continue
            found = self._run_rule(state, content)
            if found is None:
                state.watermark = min(state.watermark, content.before)
            else:
                hits += [(state.rule, hit) for hit in found]
                done.append(state)
        for state in done:
            state.watermark = upper
        self._passes += 1
        if hits:
            self._commit(hits, done)

    def _run_rule(self, state: RuleState, content: Content) -> list[Hit] | None:
        """Return the hits of one rule; None when it failed, which is logged once."""
        rule = state.rule
        times = [content.oldest[kind] for kind in rule.kinds if kind in content.oldest]
        if not times and state.status != FAILING:  # one that failed shows that it runs again
            return []
        try:
            if times:
                start = min(times) - timedelta(seconds=rule.window)
                self._cursor.execute(query.text("set_window_start"), [start])
            with self._watchdog.limit(self._limits.rule):
                hits = run_rule(self._cursor, rule)
        except (duckdb.FatalException, duckdb.ConnectionException):
            raise
        except (duckdb.Error, RuleError) as error:
            self._failed(state, error)
            return None
        if state.status == FAILING:
            state.recover()
            save_state(self._cursor, state)
            LOG.info(RULE_RECOVERED, rule=rule.name)
        return hits

    def _failed(self, state: RuleState, error: Exception) -> None:
        reason = " ".join(str(error).split())[:500]
        if state.status != FAILING:
            LOG.error(
                RULE_FAILED, rule=state.rule.name, path=str(state.rule.sql_path), error=reason
            )
        limits = self._limits
        state.fail(reason, self._clock(), first=limits.retry, most=limits.retry_most)
        save_state(self._cursor, state)

    def _run_on_signals(self) -> None:
        """Run rules on signals until there are none they have not read."""
        if not self._on_signals:
            return
        last = self._last_signal()
        now = self._clock()
        for state in self._on_signals:
            if state.status == FAILING and now < state.retry_at:
                continue
            while state.watermark < last:
                content = self._batch.fill_signals(state.watermark, last)
                found = self._run_rule(state, content)
                if found is None:
                    break
                state.watermark = last
                if found:
                    self._commit([(state.rule, hit) for hit in found], [state])
                    last = self._last_signal()

    def _last_signal(self) -> int:
        row = self._cursor.execute(query.text("last_signal_number")).fetchone()
        return int(row[0]) if row else 0

    def _commit(self, hits: list[tuple[Rule, Hit]], states: list[RuleState]) -> None:
        """Write alerts, signals and the places of `states` in one transaction."""
        self._cursor.begin()
        try:
            raised = self._raiser.raise_all(hits)
            places = {state.rule.id: self._place(state) for state in states}
            advance(self._cursor, places)
            self._cursor.commit()
        except BaseException:
            self._cursor.rollback()
            self._raiser.forget()
            raise
        for state in states:
            state.saved = places[state.rule.id]
        self._tell(raised)

    def _place(self, state: RuleState) -> int:
        """Return the place to save: before the oldest row that is held back."""
        if state.rule.on_signals:
            return state.watermark
        held = [item.first_ingest_id - 1 for item in self._batch.held.values()]
        return min([state.watermark, *held])

    def _tell(self, raised: Raised) -> None:
        if raised.alerts:
            self._alerts += raised.alerts
            LOG.info(ALERTS_RAISED, alerts=raised.alerts, last_number=raised.last_alert)
            self.board.raised(raised.last_alert)

    def _save_if_due(self, *, force: bool = False) -> None:
        now = self._clock()
        if not force and now < self._saved_at + SAVE_SECONDS:
            return
        self._saved_at = now
        states = [*self._on_events, *self._on_signals]
        moved = [state for state in states if state.saved != self._place(state)]
        if moved:
            self._commit([], moved)

    def _follow(self) -> None:
        subscription = self._store.feed.subscribe(kinds=frozenset())
        try:
            self._advance(self._store.last_ingest_id())
            while not self._stop.is_set() and not subscription.closed:
                delivery = subscription.take(self._patience())
                self._advance(delivery.last_ingest_id if delivery else self._position)
                if delivery:
                    self._stop.wait(min(REST * self._last_pass, REST_SECONDS))
            self._advance(self._store.last_ingest_id())
        except BaseException as error:
            self.failure = error
            LOG.exception(ENGINE_FAILED)
            self.board.close()
            self._on_failure()
        finally:
            subscription.close()

    def _advance(self, until: int) -> None:
        """Process in steps: a stop does not wait for a long backlog, the next start reads it."""
        self.process(min(until, self._position + CHUNK))
        while self._position < until and self._clock() < self._stop_by:
            self.process(min(until, self._position + CHUNK))

    def _patience(self) -> float:
        """Return how long to wait for a commit: until a held row's time is up, at most 0.5 s."""
        deadlines = [held.deadline - self._clock() for held in self._batch.held.values()]
        return max(0.0, min([0.5, *deadlines]))
