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
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from migrator import workers

CLOCK_NS = 2_000_000_000  # the coarsest clock of a file system (FAT) ticks so rarely
MANY = 1_000  # folders; for fewer it costs more to start processes than they save
_PIECE = 250  # of these, which one process looks at in one go


class Fingerprint(NamedTuple):
    """The state of all files in some folders.

    ``is_settled`` is False if a file was changed so recently that another change of it may leave
    its time as it is.
    """

    digest: str
    is_settled: bool


class _Look(NamedTuple):
    """What was seen of some folders: a sum of their digests, and the newest time of a file."""

    digests: int = 0
    newest_ns: int = 0

    def joined(self, other: _Look) -> _Look:
        return _Look(self.digests + other.digests, max(self.newest_ns, other.newest_ns))

    def with_folder(self, folder: bytes, below: deque[bytes]) -> _Look:
        """Add the files of one folder; the folders in it are added to ``below``."""
        newest_ns = self.newest_ns
        with os.scandir(folder) as entries:
            listed = {entry.name: entry for entry in entries}  # bytes: the same in any locale
        facts: list[object] = [folder]
        for name in sorted(listed):
            entry = listed[name]
            facts.append(name)
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
                continue
            found = entry.stat(follow_symlinks=False)
            mtime_ns, ctime_ns = found.st_mtime_ns, found.st_ctime_ns
            newest_ns = max(newest_ns, mtime_ns, ctime_ns)
            facts += (found.st_mode, found.st_size, found.st_ino, mtime_ns, ctime_ns)
        digest = hashlib.blake2b(repr(facts).encode(), digest_size=16).digest()
        return _Look(self.digests + int.from_bytes(digest, "big"), newest_ns)


class _Looking:
    """The look at pieces of the folders in another process (``workers.Work``)."""

    def check(self) -> None:
        """Any process of this machine can do it."""

    def do(self, folders: Sequence[bytes]) -> _Look:
        """Look at folders and all that is below them."""
        return _look_below(folders)


def take_fingerprint(folders: Iterable[str], processes: int = 1) -> Fingerprint | None:
    """Look at every file below some folders; None where one can't be looked at.

    It is the same for every number of processes. Take it before the files are read: then a later
    change of what was read shows in the next one. Raises WorkerError if another process dies.
    """
    began_ns = time.time_ns()
    todo = deque(map(os.fsencode, folders))
    seen = _Look()
    try:
        while todo and len(todo) < MANY:
            seen = seen.with_folder(todo.popleft(), todo)
        if processes > 1 and todo:
            seen = seen.joined(_look_together(list(todo), processes))
        else:
            seen = seen.joined(_look_below(todo))
    except OSError:
        return None
    return Fingerprint(f"{seen.digests:x}", seen.newest_ns < began_ns - CLOCK_NS)


def _look_together(folders: Sequence[bytes], processes: int) -> _Look:
    pieces = (folders[start : start + _PIECE] for start in range(0, len(folders), _PIECE))
    seen = _Look()
    with workers.ProcessExecutor(processes) as executor:
        for part in workers.results(executor, _Looking(), pieces):
            seen = seen.joined(part)
    return seen


def _look_below(folders: Iterable[bytes]) -> _Look:
    seen = _Look()
    todo = deque(folders)
    while todo:
        seen = seen.with_folder(todo.pop(), todo)
    return seen
