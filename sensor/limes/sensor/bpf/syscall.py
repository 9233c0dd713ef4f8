"""bpf(2) for maps and test runs, without any library: both loaders hand over file descriptors.

Invariant: every call either succeeds or raises OSError with the kernel's errno.
"""

import ctypes
import os
import platform
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 321)

_MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE = 1, 2, 3
_PROG_TEST_RUN, _LOOKUP_BATCH = 10, 24
NOEXIST: Final = 1


class _MapElement(ctypes.Structure):
    _fields_ = (
        ("map_fd", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("in_batch", ctypes.c_uint64),
        ("out_batch", ctypes.c_uint64),
        ("keys", ctypes.c_uint64),
        ("values", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("map_fd", ctypes.c_uint32),
        ("elem_flags", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class _TestRun(ctypes.Structure):
    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_uint64),
        ("data_out", ctypes.c_uint64),
        ("repeat", ctypes.c_uint32),
        ("duration", ctypes.c_uint32),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_uint64),
        ("ctx_out", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


def _bpf(command: int, attributes: ctypes.Structure) -> int:
    size = ctypes.sizeof(attributes)
    result: int = _LIBC.syscall(_SYS_BPF, command, ctypes.byref(attributes), size)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def possible_cpus(path: Path = Path("/sys/devices/system/cpu/possible")) -> int:
    """Number of CPUs the kernel lays out per-CPU values for: the possible ones, packed."""
    total = 0
    for part in path.read_text(encoding="ascii").strip().split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def _address(array: npt.NDArray[Any]) -> int:
    return array.ctypes.data


def lookup(map_fd: int, key: npt.NDArray[Any], value: npt.NDArray[Any]) -> None:
    """Reads one element into `value` (per-CPU maps: one slot a possible CPU)."""
    _bpf(_MAP_LOOKUP, _MapElement(map_fd, 0, _address(key), _address(value), 0))


def lookup_each(map_fd: int, keys: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
    """Reads the elements of these keys into the rows of `values`."""
    element = _MapElement(map_fd, 0, _address(keys), _address(values), 0)
    for _ in range(len(keys)):
        _bpf(_MAP_LOOKUP, element)
        element.key += keys.strides[0]
        element.value += values.strides[0]


def update(map_fd: int, key: npt.NDArray[Any], value: npt.NDArray[Any], flags: int = 0) -> None:
    """Writes one element."""
    _bpf(_MAP_UPDATE, _MapElement(map_fd, 0, _address(key), _address(value), flags))


def delete(map_fd: int, key: npt.NDArray[Any]) -> None:
    """Removes one element."""
    _bpf(_MAP_DELETE, _MapElement(map_fd, 0, _address(key), 0, 0))


def lookup_all(
    map_fd: int, key: np.dtype[Any], value: np.dtype[Any], *, slots: int = 1, chunk: int = 4096
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Every element of a hash map: keys of shape (n,), values of shape (n, slots)."""
    cursor_in, cursor_out = np.zeros(1, "<u4"), np.zeros(1, "<u4")
    keys: list[npt.NDArray[Any]] = []
    values: list[npt.NDArray[Any]] = []
    first = True
    while True:
        some_keys, some_values = np.empty(chunk, key), np.empty((chunk, slots), value)
        batch = _Batch(
            0 if first else _address(cursor_in),
            _address(cursor_out),
            _address(some_keys),
            _address(some_values),
            chunk,
            map_fd,
        )
        end = False
        try:
            _bpf(_LOOKUP_BATCH, batch)
        except FileNotFoundError:  # ENOENT: this was the last piece
            end = True
        if batch.count:
            keys.append(some_keys[: batch.count])
            values.append(some_values[: batch.count])
        if end:
            break
        cursor_in, cursor_out, first = cursor_out, cursor_in, False
    if not keys:
        return np.empty(0, key), np.empty((0, slots), value)
    return np.concatenate(keys), np.concatenate(values)


def run_raw_tracepoint(program_fd: int, arguments: npt.NDArray[np.uint64]) -> None:
    """Runs a raw tracepoint program once with these arguments (up to 12)."""
    attributes = _TestRun(
        prog_fd=program_fd, ctx_size_in=arguments.nbytes, ctx_in=_address(arguments)
    )
    _bpf(_PROG_TEST_RUN, attributes)
