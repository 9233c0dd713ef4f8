"""Kernel records to the columns of their kinds.

Invariant: a column whose registry entry names a record member is a plain copy of it; only the rest
is computed here, by name. Nothing here makes an object per event.
"""

import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from limes.sensor import strings
from limes.sensor.arrow import NUMPY_TYPES, Column
from limes.sensor.cgroups import CgroupNames
from limes.sensor.gpu import Devices
from limes.sensor.identity import Identity
from limes.sensor.source import RECORD_DTYPES, Records, U64s
from limes.v1 import schema

_THOUSAND: Final = np.uint64(1000)
_PAGE: Final = np.uint64(resource.getpagesize())


@dataclass(slots=True)
class Context:
    """What computed columns need beside the records."""

    identity: Identity
    devices: Devices
    cgroups: CgroupNames
    offset_ns: int


def times(boot_ns: U64s, offset_ns: int) -> npt.NDArray[np.int64]:
    """UTC microseconds of boot-clock nanoseconds."""
    out = boot_ns + np.uint64(offset_ns)
    out //= _THOUSAND
    return out.view(np.int64)


def _process(context: Context, records: Records) -> dict[str, Column]:
    """Envelope columns that are computed, for records with the common header."""
    return {
        "event_time": times(records["time_ns"], context.offset_ns),
        "process_entity_id": context.identity.entities(records["tgid"], records["start_ns"]),
        "process_exec_id": context.identity.kernel_ids(records["exec_id"]),
    }


def _with_parent(context: Context, records: Records) -> dict[str, Column]:
    count = len(records)
    tgids = np.concatenate((records["tgid"], records["ppid"]))
    starts = np.concatenate((records["start_ns"], records["parent_start_ns"]))
    both = context.identity.entities(tgids, starts)
    return {
        "event_time": times(records["time_ns"], context.offset_ns),
        "process_entity_id": both[:count],
        "process_exec_id": context.identity.kernel_ids(records["exec_id"]),
        "process_parent_entity_id": both[count:],
    }


def _execs(context: Context, records: Records) -> dict[str, Column]:
    out = _with_parent(context, records)
    out["process_parent_exec_id"] = context.identity.kernel_ids(records["parent_exec_id"])
    out["process_name"] = strings.nul_ended(records["comm"])
    out["process_executable"] = strings.tails(records["exe"], records["exe_start"])
    out["process_working_directory"] = strings.tails(records["cwd"], records["cwd_start"])
    return out


def _exits(context: Context, records: Records) -> dict[str, Column]:
    out = _process(context, records)
    status = records["exit_code"]
    signal = (status & 0x7F).astype(np.uint8)
    code = (status >> 8).astype(np.uint8)
    out["process_exit_code"] = code * (signal == 0)
    out["process_exit_signal"] = signal
    out["process_uptime_ns"] = _since(records["time_ns"], records["start_ns"])
    out["process_max_rss_bytes"] = records["max_rss_pages"] * _PAGE
    return out


def _since(now: U64s, then: U64s) -> U64s:
    """Time from `then` to `now`, 0 where `then` is not known or (by rounding) later."""
    out = now - then
    out *= (then != 0) & (then <= now)
    return out


def _connections(context: Context, records: Records) -> dict[str, Column]:
    out = _process(context, records)
    out["connection_id"] = context.identity.kernel_ids(records["socket_id"])
    for column, member in (("source_ip", "local"), ("destination_ip", "remote")):
        halves = np.ascontiguousarray(records[member]).view(">u8").astype(np.uint64)
        out[f"{column}_hi"] = halves[:, 0]
        out[f"{column}_lo"] = halves[:, 1]
    out["connection_duration_ns"] = _since(records["time_ns"], records["opened_ns"])
    return out


def _gpu_events(context: Context, records: Records) -> dict[str, Column]:
    out = _process(context, records)
    devices = (records["device_major"] << np.uint32(20)) | records["device_minor"]
    names, simulated = context.devices.describe(devices)
    out["gpu_device_name"] = names
    out["gpu_device_simulated"] = simulated
    return out


def _cgroup_events(context: Context, records: Records) -> dict[str, Column]:
    out = _process(context, records)
    subjects = context.identity.entities(records["subject_tgid"], records["subject_start_ns"])
    out["cgroup_subject_entity_id"] = subjects
    out.update(context.cgroups.columns(records["cgroup_id"]))
    return out


_COMPUTE: Final[dict[str, tuple[str, Callable[[Context, Records], dict[str, Column]]]]] = {
    "process_execs": ("exec", _execs),
    "process_forks": ("process", _with_parent),
    "process_exits": ("process", _exits),
    "connections": ("connection", _connections),
    "gpu_events": ("gpu", _gpu_events),
    "cgroup_events": ("cgroup", _cgroup_events),
}


def _copies(kind: str, record: str) -> list[tuple[str, str, np.dtype[Any] | None]]:
    """Columns that copy a member: name, member, and a type where the two differ."""
    out: list[tuple[str, str, np.dtype[Any] | None]] = []
    members: Mapping[str, Any] = RECORD_DTYPES[record].fields or {}
    for column in schema.KINDS[kind].columns:
        if column.source:
            want = NUMPY_TYPES[column.type]
            cast = None if members[column.source][0] == want else want
            out.append((column.name, column.source, cast))
    return out


_COPIES: Final = {kind: _copies(kind, record) for kind, (record, _) in _COMPUTE.items()}


def decode(kind: str, context: Context, records: Records) -> dict[str, Column]:
    """The columns of `kind` from its records, but for event_seq (and, for execs, process_args).

    The columns may be views of the records.
    """
    out = _COMPUTE[kind][1](context, records)
    for name, member, cast in _COPIES[kind]:
        values = records[member]
        out[name] = values if cast is None else values.astype(cast)
    return out


def rows(kind: str, count: int, values: Mapping[str, Column]) -> dict[str, Column]:
    """Columns of rows that the sensor itself writes; what is not given is 0, empty or false.

    Raises KeyError for a column that the kind does not have.
    """
    out: dict[str, Column] = {}
    for column in schema.KINDS[kind].columns:
        value = values.get(column.name)
        if column.type == "string":
            out[column.name] = value if value is not None else strings.constant("", count)
        elif value is None:
            out[column.name] = np.zeros(count, NUMPY_TYPES[column.type])
        else:
            assert not isinstance(value, strings.Strings)
            out[column.name] = value.astype(NUMPY_TYPES[column.type], copy=False)
    unknown = values.keys() - out.keys()
    if unknown:
        raise KeyError(f"{kind} has no column {sorted(unknown)}")
    return out
