"""Compares runs with their metrics, inputs and outputs, and datasets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from migrator.issues import Kind
from migrator.model import DatasetRecord, RunRecord
from migrator.verification.database.opening import Database
from migrator.verification.findings import MISSING, NOTHING, Entity, Findings
from migrator.verification.reading import read_entity
from migrator.verification.values import Point, expected_point, found_point, point_order, point_text

_RUNS_PER_CHUNK = 1000
_POINTS_PER_CHUNK = 100_000
_RUNS_PER_QUERY = 200  # a longer IN list makes MLflow's filter parser slow
_DATASETS_PER_CHUNK = 200
_T = TypeVar("_T")

# Target experiment and id of each dataset that was added -> name, digest.
DatasetNames: TypeAlias = dict[tuple[int, str], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _WaitingRun:
    """A run whose datasets were not all added when it was compared."""

    of: Entity
    run: RunRecord
    experiment_id: int
    found: Any


class RunComparison:
    """Compares runs and datasets in chunks."""

    def __init__(
        self, database: Database, findings: Findings, dataset_names: DatasetNames | None = None
    ) -> None:
        self._tracking = database.tracking
        self._findings = findings
        self.dataset_names: DatasetNames = {} if dataset_names is None else dataset_names
        self._waiting: list[_WaitingRun] = []
        self._runs: list[tuple[RunRecord, int]] = []
        self._points = 0
        self._datasets: list[tuple[DatasetRecord, int]] = []

    def add(self, run: RunRecord, experiment_id: int) -> None:
        """Expect a run."""
        self._runs.append((run, experiment_id))
        self._points += sum(map(len, run.metrics.values()))
        if len(self._runs) >= _RUNS_PER_CHUNK or self._points >= _POINTS_PER_CHUNK:
            self._compare_runs()

    def add_dataset(self, record: DatasetRecord, experiment_id: int, *, again: bool) -> None:
        """Expect a dataset; one of its name and digest was added before if ``again``."""
        self.dataset_names[experiment_id, record.dataset_id] = (record.name, record.digest)
        if again:
            return
        self._datasets.append((record, experiment_id))
        if len(self._datasets) >= _DATASETS_PER_CHUNK:
            self._compare_datasets()

    def finish(self) -> None:
        """Compare what is still buffered."""
        self._compare_datasets()
        self._compare_runs()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._compare_inputs(each.of, each.run, each.experiment_id, each.found)

    def _compare_runs(self) -> None:
        runs, self._runs, self._points = self._runs, [], 0
        found = self._find_runs(runs)
        columns = self._run_columns([run.run_id for run, _ in runs])
        histories = self._histories([run.run_id for run, _ in runs])
        for run, experiment_id in runs:
            entity = found[run.run_id]
            of = self._findings.entity(Kind.RUN, run.run_id, entity)
            if of is None:
                continue
            self._compare_run(of, run, experiment_id, entity, columns[run.run_id])
            self._compare_metrics(of, run, entity, histories[run.run_id])
            if self._knows_datasets(run, experiment_id):
                self._compare_inputs(of, run, experiment_id, entity)
            else:
                self._waiting.append(_WaitingRun(of, run, experiment_id, entity))

    def _knows_datasets(self, run: RunRecord, experiment_id: int) -> bool:
        return all(
            item.source_type == "MODEL" or (experiment_id, item.source_id) in self.dataset_names
            for item in run.inputs
        )

    def _find_runs(self, runs: Sequence[tuple[RunRecord, int]]) -> dict[str, Any]:
        """Return MLflow's entities by run id; a run of another experiment is found as well."""
        from mlflow.entities import ViewType

        by_experiment: dict[int, list[str]] = defaultdict(list)
        for run, experiment_id in runs:
            by_experiment[experiment_id].append(run.run_id)
        found: dict[str, Any] = {}
        for experiment_id, run_ids in by_experiment.items():
            for chunk in chunks([r for r in run_ids if "'" not in r], _RUNS_PER_QUERY):
                ids = ",".join(f"'{run_id}'" for run_id in chunk)
                page = self._tracking.search_runs(
                    [str(experiment_id)],
                    f"attributes.run_id IN ({ids})",
                    ViewType.ALL,
                    max_results=len(chunk),
                )
                found.update((entity.info.run_id, entity) for entity in page)
        for run, _ in runs:
            reads_models = any(item.source_type == "MODEL" for item in run.inputs)
            if run.run_id not in found or reads_models:
                found[run.run_id] = read_entity(self._tracking.get_run, run.run_id)
        return found

    def _run_columns(self, run_ids: Sequence[str]) -> dict[str, Any]:
        from mlflow.store.tracking.dbmodels.models import SqlRun

        columns: dict[str, Any] = {}
        with self._tracking.ManagedSessionMaker() as session:
            for chunk in chunks(run_ids, _RUNS_PER_QUERY):
                rows = session.query(
                    SqlRun.run_uuid,
                    SqlRun.deleted_time,
                    SqlRun.source_type,
                    SqlRun.source_name,
                    SqlRun.source_version,
                    SqlRun.entry_point_name,
                ).filter(SqlRun.run_uuid.in_(chunk))
                columns.update((row.run_uuid, row) for row in rows)
        return columns

    def _histories(self, run_ids: Sequence[str]) -> dict[str, dict[str, list[Point]]]:
        """Return all points of the runs' metrics by run id and key.

        As plain columns: MLflow's ``get_metric_history_bulk`` takes ten times as long, since it
        makes two objects of each row, and reads one key of all runs of the database at a time.
        """
        from mlflow.store.tracking.dbmodels.models import SqlMetric

        histories: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
        with self._tracking.ManagedSessionMaker() as session:
            for chunk in chunks(run_ids, _RUNS_PER_QUERY):
                rows = session.query(
                    SqlMetric.run_uuid,
                    SqlMetric.key,
                    SqlMetric.timestamp,
                    SqlMetric.step,
                    SqlMetric.value,
                    SqlMetric.is_nan,
                ).filter(SqlMetric.run_uuid.in_(chunk))
                for run_id, key, timestamp_ms, step, value, is_nan in rows:
                    histories[run_id][key].append((timestamp_ms, step, value, is_nan))
        return histories

    def _compare_run(
        self, of: Entity, run: RunRecord, experiment_id: int, found: Any, columns: Any
    ) -> None:
        info = found.info
        of.check("experiment_id", str(experiment_id), info.experiment_id)
        of.check("name", run.name, info.run_name or "")
        of.check("status", run.status, info.status)
        of.check("start_time", run.start_ms, info.start_time)
        of.check("end_time", run.end_ms, info.end_time)
        of.check("lifecycle_stage", run.lifecycle_stage, info.lifecycle_stage)
        of.check("user_id", run.user_id, info.user_id or "")
        of.check("artifact_uri", run.artifact_uri, info.artifact_uri)
        of.check("deleted_time", run.deleted_ms, columns.deleted_time)
        of.check("source_type", run.source_type, columns.source_type)
        of.check("source_name", run.source_name, columns.source_name or "")
        of.check("source_version", run.source_version, columns.source_version or "")
        of.check("entry_point_name", run.entry_point_name, columns.entry_point_name or "")
        of.mapping(Kind.PARAM, "param", run.params, found.data.params)
        of.mapping(Kind.TAG, "tag", run.tags, found.data.tags)

    def _compare_metrics(
        self,
        of: Entity,
        run: RunRecord,
        found: Any,
        history: Mapping[str, Sequence[Point]],
    ) -> None:
        latest = {metric.key: found_point(metric) for metric in found.data._metric_objs}
        known = {key for key, points in run.metrics.items() if points}
        for key in sorted((latest.keys() | history.keys()) - known):
            last = latest[key] if key in latest else max(history[key], key=point_order)
            of.differs(f"metric {key}", NOTHING, point_text(last))
        for key, points in run.metrics.items():
            expected = {expected_point(point) for point in points}
            of.count(Kind.METRIC_POINT, len(expected))
            of.points(f"metric {key}", expected, history.get(key, ()))
            if expected:
                greatest = max(map(point_order, expected))
                right = [point for point in expected if point_order(point) == greatest]
                if latest.get(key) not in right:
                    shown = point_text(latest[key]) if key in latest else MISSING
                    of.differs(f"latest metric {key}", point_text(right[0]), shown)

    def _compare_inputs(self, of: Entity, run: RunRecord, experiment_id: int, found: Any) -> None:
        datasets: dict[tuple[str, str], Mapping[str, str]] = {}
        models = set()
        for item in run.inputs:
            if item.source_type == "MODEL":
                models.add(item.source_id)
            elif (experiment_id, item.source_id) in self.dataset_names:
                name = self.dataset_names[experiment_id, item.source_id]
                datasets.setdefault(name, item.tags)
        found_datasets = {
            (item.dataset.name, item.dataset.digest): {tag.key: tag.value for tag in item.tags}
            for item in found.inputs.dataset_inputs
        }
        of.count(Kind.INPUT, len(datasets) + len(models))
        of.check("dataset inputs", sorted(datasets), sorted(found_datasets))
        for name in sorted(datasets.keys() & found_datasets.keys()):
            label = f"input {name[0]} {name[1]}, tag"
            of.mapping(Kind.INPUT, label, datasets[name], found_datasets[name], counted=False)
        if models:
            found_models = {item.model_id for item in found.inputs.model_inputs or ()}
            of.check("model inputs", sorted(models), sorted(found_models))
        outputs: dict[str, int] = {}
        for output in run.outputs:
            outputs.setdefault(output.model_id, output.step)
        of.count(Kind.OUTPUT, len(outputs))
        of.check(
            "model outputs",
            sorted(outputs.items()),
            sorted((output.model_id, output.step) for output in found.outputs.model_outputs),
        )

    def _compare_datasets(self) -> None:
        from mlflow.store.tracking.dbmodels.models import SqlDataset

        datasets, self._datasets = self._datasets, []
        found: dict[tuple[int, str, str], Any] = {}
        digests = sorted({record.digest for record, _ in datasets})
        with self._tracking.ManagedSessionMaker() as session:
            for row in session.query(SqlDataset).filter(SqlDataset.digest.in_(digests)):
                entity = row.to_mlflow_entity()
                found[row.experiment_id, entity.name, entity.digest] = entity
        for record, experiment_id in datasets:
            entity = found.get((experiment_id, record.name, record.digest))
            of = self._findings.entity(Kind.DATASET, record.dataset_id, entity)
            if of is not None and entity is not None:
                of.check("source_type", record.source_type, entity.source_type)
                of.check("source", record.source, entity.source)
                of.check("schema", record.schema, entity.schema)
                of.check("profile", record.profile, entity.profile)


def chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
