"""The experiments: which are taken, what they become, and what kind they are."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from migrator import conventions, transformer
from migrator.errors import OptionError
from migrator.issues import Code, Issue, Kind
from migrator.model import ConvertedExperiment, Entry, ExperimentPlan, ExperimentRecord, RunEntry
from migrator.outcome.ledger import counts_of
from migrator.outcome.summary import ExperimentSummary
from migrator.paths import readable_path
from migrator.pipeline.options import Options, fits_experiment
from migrator.pipeline.stores import Store, ranked, run_ids_of
from migrator.pipeline.walk_context import WalkContext
from migrator.pipeline.walk_totals import leave_out_files

_WILDCARDS = frozenset("*?[")


class _Read(NamedTuple):
    """An experiment that was read."""

    store: Store
    entry: Entry
    record: ExperimentRecord


class _Planned(NamedTuple):
    """An experiment, and what it becomes."""

    store: Store
    entry: Entry
    plan: ExperimentPlan


def hand_over_experiments(context: WalkContext) -> None:
    """Read, plan and hand over the selected experiments; fills ``context.experiments.plans``.

    Raises OptionError for an experiment that the options name and the sources lack.
    """
    read = _read_selected(context)
    target = context.target
    by_path, issues = transformer.plan_experiments(
        _with_contents(context, read),
        target.existing,
        context.options.on_conflict,
        target.largest_id,
        target.collation_key,
        _contents_of(context),
    )
    context.totals.ledger.add_issues(issues)
    groups: dict[int, list[_Planned]] = defaultdict(list)
    names = {store.number: readable_path(store.name) for store in context.stores}
    for store, entry, record in read:
        plan = by_path[record.path]
        folder = sys.intern(entry.path)  # the same string as in the index
        context.experiments.plans[folder] = plan
        context.totals.summaries[folder] = ExperimentSummary.of(names[store.number], plan)
        groups[plan.target_id].append(_Planned(store, entry, plan))
    for group in groups.values():
        _hand_over(context, group)


def _read_selected(context: WalkContext) -> list[_Read]:
    options, totals = context.options, context.totals
    read: list[_Read] = []
    known: list[ExperimentRecord] = []
    new_names = dict(options.rename)
    listed = _listed_folders(context)
    for store in context.stores:
        for entry in ranked(store.index.experiments):
            extracted = totals.redactor.mask(store.source.read_experiment(entry))
            record = extracted.record
            if record is not None:
                known.append(record)
                is_unlisted = listed is not None and entry.path not in listed
                if is_unlisted or not _is_selected(record, options):
                    leave_out_files(totals.ledger, store, entry)
                    context.outcome.left_out_experiments += 1
                    continue
                name = new_names.get(record.name, record.name)
                read.append(_Read(store, entry, replace(record, name=name)))
            totals.ledger.add_extracted(extracted)
    _check_names(context, known)
    return read


def _check_names(context: WalkContext, known: Sequence[ExperimentRecord]) -> None:
    """Raise OptionError for a name in the options that fits nothing in the sources."""
    options = context.options
    literal = [name for name in options.not_experiments if not _WILDCARDS & set(name)]
    for name in (*options.experiments, *literal):
        if not any(fits_experiment(name, each.experiment_id, each.name) for each in known):
            raise unknown_experiment(name)
    models = {entry.entity_id for s in context.stores for entry in s.index.registered_models}
    new_names = dict(options.rename)
    for name in new_names:
        if name not in models and all(record.name != name for record in known):
            raise OptionError(
                f"--rename: the source has no experiment or registered model {name!r}.",
                todo="'mlflow-migrate scan' lists them.",
            )
    for name in models & new_names.keys():
        new_name = new_names[name]
        if new_name in models and new_names.get(new_name, new_name) == new_name:
            raise OptionError(
                f"--rename {name}={new_name}: the source has another registered model of this "
                "name.",
                todo="Choose another name, or rename that one as well.",
            )


def unknown_experiment(name: str) -> OptionError:
    """The error for an option that names an experiment which the sources lack."""
    return OptionError(
        f"The source has no experiment with the name or id {name!r}.",
        todo="'mlflow-migrate scan' lists them.",
    )


def _is_selected(record: ExperimentRecord, options: Options) -> bool:
    """Whether the options take an experiment."""
    identity, name = record.experiment_id, record.name
    return options.takes_experiment(identity, name, is_deleted=record.deleted)


def _listed_folders(context: WalkContext) -> set[str] | None:
    """The directories of experiments that hold what ``--only`` or ``--run`` name; else None."""
    selection, experiments = context.selection, context.experiments
    if not selection.has_list:
        return None
    run_ids = run_ids_of(context.stores)
    for run_id in context.options.run_ids:
        if run_id not in run_ids:
            raise OptionError(
                f"The source has no run {run_id!r}.",
                todo="Give the whole id; 'mlflow-migrate scan --tree EXPERIMENT' lists them.",
            )
    folders: set[str] = set()
    has_registered_model = False
    for store in context.stores:
        index = store.index
        for entry in (*index.runs, *index.traces, *index.datasets, *index.logged_models):
            if selection.is_listed(entry):
                folders.add(experiments.folder_of(store, entry))
        folders.update(e.path for e in index.experiments if selection.is_listed(e))
        has_registered_model |= any(map(selection.is_listed, index.registered_models))
    if context.options.only is not None and not folders and not has_registered_model:
        raise OptionError(
            f"Nothing that {context.options.only.file} lists is in the source.",
            todo="Give the source of the conversion that wrote the list.",
        )
    return folders


def _with_contents(
    context: WalkContext, read: Sequence[_Read]
) -> list[transformer.FoundExperiment]:
    """The experiments; those that share a name in a source with what decides between them."""
    converted_as = _converted_as(context, read)
    found = [
        transformer.FoundExperiment(
            store.number, record, converted_as=tuple(converted_as[record.path])
        )
        for store, _, record in read
    ]
    collation_key = context.target.collation_key

    def name_in_source(each: transformer.FoundExperiment) -> tuple[int, str, str]:
        return each.source, each.record.workspace, collation_key(each.record.name)

    sharing = Counter(map(name_in_source, found))
    twins = {each.record.path for each in found if sharing[name_in_source(each)] > 1}
    if not twins:
        return found
    folder_of = context.experiments.folder_of
    runs: defaultdict[str, list[RunEntry]] = defaultdict(list)
    other_items: Counter[str] = Counter()
    stores = {store.number: store for store in context.stores}
    for store in context.stores:
        index = store.index
        for run in index.runs:
            runs[folder_of(store, run)].append(run)
        for entry in (*index.traces, *index.logged_models, *index.datasets):
            other_items[folder_of(store, entry)] += 1
    with_contents = []
    for each in found:
        path = each.record.path
        if path in twins:
            each = replace(
                each,
                runs=len(runs[path]),
                other_items=other_items[path],
                newest_run_ms=_newest_start_ms(stores[each.source], runs[path]),
            )
        with_contents.append(each)
    return with_contents


def _converted_as(context: WalkContext, read: Sequence[_Read]) -> Mapping[str, Sequence[int]]:
    """The ids by which the target remembers experiments as converted, by their directories."""
    largest_id = context.target.largest_id
    found: defaultdict[str, list[int]] = defaultdict(list)
    if largest_id is None or context.options.restore:
        return found
    candidates: dict[ConvertedExperiment, list[str]] = {}
    for _, _, record in read:
        for number in transformer.candidate_ids(record, largest_id):
            candidate = ConvertedExperiment(number, record.creation_ms, record.name)
            candidates.setdefault(candidate, []).append(record.path)
    converted = context.target.converted(list(candidates))
    for candidate, paths in candidates.items():
        if candidate in converted:
            for path in paths:
                found[path].append(candidate.target_id)
    return found


def _contents_of(context: WalkContext) -> Callable[[str], transformer.Contents]:
    """A function of an experiment's directory: what it holds, and where in the target it is."""

    @cache
    def by_folder() -> tuple[Mapping[str, Sequence[str]], Collection[str]]:
        """The ids of the runs by directory, and all directories that hold something."""
        folder_of = context.experiments.folder_of
        run_ids: defaultdict[str, list[str]] = defaultdict(list)
        filled: set[str] = set()
        for store in context.stores:
            index = store.index
            for run in index.runs:
                run_ids[folder_of(store, run)].append(run.entity_id)
            for entry in (*index.traces, *index.logged_models, *index.datasets):
                filled.add(folder_of(store, entry))
        return run_ids, filled | run_ids.keys()

    def contents_of(path: str) -> transformer.Contents:
        run_ids, filled = by_folder()
        in_target = context.target.experiments_of_runs(run_ids.get(path, ()))
        return transformer.Contents(path not in filled, frozenset(in_target))

    return contents_of


