"""The one place where the stages meet: read, decide, hand every decided item to a sink.

``scan``, ``convert``, ``convert --dry-run`` and ``verify`` are the same walk with another sink:
one that discards, the loader's writer, the comparer. So ``scan`` says what ``convert`` does.
"""

from __future__ import annotations

import copy
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from migrator import __version__, conventions, extractor, loader, processes, transformer
from migrator.errors import LedgerError, OptionError, RejectedError, SourceError
from migrator.issues import CATALOG, Code, Issue, Severity
from migrator.model import (
    ArtifactCopy,
    DatasetRecord,
    Entry,
    ExperimentPlan,
    ExperimentRecord,
    Extracted,
    Kind,
    Location,
    LoggedModelRecord,
    ModelVersionRecord,
    RegisteredModelRecord,
    Role,
    RunEntry,
    RunRecord,
    SourceIndex,
    TraceEntry,
    TracePlan,
    TraceRecord,
    TreePlan,
)
from migrator.redaction import Redactor
from migrator.report.files import check_report_path, free_report_path, write_report
from migrator.report.ledger import Ledger, counts_of, trace_counts_of
from migrator.report.summary import ArtifactSummary, ExperimentSummary, Outcome
from migrator.selection import Selection

Progress = Callable[[str, int, int], None]  # stage, done, total (0 when it is not known)
E = TypeVar("E", bound=Entry)
T = TypeVar("T")


LOT_RUNS = 50  # about as many runs are one piece of work for a process; MOST_DECISIONS or fewer
FEW_RUNS = 400  # up to here it costs more to start processes than they save


def no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""


class Sink(Protocol):
    """Where decided items go; every ``experiment_id`` is the target's."""

    def add_experiment(self, plan: ExperimentPlan) -> None: ...
    def add_run(self, run: RunRecord, experiment_id: int) -> None: ...
    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None: ...
    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None: ...
    def add_registered_model(self, record: RegisteredModelRecord) -> None: ...
    def add_trace(self, plan: TracePlan, experiment_id: int) -> None: ...
    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None: ...


class Recorder(Protocol):
    """Prepares runs and traces for a sink, in a process that has not got the sink."""

    def add_run(self, run: RunRecord, experiment_id: int) -> None: ...
    def add_trace(self, plan: TracePlan, experiment_id: int) -> None: ...
    def recorded(self) -> Any:
        """Return what was added since the last call, for the sink's ``replay``."""


@runtime_checkable
class SharedSink(Sink, Protocol):
    """A sink for which other processes can prepare the runs and traces."""

    def recorder(self) -> Recorder: ...
    def replay(self, recorded: Any) -> None: ...


class Discard:
    """The sink of ``scan`` and ``--dry-run``: decisions are counted, not kept."""

    def recorder(self) -> Recorder:
        return self

    def recorded(self) -> None: ...
    def replay(self, recorded: None) -> None: ...

    def add_experiment(self, plan: ExperimentPlan) -> None: ...
    def add_run(self, run: RunRecord, experiment_id: int) -> None: ...
    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None: ...
    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None: ...
    def add_registered_model(self, record: RegisteredModelRecord) -> None: ...
    def add_trace(self, plan: TracePlan, experiment_id: int) -> None: ...
    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """What a user can choose; the same for every command."""

    experiments: tuple[str, ...] = ()  # names or ids; empty for all
    runs: bool = True
    traces: bool = True
    include: frozenset[str] = frozenset()  # sweeps, pipelines, flat, deleted, tables
    exclude: frozenset[str] = frozenset()
    profile: str | None = None  # the only profile to try
    profile_files: tuple[str, ...] = ()
    on_conflict: transformer.OnConflict = "fail"
    experiment_kind: str = "auto"  # auto | genai | keep
    artifacts: str = "auto"  # auto | relocate | keep | copy:DIR
    workers: int = 0  # processes that read; 0 for as many as there are cores
    roles: tuple[tuple[str, str], ...] = ()  # experiment (name or id) and role of all its trees
    group_by_time: bool = False
    adopt_orphans: bool = False
    since: str | None = None  # a date: only what is younger, or not ended
    only: str | None = None  # a rejects file: only what it lists
    redact: tuple[str, ...] = ()  # regular expressions: values that are masked


@dataclass(frozen=True, slots=True)
class Store:
    """One source, walked."""

    number: int
    index: SourceIndex
    artifact_roots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedTree:
    """One tree of runs, read, and what becomes of it."""

    tree: transformer.RunTree
    plan: TreePlan


@dataclass(frozen=True, slots=True)
class TreeReader:
    """Reads the runs of a tree and plans it. Holds all it needs, so that it can run anywhere."""

    profiles: tuple[transformer.Profile, ...]
    wanted: Callable[[str], bool]  # which artifacts the profiles want to read
    options: transformer.PlanOptions
    artifact_roots: Mapping[str, tuple[str, ...]]  # by the root of the store
    native: Mapping[str, tuple[str, ...]]  # run id -> the native traces that were written in it
    known_traces: frozenset[str]  # all native traces

    def read(self, entry: RunEntry) -> Extracted[RunRecord]:
        """Read one run, with the texts that the profiles ask for."""
        stores = self.artifact_roots.items()
        roots = next((r for s, r in stores if entry.path.startswith(s.rstrip("/") + "/")), ())
        return extractor.read_run(entry, self.wanted, artifact_roots=roots)

    def plan(
        self,
        root_id: str,
        runs: Mapping[str, RunRecord],
        children: Mapping[str, tuple[str, ...]],
        inferred: Mapping[str, str] | None = None,
    ) -> PlannedTree:
        """Decide what a tree becomes; ``runs`` lacks those that could not be read.

        ``inferred`` says why, by the id of a run whose parent is a guess.
        """
        tree = transformer.RunTree(root_id, runs, children, inferred or {})
        plan = transformer.plan_tree(
            tree, self.profiles, self.options, self.native, self.known_traces
        )
        return PlannedTree(tree, plan)


