"""Turns records and plans into rows of MLflow's tables. Pure functions: no database.

Columns and encodings are those of ``mlflow.store.tracking.dbmodels.models`` and
``mlflow.store.model_registry.dbmodels.models`` at revision ``d3e4f5a6b7c8``, with the workspaces of
MLflow 3.10. The column lists are written out because a newer MLflow's table objects know columns
that 3.9 lacks. Where MLflow draws an id at random, ours is a hash of what the row says, so that
converting twice is converting once.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from migrator import encoding
from migrator.issues import Kind
from migrator.model import (
    AssessmentRecord,
    Asset,
    DatasetRecord,
    EvaluationDatasetRecord,
    ExperimentPlan,
    InputRecord,
    LinkRecord,
    LoggedModelRecord,
    MetricPoint,
    OutputRecord,
    RegisteredModelRecord,
    RunRecord,
    ScorerRecord,
    TracePlan,
    WorkspaceRecord,
)

Value: TypeAlias = "str | int | float | bool | None"
Row: TypeAlias = "tuple[Value, ...]"

# Table by table, parents before children. What a schema lacks, such as workspaces before MLflow
# 3.10, is not written.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "experiments": (
        "experiment_id",
        "name",
        "artifact_location",
        "lifecycle_stage",
        "creation_time",
        "last_update_time",
        "workspace",
    ),
    "experiment_tags": ("key", "value", "experiment_id"),
    "runs": (
        "run_uuid",
        "name",
        "source_type",
        "source_name",
        "entry_point_name",
        "user_id",
        "status",
        "start_time",
        "end_time",
        "deleted_time",
        "source_version",
        "lifecycle_stage",
        "artifact_uri",
        "experiment_id",
    ),
    "tags": ("key", "value", "run_uuid"),
    "params": ("key", "value", "run_uuid"),
    "metrics": ("key", "value", "timestamp", "run_uuid", "step", "is_nan"),
    "latest_metrics": ("key", "value", "timestamp", "step", "is_nan", "run_uuid"),
    "datasets": (
        "dataset_uuid",
        "experiment_id",
        "name",
        "digest",
        "dataset_source_type",
        "dataset_source",
        "dataset_schema",
        "dataset_profile",
    ),
    "inputs": (
        "input_uuid",
        "source_type",
        "source_id",
        "destination_type",
        "destination_id",
        "step",
    ),
    "input_tags": ("input_uuid", "name", "value"),
    "logged_models": (
        "model_id",
        "experiment_id",
        "name",
        "artifact_location",
        "creation_timestamp_ms",
        "last_updated_timestamp_ms",
        "status",
        "lifecycle_stage",
        "model_type",
        "source_run_id",
        "status_message",
    ),
    "logged_model_params": ("model_id", "experiment_id", "param_key", "param_value"),
    "logged_model_tags": ("model_id", "experiment_id", "tag_key", "tag_value"),
    "logged_model_metrics": (
        "model_id",
        "metric_name",
        "metric_timestamp_ms",
        "metric_step",
        "metric_value",
        "experiment_id",
        "run_id",
        "dataset_uuid",
        "dataset_name",
        "dataset_digest",
    ),
    "registered_models": ("name", "creation_time", "last_updated_time", "description", "workspace"),
    "registered_model_tags": ("key", "value", "name", "workspace"),
    "model_versions": (
        "name",
        "version",
        "creation_time",
        "last_updated_time",
        "description",
        "user_id",
        "current_stage",
        "source",
        "storage_location",
        "run_id",
        "run_link",
        "status",
        "status_message",
        "workspace",
    ),
    "model_version_tags": ("key", "value", "name", "version", "workspace"),
    "registered_model_aliases": ("alias", "version", "name", "workspace"),
    "trace_info": (
        "request_id",
        "experiment_id",
        "timestamp_ms",
        "execution_time_ms",
        "status",
        "client_request_id",
        "request_preview",
        "response_preview",
    ),
    "trace_tags": ("key", "value", "request_id"),
    "trace_request_metadata": ("key", "value", "request_id"),
    "trace_metrics": ("request_id", "key", "value"),
    "spans": (
        "trace_id",
        "experiment_id",
        "span_id",
        "parent_span_id",
        "name",
        "type",
        "status",
        "start_time_unix_nano",
        "end_time_unix_nano",
        "content",
    ),
    "assessments": (
        "assessment_id",
        "trace_id",
        "name",
        "assessment_type",
        "value",
        "error",
        "created_timestamp",
        "last_updated_timestamp",
        "source_type",
        "source_id",
        "run_id",
        "span_id",
        "rationale",
        "overrides",
        "valid",
        "assessment_metadata",
    ),
    "evaluation_datasets": (
        "dataset_id",
        "name",
        "schema",
        "profile",
        "digest",
        "created_time",
        "last_update_time",
        "created_by",
        "last_updated_by",
        "workspace",
    ),
    "evaluation_dataset_tags": ("dataset_id", "key", "value"),
    "evaluation_dataset_records": (
        "dataset_record_id",
        "dataset_id",
        "inputs",
        "expectations",
        "outputs",
        "tags",
        "source",
        "source_id",
        "source_type",
        "created_time",
        "last_update_time",
        "created_by",
        "last_updated_by",
        "input_hash",
    ),
    "entity_associations": (
        "association_id",
        "source_type",
        "source_id",
        "destination_type",
        "destination_id",
        "created_time",
    ),
    "scorers": ("experiment_id", "scorer_name", "scorer_id"),
    "scorer_versions": ("scorer_id", "scorer_version", "serialized_scorer", "creation_time"),
    "webhooks": (
        "webhook_id",
        "name",
        "description",
        "url",
        "status",
        "secret",
        "creation_timestamp",
        "last_updated_timestamp",
        "deleted_timestamp",
        "workspace",
    ),
    "webhook_events": ("webhook_id", "entity", "action"),
    "workspaces": (
        "name",
        "description",
        "default_artifact_root",
        "trace_archival_location",
        "trace_archival_retention",
    ),
}

# The kind of entity that a table's rows are. The rows of other tables are not counted.
KINDS: Mapping[str, Kind] = {
    "experiments": Kind.EXPERIMENT,
    "experiment_tags": Kind.EXPERIMENT_TAG,
    "runs": Kind.RUN,
    "tags": Kind.TAG,
    "params": Kind.PARAM,
    "metrics": Kind.METRIC_POINT,
    "datasets": Kind.DATASET,
    "inputs": Kind.INPUT,  # those of type RUN_OUTPUT are Kind.OUTPUT
    "logged_models": Kind.LOGGED_MODEL,
    "logged_model_params": Kind.LOGGED_MODEL_PARAM,
    "logged_model_tags": Kind.LOGGED_MODEL_TAG,
    "logged_model_metrics": Kind.LOGGED_MODEL_METRIC,
    "registered_models": Kind.REGISTERED_MODEL,
    "registered_model_tags": Kind.REGISTERED_MODEL_TAG,
    "model_versions": Kind.MODEL_VERSION,
    "model_version_tags": Kind.MODEL_VERSION_TAG,
    "registered_model_aliases": Kind.ALIAS,
    "trace_info": Kind.TRACE,
    "trace_tags": Kind.TRACE_TAG,
    "trace_request_metadata": Kind.TRACE_METADATA,
    "spans": Kind.SPAN,
    "assessments": Kind.ASSESSMENT,
    "entity_associations": Kind.TRACE_LINK,  # those of evaluation datasets have a kind of their own
    "evaluation_datasets": Kind.EVALUATION_DATASET,
    "evaluation_dataset_tags": Kind.EVALUATION_DATASET_TAG,
    "evaluation_dataset_records": Kind.EVALUATION_ITEM,
    "scorers": Kind.SCORER,
    "scorer_versions": Kind.SCORER_VERSION,
    "webhooks": Kind.WEBHOOK,
    "webhook_events": Kind.WEBHOOK_EVENT,
    "workspaces": Kind.WORKSPACE,
}

SPANS_AT_ONCE = 5_000  # the rows of a trace of 50,000 spans would take 100 MB
_MAX_FLOAT = 1.7976931348623157e308  # what SqlAlchemyStore.sanitize_metric_value makes of inf


def derived_id(*parts: object) -> str:
    """Return 32 hex digits, a hash of the row's content, where MLflow draws a random uuid."""
    text = "/".join(str(part) for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def number(value: float) -> tuple[float, bool]:
    """Return a metric value as MLflow's SQL store keeps it, and True for NaN."""
    if math.isnan(value):
        return 0.0, True
    if math.isinf(value):
        return math.copysign(_MAX_FLOAT, value), False
    return value, False


def experiment_row(plan: ExperimentPlan) -> Row:
    record = plan.record
    return (
        plan.target_id,
        plan.target_name,
        plan.artifact_location,
        record.lifecycle_stage,
        record.creation_ms,
        record.last_update_ms,
        record.workspace,
    )


def run_row(run: RunRecord, experiment_id: int) -> Row:
    return (
        run.run_id,
        run.name,
        run.source_type,
        run.source_name,
        run.entry_point_name,
        run.user_id,
        run.status,
        run.start_ms,
        run.end_ms,
        run.deleted_ms,
        run.source_version,
        run.lifecycle_stage,
        run.artifact_uri,
        experiment_id,
    )


def metric_rows(
    run_id: str, key: str, points: tuple[MetricPoint, ...]
) -> tuple[list[Row], Row | None]:
    """Return the rows of ``metrics`` without repeats, and the row of ``latest_metrics``.

    The latest point is the one with the greatest (step, timestamp, value), NaN counting as the 0
    that is stored for it, and of equal ones the first: the rule of
    ``SqlAlchemyStore._update_latest_metrics_if_necessary`` (3.9.0).
    """
    rows: dict[Row, None] = {}
    latest: tuple[tuple[int, int, float], bool] | None = None
    for timestamp, raw, step in points:
        if -_MAX_FLOAT <= raw <= _MAX_FLOAT:  # false for NaN too
            value, is_nan = raw, False
        else:
            value, is_nan = number(raw)
        rows[(key, value, timestamp, run_id, step, is_nan)] = None
        order = (step, timestamp, value)
        if latest is None or order > latest[0]:
            latest = (order, is_nan)
    if latest is None:
        return [], None
    (step, timestamp, value), is_nan = latest
    return list(rows), (key, value, timestamp, step, is_nan, run_id)


def dataset_uuid(experiment_id: int, name: str, digest: str) -> str:
    return derived_id("dataset", experiment_id, name, digest)


def dataset_row(record: DatasetRecord, experiment_id: int) -> Row:
    return (
        dataset_uuid(experiment_id, record.name, record.digest),
        experiment_id,
        record.name,
        record.digest,
        record.source_type,
        record.source,
        record.schema,
        record.profile,
    )


def input_row(source: tuple[str, str], destination: tuple[str, str], step: int = 0) -> Row:
    """Return a row of ``inputs``: from (type, id) to (type, id)."""
    return (derived_id("input", *source, *destination), *source, *destination, step)


def logged_model_row(record: LoggedModelRecord, experiment_id: int) -> Row:
    return (
        record.model_id,
        experiment_id,
        record.name,
        record.artifact_location,
        record.creation_ms,
        record.last_updated_ms,
        record.status,
        record.lifecycle_stage,
        record.model_type,
        record.source_run_id,
        record.status_message,
    )


def model_version_rows(record: RegisteredModelRecord) -> list[Row]:
    return [
        (
            version.name,
            version.version,
            version.creation_ms,
            version.last_updated_ms,
            version.description,
            version.user_id,
            # MLflow's queries leave out rows whose stage is NULL.
            "None" if version.current_stage is None else version.current_stage,
            version.source,
            version.storage_location,
            version.run_id,
            version.run_link,
            version.status or "READY",
            version.status_message,
            record.workspace,
        )
        for version in record.versions
    ]


def model_version_tag_rows(record: RegisteredModelRecord) -> list[Row]:
    found: list[Row] = []
    for version in record.versions:
        named = (version.name, version.version, record.workspace)
        found += [(key, value, *named) for key, value in version.tags.items()]
    return found


def trace_row(plan: TracePlan, experiment_id: int) -> Row:
    return (
        plan.trace_id,
        experiment_id,
        plan.timestamp_ms,
        plan.execution_ms,
        plan.status,
        plan.client_request_id,
        plan.request_preview,
        plan.response_preview,
    )


def usage_rows(plan: TracePlan) -> Iterator[Row]:
    usage = plan.usage
    if usage is None:
        return
    for key, value in (
        ("input_tokens", usage.input_tokens),
        ("output_tokens", usage.output_tokens),
        ("total_tokens", usage.total_tokens),
    ):
        if value is not None:
            yield (plan.trace_id, key, float(value))


def span_rows(plan: TracePlan, experiment_id: int) -> list[Row]:
    """Make the rows of all spans of a trace."""
    found: list[Row] = []
    for batch in span_batches(plan, experiment_id):
        found += batch
    return found


def span_batches(plan: TracePlan, experiment_id: int) -> Iterator[list[Row]]:
    """Make the rows of a trace's spans, at most ``SPANS_AT_ONCE`` at a time."""
    for at in range(0, len(plan.spans), SPANS_AT_ONCE):
        spans = plan.spans[at : at + SPANS_AT_ONCE]
        contents = plan.contents[at : at + SPANS_AT_ONCE] or [
            encoding.span_content(plan.trace_id, span) for span in spans
        ]
        yield [
            (
                plan.trace_id,
                experiment_id,
                span.span_id,
                span.parent_span_id,
                span.name,
                span.type,
                span.status,
                span.start_ns,
                span.end_ns,
                content,
            )
            for span, content in zip(spans, contents, strict=True)
        ]


def assessment_row(record: AssessmentRecord, trace_id: str) -> Row:
    """The JSON texts are MLflow's own form (ASCII): feedback filters compare them as text."""
    return (
        record.assessment_id,
        trace_id,
        record.name,
        record.type,
        json.dumps(encoding.sanitize(record.value)),
        None if record.error is None else json.dumps(encoding.sanitize(record.error)),
        record.created_ms,
        record.last_updated_ms,
        record.source_type,
        record.source_id,
        record.run_id,
        record.span_id,
        record.rationale,
        record.overrides,
        record.valid,
        json.dumps(dict(record.metadata)) if record.metadata else None,
    )


def association_rows(
    source_type: str, source_id: str, links: Iterable[LinkRecord]
) -> Iterator[Row]:
    """Make the rows that link a trace or evaluation dataset to other entities.

    MLflow stamps them with the time of writing; ours carry the source's, or the trace's own time.
    """
    for link in links:
        yield (
            derived_id("association", source_id, link.kind, link.target_id),
            source_type,
            source_id,
            link.kind,
            link.target_id,
            link.created_ms,
        )


def asset_rows(record: Asset, experiment_id: int | None) -> dict[str, list[Row]]:
    """Make all rows of an asset, by table."""
    if isinstance(record, EvaluationDatasetRecord):
        return _evaluation_rows(record)
    if isinstance(record, WorkspaceRecord):
        workspace: Row = (
            record.name,
            record.description,
            record.default_artifact_root,
            record.trace_archival_location,
            record.trace_archival_retention,
        )
        return {"workspaces": [workspace]}
    if isinstance(record, ScorerRecord):
        return {
            "scorers": [(experiment_id, record.name, record.scorer_id)],
            "scorer_versions": [
                (record.scorer_id, each.version, each.serialized, each.created_ms)
                for each in record.versions
            ],
        }
    webhook: Row = (
        record.webhook_id,
        record.name,
        record.description,
        record.url,
        record.status,
        None,  # encrypted with a key of the old server
        record.created_ms,
        record.last_updated_ms,
        record.deleted_ms,
        record.workspace,
    )
    events: list[Row] = [(record.webhook_id, each.entity, each.action) for each in record.events]
    return {"webhooks": [webhook], "webhook_events": events}


def _evaluation_rows(record: EvaluationDatasetRecord) -> dict[str, list[Row]]:
    dataset_id = record.dataset_id
    dataset: Row = (
        dataset_id,
        record.name,
        record.schema,
        record.profile,
        record.digest,
        record.created_ms,
        record.last_updated_ms,
        record.created_by,
        record.last_updated_by,
        record.workspace,
    )
    items: list[Row] = [
        (
            item.record_id,
            dataset_id,
            item.inputs,
            item.expectations,
            item.outputs,
            item.tags,
            item.source,
            item.source_id,
            item.source_type,
            item.created_ms,
            item.last_updated_ms,
            item.created_by,
            item.last_updated_by,
            item.input_hash,
        )
        for item in record.items
    ]
    return {
        "evaluation_datasets": [dataset],
        "evaluation_dataset_tags": [(dataset_id, k, v) for k, v in record.tags.items()],
        "evaluation_dataset_records": items,
        "entity_associations": list(
            association_rows("evaluation_dataset", dataset_id, record.links)
        ),
    }


# ------------------------------------------------------------- all rows of a run, or of a trace


class RunRows(NamedTuple):
    """A run as the writer takes it; other processes make these."""

    run_id: str
    path: str
    experiment_id: int
    source_experiment_id: str
    tables: dict[str, list[Row]]  # those that have any
    merged_points: int
    inputs: tuple[InputRecord, ...]  # their rows depend on datasets, which the writer knows
    outputs: tuple[OutputRecord, ...]


class TraceRows(NamedTuple):
    """A trace as the writer takes it; other processes make these."""

    trace_id: str
    native: bool
    tables: dict[str, list[Row]]  # those that have any
    chars: int  # of its spans' content


def run_rows(run: RunRecord, experiment_id: int) -> RunRows:
    run_id = run.run_id
    points: list[Row] = []
    latest: list[Row] = []
    logged = 0
    for key, of_key in run.metrics.items():
        new, last = metric_rows(run_id, key, of_key)
        logged += len(of_key)
        points += new
        if last is not None:
            latest.append(last)
    tables: dict[str, list[Row]] = {
        "runs": [run_row(run, experiment_id)],
        "params": [(key, value, run_id) for key, value in run.params.items()],
        "tags": [(key, value, run_id) for key, value in run.tags.items()],
        "metrics": points,
        "latest_metrics": latest,
    }
    return RunRows(
        run_id,
        run.path,
        experiment_id,
        run.experiment_id,
        {table: new for table, new in tables.items() if new},
        logged - len(points),
        run.inputs,
        run.outputs,
    )


def trace_rows(plan: TracePlan, experiment_id: int, spans: list[Row]) -> TraceRows:
    """Make the rows of a trace; ``spans`` are those of its spans, or the first of them."""
    trace_id = plan.trace_id
    tables: dict[str, list[Row]] = {
        "trace_info": [trace_row(plan, experiment_id)],
        "trace_tags": [(key, value, trace_id) for key, value in plan.tags.items()],
        "trace_request_metadata": [(k, v, trace_id) for k, v in plan.metadata.items()],
        "trace_metrics": list(usage_rows(plan)),
        "spans": spans,
        "assessments": [assessment_row(each, trace_id) for each in plan.assessments],
        "entity_associations": list(association_rows("trace", trace_id, plan.all_links)),
    }
    return TraceRows(
        trace_id,
        plan.native,
        {table: new for table, new in tables.items() if new},
        chars_of(spans),
    )


def chars_of(spans: Iterable[Row]) -> int:
    """The number of characters of the content of spans."""
    return sum([len(str(span[-1])) for span in spans])


class RowRecorder:
    """Makes rows of runs and traces in a process without the database, for ``Writer.replay``."""

    def __init__(self) -> None:
        self._items: list[RunRows | TraceRows] = []

    def blank(self) -> RowRecorder:
        """A recorder that has made no rows."""
        return RowRecorder()

    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        self._items.append(run_rows(run, experiment_id))

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        self._items.append(trace_rows(plan, experiment_id, span_rows(plan, experiment_id)))

    def recorded(self) -> list[RunRows | TraceRows]:
        """Return the rows of everything added since the last call."""
        recorded = self._items
        self._items = []
        return recorded
