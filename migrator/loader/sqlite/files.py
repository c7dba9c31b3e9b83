"""An MLflow database in an SQLite file: its URI, its path, opening it, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from migrator import addresses
from migrator.credentials import masked
from migrator.errors import MigrateError, TargetError
from migrator.loader.existing import Place, revision_of
from migrator.paths import sqlite_uri

_WAIT_SECONDS = 5.0  # for another process's short write to end
_HOW = (
    "Give a SQLite file as sqlite:///mlflow.db (relative) or sqlite:////home/me/mlflow.db, or a "
    "server's database as postgresql://user:password@host/database or mysql://…, or an MLflow "
    "server as http://host:5000."
)


@dataclass(frozen=True, slots=True)
class DatabaseFile:
    """An SQLite file that holds an MLflow database of a known schema revision."""

    path: str
    revision: str


def path_of(uri: str) -> str:
    """Return the absolute path of a SQLite URI, or of a plain path to a ``.db`` file.

    Raises TargetError for anything else.
    """
    addresses.refuse_mistaken(uri, TargetError, _HOW)
    scheme = re.match(r"([A-Za-z][\w+.-]+):", uri)
    if uri.startswith("sqlite:///"):
        path = uri.removeprefix("sqlite:///")
        if not path or path == ":memory:" or path.startswith("file:"):
            raise TargetError(f"{uri} names no file to write.", todo=_HOW)
        if "?" in path:
            raise TargetError(f"{uri}: options after ? are not understood.", todo=_HOW)
        if "%" in path:
            from sqlalchemy.engine import make_url

            # Whether %20 is decoded depends on the SQLAlchemy release, and MLflow goes by it.
            path = make_url(uri).database or path
    elif scheme and len(scheme.group(1)) > 1:
        kind = scheme.group(1).split("+")[0]
        if kind == "file":
            raise TargetError(f"{uri} is a file store, and only databases are written.", todo=_HOW)
        if kind == "sqlite":
            raise TargetError(f"{uri} is not the form that MLflow reads.", todo=_HOW)
        raise TargetError(
            f"{masked(uri)} can't be written: the target is a SQLite file or a database "
            f"of PostgreSQL or MySQL, and this is {kind}.",
            todo=_HOW,
        )
    elif uri.endswith((".db", ".sqlite", ".sqlite3")):
        path = uri
    elif Path(uri).is_dir():
        raise TargetError(f"{uri} is a directory, and only databases are written.", todo=_HOW)
    else:
        raise TargetError(f"'{masked(uri)}' is not a database URI.", todo=_HOW)
    return os.path.realpath(path)


def exists(path: str) -> bool:
    """Return True if there is a database; an empty file is none. Raises TargetError."""
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise TargetError(f"{path} can't be opened: {error.strerror}.") from error
    if not Path(path).is_file():
        what = "a directory" if Path(path).is_dir() else "not a regular file"
        raise TargetError(f"{path} is {what}, not a database.", todo=_HOW)
    return found.st_size > 0


def connect(path: str, wait_seconds: float = _WAIT_SECONDS) -> sqlite3.Connection:
    """Open an existing database; never create one. The caller begins and ends transactions."""
    return sqlite3.connect(
        f"file:{urllib.parse.quote(os.fsencode(path))}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=wait_seconds,
    )


def read_revision(path: str, wanted: str | None = None) -> str:
    """Return the Alembic revision of the MLflow database in ``path``; check that it is writable.

    Raises TargetError if it is not MLflow's, or is unfinished, locked or read-only.
    """
    place = Place(
        path,
        foreign=TargetError(
            f"{path} is a SQLite database, but not one of MLflow's tracking store.",
            todo="Choose another file name for the target.",
        ),
        recreate="Remove the file, then convert again.",
        upgrade="Make a copy of it and upgrade it with MLflow: "
        f"mlflow db upgrade {sqlite_uri(path)}",
    )
    if not os.access(path, os.W_OK):  # SQLite would report it only on the first write
        raise _explain(path, "readonly")
    with reporting(path), contextlib.closing(connect(path)) as db:
        tables = {
            name
            for (name,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
            )
        }
        if not tables:
            raise place.foreign
        revision = revision_of(place, tables, lambda query: db.execute(query).fetchall(), wanted)
        if revision is None:
            raise place.unfinished()
        db.execute("BEGIN IMMEDIATE")  # fails when it is locked or read-only; writes nothing
        db.execute("ROLLBACK")
    return revision


@contextmanager
def reporting(path: str) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into a TargetError that names ``path``."""
    try:
        yield
    except MigrateError:
        raise
    except sqlite3.Error as error:
        raise _explain(path, str(error)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _explain(path, "database or disk is full") from error
        raise TargetError(f"{path} can't be written: {error.strerror or error}.") from error


def _explain(path: str, message: str) -> TargetError:
    directory = Path(path).parent
    if "full" in message:
        return TargetError(
            f"The disk is full: {path} could not be written; nothing was changed.",
            todo=f"Make room in {directory}, or choose a target on another disk.",
        )
    if "locked" in message or "busy" in message:
        return TargetError(
            f"{path} is locked by another process.",
            todo="Stop what is writing into it (an mlflow server, another conversion) and try "
            "again.",
        )
    if "not a database" in message:
        return TargetError(
            f"{path} is a file, but not a SQLite database.",
            todo="Choose another file name for the target.",
        )
    if "malformed" in message:
        return TargetError(
            f"{path} is a damaged SQLite database ({message}).",
            todo="Repair it (sqlite3 .recover), or choose another file name for the target.",
        )
    if message.startswith("no such"):
        return TargetError(
            f"{path} lacks a part of MLflow's tables ({message}); nothing was changed.",
            todo="Restore a backup, or choose another target.",
        )
    if "decode to UTF-8" in message:
        said = message.encode("ascii", "replace").decode()
        return TargetError(
            f"{path} holds a text that is not UTF-8 ({said}); nothing was changed.",
            todo="Convert it into a new database (--to), in which such texts are repaired.",
        )
    if "readonly" in message or "unable to open" in message:
        return TargetError(
            f"{path} can't be written ({message}).",
            todo="Give write permission to the file and its directory, or choose another target.",
        )
    return TargetError(
        f"{path} could not be written: {message}; nothing was changed.",
        todo="See that the disk is sound and has room, then try again.",
    )
