"""Compares runs and traces in another process than the one that has the comparer."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Set
from dataclasses import dataclass

from migrator.model import RunRecord, TracePlan
from migrator.verification.database.opening import Database, open_database
from migrator.verification.database.runs import DatasetNames, RunComparison
from migrator.verification.database.traces import TraceComparison
from migrator.verification.findings import Findings
from migrator.verification.garbage import collect_rarely
from migrator.verification.reading import reading


@dataclass(frozen=True, slots=True)
class Compared:
    """What was compared in another process."""

    findings: Findings
    trace_ids: Mapping[int, Set[str]]  # found, by experiment
    given: Set[str]  # traces that MLflow gave whole


class ComparisonRecorder:
    """Compares runs and traces, for ``DatabaseComparer.replay``."""

    def __init__(self, uri: str, dataset_names: DatasetNames) -> None:
        self._uri = uri
        self._dataset_names = dataset_names
        self._comparison: _Comparison | None = None

    def blank(self) -> ComparisonRecorder:
        """A recorder that has compared nothing."""
        return ComparisonRecorder(self._uri, self._dataset_names)

    @property
    def shown(self) -> str:
        """The database in messages."""
        return _database(self._uri).shown

    @reading
    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        """Expect a run, with its params, tags, metric histories, inputs and outputs."""
        self._started().runs.add(run, experiment_id)

    @reading
    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Expect a trace, with its spans, tags, metadata, token counts and assessments."""
        self._started().traces.add(plan, experiment_id)

    @reading
    def recorded(self) -> Compared:
        """Compare what is still buffered, and return what was compared since the last call."""
        done, self._comparison = self._started(), None
        done.runs.finish()
        done.traces.flush()
        given = done.database.tracking.take_given()
        return Compared(done.findings, dict(done.traces.trace_ids), given)

    def _started(self) -> _Comparison:
        if self._comparison is None:
            database, findings = _database(self._uri), Findings()
            runs = RunComparison(database, findings, self._dataset_names)
            traces = TraceComparison(database, findings)
            self._comparison = _Comparison(database, findings, runs, traces)
        return self._comparison


@dataclass(frozen=True, slots=True)
class _Comparison:
    database: Database
    findings: Findings
    runs: RunComparison
    traces: TraceComparison


@functools.lru_cache(maxsize=1)
def _database(uri: str) -> Database:
    """The database, opened once in each process, which does nothing else."""
    database = open_database(uri)
    collect_rarely()
    return database
