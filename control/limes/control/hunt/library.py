"""Finds the hunts that come with Limes: files of SQL whose first comment says what they answer."""

from dataclasses import dataclass
from pathlib import Path

from limes import control


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyHunt:
    """One shipped hunt; `title` is its first comment, without the dashes and the full stop."""

    name: str
    title: str
    sql: str
    path: Path


def shipped_hunts() -> dict[str, ReadyHunt]:
    """Return the hunts that come with Limes, by name."""
    folder = Path(control.__file__).parent.parent / "packs" / "hunts"
    return {path.stem: read_hunt(path) for path in sorted(folder.glob("*.sql"))}


def read_hunt(path: Path) -> ReadyHunt:
    """Return the hunt in a file. Raises OSError or UnicodeDecodeError."""
    sql = path.read_text(encoding="utf-8")
    first = sql.lstrip().partition("\n")[0]
    title = first.removeprefix("--").strip().rstrip(".") if first.startswith("--") else path.stem
    return ReadyHunt(name=path.stem, title=title, sql=sql, path=path)
