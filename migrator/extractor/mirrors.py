"""Local copies of what lies on another side: each object is a file, fetched or without content.

A source that is not on this machine is read from such a copy, like any local folder. What is
printed and stored has addresses in it, because ``Mirror`` translates.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from migrator.counting import counted
from migrator.errors import SourceError
from migrator.extractor.filestore.source import FileStoreSource
from migrator.extractor.source import Progress
from migrator.issues import Code, Issue
from migrator.model import SourceIndex
from migrator.object_stores import mlflow_location
from migrator.signals import point_of_no_return

_SPARE_BYTES = 16 << 20  # what the temporary disk should have left
_BLOCK_BYTES = 4096  # a small file takes as much on disk
# The operating system's errors for a name that it can't have.
_NAME_ERRORS = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EEXIST})


class Object(NamedTuple):
    """An object, or a file of a remote file system."""

    key: str  # what its file system calls it
    path: str  # below the mirror's folder
    size: int  # bytes; 1 where it is not known, because it may hold something
    changed: float | None = None  # seconds since the epoch
    has_size: bool = True  # its size is known


class NotServed(OSError):
    """A server fails to send one object, though it sends others."""


class Remote(Protocol):
    """Where objects are fetched from."""

    @property
    def at_once(self) -> int:
        """How many requests may be under way."""

    def get(self, key: str, to: str, check: Callable[[], None]) -> None:
        """Write an object's content into a file.

        ``check`` is called now and then and may raise. Raises FileNotFoundError, PermissionError
        and NotServed where only this object is concerned.
        """


class _Stopped(Exception):
    """Fetching ended early: another object failed, or a signal came."""


@contextmanager
def temporary_folder() -> Iterator[str]:
    """Yield a new folder, links resolved; it is removed when the block ends, however it ends."""
    # A link on the way would make other paths of it, when links are resolved.
    folder = os.path.realpath(tempfile.mkdtemp(prefix="mlflow-migrate-"))
    try:
        yield folder
    finally:
        with point_of_no_return() as begin:  # half a removal would leave the rest for ever
            begin()
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Mirror:
    """A local copy of the tree below an address.

    ``folder`` stands for ``base``, the address above the source's, so that what lies beside the
    source has a place too. Plain values: it goes to other processes.
    """

    base: str  # such as s3://bucket/project; s3:/ above a whole bucket
    folder: str  # absolute; removed at the end
    name: str  # of the source, below both
    account: str | None = None  # Azure's, for its schemes
    files: int = 0  # objects that have no place in the mirror
    size_bytes: int = 0  # of those
    issues: tuple[Issue, ...] = ()  # each of those, named

    @property
    def uri(self) -> str:
        """The source's address."""
        return f"{self.base}/{self.name}"

    @property
    def path(self) -> str:
        """The folder that stands for the source."""
        return os.path.join(self.folder, self.name)  # paths are text here

    def named(self, text: str) -> str:
        """Replace paths in the mirror by addresses."""
        return text.replace(self.folder, self.base)

    def local(self, uri: str) -> str:
        """The path in the mirror that an address means; any other text as it is."""
        inside = uri.removeprefix(f"{self.base}/")
        return uri if inside == uri else f"{self.folder}/{inside}"

    def address(self, path: str) -> str | None:
        """The location that MLflow opens for a path, None for one outside the mirror."""
        if path != self.folder and not path.startswith(self.folder + os.sep):
            return None
        below = path[len(self.folder) :].replace(os.sep, "/")
        return mlflow_location(f"{self.base}{below}", self.account)


@dataclass(frozen=True)
class MirroredSource(FileStoreSource):
    """A file store whose ``root`` lies in a mirror."""

    mirror: Mirror | None = None  # never None; a field after those with defaults needs one

    @property
    def watched(self) -> tuple[str, ...]:
        return ()  # its files were made just now

    def named(self, text: str) -> str:
        return self._mirror.named(text)

    def local(self, name: str) -> str:
        return self._mirror.local(name)

    def address(self, path: str) -> str | None:
        return self._mirror.address(path)

    def index(self, on_progress: Callable[[int], None] = lambda runs: None) -> SourceIndex:
        """Also counts and names what has no place in the mirror."""
        index, mirror = FileStoreSource.index(self, on_progress), self._mirror
        return replace(
            index,
            files=index.files + mirror.files,
            size_bytes=index.size_bytes + mirror.size_bytes,
            ignored_files=index.ignored_files + mirror.files,
            issues=(*index.issues, *mirror.issues),
        )

    @property
    def _mirror(self) -> Mirror:
        assert self.mirror is not None
        return self.mirror


def place(
    mirror: Mirror, objects: Iterable[Object]
) -> tuple[list[Object], list[tuple[Object, Issue]]]:
    """Make a file of its size for each object.

    Every folder and file is made once, and must be new, so that names which this file system
    takes for one (they differ in upper and lower case only) are found. Returns the objects with a
    file, and the others with an issue each.
    """
    objects = sorted(objects, key=lambda each: each.path)
    folders = {mirror.name}
    for object_ in objects:
        above = object_.path.rpartition("/")[0]
        while above not in folders:
            folders.add(above)
            above = above.rpartition("/")[0]
    placed: list[Object] = []
    refused: list[tuple[Object, Issue]] = []
    made: dict[str, str] = {"": ""}  # folder -> why it can't be made
    _make(mirror, mirror.name, made)
    for object_ in objects:
        folder = object_.path.rpartition("/")[0]
        marker = object_.path.endswith("/") or object_.path in folders
        if marker and not object_.size:  # stands for a folder, as consoles make them
            why = _make(mirror, object_.path.rstrip("/"), made)
        elif object_.path in folders:
            why = "there is a folder of the same name"
        else:
            why = _unusable(object_.path.rpartition("/")[2]) or _make(mirror, folder, made)
            why = why or _make_file(mirror, object_)
        if why:
            refused.append((object_, _refusal(mirror, object_, why)))
        elif not marker:
            placed.append(object_)
    return placed, refused


