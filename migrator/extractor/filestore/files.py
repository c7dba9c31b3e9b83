"""Reading files that may be damaged, and keeping account of every one of them.

Nothing here knows what an experiment or a run is. ``Account`` is the ledger of one directory that
is read: what was found, what was merged, what was wrong, and where each regular file went.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from typing import NamedTuple, TypeVar

from migrator.issues import Code, Issue, Kind, Severity
from migrator.model import Extracted
from migrator.paths import is_utf8, shown

T = TypeVar("T")

VALUE_LIMIT_BYTES = 16 << 20  # a param or tag: MLflow's own limit is 8,000 characters
METRIC_LIMIT_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 12  # nearly every file is smaller, and a larger buffer takes time to make
_NEXT_BYTES = 1 << 16
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe put there after the listing must not block us
    | getattr(os, "O_NOFOLLOW", 0)  # links are resolved by scan(), never by open()
)

# ------------------------------------------------------------- files that are not MLflow's

_JUNK_NAMES = frozenset(
    {".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", "Icon\r"}
    | {".gitkeep", ".keep", ".gitignore", ".gitattributes", ".dockerignore", ".dvcignore"}
    | {".directory", ".localized", ".nomedia", ".dropbox", ".dropbox.attr"}
)
# None of ~ # ( ) is legal in an MLflow key; names that begin with a dot are, so these are exact.
_JUNK_PATTERN = re.compile(
    r".*~|#.*#|\.#.*|\..*\.sw[a-p]|\.nfs[0-9a-f]{16,}|\.fuse_hidden[0-9a-f]{8,}|~\$.*|~.*\.tmp"
    r"|\.~lock\..*#|\.syncthing\..*\.tmp|\.goutputstream-\w{6}"
)
_JUNK_FOLDERS = frozenset(
    {".git", ".svn", ".hg", ".dvc", ".idea", ".vscode", ".ipynb_checkpoints", "__pycache__"}
    | {"__MACOSX", "@eaDir", "#recycle", ".stfolder", ".stversions", ".dropbox.cache"}
    | {"$RECYCLE.BIN", "System Volume Information", "lost+found", ".Trashes", ".fseventsd"}
)
# A copy that a sync tool or file manager made beside the original: what it is a copy of, and why.
_COPY_PATTERNS = (
    re.compile(r"(?P<base>.+?)(?: ?\(\d{1,3}\))(?P<ext>\.\w+)?"),
    re.compile(
        r"(?P<base>.+?) ?\([^()]*(?:conflict|Konflikt|conflit)[^()]*\)(?P<ext>\.\w+)?", re.I
    ),
    re.compile(r"(?P<base>.+?)\.sync-conflict-\d{8}-\d{6}(?:-\w+)?(?P<ext>\.\w+)?"),
    re.compile(r"(?P<base>.+?)_conflict-\d{8}-\d{6}(?P<ext>\.\w+)?"),
    re.compile(r"(?P<base>.+?) - Copy(?: \(\d{1,3}\))?(?P<ext>\.\w+)?"),
)


def is_junk(name: str) -> bool:
    """Tell whether a file's name is an editor's, a sync tool's or a file manager's."""
    if name in _JUNK_NAMES:
        return True
    if name[0] not in ".~#" and name[-1] != "~":
        return False  # nearly every name: the pattern costs more
    return _JUNK_PATTERN.fullmatch(name) is not None


def is_junk_folder(name: str) -> bool:
    """Tell whether a directory's name is a version control's, an editor's or a sync tool's."""
    return name in _JUNK_FOLDERS


def copied_from(name: str, names: frozenset[str]) -> str | None:
    """Return the name in ``names`` that ``name`` is a conflict copy of, None if it is none.

    A copy without its original is the only one there is, and therefore none.
    """
    for pattern in _COPY_PATTERNS:
        match = pattern.fullmatch(name)
        if match:
            original = match["base"] + (match["ext"] or "")
            if original in names:
                return original
    if name.startswith("._") and name[2:] in names:  # AppleDouble: a Mac's resource fork
        return name[2:]
    return None


_BACKUP_ENDINGS = (".bak", ".orig", ".old", ".save", ".tmp", ".txt", "~")


def stand_in(name: str, names: frozenset[str]) -> str | None:
    """Return which of ``names`` is ``name``, or stands in for it where it is missing.

    Other letters (from a file system that does not tell them apart) are better than another
    ending, that is better than a copy, and that than a backup.
    """
    if name in names:
        return name
    plain, stem = name.lower(), name.rpartition(".")[0]
    near = sorted(each for each in names if each.lower().startswith((plain, stem.lower())))
    tests: tuple[Callable[[str], bool], ...] = (
        lambda each: each.lower() == plain,
        lambda each: each.lower() == f"{stem}.yml",
        lambda each: copied_from(each, frozenset({name})) is not None,
        lambda each: each.lower() in {plain + ending for ending in _BACKUP_ENDINGS},
    )
    return next((each for test in tests for each in near if test(each)), None)


@functools.lru_cache(1 << 12)  # keys are the same in thousands of runs
def is_plain(name: str) -> bool:
    """Tell whether a file's name is surely neither junk nor that of a copy: nearly every one is."""
    return not (
        is_junk(name)
        or "(" in name
        or "onflict" in name
        or " - Copy" in name
        or name.startswith("._")
    )


