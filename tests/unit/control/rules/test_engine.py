"""The engine: arrival order, alerts once, places, failing rules, rows that wait."""

from dataclasses import replace

import pytest
from limes.control.alerts.model import Alert, EvidenceId
from limes.control.alerts.reading import list_alerts
from limes.control.rules.batch import HOLD_OVERFLOW
from limes.control.rules.engine import RULE_FAILED, RULE_RECOVERED, Engine, Limits
from limes.control.rules.given import START, Event
from limes.control.rules.model import Rule
from limes.control.rules.scratch import Scratch
from limes.control.store import query
from limes.control.store.feed import Commit
from structlog.testing import capture_logs

from tests.unit.control.rules.conftest import BAD, MakeRule, made, program

CONNECTED = """-- A program connected.
SELECT
    event_time, host_id, boot_id, cgroup_id, cgroup_path, process_entity_id, process_exec_id,
    process_executable || ' connected' AS summary,
    [evidence_id('connections', sensor_epoch, event_seq)] AS evidence,
    FALSE AS simulated_device
FROM new_connections
"""
ON_SIGNALS = """-- Two programs of one cgroup alerted.
SELECT
    s.event_time, s.host_id, s.boot_id, s.cgroup_id, s.cgroup_path, s.process_entity_id,
    s.process_exec_id, 'again' AS summary, s.evidence, FALSE AS simulated_device
FROM new_signals AS s
INNER JOIN hunt.signals AS o USING (cgroup_path)
WHERE s.rule = 'bad_program' AND o.rule = 'bad_program' AND s.process_exec_id <> o.process_exec_id
"""


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def alerts_of(scratch: Scratch) -> list[Alert]:
    with scratch.store.cursor() as cursor:
        return list_alerts(cursor)


def play(scratch: Scratch, rules: list[Rule], *batches: tuple[Event, ...]) -> list[Alert]:
    """Commit and process each batch, close the engine, return the alerts."""
    engine = Engine(scratch.store, rules)
    for batch in batches:
        engine.process(scratch.commit(batch))
    engine.close()
    return alerts_of(scratch)


def signals_of(scratch: Scratch) -> list[tuple[int, str]]:
    with scratch.store.cursor() as cursor:
        cursor.execute("SELECT process_exec_id, rule FROM hunt.signals ORDER BY number")
        return cursor.fetchall()


