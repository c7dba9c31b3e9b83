"""Where decided items go: into a database, into a comparison, or nowhere."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from migrator.errors import OptionError
from migrator.model import (
    Asset,
    DatasetRecord,
    ExperimentPlan,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    TracePlan,
)


class RunSink(Protocol):
    """Where runs and the traces that are rebuilt from them go."""

    def add_run(self, run: RunRecord, experiment_id: int) -> None: ...
    def add_trace(self, plan: TracePlan, experiment_id: int) -> None: ...


class Sink(RunSink, Protocol):
    """Where decided items go; every ``experiment_id`` is the target's."""

    def add_experiment(self, plan: ExperimentPlan) -> None: ...
    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None: ...
    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None: ...
    def add_registered_model(self, record: RegisteredModelRecord) -> None: ...

    def add_asset(self, record: Asset, experiment_id: int | None) -> None:
        """Take an evaluation dataset, scorer or webhook; only a scorer has an experiment."""

    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None: ...


class Recorder(RunSink, Protocol):
    """Prepares runs and traces for a sink, in a process that has not got the sink."""

    def blank(self) -> Recorder:
        """A recorder like this one, to which nothing was added."""

    def recorded(self) -> Any:
        """What was added since the last call, for the sink's ``replay``."""


@runtime_checkable
class SharedSink(Sink, Protocol):
    """A sink for which other processes can prepare the runs and traces."""

    @property
    def lot_runs(self) -> int:
        """About as many runs are one piece of work for a process."""

    def recorder(self) -> Recorder: ...
    def replay(self, recorded: Any) -> None: ...


class BaseSink:
    """A sink that does nothing, to derive from.

    Override the methods of the items that you want, and give it to ``migrator.scan``. Each item is
    counted before the sink gets it, so that a sink can't change the counts of the result. All
    methods are called in the calling process. What they raise ends the scan::

        class Names(migrator.BaseSink):
            def add_run(self, run, experiment_id):
                print(run.name)

        migrator.scan("./mlruns", sink=Names())
    """

    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Take an experiment, before its runs."""

    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        """Take a run with its params, tags and metric histories."""

    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Take a dataset."""

    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        """Take a logged model."""

    def add_registered_model(self, record: RegisteredModelRecord) -> None:
        """Take a registered model with its versions."""

    def add_asset(self, record: Asset, experiment_id: int | None) -> None:
        """Take an evaluation dataset, scorer or webhook; only a scorer has an experiment."""

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Take a trace, native or rebuilt from runs, with its spans and assessments."""

    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None:
        """Take a tag of an experiment that is known only after its runs."""


def checked_sink(sink: Sink) -> Sink:
    """The sink, if it takes every item. Raises OptionError for an object of another kind."""
    for name in vars(BaseSink):
        if not name.startswith("_") and not callable(getattr(sink, name, None)):
            raise OptionError(
                f"The sink {sink!r} has no method {name}.",
                todo="Derive its class from migrator.BaseSink.",
            )
    return sink


class Discard(BaseSink):
    """The sink of ``scan`` and ``--dry-run``: decisions are counted, not kept."""

    lot_runs = 50

    def recorder(self) -> Recorder:
        return self

    def blank(self) -> Recorder:
        return self

    def recorded(self) -> None: ...
    def replay(self, recorded: None) -> None: ...