@functools.lru_cache(1 << 10)  # so are the names that stand together
def _are_plain(names: tuple[str, ...]) -> bool:
    return all(map(is_plain, names))


def reason(error: OSError) -> str:
    """Return what the operating system says of an error, in words."""
    return error.strerror or str(error)


# ----------------------------------------------------------------------------- directories


class Odd(NamedTuple):
    """Something in a directory that is neither a file nor a directory to us."""

    name: str
    path: str
    what: str  # "a link to a directory inside the store", "a socket", …
    inside: bool  # a link to a directory that is read where it really lies


class Listing(NamedTuple):
    """What a directory holds, sorted by name; each file and directory with the path to open.

    ``links`` are the names in ``dirs`` that are links to a directory.
    """

    files: list[tuple[str, str]]
    dirs: list[tuple[str, str]]
    odd: list[Odd]
    error: OSError | None
    links: frozenset[str] = frozenset()

    def file_names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.files)

    def directory(self, name: str) -> str | None:
        """Return the path of the directory of this name."""
        for other, path in self.dirs:
            if other == name:
                return path
        return None

    def file(self, name: str) -> str | None:
        """Return the path of the file of this name."""
        for other, path in self.files:
            if other == name:
                return path
        return None


def scan(path: str, bound: str) -> Listing:
    """List a directory. Links are followed inside ``bound`` only, and never in circles.

    A link to a directory is one of ``dirs``, under its own path; one to a file has the path of
    what it leads to. Nothing but regular files is offered for opening. ``error`` says why the
    listing may be incomplete.
    """
    files: list[tuple[str, str]] = []
    dirs: list[tuple[str, str]] = []
    odd: list[Odd] = []
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
                    if isinstance(target, Odd):
                        odd.append(target)
                    elif target.is_directory:
                        dirs.append((entry.name, entry.path))
                        links.append(entry.name)
                    else:
                        files.append((entry.name, target.path))
                else:
                    odd.append(Odd(entry.name, entry.path, _special(entry.path), False))
    except OSError as error:
        failure = error
    files.sort()
    dirs.sort()
    odd.sort()
    return Listing(files, dirs, odd, failure, frozenset(links))


class Target(NamedTuple):
    """What a link that may be followed leads to: a regular file or a directory."""

    path: str  # absolute, without links
    is_directory: bool


# One behind the other: to an experiment, a run and its params. Ten directories that link to one
# another lead to millions of paths.
_MAX_LINKS = 3


