"""Where decided items go: into a database, into a comparison, or nowhere."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

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

    def recorded(self) -> Any:
        """What was added since the last call, for the sink's ``replay``."""


@runtime_checkable
class SharedSink(Sink, Protocol):
    """A sink for which other processes can prepare the runs and traces."""

    def recorder(self) -> Recorder: ...
    def replay(self, recorded: Any) -> None: ...


class Discard:
    """The sink of ``scan`` and ``--dry-run``: decisions are counted, not kept."""

    def recorder(self) -> Recorder:
        return self

    def recorded(self) -> None: ...
    def replay(self, recorded: None) -> None: ...

    def add_experiment(self, plan: ExperimentPlan) -> None: ...
    def add_run(self, run: RunRecord, experiment_id: int) -> None: ...
    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None: ...
    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None: ...
    def add_registered_model(self, record: RegisteredModelRecord) -> None: ...
    def add_asset(self, record: Asset, experiment_id: int | None) -> None: ...
    def add_trace(self, plan: TracePlan, experiment_id: int) -> None: ...
    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None: ...
