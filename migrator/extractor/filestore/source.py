"""A file store as a source: MLflow's ``mlruns`` directory, of any version from 0.8 on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from migrator.errors import SourceError
from migrator.extractor.filestore import artifacts
from migrator.extractor.filestore.index import count_run_files, index_store
from migrator.extractor.filestore.layout import find_artifact_roots
from migrator.extractor.filestore.models import read_logged_model, read_registered_model
from migrator.extractor.filestore.moved_roots import search_artifacts, without_found
from migrator.extractor.filestore.opening import open_store
from migrator.extractor.filestore.runs import read_dataset, read_experiment, read_run
from migrator.extractor.filestore.scanning import measure
from migrator.extractor.filestore.traces import read_trace
from migrator.extractor.source import FileCount, Source, StoredFile, Wanted
from migrator.issues import Kind
from migrator.model import (
    DatasetRecord,
    Entry,
    ExperimentRecord,
    Extracted,
    Location,
    LoggedModelRecord,
    RegisteredModelRecord,
    RegistryEntry,
    RootChange,
    RunEntry,
    RunRecord,
    SourceIndex,
    TraceEntry,
    TraceRecord,
)


@dataclass(frozen=True)
class FileStoreSource(Source):
    """A file store in a local folder. Plain values: it goes to other processes as it is.

    ``root`` is the absolute path of the folder that holds the experiments, ``artifact_roots`` are
    a server's artifact folders (``mlartifacts``), ``changes`` are of roots of recorded locations.

    Example::

        source = FileStoreSource.open("./mlruns")
        for entry in source.index().runs:
            run = source.read_run(entry, lambda path: path.endswith(".json")).record
    """

    root: str
    artifact_roots: tuple[str, ...] = ()
    changes: tuple[RootChange, ...] = ()

    @classmethod
    def open(cls, location: str) -> FileStoreSource:
        """Find the file store that a user means. Raises SourceError where there is none."""
        root = open_store(location)
        return cls(root, find_artifact_roots(root))

    @property
    def name(self) -> str:
        return self.named(self.root)

    @property
    def folders(self) -> tuple[str, ...]:
        moved = [change.new for change in self.changes if os.path.isabs(change.new)]
        return (self.root, *self.artifact_roots, *moved)

    @property
    def watched(self) -> tuple[str, ...]:
        return (self.root, *self.artifact_roots)

    @property
    def _places(self) -> artifacts.ArtifactPlaces:
        return artifacts.ArtifactPlaces(self.artifact_roots, self.changes)

    def index(self, on_progress: Callable[[int], None] = lambda runs: None) -> SourceIndex:
        return index_store(self.root, on_progress, count_runs=False)

    @property
    def root_changes(self) -> tuple[RootChange, ...]:
        return self.changes

    def find_artifacts(
        self, index: SourceIndex, told: Sequence[RootChange]
    ) -> tuple[Source, SourceIndex]:
        found = search_artifacts(index, told)
        source = replace(self, changes=tuple(found.changes))
        return source, without_found(index, found.inside)

    def read_experiment(self, entry: Entry) -> Extracted[ExperimentRecord]:
        return read_experiment(entry)

    def read_runs(
        self, entries: Sequence[RunEntry], wanted: Wanted
    ) -> Iterator[Extracted[RunRecord]]:
        places = self._places
        for entry in entries:
            yield read_run(entry, wanted, places=places)

    def read_dataset(self, entry: Entry) -> Extracted[DatasetRecord]:
        return read_dataset(entry)

    def read_trace(self, entry: TraceEntry) -> Extracted[TraceRecord]:
        return read_trace(entry, self._places)

    def read_logged_model(self, entry: Entry) -> Extracted[LoggedModelRecord]:
        return read_logged_model(entry, self._places)

    def read_registered_model(self, entry: RegistryEntry) -> Extracted[RegisteredModelRecord]:
        return read_registered_model(entry)

    def experiment_locations(self, index: SourceIndex) -> Iterator[Location]:
        return artifacts.experiment_locations(index, self.changes)

    def owner_locations(self, index: SourceIndex) -> Iterator[Location]:
        return artifacts.owner_locations(index, self._places)

    def locate_experiment(self, entry: Entry, uri: str) -> Location:
        return artifacts.locate_experiment(entry, uri, self.changes)

    def locate_run(self, entry: Entry, run: RunRecord) -> Location:
        return artifacts.locate_run(entry, run)

    def locate_logged_model(self, entry: Entry, model: LoggedModelRecord) -> Location:
        return artifacts.locate_logged_model(entry, model)

    def locate_trace(self, entry: Entry, trace: TraceRecord) -> Location:
        return artifacts.locate_trace(entry, trace)

    def locate_inside(
        self, uri: str, kind: Kind, entry: Entry, inside: tuple[str, ...]
    ) -> Location:
        return artifacts.locate_inside(uri, kind, entry, self._places, inside)

    def artifact_files(self, directory: str) -> Iterator[StoredFile]:
        return artifacts.artifact_files(directory, self.artifact_bound(directory))

    def artifact_bound(self, directory: str) -> str:
        for folder in self.folders:
            if directory.startswith(folder + os.sep):
                return folder
        return directory

    def count_run(self, entry: RunEntry) -> FileCount:
        return count_run_files(entry)

    def count_files(self, entry: Entry) -> int:
        return measure(entry.path, self.root, through_links=True).files

    def count_all_files(self) -> int:
        try:
            return index_store(self.root).files
        except SourceError:
            return 0

    def first_unseen(self, places: Iterable[str]) -> str | None:
        try:
            there = set(os.listdir(self.root))
        except OSError:
            there = set()
        missing = set()
        for place in places:
            if place.startswith(self.root + os.sep):
                missing.add(place[len(self.root) + 1 :].partition(os.sep)[0])
        return min(missing - there, default=None)
