"""What the server has of a conversion already: experiments, and what earlier ones wrote in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from migrator import conventions, encoding
from migrator.errors import TargetError
from migrator.loader.rest.connection import Connection
from migrator.model import ExperimentPlan

MODEL_TAG = "migrator.deleted_model."  # of an experiment: old id of a deleted model -> new id


@dataclass(slots=True)
class Found:
    """What an earlier conversion wrote of one item; ``mark`` is None where it was cut off."""

    new_id: str
    mark: str | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class There:
    """An experiment of the server."""

    experiment_id: str
    name: str
    tags: Mapping[str, str]
    deleted: bool

    @property
    def source(self) -> tuple[str, str] | None:
        """Id and name of the experiment that it was made from, None for one of the server's own."""
        old = self.tags.get(conventions.MIGRATOR_SOURCE_EXPERIMENT)
        if old is None:
            return None
        return old, self.tags.get(conventions.MIGRATOR_SOURCE_NAME, self.name)


def experiments_there(server: Connection) -> list[There]:
    """Return all experiments of a server, deleted ones too. Raises TargetError."""
    return [
        There(
            str(each.experiment_id),
            each.name,
            dict(each.tags),
            each.lifecycle_stage == "deleted",
        )
        for each in server.experiments()
    ]


@dataclass(slots=True)
class Home:
    """An experiment that is written into, and what it held before."""

    experiment_id: str
    plan: ExperimentPlan
    new: bool
    ours: bool  # not one of the server's own that takes the runs (--on-conflict merge)
    tags: dict[str, str]
    deleted: bool  # it is deleted there, now
    runs: dict[str, Found] = field(default_factory=dict)  # by the id in the source
    traces: dict[str, str | None] = field(default_factory=dict)  # trace id -> mark
    models: dict[str, Found] = field(default_factory=dict)  # by the id in the source
    _settled: bool = False

    def load(self, server: Connection) -> None:
        """List what is there. Raises TargetError."""
        for known in (self.runs, self.traces, self.models):
            known.clear()
        for run in server.runs(self.experiment_id):
            tags = run.data.tags
            source = tags[conventions.MIGRATOR_SOURCE_RUN]
            found = Found(
                run.info.run_id,
                tags.get(conventions.MIGRATOR_DIGEST),
                run.info.lifecycle_stage == "deleted",
            )
            # A request that MLflow sent again may have made two: the complete one counts.
            if source not in self.runs or found.mark:
                self.runs[source] = found
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
                # Between the tag and the deletion a conversion may have been cut off.
                alive = any(each.new_id == model_id for each in self.models.values())
                self.models[key.removeprefix(MODEL_TAG)] = Found(model_id, mark, not alive)

    def run(self, server: Connection, source_id: str) -> Found | None:
        """Return what is there of a run, by its id in the source. Raises TargetError."""
        if source_id not in self.runs:
            self._settle(server)
        return self.runs.get(source_id)

    def model(self, server: Connection, source_id: str) -> Found | None:
        """Return what is there of a logged model, by its id in the source. Raises TargetError."""
        if source_id not in self.models:
            self._settle(server)
        return self.models.get(source_id)

    def _settle(self, server: Connection) -> None:
        """List what is there again, once, before anything is made in an experiment of before.

        If a conversion was killed, the server may still be at work on what that asked for.
        """
        if not self.new and not self._settled:
            self._settled = True
            if server.settle():
                self.load(server)

    def open(self, server: Connection) -> None:
        """Make a deleted experiment writable; it is deleted again in the end.

        Raises TargetError for one that only the server's users have deleted.
        """
        if not self.deleted:
            return
        if not self.plan.record.deleted:
            raise TargetError(
                f'Experiment "{self.plan.target_name}" is deleted on {server.shown}, and lacks '
                "something of the source.",
                todo="Restore it there (mlflow experiments restore "
                f"--experiment-id {self.experiment_id}), or leave it out with --experiment.",
            )
        server.call(server.store.restore_experiment, self.experiment_id)
        self.deleted = False
        for found in self.runs.values():  # MLflow restores its runs with it
            found.deleted = False


def fields_tag(fields: Mapping[str, Any]) -> str:
    """Return what the API has no field for, as one tag's text."""
    return encoding.encode({key: value for key, value in fields.items() if value is not None})
