"""What all stages of a walk share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from migrator import conventions
from migrator.model import ConvertedExperiment, ExistingExperiment
from migrator.outcome.summary import Outcome
from migrator.pipeline.indexes import ExperimentIndex
from migrator.pipeline.locations import Locations
from migrator.pipeline.options import Options
from migrator.pipeline.redaction import Redactor
from migrator.pipeline.selection import Selection
from migrator.pipeline.sinks import Sink
from migrator.pipeline.stores import Progress, Store, no_progress
from migrator.pipeline.trees import PlannedTree
from migrator.pipeline.walk_totals import WalkTotals

ExperimentsOfRuns = Callable[[Sequence[str]], Collection[int]]
ConvertedExperiments = Callable[[Sequence[ConvertedExperiment]], Collection[ConvertedExperiment]]


def _no_experiments(run_ids: Sequence[str]) -> Collection[int]:
    return ()


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What the target says about experiments, by which theirs get names and ids."""

    existing: Sequence[ExistingExperiment] = ()
    largest_id: int | None = conventions.INT64_MAX  # None where the target assigns ids itself
    collation_key: Callable[[str], str] = str  # equal for names that the target takes for equal
    experiments_of_runs: ExperimentsOfRuns = _no_experiments  # those that have one of some runs
    converted: ConvertedExperiments = lambda some: ()  # those that it remembers as converted


@dataclass(frozen=True, slots=True)
class Observer:
    """Who is told about a walk while it goes on."""

    on_tree: Callable[[PlannedTree], None] | None = None  # called for each tree of runs
    progress: Progress = no_progress


@dataclass(frozen=True, slots=True)
class WalkContext:
    """The sources, the options, the sink, and what has been counted so far."""

    stores: Sequence[Store]
    options: Options
    sink: Sink
    outcome: Outcome
    target: TargetFacts
    observer: Observer
    selection: Selection
    totals: WalkTotals
    experiments: ExperimentIndex

    @classmethod
    def of(
        cls,
        stores: Sequence[Store],
        options: Options,
        sink: Sink,
        outcome: Outcome,
        target: TargetFacts,
        observer: Observer,
    ) -> WalkContext:
        """The context of a walk that has not begun. Raises OptionError."""
        locations = Locations(stores, options.artifacts, options.artifacts_at, outcome.artifacts)
        totals = WalkTotals(outcome.ledger, locations, Redactor(options.redact))

        def local_path(path: str) -> str:
            for store in stores:
                path = store.source.local(path)
            return path

        selection = Selection(
            options.only,
            options.since,
            local_path,
            until=options.until,
            run_ids=options.run_ids,
        )
        return cls(
            stores=stores,
            options=options,
            sink=sink,
            outcome=outcome,
            target=target,
            observer=observer,
            selection=selection,
            totals=totals,
            experiments=ExperimentIndex(stores),
        )
