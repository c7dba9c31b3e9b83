"""What the functions of ``migrator`` return: results that show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from migrator import pipeline
from migrator.counting import counted
from migrator.model import ExperimentPlan, MetricPoint, RunRecord, TracePlan
from migrator.outcome.ledger import Ledger
from migrator.outcome.summary import ExperimentSummary, Outcome
from migrator.report.headline import convert_headline, scan_headline

if TYPE_CHECKING:
    import pandas as pd

SHOWN_COLUMNS = ("name", "runs", "traces", "native_traces", "spans", "input_tokens",
                 "output_tokens")  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """The result of a scan or a conversion.

    ``runs()`` and ``traces()`` read the sources again, since a result holds counts only: its size
    does not depend on the number of runs.
    """

    outcome: Outcome
    sources: pipeline.Paths
    options: pipeline.Options

    @property
    def exit_code(self) -> int:
        """0: everything was converted. 3: an item was rejected, or the report failed."""
        return self.outcome.exit_code

    @property
    def ledger(self) -> Ledger:
        """The counts of items by kind, and the issues."""
        return self.outcome.ledger

    @property
    def experiments(self) -> Sequence[ExperimentSummary]:
        """The counts of each experiment."""
        return self.outcome.experiments

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` prints them."""
        return self.outcome.as_dict()

    def issues(self) -> pd.DataFrame:
        """A row for each issue: code, severity, path, kind and id of the item, count, advice."""
        return _frame(self.outcome.as_dict()["issues"], ISSUE_COLUMNS)

    def runs(self) -> pd.DataFrame:
        """A row for each run, with columns as those of ``mlflow.search_runs``.

        Metrics are the latest values. Raises SourceError.
        """
        rows = self._read().runs
        times = [name for name in RUN_COLUMNS if name.endswith("_time")]
        return _frame(rows, RUN_COLUMNS, times)

    def traces(self) -> pd.DataFrame:
        """A row for each trace, native or rebuilt from runs. Raises SourceError."""
        return _frame(self._read().traces, TRACE_COLUMNS, ["request_time"])

    def _read(self) -> _Rows:
        rows = _Rows()
        pipeline.scan(self.sources, self.options, sink=rows)
        return rows

    def __str__(self) -> str:
        """The first line that the command prints."""
        is_scan = self.outcome.target is None
        return scan_headline(self.outcome) if is_scan else convert_headline(self.outcome)

    def __repr__(self) -> str:
        """The same, for Python's prompt."""
        return str(self)

    def _repr_html_(self) -> str:
        """The first line, the experiments and the number of issues, for a notebook."""
        from migrator.report.csv import experiments_frame

        experiments = experiments_frame(self.outcome)[list(SHOWN_COLUMNS)]
        parts = [f"<p><b>{escape(str(self))}</b></p>", experiments.to_html(index=False, border=0)]
        issues = sum(issue.count for issue in self.ledger.issues)
        if issues:
            parts.append(f"<p>{counted(issues, 'issue')}: see <code>.issues()</code></p>")
        return "\n".join(parts)


class _Rows(pipeline.BaseSink):
    """Keeps what the frames show of each run and trace."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.traces: list[dict[str, Any]] = []
        self._names: dict[int, str] = {}

    def add_experiment(self, plan: ExperimentPlan) -> None:
        self._names[plan.target_id] = plan.record.name

    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        row: dict[str, Any] = {
            "run_id": run.run_id,
            "experiment_id": run.experiment_id,
            "experiment": self._names.get(experiment_id),
            "name": run.name,
            "status": run.status,
            "artifact_uri": run.artifact_uri,
            "start_time": run.start_ms,
            "end_time": run.end_ms,
            "parent_run_id": run.parent_run_id,
            "lifecycle_stage": run.lifecycle_stage,
        }
        row |= {f"metrics.{key}": _latest(points) for key, points in run.metrics.items()}
        row |= {f"params.{key}": value for key, value in run.params.items()}
        row |= {f"tags.{key}": value for key, value in run.tags.items()}
        self.runs.append(row)

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        usage = plan.usage
        self.traces.append(
            {
                "trace_id": plan.trace_id,
                "experiment_id": plan.experiment_id,
                "experiment": self._names.get(experiment_id),
                "name": plan.name,
                "state": plan.status,
                "request_time": plan.timestamp_ms,
                "execution_duration_ms": plan.execution_ms,
                "request_preview": plan.request_preview,
                "response_preview": plan.response_preview,
                "spans": len(plan.spans),
                "input_tokens": None if usage is None else usage.input_tokens,
                "output_tokens": None if usage is None else usage.output_tokens,
                "run_id": plan.run_ids[0] if plan.run_ids else None,
                "is_native": plan.native,
            }
        )


RUN_COLUMNS = (
    "run_id", "experiment_id", "experiment", "name", "status", "artifact_uri", "start_time",
    "end_time", "parent_run_id", "lifecycle_stage",
)  # fmt: skip
TRACE_COLUMNS = (
    "trace_id", "experiment_id", "experiment", "name", "state", "request_time",
    "execution_duration_ms", "request_preview", "response_preview", "spans", "input_tokens",
    "output_tokens", "run_id", "is_native",
)  # fmt: skip
ISSUE_COLUMNS = (
    "code", "severity", "path", "kind", "id", "count", "message", "kept", "action",
)  # fmt: skip


def _latest(points: Iterable[MetricPoint]) -> float | None:
    """The value of the point with the greatest step and time."""
    last = max(points, key=lambda point: (point.step, point.timestamp_ms), default=None)
    return None if last is None else last.value


def _frame(
    rows: list[dict[str, Any]], columns: Iterable[str], times: Iterable[str] = ()
) -> pd.DataFrame:
    """Rows as a frame that has these columns also when it is empty; ``times`` are UTC."""
    import pandas as pd

    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(columns))
    for name in times:
        frame[name] = pd.to_datetime(frame[name], unit="ms", utc=True, errors="coerce")
    return frame
