"""Differences between PostgreSQL and MySQL: bulk inserts, locks, sequences of ids, error codes."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from migrator.databases import error_code
from migrator.errors import TargetError
from migrator.loader.rows import Value

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection

_LOCK_SECONDS = 3600  # for another conversion to end
_LOCK_POLL_SECONDS = 1.0
_CHUNK_CHARS = 1 << 20
_READ_BYTES = 1 << 23
_ESCAPED = re.compile(r"[\\\n\r\t]")
_ESCAPES = {"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


class Dialect(Protocol):
    """How to write to one kind of server."""

    def quoted(self, name: str) -> str:
        """Quote an identifier for a statement."""

    def recreation(self, database: str) -> str:
        """Return the statements that drop a database and create it again, empty."""

    def locked(self, db: Connection, name: str) -> contextlib.AbstractContextManager[None]:
        """Hold a lock of this name against other conversions, in a transaction."""

    def alone(self, db: Connection) -> contextlib.AbstractContextManager[None]:
        """Keep other conversions waiting; the lock is the session's. Raises TargetError."""

    def prepare(self, db: Connection) -> None:
        """Make a session refuse values that it can't store, instead of changing them."""

    def insert(
        self, db: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Value]]
    ) -> None:
        """Add rows in bulk. Raises SQLAlchemy's DBAPIError; then none is added."""

    def advance_id_sequence(self, db: Connection, experiment_id: int) -> None:
        """Make MLflow give its next experiment an id greater than this one."""

    def is_duplicate_key(self, error: BaseException) -> bool:
        """Return True for a driver's error that says that a key exists already."""

    def is_transient(self, error: BaseException) -> bool:
        """Return True for a driver's error that may not come again, such as a deadlock."""


def _busy() -> TargetError:
    return TargetError(
        f"Another conversion has been writing into this database for {_LOCK_SECONDS // 60} "
        "minutes; nothing was changed.",
        todo="Convert again when it has ended.",
    )


def dialect_of(url: URL) -> Dialect:
    """Return the dialect of a server."""
    return PostgreSQL() if url.get_backend_name() == "postgresql" else MySQL()


class PostgreSQL:
    """PostgreSQL: COPY, locks that end with the transaction, ids from a sequence."""

    def quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def recreation(self, database: str) -> str:
        name = self.quoted(database)
        return f"DROP DATABASE {name}; CREATE DATABASE {name};"

    @contextlib.contextmanager
    def locked(self, db: Connection, name: str) -> Iterator[None]:
        with db.begin():
            db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._lock(name)})")
            yield

    @contextlib.contextmanager
    def alone(self, db: Connection) -> Iterator[None]:
        number = self._lock("conversion")
        deadline = time.monotonic() + _LOCK_SECONDS
        while not db.exec_driver_sql(f"SELECT pg_try_advisory_lock({number})").scalar():
            db.rollback()
            if time.monotonic() > deadline:
                raise _busy()
            time.sleep(_LOCK_POLL_SECONDS)
        db.commit()
        try:
            yield
        finally:
            if not db.closed and not db.invalidated:
                db.exec_driver_sql(f"SELECT pg_advisory_unlock({number})")
                db.commit()

    def _lock(self, name: str) -> int:
        digest = hashlib.sha256(f"mlflow-migrate/{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    def prepare(self, db: Connection) -> None:
        db.exec_driver_sql("SET client_encoding TO 'UTF8'")
        db.commit()

    def insert(
        self, db: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Value]]
    ) -> None:
        names = ", ".join(map(self.quoted, columns))
        statement = f"COPY {self.quoted(table)} ({names}) FROM STDIN"
        with _raw_cursor(db, statement) as cursor:
            if hasattr(cursor, "copy_expert"):  # psycopg2
                cursor.copy_expert(statement, _Feed(_copy_text(rows)), _READ_BYTES)
            else:
                with cursor.copy(statement) as copy:
                    for text in _copy_text(rows):
                        copy.write(text)

    def advance_id_sequence(self, db: Connection, experiment_id: int) -> None:
        name = db.exec_driver_sql(
            "SELECT pg_get_serial_sequence('experiments', 'experiment_id')"
        ).scalar()
        if name is not None:
            db.exec_driver_sql(
                f"SELECT setval('{name}', {experiment_id}) FROM {name} WHERE {experiment_id} > "
                "CASE WHEN is_called THEN last_value ELSE last_value - 1 END"
            )

    def is_duplicate_key(self, error: BaseException) -> bool:
        return error_code(error) == "23505"

    def is_transient(self, error: BaseException) -> bool:
        return error_code(error) in ("40001", "40P01", "55P03")


