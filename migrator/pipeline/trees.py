"""The work on the trees of runs, done in this process or shared by several."""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from migrator import extractor, transformer, workers
from migrator.errors import WorkerError
from migrator.issues import Kind
from migrator.model import Entry, ExperimentPlan, Extracted, RunEntry, RunRecord, TreePlan
from migrator.outcome.ledger import Ledger, counts_of, trace_counts_of
from migrator.pipeline.copies import Copy, unite
from migrator.pipeline.options import Options
from migrator.pipeline.selection import Selection
from migrator.pipeline.sinks import Recorder, RunSink, SharedSink
from migrator.pipeline.stores import Homes, Progress, Store
from migrator.pipeline.walk_totals import Accounts

LOT_RUNS = 50  # about as many runs are one piece of work for a process; MOST_DECISIONS or fewer
SAMPLED_TREES = 20  # nested trees of an experiment that are read for the names of their runs,
SAMPLED_RUNS = 100  # of no more runs than this,
SAMPLED_CALLS = 5  # and flat runs of it,
MOST_SAMPLED_CALLS = 500  # no more than this in all
AHEAD = 2  # so many pieces of work for each worker are under way


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
    known_names: Mapping[str, transformer.KnownNames] = field(default_factory=dict)
    """Names of recognised runs, by the directory of their experiment."""

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
        known_names = transformer.KnownNames()
        if self.known_names and not children and (root := runs.get(root_id)) is not None:
            known_names = self.known_names.get(str(Path(root.path).parent), known_names)
        tree = transformer.RunTree(root_id, runs, children, inferred or {}, known_names)
        plan = transformer.plan_tree(
            tree, self.profiles, self.options, self.native, self.known_traces
        )
        return PlannedTree(tree, plan)


