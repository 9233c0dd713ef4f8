"""GPU devices by number, and the activity between two readings of the kernel's aggregates.

Invariant: a stand-in node is never shown as a GPU; its name says "simulated device".
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from limes.sensor import strings
from limes.sensor.devices import DRM_MAJOR, NVIDIA_MAJOR, driver_majors
from limes.sensor.identity import mix64
from limes.sensor.source import Records, U32s, U64s

Device: TypeAlias = tuple[int, str, bool]
"""A configured node: device number, name, and whether it is a stand-in."""

MINOR_BITS: Final = 20


def device_number(major: int, minor: int) -> int:
    """The kernel's encoding of a device number."""
    return major << MINOR_BITS | minor


def _nvidia_name(minor: int) -> str:
    return {254: "nvidia-modeset", 255: "nvidiactl"}.get(minor, f"nvidia{minor}")


class Devices:
    """Names of GPU device nodes: configured stand-ins first, then what the host's drivers say."""

    def __init__(self, extra: Iterable[Device] = (), *, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._extra = {number: (name, simulated) for number, name, simulated in extra}

    def _find(self, device: int, drivers: Mapping[int, str]) -> tuple[str, bool]:
        if device in self._extra:
            name, simulated = self._extra[device]
            return (f"{name} (simulated device)" if simulated else name), simulated
        major, minor = device >> MINOR_BITS, device & ((1 << MINOR_BITS) - 1)
        if major == NVIDIA_MAJOR:
            return _nvidia_name(minor), False
        if major == DRM_MAJOR:
            return (f"renderD{minor}" if minor >= 128 else f"card{minor}"), False
        driver = drivers.get(major, f"char-{major}")
        if driver == "nvidia-uvm":
            return ("nvidia-uvm-tools" if minor else "nvidia-uvm"), False
        return (driver if driver == "kfd" else f"{driver}:{minor}"), False

    def _drivers(self, devices: Iterable[int]) -> Mapping[int, str]:
        """The host's drivers as they are now, where one of the nodes is named by its driver.

        Not kept: a driver that is loaded again may get another major.
        """
        for device in devices:
            fixed = device >> MINOR_BITS in (NVIDIA_MAJOR, DRM_MAJOR)
            if not fixed and device not in self._extra:
                return driver_majors(self._proc)
        return {}

    def name(self, device: int) -> tuple[str, bool]:
        """A node's name and whether it is a stand-in."""
        return self._find(device, self._drivers([device]))

    def describe(self, devices: U32s) -> tuple[strings.Strings, npt.NDArray[np.bool_]]:
        """Columns of names and of the simulated mark."""
        unique, inverse = np.unique(devices, return_inverse=True)
        numbers = unique.tolist()
        drivers = self._drivers(numbers)
        found = [self._find(device, drivers) for device in numbers]
        names = strings.from_list([name for name, _ in found]).take(inverse)
        return names, np.array([simulated for _, simulated in found], np.bool_)[inverse]


def cell_keys(cells: Records) -> U64s:
    """A 64-bit hash of each cell's key."""
    keys = mix64(cells["cgroup_id"] ^ np.uint64(0x9E3779B97F4A7C15))
    for member in ("exec_id", "start_ns"):
        keys = mix64(keys ^ cells[member])
    keys = mix64(keys ^ (cells["tgid"].astype(np.uint64) << np.uint64(32) | cells["device"]))
    return mix64(keys ^ cells["command"])


class Activity:
    """Differences between readings of the cells, and which cells have gone quiet."""

    def __init__(self) -> None:
        self._keys: U64s = np.empty(0, np.uint64)
        self._calls: U64s = np.empty(0, np.uint64)

    def since_last(self, cells: Records) -> tuple[Records, U64s]:
        """Cells that grew since the last reading, and by how much.

        A cell that shows fewer calls than before was deleted and made anew: all its calls count.
        """
        keys = cell_keys(cells)
        order = np.argsort(keys)
        keys, calls = keys[order], cells["calls"][order]
        before = np.zeros(len(keys), np.uint64)
        if len(self._keys):
            at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            before = self._calls[at] * (self._keys[at] == keys)
        before *= before <= calls
        grown = calls - before
        self._keys, self._calls = keys, calls
        active = np.flatnonzero(grown)
        return cells[order[active]], grown[active]


def quiet(cells: Records, now_ns: int, after_ns: int) -> Records:
    """Cells whose latest call is longer ago than `after_ns`."""
    return cells[cells["last_ns"] + np.uint64(after_ns) < np.uint64(now_ns)]
