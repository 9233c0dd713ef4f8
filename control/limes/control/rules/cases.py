"""Owns the proof of a rule: given events, expected alerts, through the real engine and schema.

Invariant: a case says the same whatever the order of arrival, so each is run in four orders.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from limes.control.alerts.model import Alert
from limes.control.alerts.reading import list_alerts
from limes.control.errors import PolicyError, RuleError
from limes.control.policy import Policy, PolicyFile, check_policy, install_policy
from limes.control.rules.engine import Engine
from limes.control.rules.given import Event, events_of
from limes.control.rules.load import read_yaml
from limes.control.rules.model import Pack, Rule
from limes.control.rules.scratch import Scratch

Order = Literal["together", "one_by_one", "images_last", "backwards"]
ORDERS: Final[tuple[Order, ...]] = ("together", "one_by_one", "images_last", "backwards")
LONG: Final = 8
BROKEN: Final = "the rule cannot run"
_NAMING: Final = ("cgroup_events", "process_execs")


class CaseEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case of a <rule>.cases.yml."""

    name: str
    given: tuple[dict[str, dict[str, Any]], ...]
    expect: tuple[dict[str, Any], ...]
    policy: PolicyFile | None = None


class CasesFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """<rule>.cases.yml: `policy` is for cases without their own; `shared` holds YAML anchors."""

    policy: PolicyFile
    cases: tuple[CaseEntry, ...]
    shared: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case: events of the rule's world and the alerts of that rule, as columns to compare."""

    rule: str
    name: str
    path: Path
    policy: Policy
    given: tuple[tuple[str, dict[str, Any]], ...]
    events: tuple[Event, ...]
    expect: tuple[dict[str, Any], ...]

    @property
    def positive(self) -> bool:
        return bool(self.expect)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """How a case went; `problem` is empty when it passed."""

    rule: str
    case: str
    order: Order
    problem: str

    @property
    def passed(self) -> bool:
        return not self.problem


def read_cases(rule: Rule) -> tuple[Case, ...]:
    """Return the cases beside a rule; raises RuleError with file and line."""
    path = rule.cases_path
    if not path.is_file():
        raise RuleError("has no cases beside it", path=path, rule=rule.name)
    file = read_yaml(path, CasesFile)
    try:
        return tuple(_case(rule, path, file, entry) for entry in file.cases)
    except PolicyError as error:
        raise RuleError(str(error), path=path, rule=rule.name) from error


def run_cases(
    pack: Pack, *, only: Sequence[str] = (), orders: Sequence[Order] = ORDERS
) -> list[CaseResult]:
    """Run the cases of a pack's rules (of those named in `only`), each in every order."""
    return list(play_cases(pack, only=only, orders=orders))


def play_cases(
    pack: Pack, *, only: Sequence[str] = (), orders: Sequence[Order] = ORDERS
) -> Iterator[CaseResult]:
    """Yield the results of `run_cases` as they come. Raises RuleError for unreadable cases."""
    with Scratch() as scratch:
        for rule in pack.rules:
            if only and rule.name not in only:
                continue
            rules = at_work(rule, pack.rules)
            broken = cannot_run(scratch, rules, rule.name)
            for case in read_cases(rule):
                for order in distinct(case.events, orders):
                    problem = broken or run_case(scratch, rules, case, order)
                    yield CaseResult(rule=rule.name, case=case.name, order=order, problem=problem)


def at_work(rule: Rule, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return the rules that a case of `rule` needs: those whose signals it reads as well."""
    return tuple(rules) if rule.on_signals else (rule,)


def run_case(scratch: Scratch, rules: Sequence[Rule], case: Case, order: Order) -> str:
    """Play a case and return what differs from what it expects; empty when nothing does."""
    scratch.reset()
    with scratch.store.cursor() as cursor:
        install_policy(cursor, case.policy)
    engine = Engine(scratch.store, rules, tried=True)
    try:
        for batch in batches(case.events, order):
            engine.process(scratch.commit(batch))
        engine.process(scratch.last_ingest_id, flush=True)
        failing = dict(engine.status().failing)
    finally:
        engine.close()
    if case.rule in failing:
        return f"{BROKEN}: {failing[case.rule]}"
    with scratch.store.cursor() as cursor:
        alerts = [alert for alert in list_alerts(cursor) if alert.rule == case.rule]
    return difference(case.expect, alerts)


def cannot_run(scratch: Scratch, rules: Sequence[Rule], name: str) -> str:
    """Return why the rule of a name cannot run even on nothing; empty when it can."""
    scratch.reset()
    engine = Engine(scratch.store, rules)
    failing = dict(engine.status().failing)
    engine.close()
    return f"{BROKEN}: {failing[name]}" if name in failing else ""


def distinct(events: Sequence[Event], orders: Sequence[Order]) -> list[Order]:
    """Return the orders without those in which the same would arrive as in one before.

    A case of many events is played in two of them: the others differ from these in nothing that
    a case of few events does not show.
    """
    if len(events) > LONG:
        orders = [order for order in orders if order in ("together", "backwards")]
    seen: dict[tuple[tuple[int, ...], ...], Order] = {}
    for order in orders:
        arrival = tuple(tuple(e.seq for e in batch) for batch in batches(events, order))
        seen.setdefault(arrival, order)
    return list(seen.values())


def batches(events: Sequence[Event], order: Order) -> list[list[Event]]:
    """Return the commits that bring the events; rows that name images and cgroups keep theirs."""
    naming = [event for event in events if event.kind in _NAMING]
    others = [event for event in events if event.kind not in _NAMING]
    if order == "together":
        return [list(events)] if events else []
    if order == "images_last":
        return [[event] for event in (*others, *naming)]
    if order == "backwards":
        return [[event] for event in (*naming, *reversed(others))]
    return [[event] for event in events]


def difference(expect: Iterable[dict[str, Any]], alerts: list[Alert]) -> str:
    """Return how the alerts differ from what is expected; `summary` is a part of the summary."""
    left = list(alerts)
    missing = []
    for wanted in expect:
        fitting = next((alert for alert in left if _fits(wanted, alert)), None)
        if fitting is None:
            missing.append(wanted)
        else:
            left.remove(fitting)
    parts = [f"expected {wanted}, which did not come" for wanted in missing]
    parts += [f"did not expect {alert.cgroup_path}: {alert.summary}" for alert in left]
    return "; ".join(parts)


def _fits(wanted: dict[str, Any], alert: Alert) -> bool:
    for name, value in wanted.items():
        actual = getattr(alert, name)
        if name == "summary":
            if value not in actual:
                return False
        elif actual != (tuple(value) if isinstance(value, list) else value):
            return False
    return True


def _case(rule: Rule, path: Path, file: CasesFile, entry: CaseEntry) -> Case:
    unknown = [
        name for row in entry.expect for name in row if name not in Alert.__dataclass_fields__
    ]
    if unknown:
        raise RuleError(
            f"case {entry.name!r} expects {', '.join(unknown)}, which alerts do not have",
            path=path,
            rule=rule.name,
        )
    try:
        events = events_of(entry.given)
    except ValueError as error:
        raise RuleError(f"case {entry.name!r}: {error}", path=path, rule=rule.name) from error
    return Case(
        rule=rule.name,
        name=entry.name,
        path=path,
        policy=check_policy(entry.policy or file.policy, source=f"{path} ({entry.name})"),
        given=tuple(next(iter(item.items())) for item in entry.given),
        events=events,
        expect=entry.expect,
    )
