"""Every call counts once, and all places that show a trace's totals agree."""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.entities.trace_metrics import AggregationType, MetricAggregation, MetricViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracing.trace_manager import InMemoryTraceManager

from migrator.tracker import MLFlowTracker
from tests.support import planskit, trackerkit
from tests.support.planskit import run
from tests.support.trackerkit import only, parent, spans, tracker

BIG, MINI = "gpt-4o", "gpt-4o-mini"


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield


def in_trace_metrics(track: MLFlowTracker, trace: Any) -> int:
    """What MLflow's usage view asks: the sum of a trace's tokens."""
    points = SqlAlchemyStore(str(track.status().tracking_uri), "unused").query_trace_metrics(
        experiment_ids=[trace.info.experiment_id],
        view_type=MetricViewType.TRACES,
        metric_name="total_tokens",
        aggregations=[MetricAggregation(AggregationType.SUM)],
        start_time_ms=trace.info.request_time,
        end_time_ms=trace.info.request_time,
    )
    return int(sum(point.values["SUM"] for point in points))


def check_totals(track: MLFlowTracker, trace: Any, tokens: int) -> None:
    """Compare the places that show totals."""
    feedback = {a.name: a.feedback.value for a in trace.info.assessments}
    summary = track.cost_summary(trace.info.trace_id)["total"]
    assert trace.info.token_usage["total_tokens"] == tokens
    assert feedback["total_tokens"] == tokens
    assert summary["total_tokens"] == tokens
    assert in_trace_metrics(track, trace) == tokens
    cost = json.loads(trace.info.trace_metadata["mlflow.trace.cost"])
    assert feedback["cost_usd"] == cost["total_cost"]
    assert summary["cost_usd"] == pytest.approx(cost["total_cost"], abs=1e-8)


def test_nodes_own_calls_become_spans_beside_the_node_inside(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}), track.track_node("supervisor", BIG):
        track.log_node_metrics(1000, 100, BIG, prompt="plan", response='{"next": "worker"}')
        with track.track_node("worker", MINI):
            track.log_node_metrics(10, 1, MINI, prompt="p", response="r")
        track.log_node_metrics(500, 50, BIG, prompt="summarise", response="done")
    trace = only(track)
    found = spans(trace)
    first, second = found["supervisor call 1"], found["supervisor call 2"]
    assert [parent(trace, span.name) for span in (first, second)] == ["supervisor"] * 2
    assert {span.span_type for span in (first, second)} == {"CHAT_MODEL"}
    assert (first.inputs, first.outputs) == ({"prompt": "plan"}, {"next": "worker"})
    assert (second.inputs, second.outputs) == ({"prompt": "summarise"}, "done")
    assert first.get_attribute("mlflow.chat.tokenUsage") == {
        "input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100
    }  # fmt: skip
    assert first.get_attribute("cost_usd") == pytest.approx(0.0035)
    node = found["supervisor"]
    assert node.get_attribute("mlflow.chat.tokenUsage") is None
    assert node.start_time_ns <= first.start_time_ns <= first.end_time_ns
    assert first.end_time_ns <= found["worker"].start_time_ns
    assert found["worker"].end_time_ns <= second.start_time_ns <= second.end_time_ns
    assert second.end_time_ns <= node.end_time_ns
    check_totals(track, trace, 1661)
    by_node = track.cost_summary()["by_node"]
    assert {name: row["total_tokens"] for name, row in by_node.items()} == {
        "supervisor": 1650, "worker": 11
    }  # fmt: skip


def test_workflow_of_another_tracker_inside_counts(tmp_path: Path) -> None:
    outer, inner = tracker(tmp_path, "outer"), tracker(tmp_path, "inner")
    with outer.track_workflow({}):
        with outer.track_node("a", BIG):
            outer.log_node_metrics(10, 1, BIG)
        with inner.track_workflow({}), inner.track_node("b", BIG):
            inner.log_node_metrics(1000, 100, BIG)
    trace = only(outer)
    assert parent(trace, "workflow_inner") == "workflow_outer"
    check_totals(outer, trace, 1111)
    assert inner.cost_summary()["total"]["total_tokens"] == 1111  # the same trace


def test_task_that_ends_after_its_node_counts(tmp_path: Path) -> None:
    track = tracker(tmp_path)

    async def child() -> None:
        with track.track_node("child", MINI):
            await asyncio.sleep(0.05)
            track.log_node_metrics(7, 3, MINI)

    async def workflow() -> None:
        with track.track_workflow({}):
            with track.track_node("parent", BIG):
                task = asyncio.create_task(child())
                await asyncio.sleep(0)  # the child starts
                track.log_node_metrics(100, 10, BIG)
            await task

    asyncio.run(workflow())
    trace = only(track)
    assert parent(trace, "child") == "parent"
    check_totals(track, trace, 120)


