"""Traces from the files of events and tables that real tools wrote (fixtures), and damaged ones."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any

import pytest

from migrator import pipeline
from migrator.model import Role, TracePlan, TreePlan
from migrator.pipeline import Options
from migrator.transformer import PlanOptions, load_profiles
from migrator.transformer.profiles import OPT_IN, STEP_READERS
from migrator.transformer.steps import STEPS, langchain
from tests.support import fixturekit
from tests.support.planskit import T0, plan, run, run_id, span, trace, value

ORDINARY = Options()
TABLES = Options(include=frozenset({"tables"}))


@lru_cache
def planned(fixture: str, options: Options = ORDINARY) -> dict[str, TreePlan]:
    """Plan a fixture; return what becomes of each tree by its root's name."""
    trees: list[pipeline.PlannedTree] = []
    pipeline.scan([str(fixturekit.store(fixture))], options, on_tree=trees.append)
    return {t.tree.runs[t.plan.root_run_id].name: t.plan for t in trees}


def outline(made: TracePlan) -> list[str]:
    """Return name and type of all spans, indented by their depth."""
    depth: dict[str, int] = {}
    lines = []
    for each in made.spans:
        depth[each.span_id] = depth.get(each.parent_span_id or "", -1) + 1
        lines.append(f"{'  ' * depth[each.span_id]}{each.name} {each.type}")
    return lines


def test_every_reader_of_steps_that_a_profile_may_name_is_there() -> None:
    assert set(STEPS) == set(STEP_READERS)
    named = {p.steps for p in load_profiles()} - {None}
    assert named == set(STEP_READERS)
    assert {p.opt_in for p in load_profiles()} - {None} == set(OPT_IN)


# ------------------------------------------------------------------- LangChain's callback handler


def test_retrieval_chain_of_the_callback_handler_gets_its_true_tree() -> None:
    tree = planned("2.22.5-langchain")["langchainrun-retrieval"]
    assert (tree.profile, tree.role) == ("langchain-callback", Role.CALL)
    (made,) = tree.traces
    assert outline(made) == [
        "RetrievalQA CHAIN",
        "  Shelf RETRIEVER",
        "  StuffDocumentsChain CHAIN",
        "    LLMChain CHAIN",
        "      ListLLM LLM",
    ]
    assert made.status == "OK"
    assert (made.request_preview, made.response_preview) == (
        "When do I get my money back?",
        "Within 14 days.",
    )
    shelf = span(made, "Shelf")
    documents: Any = value(shelf, "mlflow.spanOutputs")
    assert [d["page_content"] for d in documents] == [
        "Refunds take 14 days.",
        "Zoë answers on Mondays.",
    ]
    assert value(shelf, "mlflow.spanInputs") == {"query": "When do I get my money back?"}
    assert (shelf.end_ns - shelf.start_ns) // 1_000_000 == 251
    model = span(made, "ListLLM")
    assert value(model, "mlflow.spanOutputs") == "Within 14 days."
    assert value(model, "mlflow.llm.model") == "gpt-3.5-turbo-instruct"
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens) == (30, 12)


def test_agent_of_the_callback_handler_has_tool_and_models_in_their_places() -> None:
    (made,) = planned("2.22.5-langchain")["langchainrun-agent"].traces
    lines = outline(made)
    assert lines[0] == "AgentExecutor AGENT"
    assert [line for line in lines if line.startswith("  ") and line[2] != " "] == [
        "  RunnableSequence CHAIN",
        "  weather TOOL",
        "  RunnableSequence CHAIN",
    ]
    assert lines.count("    ListLLM LLM") == 2
    assert lines.count("    ReActSingleInputOutputParser PARSER") == 2
    tool = span(made, "weather")
    assert value(tool, "mlflow.spanInputs") == {"input": "Oslo"}
    assert value(tool, "mlflow.spanOutputs") == "Rain, 12 °C in Oslo"
    first, second = (s for s in made.spans if s.type == "LLM")
    assert value(first, "mlflow.spanOutputs") == (
        "Thought: I must look.\nAction: weather\nAction Input: Oslo"
    )
    assert 1000 <= (first.end_ns - first.start_ns) / 1e6 <= 1010
    assert first.end_ns <= tool.start_ns and tool.end_ns <= second.start_ns
    assert [e.name for e in made.spans[0].events] == ["on_agent_action", "on_agent_finish"]
    assert made.spans[0].events[0].attributes["tool"] == "weather"
    assert made.usage is not None and made.usage.total_tokens == 84


