"""What programs log by ``str()``: objects of Python, and responses of libraries for LLMs.

The texts are those that langchain-core 1.x, openai 2.x, anthropic 0.x, google-genai 1.x and
ollama 0.x write.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from migrator import conventions as conv
from migrator.model import SpanPlan
from migrator.transformer.python_repr import parse_value
from tests.support.planskit import run, trace, value

ASKED = "When do I get my deposit back?"
ANSWER = "It's \"soon\".\nYes: id=3 content='x'"
COUNTS = {"input_tokens": 12, "output_tokens": 7, "total_tokens": 19}
METADATA = {
    "token_usage": {"completion_tokens": 7, "prompt_tokens": 12, "total_tokens": 19},
    "model_name": "gpt-4o-mini",
}
LANGCHAIN = (
    f"content={ANSWER!r} additional_kwargs={{'refusal': None}} response_metadata={METADATA!r} "
    f"id='run-1' tool_calls=[] usage_metadata={COUNTS!r}"
)
OPENAI = (
    f"ChatCompletion(id='c1', choices=[Choice(finish_reason='stop', index=0, logprobs=None, "
    f"message=ChatCompletionMessage(content={ANSWER!r}, role='assistant', tool_calls=None))], "
    "created=1, model='gpt-4o-mini', object='chat.completion', usage=CompletionUsage("
    "completion_tokens=7, prompt_tokens=12, total_tokens=19))"
)
ANTHROPIC = (
    f"Message(id='m1', content=[TextBlock(citations=None, text={ANSWER!r}, type='text')], "
    "model='claude-3-5-sonnet-20241022', role='assistant', stop_reason='end_turn', "
    "type='message', usage=Usage(input_tokens=12, output_tokens=7))"
)
GOOGLE = (
    f"sdk_http_response=None candidates=[Candidate(\n  content=Content(\n    parts=[\n      Part(\n"
    f"        text={ANSWER!r}\n      ),\n    ],\n    role='model'\n  ),\n"
    "  finish_reason=<FinishReason.STOP: 'STOP'>\n)] create_time=None "
    "model_version='gemini-2.0-flash' usage_metadata=GenerateContentResponseUsageMetadata(\n"
    "  candidates_token_count=7,\n  prompt_token_count=12,\n  total_token_count=19\n)"
)
OLLAMA = (
    "model='llama3' created_at=None done=True prompt_eval_count=12 eval_count=7 "
    f"message=Message(role='assistant', content={ANSWER!r}, thinking=None) logprobs=None"
)
DUMPED = json.dumps(
    {"content": ANSWER, "response_metadata": METADATA, "type": "ai", "usage_metadata": COUNTS}
)


def only_span(**given: Any) -> SpanPlan:
    (span,) = trace(run("r", **given)).spans
    return span


@pytest.mark.parametrize(
    ("response", "model"),
    [
        (LANGCHAIN, "gpt-4o-mini"),
        (LANGCHAIN.replace("id='run-1'", "reason=<Reason.STOP: 1>"), "gpt-4o-mini"),
        (f"AIMessage(content={ANSWER!r}, response_metadata={METADATA!r})", "gpt-4o-mini"),
        (DUMPED, "gpt-4o-mini"),
        (ANTHROPIC, "claude-3-5-sonnet-20241022"),
        (GOOGLE, "gemini-2.0-flash"),
        (OLLAMA, "llama3"),
    ],
)
@pytest.mark.parametrize("place", ["param", "file"])
def test_response_of_a_library_is_its_text(response: str, model: str, place: str) -> None:
    params: dict[str, str] = {"query": ASKED}
    texts: dict[str, str] = {}
    if place == "param":
        params["response"] = response
    else:
        texts["response.txt"] = response
    span = only_span(params=params, texts=texts)
    assert value(span, conv.SPAN_OUTPUTS) == ANSWER
    assert value(span, conv.SPAN_MODEL) == model
    assert value(span, conv.SPAN_USAGE) == COUNTS
    if place == "param":  # which holds more than the answer
        assert value(span, "legacy.param.response") == response


@pytest.mark.parametrize(
    "parts",
    [
        f"[TextBlock(citations=None, text={ANSWER!r}, type='text')]",
        json.dumps([{"type": "text", "text": ANSWER}]),
        json.dumps([{"type": "output_text", "text": ANSWER, "annotations": []}]),
    ],
)
def test_parts_of_a_message_are_its_text(parts: str) -> None:
    span = only_span(params={"query": ASKED, "response": parts})
    assert value(span, conv.SPAN_OUTPUTS) == ANSWER


def test_texts_of_other_lists_are_no_parts() -> None:
    chunks = [{"text": "One chunk.", "score": 0.5}, {"text": "Another chunk.", "score": 0.25}]
    span = only_span(params={"query": ASKED, "response": json.dumps(chunks)})
    assert value(span, conv.SPAN_OUTPUTS) == chunks


def test_chat_completion_is_shown_as_a_chat() -> None:
    made = trace(run("r", params={"query": ASKED, "response": OPENAI}))
    (span,) = made.spans
    shown: Any = value(span, conv.SPAN_OUTPUTS)
    (choice,) = shown["choices"]
    assert choice["message"]["content"] == ANSWER == made.response_preview
    assert value(span, conv.SPAN_MODEL) == "gpt-4o-mini"
    assert value(span, conv.SPAN_USAGE) == COUNTS


@pytest.mark.parametrize("length", [40, 200])
def test_response_that_was_cut_is_what_is_left_of_its_text(length: int) -> None:
    answer = "The deposit comes back within two months. " * 4
    response = f"content={answer!r} additional_kwargs={{}} response_metadata={{}}"[:length]
    span = only_span(params={"query": ASKED, "response": response, "model": "gpt-4o"})
    shown = value(span, conv.SPAN_OUTPUTS)
    assert shown == (answer if length == 200 else answer[: length - len("content='")])


def test_messages_of_a_state_are_a_chat() -> None:
    state = f"{{'messages': [HumanMessage(content={ASKED!r}), AIMessage(content={ANSWER!r})]}}"
    span = only_span(params={"query": ASKED, "response": state})
    assert value(span, conv.SPAN_OUTPUTS) == ANSWER


def test_dict_is_an_object() -> None:
    values = "'sources': ('a.pdf', None), 'score': -0.5, 'loss': nan, 'at': a.b.date(2024, 1)"
    result = f"{{'answer': \"It's here.\", {values}}}"
    made = trace(run("r", params={"question": ASKED, "response": result}))
    (span,) = made.spans
    rest = {"sources": ["a.pdf", None], "score": -0.5, "loss": "nan", "at": "a.b.date(2024, 1)"}
    assert value(span, conv.SPAN_OUTPUTS) == {"answer": "It's here.", **rest}
    assert made.response_preview == "It's here."


@pytest.mark.parametrize(
    "text",
    [
        "x='2' y='3' are the roots.", "content=", "[1] See the paper.", "{'a': 1", "Paris(is=good",
        "[REDACTED]", "[red, green]", "{x}", "[example.com]", "Paris(population=many)",
        "print(x=1)", "The model='gpt' is good.", "f'{x}'", "{**a}", "", "b'1'",
    ],
)  # fmt: skip
def test_other_texts_stay_texts(text: str) -> None:
    assert parse_value(text) == text


@pytest.mark.parametrize(("one", "end"), [("x+", "x"), ("-", "1"), ("x.", "x"), ("not ", "1")])
@pytest.mark.parametrize("times", [900, 20_000])
def test_long_expressions_do_not_recurse(one: str, end: str, times: int) -> None:
    code = one * times + end
    text = f"[{code}]"
    assert parse_value(text) in ([code], [-1.0], [1.0], text)


def test_what_is_nested_too_deeply_stays_text() -> None:
    text = "[" * 10_000 + "'a'" + "]" * 10_000
    assert parse_value(text) == text


@pytest.mark.parametrize("text", [
    f"answer={ANSWER!r} sources=[Source(page=3)] confidence=0.9 is_sure=True",
    f"kind=<Kind.ANSWER: 'answer'> steps=None final_answer={ANSWER!r}",
    f"kind=<Kind.ANSWER: 'answer'> body=Body(answer={ANSWER!r}, follow_up=['Why?'])",
    f"body=Body(response={ANSWER!r}) used={{'answer': 3}}",
])  # fmt: skip
def test_list_shows_the_answer_in_an_object_of_pydantic(text: str) -> None:
    made = trace(run("r", params={"question": ASKED, "answer": text}))
    assert (made.request_preview, made.response_preview) == (ASKED, ANSWER)
    assert value(made.spans[0], conv.SPAN_OUTPUTS) == text


@pytest.mark.parametrize("text", [
    "answer='Soon.'", "answer='Soon.' it='is", "a=1 answer='Soon.' says the contract",
    "first=A(answer='Soon.') second=A(answer='Later.')", "x=1 y=2", "The answer='Soon.' ok=True",
])  # fmt: skip
def test_list_shows_other_texts_as_they_are(text: str) -> None:
    assert trace(run("r", params={"question": ASKED, "answer": text})).response_preview == text
