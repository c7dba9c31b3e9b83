"""One read-only connection to a tracking database.

A SQLite file is opened ``mode=ro``, so that SQLite itself refuses to write. It is locked against
writers only while one thing is read, never for a whole conversion: a server on the same file goes
on. A server's database is read in one transaction of one snapshot, in which writing is refused.
MLflow's own store is never used: it would upgrade an older database that it is only to read.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from migrator import databases
from migrator.addresses import is_database_server
from migrator.errors import SourceError, TargetError

WAIT_SECONDS = 10.0  # for another process's write to end
AT_ONCE = 400  # values in one IN (…); SQLite's oldest limit is 999 parameters
PAGE_ROWS = 5_000

Row = tuple[Any, ...]


class _Session(Protocol):
    """What the two kinds of connection have in common."""

    quote: str

    def execute(self, sql: str, parameters: Sequence[object]) -> list[Row]: ...

    def columns(self) -> list[tuple[str, str]]: ...

    def views(self) -> list[str]: ...

    def has_rowid(self, table: str) -> bool: ...

    def begin(self) -> None: ...

    def end(self) -> None: ...

    def close(self) -> None: ...


class Database:
    """A connection, and the tables and columns that are there (lower-case names).

    Every method raises SourceError where the database can't be read.
    """

    def __init__(self, location: str) -> None:
        """Connect to a SQLite file by its path, or to a server by its URI."""
        self._session: _Session
        if is_database_server(location):
            self._session = _ServerSession(location)
        else:
            self._session = _SqliteSession(location)
        self._depth = 0
        self._empty: dict[str, bool] = {}
        tables: dict[str, list[str]] = {}
        for table, column in self._session.columns():
            tables.setdefault(table, []).append(column)
        self.tables = {table: tuple(columns) for table, columns in tables.items()}
        self.views = frozenset(self._session.views())  # of these, where that can be known
        self._rowids = {table: self._session.has_rowid(table) for table in self.tables}

    def has_rowid(self, table: str) -> bool:
        """Whether rows have a number of their own (SQLite), also where a key is repeated."""
        return self._rowids[table]

    def has(self, table: str, *columns: str) -> bool:
        """Whether there is a table, with all of these columns."""
        return table in self.tables and set(columns) <= set(self.tables[table])

    def is_empty(self, table: str) -> bool:
        """Whether a table had no row when it was first asked for; it is asked for once."""
        if table not in self._empty:
            self._empty[table] = not self.rows(f"SELECT 1 FROM {self.name(table)} LIMIT 1")
        return self._empty[table]

    def name(self, identifier: str) -> str:
        """A table's or column's name as SQL text."""
        quote = self._session.quote
        return f"{quote}{identifier.replace(quote, quote * 2)}{quote}"

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run a query with ``?`` for its parameters."""
        return self._session.execute(sql, parameters)

    def number(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run a query that gives one number."""
        ((value,),) = self.rows(sql, parameters)
        return int(value or 0)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all queries in the block see the same state. May be nested."""
        if self._depth == 0:
            self._session.begin()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._session.end()

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()


# ------------------------------------------------------------------------- one for each thread

_open = threading.local()


def connect(location: str) -> Database:
    """The connection of this process and thread to a database; the first call opens it."""
    held: dict[tuple[int, str], Database] = _open.__dict__.setdefault("held", {})
    key = (os.getpid(), location)  # a forked process must not use its parent's connection
    if key not in held:
        held[key] = Database(location)
    return held[key]


def disconnect(location: str) -> None:
    """Close this thread's connection, if there is one."""
    held: dict[tuple[int, str], Database] = _open.__dict__.setdefault("held", {})
    database = held.pop((os.getpid(), location), None)
    if database is not None:
        database.close()


# -------------------------------------------------------------------------------------- SQLite


class _SqliteSession:
    quote = '"'

    def __init__(self, path: str) -> None:
        self._path = path
        with self._reporting():
            self._db = sqlite3.connect(
                _read_only_uri(path), uri=True, timeout=WAIT_SECONDS, isolation_level=None
            )
            self._db.text_factory = _text
            self._db.execute("PRAGMA query_only = ON")
            self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()

    def execute(self, sql: str, parameters: Sequence[object]) -> list[Row]:
        with self._reporting():
            return self._db.execute(sql, parameters).fetchall()

    def columns(self) -> list[tuple[str, str]]:
        found = []
        for table, kind in self.execute(
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')", ()
        ):
            if str(table).startswith("sqlite_"):
                continue
            try:
                rows = self._db.execute("SELECT name FROM pragma_table_xinfo(?)", (table,))
                found += [(str(table).lower(), str(row[0]).lower()) for row in rows]
            except sqlite3.Error as error:
                if kind == "table":
                    raise _sqlite_error(self._path, error) from error
        return found  # without views of tables that are gone

    def views(self) -> list[str]:
        rows = self.execute("SELECT name FROM sqlite_master WHERE type = 'view'", ())
        return [str(row[0]).lower() for row in rows]

    def has_rowid(self, table: str) -> bool:
        quoted = table.replace('"', '""')
        try:
            found = self._db.execute(f'SELECT rowid FROM "{quoted}" LIMIT 1').fetchone()
        except sqlite3.Error:
            return False  # WITHOUT ROWID, or a view
        return found is None or found[0] is not None  # an older SQLite has NULL in a view

    def begin(self) -> None:
        self.execute("BEGIN", ())

    def end(self) -> None:
        self.execute("COMMIT", ())

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _sqlite_error(self._path, error) from error


def _read_only_uri(path: str) -> str:
    """How SQLite opens a file without writing, and without leaving files beside it.

    A database in WAL mode that nobody has open has no -wal file. SQLite would make one, so it is
    told that the file does not change.
    """
    with open(path, "rb") as file:
        head = file.read(20)
    is_wal = head[18:20] == b"\x02\x02"
    wal = f"{path}-wal"
    is_unused = not os.path.exists(wal) or os.path.getsize(wal) == 0
    options = "immutable=1" if is_wal and is_unused else "mode=ro"
    return f"file:{urllib.parse.quote(path)}?{options}"


def _text(data: bytes) -> str | bytes:
    """Decode a text; one that is not UTF-8 stays bytes, so that the reader can name it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _sqlite_error(path: str, error: sqlite3.Error) -> SourceError:
    said = str(error)
    if "locked" in said or "busy" in said:
        return SourceError(
            f"{path} is locked: another process is writing it.",
            todo="Try again when it has finished, or stop the server that uses the database.",
        )
    if "not a database" in said or "malformed" in said or "disk image" in said:
        return SourceError(
            f"{path} is a damaged SQLite database ({said}).",
            todo="Restore a backup, or save what can be saved: sqlite3 old.db .recover | "
            "sqlite3 saved.db. Then give that file.",
        )
    if "readonly" in said and os.path.exists(f"{path}-journal"):
        return SourceError(
            f"{path} was left in the middle of a write, which {path}-journal undoes when it is "
            "opened for writing.",
            todo="Start and stop the server that wrote it, or copy both files and open the copy "
            "once: sqlite3 COPY 'PRAGMA quick_check'. Then give the copy.",
        )
    if "unable to open" in said or "readonly" in said:
        return SourceError(
            f"{path} can't be opened ({said}).",
            todo="Give yourself permission to read it and its -wal file, or copy both to a "
            "directory of your own and give the copy.",
        )
    return SourceError(
        f"{path} can't be read: {said}.", todo="Check it with: sqlite3 FILE 'PRAGMA quick_check'"
    )


# ------------------------------------------------------------------------------------- servers

_MYSQL_COLUMNS = (
    "SELECT table_name, column_name FROM information_schema.columns "
    "WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position"
)
# PostgreSQL's information_schema leaves out tables that the user may not read.
_POSTGRESQL_COLUMNS = (
    "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() "
    "AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped "
    "ORDER BY c.relname, a.attnum"
)


class _ServerSession:
    def __init__(self, uri: str) -> None:
        with _as_source_errors():
            url = databases.server_url(uri)
        self._url = url
        self.quote = "`" if url.get_backend_name() == "mysql" else '"'
        with self._reporting():
            engine = databases.engine_of(url, read_only=True)
            self._connection = engine.connect().execution_options(isolation_level="REPEATABLE READ")

    def execute(self, sql: str, parameters: Sequence[object]) -> list[Row]:
        with self._reporting():
            result = self._connection.exec_driver_sql(sql.replace("?", "%s"), tuple(parameters))
            return [tuple(row) for row in result]

    def columns(self) -> list[tuple[str, str]]:
        found = self.execute(_MYSQL_COLUMNS if self.quote == "`" else _POSTGRESQL_COLUMNS, ())
        return [(str(table).lower(), str(column).lower()) for table, column in found]

    def views(self) -> list[str]:
        return []

    def has_rowid(self, table: str) -> bool:
        return False

    def begin(self) -> None:
        pass  # one transaction from the first query to the last

    def end(self) -> None:
        pass

    def close(self) -> None:
        with self._reporting():
            self._connection.close()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        with _as_source_errors(), databases.reporting(self._url):
            yield


_FOR_WRITERS = re.compile(r"read and write all of MLflow's tables|Make an empty one first")


@contextlib.contextmanager
def _as_source_errors() -> Iterator[None]:
    try:
        yield
    except TargetError as error:
        todo = error.todo
        if _FOR_WRITERS.search(todo):
            todo = "Check the name of the database, and let the user read all of MLflow's tables."
        raise SourceError(error.what, todo=todo) from None