def _newest_start_ms(store: Store, entries: Sequence[RunEntry]) -> int | None:
    """When the newest of some runs started, in ms; None if none can be read."""
    records = [each.record for each in store.source.read_runs(entries, lambda path: False)]
    return max((run.start_ms or 0 for run in records if run is not None), default=None)


def _hand_over(context: WalkContext, group: Sequence[_Planned]) -> None:
    """Hand over one experiment of the target, which several of the sources may share."""
    (store, entry, first), *others = group
    location = context.totals.locations.experiment(store, entry, first)
    if not all(each.plan.record.deleted for each in group):
        # Of a deleted experiment and an active one, MLflow has to show the runs.
        first = replace(first, record=replace(first.record, lifecycle_stage="active"))
    first = replace(first, artifact_location=location)
    plans = [each.plan for each in others]
    tags = _united_tags(context, first, plans)
    found: dict[str, str] = {}  # a tag that only another source has was found as well
    for plan in (first, *plans):
        found.update({key: tags[key] for key in plan.record.tags})
    context.sink.add_experiment(replace(first, record=replace(first.record, tags=found), tags=tags))


def _united_tags(
    context: WalkContext, first: ExperimentPlan, others: Sequence[ExperimentPlan]
) -> dict[str, str]:
    """The tags of the first experiment, with those that it lacks of the others. Counts both."""
    ledger, handed = context.totals.ledger, context.totals.handed
    tags = dict(first.tags)
    handed.update(counts_of(first.record))
    for plan in others:
        ledger.merged[Kind.EXPERIMENT] += 1
        for key, value in plan.record.tags.items():
            if key not in tags:
                tags[key] = value
                handed[Kind.EXPERIMENT_TAG] += 1
                continue
            ledger.merged[Kind.EXPERIMENT_TAG] += 1
            if tags[key] != value:
                issue = Issue(
                    Code.EXPERIMENT_TAG_DIFFERS,
                    plan.record.path,
                    f"Tag {key!r} of experiment {plan.record.name!r} has another value in "
                    f"{first.record.path}.",
                    "the value there",
                    Kind.EXPERIMENT_TAG,
                    plan.record.experiment_id,
                    sample=f"{value!r}, and {tags[key]!r} there",
                )
                ledger.add_issues([issue])
    return tags


