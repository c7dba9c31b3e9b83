"""File stores in archives: ``.tar``, ``.tar.gz``, ``.zip`` and their relatives.

An archive is unpacked into a temporary folder in one pass, and read like any other folder. (A
compressed archive has no way to one of its files but through all before it, so that reading file
by file, as fsspec's archive file systems do, takes quadratic time.) Files that are not opened,
mostly artifacts, stay sparse files without content. Nothing is written outside of the temporary
folder: what leads out of the archive is refused and named.
"""

from __future__ import annotations

import errno
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import IO, NamedTuple

from migrator.errors import MigrateError, SourceError
from migrator.extractor.filestore.must_fetch import must_fetch
from migrator.extractor.filestore.opening import stores_below
from migrator.extractor.filestore.scanning import is_below, reason
from migrator.extractor.filestore.source import FileStoreSource
from migrator.extractor.mirrors import Mirror, MirroredSource, temporary_folder
from migrator.extractor.source import Progress, Wanted
from migrator.issues import Code, Issue
from migrator.paths import readable_path

_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_ENDINGS = (*_TAR_ENDINGS, ".zip")
MOST_ENTRIES = 20_000_000
MOST_BYTES = 1 << 40  # that are unpacked
MOST_RATIO = 200  # of unpacked to packed bytes ...
RATIO_FROM_BYTES = 100_000_000  # ... in an archive that unpacks to more than this
_LONGEST_LINK = 4096  # characters of a link's target in a zip file
_SPARE_BYTES = 16 << 20  # what the temporary disk should have left
_BLOCK_BYTES = 1 << 20
# The operating system's errors for a name that is taken by another kind of entry, or impossible.
_NAME_ERRORS = frozenset(
    {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
)
# What the standard library raises for damaged archives: RuntimeError for encrypted entries,
# NotImplementedError for methods of compression it lacks, ValueError and UnicodeError for headers.
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError,
    NotImplementedError, UnicodeError, ValueError,
)  # fmt: skip
_BY_HAND = "If you trust it, unpack it and give the directory."


class ArchiveSource(MirroredSource):
    """A file store that was unpacked; MLflow can't open artifacts in an archive."""

    has_lasting_files = False

    def address(self, path: str) -> str | None:
        """The place in the archive, which is written only where nothing is recorded."""
        return Path(self.named(path)).as_uri()


def is_archive(source: str) -> bool:
    """Whether a source is a file with an archive's ending."""
    path = os.path.expanduser(source)
    return path.lower().endswith(_ENDINGS) and os.path.isfile(path)


@contextmanager
def open_archive(
    source: str, wanted: Wanted, *, whole: bool, progress: Progress
) -> Iterator[ArchiveSource]:
    """Yield the store in an archive; what was unpacked is removed when the block ends.

    The store is at the top, in ``mlruns``, or the only one below. Artifacts are unpacked if their
    text is ``wanted``, or all of them with ``whole``. Errors name places in the archive. Raises
    SourceError.
    """
    path = os.path.realpath(os.path.expanduser(source))

    def reads(name: str, size_bytes: int) -> bool:
        return whole or must_fetch(name, size_bytes, wanted)

    with temporary_folder() as folder:
        unpacking = _Unpacking(path, folder, reads, progress)
        unpacking.unpack()
        mirror = replace(
            Mirror(path, folder, ""),
            files=len(unpacking.issues),
            issues=tuple(unpacking.issues),
        )
        try:
            store = _open_store(folder)
            yield ArchiveSource(store.root, store.artifact_roots, mirror=mirror)
        except MigrateError as error:
            raise type(error)(mirror.named(error.what), todo=mirror.named(error.todo)) from error


def _open_store(folder: str) -> FileStoreSource:
    try:
        return FileStoreSource.open(folder)
    except SourceError:
        below = stores_below(folder)
        if len(below) != 1:
            raise
        return FileStoreSource.open(below[0])


class _Kind(Enum):
    FILE = "a file"
    FOLDER = "a folder"
    SYMLINK = "a symbolic link"
    HARD_LINK = "a hard link"
    OTHER = "a device or pipe"