def follow(path: str, bound: str) -> Target | Odd:
    """Return what a link leads to if that lies inside ``bound``, else what is wrong with it.

    ``path`` begins with ``bound``. A link to a directory that holds the link, or one on the way
    to it, is a circle.
    """
    name = os.path.basename(path)
    try:
        target = os.path.realpath(path, strict=True)
        mode = os.lstat(target).st_mode
    except OSError as error:
        return Odd(name, path, f"a broken link ({reason(error)})", False)
    is_directory = stat.S_ISDIR(mode)
    kind = "directory" if is_directory else "file"
    if not is_below(target, os.path.realpath(bound)):
        what = f"a link to a {kind} out of the store, to {shown(target)}"
        return Odd(name, path, what, False)
    if not is_directory and not stat.S_ISREG(mode):
        return Odd(name, path, f"a link to {_special(target)} inside the store", False)
    if is_directory:
        way = _way(path, bound)
        if sum(map(os.path.islink, way[:-1])) >= _MAX_LINKS:
            return Odd(name, path, f"a link behind {_MAX_LINKS} other links", False)
        if any(is_below(os.path.realpath(folder), target) for folder in way):
            return Odd(name, path, "a link to a directory that it lies in, a circle", True)
    return Target(target, is_directory)


def is_below(path: str, folder: str) -> bool:
    """Tell whether a path is ``folder`` or lies in it; both are absolute and without links."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _way(path: str, bound: str) -> list[str]:
    """Return the directories that lead from ``bound`` (included) to a path."""
    way = []
    folder = os.path.dirname(path)
    while len(folder) > len(bound):
        way.append(folder)
        folder = os.path.dirname(folder)
    return [*way, folder]


def _special(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        return f"something unreadable ({reason(error)})"
    for test, name in (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    ):
        if test(mode):
            return name
    return "a special file"


class Tree(NamedTuple):
    """Everything below a directory: sizes of its files, and what could not be looked into."""

    files: int
    size_bytes: int
    names: tuple[str, ...]  # the first few, relative
    metas: int  # how many of the files are called as those of runs and experiments are
    odd: tuple[Odd, ...]
    errors: tuple[tuple[str, OSError], ...]


def measure(path: str, bound: str, *, through_links: bool) -> Tree:
    """Count the regular files below a directory, and their bytes.

    Without ``through_links`` a link to a directory is odd, because what it leads to is elsewhere.
    """
    files = size = metas = 0
    names: list[str] = []
    odd: list[Odd] = []
    errors: list[tuple[str, OSError]] = []
    todo = [path]
    while todo:
        folder = todo.pop()
        listing = scan(folder, bound)
        if listing.error is not None:
            errors.append((folder, listing.error))
        files += len(listing.files)
        size += size_of(listing)
        metas += "meta.yaml" in listing.file_names()
        if len(names) < 3:
            names += [os.path.relpath(os.path.join(folder, n), path) for n, _ in listing.files[:3]]
        odd += listing.odd
        for name, child in reversed(listing.dirs):
            if name in listing.links and not through_links:
                odd.append(inside_link(child))
            else:
                todo.append(child)
    return Tree(files, size, tuple(names[:3]), metas, tuple(odd), tuple(errors))


def inside_link(path: str) -> Odd:
    """Return a link to a directory of the store as something that is not followed here."""
    return Odd(os.path.basename(path), path, "a link to a directory inside the store", True)


def size_of(listing: Listing) -> int:
    """Return the bytes of a listing's files; a file that has vanished counts as empty."""
    return sum(_size(path) for _, path in listing.files)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


# ----------------------------------------------------------------------------------- files


class FileTooLarge(Exception):
    """A file is larger than anything of its kind can be; it was not read."""


