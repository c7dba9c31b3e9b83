"""One tree of runs: read, planned, and handed over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

from migrator import transformer
from migrator.issues import Kind
from migrator.model import ExperimentPlan, Extracted, RunEntry, RunRecord, TreePlan
from migrator.outcome.ledger import counts_of, trace_counts_of
from migrator.pipeline.copies import Copy, unite
from migrator.pipeline.indexes import ExperimentIndex
from migrator.pipeline.options import Options
from migrator.pipeline.selection import Selection
from migrator.pipeline.sinks import RunSink
from migrator.pipeline.small_records import SmallRecords
from migrator.pipeline.stores import Store
from migrator.pipeline.walk_totals import WalkTotals, count_files, leave_out_files
from migrator.report.tree import show_text

MANY_RUNS = 5_000  # a tree of more is read in parts, into small records
_PART_RUNS = 500
_NO_NAMES = transformer.KnownNames()


def is_large(tree: transformer.Tree) -> bool:
    """Whether a tree has so many runs that their memory matters."""
    return len(tree.run_ids) > MANY_RUNS


@dataclass(frozen=True, slots=True, repr=False)
class PlannedTree:
    """One tree of runs, read, and what becomes of it."""

    tree: transformer.RunTree
    plan: TreePlan

    def __str__(self) -> str:
        """The tree and its traces, as ``show`` draws them."""
        return show_text(self.plan, self.tree.runs, self.tree.children)

    def __repr__(self) -> str:
        """The same, for Python's prompt."""
        return str(self)

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return f"<pre>{escape(str(self))}</pre>"


@dataclass(frozen=True, slots=True)
class TreeReader:
    """Reads the runs of a tree and plans it. It has all it needs, so it can run anywhere."""

    profiles: tuple[transformer.Profile, ...]
    wanted: Callable[[str], bool]  # which artifacts the profiles want to read
    options: transformer.PlanOptions
    native: Mapping[str, tuple[str, ...]]  # run id -> the native traces that were written in it
    known_traces: frozenset[str]  # all native traces
    known_names: Mapping[str, transformer.KnownNames] = field(default_factory=dict)
    """Names of recognised runs, by the directory of their experiment."""

    def read(self, store: Store, entry: RunEntry) -> Extracted[RunRecord]:
        """Read one run, with the texts that the profiles ask for."""
        return store.source.read_run(entry, self.wanted)

    def read_all(
        self, stores: Mapping[str, Store], entries: Sequence[RunEntry]
    ) -> dict[str, Extracted[RunRecord]]:
        """Read runs in bulk, by id; ``stores`` are those in which they lie, by run id."""
        by_store: dict[int, list[RunEntry]] = {}
        for entry in entries:
            by_store.setdefault(stores[entry.entity_id].number, []).append(entry)
        read: dict[str, Extracted[RunRecord]] = {}
        for of_store in by_store.values():
            source = stores[of_store[0].entity_id].source
            results = source.read_runs(of_store, self.wanted)
            for entry, extracted in zip(of_store, results, strict=True):
                read[entry.entity_id] = extracted
        return read

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
        known_names = _NO_NAMES
        root = runs.get(root_id)
        if self.known_names and root is not None:
            known_names = self.known_names.get(str(Path(root.path).parent), known_names)
        tree = transformer.RunTree(root_id, runs, children, inferred or {}, known_names)
        plan = transformer.plan_tree(
            tree, self.profiles, self.options, self.native, self.known_traces
        )
        return PlannedTree(tree, plan)


