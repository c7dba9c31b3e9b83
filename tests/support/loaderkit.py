"""Small records, plans and databases for the loader's tests."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from migrator import conventions, empty_database, encoding
from migrator.loader import PublishOptions, Writer, Written, open_target
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

T0 = 1_714_000_000_000  # ms
NS = 1_000_000


def hex_id(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


def experiment(
    experiment_id: int = 1,
    name: str = "agents",
    tags: dict[str, str] | None = None,
    **changes: Any,
) -> ExperimentPlan:
    """``tags`` are the source's; give ``plan_tags`` for those of the plan."""
    tags = tags or {}
    record = ExperimentRecord(
        str(experiment_id), name, f"/store/{experiment_id}", "active", T0, T0 + 1, tags, "/store"
    )
    plan_tags = changes.pop("plan_tags", tags)
    return ExperimentPlan(
        record, experiment_id, name, f"/store/{experiment_id}", plan_tags, **changes
    )


def run(name: str = "run", **changes: Any) -> RunRecord:
    record = RunRecord(
        run_id=hex_id(name),
        experiment_id="1",
        name=name,
        status="FINISHED",
        start_ms=T0,
        end_ms=T0 + 5000,
        lifecycle_stage="active",
        deleted_ms=None,
        user_id="ada",
        source_type="LOCAL",
        source_name="train.py",
        source_version="abc",
        entry_point_name="main",
        artifact_uri=f"/store/1/{hex_id(name)}/artifacts",
        params={"lr": "0.1", "λ/ β": "größer\r\n"},
        tags={"mlflow.runName": name, "note": "x" * 6000},
        metrics={
            "loss": (MetricPoint(T0, 1.0, 0), MetricPoint(T0 + 1, 0.5, 1)),
            "odd": (MetricPoint(T0, float("nan"), 0), MetricPoint(T0, float("-inf"), 0)),
        },
        artifacts=(),
        texts={},
        inputs=(),
        outputs=(),
        path=f"/store/1/{hex_id(name)}",
        artifact_dir=None,
    )
    return dataclasses.replace(record, **changes)


def dataset(**changes: Any) -> DatasetRecord:
    record = DatasetRecord(
        "d" * 32, "1", "data", "1234", "local", '{"uri": "/d.csv"}', "{}", '{"rows": 2}'
    )
    return dataclasses.replace(record, **changes)


def logged_model(**changes: Any) -> LoggedModelRecord:
    record = LoggedModelRecord(
        model_id="m-" + hex_id("model"),
        experiment_id="1",
        name="model",
        artifact_location="/store/1/models/m",
        creation_ms=T0,
        last_updated_ms=T0 + 1,
        status=2,
        status_message=None,
        lifecycle_stage="active",
        model_type="agent",
        source_run_id=hex_id("run"),
        params={"p": "1"},
        tags={"t": "2"},
        metrics=(LoggedModelMetric("acc", T0, 0.5, 3, hex_id("run"), "data", "1234"),),
        path="/store/1/models/m",
        artifact_dir=None,
    )
    return dataclasses.replace(record, **changes)


def registered_model(**changes: Any) -> RegisteredModelRecord:
    version = ModelVersionRecord(
        "bot", 1, T0, T0 + 1, "first", None, None, "/m", hex_id("run"), None, None, None, None, {}
    )
    record = RegisteredModelRecord(
        "bot",
        T0,
        T0 + 2,
        "a bot",
        {"team": "a"},
        {"champion": 1},
        (
            dataclasses.replace(version, tags={"k": "v"}),
            dataclasses.replace(version, version=2, current_stage="Production"),
        ),
        "/store/models/bot",
    )
    return dataclasses.replace(record, **changes)


def span(trace_id: str, name: str, parent: SpanPlan | None, **changes: Any) -> SpanPlan:
    attributes = {
        conventions.SPAN_REQUEST_ID: encoding.encode(trace_id),
        conventions.SPAN_TYPE: encoding.encode(changes.get("type", "CHAIN")),
        **changes.pop("attributes", {}),
    }
    plan = SpanPlan(
        span_id=encoding.span_id_of(trace_id, name),
        parent_span_id=parent.span_id if parent else None,
        name=name,
        type="CHAIN",
        status="OK",
        status_message="",
        start_ns=T0 * NS,
        end_ns=(T0 + 5000) * NS,
        attributes=attributes,
    )
    return dataclasses.replace(plan, **changes)


