"""The sink of ``convert --to http://…``: writes everything in an order in which references work.

Experiments come first. Runs are written in lots; all runs of a lot are created before any is
filled, so that parents are known. Then come their traces, logged models, the registry, evaluation
datasets and scorers. Links between runs and models, and deletions, come after them: nothing can be
written into a deleted item. Webhooks come last, so that they are called for none of this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial

from migrator import conventions
from migrator.issues import Code, Kind
from migrator.loader.rest import models, runs, traces
from migrator.loader.rest.assets import AssetPublisher
from migrator.loader.rest.connection import Connection, Refused
from migrator.loader.rest.experiment_index import ServedExperiment
from migrator.loader.rest.experiments import Datasets, ExperimentWriter
from migrator.loader.rest.model_names import ModelNames
from migrator.loader.rest.runs import Files, RunJob
from migrator.loader.rest.seen import DeletedByPeople
from migrator.loader.rest.traces import TraceJob
from migrator.model import (
    Asset,
    DatasetRecord,
    ExperimentPlan,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    TracePlan,
)
from migrator.outcome.ledger import counts_of
from migrator.outcome.written import Written

_LOT_RUNS = 200
_LOT_POINTS = 100_000
_LOT_SPANS = 5_000


class Publisher:
    """Writes one conversion: call ``add…``, then ``finish``, from one thread.

    Methods raise TargetError when the server is gone or refuses the login. What was written by
    then stays, and the next conversion adds the rest.
    """

    def __init__(
        self,
        server: Connection,
        there: Mapping[int, ServedExperiment],
        *,
        files_of: Files | None = None,
        progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
        runs_in_all: int = 0,
        in_place: bool = False,
        restore: bool = False,
    ) -> None:
        """``there`` are the experiments of the server by the ids of the plans.

        ``files_of`` lists a directory of artifacts; without it none are sent. With ``in_place``
        the runs are the server's own, which traces refer to by the ids that they have. ``restore``
        brings back what people deleted on the server.
        """
        self._server = server
        self._there = there
        self._files_of = files_of
        self._progress = progress
        self._in_all = runs_in_all
        self._in_place = in_place
        self._restore = restore
        self._gone = DeletedByPeople(restore=restore)
        self._places: dict[tuple[Kind, str], int] = {}  # the experiment of each item
        self._result = Written()
        self._experiment_writer = ExperimentWriter(
            server, there, self._result, self._gone, restore=restore
        )
        self._experiments = self._experiment_writer.experiments
        self._datasets: dict[int, Datasets] = {}
        self._runs: list[tuple[RunRecord, int]] = []
        self._traces: list[tuple[TracePlan, int]] = []
        self._points = self._spans = 0
        self._seen: set[tuple[Kind, str]] = set()
        self._ids = models.Ids()
        self._models: list[RegisteredModelRecord] = []
        self._need_models: list[RunJob] = []
        self._created: set[str] = set()  # runs that were not there before, by old id
        self._clashing: set[str] = set()  # runs whose ids belong to different runs there
        self._to_delete: dict[str, int] = {}  # runs by new id, and their experiment
        self._deleted: set[str] = set()  # runs that are deleted there, by new id
        self._parents: list[tuple[str, str]] = []  # run and its parent's old id
        self._assets = AssetPublisher(
            server, self._experiments, self._result, self._gone, restore=restore
        )

    # ----------------------------------------------------------- experiments and datasets

    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Create an experiment, or find it, and give it the tags that it lacks."""
        self._experiment_writer.add(plan)

    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None:
        """Give an experiment a tag of ours, unless it has one of that name."""
        self._experiment_writer.tag(self._experiments[experiment_id], key, value, counted=False)

    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Remember a dataset: the first run that uses it makes it."""
        self._datasets.setdefault(experiment_id, Datasets()).add(record)

    # ------------------------------------------------------------- runs and their traces

    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        """Add a run with its params, tags, metrics, inputs and outputs."""
        if self._is_second(Kind.RUN, run.run_id):
            points = sum(map(len, run.metrics.values()))
            self._refuse_second(
                Kind.RUN, run.run_id, run.path,
                {
                    Kind.PARAM: len(run.params), Kind.TAG: len(run.tags),
                    Kind.METRIC_POINT: points, Kind.INPUT: len(run.inputs),
                    Kind.OUTPUT: len(run.outputs),
                },
            )  # fmt: skip
            return
        self._places[Kind.RUN, run.run_id] = experiment_id
        self._runs.append((run, experiment_id))
        self._points += sum(map(len, run.metrics.values()))
        self._flush_if_full()

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Add a trace, rebuilt or native, with its spans, assessments and links."""
        if self._is_second(Kind.TRACE, plan.trace_id):
            counted = Written()
            traces.count(plan, counted, new=True)
            del counted.converted[Kind.TRACE]  # empty for a rebuilt one, which was not found
            kind = Kind.TRACE if plan.native else None
            self._refuse_second(kind, plan.trace_id, "", counted.converted)
            return
        self._places[Kind.TRACE, plan.trace_id] = experiment_id
        self._traces.append((plan, experiment_id))
        self._spans += len(plan.spans)
        self._flush_if_full()

    def _is_second(self, kind: Kind, entity_id: str) -> bool:
        known = len(self._seen)
        self._seen.add((kind, entity_id))
        return len(self._seen) == known

    def _refuse_second(
        self, kind: Kind | None, name: str, path: str, parts: Mapping[Kind, int]
    ) -> None:
        label = kind.value if kind else Kind.TRACE.value
        message = f"There are two of {label} {name}; this is the second."
        self._result.issue(Code.LOAD_DUPLICATE, kind, name, message, path=path)
        self._result.reject_parts(Code.LOAD_DUPLICATE, name, message, parts, path)

    def _flush_if_full(self) -> None:
        full = len(self._runs) >= _LOT_RUNS or len(self._traces) >= _LOT_RUNS
        if full or self._points >= _LOT_POINTS or self._spans >= _LOT_SPANS:
            self.flush()

    def flush(self) -> None:
        """Write the buffered runs and traces. Raises TargetError."""
        self._flush_runs()
        self._flush_traces()

    def _flush_runs(self) -> None:
        lot, self._runs, self._points = self._runs, [], 0
        jobs = []
        for run, experiment_id in lot:
            job = self._job(run, experiment_id)
            if job.found is None and self._gone.has(job.experiment.seen, Kind.RUN, run.run_id):
                runs.count_there(job)
                _as_left_out(job.written)
                self._result.add(job.written)
            else:
                jobs.append(job)
        incomplete = []
        for job in jobs:
            if job.is_complete:
                runs.count_there(job)
                self._restore_complete(job)
            else:
                incomplete.append(job)
        found = [job for job in incomplete if job.found is not None]
        self._server.each(partial(runs.look, self._server), found)
        self._write_runs([job for job in incomplete if not job.clash])
        for job in jobs:
            self._take_in(job)
        self._progress("runs sent", len(self._ids.runs), self._in_all)

    def _restore_complete(self, job: RunJob) -> None:
        """With ``restore``, restore a run that is complete."""
        found = job.found
        if self._restore and found is not None and found.deleted and not job.run.deleted:
            self._server.call(self._server.store.restore_run, job.new_id)
            found.deleted = False

    def _write_runs(self, jobs: list[RunJob]) -> None:
        """Create or restore runs, all before any is filled, so that parents are known."""
        for job in jobs:
            job.experiment.open(self._server)
        missing = [job for job in jobs if job.found is None]
        self._server.each(partial(runs.create, self._server), missing)
        for job in missing:
            if not job.refused:
                self._ids.runs[job.run.run_id] = job.new_id
                self._created.add(job.run.run_id)
        jobs = [job for job in jobs if not job.refused]
        for job in jobs:
            if job.found is not None and job.found.deleted:
                self._server.call(self._server.store.restore_run, job.new_id)
                job.found.deleted = False
                if not job.run.deleted and not self._restore:  # people deleted it
                    self._to_delete[job.new_id] = job.experiment.plan.target_id
        self._server.each(self._fill, jobs)

    def _job(self, run: RunRecord, experiment_id: int) -> RunJob:
        experiment = self._experiments[experiment_id]
        datasets = self._datasets.get(experiment_id, Datasets()).records
        edges = runs.edges_of(run, datasets)
        mark = runs.mark_of(run, self._files_of is not None)
        job = RunJob(run, experiment, edges, mark, experiment.run(self._server, run.run_id))
        if job.found is not None:
            job.new_id = job.found.new_id
            self._ids.runs[run.run_id] = job.new_id
        return job

    def _fill(self, job: RunJob) -> None:
        old_parent = job.run.parent_run_id
        parent = self._ids.runs.get(old_parent or "")
        job.sent = runs.fill(self._server, job, parent, self._files_of)
        self._server.count_written("runs")

    def _take_in(self, job: RunJob) -> None:
        """Note what is still to be done for a run, and which datasets are there now."""
        run, experiment = job.run, job.experiment
        self._result.add(job.written)
        if job.clash:
            self._clashing.add(run.run_id)
            return
        if job.refused:
            return
        self._result.files_sent += job.sent[0]
        self._result.bytes_sent += job.sent[1]
        old_parent = run.parent_run_id
        comes_late = old_parent not in self._ids.runs
        comes_new = job.is_complete and old_parent in self._created
        if old_parent is not None and (comes_late or comes_new):
            self._parents.append((job.new_id, old_parent))
        if job.needs_models and not job.is_complete:
            self._need_models.append(job)
        deleted_there = job.found is not None and job.found.deleted
        if run.deleted and not deleted_there:
            self._to_delete[job.new_id] = experiment.plan.target_id
        if deleted_there:
            self._deleted.add(job.new_id)
        known = self._datasets.get(experiment.plan.target_id)
        if known is not None:
            known_before = job.is_complete or job.found is not None
            names = known.there if known_before else known.new
            names.update(job.edges.datasets)

    def _flush_traces(self) -> None:
        lot, self._traces, self._spans = self._traces, [], 0
        jobs = []
        for plan, experiment_id in lot:
            if not plan.native and self._is_of_other_run(plan):
                continue
            experiment = self._experiments[experiment_id]
            mark = traces.mark_of(plan, self._ids.runs)
            there = experiment.traces.get(plan.trace_id)
            if there == mark:
                traces.count_there(plan, self._result, self._ids.runs)
                continue
            is_missing = plan.trace_id not in experiment.traces
            if is_missing and self._gone.has(experiment.seen, Kind.TRACE, plan.trace_id):
                counted = Written()
                traces.count(plan, counted, new=True)
                _as_left_out(counted)
                self._result.add(counted)
                continue
            experiment.open(self._server)
            jobs.append(TraceJob(plan, experiment, mark))
        self._server.each(self._write_trace, jobs)
        for job in jobs:
            self._result.add(job.written)

    def _is_of_other_run(self, plan: TracePlan) -> bool:
        """Return True if a trace was rebuilt from a run that was rejected as a different one."""
        own = plan.trace_id.removeprefix("tr-")
        return own in self._clashing or plan.metadata.get(conventions.SOURCE_RUN) in self._clashing

    def _write_trace(self, job: TraceJob) -> None:
        runs_there = self._ids.runs
        if self._in_place:
            runs_there = {run_id: run_id for run_id in job.plan.run_ids}
        traces.write(self._server, job, runs_there)
        if job.is_refused:
            del self._places[Kind.TRACE, job.plan.trace_id]
        self._server.count_written("traces")

    # --------------------------------------------------------------------------- models

    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        """Add a logged model with its params, tags and metrics."""
        self.flush()
        parts = {
            Kind.LOGGED_MODEL_PARAM: len(record.params),
            Kind.LOGGED_MODEL_TAG: len(record.tags),
            Kind.LOGGED_MODEL_METRIC: len(record.metrics),
        }
        if self._is_second(Kind.LOGGED_MODEL, record.model_id):
            self._refuse_second(Kind.LOGGED_MODEL, record.model_id, record.path, parts)
            return
        self._places[Kind.LOGGED_MODEL, record.model_id] = experiment_id
        experiment = self._experiments[experiment_id]
        found = experiment.model(self._server, record.model_id)
        mark = models.mark_of(record, self._files_of is not None)
        if models.is_complete(found, mark) and found is not None:
            self._ids.add_model(record, found.new_id)
            models.count_model(record, self._result, new=False)
            points = models.metrics_of(record, self._result, self._ids.runs)
            self._result.count(Kind.LOGGED_MODEL_METRIC, len(points), new=False)
            if record.lifecycle_stage == "deleted" and not found.deleted:  # it was cut off there
                self._server.call(self._server.store.delete_logged_model, found.new_id)
            return
        if found is None and self._gone.has(experiment.seen, Kind.LOGGED_MODEL, record.model_id):
            self._result.left_out.update({Kind.LOGGED_MODEL: 1, **parts})
            return
        experiment.open(self._server)
        written = Written()
        writer = models.ModelWriter(
            self._server, written, self._ids, self._files_of, self._activate
        )
        try:
            files, size = writer.write(record, experiment, found)
        except Refused as error:
            written = Written()
            message = f"Logged model {record.model_id}: {error}."
            written.reject_parts(
                error.code, record.model_id, message, {Kind.LOGGED_MODEL: 1, **parts}
            )
        else:
            self._server.count_written("logged models")
            written.files_sent, written.bytes_sent = files, size
        self._result.add(written)

    def _activate(self, run_id: str) -> None:
        """Restore a run that is deleted there; it is deleted again in the end."""
        if run_id in self._deleted:
            with contextlib.suppress(Refused):  # it came back with its experiment
                self._server.call(self._server.store.restore_run, run_id)
            self._deleted.discard(run_id)
            self._to_delete[run_id] = -1

    def add_asset(self, record: Asset, experiment_id: int | None) -> None:
        """Add an evaluation dataset, scorer or webhook; webhooks are made in the end."""
        self._assets.add(record, experiment_id)

    def add_registered_model(self, record: RegisteredModelRecord) -> None:
        """Add a registered model or prompt with its tags, versions and aliases.

        It is written in the end: what became of a name is known by the names of all.
        """
        self.flush()
        parts = {
            Kind.REGISTERED_MODEL_TAG: len(record.tags),
            Kind.ALIAS: len(record.aliases),
            Kind.MODEL_VERSION: len(record.versions),
            Kind.MODEL_VERSION_TAG: sum(len(version.tags) for version in record.versions),
        }
        if self._is_second(Kind.REGISTERED_MODEL, record.name):
            self._refuse_second(Kind.REGISTERED_MODEL, record.name, record.path, parts)
            return
        self._models.append(record)

    def _write_registered_model(self, record: RegisteredModelRecord, names: ModelNames) -> None:
        written = Written()
        writer = models.RegistryWriter(self._server, written, self._ids, self._restore)
        try:
            writer.write(record, names.settle(record, written))
        except Refused as error:
            written = Written()
            message = f"Registered model {record.name}: {error}."
            written.reject_parts(error.code, record.name, message, counts_of(record))
        else:
            self._server.count_written("registered models")
        self._result.add(written)

    # ---------------------------------------------------------------------------- the end

    def finish(self) -> Written:
        """Link runs and models, apply pending deletions, and return the result.

        Its ids are those of the server by those of the source. Raises TargetError.
        """
        self.flush()
        names = ModelNames(self._server, self._models)
        for record in self._models:
            self._write_registered_model(record, names)
        self._server.each(
            partial(runs.link_models, self._server, self._ids.models), self._need_models
        )
        for job in self._need_models:
            self._result.add(job.written)
        self._join_late_parents()
        self._take_ghosts_away()
        if not self._in_place:  # only traces are added, and what is theirs stays without marks
            self._remember()
        self._delete()
        self._assets.add_webhooks()  # when nothing more happens that they are called for
        for experiment_id, datasets in self._datasets.items():
            datasets.count(self._experiments[experiment_id], self._result)
        experiment_ids = {
            each.plan.record.path: each.experiment_id for each in self._experiments.values()
        }
        self._result.ids = {
            Kind.EXPERIMENT: experiment_ids,
            Kind.RUN: self._ids.runs,
            Kind.LOGGED_MODEL: self._ids.models,
            **self._assets.ids,
        }
        return self._result

    def _remember(self) -> None:
        """Keep what is on the server in tags, and name what people deleted."""
        from mlflow.entities import ExperimentTag

        server = self._server
        arrived = {Kind.RUN: self._ids.runs, Kind.LOGGED_MODEL: self._ids.models}
        for (kind, entity_id), target_id in self._places.items():
            is_refused = kind in arrived and entity_id not in arrived[kind]
            if not is_refused and not self._gone.is_named(kind, entity_id):
                self._experiments[target_id].seen.add(kind, entity_id)
        for experiment in self._experiments.values():
            for key, value in experiment.seen.new_tags().items():
                experiment.open(server)
                tag = ExperimentTag(key, value)
                server.call(server.store.set_experiment_tag, experiment.experiment_id, tag)
        self._gone.name_in(self._result)

    def experiment_id(self, target_id: int) -> str:
        """Return the server's id of an experiment that was added."""
        return self._experiments[target_id].experiment_id

    def _join_late_parents(self) -> None:
        """Give runs that came before their parents the parents' new ids."""
        from mlflow.entities import RunTag

        for run_id, old in self._parents:
            if old in self._ids.runs:
                tag = RunTag(conventions.PARENT_RUN_ID, self._ids.runs[old])
                self._server.call(self._server.store.set_tag, run_id, tag)

    def _take_ghosts_away(self) -> None:
        """Delete the second of two runs that one request made, and our tag on it."""
        store, call = self._server.store, self._server.call
        for experiment in self._experiments.values():
            for run_id in experiment.ghosts:
                call(store.delete_tag, run_id, conventions.MIGRATOR_SOURCE_RUN)
                call(store.delete_run, run_id)
            experiment.ghosts.clear()

    def _delete(self) -> None:
        store, call = self._server.store, self._server.call
        gone = {
            key
            for key, experiment in self._experiments.items()
            if experiment.plan.record.deleted or experiment.is_to_be_deleted
        }
        self._server.each(
            lambda run_id: call(store.delete_run, run_id),
            [run_id for run_id, experiment in self._to_delete.items() if experiment not in gone],
        )
        for key in sorted(gone):
            experiment = self._experiments[key]
            if experiment.is_ours and not experiment.deleted:
                call(store.delete_experiment, experiment.experiment_id)


def _as_left_out(written: Written) -> None:
    """Count everything as left out."""
    for counter in (written.converted, written.already_there):
        written.left_out.update(counter)
        counter.clear()
    for counter in (written.rebuilt, written.rebuilt_already_there):
        written.rebuilt_left_out.update(counter)
        counter.clear()
