"""Trees of runs beside their traces, as the commands scan and show draw them."""

from __future__ import annotations

import pytest

from migrator.model import Role, TreePlan
from migrator.report.tree import DEEPEST, duration, moment, run_tree, show_text, span_line
from tests.support.loaderkit import T0, hex_id, run, trace

ROOT, FIRST, SECOND = (hex_id(name) for name in ("root", "first", "second"))
CHILDREN = {ROOT: [SECOND, FIRST]}
RUNS = {
    ROOT: run("root"),
    FIRST: run("first", start_ms=T0 + 1, end_ms=None, status="RUNNING"),
    SECOND: run("second", start_ms=T0 + 2, lifecycle_stage="deleted"),
}


def test_children_stand_in_the_order_of_their_start() -> None:
    assert run_tree(ROOT, RUNS, CHILDREN) == [
        f"root  [FINISHED, 5.00 s]  {ROOT}",
        f"├─ first  [RUNNING, no end]  {FIRST}",
        f"└─ second  [FINISHED, deleted, 5.00 s]  {SECOND}",
    ]


def test_a_run_that_could_not_be_read_is_drawn_too() -> None:
    assert run_tree("x", {}, {}) == ["x (could not be read)  x"]


def test_a_name_with_line_ends_stays_on_its_line() -> None:
    [line] = run_tree(ROOT, {ROOT: run("a\nb\x1b[31m")}, {})
    assert line.startswith("a\\nb\\x1b[31m  [FINISHED")


def test_deep_levels_say_their_depth_instead_of_indenting_further() -> None:
    ids = [f"r{n}" for n in range(DEEPEST + 3)]
    chain = {f"r{n}": [f"r{n + 1}"] for n in range(DEEPEST + 2)}
    lines = run_tree("r0", {}, chain)
    assert len(lines) == len(ids)
    assert f"({DEEPEST + 1}) r{DEEPEST}" in lines[DEEPEST]
    assert max(map(len, lines)) < 4 * DEEPEST + 60


def plan(**changes: object) -> TreePlan:
    values: dict[str, object] = {
        "root_run_id": ROOT, "run_ids": (ROOT,), "depth": 1, "role": Role.WORKFLOW,
        "profile": "generic", "reasons": ("it has prompts",), "traces": (), "left_as_runs": "flat",
    }  # fmt: skip
    return TreePlan(**{**values, **changes})  # type: ignore[arg-type]


def test_a_tree_that_stays_runs_says_why() -> None:
    lines = show_text(plan(), RUNS, {}).splitlines()
    assert lines[0] == f"Run {ROOT}"
    assert lines[-3:] == [
        "Role: workflow, by profile generic",
        "    it has prompts",
        "It is kept as runs (flat).",
    ]


def test_spans_stand_beside_the_run_with_tokens_and_errors() -> None:
    made = trace("root")
    text = show_text(plan(traces=(made,), left_as_runs=None), RUNS, {})
    assert f"│ {made.trace_id}  ERROR  2024-04-24 23:06:40.000 UTC" in text
    assert "├─ call  LLM  +0 µs  5.00 s  OK  10 → 5 tokens" in text
    assert "(ValueError: boom)" in text
    assert "feedback quality = 0.75 (LLM_JUDGE)" in text
    assert "It is kept as runs" not in text


def test_a_span_with_only_a_total_shows_that() -> None:
    call = trace().spans[1]
    only_total = {**call.attributes, "mlflow.chat.tokenUsage": '{"total_tokens": 15}'}
    changed = type(call)(
        call.span_id, None, "call", "LLM", "OK", "", call.start_ns, call.end_ns, only_total
    )
    assert span_line(changed, call.start_ns).endswith("OK  15 tokens")


@pytest.mark.parametrize(
    ("length_ns", "text"),
    [(0, "0 µs"), (999_000, "999 µs"), (2_000_000, "2 ms"), (1_500_000_000, "1.50 s"),
     (120_000_000_000, "2.0 min")],
)  # fmt: skip
def test_durations(length_ns: int, text: str) -> None:
    assert duration(length_ns) == text


def test_a_moment_beyond_the_calendar_is_a_number() -> None:
    assert moment(10**9) == "1970-01-01 00:00:01.000 UTC"
    assert moment(10**30) == f"{10**30} ns"
