"""Stable ids of processes, program images and connections.

Invariant: an id is a function of its arguments alone, so /proc and the kernel side give the same.
"""

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt
from limes.sensor.source import U64s

TICK_NS: Final = 10_000_000
"""Resolution of a start time in /proc/<pid>/stat (USER_HZ is 100 on every architecture)."""

_TGID_BITS: Final = np.uint64(22)  # PID_MAX_LIMIT is 4,194,304
_TICK: Final = np.uint64(TICK_NS)
_SHIFT_1: Final = np.uint64(30)
_SHIFT_2: Final = np.uint64(27)
_SHIFT_3: Final = np.uint64(31)
_MULTIPLIER_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2: Final = np.uint64(0x94D049BB133111EB)


def mix64(values: U64s) -> U64s:
    """Scrambles in place with the finaliser of splitmix64 (a bijection); returns the same array."""
    values ^= values >> _SHIFT_1
    values *= _MULTIPLIER_1
    values ^= values >> _SHIFT_2
    values *= _MULTIPLIER_2
    values ^= values >> _SHIFT_3
    return values


def _hash(*parts: str) -> np.uint64:
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


class Identity:
    """Who this sensor is, and the ids that follow from it.

    Kernel ids are unique within a boot; mixing host, boot and epoch in keeps those of other hosts,
    boots and starts apart in the store.
    """

    def __init__(self, *, host_id: str, boot_id: str, epoch: int) -> None:
        self.host_id = host_id
        self.boot_id = boot_id
        self.epoch = epoch
        self._boot = _hash("boot", boot_id)
        self._start = _hash("start", host_id, boot_id, str(epoch))

    def entities(self, tgids: npt.NDArray[np.uint32], start_ns: U64s) -> U64s:
        """Entity ids of processes (any shape); 0 where the tgid is 0, which means no process."""
        keys = start_ns // _TICK
        keys <<= _TGID_BITS
        keys |= tgids
        keys ^= self._boot
        mix64(keys)
        keys *= tgids != 0
        return keys

    def entity(self, tgid: int, start_ns: int) -> int:
        """Entity id of one process."""
        return int(self.entities(np.array([tgid], np.uint32), np.array([start_ns], np.uint64))[0])

    def kernel_ids(self, ids: U64s) -> U64s:
        """Makes ids minted by the kernel side unique among hosts and starts; 0 stays 0."""
        out = ids ^ self._start
        out *= ids != 0
        return out
