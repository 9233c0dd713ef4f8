"""Kernel records to columns: copies, computed columns, sentinels."""

import ipaddress
from typing import Any

import numpy as np
import pytest
from limes.sensor import decode, strings
from limes.sensor.source import RECORD_DTYPES, Records
from limes.v1 import schema

DECODED = {
    "process_execs": "exec",
    "process_forks": "process",
    "process_exits": "process",
    "connections": "connection",
    "gpu_events": "gpu",
    "cgroup_events": "cgroup",
}


def decoded(kind: str, context: decode.Context, records: Records) -> dict[str, Any]:
    return dict(decode.decode(kind, context, records))


@pytest.mark.parametrize("kind", DECODED)
def test_columns_with_a_source_are_plain_copies(
    kind: str, context: decode.Context, make: Any
) -> None:
    """Whatever the registry says is copied is copied, for every kind and member."""
    name = DECODED[kind]
    records = make.records(name, 3)
    rng = np.random.default_rng(7)
    for column in schema.KINDS[kind].columns:
        if column.source and column.source not in ("kind", "version"):
            info = np.iinfo(records[column.source].dtype)
            records[column.source] = rng.integers(0, min(info.max, 1 << 30), 3)
    columns = decoded(kind, context, records)
    for column in schema.KINDS[kind].columns:
        if column.source:
            assert columns[column.name].tolist() == records[column.source].tolist(), column.name


@pytest.mark.parametrize("kind", DECODED)
def test_every_column_is_filled(kind: str, context: decode.Context, make: Any) -> None:
    """Decoding gives all columns but the sequence and, for execs, the arguments."""
    columns = decoded(kind, context, make.records(DECODED[kind], 2))
    left = {column.name for column in schema.KINDS[kind].columns} - columns.keys()
    assert left == {"event_seq"} | ({"process_args"} if kind == "process_execs" else set())


def test_event_time_is_boot_clock_plus_offset_in_microseconds(
    context: decode.Context, make: Any
) -> None:
    """UTC microseconds, rounded down."""
    records = make.records("process", 1, time_ns=5_000_001_999)
    columns = decoded("process_forks", context, records)
    assert columns["event_time"].tolist() == [(context.offset_ns + 5_000_001_999) // 1000]


@pytest.mark.parametrize(
    ("status", "code", "signal"),
    [(0, 0, 0), (3 << 8, 3, 0), (255 << 8, 255, 0), (9, 0, 9), (11 | 0x80, 0, 11)],
)
def test_wait_status_splits_into_code_and_signal(
    status: int, code: int, signal: int, context: decode.Context, make: Any
) -> None:
    """A signal, core dump or not, leaves no code."""
    columns = decoded("process_exits", context, make.records("process", 1, exit_code=status))
    assert columns["process_exit_code"].tolist() == [code]
    assert columns["process_exit_signal"].tolist() == [signal]


def test_uptime_is_end_minus_start_and_never_negative(context: decode.Context, make: Any) -> None:
    """A start that is not known, or later by rounding, gives 0."""
    records = make.records("process", 3, time_ns=100)
    records["start_ns"] = [40, 0, 101]
    assert decoded("process_exits", context, records)["process_uptime_ns"].tolist() == [
        60,
        0,
        0,
    ]


@pytest.mark.parametrize("text", ["::ffff:203.0.113.9", "2001:db8::1", "::1", "fe80::ff:fe00:1"])
def test_addresses_become_two_halves_in_numeric_order(
    text: str, context: decode.Context, make: Any
) -> None:
    """hi and lo are the address as a number, so ranges can be compared."""
    address = ipaddress.ip_address(text)
    records = make.records("connection", 2)
    records["remote"] = np.frombuffer(address.packed, np.uint8)
    columns = decoded("connections", context, records)
    hi, lo = columns["destination_ip_hi"], columns["destination_ip_lo"]
    assert (int(hi[1]) << 64 | int(lo[1])) == int(address)
    assert columns["source_ip_hi"].tolist() == [0, 0]


def test_connection_steps_share_an_id_and_connections_do_not(
    context: decode.Context, make: Any
) -> None:
    """connection_id joins by the kernel's socket id."""
    records = make.records("connection", 3, socket_id=[5, 5, 6])
    ids = decoded("connections", context, records)["connection_id"].tolist()
    assert ids[0] == ids[1] != ids[2]


def test_exec_strings_ignore_what_an_earlier_record_left_in_the_slot(
    context: decode.Context, make: Any
) -> None:
    """Paths are written from the slot's end; what stands before them is not theirs."""
    columns = decoded("process_execs", context, make.execs(2))
    assert columns["process_executable"].row(1) == b"/usr/bin/python3.11"
    assert columns["process_working_directory"].row(0) == b"/srv"
    assert columns["process_name"].row(0) == b"python3"


def test_gpu_events_name_their_device(context: decode.Context, make: Any) -> None:
    """Names come from the device number."""
    records = make.records("gpu", 2, device_major=195, device_minor=[0, 255])
    columns = decoded("gpu_events", context, records)
    assert [columns["gpu_device_name"].row(i) for i in (0, 1)] == [b"nvidia0", b"nvidiactl"]
    assert columns["gpu_device_simulated"].tolist() == [False, False]


def test_rows_fill_what_is_not_given_and_refuse_what_does_not_exist() -> None:
    """The sensor's own rows have every column; a misspelt one is an error."""
    columns: dict[str, Any] = decode.rows("losses", 2, {"loss_count": np.array([1, 2])})
    assert columns["loss_count"].dtype == np.uint64
    assert columns["loss_cause"].row(1) == b""
    assert columns["process_entity_id"].tolist() == [0, 0]
    with pytest.raises(KeyError, match="loss_reason"):
        decode.rows("losses", 1, {"loss_reason": strings.constant("x", 1)})


def test_decoding_leaves_the_records_as_they_are(context: decode.Context, make: Any) -> None:
    """Records may be views of something that others read."""
    for kind, name in DECODED.items():
        records = make.execs(3) if name == "exec" else make.records(name, 3)
        before = records.tobytes()
        decoded(kind, context, records)
        assert records.tobytes() == before
        assert records.dtype == RECORD_DTYPES[name]
