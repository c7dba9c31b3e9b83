"""The staging file: a hidden database beside the target, until it is complete."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from migrator.atomic_files import common_mode
from migrator.loader.sqlite.files import reporting

try:
    import fcntl
except ImportError:  # Windows, where a file that is open can't be removed: no lock is needed
    fcntl = None  # type: ignore[assignment]  # a module elsewhere; asked for before each use

_SIDECARS = ("", "-journal", "-wal", "-shm")
_holds: set[int] = set()  # handles of this process


def _let_go() -> None:
    """Close the handles in a child process, which may outlive us and would keep the locks."""
    while _holds:
        os.close(_holds.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class StagingFile:
    """An empty file ``.NAME.migrating-PID`` in the target's directory, locked while we live.

    Its permissions are those of the target, or of the file ``like`` that it is a copy of.

    The lock is a ``flock``, which ends with the process however that ends. So a file that a killed
    run left can be distinguished from one in use without trusting process ids.
    """

    def __init__(self, target_path: str, like: str | None = None) -> None:
        self._target = Path(target_path)
        self._mode = common_mode([self._target if like is None else Path(like)])
        sweep(target_path)
        with reporting(target_path):
            self._handle, self.path = self._claim()

    def _claim(self) -> tuple[int, str]:
        attempt = 0
        while True:
            tail = f"-{attempt}" if attempt else ""
            path = self._target.with_name(f".{self._target.name}.migrating-{os.getpid()}{tail}")
            attempt += 1
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, self._mode)
            except FileExistsError:
                continue
            if fcntl is None:
                os.close(handle)
                return -1, str(path)
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Another run's sweep may have removed it between the open and the lock.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    _holds.add(handle)
                    return handle, str(path)
            os.close(handle)

    def remove(self) -> None:
        """Remove the file, if it is still there, and release the lock."""
        for suffix in _SIDECARS:
            Path(self.path + suffix).unlink(missing_ok=True)
        if self._handle >= 0:
            _holds.discard(self._handle)
            os.close(self._handle)
            self._handle = -1


def sweep(target_path: str) -> None:
    """Remove the staging and unfinished backup files that killed runs left beside the target."""
    target = Path(target_path)
    pattern = re.compile(rf"\.{re.escape(target.name)}\.migrating-\d+(-\d+)?(-journal|-wal|-shm)?")
    with reporting(target_path):
        found = [p for p in target.parent.iterdir() if pattern.fullmatch(p.name)]
    for path in sorted(found):
        with contextlib.suppress(OSError):  # in use on Windows, or swept by another run
            if not path.name.endswith(_SIDECARS[1:]) and not _held(path):
                for suffix in _SIDECARS:
                    Path(f"{path}{suffix}").unlink(missing_ok=True)


def _held(path: Path) -> bool:
    if fcntl is None:
        return False
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def sync(path: str) -> None:
    """Force a file to disk."""
    with Path(path).open("rb+") as file:
        os.fsync(file.fileno())


def sync_early(path: str) -> None:
    """Force a file to disk early, ignoring failures: ``publish_new`` does it again, and reports."""
    with contextlib.suppress(OSError):
        sync(path)


def sync_directory(path: str) -> None:
    """Force a directory's entries to disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish_new(staged: str, target_path: str) -> bool:
    """Give the staged file the target's name in one step. Returns False if a file is there by now.

    A hard link fails where the name is taken, which a rename would not.
    """
    sync(staged)
    target = Path(target_path)
    if target.exists() and target.stat().st_size == 0:
        Path(staged).replace(target)
    else:
        try:
            os.link(staged, target)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if target.exists():
                return False
            Path(staged).rename(target)
        else:
            Path(staged).unlink()
    sync_directory(str(target.parent))
    return True
