"""Finding where a run's artifacts really lie, and reading the texts among them.

Recorded locations are nearly always stale (the store was moved), so directories come first: the
run's own ``artifacts/``, then a server's ``mlartifacts``, then the recorded location.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Callable, Sequence
from typing import NamedTuple

from migrator.extractor.files import (
    Account,
    FileTooLarge,
    Odd,
    read_bytes,
    reason,
    scan,
    shown,
)
from migrator.issues import Code
from migrator.model import ArtifactFile


def find_artifact_dir(
    account: Account,
    own: str | None,
    parts: tuple[str, ...],
    artifact_roots: Sequence[str],
    recorded_uri: str,
) -> str | None:
    """Return the directory that holds an entity's artifacts, None where there is none.

    ``parts`` is the path below an artifact root. The recorded location counts only if its last
    two parts are the entity's own, as MLflow makes them: a store must not be able to make us
    read any directory it names.
    """
    served = [os.path.join(root, *parts) for root in artifact_roots]
    if own is not None and _has_files(own):
        other = next((path for path in served if _has_files(path)), None)
        if other is not None:
            account.add(
                Code.ARTIFACTS_IN_TWO_PLACES,
                own,
                f"There are artifacts here and in {shown(other)}.",
                kept="those here",
            )
        return own
    recorded = local_path(recorded_uri)
    if recorded is not None and recorded != own and _ends_with(recorded, parts[-2:]):
        served.append(recorded)
    return next((path for path in served if _has_files(path)), own)


def local_path(uri: str) -> str | None:
    """Return the local path of a ``file:`` URI or a plain absolute path, None for others."""
    if uri.startswith("file:"):
        rest = re.sub(r"^//(?:localhost)?(?=/)", "", uri[5:])
        decoded = urllib.parse.unquote(rest)
        uri = rest if os.path.isdir(rest) else decoded
    if "\x00" in uri or not os.path.isabs(uri):
        return None
    return os.path.normpath(uri)


def _ends_with(path: str, parts: tuple[str, ...]) -> bool:
    return tuple(path.replace("\\", "/").split("/")[-len(parts) :]) == parts


def _has_files(path: str) -> bool:
    todo = [path]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        return True
                    todo.append(entry.path)
        except OSError:
            continue
    return False


class Artifacts(NamedTuple):
    """The files below an artifact directory, sorted by path."""

    files: tuple[ArtifactFile, ...]
    paths: tuple[str, ...]  # of the same files, to open


def list_artifacts(account: Account, directory: str | None, *, own: str | None) -> Artifacts:
    """Return the files below an artifact directory.

    Only those in the entity's ``own`` directory belong to the census of its files.
    """
    if own is not None and directory != own:  # nothing in it, or it would have been taken
        account.files_referred += len(_walk(account, own, account.bound))
    if directory is None:
        return Artifacts((), ())
    found = _walk(account, directory, account.bound if directory == own else directory)
    if directory == own:
        account.files_referred += len(found)
    found.sort(key=lambda pair: pair[0].path)
    return Artifacts(tuple(file for file, _ in found), tuple(path for _, path in found))


def _walk(account: Account, directory: str, bound: str) -> list[tuple[ArtifactFile, str]]:
    found: list[tuple[ArtifactFile, str]] = []
    todo = [(directory, "")]
    while todo:
        path, prefix = todo.pop()
        listing = scan(path, bound)
        if listing.error is not None:
            account.add(
                Code.DIRECTORY_UNREADABLE,
                path,
                f"The directory can't be listed: {reason(listing.error)}.",
            )
        for odd in listing.odd:
            _name_link(account, odd)
        for name, file in listing.files:
            try:
                size = os.lstat(file).st_size
            except OSError:
                size = 0
            found.append((ArtifactFile(prefix + name, size), file))
        todo += [(child, f"{prefix}{name}/") for name, child in listing.dirs]
    return found


def _name_link(account: Account, odd: Odd) -> None:
    account.add(Code.ARTIFACT_LINK, odd.path, f"It is {odd.what}; it was not followed.")


def read_texts(
    account: Account, artifacts: Artifacts, wanted: Callable[[str], bool], limit_bytes: int
) -> dict[str, str]:
    """Return the texts of the artifacts that are wanted, by relative path."""
    texts: dict[str, str] = {}
    for artifact, path in zip(*artifacts, strict=True):
        if not wanted(artifact.path):
            continue
        try:
            data = read_bytes(path, limit_bytes)
        except FileTooLarge as error:
            account.add(Code.ARTIFACT_NOT_TEXT, path, f"It is too large: {error}.")
            continue
        except OSError as error:
            account.add(Code.ARTIFACT_UNREADABLE, path, f"It can't be read: {reason(error)}.")
            continue
        text = _decode(account, path, data)
        if text is not None:
            texts[artifact.path] = text
    return texts


def _decode(account: Account, path: str, data: bytes) -> str | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # a Windows editor or PowerShell
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            return account.repaired_text(data, path, None)
    if b"\x00" in data:
        account.add(Code.ARTIFACT_NOT_TEXT, path, "It is binary: it holds NUL bytes.")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return account.repaired_text(data, path, None)
