"""The stages in order: what a pass sends, when, and that nothing is lost unsaid."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from limes.sensor import gpu, pipeline
from limes.sensor.errors import AbiMismatch
from limes.sensor.source import GPU_CELL_DTYPE, HookState
from limes.v1 import schema

MakeRig = Callable[..., Any]


def test_kinds_are_sent_in_the_order_in_which_they_refer_to_each_other(
    new_rig: MakeRig, make: Any
) -> None:
    """Within a flush: cgroups, execs, forks, exits, connections, GPU; numbers without a hole."""
    fork = make.records("process", 2, kind=schema.KINDS["process_forks"].number)
    ended = make.records("process", 3, kind=schema.KINDS["process_exits"].number)
    rig = new_rig(
        {
            "gpu": make.records("gpu", 1),
            "connection": make.records("connection", 4),
            "process": np.concatenate((fork, ended)),
            "exec": make.execs(5),
            "cgroup": make.records("cgroup", 1, path=b"/job_1"),
        }
    )
    rig.step()
    kinds = [(kind, len(rows)) for kind, rows in rig.sent() if kind != "sensor_health"]
    assert kinds == [
        ("cgroup_events", 1),
        ("process_execs", 5),
        ("process_forks", 2),
        ("process_exits", 3),
        ("connections", 4),
        ("gpu_events", 1),
    ]


def test_first_events_after_a_quiet_spell_go_at_once_and_then_at_the_interval(
    new_rig: MakeRig, make: Any
) -> None:
    """Latency for the rare event, few batches for the steady stream."""
    rig = new_rig(*({"exec": make.execs(1)} for _ in range(10)))
    rig.step()
    rig.sent()
    rig.step(300)
    assert len(rig.rows("process_execs")) == 1
    for _ in range(3):
        rig.step(50)
        assert rig.sent() == []
    rig.step(50)
    assert len(rig.rows("process_execs")) == 4


def test_under_load_the_interval_is_longer(new_rig: MakeRig, make: Any) -> None:
    """A flush costs the same for few rows as for many: with 500 waiting it may wait 500 ms."""
    rig = new_rig(*({"connection": make.records("connection", 300)} for _ in range(9)))
    rig.step()
    rig.sent()
    for _ in range(4):
        rig.step(120)
        assert rig.sent() == []
    rig.step(120)
    assert len(rig.rows("connections")) == 1500


def test_many_rows_are_flushed_before_the_interval(new_rig: MakeRig, make: Any) -> None:
    """The row limit flushes whatever the time."""
    rig = new_rig(
        {},
        {"connection": make.records("connection", 3)},
        {"connection": make.records("connection", 30)},
    )
    rig.pace = pipeline.Pace(flush_rows=20)
    rig.step()
    rig.sent()
    rig.step(1)
    assert rig.sent() == []
    rig.step(1)
    assert len(rig.rows("connections")) == 33


def test_pause_adapts_to_what_was_drained(new_rig: MakeRig) -> None:
    """Short under load, longer and longer when there is little."""
    line = new_rig().pipeline
    drained = (5000, 5000, 3, 3, 3, 3, 0, 1999, 2000)
    milliseconds = [line.pause(rows) // 10**6 for rows in drained]
    assert milliseconds == [10, 10, 20, 40, 80, 100, 100, 100, 10]


def test_records_are_released_to_the_kernel_after_each_drain(new_rig: MakeRig, make: Any) -> None:
    """What is held for the flush is a copy: the ring's room is free again."""
    records = make.records("connection", 2, tgid=5)
    rig = new_rig({}, {"connection": records})
    rig.step()
    rig.step(10)
    records["tgid"] = 6  # the kernel writes over it
    rig.step(1000)
    assert [row["process_pid"] for row in rig.rows("connections")] == [5, 5]
    assert rig.source.calls.count("release") == 3


def test_chunks_that_come_a_drain_early_are_joined(new_rig: MakeRig, make: Any) -> None:
    """The kernel writes chunks before their exec: they wait for it."""
    args = b"a" * 512 + b"b" * 100
    record = make.execs(1, exec_id=9, args=args[:512])
    record["args_bytes"] = record["args_copied"] = len(args)
    rig = new_rig({"exec_chunk": make.chunk(9, 0, args[512:])}, {"exec": record})
    rig.step()
    rig.step(500)
    (row,) = rig.rows("process_execs")
    assert row["process_args"] == args.decode()
    assert not row["process_flags"] & schema.EXEC_F_ARGS_CUT


def test_chunk_without_an_exec_is_counted_as_a_loss(new_rig: MakeRig, make: Any) -> None:
    """An orphan is dropped one flush later, and a row of losses says so."""
    rig = new_rig({"exec_chunk": make.chunk(9, 0, b"x")}, {}, {"exec": make.execs(1)})
    for _ in range(5):
        rig.step(1000)
    (row,) = rig.rows("losses")
    assert (row["loss_stage"], row["loss_cause"], row["loss_count"]) == (
        "sensor",
        "exec_chunk_orphaned",
        1,
    )


