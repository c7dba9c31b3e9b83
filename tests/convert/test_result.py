"""What MLflow itself makes of a converted store: the rules of a trace, and every query a user asks.

The rules are those that MLflow 3.9's UI and REST layer impose on a trace; each is one test, over
every trace rebuilt or carried over from the fixtures.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import SpanStatusCode, TraceState, ViewType
from mlflow.tracing.utils import aggregate_usage_from_spans

from migrator import pipeline
from tests.support import fixturekit

pytestmark = pytest.mark.xdist_group("convert_result")

FIXTURES = [
    "2.9.2-agents",
    "2.22.5-agents",
    "2.22.5-registry-traces",
    "3.1.4-models",
    "3.5.1-genai",
]
WORKFLOW = "tr-5d0b4dd5b23040f8999074395bc93322"  # article_writer of 2.22.5-agents: three nodes
FAILED = "tr-92b814b5c56c45439b421bcbfbf108b9"  # its node "write" failed


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of the fixtures in one database."""
    directory = tmp_path_factory.mktemp("result")
    path = directory / "mlflow.db"
    # Copies: MLflow puts what it writes later where the experiment's files are.
    sources = [str(fixturekit.materialise(name, directory)) for name in FIXTURES]
    outcome = pipeline.convert(sources, f"sqlite:///{path}", pipeline.Options())
    assert outcome.ledger.gaps() == []
    return path


