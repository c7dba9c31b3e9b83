"""An MLflow tracking server as a source.

What its API gives is copied into a mirror, which is then read as a tracking database is. So a
server that other people use answers each question once, whatever a conversion does with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from migrator.errors import SourceError
from migrator.extractor.database.artifacts import ArtifactFolders
from migrator.extractor.database.connection import disconnect
from migrator.extractor.database.source import DatabaseSource
from migrator.extractor.locations import moved_locations
from migrator.extractor.rest.client import Client
from migrator.extractor.rest.files import ArtifactMirror
from migrator.extractor.rest.mirror import Mirror, artifact_root_in, database_in
from migrator.extractor.rest.reader import Reader
from migrator.extractor.rest.withheld import withheld
from migrator.extractor.source import Progress, Source, Takes, Wanted
from migrator.issues import Code, Issue, Kind
from migrator.model import (
    Entry,
    Extracted,
    Location,
    LoggedModelRecord,
    RootChange,
    RunEntry,
    RunRecord,
    SourceIndex,
    TraceRecord,
)
from migrator.signals import point_of_no_return


@dataclass(frozen=True, slots=True)
class Served:
    """How a server is read: which artifacts and experiments, how many requests at once."""

    wanted: Wanted
    whole: bool
    requests: int
    takes: Takes
    progress: Progress


@dataclass(frozen=True)
class ServerSource(DatabaseSource):
    """A tracking server. Its mirror is filled by ``index``, and other processes read that."""

    told: tuple[RootChange, ...] = ()
    client: Client | None = field(default=None, repr=False, compare=False)  # of this process
    reading: Served | None = field(default=None, repr=False, compare=False)

    @classmethod
    @contextlib.contextmanager
    def connect(cls, uri: str, reading: Served) -> Iterator[ServerSource]:
        """Connect to the server that a user means; at the end the mirror is removed.

        Raises SourceError where no MLflow server answers, or where it is too old.
        """
        client = Client(uri, reading.requests)
        with contextlib.closing(client):
            client.check()
            # A link on the way would make other paths of it, when links are resolved.
            folder = os.path.realpath(tempfile.mkdtemp(prefix="mlflow-migrate-"))
            database = database_in(folder)
            places = ArtifactFolders(os.getcwd(), (artifact_root_in(folder),))
            try:
                yield cls(database, client.shown, places, (), client, reading)
            finally:
                disconnect(database)
                with point_of_no_return() as begin:  # half a removal would leave the rest for ever
                    begin()
                    shutil.rmtree(folder, ignore_errors=True)

    @property
    def _mirror_root(self) -> str:
        (root,) = self.places.roots
        return root

    def named(self, text: str) -> str:
        return text.replace(self._mirror_root, f"{self.name}/artifacts")

    @property
    def gives_artifacts(self) -> bool:
        return True

    @property
    def withheld(self) -> tuple[str, ...]:
        return () if self.client is None else withheld(self.client.release)

    def outline(self) -> Source:
        return replace(self, client=None, reading=None)

    # -- what is in it

    def index(self, on_progress: Callable[[int], None] = lambda runs: None) -> SourceIndex:
        issues = self._fill()
        index = DatabaseSource.index(self, on_progress)
        notes = tuple(Issue(Code.SERVER_WITHHOLDS, self.name, each) for each in self.withheld)
        return replace(index, issues=(*index.issues, *notes, *issues))

    def _fill(self) -> tuple[Issue, ...]:
        """Read the server into the mirror. Raises SourceError."""
        client, reading = self.client, self.reading
        assert client is not None and reading is not None, "only the first process reads the server"
        root = self._mirror_root

        def on_progress(done: int) -> None:
            reading.progress("reading the server", done, 0)

        try:
            mirror = Mirror(os.path.dirname(root))
            artifacts = ArtifactMirror(client, root, reading.wanted, whole=reading.whole)
            issues = Reader(client, mirror, artifacts, reading.takes, on_progress).read()
            mirror.close()
        except (OSError, sqlite3.Error) as error:
            raise SourceError(
                f"{self.name} can't be read into {tempfile.gettempdir()}: {error}.",
                todo="Make room there, or set TMPDIR to a folder on another disk.",
            ) from error
        return issues

    def find_artifacts(
        self, index: SourceIndex, told: Sequence[RootChange]
    ) -> tuple[Source, SourceIndex]:
        return replace(self, told=tuple(told)), index

    def read_runs(
        self, entries: Sequence[RunEntry], wanted: Wanted
    ) -> Iterator[Extracted[RunRecord]]:
        """Also: MLflow deletes the runs of an experiment with it, and the API gives no times."""
        found = self._database.rows(
            "SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'deleted'"
        )
        gone = {str(row[0]) for row in found}
        for extracted in DatabaseSource.read_runs(self, entries, wanted):
            run = extracted.record
            if run is not None and run.deleted and run.experiment_id in gone:
                extracted = replace(extracted, record=replace(run, deleted_with_experiment=True))
            yield extracted

    # -- where its artifacts are

    def locate_run(self, entry: Entry, run: RunRecord) -> Location:
        return self._seen_from_here(DatabaseSource.locate_run(self, entry, run))

    def locate_logged_model(self, entry: Entry, model: LoggedModelRecord) -> Location:
        return self._seen_from_here(DatabaseSource.locate_logged_model(self, entry, model))

    def locate_trace(self, entry: Entry, trace: TraceRecord) -> Location:
        return self._seen_from_here(DatabaseSource.locate_trace(self, entry, trace))

    def locate_inside(
        self, uri: str, kind: Kind, entry: Entry, inside: tuple[str, ...]
    ) -> Location:
        return self._seen_from_here(DatabaseSource.locate_inside(self, uri, kind, entry, inside))

    def _seen_from_here(self, location: Location) -> Location:
        """A location whose files came through the server leads to them, and stays as recorded.

        Where the user says that the files are elsewhere, that counts.
        """
        found = location.found
        if found is None or not found.startswith(self._mirror_root + os.sep):
            return location
        if moved_locations(location.recorded, self.told):
            return replace(location, found=None, has_files=False)
        return replace(location, exists=True)
