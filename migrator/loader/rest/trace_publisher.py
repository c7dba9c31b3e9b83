"""Writes traces to a server in lots."""

from __future__ import annotations

from migrator import conventions
from migrator.issues import Kind
from migrator.loader.rest import traces
from migrator.loader.rest.publishing import Publishing, count_as_left_out
from migrator.loader.rest.traces import TraceJob
from migrator.model import TracePlan
from migrator.outcome.written import Written

_LOT_TRACES = 200
_LOT_SPANS = 5_000


class TracePublisher:
    """Writes the traces of one conversion, after their runs. Methods raise TargetError."""

    def __init__(self, publishing: Publishing) -> None:
        self._publishing = publishing
        self._lot: list[tuple[TracePlan, int]] = []
        self._spans = 0

    def add(self, plan: TracePlan, experiment_id: int) -> None:
        """Add a trace, rebuilt or native, with its spans, assessments and links."""
        if self._publishing.is_second(Kind.TRACE, plan.trace_id):
            counted = _counted(plan)
            del counted.converted[Kind.TRACE]  # empty for a rebuilt one, which was not found
            kind = Kind.TRACE if plan.native else None
            self._publishing.refuse_second(kind, plan.trace_id, "", counted.converted)
            return
        self._publishing.places[Kind.TRACE, plan.trace_id] = experiment_id
        self._lot.append((plan, experiment_id))
        self._spans += len(plan.spans)

    @property
    def is_full(self) -> bool:
        """Whether the lot should be written."""
        return len(self._lot) >= _LOT_TRACES or self._spans >= _LOT_SPANS

    def flush(self) -> None:
        """Write the lot."""
        lot, self._lot, self._spans = self._lot, [], 0
        jobs = []
        for plan, experiment_id in lot:
            if plan.native or not self._is_of_other_run(plan):
                job = self._job(plan, experiment_id)
                if job is not None:
                    jobs.append(job)
        self._publishing.server.each(self._write, jobs)
        for job in jobs:
            self._publishing.result.add(job.written)

    def _job(self, plan: TracePlan, experiment_id: int) -> TraceJob | None:
        """The trace as it is to be written; None if it is there, or people deleted it."""
        publishing, runs_there = self._publishing, self._publishing.ids.runs
        experiment = publishing.experiments[experiment_id]
        mark = traces.mark_of(plan, runs_there)
        if experiment.traces.get(plan.trace_id) == mark:
            traces.count_there(plan, publishing.result, runs_there)
            return None
        is_missing = plan.trace_id not in experiment.traces
        if is_missing and publishing.gone.has(experiment.seen, Kind.TRACE, plan.trace_id):
            counted = _counted(plan)
            count_as_left_out(counted)
            publishing.result.add(counted)
            return None
        experiment.open(publishing.server)
        return TraceJob(plan, experiment, mark)

    def _is_of_other_run(self, plan: TracePlan) -> bool:
        """Whether a trace was rebuilt from a run that was rejected as a different one."""
        own = plan.trace_id.removeprefix("tr-")
        source_run = plan.metadata.get(conventions.SOURCE_RUN)
        return not self._publishing.clashing.isdisjoint((own, source_run))

    def _write(self, job: TraceJob) -> None:
        runs_there = self._publishing.ids.runs
        if self._publishing.settings.in_place:
            runs_there = {run_id: run_id for run_id in job.plan.run_ids}
        traces.write(self._publishing.server, job, runs_there)
        if job.is_refused:
            del self._publishing.places[Kind.TRACE, job.plan.trace_id]
        self._publishing.server.count_written("traces")


def _counted(plan: TracePlan) -> Written:
    written = Written()
    traces.count(plan, written, new=True)
    return written
