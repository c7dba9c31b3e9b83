"""Paths of the file system as text, and back: file names are UTF-8, whatever the locale.

Python decodes names by the locale. In one of Latin-1 ``ü`` would be read as two letters, and in C
as half characters. MLflow writes names from text, and its readers expect UTF-8.
"""

from __future__ import annotations

import os


def shown(path: str) -> str:
    """Return a path or name as Python gives it as the text that people know it by.

    Bytes that are not UTF-8 are shown as ``\\xff``. The result can be printed and stored, but it is
    not always a path that can be opened, and must not be given to this function again.
    """
    if path.isascii():
        return path
    try:
        data = os.fsencode(path)
    except UnicodeEncodeError:
        return path  # text that no file can be named by here: the address of an object
    return data.decode("utf-8", "backslashreplace")


def path_of(text: str) -> str:
    """Return the path by which this machine opens what text names."""
    return text if text.isascii() else os.fsdecode(text.encode("utf-8", "surrogateescape"))


def is_utf8(path: str) -> bool:
    """Tell if the bytes of a path or name are UTF-8."""
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        return False
    return True
