"""What the loader writes is what MLflow itself writes: row for row, column for column.

Each test logs through MLflow's public API into one database, reads it back through the client
into records, loads these into another database, and compares every table. Left out are only ids
that MLflow draws at random and times of writing that the client does not tell.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from migrator.issues import Kind
from migrator.loader import Writer
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
from tests.support.loaderkit import T0, load, query, tables

mlflow = pytest.importorskip("mlflow")
from mlflow.entities import (  # noqa: E402
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
    ViewType,
)


def experiment_plans(client: Any) -> list[ExperimentPlan]:
    found = client.search_experiments(view_type=ViewType.ALL)
    return [
        ExperimentPlan(
            ExperimentRecord(
                e.experiment_id,
                e.name,
                e.artifact_location,
                e.lifecycle_stage,
                e.creation_time,
                e.last_update_time,
                dict(e.tags),
                "",
            ),
            int(e.experiment_id),
            e.name,
            e.artifact_location,
            dict(e.tags),
        )
        for e in found
    ]


# Columns that hold an id drawn at random, a time of writing, or (3.17) how often MLflow has
# written to the trace, which is 0 for every trace of a database that was upgraded.
INCIDENTAL = {
    ("trace_info", "db_payload_generation"),
    ("entity_associations", "association_id"),
    ("entity_associations", "created_time"),
}


def comparable(path: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows, with random ids of datasets and inputs named by what they stand for."""
    found = tables(path)
    datasets = {
        row["dataset_uuid"]: f"{row['name']}/{row['digest']}" for row in found.get("datasets", [])
    }
    edges = {}
    for row in found.get("inputs", []):
        row["source_id"] = datasets.get(row["source_id"], row["source_id"])
        edges[row["input_uuid"]] = f"{row['source_id']} -> {row['destination_id']}"
    for rows in found.values():
        for row in rows:
            for column in ("dataset_uuid", "input_uuid"):
                if column in row:
                    names = datasets if column == "dataset_uuid" else edges
                    row[column] = names.get(row[column], row[column])
    for table, column in INCIDENTAL:
        for row in found.get(table, []):
            row.pop(column, None)
    for row in found.get("spans", []):
        # MLflow 3.9 escapes non-ASCII letters, so that its search doesn't find them; 3.17 and we
        # don't. 3.17 adds an empty list of links, which a span of 3.9 lacks. Else it is the same
        # text, the order of keys too.
        content = json.loads(row["content"])
        assert content.pop("links", []) == []
        row["content"] = json.dumps(content)
    return {
        table: sorted(rows, key=lambda row: json.dumps(row, sort_keys=True, default=str))
        for table, rows in found.items()
    }


def assert_same_rows(theirs: Path, ours: Path) -> None:
    expected, actual = comparable(theirs), comparable(ours)
    assert list(actual) == list(expected)
    for table in expected:
        assert len(actual[table]) == len(expected[table]), table
        differences = [
            (table, column, row[column], ours_row.get(column))
            for row, ours_row in zip(expected[table], actual[table], strict=True)
            for column in row
            if row.keys() != ours_row.keys() or row[column] != ours_row[column]
        ]
        assert differences == []


@pytest.fixture
def database(tmp_path: Path) -> Any:
    """A database that MLflow made, as tracking and registry store of this process."""
    path = tmp_path / "theirs.db"
    uri = f"sqlite:///{path}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield path
    finally:
        mlflow.set_tracking_uri(before)
        mlflow.set_registry_uri(None)
        os.environ.pop("MLFLOW_REGISTRY_URI", None)  # set as well, and not unset by None


