"""Ten facts about logged LLM work on which a mapping that takes runs at their word fails.

Each test writes that naive mapping down, applies it to a store that real MLflow and the legacy
tracker wrote, and shows that it misses the truth that ours finds. The truth is what the fixture's
writer did (``fixtures/writers/agents.py``), not what it logged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from migrator import conventions as conv
from migrator import pipeline
from migrator.model import Role, RunRecord, SpanPlan, TracePlan
from migrator.pipeline import Options, PlannedTree
from migrator.transformer.trace_totals import decoded
from tests.support import fixturekit

MS = 1_000_000  # ns
STATE_OF_RUN = {"FINISHED": "OK", "FAILED": "ERROR", "KILLED": "ERROR", "RUNNING": "IN_PROGRESS"}


@cache
def planned(fixture: str, *, adopt_orphans: bool = False) -> tuple[PlannedTree, ...]:
    trees: list[PlannedTree] = []
    options = Options(workers=1, adopt_orphans=adopt_orphans)
    pipeline.scan([str(fixturekit.store(fixture))], options, on_tree=trees.append)
    return tuple(trees)


def tree(name: str, fixture: str = "2.22.5-agents", **options: bool) -> PlannedTree:
    """Return the one tree whose root run has this name."""
    (found,) = (
        each
        for each in planned(fixture, **options)
        if (root := each.tree.runs.get(each.tree.root_id)) is not None and root.name == name
    )
    return found


def root_of(of: PlannedTree) -> RunRecord:
    return of.tree.runs[of.tree.root_id]


def runs_below(of: PlannedTree) -> list[RunRecord]:
    below = [run for run in of.tree.runs.values() if run.run_id != of.tree.root_id]
    return sorted(below, key=lambda run: run.start_ms or 0)


def trace_of(of: PlannedTree) -> TracePlan:
    (only,) = of.plan.traces
    return only


def span(trace: TracePlan, name: str) -> SpanPlan:
    (only,) = (each for each in trace.spans if each.name == name)
    return only


def last(run: RunRecord, key: str) -> float:
    """Return what ``run.data.metrics`` holds of a metric: its last value, or 0."""
    points = run.metrics.get(key)
    return points[-1].value if points else 0.0


def tokens(runs: Iterable[RunRecord], prefix: str = "") -> float:
    keys = (f"{prefix}input_tokens", f"{prefix}output_tokens")
    return sum(last(run, key) for run in runs for key in keys)


def total(trace: TracePlan) -> int | None:
    return trace.usage.total_tokens if trace.usage else None


def test_fact_1_the_status_of_a_run_is_not_the_truth() -> None:
    failed = tree("article_writer_20240304_120000")  # its node "write" raised
    naive = STATE_OF_RUN[root_of(failed).status]
    assert (naive, trace_of(failed).status) == ("OK", "ERROR")
    naive = STATE_OF_RUN[runs_below(failed)[1].status]
    assert (naive, span(trace_of(failed), "write").status) == ("OK", "ERROR")

    (killed,) = (
        each for each in planned("2.22.5-agents")
        if each.plan.traces and root_of(each).status == "RUNNING"
        and root_of(each).params.get("workflow_name") == "article_writer"
    )  # fmt: skip
    naive = STATE_OF_RUN[root_of(killed).status]
    assert (naive, trace_of(killed).status) == ("IN_PROGRESS", "STATE_UNSPECIFIED")
    assert all(each.end_ns is not None for each in trace_of(killed).spans)


def test_fact_2_zero_tokens_are_tokens_that_were_not_captured() -> None:
    silent = tree("article_writer_20240304_100000")  # a model that answered, and counted nothing
    naive = tokens(runs_below(silent))
    answered = span(trace_of(silent), "research")
    assert conv.SPAN_OUTPUTS in answered.attributes
    assert (naive, total(trace_of(silent))) == (0, None)
    assert decoded(answered, "legacy.metric.input_tokens") == 0  # what was logged is still there


def test_fact_3_usage_stands_on_the_leaves_only() -> None:
    written = tree("article_writer_20240304_090000")
    naive = tokens([root_of(written)], "total_") + tokens(runs_below(written))  # on every run
    assert (naive, total(trace_of(written))) == (2 * 4775, 4775)

    # Two workflows on one tracker: the second's totals hold the first's.
    second = max(
        (t for t in planned("2.22.5-agents") if root_of(t).name.startswith("translate_")),
        key=lambda t: root_of(t).start_ms or 0,
    )
    naive = tokens([root_of(second)], "total_")
    assert (naive, total(trace_of(second))) == (50, 25)
    (note,) = (s for s in trace_of(second).spans if s.parent_span_id is None)
    assert decoded(note, "legacy.metric.total_input_tokens") == 40


def test_fact_4_a_cost_is_not_split_into_parts_that_nobody_logged() -> None:
    written = tree("article_writer_20240304_090000")
    write = next(run for run in runs_below(written) if run.name == "node_write")
    share = last(write, "input_tokens") / tokens([write])
    naive = {
        "input_cost": share * last(write, "node_cost_usd"),
        "output_cost": (1 - share) * last(write, "node_cost_usd"),
        "total_cost": last(write, "node_cost_usd"),
    }
    ours = decoded(span(trace_of(written), "write"), conv.SPAN_COST)
    assert ours == {"total_cost": 0.006433} != naive
    # And only what was counted on the leaves is summed: the workflow logged the sum again.
    cost = json.loads(trace_of(written).metadata[conv.TRACE_COST])
    assert cost["total_cost"] == pytest.approx(0.006433 + 8.7e-05 + 0.000275)


def test_fact_5_a_run_may_be_opened_after_the_call_that_it_tells_of() -> None:
    logged = tree("call 0")
    run = root_of(logged)
    assert run.start_ms is not None and run.end_ms is not None
    naive = (run.start_ms, run.end_ms - run.start_ms)
    (call,) = trace_of(logged).spans
    ours = (call.start_ns / MS, (call.end_ns - call.start_ns) / MS)
    assert naive[1] < 10 and ours[1] == last(run, "latency_ms") == 1850.5
    assert ours[0] == naive[0] - 1850.5  # it ended when it was written down


def test_fact_6_one_run_can_hold_many_calls() -> None:
    resumed = tree("agent resumed")
    naive = tokens([root_of(resumed)])  # what run.data.metrics has kept
    trace = trace_of(resumed)
    calls = [each for each in trace.spans if each.parent_span_id is not None]
    assert [total_of(call) for call in calls] == [10 + 5, 20 + 5, 30 + 5]
    assert (naive, total(trace)) == (35, 75)
    assert calls[0].end_ns < calls[1].end_ns < calls[2].end_ns


def total_of(call: SpanPlan) -> Any:
    usage = decoded(call, conv.SPAN_USAGE)
    assert isinstance(usage, dict)
    return usage["total_tokens"]


def test_fact_7_parallel_nodes_damage_each_others_records() -> None:
    damaged = tree("parallel_20240304_150000", "2.9.2-agents")  # p1 got the metrics of both
    naive = tokens(runs_below(damaged))  # the last values: half of what was used
    assert (naive, total(trace_of(damaged))) == (460, 920)
    silent = next(run for run in runs_below(damaged) if not run.metrics)
    naive_status = "OK" if silent.metrics else "ERROR"  # "a node that logged nothing has failed"
    assert (naive_status, span(trace_of(damaged), "p0").status) == ("ERROR", "OK")

    alone = tree("parallel_20240304_150000")  # MLflow 2.22: the threads' runs were never nested
    naive_exists = bool(runs_below(alone))  # "a workflow has children"
    assert (naive_exists, alone.plan.role, len(alone.plan.traces)) == (False, Role.WORKFLOW, 1)
    assert total(trace_of(alone)) is None  # not 0


def test_fact_8_orphans_are_neither_lost_nor_given_away() -> None:
    runs = {run.run_id: run for each in planned("2.9.2-agents") for run in each.tree.runs.values()}
    parents = {i: run.tags.get(conv.PARENT_RUN_ID) for i, run in runs.items()}
    reached = {i for i, parent in parents.items() if parent is None}
    while more := {i for i, parent in parents.items() if parent in reached} - reached:
        reached |= more
    naive = {runs[i].name for i in runs.keys() - reached}  # "a tree begins at a run without parent"
    assert "orphan" in naive  # its parent's directory is gone: it would be in no tree
    orphan = tree("orphan", "2.9.2-agents")
    assert orphan.plan.run_ids == (orphan.tree.root_id,)

    # The workflow in whose time it ran gets it only with --adopt-orphans.
    given_away = tree("root in one", "2.9.2-agents", adopt_orphans=True)
    assert orphan.tree.root_id in given_away.plan.run_ids
    assert orphan.tree.root_id not in tree("root in one", "2.9.2-agents").plan.run_ids


def test_fact_9_a_tag_holds_the_beginning_of_a_text_and_the_file_all_of_it() -> None:
    written = tree("article_writer_20240304_090000")
    cut = [run for run in runs_below(written) if run.tags.get("response", "").endswith("...")]
    assert cut, "the fixture has a response of more than 500 letters"
    for run in cut:
        naive = run.tags["response"]
        ours = decoded(span(trace_of(written), run.params["node_id"]), conv.SPAN_OUTPUTS)
        truth = json.loads(run.texts["response.txt"])
        assert len(naive) == 503
        assert naive != ours == truth


def test_fact_10_a_parent_run_has_one_of_five_roles() -> None:
    def naive(each: PlannedTree) -> int:
        """A run with runs below it is a trace, and they are its spans."""
        return 1

    session = tree("interview_9f8e7d6c")
    assert session.plan.role is Role.SESSION
    assert (naive(session), len(session.plan.traces)) == (1, 3)
    assert len({t.metadata[conv.TRACE_SESSION] for t in session.plan.traces}) == 1

    for fixture, roles in (("2.22.5-sweeps", {Role.SWEEP}), ("2.22.5-agents", {Role.SWEEP})):
        searches = [
            each for each in planned(fixture) if runs_below(each) and each.plan.role in roles
        ]
        assert searches
        for search in searches:
            assert (naive(search), len(search.plan.traces)) == (1, 0)
