"""Adding traces to the database or server that holds their runs (``convert … --in-place``).

It is source and target. Only the traces made of its runs go to the loader, which merges them into
a SQLite file after a backup and in one transaction, into a database on a server in one transaction
for each experiment, and into an MLflow server through its API. Everything else stays as it is, and
counts as already there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from migrator import addresses, conventions, extractor, transformer
from migrator.errors import OptionError, SourceError
from migrator.issues import Code, Kind
from migrator.model import (
    Asset,
    DatasetRecord,
    ExistingExperiment,
    ExperimentPlan,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    TracePlan,
)
from migrator.outcome.ledger import counts_of, trace_counts_of
from migrator.outcome.summary import ArtifactSummary, Outcome
from migrator.paths import sqlite_uri
from migrator.pipeline.options import Options
from migrator.pipeline.sinks import Recorder, SharedSink, Sink
from migrator.pipeline.stores import Store

# What is not carried into another database; in place it stays as it is.
_STAYS = frozenset(
    {Code.TABLE_NOT_CARRIED, Code.COLUMN_NOT_CARRIED, Code.WEBHOOK_SECRET_LEFT, Code.ROW_LEFT_OVER}
)


def in_place_target(sources: Sequence[str]) -> str:
    """The target of a conversion in place: the one source.

    Raises OptionError, and SourceError for a database that is not a source: what is wrong with it
    is explained better than of a target, for which another could be chosen.
    """
    if len(sources) == 1 and extractor.is_server(sources[0]):
        return sources[0]
    if len(sources) != 1 or not extractor.is_database(sources[0]):
        raise OptionError(
            "--in-place takes one source, which is a database or an MLflow server.",
            todo="Write: mlflow-migrate convert mlflow.db --in-place",
        )
    if addresses.is_database_server(sources[0]):
        _check_source(sources[0])
        return sources[0]
    path = extractor.sqlite_path(sources[0])
    if not Path(f"{path}-journal").exists():  # else opening the target undoes what was interrupted
        _check_source(sources[0])
    return sqlite_uri(path)


def _check_source(source: str) -> None:
    """Raise SourceError if a database is not a source."""
    with extractor.open_source(source):
        pass


def in_place_options(options: Options, target: str) -> Options:
    """The options of a conversion in place: runs and locations stay. Raises OptionError.

    On a server what is deleted stays out too: it would have to be restored first.
    """
    is_server = extractor.is_server(target)
    if is_server and "deleted" in options.include:
        raise OptionError(
            "--in-place and --include deleted: a server takes no traces of what is deleted.",
            todo="Leave out one of the two.",
        )
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
    return replace(
        options,
        runs=False,
        artifacts=transformer.ArtifactChoice("keep"),
        deleted=options.deleted and not is_server,
    )


def check_whole(stores: Sequence[Store]) -> None:
    """Raise SourceError for a database whose tables are not those of its revision."""
    for store in stores:
        for issue in store.index.issues:
            if issue.code is Code.SCHEMA_UNEXPECTED:
                raise SourceError(
                    f"{issue.path}: {issue.message} Such a database is not changed.",
                    todo="Restore a backup, or convert it into another database with --to.",
                )


def check_experiments(there: Iterable[ExistingExperiment]) -> None:
    """Raise SourceError for experiments that MLflow could not have made beside one another."""
    names: dict[tuple[str, str], int] = {}
    for each in there:
        other = names.setdefault((each.workspace, each.name), each.target_id)
        if other != each.target_id or each.target_id < 0:
            problem = f"has a negative id ({each.target_id})"
            if other != each.target_id:
                problem = f"has the name of experiment {other}"
            raise SourceError(
                f'Experiment {each.target_id} "{each.name}" {problem}, which MLflow does not '
                "allow. Such a database is not changed.",
                todo="Correct that row, or convert into another database with --to.",
            )


def without_own_traces(store: Store) -> Store:
    """A server's store without the traces that conversions in place made of its runs.

    A server has no transactions, so an earlier conversion may have ended in the middle of a run. Of
    a run with a trace by MLflow none is made, so ours must not be taken for one: they are planned
    again, and what is complete on the server is found there and stays.
    """
    run_ids = {entry.entity_id for entry in store.index.runs}
    others = []
    for entry in store.index.traces:
        trace = store.source.read_trace(entry).record if entry.source_run_id in run_ids else None
        tags = {} if trace is None else trace.tags
        is_own = conventions.MIGRATOR_DIGEST in tags
        if not is_own or tags.get(conventions.MIGRATOR_ROOT_RUN) not in run_ids:
            others.append(entry)
    return replace(store, index=replace(store.index, traces=tuple(others)))


class NewTraces:
    """A sink that hands on the traces made of runs, and what they need; all else stays."""

    def __init__(self, sink: Sink) -> None:
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


class SharedNewTraces(NewTraces):
    """The same for a sink for which other processes prepare runs and traces made of them."""

    def __init__(self, sink: SharedSink) -> None:
        super().__init__(sink)
        self._shared = sink

    @property
    def lot_runs(self) -> int:
        """About as many runs are one piece of work for a process."""
        return self._shared.lot_runs

    def recorder(self) -> Recorder:
        """A recorder of the sink."""
        return self._shared.recorder()

    def replay(self, recorded: Any) -> None:
        """Add what a recorder prepared."""
        self._shared.replay(recorded)


class TracesOnly(NewTraces):
    """The same without the experiments, which are there: for what looks at traces only."""

    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Leave an experiment as it is."""

    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None:
        """Leave out the kind of an experiment."""


def count_as_there(outcome: Outcome) -> None:
    """Count the runs, which are not handed over, as already there; all else stays, too."""
    ledger = outcome.ledger
    ledger.issues = [issue for issue in ledger.issues if issue.code not in _STAYS]
    ledger.already_there.update(ledger.left_out)
    ledger.left_out.clear()
    outcome.artifacts = ArtifactSummary(choice=outcome.artifacts.choice)
