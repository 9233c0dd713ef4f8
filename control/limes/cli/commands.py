"""Owns how commands are declared: each with an example that its help ends with.

Invariant: a command without an example cannot be declared; tests run or parse every one.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import typer

OK: Final = 0
NO: Final = 1  # the answer is "no": a case failed, an alert is missing
USAGE: Final = 2
CANNOT: Final = 3
STOPPED: Final = 130  # by Ctrl-C or a signal like it, before there was an answer

EXAMPLES: Final[dict[str, str]] = {}
"""Command, as typed after `limes`, to its example."""

Function = TypeVar("Function", bound=Callable[..., Any])


def group(name: str, summary: str) -> typer.Typer:
    """Return a group of commands, to be added to the command `limes` under its name."""
    return typer.Typer(name=name, help=summary, no_args_is_help=True, rich_markup_mode=None)


def command(owner: typer.Typer, name: str, example: str) -> Callable[[Function], Function]:
    """Declare a command of a group, or of `limes` itself; its help is the function's docstring."""
    prefix = owner.info.name if isinstance(owner.info.name, str) else ""
    EXAMPLES[f"{prefix} {name}".strip()] = example
    return owner.command(name, epilog=f"\b\nExample:\n  {example}")
