"""Texts of single calls, calls of tools, links to prompts and models, and inputs from siblings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from migrator import conventions as conv
from migrator.model import RunRecord, TracePlan
from migrator.transformer import load_profiles
from tests.support.planskit import LLM, run, span, trace, value

OURS = """
name = "ours"
extends = "generic"
inputs_from_sibling = true
[[recognise]]
root_has = ["tag:ours"]
[fields]
call_inputs = ["artifact:asked/*.txt", "param:asked"]
call_outputs = ["artifact:answers.json", "artifact:told/*.txt"]
"""
PROFILES = load_profiles(texts=[("ours.toml", OURS)])
TWO_CALLS = {
    "input_tokens": [(100, 10, 0), (900, 20, 1)],
    "output_tokens": [(100, 5, 0), (900, 7, 1)],
}


def ours(**given: Any) -> TracePlan:
    return trace(run("r", tags={"ours": "1"}, **given), profiles=PROFILES)


def texts_of(made: TracePlan) -> list[tuple[Any, Any]]:
    """Inputs and outputs of the calls below the root, in their order."""
    return [(value(s, conv.SPAN_INPUTS), value(s, conv.SPAN_OUTPUTS)) for s in made.spans[1:]]


def test_each_call_of_a_history_has_its_own_texts() -> None:
    texts = {
        "asked/2.txt": "Second?", "asked/1.txt": "First?", "answers.json": '["Yes.", "No."]',
    }  # fmt: skip
    made = ours(metrics=TWO_CALLS, texts=texts)
    assert texts_of(made) == [({"asked": "First?"}, "Yes."), ({"asked": "Second?"}, "No.")]
    usages = [value(each, conv.SPAN_USAGE) for each in made.spans[1:]]
    assert [usage["total_tokens"] for usage in usages if isinstance(usage, dict)] == [15, 27]
    assert made.spans[1].origins["outputs"] == "artifact answers.json"
    assert made.tags["migrator.inferences"] == (
        "2 calls in one run: a span for each; start: the call's duration is not known (x2)"
    )


@pytest.mark.parametrize(
    ("file", "name"), [("asked/prompt_{}.txt", "prompt"), ("asked/{}_user_text.txt", "user_text")]
)
def test_name_of_an_input_is_the_same_for_all_calls(file: str, name: str) -> None:
    made = ours(metrics=TWO_CALLS, texts={file.format(n): f"Text {n}" for n in (1, 2)})
    assert texts_of(made) == [({name: "Text 1"}, None), ({name: "Text 2"}, None)]


def test_chat_of_a_call_is_its_messages() -> None:
    chats = [[{"role": "user", "content": f"Question {n}?"}] for n in (1, 2)]
    made = ours(metrics=TWO_CALLS, params={"asked": json.dumps(chats)})
    assert texts_of(made) == [({"messages": chat}, None) for chat in chats]


def test_texts_that_are_not_as_many_as_the_calls_stay_out_of_them() -> None:
    made = ours(metrics=TWO_CALLS, texts={"answers.json": '["Yes.", "No.", "Maybe."]'})
    assert texts_of(made) == [(None, None), (None, None)]


def test_texts_alone_tell_of_calls() -> None:
    made = ours(params={"asked": '["One?", "Two?"]', "model": "gpt-4o", "prompt": "Why is it so?"})
    assert texts_of(made) == [({"asked": "One?"}, None), ({"asked": "Two?"}, None)]


AGENTS = {
    "agents/planner_prompt.txt": "Plan it.", "agents/planner_response.txt": "First this.",
    "agents/coder_prompt.txt": "Code it.", "agents/coder_response.txt": "print(1)",
}  # fmt: skip


def test_texts_in_pairs_are_a_call_each() -> None:
    metrics = {"prompt_tokens": 30, "completion_tokens": 9, "latency_s": 4.0}
    made = trace(run("r", end=30, params={"model": "gpt-4o"}, texts=AGENTS, metrics=metrics))
    assert [(each.name, each.type) for each in made.spans] == [
        ("r", "CHAIN"),
        ("coder", "LLM"),
        ("planner", "LLM"),
    ]
    assert texts_of(made) == [
        ({"coder_prompt": "Code it."}, "print(1)"),
        ({"planner_prompt": "Plan it."}, "First this."),
    ]
    assert value(made.spans[0], conv.SPAN_INPUTS) is value(made.spans[0], conv.SPAN_OUTPUTS) is None
    assert (made.request_preview, made.response_preview) == ("Code it.", "print(1)")
    assert made.usage is not None
    assert made.usage.total_tokens == 39
    assert made.execution_ms == 4030  # the run was logged after the calls
    assert "order: by name" in made.tags["migrator.inferences"]


@pytest.mark.parametrize(
    ("asked", "answered"), [("question_{}", "answer_{}"), ("q{}_question", "q{}_answer")]
)
def test_preview_of_several_questions_shows_one_with_its_answer(asked: str, answered: str) -> None:
    texts = {asked: ("Why is it?", "Who is it?"), answered: ("So it is.", "It is Ada.")}
    params = {
        key.format(number): each[number - 1] for key, each in texts.items() for number in (1, 2)
    }
    made = trace(run("r", params={"model": "gpt-4o", **params}))
    assert len(made.spans) == 3
    assert (made.request_preview, made.response_preview) == ("Why is it?", "So it is.")
    assert not [key for key in made.spans[0].attributes if key.startswith("legacy.param.q")]


def test_what_stands_beside_the_pairs_is_the_runs_own() -> None:
    texts = {**AGENTS, "user_query.txt": "Do it all.", "final_answer.txt": "All is done."}
    made = trace(run("r", params={"model": "gpt-4o"}, texts=texts))
    root = made.spans[0]
    assert value(root, conv.SPAN_INPUTS) == {"user_query": "Do it all."}
    assert value(root, conv.SPAN_OUTPUTS) == "All is done."
    assert (made.request_preview, made.response_preview) == ("Do it all.", "All is done.")


@pytest.mark.parametrize(
    "texts",
    [
        {"prompt.txt": "Why is it?", "response.txt": "So it is."},
        {"planner_prompt.txt": "Plan it.", "planner_response.txt": "First this."},
        {
            "system_prompt.txt": "Be brief.", "user_prompt.txt": "Why is it?",
            "raw_response.txt": "So...", "final_response.txt": "So it is.",
        },
        {"question.txt": "Why is it?", "answer.txt": "So.", "expected_answer.txt": "So it is."},
    ],
)  # fmt: skip
def test_texts_of_one_call_are_no_pairs(texts: dict[str, str]) -> None:
    made = trace(run("r", params={"model": "gpt-4o"}, texts=texts))
    assert len(made.spans) == 1


def test_settings_in_pairs_are_no_calls() -> None:
    params = {"model": "gpt-4o", "question": "Why is it?", "answer": "So it is."}
    sizes = {
        "encoder_input": "512",
        "encoder_output": "64",
        "decoder_input": "x",
        "decoder_output": "y",
    }
    assert len(trace(run("r", params={**params, **sizes})).spans) == 1


def test_pairs_of_a_run_with_steps_are_its_own_texts() -> None:
    made = trace(run("r", texts=AGENTS), run("step", "r", **LLM))
    assert [each.name for each in made.spans] == ["r", "step"]


OPENAI = [{"id": "c1", "type": "function",
           "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]  # fmt: skip
LANGCHAIN = [{"name": "weather", "args": {"city": "Oslo"}, "result": "rain"}]
ANTHROPIC = [{"type": "tool_use", "name": "weather", "input": {"city": "Oslo"}}]


@pytest.mark.parametrize(
    ("calls", "result"), [(OPENAI, None), (LANGCHAIN, "rain"), (ANTHROPIC, None)]
)
def test_calls_of_tools_become_spans_below_the_call(calls: Any, result: str | None) -> None:
    texts = {**LLM["texts"], "tool_calls.json": json.dumps(calls)}
    made = trace(run("r", **{**LLM, "texts": texts}))
    root, tool = made.spans
    assert (tool.name, tool.type, tool.parent_span_id) == ("weather", "TOOL", root.span_id)
    assert value(tool, conv.SPAN_INPUTS) == {"city": "Oslo"}
    assert value(tool, conv.SPAN_OUTPUTS) == result
    assert root.type == "LLM"  # it is still the model's call
    assert made.usage is not None and made.usage.total_tokens == 15
    assert root.start_ns <= tool.start_ns and tool.end_ns <= root.end_ns


def test_list_without_names_makes_no_span() -> None:
    texts = {**LLM["texts"], "tool_calls.json": '[{"id": 1}, "x", null]'}
    assert len(trace(run("r", **{**LLM, "texts": texts})).spans) == 1


def test_registered_prompt_and_logged_model_are_linked() -> None:
    model = "m-" + "0123456789abcdef" * 2
    params = {**LLM["params"], "prompt_uri": "prompts:/greeting/3", "model_uri": f"models:/{model}"}
    made = trace(run("r", **{**LLM, "params": params}))
    assert made.prompts == ("greeting/3",)
    assert json.loads(made.tags["mlflow.linkedPrompts"]) == [{"name": "greeting", "version": "3"}]
    assert made.metadata["mlflow.modelId"] == model


@pytest.mark.parametrize("uri", ["models:/reviews/3", "runs:/abc/model", "m-12"])
def test_other_uris_link_nothing(uri: str) -> None:
    params = {**LLM["params"], "prompt_uri": "greeting", "model_uri": uri}
    made = trace(run("r", **{**LLM, "params": params}))
    assert made.prompts == () and "mlflow.modelId" not in made.metadata


def steps() -> list[RunRecord]:
    return [
        run("r", tags={"ours": "1"}, end=900),
        run("one", "r", start=0, end=100, params={"model": "gpt-4o", "prompt": "Why is it so?"},
            texts={"response.txt": "Because."}),
        run("two", "r", start=200, end=300, params={"model": "gpt-4o"},
            texts={"response.txt": "So it is."}),
        run("three", "r", start=400, end=500, params={"model": "gpt-4o"}),
    ]  # fmt: skip


def test_step_without_inputs_has_what_the_one_before_it_answered() -> None:
    made = trace(*steps(), profiles=PROFILES)
    assert value(span(made, "two"), conv.SPAN_INPUTS) == "Because."
    assert value(span(made, "three"), conv.SPAN_INPUTS) == "So it is."
    assert value(span(made, "one"), conv.SPAN_INPUTS) == {"prompt": "Why is it so?"}
    assert span(made, "two").origins["inputs"] == "outputs of one"
    assert "inputs: what one answered before it" in made.tags["migrator.inferences"]


def test_without_the_profiles_word_no_input_is_taken_from_a_sibling() -> None:
    made = trace(*steps())
    assert conv.SPAN_INPUTS not in span(made, "two").attributes
