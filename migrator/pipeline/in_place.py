"""Adding traces to the database that holds their runs (``convert mlflow.db --in-place``).

The database is source and target. Only the traces made of its runs go to the loader, which merges
them into a SQLite file after a backup and in one transaction, and into a database on a server in
one transaction for each experiment. Everything else stays as it is, and counts as already there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from migrator import addresses, extractor, transformer
from migrator.errors import OptionError, SourceError
from migrator.issues import Code, Kind
from migrator.model import (
    Asset,
    DatasetRecord,
    ExperimentPlan,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    TracePlan,
)
from migrator.outcome.ledger import counts_of, trace_counts_of
from migrator.outcome.summary import ArtifactSummary, Outcome
from migrator.pipeline.options import Options
from migrator.pipeline.sinks import Recorder, SharedSink
from migrator.pipeline.stores import Store

# What is not carried into another database; in place it stays as it is.
_STAYS = frozenset(
    {Code.TABLE_NOT_CARRIED, Code.COLUMN_NOT_CARRIED, Code.WEBHOOK_SECRET_LEFT, Code.ROW_LEFT_OVER}
)


def in_place_target(sources: Sequence[str]) -> str:
    """The target of a conversion in place: the one source. Raises OptionError."""
    if len(sources) != 1 or not extractor.is_database(sources[0]):
        raise OptionError(
            "--in-place takes one source, which is a database.",
            todo="Write: mlflow-migrate convert mlflow.db --in-place",
        )
    if addresses.is_database_server(sources[0]):
        return sources[0]
    return extractor.sqlite_uri(sources[0])


def in_place_options(options: Options) -> Options:
    """The options of a conversion in place: runs and locations stay. Raises OptionError."""
    for name, is_given in (
        ("--no-runs", not options.runs),
        ("--no-traces", not options.traces),
        ("--redact", bool(options.redact)),
        ("--shard", not options.shard.is_whole),
        (f"--artifacts {options.artifacts.mode}", options.artifacts.mode in ("relocate", "copy")),
    ):
        if is_given:
            raise OptionError(
                f"{name} and --in-place: only traces are added, nothing else is changed.",
                todo="Leave out one of the two.",
            )
    return replace(options, runs=False, artifacts=transformer.ArtifactChoice("keep"))


def check_whole(stores: Sequence[Store]) -> None:
    """Raise SourceError for a database whose tables are not those of its revision."""
    for store in stores:
        for issue in store.index.issues:
            if issue.code is Code.SCHEMA_UNEXPECTED:
                raise SourceError(
                    f"{issue.path}: {issue.message} Such a database is not changed.",
                    todo="Restore a backup, or convert it into another database with --to.",
                )


class NewTraces:
    """A sink that hands on the traces made of runs, and what they need; all else stays."""

    def __init__(self, sink: SharedSink) -> None:
        self._sink = sink
        self.stayed: Counter[Kind] = Counter()

    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Hand on an experiment, so that its traces belong to something."""
        self._sink.add_experiment(plan)

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Hand on a trace made of runs; one that MLflow wrote stays."""
        if plan.native:
            self.stayed.update(trace_counts_of(plan))
        else:
            self._sink.add_trace(plan, experiment_id)

    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None:
        """Hand on the kind of an experiment."""
        self._sink.set_experiment_tag(experiment_id, key, value)

    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        """Leave a run as it is."""
        self.stayed.update(counts_of(run))

    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Leave a dataset as it is."""
        self.stayed.update(counts_of(record))

    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        """Leave a logged model as it is."""
        self.stayed.update(counts_of(record))

    def add_registered_model(self, record: RegisteredModelRecord) -> None:
        """Leave a registered model as it is."""
        self.stayed.update(counts_of(record))

    def add_asset(self, record: Asset, experiment_id: int | None) -> None:
        """Leave an evaluation dataset, scorer or webhook as it is."""
        self.stayed.update(counts_of(record))

    def recorder(self) -> Recorder:
        """A recorder of the sink: other processes prepare runs and traces made of them."""
        return self._sink.recorder()

    def replay(self, recorded: Any) -> None:
        """Add what a recorder prepared."""
        self._sink.replay(recorded)


def count_as_there(outcome: Outcome) -> None:
    """Count the runs, which are not handed over, as already there; all else stays, too."""
    ledger = outcome.ledger
    ledger.issues = [issue for issue in ledger.issues if issue.code not in _STAYS]
    ledger.already_there.update(ledger.left_out)
    ledger.left_out.clear()
    outcome.artifacts = ArtifactSummary(choice=outcome.artifacts.choice)
