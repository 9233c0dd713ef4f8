"""docs/cli.md is what the commands' own help says."""

from pathlib import Path

from limes.cli.reference import pages

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_page_is_not_stale() -> None:
    """`python -m limes.cli.reference > docs/cli.md` would change nothing."""
    assert PAGE.read_text(encoding="utf-8") == "".join(pages())
