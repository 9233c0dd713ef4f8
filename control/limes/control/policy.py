"""Owns the policy file: which cgroups are jobs, what trains there, where jobs may connect to.

Invariant: rules read the policy as the tables `policy_*`; a file with a fault is not used.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path, PurePosixPath
from typing import Final

import duckdb
import msgspec
from limes.control.errors import PolicyError
from limes.control.store import query

Network = IPv4Network | IPv6Network

# RFC 1918, carrier-grade NAT (RFC 6598) and IPv6 unique local addresses (RFC 4193).
DEFAULT_INTERNAL: Final = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
)
_V4_MAPPED: Final = 0xFFFF << 32


class AllowEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[job_class.allow]]`: empty lists allow any port, any executable."""

    cidr: str
    ports: tuple[int, ...] = ()
    executables: tuple[str, ...] = ()


class JobClassEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[job_class]]`."""

    name: str
    cgroups: tuple[str, ...]
    trainers: tuple[str, ...] = ()
    allow: tuple[AllowEntry, ...] = ()


class PolicyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file as written."""

    job_class: tuple[JobClassEntry, ...] = ()
    internal: tuple[str, ...] = DEFAULT_INTERNAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A network a job may connect to; empty sets allow any port, any executable."""

    network: Network
    ports: tuple[int, ...]
    executables: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobClass:
    """Jobs that are alike: `patterns` are cgroup paths with wildcards, tried in order."""

    name: str
    patterns: tuple[str, ...]
    trainers: tuple[str, ...]
    allowed: tuple[Allowed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A checked policy. Without a job class there is no job, and no rule on jobs alerts."""

    job_classes: tuple[JobClass, ...] = ()
    internal: tuple[Network, ...] = tuple(ip_network(text) for text in DEFAULT_INTERNAL)


def load_policy(path: Path) -> Policy:
    """Return the policy of a TOML file; raises PolicyError naming file, key and conflict."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PolicyError(
            f"Cannot read policy {path}: {reason}. Give the path of a TOML file."
        ) from error
    return parse_policy(text, source=str(path))


def parse_policy(text: str, *, source: str) -> Policy:
    """Return the policy of a TOML text; `source` names it in errors."""
    try:
        file = msgspec.toml.decode(text, type=PolicyFile)
    except msgspec.ValidationError as error:
        raise _validation_error(source, error) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise PolicyError(f"Cannot read policy {source}: it is not TOML: {error}.") from error
    return check_policy(file, source=source)


def check_policy(file: PolicyFile, *, source: str) -> Policy:
    """Return the policy that a file says; raises PolicyError for the first conflict found."""
    names: dict[str, str] = {}
    patterns: dict[str, str] = {}
    classes = []
    for number, entry in enumerate(file.job_class):
        key = f"job_class[{number}]"
        if not entry.name:
            raise _fault(source, f"{key}.name", "it is empty: give the class a name")
        _once(names, entry.name, source, f"{key}.name")
        if not entry.cgroups:
            raise _fault(source, f"{key}.cgroups", "it is empty: name at least one cgroup pattern")
        for index, pattern in enumerate(entry.cgroups):
            _check_pattern(source, f"{key}.cgroups[{index}]", pattern)
            _once(patterns, pattern, source, f"{key}.cgroups[{index}]")
        classes.append(_job_class(source, key, entry))
    internal = tuple(
        _network(source, f"internal[{index}]", text) for index, text in enumerate(file.internal)
    )
    return Policy(job_classes=tuple(classes), internal=internal)


def install_policy(cursor: duckdb.DuckDBPyConnection, policy: Policy) -> None:
    """Replace the tables `policy_*` by what `policy` says, in one transaction."""
    cursor.begin()
    try:
        cursor.execute(query.text("clear_policy"))
        for statement, row in _rows(policy):
            cursor.execute(query.text(statement), row)
        cursor.execute(query.text("assign_all_job_cgroups"))
        cursor.commit()
    except BaseException:
        cursor.rollback()
        raise


def cgroup_regex(pattern: str) -> str:
    """Return the regular expression of a pattern; its group 1 is the job's path.

    `*`, `?` and `[...]` stay within one level of the path, `**` stands for any number of levels.
    """
    levels = pattern.strip("/").split("/")
    parts = [r"(?:/[^/]+)*?" if level == "**" else "/" + _level_regex(level) for level in levels]
    return "^(" + "".join(parts) + ")(?:/|$)"


def _level_regex(level: str) -> str:
    out = []
    position = 0
    while position < len(level):
        sign = level[position]
        end = level.find("]", position + 2)
        if sign == "[" and end != -1:
            members = level[position + 1 : end]
            negated = members.startswith("!")
            body = members[negated:].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
            out.append(f"[{'^/' if negated else ''}{body}]")
            position = end
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(sign) or re.escape(sign))
        position += 1
    return "".join(out)


def _rows(policy: Policy) -> Iterator[tuple[str, list[object]]]:
    position = 0
    for job_class in policy.job_classes:
        for pattern in job_class.patterns:
            row: list[object] = [job_class.name, position, pattern, cgroup_regex(pattern)]
            yield "insert_policy_job", row
            position += 1
        for trainer in job_class.trainers:
            yield "insert_policy_trainer", [job_class.name, trainer]
        for allowed in job_class.allowed:
            network = allowed.network
            yield (
                "insert_policy_allow",
                [
                    job_class.name,
                    str(network),
                    *_range(network),
                    list(allowed.ports),
                    list(allowed.executables),
                ],
            )
    for network in policy.internal:
        yield "insert_policy_internal", [str(network), *_range(network)]


def _range(network: Network) -> list[int]:
    """Return the first and the last address as four 64-bit halves, IPv4 as ::ffff:a.b.c.d."""
    halves = []
    for address in (network.network_address, network.broadcast_address):
        value = int(address) + (_V4_MAPPED if network.version == 4 else 0)
        halves += [value >> 64, value & (2**64 - 1)]
    return halves


def _job_class(source: str, key: str, entry: JobClassEntry) -> JobClass:
    for index, trainer in enumerate(entry.trainers):
        _check_executable(source, f"{key}.trainers[{index}]", trainer)
    allowed = []
    for number, item in enumerate(entry.allow):
        place = f"{key}.allow[{number}]"
        for index, port in enumerate(item.ports):
            if not 0 < port < 65536:
                raise _fault(source, f"{place}.ports[{index}]", f"{port} is not within 1 to 65535")
        for index, executable in enumerate(item.executables):
            _check_executable(source, f"{place}.executables[{index}]", executable)
        allowed.append(
            Allowed(
                network=_network(source, f"{place}.cidr", item.cidr),
                ports=item.ports,
                executables=item.executables,
            )
        )
    return JobClass(
        name=entry.name,
        patterns=entry.cgroups,
        trainers=entry.trainers,
        allowed=tuple(allowed),
    )


def _network(source: str, key: str, text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise _fault(source, key, f"{error}") from error


def _check_pattern(source: str, key: str, pattern: str) -> None:
    if not pattern.startswith("/"):
        raise _fault(source, key, f"{pattern!r} does not begin with /: patterns are whole paths")
    levels = pattern.strip("/").split("/")
    if set(levels) <= {"", "**"}:
        raise _fault(source, key, f"{pattern!r} makes every process of the host one job")
    if "" in levels or ".." in levels or "." in levels:
        raise _fault(source, key, f"{pattern!r} has an empty, . or .. level")


def _check_executable(source: str, key: str, executable: str) -> None:
    path = PurePosixPath(executable)
    if not path.is_absolute() or ".." in path.parts or str(path) != executable:
        raise _fault(
            source, key, f"{executable!r} is not a resolved absolute path: the kernel reports those"
        )


def _once(seen: dict[str, str], value: str, source: str, key: str) -> None:
    if value in seen:
        raise _fault(source, key, f"{value!r} is given by {seen[value]} already")
    seen[value] = key


def _fault(source: str, key: str, what: str) -> PolicyError:
    return PolicyError(f"Cannot use policy {source}: {key}: {what}.")


def _validation_error(source: str, error: msgspec.ValidationError) -> PolicyError:
    """Turn `Expected ... - at `$.a[0].b`` into key and reason."""
    reason, _, place = str(error).partition(" - at `$")
    return _fault(source, place.rstrip("`").lstrip(".") or "the file", reason)
