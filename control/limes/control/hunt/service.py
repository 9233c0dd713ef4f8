"""The hunt service: answers each question from a worker of its own, and writes down who asked what.

Every call ends in exactly one line of the audit log, whatever became of it.
"""

import hashlib
import os
import pwd
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import grpc
import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from limes.control.errors import ConfigError, HuntError
from limes.control.hunt.config import HuntConfig
from limes.control.hunt.outcomes import CODES
from limes.control.hunt.process import HuntProcess
from limes.control.hunt.snapshot import Snapshot, Snapshots
from limes.control.hunt.turns import Turns
from limes.control.hunt.wire import MAX_SQL_BYTES, Job, Summary
from limes.control.roles import identity
from limes.control.store.connection import Store
from limes.v1 import hunt_service_pb2 as pb
from limes.v1 import hunt_service_pb2_grpc as rpc

LOG = structlog.get_logger()
FINISHED: Final = "hunt.finished"
GRACE_SECONDS: Final = 2


@dataclass(slots=True, kw_only=True, eq=False)
class Question:
    """One call: what was asked, and what became of it, for the audit log."""

    analyst: str
    sql: str
    began: float = field(default_factory=time.monotonic)
    cancelled: threading.Event = field(default_factory=threading.Event)
    process: HuntProcess | None = None
    rows: int = 0
    outcome: str = "failed"
    error: str = ""
    late: str = ""

    @property
    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self.began) * 1000)

    def cancel(self) -> None:
        """Stop it, wherever it is."""
        self.cancelled.set()
        if self.process is not None:
            self.process.kill()

    def expire(self, end_call: Callable[[], None]) -> None:
        """Stop it because its time is over, and the call with it."""
        self.late = "timeout"
        end_call()


class HuntServicer(rpc.HuntServiceServicer):
    """Serves `HuntService` on snapshots of `store`, kept in `directory`. Close it after the server.

    Raises ConfigError when the user that workers become does not exist.
    """

    def __init__(self, store: Store, directory: Path, config: HuntConfig) -> None:
        self._config = config
        self._user_id, self._group_id = worker_user(config.user)
        self._snapshots = Snapshots(store, directory, config)
        self._turns = Turns(config)
        # A worker dies with the thread that started it: one that lives as long as the server.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="hunt-starter")
        self._asked = threading.Condition()
        self._questions: set[Question] = set()

    def close(self) -> None:
        """End every hunt and its worker, then remove the snapshots."""
        with self._asked:
            questions = tuple(self._questions)
        for question in questions:
            self._cancel(question)
        with self._asked:
            self._asked.wait_for(lambda: not self._questions, GRACE_SECONDS)
        self._starter.shutdown()
        self._snapshots.close()

    def Hunt(  # noqa: N802 - the name is the RPC's
        self, request: pb.HuntRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.HuntResponse]:
        """Yield a header, pieces of an Arrow IPC stream, a summary."""
        question = Question(analyst=identity(context).name, sql=request.sql)
        with self._asked:
            self._questions.add(question)
        if not context.add_callback(lambda: self._cancel(question)):
            question.cancel()
        try:
            yield from self._answer(request, question, context)
            question.outcome = "answered"
        except HuntError as error:
            question.outcome, question.error = question.late or error.outcome, str(error)
        except GeneratorExit:  # the analyst left while an answer was on its way
            question.outcome = question.late or "cancelled"
            raise
        finally:
            audit(question)
            with self._asked:
                self._questions.discard(question)
                self._asked.notify_all()
        if question.error:
            context.abort(CODES[question.outcome], question.error)

    def _cancel(self, question: Question) -> None:
        question.cancel()
        self._turns.wake()

    def _answer(
        self, request: pb.HuntRequest, question: Question, context: grpc.ServicerContext
    ) -> Iterator[pb.HuntResponse]:
        size = len(request.sql.encode())
        if size > MAX_SQL_BYTES:
            raise HuntError(f"The hunt is {size} bytes long; the limit is {MAX_SQL_BYTES}.")
        max_age = request.max_age_seconds if request.HasField("max_age_seconds") else None
        timeout = within(request.timeout_seconds, self._config.timeout_seconds)
        with self._turns.turn(question.cancelled), self._snapshots.lease(max_age) as snapshot:
            # A worker's deadline does not end a call whose analyst takes nothing any more.
            watch = threading.Timer(timeout + GRACE_SECONDS, question.expire, [context.cancel])
            watch.start()
            try:
                yield pb.HuntResponse(header=header(snapshot))
                yield from self._run(self._job(request, snapshot.path, timeout), timeout, question)
            finally:
                watch.cancel()

    def _run(self, job: Job, timeout: int, question: Question) -> Iterator[pb.HuntResponse]:
        starting = self._starter.submit(HuntProcess, job, timeout_seconds=timeout)
        process = question.process = starting.result()
        try:
            if question.cancelled.is_set():
                process.kill()
            for frame in process.frames():
                if isinstance(frame, Summary):
                    question.rows = frame.rows
                    yield pb.HuntResponse(summary=summary(frame, question))
                else:
                    yield pb.HuntResponse(arrow=frame)
        finally:
            process.close()

    def _job(self, request: pb.HuntRequest, path: Path, timeout: int) -> Job:
        config = self._config
        rows = min(request.max_rows or config.default_rows, config.max_rows)
        return Job(
            snapshot=str(path),
            sql=request.sql,
            max_rows=rows,
            max_result_mib=config.max_result_mib,
            memory_mib=config.memory_mib,
            address_space_mib=config.address_space_mib,
            threads=config.threads,
            cpu_seconds=(timeout + 1) * config.threads,
            parent_pid=os.getpid(),
            user_id=self._user_id,
            group_id=self._group_id,
        )


