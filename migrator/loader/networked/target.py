"""A database on a PostgreSQL or MySQL server as the target: what is there, and making it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from migrator import databases
from migrator.credentials import masked
from migrator.databases import reporting
from migrator.errors import TargetError
from migrator.loader import schema as schemas
from migrator.loader.existing import Place, revision_of
from migrator.loader.networked.column_limits import BASIC_PLANE, Fit
from migrator.loader.networked.dialects import dialect_of
from migrator.loader.sqlite.target import Target

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection, Engine

_CHARSETS = {"latin1": "cp1252", "utf8mb3": BASIC_PLANE, "utf8": BASIC_PLANE, "ascii": "ascii"}
_PROBE = "tags"  # a table in which all kinds of changes are tried, without changing a row


@dataclass(frozen=True, slots=True)
class ServerTarget(Target):
    """A database on a server: an empty one, or MLflow's at the wanted schema.

    ``path`` is where the staging file is made; ``uri`` shows no password.
    """

    url: URL = field(repr=False)
    collation: tuple[str, str] | None = None  # charset and collation, where they matter (MySQL)

    @property
    def largest_id(self) -> int:
        """The largest experiment id that the column holds."""
        return databases.LARGEST_EXPERIMENT_ID

    @property
    def name_key(self) -> Callable[[str], str]:
        """Makes the names equal that the server may take for one."""
        return databases.name_key(self.collation)

    @contextlib.contextmanager
    def fitting(self) -> Iterator[Fit]:
        """Yield what the server's columns hold."""
        if self.collation is None:
            yield Fit(takes_nul=False)
            return
        charset, collation = self.collation
        with connecting(self.url) as (_, db):

            def same(one: str, other: str) -> bool:
                sides = f"CONVERT(%s USING {charset}) COLLATE {collation}"
                found = db.exec_driver_sql(f"SELECT {sides} = {sides}", (one, other))
                return bool(found.scalar())

            yield Fit(True, _CHARSETS.get(charset), text_bytes=True, same=same)

    @property
    def report_base(self) -> Path:
        """What the names of reports begin with; they lie in the current directory."""
        return Path.cwd() / f"mlflow-migrate-{Path(str(self.url.database)).name}"

    def experiments(self) -> tuple[tuple[int, str], ...]:
        """Return id and name of every experiment that is there, deleted ones too."""
        if not self.exists:
            return ()
        with connecting(self.url) as (_, db):
            rows = db.exec_driver_sql("SELECT experiment_id, name FROM experiments ORDER BY 1")
            return tuple((int(number), str(name)) for number, name in rows)


@contextlib.contextmanager
def connecting(url: URL) -> Iterator[tuple[Engine, Connection]]:
    """Yield an engine and a connection; errors become a TargetError."""
    with reporting(url):
        engine = databases.engine_of(url)
        try:
            with engine.connect() as connection:
                yield engine, connection
        finally:
            engine.dispose()


def open_server(uri: str, wanted: str) -> ServerTarget:
    """Check that a database on a server can be written, and say what is there.

    ``wanted`` is the schema revision. Nothing is created or changed. Raises TargetError.
    """
    url = databases.server_url(uri)
    with connecting(url) as (_, db):
        revision = _revision(url, db, wanted)
        if revision is not None:
            _check_revision(url, revision, wanted)
        _try_to_write(url, db, empty=revision is None)
        collation = databases.collation(db)
    if collation is not None and collation[0] != "utf8mb4":
        if revision is None:
            raise TargetError(
                f"{masked(str(url))} has charset {collation[0]}, which can't hold all text.",
                todo=f"While it is empty: ALTER DATABASE {url.database} CHARACTER SET utf8mb4 "
                "COLLATE utf8mb4_bin",
            )
        if collation[0] not in _CHARSETS:
            raise TargetError(
                f"{masked(str(url))} has charset {collation[0]}, which this tool doesn't know.",
                todo="Convert into a database with charset utf8mb4.",
            )
    path = str(_private_directory() / f"{url.get_backend_name()}-{Path(str(url.database)).name}")
    return ServerTarget(
        masked(str(url)), path, revision is not None, revision, wanted, url, collation
    )


