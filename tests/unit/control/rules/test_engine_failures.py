"""Rules that fail while rows wait: the engine goes on, and no row is lost to them."""

import duckdb
import pytest
from limes.control.rules.engine import RULE_PUT_OFF, Engine, Limits
from limes.control.rules.hits import Hit, run_rule
from limes.control.rules.model import Rule
from limes.control.rules.scratch import Scratch
from structlog.testing import capture_logs

from .conftest import MakeRule, made, program
from .test_engine import CONNECTED, Clock, alerts_of

ON_443 = CONNECTED.replace(
    "process_executable ||",
    "CASE WHEN destination_port = 443 AND getvariable('broken') THEN error('443') ELSE '' END ||"
    " process_executable ||",
)


def connection(exec_id: int, port: int) -> dict[str, object]:
    row = {"process_exec_id": exec_id, "destination_ip": "203.0.113.4", "destination_port": port}
    return {"connections": {**row, "cgroup_path": "/jobs/job_2"}}


def break_rule(engine: Engine, *, broken: bool) -> None:
    engine._cursor.execute("SET VARIABLE broken = ?", [broken])


def test_rows_that_wait_for_failing_rules_alone_do_not_hold_up_the_others(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """When the only rule of their kind fails nothing waits for it; the other rule alerts."""
    clock = Clock()
    with capture_logs():
        rules = [make_rule(), make_rule("on_443", ON_443)]
        engine = Engine(scratch.store, rules, clock=clock, limits=Limits(retry=60))
        break_rule(engine, broken=True)
        events = made(program(1, "/good"), connection(1, 443), connection(99, 80))
        engine.process(scratch.commit(events))
        passes = engine.status().passes
        clock.now += 2.5
        # A defect shows as endless passes: bounded here, so that the test ends.
        engine._clock = bounded(clock)
        engine.process(scratch.last_ingest_id)
        engine.process(scratch.commit(made(program(2))))
        engine._clock = clock
        status = engine.status()
        engine.close()
    assert [name for name, _ in status.failing] == ["on_443"]
    assert (status.held_rows, status.passes) == (0, passes + 1)
    assert [alert.rule for alert in alerts_of(scratch)] == ["bad_program"]


def bounded(clock: Clock, calls: int = 1000) -> Clock:
    """Return a clock that raises when it is asked too often."""

    class Bounded(Clock):
        left = calls

        def __call__(self) -> float:
            self.left -= 1
            assert self.left > 0, "the engine does not come to an end"
            return clock.now

    return Bounded()


def test_a_rule_that_failed_reads_the_rows_that_waited_then(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """A row held back when its rule failed is judged when the rule works again."""
    clock = Clock()
    quiet = make_rule("quiet", CONNECTED + "WHERE FALSE\n")
    images = program(99, "/late", cgroup_path=None), program(98, cgroup_path=None)
    naming, waits, fails, late, known = made(connection(99, 80), connection(98, 443), *images)
    with capture_logs():
        engine = Engine(scratch.store, [quiet, make_rule("on_443", ON_443)], clock=clock)
        break_rule(engine, broken=True)
        engine.process(scratch.commit([naming, waits]))
        engine.process(scratch.commit([fails, known]))
        assert engine.status().held_rows == 1
        engine.process(scratch.commit([late]))  # it waits no more, while the rule is failing
        break_rule(engine, broken=False)
        clock.now += 100
        engine.process(scratch.commit(made(program(50, "/good"))))
        status = engine.status()
        engine.close()
    assert status.failing == ()
    (alert,) = alerts_of(scratch)
    with scratch.store.cursor() as cursor:
        cursor.execute("SELECT process_exec_id FROM hunt.signals ORDER BY ALL")
        assert cursor.fetchall() == [(98,), (99,)]
    assert alert.rule == "on_443"


def test_a_rule_that_fails_on_a_row_that_waited_reads_it_again(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """The row was released to the very pass in which the rule fails."""
    clock = Clock()
    naming, waits, known = made(connection(99, 443), program(99, "/late", cgroup_path=None))
    with capture_logs():
        engine = Engine(scratch.store, [make_rule("on_443", ON_443)], clock=clock)
        break_rule(engine, broken=True)
        engine.process(scratch.commit([naming, waits]))
        engine.process(scratch.commit(made(program(1, "/good"))))
        engine.process(scratch.commit([known]))
        assert [name for name, _ in engine.status().failing] == ["on_443"]
        break_rule(engine, broken=False)
        clock.now += 100
        engine.process(scratch.last_ingest_id)
        engine.close()
    assert [alert.summary for alert in alerts_of(scratch)] == ["/late connected"]


def test_a_rule_that_was_behind_lets_rows_wait_as_the_others_do(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """After it recovers an event whose exec comes a commit later is judged with its image."""
    clock = Clock()
    quiet = make_rule("quiet", CONNECTED + "WHERE FALSE\n")
    images = program(98, cgroup_path=None), program(99, "/late", cgroup_path=None)
    naming, fails, first, second, known, image = made(
        connection(98, 443), connection(99, 80), connection(99, 81), *images
    )
    with capture_logs():
        engine = Engine(scratch.store, [quiet, make_rule("on_443", ON_443)], clock=clock)
        break_rule(engine, broken=True)
        engine.process(scratch.commit([naming, known, fails]))
        engine.process(scratch.commit([first]))  # it waits for both rules
        break_rule(engine, broken=False)
        clock.now += 1
        engine._limits = Limits(hold=100)
        engine._on_events[1].retry_at = clock.now
        engine.process(scratch.last_ingest_id)
        assert engine.status().failing == ()
        assert engine.status().held_rows == 1
        engine.process(scratch.commit([second]))
        engine.process(scratch.commit([image]))
        assert engine.status().held_rows == 0
        engine.close()
    with scratch.store.cursor() as cursor:
        cursor.execute("SELECT summary FROM hunt.signals ORDER BY number")
        assert cursor.fetchall() == [("/bad connected",), ("/late connected",)]


def test_rows_that_no_other_rule_reads_wait_for_one_that_was_behind(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """The place that another rule is ahead by holds a row without its image."""
    clock = Clock()
    naming, waits, image = made(connection(99, 80), program(99, "/late", cgroup_path=None))
    last = scratch.commit([naming, waits])
    with capture_logs():
        engine = Engine(scratch.store, [make_rule(), make_rule("on_443", ON_443)], clock=clock)
        engine._on_events[1].fail("a test", clock.now, first=0, most=0)
        engine.process(last)
        engine.process(last)  # it catches up
        assert (engine.status().failing, engine.status().held_rows) == ((), 1)
        engine.process(scratch.commit([image]))
        engine.close()
    assert [alert.summary for alert in alerts_of(scratch)] == ["/late connected"]


def test_a_rule_rests_shortly_first_and_longer_each_time(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """Two seconds, doubled up to a minute; one that went well for long begins anew."""
    clock = Clock()
    rests = []
    with capture_logs():
        engine = Engine(scratch.store, [make_rule("on_443", ON_443)], clock=clock)
        (state,) = engine._on_events
        break_rule(engine, broken=True)
        last = scratch.commit(made(program(98), connection(98, 443)))
        for _ in range(7):
            engine.process(last)
            rests.append(state.retry_at - clock.now)
            clock.now = state.retry_at
        break_rule(engine, broken=False)
        engine.process(last)
        assert engine.status().failing == ()
        clock.now += 100
        break_rule(engine, broken=True)
        engine.process(scratch.commit(made(program(97), connection(97, 443))))
        rests.append(state.retry_at - clock.now)
        engine.close()
    assert rests == [2, 4, 8, 16, 32, 60, 60, 2]


def test_rules_that_a_pass_has_no_time_for_catch_up(
    scratch: Scratch, make_rule: MakeRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow rule does not multiply the time of a pass; those put off fail not and lose nothing."""
    clock = Clock()
    engine = Engine(scratch.store, [make_rule("slow"), make_rule("after_it")], clock=clock)

    def slowly(cursor: duckdb.DuckDBPyConnection, rule: Rule) -> list[Hit]:
        clock.now += 59 if rule.name == "slow" else 2
        return run_rule(cursor, rule)

    with capture_logs() as logs:
        engine.process(scratch.commit(made(program(1))))
        monkeypatch.setattr("limes.control.rules.engine.run_rule", slowly)
        engine._limits = Limits(budget=50)
        engine.process(scratch.commit(made(program(2, at=4000))))
        assert [alert.rule for alert in alerts_of(scratch)] == ["slow", "after_it", "slow"]
        assert engine.status().failing == ()
        engine.process(scratch.last_ingest_id)
        engine.close()
    assert [log["rule"] for log in logs if log["event"] == RULE_PUT_OFF] == ["after_it"]
    assert [a.rule for a in alerts_of(scratch)] == ["slow", "after_it", "slow", "after_it"]
