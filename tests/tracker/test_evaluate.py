"""``mlflow.genai.evaluate`` over a tracked workflow, and MLflow's own switches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.genai import evaluate, scorer

from migrator.tracker import MLFlowTracker
from tests.support import trackerkit
from tests.support.trackerkit import only, tracker

MINI = "gpt-4o-mini"


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield


@scorer  # type: ignore[untyped-decorator,unused-ignore]  # mlflow is not typed
def is_right(outputs: Any, expectations: Any) -> bool:
    """Whether the answer is the expected one."""
    return bool(outputs["answer"] == expectations["wanted"])


@scorer  # type: ignore[untyped-decorator,unused-ignore]
def span_count(trace: Any) -> int:
    """How many spans the scorer is shown."""
    return len(trace.data.spans)


def workflow(track: MLFlowTracker, topic: str) -> dict[str, str]:
    with track.track_workflow({"topic": topic}):
        with track.track_node("answer", MINI):
            track.log_node_metrics(10, 5, MINI, prompt=topic, response="r")
        track.finalize_workflow({"answer": topic.upper()})
    return {"answer": topic.upper()}


@pytest.mark.parametrize("in_background", [True, False])
def test_workflow_is_evaluated_with_its_whole_trace(in_background: bool, tmp_path: Path) -> None:
    track = tracker(tmp_path, async_logging=in_background)
    topics = ["a", "b", "c", "d"]
    result = evaluate(
        data=[{"inputs": {"topic": t}, "expectations": {"wanted": t.upper()}} for t in topics],
        predict_fn=lambda topic: workflow(track, topic),
        scorers=[is_right, span_count],
    )
    assert result.metrics == {"is_right/mean": 1.0, "span_count/mean": 2.0}
    found = trackerkit.traces(track)
    assert sorted(trace.data.spans[0].inputs["topic"] for trace in found) == topics
    for trace in found:
        marks = {a.name: a.value for a in trace.info.assessments}
        assert (marks["is_right"], marks["span_count"], marks["total_tokens"]) == (True, 2, 15)
    assert track.status().errors == 0


def test_mlflows_flush_waits_for_the_trackers_queue(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    for index in range(5):
        workflow(track, str(index))
        mlflow.flush_trace_async_logging()
        assert track.status().pending == 0
        mlflow.log_feedback(trace_id=str(track.last_trace_id), name="helpful", value=index > 1)
    marks = [
        assessment.value
        for trace in trackerkit.traces(track)
        for assessment in trace.info.assessments
        if assessment.name == "helpful"
    ]
    assert marks == [False, False, True, True, True]


def test_tracing_that_is_switched_off_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    track = tracker(tmp_path)
    mlflow.tracing.disable()
    try:
        assert workflow(track, "a") == {"answer": "A"}
        assert track.headers() == {}
        assert track.status().errors == 0
        assert not [
            record
            for record in caplog.records
            if record.levelname in ("WARNING", "ERROR") and not record.name.startswith("urllib3")
        ]  # trackers of earlier tests may still try their servers
    finally:
        mlflow.tracing.enable()
    workflow(track, "b")
    assert only(track).data.spans[0].inputs == {"topic": "b"}
