"""Errors of the control plane, by what the operator must do.

ControlError
├── ConfigError      mend the configuration
├── StoreError       the database is locked, damaged or of another schema version
├── IngestError      a sensor sent what cannot be stored
├── RuleError        mend the rule; carries file, line and rule
├── PolicyError      mend the policy file
├── HuntError        mend the question, or ask for less
├── CertificateError make or replace a certificate
└── UnreachableError start the control plane, or mend its address
"""

from pathlib import Path


class ControlError(Exception):
    """Root of the control plane's errors: what was tried, what was found, what to do."""


class ConfigError(ControlError):
    """A key of the configuration is missing, unknown or in conflict."""


class StoreError(ControlError):
    """The database cannot be used."""


class IngestError(ControlError):
    """A sensor sent what cannot be stored."""


class RuleError(ControlError):
    """A rule cannot be loaded or run."""

    def __init__(self, message: str, *, path: Path, line: int = 0, rule: str = "") -> None:
        place = f"{path}:{line}" if line else str(path)
        super().__init__(f"{place}: {f'rule {rule}: ' if rule else ''}{message}")
        self.path = path
        self.line = line
        self.rule = rule


class PolicyError(ControlError):
    """The policy file cannot be used."""


class HuntError(ControlError):
    """A hunt was refused or stopped; the message names the limit.

    `outcome` is a word for the audit log: refused (mend the question), timeout, memory, busy
    (ask again later), cancelled or failed (the server's fault).
    """

    def __init__(self, message: str, *, outcome: str = "refused") -> None:
        super().__init__(message)
        self.outcome = outcome


class CertificateError(ControlError):
    """A certificate or key is missing, expired or not trusted."""


class UnreachableError(ControlError):
    """The control plane does not answer, or refuses the call."""
