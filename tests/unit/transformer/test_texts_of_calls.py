"""What is shown as question and answer of trackers that nobody has seen, by kinds of keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from migrator import conventions as conv
from migrator.model import SpanType
from migrator.transformer import load_profiles, wanted_artifacts
from tests.support.planskit import PROFILES, plan, run, trace, value

ASKED = "When do I get my deposit back?"
ANSWER = "The deposit comes back within two months after the contract ends."
CONTEXT = "Section 4. The deposit is paid back within two months after the contract ends. " * 20
LLM = {"model": "gpt-4o"}
GENERIC = [each for each in PROFILES if each.name == "generic"]


def shown(**given: Any) -> tuple[Any, Any]:
    """The inputs and outputs of the one span that a run becomes."""
    (span,) = trace(run("r", **given)).spans
    return value(span, conv.SPAN_INPUTS), value(span, conv.SPAN_OUTPUTS)


@pytest.mark.parametrize(
    ("given", "asked", "answer"),
    [
        # A text that was logged without the ending of a file.
        ({"params": {"query": ASKED}, "texts": {"generated_response": ANSWER}},
         {"query": ASKED}, ANSWER),
        # Roles that are the names of LangChain's classes.
        ({"texts": {"conversation.json": json.dumps([
            {"role": "HumanMessage", "content": ASKED},
            {"role": "AIMessage", "content": ANSWER}])}},
         {"messages": [{"role": "user", "content": ASKED}]}, ANSWER),
        # A history whose speakers nobody knows, beside the run's own answer.
        ({"params": {"user_input": ASKED, "assistant_output": ANSWER},
          "texts": {"conversation_before.json": json.dumps([
              {"role": "student", "content": "Hi"}, {"role": "teacher", "content": "Hi."}])}},
         {"user_input": ASKED}, ANSWER),
        # The bare texts of a chat: question, call of a tool, answer.
        ({"params": {**LLM, "user_query": ASKED, "agent_response": json.dumps(
            [ASKED, "", '[{"id": 1}]', ANSWER])}}, {"user_query": ASKED}, ANSWER),
        # A param that was cut at 50 characters, and the whole text under another name.
        ({"params": {**LLM, "user_request": CONTEXT[:50]},
          "texts": {"user_message.txt": CONTEXT, "answer.txt": ANSWER}},
         {"user_message": CONTEXT}, ANSWER),
        # The same name twice: the longer text.
        ({"params": {**LLM, "user_request": CONTEXT[:33]},
          "texts": {"user_request.txt": CONTEXT.strip(), "answer.txt": ANSWER}},
         {"user_request": CONTEXT.strip()}, ANSWER),
        # A few words beside an answer are what was asked.
        ({"texts": {"merchant_message.txt": "yes please start", "bot_response.txt": ANSWER}},
         {"merchant_message": "yes please start"}, ANSWER),
        # Retrieved documents beside an answer.
        ({"texts": {"query.txt": ASKED, "answer.txt": ANSWER,
                    "retrieved_docs.json": json.dumps([{"text": CONTEXT}])}},
         {"query": ASKED}, ANSWER),
        # A text that was worked on.
        ({"texts": {"transcript.txt": CONTEXT.strip(), "summary.txt": ANSWER}},
         {"transcript": CONTEXT.strip()}, ANSWER),
        ({"params": LLM, "texts": {"source_text.txt": ASKED, "translated_text.txt": ANSWER}},
         {"source_text": ASKED}, ANSWER),
        # Code that the model wrote, under an ending of code.
        ({"params": {"question": ASKED}, "texts": {"generated.sql": "SELECT a FROM b WHERE c = 1"}},
         {"question": ASKED}, "SELECT a FROM b WHERE c = 1"),
        # {"text": …} is an answer where the name of the file says so.
        ({"texts": {"request_payload.json": json.dumps({"task": ASKED}),
                    "response_payload.json": json.dumps({"text": ANSWER, "model": "gpt-4o-mini"})}},
         {"task": ASKED}, ANSWER),
        # The last of several texts, whatever comes first in the order of their names.
        ({"params": {**LLM, "question": ASKED},
          "texts": {"draft_report.txt": CONTEXT, "final_report.txt": ANSWER}},
         {"question": ASKED}, ANSWER),
        ({"params": {**LLM, "question": ASKED},
          "texts": {"draft_report.txt": CONTEXT, "report.txt": ANSWER}},
         {"question": ASKED}, ANSWER),
        # One word is an answer beside a question and the name of an LLM.
        ({"params": {**LLM, "chat_input": ASKED, "chat_output": "Never."}},
         {"chat_input": ASKED}, "Never."),
        ({"params": {**LLM, "incoming_message": "open again tomorrow", "reply": "Yes, at nine."}},
         {"incoming_message": "open again tomorrow"}, "Yes, at nine."),
        ({"params": {**LLM, "tweet_idea": ASKED}, "texts": {"generated_tweet.txt": "Two months #"}},
         {"tweet_idea": ASKED}, "Two months #"),
        # A file with a word of training in its name, which says that an LLM wrote it.
        ({"params": {"question": ASKED}, "texts": {"llm_generated_test_cases.txt": ANSWER}},
         {"question": ASKED}, ANSWER),
        # A system prompt and what was asked are a chat.
        ({"params": {**LLM, "system_prompt": "Be brief.", "question": ASKED, "answer": ANSWER}},
         {"messages": [{"role": "system", "content": "Be brief."},
                       {"role": "user", "content": ASKED}]}, ANSWER),
    ],
)  # fmt: skip
def test_question_and_answer(given: dict[str, Any], asked: Any, answer: str) -> None:
    assert shown(**given) == (asked, answer)


def test_prompt_that_was_made_of_the_question_is_an_attribute() -> None:
    prompt = f"Answer with the context.\n\nContext: {CONTEXT}\n\nQuestion: {ASKED}"
    texts = {"prompt.txt": prompt, "answer.txt": ANSWER}
    (span,) = trace(run("r", params={"question": ASKED}, texts=texts)).spans
    assert value(span, conv.SPAN_INPUTS) == {"question": ASKED}
    assert value(span, "legacy.prompt") == prompt
    assert value(span, conv.SPAN_TYPE) == SpanType.LLM


def test_prompt_that_holds_the_system_prompt_is_what_was_asked() -> None:
    prompt = f"You are a lawyer. {ASKED}"
    params = {**LLM, "system_prompt": "You are a lawyer.", "full_prompt": prompt}
    inputs, _ = shown(params=params, texts={"answer.txt": ANSWER})
    assert inputs["messages"][-1] == {"role": "user", "content": prompt}


@pytest.mark.parametrize(
    "body", [{"text": ANSWER, "model": "gpt-4o-mini"}, {"model": "gpt-4o-mini"}]
)
def test_model_that_a_logged_object_names(body: dict[str, str]) -> None:
    texts = {"request.json": json.dumps({"prompt": ASKED}), "response.json": json.dumps(body)}
    (span,) = trace(run("r", params={"question": ASKED}, texts=texts)).spans
    assert value(span, conv.SPAN_MODEL) == "gpt-4o-mini"


def test_file_with_many_answers_is_an_evaluation() -> None:
    rows = [{"answer": "Lima"}, {"answer": "Santiago"}]
    texts = {"outputs.json": json.dumps(rows)}
    params = {**LLM, "max_tokens": "8"}
    assert plan(run("r", params=params, metrics={"latency": 0.2}, texts=texts)).traces == ()
    one = {"outputs.json": json.dumps({"answer": ANSWER})}
    assert len(plan(run("r", params=params, metrics={"latency": 0.2}, texts=one)).traces) == 1


def test_object_is_the_answer_where_its_tokens_were_counted() -> None:
    labels = {"shot": "close-up", "angle": "low"}
    texts = {"user_message.txt": ASKED, "classification.json": json.dumps(labels)}
    metrics = {"prompt_tokens": 1900, "completion_tokens": 41}
    assert shown(params=LLM, metrics=metrics, texts=texts) == ({"user_message": ASKED}, labels)
    more = {**texts, "shot.json": json.dumps(labels)}
    assert shown(params=LLM, metrics=metrics, texts=more) == ({"user_message": ASKED}, None)
    assert shown(params=LLM, texts=texts) == ({"user_message": ASKED}, None)


@pytest.mark.parametrize(
    ("name", "is_asked"),
    [("email_body", True), ("transcript", True), ("essay", False), ("email_draft", False)],
)
def test_text_alone_beside_the_name_of_an_llm(name: str, is_asked: bool) -> None:
    inputs, outputs = shown(params=LLM, texts={f"{name}.txt": ANSWER})
    expected = ({name: ANSWER}, None) if is_asked else (None, ANSWER)
    assert (inputs, outputs) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"params": {"question": ASKED, "status": "Error during retrieval"}},
        {"params": {"question": ASKED}, "texts": {"error_message.txt": "503 overloaded"}},
        {"params": {"question": ASKED}, "texts": {"llm_error.json": '{"message": "boom"}'}},
    ],
)
def test_error_in_words_or_a_file(given: dict[str, Any]) -> None:
    assert trace(run("r", **given)).status == "ERROR"


def test_tree_of_totals_is_an_evaluation() -> None:
    def child(name: str, **given: Any) -> Any:
        return run(name, "r", params={"condition": name, **LLM, "n_questions": "25"}, **given)

    totals = {"faithfulness": 0.7, "avg_latency_s": 4.0}
    tree = (run("r", params=LLM), child("rag", metrics=totals), child("plain", metrics=totals))
    assert plan(*tree).traces == ()
    answer = {"answer.txt": ANSWER}
    asked = child("rag", metrics=totals, texts=answer), child("plain", metrics=totals, texts=answer)
    assert len(plan(run("r", params=LLM), *asked).traces) == 1


def test_report_over_many_cases_is_not_a_call() -> None:
    report = {"report.md": "The candidate wins most of the games and is weak in math."}
    assert plan(run("r", params=LLM, metrics={"win_rate": 0.6}, texts=report)).traces == ()
    assert len(plan(run("r", params=LLM, metrics={"latency": 0.6}, texts=report)).traces) == 1
    counted = {"win_rate": 0.6, "prompt_tokens": 30, "completion_tokens": 12}
    assert len(plan(run("r", params=LLM, metrics=counted, texts=report)).traces) == 1


def test_text_that_a_classifier_labelled_is_not_a_call() -> None:
    params = {"input_text": "my laptop does not start since the update", "predicted_label": "IT"}
    assert plan(run("r", params={**params, "text_length": "42"})).traces == ()
    assert len(plan(run("r", params={**params, **LLM})).traces) == 1
    assert len(plan(run("r", params={**params, "answer": ANSWER})).traces) == 1


def test_tokens_by_the_last_words_of_a_metric() -> None:
    metrics = {"llm_prompt_tokens": 300, "llm_completion_tokens": 90, "judge_prompt_tokens": 5}
    (span,) = trace(run("r", params=LLM, metrics=metrics)).spans
    assert value(span, conv.SPAN_USAGE) == {
        "input_tokens": 300, "output_tokens": 90, "total_tokens": 390,
    }  # fmt: skip


def test_tokens_of_parts_are_not_those_of_the_run() -> None:
    metrics = {"planner_prompt_tokens": 30, "writer_prompt_tokens": 9}
    made = trace(run("r", params={**LLM, "question": ASKED}, metrics=metrics))
    assert conv.SPAN_USAGE not in made.spans[0].attributes


@pytest.mark.parametrize(
    ("path", "is_read"),
    [
        ("generated_response", True),
        ("out/final_answer", True),
        ("questions.csv", False),
        ("response.png", False),
        ("generated.sql", True),
        ("train.py", False),
        ("classification.json", True),
        ("classification_scores.json", False),
        ("class_names.json", False),
        ("artifacts/transcript.json", True),
    ],
)
def test_files_that_are_read(path: str, is_read: bool) -> None:
    assert wanted_artifacts(GENERIC)(path) is is_read


def test_alternatives_in_the_name_of_a_file() -> None:
    text = 'name = "mine"\n[fields]\noutputs = ["artifact:reply.{py,sql}"]\n'
    (mine,) = [each for each in load_profiles(texts=[("mine.toml", text)]) if each.name == "mine"]
    wanted = wanted_artifacts([mine])
    assert wanted("reply.sql") and wanted("a/reply.py") and not wanted("reply.js")


@pytest.mark.parametrize("blank", ["{text}", "{{ text }}"])
def test_template_is_not_asked_beside_the_prompt_that_was_made_of_it(blank: str) -> None:
    texts = {
        "prompt_template_basic.txt": f"Translate into Korean: {blank}.\n",
        "full_prompt_basic.txt": "Translate into Korean: The sea is calm today.",
    }
    made = trace(run("r", params={"model": "gpt-4o"}, texts=texts))
    (root,) = made.spans
    inputs = {"full_prompt_basic": texts["full_prompt_basic.txt"]}
    assert value(root, "mlflow.spanInputs") == inputs
    assert made.request_preview == texts["full_prompt_basic.txt"]
    other = {**texts, "full_prompt_basic.txt": "Write about the sea."}
    both = value(
        trace(run("r", params={"model": "gpt-4o"}, texts=other)).spans[0], "mlflow.spanInputs"
    )
    assert isinstance(both, dict)
    assert set(both) == {"prompt_template_basic", "full_prompt_basic"}
