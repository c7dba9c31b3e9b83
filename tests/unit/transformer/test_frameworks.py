"""Frameworks that log LLM work as runs: fixtures that the real packages wrote."""

from __future__ import annotations

import pytest

from migrator import pipeline
from migrator.model import Role, TreePlan
from migrator.pipeline import Options
from tests.support import fixturekit


def planned(fixture: str, *include: str) -> list[TreePlan]:
    """Plan a fixture's trees, sorted by their roots' names."""
    trees: list[pipeline.PlannedTree] = []
    store = str(fixturekit.store(fixture))
    pipeline.scan([store], Options(include=include), on_tree=trees.append)
    trees.sort(key=lambda each: each.tree.runs[each.plan.root_run_id].name)
    return [each.plan for each in trees]


def test_evaluation_of_inspect_stays_a_run() -> None:
    (made,) = planned("3.9.0-inspect")
    assert (made.profile, made.role, made.traces) == ("inspect-ai", Role.PIPELINE, ())
    assert made.left_as_runs == "tables"


def test_each_sample_of_inspect_becomes_a_trace_with_answer_target_and_score() -> None:
    (made,) = planned("3.9.0-inspect", "tables")
    shown = {each.request_preview: each.response_preview for each in made.traces}
    assert shown == {
        "What is the capital of France?": "Paris",
        "What is the capital of Peru?": "Quito",
        "What is the capital of Norway?": "Oslo",
    }
    peru = next(each for each in made.traces if each.response_preview == "Quito")
    judged = {(each.type, each.value) for each in peru.assessments}
    assert ("expectation", "Lima") in judged


def test_evaluation_and_optimisation_of_dspy_stay_runs() -> None:
    trees = planned("3.9.0-dspy")
    assert [(each.profile, each.role, each.traces) for each in trees] == [
        ("dspy", Role.SWEEP, ())
    ] * len(trees)
    assert len(trees) == 2


def test_each_example_of_dspy_becomes_a_trace() -> None:
    traces = [each for tree in planned("3.9.0-dspy", "tables") for each in tree.traces]
    asked = {each.request_preview for each in traces}
    assert asked == {"What is the capital of France?", "What is the capital of Peru?"}


@pytest.mark.parametrize("include", [(), ("tables",)])
def test_evaluation_of_mlflow_3_keeps_its_own_traces(include: tuple[str, ...]) -> None:
    outcome = pipeline.scan([str(fixturekit.store("3.9.0-evaluate"))], Options(include=include))
    (experiment,) = (each for each in outcome.experiments if each.name == "evaluated")
    assert (experiment.traces, experiment.native_traces, experiment.runs) == (0, 2, 1)
