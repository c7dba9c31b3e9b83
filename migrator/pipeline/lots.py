"""The work on trees of runs, done in this process or shared by several."""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from migrator import transformer, workers
from migrator.errors import WorkerError
from migrator.extractor import Source
from migrator.model import RunEntry
from migrator.outcome.summary import ExperimentSummary
from migrator.packing import PackedDict
from migrator.pipeline.indexes import ExperimentIndex
from migrator.pipeline.options import Options
from migrator.pipeline.sinks import Recorder, RunSink, SharedSink, Sink
from migrator.pipeline.stores import Progress, Store
from migrator.pipeline.trees import TreeContext, TreeWorker
from migrator.pipeline.walk_totals import WalkTotals

AHEAD = 2  # so many pieces of work for each worker are under way
FEW_RUNS = 400  # up to here it costs more to start processes than they save
# A lot with so many runs has a tree that nobody can divide. The process that writes works on it
# itself: sending its rows would take as much memory again, and a third of the time.
MANY_RUNS = 10_000


@dataclass(frozen=True, slots=True)
class TreeWork:
    """The trees to work on, and what is known of their runs."""

    forest: transformer.Forest
    context: TreeContext
    runs: int  # how many there are in all trees
    progress: Progress


def work_on_trees(work: TreeWork, totals: WalkTotals, sink: Sink) -> None:
    """Read, plan and hand over all trees, in this process or shared by several.

    Raises WorkerError when another process dies.
    """
    options = work.context.options
    workers_count = options.workers or workers.cores()
    is_little = workers_count == 1 or work.runs <= FEW_RUNS
    is_shared = not is_little or options.executor is not None
    if is_shared and work.context.on_tree is None and isinstance(sink, SharedSink):
        _work_shared(work, totals, sink, workers_count)
    else:
        _work_here(work, totals, sink)


def _work_here(work: TreeWork, totals: WalkTotals, sink: RunSink) -> None:
    worker, done = TreeWorker(work.context, totals, sink), 0
    for tree in worker.work_on(work.forest.trees()):
        done += len(tree.run_ids)
        work.progress("runs", done, work.runs)


def _work_shared(work: TreeWork, totals: WalkTotals, sink: SharedSink, workers_count: int) -> None:
    """Let others work on the trees in lots, and add up what they return.

    That is done in the order of the trees, so that the result is the same for every number of
    workers. They are processes of our own, or those of the executor that the options name. Lots of
    ``MANY_RUNS`` are worked on here.
    """
    lots = tuple(_lots(work.forest, sink.lot_runs))
    sent = [lot for lot in lots if lot.runs < MANY_RUNS]
    lot_work = LotWork.of(work.context, totals.blank(), sink.recorder())
    pieces = (_piece(work, lot) for lot in sent)
    here = TreeWorker(work.context, totals, sink)
    done = 0
    with _executor(work.context.options, min(workers_count, len(sent) or 1)) as place:
        executor, at_once = place
        with closing(workers.results(executor, lot_work, pieces, at_once)) as answers:
            for lot in lots:
                if lot.runs < MANY_RUNS:
                    part, recorded = next(answers)
                    totals.add(part)
                    sink.replay(recorded)
                else:
                    deque(here.work_on(lot.trees(work.forest)), maxlen=0)
                done += lot.runs
                work.progress("runs", done, work.runs)


@contextmanager
def _executor(options: Options, workers_count: int) -> Iterator[tuple[Executor, int]]:
    """Yield the executor, and how many pieces of work may be under way at once."""
    if options.executor is not None:
        yield options.executor, AHEAD * options.workers or workers.AT_ONCE
        return
    with workers.ProcessExecutor(workers_count) as executor:
        yield executor, AHEAD * workers_count


class Lot(NamedTuple):
    """Trees that are one piece of work: those of the forest from ``first`` up to ``end``."""

    first: int
    end: int  # the first tree that is not in it
    runs: int

    def trees(self, forest: transformer.Forest) -> list[transformer.Tree]:
        """Make its trees."""
        return [forest.tree(root_id) for root_id in forest.root_ids[self.first : self.end]]


def _lots(forest: transformer.Forest, lot_runs: int) -> Iterator[Lot]:
    first = runs = 0
    for at, tree in enumerate(forest.trees(), 1):
        runs += len(tree.run_ids)
        if runs >= lot_runs or at == len(forest.root_ids):
            yield Lot(first, at, runs)
            first, runs = at, 0


