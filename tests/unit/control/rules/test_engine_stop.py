"""The engine's end: a stop with much unread, a defect."""

import threading

import pytest
from limes.control.rules.engine import CHUNK, ENGINE_FAILED, Engine
from limes.control.rules.scratch import Scratch
from structlog.testing import capture_logs

from .conftest import MakeRule, made, program


def test_a_stop_does_not_wait_for_a_long_backlog(scratch: Scratch, make_rule: MakeRule) -> None:
    """It ends after a step once its time is up; the next start reads the rest."""
    rule = make_rule()
    for number in range(2 * CHUNK):
        last = scratch.commit(made(program(number + 1)))
    engine = Engine(scratch.store, [rule])
    engine._stop_by = 0.0
    engine._advance(last)
    assert engine.status().position == CHUNK
    engine.close()
    resumed = Engine(scratch.store, [rule])
    resumed._advance(last)
    assert resumed.status().position == last
    resumed.close()


def test_a_defect_is_told_to_whoever_runs_the_server(
    scratch: Scratch, make_rule: MakeRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose rules are dead must not seem well."""
    failed = threading.Event()
    engine = Engine(scratch.store, [make_rule()], on_failure=failed.set)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(engine, "_pass", broken)
    scratch.commit(made(program(1)))
    with capture_logs() as logs:
        engine.start()
        assert failed.wait(30)
    assert isinstance(engine.failure, ZeroDivisionError)
    assert [entry["event"] for entry in logs] == [ENGINE_FAILED]
    engine.close()
