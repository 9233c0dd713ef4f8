"""The process of one hunt: reads a job, confines itself, answers in frames, ends.

Nothing of the question is looked at before the process is confined and sealed.
"""

import io
import os
import sys
from typing import Final

import msgspec
from limes.control.hunt import guard
from limes.control.hunt.wire import FRAME_BYTES, Frame, Job, Summary, pack, pack_struct

OUT: Final = 1


class FrameWriter(io.RawIOBase):
    """A file that writes what it is given to standard output, as ARROW frames."""

    def __init__(self) -> None:
        super().__init__()
        self._pending = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        self._pending += view
        while len(self._pending) >= FRAME_BYTES:
            write_all(pack(Frame.ARROW, bytes(self._pending[:FRAME_BYTES])))
            del self._pending[:FRAME_BYTES]
        return len(view)

    def finish(self) -> None:
        """Write what is left."""
        if self._pending:
            write_all(pack(Frame.ARROW, bytes(self._pending)))
            self._pending.clear()


def write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(OUT, view) :]


def main() -> None:
    """Answer the job on standard input."""
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Job)
    guard.confine(
        address_space_bytes=job.address_space_mib << 20,
        cpu_seconds=job.cpu_seconds,
        parent_pid=job.parent_pid,
    )
    # Imported here because DuckDB and Arrow start threads, which inherit what was given up by now.
    from limes.control.hunt.answer import answer  # noqa: PLC0415

    result = answer(job, FrameWriter())
    kind = Frame.SUMMARY if isinstance(result, Summary) else Frame.REFUSED
    write_all(pack_struct(kind, result))
    os._exit(0)  # closing a database and an interpreter would only take time


if __name__ == "__main__":
    main()
