"""Answers one job inside the worker: rows to a sink, and a summary or a refusal of one line."""

import io
from typing import Final

import duckdb
import pyarrow as pa
from limes.control.errors import HuntError
from limes.control.hunt import columns, guard, session
from limes.control.hunt.wire import Job, Refusal, Summary
from limes.control.hunt.worker import FrameWriter

KERNEL_REFUSED: Final = "bad allocation"  # DuckDB's words for memory that malloc did not give
NARROW: Final = "narrow it by event_time, host_id or cgroup_path, or aggregate"


def answer(job: Job, sink: FrameWriter) -> Summary | Refusal:
    """Open the snapshot, seal the process, run the SQL, write its rows to `sink`."""
    try:
        connection = session.open_snapshot(
            job.snapshot, memory_mib=job.memory_mib, threads=job.threads
        )
        send(session.pending(connection), job, io.BytesIO())
        guard.seal(user_id=job.user_id, group_id=job.group_id, parent_pid=job.parent_pid)
    except (duckdb.Error, OSError) as error:
        return Refusal(message=f"Cannot begin the hunt: {error}", outcome="failed")
    try:
        summary = send(session.run(connection, job.sql), job, sink)
        sink.finish()
    except HuntError as error:
        return Refusal(message=str(error), outcome=error.outcome)
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        return too_much(error, job)
    except duckdb.Error as error:
        return Refusal(message=session.explain(error, job.snapshot), outcome="refused")
    return summary


def too_much(error: Exception, job: Job) -> Refusal:
    """Return which of the two limits it was: DuckDB's own, or the kernel's that backs it."""
    own = isinstance(error, duckdb.OutOfMemoryException) and KERNEL_REFUSED not in str(error)
    limit = (
        f"{job.memory_mib} MiB of memory"
        if own
        else f"{job.address_space_mib} MiB of address space"
    )
    return Refusal(message=f"The hunt needed more than {limit}: {NARROW}.", outcome="memory")


def send(reader: pa.RecordBatchReader, job: Job, sink: io.IOBase) -> Summary:
    schema = columns.plain_schema(reader.schema)
    rows, limit = 0, ""
    with pa.ipc.new_stream(sink, schema) as stream:
        plain = (columns.plain_batch(batch, schema) for batch in reader)
        for batch, cut in session.limited(
            plain, max_rows=job.max_rows, max_bytes=job.max_result_mib << 20
        ):
            stream.write_batch(batch)
            rows, limit = rows + batch.num_rows, cut
    return Summary(rows=rows, limit=limit)
