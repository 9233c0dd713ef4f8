"""Owns how rules, their cases and what is wrong with them are shown.

Invariant: a pack that cannot be read is an error, never an empty list.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from limes.cli.errors import UsageError
from limes.cli.output import Form, console, note, show
from limes.cli.show.text import plural
from limes.control import log
from limes.control.rules.cases import CaseResult, play_cases
from limes.control.rules.lint import lint_folder
from limes.control.rules.load import as_plain, load_pack, read_pack, shipped_packs
from limes.control.rules.lock import write_lock
from limes.control.rules.model import Pack
from rich.progress import Progress, SpinnerColumn, TextColumn

_LEAST: Final = {"rule": 0, "attack": 10, "description": 40}  # characters in a list
LISTED: Final = ("rule", "severity", "version", "status", "attack", "description")


def packs_in(folders: Sequence[Path] | None) -> list[Pack]:
    """Return the packs of the folders, else those that come along. Raises RuleError."""
    return [load_pack(folder) for folder in folders or shipped_packs()]


def show_list(folders: Sequence[Path] | None, form: Form) -> None:
    """Show one row a rule; in JSON and CSV with everything its file says."""
    rules = [rule for pack in packs_in(folders) for rule in pack.rules]
    rows = [{"rule": rule.name, **as_plain(rule)} for rule in rules]
    for row in rows:
        del row["name"]
        if form is Form.TABLE:
            row["description"] = row["description"].partition(". ")[0].rstrip(".")
    show(
        rows,
        LISTED if form is Form.TABLE else list(rows[0]),
        form,
        wide=LISTED[-1:],
        least=_LEAST,
    )


def show_lint(folders: Sequence[Path] | None, form: Form, *, lock: bool) -> bool:
    """Show every issue of the packs, and return whether there is none."""
    log.configure("error")
    paths = list(folders or shipped_packs())
    if lock:
        for pack in packs_in(paths):
            note(f"Wrote {pack.lock_path} for {', '.join(write_lock(pack)) or 'no changed rule'}.")
    readable = [read_pack(path)[0] for path in paths]
    rows = [
        {
            "place": f"{issue.path}:{issue.line}" if issue.line else str(issue.path),
            "rule": issue.rule,
            "code": issue.code,
            "message": issue.message,
        }
        for path in paths
        for issue in lint_folder(path, others=[pack for pack in readable if pack.path != path])
    ]
    if rows or form is not Form.TABLE:
        show(rows, ("place", "rule", "code", "message"), form)
    rules = sum(len(pack.rules) for pack in readable)
    note(f"{plural(rules, 'rule')} checked: {plural(len(rows), 'issue')}.")
    return not rows


def show_test(folders: Sequence[Path] | None, names: Sequence[str], form: Form) -> bool:
    """Run the cases, show what failed, and return whether all passed."""
    log.configure("error")
    packs = packs_in(folders)
    known = [rule.name for pack in packs for rule in pack.rules]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UsageError(f"There is no rule {', '.join(unknown)}. Rules: {', '.join(known)}.")
    results = [result for pack in packs for result in _run(pack, names)]
    failed = [result for result in results if not result.passed]
    if form is Form.TABLE:
        _show_summary(results)
    rows = [
        {
            "rule": result.rule,
            "case": result.case,
            "order": result.order,
            "passed": result.passed,
            "problem": result.problem,
        }
        for result in (failed if form is Form.TABLE else results)
    ]
    if rows:
        show(rows, list(rows[0]), form)
    runs = len(results)
    cases = len({(result.rule, result.case) for result in results})
    note(f"{cases} cases in {runs} runs: {runs - len(failed)} passed, {len(failed)} failed.")
    return not failed


def _run(pack: Pack, names: Sequence[str]) -> Iterator[CaseResult]:
    """Yield the results of the cases; a terminal shows meanwhile where they are."""
    columns = (SpinnerColumn(), TextColumn("{task.completed} runs, {task.description}"))
    screen = console(sys.stderr)
    with Progress(
        *columns, console=screen, transient=True, disable=not screen.is_terminal
    ) as progress:
        task = progress.add_task(pack.name)
        for result in play_cases(pack, only=names):
            progress.update(task, advance=1, description=f"{result.rule}: {result.case}")
            yield result


def _show_summary(results: Sequence[CaseResult]) -> None:
    rules = dict.fromkeys(result.rule for result in results)
    rows = [
        {
            "rule": rule,
            "cases": len({r.case for r in results if r.rule == rule}),
            "runs": sum(r.rule == rule for r in results),
            "failed": sum(r.rule == rule and not r.passed for r in results),
        }
        for rule in rules
    ]
    show(rows, ("rule", "cases", "runs", "failed"), Form.TABLE)
