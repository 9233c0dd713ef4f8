"""The pack training_host: every case holds, every key condition is needed."""

import re
from pathlib import Path

import pytest
from limes.control.rules.cases import read_cases, run_cases
from limes.control.rules.lint import lint_folder
from limes.control.rules.load import load_pack, shipped_packs
from limes.control.rules.model import Rule
from limes.control.rules.mutants import mutants, notice
from limes.control.rules.scratch import Scratch
from limes.drill.policy import AGENT_RULES

FOLDER = next(folder for folder in shipped_packs() if folder.name == "training_host")
PACK = load_pack(FOLDER)

every_rule = pytest.mark.parametrize("rule", PACK.rules, ids=lambda rule: rule.name)


# What the drill does not play, and why: its agent uses ssh, not a shell of its own at a socket.
NOT_PLAYED = {"reverse_shell"}


def test_the_pack_has_the_rules_that_the_drill_must_trip() -> None:
    """Those, and the ones it does not play."""
    assert {rule.name for rule in PACK.rules} == {*AGENT_RULES, *NOT_PLAYED}


def test_there_is_nothing_to_lint() -> None:
    """Ids, columns, blind spots, cases and the lock are in order."""
    assert [f"{issue.path}:{issue.line}: {issue.message}" for issue in lint_folder(FOLDER)] == []


@every_rule
def test_every_case_holds_in_every_order_of_arrival(rule: Rule) -> None:
    """Together, one by one, with names last, and backwards."""
    results = run_cases(PACK, only=[rule.name])
    assert {result.case for result in results} == {case.name for case in read_cases(rule)}
    assert [result for result in results if not result.passed] == []


@every_rule
def test_every_key_condition_is_needed(rule: Rule) -> None:
    """Each one is taken out in turn: a case must fail, and not because the SQL is broken."""
    cases = read_cases(rule)
    with Scratch() as scratch:
        unnoticed = [
            f"{rule.sql_path.name}:{mutant.line}: {mutant.reason}"
            for mutant in mutants(rule)
            if not notice(scratch, PACK, mutant, cases)
        ]
    assert unnoticed == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.sql")), ids=lambda path: path.stem)
def test_no_rule_knows_the_drill(path: Path) -> None:
    """Its addresses, ports and names are the policy's business or nobody's."""
    text = path.read_text()
    assert not re.search(r"drill|203\.0\.113|198\.51\.100|\bjob_[123]\b", text)
    assert "destination_port =" not in text
    assert "destination_port IN" not in text
