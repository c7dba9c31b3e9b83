"""Which artifact locations are written: decisions only, from what was recorded and found.

A file store records absolute locations. Once it is moved, copied or fetched from git, they lead
nowhere, and the files are beside the metadata. The same holds for an experiment in ``.trash``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from migrator.errors import OptionError
from migrator.issues import Kind
from migrator.model import Location

SERVED = "mlflow-artifacts"  # through a server only; its files may lie in ``mlartifacts``
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
    directory: str | None = None  # absolute; of ``copy`` only

    @classmethod
    def parse(cls, given: str | ArtifactChoice) -> ArtifactChoice:
        """Parse ``auto``, ``relocate``, ``keep`` or ``copy:DIR``. Raises OptionError."""
        if isinstance(given, ArtifactChoice):
            return given
        for mode in ("auto", "relocate", "keep"):
            if given == mode:
                return cls(mode)
        directory = given.removeprefix("copy:")
        if directory == given or not directory or "\x00" in directory:
            raise OptionError(
                f"--artifacts {given!r} is not a valid choice.",
                todo="Give auto, relocate, keep, or copy: and a directory, as in copy:./artifacts.",
            )
        if "://" in directory or directory.startswith("file:"):
            raise OptionError(
                f"--artifacts {given!r}: copies go to a directory of this machine, not to a URI.",
                todo="Give its path, as in copy:./artifacts.",
            )
        return cls("copy", os.path.normpath(Path(directory).expanduser().absolute()))

    def __str__(self) -> str:
        """The choice as it is given on the command line."""
        return self.mode if self.directory is None else f"copy:{self.directory}"


def is_moved(experiments: Iterable[Location], owners: Iterable[Location]) -> bool:
    """Whether a store was moved: none of its locations leads anywhere, but files are here.

    ``owners`` are runs, models and traces. Remote and relative locations say nothing. Nor
    does a location that does not name its owner: a cut one leads to some directory above, and one
    damaged file must not decide for all others. Where no owner has a directory for artifacts the
    store is metadata only: the files are elsewhere, on a disk that may come back.

    Stops at the first location that leads somewhere.
    """
    if any(location.exists and location.own_form for location in experiments):
        return False
    beside: set[bool] = set()
    for location in owners:
        if location.exists and (location.own_form or _names_owner(location)):
            return False
        beside.add(location.found is not None)
    return not beside or True in beside


def _names_owner(location: Location) -> bool:
    """Whether a location of another form, below a directory of the user's, has its owner's id."""
    return Path(location.home).parent.name in location.recorded


def local_uri(path: str) -> str:
    """The location of an absolute path of this machine."""
    return Path(path).as_uri()


def place(
    location: Location,
    *,
    rewrite: bool,
    copy_to: str | None = None,
    address: Callable[[str], str] = local_uri,
) -> tuple[str, Fate]:
    """Decide which location to write.

    ``rewrite``: a location that leads nowhere is replaced by the place of the files. (One of the
    owner's own form also when there is only an empty directory.) Where nothing is recorded, the
    owner's place in the store is written: MLflow reads an empty location as its working directory.
    ``copy_to`` is the absolute path that a copy of the files will have. ``address`` makes a
    location of a path in the source.
    """
    here = location.found is not None and (
        location.has_files or location.own_form or not location.recorded
    )
    if location.scheme not in ("", "file") and not (
        location.scheme == SERVED and location.has_files and (rewrite or copy_to)
    ):
        return location.recorded, Fate.REMOTE
    if copy_to is not None and here:
        return local_uri(copy_to), Fate.COPIED
    if location.exists:
        return location.recorded, Fate.KEPT
    if not location.recorded:
        return address(location.found or location.home), Fate.RELOCATED
    if here and location.found is not None and rewrite:
        return address(location.found), Fate.RELOCATED
    return location.recorded, Fate.STALE if location.has_files else Fate.NOWHERE


def copy_place(directory: str, kind: Kind, target_id: int, entity_id: str) -> str:
    """The directory below ``directory`` for the copy of an entity's artifacts.

    The layout is that of MLflow's artifact roots: ``SqlAlchemyStore.create_run``,
    ``create_logged_model`` and ``_get_artifact_location_for_trace`` (3.9). An experiment has the
    directory above all of these.
    """
    folders = {Kind.LOGGED_MODEL: ("models",), Kind.TRACE: ("traces",)}.get(kind, ())
    owner = () if kind is Kind.EXPERIMENT else (*folders, entity_id, "artifacts")
    return str(Path(directory, str(target_id), *owner))
