"""Copies artifacts into a directory: only complete, checked files; a second call adds the rest."""

from __future__ import annotations

import hashlib
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from migrator.errors import TargetError
from migrator.issues import Code, Issue
from migrator.loader.sqlite import staging
from migrator.loader.sqlite.files import reporting
from migrator.model import ArtifactCopy

_BLOCK_BYTES = 1 << 20
_SPARE_BYTES = 16 << 20  # what a disk should have left when all is copied
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
)

SourceFile = tuple[str, str, int]  # relative path with /, path to open, bytes
Listing = Callable[[ArtifactCopy], Iterable[SourceFile]]


@dataclass(slots=True)
class CopyResult:
    """How many files were copied, were there already, or could not be read."""

    files: int = 0
    bytes: int = 0
    already_there: int = 0
    failed: int = 0
    issues: list[Issue] = field(default_factory=list)
    names: dict[str, Path] = field(default_factory=dict)  # of copies, by their folded spelling


class Unreadable(Exception):
    """A source file can't be read; the reason in words."""


class NameTaken(Exception):
    """The directory takes the names of two files for one; the message says which."""


def copy_artifacts(
    copies: Sequence[ArtifactCopy],
    directory: str,
    files_of: Listing,
    *,
    protected: Sequence[str] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CopyResult:
    """Copy directories of artifacts to places below ``directory``; ``files_of`` lists their files.

    A file gets a hidden name in ``directory`` first. It is read again, compared by size and
    SHA-256, and only then given its own name, so every file of a copy is complete. One that is
    there with the same content is not copied again; one with another content is replaced, with an
    issue. Times of modification are kept. Nothing in ``protected``, the source's directories, is
    replaced. ``on_progress`` gets the bytes done, and those of all files.

    A file that can't be read is an issue. Raises TargetError when the copies can't be written, a
    file is in the way, or the disk has no room for all of them (checked before the first copy).
    """
    result = CopyResult()
    root = Path(directory)
    with reporting(directory):
        total = _check_room(copies, root, files_of)
        root.mkdir(parents=True, exist_ok=True)
        inside = os.path.realpath(root)
        keep = [os.path.realpath(path) for path in protected]
        done = 0
        for copy in copies:
            for relative, path, size in files_of(copy):
                target = Path(copy.target, relative)
                if not _below(os.path.realpath(target), inside):
                    raise TargetError(
                        f"{target} leads out of {directory} through a link.",
                        todo="Remove the link, or choose another directory for the copies.",
                    )
                _copy(copy, path, target, root, keep, result)
                done += size
                on_progress(done, total)
        if result.files and hasattr(os, "sync"):
            os.sync()  # the source may be removed once the database is there
    return result


def _check_room(copies: Sequence[ArtifactCopy], root: Path, files_of: Listing) -> int:
    """Return the bytes of all files. Raises TargetError if the missing ones don't fit."""
    total = missing = 0
    for copy in copies:
        for relative, _, size in files_of(copy):
            total += size
            target = Path(copy.target, relative)
            missing += size if not target.is_file() or target.stat().st_size != size else 0
    there = root
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if missing and missing + _SPARE_BYTES > free:
        raise TargetError(
            f"The artifacts don't fit into {root}: {missing:,} bytes are to be copied, and "
            f"{free:,} are free.",
            todo="Make room, choose another directory, or leave them where they are "
            "(--artifacts auto).",
        )
    return total


def _make(directory: Path) -> None:
    """Make a directory and those above it; ``Path.mkdir`` recurses, too deep for 1,000."""
    missing = []
    while not directory.is_dir():
        missing.append(directory)
        directory = directory.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)


def _copy(
    copy: ArtifactCopy,
    path: str,
    target: Path,
    root: Path,
    keep: Sequence[str],
    result: CopyResult,
) -> None:
    try:
        replaced = target.is_symlink() or target.exists()
        _claim_name(target, result.names)
        if replaced and _same(path, target):
            result.already_there += 1
            return
        if replaced and (
            not target.is_file() or any(_below(os.path.realpath(target), each) for each in keep)
        ):
            raise TargetError(
                f"{target} is in the way: it is not the same as {path}, and not ours to replace.",
                todo="Choose another directory for the copies.",
            )
        _make(target.parent)
        written = _copy_through(path, target, root)
    except (Unreadable, NameTaken) as error:
        result.failed += 1
        result.issues.append(
            Issue(
                Code.ARTIFACT_NOT_COPIED,
                path,
                f"{error}.",
                "the file where it is",
                entity_id=copy.entity_id,
            )
        )
        return
    result.files += 1
    result.bytes += written
    if replaced:
        result.issues.append(
            Issue(
                Code.ARTIFACT_COPY_REPLACED,
                str(target),
                f"It was not the same as {path}.",
                "the artifact",
                entity_id=copy.entity_id,
            )
        )


def _claim_name(target: Path, names: dict[str, Path]) -> None:
    """Note the name of a copy. Raises NameTaken where the file system takes it for another's.

    macOS and Windows do so with ``A.txt`` and ``a.txt``: the second would replace the first.
    """
    folded = unicodedata.normalize("NFC", str(target)).casefold()
    other = names.setdefault(folded, target)
    if str(other) != str(target) and target.exists() and target.samefile(other):
        raise NameTaken(f"This directory can't have both {other.name} and {target.name}")


def _copy_through(path: str, target: Path, root: Path) -> int:
    """Copy a file under a name of our own, check it, and give it its name; return its bytes."""
    staged = staging.StagingFile(str(root / "artifacts"), like=path)
    try:
        digest, size = hashlib.sha256(), 0
        with Path(staged.path).open("wb") as out:
            for block in blocks(path):
                out.write(block)
                digest.update(block)
                size += len(block)
        if (_digest(staged.path), Path(staged.path).stat().st_size) != (digest.digest(), size):
            raise TargetError(
                f"{target} could not be written: what was read back differs from what was written.",
                todo="See that the disk is sound, then convert again.",
            )
        times = Path(path).stat()
        os.utime(staged.path, ns=(times.st_atime_ns, times.st_mtime_ns))
        Path(staged.path).replace(target)
    finally:
        staged.remove()
    return size


def _same(path: str, target: Path) -> bool:
    if not target.is_file():
        return False
    try:
        if target.samefile(path):
            return True
        sizes = Path(path).stat().st_size, target.stat().st_size
    except OSError as error:
        raise Unreadable(f"It can't be read: {error.strerror or error}") from error
    return sizes[0] == sizes[1] and _digest(path) == _digest(str(target))


def _digest(path: str) -> bytes:
    digest = hashlib.sha256()
    for block in blocks(path):
        digest.update(block)
    return digest.digest()


def blocks(path: str) -> Iterator[bytes]:
    """Yield a file's content. Raises Unreadable."""
    try:
        handle = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        raise Unreadable(f"It can't be read: {error.strerror or error}") from error
    try:
        while True:
            try:
                block = os.read(handle, _BLOCK_BYTES)
            except OSError as error:
                raise Unreadable(f"It can't be read: {error.strerror or error}") from error
            if not block:
                return
            yield block
    finally:
        os.close(handle)


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip(os.sep) + os.sep)
