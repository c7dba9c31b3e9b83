"""File stores in object stores: ``s3://``, ``gs://``, ``az://`` and whatever else fsspec reads.

Such a store is mirrored into a temporary folder first and then read like any other
(``BucketSource``). Everything below the address is listed in bulk. Each object becomes a file of
its size and time, and the files that must be read are fetched, many at once (``must_fetch``).
The others, mostly artifacts, stay sparse files without content. Nothing is written to the source.
What is printed and stored has addresses in it, because ``Mirror`` translates.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from migrator.credentials import has_secret_parameter, masked, password_of, without_secrets
from migrator.errors import MigrateError, SourceError
from migrator.extractor.filestore.must_fetch import must_fetch
from migrator.extractor.filestore.source import FileStoreSource
from migrator.extractor.source import Progress, Wanted
from migrator.issues import Code, Issue
from migrator.model import Entry, Location, RunRecord, SourceIndex
from migrator.signals import point_of_no_return

BESIDE = "mlartifacts"  # what belongs to a store and lies beside it
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"} | dict.fromkeys(
    ("az", "abfs", "abfss"), "azure"
)
# Schemes that fsspec knows, but that mean something else to MLflow's users or this machine.
_NOT_REMOTE = frozenset({"file", "local", "http", "https"})
_ALIASES = {"s3a": "s3", "gcs": "gs"}  # MLflow's names of them
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_AT_ONCE = 32  # requests; threads that only wait
_AT_ONCE_OF_OWN = 8  # where each thread needs its own connection
_SPARE_BYTES = 16 << 20  # what the temporary disk should have left
_BLOCK_BYTES = 4096  # a small file takes as much on disk
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
# The operating system's errors for a name that it can't have.
_NAME_ERRORS = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EEXIST})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


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
        """The location that MLflow opens for a path, None for one outside the mirror.

        MLflow takes the object's key from it without unescaping. The schemes are those of
        ``mlflow.store.artifact.artifact_repository_registry`` (3.9); Azure's differ from fsspec's.
        """
        if not path.startswith(self.folder + os.sep):
            return None
        scheme, _, above = self.base.partition(":")
        whole = f"{above.lstrip('/')}/{path[len(self.folder) + 1 :].replace(os.sep, '/')}"
        if self.account is not None:
            container, _, blob = whole.lstrip("/").partition("/")
            container = container.partition("@")[0]
            return f"wasbs://{container}@{self.account}.blob.core.windows.net/{blob}"
        return f"{_ALIASES.get(scheme, scheme)}://{whole.lstrip('/')}"


@dataclass(frozen=True)
class BucketSource(FileStoreSource):
    """A file store whose ``root`` lies in a mirror of an address."""

    mirror: Mirror | None = None  # never None; a field after those with defaults needs one

    def named(self, text: str) -> str:
        return self._mirror.named(text)

    def local(self, name: str) -> str:
        return self._mirror.local(name)

    def address(self, path: str) -> str | None:
        return self._mirror.address(path)

    def index(self, on_progress: Callable[[int], None] = lambda runs: None) -> SourceIndex:
        """Also counts and names the objects that have no place in the mirror."""
        index, mirror = FileStoreSource.index(self, on_progress), self._mirror
        return replace(
            index,
            files=index.files + mirror.files,
            size_bytes=index.size_bytes + mirror.size_bytes,
            ignored_files=index.ignored_files + mirror.files,
            issues=(*index.issues, *mirror.issues),
        )

    def locate_run(self, entry: Entry, run: RunRecord) -> Location:
        """Also finds a run's empty folder of artifacts, which no bucket can have."""
        location = FileStoreSource.locate_run(self, entry, run)
        return replace(location, found=location.found or location.home)

    @property
    def _mirror(self) -> Mirror:
        assert self.mirror is not None
        return self.mirror


@contextlib.contextmanager
def open_bucket(
    address: str, wanted: Wanted, *, whole: bool, progress: Progress
) -> Iterator[BucketSource]:
    """Yield the store at an address; its mirror is removed when the block ends.

    Artifacts are fetched if their text is ``wanted``, or all of them with ``whole``. Errors that
    the block raises name addresses. Raises SourceError.
    """

    def reads(path: str, size_bytes: int) -> bool:
        return whole or must_fetch(path, size_bytes, wanted)

    with mirrored(address, reads, progress) as mirror:
        try:
            store = FileStoreSource.open(mirror.path)
            yield BucketSource(store.root, store.artifact_roots, mirror)
        except MigrateError as error:
            raise type(error)(mirror.named(error.what), todo=mirror.named(error.todo)) from error


def is_bucket(source: str) -> bool:
    """Whether a source is an address that fsspec reads, and not a local file of that name.

    The providers that have an extra of ours count even where their package is not installed.
    """
    match = _URI.match(source)
    if match is None or os.path.lexists(source):
        return False
    scheme = match[1].lower()
    if scheme in _EXTRAS:
        return True
    if scheme in _NOT_REMOTE or importlib.util.find_spec("fsspec") is None:
        return False
    import fsspec

    return scheme in fsspec.available_protocols()


