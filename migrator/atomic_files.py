"""New files that appear complete or not at all, and that only their owner can read before.

A file is first written under a temporary name beside it, which must not exist yet, so no link
planted there is followed. Renaming it replaces the old file, or a link, in one step.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

_OWNER = stat.S_IRUSR | stat.S_IWUSR


def common_mode(paths: Iterable[Path]) -> int:
    """Return the permission bits that all of these files grant; the owner may read and write.

    Paths that are missing, or not regular files, are skipped. Without any the result is 0o666,
    which the umask narrows when a file is created.
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


def create_partial(path: Path, mode: int = 0o666) -> tuple[int, Path]:
    """Create a hidden temporary file beside ``path``; return its file descriptor and its path.

    The caller renames it to ``path`` when it is complete. Raises OSError.
    """
    attempt = 0
    while True:
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}-{attempt}")
        try:
            return os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), partial
        except FileExistsError:
            attempt += 1


def write_atomically(path: Path, text: str | Iterable[str], like: Iterable[Path] = ()) -> None:
    """Write a text file, replacing an existing one. After an OSError the old file is unchanged.

    ``text`` is the whole text, or its parts in order, which are made while they are written.
    The new file grants nobody more than the file it replaces, or than any of the files ``like``.
    """
    handle, partial = create_partial(path, common_mode([path, *like]))
    try:
        with open(  # noqa: PTH123 - a file descriptor, which no Path can open
            handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n"
        ) as file:
            file.writelines([text] if isinstance(text, str) else text)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