def open_stores(sources: Sequence[str], progress: Progress = no_progress) -> list[Store]:
    """Walk every source once. Raises SourceError when one can't be opened."""
    roots = list(dict.fromkeys(extractor.open_source(source) for source in sources))
    return [
        Store(
            number,
            extractor.index(root, lambda runs: progress("walking", runs, 0), count_runs=False),
            extractor.find_artifact_roots(root),
        )
        for number, root in enumerate(roots)
    ]


class Locations:
    """Writes artifact locations into what is handed over, and counts what was decided.

    Every location is looked at by the extractor and decided by the transformer; ``copies`` are
    the directories that the decisions want copied.
    """

    def __init__(self, stores: Sequence[Store], artifacts: str, summary: ArtifactSummary) -> None:
        """Raise OptionError for an unknown choice, and when copies would go into a source."""
        self.choice = choice = transformer.ArtifactChoice.parse(artifacts)
        self.summary = summary
        self.copies: list[ArtifactCopy] = []
        self._copied: dict[tuple[Kind, str], str] = {}  # owner -> where its copy goes
        summary.choice = choice.mode if choice.directory is None else f"copy:{choice.directory}"
        for store in stores:
            mode: str = choice.mode
            if mode == "auto":
                moved = transformer.is_moved(
                    extractor.experiment_locations(store.index),
                    extractor.owner_locations(store.index, store.artifact_roots),
                )
                mode = "relocate" if moved else "keep"
            summary.decided[store.index.root] = mode
            if choice.directory is not None and _is_below(choice.directory, store.index.root):
                raise OptionError(
                    f"--artifacts copy:{choice.directory} lies inside the source "
                    f"{store.index.root}, which is only read.",
                    todo="Choose a directory outside of it.",
                )

    def blank(self) -> Locations:
        """Return one that decides the same and has counted nothing yet."""
        other = copy.copy(self)
        other.summary = ArtifactSummary(decided=self.summary.decided)
        other.copies, other._copied = [], {}
        return other

    def add(self, other: Locations) -> None:
        """Take in what another one has decided and counted."""
        self.summary.add_all(other.summary)
        self.copies += other.copies
        self._copied.update(other._copied)

    def experiment(self, store: Store, entry: Entry, plan: ExperimentPlan) -> str:
        """Return the location to write for an experiment."""
        location = extractor.look_at_experiment(entry, plan.artifact_location)
        return self._place(Kind.EXPERIMENT, store, entry, location, plan.target_id)[0]

    def run(self, store: Store, entry: Entry, run: RunRecord, target_id: int) -> RunRecord:
        """Return a run with the location to write."""
        location = extractor.look_at_run(entry, run)
        uri, _ = self._place(Kind.RUN, store, entry, location, target_id)
        return replace(run, artifact_uri=uri)

    def logged_model(
        self, store: Store, entry: Entry, model: LoggedModelRecord, target_id: int
    ) -> LoggedModelRecord:
        """Return a logged model with the location to write."""
        location = extractor.look_at_logged_model(entry, model)
        uri, _ = self._place(Kind.LOGGED_MODEL, store, entry, location, target_id)
        return replace(model, artifact_location=uri)

    def trace(self, store: Store, entry: Entry, trace: TraceRecord, target_id: int) -> TraceRecord:
        """Return a native trace with the location to write, if it records one."""
        if not trace.tags.get(conventions.ARTIFACT_LOCATION) or not trace.spans:
            # MLflow opens the traces.json of a trace that has no spans in the database, and if
            # that is binary, no trace of the experiment can be searched for any more.
            return trace
        location = extractor.look_at_trace(entry, trace)
        uri, _ = self._place(Kind.TRACE, store, entry, location, target_id)
        return replace(trace, tags={**trace.tags, conventions.ARTIFACT_LOCATION: uri})

    def registered_model(
        self,
        model: RegisteredModelRecord,
        owner_of: Callable[[str], tuple[Kind, Store, Entry] | None],
    ) -> RegisteredModelRecord:
        """Return a registered model whose versions have the locations to write.

        ``owner_of`` returns the run or logged model that has an id.
        """
        versions = tuple(self._version(version, owner_of) for version in model.versions)
        return replace(model, versions=versions)

    def _version(
        self,
        version: ModelVersionRecord,
        owner_of: Callable[[str], tuple[Kind, Store, Entry] | None],
    ) -> ModelVersionRecord:
        written: dict[str, str] = {}
        fates: list[transformer.Fate] = []
        for name in ("source", "storage_location"):
            uri = getattr(version, name) or ""
            if extractor.scheme_of(uri) in ("", "models", "runs"):
                continue
            parts = extractor.path_parts(uri)
            owner, inside = None, parts
            for at in range(1, len(parts)):
                if parts[at] == "artifacts" and ".." not in parts[at:] and owner is None:
                    owner, inside = owner_of(parts[at - 1]), parts[at + 1 :]
            if owner is not None:
                kind, store, entry = owner
                location = extractor.look_into(uri, kind, entry, store.artifact_roots, inside)
                copied = self._copied.get((kind, entry.entity_id))
                copy_to = None if copied is None else str(Path(copied, *inside))
                rewrite = self._rewrites(store, entry, location)
            else:
                location = extractor.look_at(uri, "", ("",), None, False)
                copy_to, rewrite = None, False
                if location.relative:
                    continue  # not a location: a prompt has "dummy-source"
            written[name], fate = transformer.place(location, rewrite=rewrite, copy_to=copy_to)
            fates.append(fate)
            if fate is transformer.Fate.REMOTE:
                self.summary.remote[location.scheme] += len(fates) == 1
        if fates:
            self.summary.add(fates[0].value, Kind.MODEL_VERSION)
        return replace(version, **written)  # type: ignore[arg-type]  # both are texts

    def _place(
        self, kind: Kind, store: Store, entry: Entry, location: Location, target_id: int
    ) -> tuple[str, transformer.Fate]:
        directory, copy_to = self.choice.directory, None
        owner = entry.entity_id
        if directory is not None:
            if kind is Kind.TRACE:
                owner = transformer.native_trace_id(owner)
            copy_to = transformer.copy_place(directory, kind, target_id, owner)
        rewrite = self._rewrites(store, entry, location)
        uri, fate = transformer.place(location, rewrite=rewrite, copy_to=copy_to)
        self.summary.add(fate.value, kind)
        if fate is transformer.Fate.REMOTE:
            self.summary.remote[location.scheme] += 1
        if location.found is None or kind is Kind.EXPERIMENT:
            return uri, fate
        if fate is transformer.Fate.COPIED and copy_to is not None:
            self._copied[kind, entry.entity_id] = copy_to
            if location.has_files:
                inside = location.found.startswith(store.index.root + os.sep)
                bound = store.index.root if inside else location.found
                self.copies.append(ArtifactCopy(kind, owner, location.found, bound, copy_to))
        elif location.has_files and kind is not Kind.TRACE:  # its spans are in the database
            for root in (store.index.root, *store.artifact_roots):
                if location.found.startswith(root + os.sep):
                    self.summary.stay_in.add(root)
        if location.scheme == transformer.SERVED and fate is transformer.Fate.RELOCATED:
            self.summary.unserved += 1
        return uri, fate

    def _rewrites(self, store: Store, entry: Entry, location: Location) -> bool:
        """Tell whether a location that leads nowhere is to be rewritten.

        By default also one that MLflow itself left behind (it moves what is deleted into
        ``.trash``), and a relative one, because a database is opened from anywhere.
        """
        by_default = self.choice.mode == "auto" and (entry.in_trash or location.relative)
        return by_default or self.summary.decided[store.index.root] != "keep"