def test_kernel_counters_become_rows_by_difference(new_rig: MakeRig) -> None:
    """Each growth is one row; no growth, no row."""
    rig = new_rig()
    counter = schema.COUNTERS[3]
    rig.source.losses[3] = 5
    rig.step(1000)
    rig.step(1000)
    rig.source.losses = rig.source.losses.copy()
    rig.source.losses[3] = 12
    rig.step(1000)
    rows = rig.rows("losses")
    assert [(r["loss_stage"], r["loss_cause"], r["loss_count"]) for r in rows] == [
        ("kernel", counter.name, 5),
        ("kernel", counter.name, 7),
    ]


def test_unknown_kind_in_the_process_ring_is_counted(new_rig: MakeRig, make: Any) -> None:
    """A record that is neither fork nor exit is not decoded as one, nor dropped unsaid."""
    rig = new_rig({"process": make.records("process", 1, kind=99)})
    rig.step(1000)
    rig.step(1000)
    (row,) = rig.rows("losses")
    assert row["loss_cause"] == "unknown_record"


def test_record_of_another_registry_version_stops_the_sensor(new_rig: MakeRig, make: Any) -> None:
    """Columns of another layout would be lies."""
    rig = new_rig({"exec": make.execs(1, version=schema.ABI_VERSION + 1)})
    with pytest.raises(AbiMismatch, match="Rebuild the BPF object"):
        rig.step()


def test_hooks_are_sent_at_start_and_when_they_change(new_rig: MakeRig) -> None:
    """A hook that stays as it is makes no second row."""
    rig = new_rig()
    hook = HookState(signal="exec", plan="tracepoint", hook="sched_process_exec", state="attached")
    refused = HookState(
        signal="connect", plan="fentry", hook="tcp_connect", state="refused", error=1, detail="x"
    )
    rig.source.hooks = [hook, refused]
    rig.pipeline.start(rig.now_ns)
    assert [row["event_action"] for row in rig.rows("sensor_hooks")] == [1, 2]
    rig.step(1000)
    assert rig.rows("sensor_hooks") == []
    rig.source.hooks = [
        HookState(signal="exec", plan="tracepoint", hook="sched_process_exec", state="detached"),
        refused,
    ]
    rig.step(1000)
    (row,) = rig.rows("sensor_hooks")
    assert (row["event_action"], row["hook_name"], row["hook_error"]) == (
        4,
        "sched_process_exec",
        0,
    )


def test_heartbeat_comes_every_five_seconds(new_rig: MakeRig) -> None:
    """Started, heartbeats, stopping."""
    rig = new_rig()
    rig.pipeline.start(rig.now_ns)
    for _ in range(12):
        rig.step(1000)
    rig.pipeline.finish()
    rows = rig.rows("sensor_health")
    assert [row["event_action"] for row in rows] == [2, 1, 1, 3]
    assert rows[0]["sensor_rss_bytes"] > 1 << 20
    assert rows[-1]["sensor_events"] == rows[-1]["event_seq"] - 1


def test_finish_empties_the_source_after_detaching(new_rig: MakeRig, make: Any) -> None:
    """Nothing that the rings hold at the stop is left there."""
    rig = new_rig(*({"exec": make.execs(7)} for _ in range(5)))
    rig.pipeline.finish()
    assert rig.source.calls[0] == "stop"
    assert len(rig.rows("process_execs")) == 35


def cells(**values: int) -> Any:
    out = np.zeros(1, GPU_CELL_DTYPE)
    defaults = {"cgroup_id": 77, "exec_id": 4, "start_ns": 3 * 10**9, "tgid": 321}
    for name, value in {**defaults, **values}.items():
        out[name] = value
    return out


def test_gpu_activity_is_the_difference_between_readings(new_rig: MakeRig) -> None:
    """Monotonic counters become calls per interval; a quiet interval makes no row."""
    rig = new_rig()
    device = gpu.device_number(195, 3)
    for calls in (10, 10, 25):
        rig.source.cells = cells(device=device, command=7, calls=calls, first_ns=5, last_ns=9)
        rig.step(2000)
    rows = rig.rows("gpu_activity")
    assert [row["gpu_calls"] for row in rows] == [10, 15]
    assert {row["gpu_device_name"] for row in rows} == {"nvidia3"}
    assert rows[0]["event_boot_time_ns"] == 9


def test_gpu_cells_are_read_before_the_rings(new_rig: MakeRig) -> None:
    """So the exec that a cell refers to is sent before the cell's row."""
    rig = new_rig()
    rig.step(2000)
    assert rig.source.calls[:2] == ["gpu_cells", "drain"]


def test_exec_batches_are_bounded_by_rows_and_bytes() -> None:
    """Long arguments make short batches; every exec is in exactly one."""
    copied = np.full(5000, 120, np.uint32)
    copied[100:400] = 32768
    parts = pipeline._exec_parts(copied)
    assert [start for start, _ in parts[1:]] == [end for _, end in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == (0, 5000)
    assert all(copied[a:b].sum() <= 8 << 20 and b - a <= 2048 for a, b in parts)
