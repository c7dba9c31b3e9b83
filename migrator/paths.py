"""Paths as text, and text as paths: file names are UTF-8, whatever the locale.

Python decodes the names of files by the locale: in Latin-1, ``ü`` would be read as two letters,
and in C as two lone surrogates. MLflow's file store writes names as UTF-8, and so do we. A path
is therefore kept as Python gave it as long as it is to be opened, and is converted with
``readable_path`` where it is printed or stored.
"""

from __future__ import annotations

import os

SQLITE_ENDINGS = (".db", ".sqlite", ".sqlite3")
"""How the names of SQLite files end."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands in a clone for one that Git LFS keeps elsewhere."""


def readable_path(path: str) -> str:
    """Return a path that Python gave as readable text: its bytes decoded as UTF-8.

    A byte that is not UTF-8 becomes ``\\xff``. The result can be printed and stored. It can't
    always be opened, and must not be given to this function again.
    """
    if path.isascii():
        return path
    try:
        data = os.fsencode(path)
    except UnicodeEncodeError:
        return path  # the locale can't name such a file, so this is the address of an object
    return data.decode("utf-8", "backslashreplace")


def openable_path(text: str) -> str:
    """Return the path by which Python opens, in this locale, the file that a text names."""
    return text if text.isascii() else os.fsdecode(text.encode("utf-8", "surrogateescape"))


def sqlite_uri(path: str) -> str:
    """The URI with which MLflow opens the SQLite file at an absolute path, with / on Windows too.

    So a shell takes it as it is: ``sqlite:///C:/data/mlflow.db``.
    """
    path = path.replace(os.sep, "/")
    if "%" not in path:
        return f"sqlite:///{path}"
    from sqlalchemy.engine import URL  # takes long to import

    return str(URL.create("sqlite", database=path))


def is_utf8(path: str) -> bool:
    """Return True if the bytes of a path that Python gave are valid UTF-8."""
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        return False
    return True
