"""All trees of runs: which runs belong together, and what is done with each tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from migrator import __version__, transformer
from migrator.errors import OptionError
from migrator.issues import Code, Issue, Kind
from migrator.model import Role, RunEntry
from migrator.outcome.ledger import counts_of
from migrator.outcome.summary import ExperimentSummary
from migrator.pipeline.closing import report_possible_regroupings, report_unused_profiles
from migrator.pipeline.entities import EntityReader, Found
from migrator.pipeline.experiments import unknown_experiment
from migrator.pipeline.indexes import RunIndex
from migrator.pipeline.known_names import with_known_names
from migrator.pipeline.lots import TreeWork, work_on_trees
from migrator.pipeline.shards import sampled_summaries, without_other_shards
from migrator.pipeline.stores import Store
from migrator.pipeline.trees import TreeContext, TreeReader, TreeWorker, batches
from migrator.pipeline.walk_context import WalkContext
from migrator.pipeline.walk_totals import count_files, leave_out_files


def hand_over_trees(entities: EntityReader, runs: RunIndex) -> Mapping[str, ExperimentSummary]:
    """Read, plan and hand over all runs and the traces that are rebuilt from them.

    The result are the summaries, by the experiment's directory, from which the kinds of
    experiments are decided: those of the walk, or a sample where a shard can't see all. Raises
    OptionError and WorkerError.
    """
    context = entities.context
    options = context.options
    tree_context = _tree_context(context, runs)
    issues: list[Issue] = []
    if options.group_by_time or options.adopt_orphans:
        tree_context, issues = _regrouped(tree_context)
    forest = transformer.build_forest(tree_context.entries.values())
    issues += forest.issues
    tree_context = with_known_names(tree_context, forest)
    of_this_shard = forest
    if not options.shard.is_whole:
        of_this_shard = without_other_shards(context, runs, tree_context, forest)
        issues = [issue for issue in issues if issue.entity_id not in runs.in_other_shards]
    context.totals.ledger.add_issues(issues)
    runs_here = len(runs.entries) - len(runs.in_other_shards)
    work = TreeWork(of_this_shard, tree_context, runs_here, context.observer.progress)
    work_on_trees(work, context.totals, context.sink)
    summaries: Mapping[str, ExperimentSummary] = context.totals.summaries
    if options.shard.is_whole:  # a shard sees too little for these
        report_unused_profiles(context, tree_context.reader)
        report_possible_regroupings(context)
    elif options.experiment_kind == "auto":
        summaries = sampled_summaries(context, runs, tree_context, forest)
    for run_id, copies in runs.copies.items():
        if run_id not in runs.in_other_shards:
            _hand_over_unread_copies(entities, tree_context, run_id, copies)
    return summaries


def _tree_context(context: WalkContext, runs: RunIndex) -> TreeContext:
    return TreeContext(
        context.options,
        context.selection,
        context.experiments,
        _tree_reader(context),
        runs.entries,
        runs.first_store,
        runs.elsewhere,
        inferred={},
        copies=runs.copies,
        on_tree=context.observer.on_tree,
    )


def _tree_reader(context: WalkContext) -> TreeReader:
    options, stores = context.options, context.stores
    profiles = transformer.load_profiles(options.profile_files)
    choice = transformer.PlanOptions(
        include=options.include,
        exclude=options.exclude,
        profile=options.profile,
        roles=_roles_by_folder(context),
        version=__version__,
    )
    return TreeReader(
        profiles,
        transformer.wanted_artifacts(p for p in profiles if choice.asks_for(p)),
        choice,
        _native_by_run(stores),
        frozenset(entry.entity_id for store in stores for entry in store.index.traces),
    )


def _native_by_run(stores: Sequence[Store]) -> dict[str, tuple[str, ...]]:
    """The ids of the native traces that were written in a run, by its id."""
    native: dict[str, tuple[str, ...]] = {}
    for store in stores:
        for entry in store.index.traces:
            if entry.source_run_id:
                before = native.get(entry.source_run_id, ())
                native[entry.source_run_id] = (*before, entry.entity_id)
    return native


def _roles_by_folder(context: WalkContext) -> dict[str, Role]:
    """The roles that the user gave, by the experiment's directory."""
    roles: dict[str, Role] = {}
    if not context.options.roles:
        return roles
    records = [plan.record for plan in context.experiments.plans.values()]
    new_names = dict(context.options.rename)
    for name, role in context.options.roles:
        names = (name, new_names.get(name, name))
        paths = [r.path for r in records if r.name in names or r.experiment_id == name]
        if not paths:
            raise unknown_experiment(name)
        for path in paths:
            if roles.setdefault(path, role) is not role:
                raise OptionError(
                    f"--role gives experiment {name!r} two roles, by its name and its id.",
                    todo="Give one of them.",
                )
    return roles