def test_a_workflow_logged_by_mlflow_tracing_and_by_the_loader_is_the_same_rows(
    database: Path, tmp_path: Path
) -> None:
    client = mlflow.MlflowClient()
    experiment_id = client.create_experiment("agents", str(tmp_path / "artifacts"))
    mlflow.set_experiment(experiment_id=experiment_id)
    with mlflow.start_run() as active:
        prompts = {"messages": [{"role": "user", "content": "Grüße, 世界 🎉"}]}
        with mlflow.start_span("workflow", span_type="AGENT") as root:
            root.set_inputs(prompts)
            mlflow.update_current_trace(
                tags={"team": "blau"},
                metadata={"mlflow.trace.session": "s-1", "mlflow.trace.user": "ada", "note": "n"},
            )
            with mlflow.start_span("call", span_type="LLM", attributes={"temperature": 0.1}) as s:
                s.set_inputs(prompts)
                s.set_attribute(
                    "mlflow.chat.tokenUsage",
                    {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
                )
                s.set_attribute("mlflow.llm.model", "gpt-4o")
                s.set_attribute("mlflow.llm.provider", "openai")
                s.set_attribute("mlflow.llm.cost", {"input_cost": 0.1, "total_cost": 0.3})
                with mlflow.start_span("deep", span_type="RETRIEVER") as deep:
                    deep.set_outputs([{"page_content": "a", "metadata": {"k": [1, None, True]}}])
                s.set_outputs("ok")
            with (
                pytest.raises(ValueError, match="boom"),
                mlflow.start_span("tool", span_type="TOOL"),
            ):
                raise ValueError("boom ü")
            root.set_outputs({"answer": None})
        with mlflow.start_span("second") as span:
            span.set_status("ERROR")
    mlflow.flush_trace_async_logging()
    trace_id = root.trace_id
    mlflow.log_feedback(
        trace_id=trace_id, name="quality", value=0.5, rationale="so so", metadata={"k": "ü"}
    )
    mlflow.log_feedback(trace_id=trace_id, name="judge", error=ValueError("no answer"))
    mlflow.log_expectation(
        trace_id=trace_id, name="facts", value=["é", {"a": 1}], span_id=root.span_id
    )
    traces = client.search_traces(locations=[experiment_id], include_spans=True)
    assert sorted(len(t.data.spans) for t in traces) == [1, 4]

    def fill(writer: Writer) -> None:
        for plan in experiment_plans(client):
            writer.add_experiment(plan)
        writer.add_run(run_record(client, database, active.info.run_id), int(experiment_id))
        for trace in traces:
            writer.add_trace(trace_plan(trace, active.info.run_id), int(experiment_id))

    client.link_traces_to_run([trace_id], active.info.run_id)
    ours = tmp_path / "ours.db"
    load(ours, fill, schema="latest")
    assert_same_rows(database, ours)


def trace_plan(trace: Any, run_id: str) -> TracePlan:
    info = trace.info
    usage = info.token_usage or {}
    linked = any(span.name == "workflow" for span in trace.data.spans)
    return TracePlan(
        trace_id=info.trace_id,
        experiment_id=info.experiment_id,
        timestamp_ms=info.request_time,
        execution_ms=info.execution_duration,
        status=info.state.value,
        name=info.tags.get("mlflow.traceName"),
        client_request_id=info.client_request_id,
        request_preview=info.request_preview,
        response_preview=info.response_preview,
        tags=dict(info.tags),
        metadata=dict(info.trace_metadata),
        usage=TokenUsage(
            usage.get("input_tokens"), usage.get("output_tokens"), usage.get("total_tokens")
        ),
        spans=tuple(span_plan(span) for span in trace.data.spans),
        assessments=tuple(assessment_record(a) for a in info.assessments),
        run_ids=(run_id,) if linked else (),
        native=True,
    )


def span_plan(span: Any) -> SpanPlan:
    return SpanPlan(
        span_id=span.span_id,
        parent_span_id=span.parent_id,
        name=span.name,
        type=span.span_type,
        status=span.status.status_code.value,
        status_message=span.status.description,
        start_ns=span.start_time_ns,
        end_ns=span.end_time_ns,
        attributes=span.to_dict()["attributes"],
        events=tuple(SpanEvent(e.name, e.timestamp, dict(e.attributes)) for e in span.events),
    )


def assessment_record(found: Any) -> AssessmentRecord:
    feedback, error = found.feedback, None
    if feedback is not None and feedback.error is not None:
        error = feedback.error.to_dictionary()
    return AssessmentRecord(
        assessment_id=found.assessment_id,
        name=found.name,
        type="feedback" if feedback is not None else "expectation",
        value=feedback.value if feedback is not None else found.expectation.value,
        error=error,
        source_type=found.source.source_type,
        source_id=found.source.source_id,
        created_ms=found.create_time_ms,
        last_updated_ms=found.last_update_time_ms,
        run_id=found.run_id,
        span_id=found.span_id,
        rationale=found.rationale,
        overrides=found.overrides,
        valid=found.valid is not False,
        metadata=found.metadata,
    )


def run_record(client: Any, database: Path, run_id: str) -> RunRecord:
    run = client.get_run(run_id)
    [(source_type, source_name, deleted_ms)] = query(
        database,
        "SELECT source_type, source_name, deleted_time FROM runs WHERE run_uuid = ?",
        run_id,
    )
    keys = run.data.metrics
    return RunRecord(
        run_id=run_id,
        experiment_id=run.info.experiment_id,
        name=run.info.run_name,
        status=run.info.status,
        start_ms=run.info.start_time,
        end_ms=run.info.end_time,
        lifecycle_stage=run.info.lifecycle_stage,
        deleted_ms=deleted_ms,
        user_id=run.info.user_id,
        source_type=source_type,
        source_name=source_name,
        source_version="",
        entry_point_name="",
        artifact_uri=run.info.artifact_uri,
        params=run.data.params,
        tags=run.data.tags,
        metrics={
            key: tuple(
                MetricPoint(m.timestamp, m.value, m.step)
                for m in client.get_metric_history(run_id, key)
            )
            for key in keys
        },
        artifacts=(),
        texts={},
        inputs=(
            *(
                InputRecord(
                    "DATASET",
                    f"{i.dataset.name}-{i.dataset.digest}",
                    {t.key: t.value for t in i.tags},
                )
                for i in run.inputs.dataset_inputs
            ),
            *(InputRecord("MODEL", i.model_id) for i in run.inputs.model_inputs),
        ),
        outputs=tuple(OutputRecord(o.model_id, o.step) for o in run.outputs.model_outputs)
        if run.outputs
        else (),
        path="",
        artifact_dir=None,
    )


def test_runs_datasets_models_and_the_registry_are_the_same_rows(
    database: Path, tmp_path: Path
) -> None:
    client = mlflow.MlflowClient()
    experiment_id = client.create_experiment(
        "größe/λ", str(tmp_path / "artifacts"), tags={"team": "a", "mlflow.note.content": "ü\r\n"}
    )
    gone = client.create_experiment("gone", str(tmp_path / "gone"))
    client.delete_experiment(gone)
    run_id = client.create_run(experiment_id, T0, {"mlflow.user": "ada"}, "first").info.run_id
    points = [
        Metric("loss", 1.0, T0, 0),
        Metric("loss", 0.5, T0 + 9, 2),
        Metric("loss", 0.7, T0 + 5, 2),
        Metric("loss", 0.5, T0 + 9, 2),
        Metric("late", 3.0, T0 + 5, 1),
        Metric("late", 7.0, T0, 5),
        Metric("nan", float("nan"), T0, 0),
        Metric("nan", -1.0, T0, 0),
        Metric("inf", float("inf"), T0, -3),
        Metric("inf", float("-inf"), T0, -4),
        Metric("a/b c", -0.0, T0, 0),
    ]
    client.log_batch(
        run_id,
        metrics=points,
        params=[Param("p", "1"), Param("λ/é", "x" * 6000), Param("empty", "")],
        tags=[RunTag("t", "y" * 7000), RunTag("mlflow.parentRunId", "f" * 32)],
    )
    data = DatasetInput(
        Dataset("data", "abc123", "local", '{"uri": "d"}', "{}", '{"rows": 1}'),
        [InputTag("mlflow.data.context", "training"), InputTag("k", "v")],
    )
    bare = DatasetInput(Dataset("bare", "def", "code", "{}"), [])
    client.log_inputs(run_id, [data, bare])
    client.set_terminated(run_id, "FINISHED", T0 + 100)
    other = client.create_run(experiment_id, T0 + 1, {}, "second").info.run_id
    client.log_inputs(other, [data])
    client.set_terminated(other, "KILLED", T0 + 101)
    deleted = client.create_run(experiment_id, T0 + 2, {}, "third").info.run_id
    client.delete_run(deleted)

    model = client.create_logged_model(
        experiment_id,
        name="bot",
        source_run_id=run_id,
        tags={"mt": "1"},
        params={"mp": "2"},
        model_type="agent",
    )
    client.finalize_logged_model(model.model_id, "READY")
    client.log_metric(run_id, "acc", 0.25, timestamp=T0, step=4, model_id=model.model_id)
    client.log_metric(
        run_id,
        "acc",
        0.5,
        timestamp=T0 + 1,
        step=5,
        model_id=model.model_id,
        dataset_name="data",
        dataset_digest="abc123",
    )
    client.log_inputs(other, models=[LoggedModelInput(model.model_id)])
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 4)])
    model = client.get_logged_model(model.model_id)

    client.create_registered_model("bot", {"rt": "1"}, "a bot")
    for number, stage in ((1, "None"), (2, "Production")):
        client.create_model_version(
            "bot", f"/models/{number}", run_id, {"vt": "ü" * 300}, description=f"v{number}"
        )
        if stage != "None":
            client.transition_model_version_stage("bot", str(number), stage)
    client.set_registered_model_alias("bot", "champion", "2")

    run_ids = [run_id, other, deleted]
    found = {i: run_record(client, database, i) for i in run_ids}
    as_logged: dict[str, tuple[MetricPoint, ...]] = {}  # the client tells infinities otherwise
    for p in points:
        point = MetricPoint(p.timestamp, p.value, p.step)
        as_logged[p.key] = (*as_logged.get(p.key, ()), point)
    metrics = {**found[run_id].metrics, **as_logged}
    found[run_id] = dataclasses.replace(found[run_id], metrics=metrics)

    def fill(writer: Writer) -> None:
        for plan in experiment_plans(client):
            writer.add_experiment(plan)
        for each in (data, bare):
            d = each.dataset
            writer.add_dataset(
                DatasetRecord(
                    f"{d.name}-{d.digest}",
                    experiment_id,
                    d.name,
                    d.digest,
                    d.source_type,
                    d.source,
                    d.schema,
                    d.profile,
                ),
                int(experiment_id),
            )
        for record in found.values():
            writer.add_run(record, int(experiment_id))
        writer.add_logged_model(
            LoggedModelRecord(
                model_id=model.model_id,
                experiment_id=model.experiment_id,
                name=model.name,
                artifact_location=model.artifact_location,
                creation_ms=model.creation_timestamp,
                last_updated_ms=model.last_updated_timestamp,
                status=model.status.to_int(),
                status_message=model.status_message,
                lifecycle_stage="active",
                model_type=model.model_type,
                source_run_id=model.source_run_id,
                params=model.params,
                tags=model.tags,
                metrics=tuple(
                    LoggedModelMetric(
                        m.key,
                        m.timestamp,
                        m.value,
                        m.step,
                        m.run_id,
                        m.dataset_name,
                        m.dataset_digest,
                    )
                    for m in model.metrics
                ),
                path="",
                artifact_dir=None,
            ),
            int(experiment_id),
        )
        writer.add_registered_model(registered_record(client))

    ours = tmp_path / "ours.db"
    result = load(ours, fill, schema="latest")
    assert result.issues == []
    assert result.merged == {Kind.METRIC_POINT: 1}
    assert_same_rows(database, ours)


