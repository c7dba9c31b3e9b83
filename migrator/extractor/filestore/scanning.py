"""Listing directories and reading files that may be damaged, missing or not files at all.

Nothing here knows what an experiment or a run is. ``scan`` decides which links are followed, so
that every part of the extractor sees the same files.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from migrator.extractor.filestore.junk_names import plain_names
from migrator.issues import Code
from migrator.paths import readable_path

MAX_LINKS = 3  # on one path: to an experiment, to a run in it and to that run's params
MAX_LINKED_PATHS = 250  # behind one link; see _has_too_many_links
_BLOCK_BYTES = 1 << 12  # nearly every file is smaller, and a larger buffer takes time to make
_NEXT_BYTES = 1 << 16
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe put there after the listing must not block us
    | getattr(os, "O_NOFOLLOW", 0)  # links are resolved by scan(), never by open()
)


class SpecialEntry(NamedTuple):
    """Something in a directory that is neither a regular file nor a directory we may read.

    ``what`` continues the sentence "It is …": "a broken link (…)", "a socket".
    """

    name: str
    path: str
    what: str
    is_link: bool
    is_read_elsewhere: bool = False  # a link to a directory of the store, read where it lies
    is_beyond_limit: bool = False  # a link behind too many others

    @property
    def link_code(self) -> Code:
        """The code of a link that is not followed."""
        return Code.LINKS_TOO_MANY if self.is_beyond_limit else Code.LINK_NOT_FOLLOWED


class Listing(NamedTuple):
    """What a directory holds, sorted by name: (name, path to open) of each file and directory.

    ``links`` are the names in ``dirs`` that are links to a directory. ``error`` says why the
    listing may be incomplete.
    """

    files: list[tuple[str, str]]
    dirs: list[tuple[str, str]]
    special: list[SpecialEntry]
    error: OSError | None
    links: frozenset[str] = frozenset()

    def file_names(self) -> frozenset[str]:
        """The names of the files."""
        return frozenset(name for name, _ in self.files)

    def directory(self, name: str) -> str | None:
        """The path of the directory of this name, None where there is none."""
        for other, path in self.dirs:
            if other == name:
                return path
        return None

    def file(self, name: str) -> str | None:
        """The path of the file of this name, None where there is none."""
        for other, path in self.files:
            if other == name:
                return path
        return None


def scan(path: str, bound: str) -> Listing:
    """List a directory. Links are followed inside the directory ``bound`` only (``follow``).

    A link to a directory is listed in ``dirs`` under its own path. A link to a file is listed
    with the path of the file it leads to. Never raises.
    """
    files: list[tuple[str, str]] = []
    dirs: list[tuple[str, str]] = []
    special: list[SpecialEntry] = []
    links: list[str] = []
    failure: OSError | None = None
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    files.append((entry.name, entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    dirs.append((entry.name, entry.path))
                elif entry.is_symlink():
                    target = follow(entry.path, bound)
                    if isinstance(target, SpecialEntry):
                        special.append(target)
                    elif target.is_directory:
                        dirs.append((entry.name, entry.path))
                        links.append(entry.name)
                    else:
                        files.append((entry.name, target.path))
                else:
                    what = _special_file(entry.path)
                    special.append(SpecialEntry(entry.name, entry.path, what, is_link=False))
    except OSError as error:
        failure = error
    files.sort()
    dirs.sort()
    special.sort()
    return Listing(files, dirs, special, failure, frozenset(links))


# ----------------------------------------------------------------------------------- links


class LinkTarget(NamedTuple):
    """The regular file or directory that a link leads to."""

    path: str  # absolute, without links
    is_directory: bool


def follow(path: str, bound: str) -> LinkTarget | SpecialEntry:
    """Resolve a link, or describe why it is not followed.

    ``path`` begins with ``bound``, which the target must lie in. A link to a directory that holds
    the link, or to one on the way to it, is a circle and is not followed. Neither is a link to a
    directory behind ``MAX_LINKS`` others, or one of too many behind another.
    """
    name = os.path.basename(path)
    try:
        target = os.path.realpath(path, strict=True)
        mode = os.lstat(target).st_mode
    except OSError as error:
        return SpecialEntry(name, path, f"a broken link ({reason(error)})", is_link=True)
    is_directory = stat.S_ISDIR(mode)
    if not is_below(target, os.path.realpath(bound)):
        kind = "directory" if is_directory else "file"
        what = f"a link to a {kind} out of the store, to {readable_path(target)}"
        return SpecialEntry(name, path, what, is_link=True)
    if not is_directory and not stat.S_ISREG(mode):
        what = f"a link to {_special_file(target)} inside the store"
        return SpecialEntry(name, path, what, is_link=True)
    if is_directory:
        return _follow_to_directory(path, bound, target)
    return LinkTarget(target, is_directory)


def _follow_to_directory(path: str, bound: str, target: str) -> LinkTarget | SpecialEntry:
    name = os.path.basename(path)
    way = _directories_between(bound, path)
    links = [place for place, folder in enumerate(way) if place and os.path.islink(folder)]
    if len(links) >= MAX_LINKS:
        what = f"a link behind {MAX_LINKS} other links"
        return SpecialEntry(name, path, what, is_link=True, is_beyond_limit=True)
    if any(is_below(os.path.realpath(folder), target) for folder in way):
        what = "a link to a directory that it lies in, a circle"
        return SpecialEntry(name, path, what, is_link=True, is_read_elsewhere=True)
    if links and _has_too_many_links(way[links[0] - 1 :]):
        what = f"a link behind other links, by which more than {MAX_LINKED_PATHS:,} paths lead here"
        return SpecialEntry(name, path, what, is_link=True, is_beyond_limit=True)
    return LinkTarget(target, is_directory=True)


def _has_too_many_links(folders: list[str]) -> bool:
    """Whether a link behind another is one of too many, by the directories on the way to it.

    ``folders`` begin with the one that holds the first link. Directories that all link to one
    another have a number of paths that grows with every link on the way. The product of how many
    links each directory holds limits that number, and is the same in whatever order directories
    are visited, so that all counts of files agree. Behind a second link, directories that are not
    links count as well, because each may hold links of its own.
    """
    paths = 1
    links_passed = 0
    for folder in folders:
        links_passed += os.path.islink(folder)
        links, directories = _count_branches(folder)
        branches = links if links_passed < 2 else links + directories
        paths *= max(branches, 1)
    return paths > MAX_LINKED_PATHS


def _count_branches(folder: str) -> tuple[int, int]:
    """Count the links in a directory, and the directories that are not links."""
    links = directories = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    links += 1
                elif entry.is_dir(follow_symlinks=False):
                    directories += 1
    except OSError:
        return 0, 0  # whoever lists it names it
    return links, directories


def is_below(path: str, folder: str) -> bool:
    """Whether a path is ``folder`` or lies in it; both are absolute and without links."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _directories_between(bound: str, path: str) -> list[str]:
    """The directories that lead to a path, ``bound`` first, that in which the path lies last."""
    way = []
    folder = os.path.dirname(path)
    while len(folder) > len(bound):
        way.append(folder)
        folder = os.path.dirname(folder)
    return [folder, *reversed(way)]


