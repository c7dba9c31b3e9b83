"""Reading experiments, datasets and runs from their tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from migrator.conventions import DEFAULT_WORKSPACE
from migrator.extractor.database import rows as r
from migrator.extractor.database.artifacts import ArtifactFolders
from migrator.extractor.database.connection import AT_ONCE, Database, Row
from migrator.extractor.database.rows import Fields, RowLog
from migrator.extractor.database.schema import CHILDREN, KNOWN, Child
from migrator.extractor.filestore.artifacts import list_artifacts, read_texts
from migrator.extractor.filestore.metrics import EARLIEST_MS, LATEST_MS
from migrator.extractor.filestore.runs import RUN_STATUS, SOURCE_TYPE
from migrator.issues import Code, Kind
from migrator.model import (
    DatasetRecord,
    Entry,
    ExperimentRecord,
    Extracted,
    InputRecord,
    MetricPoint,
    OutputRecord,
    RunEntry,
    RunRecord,
)

_OF_RUNS = tuple(child for child in CHILDREN if child.owner == "runs")
Rows = dict[object, list[dict[str, Any]]]


def read_experiment(database: Database, name: str, entry: Entry) -> Extracted[ExperimentRecord]:
    """Read an experiment's row and its tags."""
    log = RowLog(Kind.EXPERIMENT, entry.entity_id, name)
    key = int(entry.entity_id)
    found = r.select(
        database, "experiments", sorted(KNOWN["experiments"] - {"experiment_id"}),
        "experiment_id", [key],
    )  # fmt: skip
    row = r.one_row(log, entry.path, Kind.EXPERIMENT, found[key])
    if row is None:
        return log.close(None)
    pairs = r.select_pairs(database, "experiment_tags", ("key", "value"), "experiment_id", [key])
    log.found[Kind.EXPERIMENT_TAG] = _count(database, "experiment_tags", key)
    tags_path = log.place("experiment_tags", key)
    tags = r.key_values(log, tags_path, pairs[key], Kind.EXPERIMENT_TAG)
    return log.close(
        ExperimentRecord(
            experiment_id=entry.entity_id,
            name=row.text("name") or entry.entity_id,
            artifact_location=row.text("artifact_location") or "",
            lifecycle_stage=_stage(row),
            creation_ms=row.integer("creation_time"),
            last_update_ms=row.integer("last_update_time"),
            tags=tags,
            path=entry.path,
            workspace=row.text("workspace") or DEFAULT_WORKSPACE,
        )
    )


def read_dataset(database: Database, name: str, entry: Entry) -> Extracted[DatasetRecord]:
    """Read a dataset's row. Without name or digest it is rejected."""
    log = RowLog(Kind.DATASET, entry.entity_id, name)
    columns = sorted(KNOWN["datasets"] - {"dataset_uuid"})
    found = r.select(database, "datasets", columns, "dataset_uuid", [entry.entity_id])
    row = r.one_row(log, entry.path, Kind.DATASET, found[entry.entity_id])
    if row is None:
        return log.close(None)
    title, digest = row.text("name"), row.text("digest")
    if not title or digest is None:
        missing = "name" if not title else "digest"
        log.add(Code.DATASET_DAMAGED, entry.path, f"It has no {missing}.", kind=Kind.DATASET)
        return log.close(None)
    return log.close(
        DatasetRecord(
            dataset_id=entry.entity_id,
            experiment_id=entry.experiment_id or "",
            name=title,
            digest=digest,
            source_type=row.text("dataset_source_type") or "",
            source=row.text("dataset_source") or "",
            schema=row.text("dataset_schema"),
            profile=row.text("dataset_profile"),
        )
    )


def _count(database: Database, table: str, key: object) -> int:
    child = next(child for child in CHILDREN if child.table == table)
    return r.count(database, child, [key]).get(key, 0)


def _stage(row: Fields) -> str:
    given = row.text("lifecycle_stage")
    if given in ("active", "deleted"):
        return given
    if given is not None:
        row.unknown("lifecycle_stage", "as active")
    return "active"


# ---------------------------------------------------------------------------------------- runs


