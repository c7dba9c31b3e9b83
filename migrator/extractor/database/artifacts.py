"""Where the artifacts of a database's runs, models and traces lie.

A database records locations only. One that is relative (MLflow 1.x over SQLite) begins in the
working directory of then, commonly the directory of the database. ``mlruns`` and ``mlartifacts``
beside the database are looked into as well, because both move together, and where the user says
that the artifacts are.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from migrator.extractor.filestore.artifacts import ArtifactPlaces, has_files
from migrator.extractor.locations import describe_location, local_path, moved_locations
from migrator.issues import Kind
from migrator.model import Entry, Location, RootChange
from migrator.paths import openable_path

_FOLDERS = {Kind.LOGGED_MODEL: ("models",), Kind.TRACE: ("traces",)}


@dataclass(frozen=True, slots=True)
class ArtifactFolders:
    """Directories that may hold artifacts.

    ``folder`` is that of the database (for a server's, the working directory), ``roots`` are the
    artifact directories in it, ``changes`` are of roots of recorded locations.
    """

    folder: str
    roots: tuple[str, ...]
    changes: tuple[RootChange, ...] = ()

    @classmethod
    def beside(cls, folder: str) -> ArtifactFolders:
        """Look for MLflow's artifact directories in a directory, also those of workspaces."""
        roots = [os.path.join(folder, name) for name in ("mlruns", "mlartifacts")]
        for root in list(roots):
            roots += sorted(glob.glob(os.path.join(glob.escape(root), "workspaces", "*")))
        return cls(folder, tuple(root for root in roots if os.path.isdir(root)))

    @property
    def elsewhere(self) -> ArtifactPlaces:
        """The same directories, as the reader of artifacts takes them."""
        return ArtifactPlaces(self.roots, self.changes)

    def tail(self, kind: Kind, entry: Entry) -> tuple[str, ...]:
        """The end of the location that MLflow makes for an entity."""
        return (entry.experiment_id or "", *_FOLDERS.get(kind, ()), entry.entity_id, "artifacts")

    def experiment(self, entry: Entry, uri: str) -> Location:
        """What an experiment's recorded location leads to."""
        recorded = local_path(uri)
        candidates = moved_locations(uri, self.changes) + ([] if recorded is None else [recorded])
        apart = next(filter(os.path.isdir, candidates), None)
        return self._describe(uri, (entry.entity_id,), apart, holds_files=apart is not None)

    def owner(self, kind: Kind, entry: Entry, uri: str, found: str | None) -> Location:
        """What the location of a run, logged model or trace leads to; ``found`` has its files."""
        holds_files = found is not None and has_files(found)
        return self._describe(uri, self.tail(kind, entry), found, holds_files=holds_files)

    def first_look(self, kind: Kind, entry: Entry, uri: str) -> Location:
        """The same without looking for files."""
        return self._describe(uri, self.tail(kind, entry), None, holds_files=False)

    def inside(self, uri: str, kind: Kind, entry: Entry, inside: tuple[str, ...]) -> Location:
        """What a location inside an entity's artifacts leads to."""
        tail = (*self.tail(kind, entry), *inside)
        recorded = local_path(uri, base=self.folder)
        candidates = [*self._places(tail), *([] if recorded is None else [recorded])]
        candidates += moved_locations(uri, self.changes)
        found = next(filter(os.path.exists, candidates), None)
        return describe_location(
            uri, home=self._home(tail), tail=tail, found=found, has_files=found is not None
        )

    def _describe(
        self, uri: str, tail: tuple[str, ...], found: str | None, *, holds_files: bool
    ) -> Location:
        if found is None:
            candidates = [*self._places(tail), *moved_locations(uri, self.changes)]
            found = next(filter(os.path.isdir, candidates), None)
        if found is None and local_path(uri) is None:
            found = local_path(uri, base=self.folder)  # a relative one, there or not
        return describe_location(
            uri, home=self._home(tail), tail=tail, found=found, has_files=holds_files
        )

    def _places(self, tail: tuple[str, ...]) -> Iterator[str]:
        for root in self.roots:
            yield os.path.join(root, *map(openable_path, tail))

    def _home(self, tail: tuple[str, ...]) -> str:
        return str(Path(self.folder, "mlruns", *map(openable_path, tail)))