def set_experiment_kinds(context: WalkContext, sampled: Mapping[str, ExperimentSummary]) -> None:
    """Mark the experiments that MLflow is to open in its GenAI view.

    With ``auto`` that is decided from ``sampled``: summaries by the experiment's directory.
    """
    wanted = context.options.experiment_kind
    if wanted == "keep":
        return
    signs: dict[int, _KindSigns] = {}
    for folder, summary in (context.totals.summaries if wanted == "genai" else sampled).items():
        tags = context.experiments.plans[folder].tags
        signs.setdefault(summary.target_id, _KindSigns()).add(summary, tags)
    for target_id, of_target in signs.items():
        kind: str | None = conventions.EXPERIMENT_KIND_GENAI
        if wanted == "auto":
            kind = transformer.experiment_kind(
                has_kind=of_target.has_kind,
                n_root_runs=of_target.trees,
                n_roots_with_traces=of_target.trees_with_traces,
                n_native=of_target.native_traces,
            )
        if kind is not None:
            context.sink.set_experiment_tag(target_id, conventions.EXPERIMENT_KIND, kind)


@dataclass(slots=True)
class _KindSigns:
    """What decides the kind of an experiment of the target."""

    has_kind: bool = False  # a source says it
    trees: int = 0  # of runs that are not deleted
    trees_with_traces: int = 0  # rebuilt ones, or ones that MLflow wrote
    native_traces: int = 0

    def add(self, summary: ExperimentSummary, tags: Mapping[str, str]) -> None:
        """Add an experiment of a source, with its tags."""
        left_as_runs = summary.left_as_runs
        bare = sum(n for why, n in left_as_runs.items() if why != "native")
        self.has_kind |= conventions.EXPERIMENT_KIND in tags
        self.trees += summary.trees - left_as_runs["deleted"]
        self.trees_with_traces += summary.trees - bare
        self.native_traces += summary.native_traces
