"""MLflow's scorers judge migrated and new traces alike: deterministic, offline, no gateway."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import SpanType
from mlflow.exceptions import MlflowException
from mlflow.genai import evaluate, make_judge, scorer
from mlflow.genai.scorers import ScorerSamplingConfig

from migrator import pipeline
from tests.support import fixturekit, trackerkit

MINI = "gpt-4o-mini"
EXAMPLES = Path(__file__).resolve().parent.parent.parent / "docs" / "examples"


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_GENAI_EVAL_SKIP_TRACE_VALIDATION", "true")
    with trackerkit.restored():
        yield


@scorer  # type: ignore[untyped-decorator,unused-ignore]  # mlflow is not typed
def answers(outputs: Any) -> bool:
    """Whether the workflow came to anything."""
    return bool(outputs)


@scorer  # type: ignore[untyped-decorator,unused-ignore]
def nodes_with_tokens(trace: Any) -> int:
    """How many nodes say what they used."""
    return sum(
        span.get_attribute("mlflow.chat.tokenUsage") is not None
        for span_type in (SpanType.LLM, SpanType.AGENT)
        for span in trace.search_spans(span_type=span_type)
    )


def scores(uri: str) -> dict[str, list[Any]]:
    """Judge every trace named workflow_translate; return what was written on each, by scorer."""
    mlflow.set_tracking_uri(uri)
    found = mlflow.set_experiment(trackerkit.EXPERIMENT)
    client = MlflowClient(uri)
    options: dict[str, Any] = {
        "locations": [found.experiment_id], "filter_string": "trace.name = 'workflow_translate'",
    }  # fmt: skip
    traces = list(client.search_traces(**options))
    assert len(traces) == 2
    result = evaluate(data=traces, scorers=[answers, nodes_with_tokens])
    assert result.metrics["answers/mean"] == 1.0
    assert result.metrics["nodes_with_tokens/mean"] == 1.0
    return {
        name: sorted(
            assessment.feedback.value
            for trace in client.search_traces(**options)
            for assessment in trace.info.assessments
            if assessment.name == name
        )
        for name in ("answers", "nodes_with_tokens")
    }


def test_scorers_give_migrated_and_new_traces_the_same_marks(tmp_path: Path) -> None:
    migrated = f"sqlite:///{tmp_path / 'migrated.db'}"
    source = str(fixturekit.store("2.22.5-agents"))
    options = pipeline.Options(experiments=(trackerkit.EXPERIMENT,))
    pipeline.convert([source], migrated, options)
    track = trackerkit.tracker(tmp_path, "translate")
    for text in ("Guten Tag", "Gute Nacht"):
        with track.track_workflow({"text": text}):
            with track.track_node("translate", MINI):
                track.log_node_metrics(20, 5, MINI, 0, text, "Good ...")
            track.finalize_workflow({"text": "Good ..."})
    assert track.flush(120)
    marks = scores(migrated)
    assert marks == scores(str(track.config.tracking_uri))
    assert marks == {"answers": [True, True], "nodes_with_tokens": [1, 1]}


def test_monitor_judges_each_trace_once_also_in_a_database_with_history(tmp_path: Path) -> None:
    """As ``docs/examples/monitor.py`` does it, beside migrated traces."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    pipeline.convert(
        [str(fixturekit.store("2.22.5-agents"))], uri,
        pipeline.Options(experiments=(trackerkit.EXPERIMENT,)),
    )  # fmt: skip
    judge_new = runpy.run_path(str(EXAMPLES / "monitor.py"))["judge_new"]
    history = len(trackerkit.stored(uri))
    assert judge_new(uri, trackerkit.EXPERIMENT) == history > 5
    assert judge_new(uri, trackerkit.EXPERIMENT) == 0

    track = trackerkit.tracker(tmp_path, "dear", tracking_uri=uri)
    with track.track_workflow({}):
        with track.track_node("a", "gpt-4o"):
            track.log_node_metrics(1_000_000, 10, "gpt-4o", 0, "p", "r")
        track.finalize_workflow({"text": "Good ..."})
    assert track.flush(120)
    assert judge_new(uri, trackerkit.EXPERIMENT) == 1
    (dear,) = [t for t in trackerkit.stored(uri) if t.info.trace_id == track.last_trace_id]
    marks = {a.name: a.feedback.value for a in dear.info.assessments}
    assert (marks["answered"], marks["within_budget"]) == (True, False)


def test_mlflows_own_monitoring_wants_a_gateway(tmp_path: Path) -> None:
    """Why the example is no ``scorer.start``. When this fails, MLflow allows more: use it."""
    mlflow.set_tracking_uri(trackerkit.database(tmp_path))
    mlflow.set_experiment(trackerkit.EXPERIMENT)
    with pytest.raises(MlflowException, match="outside of Databricks"):
        answers.register(name="answers")
    judge = make_judge(
        name="polite", instructions="Is {{ outputs }} polite?", model="openai:/gpt-4o-mini",
        feedback_value_type=bool,
    ).register()  # fmt: skip
    with pytest.raises(MlflowException, match="does not use a gateway model"):
        judge.start(sampling_config=ScorerSamplingConfig(sample_rate=1.0))
