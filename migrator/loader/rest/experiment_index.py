"""Lists what a server has already: experiments, and what earlier conversions wrote in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from migrator import conventions, encoding
from migrator.loader.rest.connection import Connection
from migrator.loader.rest.seen import SeenItems
from migrator.model import ExistingExperiment, ExperimentPlan

MODEL_TAG = "migrator.deleted_model."  # of an experiment: old id of a deleted model -> new id


@dataclass(slots=True)
class Found:
    """An item that an earlier conversion wrote; ``mark`` is None if it was interrupted there."""

    new_id: str
    mark: str | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class ServedExperiment:
    """An experiment of the server."""

    experiment_id: str
    name: str
    tags: Mapping[str, str]
    deleted: bool

    @property
    def source(self) -> tuple[str, str] | None:
        """Id and name of the experiment it was made from, None for one of the server's own."""
        old = self.tags.get(conventions.MIGRATOR_SOURCE_EXPERIMENT)
        if old is None:
            return None
        return old, self.tags.get(conventions.MIGRATOR_SOURCE_NAME, self.name)

    def as_existing(self, target_id: int) -> ExistingExperiment:
        """The experiment for planning, under the id by which plans know it."""
        fields = json.loads(self.tags.get(conventions.MIGRATOR_SOURCE_FIELDS, "{}"))
        return ExistingExperiment(
            target_id,
            self.name,
            fields.get("creation_ms"),
            self.deleted,
            self.tags.get(conventions.MIGRATOR_SOURCE_EXPERIMENT),
            self.tags.get(conventions.MIGRATOR_SOURCE_NAME),
        )


def existing_experiments(server: Connection) -> list[ServedExperiment]:
    """Return all experiments of a server, deleted ones too. Raises TargetError."""
    return [
        ServedExperiment(
            str(each.experiment_id),
            each.name,
            dict(each.tags),
            each.lifecycle_stage == "deleted",
        )
        for each in server.experiments()
    ]


class RunLocations:
    """Finds the experiments of a server that have some runs of the source.

    All runs that conversions wrote are listed once, when this is first asked for.
    """

    def __init__(self, server: Connection, there: Mapping[int, ServedExperiment]) -> None:
        """``there`` are the experiments of the server by the ids by which plans know them."""
        self._server = server
        self._there = there
        self._target_ids: dict[str, set[int]] | None = None  # by the run's id in the source

    def experiments_of(self, run_ids: Sequence[str]) -> frozenset[int]:
        """Return the ids in plans of the experiments that have one of these. Raises TargetError."""
        if self._target_ids is None:
            self._target_ids = self._list()
        found: set[int] = set()
        for run_id in run_ids:
            found |= self._target_ids.get(run_id, set())
        return frozenset(found)

    def _list(self) -> dict[str, set[int]]:
        target_ids: dict[str, set[int]] = {}
        for target_id, experiment in self._there.items():
            for run in self._server.runs(experiment.experiment_id):
                run_id = run.data.tags[conventions.MIGRATOR_SOURCE_RUN]
                target_ids.setdefault(run_id, set()).add(target_id)
        return target_ids


@dataclass(slots=True)
class TargetExperiment:
    """An experiment that is written into, and what it had before."""

    experiment_id: str
    plan: ExperimentPlan
    is_new: bool
    is_ours: bool  # False for one of the server's own that gets the runs (--on-conflict merge)
    tags: dict[str, str]
    deleted: bool  # on the server, now
    runs: dict[str, Found] = field(default_factory=dict)  # by the id in the source
    traces: dict[str, str | None] = field(default_factory=dict)  # trace id -> mark
    models: dict[str, Found] = field(default_factory=dict)  # by the id in the source
    ghosts: list[str] = field(default_factory=list)  # incomplete runs beside one in ``runs``
    seen: SeenItems = field(init=False)
    is_to_be_deleted: bool = False  # people deleted it, and it was restored to be written into
    _settled: bool = False

    def __post_init__(self) -> None:
        self.seen = SeenItems(self.tags)

    def load(self, server: Connection) -> None:
        """List the runs, traces and models that earlier conversions wrote. Raises TargetError."""
        for known in (self.runs, self.traces, self.models, self.ghosts):
            known.clear()
        for run in server.runs(self.experiment_id):
            tags = run.data.tags
            source = tags[conventions.MIGRATOR_SOURCE_RUN]
            found = Found(
                run.info.run_id,
                tags.get(conventions.MIGRATOR_DIGEST),
                run.info.lifecycle_stage == "deleted",
            )
            # If MLflow sent a request twice, there may be two runs: the complete one counts.
            other = self.runs.setdefault(source, found)
            if other is found:
                continue
            ghost = found
            if found.mark and not other.mark:
                self.runs[source], ghost = found, other
            if not ghost.mark and not ghost.deleted:
                self.ghosts.append(ghost.new_id)
        for trace in server.traces(self.experiment_id):
            self.traces[trace.trace_id] = trace.tags.get(conventions.MIGRATOR_DIGEST)
        for model in server.logged_models(self.experiment_id):
            source = (model.tags or {}).get(conventions.MIGRATOR_SOURCE_MODEL)
            if source is not None:
                mark = model.tags.get(conventions.MIGRATOR_DIGEST)
                self.models[source] = Found(model.model_id, mark, False)
        for key, new_id in self.tags.items():
            if key.startswith(MODEL_TAG):
                model_id, _, mark = new_id.partition(" ")
                # A conversion may have been interrupted between the tag and the deletion.
                alive = any(each.new_id == model_id for each in self.models.values())
                self.models[key.removeprefix(MODEL_TAG)] = Found(model_id, mark, not alive)

    def run(self, server: Connection, source_id: str) -> Found | None:
        """Return the server's item for a run's id in the source. Raises TargetError."""
        if source_id not in self.runs:
            self._settle(server)
        return self.runs.get(source_id)

    def model(self, server: Connection, source_id: str) -> Found | None:
        """Return the server's item for a logged model's id in the source. Raises TargetError."""
        if source_id not in self.models:
            self._settle(server)
        return self.models.get(source_id)

    def _settle(self, server: Connection) -> None:
        """Refresh the lists once before creating anything in an experiment that was there before.

        If a conversion was killed, the server may still be working on its last requests.
        """
        if not self.is_new and not self._settled:
            self._settled = True
            if server.settle():
                self.load(server)

    def open(self, server: Connection) -> None:
        """Restore a deleted experiment so that it can be written; it is deleted again in the end.

        Raises TargetError.
        """
        if not self.deleted:
            return
        self.is_to_be_deleted = not self.plan.record.deleted
        server.call(server.store.restore_experiment, self.experiment_id)
        self.deleted = False
        for found in self.runs.values():  # MLflow restores its runs with it
            found.deleted = False


def fields_tag(fields: Mapping[str, Any]) -> str:
    """Return the text of the tag that keeps fields which the API lacks."""
    return encoding.encode({key: value for key, value in fields.items() if value is not None})