def test_an_alert_says_who_where_and_from_which_events(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """Rule, severity, technique, cgroup with ancestors, process tree, evidence."""
    parent = program(1, "/bin/bash", process_command_line="bash -c /bad")
    child = program(2, process_parent_exec_id=1, cgroup_path="/jobs/job_2")
    (alert,) = play(scratch, [make_rule()], made(parent, child))
    assert (alert.number, alert.rule, alert.severity, alert.attack) == (
        1,
        "bad_program",
        "high",
        ("T1059",),
    )
    assert (alert.cgroup_path, alert.cgroup_ancestors) == ("/jobs/job_2", ("/jobs", "/"))
    assert [node.process_executable for node in alert.process_tree] == ["/bad", "/bin/bash"]
    assert alert.process_tree[1].process_command_line == "bash -c /bad"
    assert alert.evidence == (EvidenceId(kind="process_execs", sensor_epoch=1, event_seq=3),)


def test_what_was_read_before_alerts_nothing_again(scratch: Scratch, make_rule: MakeRule) -> None:
    """Rules that read everything anew (their places are gone) raise no second alert or signal."""
    rule = make_rule()
    before = play(scratch, [rule], made(program(1)), made(program(2, at=30)))
    signals = signals_of(scratch)
    with scratch.store.cursor() as cursor:
        cursor.execute("DELETE FROM rule_state")
    engine = Engine(scratch.store, [rule])
    assert engine.status().position == 0
    engine.process(scratch.last_ingest_id)
    engine.close()
    assert (alerts_of(scratch), signals_of(scratch)) == (before, signals)


def test_a_new_engine_goes_on_where_the_last_one_was(scratch: Scratch, make_rule: MakeRule) -> None:
    """After a restart what came meanwhile is read, and only that."""
    rule = make_rule()
    play(scratch, [rule], made(program(1, "/good")))
    scratch.commit(made(program(2)))
    engine = Engine(scratch.store, [rule])
    assert engine.status().position == 1
    engine.process(scratch.last_ingest_id)
    engine.close()
    assert [alert.process_exec_id for alert in alerts_of(scratch)] == [2]
    assert Engine(scratch.store, [rule]).status().position == 2


def test_a_late_event_alerts_once(scratch: Scratch, make_rule: MakeRule) -> None:
    """An event of long ago that arrives now is judged when it arrives."""
    early, late = made(program(1, at=90_000)), made(program(2, at=5))
    alerts = play(scratch, [make_rule()], early, late)
    assert [alert.process_exec_id for alert in alerts] == [1, 2]


def test_one_entity_is_one_alert_across_the_edge_of_a_bucket(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """The window begins with the first hit: full hours do not cut it in two."""
    # Cases begin at 03:40, so 1199 s and 1201 s lie on both sides of 04:00.
    alerts = play(scratch, [make_rule()], made(program(1, at=1199)), made(program(2, at=1201)))
    assert [alert.process_exec_id for alert in alerts] == [1]


def test_one_entity_alerts_again_when_the_window_is_over(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """A hit as long after the first as the window lasts is another alert."""
    rule = make_rule(dedup_window="10m")
    batches = [made(program(n, at=at)) for n, at in enumerate((0, 599, 600), start=1)]
    alerts = play(scratch, [rule], *batches)
    assert [alert.process_exec_id for alert in alerts] == [1, 3]


def test_every_further_hit_is_a_signal_of_the_open_alert(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """One signal an image in five minutes, whether its alert is new or open."""
    batches = [made(program(n, at=at)) for n, at in ((1, 0), (2, 10), (2, 20), (2, 400))]
    (alert,) = play(scratch, [make_rule()], *batches)
    assert [exec_id for exec_id, _ in signals_of(scratch)] == [1, 2, 2]
    with scratch.store.cursor() as cursor:
        ids = cursor.execute("SELECT DISTINCT alert_id FROM hunt.signals").fetchall()
    assert ids == [(alert.alert_id,)]


def test_a_failing_rule_stops_no_other(scratch: Scratch, make_rule: MakeRule) -> None:
    """It is marked with the reason and logged once; the others alert."""
    broken = make_rule("broken", BAD.replace("'/bad' --", "CAST('x' AS INTEGER)::VARCHAR --"))
    with capture_logs() as logs:
        engine = Engine(scratch.store, [broken, make_rule()])
        for n in (1, 2, 3):
            engine.process(scratch.commit(made(program(n))))
        status = engine.status()
        engine.close()
    assert [alert.rule for alert in alerts_of(scratch)] == ["bad_program"]
    assert [name for name, _ in status.failing] == ["broken"]
    failures = [entry for entry in logs if entry["event"] == RULE_FAILED]
    assert len(failures) == 1
    assert "Could not convert string 'x'" in failures[0]["error"]
    with scratch.store.cursor() as cursor:
        cursor.execute("SELECT rule, rule_status FROM hunt.rules ORDER BY rule")
        assert cursor.fetchall() == [("bad_program", "running"), ("broken", "failing")]


def test_a_rule_that_works_again_reads_what_it_missed(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """It kept its place: after its rest it alerts on what came while it was failing."""
    clock = Clock()
    rule = make_rule(
        "needs_view", BAD.replace("WHERE TRUE", "WHERE (SELECT ready FROM hunt.later)")
    )
    with capture_logs() as logs:
        engine = Engine(scratch.store, [rule, make_rule()], clock=clock)
        engine.process(scratch.commit(made(program(1))))
        with scratch.store.cursor() as cursor:
            cursor.execute("CREATE VIEW hunt.later AS SELECT TRUE AS ready")
        engine.process(scratch.commit(made(program(2, "/good"))))
        assert [alert.rule for alert in alerts_of(scratch)] == ["bad_program"]
        clock.now += 61
        engine.process(scratch.last_ingest_id)
        engine.close()
    assert [alert.rule for alert in alerts_of(scratch)] == ["bad_program", "needs_view"]
    assert [entry["rule"] for entry in logs if entry["event"] == RULE_RECOVERED] == ["needs_view"]
    assert Engine(scratch.store, [rule]).status().position == 2


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (BAD.replace("FALSE AS simulated_device", "1 AS extra"), "missing: simulated_device"),
        (BAD.replace("FALSE AS simulated_device", "1 AS extra"), "not wanted: extra"),
        (BAD.replace("process_executable = '/bad'", "no_such_column"), "no_such_column"),
        (BAD.replace("WHERE", "WEHRE"), "syntax error"),
    ],
)
def test_a_rule_that_cannot_run_is_known_before_the_first_event(
    scratch: Scratch, make_rule: MakeRule, sql: str, reason: str
) -> None:
    """Its columns and its SQL are tried when the engine is made."""
    with capture_logs():
        engine = Engine(scratch.store, [make_rule("broken", sql)])
    ((name, error),) = engine.status().failing
    engine.close()
    assert name == "broken"
    assert reason in error


def test_a_rule_that_runs_too_long_is_interrupted(scratch: Scratch, make_rule: MakeRule) -> None:
    """It fails like any other; the next rule runs."""
    slow = BAD.replace("WHERE TRUE", "CROSS JOIN range(1000000000000) AS r WHERE r.range % 7 = 8")
    with capture_logs():
        engine = Engine(
            scratch.store, [make_rule("slow", slow), make_rule()], limits=Limits(rule=0.5)
        )
        engine.process(scratch.commit(made(program(1))))
        status = engine.status()
        engine.close()
    assert [name for name, _ in status.failing] == ["slow"]
    assert "Interrupted" in status.failing[0][1]
    assert [alert.rule for alert in alerts_of(scratch)] == ["bad_program"]


def test_a_hit_without_a_time_fails_its_rule(scratch: Scratch, make_rule: MakeRule) -> None:
    """What an alert must have is demanded by name."""
    rule = make_rule("timeless", BAD.replace("event_time, host_id", "NULL AS event_time, host_id"))
    with capture_logs():
        engine = Engine(scratch.store, [rule])
        engine.process(scratch.commit(made(program(1))))
        ((_, error),) = engine.status().failing
        engine.close()
    assert "without event_time" in error


def test_rules_whose_kinds_did_not_come_are_not_run(scratch: Scratch, make_rule: MakeRule) -> None:
    """A rule that would fail on any row of its kind stays well while there is none."""
    rule = make_rule(
        "on_connections",
        CONNECTED.replace(
            "process_executable ||", "(event_seq // 0)::UTINYINT::VARCHAR || error('ran') ||"
        ),
    )
    with capture_logs():
        engine = Engine(scratch.store, [rule])
        engine.process(scratch.commit(made(program(1))))
        assert engine.status().failing == ()
        engine.process(scratch.commit(made({"connections": {"destination_ip": "10.0.0.1"}})))
        failing = engine.status().failing
        engine.close()
    assert [name for name, _ in failing] == ["on_connections"]


def test_a_row_waits_for_its_image(scratch: Scratch, make_rule: MakeRule) -> None:
    """A connection that comes before its exec is judged when the exec is there."""
    rule = make_rule("on_connections", CONNECTED)
    engine = Engine(scratch.store, [rule], clock=Clock())
    image, connection = (
        program(5, "/usr/bin/ssh"),
        {
            "connections": {
                "process_exec_id": 5,
                "cgroup_path": "/jobs/job_2",
                "destination_ip": "10.0.0.1",
            }
        },
    )
    naming, exec_event, connected = made(image, connection)
    engine.process(scratch.commit([naming, connected]))
    assert alerts_of(scratch) == []
    assert engine.status().held_rows == 1
    engine.process(scratch.commit([exec_event]))
    engine.close()
    assert [alert.summary for alert in alerts_of(scratch)] == ["/usr/bin/ssh connected"]


def test_a_row_waits_for_its_cgroup(scratch: Scratch, make_rule: MakeRule) -> None:
    """The path of the cgroup is awaited as the image is."""
    engine = Engine(scratch.store, [make_rule()], clock=Clock())
    naming, exec_event = made(program(5))
    engine.process(scratch.commit([exec_event]))
    assert alerts_of(scratch) == []
    engine.process(scratch.commit([naming]))
    engine.close()
    assert [alert.cgroup_path for alert in alerts_of(scratch)] == ["/jobs/job_2"]


def test_a_row_is_judged_as_it_is_when_its_time_is_up(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """What never becomes known is unattributed, not forgotten; it is judged once."""
    clock = Clock()
    engine = Engine(scratch.store, [make_rule("on_connections", CONNECTED)], clock=clock)
    engine.process(
        scratch.commit(made({"connections": {"process_exec_id": 5, "destination_ip": "10.0.0.1"}}))
    )
    clock.now += 1.9
    engine.process(scratch.last_ingest_id)
    assert alerts_of(scratch) == []
    clock.now += 0.2
    engine.process(scratch.last_ingest_id)
    assert [alert.summary for alert in alerts_of(scratch)] == ["unattributed connected"]
    clock.now += 10
    engine.process(scratch.last_ingest_id)
    engine.close()
    assert (len(alerts_of(scratch)), engine.status().held_rows) == (1, 0)


def test_no_more_rows_wait_than_there_is_room_for(
    scratch: Scratch, make_rule: MakeRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond that all are judged as they are, which is said; none is judged twice."""
    monkeypatch.setattr("limes.control.rules.batch.HOLD_ROWS", 2)
    row = {"process_exec_id": 5, "destination_ip": "10.0.0.1"}
    rule = make_rule("on_connections", CONNECTED, dedup_window="1s")
    engine = Engine(scratch.store, [rule], clock=Clock())
    with capture_logs() as logs:
        for first in (0, 2):
            connections = [{"connections": {**row, "at": 600 * (first + n)}} for n in (0, 1)]
            engine.process(scratch.commit(made(*connections)))
    assert (len(alerts_of(scratch)), engine.status().held_rows) == (4, 0)
    assert [log["rows"] for log in logs if log["event"] == HOLD_OVERFLOW] == [4]
    engine.process(scratch.last_ingest_id, flush=True)
    engine.close()
    assert len(alerts_of(scratch)) == 4


def test_rows_that_wait_are_read_again_after_a_restart(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """The saved place is before the oldest row that waits."""
    rule = make_rule("on_connections", CONNECTED)
    connection = {"connections": {"process_exec_id": 5, "destination_ip": "10.0.0.1"}}
    exec_event, connected = made(program(5, "/usr/bin/ssh", cgroup_path=None), connection)
    engine = Engine(scratch.store, [rule])
    engine.process(scratch.commit([connected]))
    engine.close()
    scratch.commit([exec_event])
    engine = Engine(scratch.store, [rule])
    assert engine.status().position == 0
    engine.process(scratch.last_ingest_id)
    engine.close()
    assert [alert.summary for alert in alerts_of(scratch)] == ["/usr/bin/ssh connected"]


def test_a_rule_on_signals_sees_hits_under_open_alerts(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """The second program raises no alert of its own rule, yet the rule on signals fires, once."""
    rules = [make_rule(), make_rule("again", ON_SIGNALS, severity="critical", window="30m")]
    batches = [made(program(n, at=n)) for n in (1, 2, 3)]
    alerts = play(scratch, rules, *batches)
    assert [alert.rule for alert in alerts] == ["bad_program", "again"]


def test_a_failing_rule_on_signals_keeps_its_place(scratch: Scratch, make_rule: MakeRule) -> None:
    """What it could not read it reads when it works again."""
    clock = Clock()
    sql = ON_SIGNALS.replace("WHERE s.rule", "WHERE (SELECT ready FROM hunt.later) AND s.rule")
    rules = [make_rule(), make_rule("again", sql)]
    with capture_logs():
        engine = Engine(scratch.store, rules, clock=clock)
        for n in (1, 2):
            engine.process(scratch.commit(made(program(n))))
        with scratch.store.cursor() as cursor:
            cursor.execute("CREATE VIEW hunt.later AS SELECT TRUE AS ready")
        clock.now += 61
        engine.process(scratch.last_ingest_id)
        engine.close()
    assert [alert.rule for alert in alerts_of(scratch)] == ["bad_program", "again"]


def test_a_new_rule_begins_where_the_others_are(scratch: Scratch, make_rule: MakeRule) -> None:
    """Rules added to a database with a past do not alert on all of it."""
    old = make_rule()
    play(scratch, [old], made(program(1)))
    play(scratch, [old, make_rule("newer")], made(program(2, at=5)))
    assert [(a.rule, a.process_exec_id) for a in alerts_of(scratch)] == [
        ("bad_program", 1),
        ("newer", 2),
    ]


def test_a_new_version_of_a_rule_alerts_anew(scratch: Scratch, make_rule: MakeRule) -> None:
    """The version is part of what an alert is about."""
    rule = make_rule()
    play(scratch, [rule], made(program(1)))
    play(scratch, [replace(rule, version=2)], made(program(2, at=5)))
    assert [alert.rule_version for alert in alerts_of(scratch)] == [1, 2]


def test_events_outside_of_the_range_are_not_at_work(scratch: Scratch, make_rule: MakeRule) -> None:
    """Each commit is at work once, however the commits are cut into passes."""
    rule = make_rule(dedup_window="1s")
    for n in range(1, 20):
        scratch.commit(made(program(n, at=n * 10)))
    engine = Engine(scratch.store, [rule])
    engine.process(7)
    engine.process(scratch.last_ingest_id)
    engine.close()
    assert [alert.process_exec_id for alert in alerts_of(scratch)] == list(range(1, 20))


def test_rules_see_no_row_of_an_earlier_pass(scratch: Scratch, make_rule: MakeRule) -> None:
    """A kind that does not come again is empty in the next pass."""
    sql = BAD.replace(
        "WHERE TRUE", "CROSS JOIN (SELECT count(*) AS n FROM new_connections) WHERE n > 0"
    )
    engine = Engine(scratch.store, [make_rule("both", sql)])
    engine.process(scratch.commit(made({"connections": {"destination_ip": "10.0.0.1"}})))
    engine.process(scratch.commit(made(program(1))))
    engine.close()
    assert alerts_of(scratch) == []


def test_the_time_a_rule_looks_back_begins_with_its_oldest_new_event(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """window_start() is that event's time less the rule's window."""
    sql = BAD.replace("'began: ' || process_executable", "strftime(window_start(), '%H:%M:%S')")
    rules = [make_rule("looks_back", sql, window="10m")]
    alerts = play(scratch, rules, made(program(1, at=3600)))
    assert [alert.summary for alert in alerts] == ["04:30:00"]


def test_a_failure_of_the_store_is_kept_and_ends_followers(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """The thread does not die unseen."""
    with capture_logs():
        engine = Engine(scratch.store, [make_rule()])
        with scratch.store.cursor() as cursor:
            cursor.execute("DROP VIEW hunt.process_execs")
        engine.start()
        scratch.commit(made(program(1)))
        last = scratch.last_ingest_id
        scratch.store.feed.publish(Commit(ingest_id=last, event_ingested=START, tables={}))
        assert engine.board.wait(0, 0.0) is False
        engine.close()
    assert engine.failure is not None
    assert engine.board.closed


def test_alerts_and_places_are_committed_together(scratch: Scratch, make_rule: MakeRule) -> None:
    """When the transaction fails neither is there, and the next try has both."""
    rule = make_rule()
    engine = Engine(scratch.store, [rule])
    last = scratch.commit(made(program(1)))
    with scratch.store.cursor() as cursor:
        cursor.execute("ALTER TABLE signals RENAME TO signals_away")
        with pytest.raises(Exception, match="signals"):
            engine.process(last)
        assert alerts_of(scratch) == []
        places = cursor.execute(query.text("rule_states")).fetchall()
        assert [row[2] for row in places] == [0]
        cursor.execute("ALTER TABLE signals_away RENAME TO signals")
    engine = Engine(scratch.store, [rule])
    engine.process(last)
    engine.close()
    assert [alert.number for alert in alerts_of(scratch)] == [1]