class _Entry(NamedTuple):
    """An entry of an archive."""

    name: str
    kind: _Kind
    size_bytes: int
    changed: float  # seconds since the epoch
    target: str  # of a link
    open: Callable[[], IO[bytes] | None]


@dataclass(slots=True)
class _Unpacking:
    """Unpacks one archive. ``issues`` name the entries that were refused."""

    archive: str
    folder: str
    reads: Callable[[str, int], bool]
    progress: Progress
    issues: list[Issue] = field(default_factory=list)
    links: list[tuple[_Entry, str]] = field(default_factory=list)  # with their names
    unpacked_bytes: int = 0

    def unpack(self) -> None:
        """Unpack everything. Raises SourceError for what is damaged, a bomb, or too large."""
        packed_bytes = os.path.getsize(self.archive)
        total_bytes = 0
        try:
            for number, entry in enumerate(_entries(self.archive), 1):
                if number > MOST_ENTRIES:
                    raise self._bomb(f"it has more than {MOST_ENTRIES:,} entries")
                total_bytes += entry.size_bytes
                if total_bytes > max(RATIO_FROM_BYTES, MOST_RATIO * packed_bytes):
                    raise self._bomb(f"it unpacks to more than {MOST_RATIO} times its size")
                self._add(entry)
                self.progress("unpacking", number, 0)
            for entry, name in self.links:  # last, so that nothing is written through them
                self._link(entry, name)
        except _DAMAGE as error:
            why = str(error).strip() or type(error).__name__
            raise SourceError(
                f"{readable_path(self.archive)} can't be read: {why.rstrip('.')}.",
                todo="It may be damaged, cut off or encrypted: make the archive again.",
            ) from error
        except OSError as error:
            raise SourceError(
                f"{readable_path(self.archive)} can't be unpacked: {reason(error)}.",
                todo="Check the archive, and the disk of the temporary folder (TMPDIR).",
            ) from error

    def _add(self, entry: _Entry) -> None:
        name = posixpath.normpath(entry.name)
        if entry.name.startswith("/") or ".." in entry.name.split("/") or "\x00" in name:
            self._refuse(entry, "its name leads out of the archive")
        elif entry.kind is _Kind.OTHER:
            self._refuse(entry, "it is a device or pipe")
        elif entry.kind in (_Kind.SYMLINK, _Kind.HARD_LINK):
            self.links.append((entry, name))
        elif entry.kind is _Kind.FOLDER or name == ".":
            self._make(entry, lambda: os.makedirs(self._path(name), exist_ok=True))
        else:
            self._make(entry, lambda: self._write(entry, name))

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, *name.split("/"))

    def _make(self, entry: _Entry, make: Callable[[], None]) -> None:
        """Make a file, folder or link; refuse the entry if its name is taken or impossible."""
        try:
            make()
        except OSError as error:
            if error.errno not in _NAME_ERRORS:
                raise
            self._refuse(entry, f"its name can't be used here ({reason(error)})")

    def _write(self, entry: _Entry, name: str) -> None:
        path = self._path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        content = entry.open() if entry.size_bytes and self.reads(name, entry.size_bytes) else None
        if content is not None:
            self._check_room(entry.size_bytes)
        with open(path, "wb") as file:
            if content is None:
                file.truncate(entry.size_bytes)
            else:
                with content:
                    shutil.copyfileobj(content, file, _BLOCK_BYTES)
        os.utime(path, (entry.changed, entry.changed))

    def _check_room(self, size_bytes: int) -> None:
        self.unpacked_bytes += size_bytes
        if self.unpacked_bytes > MOST_BYTES:
            raise self._bomb(f"more than {MOST_BYTES:,} bytes of it would be unpacked")
        free = shutil.disk_usage(self.folder).free
        if size_bytes + _SPARE_BYTES > free:
            raise SourceError(
                f"{readable_path(self.archive)} can't be unpacked: {tempfile.gettempdir()} has "
                f"{free:,} bytes free.",
                todo="Make room, or set TMPDIR to a folder on another disk.",
            )

    def _link(self, entry: _Entry, name: str) -> None:
        path = self._path(name)
        above = "" if entry.kind is _Kind.HARD_LINK else posixpath.dirname(name)
        inside = posixpath.normpath(posixpath.join(above, entry.target))
        target = self._path(inside)
        leads_out = inside.startswith(("/", "../")) or inside == ".." or "\x00" in entry.target
        folder = os.path.dirname(path)
        if leads_out or not is_below(os.path.realpath(target), self.folder):
            self._refuse(entry, f"it is {entry.kind.value} that leads out of the archive")
        elif os.path.realpath(folder) != folder:
            self._refuse(entry, "it is in a folder that is a link")
        elif entry.kind is _Kind.HARD_LINK and not os.path.isfile(target):
            self._refuse(entry, "it is a hard link to an entry that is not there")
        else:
            os.makedirs(folder, exist_ok=True)
            if entry.kind is _Kind.HARD_LINK:
                self._make(entry, lambda: os.link(os.path.realpath(target), path))
            else:
                self._make(entry, lambda: os.symlink(os.path.relpath(target, folder), path))

    def _refuse(self, entry: _Entry, why: str) -> None:
        place = f"{self.archive}/{entry.name.lstrip('/')}"
        message = f"The entry was not unpacked: {why}."
        self.issues.append(Issue(Code.ARCHIVE_ENTRY_REFUSED, place, message))

    def _bomb(self, why: str) -> SourceError:
        return SourceError(f"{readable_path(self.archive)} was not unpacked: {why}.", todo=_BY_HAND)