def test_handler_that_was_never_flushed_tells_the_same() -> None:
    trees = planned("2.22.5-langchain")
    flushed, unflushed = (
        trees[f"langchainrun-{n}"].traces[0] for n in ("agent", "unflushed")
    )  # without a flush there is no table with the models' answers: the next event has them
    assert outline(flushed) == outline(unflushed)
    answers = [
        [value(s, "mlflow.spanOutputs") for s in made.spans if s.type == "LLM"]
        for made in (flushed, unflushed)
    ]
    assert answers[0] == answers[1] and all(answers[0])


def test_chain_that_failed_is_an_error_where_it_happened() -> None:
    (made,) = planned("2.22.5-langchain")["langchainrun-failing"].traces
    assert made.status == "ERROR"
    assert [s.status for s in made.spans] == ["ERROR", "ERROR"]
    assert all(s.events[-1].name == "exception" for s in made.spans)


def test_chains_on_one_handler_are_traces_of_their_own_and_a_gap_is_an_error() -> None:
    first, second = planned("2.22.5-langchain")["langchainrun-two_chains"].traces
    assert (first.status, second.status) == ("ERROR", "OK")
    assert outline(first) == outline(second) == ["LLMChain CHAIN", "  ListLLM LLM"]
    assert first.trace_id == f"tr-{first.run_ids[0]}" and first.run_ids == second.run_ids
    assert second.trace_id != first.trace_id
    assert second.timestamp_ms - first.timestamp_ms == 6003
    assert (first.execution_ms, second.execution_ms) == (1, 1004)


def test_files_that_an_earlier_call_left_are_not_taken_for_the_later_ones() -> None:
    (made,) = planned("2.22.5-langchain")["langchainrun-reused"].traces
    assert outline(made) == ["LLMChain CHAIN", "  ListLLM LLM"]
    assert value(made.spans[1], "mlflow.spanInputs") == {"prompt": "Say good night"}
    assert value(made.spans[1], "mlflow.spanOutputs") == "Good night"
    assert "1 earlier call of this run; its counters" in made.tags["migrator.inferences"]
    artifacts: Any = value(made.spans[0], "legacy.artifacts")
    assert "tool_start_2.json" in artifacts  # of the call before; still named


def test_streamed_answer_is_put_together() -> None:
    (made,) = planned("2.22.5-langchain")["langchainrun-streamed"].traces
    assert value(made.spans[0], "mlflow.spanOutputs") == "Sea, wide sea"


def test_handler_below_a_run_of_ones_own_is_a_step_of_it() -> None:
    (made,) = planned("2.22.5-langchain")["ticket 7"].traces
    assert outline(made)[:3] == ["ticket 7 CHAIN", "  answer CHAIN", "    RetrievalQA CHAIN"]
    assert made.metadata["mlflow.trace.session"] == "s-7"
    assert len(made.run_ids) == 2


def test_autologged_calls_of_one_model_are_a_trace_each_in_their_order() -> None:
    (tree,) = planned("2.12.2-langchain").values()
    first, second = tree.traces
    assert [t.request_preview for t in tree.traces] == ["good morning", "good night"]
    assert [t.response_preview for t in tree.traces] == ["Good morning", "Good night"]
    assert second.timestamp_ms - first.timestamp_ms == 61_009
    assert first.metadata["mlflow.trace.session"] == second.metadata["mlflow.trace.session"]
    assert value(first.spans[0], "legacy.session_kind") == "process"


def event(action: str, step: int, **more: Any) -> str:
    return json.dumps({"action": f"on_{action}", "step": step, **more})


def handler_run(texts: dict[str, str], steps: list[int] | None = None) -> Any:
    history = [(10 * n, n, 0) for n in steps or range(1, 9)]
    return run(
        "langchainrun",
        status="RUNNING",
        end=None,
        metrics={"step": history, "chain_starts": 1, "llm_starts": 1},
        texts=texts,
    )


