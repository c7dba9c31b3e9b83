"""What is not a run: native traces, datasets, logged models and registered models."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from migrator import __version__, transformer
from migrator.issues import Code, Issue, Kind
from migrator.model import (
    AssetEntry,
    Entry,
    EvaluationDatasetRecord,
    ExperimentPlan,
    Extracted,
    LinkRecord,
    LoggedModelRecord,
    RegisteredModelRecord,
    RegistryEntry,
    TraceEntry,
    TraceRecord,
)
from migrator.outcome.ledger import counts_of, trace_counts_of
from migrator.pipeline.copies import Copy, unite
from migrator.pipeline.indexes import RunIndex
from migrator.pipeline.stores import Store, ranked
from migrator.pipeline.walk_context import WalkContext
from migrator.pipeline.walk_totals import leave_out_files, leave_to_other_shards

E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, slots=True)
class Found(Generic[E]):
    """A directory that is wanted, and how it is read."""

    store: Store
    entry: E
    plan: ExperimentPlan | None  # of its experiment; a registered model has none
    read: Callable[[E], Extracted[Any]]


@dataclass(frozen=True, slots=True)
class Entity(Generic[E]):
    """An entity that was read: its first directory, and all that is known of it."""

    first: Found[E]
    record: Any
    plan: Any  # that of ``first``


class EntityReader:
    """Reads all directories of an entity as one, and counts them."""

    def __init__(self, context: WalkContext) -> None:
        self.context = context
        self.read_from: dict[tuple[Kind, str], tuple[Store, Entry]] = {}  # by kind and id

    def read(self, kind: Kind, found: Sequence[Found[E]]) -> Entity[E] | None:
        """Read the directories of one entity and count it; None if all are rejected.

        The result is the first directory that can be read, with what it lacks of the others.
        """
        totals = self.context.totals
        whole: Copy | None = None
        first = None
        for each in found:
            extracted = totals.redactor.mask(each.read(each.entry))
            totals.ledger.add_extracted(extracted)
            if extracted.record is None:
                continue
            target_id = None if each.plan is None else each.plan.target_id
            copy = Copy(each.entry, target_id, extracted.record)
            if whole is None:
                whole, first = copy, each
            else:
                whole = unite(kind, whole, copy, totals)
        if whole is None or first is None:
            return None
        self.read_from[kind, whole.entry.entity_id] = (first.store, first.entry)
        totals.handed.update(counts_of(whole.record))
        return Entity(first, whole.record, first.plan)


# --------------------------------------------------------------------------------------- datasets


def hand_over_datasets(entities: EntityReader) -> None:
    """Hand over the evaluation datasets of the selected experiments."""
    context = entities.context
    found: defaultdict[tuple[int, str], list[Found[Entry]]] = defaultdict(list)
    for store in context.stores:
        for entry in ranked(store.index.datasets):
            plan = context.experiments.plan_of(store, entry)
            if plan is not None:  # a dataset's id is unique in its experiment only
                of_dataset = found[plan.target_id, entry.entity_id]
                of_dataset.append(Found(store, entry, plan, store.source.read_dataset))
    for (target_id, _), of_dataset in found.items():
        entity = entities.read(Kind.DATASET, of_dataset)
        if entity is not None:
            context.sink.add_dataset(entity.record, target_id)


# ---------------------------------------------------------------------------------- native traces


ReadTrace = Callable[[TraceEntry], Extracted[TraceRecord]]


def is_selected_trace(
    context: WalkContext, runs: RunIndex, entry: TraceEntry, read: ReadTrace
) -> bool:
    """Whether ``--only``, ``--run``, ``--since`` and ``--until`` select a native trace."""
    options, selection = context.options, context.selection
    if not selection.is_listed(entry) and not _is_of_run(context, runs, entry.source_run_id):
        return False
    if options.since is None and options.until is None:
        return True
    record = read(entry).record
    return record is None or selection.is_trace_in_time(record)


def _is_of_run(context: WalkContext, runs: RunIndex, run_id: str | None) -> bool:
    """Whether ``--run`` selects a run, by its own id or that of another run of its tree."""
    if run_id is None or not context.options.run_ids:
        return False
    if run_id in context.options.run_ids:
        return True
    return run_id in runs.entries and run_id not in context.totals.runs_left_out


def is_deleted_and_excluded(
    context: WalkContext, runs: RunIndex, plan: ExperimentPlan, entry: TraceEntry
) -> bool:
    """Whether a native trace belongs to something deleted, and the options leave that out."""
    if context.options.deleted and "deleted" not in context.options.exclude:
        return False
    run = runs.entries.get(entry.source_run_id or "")
    record = None
    if run is not None:
        source = runs.store_of(run.entity_id).source
        record = source.read_run(run, lambda path: False).record
    return plan.record.deleted or (record is not None and record.deleted)


def hand_over_native_traces(entities: EntityReader, runs: RunIndex) -> Counter[Kind]:
    """Hand over the traces that MLflow wrote.

    The result says how many items of each kind were added to them: those were not found.
    """
    context = entities.context
    ledger = context.totals.ledger
    total = sum(len(store.index.traces) for store in context.stores)
    found: defaultdict[str, list[Found[TraceEntry]]] = defaultdict(list)
    for store in context.stores:
        read = store.source.read_trace
        for entry in ranked(store.index.traces):
            plan = context.experiments.plan_of(store, entry)
            if plan is None:
                continue
            if not _is_trace_of_shard(context, runs, entry):
                leave_to_other_shards(ledger, Kind.TRACE)
                leave_out_files(ledger, store, entry)
            elif not is_selected_trace(context, runs, entry, read):
                leave_out_files(ledger, store, entry)
            else:
                found[entry.entity_id].append(Found(store, entry, plan, read))
    added: Counter[Kind] = Counter()
    for done, of_trace in enumerate(found.values(), total - len(found) + 1):
        context.observer.progress("traces", done, total)
        entity = entities.read(Kind.TRACE, of_trace)
        if entity is not None:
            _hand_over_trace(context, runs, entity, added)
    return added


def _is_trace_of_shard(context: WalkContext, runs: RunIndex, entry: TraceEntry) -> bool:
    """Whether a native trace belongs to this shard.

    One whose id is that of a run stays with the run, whose rebuilt trace may have the same id.
    """
    bare_id = entry.entity_id.removeprefix("tr-")
    if bare_id in runs.entries:
        return runs.has(bare_id)
    return context.options.shard.has(entry.entity_id)


def _hand_over_trace(
    context: WalkContext, runs: RunIndex, entity: Entity[TraceEntry], added: Counter[Kind]
) -> None:
    store, entry = entity.first.store, entity.first.entry
    record, plan = entity.record, entity.plan
    totals = context.totals
    if not context.options.traces or is_deleted_and_excluded(context, runs, plan, entry):
        totals.handed.subtract(counts_of(record))
        totals.ledger.left_out.update(counts_of(record))
        return
    record = totals.locations.trace(store, entry, record, plan.target_id)
    trace, issues = transformer.plan_native_trace(record, __version__)
    totals.ledger.add_issues(issues)
    added.update(trace_counts_of(trace))
    added.subtract(counts_of(record))
    folder = context.experiments.folder_of(store, entry)
    totals.summaries.to_change(folder).add_trace(trace)
    context.sink.add_trace(trace, plan.target_id)


# ----------------------------------------------------------------------------------------- models


ReadModel = Callable[[Entry], Extracted[LoggedModelRecord]]


def hand_over_logged_models(entities: EntityReader, runs: RunIndex) -> None:
    """Hand over the logged models of the selected experiments."""
    context = entities.context
    totals = context.totals
    found: defaultdict[str, list[Found[Entry]]] = defaultdict(list)
    for store in context.stores:
        read = store.source.read_logged_model
        for entry in ranked(store.index.logged_models):
            plan = context.experiments.plan_of(store, entry)
            if plan is None:
                continue
            if not _is_selected_model(context, runs, entry, read):
                leave_out_files(totals.ledger, store, entry)
            elif not _is_model_of_shard(context, runs, entry, read):
                leave_to_other_shards(totals.ledger, Kind.LOGGED_MODEL)
                leave_out_files(totals.ledger, store, entry)
            else:
                found[entry.entity_id].append(Found(store, entry, plan, read))
    for of_model in found.values():
        entity = entities.read(Kind.LOGGED_MODEL, of_model)
        if entity is not None:
            store, entry = entity.first.store, entity.first.entry
            record, plan = entity.record, entity.plan
            if record.lifecycle_stage == "deleted" and not context.options.deleted:
                totals.handed.subtract(counts_of(record))
                totals.ledger.left_out.update(counts_of(record))
                continue
            record = totals.locations.logged_model(store, entry, record, plan.target_id)
            record = _without_metrics_of_left_out_runs(context, record)
            context.sink.add_logged_model(record, plan.target_id)


def _is_selected_model(context: WalkContext, runs: RunIndex, entry: Entry, read: ReadModel) -> bool:
    """Whether ``--only`` lists a logged model, or ``--run`` selects the run that made it."""
    if context.selection.is_listed(entry):
        return True
    if not context.options.run_ids:
        return False
    record = read(entry).record
    return record is not None and _is_of_run(context, runs, record.source_run_id)


def _is_model_of_shard(context: WalkContext, runs: RunIndex, entry: Entry, read: ReadModel) -> bool:
    """Whether a logged model belongs to this shard, or a run of the shard measured it.

    In the database a metric refers to the run that measured it as well as to its model.
    """
    if context.options.shard.has(entry.entity_id):
        return True
    record = read(entry).record
    return record is not None and any(runs.has(metric.run_id) for metric in record.metrics)


def _without_metrics_of_left_out_runs(
    context: WalkContext, record: LoggedModelRecord
) -> LoggedModelRecord:
    totals = context.totals
    kept = tuple(m for m in record.metrics if m.run_id not in totals.runs_left_out)
    left_out = len(record.metrics) - len(kept)
    if not left_out:
        return record
    totals.handed[Kind.LOGGED_MODEL_METRIC] -= left_out
    totals.ledger.left_out[Kind.LOGGED_MODEL_METRIC] += left_out
    return replace(record, metrics=kept)


def hand_over_registered_models(entities: EntityReader, runs: RunIndex) -> None:
    """Hand over the registered models, unless only some experiments are taken."""
    context = entities.context
    ledger = context.totals.ledger
    if not any(store.index.registered_models for store in context.stores):
        return
    found: defaultdict[tuple[str, str], list[Found[RegistryEntry]]] = defaultdict(list)
    for store in context.stores:
        for entry in ranked(store.index.registered_models):
            if context.options.experiments or not context.selection.is_listed(entry):
                leave_out_files(ledger, store, entry)  # it belongs to no experiment
            elif not context.options.shard.has(entry.entity_id):
                leave_to_other_shards(ledger, Kind.REGISTERED_MODEL)
                leave_out_files(ledger, store, entry)
            else:
                each = Found(store, entry, None, store.source.read_registered_model)
                found[entry.workspace, entry.entity_id].append(each)
    owners = _owners(entities, runs)
    for of_model in found.values():
        entity = entities.read(Kind.REGISTERED_MODEL, of_model)
        if entity is not None:
            record = context.totals.locations.registered_model(entity.record, owners)
            context.sink.add_registered_model(_renamed(record, dict(context.options.rename)))


def hand_over_assets(entities: EntityReader) -> None:
    """Hand over evaluation datasets, scorers, webhooks and workspaces."""
    context = entities.context
    ledger = context.totals.ledger
    found: defaultdict[tuple[Kind, str], list[Found[AssetEntry]]] = defaultdict(list)
    for store in context.stores:
        for entry in store.index.assets:
            plan = context.experiments.plan_of(store, entry)
            if entry.kind is Kind.SCORER and plan is None:
                continue
            if not _is_selected_asset(context, store, entry):
                continue
            if not context.options.shard.has(entry.entity_id):
                leave_to_other_shards(ledger, entry.kind)
                continue
            each = Found(store, entry, plan, store.source.read_asset)
            found[entry.kind, entry.entity_id].append(each)
    for (kind, _), of_asset in found.items():
        entity = entities.read(kind, of_asset)
        if entity is None:
            continue
        record, plan = entity.record, entity.plan
        if isinstance(record, EvaluationDatasetRecord):
            record = _with_linked_experiments(context, entity.first.store, record)
        context.sink.add_asset(record, None if plan is None else plan.target_id)


def _is_selected_asset(context: WalkContext, store: Store, entry: AssetEntry) -> bool:
    """Whether the options take an asset that may belong to several experiments or to none."""
    if not context.selection.is_listed(entry):
        return False
    if entry.kind is Kind.SCORER or not context.options.experiments:
        return True
    return any(context.experiments.plan_of_id(store, each) for each in entry.experiment_ids)


def _with_linked_experiments(
    context: WalkContext, store: Store, record: EvaluationDatasetRecord
) -> EvaluationDatasetRecord:
    """An evaluation dataset that is linked to the target's experiments, of those taken."""
    totals = context.totals
    links: dict[tuple[str, str], LinkRecord] = {}
    left_out = 0
    for link in record.links:
        if link.kind == "experiment":
            plan = context.experiments.plan_of_id(store, link.target_id)
            if plan is None:
                left_out += 1
                if not context.experiments.has_id(store, link.target_id):
                    totals.ledger.add_issues([_link_to_nothing(record, link)])
                continue
            link = replace(link, target_id=str(plan.target_id))
        links.setdefault((link.kind, link.target_id), link)
    merged = len(record.links) - left_out - len(links)
    totals.handed[Kind.EVALUATION_DATASET_LINK] -= left_out + merged
    totals.ledger.left_out[Kind.EVALUATION_DATASET_LINK] += left_out
    totals.ledger.merged[Kind.EVALUATION_DATASET_LINK] += merged
    return replace(record, links=tuple(links.values()))


