"""Owns the wire between host and agent: frames of kind, length and payload on a byte stream.

Both ends import this file, so that they cannot disagree. Lengths are big-endian.
"""

import enum
import struct
from collections.abc import Iterator

_HEADER = struct.Struct("!BI")
# Larger payloads are split by the sender; the bound is what a reader must be ready to hold.
MAX_PAYLOAD = 256 * 1024


class Kind(enum.IntEnum):
    """What a frame says. Requests come from the host, the rest from the agent."""

    # Agent, once: it is ready. JSON {"kernel", "python"}.
    HELLO = 1
    # Request. JSON {"argv", "env", "cwd", "tty"}; answered by OUT and ERR, then EXIT or FAIL.
    RUN = 2
    # Host, while a command runs: bytes for its standard input; empty ends it.
    INPUT = 3
    # Host, while a command runs: kill its session.
    KILL = 4
    OUT = 5
    ERR = 6
    # Agent: the command ended. JSON {"status"}, negative for a signal.
    EXIT = 7
    # Request. JSON {"path", "mode"}; then DATA frames, an empty one last; answered by DONE or FAIL.
    PUT = 8
    # Request. JSON {"path"}; answered by DATA frames, an empty one last, or FAIL.
    GET = 9
    DATA = 10
    DONE = 11
    # Agent: the request could not be met. Text.
    FAIL = 12


def encode(kind: Kind, payload: bytes = b"") -> bytes:
    """Return the frame's bytes."""
    return _HEADER.pack(kind, len(payload)) + payload


def split(data: bytes) -> Iterator[bytes]:
    """Yield `data` in payloads that fit a frame."""
    for start in range(0, len(data), MAX_PAYLOAD):
        yield data[start : start + MAX_PAYLOAD]


class Decoder:
    """Turns received bytes into frames; what is incomplete waits for more."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> tuple[Kind, bytes] | None:
        """Return the next whole frame, None when there is none yet. Raises ValueError."""
        if len(self._buffer) < _HEADER.size:
            return None
        kind, length = _HEADER.unpack_from(self._buffer)
        if length > MAX_PAYLOAD:
            raise ValueError(f"frame of {length} bytes, at most {MAX_PAYLOAD} are allowed")
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return Kind(kind), payload