def _is_below(path: str, directory: str) -> bool:
    path, directory = os.path.realpath(path), os.path.realpath(directory)
    return path == directory or path.startswith(directory.rstrip(os.sep) + os.sep)


@dataclass(frozen=True, slots=True)
class Share:
    """What some of the trees gave: their part of every account, and what goes to the sink."""

    ledger: Ledger
    handed: Counter[Kind]
    summaries: Mapping[str, ExperimentSummary]
    locations: Locations
    moments: list[transformer.Moment]
    seen: list[str]  # ids of the runs that count
    left_out: set[str]  # ids of those that the options leave out
    redacted: Counter[str]
    recorded: Any


class Migration:
    """One walk over the sources with one sink; ``outcome`` is filled as it goes."""

    def __init__(
        self,
        stores: Sequence[Store],
        options: Options,
        sink: Sink,
        outcome: Outcome,
        *,
        existing: Sequence[tuple[int, str]] = (),
        on_tree: Callable[[PlannedTree], None] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.stores = stores
        self.options = options
        self.sink = sink
        self.outcome = outcome
        self.ledger = outcome.ledger
        self.existing = existing
        self.on_tree = on_tree
        self.progress = progress
        self.locations = Locations(stores, options.artifacts, outcome.artifacts)
        self.handed: Counter[Kind] = Counter()  # what of the found went to the sink
        self.ours: Counter[Kind] = Counter()  # what we added to native traces
        self.plans: dict[str, ExperimentPlan] = {}  # by the experiment's directory
        self.summaries: dict[str, ExperimentSummary] = {}  # likewise
        self.folders: set[str] = set()  # directories of all experiments, selected or not
        self.homes: dict[tuple[int, bool, str], str] = {}  # those, by store, in trash, id
        self.moments: list[transformer.Moment] = []
        self.inferred: dict[str, str] = {}  # runs whose parent is a guess, and why
        self.seen: dict[tuple[Kind, str], tuple[Store, Entry]] = {}  # the one that counts
        self.selection = Selection(options.only, options.since)
        self.redactor = Redactor(options.redact)
        self.runs_left_out: set[str] = set()  # by the options

    def run(self) -> None:
        """Read, decide and hand over everything that the options select."""
        for store in self.stores:
            self.ledger.add_index(store.index)
        self._experiments()
        self._datasets()
        self._trees()
        self._native_traces()
        self._logged_models()
        self._registered_models()
        self._experiment_kinds()
        self.outcome.redacted.update(self.redactor.counts)
        self.outcome.experiments = list(self.summaries.values())

    # ------------------------------------------------------------------ experiments

    def _experiments(self) -> None:
        read: list[tuple[Store, Entry, ExperimentRecord]] = []
        known: set[str] = set()
        for store in self.stores:
            for entry in _ranked(store.index.experiments):
                self.folders.add(entry.path)
                self.homes.setdefault((store.number, entry.in_trash, entry.entity_id), entry.path)
        listed = self._listed()
        for store in self.stores:
            for entry in _ranked(store.index.experiments):
                extracted = self.redactor.mask(extractor.read_experiment(entry))
                record = extracted.record
                if record is not None:
                    known |= {record.name, record.experiment_id}
                    unlisted = listed is not None and entry.path not in listed
                    if unlisted or not self._selected(record):
                        self._leave_out_files(store, entry)
                        self.outcome.left_out_experiments += 1
                        continue
                    read.append((store, entry, record))
                self.ledger.add_extracted(extracted)
        for name in self.options.experiments:
            if name not in known:
                raise OptionError(
                    f"The source has no experiment with the name or id {name!r}.",
                    todo="'mlflow-migrate scan' lists them.",
                )
        by_path, issues = transformer.plan_experiments(
            [(store.number, record) for store, _, record in read],
            self.existing,
            self.options.on_conflict,
        )
        self.ledger.add_issues(issues)
        groups: dict[int, list[tuple[Store, Entry, ExperimentPlan]]] = defaultdict(list)
        for store, entry, record in read:
            plan = by_path[record.path]
            self.plans[entry.path] = plan
            self.summaries[entry.path] = ExperimentSummary.of(store.index.root, plan)
            groups[plan.target_id].append((store, entry, plan))
        for (store, entry, first), *others in groups.values():
            location = self.locations.experiment(store, entry, first)
            self._hand_experiment(
                replace(first, artifact_location=location), [plan for _, _, plan in others]
            )

    def _listed(self) -> set[str] | None:
        """Return the directories of experiments with what ``--only`` lists, None without a list."""
        if not self.selection.listed:
            return None
        homes: set[str] = set()
        anything = False
        for store in self.stores:
            index = store.index
            for entry in (*index.runs, *index.traces, *index.datasets, *index.logged_models):
                if self.selection.names(entry):
                    homes.add(self._home(store, entry))
            homes.update(e.path for e in index.experiments if self.selection.names(e))
            anything |= any(map(self.selection.names, index.registered_models))
        if not homes and not anything:
            raise OptionError(
                f"Nothing that {self.options.only} lists is in the source.",
                todo="Give the source of the conversion that wrote the list.",
            )
        return homes

    def _selected(self, record: ExperimentRecord) -> bool:
        names = self.options.experiments
        return not names or record.name in names or record.experiment_id in names

    def _hand_experiment(self, first: ExperimentPlan, others: Sequence[ExperimentPlan]) -> None:
        """Hand over the experiment that one or several sources share, with all their tags."""
        tags = dict(first.tags)
        self.handed.update(counts_of(first.record))
        for plan in others:
            self.ledger.merged[Kind.EXPERIMENT] += 1
            for key, value in plan.record.tags.items():
                if key not in tags:
                    tags[key] = value
                    self.handed[Kind.EXPERIMENT_TAG] += 1
                elif tags[key] == value:
                    self.ledger.merged[Kind.EXPERIMENT_TAG] += 1
                else:
                    self.ledger.add_issues(
                        [
                            Issue(
                                Code.EXPERIMENT_TAG_DIFFERS,
                                plan.record.path,
                                f"Tag {key!r} of experiment {plan.record.name!r} has another "
                                f"value in {first.record.path}.",
                                "the value there",
                                Kind.EXPERIMENT_TAG.value,
                                plan.record.experiment_id,
                                sample=f"{value!r}, and {tags[key]!r} there",
                            )
                        ]
                    )
        self.sink.add_experiment(replace(first, tags=tags))

    def _plan_of(self, store: Store, entry: Entry) -> ExperimentPlan | None:
        return self.plans.get(self._home(store, entry))

    def _home(self, store: Store, entry: Entry) -> str:
        """Return the directory of the experiment that an entry belongs to.

        The entry lies in it (a run right there, all else in a folder such as ``traces``). An id
        may occur twice in a store, in folders of the user's own; it only helps a stray entry.
        """
        inside = os.path.dirname(entry.path)  # noqa: PTH120  # a Path for each run costs more
        for folder in (inside, os.path.dirname(inside)):  # noqa: PTH120
            if folder in self.folders:
                return folder
        return self.homes.get((store.number, entry.in_trash, entry.experiment_id or ""), "")

    def _count_files(self, entry: RunEntry) -> None:
        """Enter what lies in a run's directory; the walk over the store has left that to us."""
        files, size_bytes = extractor.weigh(entry)
        self.ledger.files += files
        self.ledger.size_bytes += size_bytes

    def _leave_out_files(self, store: Store, entry: Entry) -> None:
        self.ledger.files_left_out += extractor.count_files(entry.path, store.index.root)

    # ------------------------------------------------------------- runs and their traces

    def _trees(self) -> None:
        home: dict[str, Store] = {}
        entries: dict[str, RunEntry] = {}
        repeated: list[tuple[Store, RunEntry]] = []
        found = [(store, entry) for store in self.stores for entry in _ranked(store.index.runs)]
        # Of one id, the first counts: one that is wanted (the sort keeps the order otherwise).
        found.sort(key=lambda each: self._plan_of(*each) is None)
        for store, entry in found:
            if entry.entity_id in entries:
                repeated.append((store, entry))
                continue
            entries[entry.entity_id] = entry
            home[entry.entity_id] = store
        profiles = transformer.load_profiles(self.options.profile_files)
        choice = transformer.PlanOptions(
            include=self.options.include,
            exclude=self.options.exclude,
            profile=self.options.profile,
            roles=self._forced_roles(),
            version=__version__,
        )
        reader = TreeReader(
            profiles,
            transformer.wanted_artifacts(p for p in profiles if choice.asks_for(p)),
            choice,
            {store.index.root: store.artifact_roots for store in self.stores},
            self._native_by_run(),
            frozenset(entry.entity_id for store in self.stores for entry in store.index.traces),
        )
        if self.options.group_by_time or self.options.adopt_orphans:
            entries = self._regrouped(entries, home, reader)
        forest = transformer.build_forest(entries.values())
        self.ledger.add_issues(forest.issues)
        work = TreeWork(self, reader, forest.trees, entries, home)
        workers = self.options.workers or processes.cores()
        if workers == 1 or self.on_tree is not None or len(entries) <= FEW_RUNS:
            work.here()
        elif isinstance(self.sink, SharedSink):
            work.shared(self.sink, workers)
        else:
            work.here()
        if not self.options.group_by_time:
            parents = transformer.group_by_time(self.moments)
            self.outcome.groups_by_time = (len(set(parents.values())), len(parents))
        if not self.options.adopt_orphans:
            self.outcome.orphans = len(transformer.adopt_orphans(self.moments))
        for store, entry in repeated:
            self._count_files(entry)
            plan = self._plan_of(store, entry)
            if plan is None:
                continue
            if entry.entity_id in self.runs_left_out:
                self._leave_out_files(store, entry)
                continue
            run = self._take(Kind.RUN, store, entry, reader.read)
            if run is not None:  # the one that came first could not be read
                self.handed.subtract(counts_of(run))
                self._hand_run(store, entry, run, plan)

    def _forced_roles(self) -> dict[str, Role]:
        """Return the roles that the user gave, by the experiment's directory."""
        forced: dict[str, Role] = {}
        for name, role in self.options.roles:
            records = [plan.record for plan in self.plans.values()]
            paths = [r.path for r in records if name in (r.name, r.experiment_id)]
            if not paths:
                raise OptionError(
                    f"The source has no experiment with the name or id {name!r}.",
                    todo="'mlflow-migrate scan' lists them.",
                )
            forced.update({path: Role(role) for path in paths})
        return forced

    def _regrouped(
        self,
        entries: Mapping[str, RunEntry],
        home: Mapping[str, Store],
        reader: TreeReader,
    ) -> dict[str, RunEntry]:
        """Read all trees once before the walk, and give runs the parents that time suggests."""
        moments = []
        for tree in transformer.build_forest(entries.values()).trees:
            if self._home(home[tree.root_id], entries[tree.root_id]) not in self.plans:
                continue
            records = [reader.read(entries[run_id]).record for run_id in tree.run_ids]
            runs = {run.run_id: run for run in records if run is not None}
            if runs:
                planned = reader.plan(tree.root_id, runs, tree.children)
                moments.append(self._moment(planned, entries, reader, with_params=True))
        known = [moment for moment in moments if moment is not None]
        parents: dict[str, str] = {}
        for wanted, find, code, why in (
            (
                self.options.group_by_time,
                transformer.group_by_time,
                Code.RUN_GROUPED_BY_TIME,
                "grouped by time, none is on record",
            ),
            (
                self.options.adopt_orphans,
                transformer.adopt_orphans,
                Code.RUN_ADOPTED,
                "it had lost its own, the workflow before it took it in",
            ),
        ):
            found = find(known) if wanted else {}
            for run_id, parent in sorted(found.items()):
                if run_id in parents:
                    continue
                parents[run_id] = parent
                self.inferred[run_id] = why
                message = f"Run {run_id} is taken for a step of {parent}."
                kept = "the run as it was; its span lies in the other's trace"
                path = entries[run_id].path
                self.ledger.add_issues([Issue(code, path, message, kept, Kind.RUN.value, run_id)])
        return {
            run_id: replace(entry, parent_run_id=parents.get(run_id, entry.parent_run_id))
            for run_id, entry in entries.items()
        }

    def _moment(
        self,
        planned: PlannedTree,
        entries: Mapping[str, RunEntry],
        reader: TreeReader,
        *,
        with_params: bool,
    ) -> transformer.Moment | None:
        parent = entries[planned.tree.root_id].parent_run_id
        return transformer.moment_of(
            planned.tree,
            planned.plan,
            reader.profiles,
            parent_is_missing=parent is not None and parent not in entries,
            with_params=with_params,
        )

    def _native_by_run(self) -> dict[str, tuple[str, ...]]:
        native: dict[str, tuple[str, ...]] = {}
        for store in self.stores:
            for entry in store.index.traces:
                if entry.source_run_id:
                    before = native.get(entry.source_run_id, ())
                    native[entry.source_run_id] = (*before, entry.entity_id)
        return native

    def _tree(
        self,
        tree: transformer.Tree,
        entries: Mapping[str, RunEntry],
        home: Mapping[str, Store],
        reader: TreeReader,
    ) -> None:
        for run_id in tree.run_ids:
            self._count_files(entries[run_id])
        keys = {run_id: self._home(home[run_id], entries[run_id]) for run_id in tree.run_ids}
        wanted = any(key in self.plans for key in keys.values())
        read: dict[str, Extracted[RunRecord]] = {}
        if wanted and any(self.selection.names(entries[run_id]) for run_id in tree.run_ids):
            read = {run_id: reader.read(entries[run_id]) for run_id in tree.run_ids}
        if not read or not self.selection.takes_runs(each.record for each in read.values()):
            self.runs_left_out.update(tree.run_ids)
            for run_id in tree.run_ids:
                if keys[run_id] in self.plans:
                    self._leave_out_files(home[run_id], entries[run_id])
            return
        runs: dict[str, RunRecord] = {}
        for run_id in tree.run_ids:
            extracted = self.redactor.mask(read.pop(run_id))
            plan = self.plans.get(keys[run_id])
            if plan is None:
                self.runs_left_out.add(run_id)
            else:
                self.ledger.add_extracted(extracted)
            if extracted.record is None:
                continue
            self.seen[Kind.RUN, run_id] = (home[run_id], entries[run_id])
            runs[run_id] = extracted.record
            if plan is not None:
                self.summaries[keys[run_id]].add_run(extracted.record)
                self._hand_run(home[run_id], entries[run_id], extracted.record, plan)
        root = self.plans.get(keys[tree.root_id])
        if root is None or not runs:
            return
        inferred = {run_id: self.inferred[run_id] for run_id in runs if run_id in self.inferred}
        planned = reader.plan(tree.root_id, runs, tree.children, inferred)
        if (moment := self._moment(planned, entries, reader, with_params=False)) is not None:
            self.moments.append(moment)
        self.ledger.add_issues(planned.plan.issues)
        summary = self.summaries[keys[tree.root_id]]
        summary.add_tree(planned.plan)
        for trace in planned.plan.traces if self.options.traces else ():
            summary.add_trace(trace)
            self.ledger.rebuilt.update(trace_counts_of(trace))
            self.sink.add_trace(trace, root.target_id)
        if self.on_tree is not None:
            self.on_tree(planned)

    def _hand_run(
        self, store: Store, entry: RunEntry, run: RunRecord, plan: ExperimentPlan
    ) -> None:
        if self.options.runs:
            self.handed.update(counts_of(run))
            placed = self.locations.run(store, entry, run, plan.target_id)
            self.sink.add_run(placed, plan.target_id)
        else:
            self.runs_left_out.add(run.run_id)
            self.ledger.left_out.update(counts_of(run))

    # ------------------------------------------------------------- everything else

    def _take(
        self,
        kind: Kind,
        store: Store,
        entry: E,
        read: Callable[[E], Extracted[T]],
        within: str = "",
    ) -> T | None:
        """Read an entity and account for it; return it unless it is rejected or came before."""
        extracted = self.redactor.mask(read(entry))
        self.ledger.add_extracted(extracted)
        record = extracted.record
        if record is None:
            return None
        name = (kind, within + entry.entity_id)
        first_store, first = self.seen.setdefault(name, (store, entry))
        if first is entry:
            self.handed.update(counts_of(record))
            return record
        first_read = read(first)  # type: ignore[arg-type]  # the same kind, so the same type
        again = self.redactor.mask(first_read).record
        same = again is not None and _content(again) == _content(record)
        plans = (self._plan_of(first_store, first), self._plan_of(store, entry))
        together = len({plan and plan.target_id for plan in plans}) == 1
        how = "with other content"
        if same:
            how = "with the same content" + ("" if together else ", but in another experiment")
        self._account_repeat(kind, entry, first.path, record, how, same and together)
        return None

    def _account_repeat(
        self, kind: Kind, entry: Entry, first_path: str, record: object, how: str, same: bool
    ) -> None:
        """Account for a directory whose id came before: equal content is once, else rejected."""
        counts = counts_of(record)
        if same:
            self.ledger.merged.update(counts)
            counts = {kind: 1}
        for each, count in counts.items():
            if count:
                issue = Issue(
                    Code.ENTITY_REPEATED if same else Code.ENTITY_CLASHES,
                    entry.path,
                    f"{kind.value} {entry.entity_id} lies in {first_path} too, {how}.",
                    "one of the two" if same else f"the one in {first_path}",
                    each.value,
                    entry.entity_id,
                    count,
                )
                self.ledger.add_issues([issue])

    def _native_traces(self) -> None:
        total = sum(len(store.index.traces) for store in self.stores)
        done = 0
        for store in self.stores:
            read = partial(extractor.read_trace, artifact_roots=store.artifact_roots)
            for entry in _ranked(store.index.traces):
                done += 1
                self.progress("traces", done, total)
                plan = self._plan_of(store, entry)
                if plan is None:
                    continue
                if not self._takes_trace(entry, read):
                    self._leave_out_files(store, entry)
                    continue
                record = self._take(Kind.TRACE, store, entry, read)
                if record is None:
                    continue
                if not self.options.traces:
                    self._leave_out(record)
                    continue
                record = self.locations.trace(store, entry, record, plan.target_id)
                trace, issues = transformer.plan_native_trace(record, __version__)
                self.ledger.add_issues(issues)
                self.ours.update(trace_counts_of(trace))
                self.ours.subtract(counts_of(record))
                self.summaries[self._home(store, entry)].add_trace(trace)
                self.sink.add_trace(trace, plan.target_id)

    def _takes_trace(
        self, entry: TraceEntry, read: Callable[[TraceEntry], Extracted[TraceRecord]]
    ) -> bool:
        if not self.selection.names(entry):
            return False
        if self.selection.since_ms is None:
            return True
        record = read(entry).record
        return record is None or self.selection.takes_trace(record)

    def _leave_out(self, record: object) -> None:
        """Move what was taken from handed over to left out."""
        self.handed.subtract(counts_of(record))
        self.ledger.left_out.update(counts_of(record))

    def _datasets(self) -> None:
        for store in self.stores:
            for entry in _ranked(store.index.datasets):
                plan = self._plan_of(store, entry)
                if plan is None:
                    continue
                within = f"{plan.target_id}/"  # a dataset's id is one of its experiment
                read = extractor.read_dataset
                record = self._take(Kind.DATASET, store, entry, read, within)
                if record is not None:
                    self.sink.add_dataset(record, plan.target_id)

    def _logged_models(self) -> None:
        for store in self.stores:
            read = partial(extractor.read_logged_model, artifact_roots=store.artifact_roots)
            for entry in _ranked(store.index.logged_models):
                plan = self._plan_of(store, entry)
                if plan is None:
                    continue
                if not self.selection.names(entry):
                    self._leave_out_files(store, entry)
                    continue
                record = self._take(Kind.LOGGED_MODEL, store, entry, read)
                if record is not None:
                    record = self.locations.logged_model(store, entry, record, plan.target_id)
                    self.sink.add_logged_model(self._of_runs(record), plan.target_id)

    def _of_runs(self, record: LoggedModelRecord) -> LoggedModelRecord:
        """Leave a model's metrics out that runs measured which the options leave out."""
        kept = tuple(m for m in record.metrics if m.run_id not in self.runs_left_out)
        left = len(record.metrics) - len(kept)
        if not left:
            return record
        self.handed[Kind.LOGGED_MODEL_METRIC] -= left
        self.ledger.left_out[Kind.LOGGED_MODEL_METRIC] += left
        return replace(record, metrics=kept)

    def _registered_models(self) -> None:
        for store in self.stores:
            for entry in _ranked(store.index.registered_models):
                if self.options.experiments or not self.selection.names(entry):
                    # a registered model belongs to no experiment
                    self._leave_out_files(store, entry)
                    continue
                read = extractor.read_registered_model
                record = self._take(Kind.REGISTERED_MODEL, store, entry, read)
                if record is not None:
                    record = self.locations.registered_model(record, self._owner_of)
                    self.sink.add_registered_model(record)

    def _owner_of(self, entity_id: str) -> tuple[Kind, Store, Entry] | None:
        """Return the run or logged model that has an id, if the sources have one."""
        for kind in (Kind.RUN, Kind.LOGGED_MODEL):
            if (kind, entity_id) in self.seen:
                return kind, *self.seen[kind, entity_id]
        return None

    def _experiment_kinds(self) -> None:
        if self.options.experiment_kind == "keep":
            return
        by_target: dict[int, list[ExperimentSummary]] = defaultdict(list)
        tags: dict[int, dict[str, str]] = defaultdict(dict)
        for key, summary in self.summaries.items():
            by_target[summary.target_id].append(summary)
            tags[summary.target_id].update(self.plans[key].tags)
        for target_id, summaries in by_target.items():
            kind: str | None = conventions.EXPERIMENT_KIND_GENAI
            if self.options.experiment_kind == "auto":
                kind = transformer.experiment_kind(
                    tags[target_id],
                    sum(s.trees for s in summaries),
                    sum(s.trees - sum(s.left_as_runs.values()) for s in summaries),
                    sum(s.native_traces for s in summaries),
                )
            if kind is not None:
                self.sink.set_experiment_tag(target_id, conventions.EXPERIMENT_KIND, kind)

    # ------------------------------------------------------------- the end

    def check_handed(self) -> None:
        """Raise LedgerError unless all that was found is handed over or accounted for.

        Runs before anything is published, so that a defect of ours costs a message, not data.
        """
        self._allow_for_changes()
        _check_closed(self.ledger, self.handed)

    def _allow_for_changes(self) -> None:
        """Take the number of files that were met where the store has changed since the walk.

        Only a second walk can tell that from a file that we lost: what was met has to lie between
        the two counts.
        """
        ledger = self.ledger
        met = ledger.files_met
        if met == ledger.files:
            return
        now = sum(map(_files_now, self.stores))
        if min(ledger.files, now) <= met <= max(ledger.files, now):
            ledger.add_issues(
                [
                    Issue(
                        Code.STORE_CHANGED,
                        ", ".join(store.index.root for store in self.stores),
                        f"The first walk found {ledger.files:,} files, {met:,} were met when they "
                        f"were to be read, and {now:,} are there now.",
                        "what was there",
                    )
                ]
            )
            ledger.files = met

    def check_written(self, written: loader.LoadResult) -> None:
        """Raise LedgerError unless what was handed over is written, merged or refused by name."""
        trial = Ledger(
            found=self.ledger.found,
            merged=Counter(self.ledger.merged),
            rejected=Counter(self.ledger.rejected),
            left_out=self.ledger.left_out,
        )
        _add_result(trial, written, self.ours)
        _check_closed(trial, {})


def _files_now(store: Store) -> int:
    try:
        return extractor.index(store.index.root).files
    except SourceError:
        return 0  # it can't be read any more


def _check_closed(ledger: Ledger, converted: Mapping[Kind, int]) -> None:
    before = Counter(ledger.converted)
    ledger.converted.update(converted)
    gaps = ledger.gaps()
    ledger.converted = before
    if gaps:
        raise LedgerError(
            "The counts do not close, so nothing was written: " + "; ".join(gaps) + ".",
            todo="This is a defect of mlflow-migrate; please report it with these numbers.",
        )


def _check_rejects(issues: Sequence[Issue]) -> None:
    """Raise RejectedError for the first rejection."""
    for issue in issues:
        if issue.severity is Severity.REJECTED:
            where = f"{issue.path}: " if issue.path else ""
            raise RejectedError(
                f"{issue.code.value}: {where}{issue.message} Nothing was written (--on-error "
                "stop).",
                todo=f"{CATALOG[issue.code].action} Or convert the rest with --on-error skip.",
            )


class TreeWork:
    """The work on all trees of a migration, done here or shared by several processes.

    Shared work is done in lots. A process works on a copy of the migration whose accounts are
    empty and whose sink only records; what they hold then is added to the whole, in the order of
    the trees, so that nobody can tell how many processes there were.
    """

    def __init__(
        self,
        migration: Migration,
        reader: TreeReader,
        trees: Sequence[transformer.Tree],
        entries: Mapping[str, RunEntry],
        home: Mapping[str, Store],
    ) -> None:
        self._whole = migration
        self._trees = trees
        self._context = (entries, home, reader)
        self._total = len(entries)
        self._lots: list[tuple[int, int, int]] = []  # first tree, end, runs up to there
        self._recorder: Recorder = Discard()

    def here(self) -> None:
        """Work on all trees in this process."""
        done = 0
        for tree in self._trees:
            self._whole._tree(tree, *self._context)
            done += len(tree.run_ids)
            self._whole.progress("runs", done, self._total)

    def shared(self, sink: SharedSink, workers: int) -> None:
        """Let processes work on the trees, and take in what they return. Raises WorkerError."""
        whole = self._whole
        entries, home, _ = self._context
        self._recorder = sink.recorder()
        first = runs = done = 0
        for at, tree in enumerate(self._trees, 1):
            runs += len(tree.run_ids)
            if runs - done >= LOT_RUNS or at == len(self._trees):
                self._lots.append((first, at, runs))
                first, done = at, runs
        entries, home, _ = self._context
        with closing(processes.results(self, len(self._lots), workers)) as shares:
            for share, (_, _, done) in zip(shares, self._lots, strict=True):
                whole.ledger.add(share.ledger)
                whole.handed.update(share.handed)
                for key, summary in share.summaries.items():
                    whole.summaries[key].add(summary)
                whole.locations.add(share.locations)
                whole.moments += share.moments
                for run_id in share.seen:
                    whole.seen[Kind.RUN, run_id] = (home[run_id], entries[run_id])
                whole.runs_left_out |= share.left_out
                whole.redactor.counts.update(share.redacted)
                sink.replay(share.recorded)
                whole.progress("runs", done, self._total)

    def __call__(self, number: int) -> Share:
        """Work on one lot, in any process."""
        part = copy.copy(self._whole)
        part.ledger, part.handed, part.moments = Ledger(), Counter(), []
        part.seen, part.runs_left_out = {}, set()
        part.redactor = Redactor(part.options.redact)
        part.summaries = _Parts(self._whole.summaries)
        part.locations = self._whole.locations.blank()
        part.sink = self._recorder  # type: ignore[assignment]  # trees are runs and traces only
        first, end, _ = self._lots[number]
        for tree in self._trees[first:end]:
            part._tree(tree, *self._context)
        return Share(
            ledger=part.ledger,
            handed=part.handed,
            summaries=dict(part.summaries),
            locations=part.locations,
            moments=part.moments,
            seen=[run_id for _, run_id in part.seen],
            left_out=part.runs_left_out,
            redacted=part.redactor.counts,
            recorded=self._recorder.recorded(),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what only the first process has, or needs (for processes that are spawned)."""
        whole = copy.copy(self._whole)
        whole.progress, whole.sink, whole.seen = no_progress, Discard(), {}
        whole.ledger, whole.locations = Ledger(), whole.locations.blank()
        whole.outcome = _outcome(whole.stores, None)
        return {**self.__dict__, "_whole": whole}


class _Parts(dict[str, ExperimentSummary]):
    """Summaries of parts of experiments, each begun when it is first asked for."""

    def __init__(self, whole: Mapping[str, ExperimentSummary]) -> None:
        self._whole = whole

    def __missing__(self, key: str) -> ExperimentSummary:
        whole = self._whole[key]
        self[key] = ExperimentSummary(
            whole.source,
            whole.experiment_id,
            whole.name,
            whole.target_id,
            whole.target_name,
            whole.lifecycle_stage,
        )
        return self[key]


def _ranked(entries: Sequence[E]) -> list[E]:
    """Return entries so that of those with one id the first counts.

    The active one before a deleted one, then the shorter path: a copy's name is longer.
    """
    return sorted(entries, key=lambda e: (e.in_trash, len(e.path), e.path))


def _content(record: Any) -> list[object]:
    """Return a record's fields, save those that only say where it lies."""
    where = {"path", "artifact_dir", "spans_path", "experiment_id"}
    return [getattr(record, f.name) for f in fields(record) if f.name not in where]


# ---------------------------------------------------------------------- the commands


def scan(
    sources: Sequence[str],
    options: Options,
    *,
    on_tree: Callable[[PlannedTree], None] | None = None,
    progress: Progress = no_progress,
) -> Outcome:
    """Return what ``convert`` would do with the sources, without a target.

    Raises SourceError and OptionError.
    """
    began = time.monotonic()
    stores = open_stores(sources, progress)
    outcome = _outcome(stores, target=None)
    migration = Migration(stores, options, Discard(), outcome, on_tree=on_tree, progress=progress)
    migration.run()
    migration.check_handed()
    outcome.ledger.add_outcome(migration.handed, {})
    outcome.seconds = time.monotonic() - began
    return outcome


def convert(
    sources: Sequence[str],
    to: str,
    options: Options,
    *,
    schema: str | None = None,
    dry_run: bool = False,
    report: str | None = None,
    values: bool = False,
    backup: bool = True,
    stop_on_error: bool = False,
    progress: Progress = no_progress,
) -> Outcome:
    """Write the sources into the database at ``to``, whole or not at all.

    The report goes to ``report``, or to a new file beside the target; ``values`` shows the
    source's own words in it. With ``stop_on_error`` the first thing that is rejected ends the
    conversion. Raises SourceError, OptionError, TargetError, RejectedError, and LedgerError (a
    defect); the target is untouched then.
    """
    began = time.monotonic()
    if report is not None:
        check_report_path(report)
    target = loader.open_target(to, schema)
    stores = open_stores(sources, progress)
    outcome = _outcome(stores, target=target.uri)
    outcome.dry_run = dry_run
    existing = target.experiments()
    if dry_run:
        migration = Migration(
            stores, options, Discard(), outcome, existing=existing, progress=progress
        )
        migration.run()
        migration.check_handed()
        if stop_on_error:
            _check_rejects(outcome.ledger.issues)
        outcome.ledger.add_outcome(migration.handed, {})
    else:
        with loader.Writer(target) as writer:
            migration = Migration(
                stores, options, writer, outcome, existing=existing, progress=progress
            )
            migration.run()
            migration.check_handed()
            _copy_artifacts(migration, progress)
            progress("checking", 0, 0)
            written = writer.finish()
            migration.check_written(written)
            if stop_on_error:
                _check_rejects([*outcome.ledger.issues, *written.issues])
            progress("publishing", 0, 0)
            result = writer.publish(backup=backup)
        _add_result(outcome.ledger, result, migration.ours)
        outcome.backup = result.backup_path
        outcome.schema = target.wanted
    outcome.seconds = time.monotonic() - began
    if report is not None or not dry_run:
        path = Path(report) if report is not None else free_report_path(Path(target.path))
        outcome.report_path = str(path)
        write_report(outcome, path, values)
    return outcome


def _files_of(copy: ArtifactCopy) -> Iterator[tuple[str, str, int]]:
    return extractor.artifact_files(copy.source, copy.bound)


def _copy_artifacts(migration: Migration, progress: Progress) -> None:
    """Make the copies that were decided, before anything refers to them. Raises TargetError."""
    locations = migration.locations
    if locations.choice.directory is None:
        return
    result = loader.copy_artifacts(
        locations.copies,
        locations.choice.directory,
        _files_of,
        protected=[root for store in migration.stores for root in store.artifact_roots],
        on_progress=lambda done, total: progress("copying artifacts, bytes", done, total),
    )
    summary = locations.summary
    summary.files_copied, summary.bytes_copied = result.files, result.bytes
    summary.files_there, summary.files_failed = result.already_there, result.failed
    migration.ledger.add_issues(result.issues)


def _add_result(ledger: Ledger, result: loader.LoadResult, ours: Counter[Kind]) -> None:
    """Enter what the loader did; what we added to native traces was not found, so not counted."""
    converted, there = Counter(result.converted), Counter(result.already_there)
    for kind, count in ours.items():
        new = min(count, converted[kind])
        converted[kind] -= new
        there[kind] -= count - new
    ledger.add_outcome(converted, there)
    ledger.merged.update(result.merged)
    ledger.add_issues(result.issues)
    ledger.rebuilt_new.update({kind: n for kind, n in result.rebuilt.items() if n})


def upgrade(uri: str) -> loader.UpgradeResult:
    """Carry a converted database to the schema of the installed MLflow, after a backup.

    Raises TargetError; the database is then as it was.
    """
    return loader.upgrade_database(uri)


def show(run_id: str, sources: Sequence[str], options: Options) -> PlannedTree:
    """Return the tree that holds a run, and what it becomes.

    ``run_id`` may be shortened as long as it is unambiguous. Raises OptionError otherwise.
    """
    stores = open_stores(sources)
    ids = {entry.entity_id for store in stores for entry in store.index.runs}
    matches = sorted(each for each in ids if each.startswith(run_id))
    if run_id in ids:
        matches = [run_id]
    if len(matches) != 1:
        found = ", ".join(matches[:5]) or "none"
        raise OptionError(
            f"{len(matches)} runs begin with {run_id!r} in {', '.join(sources)} ({found}).",
            todo="Give the whole run id; 'mlflow-migrate scan --tree EXPERIMENT' lists them.",
        )
    wanted: list[PlannedTree] = []

    def keep(planned: PlannedTree) -> None:
        if matches[0] in planned.tree.runs:
            wanted.append(planned)

    outcome = _outcome(stores, target=None)
    Migration(stores, options, Discard(), outcome, on_tree=keep).run()
    if not wanted:
        raise SourceError(
            f"Run {matches[0]} could not be read.", todo="'mlflow-migrate scan' says why."
        )
    return wanted[0]


def _outcome(stores: Sequence[Store], target: str | None) -> Outcome:
    return Outcome(__version__, tuple(store.index.root for store in stores), target)
