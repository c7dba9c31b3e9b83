"""Connections to a database on a PostgreSQL or MySQL server: its schema, found and made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from migrator import databases
from migrator.credentials import masked
from migrator.databases import reporting
from migrator.errors import TargetError
from migrator.loader import schema as schemas
from migrator.loader.existing import Place, revision_of
from migrator.loader.networked.dialects import dialect_of
from migrator.loader.sqlite import seen

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection, Engine


@contextlib.contextmanager
def connecting(url: URL) -> Iterator[tuple[Engine, Connection]]:
    """Yield an engine and a connection; the server's errors become a TargetError."""
    with reporting(url):
        engine = databases.engine_of(url)
        try:
            with engine.connect() as connection:
                yield engine, connection
        finally:
            engine.dispose()


def schema_revision(url: URL, db: Connection, wanted: str) -> str | None:
    """Return the schema revision of MLflow's tables, None for an empty database.

    Raises TargetError for tables that are not MLflow's, or are unfinished.
    """
    import sqlalchemy

    shown = masked(str(url))
    dialect = dialect_of(url)
    place = Place(
        shown,
        foreign=TargetError(
            f"{shown} holds tables, but is not a database of an MLflow tracking store.",
            todo="Choose an empty database (CREATE DATABASE), or MLflow's own.",
        ),
        recreate=f"On the server: {dialect.recreation(str(url.database))} Then convert again.",
        upgrade=f"Make a backup and upgrade it with MLflow: mlflow db upgrade {shown}.",
    )
    tables = set(sqlalchemy.inspect(db).get_table_names())
    return revision_of(place, tables, lambda query: db.exec_driver_sql(query).fetchall(), wanted)


def make_seen_table(url: URL) -> None:
    """Make our table ``migrator_seen``, unless it is there. Raises TargetError."""
    import sqlalchemy

    table = sqlalchemy.Table(
        seen.TABLE,
        sqlalchemy.MetaData(),
        sqlalchemy.Column("item", sqlalchemy.BigInteger, primary_key=True, autoincrement=False),
        sqlalchemy.Column("content", sqlalchemy.BigInteger, nullable=False),
        sqlalchemy.Column("source", sqlalchemy.BigInteger, nullable=False),
    )
    with connecting(url) as (_, db):
        if sqlalchemy.inspect(db).has_table(seen.TABLE):
            return
    try:
        with connecting(url) as (engine, holder), dialect_of(url).locked(holder, "schema"):
            table.create(engine, checkfirst=True)
    except TargetError as error:
        raise TargetError(
            f"The table {seen.TABLE}, which remembers what was converted, can't be made. "
            f"{error.what}",
            todo="Let this user create tables, or make it: "
            f"CREATE TABLE {seen.TABLE} (item BIGINT PRIMARY KEY, content BIGINT NOT NULL, "
            "source BIGINT NOT NULL)",
        ) from error


def initialise(url: URL, revision: str) -> None:
    """Make MLflow's tables in an empty database, by MLflow's own migrations (about 10 s).

    Safe when another process does the same at once. Raises TargetError.
    """
    dialect = dialect_of(url)
    # The lock has its own connection, which reads no table: the migrations would wait for it.
    with connecting(url) as (engine, holder), dialect.locked(holder, "schema"):
        with engine.connect() as db:
            there = schema_revision(url, db, revision)
        if there is None:
            schemas.create_on(engine, revision)
        elif there != revision:
            raise TargetError(
                f"{masked(str(url))} was made by another MLflow while the conversion ran.",
                todo="Convert again.",
            )
