"""Owns the course of `limes up` and `limes replay`: start, play or wait, settle, judge, tell.

Invariant: a drill is judged only after everything it caused was committed and read by the rules.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from limes.cli.commands import CANNOT, NO, OK
from limes.cli.live.narrate import Narrator, Told
from limes.cli.live.report import JsonReporter, Reporter
from limes.cli.live.session import SETTLE_SECONDS, WHOLE_HOST, SensorOptions, Session
from limes.cli.live.state import held
from limes.cli.live.stopping import Course, stop_by_signals, telling
from limes.cli.live.verdict import Pair, Verdict, judge
from limes.cli.output import note, working
from limes.control.hunt.library import shipped_hunts
from limes.drill import DrillWorld, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What `limes up` was asked for."""

    state: Path
    listen: str | None
    policy: Path | None
    packs: tuple[Path, ...]
    sensor: SensorOptions
    drill: bool
    seed: int | None
    as_json: bool


def up(options: UpOptions) -> int:
    """Run until Ctrl-C, or for a drill; return the exit code."""
    stop_by_signals()
    with held(options.state):
        if options.drill:
            return _up_with_drill(options, JsonReporter() if options.as_json else Narrator())
        return _up(options)


def _up(options: UpOptions) -> int:
    reporter = JsonReporter() if options.as_json else Narrator(told=Told.ALERTS)
    undone = "while it started. Nothing was recorded."
    with telling(lambda: undone), _session(options, reporter, options.policy) as session:
        session.start_sensor(options.sensor)
        note("Alerts appear here. In another terminal:")
        for command in ("events", "hunt 'FROM hunt.process_execs'", "status"):
            note(f"  limes {command} --state {options.state}")
        _stay(session)
    return OK


def replay(options: UpOptions) -> int:
    """Feed a recording through sensor and control plane; return the exit code."""
    stop_by_signals()
    reporter = JsonReporter() if options.as_json else Narrator(told=Told.AFTERWARDS)
    undone = "before the whole recording was read. Nothing was concluded from it."
    with (
        telling(lambda: undone),
        held(options.state),
        _session(options, reporter, options.policy) as session,
    ):
        session.start_sensor(options.sensor)
        with working("Reading the recording"):
            session.settle_after_sensor()
        verdict = _conclude(session, options.state, reporter, expected=None)
        _stay_on_terminal(session, options)
    return CANNOT if verdict.broken else OK


def _up_with_drill(options: UpOptions, reporter: Reporter) -> int:
    course = Course()
    with telling(course.undone), ExitStack() as stack:
        world = stack.enter_context(
            DrillWorld.create(seed=options.seed, state_dir=options.state / "drill")
        )
        policy = _write_policy(options.state, world)
        session = stack.enter_context(_session(options, reporter, policy))
        session.start_sensor(
            _sensor_options(options.sensor, world),
            cgroup=world.cgroup_path,
            folder=str(world.directory),
        )
        course.play(world.step_names())
        world.play(lambda step: _tell_step(reporter, course, step))
        course.played()
        session.settle()
        expected = [(alert.rule, alert.cgroup) for alert in world.expected()]
        verdict = _conclude(session, options.state, reporter, expected=expected)
        world.close()
        _stay_on_terminal(session, options)
    if verdict.broken:
        return CANNOT
    return OK if verdict.ok else NO


def _session(options: UpOptions, reporter: Reporter, policy: Path | None) -> Session:
    return Session(
        options.state,
        reporter,
        listen=options.listen,
        policy=policy,
        packs=options.packs,
    )


def _sensor_options(wanted: SensorOptions, world: DrillWorld) -> SensorOptions:
    """Record the drill's cgroup alone unless a scope was given, and watch its simulated GPU."""
    scope = wanted.scope or (world.cgroup_path,)
    hooks = wanted.syscall_hooks
    return replace(
        wanted,
        scope=scope,
        syscall_hooks=WHOLE_HOST not in scope if hooks is None else hooks,
        gpu_nodes=tuple(
            {"path": str(node.path), "name": node.path.name, "simulated": node.simulated}
            for node in world.gpu_nodes
        ),
    )


def _write_policy(state: Path, world: DrillWorld) -> Path:
    path = state / "drill-policy.toml"
    path.write_text(world.policy_toml(), encoding="utf-8")
    return path


def _tell_step(reporter: Reporter, course: Course, step: Step) -> None:
    course.step()
    reporter.step(step.name, step.label, step.started_at)


def _conclude(
    session: Session, state: Path, reporter: Reporter, *, expected: list[Pair] | None
) -> Verdict:
    """Tell alerts, hunts and verdict; return the verdict."""
    alerts = session.watch.alerts(SETTLE_SECONDS)
    reporter.settled()
    verdict = judge(
        session.watch.seen,
        alerts,
        expected,
        loader=session.loader,
        database=session.database,
        rules=session.client.status().rules,
    )
    reporter.alerts(alerts)
    for hunt in shipped_hunts().values():
        reporter.hunt(hunt, session.client.hunt(hunt.sql, max_age_seconds=0))
    reporter.result(verdict, state)
    return verdict


def _stay_on_terminal(session: Session, options: UpOptions) -> None:
    if sys.stdout.isatty() and not options.as_json:
        _stay(session)


def _stay(session: Session) -> None:
    """Keep both processes up until Ctrl-C."""
    note("Both processes go on until Ctrl-C.")
    try:
        session.wait_for_end()
    except KeyboardInterrupt:
        return  # as told to
