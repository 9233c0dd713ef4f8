"""Migrations: forward only, each whole or not at all, each recorded."""

from collections.abc import Iterator

import duckdb
import pytest
from limes.control.errors import StoreError
from limes.control.store import migrate
from limes.control.store.migrate import Migration

ONE = Migration(name="0001_one", sql="CREATE TABLE one (a INTEGER);")
TWO = Migration(name="0002_two", sql="CREATE TABLE two (a INTEGER); INSERT INTO two VALUES (1);")
BROKEN = Migration(name="0003_broken", sql="CREATE TABLE three (a INTEGER); SELECT nothing;")


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[duckdb.DuckDBPyConnection]:
    monkeypatch.setattr(migrate, "view_files", list)
    with duckdb.connect() as found:
        yield found


def tables(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {
        row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    }


def test_pending_migrations_are_applied_in_order_and_once(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """Each is applied when it is new, and recorded with its checksum."""
    assert migrate.apply(connection, [ONE]) == ["0001_one"]
    assert migrate.apply(connection, [ONE, TWO]) == ["0002_two"]
    assert migrate.apply(connection, [ONE, TWO]) == []
    assert migrate.applied(connection) == {"0001_one": ONE.checksum, "0002_two": TWO.checksum}
    assert migrate.schema_version(connection) == 2
    assert connection.execute("SELECT * FROM two").fetchall() == [(1,)]


def test_a_failing_migration_leaves_nothing_of_itself(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """The statements before the one that failed are undone with it; those before stay."""
    with pytest.raises(StoreError, match="0003_broken"):
        migrate.apply(connection, [ONE, TWO, BROKEN])
    assert tables(connection) == {"schema_migrations", "one", "two"}
    assert migrate.schema_version(connection) == 2


def test_a_changed_migration_is_an_error(connection: duckdb.DuckDBPyConnection) -> None:
    """What was applied never changes."""
    migrate.apply(connection, [ONE])
    changed = Migration(name="0001_one", sql="CREATE TABLE one (a BIGINT);")
    with pytest.raises(StoreError, match="0001_one was applied with checksum"):
        migrate.apply(connection, [changed, TWO])
    assert tables(connection) == {"schema_migrations", "one"}


def test_a_database_of_a_newer_schema_is_refused(connection: duckdb.DuckDBPyConnection) -> None:
    """An older program says which migration it does not know."""
    migrate.apply(connection, [ONE, TWO])
    with pytest.raises(StoreError, match="0002_two, which this version of limes does not know"):
        migrate.apply(connection, [ONE])


def test_a_migration_cannot_slip_in_before_an_applied_one(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """Order is the same on every database."""
    migrate.apply(connection, [TWO])
    with pytest.raises(StoreError, match="0001_one is pending, but 0002_two is applied"):
        migrate.apply(connection, [ONE, TWO])


def test_the_shipped_migrations_make_every_view() -> None:
    """An empty database gets the newest schema; opening it again applies nothing, views anew."""
    with duckdb.connect() as found:
        first = migrate.apply(found)
        assert first == [migration.name for migration in migrate.known()]
        assert migrate.apply(found) == []
        views = found.execute(
            "SELECT view_name FROM duckdb_views() WHERE schema_name = 'hunt'"
        ).fetchall()
        for (view,) in views:
            found.execute(f"SELECT * FROM hunt.{view}").fetchall()
        assert len(views) >= 13
