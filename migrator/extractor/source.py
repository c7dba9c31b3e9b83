"""The interface of a source: what every kind of place that holds MLflow's records can do.

The pipeline asks for an index first, then reads entities by their entries, many runs at once, and
looks at artifact locations. A kind of source is a subclass of ``Source``; ``open_source`` chooses
it by what the user wrote.

Three rules hold for every kind:

- **Counts don't come from parsing.** The index, and ``found`` in each ``Extracted``, are counted
  from directory listings and line counts, or by ``COUNT(*)``. So what a reader loses shows up as
  a gap in the ledger.
- **Bad data is an issue, not an exception.** Reading never raises for what lies in the source. An
  ``Extracted`` without a record has an issue that says why.
- **Places are in a user's words.** ``Entry.path`` and ``Issue.path`` name a path, a table and key
  or a URL that a person can open. ``named`` translates where a source reads a stand-in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

from migrator.issues import Kind
from migrator.model import (
    Asset,
    AssetEntry,
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

Wanted = Callable[[str], bool]  # of an artifact's relative path: must its text be read?
Takes = Callable[[str, str, bool], bool]  # id, name, is deleted: is this experiment converted?
REQUESTS_AT_ONCE = 4  # to a server: people who use it should not feel it
Progress = Callable[[str, int, int], None]  # stage, done, total (0 when it is not known)


class FileCount(NamedTuple):
    """Regular files, and their bytes."""

    files: int
    size_bytes: int


class StoredFile(NamedTuple):
    """An artifact file: its path below the artifact directory, where to open it, its bytes.

    Both paths are paths of the file system, not text (``migrator.paths.shown``).
    """

    relative: str
    path: str
    size_bytes: int


class Source(ABC):
    """A place that MLflow's records are read from. Nothing in it is ever written or executed."""

    # -- what it is

    bulk_runs: ClassVar[int] = 1
    """How many runs should be read in one call at least: each call costs as much as many runs."""

    has_lasting_files: ClassVar[bool] = True
    """Whether its artifacts can be opened where they are after the conversion."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What people call it: its absolute path or its address, without a password."""

    @property
    @abstractmethod
    def folders(self) -> tuple[str, ...]:
        """Absolute paths of the local folders that belong to it, the store itself first.

        Nothing may be written there. Artifacts that stay in one of them are named with it.
        """

    @property
    def watched(self) -> tuple[str, ...]:
        """The folders whose files say by their sizes and times whether anything is new.

        Everything that is read lies there, apart from artifacts elsewhere. Empty where sizes and
        times say too little.
        """
        return ()

    def named(self, text: str) -> str:
        """Replace places that only this program knows by those that people know."""
        return text

    def local(self, name: str) -> str:
        """The opposite of ``named`` for one place."""
        return name

    def address(self, path: str) -> str | None:
        """The location by which MLflow opens a file, None where that is the local path."""
        return None

    @property
    def gives_artifacts(self) -> bool:
        """Whether it brings the artifacts itself, wherever they are."""
        return False

    @property
    def withheld(self) -> tuple[str, ...]:
        """What the place holds and does not give, as sentences; known before anything is read."""
        return ()

    # -- what is in it

    @abstractmethod
    def index(self, on_progress: Callable[[int], None] = lambda runs: None) -> SourceIndex:
        """List what is there, without parsing. ``on_progress`` gets the number of runs so far.

        Entries are sorted, so that nothing depends on the order in which they were found. Raises
        SourceError where the source can't be listed at all.
        """

    @abstractmethod
    def read_experiment(self, entry: Entry) -> Extracted[ExperimentRecord]:
        """Read an experiment's own values and tags."""

    @abstractmethod
    def read_runs(
        self, entries: Sequence[RunEntry], wanted: Wanted
    ) -> Iterator[Extracted[RunRecord]]:
        """Read runs with everything that belongs to them, one result per entry, in their order.

        ``wanted`` chooses by relative path the artifacts whose text is read. The caller limits
        how many entries are given at once, so a source may read all of them in one request.
        """

    def read_run(self, entry: RunEntry, wanted: Wanted) -> Extracted[RunRecord]:
        """Read one run, as ``read_runs`` does."""
        (run,) = self.read_runs((entry,), wanted)
        return run

    @abstractmethod
    def read_dataset(self, entry: Entry) -> Extracted[DatasetRecord]:
        """Read a dataset of an experiment."""

    @abstractmethod
    def read_trace(self, entry: TraceEntry) -> Extracted[TraceRecord]:
        """Read a trace that MLflow wrote, with its spans and assessments."""

    @abstractmethod
    def read_logged_model(self, entry: Entry) -> Extracted[LoggedModelRecord]:
        """Read a logged model with its params, tags and metrics."""

    @abstractmethod
    def read_registered_model(self, entry: RegistryEntry) -> Extracted[RegisteredModelRecord]:
        """Read a registered model or prompt with its versions."""

    def read_asset(self, entry: AssetEntry) -> Extracted[Asset]:
        """Read an evaluation dataset, scorer or webhook.

        Sources whose index lists none, such as file stores, are never asked.
        """
        raise NotImplementedError(f"{type(self).__name__} lists no {entry.kind.value}")

    # -- where its artifacts are

    @property
    def root_changes(self) -> tuple[RootChange, ...]:
        """The roots of recorded locations that lie elsewhere by now, as far as this is known."""
        return ()

    def find_artifacts(
        self, index: SourceIndex, told: Sequence[RootChange]
    ) -> tuple[Source, SourceIndex]:
        """Look for artifacts that lie apart from their owners, before anything is read.

        The result are the source and the index with what was found and what the user ``told``.
        """
        return self, index

    @abstractmethod
    def experiment_locations(self, index: SourceIndex) -> Iterator[Location]:
        """Look at the location that each experiment records. Those in ``.trash`` are left out."""

    @abstractmethod
    def owner_locations(self, index: SourceIndex) -> Iterator[Location]:
        """Look at the location that each run, logged model and trace records, likewise.

        ``found`` is the first directory there is, and ``has_files`` is False: the directories are
        not looked into.
        """

    @abstractmethod
    def locate_experiment(self, entry: Entry, uri: str) -> Location:
        """Look at the artifact location of an experiment."""

    @abstractmethod
    def locate_run(self, entry: Entry, run: RunRecord) -> Location:
        """Look at the artifact location that a run records."""

    @abstractmethod
    def locate_logged_model(self, entry: Entry, model: LoggedModelRecord) -> Location:
        """Look at the artifact location that a logged model records."""

    @abstractmethod
    def locate_trace(self, entry: Entry, trace: TraceRecord) -> Location:
        """Look at the artifact location that a native trace records."""

    @abstractmethod
    def locate_inside(
        self, uri: str, kind: Kind, entry: Entry, inside: tuple[str, ...]
    ) -> Location:
        """Look at a location ``inside`` the artifacts of a run or logged model.

        Versions of registered models refer to a model's files in a run like that.
        """

    @abstractmethod
    def artifact_files(self, directory: str) -> Iterator[StoredFile]:
        """List the files below an artifact directory that a record or location names, sorted."""

    def artifact_bound(self, directory: str) -> str:
        """The directory that links in an artifact directory may lead to files in."""
        return directory

    # -- what is left out

    def count_run(self, entry: RunEntry) -> FileCount:
        """Count the files of a run that is not read; ``index`` leaves those in runs out.

        A source without files has none to count.
        """
        return FileCount(0, 0)

    def count_files(self, entry: Entry) -> int:
        """Count the files below an entry that the options leave out."""
        return 0

    def count_all_files(self) -> int:
        """Count all files there are by now, 0 where the source can't be read any more."""
        return 0

    # -- work in other processes

    def outline(self) -> Source:
        """A light copy that can be pickled: no entries and no open connections."""
        return self

    @abstractmethod
    def first_unseen(self, places: Iterable[str]) -> str | None:
        """The first of these experiments (by ``Entry.path``) that this process doesn't see.

        A worker on another machine calls it, to find out that it has another file system or
        database under the same name.
        """
