"""docs/writing-rules.md: the rule that it writes is a good rule."""

import re
from pathlib import Path

from limes.control.rules.cases import read_cases, run_cases
from limes.control.rules.lint import lint_folder
from limes.control.rules.load import load_pack
from limes.control.rules.lock import write_lock
from limes.control.rules.model import RESULT_COLUMNS
from limes.control.rules.mutants import mutants, notice
from limes.control.rules.scratch import Scratch

PAGE = (Path(__file__).parents[2] / "docs" / "writing-rules.md").read_text()


def block(heading: str) -> str:
    """Return the first block of code below a heading."""
    section = PAGE.split(f"### {heading}\n", 1)[1]
    match = re.search(r"```\w+\n(.*?)```", section, re.DOTALL)
    assert match is not None
    return match[1]


def test_the_rule_of_the_page_works(tmp_path: Path) -> None:
    """It has nothing to lint, its cases hold, and each of its conditions is needed."""
    (tmp_path / "pack.yml").write_text("name: mine\ndescription: From the page.\n")
    path = tmp_path / "execution" / "program_from_writable_directory.yml"
    path.parent.mkdir()
    path.write_text(block("The description"))
    path.with_suffix(".sql").write_text(block("The SQL"))
    path.with_suffix(".cases.yml").write_text(block("The cases"))
    pack = load_pack(tmp_path)
    assert write_lock(pack) == ["program_from_writable_directory"]
    assert lint_folder(tmp_path) == []
    assert [result for result in run_cases(pack) if not result.passed] == []
    (rule,) = pack.rules
    with Scratch() as scratch:
        found = [notice(scratch, pack, mutant, read_cases(rule)) for mutant in mutants(rule)]
    assert found == ["the same from /usr/bin", "what inductor has built"]


def test_the_page_names_every_result_column() -> None:
    """In its table of what a rule must return."""
    table = PAGE.split("returns these columns", 1)[1].split("What a rule may read", 1)[0]
    assert set(re.findall(r"`(\w+)`", table)) >= set(RESULT_COLUMNS)
