"""Owns the checks that every rule of a pack must pass; each is a function that yields issues.

Invariant: all issues of all rules are found in one run; none is found by running a rule on data.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
from limes.control.errors import RuleError
from limes.control.rules.batch import MicroBatch
from limes.control.rules.cases import Case, read_cases
from limes.control.rules.hits import check_columns
from limes.control.rules.load import line_of, read_pack
from limes.control.rules.lock import breach, read_lock
from limes.control.rules.model import RESULT_COLUMNS, SIGNALS, Pack, Rule, bare
from limes.control.rules.mutants import mutants
from limes.control.rules.scratch import Scratch
from limes.control.store import query
from limes.v1 import schema

ATTACK_ID: Final = re.compile(r"^(T\d{4}(\.\d{3})?|AML\.T\d{4}(\.\d{3})?)$")
_READ: Final = re.compile(r"\b(?:new_|hunt\.)([a-z_]+)\b")
NEGATIVES: Final = 2
STEP: Final = ("CREATE", "OR", "REPLACE", "TEMP", "TABLE")  # words each step begins with


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One fault of a rule or a pack. `line` is 0 when it lies in no one line."""

    code: str
    rule: str
    path: Path
    line: int
    message: str


Check = Callable[[Rule], Iterable[Issue]]


def lint(pack: Pack, *, others: Sequence[Pack] = ()) -> list[Issue]:
    """Return every issue of a pack; ids and names must also be unique among `others`."""
    issues: list[Issue] = []
    for rule in pack.rules:
        for check in (unsaid, attack, dedup_key, header, keys, proof):
            issues += check(rule)
    issues += duplicates(pack, others)
    issues += locked(pack)
    with Scratch() as scratch, scratch.store.cursor() as cursor:
        MicroBatch(cursor, frozenset(schema.KINDS))
        columns = view_columns(cursor)
        for rule in pack.rules:
            issues += requirements(rule, columns)
            issues += result(rule, cursor)
    return sorted(issues, key=lambda issue: (str(issue.path), issue.line, issue.code))


def lint_folder(folder: Path, *, others: Sequence[Pack] = ()) -> list[Issue]:
    """Return every issue of the pack in a folder, those of files that cannot be read included."""
    pack, errors = read_pack(folder)
    unreadable = [
        Issue(code="unreadable", rule=e.rule, path=e.path, line=e.line, message=str(e))
        for e in errors
    ]
    return [*unreadable, *lint(pack, others=others)]


def unsaid(rule: Rule) -> Iterator[Issue]:
    """What every rule must say in words."""
    for name in ("description", "blind_spots", "false_positives", "triage", "attack", "dedup_key"):
        if not getattr(rule, name):
            yield issue(rule, "unsaid", f"{name} is empty", key=name)


def attack(rule: Rule) -> Iterator[Issue]:
    """Ids of ATT&CK (T1234, T1234.001) and ATLAS (AML.T1234)."""
    for technique in rule.attack:
        if not ATTACK_ID.match(technique):
            yield issue(
                rule,
                "attack_id",
                f"{technique} is no id of ATT&CK or ATLAS: write T1572 or AML.T0072",
                key="attack",
            )


def dedup_key(rule: Rule) -> Iterator[Issue]:
    """The key names result columns."""
    for name in rule.dedup_key:
        if name not in RESULT_COLUMNS:
            yield issue(
                rule,
                "unknown_column",
                f"dedup_key names {name}; there are {', '.join(RESULT_COLUMNS)}",
                key="dedup_key",
            )


def header(rule: Rule) -> Iterator[Issue]:
    """The SQL opens with a comment that says what it finds."""
    if not rule.sql.startswith("-- "):
        message = "the SQL does not begin with a comment that says what it finds"
        yield sql_issue(rule, "no_header", message, line=1)


def keys(rule: Rule) -> Iterator[Issue]:
    """At least one condition is marked, so that tests can take it out."""
    if not mutants(rule):
        message = "no condition is marked with `-- key:`: tests cannot show that it is needed"
        yield sql_issue(rule, "no_key", message, line=1)


def proof(rule: Rule) -> Iterator[Issue]:
    """Cases: one that fires, two that do not, one of these a single field away."""
    try:
        cases = read_cases(rule)
    except RuleError as error:
        yield Issue(
            code="cases", rule=rule.name, path=error.path, line=error.line, message=str(error)
        )
        return
    positives = [case for case in cases if case.positive]
    negatives = [case for case in cases if not case.positive]
    faults = []
    if not positives:
        faults.append("no case expects an alert")
    if len(negatives) < NEGATIVES:
        faults.append(f"{len(negatives)} cases expect none; write at least {NEGATIVES}")
    if not any(distance(one, other) == 1 for one in positives for other in negatives):
        faults.append("no case without an alert differs from one with it in a single field")
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    faults += [f"two cases are named {name!r}" for name in twice]
    for fault in faults:
        yield Issue(code="cases", rule=rule.name, path=rule.cases_path, line=0, message=fault)


