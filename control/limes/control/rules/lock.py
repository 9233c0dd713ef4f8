"""Owns `versions.lock`: which SQL each version of a rule had.

Invariant: a hash that is locked changes only together with the version.
"""

import tomllib
from collections.abc import Sequence
from typing import Final

import msgspec
from limes.control.errors import RuleError
from limes.control.rules.model import Pack, Rule

NOTE: Final = "# Which SQL each rule's version has. Written by `limes rules lint --lock`."


class Locked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule of the lock file."""

    id: str
    version: int
    sql: str


def read_lock(pack: Pack) -> dict[str, Locked]:
    """Return what is locked, by rule name; empty without a file. Raises RuleError."""
    path = pack.lock_path
    if not path.is_file():
        return {}
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), dict[str, Locked])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise RuleError(f"cannot be read: {error}", path=path) from error


def breach(rule: Rule, locked: Locked | None) -> str:
    """Return how a rule departs from the lock file; empty when it does not."""
    if locked is None:
        return "is not in versions.lock: run `limes rules lint --lock`"
    if locked.id != rule.id:
        return f"its id was {locked.id}: an id never changes"
    if rule.version < locked.version:
        return f"its version was {locked.version}: a version only grows"
    if rule.sql_hash == locked.sql:
        return ""
    if rule.version == locked.version:
        return f"its SQL has changed since version {locked.version}: raise the version"
    return "versions.lock has its earlier version: run `limes rules lint --lock`"


def write_lock(pack: Pack) -> Sequence[str]:
    """Lock every rule of the pack as it is; returns the names that changed.

    Raises RuleError, with the file as it was, for a rule whose SQL changed without its version.
    """
    locked = read_lock(pack)
    changed = []
    for rule in pack.rules:
        own = locked.get(rule.name)
        if breach(rule, own):
            if own is not None and (rule.version <= own.version or own.id != rule.id):
                raise RuleError(breach(rule, own), path=rule.sql_path, rule=rule.name)
            changed.append(rule.name)
    lines = [NOTE]
    for rule in pack.rules:
        lines += ["", f"[{rule.name}]", f'id = "{rule.id}"', f"version = {rule.version}"]
        lines.append(f'sql = "{rule.sql_hash}"')
    pack.lock_path.write_text("\n".join([*lines, ""]))
    return changed
