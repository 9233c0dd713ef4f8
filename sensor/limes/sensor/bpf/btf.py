"""Where the running kernel keeps its structure members, from its BTF.

Invariant: offsets come from the kernel that runs, never from a header of another one.
"""

import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from limes.sensor.errors import KernelUnsupported

VMLINUX: Final = Path("/sys/kernel/btf/vmlinux")
_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")
_MEMBER: Final = struct.Struct("<III")
_MAGIC: Final = 0xEB9F

_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _PROTO, _VAR, _DATASEC, _DECL_TAG, _ENUM64 = (
    1,
    3,
    4,
    5,
    6,
    13,
    14,
    15,
    17,
    19,
)
_MODIFIERS: Final = {8, 9, 10, 11, 18}  # typedef, volatile, const, restrict, type tag
# Bytes that follow a type of this kind: a fixed part, and a part for each of its vlen entries.
_TAIL: Final = {
    _INT: (4, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    _PROTO: (0, 8),
    _VAR: (4, 0),
    _DATASEC: (0, 12),
    _DECL_TAG: (4, 0),
    _ENUM64: (0, 12),
}


class Member(NamedTuple):
    """A member of a structure, anonymous parents flattened: byte offset from the start."""

    name: str
    offset: int


class Btf:
    """Parsed type information. Raises KernelUnsupported when `path` holds none."""

    def __init__(self, path: Path = VMLINUX) -> None:
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise KernelUnsupported(
                f"Cannot read the kernel's BTF {path}: {error.strerror}. Needs "
                "CONFIG_DEBUG_INFO_BTF=y."
            ) from error
        magic, _, _, header, types, size, strings, _ = _HEADER.unpack_from(self._data)
        if magic != _MAGIC:
            raise KernelUnsupported(f"Cannot read {path}: it holds no little-endian BTF.")
        self._strings = header + strings
        self._offsets = array("I", [0])
        self._structs: dict[str, int] = {}
        self._index(header + types, header + types + size)

    def _index(self, position: int, end: int) -> None:
        while position < end:
            name, info, _ = _TYPE.unpack_from(self._data, position)
            kind, entries = info >> 24 & 0x1F, info & 0xFFFF
            if kind in {_STRUCT, _UNION} and name:
                self._structs.setdefault(self._name(name), len(self._offsets))
            self._offsets.append(position)
            fixed, each = _TAIL.get(kind, (0, 0))
            position += _TYPE.size + fixed + each * entries

    def _name(self, offset: int) -> str:
        start = self._strings + offset
        return self._data[start : self._data.index(b"\0", start)].decode()

    def _members(self, type_id: int, base: int) -> Iterator[Member]:
        position = self._offsets[type_id]
        _, info, target = _TYPE.unpack_from(self._data, position)
        kind, entries, bitfields = info >> 24 & 0x1F, info & 0xFFFF, info >> 31
        if kind in _MODIFIERS:
            yield from self._members(target, base)
            return
        if kind not in {_STRUCT, _UNION}:
            return
        for index in range(entries):
            place = position + _TYPE.size + index * _MEMBER.size
            name, member_type, bits = _MEMBER.unpack_from(self._data, place)
            offset = base + (bits & 0xFFFFFF if bitfields else bits) // 8
            if name:
                yield Member(self._name(name), offset)
            else:
                yield from self._members(member_type, offset)

    def members(self, name: str) -> dict[str, int] | None:
        """Byte offset of each member of the structure; None when the kernel has none so named."""
        found = self._structs.get(name)
        if found is None:
            return None
        return {member.name: member.offset for member in self._members(found, 0)}