def _special_file(path: str) -> str:
    """Name the type of what is neither file, directory nor link: "a pipe", "a socket"."""
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        return f"something unreadable ({reason(error)})"
    for has_type, name in (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    ):
        if has_type(mode):
            return name
    return "a special file"


def link_read_elsewhere(path: str) -> SpecialEntry:
    """Describe a link to a directory of the store that is read where it really lies."""
    what = "a link to a directory inside the store"
    name = os.path.basename(path)
    return SpecialEntry(name, path, what, is_link=True, is_read_elsewhere=True)


# ------------------------------------------------------------------------------- whole trees


class TreeContents(NamedTuple):
    """The regular files below a directory, and what could not be looked into."""

    files: int
    size_bytes: int
    names: tuple[str, ...]  # of the first three, relative to the directory
    meta_files: int  # files with the name that those of runs and experiments have
    special: tuple[SpecialEntry, ...]
    errors: tuple[tuple[str, OSError], ...]  # by directory


def measure(path: str, bound: str, *, through_links: bool) -> TreeContents:
    """Count the regular files below a directory, and their bytes. Never raises.

    Without ``through_links``, a link to a directory is special: it is read where it really lies.
    """
    files = size_bytes = meta_files = 0
    names: list[str] = []
    special: list[SpecialEntry] = []
    errors: list[tuple[str, OSError]] = []
    todo = [path]
    while todo:
        folder = todo.pop()
        listing = scan(folder, bound)
        if listing.error is not None:
            errors.append((folder, listing.error))
        files += len(listing.files)
        size_bytes += size_of(listing)
        meta_files += "meta.yaml" in listing.file_names()
        if len(names) < 3:
            names += [os.path.relpath(os.path.join(folder, n), path) for n, _ in listing.files[:3]]
        special += listing.special
        for name, child in reversed(listing.dirs):
            if name in listing.links and not through_links:
                special.append(link_read_elsewhere(child))
            else:
                todo.append(child)
    return TreeContents(
        files, size_bytes, tuple(names[:3]), meta_files, tuple(special), tuple(errors)
    )