def test_models_that_ran_at_once_are_laid_flat_and_it_is_said() -> None:
    made = trace(
        handler_run(
            {
                "chain_start_1.json": event("chain_start", 1, name="Map", inputs="q=a"),
                "llm_start_1_prompt_0.json": event("llm_start", 2, name="A", prompt="a"),
                "llm_start_2_prompt_0.json": event("llm_start", 3, name="B", prompt="b"),
                "llm_end_1_generation_0.json": event("llm_end", 4),
                "llm_end_2_generation_0.json": event("llm_end", 5),
                "chain_end_1.json": event("chain_end", 6, outputs="text=c"),
            }
        )
    )
    assert outline(made) == ["Map CHAIN", "  A LLM", "  B LLM"]
    assert "same time" in made.tags["migrator.inferences"]


def test_chains_that_do_not_unwind_are_laid_flat_below_the_first() -> None:
    made = trace(
        handler_run(
            {
                "chain_start_1.json": event("chain_start", 1, name="Map", inputs="q=a"),
                "chain_start_2.json": event("chain_start", 2, name="C", inputs="q=a"),
                "tool_start_1.json": event("tool_start", 3, name="T", input_str="a"),
                "chain_end_1.json": event("chain_end", 4, outputs="text=c"),
                "tool_end_1.json": event("tool_end", 5, output="b"),
                "chain_end_2.json": event("chain_end", 6, outputs="text=c"),
            }
        )
    )
    assert outline(made) == ["Map CHAIN", "  C CHAIN", "  T TOOL"]
    assert [s.status for s in made.spans] == ["OK", "OK", "OK"]


def test_tokens_of_a_stream_are_put_together_without_a_table() -> None:
    made = trace(
        handler_run(
            {
                "llm_start_1_prompt_0.json": event("llm_start", 1, name="A", prompt="a"),
                "llm_new_tokens_1.json": event("llm_new_token", 2, token="Wide"),
                "llm_new_tokens_2.json": event("llm_new_token", 3, token=" sea"),
                "llm_end_1_generation_0.json": event("llm_end", 4),
            }
        )
    )
    assert value(made.spans[0], "mlflow.spanOutputs") == "Wide sea"


def test_answer_of_an_agent_without_a_chain_is_what_it_decided() -> None:
    made = trace(
        handler_run(
            {
                "chain_start_1.json": event("chain_start", 1, name="E", inputs="input=a"),
                "llm_start_1_prompt_0.json": event("llm_start", 2, name="A", prompt="a"),
                "llm_end_1_generation_0.json": event("llm_end", 3),
                "agent_finish_1.json": event("agent_finish", 4, output="42", log="It is 42"),
                "chain_end_1.json": event("chain_end", 5, outputs="output=42"),
            }
        )
    )
    assert value(made.spans[1], "mlflow.spanOutputs") == "It is 42"


def test_answer_of_another_calls_table_is_not_taken() -> None:
    row = "<tr><td>on_llm_start<td>1<td>{}<td></tr><tr><td>on_llm_end<td>2<td><td>Yes</tr>"
    head = "<table><tr><th>action<th>step<th>prompt<th>text</tr>"
    texts = {
        "llm_start_1_prompt_0.json": event("llm_start", 1, name="A", prompt="Is it\nwide?"),
        "llm_end_1_generation_0.json": event("llm_end", 2),
    }
    for prompt, answer in (("Is it\\nwide?", "Yes"), ("Is it deep?", None)):
        table = {"table_action_records.html": head + row.format(prompt)}
        (root,) = trace(handler_run(texts | table)).spans
        assert value(root, "mlflow.spanOutputs") == answer


@pytest.mark.parametrize(
    "texts",
    [
        {"chain_start_1.json": "{not json", "chain_end_1.json": "[]"},
        {"chain_start_1.json": '{"action": 5, "step": "x"}'},
        {"chain_start_1.json": '{"action": "on_chain_end", "step": 1, "outputs": {"a": [1]}}'},
        {"chain_start_1.json": '{"action": "on_chain_start", "step": 1e99, "id": {}, "name": 3}'},
        {"llm_start_1_prompt_0.json": event("llm_start", 1, prompt=["a"], id=[None])},
        {"chain_start_1.json": "1", "table_action_records.html": "<tr><td>text<td>step<td>action"},
        {"tool_start_1.json": "", "tool_end_7.json": event("tool_end", 3)},
        {"tool_start_1.json": "{}", "table_action_records.html": "\x00<table><tr>"},
    ],
)
def test_files_that_are_not_what_their_name_says_still_give_one_trace(
    texts: dict[str, str],
) -> None:
    made = plan(handler_run(texts))
    assert (made.profile, len(made.traces)) == ("langchain-callback", 1)
    assert made.traces[0].spans[0].run_id == run_id("langchainrun")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_points_of_a_history_that_are_no_numbers_are_passed_over(number: float) -> None:
    texts = {
        "chain_start_1.json": event("chain_start", 1, name="C", inputs="q=a"),
        "chain_end_1.json": event("chain_end", 2, outputs="text=c"),
    }
    counters = {"chain_starts": 1, "llm_starts": 0}
    sound = [(10, 1, 0), (20, 2, 0)]
    made = trace(run("r", metrics={"step": [(0, number, 0), *sound], **counters}, texts=texts))
    expected = trace(run("r", metrics={"step": sound, **counters}, texts=texts))
    assert [span.start_ns for span in made.spans] == [span.start_ns for span in expected.spans]