def batches(
    trees: Iterable[transformer.Tree], store_of: Callable[[str], Store]
) -> Iterator[list[transformer.Tree]]:
    """Divide trees into lots that their sources read in one go; the order stays."""
    batch: list[transformer.Tree] = []
    runs = 0
    for tree in trees:
        batch.append(tree)
        runs += len(tree.run_ids)
        if runs >= store_of(tree.root_id).source.bulk_runs:
            yield batch
            batch, runs = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class TreeContext:
    """What is known of all runs when the work on their trees begins; the same everywhere."""

    options: Options
    selection: Selection
    experiments: ExperimentIndex
    reader: TreeReader
    entries: Mapping[str, RunEntry]  # by run id, those that count
    store: Store  # the first one
    elsewhere: Mapping[str, Store]  # runs that do not lie in the first store
    inferred: Mapping[str, str]  # runs whose parent is a guess, and why
    copies: Mapping[str, Sequence[tuple[Store, RunEntry]]]  # other directories of a run id
    on_tree: Callable[[PlannedTree], None] | None = None

    def store_of(self, run_id: str) -> Store:
        """The store that holds the directory of a run that counts."""
        return self.elsewhere.get(run_id, self.store)

    def read_trees(self, trees: Sequence[transformer.Tree]) -> dict[str, Extracted[RunRecord]]:
        """Read the runs of trees in bulk, by id."""
        stores: dict[str, Store] = {}
        for tree in trees:
            stores.update({run_id: self.store_of(run_id) for run_id in tree.run_ids})
        return self.reader.read_all(stores, [self.entries[run_id] for run_id in stores])

    def planned(self, trees: Sequence[transformer.Tree]) -> Iterator[PlannedTree]:
        """Read trees in bulk, and plan those of which any run can be read."""
        read = self.read_trees(trees)
        for tree in trees:
            records = [read.pop(run_id).record for run_id in tree.run_ids]
            runs = {run.run_id: run for run in records if run is not None}
            if runs:
                yield self.reader.plan(tree.root_id, runs, tree.children)

    def moment(self, planned: PlannedTree, *, with_params: bool) -> transformer.Moment | None:
        """When a tree ran and what it was; None where that does not help to group trees by time."""
        parent = self.entries[planned.tree.root_id].parent_run_id
        return transformer.moment_of(
            planned.tree,
            planned.plan,
            self.reader.profiles,
            parent_is_missing=parent is not None and parent not in self.entries,
            with_params=with_params,
        )


