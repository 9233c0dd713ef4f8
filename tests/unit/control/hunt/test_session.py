"""Statements are checked by what the parser says they are; answers are cut where the limits are."""

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest
from limes.control.errors import HuntError
from limes.control.hunt.session import check, explain, limited

SNAPSHOT = "/var/lib/limes/control/snapshots/7/snapshot.duckdb"


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT i % 3 AS a, i AS b FROM range(10) AS r(i)")
        yield connection


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SELECT 1;",
        "-- a question\nSELECT 1 -- and no more",
        "FROM t",
        "TABLE t",
        "VALUES (1)",
        "WITH x AS (SELECT 1) FROM x",
        "SHOW ALL TABLES",
        "DESCRIBE t",
        "SUMMARIZE t",
        "PIVOT t ON a USING count(*)",
        "PIVOT t ON a IN (0, 1) USING count(*)",
        "FROM (PIVOT t ON a USING count(*)), (PIVOT t ON b USING count(*))",
        "UNPIVOT t ON a, b",
        "CREATE TEMP TABLE x AS SELECT 1; FROM x",
        "-- 1\nCREATE OR REPLACE TEMP TABLE x AS\nSELECT 1;\n\n-- 2\n-- 3\nSELECT 2",
        "create temporary table y as FROM t;\n\n-- the answer\nWITH z AS (FROM y) FROM z",
        "CREATE TEMP TABLE x AS FROM t; PIVOT x ON a USING count(*)",
    ],
)
def test_question_passes(sql: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Whatever only reads is let through, PIVOT with its second statement included."""
    check(connection.extract_statements(sql))


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("", "no statement"),
        ("-- nothing", "no statement"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("CREATE TEMP TYPE e AS ENUM ('0'); PIVOT t ON a USING count(*)", "3 statements"),
        ("CREATE TABLE x AS SELECT 1; FROM x", "2 statements"),
        ("CREATE TEMP TABLE x (a INTEGER); FROM x", "2 statements"),
        ("CREATE TEMP MACRO m() AS 1; SELECT 1", "2 statements"),
        ("CREATE TEMP VIEW v AS SELECT 1; FROM v", "2 statements"),
        ("-- CREATE TEMP TABLE x AS\nDROP TABLE t; SELECT 1", "2 statements"),
        ("CREATE TEMP TABLE x AS SELECT 1", "type CREATE"),
        ("INSERT INTO t SELECT 1, 2", "type INSERT"),
        ("CREATE TEMP TABLE x AS PIVOT t ON a USING count(*)", "4 statements"),
        ("COPY t TO '/tmp/x'", "type COPY"),
        ("EXPLAIN SELECT 1", "type EXPLAIN"),
        ("CALL pragma_version()", "type CALL"),
        ("PRAGMA threads=1", "type PRAGMA|type SET"),
        ("SET threads=1", "type SET"),
        ("ATTACH 'x'", "type ATTACH"),
        ("BEGIN", "type TRANSACTION"),
    ],
)
def test_anything_else_is_refused(
    sql: str, reason: str, connection: duckdb.DuckDBPyConnection
) -> None:
    """A statement that is not one SELECT is refused, with what it is."""
    with pytest.raises(HuntError, match=reason) as caught:
        check(connection.extract_statements(sql))
    assert caught.value.outcome == "refused"


def failure(sql: str) -> duckdb.Error:
    with duckdb.connect() as connection, pytest.raises(duckdb.Error) as caught:
        connection.execute(sql)
    return caught.value


def test_error_is_one_line_with_its_place() -> None:
    """DuckDB's message is kept, without its drawing, with the line of the hunt it is about."""
    said = explain(failure("SELECT 1,\n  nope\nFROM range(3)"), SNAPSHOT)
    assert said.startswith('Binder Error: Referenced column "nope" not found')
    assert said.endswith("(line 2 of the hunt)")
    assert "\n" not in said
    assert "^" not in said


def test_error_does_not_name_the_snapshot_s_file() -> None:
    """The path of the snapshot does not reach the analyst."""
    said = explain(duckdb.IOException(f'IO Error: Cannot read "{SNAPSHOT}": gone'), SNAPSHOT)
    assert said == 'IO Error: Cannot read "the snapshot": gone'


def test_error_is_short() -> None:
    """A message with a thousand candidates is cut."""
    assert len(explain(duckdb.BinderException("x" * 10_000), SNAPSHOT)) < 700


def test_refused_file_says_what_may_be_read() -> None:
    """A question that wants a file is told where to look instead."""
    said = explain(duckdb.PermissionException("Permission Error: disabled"), SNAPSHOT)
    assert said.endswith("no files, addresses or extensions.")


def batches(*sizes: int) -> list[pa.RecordBatch]:
    return [pa.record_batch({"x": pa.array(range(size), pa.int64())}) for size in sizes]


def taken(found: list[pa.RecordBatch], rows: int, size: int = 1 << 30) -> tuple[int, str]:
    kept = list(limited(iter(found), max_rows=rows, max_bytes=size))
    assert all(limit == "" for _, limit in kept[:-1])
    return sum(batch.num_rows for batch, _ in kept), kept[-1][1] if kept else ""


@pytest.mark.parametrize(
    ("sizes", "rows", "expected"),
    [
        ((3, 3), 10, (6, "")),
        ((3, 3), 6, (6, "")),
        ((3, 3, 0), 6, (6, "")),
        ((3, 3, 1), 6, (6, "6 rows")),
        ((3, 3), 5, (5, "5 rows")),
        ((3, 3), 3, (3, "3 rows")),
        ((0, 0), 3, (0, "")),
        ((), 3, (0, "")),
    ],
)
def test_rows_are_cut_only_when_there_are_more(
    sizes: tuple[int, ...], rows: int, expected: tuple[int, str]
) -> None:
    """The limit is named exactly when rows were left out."""
    assert taken(batches(*sizes), rows) == expected


def test_bytes_are_cut_within_a_batch() -> None:
    """The batch that goes over the limit is sent as far as it fits."""
    rows, limit = taken(batches(100_000, 100_000), 10**9, 1 << 20)
    assert limit == "1 MiB"
    assert (1 << 20) - 250_000 < rows * 8 <= 1 << 20


def test_row_that_is_over_the_limit_alone_is_refused() -> None:
    """An answer whose first row does not fit is no answer, and says so."""
    wide = pa.record_batch({"x": ["x" * (2 << 20), "y"]})
    with pytest.raises(HuntError, match="One row alone is over the limit of 1 MiB"):
        taken([wide], 10, 1 << 20)
