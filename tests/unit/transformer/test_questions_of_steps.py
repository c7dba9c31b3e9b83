"""Questions that an application asks on the way are neither the user's question nor the answer."""

from __future__ import annotations

import json

import pytest

from migrator import conventions as conv
from tests.support.planskit import plan, run, span, trace, value

ASKED = "When do I get my deposit back?"
REWRITTEN = "How long after the end of the contract is a deposit paid back to the tenant?"
ANSWER = "The deposit comes back within two months after the contract ends."
LOOKED_UP = {"num_chunks": 3.0, "latency_ms": 900.0}


@pytest.mark.parametrize("names", [
    ("query", "rewritten_query"), ("original_query", "rewritten_query"),
    ("question", "generated_question"), ("query", "corrected_query"),
])  # fmt: skip
def test_rewritten_question_is_not_the_answer_of_a_call_that_looks_up(
    names: tuple[str, str],
) -> None:
    asked, rewritten = names
    params = {asked: ASKED, rewritten: REWRITTEN, "model": "gpt-4o"}
    made = trace(run("r", params=params, metrics=LOOKED_UP))
    assert (made.request_preview, made.response_preview) == (ASKED, None)
    answered = trace(run("r", params={**params, "answer": ANSWER}, metrics=LOOKED_UP))
    assert (answered.request_preview, answered.response_preview) == (ASKED, ANSWER)


def test_rewritten_question_is_the_answer_of_what_rewrites() -> None:
    params = {"query": ASKED, "rewritten_query": REWRITTEN, "model": "gpt-4o"}
    assert trace(run("r", params=params)).response_preview == REWRITTEN


def test_answer_of_a_tree_is_not_what_a_later_step_was_asked() -> None:
    rewriting = run("rewriting", "root", start=0, end=300,
                    params={"original_query": ASKED, "rewritten_query": REWRITTEN})  # fmt: skip
    root = run("root", metrics=LOOKED_UP, params={"model": "gpt-4o"})
    judging = run("judging", "root", start=300, end=900, metrics={"relevance_score": 0.2})
    made = trace(root, rewriting, judging)
    assert (made.request_preview, made.response_preview) == (ASKED, None)
    assert value(span(made, "rewriting"), conv.SPAN_OUTPUTS) == REWRITTEN
    writing = run("writing", "root", start=300, end=900, params={"answer": ANSWER})
    assert trace(root, rewriting, writing).response_preview == ANSWER


def test_statement_that_a_later_step_runs_is_the_answer() -> None:
    sql = "SELECT COUNT(*) FROM deposits WHERE paid_back = 1"
    writing = run("writing", "root", start=0, end=300, params={"question": ASKED, "sql_query": sql})
    running = run("running", "root", start=300, end=900, metrics={"rows": 1.0})
    made = trace(run("root", params={"model": "gpt-4o"}), writing, running)
    assert (made.request_preview, made.response_preview) == (ASKED, sql)


@pytest.mark.parametrize("names", [
    ("rag_input_query", "retrieval_query"), ("user_query", "search_query"),
    ("user_query", "standalone_question"), ("user_message", "expanded_query"),
])  # fmt: skip
def test_list_shows_what_the_user_asked_beside_the_question_of_a_step(
    names: tuple[str, str],
) -> None:
    params = dict(zip(names, (ASKED, REWRITTEN), strict=True)) | {"generated_answer": ANSWER}
    (made,) = plan(run("r", params=params, metrics=LOOKED_UP)).traces
    assert (made.request_preview, made.response_preview) == (ASKED, ANSWER)
    inputs = value(made.spans[0], conv.SPAN_INPUTS)
    assert inputs == dict(zip(names, (ASKED, REWRITTEN), strict=True))


GIVEN = "Section 4. The deposit is paid back within two months after the contract ends."


@pytest.mark.parametrize("key", [
    "context", "retrieved_context", "sources", "search_results", "tool_output", "tool_result",
    "tool_response", "observation", "chat_history", "memory", "evidence", "document", "feedback",
    "hypothetical_answer",
])  # fmt: skip
def test_text_that_a_model_was_given_is_not_its_answer(key: str) -> None:
    params = {"question": ASKED, key: GIVEN, "model": "gpt-4o"}
    made = trace(run("r", params=params, metrics=LOOKED_UP))
    assert (made.request_preview, made.response_preview) == (ASKED, None)
    answered = trace(run("r", params={**params, "final_response": ANSWER}, metrics=LOOKED_UP))
    assert (answered.request_preview, answered.response_preview) == (ASKED, ANSWER)


@pytest.mark.parametrize("key", ["generated_document", "reply_to_feedback", "caption"])
def test_text_that_a_model_wrote_is_its_answer(key: str) -> None:
    params = {"question": ASKED, key: ANSWER, "model": "gpt-4o"}
    assert trace(run("r", params=params)).response_preview == ANSWER


def test_output_of_a_tool_is_what_its_own_run_answers() -> None:
    tool = run("search", "root", params={"tool_input": ASKED, "tool_output": GIVEN})
    made = trace(run("root", params={"model": "gpt-4o", "question": ASKED}), tool)
    assert value(span(made, "search"), conv.SPAN_OUTPUTS) == GIVEN
    both = {"question": ASKED, "tool_output": GIVEN, "final_response": ANSWER}
    assert trace(run("r", params=both)).response_preview == ANSWER


def test_files_that_a_model_was_given_are_not_its_answer() -> None:
    chunks = json.dumps([{"text": GIVEN, "score": 0.5}, {"text": ANSWER, "score": 0.25}])
    params = {"question": ASKED, "model": "gpt-4o"}
    for name, text in {"tool_output.json": chunks, "context.txt": GIVEN, "logs.txt": GIVEN}.items():
        made = trace(run("r", params=params, texts={name: text}))
        assert (made.request_preview, made.response_preview) == (ASKED, None)


@pytest.mark.parametrize(("name", "key"), [
    ("evaluate", "explanation"), ("critic", "critique"), ("check", "evaluation_reasoning"),
    ("llm_judge", "response"),
])  # fmt: skip
def test_judgement_on_an_answer_is_not_the_answer_of_a_tree(name: str, key: str) -> None:
    root = run("root", end=5000, params={"query": ASKED})
    writing = run(
        "generate", "root", start=0, end=4000, params={"model": "gpt-4o", "answer": ANSWER}
    )
    params = {"judge_model": "gpt-4o", key: "The answer is right since it names the months."}
    judging = run(name, "root", start=4000, end=4900, params=params, metrics={"score": 0.75})
    made = trace(root, writing, judging)
    assert (made.request_preview, made.response_preview) == (ASKED, ANSWER)
    alone = trace(root, judging)
    assert alone.response_preview == params[key]


@pytest.mark.parametrize(
    "thoughts", ["<think>They ask for a date.</think>\n\n", "<thinking>\na\n</thinking>"]
)
def test_list_shows_the_answer_without_the_thoughts_before_it(thoughts: str) -> None:
    params = {"question": ASKED, "model": "deepseek-r1:7b", "response": thoughts + ANSWER}
    made = trace(run("r", params=params))
    assert made.response_preview == ANSWER
    assert value(made.spans[0], conv.SPAN_OUTPUTS) == thoughts + ANSWER
    only = trace(run("r", params={**params, "response": thoughts}))
    assert only.response_preview == thoughts.strip()
