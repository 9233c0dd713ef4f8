"""Owns the way from files to rules: a pack is a folder of `<tactic>/<rule>.yml` and `.sql`.

Invariant: reading collects every fault of every file; loading for use raises the first.
"""

import re
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
import yaml
from limes import control
from limes.control.errors import RuleError
from limes.control.rules.model import Pack, Rule, Severity, Status

T = TypeVar("T")

_DURATION: Final = re.compile(r"^(\d+)(s|m|h|d)$")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NAME: Final = re.compile(r"^[a-z][a-z0-9_]*$")


class PackFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """pack.yml."""

    name: str
    description: str


class RuleFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """<rule>.yml."""

    id: UUID
    name: str
    version: int
    status: Status
    severity: Severity
    description: str
    attack: tuple[str, ...]
    requires: dict[str, tuple[str, ...]]
    false_positives: tuple[str, ...] = ()
    blind_spots: tuple[str, ...] = ()
    triage: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    dedup_key: tuple[str, ...]
    dedup_window: str = "1h"
    window: str = "0s"


def shipped_packs() -> list[Path]:
    """Return the folders of the packs that come with Limes."""
    root = Path(control.__file__).parent.parent / "packs"
    return sorted(path.parent for path in root.glob("*/pack.yml"))


def load_pack(folder: Path) -> Pack:
    """Return the pack of a folder; raises the first RuleError found."""
    pack, errors = read_pack(folder)
    if errors:
        raise errors[0]
    return pack


def read_pack(folder: Path) -> tuple[Pack, list[RuleError]]:
    """Return the pack of a folder without its faulty rules, and every fault found."""
    errors: list[RuleError] = []
    head = PackFile(name=folder.name, description="")
    path = folder / "pack.yml"
    try:
        head = read_yaml(path, PackFile)
    except RuleError as error:
        errors.append(error)
    rules = []
    for rule_path in sorted(folder.glob("*/*.yml")):
        if rule_path.name.endswith(".cases.yml"):
            continue
        try:
            rules.append(read_rule(rule_path, pack=head.name))
        except RuleError as error:
            errors.append(error)
    if not rules and not errors:
        errors.append(RuleError("the folder has no <tactic>/<rule>.yml", path=folder))
    rules.sort(key=lambda rule: rule.name)
    pack = Pack(name=head.name, path=folder, description=head.description, rules=tuple(rules))
    return pack, errors


def read_rule(path: Path, *, pack: str) -> Rule:
    """Return the rule of one file and the SQL beside it; raises RuleError with file and line."""
    file = read_yaml(path, RuleFile)
    stem = path.stem
    if file.name != stem or not _NAME.match(stem):
        raise RuleError(
            f"name is {file.name!r}, but the file is {path.name}: use one name of a-z, 0-9, _",
            path=path,
            line=line_of(path, "name"),
            rule=stem,
        )
    sql_path = path.with_suffix(".sql")
    try:
        sql = sql_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"has no readable SQL beside it: {error}", path=sql_path) from error
    fields = {name: getattr(file, name) for name in RuleFile.__struct_fields__}
    fields |= {
        "id": str(file.id),
        "window": _seconds(path, "window", file.window),
        "dedup_window": _seconds(path, "dedup_window", file.dedup_window),
    }
    if fields["dedup_window"] == 0:
        raise RuleError("dedup_window must be longer than 0s", path=path, rule=file.name)
    return Rule(**fields, sql=sql, path=path, pack=pack)


def read_yaml(path: Path, kind: type[T]) -> T:
    """Return what a YAML file says as `kind`; raises RuleError with file, line and key."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return msgspec.convert(raw, kind)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise RuleError(f"is not YAML: {error.problem}", path=path, line=line) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RuleError(f"cannot be read: {error}", path=path) from error
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        keys = [key for key in re.split(r"[.\[\]`]+", place) if key]
        where = f"{'.'.join(keys)}: " if keys else ""
        raise RuleError(where + reason, path=path, line=line_of(path, *keys[:1])) from error


def line_of(path: Path, key: str = "") -> int:
    """Return the line of a key at the top of a YAML file; 0 when it is not there."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if key and re.match(rf"{re.escape(key)}\s*:", line):
            return number
    return 0


def _seconds(path: Path, key: str, text: str) -> int:
    match = _DURATION.match(text)
    if match is None:
        raise RuleError(
            f"{key} is {text!r}: write a number and s, m, h or d, such as 30m",
            path=path,
            line=line_of(path, key),
        )
    return int(match[1]) * _SECONDS[match[2]]


def as_plain(rule: Rule) -> dict[str, Any]:
    """Return a rule as plain data for tables and JSON, without its SQL and path."""
    hidden = {"sql", "path"}
    return {name: getattr(rule, name) for name in Rule.__slots__ if name not in hidden}
