"""Writes experiments and their tags to a server, and keeps their datasets until runs use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator import conventions
from migrator.issues import Code, Kind
from migrator.loader.rest.connection import Connection, Refused
from migrator.loader.rest.experiment_index import ServedExperiment, TargetExperiment, fields_tag
from migrator.loader.rest.seen import DeletedByPeople
from migrator.model import DatasetRecord, ExperimentPlan
from migrator.outcome.written import Written


@dataclass(slots=True)
class Datasets:
    """An experiment's datasets, and which of them are on the server."""

    records: dict[str, DatasetRecord] = field(default_factory=dict)  # by directory
    merged: int = 0
    new: set[tuple[str, str]] = field(default_factory=set)  # names and digests that were sent
    there: set[tuple[str, str]] = field(default_factory=set)

    def add(self, record: DatasetRecord) -> None:
        """Add a dataset; of those with one name and digest one is kept."""
        names = {(each.name, each.digest) for each in self.records.values()}
        if (record.name, record.digest) in names:
            self.merged += 1
        self.records[record.dataset_id] = record

    def count(self, experiment: TargetExperiment, result: Written) -> None:
        """Count what is on the server; a dataset that no run used is not there."""
        result.merged[Kind.DATASET] += self.merged
        once = {(each.name, each.digest): each for each in self.records.values()}
        for name, record in once.items():
            if name in self.there or name in self.new:
                result.count(Kind.DATASET, 1, new=name not in self.there)
                continue
            source = experiment.plan.record
            result.issue(
                Code.SERVER_DATASET_UNUSED, Kind.DATASET, record.dataset_id,
                f"Dataset {record.name} of experiment {source.experiment_id} is not an input "
                "of any run that was converted.", path=source.path,
            )  # fmt: skip


class ExperimentWriter:
    """Writes the experiments of one conversion; ``experiments`` are those, by the ids of plans.

    Methods raise TargetError.
    """

    def __init__(
        self,
        server: Connection,
        there: Mapping[int, ServedExperiment],
        result: Written,
        gone: DeletedByPeople,
        *,
        restore: bool,
    ) -> None:
        """``there`` are the experiments of the server by the ids of plans; ``result`` counts."""
        self.experiments: dict[int, TargetExperiment] = {}
        self._server = server
        self._there = there
        self._result = result
        self._gone = gone
        self._restore = restore

    def add(self, plan: ExperimentPlan) -> None:
        """Create an experiment, or find it, and give it the tags that it lacks."""
        there = self._there.get(plan.target_id)
        name = conventions.MIGRATOR_SOURCE_NAME
        own = {
            **({name: plan.tags[name]} if name in plan.tags else {}),
            conventions.MIGRATOR_SOURCE_EXPERIMENT: plan.record.experiment_id,
            conventions.MIGRATOR_SOURCE_FIELDS: fields_tag(
                {
                    "creation_ms": plan.record.creation_ms,
                    "last_update_ms": plan.record.last_update_ms,
                    "artifact_location": plan.artifact_location,
                }
            ),
        }
        experiment = self._find(plan, own, there) if there else self._create(plan, own)
        self.experiments[plan.target_id] = experiment
        self._result.count(Kind.EXPERIMENT, 1, new=experiment.is_new)
        for key, value in plan.tags.items():
            self.tag(experiment, key, value, counted=key in plan.record.tags)

    def _create(self, plan: ExperimentPlan, own: Mapping[str, str]) -> TargetExperiment:
        from mlflow.entities import ExperimentTag

        server = self._server
        # With its old id at once, so that it is found again whatever happens.
        tags = [ExperimentTag(key, value) for key, value in own.items()]
        try:
            new_id = server.call(server.store.create_experiment, plan.target_name, None, tags)
        except Refused as error:
            raise server.lost(
                f'it does not create experiment "{plan.target_name}": {error}'
            ) from error
        server.count_written("experiments")
        return TargetExperiment(str(new_id), plan, True, True, dict(own), False)

    def _find(
        self, plan: ExperimentPlan, own: Mapping[str, str], there: ServedExperiment
    ) -> TargetExperiment:
        experiment = TargetExperiment(
            there.experiment_id,
            plan,
            False,
            there.source is not None,
            dict(there.tags),
            there.deleted,
        )
        experiment.load(self._server)
        self._follow_name(experiment, there, own)
        if self._restore and experiment.deleted and not plan.record.deleted:
            experiment.open(self._server)
            experiment.is_to_be_deleted = False
        return experiment

    def _follow_name(
        self, experiment: TargetExperiment, there: ServedExperiment, own: Mapping[str, str]
    ) -> None:
        """Rename an experiment of an earlier conversion that was renamed in the source since."""
        from mlflow.entities import ExperimentTag

        plan, server = experiment.plan, self._server
        remembered = there.tags.get(conventions.MIGRATOR_SOURCE_NAME)
        source_name = own.get(conventions.MIGRATOR_SOURCE_NAME)
        if plan.target_name == there.name or remembered in (None, source_name):
            return
        experiment.open(server)
        number = experiment.experiment_id
        server.call(server.store.rename_experiment, number, plan.target_name)
        for key, value in own.items():
            server.call(server.store.set_experiment_tag, number, ExperimentTag(key, value))
            experiment.tags[key] = value

    def tag(self, experiment: TargetExperiment, key: str, value: str, *, counted: bool) -> None:
        """Give an experiment a tag that it lacks; ``counted`` ones are the source's."""
        from mlflow.entities import ExperimentTag

        if key in experiment.tags:
            if counted:
                self._result.count(Kind.EXPERIMENT_TAG, 1, new=False)
                if experiment.tags[key] != value:
                    number = experiment.experiment_id
                    self._result.issue(
                        Code.TARGET_DIFFERS, Kind.EXPERIMENT_TAG, f"{number}/{key}",
                        f"Experiment {number} of the target has another value of tag {key}.",
                        path=experiment.plan.record.path, kept="what the target has",
                    )  # fmt: skip
            experiment.seen.add(Kind.EXPERIMENT_TAG, key)
            return
        name = f"{experiment.experiment_id}/{key}"
        if self._gone.has(experiment.seen, Kind.EXPERIMENT_TAG, key, name):
            self._result.left_out[Kind.EXPERIMENT_TAG] += counted
            return
        experiment.open(self._server)
        store = self._server.store
        try:
            self._server.call(
                store.set_experiment_tag, experiment.experiment_id, ExperimentTag(key, value)
            )
        except Refused as error:
            if counted:
                self._result.issue(
                    Code.SERVER_REFUSED, Kind.EXPERIMENT_TAG,
                    f"{experiment.plan.record.experiment_id}/{key}",
                    f"Tag {key} of experiment {experiment.plan.record.name}: {error}.",
                    path=experiment.plan.record.path,
                )  # fmt: skip
            return
        experiment.tags[key] = value
        experiment.seen.add(Kind.EXPERIMENT_TAG, key)
        self._result.count(Kind.EXPERIMENT_TAG, counted, new=True)
