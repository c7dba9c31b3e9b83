"""Properties of plans over random forests of runs: the laws, whatever the store."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator import conventions as conv
from migrator import encoding
from migrator.model import Json, RunRecord, TreePlan
from migrator.transformer import PlanOptions
from migrator.transformer.trace_totals import decoded
from migrator.transformer.values import last_value
from tests.support.planskit import plans, run

TEXT = st.text(max_size=12)
KEYS = st.sampled_from(
    [
        "prompt",
        "response",
        "model",
        "status",
        "error",
        "session_id",
        "lr",
        "phase",
        "turn",
        "node_kind",
        "ключ",
        "a b",
    ]
)
METRICS = st.sampled_from(
    ["input_tokens", "output_tokens", "total_tokens", "latency_ms", "latency", "cost_usd", "status",
     "success", "accuracy", "judge_x", "user_rating"]
)  # fmt: skip
POINT = st.tuples(st.integers(0, 5000), st.floats(width=32) | st.integers(0, 3), st.integers(0, 3))
FILES = st.sampled_from(
    ["inputs.json", "prompt.txt", "response.txt", "error.json", "queries/query_1.txt",
     "queries/query_2.txt", "messages.json", "retrieved_docs.json"]
)  # fmt: skip


HISTORY = st.lists(POINT, min_size=1, max_size=3, unique=True)
CONTENT = TEXT | st.sampled_from(['{"a": 1}', "Hello there you"])


ACTIONS = st.sampled_from(
    ["chain_start", "chain_end", "llm_start", "llm_end", "llm_new_token", "tool_start", "tool_end",
     "retriever_start", "retriever_end", "agent_action", "text", "?"]
)  # fmt: skip
CELL = (
    st.none() | st.booleans() | st.integers(0, 9) | st.floats() | TEXT | st.lists(TEXT, max_size=2)
)
COLUMNS = ["inputs", "outputs", "target", "token_count", "latency", "tone/v1/score", "model", "x"]


@st.composite
def recorded(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what a tool with files of its own leaves in a run, in order or not."""
    tool = draw(st.sampled_from(["langchain", "openai", "table", "chat"]))
    texts: dict[str, str] = {}
    if tool == "langchain":
        count = draw(st.integers(1, 8))
        folder = draw(st.sampled_from(["", "artifacts-0123456789abcdef-0/"]))
        for number in range(count):
            action = draw(ACTIONS)
            values = {"action": f"on_{action}", "step": draw(st.integers(1, 8)), "name": draw(TEXT)}
            values |= {"prompt": draw(TEXT), "inputs": draw(TEXT), "outputs": draw(TEXT)}
            texts[f"{folder}{action}_{number}.json"] = json.dumps(values)
        texts[f"{folder}chain_start_99.json"] = draw(CONTENT)
        history = draw(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 8), st.just(0))))
        metrics = {"step": history or 1, "chain_starts": 1, "llm_starts": 1}
        return {"metrics": metrics, "texts": texts}
    if tool == "openai":
        for number in range(draw(st.integers(1, 3))):
            folder = f"artifacts-0123456789abcdef-{number}"
            asked = {draw(st.sampled_from(["messages", "prompt", "input"])): draw(TEXT), "n": 1}
            texts[f"{folder}/input.json"] = json.dumps(asked)
            texts[f"{folder}/output.json"] = draw(
                CONTENT | st.just('{"created": 1700000000, "usage": {"prompt_tokens": 3}}')
            )
        return {"tags": {"mlflow.autologging": "openai"}, "texts": texts}
    if tool == "chat":
        said = st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "user", "human", "assistant", "?"])},
            optional={"content": TEXT, "timestamp": CELL, "tokens_used": CELL, "model": CELL},
        )
        chat = draw(st.lists(said, max_size=5))
        texts["conversation_history.json"] = json.dumps(
            draw(st.sampled_from([chat, {"conversation": chat}]))
        )
        return {"params": {"session_id": draw(TEXT)}, "texts": texts}
    rows = draw(st.lists(st.lists(CELL, min_size=8, max_size=8), max_size=3))
    texts["eval_results_table.json"] = json.dumps({"columns": COLUMNS, "data": rows})
    return {"texts": texts}


@st.composite
def forests(draw: st.DrawFn) -> list[RunRecord]:
    count = draw(st.integers(1, 9))
    records = []
    for number in range(count):
        parent = draw(st.none() | st.integers(0, count + 1))  # itself, circles and missing ones too
        given_: dict[str, Any] = {
            "run_name": draw(st.sampled_from(["step", "node_a", "trial_1", "turn_1", " x ", ""])),
            "start": draw(st.none() | st.integers(0, 3000)),
            "end": draw(st.none() | st.integers(0, 3000)),
            "status": draw(st.sampled_from(["FINISHED", "FAILED", "RUNNING", "KILLED"])),
            "deleted": draw(st.booleans()) and draw(st.booleans()),
            "params": draw(st.dictionaries(KEYS, TEXT, max_size=4)),
            "tags": draw(st.dictionaries(KEYS, TEXT, max_size=3)),
            "metrics": draw(st.dictionaries(METRICS, HISTORY, max_size=4)),
            "texts": draw(st.dictionaries(FILES, CONTENT, max_size=3)),
        }
        if draw(st.integers(0, 3)) == 0:
            for kind, values in draw(recorded()).items():
                given_[kind] |= values
        name = None if parent is None else f"run{parent}"
        records.append(run(f"run{number}", name, **given_))
    return records