@contextlib.contextmanager
def mirrored(
    source: str, reads: Callable[[str, int], bool], progress: Progress
) -> Iterator[Mirror]:
    """Yield the mirror of an address; it is removed when the block ends, however it ends.

    ``reads`` decides by an object's path (below the source's parent) and its size in bytes
    whether its content is fetched. Raises SourceError: no such scheme or package, no such place,
    no permission, no network, no room.
    """
    with _asking(source):
        remote = _Remote(source)
        objects = remote.listed(progress)
    # A link on the way would make other paths of it, when links are resolved.
    folder = os.path.realpath(tempfile.mkdtemp(prefix="mlflow-migrate-"))
    try:
        with _asking(source):
            mirror = Mirror(remote.base, folder, remote.name, remote.account)
            placed, refused = _place(mirror, objects)
            wanted = [o for o in placed if o.size and reads(o.path, o.size)]
            _check_room(folder, wanted)
            del placed, objects  # only what is still to be fetched is kept in memory
            refused += _fetch(remote, mirror, wanted, progress)
        yield replace(
            mirror,
            files=len(refused),
            size_bytes=sum(object_.size for object_, _ in refused),
            issues=tuple(issue for _, issue in refused),
        )
    finally:
        with point_of_no_return() as begin:  # half a removal would leave the rest for ever
            begin()
            shutil.rmtree(folder, ignore_errors=True)


# ------------------------------------------------------------------------ the other side


class _Stopped(Exception):
    """Fetching ended early: another object failed, or a signal came."""


class Object(NamedTuple):
    """An object, or a file of a remote file system."""

    key: str  # what its file system calls it
    path: str  # below the parent of the source
    size: int  # bytes
    changed: float | None  # seconds since the epoch


class _Remote:
    """A place that fsspec reads. Its methods raise whatever the provider's package raises."""

    def __init__(self, source: str) -> None:
        match = _URI.match(source)
        assert match is not None, source
        self._scheme = match[1].lower()
        if "::" in source:
            raise SourceError(
                f"{masked(source)} is a chain of addresses.", todo="Give one address."
            )
        shown = _without_login(source.rstrip("/"))
        uri = self._scheme + shown[len(match[1]) :]
        self.base, self.name = uri.rpartition("/")[0], uri.rpartition("/")[2]
        if not shown[match.end() :] or self.name in ("", ".", ".."):
            raise SourceError(
                f"{masked(source)} names no place.", todo="Give the bucket and the path in it."
            )
        self._source = self._scheme + source[len(match[1]) :]
        self._own = threading.local()
        self._shared = self._open()
        self._root: str = self._shared._strip_protocol(self._source).rstrip("/")
        azure = _EXTRAS.get(self._scheme) == "azure"
        self.account = getattr(self._shared, "account_name", None) if azure else None

    def _open(self) -> Any:
        import fsspec

        # Without the cache of listings, which holds each of them for good.
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if _EXTRAS.get(self._scheme) == "s3":  # whose client has ten connections by default
            chosen = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
            options["config_kwargs"] = {"max_pool_connections": _AT_ONCE, **chosen}
        filesystem, _ = fsspec.core.url_to_fs(self._source, **options)
        return filesystem

    @property
    def at_once(self) -> int:
        """How many requests may be under way."""
        return _AT_ONCE if self._shared.async_impl else _AT_ONCE_OF_OWN

    def fetch(self, object_: Object, to: str, check: Callable[[], None]) -> None:
        """Write an object's content into a file; ``check`` is called now and then and may raise."""
        from fsspec.callbacks import Callback

        filesystem = self._shared
        if not filesystem.async_impl:  # such as a connection that two threads must not share
            if not hasattr(self._own, "filesystem"):
                self._own.filesystem = self._open()
            filesystem = self._own.filesystem
        hook = Callback(hooks={"check": lambda *_, **__: check()})
        filesystem.get_file(object_.key, to, callback=hook)

    def listed(self, progress: Progress) -> list[Object]:
        """List everything below the source, and a server's artifacts (``BESIDE``) beside it."""
        progress("listing", 0, 0)
        found = self._below(self._root, self.name)
        if not found:
            self._shared.info(self._root)  # says what is wrong, if anything
        above, _, last = self._root.rpartition("/")
        if above.strip("/") and last != BESIDE:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                found += self._below(f"{above}/{BESIDE}", BESIDE)
        return found

    def _below(self, root: str, name: str) -> list[Object]:
        objects = []
        for key, info in self._shared.find(root, detail=True).items():
            if key.rstrip("/") == root:
                if info["type"] == "file" and info.get("size"):
                    raise SourceError(
                        f"{masked(self._source)} is not a folder.",
                        todo="Give the address of the mlruns folder itself.",
                    )
                continue
            path = f"{name}/{key.removeprefix(f'{root}/')}"
            size = info.get("size")
            # An object without a known size may hold something: it is fetched.
            objects.append(Object(key, path, 1 if size is None else size, _changed(info)))
        return objects


