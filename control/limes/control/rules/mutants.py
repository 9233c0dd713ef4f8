"""Owns rules with one key condition taken out: proof that the cases would notice.

A condition is marked by `-- key: reason` at the end of its line, one of several lines by `-- key
begin: reason` and `-- key end`, which nest. Invariant: nothing else of a mutant differs.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from limes.control.rules.cases import BROKEN, Case, at_work, cannot_run, run_case
from limes.control.rules.model import Pack, Rule
from limes.control.rules.scratch import Scratch

_KEY: Final = re.compile(r"-- key(?P<begin> begin)?: (?P<reason>.+)$")
_END: Final = "-- key end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A rule without the condition that begins at `line`."""

    rule: Rule
    line: int
    reason: str


def mutants(rule: Rule) -> list[Mutant]:
    """Return one mutant for each marked condition of a rule."""
    lines = rule.sql.splitlines()
    found = []
    for number, line in enumerate(lines):
        match = _KEY.search(line)
        if match is None:
            continue
        end = _end(lines, number) if match["begin"] else number
        rest = "\n".join([*lines[:number], *lines[end + 1 :], ""])
        found.append(Mutant(rule=replace(rule, sql=rest), line=number + 1, reason=match["reason"]))
    return found


def notice(scratch: Scratch, pack: Pack, mutant: Mutant, cases: tuple[Case, ...]) -> str:
    """Return the name of a case that fails with the mutant; empty when it survives them all.

    Raises ValueError when it is no valid SQL: its failure would prove nothing.
    """
    rules = [mutant.rule if rule.id == mutant.rule.id else rule for rule in pack.rules]
    working = at_work(mutant.rule, rules)
    if problem := cannot_run(scratch, working, mutant.rule.name):
        raise ValueError(f"line {mutant.line} ({mutant.reason}): {problem}")
    for case in cases:
        problem = run_case(scratch, working, case, "together")
        if problem.startswith(BROKEN):
            raise ValueError(f"line {mutant.line} ({mutant.reason}): {problem}")
        if problem:
            return case.name
    return ""


def _end(lines: list[str], start: int) -> int:
    """Return the line that closes the condition which begins at `start`; `start` without one."""
    open_conditions = 0
    for number in range(start, len(lines)):
        match = _KEY.search(lines[number])
        open_conditions += bool(match and match["begin"])
        open_conditions -= lines[number].rstrip().endswith(_END)
        if not open_conditions:
            return number
    return start
