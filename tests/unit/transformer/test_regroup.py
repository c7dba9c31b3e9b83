"""Parents that only time tells of, roles that a user gives, and sweeps of the real tools."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from migrator import pipeline
from migrator.cli import main
from migrator.model import Role, RunRecord, TreePlan
from migrator.outcome.summary import Outcome
from migrator.pipeline import Options
from migrator.transformer import (
    Moment,
    PlanOptions,
    RunTree,
    adopt_orphans,
    group_by_time,
    moment_of,
    plan_tree,
)
from tests.support import fixturekit, storekit
from tests.support.planskit import LLM, PROFILES, T0, plan, run, run_id


def moment(record: RunRecord, *children: RunRecord, missing: bool = False) -> Moment:
    """Return the moment of a tree of one level."""
    runs = {r.run_id: r for r in (record, *children)}
    tree = RunTree(record.run_id, runs, {record.run_id: tuple(c.run_id for c in children)})
    made = plan_tree(tree, PROFILES, PlanOptions(), {}, frozenset())
    found = moment_of(tree, made, PROFILES, parent_is_missing=missing)
    assert found is not None
    return found


def late(name: str, start_s: float, latency_s: float, **more: Any) -> RunRecord:
    """Return a flat run of 70 ms that says that it took longer."""
    start = round(start_s * 1000)
    metrics = {"latency_seconds": latency_s}
    return run(name, start=start, end=start + 70, metrics=metrics, **more)


STEPS = [late("goal_1", 13, 12.9), late("plan_1", 28, 15.1), late("workflow_1", 33, 33.1)]


def grouped(*records: RunRecord) -> dict[str, str]:
    names = {run_id(r.name): r.name for r in records}
    found = group_by_time([moment(r) for r in records])
    return {names[child]: names[parent] for child, parent in found.items()}


def test_flat_steps_are_grouped_under_the_workflow_that_was_written_last() -> None:
    assert grouped(*STEPS) == {"goal_1": "workflow_1", "plan_1": "workflow_1"}
    assert grouped(*reversed(STEPS)) == grouped(*STEPS)


@pytest.mark.parametrize(
    "records",
    [
        [late("goal", 30, 29.5), STEPS[2]],  # one step alone may be chance
        [late("goal", 13, 12.9), late("plan", 28, 15.1), late("flow", 33, 300)],  # hardly filled
        [late("goal", 30, 29), late("plan", 31, 29), late("flow", 33, 33)],  # beside one another
        [late("call_1", 13, 12.9), late("call_2", 28, 15.1), late("call_3", 33, 33.1)],  # one kind
        [late("goal", 13, 12.9), late("plan", 35, 15.1), late("flow", 33, 33.1)],  # after it
        [
            late("goal", 13, 12.9, tags={"mlflow.user": "ana"}),
            late("plan", 28, 15.1, tags={"mlflow.user": "zoe"}),
            late("flow", 33, 33.1, tags={"mlflow.user": "ana"}),
        ],
    ],
)
def test_runs_that_time_does_not_hold_together_stay_apart(records: list[RunRecord]) -> None:
    assert grouped(*records) == {}


def test_runs_as_long_as_they_say_are_no_post_hoc_steps() -> None:
    whole = [
        run("goal", start=0, end=13_000, metrics={"latency_seconds": 13}),
        run("plan", start=13_000, end=28_000, metrics={"latency_seconds": 15}),
        run("flow", start=0, end=29_000, metrics={"latency_seconds": 29}),
    ]
    assert [moment(r).post_hoc_ms for r in whole] == [None, None, None]


def node(name: str, start: int, parent: str | None = None) -> RunRecord:
    params = {"step": name, "engine": "x"}
    return run(name, parent, start=start, end=start + 500, params=params)


def test_steps_with_the_keys_of_their_siblings_are_put_below_the_workflow_before() -> None:
    flow = run("flow", start=0, end=1000)
    lost, other = node("second", 1200), run("other", start=1300, end=1400, params={"lr": "1"})
    known = [moment(flow, node("first", 10, parent="flow")), moment(lost), moment(other)]
    assert adopt_orphans(known) == {lost.run_id: flow.run_id}


def test_orphan_is_not_adopted_long_after_or_by_a_later_workflow() -> None:
    flow = run("flow", start=100_000, end=101_000)
    child = node("first", 100_010, parent="flow")
    early, tardy = (run(n, start=s, end=s + 1) for n, s in (("early", 0), ("tardy", 900_000)))
    near = run("near", start=101_500, end=102_000)
    known = [moment(flow, child)]
    known += [moment(r, missing=True) for r in (early, near, tardy)]
    assert adopt_orphans(known) == {near.run_id: flow.run_id}


# ------------------------------------------------------------------------ through the pipeline


def scanned(source: Path, options: Options) -> tuple[dict[str, TreePlan], Outcome]:
    trees: list[pipeline.PlannedTree] = []
    outcome = pipeline.scan([str(source)], options, on_tree=trees.append)
    return {t.tree.runs[t.plan.root_run_id].name: t.plan for t in trees}, outcome


@pytest.fixture
def flat_store(tmp_path: Path) -> Path:
    """A store with three flat runs of one workflow, written after the fact."""
    root = tmp_path / "mlruns"
    storekit.write_experiment(root, "1", "agents")
    for number, (name, start, latency) in enumerate(
        [("goal", 13.0, 12.9), ("plan", 28.0, 15.1), ("exam_workflow", 33.0, 33.1)]
    ):
        begin = T0 + round(start * 1000)
        storekit.write_run(
            root,
            "1",
            f"{number:032x}",
            name=name,
            start_ms=begin,
            end_ms=begin + 70,
            metrics={"latency_seconds": [(begin, latency, 0)]},
        )
    return root


def test_grouping_is_off_and_scan_says_that_it_would_apply(flat_store: Path) -> None:
    plans, outcome = scanned(flat_store, Options())
    assert all(not p.traces for p in plans.values())
    assert outcome.groups_by_time == (1, 2)
    text = CliRunner().invoke(main, ["scan", str(flat_store)]).output
    assert "2 trees look like steps of 1 workflow or request, by time alone" in text


def test_grouped_runs_become_one_trace_that_says_so(flat_store: Path) -> None:
    plans, outcome = scanned(flat_store, Options(group_by_time=True))
    (made,) = plans["exam_workflow"].traces
    assert [s.name for s in made.spans] == ["exam_workflow", "goal", "plan"]
    assert made.execution_ms == 33_100
    goal, step = made.spans[1:]
    assert (goal.end_ns - goal.start_ns, step.end_ns - step.start_ns) == (
        12_900_000_000,
        15_100_000_000,
    )
    assert "grouped by time" in made.tags["migrator.inferences"]
    assert "2 of its runs: grouped by time, none is on record" in plans["exam_workflow"].reasons
    assert outcome.groups_by_time == (0, 0)
    codes = [issue.code.value for issue in outcome.ledger.issues]
    assert codes.count("run-grouped-by-time") == 2


def test_a_servers_request_and_the_workflow_that_answered_it_are_one_trace_when_asked() -> None:
    source = str(fixturekit.store("2.22.5-agents"))
    options = Options(experiments=("article_writer",))
    apart = pipeline.scan([source], options)
    assert apart.groups_by_time == (1, 1)
    assert sum(e.traces for e in apart.experiments) == 6
    trees: list[pipeline.PlannedTree] = []
    options = Options(experiments=("article_writer",), group_by_time=True)
    outcome = pipeline.scan([source], options, on_tree=trees.append)
    assert sum(e.traces for e in outcome.experiments) == 5
    (joined,) = [tree.plan for tree in trees if len(tree.plan.run_ids) > 1]
    (made,) = joined.traces
    assert joined.profile == "configurable-agents" and made.status == "OK"
    assert [(s.name, s.type) for s in made.spans] == [
        ("sync_12c7edc4", "CHAIN"),
        ("workflow_article_writer", "WORKFLOW"),
        ("write", "LLM"),
    ]
    assert (made.request_preview, made.response_preview) == ("tea", "Tea.")
    assert made.usage is not None and made.usage.total_tokens == 90
    assert outcome.ledger.gaps() == []


def test_a_workflow_within_two_requests_or_two_in_one_stay_apart() -> None:
    def request(name: str, start_s: float, end_s: float) -> Moment:
        begin, end = round(start_s * 1000), round(end_s * 1000)
        return moment(run(name, start=begin, end=end, metrics={"success": 1.0}))

    def workflow(name: str, start_s: float, end_s: float) -> Moment:
        begin, end = round(start_s * 1000), round(end_s * 1000)
        params = {"workflow_name": "w", "schema_version": "1", "node_count": "1"}
        return moment(run(name, start=begin, end=end, params=params))

    one, two = request("sync_00000001", 0, 10), request("async_00000002", 1, 11)
    inner, other = workflow("w_1", 2, 5), workflow("w_2", 6, 9)
    assert group_by_time([one, inner]) == {inner.run_id: one.run_id}
    assert group_by_time([one, two, inner]) == {}
    assert group_by_time([one, inner, other]) == {}
    assert group_by_time([one, workflow("w_3", 2, 10.5)]) == {}


def test_orphans_are_adopted_only_when_asked() -> None:
    store = fixturekit.store("2.9.2-agents")
    plans, outcome = scanned(store, Options(experiments=("family/one",)))
    assert plans["orphan"].run_ids == (plans["orphan"].root_run_id,)
    assert outcome.orphans == 1
    plans, outcome = scanned(store, Options(experiments=("family/one",), adopt_orphans=True))
    assert "orphan" not in plans
    (made,) = plans["root in one"].traces
    assert "orphan" in [s.name for s in made.spans]
    assert [i.code.value for i in outcome.ledger.issues].count("run-adopted") == 1


# ---------------------------------------------------------------------------------- roles given


def test_role_of_an_experiment_can_be_given_by_name_or_id(flat_store: Path) -> None:
    for name in ("agents", "1"):
        plans, _ = scanned(flat_store, Options(roles=((name, "call"),)))
        assert {p.role for p in plans.values()} == {Role.CALL}
        assert all(p.traces for p in plans.values())
        assert plans["goal"].reasons == ("the role was given for the experiment",)


def test_role_given_twice_the_wrong_way_is_a_usage_error(flat_store: Path) -> None:
    for value, says in (
        ("agents", "EXPERIMENT=ROLE"),
        ("agents=king", "Choose the role from workflow"),
        ("nobody=call", "no experiment with the name or id 'nobody'"),
    ):
        result = CliRunner().invoke(main, ["scan", str(flat_store), "--role", value])
        assert result.exit_code == 2, result.output
        assert says in result.output


# ------------------------------------------------------------------------- sweeps of real tools


def test_optuna_and_grid_search_of_the_real_tools_are_recognised_and_stay_runs() -> None:
    plans, _ = scanned(fixturekit.store("2.22.5-sweeps"), Options())
    assert all(not p.traces for p in plans.values())
    reasons = {reason for p in plans.values() for reason in p.reasons}
    assert "an Optuna study (its callback's tags)" in reasons
    assert "a scikit-learn search (autologged)" in reasons
    nested = [p for p in plans.values() if len(p.run_ids) > 1]
    assert len(nested) == 2 and {p.role for p in nested} == {Role.SWEEP}
    assert {p.left_as_runs for p in nested} == {"sweeps"}
    included, _ = scanned(fixturekit.store("2.22.5-sweeps"), Options(include=frozenset({"sweeps"})))
    assert sum(len(p.traces) for p in included.values()) == 2


# --------------------------------------------------------------------------------- typed nodes


@pytest.mark.parametrize("fixture", ["2.9.2-agents", "2.22.5-agents"])
def test_kinds_of_typed_nodes_decide_the_span_types(fixture: str) -> None:
    plans, _ = scanned(fixturekit.store(fixture), Options(experiments=("rulebook", "assistant")))
    assert {p.profile for p in plans.values()} == {"typed-nodes"}
    (loans,) = plans["rulebook_loans"].traces
    assert [(s.name, s.type) for s in loans.spans] == [
        ("rulebook_loans", "CHAIN"),
        ("gate_age", "TASK"),
        ("score", "LLM"),
        ("limit", "TASK"),
        ("officer", "TASK"),
    ]
    assert [s.status for s in loans.spans] == ["ERROR", "OK", "OK", "OK", "ERROR"]
    (turn,) = plans["turn::find me a flight"].traces
    assert [s.type for s in turn.spans] == ["AGENT", "AGENT", "LLM", "AGENT", "LLM"]
    assert turn.status == "ERROR"  # though all its runs end FINISHED


def test_event_files_of_a_node_become_events_at_the_time_in_their_name() -> None:
    made = plan(
        run(
            "turn::x",
            tags={"phase": "turn"},
            texts={
                "operator_prompt.txt": "Find me a flight",
                f"event_tool_call_{T0 + 300}.json": '{"tool": "web"}',
                f"event_note_{T0 + 100}.json": "not json",
                "event_without_time.json": "{}",
            },
        ),
        run("llm::a::x", "turn::x", start=10, end=900, tags={"phase": "leaf"}),
    )
    (root, _leaf) = made.traces[0].spans
    assert [(e.name, e.time_ns // 1_000_000 - T0, e.attributes) for e in root.events] == [
        ("event_note", 100, {"value": "not json"}),
        ("event_tool_call", 300, {"tool": "web"}),
    ]
    assert [i.code.value for i in made.issues] == ["artifact-not-json"]


def test_prompts_linked_to_a_run_are_linked_to_its_trace() -> None:
    linked = '[{"name": "qa", "version": "2"}, {"name": "a/b", "version": 1}]'
    (made,) = plan(
        run("r", params={"prompt": "What is the sea?"}, tags={"mlflow.linkedPrompts": linked})
    ).traces
    assert made.prompts == ("a/b/1", "qa/2")
    assert made.tags["mlflow.linkedPrompts"] == (
        '[{"name": "a/b", "version": "1"}, {"name": "qa", "version": "2"}]'
    )


def test_calls_from_threads_go_below_the_only_live_run_around_them() -> None:
    def live(name: str, begin_s: float, end_s: float) -> Moment:
        begin, end = round(begin_s * 1000), round(end_s * 1000)
        return moment(run(name, start=begin, end=end, **LLM))

    flow, one, two = live("flow", 0, 9), live("tool_1", 1, 5), live("tool_2", 2, 4)
    assert group_by_time([flow, one, two]) == {one.run_id: flow.run_id, two.run_id: flow.run_id}
    late = live("tool_3", 5, 10)  # no run encloses all that overlap
    assert group_by_time([flow, one, two, late]) == {}
    twin = live("flow_2", 3, 8)  # two workflows at once: whose the calls are nobody knows
    assert group_by_time([flow, one, twin]) == {}


def test_calls_without_a_user_are_those_of_the_only_user() -> None:
    def live(name: str, begin: int, end: int, user: str) -> Moment:
        return moment(replace(run(name, start=begin, end=end, **LLM), user_id=user))

    flow, one, two = (
        live("flow", 0, 900, "ana"),
        live("a", 100, 500, "unknown"),
        live("b", 200, 600, ""),
    )
    together = {one.run_id: flow.run_id, two.run_id: flow.run_id}
    assert group_by_time([flow, one, two]) == together
    other = live("late", 2000, 3000, "bea")
    assert group_by_time([flow, one, two, other]) == {}
