"""The sink of ``convert --to http://…``: writes everything in an order in which references work.

Experiments come first. Runs are written in lots; all runs of a lot are created before any is
filled, so that parents are known. Then come their traces, logged models, the registry, evaluation
datasets and scorers. Links between runs and models, and deletions, come after them: nothing can be
written into a deleted item. Webhooks come last, so that they are called for none of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from migrator.issues import Kind
from migrator.loader.rest.assets import AssetPublisher
from migrator.loader.rest.connection import Connection
from migrator.loader.rest.experiment_index import ServedExperiment
from migrator.loader.rest.experiments import ExperimentWriter
from migrator.loader.rest.model_publisher import ModelPublisher
from migrator.loader.rest.publishing import Deletions, Publishing, PublishSettings
from migrator.loader.rest.run_publisher import RunPublisher
from migrator.loader.rest.seen import DeletedByPeople
from migrator.loader.rest.trace_publisher import TracePublisher
from migrator.model import (
    Asset,
    DatasetRecord,
    ExperimentPlan,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    TracePlan,
)
from migrator.outcome.written import Written


class Publisher:
    """Writes one conversion: call ``add…``, then ``finish``, from one thread.

    Methods raise TargetError when the server is gone or refuses the login, and Refused when it
    refuses a request that the rest needs. What was written by then stays, and the next conversion
    adds the rest.
    """

    def __init__(
        self,
        server: Connection,
        there: Mapping[int, ServedExperiment],
        settings: PublishSettings,
        on_runs: Callable[[int], None],
    ) -> None:
        """``there`` are the experiments of the server by the ids of the plans.

        ``on_runs`` gets the number of runs that are on the server so far.
        """
        restore, result = settings.restore, Written()
        gone = DeletedByPeople(restore=restore)
        self._server = server
        self._experiments = ExperimentWriter(server, there, result, gone, restore=restore)
        self._publishing = Publishing(
            server, settings, result, gone, self._experiments.experiments, Deletions(server)
        )
        self._runs = RunPublisher(self._publishing, on_runs)
        self._traces = TracePublisher(self._publishing)
        self._models = ModelPublisher(self._publishing)
        self._assets = AssetPublisher(
            server, self._experiments.experiments, result, gone, restore=restore
        )

    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Create an experiment, or find it, and give it the tags that it lacks."""
        self._experiments.add(plan)

    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None:
        """Give an experiment a tag of ours, unless it has one of that name."""
        experiment = self._experiments.experiments[experiment_id]
        self._experiments.tag(experiment, key, value, counted=False)

    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Remember a dataset: the first run that uses it makes it."""
        self._runs.add_dataset(record, experiment_id)

    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        """Add a run with its params, tags, metrics, inputs and outputs."""
        self._runs.add(run, experiment_id)
        self._flush_if_full()

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Add a trace, rebuilt or native, with its spans, assessments and links."""
        self._traces.add(plan, experiment_id)
        self._flush_if_full()

    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        """Add a logged model with its params, tags and metrics."""
        self.flush()
        self._models.add_logged(record, experiment_id)

    def add_registered_model(self, record: RegisteredModelRecord) -> None:
        """Add a registered model or prompt with its tags, versions and aliases."""
        self.flush()
        self._models.add_registered(record)

    def add_asset(self, record: Asset, experiment_id: int | None) -> None:
        """Add an evaluation dataset, scorer or webhook; webhooks are made in the end."""
        self._assets.add(record, experiment_id)

    def _flush_if_full(self) -> None:
        if self._runs.is_full or self._traces.is_full:
            self.flush()

    def flush(self) -> None:
        """Write the runs and traces of which there is no full lot yet."""
        self._runs.flush()
        self._traces.flush()

    def finish(self) -> Written:
        """Link runs and models, apply pending deletions, and give the result.

        Its ids are those of the server by those of the source.
        """
        publishing = self._publishing
        self.flush()
        self._models.write_registered()
        self._runs.link_models()
        self._runs.join_late_parents()
        self._runs.delete_ghosts()
        if not publishing.settings.in_place:  # only traces are added; the runs get no marks
            publishing.remember()
        publishing.deletions.apply(publishing.experiments)
        self._assets.add_webhooks()  # when nothing more happens that they are called for
        self._runs.count_datasets()
        experiments = publishing.experiments.values()
        publishing.result.ids = {
            Kind.EXPERIMENT: {each.plan.record.path: each.experiment_id for each in experiments},
            Kind.RUN: publishing.ids.runs,
            Kind.LOGGED_MODEL: publishing.ids.models,
            **self._assets.ids,
        }
        return publishing.result

    def experiment_id(self, target_id: int) -> str:
        """The server's id of an experiment that was added."""
        return self._publishing.experiments[target_id].experiment_id