# ------------------------------------------------------------------------ parents that are guessed


class _Regrouping(NamedTuple):
    """A way to guess the parents of runs."""

    is_wanted: bool
    parents_of: Callable[[Sequence[transformer.Moment]], Mapping[str, str]]
    code: Code
    why: str


def _regrouped(context: TreeContext) -> tuple[TreeContext, list[Issue]]:
    """Read all trees once before the walk, and give runs the parents that time suggests.

    The result are the context with these parents, and an issue for each.
    """
    moments = _moments(context)
    issues: list[Issue] = []
    parents: dict[str, str] = {}
    inferred: dict[str, str] = {}
    for regrouping in (
        _Regrouping(
            context.options.group_by_time,
            transformer.group_by_time,
            Code.RUN_GROUPED_BY_TIME,
            "grouped by time, none is on record",
        ),
        _Regrouping(
            context.options.adopt_orphans,
            transformer.adopt_orphans,
            Code.RUN_ADOPTED,
            "it had lost its own, the workflow before it took it in",
        ),
    ):
        found = regrouping.parents_of(moments) if regrouping.is_wanted else {}
        for run_id, parent in sorted(found.items()):
            if run_id in parents:
                continue
            parents[run_id] = parent
            inferred[run_id] = regrouping.why
            message = f"Run {run_id} is taken for a step of {parent}."
            kept = "the run as it was; its span lies in the other's trace"
            path = context.entries[run_id].path
            issues.append(Issue(regrouping.code, path, message, kept, Kind.RUN, run_id))
    placed = {
        run_id: replace(entry, parent_run_id=parents.get(run_id, entry.parent_run_id))
        for run_id, entry in context.entries.items()
    }
    return replace(context, entries=placed, inferred=inferred), issues


def _moments(context: TreeContext) -> list[transformer.Moment]:
    """Read and plan all trees that are selected, and note when each ran."""
    moments: list[transformer.Moment] = []
    entries = context.entries
    forest = transformer.build_forest(entries.values())
    selected = (
        tree
        for tree in forest.trees()
        if context.experiments.has_plan(context.store_of(tree.root_id), entries[tree.root_id])
    )
    for batch in batches(selected, context.store_of):
        found = (context.moment(planned, with_params=True) for planned in context.planned(batch))
        moments += [moment for moment in found if moment is not None]
    return moments


# ------------------------------------------------------------------------------------------ copies


def _hand_over_unread_copies(
    entities: EntityReader,
    tree_context: TreeContext,
    run_id: str,
    copies: Sequence[tuple[Store, RunEntry]],
) -> None:
    """Account for a run's further directories that were not read with the one that counts."""
    context = entities.context
    totals = context.totals
    found: list[Found[RunEntry]] = []
    for store, entry in copies:
        if entry.path in totals.copies_read:
            continue
        count_files(totals.ledger, store, entry)
        plan = context.experiments.plan_of(store, entry)
        if plan is not None and run_id in totals.runs_left_out:
            leave_out_files(totals.ledger, store, entry)
        elif plan is not None:
            found.append(Found(store, entry, plan, partial(tree_context.reader.read, store)))
    entity = entities.read(Kind.RUN, found)
    if entity is None:
        return
    # The directory that counts could not be read, so this one takes its place.
    totals.handed.subtract(counts_of(entity.record))
    worker = TreeWorker(tree_context, totals, context.sink)
    worker.hand_over_run(entity.first.store, entity.first.entry, entity.record, entity.plan)
