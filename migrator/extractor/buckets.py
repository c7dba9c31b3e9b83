"""File stores in object stores: ``s3://``, ``gs://``, ``az://`` and whatever else fsspec reads.

Such a store is mirrored into a temporary folder first and then read like any other
(``BucketSource``). Everything below the address is listed in bulk. Each object becomes a file of
its size and time, and the files that must be read are fetched, many at once (``must_fetch``).
The others, mostly artifacts, stay sparse files without content. Nothing is written to the source.
What is printed and stored has addresses in it, because ``Mirror`` translates.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from migrator.credentials import masked
from migrator.errors import MigrateError, SourceError
from migrator.extractor.filestore.must_fetch import must_fetch
from migrator.extractor.filestore.source import FileStoreSource
from migrator.extractor.mirrors import (
    Mirror,
    MirroredSource,
    Object,
    check_room,
    fetch,
    place,
    temporary_folder,
)
from migrator.extractor.source import Progress, Wanted
from migrator.issues import Code, Issue
from migrator.model import Entry, Location, RunRecord
from migrator.object_stores import RemoteFolder, explained, first_line, is_object_store

BESIDE = "mlartifacts"  # what belongs to a store and lies beside it
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")


class BucketSource(MirroredSource):
    """A file store whose ``root`` lies in a mirror of an address."""

    def locate_run(self, entry: Entry, run: RunRecord) -> Location:
        """Also finds a run's empty folder of artifacts, which no bucket can have."""
        location = FileStoreSource.locate_run(self, entry, run)
        return replace(location, found=location.found or location.home)


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
            yield BucketSource(store.root, store.artifact_roots, mirror=mirror)
        except MigrateError as error:
            raise type(error)(mirror.named(error.what), todo=mirror.named(error.todo)) from error


def is_bucket(source: str) -> bool:
    """Whether a source is an address that fsspec reads, and not a local file of that name."""
    return not os.path.lexists(source) and is_object_store(source)


@contextlib.contextmanager
def mirrored(
    source: str, reads: Callable[[str, int], bool], progress: Progress
) -> Iterator[Mirror]:
    """Yield the mirror of an address; it is removed when the block ends, however it ends.

    ``reads`` decides by an object's path (below the source's parent) and its size in bytes
    whether its content is fetched. Raises SourceError: no such scheme or package, no such place,
    no permission, no network, no room.
    """
    with explained(source, SourceError):
        remote = RemoteFolder(source, SourceError)
        base, _, name = remote.uri.rpartition("/")
        if name in ("", ".", ".."):
            raise SourceError(
                f"{masked(source)} names no place.", todo="Give the bucket and the path in it."
            )
        objects = _listed(remote, name, progress)
    with temporary_folder() as folder:
        with explained(source, SourceError):
            mirror = Mirror(base, folder, name, remote.account)
            placed, refused = place(mirror, objects)
            wanted = [o for o in placed if o.size and reads(o.path, o.size)]
            check_room(folder, wanted)
            del placed, objects  # only what is still to be fetched is kept in memory
            lost = fetch(remote, mirror, wanted, progress).lost
            refused += [(object_, _loss(mirror, object_, error)) for object_, error in lost]
        yield replace(
            mirror,
            files=len(refused),
            size_bytes=sum(object_.size for object_, _ in refused),
            issues=tuple(issue for _, issue in refused),
        )


def _listed(remote: RemoteFolder, name: str, progress: Progress) -> list[Object]:
    """List everything below the source, and a server's artifacts (``BESIDE``) beside it."""
    progress("listing", 0, 0)
    found = list_objects(remote, remote.root, name)
    if not found:
        remote.filesystem.info(remote.root)  # says what is wrong, if anything
    above, _, last = remote.root.rpartition("/")
    if above.strip("/") and last != BESIDE:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            found += list_objects(remote, f"{above}/{BESIDE}", BESIDE)
    return found


def list_objects(remote: RemoteFolder, root: str, name: str) -> list[Object]:
    """List everything below a folder; the paths of the objects begin with ``name``.

    Raises SourceError where it is a file, and whatever the provider's package raises.
    """
    objects = []
    for key, info in remote.own_filesystem.find(root, detail=True).items():
        if key.rstrip("/") == root:
            if info["type"] == "file" and info.get("size"):
                raise SourceError(
                    f"{masked(remote.address)} is not a folder.",
                    todo="Give the address of the mlruns folder itself.",
                )
            continue
        below = key.removeprefix(f"{root}/")
        path = f"{name}/{below}" if name else below
        size = info.get("size")
        known = 1 if size is None else size  # without a known size it may hold something
        objects.append(Object(key, path, known, _changed(info), size is not None))
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


def _loss(mirror: Mirror, object_: Object, error: OSError) -> Issue:
    uri = f"{mirror.base}/{object_.path}"
    if isinstance(error, FileNotFoundError):
        return Issue(Code.FILE_VANISHED, uri, "It vanished while the store was being read.")
    return Issue(Code.FILE_UNREADABLE, uri, f"It can't be read: {first_line(error)}.")