def _link_to_nothing(record: EvaluationDatasetRecord, link: LinkRecord) -> Issue:
    message = f"It is linked to experiment {link.target_id}, which is not there."
    kind = Kind.EVALUATION_DATASET_LINK
    return Issue(Code.ROW_LEFT_OVER, record.path, message, "", kind, record.dataset_id)


def _renamed(record: RegisteredModelRecord, new_names: Mapping[str, str]) -> RegisteredModelRecord:
    name = new_names.get(record.name, record.name)
    versions = tuple(replace(version, name=name) for version in record.versions)
    return replace(record, name=name, versions=versions)


def _owners(entities: EntityReader, runs: RunIndex) -> dict[str, tuple[Kind, Store, Entry]]:
    """All runs and logged models of the sources by id, those that are left out too."""
    owners: dict[str, tuple[Kind, Store, Entry]] = {
        run_id: (Kind.RUN, runs.store_of(run_id), run) for run_id, run in runs.entries.items()
    }
    for store in entities.context.stores:
        for model in ranked(store.index.logged_models):
            owners.setdefault(model.entity_id, (Kind.LOGGED_MODEL, store, model))
    for (kind, entity_id), (store, entry) in entities.read_from.items():
        if kind in (Kind.RUN, Kind.LOGGED_MODEL):
            owners[entity_id] = (kind, store, entry)
    return owners