@pytest.mark.parametrize("starts_late", [False, True])
def test_span_that_ends_after_its_workflow_is_written_and_counted(
    starts_late: bool, tmp_path: Path
) -> None:
    """Also when it starts below a node that has ended and has its tokens on itself."""
    track = tracker(tmp_path)
    go_on = threading.Event()
    is_open = threading.Event()

    def work() -> None:
        if starts_late:
            go_on.wait(120)
        with track.track_node("late", MINI):
            is_open.set()
            go_on.wait(120)
            track.log_node_metrics(5, 5, MINI)

    with track.track_workflow({}):
        with track.track_node("node", BIG):
            thread = threading.Thread(target=track.bind(work))
            track.log_node_metrics(100, 10, BIG, prompt="p", response="r")
            thread.start()
            if not starts_late:
                is_open.wait(120)
        if starts_late:
            go_on.set()
            is_open.wait(120)
    assert track.flush(120)
    go_on.set()
    thread.join(120)
    trace = only(track)
    assert spans(trace)["late"].status.status_code == "OK"
    assert spans(trace)["late"].get_attribute("migrator.unfinished") is None
    assert parent(trace, "late") == "node"
    call = spans(trace)["node call 1"]
    assert (call.inputs, call.outputs) == ({"prompt": "p"}, "r")
    check_totals(track, trace, 120)


@pytest.mark.parametrize("parent_is_open", [False, True])
def test_span_that_starts_after_its_workflow_is_written_and_counted(
    parent_is_open: bool, tmp_path: Path
) -> None:
    """One of the tracker, and one of MLflow's own, as its integrations make them."""
    track = tracker(tmp_path)
    go_on, is_ready = threading.Event(), threading.Event()

    def call() -> None:
        is_ready.set()
        go_on.wait(120)
        with track.track_node("inner", MINI):
            track.log_node_metrics(5, 5, MINI)
            mlflow.log_feedback(
                trace_id=str(mlflow.get_active_trace_id()), name="inside", value=True
            )
        track.feedback("between", 1, trace_id=track.last_trace_id)
        if parent_is_open:
            with mlflow.start_span("call", span_type="CHAT_MODEL") as span:
                usage = {"input_tokens": 7, "output_tokens": 7, "total_tokens": 14}
                span.set_attribute("mlflow.chat.tokenUsage", usage)

    def work() -> None:
        if not parent_is_open:
            call()
            return
        with track.track_node("outer", MINI):
            call()

    with track.track_workflow({}):
        thread = threading.Thread(target=track.bind(work))
        thread.start()
        is_ready.wait(120)
    assert track.flush(120)
    go_on.set()
    thread.join(120)
    trace = only(track)
    check_totals(track, trace, 24 if parent_is_open else 10)
    assert parent(trace, "inner") == ("outer" if parent_is_open else "workflow_article_writer")
    assert {"inside", "between"} <= {each.name for each in trace.info.assessments}
    assert not [each for each in trace.data.spans if each.get_attribute("migrator.unfinished")]
    assert (track.status().unfinished, track.status().errors) == (0, 0)
    assert not InMemoryTraceManager.get_instance()._traces


def test_span_that_never_ends_is_shown_as_unfinished(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}), track.track_node("node", MINI):
        leaked = mlflow.start_span_no_context(
            "leaked", parent_span=mlflow.get_current_active_span()
        )
        track.log_node_metrics(10, 1, MINI)
    trace = only(track)
    found = spans(trace)
    assert found["leaked"].get_attribute("migrator.unfinished") == "true"
    assert found["leaked"].end_time_ns == found["workflow_article_writer"].end_time_ns
    check_totals(track, trace, 11)
    leaked.set_outputs("at last")
    leaked.end()
    late = spans(only(track))["leaked"]
    assert late.outputs == "at last" and late.get_attribute("migrator.unfinished") is None


def test_report_of_a_recorded_call_is_not_another_call(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}), track.track_node("node", MINI):
        for _ in range(2):
            with track.llm("model", MINI) as call:
                call.record_usage(input_tokens=10, output_tokens=5)
        track.log_node_metrics(10, 5, MINI)  # repeats the first
        track.log_node_metrics(10, 5, MINI)  # repeats the second
        track.log_node_metrics(10, 5, MINI)  # a call of its own
        track.log_node_metrics(3, 0, MINI)
    trace = only(track)
    check_totals(track, trace, 15 * 3 + 3)
    names = sorted(span.name for span in trace.data.spans)
    assert names == [
        "model", "model", "node", "node call 1", "node call 2", "workflow_article_writer"
    ]  # fmt: skip


