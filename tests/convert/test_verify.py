"""``verify`` against databases that MLflow itself wrote, whole and with one thing wrong."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import TargetError
from migrator.issues import Kind
from migrator.model import (
    AssessmentRecord,
    DatasetRecord,
    ExperimentPlan,
    ExperimentRecord,
    InputRecord,
    LoggedModelMetric,
    LoggedModelRecord,
    MetricPoint,
    ModelVersionRecord,
    OutputRecord,
    RegisteredModelRecord,
    RunRecord,
    SpanEvent,
    SpanPlan,
    TokenUsage,
    TracePlan,
)
from migrator.verification import (
    MAX_DIFFERENCES,
    MISSING,
    DatabaseComparer,
    Difference,
    VerifyResult,
)
from migrator.verification.database import runs, traces

pytestmark = pytest.mark.xdist_group("convert_verify")

T0 = 1_700_000_000_000  # ms
TRACE = "tr-" + "ab" * 16
ROOT, CHILD, SIBLING = "00000000000000a1", "00000000000000b2", "00000000000000c3"


@dataclass(frozen=True)
class Written:
    """A database that MLflow wrote, and what was written, in our own records."""

    path: Path
    experiment: ExperimentPlan
    run: RunRecord
    deleted_run: RunRecord
    dataset: DatasetRecord
    model: LoggedModelRecord
    registered: RegisteredModelRecord
    trace: TracePlan

    @property
    def experiment_id(self) -> int:
        return self.experiment.target_id


def point(value: float, step: int) -> MetricPoint:
    return MetricPoint(T0 + step, value, step)


HISTORY = {
    "loss": tuple(point(1.0 / (step + 1), step) for step in range(5)),
    "odd": (point(math.nan, 0), point(math.inf, 1), point(-math.inf, 2), point(0.0, 3)),
    "tie": (point(1.0, 7), point(2.0, 7)),
}
PARAMS = {"lr": "0.1", "path/with space": "a\r\nb", "empty": ""}
TAGS = {"note": "v ", "ünï": "✓", "mlflow.runName": "first"}


def write(path: Path) -> Written:
    """Write one of everything through MLflow's stores; return it as records."""
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        ExperimentTag,
        InputTag,
        LoggedModelInput,
        LoggedModelOutput,
        LoggedModelParameter,
        LoggedModelStatus,
        LoggedModelTag,
        Metric,
        Param,
        RunStatus,
        RunTag,
    )
    from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

    store = Tracking(f"sqlite:///{path}", str(path.parent / "artifacts"))
    experiment_id = store.create_experiment("rag eval", tags=[ExperimentTag("team", "search")])

    def create_run(name: str) -> Any:
        return store.create_run(experiment_id, "ana", T0, [RunTag("mlflow.runName", name)], name)

    run_id = create_run("first").info.run_id
    model = store.create_logged_model(
        experiment_id,
        "agent",
        run_id,
        [LoggedModelTag("stage", "dev")],
        [LoggedModelParameter("k", "4")],
        "agent",
    )
    store.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    store.log_batch(
        run_id,
        [
            Metric(key, value, timestamp_ms, step)
            for key, points in HISTORY.items()
            for timestamp_ms, value, step in points
        ],
        [Param(*item) for item in PARAMS.items()],
        [RunTag(*item) for item in TAGS.items()],
    )
    store.log_metric(run_id, Metric("acc", 0.5, T0, 1, model_id=model.model_id, run_id=run_id))
    store.log_inputs(
        run_id,
        [
            DatasetInput(
                Dataset("train", "d1", "http", '{"url": "u"}', '{"c": 1}', None),
                [InputTag("mlflow.data.context", "training")],
            )
        ],
        [LoggedModelInput(model.model_id)],
    )
    store.log_outputs(run_id, [LoggedModelOutput(model.model_id, 3)])
    store.update_run_info(run_id, RunStatus.FAILED, T0 + 10, None)
    deleted_id = create_run("gone").info.run_id
    store.delete_run(deleted_id)
    write_trace(store, experiment_id, run_id)

    registry = Registry(f"sqlite:///{path}")
    prompt = RegisteredModelTag("mlflow.prompt.is_prompt", "true")
    registry.create_registered_model("simple", [RegisteredModelTag("a/b", "x"), prompt], "desc — ✓")
    registry.create_model_version(
        "simple", "file:///m", run_id, [ModelVersionTag("p", "q")], None, "v1"
    )
    registry.create_model_version("simple", "file:///m2", None, [], None, None)
    registry.set_registered_model_alias("simple", "champion", "1")
    registry.delete_model_version("simple", "2")

    written = records(store, registry, experiment_id, run_id, deleted_id, model.model_id, path)
    store.engine.dispose()
    registry.engine.dispose()
    return written


def spans() -> tuple[SpanPlan, ...]:
    start = T0 * 1_000_000

    def plan(span_id: str, parent: str | None, kind: str, order: int, **more: Any) -> SpanPlan:
        attributes = {
            "mlflow.traceRequestId": json.dumps(TRACE),
            "mlflow.spanType": json.dumps(kind),
            "mlflow.spanInputs": json.dumps({"q": order}),
            "model": '"gpt-4o"',
        }
        base = SpanPlan(
            span_id=span_id,
            parent_span_id=parent,
            name=f"step {order}",
            type=kind,
            status="OK",
            status_message="",
            start_ns=start + order,
            end_ns=start + 1_000_000 - order,
            attributes=attributes,
        )
        return replace(base, **more)

    boom = SpanEvent("exception", start + 5, {"exception.message": "boom", "n": 1})
    return (
        plan(ROOT, None, "WORKFLOW", 0),
        plan(CHILD, ROOT, "TOOL", 1),
        plan(
            SIBLING,
            CHILD,
            "LLM",
            2,
            status="ERROR",
            status_message="ValueError: boom",
            events=(boom,),
        ),
    )


