"""The order of the stages: one walk over the sources, with one sink."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.outcome.summary import Outcome
from migrator.pipeline.closing import Walked, report_mixed_assessments
from migrator.pipeline.entities import (
    EntityReader,
    hand_over_assets,
    hand_over_datasets,
    hand_over_logged_models,
    hand_over_native_traces,
    hand_over_registered_models,
)
from migrator.pipeline.experiments import hand_over_experiments, set_experiment_kinds
from migrator.pipeline.forest import hand_over_trees
from migrator.pipeline.indexes import RunIndex
from migrator.pipeline.options import Options
from migrator.pipeline.sinks import Sink
from migrator.pipeline.stores import Store
from migrator.pipeline.walk_context import Observer, TargetFacts, WalkContext


def walk_sources(
    stores: Sequence[Store],
    options: Options,
    sink: Sink,
    outcome: Outcome,
    target: TargetFacts | None = None,
    observer: Observer | None = None,
) -> Walked:
    """Read, decide, and hand everything that the options select to the sink; fills ``outcome``.

    Without a target nothing clashes with the experiments of the sources. Call ``check_handed`` of
    the result before anything is published. Raises OptionError and WorkerError, and whatever the
    sink raises.
    """
    context = WalkContext.of(
        stores, options, sink, outcome, target or TargetFacts(), observer or Observer()
    )
    totals = context.totals
    for store in stores:
        totals.ledger.add_index(store.index)
    hand_over_experiments(context)
    entities = EntityReader(context)
    hand_over_datasets(entities)
    runs = RunIndex(stores, context.experiments)
    summaries = hand_over_trees(entities, runs)
    added = hand_over_native_traces(entities, runs)
    report_mixed_assessments(context)
    hand_over_logged_models(entities, runs)
    hand_over_registered_models(entities, runs)
    hand_over_assets(entities)
    set_experiment_kinds(context, summaries)
    outcome.redacted.update(totals.redactor.counts)
    outcome.redaction_stayed = totals.redactor.stayed
    totals.ledger.issues = totals.redactor.issues(totals.ledger.issues)
    outcome.experiments = totals.summaries.as_list()
    return Walked(stores, totals.ledger, totals.handed, added, totals.locations, totals.redactor)
