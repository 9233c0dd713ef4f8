"""docs/cli.md is what the commands' own help says."""

import re
from pathlib import Path

import pytest
from limes.cli.commands import NO, OK
from limes.cli.reference import pages, run

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_page_is_not_stale() -> None:
    """`make generate` would change nothing."""
    assert PAGE.read_text(encoding="utf-8") == "".join(pages())
    assert run(["--check", str(PAGE)]) == OK


def test_a_stale_page_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`make check` fails on it, and says what to do."""
    stale = tmp_path / "cli.md"
    stale.write_text(PAGE.read_text(encoding="utf-8") + "\n")
    assert run(["--check", str(stale)]) == NO
    assert capsys.readouterr().err == f"{stale} is stale: run `make generate`.\n"


def test_make_writes_and_checks_the_page() -> None:
    """`make generate` and `make check` both know of it."""
    text = (PAGE.parents[1] / "Makefile").read_text(encoding="utf-8")
    recipes = dict(re.findall(r"(?m)^(\w+):[^\n]*\n((?:\t[^\n]*\n)+)", text))
    assert "limes.cli.reference" in recipes["generate"]
    assert "limes.cli.reference --check docs/cli.md" in recipes["check"]
