"""What the sensor says about itself: heartbeat, hooks, losses.

Invariant: a counter's growth becomes a loss row exactly once.
"""

import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from limes.sensor import decode, strings
from limes.sensor.arrow import Column
from limes.sensor.source import HookState, U64s
from limes.v1 import schema

_PAGE: Final = resource.getpagesize()
_COSTS_NOTHING: Final = "nothing"


def rss_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Resident memory of this process; 0 when it cannot be read."""
    try:
        return int(statm.read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


class Stamp:
    """The envelope of rows that the sensor writes now."""

    def __init__(self, boot_ns: int, offset_ns: int) -> None:
        self.boot_ns = boot_ns
        self.offset_ns = offset_ns

    def columns(self, count: int, action: int) -> dict[str, Column]:
        """event_time, event_boot_time_ns and event_action of `count` rows."""
        boot = np.full(count, self.boot_ns, np.uint64)
        return {
            "event_time": decode.times(boot, self.offset_ns),
            "event_boot_time_ns": boot,
            "event_action": np.full(count, action, np.uint8),
        }


def health(
    stamp: Stamp, action: str, *, events: int, lost: int, spool_bytes: int, loader: str
) -> dict[str, Column]:
    """One row of sensor_health."""
    values: dict[str, Column] = {
        **stamp.columns(1, schema.KINDS["sensor_health"].actions[action]),
        "sensor_cpu_ns": np.array([time.process_time_ns()], np.uint64),
        "sensor_rss_bytes": np.array([rss_bytes()], np.uint64),
        "sensor_events": np.array([events], np.uint64),
        "sensor_lost": np.array([lost], np.uint64),
        "sensor_spool_bytes": np.array([spool_bytes], np.uint64),
        "sensor_loader": strings.constant(loader, 1),
    }
    return decode.rows("sensor_health", 1, values)


class Hooks:
    """Rows for hooks whose state is new."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str, str], HookState] = {}

    def changes(self, hooks: Sequence[HookState]) -> list[HookState]:
        """The hooks that are new or in another state than at the last call."""
        out = []
        for hook in hooks:
            key = (hook.signal, hook.plan, hook.hook)
            if self._said.get(key) != hook:
                self._said[key] = hook
                out.append(hook)
        return out

    @staticmethod
    def columns(stamp: Stamp, hooks: Sequence[HookState]) -> dict[str, Column]:
        """Rows of sensor_hooks."""
        actions = schema.KINDS["sensor_hooks"].actions
        values = stamp.columns(len(hooks), 0)
        values |= {
            "event_action": np.array([actions[hook.state] for hook in hooks], np.uint8),
            "hook_signal": strings.from_list([hook.signal for hook in hooks]),
            "hook_plan": strings.from_list([hook.plan for hook in hooks]),
            "hook_name": strings.from_list([hook.hook for hook in hooks]),
            "hook_error": np.array([hook.error for hook in hooks], np.int32),
            "hook_detail": strings.from_list([hook.detail for hook in hooks]),
        }
        return decode.rows("sensor_hooks", len(hooks), values)


class Losses:
    """Turns counters that only grow into rows of what was lost since the last look."""

    def __init__(self) -> None:
        self._kernel = np.zeros(len(schema.COUNTERS), np.uint64)
        self._sensor: dict[str, int] = {}
        self._counted = np.array(
            [not counter.loses.startswith(_COSTS_NOTHING) for counter in schema.COUNTERS]
        )

    @property
    def total(self) -> int:
        """Events counted as lost in the kernel and the sensor so far."""
        return int(self._kernel[self._counted].sum()) + sum(self._sensor.values())

    def grown(self, kernel: U64s, sensor: Mapping[str, int]) -> list[tuple[str, str, int]]:
        """Stage, cause and count of each counter that grew."""
        out: list[tuple[str, str, int]] = []
        if not np.array_equal(kernel, self._kernel):
            for counter, now, before in zip(
                schema.COUNTERS, kernel.tolist(), self._kernel.tolist(), strict=True
            ):
                if now > before:
                    out.append(("kernel", counter.name, now - before))
            self._kernel = kernel.copy()
        for cause, count in sensor.items():
            before = self._sensor.get(cause, 0)
            if count > before:
                out.append(("sensor", cause, count - before))
                self._sensor[cause] = count
        return out

    @staticmethod
    def columns(stamp: Stamp, losses: Sequence[tuple[str, str, int]]) -> dict[str, Column]:
        """Rows of losses."""
        values = stamp.columns(len(losses), schema.KINDS["losses"].actions["lost"])
        values |= {
            "loss_stage": strings.from_list([stage for stage, _, _ in losses]),
            "loss_cause": strings.from_list([cause for _, cause, _ in losses]),
            "loss_count": np.array([count for _, _, count in losses], np.uint64),
        }
        return decode.rows("losses", len(losses), values)
