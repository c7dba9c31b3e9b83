"""Tells by sizes and times whether the files in some folders are still the same.

No file is opened. What counts of each file is its name, type, size, inode, and the times of its
last change of content (mtime) and of any change (ctime, which no program can set). Appending to a
metric changes its size and times; replacing a file changes its inode. Of a directory only the name
counts, because its own time does not show changes of the files in it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from typing import NamedTuple

CLOCK_NS = 2_000_000_000  # the coarsest clock of a file system (FAT) ticks so rarely


class Fingerprint(NamedTuple):
    """The state of all files in some folders.

    ``is_settled`` is False if a file was changed so recently that another change of it may leave
    its time as it is.
    """

    digest: str
    is_settled: bool


def take_fingerprint(folders: Iterable[str]) -> Fingerprint | None:
    """Look at every file below some folders; None where one can't be looked at.

    Take it before the files are read: then a later change of what was read shows in the next one.
    """
    began_ns = time.time_ns()
    newest_ns = 0
    whole = hashlib.blake2b(digest_size=16)
    todo = list(folders)
    try:
        while todo:
            folder = todo.pop()
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=_name)
            rows: list[object] = [os.fsencode(folder)]
            for entry in listed:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                    rows.append(_name(entry))
                    continue
                found = entry.stat(follow_symlinks=False)
                times = (found.st_mtime_ns, found.st_ctime_ns)
                newest_ns = max(newest_ns, *times)
                rows.append((_name(entry), found.st_mode, found.st_size, found.st_ino, times))
            whole.update(repr(rows).encode())
    except OSError:
        return None
    return Fingerprint(whole.hexdigest(), newest_ns < began_ns - CLOCK_NS)


def _name(entry: os.DirEntry[str]) -> bytes:
    """The name as the file system has it, which is the same in any locale."""
    return os.fsencode(entry.name)