@dataclass(slots=True)
class _Bulk:
    """The rows of many runs, by run id, and how many there are of each kind."""

    runs: Rows
    params: dict[object, list[Row]]
    tags: dict[object, list[Row]]
    metrics: dict[object, list[Row]]
    inputs: Rows
    outgoing: Rows
    input_tags: dict[object, list[Row]]
    deleted_ms: dict[object, int | None]  # of experiments that are deleted, by id
    counts: list[tuple[Child, dict[object, int]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunReader:
    """Reads runs of a database with everything that belongs to them."""

    database: Database
    name: str
    places: ArtifactFolders
    wanted: Callable[[str], bool]

    def read(self, entries: Sequence[RunEntry]) -> Iterator[Extracted[RunRecord]]:
        """Yield one result for each entry, in their order; a few queries read many runs."""
        for at in range(0, len(entries), AT_ONCE):
            some = entries[at : at + AT_ONCE]
            with self.database.snapshot():
                bulk = self._fetch([entry.entity_id for entry in some])
            for entry in some:
                yield self._run(entry, bulk)

    def _fetch(self, ids: Sequence[str]) -> _Bulk:
        database = self.database
        edges = ("input_uuid", "source_type", "source_id", "destination_type", "step")
        inputs = r.select(
            database, "inputs", edges, "destination_id", ids, "c.destination_type = 'RUN'"
        )
        outgoing = r.select(
            database, "inputs", ("input_uuid", "source_type", "destination_type",
                                 "destination_id", "step"),
            "source_id", ids, "c.source_type IN ('RUN_INPUT', 'RUN_OUTPUT')",
        )  # fmt: skip
        uuids: set[object] = set()
        for of_run in (*inputs.values(), *outgoing.values()):
            uuids.update(row["input_uuid"] for row in of_run if row["input_uuid"] is not None)
        tags = r.select_pairs(
            database, "input_tags", ("name", "value"), "input_uuid", sorted(uuids, key=str)
        )
        pair = ("key", "value")
        runs = r.select(database, "runs", sorted(KNOWN["runs"] - {"run_uuid"}), "run_uuid", ids)
        homes = {row["experiment_id"] for of_run in runs.values() for row in of_run}
        return _Bulk(
            runs=runs,
            params=r.select_pairs(database, "params", pair, "run_uuid", ids),
            tags=r.select_pairs(database, "tags", pair, "run_uuid", ids),
            metrics=r.select_pairs(
                database, "metrics", ("key", "value", "timestamp", "step", "is_nan"), "run_uuid",
                ids,
            ),
            inputs=inputs,
            outgoing=outgoing,
            input_tags=tags,
            deleted_ms=self._deleted(sorted(homes, key=str)),
            counts=[(child, r.count(database, child, ids)) for child in _OF_RUNS],
        )  # fmt: skip

    def _deleted(self, experiments: Sequence[object]) -> dict[object, int | None]:
        """When experiments were deleted, by id; active ones are not in it."""
        columns = ("lifecycle_stage", "last_update_time")
        found = r.select_pairs(self.database, "experiments", columns, "experiment_id", experiments)
        deleted: dict[object, int | None] = {}
        for key, of_key in found.items():
            stage, updated_ms = of_key[0]
            if stage == "deleted":
                deleted[key] = updated_ms if isinstance(updated_ms, int) else None
        return deleted

    def _run(self, entry: RunEntry, bulk: _Bulk) -> Extracted[RunRecord]:
        run_id = entry.entity_id
        log = RowLog(Kind.RUN, run_id, self.name)
        for child, counts in bulk.counts:
            log.found[child.kind] += counts.get(run_id, 0)
        row = r.one_row(log, entry.path, Kind.RUN, bulk.runs[run_id])
        if row is None:
            return log.close(None)
        params = r.key_values(log, log.place("params", run_id), bulk.params[run_id], Kind.PARAM)
        tags = r.key_values(log, log.place("tags", run_id), bulk.tags[run_id], Kind.TAG)
        metrics = _metrics(log, run_id, bulk.metrics[run_id])
        artifact_uri = row.text("artifact_uri") or ""
        artifacts = list_artifacts(
            log, None, self.places.tail(Kind.RUN, entry), self.places.elsewhere, artifact_uri
        )
        status, start_ms, end_ms = _state(log, row, metrics)
        deleted_ms = row.integer("deleted_time")
        stage = _stage(row)
        record = RunRecord(
            run_id=run_id,
            experiment_id=entry.experiment_id or "",
            name=row.text("name") or tags.get("mlflow.runName", ""),
            status=status,
            start_ms=start_ms,
            end_ms=end_ms,
            lifecycle_stage=stage,
            deleted_ms=deleted_ms,
            user_id=row.text("user_id") or "",
            source_type=_source_type(row),
            source_name=row.text("source_name") or "",
            source_version=row.text("source_version") or "",
            entry_point_name=row.text("entry_point_name") or "",
            artifact_uri=artifact_uri,
            params=params,
            tags=tags,
            metrics=metrics,
            artifacts=artifacts.files,
            texts=read_texts(log, artifacts, self.wanted),
            inputs=self._inputs(log, run_id, bulk),
            outputs=_outputs(log, run_id, bulk.outgoing[run_id]),
            path=entry.path,
            artifact_dir=artifacts.directory,
            deleted_with_experiment=stage == "deleted"
            and _went_with(bulk.deleted_ms, row.raw("experiment_id"), deleted_ms),
        )
        return log.close(record)

    def _inputs(self, log: RowLog, run_id: str, bulk: _Bulk) -> tuple[InputRecord, ...]:
        found: dict[tuple[str, str], InputRecord] = {}
        given = [(row, row["source_type"], row["source_id"]) for row in bulk.inputs[run_id]]
        for row in bulk.outgoing[run_id]:
            if row["source_type"] == "RUN_INPUT":
                given.append((row, "MODEL", row["destination_id"]))
        for row, source_type, source_id in given:
            path = log.place("inputs", row["input_uuid"])
            if source_type not in ("DATASET", "MODEL") or not isinstance(source_id, str):
                log.add(
                    Code.INPUT_DAMAGED, path, "MLflow does not know its source_type.",
                    kind=Kind.INPUT, sample=repr(source_type)[:100],
                )  # fmt: skip
                continue
            tags_path = log.place("input_tags", row["input_uuid"])
            pairs = bulk.input_tags.get(row["input_uuid"], [])
            tags = r.key_values(log, tags_path, pairs, None)
            record = InputRecord(source_type, source_id, tags)
            other = found.setdefault((source_type, source_id), record)
            if other is not record:
                r.repeated(log, path, Kind.INPUT, is_equal=other == record)
        return tuple(found[key] for key in sorted(found))


def _outputs(log: RowLog, run_id: str, rows: Sequence[dict[str, Any]]) -> tuple[OutputRecord, ...]:
    found: dict[str, OutputRecord] = {}
    for values in rows:
        if values["source_type"] != "RUN_OUTPUT":
            continue
        path = log.place("inputs", values["input_uuid"])
        row = Fields(log, path, Kind.OUTPUT, values)
        model_id = row.text("destination_id")
        if not model_id:
            log.add(Code.OUTPUT_DAMAGED, path, "It names no model.", kind=Kind.OUTPUT)
            continue
        record = OutputRecord(model_id, row.integer("step") or 0)
        other = found.setdefault(model_id, record)
        if other is not record:
            r.repeated(log, path, Kind.OUTPUT, is_equal=other == record)
    return tuple(found[key] for key in sorted(found))


def _went_with(
    deleted: dict[object, int | None], experiment_id: object, deleted_ms: int | None
) -> bool:
    """Whether a run was deleted only because its experiment was: not before that."""
    if experiment_id not in deleted or deleted_ms is None:
        return False
    since_ms = deleted[experiment_id]
    return since_ms is not None and deleted_ms >= since_ms


def _state(
    log: RowLog, row: Fields, metrics: dict[str, tuple[MetricPoint, ...]]
) -> tuple[str, int, int | None]:
    """A run's status, start and end. What its row lacks is derived, with an issue."""
    start_ms, end_ms = row.integer("start_time"), row.integer("end_time")
    given = (row.text("status") or "").strip().upper()
    if given.isdecimal() and len(given) < 10:
        given = RUN_STATUS.get(int(given), given)
    if given not in RUN_STATUS.values():
        given = "RUNNING" if end_ms is None else "FINISHED"
        row.unknown("status", f"as {given}")
    if start_ms is None:
        times: list[int] = []
        for points in metrics.values():
            times += (p.timestamp_ms for p in points if EARLIEST_MS <= p.timestamp_ms < LATEST_MS)
        start_ms = min(times, default=end_ms or 0)
        log.add(
            Code.RUN_START_UNKNOWN,
            row.path,
            "Nothing says when the run started.",
            kept=f"as started at {start_ms} ms",
            kind=Kind.RUN,
        )
    elif end_ms is not None and end_ms < start_ms:
        log.add(
            Code.RUN_ENDS_BEFORE_START,
            row.path,
            f"It starts at {start_ms} and ends at {end_ms} ms.",
            kept="both",
            kind=Kind.RUN,
        )
    return given, start_ms, end_ms


def _source_type(row: Fields) -> str:
    text = (row.text("source_type") or "").strip().upper()
    if text in SOURCE_TYPE.values():
        return text
    if text:
        row.unknown("source_type", "as UNKNOWN")
    return "UNKNOWN"


# ------------------------------------------------------------------------------------- metrics


def _metrics(log: RowLog, run_id: str, rows: Sequence[Row]) -> dict[str, tuple[MetricPoint, ...]]:
    """Metric points by key, in the order of step, time and value; equal ones once."""
    by_key: dict[str, list[MetricPoint]] = {}
    for key, value, timestamp, step, is_nan in rows:
        if (
            type(value) is float
            and type(timestamp) is int
            and type(step) is int
            and type(key) is str
            and not is_nan
        ):
            point: MetricPoint | None = MetricPoint(timestamp, value, step)  # nearly every one
        else:
            point = _odd_point(log, run_id, (key, value, timestamp, step, is_nan))
        if point is not None:
            by_key.setdefault(key, []).append(point)
    return {key: _ordered(log, run_id, key, by_key[key]) for key in sorted(by_key)}


def _odd_point(log: RowLog, run_id: str, row: Row) -> MetricPoint | None:
    key, value, timestamp, step, is_nan = row
    path = log.place("metrics", run_id, key)
    kind = Kind.METRIC_POINT
    if not isinstance(key, str):
        message = f"Its key is {r.type_of(key)}, not a text."
        log.add(Code.ROW_DAMAGED, path, message, kind=kind, sample=repr(key)[:100])
        return None
    number: float | None
    if is_nan:
        number = math.nan
    elif isinstance(value, (int, float)):
        number = float(value)
        number = math.nan if number != number else number
    else:
        number = r.number_of(log, path, "value", value, kind)
    if number is None:
        return None
    fields = Fields(log, path, kind, {"timestamp": timestamp, "step": step})
    time_ms = fields.integer("timestamp")
    if time_ms is None:
        log.add(Code.ROW_DAMAGED, path, "It has no time.", kind=kind)
        return None
    return MetricPoint(time_ms, number, fields.integer("step") or 0)


def _ordered(
    log: RowLog, run_id: str, key: str, points: list[MetricPoint]
) -> tuple[MetricPoint, ...]:
    if len(points) == 1:
        return tuple(points)
    points.sort(key=_by_step)
    unique = tuple(dict.fromkeys(points))
    repeats = len(points) - len(unique)
    if repeats:
        log.merged[Kind.METRIC_POINT] += repeats
        log.add(
            Code.ROW_REPEATED,
            log.place("metrics", run_id, key),
            f"{repeats:,} {'row repeats' if repeats == 1 else 'rows repeat'} a point.",
            kept="each point once",
            kind=Kind.METRIC_POINT,
            count=repeats,
        )
    return unique


def _by_step(point: MetricPoint) -> tuple[int, int, bool, float]:
    is_nan = point.value != point.value
    return point.step, point.timestamp_ms, is_nan, 0.0 if is_nan else point.value