def _entries(archive: str) -> Iterator[_Entry]:
    return _zip_entries(archive) if archive.lower().endswith(".zip") else _tar_entries(archive)


class _Header(tarfile.TarInfo):
    """A header of a tar file. ``tarfile`` itself takes a file that is cut off for a shorter one."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Header:
        """Read the next header. Raises ReadError where the file ends without its end blocks."""
        # Python does not document these two, so its type stubs lack them. Their documented base
        # HeaderError can't serve: the proper end of a file raises a HeaderError as well.
        cut_off = (
            tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
            tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
        )
        try:
            return super().fromtarfile(tarfile_)
        except cut_off:
            raise tarfile.ReadError("it is cut off") from None


def _tar_entries(archive: str) -> Iterator[_Entry]:
    """Yield the entries of a tar file; each can be opened until the next one is asked for."""
    with tarfile.open(archive, "r|*", tarinfo=_Header) as tar:
        while (member := tar.next()) is not None:
            if member.isfile():
                kind = _Kind.FILE
            elif member.isdir():
                kind = _Kind.FOLDER
            elif member.issym():
                kind = _Kind.SYMLINK
            else:
                kind = _Kind.HARD_LINK if member.islnk() else _Kind.OTHER
            size = member.size if kind is _Kind.FILE else 0

            def content(member: tarfile.TarInfo = member) -> IO[bytes] | None:
                return tar.extractfile(member)

            yield _Entry(member.name, kind, size, float(member.mtime), member.linkname, content)
            # tarfile keeps every header that it read, and memory must not grow with the archive.
            # The documented way, TarFile(stream=True), came with Python 3.13; stubs lack this one.
            tar.members.clear()  # type: ignore[attr-defined]


def _zip_entries(archive: str) -> Iterator[_Entry]:
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            mode = info.external_attr >> 16
            target = ""
            if info.is_dir():
                kind = _Kind.FOLDER
            elif stat.S_ISLNK(mode):
                kind = _Kind.SYMLINK
                with zipped.open(info) as file:
                    target = os.fsdecode(file.read(_LONGEST_LINK))
            else:
                is_file = stat.S_IFMT(mode) in (0, stat.S_IFREG)
                kind = _Kind.FILE if is_file else _Kind.OTHER
            changed = 0.0
            with suppress(ValueError, OverflowError):  # the time of the machine that packed it
                changed = time.mktime((*info.date_time, 0, 0, -1))
            size = info.file_size if kind is _Kind.FILE else 0

            def content(info: zipfile.ZipInfo = info) -> IO[bytes]:
                return zipped.open(info)

            yield _Entry(info.filename, kind, size, changed, target, content)
