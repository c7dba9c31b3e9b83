"""Calls under names that no profile lists: known by their shape and form, beside an LLM's name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from migrator import conventions as conv
from migrator.model import TokenUsage
from migrator.transformer import load_profiles, wanted_artifacts
from tests.support.planskit import PROFILES, plan, run, trace, value

WHALE = "The whale is a mammal that lives in the sea and breathes air."
ASKED = "What is a whale?"
LLM = {"model": "gpt-4o"}
CHAT = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": WHALE}]
OPENAI = {
    "object": "chat.completion", "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": WHALE}}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 30, "total_tokens": 42},
}  # fmt: skip
ANTHROPIC = {
    "type": "message", "role": "assistant", "model": "claude-3-5-sonnet-20240620",
    "content": [{"type": "text", "text": WHALE}],
    "usage": {"input_tokens": 12, "output_tokens": 30},
}  # fmt: skip
GEMINI = {
    "candidates": [{"content": {"parts": [{"text": WHALE}], "role": "model"}}],
    "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 30, "totalTokenCount": 42},
}


@pytest.mark.parametrize(
    ("given", "asked", "answered"),
    [
        ({"texts": {"qa.json": {"question": ASKED, "answer": WHALE}}}, ASKED, WHALE),
        ({"params": LLM, "texts": {"call.json": {"input": ASKED, "output": WHALE}}}, ASKED, WHALE),
        ({"params": LLM, "texts": {"dialog.json": CHAT}}, ASKED, WHALE),
        ({"params": LLM, "texts": {"log.json": {"user": ASKED, "assistant": WHALE}}}, ASKED, WHALE),
        ({"params": {**LLM, "history": json.dumps(CHAT)}}, ASKED, WHALE),
        ({"params": {**LLM, "llm_input": json.dumps(CHAT[:1])}}, ASKED, None),
        ({"params": {**LLM, "chat": f"User: {ASKED}\nAssistant: {WHALE}"}}, ASKED, WHALE),
        ({"params": {"payload": json.dumps({**LLM, "messages": CHAT[:1]})}}, ASKED, None),
        ({"texts": {"raw.json": OPENAI}}, None, WHALE),
        ({"texts": {"raw.json": ANTHROPIC}}, None, WHALE),
        ({"texts": {"raw.json": GEMINI}}, None, WHALE),
        ({"params": {"modell": "gpt-4o", "anliegen": ASKED, "bot_text": WHALE}}, ASKED, WHALE),
        ({"params": {"soru": "Balina nedir?", "cevap": "Balina bir deniz memelisidir."}},
         "Balina nedir?", "Balina bir deniz memelisidir."),
        ({"params": {**LLM, "质问": "鲸鱼是什么动物？"}}, "鲸鱼是什么动物？", None),
        ({"params": LLM, "texts": {"essay.md": WHALE}}, None, WHALE),
        ({"params": {**LLM, "caption": WHALE}}, None, WHALE),
    ],
)  # fmt: skip
def test_call_under_other_names(
    given: dict[str, Any], asked: str | None, answered: str | None
) -> None:
    texts = {
        path: body if isinstance(body, str) else json.dumps(body)
        for path, body in given.get("texts", {}).items()
    }
    made = trace(run("r", **{**given, "texts": texts}))
    assert (made.request_preview, made.response_preview) == (asked, answered)


OTHER = "What is a dolphin?"


@pytest.mark.parametrize(
    ("path", "body", "answered"),
    [
        ("query_result_7.json", {"question": ASKED, "result": {"answer": WHALE, "hits": 2}}, WHALE),
        ("test_results.json", {"question": ASKED, "answer": WHALE, "score": 1}, WHALE),
        # Anything less may be what a job of any kind left.
        ("query_result_7.json", {"question": ASKED, "result": {"explanation": WHALE}}, None),
        ("query_result_7.json", {"question": OTHER, "result": {"answer": WHALE}}, None),
        ("few_shots.json", {"question": OTHER, "answer": WHALE}, None),
        ("eval_data.json", {"answer": WHALE}, None),
        ("eval_data.json", {"inputs": {"text": ASKED}, "answer": WHALE}, None),
    ],
)
def test_file_with_a_usual_name_answers_if_it_holds_the_runs_own_question(
    path: str, body: dict[str, Any], answered: str | None
) -> None:
    made = trace(run("r", params={"question": ASKED}, texts={path: json.dumps(body)}))
    assert (made.request_preview, made.response_preview) == (ASKED, answered)


def test_statement_answers_and_not_what_a_result_says_of_it() -> None:
    sql = "SELECT COUNT(*) FROM whales WHERE ocean = 'arctic'"
    params = {"question": ASKED, "sql_query": sql}
    body = {"question": ASKED, "result": {"sql_query": sql, "explanation": f"SQL for {ASKED}"}}
    made = trace(run("r", params=params, texts={"query_result_7.json": json.dumps(body)}))
    assert made.response_preview == sql


def test_table_of_one_row_is_a_call() -> None:
    table = json.dumps({"columns": ["question", "answer"], "data": [[ASKED, WHALE]]})
    tag = json.dumps([{"path": "chat_log.json", "type": "table"}])
    given: dict[str, Any] = {
        "tags": {"mlflow.loggedArtifacts": tag}, "texts": {"chat_log.json": table},
    }  # fmt: skip
    made = plan(run("r", **given))
    (only,) = made.traces
    assert (only.request_preview, only.response_preview) == (ASKED, WHALE)
    assert not made.issues


def test_logged_table_under_the_name_of_an_answer_is_not_one() -> None:
    table = json.dumps({"columns": ["question", "answer"], "data": [[ASKED, WHALE], ["b", "c"]]})
    tags = {"mlflow.loggedArtifacts": json.dumps([{"path": "response.json", "type": "table"}])}
    params = {**LLM, "question": ASKED, "response": WHALE}
    made = trace(run("r", params=params, tags=tags, texts={"response.json": table}))
    assert (made.request_preview, made.response_preview) == (ASKED, WHALE)


def test_model_and_tokens_are_read_from_the_body_of_a_response() -> None:
    for path, body in (("raw.json", OPENAI), ("response.json", OPENAI), ("raw.json", ANTHROPIC)):
        made = trace(run("r", texts={path: json.dumps(body)}))
        assert value(made.spans[0], conv.SPAN_MODEL) == body["model"]
        assert value(made.spans[0], conv.SPAN_USAGE) == {
            "input_tokens": 12, "output_tokens": 30, "total_tokens": 42,
        }  # fmt: skip


def test_param_that_holds_a_call_stays_in_the_attributes_and_the_guess_is_said() -> None:
    text = json.dumps({"question": ASKED, "answer": WHALE, "shard": 7})
    made = trace(run("r", params={"call": text, "anliegen": "x"}))
    assert value(made.spans[0], "legacy.param.call") == text
    guessed = trace(run("r", params={**LLM, "anliegen": ASKED}))
    assert "no profile lists param anliegen" in guessed.tags["migrator.inferences"]


@pytest.mark.parametrize(
    "prompt",
    [
        "Write a haiku about autumn rain",
        "Summarize the history of whales in three sentences",
        "Schreibe ein Gedicht über den Herbst in Hamburg",
        "写一首关于春天的诗，要押韵啊",
        "Translate this text: the weather is nice in Paris today",
    ],
)
def test_prompt_that_asks_for_one_thing_is_a_call(prompt: str) -> None:
    made = trace(run("r", params={**LLM, "prompt": prompt}))
    assert made.request_preview == prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "Answer the user's question: {question}",
        "Summarize the following text in three sentences.",
        "You are an expert lawyer. Answer briefly.",
        "Think step by step and answer the question.",
        "Translate the given sentence into French.",
        "Eres un asistente útil. Responde a la pregunta del usuario.",
    ],
)
def test_prompt_that_serves_many_questions_stays_a_run(prompt: str) -> None:
    assert plan(run("r", params={**LLM, "prompt": prompt})).traces == ()


@pytest.mark.parametrize(
    "more",
    [
        {"params": {**LLM, "prompt": "Write a poem about the sea", "prompt_version": "3"}},
        {"params": {**LLM, "prompt": "Write a poem about the sea"}, "metrics": {"rouge1": 0.3}},
        {"params": {**LLM, "prompt": "Write a poem about the sea"}, "run_name": "prompt_v2"},
    ],
)
def test_version_of_a_prompt_stays_a_run(more: dict[str, Any]) -> None:
    assert plan(run("r", **more)).traces == ()


@pytest.mark.parametrize(
    "given",
    [
        {"params": {"description": WHALE, **LLM}},
        {"params": {**LLM, "notes": "We try the larger window and the new features here."}},
        {"params": {"hypothesis": "Does dropout help?", "result_note": "It does not help at all."}},
        {"params": {"max_depth": "4", "remark_text": WHALE}, "metrics": {"accuracy": 0.9}},
        {"params": {"model": "resnet50"}, "texts": {"essay.md": WHALE}},
        {"params": LLM, "metrics": {"accuracy": 0.8}, "texts": {"metrics.json": '{"answer": 1}'}},
        {"params": {**LLM, "topic": "math"},
         "metrics": {"total_generated": 500, "samples_passed": 420, "total_tokens": 120000}},
        {"params": {"message": "Fix the loader and add a test for it"}},
        {"params": {**LLM, "settings": '{"temperature": 0.2, "top_p": 1}'}},
    ],
)  # fmt: skip
def test_other_runs_stay_runs(given: dict[str, Any]) -> None:
    made = plan(run("r", **given))
    assert made.traces == (), made.reasons


def test_table_of_one_case_below_a_parent_is_an_evaluation() -> None:
    table = json.dumps({"columns": ["question", "answer"], "data": [[ASKED, WHALE]]})
    tag = json.dumps([{"path": "cases.json", "type": "table"}])
    child = run(
        "c", "r", params=LLM, tags={"mlflow.loggedArtifacts": tag}, texts={"cases.json": table}
    )
    made = plan(run("r"), child)
    assert (made.traces, made.left_as_runs) == ((), "tables")


def test_files_of_training_are_not_read() -> None:
    wanted = wanted_artifacts([each for each in PROFILES if each.name == "generic"])
    usual = ("metrics.json", "train_config.json", "model/notes.txt", "requirements.txt", "a.csv")
    assert [path for path in usual if wanted(path)] == []
    assert wanted("interaction.json") and wanted("essay.md")


@pytest.mark.parametrize(
    ("path", "is_read"),
    [
        ("brief/brief.txt", True),
        ("drafts/2024-05-01/draft.md", True),
        ("raw/message.json", True),
        ("annotations/image.json", False),  # of a data set
        ("dump/0001.json", False),  # counted files: there may be thousands
        ("turns/tmp8_ab2cd4.json", True),  # a temporary file, of which there is one
        ("a/b/c/answer_of_it.json", False),
        ("my_model/input.json.txt", False),
        ("results/all.json", False),
        ("sample.txt", False),
        ("few_shots.json", False),
        ("query_result_7.json", True),
        ("result_of_training.json", False),
        ("agent_results_7.txt", False),
    ],
)
def test_files_in_folders_are_read_where_few_lie(path: str, is_read: bool) -> None:
    generic = [each for each in PROFILES if each.name == "generic"]
    assert wanted_artifacts(generic)(path) is is_read


@pytest.mark.parametrize(
    ("params", "model"),
    [
        ({"summarizer": "mistral-large-latest"}, "mistral-large-latest"),
        ({"模型": "qwen-max"}, "qwen-max"),
        ({"vlm": "llava:13b"}, "llava:13b"),
        ({"backbone_llm": "gpt-4.1-mini"}, "gpt-4.1-mini"),
        ({"classifier_llm": "gpt-3.5-turbo-0125"}, "gpt-3.5-turbo-0125"),
        ({"grader": "gpt-4o"}, "gpt-4o"),  # the only model there is
        ({"grader": "gpt-4o", "writer": "claude-3-haiku"}, "claude-3-haiku"),
        ({"validation.model": "gpt-4o", "synthesis.model": "claude-3-haiku"}, "claude-3-haiku"),
    ],
)
def test_models_under_keys_of_any_name(params: dict[str, str], model: str) -> None:
    made = trace(run("r", params={**params, "question": ASKED, "answer": WHALE}))
    assert value(made.spans[0], conv.SPAN_MODEL) == model


def test_a_foreign_speaker_in_a_chat_with_a_bot_is_its_user() -> None:
    chat = [{"speaker": "caller", "text": ASKED}, {"speaker": "bot", "text": WHALE}]
    made = trace(run("r", texts={"dialog.json": json.dumps(chat)}))
    assert ASKED in str(made.request_preview)
    assert made.response_preview == WHALE


def test_code_under_a_name_of_answers_is_the_answer() -> None:
    query = "SELECT count(*) FROM orders WHERE day > 7"
    params = {**LLM, "nl_question": "How many orders came in?", "generated_sql": query}
    made = trace(run("r", params=params))
    assert (made.request_preview, made.response_preview) == ("How many orders came in?", query)


def test_result_text_is_no_input() -> None:
    params, tags = {**LLM, "args.user_text": ASKED}, {"result.text": WHALE}
    made = trace(run("r", params=params, tags=tags))
    assert (made.request_preview, made.response_preview) == (ASKED, WHALE)


@pytest.mark.parametrize(
    "given",
    [
        {"params": {"question": ASKED, "n_responses": "214"}, "metrics": {"mean": 4.1}},
        {"params": {"source_query": "SELECT id FROM contacts"}, "metrics": {"rows_in": 12},
         "tags": {"status": "success", "message": "The load finished without problems."}},
    ],
)  # fmt: skip
def test_surveys_and_jobs_stay_runs(given: dict[str, Any]) -> None:
    made = plan(run("r", **given))
    assert made.traces == (), made.reasons


def test_a_text_that_is_longer_than_the_answers_tokens_was_asked() -> None:
    tokens = {"prompt_tokens": 51, "completion_tokens": 2}
    made = trace(run("r", params={**LLM, "review": WHALE}, metrics=tokens))
    assert (made.request_preview, made.response_preview) == (WHALE, None)


def test_the_body_of_a_response_under_a_name_of_answers() -> None:
    made = trace(run("r", texts={"api/reply.json": json.dumps(GEMINI)}))
    assert WHALE in str(made.response_preview)


def test_a_polite_request_is_the_question_beside_an_answer() -> None:
    asked, answered = (
        "営業時間を教えてください。",
        "平日の午前九時から午後六時まで営業しております。",
    )
    made = trace(run("r", params={**LLM, "発話": asked, "返し": answered}))
    assert (made.request_preview, made.response_preview) == (asked, answered)


PLATFORM_TAGS = {
    "mlflow.databricks.notebookPath": "/Users/ana/Why is churn so high?",
    "mlflow.databricks.jobRunID": "8812",
    "azureml.runsource": "azureml.PipelineRun",
    "azureml.pipelineComponent": "pipelinerun",
    "azureml.parameters": '{"question": "Why is churn so high in the north?", "max_epochs": "20"}',
}


def test_tags_of_databricks_and_azure_make_no_call_and_no_session() -> None:
    made = plan(run("r", tags=PLATFORM_TAGS))
    assert made.traces == (), made.reasons
    call = trace(run("r", params={**LLM, "question": ASKED}, tags=PLATFORM_TAGS))
    assert call.request_preview == ASKED
    assert "mlflow.trace.session" not in call.metadata


@pytest.mark.parametrize("rest", [{}, {"context": ["One text.", "Another text."]}, {"ms": 12}])
@pytest.mark.parametrize("name", ["record.json", "result.json", "calls/1.json"])
def test_inputs_and_outputs_in_an_object_are_a_call(rest: dict[str, Any], name: str) -> None:
    body = {"inputs": {"question": ASKED}, "outputs": {"answer": WHALE}, **rest}
    made = trace(run("r", params=LLM, texts={name: json.dumps(body)}))
    assert (made.request_preview, made.response_preview) == (ASKED, WHALE)
    assert value(made.spans[0], conv.SPAN_OUTPUTS) == WHALE


def test_inputs_and_outputs_of_a_signature_are_no_call() -> None:
    signature = {"inputs": {"age": "double"}, "outputs": {"price": "double"}}
    assert plan(run("r", params=LLM, texts={"record.json": json.dumps(signature)})).traces == ()


def test_tokens_beside_the_answer_in_the_file_of_a_response() -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 30, "total_tokens": 42}
    texts = {"response.json": json.dumps({"response": WHALE, "usage": usage})}
    made = trace(run("r", params={**LLM, "question": ASKED}, texts=texts))
    assert made.usage == TokenUsage(12, 30, 42)
    assert made.response_preview == WHALE


@pytest.mark.parametrize(
    "names",
    ["{}_{}_tokens", "tokens.{}.{}", "{1}_tokens_{0}", "tokens/{}/{}"],
)
def test_tokens_of_each_step_are_added_up(names: str) -> None:
    counts = {("planner", "input"): 400, ("planner", "output"): 60,
              ("writer", "input"): 900, ("writer", "output"): 310}  # fmt: skip
    metrics = {names.format(*which): count for which, count in counts.items()}
    metrics |= {"limit_input_tokens": 7, "limit_output_tokens": 7}
    made = trace(run("r", params={"model": "gpt-4o"}, metrics=metrics))
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens) == (1300, 370)


def test_tokens_of_steps_without_the_other_side_are_not_added_up() -> None:
    metrics = {"planner_input_tokens": 400, "writer_input_tokens": 900}
    made = plan(run("r", params={"model": "gpt-4o"}, metrics=metrics))
    assert made.traces == ()


@pytest.mark.parametrize(
    ("metric", "logged", "length_ms"),
    [
        ("e2e_latency", 2.5, 2500),
        ("total_latency", 2500, 2500),
        ("time_taken", 2.5, 2500),
        ("llm_response_time", 2.5, 2500),
        ("turnaround_time", 2.5, 2500),
        ("generation_seconds", 2.5, 2500),
        ("wall_clock_ms", 2500, 2500),
        # Of a part, of many calls, and times of day.
        ("retrieval_time", 2.5, 20),
        ("deploy_time", 30, 20),
        ("audio_seconds", 2.5, 20),
        ("max_latency", 2.5, 20),
        ("window_end_time", 2.5, 20),
        ("created_time", 1.7e9, 20),
        ("answer_time", 1.7e9, 20),
    ],
)
def test_duration_of_a_call_is_told_by_the_last_words_of_its_metric(
    metric: str, logged: float, length_ms: int
) -> None:
    params = {"model": "gpt-4o", "question": ASKED, "answer": WHALE}
    made = trace(run("r", end=20, params=params, metrics={metric: logged}))
    assert made.execution_ms == length_ms


def test_of_two_durations_the_whole_one_is_the_call_s_and_two_alike_are_none() -> None:
    params = {"model": "gpt-4o", "question": ASKED, "answer": WHALE}
    whole = {"planner_time": 1.0, "total_elapsed": 2.5}
    assert trace(run("r", end=20, params=params, metrics=whole)).execution_ms == 2500
    alike = {"planner_time": 1.0, "writer_time": 1.5}
    assert trace(run("r", end=20, params=params, metrics=alike)).execution_ms == 20


def test_profile_that_lists_all_it_reads_takes_no_other_values() -> None:
    ours = 'name = "ours"\nrole = "call"\n[[recognise]]\nroot_has = ["param:out"]\n[fields]\n'
    fields = 'outputs = ["param:out"]\nmodel = ["param:model"]\n'
    record = run("r", params={**LLM, "out": WHALE, "wish": ASKED})
    made = trace(record, profiles=load_profiles(texts=[("ours.toml", ours + fields)]))
    assert (made.request_preview, made.response_preview) == (None, WHALE)
    assert trace(record).request_preview == ASKED