EVERYTHING = PlanOptions(
    include=frozenset({"sweeps", "pipelines", "flat", "deleted", "tables"}), version="t"
)
ORDINARY = PlanOptions(version="t")


def check_traces(made: list[TreePlan], records: list[RunRecord]) -> None:
    seen: set[str] = set()
    ids: set[str] = set()
    for tree in made:
        assert not seen & set(tree.run_ids)
        seen |= set(tree.run_ids)
        assert (tree.left_as_runs is None) == bool(tree.traces)
        of_tree: list[str] = []
        for made_trace in tree.traces:
            assert made_trace.trace_id not in ids
            ids.add(made_trace.trace_id)
            spans = {s.span_id: s for s in made_trace.spans}
            assert len(spans) == len(made_trace.spans)
            assert [s.parent_span_id for s in made_trace.spans].count(None) == 1
            assert made_trace.spans[0].parent_span_id is None
            before: set[str] = set()
            for span in made_trace.spans:
                assert len(span.span_id) == 16 and span.span_id != "0" * 16
                assert span.end_ns >= span.start_ns + 1000
                if span.parent_span_id is not None:
                    assert span.parent_span_id in before
                    parent = spans[span.parent_span_id]
                    assert parent.start_ns <= span.start_ns and span.end_ns <= parent.end_ns
                before.add(span.span_id)
                assert json.loads(span.attributes["mlflow.traceRequestId"]) == made_trace.trace_id
                for text in (*span.attributes, *span.attributes.values(), span.name):
                    text.encode("utf-8")
                assert (span.status == "ERROR") == any(e.name == "exception" for e in span.events)
                of_tree.append(str(span.run_id))
            by_parent: dict[str | None, list[int]] = {}
            for span in made_trace.spans:
                by_parent.setdefault(span.parent_span_id, []).append(span.start_ns)
            assert all(len(set(starts)) == len(starts) for starts in by_parent.values())
            stats = json.loads(made_trace.metadata[conv.SIZE_STATS])
            assert stats["num_spans"] == len(made_trace.spans)
            assert made_trace.status in ("OK", "ERROR", "STATE_UNSPECIFIED")
            assert made_trace.metadata[conv.SOURCE_RUN] == made_trace.run_ids[0]
            for value in made_trace.metadata.values():
                assert len(value) <= conv.METADATA_CHARS
            total = sum(
                json.loads(s.attributes[conv.SPAN_USAGE]).get("total_tokens", 0)
                for s in made_trace.spans
                if conv.SPAN_USAGE in s.attributes
            )
            # A count that no span has is unknown.
            assert total == ((made_trace.usage.total_tokens or 0) if made_trace.usage else 0)
            assert "\x00" not in json.dumps(dict(made_trace.tags))
        runs_with_spans = [r for i, r in enumerate(of_tree) if r not in of_tree[:i]]
        assert set(runs_with_spans) <= set(tree.run_ids)
    assert seen == {r.run_id for r in records}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(forests(), st.randoms(use_true_random=False))
def test_plans_keep_the_rules_of_traces_and_no_order_matters(
    records: list[RunRecord], random: Any
) -> None:
    made = plans(*records, options=ORDINARY)
    check_traces(made, records)
    shuffled = list(records)
    random.shuffle(shuffled)
    # repr, because NaN is not equal to itself
    assert repr(plans(*shuffled, options=ORDINARY)) == repr(made)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(forests())
def test_a_profile_that_is_passed_over_by_keys_would_not_have_taken_the_tree(
    records: list[RunRecord],
) -> None:
    made = plans(*records, options=EVERYTHING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("migrator.transformer.roles.may_recognise", lambda *args: True)
        assert repr(plans(*records, options=EVERYTHING)) == repr(made)
    for trace in (trace for tree in made for trace in tree.traces):
        texts = tuple(encoding.span_content(trace.trace_id, span) for span in trace.spans)
        assert trace.contents == texts


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(forests())
def test_with_everything_included_nothing_that_was_logged_is_dropped(
    records: list[RunRecord],
) -> None:
    made = plans(*records, options=EVERYTHING)
    check_traces(made, records)
    by_id = {record.run_id: record for record in records}
    for tree in made:
        if tree.left_as_runs == "no-rows":
            assert tree.profile == "evaluation-tables" and not tree.traces
            continue
        assert tree.traces
        spans = [s for t in tree.traces for s in t.spans]
        with_span = {s.run_id for s in spans}
        for run_id in tree.run_ids:
            record = by_id[run_id]
            if tree.profile == "evaluation-tables" and run_id not in with_span:
                continue  # of such a tree only runs with rows become traces
            mine = [s for s in spans if s.run_id == run_id] or spans
            prefix = "legacy." if run_id in with_span else "legacy.parent."
            kept: dict[str, list[Json]] = defaultdict(list)  # a run may have several spans
            for s in mine:
                for key in s.attributes:
                    kept[key].append(decoded(s, key))
            taken = " ".join(o for s in mine for o in s.origins.values())
            for place, values in (("param", record.params), ("tag", record.tags)):
                for key, value in values.items():
                    at = encoding.clean_text(f"{prefix}{place}.{key}")
                    if at in kept:
                        assert encoding.clean_text(value) in kept[at]
                    else:  # it is a standard key: the input, the model, the session, …
                        assert f"{place} {key}" in taken
            for key, points in record.metrics.items():
                assert encoding.sanitize(last_value(points)) in kept[f"{prefix}metric.{key}"]
            if record.artifacts:
                assert [each.path for each in record.artifacts] in kept[f"{prefix}artifacts"]
