"""Artifacts of a server in a local folder: every file by name and size, wanted ones with content.

They lie below the path that MLflow's own locations end in (``1/RUN/artifacts``), whatever location
the server records, so that they are found as those of a ``mlartifacts`` beside a database are.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from migrator.extractor.filestore.artifacts import own_folders, text_limit_bytes
from migrator.extractor.locations import local_path, path_parts
from migrator.extractor.rest.artifacts import ServedArtifacts, ServedFile
from migrator.extractor.rest.client import Client, Refused
from migrator.issues import Code, Issue, Kind
from migrator.model import Entry
from migrator.paths import openable_path

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Owner(NamedTuple):
    """Whose artifacts they are, and the location that the server records for them."""

    kind: Kind
    experiment_id: str
    entity_id: str
    location: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The end of a location that MLflow makes for it."""
        entry = Entry(self.entity_id, "", "", self.experiment_id)
        return (self.experiment_id, *own_folders(self.kind, entry))


class ArtifactMirror:
    """The folder with the artifacts of one server."""

    def __init__(
        self, client: Client, folder: str, wanted: Callable[[str], bool], *, whole: bool
    ) -> None:
        """``wanted`` chooses the files whose text is fetched; with ``whole`` all of them are."""
        self.issues: list[Issue] = []
        self._client = client
        self._folder = folder
        self._wanted = wanted
        self._whole = whole

    def add_all(self, owners: Iterable[Owner]) -> None:
        """List and fetch the artifacts of runs and logged models. Raises SourceError and OSError.

        What the server refuses is named; so is a file whose name leads out of its folder.
        """
        absent = (owner for owner in owners if not _is_here(owner))
        for issues in self._client.each(self._add, absent):
            self.issues += issues

    def _add(self, owner: Owner) -> list[Issue]:
        if owner.kind is Kind.RUN:
            served = ServedArtifacts.of_run(self._client, owner.entity_id)
        else:
            served = ServedArtifacts.of_model(self._client, owner.entity_id)
        issues = []
        try:
            for file in served.files():
                issue = self._add_file(owner, served, file)
                if issue is not None:
                    issues.append(issue)
        except Refused as error:
            if not error.is_unknown:
                message = f"The server does not list the artifacts ({error.status}): {error}."
                issues.append(self._issue(owner, "", message))
        return issues

    def _add_file(self, owner: Owner, served: ServedArtifacts, file: ServedFile) -> Issue | None:
        parts = file.path.split("/")
        if any(part in ("", ".", "..") or "\x00" in part or os.sep in part for part in parts):
            message = "The name of the file leads out of the artifacts."
            return self._issue(owner, file.path, message)
        try:
            self._write(owner, served, file)
        except Refused as error:
            message = f"The server does not give the file ({error.status}): {error}."
            return self._issue(owner, file.path, message)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            message = f"The file can't have this name here: {error.strerror}."
            return self._issue(owner, file.path, message)
        return None

    def _write(self, owner: Owner, served: ServedArtifacts, file: ServedFile) -> None:
        path = self._place(owner, file.path.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fits = file.size_bytes <= text_limit_bytes(file.path)
        if self._whole or (fits and self._wanted(file.path)):
            served.fetch(file, path)
            return
        with open(path, "wb") as sparse:
            sparse.truncate(file.size_bytes)

    def add_text(self, owner: Owner, name: str, text: str) -> None:
        """Add a file with this content. Raises OSError."""
        path = self._place(owner, [name])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)

    def _place(self, owner: Owner, parts: list[str]) -> str:
        return os.path.join(self._folder, *map(openable_path, (*owner.parts, *parts)))

    def _issue(self, owner: Owner, path: str, message: str) -> Issue:
        place = f"{self._client.shown}/artifacts/{owner.entity_id}/{path}".rstrip("/")
        code = Code.SERVER_ARTIFACTS_UNREADABLE
        return Issue(code, place, message, "", owner.kind, owner.entity_id)


def _is_here(owner: Owner) -> bool:
    """Whether the recorded location is the owner's directory, and on this machine."""
    path = local_path(owner.location)
    own = path is not None and path_parts(path)[-2:] == owner.parts[-2:]
    return own and path is not None and os.path.isdir(path)
