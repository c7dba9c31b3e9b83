"""A tracking database as a source. Plain values: each process opens its own connection."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from migrator import conventions
from migrator.addresses import is_database_server
from migrator.errors import SourceError
from migrator.extractor.database import addresses, schema
from migrator.extractor.database.artifacts import ArtifactFolders
from migrator.extractor.database.assets import read_asset
from migrator.extractor.database.connection import Database, connect, disconnect
from migrator.extractor.database.index import EXPERIMENTS, Indexer
from migrator.extractor.database.models import read_logged_model, read_registered_model
from migrator.extractor.database.rows import column_of, pages
from migrator.extractor.database.runs import RunReader, read_dataset, read_experiment
from migrator.extractor.database.traces import read_trace
from migrator.extractor.database.workspaces import Workspaces, chosen_workspace
from migrator.extractor.filestore import artifacts as files
from migrator.extractor.source import Source, StoredFile, Wanted
from migrator.issues import Kind
from migrator.model import (
    Asset,
    AssetEntry,
    DatasetRecord,
    Entry,
    EvaluationDatasetRecord,
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
    WebhookRecord,
)

T = TypeVar("T")


@dataclass(frozen=True)
class DatabaseSource(Source):
    """A tracking database: a SQLite file, or one on a PostgreSQL or MySQL server.

    ``location`` is the absolute path of the file, or the server's URI with its password;
    ``shown`` is the same without it.

    Example::

        with DatabaseSource.open("sqlite:///old.db") as source:
            for run in source.read_runs(source.index().runs, lambda path: False):
                print(run.record)
    """

    bulk_runs = 50  # about ten queries for all of them

    location: str = field(repr=False)
    shown: str
    places: ArtifactFolders
    workspace: str | None = field(default=None, kw_only=True)  # which is read; None: all of them
    keeps_workspaces: bool = field(default=False, kw_only=True)

    @classmethod
    @contextlib.contextmanager
    def open(cls, text: str, *, keeps_workspaces: bool = False) -> Iterator[DatabaseSource]:
        """Connect to the database that a user means, and close the connection at the end.

        Of its workspaces that in MLFLOW_WORKSPACE is read. Without the variable it is the default
        one, or all of them if what is read keeps its workspace. Raises SourceError for a database
        that can't be read or is not MLflow's.
        """
        if is_database_server(text):
            location, name = text, addresses.server_name(text)
            places = ArtifactFolders(os.getcwd(), ())
        else:
            location = name = addresses.sqlite_path(text)
            places = ArtifactFolders.beside(os.path.dirname(location))
        try:
            schema.check(connect(location), name)
            workspace = chosen_workspace(connect(location), name, kept=keeps_workspaces)
            yield cls(
                location, name, places, workspace=workspace, keeps_workspaces=keeps_workspaces
            )
        finally:
            disconnect(location)

    @property
    def name(self) -> str:
        return self.shown

    @property
    def folders(self) -> tuple[str, ...]:
        moved = [change.new for change in self.places.changes if os.path.isabs(change.new)]
        return (self.name, *self.places.roots, *moved)

    @property
    def _database(self) -> Database:
        return connect(self.location)

    def index(self, on_progress: Callable[[int], None] = lambda runs: None) -> SourceIndex:
        return Indexer(self._database, self.name, self._workspaces, on_progress).index()

    @property
    def _workspaces(self) -> Workspaces:
        return Workspaces(self._database, self.workspace, self.keeps_workspaces)

    @property
    def root_changes(self) -> tuple[RootChange, ...]:
        return self.places.changes

    def find_artifacts(
        self, index: SourceIndex, told: Sequence[RootChange]
    ) -> tuple[Source, SourceIndex]:
        return replace(self, places=replace(self.places, changes=tuple(told))), index

    def read_experiment(self, entry: Entry) -> Extracted[ExperimentRecord]:
        with self._database.snapshot():
            return self._at_home(read_experiment(self._database, self.name, entry))

    def read_runs(
        self, entries: Sequence[RunEntry], wanted: Wanted
    ) -> Iterator[Extracted[RunRecord]]:
        return RunReader(self._database, self.name, self.places, wanted).read(entries)

    def read_dataset(self, entry: Entry) -> Extracted[DatasetRecord]:
        return read_dataset(self._database, self.name, entry)

    def read_trace(self, entry: TraceEntry) -> Extracted[TraceRecord]:
        with self._database.snapshot():
            return read_trace(self._database, self.name, self.places, entry)

    def read_logged_model(self, entry: Entry) -> Extracted[LoggedModelRecord]:
        with self._database.snapshot():
            return read_logged_model(self._database, self.name, self.places, entry)

    def read_registered_model(self, entry: RegistryEntry) -> Extracted[RegisteredModelRecord]:
        with self._database.snapshot():
            return read_registered_model(self._database, self.name, entry)

    def read_asset(self, entry: AssetEntry) -> Extracted[Asset]:
        with self._database.snapshot():
            return self._at_home(read_asset(self._database, self.name, entry))

    def _at_home(self, extracted: Extracted[T]) -> Extracted[T]:
        """What was read, in the workspace in which it is to be."""
        record = extracted.record
        if not isinstance(record, ExperimentRecord | EvaluationDatasetRecord | WebhookRecord):
            return extracted
        home = self._workspaces.home(record.workspace)
        return replace(extracted, record=replace(record, workspace=home))

    def experiment_locations(self, index: SourceIndex) -> Iterator[Location]:
        entries = {entry.entity_id: entry for entry in index.experiments}
        columns = ["c.experiment_id", column_of(self._database, EXPERIMENTS, "artifact_location")]
        for key, uri in pages(self._database, "", columns, EXPERIMENTS, "experiment_id"):
            entry = entries.get(str(key))
            if entry is not None:
                yield self.places.experiment(entry, uri if isinstance(uri, str) else "")

    def owner_locations(self, index: SourceIndex) -> Iterator[Location]:
        database = self._database
        tag = f"{database.name('key')} = '{conventions.ARTIFACT_LOCATION}'"
        for kind, entries, table, key, column, source in (
            (Kind.RUN, index.runs, "runs", "run_uuid", "artifact_uri", ""),
            (
                Kind.LOGGED_MODEL, index.logged_models, "logged_models", "model_id",
                "artifact_location", "",
            ),
            (
                Kind.TRACE, index.traces, "trace_info", "request_id", "",
                f"LEFT JOIN trace_tags t ON t.request_id = c.request_id AND t.{tag}",
            ),
        ):  # fmt: skip
            if not entries:
                continue
            by_id = {entry.entity_id: entry for entry in entries}
            uri_column = column_of(database, table, column) if column else "t.value"
            columns = [f"c.{database.name(key)}", uri_column]
            for entity_id, uri in pages(database, source, columns, table, key):
                entry = by_id.get(entity_id)
                if entry is not None:
                    yield self.places.first_look(kind, entry, uri if isinstance(uri, str) else "")

    def locate_experiment(self, entry: Entry, uri: str) -> Location:
        return self.places.experiment(entry, uri)

    def locate_run(self, entry: Entry, run: RunRecord) -> Location:
        return self.places.owner(Kind.RUN, entry, run.artifact_uri, run.artifact_dir)

    def locate_logged_model(self, entry: Entry, model: LoggedModelRecord) -> Location:
        uri, found = model.artifact_location, model.artifact_dir
        return self.places.owner(Kind.LOGGED_MODEL, entry, uri, found)

    def locate_trace(self, entry: Entry, trace: TraceRecord) -> Location:
        found = os.path.dirname(trace.spans_path) if trace.spans_path else None
        uri = trace.tags.get(conventions.ARTIFACT_LOCATION, "")
        return self.places.owner(Kind.TRACE, entry, uri, found)

    def locate_inside(
        self, uri: str, kind: Kind, entry: Entry, inside: tuple[str, ...]
    ) -> Location:
        return self.places.inside(uri, kind, entry, inside)

    def artifact_files(self, directory: str) -> Iterator[StoredFile]:
        return files.artifact_files(directory, self.artifact_bound(directory))

    def artifact_bound(self, directory: str) -> str:
        for root in self.folders[1:]:
            if directory.startswith(root + os.sep):
                return root
        return directory

    def first_unseen(self, places: Iterable[str]) -> str | None:
        try:
            found = self._database.rows("SELECT experiment_id FROM experiments")
        except (SourceError, OSError):
            found = []
        there = {str(row[0]) for row in found}
        prefix = f"{self.name}/{EXPERIMENTS}/"
        named = [place for place in places if place.startswith(prefix)]
        return min((p for p in named if p[len(prefix) :] not in there), default=None)