def size_of(listing: Listing) -> int:
    """The bytes of a listing's files; a file that has vanished counts as empty."""
    return sum(size_at(path) for _, path in listing.files)


def size_at(path: str) -> int:
    """The bytes of a file, 0 where it has vanished."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


# ----------------------------------------------------------------------------------- files


class FileTooLarge(Exception):
    """A file is larger than anything of its kind can be; it was not read."""


def reason(error: OSError) -> str:
    """The operating system's words for an error, without path and number."""
    return error.strerror or str(error)


def read_bytes(path: str, limit_bytes: int) -> bytes:
    """Read a regular file.

    Raises ``OSError`` (gone, no permission, not a regular file) and ``FileTooLarge``.
    """
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        data = os.read(descriptor, _BLOCK_BYTES)
        if len(data) == _BLOCK_BYTES:
            data += os.read(descriptor, _NEXT_BYTES)
        if len(data) < _BLOCK_BYTES + _NEXT_BYTES and len(data) <= limit_bytes:
            return data  # all of it: nearly every file is small
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(None, "not a regular file", path)
        parts = [data]
        total = len(data)
        # It may grow or shrink while it is being read: what is there to read counts.
        while data and max(total, status.st_size) <= limit_bytes:
            data = os.read(descriptor, 1 << 20)
            parts.append(data)
            total += len(data)
        if data:
            size = max(total, status.st_size)
            raise FileTooLarge(f"{size:,} bytes, more than the {limit_bytes:,} that are read")
        return b"".join(parts)
    finally:
        os.close(descriptor)


def small_files(folder: str) -> list[tuple[str, bytes | None]] | None:
    """Read a directory of small files in one loop: name and content of each, sorted by name.

    A content is None where the file is large or unreadable (see ``read_bytes``). The result is
    None unless the directory holds nothing but regular files with plain names; then ``scan`` says
    what else there is. Nearly every directory of params, tags and metrics is plain, and reading a
    store is mostly this loop, so it makes no call that could be made outside.
    """
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
            names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return None
    names.sort()
    known = plain_names(tuple(names))
    if known is None or len(names) < len(entries):
        return None
    files: list[tuple[str, bytes | None]] = []
    for name in known:
        try:
            descriptor = os.open(f"{folder}{os.sep}{name}", _OPEN_FLAGS)
            try:
                data = os.read(descriptor, _BLOCK_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            files.append((name, None))
        else:
            files.append((name, data if len(data) < _BLOCK_BYTES else None))
    return files
