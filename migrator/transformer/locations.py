"""Which artifact locations are written: decisions only, from what was recorded and found.

A file store records absolute locations. Once it is moved, copied or fetched from git, they lead
nowhere, and the files are beside the metadata. The same holds for an experiment in ``.trash``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from migrator.credentials import masked
from migrator.errors import OptionError
from migrator.issues import Kind
from migrator.model import Location
from migrator.object_stores import is_object_store

SERVED = "mlflow-artifacts"  # through a server only; its files may lie in ``mlartifacts``
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]+:")  # two letters at least: C: is a drive
Mode = Literal["auto", "relocate", "keep", "copy"]


class Fate(str, Enum):
    """What becomes of a location; the values are the keys of the JSON report."""

    KEPT = "kept"  # it leads to something here
    RELOCATED = "relocated"  # it now names where the files are
    COPIED = "copied"  # it now names the copy
    REMOTE = "remote"  # as recorded; not looked at
    STALE = "stale"  # as recorded, though the files are elsewhere: the user's choice
    NOWHERE = "nowhere"  # as recorded; it leads nowhere, and no files were found


@dataclass(frozen=True, slots=True)
class ArtifactChoice:
    """What a user chose with ``--artifacts``."""

    mode: Mode = "auto"
    directory: str | None = None  # absolute, or the address of an object store; of ``copy`` only

    @classmethod
    def parse(cls, given: str | ArtifactChoice) -> ArtifactChoice:
        """Parse ``auto``, ``relocate``, ``keep`` or ``copy:DIR``. Raises OptionError."""
        if isinstance(given, ArtifactChoice):
            return given
        given = str(given)  # from Python it may be anything, a Path for instance
        for mode in ("auto", "relocate", "keep"):
            if given == mode:
                return cls(mode)
        directory = given.removeprefix("copy:")
        if directory == given or not directory or "\x00" in directory:
            raise OptionError(
                f"--artifacts {given!r} is not a valid choice.",
                todo="Give auto, relocate, keep, or copy: and a directory, as in copy:./artifacts.",
            )
        if masked(directory) != directory:
            raise OptionError(
                f"--artifacts {masked(given)!r}: the address holds a password, which would end in "
                "the database.",
                todo="Give it by the environment, as the provider's own tools take it.",
            )
        place = directory.rstrip("/")
        if is_object_store(place):
            return cls("copy", place)
        if _SCHEME.match(directory):
            raise OptionError(
                f"--artifacts {given!r}: copies go to a directory of this machine or to an object "
                "store, not to any other URI.",
                todo="Give a path, as in copy:./artifacts, or the address of a place in a bucket, "
                "as in copy:s3://new/mlflow.",
            )
        return cls("copy", os.path.normpath(Path(directory).expanduser().absolute()))

    @property
    def is_remote(self) -> bool:
        """Whether the copies go to an object store."""
        return self.directory is not None and "://" in self.directory

    def __str__(self) -> str:
        """The choice as it is given on the command line."""
        return self.mode if self.directory is None else f"copy:{self.directory}"


def is_metadata_only(experiments: Iterable[Location], owners: Iterable[Location]) -> bool:
    """Whether the files of a store are elsewhere, perhaps on a disk that will come back.

    So it is where local locations lead nowhere and none of their owners (runs, models and traces)
    has a directory for artifacts. Locations of object stores and relative ones say nothing. Stops
    at the first location that leads nowhere and whose owner has a directory.
    """
    if not any(map(_is_dead, experiments)):
        return False
    any_dead = False
    for location in owners:
        if not _is_dead(location):
            continue
        if location.found is not None:
            return False
        any_dead = True
    return any_dead


def _is_dead(location: Location) -> bool:
    is_local = location.scheme in ("", "file", SERVED)
    return is_local and not location.exists and not location.relative


def local_uri(path: str) -> str:
    """The location of an absolute path of this machine."""
    return Path(path).as_uri()


def place(
    location: Location,
    *,
    rewrite: bool,
    copy_to: str | None = None,
    told: str | None = None,
    address: Callable[[str], str] = local_uri,
) -> tuple[str, Fate]:
    """Decide which location to write.

    ``rewrite``: a location that leads nowhere is replaced by the place of the files. (One of the
    owner's own form also when there is only an empty directory.) Where nothing is recorded, the
    owner's place in the store is written: MLflow reads an empty location as its working directory.
    ``copy_to`` is the absolute path, or MLflow's location, that a copy of the files will have.
    ``told`` is the location that the user's own change of root makes of the recorded one: it is
    written also where no files were found. ``address`` makes a location of a path in the source.
    """
    here = location.found is not None and (
        location.has_files or location.own_form or not location.recorded
    )
    if told is not None:
        return _told_place(location, copy_to if here else None, told, address)
    is_local = location.scheme in ("", "file")
    is_served_here = location.scheme == SERVED and location.has_files
    if not is_local and not (is_served_here and (rewrite or copy_to)):
        return location.recorded, Fate.REMOTE
    if copy_to is not None and here:
        return _copied_location(copy_to), Fate.COPIED
    if location.exists:
        return location.recorded, Fate.KEPT
    if not location.recorded:
        return address(location.found or location.home), Fate.RELOCATED
    if here and location.found is not None and rewrite:
        return address(location.found), Fate.RELOCATED
    return location.recorded, Fate.STALE if location.has_files else Fate.NOWHERE


def _copied_location(copy_to: str) -> str:
    return copy_to if "://" in copy_to else local_uri(copy_to)


def _told_place(
    location: Location, copy_to: str | None, told: str, address: Callable[[str], str]
) -> tuple[str, Fate]:
    if copy_to is not None:
        return _copied_location(copy_to), Fate.COPIED
    if location.has_files and location.found is not None:
        return address(location.found), Fate.RELOCATED
    return told, Fate.RELOCATED


def copy_place(directory: str, kind: Kind, target_id: int, entity_id: str) -> str:
    """The directory or address below ``directory`` for the copy of an entity's artifacts.

    The layout is that of MLflow's artifact roots: ``SqlAlchemyStore.create_run``,
    ``create_logged_model`` and ``_get_artifact_location_for_trace`` (3.9). An experiment has the
    directory above all of these.
    """
    folders = {Kind.LOGGED_MODEL: ("models",), Kind.TRACE: ("traces",)}.get(kind, ())
    owner = () if kind is Kind.EXPERIMENT else (*folders, entity_id, "artifacts")
    return place_below(directory, str(target_id), *owner)


def place_below(directory: str, *parts: str) -> str:
    """A place below a directory or address."""
    if "://" in directory:
        return "/".join((directory, *parts))
    return str(Path(directory, *parts))