class MySQL:
    """MySQL: inserts of many rows, locks of the session, ids that InnoDB counts itself."""

    def quoted(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def recreation(self, database: str) -> str:
        name = self.quoted(database)
        how = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        return f"DROP DATABASE {name}; CREATE DATABASE {name} {how};"

    @contextlib.contextmanager
    def locked(self, db: Connection, name: str) -> Iterator[None]:
        with self._holding(db, name), db.begin():
            yield

    def alone(self, db: Connection) -> contextlib.AbstractContextManager[None]:
        return self._holding(db, "conversion")

    @contextlib.contextmanager
    def _holding(self, db: Connection, name: str) -> Iterator[None]:
        # Names of locks are the server's, not the database's, and of 64 characters.
        database = db.exec_driver_sql("SELECT DATABASE()").scalar()
        digest = hashlib.sha256(f"{database}/{name}".encode()).hexdigest()[:40]
        key = f"mlflow-migrate/{digest}"
        is_ours = db.exec_driver_sql(f"SELECT GET_LOCK('{key}', {_LOCK_SECONDS})").scalar()
        db.commit()
        if not is_ours:
            raise _busy()
        try:
            yield
        finally:
            if not db.closed and not db.invalidated:
                db.exec_driver_sql(f"SELECT RELEASE_LOCK('{key}')")
                db.commit()

    def prepare(self, db: Connection) -> None:
        # Without the first a server may cut values, without the second it gives experiment 0
        # another id.
        db.exec_driver_sql(
            "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO')"
        )
        db.commit()

    def insert(
        self, db: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Value]]
    ) -> None:
        names = ", ".join(map(self.quoted, columns))
        places = ", ".join(["%s"] * len(columns))
        statement = f"INSERT INTO {self.quoted(table)} ({names}) VALUES ({places})"
        with _raw_cursor(db, statement) as cursor:
            for batch in _batches(rows):
                cursor.executemany(statement, batch)

    def advance_id_sequence(self, db: Connection, experiment_id: int) -> None:
        """Do nothing: InnoDB continues from the greatest id that is there."""

    def is_duplicate_key(self, error: BaseException) -> bool:
        return error_code(error) == "1062"

    def is_transient(self, error: BaseException) -> bool:
        return error_code(error) in ("1213", "1205")


@contextlib.contextmanager
def _raw_cursor(db: Connection, statement: str) -> Iterator[Any]:
    """Yield the driver's own cursor; its errors become SQLAlchemy's."""
    from sqlalchemy.exc import DBAPIError

    dbapi: Any = db.dialect.loaded_dbapi
    cursor = db.connection.cursor()
    try:
        yield cursor
    except dbapi.Error as error:
        raise DBAPIError(statement, None, error) from error
    finally:
        cursor.close()


def _batches(rows: Iterable[Sequence[Value]]) -> Iterator[list[Sequence[Value]]]:
    """Split rows into batches of about a MiB of text, with one row at least."""
    batch: list[Sequence[Value]] = []
    chars = 0
    for row in rows:
        batch.append(row)
        chars += sum(len(v) if isinstance(v, str) else 8 for v in row)
        if chars > _CHUNK_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _copy_text(rows: Iterable[Sequence[Value]]) -> Iterator[bytes]:
    """Yield rows in the text format of COPY, in pieces of about a MiB."""
    for batch in _batches(rows):
        yield "".join("\t".join(map(_copy_value, row)) + "\n" for row in batch).encode()


def _copy_value(value: Value) -> str:
    if isinstance(value, str):
        return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], value)
    if value is None:
        return r"\N"
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} can't be stored as a number")
    return repr(value) if isinstance(value, float) else str(int(value))


class _Feed:
    """A file that psycopg2 reads, made of pieces of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes; no bytes at the end."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
