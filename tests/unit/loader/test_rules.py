"""The rules of a trace in MLflow's database, each on what the loader has written.

Read through MLflow's client where MLflow can tell it, on the schema of the installed MLflow.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrator.loader import Writer, open_target, schema
from tests.support.loaderkit import NS, T0, experiment, fill, hex_id, load, query, run, trace

pytestmark = pytest.mark.xdist_group("unit_loader_rules")

mlflow = pytest.importorskip("mlflow")

TRACE_ID = trace().trace_id


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "mlflow.db"
    load(path, schema="latest")
    return path


@pytest.fixture(scope="module")
def client(path: Path) -> Iterator[Any]:
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{path}"
    mlflow.set_tracking_uri(uri)  # get_trace asks the global store for the spans
    yield mlflow.MlflowClient(uri, uri)
    mlflow.set_tracking_uri(before)


def found(client: Any, filter_string: str) -> list[str]:
    traces = client.search_traces(locations=["1"], filter_string=filter_string)
    return sorted(t.info.trace_id for t in traces)


def contents(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for (text,) in query(path, "SELECT content FROM spans")]


def test_ids_have_mlflows_form(path: Path) -> None:
    for (trace_id,) in query(path, "SELECT request_id FROM trace_info"):
        assert trace_id.startswith("tr-")
        assert len(bytes.fromhex(trace_id[3:])) == 16
    for (span_id,) in query(path, "SELECT span_id FROM spans"):
        assert len(bytes.fromhex(span_id)) == 8


def test_ids_inside_the_content_are_base64_of_the_same_bytes(path: Path) -> None:
    for trace_id, span_id, text in query(path, "SELECT trace_id, span_id, content FROM spans"):
        content = json.loads(text)
        assert base64.b64decode(content["trace_id"]) == bytes.fromhex(trace_id[3:])
        assert base64.b64decode(content["span_id"]) == bytes.fromhex(span_id)


def test_each_trace_has_one_root_and_no_dangling_parent(path: Path) -> None:
    roots = query(path, "SELECT count(*) FROM spans WHERE parent_span_id IS NULL GROUP BY trace_id")
    assert roots == [(1,), (1,)]
    assert not query(
        path,
        "SELECT 1 FROM spans AS s WHERE parent_span_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM "
        "spans AS p WHERE p.trace_id = s.trace_id AND p.span_id = s.parent_span_id)",
    )


def test_every_span_is_closed(path: Path) -> None:
    assert not query(
        path,
        "SELECT 1 FROM spans WHERE end_time_unix_nano IS NULL "
        "OR end_time_unix_nano < start_time_unix_nano OR duration_ns IS NULL",
    )


def test_num_spans_is_the_number_of_span_rows(path: Path) -> None:
    for value, n in query(
        path,
        "SELECT value, (SELECT count(*) FROM spans WHERE trace_id = request_id) "
        "FROM trace_request_metadata WHERE key = 'mlflow.trace.sizeStats'",
    ):
        assert json.loads(value)["num_spans"] == n == 4


def test_spans_are_said_to_be_in_the_database(client: Any, path: Path) -> None:
    assert query(
        path, "SELECT DISTINCT value FROM trace_tags WHERE key = 'mlflow.trace.spansLocation'"
    ) == [("TRACKING_STORE",)]
    assert len(client.get_trace(TRACE_ID).data.spans) == 4


def test_usage_is_in_the_metrics_and_in_the_metadata(client: Any, path: Path) -> None:
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    assert client.get_trace(TRACE_ID).info.token_usage == usage
    if schema.chain()[-1] == schema.MLFLOW_39:
        sql = "SELECT key, value FROM trace_metrics WHERE request_id = ?"
        assert dict(query(path, sql, TRACE_ID)) == usage


def test_a_failed_span_has_the_status_and_an_exception_event(client: Any) -> None:
    [failed] = [s for s in client.get_trace(TRACE_ID).data.spans if s.name == "tool"]
    assert failed.status.status_code.value == "ERROR"
    assert failed.status.description == "ValueError: boom"
    [event] = failed.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "ValueError"
    assert event.timestamp == (T0 + 5) * NS


def test_tools_and_their_status_are_in_columns(path: Path) -> None:
    sql = "SELECT status FROM spans WHERE type = 'TOOL' AND trace_id = ?"
    assert query(path, sql, TRACE_ID) == [("ERROR",)]


def test_assessments_have_their_own_time(client: Any, path: Path) -> None:
    assert query(
        path, "SELECT DISTINCT created_timestamp, last_updated_timestamp FROM assessments"
    ) == [(T0 + 5000, T0 + 5001)]
    [assessment] = client.get_trace(TRACE_ID).info.assessments
    assert assessment.feedback.value == 0.75
    assert assessment.create_time_ms == T0 + 5000


def test_every_span_names_its_trace_in_json_text(path: Path) -> None:
    for content in contents(path):
        trace_id = json.loads(content["attributes"]["mlflow.traceRequestId"])
        assert bytes.fromhex(trace_id[3:]) == base64.b64decode(content["trace_id"])


def test_the_root_has_a_parent_key_that_is_null(path: Path) -> None:
    assert sum(c["parent_span_id"] is None for c in contents(path)) == 2
    assert all(c["status"]["code"].startswith("STATUS_CODE_") for c in contents(path))


def test_the_span_tree_inputs_outputs_and_times_come_back(client: Any) -> None:
    got = client.get_trace(TRACE_ID)
    by_id = {s.span_id: s for s in got.data.spans}
    tree = {s.name: s.parent_id and by_id[s.parent_id].name for s in got.data.spans}
    assert tree == {"workflow": None, "call": "workflow", "tool": "workflow", "inner": "tool"}
    [root] = [s for s in got.data.spans if s.parent_id is None]
    assert root.inputs == {"question": "Wie heißt du?"}
    assert root.outputs == {"answer": "Ada — 世界"}
    assert (root.start_time_ns, root.end_time_ns) == (T0 * NS, (T0 + 5000) * NS)
    assert got.info.request_time == T0
    assert got.info.execution_duration == 5000
    assert got.info.state.value == "ERROR"
    assert got.info.request_preview == "Wie heißt du?"


@pytest.mark.parametrize(
    ("filter_string", "count"),
    [
        ("trace.status = 'ERROR'", 2),
        ("trace.status = 'OK'", 0),
        ("trace.name = 'workflow'", 2),
        ("trace.name = 'other'", 0),
        ("tags.team = 'blue'", 2),
        ("tags.team = 'red'", 0),
        ("metadata.mlflow.trace.session = 'session-1'", 2),
        ("metadata.mlflow.trace.session = 'session-2'", 0),
        ("span.type = 'TOOL'", 2),
        ("span.type = 'AGENT'", 0),
        ("span.name = 'call'", 2),
        ("span.attributes.mlflow.spanInputs ILIKE '%heißt%'", 2),
        ("span.attributes.mlflow.spanInputs ILIKE '%nichts%'", 0),
        ("feedback.quality = '0.75'", 2),
        (f"timestamp_ms = {T0}", 2),
    ],
)
def test_filters_find_the_traces(client: Any, filter_string: str, count: int) -> None:
    assert len(found(client, filter_string)) == count


def test_the_run_page_finds_the_runs_trace(client: Any) -> None:
    assert found(client, f"attributes.run_id = '{hex_id('run')}'") == [TRACE_ID]


def test_runs_with_their_values_come_back(client: Any) -> None:
    runs = client.search_runs(["1"], filter_string="params.lr = '0.1'")
    assert [r.info.run_id for r in runs] == [hex_id("run")]
    [first] = runs
    assert first.data.params == {"lr": "0.1", "λ/ β": "größer\r\n"}
    assert first.data.metrics["loss"] == 0.5
    assert [m.value for m in client.get_metric_history(hex_id("run"), "loss")] == [1.0, 0.5]
    first = client.get_run(hex_id("run"))  # a search leaves models out
    assert first.inputs.dataset_inputs[0].dataset.name == "data"
    assert first.inputs.dataset_inputs[0].tags[0].value == "training"
    assert first.inputs.model_inputs[0].model_id == "m-" + hex_id("model")
    assert first.outputs.model_outputs[0].step == 3
    killed = client.search_runs(["1"], filter_string="attributes.status = 'FAILED'")
    assert [r.info.run_name for r in killed] == ["child"]


def test_models_and_the_registry_come_back(client: Any) -> None:
    model = client.get_logged_model("m-" + hex_id("model"))
    assert (model.name, model.params, model.tags) == ("model", {"p": "1"}, {"t": "2"})
    assert [(m.key, m.value, m.dataset_name) for m in model.metrics] == [("acc", 0.5, "data")]
    assert client.get_model_version_by_alias("bot", "champion").version in (1, "1")
    stages = {int(v.version): v.current_stage for v in client.search_model_versions("name='bot'")}
    assert stages == {1: "None", 2: "Production"}


@pytest.mark.skipif(schema.chain()[-1] == schema.MLFLOW_39, reason="needs MLflow 3.10 or newer")
def test_newer_schemas_get_a_spans_model_provider_and_cost(path: Path) -> None:
    columns = "model_name, model_provider, input_cost, output_cost, total_cost"
    assert (
        query(path, f"SELECT {columns} FROM spans WHERE name = 'call'")
        == [("gpt-4o", "openai", 0.01, 0.02, 0.03)] * 2
    )
    assert query(path, f"SELECT DISTINCT {columns} FROM spans WHERE name <> 'call'") == [
        (None,) * 5
    ]
    assert query(
        path, "SELECT DISTINCT trace_name, session_id, total_tokens, total_cost FROM trace_info"
    ) == [("workflow", "session-1", 15, 0.03)]


def test_mlflow_opens_a_store_whose_default_experiment_has_another_id(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"

    def default_elsewhere(writer: Writer) -> None:
        writer.add_experiment(experiment(12345, "Default"))
        writer.add_run(run(), 12345)

    result = load(path, default_elsewhere, schema="latest")
    client = mlflow.MlflowClient(f"sqlite:///{path}")
    assert client.get_experiment_by_name("Default").experiment_id == "12345"
    assert len(client.search_runs(["12345"])) == 1
    assert [e.experiment_id for e in client.search_experiments()] == ["12345"]
    assert [i.code.value for i in result.issues] == ["load-default-added"]
    assert sum(result.converted.values()) == 1 + 1 + 2 + 4 + 2


def test_without_that_placeholder_mlflow_could_not_open_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writer, "_placeholder", lambda self: [])
    path = tmp_path / "mlflow.db"
    load(path, lambda w: w.add_experiment(experiment(12345, "Default")), schema="latest")
    with pytest.raises(mlflow.MlflowException, match="UNIQUE"):
        mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()


def test_mlflow_writes_on_into_what_was_converted(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with Writer(open_target(f"sqlite:///{path}", "latest")) as writer:
        fill(writer)
        writer.finish()
        writer.publish()
    client = mlflow.MlflowClient(f"sqlite:///{path}")
    new = client.create_run("1")
    client.log_metric(new.info.run_id, "m", 1.0)
    client.log_metric(hex_id("run"), "loss", 0.25, step=9)
    client.set_trace_tag(TRACE_ID, "team", "red")
    assert client.create_experiment("next") not in ("0", "1")
    assert client.get_run(hex_id("run")).data.metrics["loss"] == 0.25