@dataclass(frozen=True, slots=True)
class TreeContext:
    """What is known of all runs when the work on their trees begins; the same everywhere."""

    options: Options
    selection: Selection
    homes: Homes
    reader: TreeReader
    entries: Mapping[str, RunEntry]  # by run id, those that count
    store: Store  # that in which they lie,
    elsewhere: Mapping[str, Store]  # but for these
    inferred: Mapping[str, str]  # runs whose parent is a guess, and why
    copies: Mapping[str, Sequence[tuple[Store, RunEntry]]]  # of runs, those that don't count
    on_tree: Callable[[PlannedTree], None] | None = None

    def store_of(self, run_id: str) -> Store:
        """Return the store in which the run lies that counts."""
        return self.elsewhere.get(run_id, self.store)

    def with_known_names(self, forest: transformer.Forest) -> TreeContext:
        """Read a sample of each experiment's trees, and give the reader the names it recognised.

        What is read depends on the ids of runs alone, so that each shard finds the same names.
        """
        nested: dict[str, list[str]] = {}
        flat: dict[str, list[str]] = {}
        for root_id in forest.root_ids:
            entry = self.entries[root_id]
            if self.homes.plan_of(self.store_of(root_id), entry) is not None:
                trees = nested if root_id in forest.children else flat
                trees.setdefault(entry.folder, []).append(root_id)
        calls_left = MOST_SAMPLED_CALLS
        known: dict[str, transformer.KnownNames] = {}
        for folder, flat_ids in sorted(flat.items()):
            sample = nested.get(folder, [])[:SAMPLED_TREES]
            if len(flat_ids) > 1 and calls_left > 0:
                calls = flat_ids[:: max(1, len(flat_ids) // SAMPLED_CALLS)][:SAMPLED_CALLS]
                calls_left -= len(calls)
                sample = [*sample, *calls]
            names = transformer.KnownNames()
            for root_id in sample:
                names |= self._names_in(forest.tree(root_id))
            if names:
                known[folder] = names
        return replace(self, reader=replace(self.reader, known_names=known)) if known else self

    def _names_in(self, tree: transformer.Tree) -> transformer.KnownNames:
        """The names of the runs of a tree, if it is recognised."""
        if len(tree.run_ids) > SAMPLED_RUNS:
            return transformer.KnownNames()
        records = [self.reader.read(self.entries[run_id]).record for run_id in tree.run_ids]
        runs = {run.run_id: run for run in records if run is not None}
        planned = self.reader.plan(tree.root_id, runs, tree.children)
        names = [run.name for run in runs.values()]
        return transformer.recognised_names(names, planned.plan)

    def moment(self, planned: PlannedTree, *, with_params: bool) -> transformer.Moment | None:
        """Return when a tree ran and what it was, where that may help to group it by time."""
        parent = self.entries[planned.tree.root_id].parent_run_id
        return transformer.moment_of(
            planned.tree,
            planned.plan,
            self.reader.profiles,
            parent_is_missing=parent is not None and parent not in self.entries,
            with_params=with_params,
        )


class TreeWorker:
    """Reads trees, decides, hands everything to a sink, and keeps accounts of it."""

    def __init__(self, context: TreeContext, accounts: Accounts, sink: RunSink) -> None:
        self._context = context
        self._accounts = accounts
        self._sink = sink

    def work(self, tree: transformer.Tree) -> None:
        """Read a tree's runs, plan it, and hand over the runs and traces that are wanted."""
        context, accounts = self._context, self._accounts
        entries, homes = context.entries, context.homes
        stores = {run_id: context.store_of(run_id) for run_id in tree.run_ids}
        keys = {run_id: homes.home(stores[run_id], entries[run_id]) for run_id in tree.run_ids}
        wanted = any(key in homes.plans for key in keys.values())
        read: dict[str, Extracted[RunRecord]] = {}
        if wanted and any(context.selection.names(entries[run_id]) for run_id in tree.run_ids):
            read = {run_id: context.reader.read(entries[run_id]) for run_id in tree.run_ids}
        if not read or not context.selection.takes_runs(each.record for each in read.values()):
            accounts.runs_left_out.update(tree.run_ids)
            for run_id in tree.run_ids:
                count_files(accounts.ledger, entries[run_id])
                if keys[run_id] in homes.plans:
                    leave_out_files(accounts.ledger, stores[run_id], entries[run_id])
            return
        runs: dict[str, RunRecord] = {}
        for run_id in tree.run_ids:
            extracted = accounts.redactor.mask(read.pop(run_id))
            plan = homes.plans.get(keys[run_id])
            if plan is None:
                accounts.runs_left_out.add(run_id)
                count_files(accounts.ledger, entries[run_id])
            else:
                accounts.ledger.add_extracted(extracted)
                accounts.ledger.add_files_found(extracted)
            if extracted.record is None:
                accounts.runs_unread.add(run_id)
                continue
            run = extracted.record
            if plan is not None:
                run = self._with_copies(entries[run_id], run, plan)
                accounts.summaries[keys[run_id]].add_run(run)
                self.hand_run(stores[run_id], entries[run_id], run, plan)
            runs[run_id] = run
        root = homes.plans.get(keys[tree.root_id])
        if root is None or not runs:
            return
        if root.record.deleted and "deleted" in context.options.exclude:
            runs = {run_id: _deleted(run) for run_id, run in runs.items()}
        guesses = {each: context.inferred[each] for each in runs if each in context.inferred}
        planned = context.reader.plan(tree.root_id, runs, tree.children, guesses)
        if (moment := context.moment(planned, with_params=False)) is not None:
            accounts.moments.append(moment)
        accounts.ledger.add_issues(planned.plan.issues)
        summary = accounts.summaries[keys[tree.root_id]]
        summary.add_tree(planned.plan, runs.get(tree.root_id))
        for trace in planned.plan.traces if context.options.traces else ():
            summary.add_trace(trace)
            accounts.ledger.rebuilt.update(trace_counts_of(trace))
            self._sink.add_trace(trace, root.target_id)
        if context.on_tree is not None:
            context.on_tree(planned)

    def _with_copies(self, entry: RunEntry, run: RunRecord, plan: ExperimentPlan) -> RunRecord:
        """Return a run with what it lacks of its copies in other directories."""
        accounts, context = self._accounts, self._context
        whole = Copy(entry, plan.target_id, run)
        for store, other in context.copies.get(entry.entity_id, ()):
            plan_there = context.homes.plan_of(store, other)
            if plan_there is None:
                continue
            extracted = accounts.redactor.mask(context.reader.read(other))
            accounts.ledger.add_extracted(extracted)
            accounts.ledger.add_files_found(extracted)
            accounts.copies_read.add(other.path)
            if extracted.record is not None and context.options.runs:
                there = Copy(other, plan_there.target_id, extracted.record)
                whole = unite(Kind.RUN, whole, there, accounts)
            elif extracted.record is not None:
                accounts.ledger.left_out.update(counts_of(extracted.record))
        united: RunRecord = whole.record
        return united

    def hand_run(self, store: Store, entry: RunEntry, run: RunRecord, plan: ExperimentPlan) -> None:
        """Hand over a run that was read, with its location, or count it as left out."""
        accounts = self._accounts
        if self._context.options.runs:
            for kind, count in counts_of(run).items():
                accounts.handed[kind] += count
            placed = accounts.locations.run(store, entry, run, plan.target_id)
            self._sink.add_run(placed, plan.target_id)
        else:
            accounts.runs_left_out.add(run.run_id)
            accounts.ledger.left_out.update(counts_of(run))


def _deleted(run: RunRecord) -> RunRecord:
    """Return a run as one that was deleted on its own, whatever became of its experiment."""
    return replace(run, lifecycle_stage="deleted", deleted_with_experiment=False)


def count_files(ledger: Ledger, entry: RunEntry) -> None:
    """Enter what lies in the directory of a run that is left out, and that no walk has counted."""
    files, size_bytes = extractor.weigh(entry)
    ledger.files += files
    ledger.size_bytes += size_bytes


def leave_out_files(ledger: Ledger, store: Store, entry: Entry) -> None:
    """Count the files below an entry as left out by the options."""
    ledger.files_left_out += extractor.count_files(entry.path, store.index.root)


def work_here(
    forest: transformer.Forest,
    context: TreeContext,
    accounts: Accounts,
    sink: RunSink,
    progress: Progress,
    runs: int,
) -> None:
    """Work on all trees, which have so many runs, in this process."""
    worker, done = TreeWorker(context, accounts, sink), 0
    for tree in forest.trees():
        worker.work(tree)
        done += len(tree.run_ids)
        progress("runs", done, runs)


def work_shared(
    forest: transformer.Forest,
    context: TreeContext,
    accounts: Accounts,
    sink: SharedSink,
    progress: Progress,
    runs: int,
    workers_count: int,
) -> None:
    """Let others work on the trees in lots, and take in what they return.

    That is done in the order of the trees, so that the result is the same for every number of
    workers. They are processes of ours, or those of the executor that the options name. Raises
    WorkerError.
    """
    lots = tuple(_lots(forest))
    work = LotWork.of(context, accounts.blank(), sink.recorder())
    pieces = (_piece(forest, context, lot) for lot in lots)
    done = 0
    with _executor(context.options, min(workers_count, len(lots))) as (executor, at_once):
        answers = workers.results(executor, work, pieces, at_once)
        with closing(answers) as parts:
            for (part, recorded), lot in zip(parts, lots, strict=True):
                accounts.add(part)
                sink.replay(recorded)
                done += lot.runs
                progress("runs", done, runs)


@contextmanager
def _executor(options: Options, workers_count: int) -> Iterator[tuple[Executor, int]]:
    """Yield the executor, and how many pieces of work may be under way."""
    if options.executor is not None:
        yield options.executor, AHEAD * options.workers or workers.AT_ONCE
        return
    with workers.ProcessExecutor(workers_count) as executor:
        yield executor, AHEAD * workers_count


class Lot(NamedTuple):
    """Trees that are one piece of work: of those of the forest, in their order, a part."""

    first: int
    end: int  # of the first tree that is not in it
    runs: int


def _lots(forest: transformer.Forest) -> Iterator[Lot]:
    first = runs = 0
    for at, tree in enumerate(forest.trees(), 1):
        runs += len(tree.run_ids)
        if runs >= LOT_RUNS or at == len(forest.root_ids):
            yield Lot(first, at, runs)
            first, runs = at, 0


Answer: TypeAlias = "tuple[Accounts, Any]"  # of a lot, and what the sink is to replay


@dataclass(frozen=True, slots=True)
class LotPiece:
    """One lot of trees, and what of the context is about its runs."""

    trees: Sequence[transformer.Tree]
    entries: Mapping[str, RunEntry]
    elsewhere: Mapping[str, Store]
    inferred: Mapping[str, str]
    copies: Mapping[str, Sequence[tuple[Store, RunEntry]]]


def _piece(forest: transformer.Forest, context: TreeContext, lot: Lot) -> LotPiece:
    """Return what a process needs for one lot, and for no other."""
    root_ids = forest.root_ids[lot.first : lot.end]
    trees = [forest.tree(root_id) for root_id in root_ids]
    runs = [run_id for tree in trees for run_id in tree.run_ids]
    parents = [context.entries[root_id].parent_run_id or "" for root_id in root_ids]
    return LotPiece(
        trees,
        {r: context.entries[r] for r in (*runs, *parents) if r in context.entries},
        {r: context.elsewhere[r].outline() for r in runs if r in context.elsewhere},
        {r: context.inferred[r] for r in runs if r in context.inferred},
        {r: _outlined(context.copies[r]) for r in runs if r in context.copies},
    )


def _outlined(
    copies: Sequence[tuple[Store, RunEntry]],
) -> Sequence[tuple[Store, RunEntry]]:
    return [(store.outline(), entry) for store, entry in copies]


@dataclass(frozen=True, slots=True)
class LotWork:
    """The work on lots in a process that has nothing of ours but this (``workers.Work``)."""

    context: TreeContext  # without any run
    blank: Accounts
    recorder: Recorder  # a sink that only records
    roots: Sequence[str]  # of the stores

    @classmethod
    def of(cls, context: TreeContext, blank: Accounts, recorder: Recorder) -> LotWork:
        """Take from the context what all lots need."""
        stores = (context.store, *context.elsewhere.values())
        common = replace(
            context,
            options=replace(context.options, executor=None),
            entries={},
            store=context.store.outline(),
            elsewhere={},
            inferred={},
            copies={},
            on_tree=None,
        )
        return cls(common, blank, recorder, sorted({store.index.root for store in stores}))

    def check(self) -> None:
        """Raise WorkerError where this process doesn't see the sources that we see."""
        paths = [Path(folder) for folder in self.context.homes.plans]
        for root in self.roots:
            folders = {path.relative_to(root).parts[0] for path in paths if _is_in(path, root)}
            try:
                there = {each.name for each in Path(root).iterdir()}
            except OSError:
                there = set()
            if missing := sorted(folders - there):
                raise WorkerError(
                    f"The worker on {platform.node()} does not see the source {root} as it is "
                    f"here ({missing[0]} is not there); nothing was changed.",
                    todo="All workers need it under the same path, on a shared file system.",
                )

    def do(self, piece: LotPiece) -> Answer:
        """Return the answer for a lot."""
        context = replace(
            self.context,
            entries=piece.entries,
            elsewhere=piece.elsewhere,
            inferred=piece.inferred,
            copies=piece.copies,
        )
        recorder = copy.deepcopy(self.recorder)  # one for each thread
        return _work_on(piece.trees, context, self.blank.blank(), recorder)


def _is_in(path: Path, root: str) -> bool:
    return path.is_relative_to(root) and path != Path(root)


def _work_on(
    trees: Iterable[transformer.Tree], context: TreeContext, accounts: Accounts, recorder: Recorder
) -> Answer:
    worker = TreeWorker(context, accounts, recorder)
    for tree in trees:
        worker.work(tree)
    # Only what is in it is sent, not all the experiments that it could be asked for.
    accounts.summaries = dict(accounts.summaries)
    return accounts, recorder.recorded()