def _changed(info: dict[str, Any]) -> float | None:
    """When an object was changed; each file system has its own name for that."""
    for name in _TIMES:
        value = info.get(name)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return None


def _without_login(source: str) -> str:
    """An address without its password, which would end in the report and database otherwise.

    Raises SourceError where it isn't clear which part is the password.
    """
    scheme, _, rest = source.partition("://")
    authority, slash, path = rest.partition("/")
    login, at, host = authority.rpartition("@")
    user, colon, port = (login or authority).partition(":")
    unclear = not at and bool(colon) and not port.isdecimal() and "@" in path
    if unclear or has_secret_parameter(source):
        raise SourceError(
            f"{masked(source)} holds a password or token that would end in the database.",
            todo="Give it by the environment or fsspec's configuration; in a password write %40 "
            "for @, %2F for / and %3A for :.",
        )
    return f"{scheme}://{user}@{host}{slash}{path}" if at else source


@contextlib.contextmanager
def _asking(source: str) -> Iterator[None]:
    """Turn any failure of a remote file system into a SourceError of one sentence."""
    shown = masked(source)

    def said(error: BaseException) -> str:
        return without_secrets(_first_line(error), [password_of(source)])

    scheme = source.partition(":")[0].lower()
    try:
        yield
    except MigrateError:
        raise
    except ImportError as error:
        raise SourceError(
            f"{shown} can't be read: a package for {scheme}:// is not installed ({said(error)}).",
            todo=f"Install it: pip install 'mlflow-migrate[{_EXTRAS.get(scheme, 'remote')}]'",
        ) from None  # it may name the login
    except FileNotFoundError:
        raise SourceError(
            f"{shown} does not exist.", todo="Check the bucket and the path."
        ) from None  # it may name the login
    except PermissionError as error:
        raise SourceError(
            f"{shown} can't be read: access is denied ({said(error)}).",
            todo="Check the credentials, and that they may list and get objects there.",
        ) from None  # it may name the login
    except Exception as error:  # noqa: BLE001  # each provider's package raises its own
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise SourceError(
                f"{shown} can't be fetched: {tempfile.gettempdir()} is full.",
                todo="Make room, or set TMPDIR to a folder on another disk.",
            ) from None  # it may name the login
        raise SourceError(
            f"{shown} can't be read: {type(error).__name__}: {said(error)}.",
            todo="Check the credentials and the network; nothing was written.",
        ) from None  # it may name the login


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


# ------------------------------------------------------------------------------ this side


def _place(
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


def _check_room(folder: str, wanted: Sequence[Object]) -> None:
    needed = sum(object_.size + _BLOCK_BYTES for object_ in wanted)
    free = shutil.disk_usage(folder).free
    if needed + _SPARE_BYTES > free:
        raise SourceError(
            f"{len(wanted):,} files ({needed:,} bytes) are to be fetched, and "
            f"{tempfile.gettempdir()} has {free:,} bytes free.",
            todo="Make room, or set TMPDIR to a folder on another disk.",
        )


def _fetch(
    remote: _Remote, mirror: Mirror, wanted: Sequence[Object], progress: Progress
) -> list[tuple[Object, Issue]]:
    """Fetch contents, many at once. Returns the objects that vanished or are denied.

    Any other failure ends it, because the network would fail for all other objects too. So does
    a denial of every object, or of one that was given before: credentials expire.
    """
    lost: list[tuple[Object, Issue]] = []
    queue, lock, stop = iter(wanted), threading.Lock(), threading.Event()
    done = 0
    given: Object | None = None
    denial: PermissionError | None = None

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
            path = f"{mirror.folder}/{object_.path}"
            try:
                remote.fetch(object_, path, check)
                _set_time(mirror, object_)
                given = object_
            except (FileNotFoundError, PermissionError) as error:
                os.unlink(path)  # a file without content must not be read
                lost.append((object_, _loss(mirror, object_, error)))
                if isinstance(error, PermissionError):
                    denial = error
            with lock:
                done += 1

    with ThreadPoolExecutor(remote.at_once, "fetch") as threads:
        workers = [threads.submit(work) for _ in range(min(remote.at_once, len(wanted)))]
        try:
            running = set(workers)
            while running:
                finished, running = wait(running, timeout=0.2)
                for worker in finished:
                    worker.result()
                progress("fetching", done, len(wanted))
        finally:
            stop.set()
    if denial is not None:
        if given is None:
            raise denial
        remote.fetch(given, f"{mirror.folder}/{given.path}", lambda: None)
    return lost


def _loss(mirror: Mirror, object_: Object, error: OSError) -> Issue:
    uri = f"{mirror.base}/{object_.path}"
    if isinstance(error, FileNotFoundError):
        return Issue(Code.FILE_VANISHED, uri, "It vanished while the store was being read.")
    return Issue(Code.FILE_UNREADABLE, uri, f"It can't be read: {_first_line(error)}.")