def test_empty_run_of_a_handler_stays_a_run() -> None:
    made = plan(run("langchainrun-x", status="RUNNING", end=None))
    assert (made.traces, made.left_as_runs) == ((), "flat")


def test_events_without_a_history_of_steps_take_the_times_of_the_run() -> None:
    record = run(
        "r",
        metrics={"step": [(0, 2, 0)], "chain_starts": 1, "llm_starts": 0},
        texts={
            "chain_start_1.json": event("chain_start", 1, name="C", inputs="q=a"),
            "chain_end_1.json": event("chain_end", 2, outputs="text=c"),
        },
    )
    (made,) = plan(record).traces
    assert T0 <= made.timestamp_ms <= T0 + 1000


def test_very_long_chains_of_events_do_not_recurse() -> None:
    texts = {}
    for n in range(1, 1500):
        texts[f"chain_start_{n}.json"] = event("chain_start", n, name="C", inputs="q=a")
        texts[f"chain_end_{n}.json"] = event("chain_end", 2999 - n, outputs="a=b")
    steps = list(range(1, 2999))
    (made,) = plan(handler_run(texts, steps)).traces
    assert len(made.spans) == 1499
    assert made.status == "OK"


def test_segments_split_where_the_counter_starts_anew() -> None:
    record = run("r", metrics={"step": [(0, 1, 0), (1, 2, 0), (5, 1, 0), (5, 2, 0), (9, 1, 0)]})
    assert [len(s) for s in langchain._segments(record.metrics["step"])] == [2, 2, 1]


# -------------------------------------------------------------------------- OpenAI's autologging


def test_each_autologged_openai_call_is_a_trace_of_its_type() -> None:
    trees = planned("2.14.3-openai").values()
    made = [t for tree in trees for t in tree.traces]
    assert sorted(t.spans[0].type for t in made) == [
        "CHAT_MODEL", "CHAT_MODEL", "CHAT_MODEL", "CHAT_MODEL", "EMBEDDING", "LLM",
    ]  # fmt: skip
    by_request = {t.request_preview: t for t in made}
    first = by_request["How is the sea?"]
    root = first.spans[0]
    assert value(root, "mlflow.spanInputs") == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "How is the sea?"}],
        "temperature": 0.2,
    }
    assert (first.response_preview, first.name) == ("The sea is wide.", "Completions")
    assert first.usage is not None and first.usage.total_tokens == 13
    assert value(root, "mlflow.llm.provider") == "openai"
    second = by_request["And the land?"]
    assert first.run_ids == second.run_ids and first.trace_id != second.trace_id
    assert first.timestamp_ms < second.timestamp_ms
    assert by_request["Où est Zoë ?"].response_preview == "Où est Zoë ?"
    mine = by_request["How is the sea today?"].spans[0]
    assert value(mine, "legacy.param.team") == "blue"


def test_call_alone_in_its_run_has_the_runs_times() -> None:
    (made,) = [
        t
        for tree in planned("2.14.3-openai").values()
        for t in tree.traces
        if t.spans[0].type == "EMBEDDING"
    ]
    assert made.execution_ms is not None and 1000 <= made.execution_ms < 1100


def test_openai_call_that_failed_left_nothing_and_stays_a_run() -> None:
    left = [t for t in planned("2.14.3-openai").values() if not t.traces]
    assert [t.left_as_runs for t in left] == ["flat"]


# ------------------------------------------------------------------------------------- tables


def test_tables_stay_runs_until_they_are_included_and_are_counted() -> None:
    left = {name: t.left_as_runs for name, t in planned("2.9.2-tables").items()}
    assert left == {
        "judge answers": "tables",
        "brave-owl-7": "tables",
        "batch of answers": "tables",
        "churn": "flat",  # a table of weights is no evaluation
    }