def test_call_before_a_recorded_one_with_the_same_tokens_counts(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}), track.track_node("node", MINI):
        track.log_node_metrics(10, 5, MINI)
        with track.llm("model", MINI) as call:
            call.record_usage(input_tokens=10, output_tokens=5)
    check_totals(track, only(track), 30)


# --------------------------------------------------------------------------- random trees
@dataclass(frozen=True)
class Step:
    """A node, a step or a model call, the calls it reports, and what is inside it."""

    kind: str
    calls: tuple[int, ...]
    inside: tuple[Step, ...] = ()


# Calls of `llm` have other sizes than those of nodes: equal ones after it are repeats.
leaves = st.builds(Step, st.just("llm"), st.tuples(st.integers(1001, 1009)))
steps = st.recursive(
    leaves,
    lambda inner: st.builds(
        Step,
        st.sampled_from(["node", "step", "workflow"]),
        st.lists(st.integers(1, 9), max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=8,
)


def play(tracks: list[MLFlowTracker], step: Step, name: str) -> int:
    """Do what a step says; every second level with the other tracker. Gives its tokens."""
    track = tracks[len(name) % 2]
    context = {
        "node": lambda: track.track_node(name, MINI),
        "step": lambda: track.span(name),
        "workflow": lambda: track.track_workflow({"name": name}),
        "llm": lambda: track.llm(name, MINI),
    }[step.kind]()
    total = 0
    with context as span:
        for index in range(max(len(step.calls), len(step.inside))):
            if index < len(step.calls):
                tokens = step.calls[index]
                total += tokens
                if step.kind == "node":
                    track.log_node_metrics(tokens, 0, MINI)
                else:
                    span.record_usage(input_tokens=tokens, output_tokens=0, model=MINI)
            if index < len(step.inside):
                total += play(tracks, step.inside[index], f"{name}{index}")
    return total


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(steps, min_size=1, max_size=3).map(tuple))
def test_totals_of_any_tree_are_those_of_its_calls(
    tmp_path: Path, inside: tuple[Step, ...]
) -> None:
    random.seed(os.urandom(8))  # Hypothesis seeds it, and OpenTelemetry draws its ids from it
    tracks = [tracker(tmp_path, "one"), tracker(tmp_path, "two")]
    expected = play(tracks, Step("workflow", (1,), inside), "w")
    assert tracks[1].flush(120)
    trace_id = tracks[1].last_trace_id
    trace = mlflow.MlflowClient(str(tracks[1].status().tracking_uri)).get_trace(str(trace_id))
    check_totals(tracks[1], trace, expected)
    assert tracks[0].status().errors == tracks[1].status().errors == 0


def test_the_same_run_migrated_has_the_same_totals_and_spans(tmp_path: Path) -> None:
    """What the legacy tracker recorded of a supervisor and its worker, against the new tracker."""
    track = tracker(tmp_path)
    with track.track_workflow({"topic": "sea"}), track.track_node("supervisor", BIG):
        with track.track_node("worker", MINI):
            track.log_node_metrics(100, 50, MINI, prompt="Write it", response="Done")
        track.log_node_metrics(10, 5, BIG, prompt="Is it good?", response="Yes")
    live = only(track)
    runs = [
        run(
            "article_20240101_120000", end=4000,
            params={"workflow_name": "article", "schema_version": "1.0", "node_count": "2"},
            metrics={"total_input_tokens": 110, "total_output_tokens": 55, "status": 1},
        ),
        run(
            "node_supervisor", "article_20240101_120000", start=10, end=3000,
            params={"node_id": "supervisor", "node_model": BIG},
            metrics={"input_tokens": 10, "output_tokens": 5},
            tags={"prompt": "Is it good?", "response": "Yes"},
        ),
        run(
            "node_worker", "node_supervisor", start=20, end=2000,
            params={"node_id": "worker", "node_model": MINI},
            metrics={"input_tokens": 100, "output_tokens": 50},
            tags={"prompt": "Write it", "response": "Done"},
        ),
    ]  # fmt: skip
    migrated = planskit.trace(*runs)
    assert migrated.usage is not None
    assert migrated.usage.total_tokens == live.info.token_usage["total_tokens"] == 165
    usages = {each.name: each.attributes.get("mlflow.chat.tokenUsage") for each in migrated.spans}
    for name, found in spans(live).items():
        if name in usages:
            usage = usages[name]
            recorded = found.get_attribute("mlflow.chat.tokenUsage")
            assert (usage and json.loads(usage)) == recorded, name
    assert usages.keys() >= {"supervisor", "supervisor call 1", "worker"}