class TreeWorker:
    """Reads trees, plans them, hands everything to a sink, and counts it."""

    def __init__(self, context: TreeContext, totals: WalkTotals, sink: RunSink) -> None:
        self._context = context
        self._totals = totals
        self._sink = sink

    def work_on(self, trees: Iterable[transformer.Tree]) -> Iterator[transformer.Tree]:
        """Read trees, plan them, and hand over the runs and traces that are wanted.

        Yields each tree when it is done. As many trees are read at once as their source reads
        in one go.
        """
        context, selection = self._context, self._context.selection
        for batch in batches(trees, context.store_of):
            selected = [tree for tree in batch if self._is_selected(tree)]
            parts = [tree for tree in selected if is_large(tree) and not selection.has_times]
            read = context.read_trees([tree for tree in selected if tree not in parts])
            for tree in batch:
                whole = {run_id: read.pop(run_id) for run_id in tree.run_ids if run_id in read}
                if tree in parts:
                    self._work(tree, self._read_in_parts(tree))
                elif whole and selection.has_run_in_time([each.record for each in whole.values()]):
                    self._work(tree, map(whole.pop, tree.run_ids))
                else:
                    self._leave_out(tree)
                yield tree

    def _read_in_parts(self, tree: transformer.Tree) -> Iterator[Extracted[RunRecord]]:
        """Read the runs of a tree in order, and only a part of them at once."""
        for at in range(0, len(tree.run_ids), _PART_RUNS):
            part = replace(tree, run_ids=tree.run_ids[at : at + _PART_RUNS])
            yield from self._context.read_trees([part]).values()

    def _work(self, tree: transformer.Tree, read: Iterable[Extracted[RunRecord]]) -> None:
        """Plan a tree and hand it over; ``read`` are its runs, in the order of the tree."""
        context, totals = self._context, self._totals
        stores, folders = self._places(tree)
        runs: dict[str, RunRecord] = {}
        small_records = SmallRecords() if is_large(tree) else None
        for run_id, unmasked in zip(tree.run_ids, read, strict=True):
            entry, folder = context.entries[run_id], folders[run_id]
            extracted = totals.redactor.mask(unmasked)
            plan = context.experiments.plans.get(folder)
            if plan is None:
                totals.runs_left_out.add(run_id)
                count_files(totals.ledger, stores[run_id], entry)
            else:
                totals.ledger.add_extracted(extracted)
                totals.ledger.add_files_found(extracted)
            if extracted.record is None:
                totals.runs_unread.add(run_id)
                continue
            run = extracted.record
            if plan is not None:
                run = self._with_copies(entry, run, plan)
                if run.deleted and not context.options.deleted:
                    self._leave_out_run(run)
                    continue
                totals.summaries.to_change(folder).add_run(run)
                self.hand_over_run(stores[run_id], entry, run, plan)
            runs[run_id] = run if small_records is None else small_records.small(run)
        if not context.options.deleted and tree.root_id not in runs:
            return
        if folders[tree.root_id] in context.experiments.plans and runs:
            self._hand_over_traces(tree, runs, folders[tree.root_id])

    def _is_selected(self, tree: transformer.Tree) -> bool:
        """Whether the options select any run of a tree, as far as is known before it is read."""
        context = self._context
        entries = [context.entries[run_id] for run_id in tree.run_ids]
        taken = (context.experiments.has_plan(context.store_of(e.entity_id), e) for e in entries)
        return any(taken) and any(map(context.selection.is_listed, entries))

    def _places(self, tree: transformer.Tree) -> tuple[Mapping[str, Store], Mapping[str, str]]:
        """The store of each run of a tree, and the directory of its experiment, by run id."""
        context = self._context
        stores = {run_id: context.store_of(run_id) for run_id in tree.run_ids}
        folders = {
            run_id: context.experiments.folder_of(store, context.entries[run_id])
            for run_id, store in stores.items()
        }
        return stores, folders

    def _leave_out(self, tree: transformer.Tree) -> None:
        context, totals = self._context, self._totals
        stores, folders = self._places(tree)
        totals.runs_left_out.update(tree.run_ids)
        for run_id in tree.run_ids:
            entry = context.entries[run_id]
            count_files(totals.ledger, stores[run_id], entry)
            if folders[run_id] in context.experiments.plans:
                leave_out_files(totals.ledger, stores[run_id], entry)

    def _hand_over_traces(
        self, tree: transformer.Tree, runs: Mapping[str, RunRecord], folder: str
    ) -> None:
        """Plan a tree whose root's experiment lies in ``folder``, and hand over its traces."""
        context, totals = self._context, self._totals
        experiment = context.experiments.plans[folder]
        if experiment.record.deleted and "deleted" in context.options.exclude:
            runs = {run_id: _deleted(run) for run_id, run in runs.items()}
        inferred = {each: context.inferred[each] for each in runs if each in context.inferred}
        planned = context.reader.plan(tree.root_id, runs, tree.children, inferred)
        moment = context.moment(planned, with_params=False)
        if moment is not None:
            totals.moments.append(moment)
        totals.ledger.add_issues(planned.plan.issues)
        summary = totals.summaries.to_change(folder)
        summary.add_tree(planned.plan, runs.get(tree.root_id))
        places = {each: (context.store_of(each), context.entries[each]) for each in runs}
        for trace in planned.plan.traces if context.options.traces else ():
            summary.add_trace(trace)
            totals.locations.count_hollow(trace, runs, places)
            totals.ledger.rebuilt.update(trace_counts_of(trace))
            self._sink.add_trace(trace, experiment.target_id)
        if context.on_tree is not None:
            context.on_tree(planned)

    def _with_copies(self, entry: RunEntry, run: RunRecord, plan: ExperimentPlan) -> RunRecord:
        """A run with what it lacks of its copies in other directories."""
        totals, context = self._totals, self._context
        whole = Copy(entry, plan.target_id, run)
        for store, other in context.copies.get(entry.entity_id, ()):
            plan_there = context.experiments.plan_of(store, other)
            if plan_there is None:
                continue
            extracted = totals.redactor.mask(context.reader.read(store, other))
            totals.ledger.add_extracted(extracted)
            totals.ledger.add_files_found(extracted)
            totals.copies_read.add(other.path)
            if extracted.record is not None and context.options.runs:
                there = Copy(other, plan_there.target_id, extracted.record)
                whole = unite(Kind.RUN, whole, there, totals)
            elif extracted.record is not None:
                totals.ledger.left_out.update(counts_of(extracted.record))
        united: RunRecord = whole.record
        return united

    def hand_over_run(
        self, store: Store, entry: RunEntry, run: RunRecord, plan: ExperimentPlan
    ) -> None:
        """Hand over a run that was read, with its location, or count it as left out."""
        totals = self._totals
        if self._context.options.runs:
            for kind, count in counts_of(run).items():
                totals.handed[kind] += count
            placed = totals.locations.run(store, entry, run, plan.target_id)
            self._sink.add_run(placed, plan.target_id)
        else:
            self._leave_out_run(run)

    def _leave_out_run(self, run: RunRecord) -> None:
        """Count a run that was read as left out by the options."""
        self._totals.runs_left_out.add(run.run_id)
        self._totals.ledger.left_out.update(counts_of(run))


def _deleted(run: RunRecord) -> RunRecord:
    """A run as if it had been deleted on its own, not with its experiment."""
    return replace(run, lifecycle_stage="deleted", deleted_with_experiment=False)
