"""Owns the words for a single event: what it was, in a few of them.

Invariant: a simulated device is always called one; nothing an event says reaches a terminal raw.
"""

import errno
import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from limes.cli.output import safe

Row = Mapping[str, Any]

SIMULATED: Final = "simulated device"
_ERRORS: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "no answer",
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "no network",
    errno.EINPROGRESS: "under way",
    errno.ECONNRESET: "reset",
    errno.EINTR: "given up",
}
_FLAGS: Final = (
    (2, "from a memfd"),
    (32, "a script"),
    (1, "arguments cut"),
    (16, "secrets replaced"),
)
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


class Said(NamedTuple):
    """An event in words: a verb, what was done, and whether a person should look."""

    verb: str
    what: str
    tone: str = ""


def program(row: Row) -> str:
    """Return the name of the program, without its folder."""
    return safe(os.path.basename(row.get("process_executable") or "?"))  # noqa: PTH119


def size(count: float) -> str:
    """Return a number of bytes as a person reads it, in units of 1000."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def duration(nanoseconds: float) -> str:
    """Return a time span as a person reads it."""
    seconds = nanoseconds / 1e9
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min"


def endpoint(row: Row) -> str:
    """Return the destination as address:port."""
    address, port = row["destination_ip"], row["destination_port"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def device(row: Row) -> str:
    """Return a GPU's name; a simulated one says so."""
    name = safe(row["gpu_device_name"])
    if row["gpu_device_simulated"] and SIMULATED not in name:
        return f"{name} ({SIMULATED})"
    return name


def say(kind: str, row: Row) -> Said:
    """Return an event of any kind in words."""
    return _SAY[kind](row)


def _exec(row: Row) -> Said:
    flags = [text for bit, text in _FLAGS if row["process_flags"] & bit]
    suffix = f"  [{', '.join(flags)}]" if flags else ""
    verb = "exec" if row["event_action"] == "exec" else "running"
    return Said(verb, safe(row["process_command_line"]) + suffix)


def _fork(row: Row) -> Said:
    return Said("fork", f"{program(row)} {row['process_parent_pid']} → {row['process_pid']}")


def _exit(row: Row) -> Said:
    if row["process_exit_signal"]:
        how, tone = f"by signal {row['process_exit_signal']}", "odd"
    else:
        code = row["process_exit_code"]
        how, tone = f"with {code}", "odd" if code else ""
    return Said("exit", f"{program(row)} {how} after {duration(row['process_uptime_ns'])}", tone)


def _connection(row: Row) -> Said:
    who = f"{program(row)} → {endpoint(row)}"
    if row["network_transport"] != "tcp":
        who += f" {row['network_transport']}"
    match row["event_action"]:
        case "connection_established":
            return Said("connect", f"{who}  established", "good")
        case "connection_failed":
            return Said("connect", f"{who}  {_reason(row['connection_error'])}", "odd")
        case "connection_attempted":
            return Said("connect", f"{who}  attempted")
        case action:
            verb = "closed" if action == "connection_closed" else "open"
            out, received = size(row["source_bytes"]), size(row["destination_bytes"])
            span = duration(row["connection_duration_ns"])
            return Said(verb, f"{who}  {out} out, {received} in, {span}")


def _reason(error: int | None) -> str:
    if error is None:
        return "no result"
    return f"{_ERRORS.get(error, 'failed')} ({errno.errorcode.get(error, error)})"


def _gpu_event(row: Row) -> Said:
    return Said("gpu", f"{program(row)}: first call on {device(row)}", "gpu")


def _gpu_activity(row: Row) -> Said:
    calls = f"{row['gpu_calls']} calls of {row['gpu_call']:#x}"
    return Said("gpu", f"{program(row)}: {calls} on {device(row)}", "gpu")


def _cgroup(row: Row) -> Said:
    path = safe(row["cgroup_event_path"])
    if row["event_action"] == "attach":
        return Said("cgroup", f"pid {row['cgroup_subject_pid']} moved to {path}")
    return Said("cgroup", f"{row['event_action']} {path}")


def _health(row: Row) -> Said:
    memory = size(row["sensor_rss_bytes"])
    events, lost = row["sensor_events"], row["sensor_lost"]
    return Said("sensor", f"{row['event_action']}: {events} events, {lost} lost, {memory}")


def _hook(row: Row) -> Said:
    detail = f": {safe(row['hook_detail'])}" if row["hook_detail"] else ""
    tone = "odd" if row["event_action"] == "refused" else ""
    said = f"{row['hook_signal']} by {row['hook_name']} {row['event_action']}{detail}"
    return Said("hook", said, tone)


def _loss(row: Row) -> Said:
    tone = "bad" if row["loss_count"] else ""
    return Said(
        "lost", f"{row['loss_count']} events: {row['loss_stage']}, {row['loss_cause']}", tone
    )


_SAY: Final = {
    "process_execs": _exec,
    "process_forks": _fork,
    "process_exits": _exit,
    "connections": _connection,
    "gpu_events": _gpu_event,
    "gpu_activity": _gpu_activity,
    "cgroup_events": _cgroup,
    "sensor_health": _health,
    "sensor_hooks": _hook,
    "losses": _loss,
}