def distance(one: Case, other: Case) -> int:
    """Return in how many fields two cases differ; a large number when they have other events."""
    if [kind for kind, _ in one.given] != [kind for kind, _ in other.given]:
        return 1_000
    differing = 0
    for (_, left), (_, right) in zip(one.given, other.given, strict=True):
        differing += sum(left.get(name) != right.get(name) for name in left.keys() | right.keys())
    return differing + (one.policy != other.policy)


def duplicates(pack: Pack, others: Sequence[Pack]) -> Iterator[Issue]:
    """No two rules have one id or one name."""
    rules = [rule for each in (*others, pack) for rule in each.rules]
    for attribute in ("id", "name"):
        first: dict[str, Rule] = {}
        for rule in rules:
            value = getattr(rule, attribute)
            known = first.setdefault(value, rule)
            if known is not rule and rule in pack.rules:
                message = f"{value} is that of {known.path}"
                yield issue(rule, f"duplicate_{attribute}", message, key=attribute)


def locked(pack: Pack) -> Iterator[Issue]:
    """The SQL is that of the locked version."""
    try:
        lock = read_lock(pack)
    except RuleError as error:
        yield Issue(code="lock", rule="", path=error.path, line=0, message=str(error))
        return
    for rule in pack.rules:
        if message := breach(rule, lock.get(rule.name)):
            yield issue(rule, "lock", message, key="version")
    for name in lock.keys() - {rule.name for rule in pack.rules}:
        yield Issue(
            code="lock",
            rule=name,
            path=pack.lock_path,
            line=0,
            message="it is locked, but the pack has no such rule",
        )


def view_columns(cursor: duckdb.DuckDBPyConnection) -> dict[str, frozenset[str]]:
    """Return the columns of each view of schema `hunt`."""
    columns: dict[str, set[str]] = {}
    for view, column in cursor.execute(query.text("view_columns")).fetchall():
        columns.setdefault(view, set()).add(column)
    return {view: frozenset(names) for view, names in columns.items()}


def requirements(rule: Rule, columns: dict[str, frozenset[str]]) -> Iterator[Issue]:
    """What it requires exists, and it requires every kind of event that its SQL reads."""
    for kind, names in rule.requires.items():
        if kind not in columns:
            yield issue(rule, "unknown_kind", f"requires {kind}: no such view", key="requires")
            continue
        for name in names:
            if name not in columns[kind]:
                message = f"requires {kind}.{name}: no such column"
                yield issue(rule, "unknown_column", message, key="requires")
    events = {*schema.KINDS, SIGNALS}
    for kind in sorted(set(_READ.findall(bare(rule.sql))) & events - rule.requires.keys()):
        yield issue(rule, "unsaid", f"its SQL reads {kind}, which requires lacks", key="requires")


def result(rule: Rule, cursor: duckdb.DuckDBPyConnection) -> Iterator[Issue]:
    """The SQL runs, and its last statement returns the result columns in their types."""
    try:
        *steps, last = cursor.extract_statements(rule.sql)
        for step in steps:
            if not is_step(rule, step):
                yield sql_issue(rule, "step", f"begin each step with {step_prefix(rule)}")
                return
            cursor.execute(step)
        relation = cursor.sql(last.query)
        check_columns(rule, relation.columns)
    except (duckdb.Error, RuleError, ValueError) as error:
        text = str(error)
        match = re.search(r"LINE (\d+):", text)
        line = int(match[1]) if match else 0
        yield sql_issue(rule, "sql", " ".join(text.split()), line=line)
        return
    for name, kind in zip(relation.columns, relation.types, strict=True):
        if str(kind) != RESULT_COLUMNS[name]:
            message = f"{name} is {kind}, not {RESULT_COLUMNS[name]}"
            yield sql_issue(rule, "result_type", message)


def step_prefix(rule: Rule) -> str:
    """Return how each step of the rule must begin: tables of its own name, so none meet."""
    return f"{' '.join(STEP)} {rule.name}_"


def is_step(rule: Rule, statement: duckdb.Statement) -> bool:
    """Return whether a statement makes a temporary table of this rule's own."""
    return bare(statement.query).startswith(step_prefix(rule))


def sql_issue(rule: Rule, code: str, message: str, *, line: int = 0) -> Issue:
    return Issue(code=code, rule=rule.name, path=rule.sql_path, line=line, message=message)


def issue(rule: Rule, code: str, message: str, *, key: str) -> Issue:
    return Issue(
        code=code, rule=rule.name, path=rule.path, line=line_of(rule.path, key), message=message
    )
