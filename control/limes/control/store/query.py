"""Finds the SQL of the store by name: every statement is a file of `queries/`."""

from functools import cache
from importlib import resources


@cache
def text(name: str) -> str:
    """Return the SQL of `queries/<name>.sql`. Raises FileNotFoundError when there is none."""
    return (resources.files(__package__) / "queries" / f"{name}.sql").read_text(encoding="utf-8")
