"""The database that is written: what its URI means, and whether it can be written at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from migrator import addresses, conventions, databases
from migrator.credentials import masked
from migrator.errors import MigrateError, TargetError
from migrator.loader import schema as schemas
from migrator.loader.existing import Place, revision_of

_WAIT_SECONDS = 5.0  # for another process's short write to end
_HOW = (
    "Give a SQLite file as sqlite:///mlflow.db (relative) or sqlite:////home/me/mlflow.db, or a "
    "server's database as postgresql://user:password@host/database or mysql://…, or an MLflow "
    "server as http://host:5000."
)


@dataclass(frozen=True, slots=True)
class Target:
    """A SQLite file that can be written: a new one, or an MLflow database of the wanted schema."""

    uri: str  # sqlite:///…, for MLflow and for messages
    path: str  # absolute, symbolic links resolved
    exists: bool  # False also for an empty file: SQLite takes that for a new database
    revision: str | None  # Alembic revision of an existing database
    wanted: str  # the revision to be written

    @property
    def largest_id(self) -> int:
        """The largest experiment id that the column holds."""
        return conventions.INT64_MAX

    @property
    def name_key(self) -> Callable[[str], str]:
        """Makes the names equal that the target takes for one."""
        return databases.name_key(None)

    @property
    def report_base(self) -> Path:
        """What the names of reports begin with."""
        return Path(self.path)

    def experiments(self) -> tuple[tuple[int, str], ...]:
        """Return id and name of every experiment of an existing target, deleted ones too."""
        if not self.exists:
            return ()
        with reporting(self.path), contextlib.closing(connect(self.path)) as db:
            rows = db.execute("SELECT experiment_id, name FROM experiments ORDER BY experiment_id")
            return tuple((number, str(name)) for number, name in rows)  # damage: bytes, numbers


def open_target(uri: str, schema: str | None = None) -> Target:
    """Check that ``uri`` can be written before any work is done, and say what is there.

    ``schema`` is ``3.9``, or ``latest`` or None for that of the installed MLflow. Nothing is
    created or changed. Raises TargetError (what is wrong, where, and what to do) and OptionError.
    """
    wanted = schemas.wanted_revision(schema)
    if databases.is_server(uri):
        from migrator.loader.networked.target import open_server  # which knows this module

        return open_server(uri, wanted)
    path = path_of(uri)
    uri = uri_of(path)
    directory = Path(path).parent
    if not directory.is_dir():
        problem = "is not a directory" if directory.exists() else "does not exist"
        raise TargetError(
            f"{uri} can't be written: {directory} {problem}.",
            todo=f"Make it first: mkdir -p {directory}" if problem == "does not exist" else "",
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise TargetError(
            f"{uri} can't be written: no permission to write in {directory}.",
            todo="The new database is made beside it; give write permission, or choose another "
            "directory.",
        )
    if not exists(path):
        for suffix in ("-wal", "-journal"):
            # SQLite would take it for the new database's own and roll its content into it.
            if Path(path + suffix).exists():
                raise TargetError(
                    f"{path + suffix} is left over from a database that is gone, and SQLite "
                    "would mix it into the new one.",
                    todo="Move that file away.",
                )
        return Target(uri, path, False, None, wanted)
    return Target(uri, path, True, _check_database(uri, path, wanted), wanted)


def path_of(uri: str) -> str:
    """Return the absolute path that a SQLite URI (or a plain path to a ``.db`` file) means.

    Raises TargetError.
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


def uri_of(path: str) -> str:
    """Return the URI under which MLflow opens the SQLite file at an absolute path."""
    if "%" not in path:
        return f"sqlite:///{path}"
    from sqlalchemy.engine import URL

    return str(URL.create("sqlite", database=path))


def exists(path: str) -> bool:
    """Tell whether there is a database; an empty file counts as none."""
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
    """Open an existing database, never make one. The caller begins and ends transactions."""
    return sqlite3.connect(
        f"file:{urllib.parse.quote(os.fsencode(path))}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=wait_seconds,
    )


def _check_database(uri: str, path: str, wanted: str) -> str:
    revision = read_revision(path, wanted)
    if revision == wanted:
        return revision
    chain = schemas.chain()
    version = schemas.installed_mlflow()
    want, found = schemas.maker(wanted), schemas.maker(revision)
    if revision not in chain:
        raise TargetError(
            f"{path} was written by a newer MLflow ({found}) than the installed {version} "
            f"({schemas.maker(chain[-1])}).",
            todo="Install the MLflow that made it, or choose another target; MLflow has no way "
            "back to an older schema.",
        )
    if chain.index(revision) < chain.index(wanted):
        stay = (
            ", or keep it as it is and convert with --schema 3.9"
            if revision == schemas.MLFLOW_39
            else ""
        )
        raise TargetError(
            f"{path} is at an older schema ({found}) than the one wanted ({want}).",
            todo=f"Upgrade it first: mlflow-migrate upgrade {uri} (makes a backup), or "
            f"mlflow db upgrade {uri}{stay}.",
        )
    raise TargetError(
        f"{path} is at a newer schema ({found}) than the one wanted ({want}).",
        todo="Convert with --schema latest, or choose another target; MLflow has no way back to "
        "an older schema.",
    )


def read_revision(path: str, wanted: str | None = None) -> str:
    """Return the Alembic revision of the MLflow database in ``path``, and check it is writable.

    Raises TargetError when it is not a database of MLflow's, or unfinished, locked or read-only.
    """
    place = Place(
        path,
        foreign=TargetError(
            f"{path} is a SQLite database, but not one of MLflow's tracking store.",
            todo="Choose another file name for the target.",
        ),
        recreate="Remove the file, then convert again.",
        upgrade=f"Make a copy of it and upgrade it with MLflow: mlflow db upgrade {uri_of(path)}",
    )
    if not os.access(path, os.W_OK):  # SQLite itself would say so only when something is written
        raise _explain(path, "readonly")
    with reporting(path), contextlib.closing(connect(path)) as db:
        tables = {
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
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
    """Turn SQLite's and the system's errors on ``path`` into a TargetError."""
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
            todo="Mend it (sqlite3 .recover) or choose another file name for the target.",
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
