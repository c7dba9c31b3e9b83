"""Makes the local database that the tracker writes to, where there is none yet.

MLflow makes one by all its migrations, which keeps the first workflow waiting for 8 to 13 s. Made
here from the schema that the migrator carries, it is there at once on MLflow 3.9; newer releases
run the few migrations since.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

import sqlalchemy
from mlflow.store.db.utils import _get_latest_schema_revision, _get_schema_version, _upgrade_db

from migrator import empty_database
from migrator.atomic_files import create_partial

_making = threading.Lock()  # Alembic takes one caller at a time


def ensure(uri: str) -> None:
    """Make the SQLite database ``uri`` if its file isn't there. Any other URI is left alone.

    The file appears complete or not at all: other processes may be making it as well, and the
    first one wins. Raises ``OSError`` or an error of SQLite where it can't be made.
    """
    path = _file(uri)
    if path is None or path.exists():
        return
    with _making:
        if not path.exists():
            _make(path)


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = create_partial(path)
    os.close(handle)
    try:
        empty_database.create(str(partial))
        _upgrade(partial)
        # It was made meanwhile; or the file system has no links, and MLflow will make it.
        with contextlib.suppress(OSError):
            os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _file(uri: str) -> Path | None:
    """Find the file of a SQLite URI; None for a database in memory and for any other URI."""
    if not uri.startswith("sqlite:"):
        return None
    name = sqlalchemy.make_url(uri).database
    if not name or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


def _upgrade(path: Path) -> None:
    """Bring a database to the schema of the installed MLflow."""
    engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(path)))
    # After a crash it is made anew, so that it need not wait for the disk.
    sqlalchemy.event.listen(engine, "connect", lambda raw, _: _relax(raw))
    try:
        if _get_schema_version(engine) != _get_latest_schema_revision():
            _upgrade_db(engine)
    finally:
        engine.dispose()


def _relax(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous=OFF").close()
    connection.execute("PRAGMA journal_mode=MEMORY").close()
