"""New files: whole or not at all, private from the start, and never through links.

A file is written under a name of our own, which is made anew (so that no link planted there is
followed), and then given its name (which replaces a link, and does not follow it).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

_OWNER = stat.S_IRUSR | stat.S_IWUSR


def common_mode(paths: Iterable[Path]) -> int:
    """Return the permission bits that all of the files grant, with reading and writing for us.

    Files that are not there count for nothing. Without any it is 0o666, which the umask narrows.
    """
    mode = 0o666
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode):
            mode &= found.st_mode
    return mode | _OWNER


def open_partial(path: Path, mode: int = 0o666) -> tuple[int, Path]:
    """Make a new hidden file beside ``path``; return its handle and its path. Raises OSError."""
    attempt = 0
    while True:
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}-{attempt}")
        try:
            return os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), partial
        except FileExistsError:
            attempt += 1


def write_whole(path: Path, text: str, like: Iterable[Path] = ()) -> None:
    """Write a text, which replaces what is there. Raises OSError; what was there is then untouched.

    Nobody may read it who may not read what it replaces, or any of the files ``like``.
    """
    handle, partial = open_partial(path, common_mode([path, *like]))
    try:
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
            file.write(text)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
