"""Opens the DuckDB database; nothing else does, so that its settings and file modes have one place.

The file is 0600 in a directory of 0700, its schema is the newest one this version knows.
"""

import re
from pathlib import Path
from typing import Final

import duckdb
from limes.control.errors import StoreError
from limes.control.store import migrate, query
from limes.control.store.feed import CommitFeed

Settings = dict[str, str | bool | int | float | list[str]]

MEMORY: Final = ":memory:"
CHECKPOINT_THRESHOLD: Final = "512MB"  # a small one stalls commits for 270 ms at 500 k events/s
HOLDER: Final = re.compile(r"held in (?P<program>\S*) ?\(PID (?P<pid>\d+)\)")


class Store:
    """An open database.

    `path` is None in memory. `feed` publishes each commit of the writer. `cursor()` gives a
    connection of one's own in the same process: snapshot reads do not wait for the writer.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path | None) -> None:
        self._connection = connection
        self.path = path
        self.feed = CommitFeed()
        self.schema_version = migrate.schema_version(connection)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a new connection to the same database, for one thread; its owner closes it."""
        return self._connection.cursor()

    def last_ingest_id(self) -> int:
        """Return the number of the last commit that stored events; 0 when none did."""
        with self.cursor() as cursor:
            row = cursor.execute(query.text("last_ingest_id")).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """End the feed and close the database, writing its log into the file."""
        self.feed.close()
        self._connection.close()


def open_store(path: Path | None, *, memory_limit: str = "", threads: int = 1) -> Store:
    """Open (and make, or bring to the newest schema) the database at `path`; None: in memory.

    `memory_limit` is DuckDB's ("4GB"; empty: its default), `threads` the number that one statement
    may use (0: one a core). Raises StoreError when it is locked, damaged or of a newer schema.
    """
    if path is not None:
        prepare_directory(path)
    connection = connect(path, settings(memory_limit, threads))
    try:
        if path is not None:
            path.chmod(0o600)
        migrate.apply(connection)
        return Store(connection, path)
    except BaseException:
        connection.close()
        raise


def settings(memory_limit: str, threads: int) -> Settings:
    chosen: Settings = {
        "checkpoint_threshold": CHECKPOINT_THRESHOLD,
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if memory_limit:
        chosen["memory_limit"] = memory_limit
    if threads:
        chosen["threads"] = threads
    return chosen


def prepare_directory(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
    except OSError as error:
        raise StoreError(
            f"Cannot use {path.parent} for the database: {error.strerror}. "
            "Give a directory that this user owns (--state)."
        ) from error


def connect(path: Path | None, chosen: Settings) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(MEMORY if path is None else path, config=chosen)
    except duckdb.Error as error:
        text = str(error)
        if holder := HOLDER.search(text):
            raise StoreError(
                f"Cannot open {path}: process {holder['pid']} ({holder['program'] or 'unknown'}) "
                "has it open. One control plane may use a database: stop that one, or choose "
                "another --state."
            ) from error
        raise StoreError(
            f"Cannot open {path}: {text.splitlines()[0]}. "
            "Restore the database from a copy, or move it away to begin a new one."
        ) from error
