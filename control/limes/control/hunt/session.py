"""Opens a snapshot so that SQL can do nothing but read it, and runs one SELECT there.

Runs in the worker only: DuckDB's own settings are not enough (docs/hunting.md), the process around
it is confined as well.
"""

import re
from collections.abc import Iterator
from importlib import resources
from typing import Final

import duckdb
import pyarrow as pa
from limes.control.errors import HuntError
from limes.control.store.connection import Settings

BATCH_ROWS: Final = 2048
MESSAGE_LENGTH: Final = 600
LINE: Final = re.compile(r"^LINE (\d+):", re.MULTILINE)

# A step of a hunt, as rules have them: a temporary table lives in the worker's memory only.
STEP: Final = re.compile(
    r"(?:\s|--[^\n]*\n)*CREATE\s+(?:OR\s+REPLACE\s+)?TEMP(?:ORARY)?\s+TABLE\s+\w+\s+AS\b",
    re.IGNORECASE,
)

FIXED_SETTINGS: Final[Settings] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_unsigned_extensions": False,
    "max_expression_depth": 250,
    "temp_directory": "",
    # Without it DuckDB hands out integers of 128 bits modulo 2^127: wrong, not refused.
    "arrow_lossless_conversion": True,
}


def open_snapshot(path: str, *, memory_mib: int, threads: int) -> duckdb.DuckDBPyConnection:
    """Return a locked connection to the snapshot, in a read-only transaction.

    Its pending result is the rehearsal of lock.sql.
    """
    settings: Settings = {**FIXED_SETTINGS, "memory_limit": f"{memory_mib}MiB", "threads": threads}
    connection = duckdb.connect(path, read_only=True, config=settings)
    lock = (resources.files(__package__) / "queries/lock.sql").read_text(encoding="utf-8")
    return connection.execute(lock)


def run(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.RecordBatchReader:
    """Parse and run `sql`; return its rows as they come.

    Raises HuntError when it is not one SELECT (or PIVOT) with the steps to it, duckdb.Error when
    it fails.
    """
    statements = connection.extract_statements(sql)
    check(statements)
    for statement in statements:
        connection.execute(statement)
    return pending(connection)


def pending(connection: duckdb.DuckDBPyConnection) -> pa.RecordBatchReader:
    """Return the rows of the last statement as they come."""
    return connection.to_arrow_reader(BATCH_ROWS)


def check(statements: list[duckdb.Statement]) -> None:
    """Raise HuntError unless the last is a SELECT and all before it are steps to it."""
    if not statements:
        raise HuntError("The hunt holds no statement: ask one SELECT, such as SHOW ALL TABLES.")
    *steps, asked = statements
    if not all(is_step(statement) for statement in steps):
        raise HuntError(
            f"The hunt holds {len(statements)} statements: ask one SELECT. Only steps "
            "(CREATE TEMP TABLE name AS SELECT) may stand before it."
        )
    if asked.type != duckdb.StatementType.SELECT:
        raise HuntError(
            f"The hunt is a statement of type {asked.type.name}: a hunt only reads, "
            "ask one SELECT (or PIVOT)."
        )


def is_step(statement: duckdb.Statement) -> bool:
    """Return whether a statement makes a temporary table, or is the parser's own.

    Those have no text: a PIVOT first makes a type of the values it finds.
    """
    text = statement.query
    made = statement.type == duckdb.StatementType.CREATE
    return made and (not text.strip() or STEP.match(text) is not None)


def explain(error: duckdb.Error, snapshot: str) -> str:
    """Return what DuckDB said, in one line that does not name the file of the snapshot."""
    text = str(error)
    said = " ".join(text.partition("\n\nLINE ")[0].split()).replace(snapshot, "the snapshot")
    if len(said) > MESSAGE_LENGTH:
        said = f"{said[:MESSAGE_LENGTH]} ..."
    if found := LINE.search(text):
        said = f"{said} (line {found[1]} of the hunt)"
    if isinstance(error, duckdb.PermissionException):
        said = f"{said}. A hunt reads the views of schema hunt: no files, addresses or extensions."
    return said


def limited(
    batches: Iterator[pa.RecordBatch], *, max_rows: int, max_bytes: int
) -> Iterator[tuple[pa.RecordBatch, str]]:
    """Yield batches within the limits, each with "" or, on the last, the limit that cut.

    Raises HuntError when the first row alone is over the limit of bytes.
    """
    rows = size = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        kept, limit = batch, ""
        if rows + kept.num_rows > max_rows:
            kept, limit = kept.slice(0, max_rows - rows), f"{max_rows} rows"
        while kept.num_rows and size + kept.nbytes > max_bytes:
            kept, limit = kept.slice(0, kept.num_rows // 2), f"{max_bytes >> 20} MiB"
        rows += kept.num_rows
        size += kept.nbytes
        if limit and rows == 0:
            raise HuntError(f"One row alone is over the limit of {limit}: select fewer columns.")
        yield kept, limit
        if limit:
            return