def read_bytes(path: str, limit_bytes: int) -> bytes:
    """Return a regular file's content.

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
        # It may grow or shrink while it is being read: what counts is what is there to read.
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
    """Return name and content of each file of a directory, sorted by name.

    A content is None where the file is large or unreadable (see ``read_bytes``). None for all
    unless the directory holds nothing but regular files with plain names: ``scan`` then says what
    is odd. Nearly every directory of params, tags and metrics is like that, so that this loop is
    most of what reading a store takes: no call is in it that could be outside.
    """
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
            names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return None
    names.sort()
    if len(names) < len(entries) or not _are_plain(tuple(names)):
        return None
    files: list[tuple[str, bytes | None]] = []
    for name in names:
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


# --------------------------------------------------------------------------------- account


_REFUSALS = frozenset(
    {Code.DIRECTORY_UNREADABLE, Code.FILE_UNREADABLE, Code.FILE_VANISHED, Code.META_UNREADABLE}
)


class Account:
    """The ledger of one entity's directory while it is read.

    ``bound`` is the directory that links may not leave (the store).
    """

    __slots__ = (
        "bound",
        "entity_id",
        "files_found",
        "files_ignored",
        "files_read",
        "files_referred",
        "folders_found",
        "folders_listed",
        "found",
        "issues",
        "kind",
        "merged",
        "size_bytes",
    )

    def __init__(self, kind: Kind, entity_id: str, bound: str) -> None:
        self.kind = kind
        self.entity_id = entity_id
        self.bound = bound
        self.found: defaultdict[Kind, int] = defaultdict(int)
        self.found[kind] = 1
        self.merged: defaultdict[Kind, int] = defaultdict(int)
        self.issues: list[Issue] = []
        self.files_found = 0
        self.files_read = 0
        self.files_referred = 0
        self.files_ignored = 0
        self.size_bytes = 0
        self.folders_found = 1  # the entity's own; more by listing, so that none can be forgotten
        self.folders_listed = 0

    def add(
        self,
        code: Code,
        path: str,
        message: str,
        *,
        kept: str = "",
        kind: Kind | None = None,
        count: int = 1,
        sample: str = "",
    ) -> None:
        """Name something that is wrong. A REJECTED issue of a ``kind`` must have been found.

        Messages hold no values of the source, which may be secret; those go into ``sample``.
        """
        self.issues.append(Issue(code, path, message, kept, kind, self.entity_id, count, sample))

    # -- directories

    def list(self, path: str, kind: Kind | None = None) -> Listing:
        """List a directory; one that can't be listed stands for one item of ``kind`` lost."""
        listing = scan(path, self.bound)
        self.count(listing)
        if listing.error is not None:
            if kind is not None:
                self.found[kind] += 1
            self.add(
                Code.DIRECTORY_UNREADABLE,
                path,
                f"The directory can't be listed: {reason(listing.error)}.",
                kind=kind,
            )
        return listing

    def as_named(self, listing: Listing, path: str, file: str, folders: frozenset[str]) -> Listing:
        """Return a directory's listing in which what stands in for a missing name bears it.

        That is for ``file``, and for ``folders`` in other letters. What is taken is named.
        """
        odd = [name for name, _ in listing.dirs if name not in folders]
        if not odd and listing.file(file) is not None:
            return listing  # nearly every one
        names = listing.file_names()
        renamed = {}
        other = stand_in(file, names)
        if other not in (None, file) and listing.directory(file) is None:
            renamed[other] = file
        for name in odd:
            plain = name.lower()
            taken = listing.directory(plain) is not None or plain in renamed.values()
            if plain in folders and not taken:
                renamed[name] = plain
        for name, wanted in renamed.items():
            self.add(
                Code.STAND_IN_READ,
                os.path.join(path, str(name)),
                f"There is no {wanted}, but {shown(str(name))}.",
                kept="as if it were that",
            )
        return listing._replace(
            files=[(renamed.get(name, name), child) for name, child in listing.files],
            dirs=[(renamed.get(name, name), child) for name, child in listing.dirs],
        )

    def count(self, listing: Listing) -> None:
        """Count what a listing of one of the entity's directories names."""
        self.files_found += len(listing.files)
        self.folders_found += len(listing.dirs)
        self.folders_listed += 1

    def refuse_odd(self, listing: Listing, kind: Kind) -> None:
        """Reject what stands in the place of a ``kind`` but is no file or directory of ours."""
        for odd in listing.odd:
            self.found[kind] += 1
            code = Code.LINK_NOT_FOLLOWED if "link" in odd.what else Code.SPECIAL_FILE
            self.add(code, odd.path, f"It is {odd.what}; it was not opened.", kind=kind)

    def ignore_odd(self, listing: Listing, own: Set[str] = frozenset()) -> None:
        """Name links and special files that are not read; ``own`` are names of MLflow's folders."""
        for odd in listing.odd:
            if odd.name not in own:
                self.issues.append(odd_issue(odd, self.entity_id))
            elif "link" in odd.what:
                self.add(Code.LINK_NOT_FOLLOWED, odd.path, f"It is {odd.what}; it was not opened.")
            else:
                message = f"{odd.name} should be a directory, but is {odd.what}."
                self.add(Code.FOLDER_IS_A_FILE, odd.path, message)

    def ignore_files(self, folder: str, names: Sequence[str]) -> None:
        """Count files of a folder that are not MLflow's; one issue names them."""
        if names:
            self.files_ignored += len(names)
            self.size_bytes += sum(_size(os.path.join(folder, name)) for name in names)
            self.issues.append(ignored_files(folder, names, self.entity_id))

    def ignore_tree(self, path: str) -> None:
        """Count all files below a directory that is not MLflow's; one issue names it."""
        tree = measure(path, self.bound, through_links=True)
        self.folders_listed += 1
        self.files_found += tree.files
        self.files_ignored += tree.files
        self.size_bytes += tree.size_bytes
        if os.path.islink(path):
            self.issues.append(odd_issue(inside_link(path), self.entity_id, tree.files))
        else:
            self.issues += ignored_tree(path, tree, self.entity_id)

    def keys(self, folder: str, kind: Kind, *, counted: bool = True) -> Iterator[tuple[str, str]]:
        """Yield key and path of each file that is a ``kind`` below ``folder``.

        A key is the path below the folder with ``/`` between its parts. Each file is counted as
        found, unless ``counted`` is false because a file holds several.
        """
        todo = [(folder, "")]
        while todo:
            path, prefix = todo.pop()
            listing = self.list(path, kind)
            self.refuse_odd(listing, kind)
            ignored: list[str] = []
            copies = 0
            for name, file in listing.files:
                if is_plain(name):
                    yield prefix + name, file
                elif is_junk(name):
                    ignored.append(name)
                elif (original := copied_from(name, listing.file_names())) is not None:
                    self.files_ignored += 1
                    self.size_bytes += _size(file)
                    copies += 1
                    self.add(
                        Code.CONFLICT_COPY,
                        file,
                        f"It is a copy of {shown(original)} that a sync tool or file manager made.",
                        kept="the original",
                    )
                else:
                    yield prefix + name, file
            if counted:
                self.found[kind] += len(listing.files) - len(ignored) - copies
            self.ignore_files(path, ignored)
            for name, child in reversed(listing.dirs):
                if is_junk_folder(name):
                    self.ignore_tree(child)
                else:
                    todo.append((child, f"{prefix}{name}/"))

    def contents(
        self, folder: str, kind: Kind, *, counted: bool = True
    ) -> Iterator[tuple[str, str, bytes | None]]:
        """Yield what ``keys`` does, each with its content, None where that is still to be read."""
        return self._contents(folder, small_files(folder), kind, counted=counted)

    def _contents(
        self,
        folder: str,
        files: Sequence[tuple[str, bytes | None]] | None,
        kind: Kind,
        *,
        counted: bool,
    ) -> Iterator[tuple[str, str, bytes | None]]:
        if files is None:
            for key, path in self.keys(folder, kind, counted=counted):
                yield key, path, None
            return
        self._count_small(files, kind if counted else None)
        for name, data in files:
            yield name, f"{folder}{os.sep}{name}", data

    def _count_small(self, files: Sequence[tuple[str, bytes | None]], kind: Kind | None) -> None:
        """Count a directory's files, those that have been read as such, each as a ``kind``."""
        self.folders_listed += 1
        self.files_found += len(files)
        if kind is not None:
            self.found[kind] += len(files)
        contents = [data for _, data in files if data is not None]
        self.files_read += len(contents)
        self.size_bytes += sum(map(len, contents))

    def values(self, folder: str | None, kind: Kind) -> dict[str, str]:
        """Return the text of each key below ``folder`` (params and tags), byte for byte."""
        if folder is None:
            return {}
        files = small_files(folder)
        if files is not None:
            try:  # a None among them is an AttributeError, which costs less than looking for it
                texts = {name: data.decode() for name, data in files}  # type: ignore[union-attr]
            except (AttributeError, UnicodeDecodeError):
                pass  # one of them is to be read by itself, or to be repaired
            else:
                if all(map(str.isascii, texts)):  # nearly all
                    self._count_small(files, kind)
                    return texts
        texts = {}
        for key, path, content in self._contents(folder, files, kind, counted=True):
            data = self.read(path, VALUE_LIMIT_BYTES, kind) if content is None else content
            if data is None:
                continue
            try:
                text = data.decode()
            except UnicodeDecodeError:
                text = self.repaired_text(data, path, kind)
            name = key if key.isascii() else self.name(key, path, kind)
            if name in texts:
                self.add(
                    Code.NAME_TWICE,
                    path,
                    f"Another file has the key {name!r} once its name is made readable.",
                    kind=kind,
                )
            else:
                texts[name] = text
        return dict(sorted(texts.items()))

    def name(self, name: str, path: str, kind: Kind) -> str:
        """Return a key as text; bytes that are not UTF-8 are shown as ``\\xff``."""
        readable = shown(name)
        if readable != name and not is_utf8(name):
            self.add(
                Code.NAME_UNDECODABLE,
                path,
                f"The name is not UTF-8: {os.fsencode(name)!r}.",
                kept=f"as {readable!r}",
                kind=kind,
            )
        return readable

    # -- files

    def read(
        self,
        path: str,
        limit_bytes: int,
        kind: Kind | None,
        *,
        instead: Code | None = None,
        kept: str = "",
    ) -> bytes | None:
        """Return a file's content, None where it can't be read.

        The issue rejects one ``kind``, unless a code is given to be used ``instead``.
        """
        self.files_read += 1
        try:
            data = read_bytes(path, limit_bytes)
            self.size_bytes += len(data)
            return data
        except FileNotFoundError:
            code, why = Code.FILE_VANISHED, "It vanished while the store was being read."
        except FileTooLarge as error:
            code, why = Code.FILE_TOO_LARGE, f"It is too large: {error}."
        except OSError as error:
            code, why = Code.FILE_UNREADABLE, f"It can't be read: {reason(error)}."
        self.size_bytes += _size(path)
        self.add(instead or code, path, why, kept=kept, kind=kind)
        return None

    def repaired_text(self, data: bytes, path: str, kind: Kind | None) -> str:
        """Return undecodable bytes as text with replacement characters, and name them."""
        raw = repr(data[:200]) + ("…" if len(data) > 200 else "")
        self.add(
            Code.TEXT_UNDECODABLE,
            path,
            f"The content ({len(data):,} bytes) is not UTF-8.",
            kept="with U+FFFD in place of each undecodable byte",
            kind=kind,
            sample=raw,
        )
        return data.decode("utf-8", "replace")

    # -- the end

    def nothing(self, code: Code, path: str, message: str) -> None:
        """Reject the entity: it holds nothing (``code``), or it could not be looked at."""
        if any(issue.code in _REFUSALS for issue in self.issues):
            code, message = Code.NOTHING_READABLE, "Nothing in the directory could be read."
        self.add(code, path, message, kind=self.kind)

    def close(self, record: T | None) -> Extracted[T]:
        """Return the reading. Without a record, everything that was found is rejected."""
        if record is None:
            rejected = self._rejected()
            for kind in sorted(self.found, key=lambda k: k.value):
                missing = self.found[kind] - rejected[kind]
                if missing > 0:
                    self.add(
                        Code.LOST_WITH_OWNER,
                        "",
                        f"It belongs to the {self.kind.value} {self.entity_id!r}, "
                        "of which nothing could be kept.",
                        kind=kind,
                        count=missing,
                    )
            self.merged.clear()
        return Extracted(
            record=record,
            found={kind: n for kind, n in self.found.items() if n},
            merged={kind: n for kind, n in self.merged.items() if n},
            issues=tuple(self.issues),
            files_read=self.files_read,
            files_referred=self.files_referred,
            files_ignored=self.files_ignored,
            files_found=self.files_found,
            folders_missed=self.folders_found - self.folders_listed,
            size_bytes=self.size_bytes,
        )

    def _rejected(self) -> defaultdict[Kind, int]:
        rejected: defaultdict[Kind, int] = defaultdict(int)
        for issue in self.issues:
            if issue.kind is not None and issue.code.severity is Severity.REJECTED:
                rejected[issue.kind] += issue.count
        return rejected


