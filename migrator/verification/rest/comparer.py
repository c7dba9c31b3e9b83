"""Takes every item that was decided, and compares it with what a server has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from migrator import conventions, transformer
from migrator.issues import Kind
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
from migrator.verification.findings import MISSING, Entity, VerifyResult
from migrator.verification.reading import existing_experiment, reading, source_fields
from migrator.verification.rest.assets import AssetComparison
from migrator.verification.rest.models import compare_logged_model, compare_registered_model
from migrator.verification.rest.runs import RunComparison
from migrator.verification.rest.served import (
    PAGE_ITEMS,
    Server,
    ServerExperiment,
    pages_of,
)
from migrator.verification.rest.traces import compare_trace
from migrator.verification.traces import compare_search

_DELETED_MODEL = "migrator.deleted_model."  # tag of an experiment, followed by the model's old id


class RestComparer:
    """Compares what is handed to it with a server. Raises TargetError when there is none."""

    def __init__(self, uri: str, *, files: bool) -> None:
        """With ``files`` the artifacts of runs are expected on the server too."""
        self._server = Server(uri)
        self.shown = self._server.shown
        self._runs = RunComparison(self._server, files=files)
        self._assets = AssetComparison(self._server)
        self._existing: dict[int, ServerExperiment] = {}  # by the ids of plans
        self._experiments: dict[int, ServerExperiment] = {}  # of those, the expected ones
        self._plan_ids_of_runs: dict[str, set[int]] | None = None  # by the run's old id
        self._list_experiments()

    @reading
    def _list_experiments(self) -> None:
        from mlflow.entities import ViewType

        for found in pages_of(self._server.client.search_experiments, ViewType.ALL, PAGE_ITEMS):
            self._existing[_plan_id(found.experiment_id, found.name, found.tags)] = (
                ServerExperiment(found)
            )

    def experiments(self) -> tuple[ExistingExperiment, ...]:
        """Return the server's experiments, under the ids by which plans know them."""
        return tuple(
            existing_experiment(plan_id, each.found) for plan_id, each in self._existing.items()
        )

    @reading
    def experiments_of_runs(self, run_ids: Sequence[str]) -> frozenset[int]:
        """Return the ids, by which plans know them, of experiments that have one of these runs.

        ``run_ids`` are those of the source.
        """
        if self._plan_ids_of_runs is None:
            self._plan_ids_of_runs = {}
            for plan_id, each in self._existing.items():
                for old_id, _ in self._runs_of(each):
                    self._plan_ids_of_runs.setdefault(old_id, set()).add(plan_id)
        found: set[int] = set()
        for run_id in run_ids:
            found |= self._plan_ids_of_runs.get(run_id, set())
        return frozenset(found)

    @reading
    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Expect an experiment; list what was made of its runs and models."""
        experiment = self._existing.get(plan.target_id)
        found = None if experiment is None else experiment.found
        of = self._server.findings.entity(Kind.EXPERIMENT, plan.record.experiment_id, found)
        if of is None or experiment is None:
            return
        self._experiments[plan.target_id] = experiment
        of.check("name", plan.target_name, experiment.found.name)
        if conventions.MIGRATOR_SOURCE_EXPERIMENT in experiment.found.tags:
            self._compare_fields(of, plan, experiment)
        tags = {key: experiment.found.tags.get(key, MISSING) for key in plan.record.tags}
        of.mapping(Kind.EXPERIMENT_TAG, "tag", plan.record.tags, tags)
        self._list_runs(of, experiment)
        self._list_models(experiment)

    def _compare_fields(
        self, of: Entity, plan: ExperimentPlan, experiment: ServerExperiment
    ) -> None:
        found, record = experiment.found, plan.record
        fields = source_fields(found.tags)
        of.check("lifecycle_stage", record.lifecycle_stage, found.lifecycle_stage)
        of.check("creation_time", record.creation_ms, fields.get("creation_ms"))
        if plan.target_name == record.name:  # else it was not renamed with the source
            of.check("last_update_time", record.last_update_ms, fields.get("last_update_ms"))
        self._server.exceptions["experiment-id"] += 1
        self._server.exceptions["experiment-times"] += 1

    def _runs_of(self, experiment: ServerExperiment) -> Iterator[tuple[str, str]]:
        """Yield the old and the new id of each run that a conversion wrote."""
        from mlflow.entities import ViewType

        ours = f"tags.`{conventions.MIGRATOR_SOURCE_RUN}` LIKE '%'"
        search = self._server.client.search_runs
        number = experiment.found.experiment_id
        for run in pages_of(search, [number], ours, ViewType.ALL, PAGE_ITEMS):
            yield run.data.tags[conventions.MIGRATOR_SOURCE_RUN], run.info.run_id

    def _list_runs(self, of: Entity, experiment: ServerExperiment) -> None:
        for old_id, new_id in self._runs_of(experiment):
            if old_id in experiment.runs:
                of.differs(f"run {old_id}", "one", "two of it")
            experiment.runs[old_id] = new_id
        self._server.runs |= experiment.runs

    def _list_models(self, experiment: ServerExperiment) -> None:
        search = self._server.client.search_logged_models
        for model in pages_of(search, [experiment.found.experiment_id]):
            old_id = model.tags.get(conventions.MIGRATOR_SOURCE_MODEL)
            if old_id is not None:
                experiment.models[old_id] = model.model_id
        for key, value in experiment.found.tags.items():
            if key.startswith(_DELETED_MODEL):
                experiment.models[key.removeprefix(_DELETED_MODEL)] = value.split()[0]
        self._server.models |= experiment.models

    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None:
        """Expect a tag on an experiment of the server, with whatever value."""
        experiment = self._experiments.get(experiment_id)
        if experiment is not None and key not in experiment.found.tags:
            self._server.findings.differs(
                Kind.EXPERIMENT, experiment.found.experiment_id, f"tag {key}", value, MISSING
            )

    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Remember a dataset, for the runs that use it."""
        self._runs.add_dataset(record, experiment_id)

    @reading
    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        """Expect a run, with its params, tags, metric histories, inputs, outputs and files."""
        self._runs.compare(run, experiment_id, self._experiments.get(experiment_id))

    @reading
    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        """Expect a logged model, with its params, tags and metrics."""
        compare_logged_model(self._server, self._experiments.get(experiment_id), record)

    @reading
    def add_registered_model(self, record: RegisteredModelRecord) -> None:
        """Expect a registered model or prompt, with its versions, aliases and tags."""
        compare_registered_model(self._server, record)

    @reading
    def add_asset(self, record: Asset, experiment_id: int | None) -> None:
        """Expect an evaluation dataset, scorer or webhook, with all of its parts."""
        experiment = None if experiment_id is None else self._experiments.get(experiment_id)
        self._assets.compare(record, experiment, self._experiments)

    @reading
    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Expect a trace, with its spans, tags, metadata, assessments and links to runs."""
        compare_trace(self._server, self._experiments.get(experiment_id), plan)

    @reading
    def finish(self) -> VerifyResult:
        """Search every experiment's traces, and return the result."""
        for experiment in self._experiments.values():
            number = experiment.found.experiment_id
            search = partial(self._server.read, self._server.traces.search_traces)
            compare_search(
                self._server.findings, partial(search, locations=[number]), number,
                experiment.traces,
            )  # fmt: skip
        exceptions = {name: n for name, n in sorted(self._server.exceptions.items()) if n}
        return replace(self._server.findings.result(), exceptions=exceptions)


def _plan_id(experiment_id: str, name: str, tags: dict[str, str]) -> int:
    """Return the id by which plans know an experiment of the server."""
    old_id = tags.get(conventions.MIGRATOR_SOURCE_EXPERIMENT)
    if old_id is None:
        return -1 - int(experiment_id)  # no plan has such an id
    source_name = tags.get(conventions.MIGRATOR_SOURCE_NAME, name)
    return transformer.experiment_handle(old_id, source_name)
