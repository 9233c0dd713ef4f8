"""The database: how it is opened, who may read it, when it is refused."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from limes.control.errors import StoreError
from limes.control.store.columns import arrow_schema
from limes.control.store.connection import open_store
from limes.v1 import schema

STAMP = ["ingest_id", "event_ingested", "host_id", "boot_id", "sensor_epoch"]


def test_only_the_owner_may_read_the_database(tmp_path: Path) -> None:
    """The file is 0600 and its directory 0700."""
    path = tmp_path / "control" / "limes.duckdb"
    open_store(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_locked_database_is_refused_with_the_process_that_holds_it(tmp_path: Path) -> None:
    """A second process is told which one has the database open."""
    path = tmp_path / "limes.duckdb"
    store = open_store(path)
    code = (
        "import sys, pathlib\n"
        "from limes.control.errors import StoreError\n"
        "from limes.control.store.connection import open_store\n"
        "try:\n"
        "    open_store(pathlib.Path(sys.argv[1]))\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    ).stdout
    store.close()
    assert f"process {os.getpid()} " in found
    assert "stop that one" in found
    assert found.count("\n") == 1


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Damage is one clear line, and the file stays as it is."""
    path = tmp_path / "limes.duckdb"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match=r"Cannot open .*limes\.duckdb"):
        open_store(path)
    assert path.read_bytes() == b"not a database" * 1000


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """The message names the directory and why."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot use .*file/control"):
        open_store(tmp_path / "file" / "control" / "limes.duckdb")


def test_a_closed_database_leaves_no_log_behind(tmp_path: Path) -> None:
    """Closing writes the log into the file."""
    path = tmp_path / "limes.duckdb"
    open_store(path).close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["limes.duckdb"]


def test_cursors_see_what_is_committed_and_no_more() -> None:
    """A cursor is a connection of its own."""
    store = open_store(None)
    writer, reader = store.cursor(), store.cursor()
    writer.begin()
    writer.execute("INSERT INTO batch_log VALUES (7, now(), 'h', 'b', 1, 1, 2, 4, 'stored')")
    assert store.last_ingest_id() == 0
    writer.commit()
    assert store.last_ingest_id() == 7
    assert reader.execute("SELECT count(*) FROM batch_log").fetchone() == (1,)
    for cursor in (writer, reader):
        cursor.close()
    store.close()


def test_sql_cannot_reach_python_variables() -> None:
    """A name in SQL is never a variable of the server's code."""
    store = open_store(None)
    secret = [1]  # noqa: F841 - DuckDB would find it by its name
    with store.cursor() as cursor, pytest.raises(duckdb.CatalogException):
        cursor.execute("SELECT * FROM secret")
    store.close()


@pytest.mark.parametrize("kind", schema.KINDS)
def test_tables_have_the_registrys_columns_in_order(kind: str) -> None:
    """Rows are inserted by position: the table is the stamp, then the registry's columns."""
    store = open_store(None)
    with store.cursor() as cursor:
        found = [row[0] for row in cursor.execute(f"DESCRIBE main.{kind}").fetchall()]
    store.close()
    assert found == [*STAMP, *arrow_schema(kind).names]
