"""Calls in objects of many shapes: wrapped, as pairs, with histories."""

from __future__ import annotations

import json
from typing import Any

import pytest

from migrator import conventions as conv
from tests.support.planskit import plan, run, trace, value

ASKED = "How do I reset the password of my account?"
ANSWER = "Open the settings, choose security, and click on the link that you get by mail."
PAIR = {"question": ASKED, "answer": ANSWER}
EARLIER = ("Hello, are you there?", "Yes, I am here. What is it about?")

SHAPES: dict[str, Any] = {
    "wrapped": {"interaction": PAIR},
    "wrapped twice": {"run": {"state": PAIR, "version": "2"}},
    "beside metadata": {"metadata": {"model": "gpt-4o", "at": 1}, "payload": PAIR},
    "inputs and outputs": {"inputs": {"question": ASKED}, "outputs": {"text": ANSWER}},
    "list of one": [PAIR],
    "roles as keys": {"user": ASKED, "assistant": ANSWER},
    "list of roles as keys": [
        {"user": EARLIER[0], "assistant": EARLIER[1]},
        {"user": ASKED, "assistant": ANSWER, "timestamp": "2025-01-01T10:00:00"},
    ],
    "history of roles as keys": {"history": [{"user": ASKED, "bot": ANSWER}]},
    "history of pairs": {"chat_history": [list(EARLIER), [ASKED, ANSWER]]},
    "history of roles and texts": {"conversation": [["user", ASKED], ["assistant", ANSWER]]},
    "parts": [
        {"role": "user", "parts": [{"text": ASKED}]},
        {"role": "model", "parts": [{"text": ANSWER}]},
    ],
}


@pytest.mark.parametrize("name", ["interaction.json", "result.json", "chat/turn_1.json"])
@pytest.mark.parametrize("shape", SHAPES)
def test_question_and_answer_of_an_object(shape: str, name: str) -> None:
    made = trace(run("r", end=3000, texts={name: json.dumps(SHAPES[shape])}))
    assert (made.request_preview, made.response_preview) == (ASKED, ANSWER)


@pytest.mark.parametrize("name", ["interaction.txt", "output.txt"])
def test_dict_as_python_prints_it(name: str) -> None:
    made = trace(run("r", end=3000, texts={name: str(PAIR)}))
    assert (made.request_preview, made.response_preview) == (ASKED, ANSWER)


@pytest.mark.parametrize(
    "value",
    [
        {"case_1": PAIR, "case_2": PAIR},  # an evaluation
        [{"user": ASKED, "assistant": ANSWER, "score": 1}] * 2,
        {"history": [["loss", "0.3"], ["accuracy", 0.9]]},
        {"history": [["loss", "0.3"], ["accuracy", "0.9"]]},
        [["user", ASKED], ["assistant", ANSWER]],  # rows of any table
    ],
)
def test_cases_and_tables_are_no_chats(value: Any) -> None:
    assert plan(run("r", end=3000, texts={"cases.json": json.dumps(value)})).traces == ()


MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]
BODY = {"model": "gpt-4o", "choices": [{"message": {"role": "assistant", "content": ANSWER}}]}
PARAMS: dict[str, dict[str, str]] = {
    "objects of each side": {
        "input": json.dumps({"question": ASKED}), "output": json.dumps({"answer": ANSWER}),
    },
    "objects as Python prints them": {
        "input": str({"question": ASKED}), "output": str({"answer": ANSWER, "sources": ["a"]}),
    },
    "result with the question": {"query": ASKED, "result": str({"query": ASKED, "result": ANSWER})},
    "bodies": {
        "request": json.dumps({"model": "gpt-4o", "messages": MESSAGES}),
        "response": json.dumps(BODY),
    },
    "messages as Python prints them": {"messages": str(MESSAGES), "response": ANSWER},
    "texts in quotes": {"question": json.dumps(ASKED), "answer": json.dumps(ANSWER)},
    "list of one": {"question": ASKED, "answer": json.dumps([ANSWER])},
}  # fmt: skip


@pytest.mark.parametrize("place", ["params", "tags"])
@pytest.mark.parametrize("form", PARAMS)
def test_objects_in_params_and_tags(form: str, place: str) -> None:
    logged: dict[str, Any] = {place: PARAMS[form]}
    made = trace(run("r", end=3000, **logged))
    assert (made.request_preview, made.response_preview) == (ASKED, ANSWER)


def test_what_a_system_responded_is_the_answer() -> None:
    params = {"model": "gpt-4o", "question": ASKED, "system_response": ANSWER}
    assert trace(run("r", end=3000, params=params)).response_preview == ANSWER


def test_of_several_texts_that_came_out_none_is_picked() -> None:
    both = {"en": ANSWER, "de": "Unter Einstellungen, Sicherheit, und dann dem Link in der Mail."}
    call = {"inputs": {"question": ASKED}, "outputs": both}
    made = trace(run("r", params={"model": "gpt-4o"}, texts={"interaction.json": json.dumps(call)}))
    assert value(made.spans[0], conv.SPAN_OUTPUTS) == both


def test_error_in_the_result_of_a_test_is_not_the_call_s() -> None:
    result = {"error": "Wrong answer", "expected": "Positive", "input": "5"}
    for other in (result, {"error": "Wrong answer", "line": 3}):
        texts = {"errors.txt": str([other]), "prompt.txt": ASKED, "response.txt": ANSWER}
        assert trace(run("r", end=3000, texts=texts)).status == "OK"
    call = {"model": "gpt-4o", "error": "Rate limit reached for requests"}
    made = trace(run("r", end=3000, texts={"call.json": json.dumps(call), "prompt.txt": ASKED}))
    assert made.status == "ERROR"
