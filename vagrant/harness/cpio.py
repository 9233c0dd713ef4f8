"""Owns writing initramfs archives (cpio newc, deterministic: no times, owner root)."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass

_MAGIC = b"070701"
_ALIGN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file of the archive: its content and permission bits."""

    content: bytes
    mode: int = 0o644


def archive(members: Mapping[str, Member]) -> bytes:
    """Return a newc archive of the members, by path without a leading slash, with their parents."""
    out = bytearray()
    numbered = 0
    for folder in _parents(members):
        numbered += 1
        out += _entry(numbered, folder, stat.S_IFDIR | 0o755, b"")
    for path, member in sorted(members.items()):
        numbered += 1
        out += _entry(numbered, path, stat.S_IFREG | member.mode, member.content)
    out += _entry(0, "TRAILER!!!", 0, b"")
    return bytes(out)


def _parents(paths: Mapping[str, Member]) -> list[str]:
    folders: set[str] = set()
    for path in paths:
        parts = path.split("/")[:-1]
        folders.update("/".join(parts[: depth + 1]) for depth in range(len(parts)))
    return sorted(folders)


def _entry(number: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    numbers = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
    header = _MAGIC + b"".join(b"%08X" % value for value in numbers)
    return _padded(header + name) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGN)