def _refusal(mirror: Mirror, object_: Object, why: str) -> Issue:
    uri = f"{mirror.base}/{object_.path}"
    message = f"The object ({object_.size:,} bytes) has no place in a folder: {why}."
    return Issue(Code.OBJECT_NAME_UNUSABLE, uri, message)


def _unusable(name: str) -> str:
    """Why a part of a path can't be a file's or folder's name, empty if it can."""
    if name in ("", ".", ".."):
        return f"a part of its name is {name!r}"
    if "\x00" in name or os.path.basename(name) != name:  # a drive, on Windows
        return "its name has a character that a file's can't have"
    return ""


def _make(mirror: Mirror, folder: str, made: dict[str, str]) -> str:
    """Make a folder and those above it. Returns why that is impossible, empty if it is done."""
    missing = []
    while folder not in made:
        missing.append(folder)
        folder = folder.rpartition("/")[0]
    why = made[folder]
    for each in reversed(missing):
        why = why or _unusable(each.rpartition("/")[2])
        if not why:
            try:
                os.mkdir(f"{mirror.folder}/{each}")  # there are many
            except OSError as error:
                why = _why(error)
        made[each] = why
    return why


def _make_file(mirror: Mirror, object_: Object) -> str:
    try:
        with open(f"{mirror.folder}/{object_.path}", "xb") as file:  # likewise
            file.truncate(object_.size)
    except OSError as error:
        return _why(error)
    _set_time(mirror, object_)
    return ""


def _why(error: OSError) -> str:
    """Describe an error about a name; raise any other error."""
    if error.errno not in _NAME_ERRORS:
        raise error
    if error.errno == errno.EEXIST:
        return "to this file system its name is that of another one"
    return f"to this file system its name is unusable ({error.strerror})"


def _set_time(mirror: Mirror, object_: Object) -> None:
    if object_.changed is not None:
        os.utime(f"{mirror.folder}/{object_.path}", (object_.changed, object_.changed))


def check_room(folder: str, wanted: Sequence[Object]) -> None:
    """Raise SourceError unless the disk of a folder has room for these objects."""
    needed = sum(object_.size + _BLOCK_BYTES for object_ in wanted)
    free = shutil.disk_usage(folder).free
    if needed + _SPARE_BYTES > free:
        raise SourceError(
            f"{counted(len(wanted), 'file is', 'files are')} to be fetched ({needed:,} bytes), and "
            f"{tempfile.gettempdir()} has {free:,} bytes free.",
            todo="Make room, or set TMPDIR to a folder on another disk.",
        )


class Fetched(NamedTuple):
    """What became of objects that were to be fetched."""

    lost: list[tuple[Object, OSError]]  # vanished, denied or not served
    changed: list[Object]  # of another size than listed; what was there later was fetched


def fetch(remote: Remote, mirror: Mirror, wanted: Sequence[Object], progress: Progress) -> Fetched:
    """Fetch contents, many at once. An object that is lost (``Fetched``) has no file after it.

    Any other failure ends it, because the network would fail for all other objects too. So does
    a denial of every object, or of one that was given before: credentials expire. Then only what
    was fetched has a file.
    """
    fetched = Fetched([], [])
    queue, lock, stop = iter(wanted), threading.Lock(), threading.Event()
    done = 0
    given: Object | None = None
    denial: OSError | None = None

    def check() -> None:
        if stop.is_set():  # in the middle of gigabytes
            raise _Stopped

    def work() -> None:
        nonlocal done, given, denial
        while not stop.is_set():
            with lock:
                object_ = next(queue, None)
            if object_ is None:
                return
            try:
                if not _get(remote, mirror, object_, check):
                    fetched.changed.append(object_)
                given = object_
            except FileNotFoundError as error:
                fetched.lost.append((object_, error))
            except (PermissionError, NotServed) as error:
                fetched.lost.append((object_, error))
                denial = error
            with lock:
                done += 1

    try:
        with ThreadPoolExecutor(remote.at_once, "fetch") as threads:
            try:  # a signal may come while the first threads fetch and others are started
                n_workers = min(remote.at_once, len(wanted))
                running = {threads.submit(work) for _ in range(n_workers)}
                while running:
                    finished, running = wait(running, timeout=0.2)
                    for worker in finished:
                        worker.result()
                    progress("fetching", done, len(wanted))
            finally:
                stop.set()
    finally:
        for object_ in queue:  # nobody's turn came
            os.unlink(f"{mirror.folder}/{object_.path}")
    if denial is not None:
        if given is None:
            raise denial
        _get(remote, mirror, given, lambda: None)
    return fetched


def _get(remote: Remote, mirror: Mirror, object_: Object, check: Callable[[], None]) -> bool:
    """Fetch an object. False if it has changed since it was listed; then it is fetched twice.

    A client that resumes a broken download could have mixed two contents of another size.
    """
    path = f"{mirror.folder}/{object_.path}"
    try:
        remote.get(object_.key, path, check)
        is_same = not object_.has_size or os.path.getsize(path) == object_.size
        if not is_same:
            remote.get(object_.key, path, check)
        _set_time(mirror, object_)
    except BaseException:
        os.unlink(path)  # a file without its content must not be read
        raise
    return is_same
