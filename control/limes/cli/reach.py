"""Owns the options by which a command that asks reaches the control plane, once for all of them.

Invariant: each such command has all five, last and in the same order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from limes.cli import options

if TYPE_CHECKING:
    from limes.control.client import ControlClient

_OPTIONS: Final = tuple(
    Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    for name, annotation, default in (
        ("state", options.State, options.DEFAULT_STATE),
        ("control", options.Control, None),
        ("ca", options.Ca, None),
        ("certificate", options.Certificate, None),
        ("key", options.Key, None),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What the options said."""

    state: Path
    control: str | None
    ca: Path | None
    certificate: Path | None
    key: Path | None

    def client(self) -> "ControlClient":
        """Return a client, a context manager. Raises CertificateError."""
        from limes.cli.connect import client  # only who asks pays for gRPC

        return client(
            self.state, self.control, ca=self.ca, certificate=self.certificate, key=self.key
        )


def reaching(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options in place of its parameter `reach`."""
    own = [each for each in signature(command).parameters.values() if each.name != "reach"]
    parameters = (*own, *_OPTIONS)

    @wraps(command)
    def run(**values: Any) -> None:
        reach = Reach(**{option.name: values.pop(option.name) for option in _OPTIONS})
        command(**values, reach=reach)

    # typer reads both: neither may tell of `reach`.
    run.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
