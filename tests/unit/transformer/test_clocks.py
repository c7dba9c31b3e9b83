"""Clocks that disagree: a trace keeps its root's date and length, whatever one clock said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.model import MetricPoint, RunRecord, TracePlan
from migrator.verification import verify
from tests.support.planskit import LLM, MS, T0, plan, run, span, trace, value
from tests.support.storekit import START_MS, write_experiment, write_run

HOUR = 3_600_000
DAY = 24 * HOUR
YEAR = 365 * DAY
CALLS: dict[str, Any] = {"params": {"model": "m"}, "texts": {"prompt.txt": "Say hello"}}


def times(of: TracePlan) -> dict[str, tuple[float, float]]:
    """Start and length of each span in ms, the start from T0."""
    return {s.name: ((s.start_ns - T0 * MS) / MS, (s.end_ns - s.start_ns) / MS) for s in of.spans}


def codes(*records: RunRecord) -> list[str]:
    return [issue.code.value for issue in plan(*records).issues]


def kid(name: str, start: int, end: int | None, parent: str = "root", **given: Any) -> RunRecord:
    return run(name, parent, start=start, end=end, **{**LLM, **given})


def root(end: int | None = 108, **given: Any) -> RunRecord:
    return run("root", **{"end": end, **given})


# ----------------------------------------------------------------------------- moved


@pytest.mark.parametrize("off", [-3 * YEAR, -DAY, -5 * HOUR, -120_000, 120_000, 9 * HOUR, 3 * YEAR])
def test_a_child_with_an_odd_clock_does_not_distort_its_trace(off: int) -> None:
    records = [root(), kid("good", 10, 60), kid("odd", off, off + 5)]
    made = trace(*records)
    assert (made.timestamp_ms, made.execution_ms) == (T0, 108)
    assert times(made) == {"root": (0, 108), "good": (10, 50), "odd": (0, 5)}
    odd = span(made, "odd")
    assert value(odd, "legacy.recorded_start_ms") == T0 + off
    assert value(odd, "legacy.recorded_end_ms") == T0 + off + 5
    assert "moved into its parent" in json.dumps(value(odd, "legacy.inferences"))
    assert "moved into its parent" in made.tags["migrator.inferences"]
    assert "legacy.recorded_start_ms" not in span(made, "good").attributes
    (issue,) = plan(*records).issues
    assert (issue.code.value, issue.entity_id) == ("time-implausible", odd.run_id)
    past_ms = -off - 5 if off < 0 else off - 108
    assert f"{past_ms / 1000:,.0f} s outside" in issue.message


def test_children_of_one_other_clock_keep_their_order_distances_and_lengths() -> None:
    off = 5 * HOUR + 1800_000
    made = trace(
        root(end=1000), kid("a", off, off + 300), kid("b", off + 400, off + 600),
        kid("c", off + 500, off + 650),
    )  # fmt: skip
    assert times(made) == {"root": (0, 1000), "a": (0, 300), "b": (400, 200), "c": (500, 150)}


def test_distances_shrink_where_they_would_not_fit_into_the_parent() -> None:
    made = trace(
        root(end=100), kid("a", -YEAR, 20 - YEAR), kid("b", 800 - YEAR, 820 - YEAR),
        kid("c", 1600 - YEAR, 1620 - YEAR),
    )  # fmt: skip
    assert times(made) == {"root": (0, 100), "a": (0, 20), "b": (40, 20), "c": (80, 20)}


def test_children_too_long_for_the_parent_keep_their_lengths_and_distances() -> None:
    made = trace(root(), kid("a", -DAY, 2000 - DAY), kid("b", 2000 - DAY, 5000 - DAY))
    assert times(made) == {"root": (0, 5000), "a": (0, 2000), "b": (2000, 3000)}


def test_clocks_that_differ_are_moved_each_by_itself() -> None:
    made = trace(root(), kid("past", -YEAR, 5 - YEAR), kid("future", YEAR, YEAR + 7))
    assert made.execution_ms == 108
    assert times(made) == {"root": (0, 108), "past": (0, 5), "future": (0.001, 6.999)}


def test_a_grandchild_is_moved_into_its_parent_and_not_into_the_root() -> None:
    made = trace(
        root(end=1000), kid("step", 200, 700), kid("call", -YEAR, 50 - YEAR, parent="step")
    )
    assert times(made) == {"root": (0, 1000), "step": (200, 500), "call": (200, 50)}


def test_what_an_odd_child_holds_moves_along_with_it() -> None:
    made = trace(
        root(end=1000),
        kid("step", -YEAR, 500 - YEAR),
        kid("call", 100 - YEAR, 400 - YEAR, parent="step"),
        kid("late", 2 * YEAR, 2 * YEAR + 30, parent="step"),
    )
    assert times(made) == {
        "root": (0, 1000), "step": (0, 500), "call": (100, 300), "late": (0, 30),
        "step call 1": (400, 100),
    }  # fmt: skip


def test_a_good_grandchild_of_an_odd_child_stays_where_it_is() -> None:
    made = trace(root(), kid("step", -YEAR, 20 - YEAR), kid("call", 30, 70, parent="step"))
    assert times(made) == {"root": (0, 108), "step": (0, 70), "call": (30, 40)}


def test_metrics_and_scores_of_an_odd_run_move_along() -> None:
    points = {"judge_tone": [(700 - YEAR, 0.5, 0)]}
    odd = kid("odd", -YEAR, None, status="RUNNING", metrics=points)
    made = trace(root(end=1000), odd)
    assert times(made)["odd"] == (0, 700)
    dated = kid("odd", -YEAR, 5 - YEAR, metrics=points)
    (judged,) = trace(root(), dated).assessments
    assert judged.created_ms == T0 + 5


def test_a_call_logged_afterwards_by_an_odd_clock_stays_inside_its_parent() -> None:
    late = kid("late", YEAR, YEAR + 5, metrics={"latency_ms": 80})
    assert times(trace(root(), late)) == {"root": (0, 108), "late": (0, 80)}


def test_one_end_that_no_clock_can_have_right_is_not_believed() -> None:
    made = trace(root(), kid("open", 20, 3 * YEAR), kid("early", -3 * YEAR, 50))
    assert (made.timestamp_ms, made.execution_ms) == (T0, 108)
    assert times(made)["open"][0] == 20 and times(made)["early"][0] == 50
    assert codes(root(), kid("open", 20, 3 * YEAR)) == ["time-implausible"]


def test_a_call_recorded_in_a_run_is_held_against_the_run() -> None:
    points = [(100, 5, 0), (200, 6, 1), (-2 * YEAR, 7, 2)]
    made = trace(root(end=1000, **CALLS, metrics={"prompt_tokens": points}))
    assert (made.timestamp_ms, made.execution_ms) == (T0, 1000)
    assert made.usage is not None and made.usage.input_tokens == 18


# ------------------------------------------------------------------- the root is the odd one


@pytest.mark.parametrize(("start", "end"), [(1, 5000), (1, 50_000_000), (5000, None)])
def test_a_root_of_1970_takes_the_times_of_its_children(start: int, end: int | None) -> None:
    odd = replace(root(), start_ms=start, end_ms=end)
    records = [odd, kid("a", 10, 60), kid("b", 70, 90)]
    made = trace(*records)
    assert (made.timestamp_ms, made.execution_ms) == (T0 + 10, 80)
    assert codes(*records) == ["time-implausible"]
    assert value(made.spans[0], "legacy.recorded_start_ms") == start
    assert ("migrator.unfinished" in made.tags) == (end is None)


def test_a_clock_that_was_set_while_a_run_was_open() -> None:
    made = trace(
        replace(root(), start_ms=4000, end_ms=T0 + 300), kid("a", 10, 60), kid("b", 70, 290)
    )
    assert (made.timestamp_ms, made.execution_ms) == (T0 + 10, 290)
    alone = replace(run("r", end=300, texts={"question.txt": "Say hello"}), start_ms=4000)
    assert trace(alone).timestamp_ms == T0 + 300
    assert codes(alone) == ["time-implausible"]
    inside = trace(root(), replace(kid("a", 10, 60), start_ms=4000))
    assert times(inside)["a"][0] == 60 and inside.execution_ms == 108


@pytest.mark.parametrize("off", [-3 * YEAR, 3 * YEAR])
def test_a_root_without_times_believes_most_of_its_children(off: int) -> None:
    kids = [kid("a", 10, 60), kid("b", 70_000, 70_090), kid("odd", off, off + 5)]
    made = trace(root(end=None, start=None, status="RUNNING"), *kids)
    assert (made.timestamp_ms, made.execution_ms) == (T0 + 10, 70_080)


def test_a_lone_run_of_1970_takes_the_times_of_its_metrics() -> None:
    lone = replace(run("r", **LLM), start_ms=1000, end_ms=2000)
    assert trace(lone).timestamp_ms == T0 + 1000
    assert codes(lone) == ["time-implausible"]


def test_a_whole_tree_of_1970_is_kept_as_recorded() -> None:
    tree = [replace(root(), start_ms=1000, end_ms=2000)]
    tree.append(replace(kid("a", 0, 0, metrics={}), start_ms=1200, end_ms=1900))
    timeless = kid("timeless", 0, 0, metrics={})
    tree.append(replace(timeless, start_ms=None, end_ms=None))
    made = trace(*tree)
    assert (made.timestamp_ms, made.execution_ms) == (1000, 1000)
    assert codes(*tree) == []


# --------------------------------------------------------------------------- not touched


@pytest.mark.parametrize(
    ("tree", "start", "length"),
    [
        ([root(), kid("async", 50, HOUR)], 0, HOUR),
        ([root(), kid("queued", 30_000, 31_000), kid("next", 80_000, 81_000)], 0, 81_000),
        ([root(end=None, status="RUNNING"), kid("late", 2 * DAY, 2 * DAY + 9)], 0, 2 * DAY + 9),
        ([root(status="RUNNING"), kid("resumed", DAY, DAY + 9)], 0, DAY + 9),
        ([root(end=DAY + 50), kid("a", 0, 9), kid("retry", DAY, DAY + 9)], 0, DAY + 50),
        ([root(), kid("skewed", -900, -890)], -900, 1008),
        # The root was logged after what it did: its children adjoin it, one before the other.
        ([root(), kid("b", -6000, -100), kid("a", -9000, -6500)], -9000, 9108),
        ([root(metrics={"latency_ms": 2 * HOUR}), kid("a", 9 - 2 * HOUR, 50 - 2 * HOUR)],
         -2 * HOUR, 2 * HOUR),
        ([root(end=9 * DAY), kid("long", 0, 8 * DAY)], 0, 9 * DAY),
    ],
)  # fmt: skip
def test_times_that_can_be_true_stay(tree: list[RunRecord], start: int, length: int) -> None:
    made = trace(*tree)
    assert (made.timestamp_ms - T0, made.execution_ms) == (start, length)
    assert codes(*tree) == []


def test_calls_that_a_run_recorded_after_its_end_stay() -> None:
    day = [(i * 6 * HOUR, 5, i) for i in range(5)]
    made = trace(root(**CALLS, metrics={"prompt_tokens": day}))
    assert (made.timestamp_ms, made.execution_ms) == (T0, DAY)


def test_a_tree_of_many_clocks_ends_within_its_root() -> None:
    kids = [kid(f"k{i}", (i - 50) * YEAR // 7, (i - 50) * YEAR // 7 + 10) for i in range(100)]
    chain = [kid("d0", YEAR, YEAR + 10)]
    for depth in range(1, 60):
        off = (depth % 5 - 2) * YEAR
        chain.append(kid(f"d{depth}", off, off + 10, parent=f"d{depth - 1}"))
    made = trace(root(), *kids, *chain)
    assert made.timestamp_ms == T0
    assert made.execution_ms == 108
    assert all(length >= 9.9 for name, (_, length) in times(made).items())


def test_points_of_an_odd_run_without_times_move_along() -> None:
    lost = kid("lost", 0, None, metrics={})
    points = {"x": (MetricPoint(T0 - YEAR, 1.0, 0), MetricPoint(T0 + 40 - YEAR, 2.0, 1))}
    made = trace(root(), replace(lost, start_ms=None, end_ms=None, metrics=points))
    assert times(made)["lost"] == (0, 40)


def test_mlflow_serves_a_trace_of_its_roots_date_and_length(tmp_path: Path) -> None:
    store = tmp_path / "mlruns"
    write_experiment(store, "7", "agents")
    past = START_MS - 3 * YEAR
    asked = {"prompt.txt": "Who is it?", "response.txt": "Bob"}
    write_run(store, "7", "a" * 32, name="flow", end_ms=START_MS + 108)
    for number, name in enumerate(("ask", "judge")):
        write_run(
            store, "7", f"{number:032x}", name=name, parent="a" * 32, params={"model": "m"},
            artifacts=asked, start_ms=past + 20 * number, end_ms=past + 20 * number + 5,
        )  # fmt: skip
    target = f"sqlite:///{tmp_path}/mlflow.db"
    outcome = pipeline.convert([str(store)], target, pipeline.Options(), schema="latest")
    assert [i.code.value for i in outcome.ledger.issues] == 2 * ["time-implausible"]
    client = MlflowClient(target)
    (served,) = client.search_traces(locations=["7"])
    assert (served.info.timestamp_ms, served.info.execution_duration) == (START_MS, 108)
    lengths = {
        s.name: (s.start_time_ns // MS - START_MS, (s.end_time_ns or 0) // MS - START_MS)
        for s in served.data.spans
    }
    assert lengths == {"flow": (0, 108), "ask": (0, 5), "judge": (20, 25)}
    run_info = client.get_run(f"{0:032x}").info
    assert (run_info.start_time, run_info.end_time) == (past, past + 5)
    again = pipeline.convert([str(store)], target, pipeline.Options())
    assert not again.ledger.converted.total()
    assert verify([str(store)], target, pipeline.Options()).differences == ()
