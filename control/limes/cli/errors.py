"""Errors of the command line itself, and the edge where every error becomes one line.

Invariant: only errors that somebody raised on purpose are shortened; a defect keeps its traceback.

CommandError
├── UsageError   give other options; exit code 2
├── StoppedError begin again, if you want the rest; exit code 130
└── ChildError   a process that `limes up` started did not come up, or ended
"""

import sys
from typing import Final

from limes.cli.commands import CANNOT, STOPPED, USAGE
from typer._click.exceptions import ClickException  # typer has no public name for it

# Of each part that may be loaded: the module and name of its errors' root.
_ROOTS: Final = (
    ("limes.sensor.errors", "SensorError"),
    ("limes.control.errors", "ControlError"),
    ("limes.drill.errors", "DrillError"),
)
_EXTRAS: Final = {
    "duckdb": "control",
    "pyarrow": "control",
    "yaml": "control",
    "numpy": "sensor",
    "nanoarrow": "sensor",
}


class CommandError(Exception):
    """Root of the command line's own errors: what was tried, what was found, what to do."""


class UsageError(CommandError):
    """The options do not fit together."""


class StoppedError(CommandError):
    """A signal came before the end: which, and what is undone."""


class ChildError(CommandError):
    """A process that was started did not come up, or ended by itself."""


def known() -> tuple[type[Exception], ...]:
    """Return the roots of the errors of every part that is loaded: only those can be raised."""
    loaded = ((sys.modules.get(module), name) for module, name in _ROOTS)
    return (CommandError, *(getattr(module, name) for module, name in loaded if module))


def _told(error: ClickException) -> str:
    """Return in one line what is wrong with the words of a command line, and where its help is."""
    said = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{said}. See `{context.command_path if context else 'limes'} --help`."


def explain(error: Exception) -> tuple[str, int] | None:
    """Return one line and an exit code; None when the error is a defect."""
    if isinstance(error, UsageError):
        return str(error), USAGE
    if isinstance(error, StoppedError):
        return str(error), STOPPED
    if isinstance(error, ClickException):
        return _told(error), USAGE
    if isinstance(error, known()):
        return " ".join(str(error).split()), CANNOT
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        extra = _EXTRAS.get(package)
        if extra:
            line = (
                f"Cannot do this here: {package} is not installed, which the {extra} side needs. "
                f"Run: pip install 'limes[{extra}]'"
            )
            return line, CANNOT
    return None