def trace(name: str = "run", **changes: Any) -> TracePlan:
    """A workflow of four spans, one of them failed, with tokens, cost, session and feedback."""
    run_id = hex_id(name)
    trace_id = encoding.trace_id_of(run_id)
    encode = encoding.encode
    root = span(
        trace_id,
        "workflow",
        None,
        attributes={
            conventions.SPAN_INPUTS: encode({"question": "Wie heißt du?"}),
            conventions.SPAN_OUTPUTS: encode({"answer": "Ada — 世界"}),
        },
    )
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    cost = {"input_cost": 0.01, "output_cost": 0.02, "total_cost": 0.03}
    call = span(
        trace_id,
        "call",
        root,
        type="LLM",
        attributes={
            conventions.SPAN_USAGE: encode(usage),
            conventions.SPAN_MODEL: encode("gpt-4o"),
            conventions.SPAN_PROVIDER: encode("openai"),
            conventions.SPAN_COST: encode(cost),
        },
    )
    tool = span(
        trace_id,
        "tool",
        root,
        type="TOOL",
        status="ERROR",
        status_message="ValueError: boom",
        events=(
            SpanEvent(
                "exception",
                (T0 + 5) * NS,
                {
                    "exception.message": "boom",
                    "exception.type": "ValueError",
                    "exception.stacktrace": "Traceback …",
                },
            ),
        ),
    )
    inner = span(trace_id, "inner", tool, type="RETRIEVER")
    feedback = AssessmentRecord(
        f"a-{hex_id(name)}",
        "quality",
        "feedback",
        0.75,
        None,
        "LLM_JUDGE",
        "judge",
        T0 + 5000,
        T0 + 5001,
        rationale="good",
        metadata={"k": "v"},
    )
    plan = TracePlan(
        trace_id=trace_id,
        experiment_id="1",
        timestamp_ms=T0,
        execution_ms=5000,
        status="ERROR",
        name="workflow",
        client_request_id=None,
        request_preview="Wie heißt du?",
        response_preview="Ada",
        tags={
            conventions.TRACE_NAME: "workflow",
            conventions.SPANS_LOCATION: conventions.SPANS_IN_DATABASE,
            "team": "blue",
        },
        metadata={
            conventions.SCHEMA_VERSION: "3",
            conventions.SIZE_STATS: json.dumps({"total_size_bytes": 9, "num_spans": 4}),
            conventions.TRACE_SESSION: "session-1",
            conventions.TRACE_USAGE: json.dumps(usage),
            conventions.TRACE_COST: json.dumps(cost),
            conventions.SOURCE_RUN: run_id,
        },
        usage=TokenUsage(10, 5, 15),
        spans=(root, call, tool, inner),
        assessments=(feedback,),
        run_ids=(run_id,),
    )
    return dataclasses.replace(plan, **changes)


def fill(writer: Writer) -> None:
    """One of everything."""
    writer.add_experiment(experiment(0, "Default"))
    writer.add_experiment(experiment(1, tags={"team": "a"}))
    writer.add_dataset(dataset(), 1)
    writer.add_run(
        run(
            inputs=(
                InputRecord("DATASET", "d" * 32, {"mlflow.data.context": "training"}),
                InputRecord("MODEL", "m-" + hex_id("model")),
            ),
            outputs=(OutputRecord("m-" + hex_id("model"), 3),),
        ),
        1,
    )
    writer.add_run(run("child", params={}, metrics={}, status="FAILED"), 1)
    writer.add_logged_model(logged_model(), 1)
    writer.add_registered_model(registered_model())
    writer.add_trace(trace(), 1)
    writer.add_trace(trace("native", native=True, run_ids=()), 1)


@functools.cache
def _template() -> str:
    path = str(Path(tempfile.mkdtemp(prefix="mlflow-migrate-test-"), "schema.db"))
    atexit.register(shutil.rmtree, Path(path).parent, ignore_errors=True)
    empty_database.create(path)
    return path


def copy_template(path: str) -> None:
    """Make an empty database at the schema of MLflow 3.9, as ``empty_database.create`` does."""
    shutil.copyfile(_template(), path)


def load(
    path: Path,
    fill: Callable[[Writer], None] = fill,
    schema: str | None = "3.9",
    *,
    backup: bool = True,
) -> Written:
    with Writer(open_target(f"sqlite:///{path}", schema)) as writer:
        fill(writer)
        writer.finish()
        return writer.publish(PublishOptions(backup=backup))


def tables(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table of MLflow that has any, as column -> value, in a fixed order."""
    with closing(sqlite3.connect(path)) as db:
        names = [
            name
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
            if not name.startswith(("sqlite_", "migrator_"))
        ]
        found = {}
        for name in sorted(names):
            cursor = db.execute(f"SELECT * FROM {name}")
            columns = [column[0] for column in cursor.description]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor]
            if rows:
                found[name] = sorted(rows, key=lambda row: repr(sorted(row.items())))
        return found


def query(path: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql, values).fetchall()


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def names_beside(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


def codes(issues: Iterable[Any]) -> list[str]:
    return [issue.code.value for issue in issues]
