"""What passes between the server and a hunt's worker: one job in, frames out.

A job fits a pipe's buffer, so that writing it never waits; a frame is one byte of kind, four of
length (little-endian) and at most FRAME_BYTES of payload.
"""

import struct
from enum import IntEnum
from typing import Final

import msgspec

FRAME_BYTES: Final = 1 << 20  # well below gRPC's default limit of 4 MiB a message
FRAME_HEAD: Final = struct.Struct("<BI")
MAX_SQL_BYTES: Final = 56 << 10  # with the rest of the job it fits the 64 KiB of a pipe


class Frame(IntEnum):
    """Kinds of frame: any number of ARROW, then SUMMARY; or REFUSED at any point."""

    ARROW = 1  # a piece of the Arrow IPC stream
    SUMMARY = 2  # a Summary; the last frame
    REFUSED = 3  # a Refusal; the last frame


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker is told."""

    snapshot: str  # path of the file
    sql: str
    max_rows: int
    max_result_mib: int
    memory_mib: int
    address_space_mib: int
    threads: int
    cpu_seconds: int
    parent_pid: int
    user_id: int = -1  # user and group to become; -1 stays what it is
    group_id: int = -1


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How a hunt ended well. `limit` names the limit that cut it; empty when none did."""

    rows: int
    limit: str = ""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a hunt has no answer; `outcome` as in HuntError."""

    message: str
    outcome: str


def pack(kind: Frame, payload: bytes) -> bytes:
    """Return one frame. `payload` must not be longer than FRAME_BYTES."""
    assert len(payload) <= FRAME_BYTES
    return FRAME_HEAD.pack(kind, len(payload)) + payload


def pack_struct(kind: Frame, message: Summary | Refusal) -> bytes:
    """Return the frame of a Summary or Refusal."""
    return pack(kind, msgspec.msgpack.encode(message))