Answer: TypeAlias = "tuple[WalkTotals, Any]"  # of a lot, and what the sink is to replay


@dataclass(frozen=True, slots=True)
class LotPiece:
    """One lot of trees, and the part of the context that is about its runs."""

    trees: Sequence[transformer.Tree]
    experiments: ExperimentIndex
    entries: Mapping[str, RunEntry]
    elsewhere: Mapping[str, Store]
    inferred: Mapping[str, str]
    copies: Mapping[str, Sequence[tuple[Store, RunEntry]]]


def _piece(work: TreeWork, lot: Lot) -> LotPiece:
    """The lot with only the part of the context that is about its runs."""
    forest, context = work.forest, work.context
    trees = lot.trees(forest)
    runs = [run_id for tree in trees for run_id in tree.run_ids]
    parents = [context.entries[tree.root_id].parent_run_id or "" for tree in trees]
    copies = {r: _outlined(context.copies[r]) for r in runs if r in context.copies}
    places = [(context.store_of(r), context.entries[r]) for r in runs]
    for others in copies.values():
        places += others
    experiments = context.experiments.part(places)
    return LotPiece(
        trees,
        experiments,
        {r: context.entries[r] for r in (*runs, *parents) if r in context.entries},
        {r: context.elsewhere[r].outline() for r in runs if r in context.elsewhere},
        {r: context.inferred[r] for r in runs if r in context.inferred},
        copies,
    )


def _outlined(
    copies: Sequence[tuple[Store, RunEntry]],
) -> Sequence[tuple[Store, RunEntry]]:
    return [(store.outline(), entry) for store, entry in copies]


@dataclass(frozen=True, slots=True)
class LotWork:
    """The work on lots in another process, with all that it needs (``workers.Work``)."""

    context: TreeContext  # without any run or experiment
    blank: WalkTotals  # without any experiment
    folders_needed: Sequence[str]  # directories of the experiments
    recorder: Recorder  # a sink that only records
    sources: Sequence[Source]
    folders: Sequence[str]  # in which artifacts of other sides lie

    @classmethod
    def of(cls, context: TreeContext, blank: WalkTotals, recorder: Recorder) -> LotWork:
        """Keep the part of a context that all lots need."""
        stores = (context.store, *context.elsewhere.values())
        common = replace(
            context,
            options=replace(context.options, executor=None, only=None),
            experiments=context.experiments.part(()),
            entries={},
            store=context.store.outline(),
            elsewhere={},
            inferred={},
            copies={},
            on_tree=None,
        )
        sources = {store.name: store.source.outline() for store in stores}
        mirrors = [mirror for store in stores for mirror in store.remote.mirrors]
        folders = sorted({mirror.folder for mirror in mirrors})
        return cls(
            common,
            replace(blank, summaries=PackedDict()),
            list(context.experiments.plans),
            recorder,
            [sources[name] for name in sorted(sources)],
            folders,
        )

    def check(self) -> None:
        """Raise WorkerError where this process doesn't see the sources that we see."""
        for source in self.sources:
            missing = source.first_unseen(self.folders_needed)
            if missing is not None:
                raise WorkerError(
                    f"The worker on {platform.node()} does not see the source {source.name} as it "
                    f"is here ({missing} is not there); nothing was changed.",
                    todo="All workers need it under the same path, on a shared file system.",
                )
        for folder in self.folders:
            if not Path(folder).is_dir():
                raise WorkerError(
                    f"The worker on {platform.node()} does not see {folder}, where artifacts were "
                    "fetched to; nothing was changed.",
                    todo="Set TMPDIR to a folder that all workers share, or --fetch-limit 0.",
                )

    def do(self, piece: LotPiece) -> Answer:
        """Work on one lot."""
        context = replace(
            self.context,
            experiments=piece.experiments,
            entries=piece.entries,
            elsewhere=piece.elsewhere,
            inferred=piece.inferred,
            copies=piece.copies,
        )
        totals = self.blank.blank()
        for folder, plan in piece.experiments.plans.items():
            totals.summaries[folder] = ExperimentSummary.of("", plan)  # is added to the whole one
        recorder = self.recorder.blank()  # one for each thread
        return _work_on(piece.trees, context, totals, recorder)


def _work_on(
    trees: Iterable[transformer.Tree], context: TreeContext, totals: WalkTotals, recorder: Recorder
) -> Answer:
    worker = TreeWorker(context, totals, recorder)
    for _ in worker.work_on(trees):
        pass
    return totals, recorder.recorded()
