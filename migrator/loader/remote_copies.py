"""Copies artifacts to an object store: only checked objects; a second call adds the rest.

An object appears when all of it was sent. Each is checked by size and checksum: by the MD5 that the
store itself tells, or else by reading it back. So a killed copy continues where it was.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from migrator.errors import TargetError
from migrator.issues import Code, Issue
from migrator.loader.artifacts import CopyResult, Listing, Unreadable, blocks
from migrator.model import ArtifactCopy
from migrator.object_stores import EXTRAS, WRITING, RemoteFolder, explained

_BLOCK_BYTES = 1 << 20


class _Job(NamedTuple):
    """A file to copy, and the key of its copy."""

    entity_id: str
    path: str
    key: str
    size_bytes: int


class _Done(NamedTuple):
    """What became of a job."""

    job: _Job
    copied_bytes: int | None  # None if the copy was there already
    replaced: bool = False
    problem: str = ""  # why the file could not be read


@dataclass(frozen=True, slots=True)
class _Content:
    """The size and checksums of a file."""

    size_bytes: int
    md5: bytes
    sha256: bytes

    @classmethod
    def of(cls, content: Iterable[bytes]) -> _Content:
        """Read a content. Raises what the reading raises."""
        size_bytes, md5 = 0, hashlib.md5(usedforsecurity=False)
        sha256 = hashlib.sha256()
        for block in content:
            size_bytes += len(block)
            md5.update(block)
            sha256.update(block)
        return cls(size_bytes, md5.digest(), sha256.digest())


def copy_to_object_store(
    copies: Sequence[ArtifactCopy],
    address: str,
    files_of: Listing,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CopyResult:
    """Copy directories of artifacts to places below an address; ``files_of`` lists their files.

    One that is there with the same content is not copied again; one with another content is
    replaced, with an issue. A file that can't be read is an issue. ``on_progress`` gets the bytes
    done, and those of all files. Raises TargetError when the copies can't be written.
    """
    result = CopyResult()
    with explained(address, TargetError, WRITING):
        copier = _Copier.open(address)
        jobs = list(_jobs(copies, address, copier.folder.root, files_of))
        total = sum(job.size_bytes for job in jobs)
        done_bytes = 0
        with ThreadPoolExecutor(copier.folder.at_once, "copy") as threads:
            try:
                for done in threads.map(copier.copy, jobs):
                    _add(result, done)
                    done_bytes += done.job.size_bytes
                    on_progress(done_bytes, total)
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
    return result


def _jobs(
    copies: Iterable[ArtifactCopy], address: str, root: str, files_of: Listing
) -> Iterator[_Job]:
    for copy in copies:
        folder = root + copy.target.removeprefix(address)
        for relative, path, size_bytes in files_of(copy):
            yield _Job(copy.entity_id, path, f"{folder}/{relative}", size_bytes)


def _add(result: CopyResult, done: _Done) -> None:
    job = done.job
    if done.problem:
        result.failed += 1
        message = f"It can't be read: {done.problem}."
        kept = "the file where it is"
        result.issues.append(
            Issue(Code.ARTIFACT_NOT_COPIED, job.path, message, kept, entity_id=job.entity_id)
        )
    elif done.copied_bytes is None:
        result.already_there += 1
    else:
        result.files += 1
        result.bytes += done.copied_bytes
    if done.replaced:
        message = f"It was not the same as {job.path}."
        result.issues.append(
            Issue(
                Code.ARTIFACT_COPY_REPLACED,
                job.key,
                message,
                "the artifact",
                entity_id=job.entity_id,
            )
        )


@dataclass(frozen=True, slots=True)
class _Copier:
    """Copies single files into a folder of an object store; several threads may use it."""

    folder: RemoteFolder
    there: Mapping[str, dict[str, Any]]  # what the folder holds, by key

    @classmethod
    def open(cls, address: str) -> _Copier:
        """List what is below an address."""
        folder = RemoteFolder(address, TargetError)
        there: Mapping[str, dict[str, Any]] = {}
        with suppress(FileNotFoundError):  # object stores have no empty folders
            there = folder.filesystem.find(folder.root, detail=True)
        return cls(folder, there)

    def copy(self, job: _Job) -> _Done:
        """Copy a file unless it is there. Raises TargetError and what the store raises."""
        try:
            content = _Content.of(blocks(job.path))
        except Unreadable as error:
            return _Done(job, None, problem=str(error))
        info = self.there.get(job.key)
        if info is not None and self._is_same(job.key, info, content):
            return _Done(job, None)
        filesystem = self.folder.own_filesystem
        if self.folder.scheme not in EXTRAS:  # object stores have no folders, and make a bucket
            filesystem.makedirs(job.key.rpartition("/")[0], exist_ok=True)
        filesystem.put_file(job.path, job.key)
        if not self._is_same(job.key, filesystem.info(job.key), content):
            raise TargetError(
                f"{job.key} could not be written: what was read back differs from what was sent.",
                todo="See that nothing else writes there, then convert again.",
            )
        return _Done(job, content.size_bytes, replaced=info is not None)

    def _is_same(self, key: str, info: Mapping[str, Any], content: _Content) -> bool:
        if info.get("size") != content.size_bytes:
            return False
        if content.md5 in _told_md5(info):
            return True
        # Of an encrypted object or one sent in parts the store tells another checksum.
        with self.folder.own_filesystem.open(key, "rb") as file:
            return _Content.of(iter(lambda: file.read(_BLOCK_BYTES), b"")) == content


def _told_md5(info: Mapping[str, Any]) -> list[bytes]:
    """The MD5 that a store tells of an object, in its own way."""
    told = []
    tag = str(info.get("ETag", "")).strip('"')  # S3
    if len(tag) == 32:
        with suppress(ValueError):
            told.append(bytes.fromhex(tag))
    google = info.get("md5Hash")
    if isinstance(google, str):
        with suppress(ValueError):
            told.append(base64.b64decode(google))
    azure = info.get("content_settings")
    if isinstance(azure, Mapping) and azure.get("content_md5"):
        told.append(bytes(azure["content_md5"]))
    return told