def write_trace(store: Any, experiment_id: str, run_id: str) -> None:
    from mlflow.entities import (
        AssessmentSource,
        Expectation,
        Feedback,
        TraceInfo,
        TraceLocation,
        TraceState,
    )
    from mlflow.entities.span import Span
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

    def context(span_id: str) -> SpanContext:
        return SpanContext(int(TRACE[3:], 16), int(span_id, 16), False, TraceFlags(1))

    store.log_spans(
        experiment_id,
        [
            Span(
                ReadableSpan(
                    name=span.name,
                    context=context(span.span_id),
                    parent=context(span.parent_span_id) if span.parent_span_id else None,
                    start_time=span.start_ns,
                    end_time=span.end_ns,
                    resource=Resource.get_empty(),
                    status=Status(StatusCode[span.status], span.status_message or None),
                    events=[
                        Event(event.name, dict(event.attributes), event.time_ns)
                        for event in span.events
                    ],
                    attributes=dict(span.attributes),
                )
            )
            for span in spans()
        ],
    )
    assessments = [
        Feedback(
            name="grade",
            value={"score": 1},
            source=AssessmentSource("HUMAN", "ana@x.y"),
            trace_id=TRACE,
            rationale="because",
            metadata={"m": "1"},
            span_id=CHILD,
            create_time_ms=T0 + 1,
            last_update_time_ms=T0 + 2,
        ),
        Expectation(
            name="answer",
            value=["a", 1],
            source=AssessmentSource("HUMAN", "ana@x.y"),
            trace_id=TRACE,
            create_time_ms=T0 + 3,
            last_update_time_ms=T0 + 3,
        ),
    ]
    for number, assessment in enumerate(assessments):
        assessment.assessment_id = f"a-{number}"
    store.start_trace(
        TraceInfo(
            trace_id=TRACE,
            trace_location=TraceLocation.from_experiment_id(experiment_id),
            request_time=T0,
            execution_duration=1,
            state=TraceState.ERROR,
            client_request_id="req-1",
            request_preview="question",
            response_preview="answer",
            trace_metadata={
                "mlflow.trace.session": "s-1",
                "mlflow.sourceRun": run_id,
                "mlflow.trace.tokenUsage": json.dumps(
                    {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
                ),
                "mlflow.trace.sizeStats": json.dumps({"num_spans": 3}),
            },
            tags={
                "mlflow.traceName": "step 0",
                "mlflow.trace.spansLocation": "TRACKING_STORE",
                "team": "search",
            },
            assessments=assessments,
        )
    )
    store.link_traces_to_run([TRACE], run_id)


def records(
    store: Any,
    registry: Any,
    experiment_id: str,
    run_id: str,
    deleted_id: str,
    model_id: str,
    path: Path,
) -> Written:
    """Return what ``write`` wrote. Only ids, locations and times that MLflow drew are read back."""
    experiment = store.get_experiment(experiment_id)
    info = store.get_run(run_id).info
    model = store.get_logged_model(model_id)
    registered = registry.get_registered_model("simple")
    version = registry.get_model_version("simple", "1")
    gone = registry._get_sql_model_version_including_deleted("simple", "2")
    with sqlite3.connect(path) as connection:
        (deleted_ms,) = connection.execute(
            "SELECT deleted_time FROM runs WHERE run_uuid = ?", [deleted_id]
        ).fetchone()
    connection.close()
    assert deleted_ms > T0
    dataset_id = hashlib.md5(b"traind1").hexdigest()
    run = RunRecord(
        run_id=run_id,
        experiment_id=experiment_id,
        name="first",
        status="FAILED",
        start_ms=T0,
        end_ms=T0 + 10,
        lifecycle_stage="active",
        deleted_ms=None,
        user_id="ana",
        source_type="UNKNOWN",
        source_name="",
        source_version="",
        entry_point_name="",
        artifact_uri=info.artifact_uri,
        params=PARAMS,
        tags=TAGS,
        metrics={**HISTORY, "acc": (MetricPoint(T0, 0.5, 1),)},
        artifacts=(),
        texts={},
        inputs=(
            InputRecord("DATASET", dataset_id, {"mlflow.data.context": "training"}),
            InputRecord("MODEL", model_id),
        ),
        outputs=(OutputRecord(model_id, 3),),
        path="",
        artifact_dir=None,
    )
    # MLflow 3.17's own mark of a trace that start_trace has completed.
    key = "mlflow.trace.infoFinalized"
    metadata = store.get_trace_info(TRACE).trace_metadata
    finalized = {key: metadata[key]} if key in metadata else {}
    plan = TracePlan(
        trace_id=TRACE,
        experiment_id=experiment_id,
        timestamp_ms=T0,
        execution_ms=1,
        status="ERROR",
        name="step 0",
        client_request_id="req-1",
        request_preview="question",
        response_preview="answer",
        tags={
            "team": "search",
            "mlflow.traceName": "step 0",
            "mlflow.trace.spansLocation": "TRACKING_STORE",
            "mlflow.artifactLocation": (f"{experiment.artifact_location}/traces/{TRACE}/artifacts"),
        },
        metadata={
            **finalized,
            "mlflow.trace.sizeStats": json.dumps({"num_spans": 3}),
            "mlflow.trace.session": "s-1",
            "mlflow.sourceRun": run_id,
            "mlflow.trace.tokenUsage": json.dumps(
                {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
            ),
        },
        usage=TokenUsage(10, 5, 15),
        spans=spans(),
        assessments=(
            AssessmentRecord(
                assessment_id="a-0",
                name="grade",
                type="feedback",
                value={"score": 1},
                error=None,
                source_type="HUMAN",
                source_id="ana@x.y",
                created_ms=T0 + 1,
                last_updated_ms=T0 + 2,
                span_id=CHILD,
                rationale="because",
                metadata={"m": "1"},
            ),
            AssessmentRecord(
                assessment_id="a-1",
                name="answer",
                type="expectation",
                value=["a", 1],
                error=None,
                source_type="HUMAN",
                source_id="ana@x.y",
                created_ms=T0 + 3,
                last_updated_ms=T0 + 3,
            ),
        ),
        run_ids=(run_id,),
    )
    return Written(
        path=path,
        experiment=ExperimentPlan(
            record=ExperimentRecord(
                experiment_id,
                "rag eval",
                experiment.artifact_location,
                "active",
                experiment.creation_time,
                experiment.last_update_time,
                {"team": "search"},
                "",
            ),
            target_id=int(experiment_id),
            target_name="rag eval",
            artifact_location=experiment.artifact_location,
            tags={"team": "search"},
        ),
        run=run,
        deleted_run=replace(
            run,
            run_id=deleted_id,
            name="gone",
            status="RUNNING",
            end_ms=None,
            lifecycle_stage="deleted",
            deleted_ms=deleted_ms,
            artifact_uri=info.artifact_uri.replace(run_id, deleted_id),
            params={},
            tags={"mlflow.runName": "gone"},
            metrics={},
            inputs=(),
            outputs=(),
        ),
        dataset=DatasetRecord(
            dataset_id, experiment_id, "train", "d1", "http", '{"url": "u"}', '{"c": 1}', None
        ),
        model=LoggedModelRecord(
            model_id=model_id,
            experiment_id=experiment_id,
            name="agent",
            artifact_location=model.artifact_location,
            creation_ms=model.creation_timestamp,
            last_updated_ms=model.last_updated_timestamp,
            status=2,
            status_message=None,
            lifecycle_stage="active",
            model_type="agent",
            source_run_id=run_id,
            params={"k": "4"},
            tags={"stage": "dev"},
            metrics=(LoggedModelMetric("acc", T0, 0.5, 1, run_id, None, None),),
            path="",
            artifact_dir=None,
        ),
        registered=RegisteredModelRecord(
            name="simple",
            creation_ms=registered.creation_timestamp,
            last_updated_ms=registered.last_updated_timestamp,
            description="desc — ✓",
            tags={"a/b": "x", "mlflow.prompt.is_prompt": "true"},
            aliases={"champion": 1},
            versions=(
                version_record(version, "file:///m", run_id, "v1", {"p": "q"}),
                replace(
                    version_record(gone, "REDACTED-SOURCE-PATH", "REDACTED-RUN-ID", "", {}),
                    current_stage="Deleted_Internal",
                    run_link="REDACTED-RUN-LINK",
                ),
            ),
            path="",
        ),
        trace=plan,
    )


def version_record(
    version: Any, source: str, run_id: str, description: str, tags: dict[str, str]
) -> ModelVersionRecord:
    return ModelVersionRecord(
        name="simple",
        version=version.version,
        creation_ms=version.creation_timestamp,
        last_updated_ms=version.last_updated_timestamp,
        description=description,
        user_id=None,
        current_stage="None",
        source=source,
        run_id=run_id,
        status="READY",
        status_message=None,
        run_link=None,
        storage_location=None,
        tags=tags,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("database") / "with space.db")


@pytest.fixture
def copy(written: Written, tmp_path: Path) -> Written:
    path = tmp_path / "copy ünï?.db"
    shutil.copy(written.path, path)
    return replace(written, path=path)


def open_comparer(path: Path) -> DatabaseComparer:
    from sqlalchemy.engine import URL

    return DatabaseComparer(str(URL.create("sqlite", database=str(path))))


def compare(written: Written) -> VerifyResult:
    comparer = open_comparer(written.path)
    number = written.experiment_id
    comparer.add_experiment(written.experiment)
    comparer.add_dataset(written.dataset, number)
    comparer.add_run(written.run, number)
    comparer.add_run(written.deleted_run, number)
    comparer.add_logged_model(written.model, number)
    comparer.add_registered_model(written.registered)
    comparer.add_trace(written.trace, number)
    return comparer.finish()


def test_what_mlflow_wrote_has_no_difference(written: Written) -> None:
    result = compare(written)
    assert result.differences == ()
    assert result.compared == {
        Kind.EXPERIMENT: 1,
        Kind.EXPERIMENT_TAG: 1,
        Kind.RUN: 2,
        Kind.PARAM: 3,
        Kind.METRIC_POINT: 12,
        Kind.TAG: 4,
        Kind.DATASET: 1,
        Kind.INPUT: 2,
        Kind.OUTPUT: 1,
        Kind.LOGGED_MODEL: 1,
        Kind.LOGGED_MODEL_PARAM: 1,
        Kind.LOGGED_MODEL_METRIC: 1,
        Kind.LOGGED_MODEL_TAG: 1,
        Kind.REGISTERED_MODEL: 1,
        Kind.REGISTERED_MODEL_TAG: 2,
        Kind.ALIAS: 1,
        Kind.MODEL_VERSION: 2,
        Kind.MODEL_VERSION_TAG: 1,
        Kind.TRACE: 1,
        Kind.TRACE_LINK: 1,
        Kind.TRACE_TAG: 4,
        Kind.TRACE_METADATA: len(written.trace.metadata),
        Kind.SPAN: 3,
        Kind.ASSESSMENT: 2,
    }


def test_a_path_with_signs_of_a_uri_is_opened(copy: Written) -> None:
    assert compare(copy).differences == ()


# Each fault: what is done to the rows, and the differences (kind, field) that must be reported.
# {run}, {gone}, {model} stand for ids.
FAULTS: dict[str, tuple[str, list[tuple[Kind, str]]]] = {
    "a param row is dropped": (
        "DELETE FROM params WHERE key = 'lr'",
        [(Kind.RUN, "param lr")],
    ),
    "a param loses a carriage return": (
        "UPDATE params SET value = 'a\nb\nc' WHERE key = 'path/with space'",
        [(Kind.RUN, "param path/with space")],
    ),
    "a param too many": (
        "INSERT INTO params(key, value, run_uuid) VALUES ('x', 'y', '{run}')",
        [(Kind.RUN, "param x")],
    ),
    "a metric point changes": (
        "UPDATE metrics SET value = 0.25000000000000006 WHERE key = 'loss' AND step = 3",
        [(Kind.RUN, f"metric loss, step 3, time {T0 + 3}")],
    ),
    "one of the points is dropped": (
        "DELETE FROM metrics WHERE key = 'loss' AND step = 2",
        [(Kind.RUN, f"metric loss, step 2, time {T0 + 2}")],
    ),
    "a point too many": (
        "INSERT INTO metrics(key, value, timestamp, run_uuid, step, is_nan)"
        " VALUES ('loss', 7.0, 5, '{run}', 9, 0)",
        [(Kind.RUN, "metric loss, step 9, time 5")],
    ),
    "NaN becomes zero": (
        "UPDATE metrics SET is_nan = 0 WHERE key = 'odd' AND step = 0",
        [(Kind.RUN, f"metric odd, step 0, time {T0}")],
    ),
    "infinity becomes a number": (
        "UPDATE metrics SET value = 1e308 WHERE key = 'odd' AND step = 1",
        [(Kind.RUN, f"metric odd, step 1, time {T0 + 1}")],
    ),
    "the latest value is not the latest": (
        "UPDATE latest_metrics SET value = 1.0 WHERE key = 'tie'",
        [(Kind.RUN, "latest metric tie")],
    ),
    "the latest step is wrong": (
        "UPDATE latest_metrics SET step = 3 WHERE key = 'loss'",
        [(Kind.RUN, "latest metric loss")],
    ),
    "there is no latest value": (
        "DELETE FROM latest_metrics WHERE key = 'loss'",
        [(Kind.RUN, "latest metric loss")],
    ),
    "a metric too many": (
        "INSERT INTO latest_metrics(key, value, timestamp, run_uuid, step, is_nan)"
        " VALUES ('new', 7.0, 5, '{run}', 9, 0)",
        [(Kind.RUN, "metric new")],
    ),
    "a history too many": (
        "INSERT INTO metrics(key, value, timestamp, run_uuid, step, is_nan)"
        " VALUES ('new', 7.0, 5, '{run}', 9, 0)",
        [(Kind.RUN, "metric new")],
    ),
    "a tag loses its trailing space": (
        "UPDATE tags SET value = 'v' WHERE key = 'note'",
        [(Kind.RUN, "tag note")],
    ),
    "a tag too many": (
        "INSERT INTO tags(key, value, run_uuid) VALUES ('x', 'y', '{run}')",
        [(Kind.RUN, "tag x")],
    ),
    "a whole run is dropped": (
        "DELETE FROM runs WHERE run_uuid = '{gone}'",
        [(Kind.RUN, "run")],
    ),
    "a run moves to another experiment": (
        "UPDATE runs SET experiment_id = 0 WHERE run_uuid = '{run}'",
        [(Kind.RUN, "experiment_id")],
    ),
    "a deleted run comes back": (
        "UPDATE runs SET lifecycle_stage = 'active' WHERE run_uuid = '{gone}'",
        [(Kind.RUN, "lifecycle_stage")],
    ),
    "a deletion time is lost": (
        "UPDATE runs SET deleted_time = NULL WHERE run_uuid = '{gone}'",
        [(Kind.RUN, "deleted_time")],
    ),
    "every column of a run changes": (
        "UPDATE runs SET name = 'x', status = 'FINISHED', start_time = 1, end_time = NULL,"
        " user_id = 'bob', artifact_uri = 'x', source_type = 'LOCAL', source_name = 'x',"
        " source_version = 'x', entry_point_name = 'x' WHERE run_uuid = '{run}'",
        [
            (Kind.RUN, name)
            for name in (
                "name",
                "status",
                "start_time",
                "end_time",
                "user_id",
                "artifact_uri",
                "source_type",
                "source_name",
                "source_version",
                "entry_point_name",
            )
        ],
    ),
    "an experiment is renamed": (
        "UPDATE experiments SET name = 'other' WHERE name = 'rag eval'",
        [(Kind.EXPERIMENT, "name")],
    ),
    "every other column of an experiment changes": (
        "UPDATE experiments SET artifact_location = 'x', lifecycle_stage = 'deleted',"
        " creation_time = 1, last_update_time = 2 WHERE name = 'rag eval'",
        [
            (Kind.EXPERIMENT, name)
            for name in (
                "artifact_location",
                "lifecycle_stage",
                "creation_time",
                "last_update_time",
            )
        ],
    ),
    "an experiment tag changes": (
        "UPDATE experiment_tags SET value = 'search ' WHERE key = 'team'",
        [(Kind.EXPERIMENT, "tag team")],
    ),
    "a dataset's profile changes": (
        "UPDATE datasets SET dataset_schema = NULL",
        [(Kind.DATASET, "schema")],
    ),
    "a run loses its inputs": (
        "DELETE FROM inputs WHERE source_type IN ('DATASET', 'RUN_INPUT')",
        [(Kind.RUN, "dataset inputs"), (Kind.RUN, "model inputs")],
    ),
    "an input loses its context": (
        "DELETE FROM input_tags",
        [(Kind.RUN, "input train d1, tag mlflow.data.context")],
    ),
    "an output has another step": (
        "UPDATE inputs SET step = 4 WHERE source_type = 'RUN_OUTPUT'",
        [(Kind.RUN, "model outputs")],
    ),
    "a logged model changes": (
        "UPDATE logged_models SET lifecycle_stage = 'deleted', status = 3, source_run_id = NULL",
        [
            (Kind.LOGGED_MODEL, "lifecycle_stage"),
            (Kind.LOGGED_MODEL, "status"),
            (Kind.LOGGED_MODEL, "source_run_id"),
        ],
    ),
    "a logged model is dropped": (
        "DELETE FROM logged_models",
        [(Kind.LOGGED_MODEL, "logged model")],
    ),
    "params, tags and metrics of a logged model change": (
        "UPDATE logged_model_params SET param_value = '5';"
        "UPDATE logged_model_tags SET tag_value = 'prod';"
        "UPDATE logged_model_metrics SET metric_value = 0.6",
        [
            (Kind.LOGGED_MODEL, "param k"),
            (Kind.LOGGED_MODEL, "tag stage"),
            (Kind.LOGGED_MODEL, f"metric acc {{run}}, step 1, time {T0}"),
        ],
    ),
    "a registered model changes": (
        "UPDATE registered_models SET description = 'x';"
        "UPDATE registered_model_tags SET value = 'y' WHERE key = 'a/b';"
        "UPDATE registered_model_aliases SET version = 2",
        [
            (Kind.REGISTERED_MODEL, "description"),
            (Kind.REGISTERED_MODEL, "tag a/b"),
            (Kind.REGISTERED_MODEL, "alias champion"),
        ],
    ),
    "a prompt is no prompt": (
        "DELETE FROM registered_model_tags WHERE key = 'mlflow.prompt.is_prompt'",
        [(Kind.REGISTERED_MODEL, "tag mlflow.prompt.is_prompt")],
    ),
    "a version changes": (
        "UPDATE model_versions SET description = 'x', source = 'file:///n', run_id = NULL,"
        " current_stage = 'Production', storage_location = 'file:///n' WHERE version = 1;"
        "UPDATE model_version_tags SET value = 'r'",
        [
            (Kind.MODEL_VERSION, name)
            for name in (
                "description",
                "current_stage",
                "source",
                "run_id",
                "tag p",
                "download location",
            )
        ],
    ),
    "a deleted version comes back": (
        "UPDATE model_versions SET current_stage = 'None' WHERE version = 2",
        [(Kind.MODEL_VERSION, "current_stage")],
    ),
    "every version is dropped": (
        "DELETE FROM model_versions",
        [(Kind.MODEL_VERSION, "model version"), (Kind.MODEL_VERSION, "model version")],
    ),
    "every column of a trace changes": (
        "UPDATE trace_info SET timestamp_ms = 1, execution_time_ms = NULL, status = 'OK',"
        " client_request_id = NULL, request_preview = 'x', response_preview = NULL",
        [
            (Kind.TRACE, name)
            for name in (
                "timestamp_ms",
                "execution_ms",
                "status",
                "client_request_id",
                "request_preview",
                "response_preview",
            )
        ],
    ),
    "a trace has a state that MLflow does not know": (
        "UPDATE trace_info SET status = 'TRACE_STATUS_UNSPECIFIED'",
        [(Kind.TRACE, "trace"), (Kind.EXPERIMENT, "search_traces")],
    ),
    "a trace tag is dropped": (
        "DELETE FROM trace_tags WHERE key = 'team'",
        [(Kind.TRACE, "tag team")],
    ),
    "a trace tag too many": (
        "INSERT INTO trace_tags(request_id, key, value) VALUES ('{trace}', 'x', 'y')",
        [(Kind.TRACE, "tag x")],
    ),
    "trace metadata changes": (
        "UPDATE trace_request_metadata SET value = 's-2' WHERE key = 'mlflow.trace.session'",
        [(Kind.TRACE, "metadata mlflow.trace.session")],
    ),
    "the count of spans in the size stats is wrong": (
        "UPDATE trace_request_metadata SET value = '{\"num_spans\": 2}'"
        " WHERE key = 'mlflow.trace.sizeStats'",
        [
            (Kind.TRACE, "metadata mlflow.trace.sizeStats"),
            (Kind.TRACE, "number of spans in size stats"),
        ],
    ),
    "a token metric changes": (
        "UPDATE trace_metrics SET value = 16 WHERE key = 'total_tokens'",
        [(Kind.TRACE, "token metric total_tokens")],
    ),
    "a token metric is dropped": (
        "DELETE FROM trace_metrics WHERE key = 'input_tokens'",
        [(Kind.TRACE, "token metric input_tokens")],
    ),
    "the link to the run is dropped": (
        "DELETE FROM entity_associations; UPDATE trace_request_metadata SET value = 'x'"
        " WHERE key = 'mlflow.sourceRun'",
        [(Kind.TRACE, "metadata mlflow.sourceRun"), (Kind.TRACE, "link to run {run}")],
    ),
    "an assessment changes": (
        "UPDATE assessments SET name = 'x', value = '1.0', created_timestamp = 1,"
        " last_updated_timestamp = 2, source_type = 'CODE', source_id = NULL, span_id = NULL,"
        " rationale = NULL, valid = 0, assessment_metadata = NULL, run_id = 'r', overrides = 'o'"
        " WHERE assessment_id = 'a-0'",
        [
            (Kind.ASSESSMENT, name)
            for name in (
                "name",
                "value",
                "source_type",
                "source_id",
                "create_time_ms",
                "last_update_time_ms",
                "run_id",
                "span_id",
                "rationale",
                "overrides",
                "valid",
                "metadata",
            )
        ],
    ),
    "an expectation becomes a feedback": (
        "UPDATE assessments SET assessment_type = 'feedback' WHERE assessment_id = 'a-1'",
        [(Kind.ASSESSMENT, "type")],
    ),
    "an assessment is dropped": (
        "DELETE FROM assessments WHERE assessment_id = 'a-1'",
        [(Kind.ASSESSMENT, "assessment")],
    ),
    "a trace is dropped": (
        "DELETE FROM trace_info",
        [(Kind.TRACE, "trace")],
    ),
    "a span row is dropped": (
        f"DELETE FROM spans WHERE span_id = '{CHILD}'",
        [(Kind.SPAN, "span"), (Kind.TRACE, "search_traces")],
    ),
    "the spans can't be found": (
        "DELETE FROM trace_tags WHERE key = 'mlflow.trace.spansLocation'",
        [
            (Kind.TRACE, "tag mlflow.trace.spansLocation"),
            *[(Kind.SPAN, "span")] * 3,
            (Kind.TRACE, "search_traces"),
        ],
    ),
    "every column of a span changes": (
        "UPDATE spans SET parent_span_id = NULL, name = 'x', type = 'LLM', status = 'ERROR',"
        " start_time_unix_nano = start_time_unix_nano + 1,"
        f" end_time_unix_nano = end_time_unix_nano + 1, experiment_id = 0"
        f" WHERE span_id = '{CHILD}'",
        [
            (Kind.SPAN, f"column {name}")
            for name in (
                "experiment_id",
                "parent_span_id",
                "name",
                "type",
                "status",
                "start_time_unix_nano",
                "end_time_unix_nano",
            )
        ],
    ),
}


# MLflow 3.17 and later keep these in columns of trace_info, and serve metadata from them.
FAULTS_IN_COLUMNS: dict[str, tuple[str, list[tuple[Kind, str]]]] = {
    "trace metadata changes": (
        "UPDATE trace_info SET session_id = 's-2'",
        [(Kind.TRACE, "metadata mlflow.trace.session")],
    ),
    "a token metric changes": (
        "UPDATE trace_info SET total_tokens = 16",
        [
            (Kind.TRACE, "metadata mlflow.trace.tokenUsage"),
            (Kind.TRACE, "token metric total_tokens"),
        ],
    ),
    "a token metric is dropped": (
        "UPDATE trace_info SET input_tokens = NULL",
        [(Kind.TRACE, "token metric input_tokens")],
    ),
}


def has_columns(path: Path) -> bool:
    connection = sqlite3.connect(path)
    columns = {row[1] for row in connection.execute("PRAGMA table_info(trace_info)")}
    connection.close()
    return "session_id" in columns


def ids(written: Written, text: str) -> str:
    for name, value in {
        "{run}": written.run.run_id,
        "{gone}": written.deleted_run.run_id,
        "{trace}": written.trace.trace_id,
    }.items():
        text = text.replace(name, value)
    return text


def execute(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    changes = connection.total_changes
    connection.executescript(script)
    connection.commit()
    assert connection.total_changes > changes, "the fault changed nothing"
    connection.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported_by_name(copy: Written, fault: str) -> None:
    faults = {**FAULTS, **FAULTS_IN_COLUMNS} if has_columns(copy.path) else FAULTS
    script, expected = faults[fault]
    execute(copy.path, ids(copy, script))
    found = [(item.kind, item.field) for item in compare(copy).differences]
    assert found == [(kind, ids(copy, name)) for kind, name in expected]


def change_span(path: Path, span_id: str, change: Callable[[dict[str, Any]], object]) -> None:
    connection = sqlite3.connect(path)
    select = "SELECT content FROM spans WHERE span_id = ?"
    (text,) = connection.execute(select, [span_id]).fetchone()
    content = json.loads(text)
    change(content)
    assert json.loads(text) != content
    connection.execute(
        "UPDATE spans SET content = ? WHERE span_id = ?", [json.dumps(content), span_id]
    )
    connection.commit()
    connection.close()


def bump(key: str) -> Callable[[dict[str, Any]], object]:
    """Return a change that adds 1 to an integer, whether it is stored as one or as text."""
    return lambda holder: holder.update({key: type(holder[key])(int(holder[key]) + 1)})


CONTENT_FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "starts 1 ns later": (bump("start_time_unix_nano"), "start_ns"),
    "ends 1 ns later": (bump("end_time_unix_nano"), "end_ns"),
    "is renamed": (lambda c: c.update(name="x"), "name"),
    "loses its events": (lambda c: c.update(events=[]), "events"),
    "has an event 1 ns later": (lambda c: bump("time_unix_nano")(c["events"][0]), "events"),
    "loses an event's attribute": (lambda c: c["events"][0]["attributes"].pop("n"), "events"),
    "has no error": (lambda c: c["status"].update(code="STATUS_CODE_OK"), "status"),
    "has another message": (lambda c: c["status"].update(message="x"), "status message"),
    "is of another type": (
        lambda c: c["attributes"].update({"mlflow.spanType": '"TOOL"'}),
        "type",
    ),
    "loses an attribute": (lambda c: c["attributes"].pop("model"), "attribute model"),
    "has other inputs": (
        lambda c: c["attributes"].update({"mlflow.spanInputs": '{"q": 2.0}'}),
        "attribute mlflow.spanInputs",
    ),
    "has an attribute too many": (
        lambda c: c["attributes"].update(extra='"x"'),
        "attribute extra",
    ),
}


@pytest.mark.parametrize("fault", CONTENT_FAULTS)
def test_a_fault_in_a_span_is_reported_by_name(copy: Written, fault: str) -> None:
    change, name = CONTENT_FAULTS[fault]
    change_span(copy.path, SIBLING, change)
    found = {(item.kind, item.entity_id, item.field) for item in compare(copy).differences}
    assert (Kind.SPAN, f"{TRACE}/{SIBLING}", name) in found
    assert {entity for _, entity, _ in found} == {f"{TRACE}/{SIBLING}"}


def test_two_spans_whose_parents_are_swapped_are_reported(copy: Written) -> None:
    parents: dict[str, str | None] = {}
    for span_id in (CHILD, SIBLING):
        change_span(
            copy.path,
            span_id,
            lambda c, s=span_id: (
                parents.update({s: c["parent_span_id"]}) or c.update(parent_span_id="-")
            ),  # type: ignore[misc]
        )
    change_span(copy.path, CHILD, lambda c: c.update(parent_span_id=parents[SIBLING]))
    change_span(copy.path, SIBLING, lambda c: c.update(parent_span_id=parents[CHILD]))
    assert [
        (item.entity_id, item.field, item.expected, item.found)
        for item in compare(copy).differences
    ] == [
        (f"{TRACE}/{CHILD}", "parent", repr(ROOT), repr(CHILD)),
        (f"{TRACE}/{SIBLING}", "parent", repr(CHILD), repr(ROOT)),
    ]


def test_a_span_too_many_is_reported(copy: Written) -> None:
    trace = replace(copy.trace, spans=copy.trace.spans[:2])
    result = compare(replace(copy, trace=trace))
    assert (
        Difference(Kind.SPAN, f"{TRACE}/{SIBLING}", "span", "(nothing)", "step 2")
        in result.differences
    )


def test_keys_of_our_own_are_no_difference(copy: Written) -> None:
    execute(
        copy.path,
        ids(
            copy,
            f"INSERT INTO experiment_tags(key, value, experiment_id) VALUES"
            f" ('mlflow.experimentKind', 'genai_development', {copy.experiment_id}),"
            f" ('migrator.version', '1', {copy.experiment_id});"
            "INSERT INTO trace_tags(request_id, key, value)"
            " VALUES ('{trace}', 'migrator.version', '1');",
        ),
    )
    assert compare(copy).differences == ()


def test_what_the_source_does_not_have_is_no_difference(copy: Written) -> None:
    result = compare(replace(copy, registered=replace(copy.registered, versions=())))
    assert result.differences == ()  # a version, as any other row of a database that is in use


def test_an_item_that_is_missing_everywhere_is_reported_once(copy: Written) -> None:
    comparer = open_comparer(copy.path)
    comparer.add_run(replace(copy.run, run_id="f" * 32), copy.experiment_id)
    comparer.add_trace(replace(copy.trace, trace_id="tr-none"), copy.experiment_id)
    comparer.add_experiment(replace(copy.experiment, target_id=77))
    comparer.add_logged_model(replace(copy.model, model_id="m-none"), copy.experiment_id)
    comparer.add_registered_model(replace(copy.registered, name="none", versions=()))
    comparer.add_dataset(replace(copy.dataset, digest="none"), copy.experiment_id)
    result = comparer.finish()
    assert sorted(item.kind.value for item in result.differences) == [
        "dataset",
        "experiment",
        "logged model",
        "registered model",
        "run",
        "trace",
    ]
    assert {item.found for item in result.differences} == {MISSING}


def test_an_experiment_that_took_another_keeps_its_own_fields(copy: Written) -> None:
    other = replace(copy.experiment.record, creation_ms=1)
    plan = replace(copy.experiment, record=other, merged=True, target_name="copied", tags={})
    uri = f"sqlite:///{copy.path.parent / 'x.db'}"
    shutil.copy(copy.path, copy.path.parent / "x.db")
    for joined, expected in ((True, []), (False, ["name", "creation_time"])):
        comparer = DatabaseComparer(uri, joined=joined)
        comparer.add_experiment(plan)
        fields = [item.field for item in comparer.finish().differences]
        assert [name for name in fields if not name.startswith("tag")] == expected


def test_experiment_0_may_be_the_databases_own(copy: Written) -> None:
    comparer = open_comparer(copy.path)
    plan = replace(copy.experiment, target_id=0, target_name="Default", tags={}, merged=True)
    comparer.add_experiment(plan)
    assert comparer.finish().differences == ()


def test_the_experiments_of_the_database_are_listed(copy: Written) -> None:
    comparer = open_comparer(copy.path)
    found = [(each.target_id, each.name) for each in comparer.experiments()]
    assert found == [(0, "Default"), (copy.experiment_id, "rag eval")]
    comparer.finish()


def test_a_tag_set_later_belongs_to_the_experiment(copy: Written) -> None:
    comparer = open_comparer(copy.path)
    comparer.set_experiment_tag(copy.experiment_id, "mlflow.experimentKind", "genai_development")
    comparer.add_experiment(copy.experiment)
    fields = [item.field for item in comparer.finish().differences]
    assert fields == ["tag mlflow.experimentKind"]


def test_a_tag_of_ours_may_have_the_value_that_was_there(copy: Written) -> None:
    comparer = open_comparer(copy.path)
    comparer.add_experiment(copy.experiment)
    comparer.set_experiment_tag(copy.experiment_id, "team", "another")
    assert comparer.finish().differences == ()


def test_the_second_of_two_items_with_one_id_is_not_expected(copy: Written) -> None:
    comparer = open_comparer(copy.path)
    number = copy.experiment_id
    comparer.add_run(replace(copy.deleted_run), number)
    comparer.add_run(replace(copy.deleted_run, name="of another source"), number)
    comparer.add_trace(copy.trace, number)
    comparer.add_trace(replace(copy.trace, status="OK"), number)
    result = comparer.finish()
    assert result.differences == ()
    assert result.compared[Kind.RUN] == 1


def test_a_dataset_may_come_after_its_run(copy: Written) -> None:
    script = "DELETE FROM inputs WHERE source_type = 'DATASET'"
    for fault, expected in ((None, []), (script, ["dataset inputs"])):
        if fault:
            execute(copy.path, fault)
        comparer = open_comparer(copy.path)
        comparer.add_run(copy.run, copy.experiment_id)
        comparer.add_dataset(copy.dataset, copy.experiment_id)
        assert [item.field for item in comparer.finish().differences] == expected


def test_the_list_of_differences_is_cut_and_all_are_counted(copy: Written) -> None:
    comparer = open_comparer(copy.path)
    for number in range(MAX_DIFFERENCES + 500):
        comparer.add_run(replace(copy.run, run_id=f"{number:032x}"), copy.experiment_id)
    result = comparer.finish()
    assert len(result.differences) == MAX_DIFFERENCES
    assert result.total == MAX_DIFFERENCES + 500
    assert result.compared[Kind.RUN] == MAX_DIFFERENCES + 500


def test_long_texts_are_shown_where_they_differ(copy: Written) -> None:
    long = "x" * 5000
    execute(copy.path, f"UPDATE params SET value = '{long}y' WHERE key = 'lr'")
    run = replace(copy.run, params={**PARAMS, "lr": f"{long}z"})
    (item,) = compare(replace(copy, run=run)).differences
    assert len(item.expected) < 150
    assert item.expected.endswith("xz'")
    assert item.found.endswith("xy'")


# --------------------------------------------------------------------- opening a database


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_comparing_changes_no_byte(copy: Written) -> None:
    before = digest(copy.path), sorted(copy.path.parent.iterdir())
    compare(copy)
    assert (digest(copy.path), sorted(copy.path.parent.iterdir())) == before


def test_a_database_without_experiment_0_stays_without_it(copy: Written) -> None:
    execute(copy.path, "DELETE FROM experiments WHERE experiment_id = 0")
    before = digest(copy.path)
    assert compare(copy).differences == ()
    assert digest(copy.path) == before


def test_a_missing_database_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="There is no database"):
        DatabaseComparer(f"sqlite:///{tmp_path}/none/mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_a_relative_uri_is_meant_from_the_current_directory(
    copy: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(copy.path, copy.path.parent / "mlflow.db")
    monkeypatch.chdir(copy.path.parent)
    before = sorted(copy.path.parent.iterdir())
    assert DatabaseComparer("sqlite:///mlflow.db").finish().differences == ()
    assert sorted(copy.path.parent.iterdir()) == before


@pytest.mark.parametrize(
    "revision, sentence, advice",
    [
        ("ffffffffffff", "was written by a newer MLflow than the installed", "install --upgrade"),
        ("451aebb31d03", "has the schema revision 451aebb31d03", "mlflow-migrate upgrade"),
    ],
)
def test_a_database_of_another_revision_is_refused_untouched(
    copy: Written, revision: str, sentence: str, advice: str
) -> None:
    execute(copy.path, f"UPDATE alembic_version SET version_num = '{revision}'")
    before = digest(copy.path)
    with pytest.raises(TargetError, match=sentence) as caught:
        open_comparer(copy.path)
    assert advice in str(caught.value)
    assert digest(copy.path) == before


def test_a_newer_mlflow_is_kept_from_upgrading_a_39_database(
    copy: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.store.db.utils

    execute(copy.path, "UPDATE alembic_version SET version_num = 'd3e4f5a6b7c8'; SELECT 1")
    monkeypatch.setattr(mlflow.store.db.utils, "_get_latest_schema_revision", lambda: "newer")
    with pytest.raises(TargetError, match="which would upgrade it in place") as caught:
        open_comparer(copy.path)
    assert "mlflow==3.9" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough" * 9])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(TargetError, match="is not an MLflow database"):
        DatabaseComparer(f"sqlite:///{path}")
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "uri", ["mlruns", "sqlite://", "mssql://u:s3cr3t@h/db", "sqlite:///:memory:"]
)
def test_what_names_no_sqlite_file_is_refused(uri: str) -> None:
    with pytest.raises(TargetError, match="Give the database") as caught:
        DatabaseComparer(uri)
    assert "s3cr3t" not in str(caught.value)


def test_many_runs_and_traces_are_compared_in_chunks(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_RUNS_PER_CHUNK", "_RUNS_PER_QUERY", "_DATASETS_PER_CHUNK"):
        monkeypatch.setattr(runs, name, 1)
    monkeypatch.setattr(traces, "_TRACES_PER_CHUNK", 1)
    assert compare(written).differences == ()


def test_the_spans_of_each_trace_are_read_once(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    read: list[str] = []
    original = SqlAlchemyStore.batch_get_traces

    def counted(self: Any, trace_ids: list[str], location: str | None = None) -> list[Any]:
        read.extend(trace_ids)
        found: list[Any] = original(self, trace_ids, location)
        return found

    monkeypatch.setattr(SqlAlchemyStore, "batch_get_traces", counted)
    assert compare(written).differences == ()
    assert read == [TRACE]


def test_the_result_is_told_to_people_and_to_machines(copy: Written) -> None:
    execute(copy.path, "UPDATE params SET value = '0.2' WHERE key = 'lr'")
    result = compare(copy)
    line = f"run {copy.run.run_id}, param lr: the source has '0.1', the database '0.2'"
    assert line in result.as_text().splitlines()
    assert result.as_text().endswith("\n\n1 difference.")
    assert result.as_dict()["total"] == 1
    assert result.as_dict()["differences"] == [
        {
            "kind": "run",
            "id": copy.run.run_id,
            "field": "param lr",
            "expected": "'0.1'",
            "found": "'0.2'",
        }
    ]
    assert json.loads(json.dumps(result.as_dict()))["compared"]["run"] == 2


def test_the_text_shows_twenty_differences_and_counts_the_others(copy: Written) -> None:
    comparer = open_comparer(copy.path)
    for number in range(25):
        comparer.add_run(replace(copy.run, run_id=f"{number:032x}"), copy.experiment_id)
    result = comparer.finish()
    assert "… and 5 more." in result.as_text().splitlines()
    assert "more." not in result.as_text(verbose=True)
