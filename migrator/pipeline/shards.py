"""What is different when only one of several parts of the sources is converted."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from migrator import conventions, transformer
from migrator.issues import Kind
from migrator.outcome.summary import ExperimentSummary
from migrator.pipeline.entities import is_deleted_and_excluded, is_selected_trace
from migrator.pipeline.indexes import RunIndex
from migrator.pipeline.lots import TreeWork, work_on_trees
from migrator.pipeline.selection import evenly_spread
from migrator.pipeline.sinks import Discard
from migrator.pipeline.trees import TreeContext
from migrator.pipeline.walk_context import WalkContext
from migrator.pipeline.walk_totals import leave_to_other_shards

SAMPLE_TREES = 200  # of an experiment, from which one shard decides its kind
SAMPLE_RUNS = 5_000  # in them: the tree that exceeds it is the last


def without_other_shards(
    context: WalkContext, runs: RunIndex, tree_context: TreeContext, forest: transformer.Forest
) -> transformer.Forest:
    """The trees of this shard. The runs of others are counted, and noted in ``runs``."""
    shard, totals = context.options.shard, context.totals
    root_ids = []
    for root_id in forest.root_ids:
        if shard.has(root_id):
            root_ids.append(root_id)
            continue
        for run_id in forest.tree(root_id).run_ids:
            runs.in_other_shards.add(run_id)
            entry = tree_context.entries[run_id]
            if context.experiments.has_plan(runs.store_of(run_id), entry):
                leave_to_other_shards(totals.ledger, Kind.RUN)
    totals.runs_left_out |= runs.in_other_shards
    return replace(forest, root_ids=tuple(root_ids))


def sampled_summaries(
    context: WalkContext, runs: RunIndex, tree_context: TreeContext, forest: transformer.Forest
) -> dict[str, ExperimentSummary]:
    """Summaries of the experiments whose kind this shard decides, by their directory.

    The kind of an experiment is decided by one shard, which sees only its own trees. So it reads a
    fixed sample of all trees, which is all of them where they are few.
    """
    decided_here = {
        folder
        for folder, plan in context.experiments.plans.items()
        if context.options.shard.has(str(plan.target_id))
        and conventions.EXPERIMENT_KIND not in plan.tags
    }
    sample, sample_runs = _sample(decided_here, runs, tree_context, forest)
    aside = context.totals.blank()
    work = TreeWork(
        replace(forest, root_ids=sample),
        replace(tree_context, on_tree=None),
        sample_runs,
        context.observer.progress,
    )
    work_on_trees(work, aside, Discard())
    summaries = {folder: aside.summaries.to_change(folder) for folder in sorted(decided_here)}
    if context.options.traces:
        _count_native_traces(context, runs, summaries)
    return summaries


def _sample(
    folders: set[str], runs: RunIndex, tree_context: TreeContext, forest: transformer.Forest
) -> tuple[tuple[str, ...], int]:
    """The roots of sample trees of the experiments in some directories, and their runs."""
    experiments = tree_context.experiments
    by_target: dict[int, list[str]] = defaultdict(list)
    for root_id in forest.root_ids:
        folder = experiments.folder_of(runs.store_of(root_id), tree_context.entries[root_id])
        if folder in folders:
            by_target[experiments.plans[folder].target_id].append(root_id)
    sample: list[str] = []
    sample_runs = 0
    for root_ids in by_target.values():
        end = sample_runs + SAMPLE_RUNS
        for root_id in sorted(root_ids, key=evenly_spread)[:SAMPLE_TREES]:
            sample.append(root_id)
            sample_runs += len(forest.tree(root_id).run_ids)
            if sample_runs > end:
                break
    return tuple(sample), sample_runs


def _count_native_traces(
    context: WalkContext, runs: RunIndex, summaries: dict[str, ExperimentSummary]
) -> None:
    """Count a native trace in each experiment that has any: one is enough to decide by."""
    for store in context.stores:
        read = store.source.read_trace
        for entry in store.index.traces:
            folder = context.experiments.folder_of(store, entry)
            if folder not in summaries or summaries[folder].native_traces:
                continue
            plan = context.experiments.plans[folder]
            if is_deleted_and_excluded(context, runs, plan, entry):
                continue
            if is_selected_trace(context, runs, entry, read) and read(entry).record is not None:
                summaries[folder].native_traces += 1
