"""Brings a database to the newest schema; migrations only go forward, each in one transaction.

An applied migration whose text has changed since is an error, and so is one not known here.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Final

import duckdb
from limes.control.errors import StoreError
from limes.control.store import query

VIEW_FILES: Final = ("macros.sql", "views.sql")  # the rest, views_*.sql, follow in order of name


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file of `migrations/`: its stem, text and SHA-256."""

    name: str
    sql: str

    @property
    def number(self) -> int:
        return int(self.name.split("_", 1)[0])

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known() -> list[Migration]:
    """Return every migration of this version, in order."""
    folder = resources.files(__package__) / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [
        Migration(name=name.removesuffix(".sql"), sql=(folder / name).read_text(encoding="utf-8"))
        for name in names
    ]


def applied(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return name and checksum of each migration the database has had. Reads only."""
    if not connection.execute(query.text("has_migrations")).fetchone():
        return {}
    rows = connection.execute(query.text("applied_migrations")).fetchall()
    return dict(rows)


def schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the number of the newest migration applied; 0 for an empty database."""
    return max((int(name.split("_", 1)[0]) for name in applied(connection)), default=0)


def apply(
    connection: duckdb.DuckDBPyConnection, migrations: Iterable[Migration] | None = None
) -> list[str]:
    """Apply what is pending, then make the macros and views anew; returns the names applied.

    Raises StoreError, with the database as it was, when an applied migration is unknown or changed,
    or a pending one fails.
    """
    wanted = known() if migrations is None else list(migrations)
    done = applied(connection)
    check(done, wanted)
    pending = [migration for migration in wanted if migration.name not in done]
    if not done:
        connection.execute(query.text("create_migrations"))
    for migration in pending:
        run(connection, migration)
    for name, sql in view_files():
        transact(connection, sql, what=f"views {name}")
    return [migration.name for migration in pending]


def check(done: dict[str, str], wanted: list[Migration]) -> None:
    checksums = {migration.name: migration.checksum for migration in wanted}
    for name, checksum in done.items():
        if name not in checksums:
            raise StoreError(
                f"Cannot use the database: it has migration {name}, which this version of limes "
                "does not know. It was written by a newer one: use that, or another database."
            )
        if checksums[name] != checksum:
            raise StoreError(
                f"Cannot use the database: migration {name} was applied with checksum "
                f"{checksum[:12]}, but is now {checksums[name][:12]}. Applied migrations never "
                "change: reinstall limes."
            )
    newest = max(done, default="")
    for name in checksums:
        if name < newest and name not in done:
            raise StoreError(
                f"Cannot use the database: migration {name} is pending, but {newest} is applied. "
                "Migrations are applied in order: reinstall limes."
            )


def run(connection: duckdb.DuckDBPyConnection, migration: Migration) -> None:
    record = [migration.name, migration.checksum]
    transact(connection, migration.sql, what=f"migration {migration.name}", record=record)


def view_files() -> list[tuple[str, str]]:
    folder = resources.files(__package__)
    more = sorted(
        e.name for e in folder.iterdir() if e.name.startswith("views_") and e.name.endswith(".sql")
    )
    return [(name, (folder / name).read_text(encoding="utf-8")) for name in (*VIEW_FILES, *more)]


def transact(
    connection: duckdb.DuckDBPyConnection, sql: str, *, what: str, record: list[str] | None = None
) -> None:
    connection.begin()
    try:
        connection.execute(sql)
        if record is not None:
            connection.execute(query.text("record_migration"), record)
        connection.commit()
    except duckdb.Error as error:
        connection.rollback()
        raise StoreError(
            f"Cannot apply {what}: {str(error).splitlines()[0]}. The database is as it was before."
        ) from error
