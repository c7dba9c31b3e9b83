"""One walk over the sources: read, decide, hand every decided item to a sink."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from migrator import __version__, conventions, transformer, workers
from migrator.errors import LedgerError, OptionError
from migrator.issues import Code, Issue, Kind
from migrator.model import (
    Entry,
    ExperimentPlan,
    ExperimentRecord,
    Extracted,
    LoggedModelRecord,
    Role,
    RunEntry,
    RunRecord,
    TraceEntry,
    TraceRecord,
)
from migrator.outcome.ledger import Ledger, counts_of, trace_counts_of
from migrator.outcome.summary import ExperimentSummary, Outcome
from migrator.outcome.written import Written
from migrator.paths import shown
from migrator.pipeline.copies import Copy, unite
from migrator.pipeline.locations import Locations
from migrator.pipeline.options import Options
from migrator.pipeline.redaction import Redactor
from migrator.pipeline.selection import Selection, Shard, digest_of
from migrator.pipeline.sinks import Discard, SharedSink, Sink
from migrator.pipeline.stores import Homes, Progress, Store, no_progress, ranked
from migrator.pipeline.trees import (
    PlannedTree,
    TreeContext,
    TreeReader,
    TreeWorker,
    count_files,
    leave_out_files,
    work_here,
    work_shared,
)
from migrator.pipeline.walk_totals import Accounts

E = TypeVar("E", bound=Entry)
T = TypeVar("T")

SAMPLE_TREES = 200  # of an experiment, from which one shard decides its kind
SAMPLE_RUNS = 5_000  # in them: the tree that exceeds it is the last
FEW_RUNS = 400  # up to here it costs more to start processes than they save


class _Found(NamedTuple, Generic[E]):
    """A directory that is wanted, and how it is read."""

    store: Store
    entry: E
    plan: ExperimentPlan | None  # of its experiment; a registered model has none
    read: Callable[[E], Extracted[Any]]


class _Taken(NamedTuple, Generic[E]):
    """An entity that was read: its first directory, and all that is known of it."""

    first: _Found[E]
    record: Any
    plan: Any  # that of ``first``


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
        largest_id: int | None = conventions.INT64_MAX,
        name_key: Callable[[str], str] = str,
        on_tree: Callable[[PlannedTree], None] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.stores = stores
        self.options = options
        self.sink = sink
        self.outcome = outcome
        self.ledger = outcome.ledger
        self.existing = existing
        self.largest_id = largest_id
        self.name_key = name_key
        self.on_tree = on_tree
        self.progress = progress
        self.accounts = Accounts(
            self.ledger,
            Locations(stores, options.artifacts, outcome.artifacts),
            Redactor(options.redact),
        )
        self.locations = self.accounts.locations
        self.redactor = self.accounts.redactor
        self.summaries = self.accounts.summaries
        self.handed = self.accounts.handed
        self.runs_left_out = self.accounts.runs_left_out
        self.ours: Counter[Kind] = Counter()  # what we added to native traces
        self.homes = Homes(stores)
        self.runs: dict[str, RunEntry] = {}  # by id; of those with one id, the one that counts
        self.elsewhere: dict[str, Store] = {}  # where those of them lie, if not in the first store
        self.seen: dict[tuple[Kind, str], tuple[Store, Entry]] = {}  # likewise, of all else
        self.selection = Selection(options.only, options.since, self._local_path)
        self.shard = Shard.of(*options.shard)
        if not self.shard.whole and self.locations.choice.directory is not None:
            raise OptionError(
                f"--artifacts {options.artifacts} and --shard: where versions of registered models "
                "are copied to is decided over the whole source.",
                todo="Copy the files by other means, or convert without --shard.",
            )
        if options.redact and self.locations.choice.directory is not None:
            raise OptionError(
                f"--redact and --artifacts {options.artifacts}: the files would be copied as they "
                "are, with what is to be masked.",
                todo="Leave out one of the two.",
            )
        self.others: set[str] = set()  # ids of runs that other shards take
        self.deciding = self.summaries  # what the kinds of experiments are decided from

    def run(self) -> None:
        """Read, decide and hand over everything that the options select."""
        for store in self.stores:
            self.ledger.add_index(store.index)
        self._experiments()
        self._datasets()
        self._trees()
        self._native_traces()
        self._name_mixed_assessments()
        self._logged_models()
        self._registered_models()
        self._experiment_kinds()
        self.outcome.redacted.update(self.redactor.counts)
        self.outcome.redaction_stayed = self.redactor.stayed
        self.ledger.issues = self.redactor.issues(self.ledger.issues)
        self.outcome.experiments = list(self.summaries.values())

    # ------------------------------------------------------------------ experiments

    def _experiments(self) -> None:
        read: list[tuple[Store, Entry, ExperimentRecord]] = []
        known: set[str] = set()
        listed = self._listed()
        for store in self.stores:
            for entry in ranked(store.index.experiments):
                extracted = self.redactor.mask(store.source.read_experiment(entry))
                record = extracted.record
                if record is not None:
                    known |= {record.name, record.experiment_id}
                    unlisted = listed is not None and entry.path not in listed
                    if unlisted or not self._selected(record):
                        leave_out_files(self.ledger, store, entry)
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
            self._weighed(read),
            self.existing,
            self.options.on_conflict,
            self.largest_id,
            self.name_key,
        )
        self.ledger.add_issues(issues)
        groups: dict[int, list[tuple[Store, Entry, ExperimentPlan]]] = defaultdict(list)
        for store, entry, record in read:
            plan = by_path[record.path]
            self.homes.plans[entry.path] = plan
            self.summaries[entry.path] = ExperimentSummary.of(shown(store.name), plan)
            groups[plan.target_id].append((store, entry, plan))
        for (store, entry, first), *others in groups.values():
            location = self.locations.experiment(store, entry, first)
            if not all(plan.record.deleted for plan in (first, *(each[2] for each in others))):
                # Of a deleted experiment and an active one, MLflow has to show the runs.
                first = replace(first, record=replace(first.record, lifecycle_stage="active"))
            self._hand_experiment(
                replace(first, artifact_location=location), [plan for _, _, plan in others]
            )

    def _weighed(
        self, read: Sequence[tuple[Store, Entry, ExperimentRecord]]
    ) -> list[transformer.FoundExperiment]:
        """Return experiments with what they hold, by which those of one name are told apart."""
        found = [transformer.FoundExperiment(store.number, record) for store, _, record in read]
        sharing = Counter(self._shared_name(each) for each in found)
        twins = {e.record.path for e in found if sharing[self._shared_name(e)] > 1}
        if not twins:
            return found
        runs: defaultdict[str, list[RunEntry]] = defaultdict(list)
        other_items: Counter[str] = Counter()
        stores = {store.number: store for store in self.stores}
        for store in self.stores:
            index = store.index
            for run in index.runs:
                runs[self.homes.home(store, run)].append(run)
            for entry in (*index.traces, *index.logged_models, *index.datasets):
                other_items[self.homes.home(store, entry)] += 1
        weighed = []
        for each in found:
            path = each.record.path
            if path in twins:
                newest_ms = _newest_ms(stores[each.source], runs[path])
                each = replace(
                    each,
                    runs=len(runs[path]),
                    other_items=other_items[path],
                    newest_run_ms=newest_ms,
                )
            weighed.append(each)
        return weighed

    def _shared_name(self, each: transformer.FoundExperiment) -> tuple[int, str]:
        return each.source, self.name_key(each.record.name)

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
                    homes.add(self.homes.home(store, entry))
            homes.update(e.path for e in index.experiments if self.selection.names(e))
            anything |= any(map(self.selection.names, index.registered_models))
        if not homes and not anything:
            raise OptionError(
                f"Nothing that {self.options.only} lists is in the source.",
                todo="Give the source of the conversion that wrote the list.",
            )
        return homes

    def _local_path(self, path: str) -> str:
        """Return where the file lies that a report calls by this name."""
        for store in self.stores:
            path = store.source.local(path)
        return path

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
                    continue
                self.ledger.merged[Kind.EXPERIMENT_TAG] += 1
                if tags[key] != value:
                    self.ledger.add_issues(
                        [
                            Issue(
                                Code.EXPERIMENT_TAG_DIFFERS,
                                plan.record.path,
                                f"Tag {key!r} of experiment {plan.record.name!r} has another "
                                f"value in {first.record.path}.",
                                "the value there",
                                Kind.EXPERIMENT_TAG,
                                plan.record.experiment_id,
                                sample=f"{value!r}, and {tags[key]!r} there",
                            )
                        ]
                    )
        # What another source adds is the sources' too, not ours.
        found = {key: tags[key] for plan in (first, *others) for key in plan.record.tags}
        self.sink.add_experiment(
            replace(first, record=replace(first.record, tags=found), tags=tags)
        )

    # ------------------------------------------------------------- runs and their traces

    def _trees(self) -> None:
        entries, elsewhere = self.runs, self.elsewhere
        copies: defaultdict[str, list[tuple[Store, RunEntry]]] = defaultdict(list)
        found = [(store, entry) for store in self.stores for entry in ranked(store.index.runs)]
        # Of one id, the first counts: one that is wanted (the sort keeps the order otherwise).
        found.sort(key=lambda each: self.homes.plan_of(*each) is None)
        for store, entry in found:
            if entry.entity_id in entries:
                copies[entry.entity_id].append((store, entry))
                continue
            entries[entry.entity_id] = entry
            if store is not self.stores[0]:
                elsewhere[entry.entity_id] = store
        del found
        context = TreeContext(
            self.options,
            self.selection,
            self.homes,
            self._tree_reader(),
            entries,
            self.stores[0],
            elsewhere,
            inferred={},
            copies=copies,
            on_tree=self.on_tree,
        )
        issues: list[Issue] = []
        if self.options.group_by_time or self.options.adopt_orphans:
            context, issues = self._regrouped(context)
        forest = transformer.build_forest(context.entries.values())
        issues += forest.issues
        mine = forest
        if not self.shard.whole:
            mine = self._sharded(context, forest)
            issues = [issue for issue in issues if issue.entity_id not in self.others]
        self.ledger.add_issues(issues)
        accounts = self.accounts
        self._work(mine, context, accounts, self.sink, len(entries) - len(self.others))
        if self.shard.whole:  # a shard can't tell
            self._name_idle_profiles(context.reader)
            self._name_regroupings()
        elif self.options.experiment_kind == "auto":
            self._sample(context, forest)
        for run_id, of_run in copies.items():
            if run_id not in self.others:
                self._unread_copies(run_id, of_run, context)

    def _unread_copies(
        self, run_id: str, copies: Sequence[tuple[Store, RunEntry]], context: TreeContext
    ) -> None:
        """Account for a run's further directories that were not read with the one that counts."""
        accounts = self.accounts
        found: list[_Found[RunEntry]] = []
        for store, entry in copies:
            if entry.path in accounts.copies_read:
                continue
            count_files(self.ledger, store, entry)
            plan = self.homes.plan_of(store, entry)
            if plan is not None and run_id in self.runs_left_out:
                leave_out_files(self.ledger, store, entry)
            elif plan is not None:
                found.append(_Found(store, entry, plan, partial(context.reader.read, store)))
        taken = self._take(Kind.RUN, found)
        if taken is not None:  # the one that counts could not be read
            first, run, plan = taken
            self.handed.subtract(counts_of(run))
            TreeWorker(context, accounts, self.sink).hand_run(first.store, first.entry, run, plan)

    def _work(
        self,
        forest: transformer.Forest,
        context: TreeContext,
        accounts: Accounts,
        sink: Sink,
        runs: int,
    ) -> None:
        """Work on the trees of a forest, which have so many runs, alone or with others."""
        count = self.options.workers or workers.cores()
        few = count == 1 or runs <= FEW_RUNS
        alone = self.on_tree is not None or (few and self.options.executor is None)
        if isinstance(sink, SharedSink) and not alone:
            work_shared(forest, context, accounts, sink, self.progress, runs, count)
        else:
            work_here(forest, context, accounts, sink, self.progress, runs)

    def _sharded(self, context: TreeContext, forest: transformer.Forest) -> transformer.Forest:
        """Return the trees of this shard. Those of others are counted, and not looked into."""
        for root_id in forest.root_ids:
            if self.shard.takes(root_id):
                continue
            for run_id in forest.tree(root_id).run_ids:
                self.others.add(run_id)
                if (
                    self.homes.plan_of(context.store_of(run_id), context.entries[run_id])
                    is not None
                ):
                    self._leave_to_others(Kind.RUN)
        self.runs_left_out |= self.others
        return replace(forest, root_ids=tuple(filter(self.shard.takes, forest.root_ids)))

    def _leave_to_others(self, kind: Kind) -> None:
        self.ledger.found[kind] += 1
        self.ledger.left_out[kind] += 1

    def _sample(self, context: TreeContext, forest: transformer.Forest) -> None:
        """Read, aside, what the kind of an experiment is decided from, where that is our part.

        For each experiment it is the part of one shard, and that one sees no more than its own
        trees; so it reads a fixed sample, which is all of them where they are few.
        """
        ours = {
            key
            for key, plan in self.homes.plans.items()
            if self.shard.takes(str(plan.target_id))
            and conventions.EXPERIMENT_KIND not in plan.tags
        }
        by_target: dict[int, list[str]] = defaultdict(list)
        for root_id in forest.root_ids:
            key = self.homes.home(context.store_of(root_id), context.entries[root_id])
            if key in ours:
                by_target[self.homes.plans[key].target_id].append(root_id)
        sample: list[str] = []
        runs = 0
        for root_ids in by_target.values():
            end = runs + SAMPLE_RUNS
            for root_id in sorted(root_ids, key=digest_of)[:SAMPLE_TREES]:
                sample.append(root_id)
                runs += len(forest.tree(root_id).run_ids)
                if runs > end:
                    break
        apart = replace(forest, root_ids=tuple(sample))
        aside = self.accounts.blank()
        self._work(apart, replace(context, on_tree=None), aside, Discard(), runs)
        self.deciding = {key: aside.summaries[key] for key in sorted(ours)}
        for store in self.stores:
            read = store.source.read_trace
            for entry in store.index.traces if self.options.traces else ():
                key = self.homes.home(store, entry)
                if key not in ours or self.deciding[key].native_traces:
                    continue  # one is enough to decide by
                if self._excludes(self.homes.plans[key], entry):
                    continue
                if self._takes_trace(entry, read) and read(entry).record is not None:
                    self.deciding[key].native_traces += 1

    def _name_regroupings(self) -> None:
        """Say how many runs would be joined by the options that join runs."""
        moments = self.accounts.moments
        if not self.options.group_by_time:
            parents = transformer.group_by_time(moments)
            self.outcome.groups_by_time = (len(set(parents.values())), len(parents))
        if not self.options.adopt_orphans:
            self.outcome.orphans = len(transformer.adopt_orphans(moments))

    def _name_idle_profiles(self, reader: TreeReader) -> None:
        """Report the user's own profiles that took no tree: a slip in one is easily made."""
        decisions = [d for summary in self.summaries.values() for d in summary.decisions.values()]
        busy = {decision.profile for decision in decisions}
        for profile in reader.profiles:
            own = profile.origin != "built in" and bool(profile.recognise)
            if not own or profile.name in busy or not reader.options.asks_for(profile):
                continue
            if any(profile.name in other.extends for other in reader.profiles):
                continue  # made to be extended
            message = f"Profile {profile.name} took none of the {sum(d.trees for d in decisions)} "
            message += "trees of runs."
            kept = "the trees as the other profiles read them"
            path = str(Path(profile.origin).absolute())
            self.ledger.add_issues([Issue(Code.PROFILE_UNUSED, path, message, kept)])

    def _tree_reader(self) -> TreeReader:
        profiles = transformer.load_profiles(self.options.profile_files)
        choice = transformer.PlanOptions(
            include=self.options.include,
            exclude=self.options.exclude,
            profile=self.options.profile,
            roles=self._forced_roles(),
            version=__version__,
        )
        return TreeReader(
            profiles,
            transformer.wanted_artifacts(p for p in profiles if choice.asks_for(p)),
            choice,
            self._native_by_run(),
            frozenset(entry.entity_id for store in self.stores for entry in store.index.traces),
        )

    def _forced_roles(self) -> dict[str, Role]:
        """Return the roles that the user gave, by the experiment's directory."""
        forced: dict[str, Role] = {}
        for name, role in self.options.roles:
            records = [plan.record for plan in self.homes.plans.values()]
            paths = [r.path for r in records if name in (r.name, r.experiment_id)]
            if not paths:
                raise OptionError(
                    f"The source has no experiment with the name or id {name!r}.",
                    todo="'mlflow-migrate scan' lists them.",
                )
            for path in paths:
                if forced.setdefault(path, Role(role)) is not Role(role):
                    raise OptionError(
                        f"--role gives experiment {name!r} two roles, by its name and its id.",
                        todo="Give one of them.",
                    )
        return forced

    def _regrouped(self, context: TreeContext) -> tuple[TreeContext, list[Issue]]:
        """Read all trees once before the walk, and give runs the parents that time suggests.

        Returns the context with them, and an issue for each.
        """
        issues = []
        entries, reader = context.entries, context.reader
        moments = []
        for tree in transformer.build_forest(entries.values()).trees():
            home = context.store_of(tree.root_id)
            if self.homes.plan_of(home, entries[tree.root_id]) is None:
                continue
            records = [
                reader.read(context.store_of(run_id), entries[run_id]).record
                for run_id in tree.run_ids
            ]
            runs = {run.run_id: run for run in records if run is not None}
            if runs:
                planned = reader.plan(tree.root_id, runs, tree.children)
                moments.append(context.moment(planned, with_params=True))
        known = [moment for moment in moments if moment is not None]
        parents: dict[str, str] = {}
        inferred: dict[str, str] = {}
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
                inferred[run_id] = why
                message = f"Run {run_id} is taken for a step of {parent}."
                kept = "the run as it was; its span lies in the other's trace"
                path = entries[run_id].path
                issues.append(Issue(code, path, message, kept, Kind.RUN, run_id))
        placed = {
            run_id: replace(entry, parent_run_id=parents.get(run_id, entry.parent_run_id))
            for run_id, entry in entries.items()
        }
        return replace(context, entries=placed, inferred=inferred), issues

    def _native_by_run(self) -> dict[str, tuple[str, ...]]:
        native: dict[str, tuple[str, ...]] = {}
        for store in self.stores:
            for entry in store.index.traces:
                if entry.source_run_id:
                    before = native.get(entry.source_run_id, ())
                    native[entry.source_run_id] = (*before, entry.entity_id)
        return native

    # ------------------------------------------------------------- everything else

    def _take(self, kind: Kind, found: Sequence[_Found[E]]) -> _Taken[E] | None:
        """Read the directories of one entity and account for them; None if all are rejected.

        Returns the first that can be read, with what it lacks of the others.
        """
        whole: Copy | None = None
        first = None
        for each in found:
            extracted = self.redactor.mask(each.read(each.entry))
            self.ledger.add_extracted(extracted)
            if extracted.record is None:
                continue
            target_id = None if each.plan is None else each.plan.target_id
            copy = Copy(each.entry, target_id, extracted.record)
            if whole is None:
                whole, first = copy, each
            else:
                whole = unite(kind, whole, copy, self.accounts)
        if whole is None or first is None:
            return None
        self.seen[(kind, whole.entry.entity_id)] = (first.store, first.entry)
        self.handed.update(counts_of(whole.record))
        return _Taken(first, whole.record, first.plan)

    def _native_traces(self) -> None:
        total = sum(len(store.index.traces) for store in self.stores)
        found: defaultdict[str, list[_Found[TraceEntry]]] = defaultdict(list)
        for store in self.stores:
            read = store.source.read_trace
            for entry in ranked(store.index.traces):
                plan = self.homes.plan_of(store, entry)
                if plan is None:
                    continue
                if not self._holds_trace(entry):
                    self._leave_to_others(Kind.TRACE)
                    leave_out_files(self.ledger, store, entry)
                elif not self._takes_trace(entry, read):
                    leave_out_files(self.ledger, store, entry)
                else:
                    found[entry.entity_id].append(_Found(store, entry, plan, read))
        for done, of_trace in enumerate(found.values(), total - len(found) + 1):
            self.progress("traces", done, total)
            taken = self._take(Kind.TRACE, of_trace)
            if taken is not None:
                self._hand_trace(*taken)

    def _hand_trace(
        self, first: _Found[TraceEntry], record: TraceRecord, plan: ExperimentPlan
    ) -> None:
        store, entry = first.store, first.entry
        if not self.options.traces or self._excludes(plan, entry):
            self._leave_out(record)
            return
        record = self.locations.trace(store, entry, record, plan.target_id)
        trace, issues = transformer.plan_native_trace(record, __version__)
        self.ledger.add_issues(issues)
        self.ours.update(trace_counts_of(trace))
        self.ours.subtract(counts_of(record))
        self.summaries[self.homes.home(store, entry)].add_trace(trace)
        self.sink.add_trace(trace, plan.target_id)

    def _name_mixed_assessments(self) -> None:
        """Report assessments of one name whose values have several types in an experiment."""
        totals: dict[tuple[int, str, str], Counter[str]] = {}
        places: dict[int, tuple[str, ExperimentSummary]] = {}
        for path, summary in self.summaries.items():
            places.setdefault(summary.target_id, (path, summary))
            for (kind, name), types in summary.assessments.items():
                totals.setdefault((summary.target_id, kind, name), Counter()).update(types)
        for (target_id, kind, name), types in sorted(totals.items()):
            if len(types) < 2:
                continue
            path, summary = places[target_id]
            counts = ", ".join(f"{n:,} × {word}" for word, n in sorted(types.items()))
            message = f'The {kind} "{name}" of experiment {summary.experiment_id} has values of '
            message += f"{len(types)} types: {counts}."
            kept = "each value as it was read"
            self.ledger.add_issues(
                [
                    Issue(
                        Code.ASSESSMENT_TYPES_MIXED,
                        path,
                        message,
                        kept,
                        Kind.EXPERIMENT,
                        summary.experiment_id,
                    )
                ]
            )

    def _holds_trace(self, entry: TraceEntry) -> bool:
        """Tell whether a native trace belongs to this shard.

        One that bears the id of a run stays with it: the run's own trace may have the same.
        """
        bare = entry.entity_id.removeprefix("tr-")
        return self._holds_run(bare) if bare in self.runs else self.shard.takes(entry.entity_id)

    def _holds_run(self, run_id: str) -> bool:
        return run_id in self.runs and run_id not in self.others

    def _excludes(self, plan: ExperimentPlan, entry: TraceEntry) -> bool:
        """Return True where deleted things get no traces, and this native one is of one."""
        if "deleted" not in self.options.exclude:
            return False
        run = self.runs.get(entry.source_run_id or "")
        record = None if run is None else self._read_without_texts(run)
        return plan.record.deleted or (record is not None and record.deleted)

    def _read_without_texts(self, run: RunEntry) -> RunRecord | None:
        store = self.elsewhere.get(run.entity_id, self.stores[0])
        return store.source.read_run(run, lambda path: False).record

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
        found: defaultdict[tuple[int, str], list[_Found[Entry]]] = defaultdict(list)
        for store in self.stores:
            for entry in ranked(store.index.datasets):
                plan = self.homes.plan_of(store, entry)
                if plan is not None:  # a dataset's id is one of its experiment
                    of_dataset = found[plan.target_id, entry.entity_id]
                    of_dataset.append(_Found(store, entry, plan, store.source.read_dataset))
        for (target_id, _), of_dataset in found.items():
            taken = self._take(Kind.DATASET, of_dataset)
            if taken is not None:
                self.sink.add_dataset(taken.record, target_id)

    def _logged_models(self) -> None:
        found: defaultdict[str, list[_Found[Entry]]] = defaultdict(list)
        for store in self.stores:
            read = store.source.read_logged_model
            for entry in ranked(store.index.logged_models):
                plan = self.homes.plan_of(store, entry)
                if plan is None:
                    continue
                if not self.selection.names(entry):
                    leave_out_files(self.ledger, store, entry)
                elif not self._holds_model(entry, read):
                    self._leave_to_others(Kind.LOGGED_MODEL)
                    leave_out_files(self.ledger, store, entry)
                else:
                    found[entry.entity_id].append(_Found(store, entry, plan, read))
        for of_model in found.values():
            taken = self._take(Kind.LOGGED_MODEL, of_model)
            if taken is not None:
                (store, entry, *_), record, plan = taken
                record = self.locations.logged_model(store, entry, record, plan.target_id)
                self.sink.add_logged_model(self._of_runs(record), plan.target_id)

    def _holds_model(
        self, entry: Entry, read: Callable[[Entry], Extracted[LoggedModelRecord]]
    ) -> bool:
        """Tell whether a logged model belongs to this shard, or a run here measured it.

        In the database a metric refers to the run that measured it as well as to its model.
        """
        if self.shard.takes(entry.entity_id):
            return True
        record = read(entry).record
        return record is not None and any(self._holds_run(m.run_id) for m in record.metrics)

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
        any_there = any(store.index.registered_models for store in self.stores)
        owners = self._owners() if any_there else {}
        found: defaultdict[str, list[_Found[Entry]]] = defaultdict(list)
        for store in self.stores:
            for entry in ranked(store.index.registered_models):
                if self.options.experiments or not self.selection.names(entry):
                    # a registered model belongs to no experiment
                    leave_out_files(self.ledger, store, entry)
                elif not self.shard.takes(entry.entity_id):
                    self._leave_to_others(Kind.REGISTERED_MODEL)
                    leave_out_files(self.ledger, store, entry)
                else:
                    read = store.source.read_registered_model
                    found[entry.entity_id].append(_Found(store, entry, None, read))
        for of_model in found.values():
            taken = self._take(Kind.REGISTERED_MODEL, of_model)
            if taken is not None:
                record = self.locations.registered_model(taken.record, owners)
                self.sink.add_registered_model(record)

    def _owners(self) -> dict[str, tuple[Kind, Store, Entry]]:
        """Return all runs and logged models of the sources by id, those left out too."""
        owners: dict[str, tuple[Kind, Store, Entry]] = {
            run_id: (Kind.RUN, self.elsewhere.get(run_id, self.stores[0]), run)
            for run_id, run in self.runs.items()
        }
        for store in self.stores:
            for model in ranked(store.index.logged_models):
                owners.setdefault(model.entity_id, (Kind.LOGGED_MODEL, store, model))
        for (kind, entity_id), (home, entry) in self.seen.items():
            if kind in (Kind.RUN, Kind.LOGGED_MODEL):
                owners[entity_id] = (kind, home, entry)
        return owners

    def _experiment_kinds(self) -> None:
        if self.options.experiment_kind == "keep":
            return
        by_target: dict[int, list[ExperimentSummary]] = defaultdict(list)
        tags: dict[int, dict[str, str]] = defaultdict(dict)
        everywhere = self.options.experiment_kind == "genai"
        for key, summary in (self.summaries if everywhere else self.deciding).items():
            by_target[summary.target_id].append(summary)
            tags[summary.target_id].update(self.homes.plans[key].tags)
        for target_id, summaries in by_target.items():
            kind: str | None = conventions.EXPERIMENT_KIND_GENAI
            if self.options.experiment_kind == "auto":
                kind = transformer.experiment_kind(
                    tags[target_id],
                    sum(s.trees - s.left_as_runs.get("deleted", 0) for s in summaries),
                    sum(_trees_with_traces(s) for s in summaries),
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
        self.ledger.join_notes()
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
        now = sum(store.source.count_all_files() for store in self.stores)
        if min(ledger.files, now) <= met <= max(ledger.files, now):
            ledger.add_issues(
                [
                    Issue(
                        Code.STORE_CHANGED,
                        ", ".join(store.name for store in self.stores),
                        f"The first walk found {ledger.files:,} files, {met:,} were met when they "
                        f"were to be read, and {now:,} are there now.",
                        "what was there",
                    )
                ]
            )
            ledger.files = met

    def check_written(self, written: Written) -> None:
        """Raise LedgerError unless what was handed over is written, merged or refused by name."""
        trial = Ledger(
            found=self.ledger.found,
            merged=Counter(self.ledger.merged),
            rejected=Counter(self.ledger.rejected),
            left_out=self.ledger.left_out,
        )
        _add_result(trial, written, self.ours)
        trial.add_issues(written.issues)
        _check_closed(trial, {})

    def add_result(self, result: Written) -> None:
        """Enter into the ledger what the loader did."""
        _add_result(self.ledger, result, self.ours)
        self.ledger.add_issues(self.redactor.issues(result.issues))


def _newest_ms(store: Store, entries: Sequence[RunEntry]) -> int | None:
    """When the newest of these runs started, None if none says so."""
    records = [each.record for each in store.source.read_runs(entries, lambda path: False)]
    return max((run.start_ms or 0 for run in records if run is not None), default=None)


def _trees_with_traces(summary: ExperimentSummary) -> int:
    """Return how many trees a trace shows: one rebuilt, or MLflow's own."""
    bare = sum(n for why, n in summary.left_as_runs.items() if why != "native")
    return summary.trees - bare


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


def _add_result(ledger: Ledger, result: Written, ours: Counter[Kind]) -> None:
    """Enter what the loader did; what we added to native traces was not found, so not counted."""
    converted, there = Counter(result.converted), Counter(result.already_there)
    for kind, count in ours.items():
        new = min(count, converted[kind])
        converted[kind] -= new
        there[kind] -= count - new
        if there[kind] < 0:  # ours were rejected together with a native trace
            ledger.rejected[kind] += there.pop(kind)
    ledger.add_outcome(converted, there)
    ledger.merged.update(result.merged)
    ledger.rebuilt_new.update({kind: n for kind, n in result.rebuilt.items() if n})
