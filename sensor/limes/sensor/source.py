"""The seam between the kernel and the pipeline: what every source of records gives.

Invariant: records leave a source only as whole numpy arrays with the members of `schema.RECORDS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from limes.v1 import schema

Records: TypeAlias = npt.NDArray[np.void]
U32s: TypeAlias = npt.NDArray[np.uint32]
U64s: TypeAlias = npt.NDArray[np.uint64]

RECORD_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    name: np.dtype(record.dtype) for name, record in schema.RECORDS.items()
}
GPU_CELL_DTYPE: Final[np.dtype[Any]] = np.dtype(schema.CELLS["gpu"][1] + schema.CELLS["gpu"][2])

DRAIN_ORDER: Final = ("gpu", "connection", "process", "exec", "exec_chunk", "cgroup")
"""Order in which a source must look at its rings: what refers comes before what is referred to.

A connection refers to an exec that was written earlier; looking at the connections first and at the
execs after them means that every exec a drained connection refers to is in the same drain or in an
earlier one. Chunks are written before their exec record, so they are looked at after it. The
pipeline sends in the opposite order.
"""


def pick(records: Records, rows: npt.NDArray[Any]) -> Records:
    """These rows (numbers or a mask): each copied whole, where numpy would go member by member."""
    whole = records.view(np.dtype((np.void, records.dtype.itemsize)))
    picked: Records = whole[rows].view(records.dtype)
    return picked


@dataclass(frozen=True, slots=True, kw_only=True)
class HookState:
    """What became of one kernel hook: `state` is an action of the kind sensor_hooks."""

    signal: str
    plan: str
    hook: str
    state: str
    error: int = 0
    detail: str = ""


class Tree(Protocol):
    """The cgroups of a host."""

    def walk(self) -> Mapping[int, str]:
        """Every cgroup in scope, as it is now: id to path."""


class RecordSource(Protocol):
    """Kernel records as columns, from BPF or from a recorded file. Used from one thread only.

    Records have the members of RECORD_DTYPES; a source may have room between them.
    """

    @property
    def loader(self) -> str:
        """Which loader runs: libbpf, bcc or replay."""

    @property
    def plan(self) -> str:
        """The plan that serves the most signals (fentry or tracepoint); replay has its own word."""

    @property
    def hooks(self) -> Sequence[HookState]:
        """Every hook that was considered, as it is now: the pipeline sends the differences."""

    def drain(self) -> Mapping[str, Records]:
        """Records that are ready, by record name, rings looked at in DRAIN_ORDER.

        Names without a record may be left out. The arrays may be views of the rings: they are valid
        until `release` or the next `drain`.
        """

    def release(self) -> None:
        """Gives the room of the last drain back to the kernel; harmless when there is none."""

    def gpu_cells(self) -> Records:
        """All cells of the GPU aggregates (GPU_CELL_DTYPE), summed over the CPUs."""

    def delete_gpu_cells(self, cells: Records) -> None:
        """Removes the cells with these keys: quiet ones of processes that have ended."""

    def counters(self) -> U64s:
        """Loss counters so far, summed over the CPUs, by `schema.COUNTERS` number; only growing."""

    def seed_images(self, tgids: U32s, exec_ids: U64s, start_ns: U64s) -> None:
        """Notes each process's image and start (boot clock, a whole number of 10 ms ticks).

        What the kernel side knows already stays as it is.
        """

    def report_progress(self) -> None:
        """Has a connection_progress record written for each open socket that is due (30 s).

        Called every few seconds; the records come with a later drain.
        """

    def stop(self) -> None:
        """Detaches every hook; what the rings hold can still be drained. Safe to call twice."""

    def close(self) -> None:
        """Stops, and gives back rings, maps and programs. Safe to call twice."""
