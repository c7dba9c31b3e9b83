"""Writes runs to a server in lots: all of a lot are created before any is filled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from migrator import conventions
from migrator.issues import Kind
from migrator.loader.rest import runs
from migrator.loader.rest.experiments import Datasets
from migrator.loader.rest.publishing import Publishing, count_as_left_out
from migrator.loader.rest.runs import RunJob
from migrator.model import DatasetRecord, RunRecord

_LOT_RUNS = 200
_LOT_POINTS = 100_000


class RunPublisher:
    """Writes the runs of one conversion, with the datasets that they use.

    ``on_written`` gets the number of runs that are on the server after each lot. Methods raise
    TargetError.
    """

    def __init__(self, publishing: Publishing, on_written: Callable[[int], None]) -> None:
        self._publishing = publishing
        self._server = publishing.server
        self._ids = publishing.ids.runs
        self._on_written = on_written
        self._datasets: dict[int, Datasets] = {}
        self._lot: list[tuple[RunRecord, int]] = []
        self._points = 0
        self._created: set[str] = set()  # runs that were not there before, by old id
        self._late_parents: list[tuple[str, str]] = []  # run and its parent's old id
        self._need_models: list[RunJob] = []

    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Remember a dataset: the first run that uses it makes it."""
        self._datasets.setdefault(experiment_id, Datasets()).add(record)

    def add(self, run: RunRecord, experiment_id: int) -> None:
        """Add a run with its params, tags, metrics, inputs and outputs."""
        points = sum(map(len, run.metrics.values()))
        if self._publishing.is_second(Kind.RUN, run.run_id):
            parts = {
                Kind.PARAM: len(run.params),
                Kind.TAG: len(run.tags),
                Kind.METRIC_POINT: points,
                Kind.INPUT: len(run.inputs),
                Kind.OUTPUT: len(run.outputs),
            }
            self._publishing.refuse_second(Kind.RUN, run.run_id, run.path, parts)
            return
        self._publishing.places[Kind.RUN, run.run_id] = experiment_id
        self._lot.append((run, experiment_id))
        self._points += points

    @property
    def is_full(self) -> bool:
        """Whether the lot should be written."""
        return len(self._lot) >= _LOT_RUNS or self._points >= _LOT_POINTS

    def flush(self) -> None:
        """Write the lot."""
        lot, self._lot, self._points = self._lot, [], 0
        jobs = [job for job in map(self._job, lot) if not self._is_left_out(job)]
        incomplete = []
        for job in jobs:
            if job.is_complete:
                runs.count_there(job)
                self._restore_complete(job)
            else:
                incomplete.append(job)
        found = [job for job in incomplete if job.found is not None]
        self._server.each(partial(runs.look, self._server), found)
        self._write([job for job in incomplete if not job.clash])
        for job in jobs:
            self._take_in(job)
        self._on_written(len(self._ids))

    def _job(self, added: tuple[RunRecord, int]) -> RunJob:
        run, experiment_id = added
        experiment = self._publishing.experiments[experiment_id]
        datasets = self._datasets.get(experiment_id, Datasets()).records
        edges = runs.edges_of(run, datasets)
        mark = runs.mark_of(run, self._publishing.settings.files_of is not None)
        job = RunJob(run, experiment, edges, mark, experiment.run(self._server, run.run_id))
        if job.found is not None:
            job.new_id = job.found.new_id
            self._ids[run.run_id] = job.new_id
        return job

    def _is_left_out(self, job: RunJob) -> bool:
        """Whether people deleted the run for good; it is counted then."""
        gone, run_id = self._publishing.gone, job.run.run_id
        if job.found is not None or not gone.has(job.experiment.seen, Kind.RUN, run_id):
            return False
        runs.count_there(job)
        count_as_left_out(job.written)
        self._publishing.result.add(job.written)
        return True

    def _restore_complete(self, job: RunJob) -> None:
        """With ``restore``, restore a run that is complete."""
        is_wanted = self._publishing.settings.restore and not job.run.deleted
        if is_wanted and job.found is not None and job.found.deleted:
            self._restore(job)

    def _restore(self, job: RunJob) -> None:
        assert job.found is not None
        self._server.call(self._server.store.restore_run, job.new_id)
        job.found.deleted = False

    def _write(self, jobs: list[RunJob]) -> None:
        """Create or restore runs, all before any is filled, so that parents are known."""
        for job in jobs:
            job.experiment.open(self._server)
        missing = [job for job in jobs if job.found is None]
        self._server.each(partial(runs.create, self._server), missing)
        for job in missing:
            if not job.refused:
                self._ids[job.run.run_id] = job.new_id
                self._created.add(job.run.run_id)
        jobs = [job for job in jobs if not job.refused]
        for job in jobs:
            if job.found is not None and job.found.deleted:
                self._restore(job)
                if not job.run.deleted and not self._publishing.settings.restore:
                    self._delete_later(job)  # people deleted it
        self._server.each(self._fill, jobs)

    def _fill(self, job: RunJob) -> None:
        parent = self._ids.get(job.run.parent_run_id or "")
        job.sent = runs.fill(self._server, job, parent, self._publishing.settings.files_of)
        self._server.count_written("runs")

    def _delete_later(self, job: RunJob) -> None:
        target_id = job.experiment.plan.target_id
        self._publishing.deletions.delete_later(job.new_id, target_id)

    def _take_in(self, job: RunJob) -> None:
        """Note what is still to be done for a run, and which datasets are there now."""
        result = self._publishing.result
        result.add(job.written)
        if job.clash:
            self._publishing.clashing.add(job.run.run_id)
            return
        if job.refused:
            return
        result.files_sent += job.sent[0]
        result.bytes_sent += job.sent[1]
        self._note_late_parent(job)
        if job.needs_models and not job.is_complete:
            self._need_models.append(job)
        if job.found is not None and job.found.deleted:
            self._publishing.deletions.note_deleted(job.new_id)
        elif job.run.deleted:
            self._delete_later(job)
        known = self._datasets.get(job.experiment.plan.target_id)
        if known is not None:
            known_before = job.is_complete or job.found is not None
            names = known.there if known_before else known.new
            names.update(job.edges.datasets)

    def _note_late_parent(self, job: RunJob) -> None:
        """Note a run whose parent's id was not known, or was another one, when it was filled."""
        old_parent = job.run.parent_run_id
        if old_parent is None:
            return
        comes_late = old_parent not in self._ids
        comes_new = job.is_complete and old_parent in self._created
        if comes_late or comes_new:
            self._late_parents.append((job.new_id, old_parent))

    def link_models(self) -> None:
        """Give runs the logged models that they used or made, once these are there."""
        link = partial(runs.link_models, self._server, self._publishing.ids.models)
        self._server.each(link, self._need_models)
        for job in self._need_models:
            self._publishing.result.add(job.written)

    def join_late_parents(self) -> None:
        """Give runs that came before their parents the parents' new ids."""
        from mlflow.entities import RunTag

        for run_id, old_parent in self._late_parents:
            if old_parent in self._ids:
                tag = RunTag(conventions.PARENT_RUN_ID, self._ids[old_parent])
                self._server.call(self._server.store.set_tag, run_id, tag)

    def delete_ghosts(self) -> None:
        """Delete the second of two runs that one request made, and our tag on it."""
        store, call = self._server.store, self._server.call
        for experiment in self._publishing.experiments.values():
            for run_id in experiment.ghosts:
                call(store.delete_tag, run_id, conventions.MIGRATOR_SOURCE_RUN)
                call(store.delete_run, run_id)
            experiment.ghosts.clear()

    def count_datasets(self) -> None:
        """Count the datasets that are on the server."""
        for experiment_id, datasets in self._datasets.items():
            experiment = self._publishing.experiments[experiment_id]
            datasets.count(experiment, self._publishing.result)
