"""The commands that README and docs show are commands that there are."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Parse

ROOT = Path(__file__).parents[3]
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if page.name != "cli.md"
]
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:[$#] )?(?:\.venv/bin/)?limes (?P<words>[^\n]+)$", re.MULTILINE)
SHELL = re.compile(r"\s+(#|\||>|&).*$")


def shown() -> Iterator[tuple[str, str]]:
    """Yield page and command of every line of a code block that runs `limes`."""
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for match in COMMAND.finditer(block.replace("\\\n", " ")):
                yield page.name, SHELL.sub("", match["words"])


SHOWN = sorted(set(shown()))


def test_there_are_some() -> None:
    """The search itself works."""
    pages = {page for page, _ in SHOWN}
    assert {"quickstart.md", "operations.md", "README.md", "hunting.md"} <= pages


@pytest.mark.parametrize(("page", "words"), SHOWN)
def test_it_parses(page: str, words: str, parse: Parse) -> None:
    """Command and options are as documented."""
    assert len(parse(words)) == 1, page