def _revision(url: URL, db: Connection, wanted: str) -> str | None:
    """Return the revision of an MLflow database, None for an empty one."""
    import sqlalchemy

    shown = masked(str(url))
    dialect = dialect_of(url)
    place = Place(
        shown,
        foreign=TargetError(
            f"{shown} holds tables, but is not a database of MLflow's tracking store.",
            todo="Choose an empty database (CREATE DATABASE), or MLflow's own.",
        ),
        recreate=f"On the server: {dialect.recreation(str(url.database))} Then convert again.",
        upgrade=f"Make a backup and upgrade it with MLflow: mlflow db upgrade {shown}.",
    )
    tables = set(sqlalchemy.inspect(db).get_table_names())
    return revision_of(place, tables, lambda query: db.exec_driver_sql(query).fetchall(), wanted)


def _check_revision(url: URL, revision: str, wanted: str) -> None:
    if revision == wanted:
        return
    chain = schemas.chain()
    uri, version = masked(str(url)), schemas.installed_mlflow()
    found, want = schemas.maker(revision), schemas.maker(wanted)
    if revision not in chain:
        raise TargetError(
            f"{uri} was written by a newer MLflow ({found}) than the installed {version} "
            f"({schemas.maker(chain[-1])}).",
            todo="Install the MLflow that made it; MLflow has no way back to an older schema.",
        )
    if chain.index(revision) < chain.index(wanted):
        raise TargetError(
            f"{uri} is at an older schema ({found}) than the one wanted ({want}).",
            todo=f"Make a backup and upgrade it with MLflow: mlflow db upgrade {uri}. Or install "
            "the MLflow that made it.",
        )
    raise TargetError(
        f"{uri} is at a newer schema ({found}) than the one wanted ({want}).",
        todo="Convert with --schema latest, or choose another database.",
    )


def _try_to_write(url: URL, db: Connection, *, empty: bool) -> None:
    """Find out whether the user may write, with statements that leave nothing behind."""
    if not empty:
        for statement in (
            f"INSERT INTO {_PROBE} SELECT * FROM {_PROBE} WHERE 1 = 0",
            f"UPDATE {_PROBE} SET value = value WHERE 1 = 0",
            f"DELETE FROM {_PROBE} WHERE 1 = 0",
        ):
            db.exec_driver_sql(statement)
    elif url.get_backend_name() == "postgresql":  # MySQL can't take a new table back
        db.exec_driver_sql("CREATE TABLE mlflow_migrate_probe (id INTEGER)")
    db.rollback()


def _private_directory() -> Path:
    """Return a directory for staging files that nobody else may read; it is kept."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir(), f"mlflow-migrate-{user}")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise TargetError(
            f"{path} can't be made: {error.strerror}.", todo="Set TMPDIR to a directory of yours."
        ) from error
    if hasattr(os, "getuid") and (found.st_uid != user or found.st_mode & 0o077):
        raise TargetError(
            f"Others may write in {path}, where the new rows are to be prepared.",
            todo="Remove it, or set TMPDIR to a directory of yours.",
        )
    return path


def initialise(url: URL, revision: str) -> None:
    """Make MLflow's tables in an empty database, by MLflow's own migrations (about 10 s).

    Safe when another process does the same at once. Raises TargetError.
    """
    dialect = dialect_of(url)
    # The lock is held by a connection that looks at no table: the migrations would wait for it.
    with connecting(url) as (engine, holder), dialect.locked(holder, "schema"):
        with engine.connect() as db:
            there = _revision(url, db, revision)
        if there is None:
            schemas.create_on(engine, revision)
        elif there != revision:
            raise TargetError(
                f"{masked(str(url))} was made by another MLflow while the conversion ran.",
                todo="Convert again.",
            )
