"""Sources that are no local folders: ``s3://``, ``gs://``, ``az://`` and whatever fsspec reads.

A store there is mirrored into a temporary folder and read from it as any other: everything below
the address is listed in bulk; each object becomes a file of its size and time; and those that are
to be read are fetched, many at once. The others, artifacts mostly, stay files without content
(sparse ones). Nothing is written to the source, and what is printed and stored speaks of addresses:
``Mirror`` translates. Nothing here knows what a file store is: what is to be read, the caller says.
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
from migrator.issues import Code, Issue
from migrator.signals import point_of_no_return

Progress = Callable[[str, int, int], None]  # stage, done, total (0 when it is not known)

BESIDE = "mlartifacts"  # what belongs to a store and lies beside it
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"} | dict.fromkeys(
    ("az", "abfs", "abfss"), "azure"
)
# Schemes of fsspec's that mean something else to MLflow's users, or the machine itself.
_NOT_REMOTE = frozenset({"file", "local", "http", "https"})
_ALIASES = {"s3a": "s3", "gcs": "gs"}  # how MLflow calls them
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_AT_ONCE = 32  # requests; threads that only wait
_AT_ONCE_OF_OWN = 8  # the same, where each thread needs a connection of its own
_SPARE_BYTES = 16 << 20  # what the temporary disk should have left
_BLOCK_BYTES = 4096  # that a small file takes on a disk
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
# What the operating system says of a name that it can't have.
_NAME_ERRORS = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EEXIST})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Mirror:
    """A local stand-in of what lies below an address.

    ``folder`` stands for ``base``, the address above that of the source, so that what lies beside
    the source has a place too. Plain values: it goes to other processes.
    """

    base: str  # such as s3://bucket/project; s3:/ above a whole bucket
    folder: str  # absolute; removed at the end
    name: str  # of the source, below both
    account: str | None = None  # Azure's, if the scheme is one of its
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
        """Return a text with addresses in the place of paths in the mirror."""
        return text.replace(self.folder, self.base)

    def local(self, uri: str) -> str:
        """Return the path in the mirror that an address means, another text as it is."""
        inside = uri.removeprefix(f"{self.base}/")
        return uri if inside == uri else f"{self.folder}/{inside}"

    def address(self, path: str) -> str | None:
        """Return the location that MLflow opens for a path, None for one outside of the mirror.

        MLflow takes an object's key from it as it stands: nothing is escaped. Its schemes are
        those of ``mlflow.store.artifact.artifact_repository_registry`` (3.9): Azure's are other
        ones than fsspec's.
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


def is_remote(source: str) -> bool:
    """Tell whether a source is to be fetched: an address, of a scheme that fsspec knows.

    The providers that have an extra of ours count also where nothing is installed.
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

    ``reads`` says of an object, by its path below the source's parent and its size in bytes,
    whether its content is to be fetched. Raises SourceError: no such scheme or package, no such
    place, no permission, no network, no room.
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
    """Something else went wrong, or a signal came, while an object was being fetched."""


class Object(NamedTuple):
    """An object, or a file of a remote file system."""

    key: str  # what its file system calls it
    path: str  # below the parent of the source
    size: int  # bytes
    changed: float | None  # seconds since the epoch


class _Remote:
    """A place that fsspec reads. Raises whatever its package raises."""

    def __init__(self, source: str) -> None:
        match = _URI.match(source)
        assert match is not None, source
        self._scheme = match[1].lower()
        if "::" in source:
            raise SourceError(
                f"{masked(source)} is a chain of addresses.", todo="Give a plain one."
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
        """Write an object's content into a file; ``check`` is called now and then, to stop it."""
        from fsspec.callbacks import Callback

        filesystem = self._shared
        if not filesystem.async_impl:  # such as a connection that two threads must not share
            if not hasattr(self._own, "filesystem"):
                self._own.filesystem = self._open()
            filesystem = self._own.filesystem
        hook = Callback(hooks={"check": lambda *_, **__: check()})
        filesystem.get_file(object_.key, to, callback=hook)

    def listed(self, progress: Progress) -> list[Object]:
        """Return everything below the source, and what lies beside it and belongs to it."""
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
            # What a file system does not tell the size of may hold something: it is fetched.
            objects.append(Object(key, path, 1 if size is None else size, _changed(info)))
        return objects


def _changed(info: dict[str, Any]) -> float | None:
    """Return when an object was changed; each file system has a name of its own for it."""
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
    """Return an address without the password in it, which would end in report and database.

    Raises SourceError where it isn't clear what that is.
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
    """Say in one sentence what is wrong when a remote file system is asked."""
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
    """Make a file of its size for each object; return those, and the ones that have no place.

    Every folder and file is made once, and must be new: so names that this file system takes for
    one (by their letters) are found wherever it does so.
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
    """Return why a part of a path can't be the name of a file or folder, empty if it can."""
    if name in ("", ".", ".."):
        return f"a part of its name is {name!r}"
    if "\x00" in name or os.path.basename(name) != name:  # a drive, on Windows
        return "its name has a character that a file's can't have"
    return ""


def _make(mirror: Mirror, folder: str, made: dict[str, str]) -> str:
    """Make a folder, and those above it; return why it can't be, empty if it can."""
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
    """Return what is wrong with a name in words; raise what is wrong with anything else."""
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
    """Fetch contents, many at once; return the objects that are gone or that nobody may read.

    As with a local file, what counts is what is there when it is read. Any other failure ends
    it: the network is gone, and would be for all others. So does it when all is denied, or by
    now what was given before: credentials expire.
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
