"""Commits that cannot be taken to work: stepped over and counted, never the end of detection."""

import pytest
from limes.control.rules.engine import COMMIT_STEPPED_OVER, Engine, Limits
from limes.control.rules.scratch import Scratch
from structlog.testing import capture_logs

from .conftest import MakeRule, made, program
from .test_engine import CONNECTED, Clock, alerts_of

# Views that no row of port 443 can be read through: it cannot be converted, it takes for ever.
UNCONVERTIBLE = """
CREATE OR REPLACE VIEW hunt.connections AS
SELECT * REPLACE (if(destination_port = 443, 'x', destination_port::VARCHAR)::UINTEGER
    AS destination_port)
FROM was
"""
ENDLESS = """
CREATE OR REPLACE VIEW hunt.connections AS
SELECT was.*
FROM was, LATERAL range(if(was.destination_port = 443, 1000000000000, 1)) AS r (n)
WHERE r.n = 0
"""


def connection(exec_id: int, port: int) -> dict[str, object]:
    row = {"process_exec_id": exec_id, "destination_ip": "203.0.113.4", "destination_port": port}
    return {"connections": {**row, "cgroup_path": "/jobs/job_2"}}


def replace_view(scratch: Scratch, view: str) -> None:
    with scratch.store.cursor() as cursor:
        cursor.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'connections'")
        ((sql,),) = cursor.fetchall()
        cursor.execute(sql.replace("hunt.connections", "was", 1))
        cursor.execute(view)


def losses(scratch: Scratch) -> list[tuple[object, ...]]:
    with scratch.store.cursor() as cursor:
        cursor.execute(
            "SELECT ingest_id, host_id, loss_stage, loss_cause, loss_count, loss_first_seq,"
            " loss_last_seq FROM hunt.losses ORDER BY ALL"
        )
        return cursor.fetchall()


@pytest.mark.parametrize("view", [UNCONVERTIBLE, ENDLESS])
def test_a_commit_that_cannot_be_read_is_stepped_over_and_counted(
    scratch: Scratch, make_rule: MakeRule, view: str
) -> None:
    """The commits around it alert, the loss is said once, also when another rule comes to it."""
    replace_view(scratch, view)
    rules = [make_rule("on_connections", CONNECTED), make_rule("behind", CONNECTED)]
    images = program(1, "/one"), program(2, "/two"), program(3, "/three")
    events = made(*images, connection(1, 80), connection(2, 443), connection(3, 80))
    clock = Clock()
    with capture_logs() as logs:
        engine = Engine(scratch.store, rules, clock=clock, limits=Limits(fill=3.0))
        engine._on_events[1].fail("a test", clock.now, first=1, most=1)
        for batch in (events[:-3], *([event] for event in events[-3:])):
            last = scratch.commit(batch)
        engine.process(last)
        clock.now += 2
        engine.process(last)
        status = engine.status()
        engine.close()
    assert (status.position, status.failing) == (last, ())
    with scratch.store.cursor() as cursor:
        cursor.execute("SELECT rule, process_exec_id FROM hunt.signals ORDER BY ALL")
        found = cursor.fetchall()
    assert found == [(rule, n) for rule in ("behind", "on_connections") for n in (1, 3)]
    assert losses(scratch) == [(3, "host-1", "rules", "commit_unreadable", 1, 6, 6)]
    assert [log["until"] for log in logs if log["event"] == COMMIT_STEPPED_OVER] == [3, 3]


def test_rows_that_wait_and_cannot_be_read_are_counted(
    scratch: Scratch, make_rule: MakeRule
) -> None:
    """Also a row that was held back is written off by number when it stops the pass."""
    naming, waits, image = made(connection(1, 443), program(1, cgroup_path=None))
    clock = Clock()
    with capture_logs():
        engine = Engine(scratch.store, [make_rule("on_connections", CONNECTED)], clock=clock)
        last = scratch.commit([naming, waits])
        engine.process(last)
        assert engine.status().held_rows == 1
        replace_view(scratch, UNCONVERTIBLE)
        clock.now += 3
        engine.process(last)
        assert engine.status().held_rows == 0
        engine.process(scratch.commit([image]))
        engine.close()
    assert losses(scratch) == [(1, "host-1", "rules", "commit_unreadable", 1, 2, 2)]
    assert alerts_of(scratch) == []