def test_evaluated_rows_become_traces_with_scores_and_what_was_expected() -> None:
    tree = planned("2.9.2-tables", TABLES)["judge answers"]
    assert (tree.profile, tree.role) == ("evaluation-tables", Role.BATCH)
    first, second, _ = tree.traces
    assert value(first.spans[0], "mlflow.spanInputs") == {
        "inputs": "What is the sea?",
        "context": ["The sea is salty."],
    }
    assert (second.request_preview, second.response_preview) == ("Où est Zoë ?", "À la plage.")
    assert [(a.name, a.type, a.value, a.source_type, a.rationale) for a in first.assessments] == [
        ("ground_truth", "expectation", "A body of salt water", "HUMAN", None),
        ("tone", "feedback", 5, "LLM_JUDGE", "Polite."),
        ("chars", "feedback", 11, "CODE", None),
    ]
    assert first.timestamp_ms < second.timestamp_ms
    assert "shared out" in first.tags["migrator.inferences"]
    assert len({a.assessment_id for t in tree.traces for a in t.assessments}) == 9


def test_run_of_the_prompt_engineering_ui_becomes_one_call() -> None:
    (made,) = planned("2.9.2-tables", TABLES)["brave-owl-7"].traces
    root = made.spans[0]
    assert root.type == "LLM"
    assert value(root, "mlflow.spanInputs") == {
        "word": "sea",
        "language": "French",
        "prompt": "Say sea in French",
    }
    assert value(root, "mlflow.spanOutputs") == "La mer"
    assert value(root, "mlflow.llm.model") == "completions-gpt4"
    assert made.usage is not None and made.usage.total_tokens == 17
    assert made.execution_ms in (812, 813)  # it ended when the run was made
    assert value(root, "legacy.param.prompt_template") == "Say {{ word }} in {{ language }}"


def test_rows_with_latencies_follow_one_another() -> None:
    made = planned("2.9.2-tables", TABLES)["batch of answers"].traces
    assert [t.execution_ms for t in made] == [500, 750, 250]
    assert [t.timestamp_ms - made[0].timestamp_ms for t in made] == [0, 500, 1250]


def test_csv_of_log_predictions_is_read() -> None:
    (tree,) = planned("2.4.2-predictions", TABLES).values()
    assert [t.response_preview for t in tree.traces] == ["Salt water.", "À la plage.", "No answer"]


def test_token_count_of_mlflow_evaluate_is_the_output_alone() -> None:
    table = {"columns": ["inputs", "outputs", "token_count"], "data": [["a b", "c d", 7]]}
    (made,) = plan(
        run("r", texts={"eval_results_table.json": json.dumps(table)}),
        options=PlanOptions(include=frozenset({"tables"})),
    ).traces
    assert value(made.spans[0], "mlflow.chat.tokenUsage") == {"output_tokens": 7}


def test_rows_that_took_longer_than_their_run_came_before_it() -> None:
    columns = ["prompt", "output", "MLFLOW_latency"]
    table = {"columns": columns, "data": [["a", "b", "600"], ["c", "d", "200"]]}
    first, second = plan(
        run("r", start=0, end=2, texts={"eval_results_table.json": json.dumps(table)}),
        options=PlanOptions(profile="evaluation-tables"),
    ).traces
    assert (first.timestamp_ms - T0, second.timestamp_ms - T0) == (-800, -200)
    assert (first.execution_ms, second.execution_ms) == (600, 200)


@pytest.mark.parametrize("text", ["{", "[]", '{"columns": 1, "data": [[1]]}', '{"columns": ["a"]}'])
def test_table_that_is_none_leaves_the_run_as_it_was(text: str) -> None:
    made = plan(
        run("r", texts={"eval_results_table.json": text}),
        options=PlanOptions(include=frozenset({"tables"})),
    )
    assert (made.traces, made.left_as_runs) == ((), "flat")


def test_run_that_is_a_call_by_itself_keeps_its_trace_beside_its_table() -> None:
    table = {"columns": ["inputs", "outputs"], "data": [["a b", "c d"]]}
    record = run(
        "r",
        texts={
            "eval_results_table.json": json.dumps(table),
            "prompt.txt": "What is the sea made of?",
            "response.txt": "Water and salt.",
        },
    )
    assert plan(record).role is Role.CALL
