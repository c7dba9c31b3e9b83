"""What a user may write for a database, and what it means."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import urllib.parse

from migrator import databases
from migrator.addresses import is_database_server
from migrator.credentials import masked
from migrator.errors import SourceError, TargetError
from migrator.paths import LFS_POINTER, SQLITE_ENDINGS

_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:", re.IGNORECASE)
_HEAD = b"SQLite format 3\x00"


def is_database(text: str) -> bool:
    """Whether a source that a user wrote is a database: a URI of one, or a SQLite file.

    >>> is_database("sqlite:///mlflow.db"), is_database("./mlruns")
    (True, False)
    """
    if _SQLITE.match(text) or is_database_server(text):
        return True
    path = os.path.expanduser(text)
    if not os.path.isfile(path):  # a pipe would block
        return text.endswith(SQLITE_ENDINGS) and not os.path.isdir(path)
    try:
        with open(path, "rb") as file:
            head = file.read(len(_HEAD))
    except OSError:
        return text.endswith(SQLITE_ENDINGS)
    return head == _HEAD or text.endswith(SQLITE_ENDINGS)


def sqlite_path(text: str) -> str:
    """The absolute path, links resolved, of the SQLite file that a user means.

    Raises SourceError where it names no file, or the file can't be an MLflow database.
    """
    scheme = _SQLITE.match(text)
    path = text
    if scheme is not None:
        rest = text[scheme.end() :]
        if not rest.startswith("///") or rest in ("///", "///:memory:"):
            raise SourceError(
                f"{masked(text)} names no SQLite file.",
                todo="Write sqlite:///relative.db, sqlite:////absolute.db, or the plain path.",
            )
        path = rest[3:].partition("?")[0]
        if not os.path.exists(os.path.expanduser(path)):
            path = urllib.parse.unquote(path)
    if "\0" in path:
        raise SourceError(
            f"{text} is not the path of a file: it holds a NUL character.", todo="Check the path."
        )
    path = os.path.realpath(os.path.expanduser(path))
    if os.path.isdir(path):
        raise SourceError(
            f"{path} is a directory, not a SQLite file.",
            todo="Give the path of the database file, or of the mlruns directory of a file store.",
        )
    if not os.path.lexists(path):
        raise SourceError(f"{path} does not exist.", todo="Check the path.")
    if not os.path.isfile(path):  # reading a pipe would block
        raise SourceError(
            f"{path} is not a regular file.", todo="Give the path of MLflow's database file."
        )
    _check_head(path)
    return path


def _check_head(path: str) -> None:
    try:
        with open(path, "rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise SourceError(
            f"{path} can't be read: {error.strerror or error}.",
            todo="Give yourself read permission on it, or run as the user who owns it.",
        ) from error
    if not start:
        raise SourceError(
            f"{path} is empty: there is nothing to migrate.",
            todo="Check that this is the database in which MLflow wrote your runs.",
        )
    if start == LFS_POINTER:
        raise SourceError(
            f"{path} is a pointer of Git LFS, not the database itself.",
            todo="Fetch the file: git lfs pull.",
        )
    if not start.startswith(_HEAD):
        raise SourceError(
            f"{path} is not a SQLite database.",
            todo="Give MLflow's database file (mlflow.db), or the mlruns directory.",
        )


def server_name(uri: str) -> str:
    """The address of a server's database as it may be printed. Raises SourceError."""
    try:
        url = databases.server_url(uri)
    except TargetError as error:
        raise SourceError(error.what, todo=error.todo) from None
    return masked(str(url.set(drivername=url.get_backend_name())))


def is_same_database(first: str, second: str) -> bool:
    """Whether two texts mean the same database, whoever logs in with whichever driver.

    Texts that mean no database are the same as none.
    """
    places = [_place_of(first), _place_of(second)]
    return None not in places and places[0] == places[1]


def _place_of(text: str) -> tuple[object, ...] | None:
    if is_database_server(text):
        try:
            url = databases.server_url(text)
        except TargetError:
            return None
        kind = url.get_backend_name()
        port = url.port or {"postgresql": 5432, "mysql": 3306}[kind]
        return kind, _host_of(url.host), port, url.database
    if not is_database(text):
        return None
    try:
        found = os.stat(sqlite_path(text))
    except (OSError, SourceError):
        return None
    return found.st_dev, found.st_ino


def _host_of(name: str | None) -> object:
    """What a host is compared by: its addresses, or its name where it can't be looked up."""
    if name is None or name.lower() == "localhost":
        return "localhost"
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(name, None)}
    except OSError:
        return name.lower()
    if any(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in found):
        return "localhost"
    return frozenset(found)