# --------------------------------------------------------------- issues of ignored things


def ignored_files(folder: str, names: Sequence[str], entity_id: str = "") -> Issue:
    """Return the issue that names files of a folder that are not MLflow's."""
    listed = ", ".join(shown(name) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    path = os.path.join(folder, names[0]) if len(names) == 1 else folder
    verb = "is not a file" if len(names) == 1 else "are not files"
    message = f"{listed}{more} {verb} of MLflow's layout."
    return Issue(Code.FILE_IGNORED, path, message, "", None, entity_id, len(names))


def ignored_tree(path: str, tree: Tree, entity_id: str = "") -> list[Issue]:
    """Return the issues that name a directory that is not MLflow's, and what is odd in it."""
    some = f": {', '.join(shown(name) for name in tree.names)}" if tree.names else ""
    more = ", …" if tree.files > len(tree.names) else ""
    message = f"The directory is not of MLflow's layout; it holds {tree.files:,} files{some}{more}."
    code = Code.DIRECTORY_IGNORED
    if tree.metas:
        code = Code.RUNS_IGNORED
        message += f" {tree.metas:,} of them are named meta.yaml, as those of runs are."
    issues = [Issue(code, path, message, "", None, entity_id, max(tree.files, 1))]
    issues += [odd_issue(odd, entity_id) for odd in tree.odd]
    issues += [unreadable(folder, error, entity_id) for folder, error in tree.errors]
    return issues


def odd_issue(odd: Odd, entity_id: str = "", files: int = 0) -> Issue:
    """Return the issue for a link or special file that is not followed or opened.

    ``files`` are those that are counted as ignored because of it.
    """
    if odd.inside:
        code, kept = Code.LINK_INSIDE_STORE, "its target is read where it really lies"
    elif "link" in odd.what:
        code, kept = Code.LINK_NOT_FOLLOWED, ""
    else:
        code, kept = Code.SPECIAL_FILE_IGNORED, ""
    message = f"It is {odd.what}; it was not opened."
    return Issue(code, odd.path, message, kept, None, entity_id, max(files, 1))


def unreadable(folder: str, error: OSError, entity_id: str = "") -> Issue:
    """Return the issue for a directory that can't be listed."""
    message = f"The directory can't be listed: {reason(error)}."
    return Issue(Code.DIRECTORY_UNREADABLE, folder, message, "", None, entity_id)