def worker_user(name: str) -> tuple[int, int]:
    """Return the user and group that workers become; -1, -1 when this process may not choose."""
    if os.geteuid() != 0:
        return -1, -1
    try:
        found = pwd.getpwnam(name)
    except KeyError as error:
        raise ConfigError(
            f'Cannot run hunts as user "{name}" (hunt.user): there is none. Make or set another.'
        ) from error
    if found.pw_uid == 0:
        raise ConfigError("Cannot run hunts as root (hunt.user): set a user without rights.")
    return found.pw_uid, found.pw_gid


def within(wanted: int, most: int) -> int:
    """Return what was asked for, but not more than the most; 0 asks for the most."""
    return min(wanted or most, most)


def header(snapshot: Snapshot) -> pb.HuntHeader:
    """Return what the rows are read from."""
    return pb.HuntHeader(
        snapshot_time=timestamp(snapshot.made_at),
        oldest_event_time=timestamp(snapshot.oldest_event_time),
        snapshot_age_ms=round(snapshot.age() * 1000),
        kinds=[
            pb.SnapshotKind(
                kind=kind.kind,
                rows=kind.rows,
                store_rows=kind.store_rows,
                oldest_event_time=timestamp(kind.oldest_event_time),
            )
            for kind in snapshot.kinds
        ],
    )


def summary(found: Summary, question: Question) -> pb.HuntSummary:
    """Return how it went."""
    return pb.HuntSummary(
        rows=found.rows,
        truncated=bool(found.limit),
        limit=found.limit,
        elapsed_ms=question.elapsed_ms,
    )


def timestamp(value: datetime | None) -> Timestamp | None:
    if value is None:
        return None
    found = Timestamp()
    found.FromDatetime(value)
    return found


def audit(question: Question) -> None:
    LOG.info(
        FINISHED,
        analyst=question.analyst,
        outcome=question.outcome,
        rows=question.rows,
        elapsed_ms=question.elapsed_ms,
        sql_sha256=hashlib.sha256(question.sql.encode()).hexdigest(),
        sql=question.sql,
        error=question.error,
    )
