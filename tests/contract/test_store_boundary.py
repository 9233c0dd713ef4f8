"""What must not be in the control plane's code: a second way to the database, SQL in strings."""

import re
from pathlib import Path

import pytest

CONTROL = Path(__file__).parents[2] / "control" / "limes"
SOURCES = sorted(CONTROL.rglob("*.py"))
# A hunt's worker opens snapshots, in a process of its own.
OPENERS = {"control/store/connection.py", "control/hunt/session.py"}
STATEMENT = re.compile(r"""["'](SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|WITH|COPY)\s""")


def test_only_the_store_opens_duckdb() -> None:
    """Settings and file modes have one place."""
    found = {
        str(path.relative_to(CONTROL)) for path in SOURCES if "duckdb.connect(" in path.read_text()
    }
    assert found <= OPENERS
    assert "control/store/connection.py" in found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CONTROL)))
def test_no_sql_is_written_in_python(path: Path) -> None:
    """Statements are files; values are parameters."""
    examples = path.parts[-2] == "cli"  # help shows what an analyst may type
    assert examples or not STATEMENT.findall(path.read_text())