@pytest.fixture(scope="session")
def client(database: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{database}")


@pytest.fixture(scope="session")
def experiments(client: MlflowClient) -> dict[str, str]:
    """Experiment ids by name."""
    found = client.search_experiments(view_type=ViewType.ALL)
    return {experiment.name: experiment.experiment_id for experiment in found}


@pytest.fixture(scope="session")
def traces(client: MlflowClient, experiments: dict[str, str]) -> list[Any]:
    """Every trace of every experiment, with its spans, as MLflow's search gives them."""
    return list(_search(client, list(experiments.values())))


def _search(client: MlflowClient, locations: Sequence[str], **options: Any) -> Iterator[Any]:
    for location in locations:
        token = None
        while True:
            page = client.search_traces(
                locations=[location], max_results=200, page_token=token, **options
            )
            yield from page
            token = page.token
            if not token:
                break


@pytest.fixture(scope="session")
def rows(database: Path) -> list[dict[str, Any]]:
    """The rows of the table ``spans``, with ``content`` decoded."""
    with closing(sqlite3.connect(database)) as db:
        db.row_factory = sqlite3.Row
        found = [dict(row) for row in db.execute("SELECT * FROM spans")]
    for row in found:
        row["content"] = json.loads(row["content"])
    assert len(found) > 100
    return found


def _by_trace(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["trace_id"]].append(row)
    return groups


# ------------------------------------------------------------------------ the rules


def test_trace_and_span_ids_have_mlflows_form(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        trace_id, span_id = row["trace_id"], row["span_id"]
        assert trace_id.startswith("tr-") and len(bytes.fromhex(trace_id[3:])) == 16
        assert len(bytes.fromhex(span_id)) == 8 and int(span_id, 16) != 0
        assert base64.b64decode(row["content"]["trace_id"]).hex() == trace_id[3:]
        assert base64.b64decode(row["content"]["span_id"]).hex() == span_id


def test_a_trace_has_one_root_and_no_dangling_parent(rows: list[dict[str, Any]]) -> None:
    for trace_id, spans in _by_trace(rows).items():
        ids = {span["span_id"] for span in spans}
        assert len(ids) == len(spans), trace_id
        assert sum(span["parent_span_id"] is None for span in spans) == 1, trace_id
        assert all(s["parent_span_id"] in ids for s in spans if s["parent_span_id"]), trace_id


def test_every_span_is_closed_and_ends_after_its_start(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["end_time_unix_nano"] is not None
        assert row["end_time_unix_nano"] >= row["start_time_unix_nano"]


def test_a_rebuilt_parent_covers_its_children(
    rows: list[dict[str, Any]], traces: list[Any]
) -> None:
    rebuilt = {t.info.trace_id for t in traces if "migrator.role" in t.info.tags}
    for trace_id, spans in _by_trace(rows).items():
        by_id = {span["span_id"]: span for span in spans}
        for span in spans if trace_id in rebuilt else ():
            parent = by_id.get(span["parent_span_id"])
            if parent is not None:
                assert parent["start_time_unix_nano"] <= span["start_time_unix_nano"]
                assert parent["end_time_unix_nano"] >= span["end_time_unix_nano"]


def test_num_spans_is_the_number_of_spans(rows: list[dict[str, Any]], traces: list[Any]) -> None:
    counts = {trace_id: len(spans) for trace_id, spans in _by_trace(rows).items()}
    for trace in traces:
        stats = trace.info.trace_metadata.get("mlflow.trace.sizeStats")
        if trace.info.trace_id in counts:
            assert json.loads(stats)["num_spans"] == counts[trace.info.trace_id]


def test_spans_are_said_to_be_in_the_database(
    rows: list[dict[str, Any]], traces: list[Any]
) -> None:
    there = set(_by_trace(rows))
    for trace in traces:
        location = trace.info.tags.get("mlflow.trace.spansLocation")
        assert (location == "TRACKING_STORE") == (trace.info.trace_id in there)


def test_a_failed_span_has_an_exception_event(traces: list[Any]) -> None:
    failed = [
        span
        for trace in traces
        for span in trace.data.spans
        if span.status.status_code == SpanStatusCode.ERROR
    ]
    assert len(failed) >= 5
    for span in failed:
        events = [event for event in span.events if event.name == "exception"]
        assert events, span.name
        assert all(event.timestamp > 10**18 for event in events), "nanoseconds"


def test_values_can_be_sent_over_rest(traces: list[Any], rows: list[dict[str, Any]]) -> None:
    for trace in traces:
        trace.to_json().encode("utf-8")
        for value in trace.info.trace_metadata.values():
            assert len(value) <= 250 or not value.startswith("{"), "JSON would be cut"
        assert len(trace.info.request_preview or "") <= 1000
        assert len(trace.info.response_preview or "") <= 1000
    for row in rows:
        for text in row["content"]["attributes"].values():
            json.loads(text)


def test_span_type_and_status_are_in_columns(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        content = row["content"]
        span_type = content["attributes"].get("mlflow.spanType")
        if span_type is not None:
            assert json.loads(span_type) == row["type"]
        assert content["status"]["code"] == f"STATUS_CODE_{row['status']}"
        assert json.loads(content["attributes"]["mlflow.traceRequestId"]) == row["trace_id"]


def test_no_trace_is_left_in_progress(traces: list[Any]) -> None:
    rebuilt = [trace for trace in traces if "migrator.role" in trace.info.tags]
    assert len(rebuilt) > 50
    assert all(trace.info.state != TraceState.IN_PROGRESS for trace in rebuilt)


def test_assessments_are_as_old_as_what_they_judge(traces: list[Any]) -> None:
    judged = [trace for trace in traces if trace.info.assessments]
    assert judged
    for trace in judged:
        for assessment in trace.info.assessments:
            assert abs(assessment.create_time_ms - trace.info.request_time) < 10 * 86_400_000


def test_token_totals_are_the_sum_over_the_spans(database: Path, traces: list[Any]) -> None:
    with closing(sqlite3.connect(database)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        columns = {row[1] for row in db.execute("PRAGMA table_info(trace_info)")}
        assert "trace_metrics" in tables
        if "total_tokens" in columns:  # MLflow 3.17 and later keep them in columns
            stored = {
                (trace_id, key): value
                for key in ("input_tokens", "output_tokens", "total_tokens")
                for trace_id, value in db.execute(
                    f"SELECT request_id, {key} FROM trace_info WHERE {key} IS NOT NULL"
                )
            }
        else:
            stored = {
                (trace_id, key): value
                for trace_id, key, value in db.execute(
                    "SELECT request_id, key, value FROM trace_metrics"
                )
            }
    with_usage = 0
    for trace in traces:
        usage = aggregate_usage_from_spans(trace.data.spans)
        for key, value in (usage or {}).items():
            if key.endswith("_tokens") and not key.startswith("cache"):
                assert stored[trace.info.trace_id, key] == value, trace.info.trace_id
        if usage:
            with_usage += 1
            assert trace.info.token_usage["total_tokens"] == usage["total_tokens"]
    assert with_usage > 10


# ------------------------------------------------------------------- what users ask


def test_the_span_tree_comes_back_in_order_with_times_status_and_tokens(
    client: MlflowClient,
) -> None:
    trace = client.get_trace(WORKFLOW)
    spans = sorted(trace.data.spans, key=lambda span: span.start_time_ns)
    assert [(span.name, span.span_type) for span in spans] == [
        ("workflow_article_writer", "WORKFLOW"),
        ("research", "AGENT"),
        ("write", "LLM"),
        ("edit", "LLM"),
    ]
    root, research, write, edit = spans
    assert [span.parent_id for span in spans] == [None, *[root.span_id] * 3]
    assert all(span.status.status_code == SpanStatusCode.OK for span in spans)
    assert research.get_attribute("mlflow.chat.tokenUsage") == {
        "input_tokens": 412,
        "output_tokens": 187,
        "total_tokens": 599,
    }
    assert 2.3e9 < research.end_time_ns - research.start_time_ns < 2.5e9
    assert write.inputs is not None and write.outputs is not None
    assert edit.get_attribute("model") == edit.get_attribute("mlflow.llm.model")
    assert root.inputs["topic"].startswith("Größe")
    assert trace.info.state == TraceState.OK
    assert trace.info.token_usage["total_tokens"] == 599 + 2434 + 1742
    assert trace.info.trace_metadata["mlflow.sourceRun"] == WORKFLOW[3:]


def test_a_failure_that_the_run_hid_is_a_failure(client: MlflowClient) -> None:
    trace = client.get_trace(FAILED)
    assert trace.info.state == TraceState.ERROR
    assert client.get_run(FAILED[3:]).info.status == "FINISHED"
    failed = {s.name for s in trace.data.spans if s.status.status_code == SpanStatusCode.ERROR}
    assert failed == {"workflow_article_writer", "write"}


@pytest.mark.parametrize(
    ("experiment", "query", "least"),
    [
        ("configurable_agents", "trace.status = 'ERROR'", 2),
        ("configurable_agents", "trace.status = 'OK'", 5),
        ("configurable_agents", "tags.`migrator.profile` = 'configurable-agents'", 10),
        ("configurable_agents", "trace.name = 'workflow_article_writer'", 4),
        ("configurable_agents", "span.type = 'AGENT'", 4),
        ("configurable_agents", "span.name = 'research'", 4),
        ("configurable_agents", "span.attributes.mlflow.spanInputs LIKE '%Größe%'", 1),
        ("interviews", "metadata.`mlflow.trace.session` LIKE '9f8e7d6c%'", 3),
        ("interviews", "metadata.`mlflow.trace.user` = 'kim@example.org'", 3),
    ],
)
def test_a_search_finds_what_was_rebuilt(
    client: MlflowClient, experiments: dict[str, str], experiment: str, query: str, least: int
) -> None:
    found = list(_search(client, [experiments[experiment]], filter_string=query))
    everything = list(_search(client, [experiments[experiment]]))
    assert least <= len(found)
    assert len(found) < len(everything) or "migrator" in query or experiment == "interviews"


def test_the_page_of_every_run_of_a_workflow_lists_its_trace(
    client: MlflowClient, experiments: dict[str, str]
) -> None:
    home = experiments["configurable_agents"]
    runs = client.search_runs([home], f"tags.mlflow.parentRunId = '{WORKFLOW[3:]}'")
    assert len(runs) == 3
    for run_id in [WORKFLOW[3:], *(run.info.run_id for run in runs)]:
        found = _search(client, [home], filter_string=f"attributes.run_id = '{run_id}'")
        assert [trace.info.trace_id for trace in found] == [WORKFLOW]


def test_runs_are_found_by_params_metrics_and_tags(
    client: MlflowClient, experiments: dict[str, str]
) -> None:
    home = [experiments["configurable_agents"]]
    assert client.search_runs(home, "params.workflow_name = 'article_writer'")
    assert client.search_runs(home, "metrics.total_input_tokens > 1000")
    assert client.search_runs(home, "attributes.run_name LIKE 'article%'")
    deleted = client.search_runs(home, run_view_type=ViewType.DELETED_ONLY)
    assert {run.info.lifecycle_stage for run in deleted} == {"deleted"}


def test_a_session_is_a_trace_for_each_turn_in_order(
    client: MlflowClient, experiments: dict[str, str]
) -> None:
    turns = sorted(
        _search(client, [experiments["interviews"]]), key=lambda trace: trace.info.request_time
    )
    assert len({t.info.trace_metadata["mlflow.trace.session"] for t in turns}) == 1
    names = [t.info.tags["mlflow.traceName"].split("_")[-1] for t in turns]
    assert names == ["1", "1", "2", "2", "10", "10"]  # the same session, from two stores


def test_a_sweep_and_plain_training_runs_have_no_trace(
    client: MlflowClient, experiments: dict[str, str]
) -> None:
    home = experiments["churn model"]
    assert len(client.search_runs([home])) >= 7
    assert list(_search(client, [home])) == []


def test_an_experiment_of_traces_opens_in_the_genai_view_and_one_of_runs_does_not(
    client: MlflowClient, experiments: dict[str, str]
) -> None:
    kinds = {
        name: client.get_experiment(experiments[name]).tags.get("mlflow.experimentKind")
        for name in ("configurable_agents", "churn model", "chat")
    }
    # All live trees of "chat" have traces of MLflow's own; a deleted run is in no list.
    genai = "genai_development"
    assert kinds == {"configurable_agents": genai, "churn model": None, "chat": genai}


def test_mlflow_can_go_on_writing(database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mlflow.db"
    copy.write_bytes(database.read_bytes())
    writer = MlflowClient(f"sqlite:///{copy}")
    run = writer.create_run("0")
    writer.log_metric(run.info.run_id, "m", 1.0)
    # In a process of its own: where MLflow sends new spans is a setting of the whole process.
    code = (
        "import mlflow, sys\nmlflow.set_tracking_uri(sys.argv[1])\n"
        "with mlflow.start_span('new') as span: span.set_inputs({'q': 1})\n"
        "mlflow.flush_trace_async_logging()\nprint(mlflow.get_last_active_trace_id())"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", code, f"sqlite:///{copy}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=clean,
        cwd=tmp_path,
    )
    trace_id = done.stdout.split()[-1]
    assert writer.get_trace(trace_id).data.spans[0].name == "new"