def registered_record(client: Any) -> RegisteredModelRecord:
    found = client.get_registered_model("bot")
    return RegisteredModelRecord(
        found.name,
        found.creation_timestamp,
        found.last_updated_timestamp,
        found.description,
        found.tags,
        {alias: int(version) for alias, version in found.aliases.items()},
        tuple(
            ModelVersionRecord(
                v.name,
                int(v.version),
                v.creation_timestamp,
                v.last_updated_timestamp,
                v.description,
                v.user_id,
                v.current_stage,
                v.source,
                v.run_id,
                v.status,
                v.status_message,
                v.run_link,
                client.get_model_version_download_uri(v.name, v.version),
                v.tags,
            )
            for v in client.search_model_versions("name='bot'")
        ),
        "",
    )


def test_the_comparison_sees_a_single_changed_value(database: Path, tmp_path: Path) -> None:
    client = mlflow.MlflowClient()
    run_id = client.create_run("0", T0, {}, "r").info.run_id
    client.log_metric(run_id, "m", 1.0, T0, 1)
    record = run_record(client, database, run_id)
    wrong = dataclasses.replace(record, metrics={"m": (MetricPoint(T0, 1.5, 1),)})

    def fill(writer: Writer) -> None:
        for plan in experiment_plans(client):
            writer.add_experiment(plan)
        writer.add_run(wrong, 0)

    ours = tmp_path / "ours.db"
    load(ours, fill, schema="latest")
    with pytest.raises(AssertionError):
        assert_same_rows(database, ours)
