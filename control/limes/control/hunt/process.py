"""Starts the process of one hunt, reads its frames against a deadline, and ends it in any case.

A worker outlives neither its deadline nor the HuntProcess that started it.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec
import structlog
from limes.control.errors import HuntError
from limes.control.hunt.wire import FRAME_BYTES, FRAME_HEAD, Frame, Job, Refusal, Summary

LOG = structlog.get_logger()
DIED: Final = "hunt.worker_died"

READ_BYTES: Final = 256 << 10
STDERR_BYTES: Final = 4096
ENVIRONMENT: Final = {
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    # A worker's address space is limited: Arrow's own pool would reserve 1 GiB of it, the others
    # some of it for each core.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",
}


class HuntProcess:
    """One worker. `kill` may be called from any thread, the rest from one; close it always."""

    def __init__(self, job: Job, *, timeout_seconds: float) -> None:
        """Start the worker and hand it `job`; its time runs from now. Raises HuntError."""
        self._job = job
        self._timeout = timeout_seconds
        self._deadline = time.monotonic() + timeout_seconds
        self._cancelled = False
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "limes.control.hunt.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise HuntError(
                f"Cannot start a process for the hunt: {error.strerror}. Look at memory and "
                "process limits of the control plane.",
                outcome="failed",
            ) from error
        assert self._process.stdin is not None
        # A worker that died before it read is found out when frames are read.
        with suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(msgspec.msgpack.encode(job))

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End the worker now; `frames` then raises a HuntError of outcome "cancelled"."""
        self._cancelled = True
        self._process.kill()

    def close(self) -> None:
        """End the worker if it still runs, and wait for its end."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def frames(self) -> Iterator[bytes | Summary]:
        """Yield pieces of an Arrow IPC stream, then a Summary.

        Raises HuntError when the worker refuses, dies, or is not done by the deadline.
        """
        pending = bytearray()
        for data in self._read():
            pending += data
            while len(pending) >= FRAME_HEAD.size:
                number, length = FRAME_HEAD.unpack_from(pending)
                end = FRAME_HEAD.size + length
                if length > FRAME_BYTES or number not in set(Frame):
                    raise HuntError("The hunt's process wrote nonsense.", outcome="failed")
                if len(pending) < end:
                    break
                payload = bytes(pending[FRAME_HEAD.size : end])
                del pending[:end]
                if number == Frame.REFUSED:
                    refusal = msgspec.msgpack.decode(payload, type=Refusal)
                    raise HuntError(refusal.message, outcome=refusal.outcome)
                if number == Frame.SUMMARY:
                    yield msgspec.msgpack.decode(payload, type=Summary)
                    return
                yield payload
        raise self._death()

    def _read(self) -> Iterator[bytes]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while True:
            left = self._deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                self._process.kill()
                raise HuntError(
                    f"The hunt ran longer than its {self._timeout:g} s and was stopped: narrow it "
                    "by event_time, host_id or cgroup_path.",
                    outcome="timeout",
                )
            data = os.read(descriptor, READ_BYTES)
            if not data:
                return
            yield data

    def _death(self) -> HuntError:
        """Return why the worker ended without an answer."""
        try:
            code = self._process.wait(max(0.1, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:  # it closed its output and went on
            self._process.kill()
            code = self._process.wait()
        if self._cancelled:
            return HuntError("The hunt was cancelled.", outcome="cancelled")
        if code == -signal.SIGXCPU:
            return HuntError(
                f"The hunt used its {self._job.cpu_seconds} s of CPU time and was stopped.",
                outcome="timeout",
            )
        if code < 0:
            name = signal.Signals(-code).name
            return HuntError(
                f"The hunt's process died of {name}: its statement is nested too deeply, or it "
                f"needed more than {self._job.address_space_mib} MiB of address space. "
                "Simplify or narrow it.",
                outcome="memory",
            )
        LOG.error(DIED, exit_code=code, stderr=self._said())
        return HuntError(
            f"The hunt's process ended without an answer (exit {code}): the log of the control "
            "plane says why.",
            outcome="failed",
        )

    def _said(self) -> str:
        """Return the last line the worker wrote to its standard error."""
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        lines = (
            (self._process.stderr.read(STDERR_BYTES) or b"").decode(errors="replace").split("\n")
        )
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")
