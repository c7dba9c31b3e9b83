"""Flat runs of trackers that nobody has seen: what they are is decided by what they hold."""

from __future__ import annotations

from typing import Any

import pytest

from migrator import conventions as conv
from migrator.model import Role, TracePlan
from migrator.transformer import KnownNames, RunTree, plan_tree, recognised_names
from migrator.transformer.choosing import PlanOptions
from tests.support.planskit import LLM, PROFILES, plan, run, span, trace, value

ASKED = "How do I renew a loan of a map?"
REQUEST = "Summarize the opening hours for a visitor with two children"
ANSWER = "You can renew it at the desk, or by mail until the day it is due."
PROMPT = "You are the assistant of a library. Be brief, polite and exact. Answer in {language}."

CALLS: dict[str, dict[str, Any]] = {
    "question alone": {"params": {"question": ASKED}},
    "query that asks": {"params": {"query": ASKED}},
    "query that requests": {"params": {"query": REQUEST}},
    "query in German": {"params": {"query": "Wie verlängere ich die Ausleihe einer Karte?"}},
    "query in Chinese": {"params": {"query": "如何续借图书馆的地图?"}},
    "query beside retrieval": {"params": {"query": "renew map", "top_k": "4"}},
    "query beside a model": {"params": {"query": "renewal of maps", "llm": "mistral:7b"},
                             "metrics": {"latency_ms": 900.0}},
    "words of a query beside a model": {
        "params": {"last_query": "map loans", "model": "mistral:7b", "temperature": "0.1"}},
    "words of a query beside retrieval": {"params": {"last_query": "map loans"},
                                          "metrics": {"retrieval_time_sec": 0.4}},
    "input and output": {"params": {"input": REQUEST}, "texts": {"output.txt": ANSWER}},
    "topic and summary": {"params": {"topic": "History of maps", "model": "claude-3-haiku"},
                          "texts": {"summary.md": ANSWER}},
    "goal of an agent": {"params": {"goal": "Plan a tour of the reading rooms for a school"},
                         "metrics": {"steps": 4.0, "elapsed_seconds": 12.0}},
    "task and result": {"params": {"task": REQUEST, "engine": "gpt-35-turbo"},
                        "texts": {"result.txt": ANSWER}},
    "instruction and generation": {"params": {"instruction": REQUEST, "generation": ANSWER}},
    "explanation beside a prediction": {
        "params": {"prediction": "overdue", "probability": "0.93"},
        "tags": {"explainer_llm": "gpt-4o-mini"},
        "texts": {"explanation.txt": ANSWER},
    },
    "models of steps and lengths": {
        "params": {"whisper_model": "base", "summary_model": "llama3.1:8b"},
        "metrics": {"transcript_length": 4100.0, "summary_length": 320.0},
    },
    "three models and a latency": {
        "params": {"planner_model": "gpt-4o", "writer_model": "claude-3-5-sonnet",
                   "critic_model": "gpt-4o-mini"},
        "metrics": {"latency_seconds": 31.0},
    },
    "failed, with the API's error": {
        "params": {"model": "gpt-4o", "error": "RateLimitError: 429 Too Many Requests"},
        "status": "FAILED",
    },
    "failed, with a question": {"params": {"query": ASKED, "error": "timed out"},
                                "status": "FAILED"},
    "failed, with a prompt": {"params": {"model": "gpt-4o"}, "texts": {"prompt.txt": PROMPT},
                              "status": "FAILED"},
    "settings in JSON": {
        "params": {"config": '{"llm": {"model": "gemini-1.5-pro", "temperature": 0.2}}',
                   "user_input": "hello"},
    },
    "time of an LLM and a length": {"tags": {"status": "success"},
                                    "metrics": {"llm_latency_ms": 3900.0, "total_time_ms": 4080.0,
                                                "answer_length": 250.0}},
    "distilled model and lengths": {"params": {"prompt_version": "v1", "model": "distilgpt2"},
                                    "metrics": {"latency": 6.7, "output_length": 133.0}},
    "tokens and latency": {"metrics": {"prompt_tokens": 51.0, "completion_tokens": 17.0,
                                       "latency": 1.4}},
    "prompt and tokens": {"texts": {"prompt.txt": PROMPT}, "metrics": {"total_tokens": 90.0}},
    "text only in tags": {"tags": {"question": ASKED, "answer": ANSWER}},
    "explanation in JSON": {"params": {"prediction": "1"}, "tags": {"llm": "gpt-4o"},
                            "texts": {"explanation.json": '{"explanation": "It is due soon."}'}},
    "only a vendor": {"params": {"prediction": "yes"}, "tags": {"llm_provider": "groq"},
                      "texts": {"explanation.txt": ANSWER}},
    "instruction for code": {"params": {"instruction": "Write a function that sorts maps by year",
                                        "model": "codellama"}},
    "chat history": {"texts": {"chat_history.json":
        '[{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Good day!"}]'}},
}  # fmt: skip

NO_CALLS: dict[str, dict[str, Any]] = {
    "SQL": {"params": {"query": "SELECT title FROM loans WHERE due < '2024-01-01'"},
            "metrics": {"duration_s": 0.4}},
    "search term": {"params": {"query": "maps", "index": "titles"},
                    "metrics": {"hits": 7.0, "latency_ms": 12.0}},
    "prompt version": {"params": {"model_version": "gpt-4o", "session_id": "s-1"},
                       "texts": {"prompt.txt": PROMPT}, "metrics": {"prompt_length": 84.0}},
    "prompt template with settings": {"params": {"prompt_template": PROMPT, "model": "gpt-4o",
                                                 "temperature": "0.2"}},
    "configuration": {"params": {"model": "gpt-4o", "temperature": "0.2", "max_tokens": "200",
                                 "chunk_size": "500", "embedding_model": "all-MiniLM-L6-v2"}},
    "benchmark": {"params": {"model": "gpt-4o", "iterations": "10"},
                  "metrics": {"total_tokens": 39334.0, "total_cost": 0.31, "success_rate": 0.9}},
    "evaluation": {"params": {"model": "claude-3-haiku", "num_questions": "50"},
                   "metrics": {"accuracy": 0.7, "latency": 2.0}},
    "evaluation of a prompt": {"params": {"llm": "llama3", "prompt": PROMPT},
                               "metrics": {"avg_latency": 2.0, "faithfulness": 0.8}},
    "fine-tuning": {"params": {"model_name": "meta-llama/Llama-3-8B", "learning_rate": "2e-5",
                               "num_train_epochs": "3", "lora_r": "8"},
                    "metrics": {"loss": [(0, 2, 0), (1, 1, 1), (2, 1, 2)]}},
    "fine-tuning that crashed": {"params": {"base_model": "mistralai/Mistral-7B", "lora_r": "8",
                                            "max_seq_length": "512"}, "status": "FAILED"},
    "fine-tuning with a sample": {"params": {"model": "t5-small", "epochs": "3"},
                                  "texts": {"sample_output.txt": ANSWER},
                                  "metrics": {"train_loss": 1.2}},
    "packaging": {"params": {"model": "gpt-4o", "task": "llm/v1/chat"},
                  "artifacts": ("model/MLmodel", "model/python_model.pkl")},
    "smoke test": {"run_name": "smoke_test", "params": {"model": "gpt-4o", "status": "ok"},
                   "metrics": {"latency_ms": 300.0}},
    "retrieval with tokens": {"run_name": "map_retrieval", "params": {"top_k": "3"},
                              "metrics": {"input_tokens": 9.0, "output_tokens": 2.0,
                                          "latency_ms": 178.0, "input_chars": 37.0}},
    "clustering": {"params": {"n_clusters": "8", "max_iter": "300", "text": "title"}},
    "dataset": {"params": {"dataset_description": "Loans of a library for ten years, by month",
                           "rows": "12000"}},
    "classifier": {"params": {"model": "RandomForest", "input": "data/loans.csv",
                              "target": "overdue"},
                   "metrics": {"accuracy": 0.8},
                   "texts": {"classification_report.txt": "precision recall f1 support 1 2 3"}},
    "encoder": {"params": {"model_name": "distilbert-base-uncased", "text": "a fine map"},
                "metrics": {"f1": 0.9}},
    "ingestion": {"params": {"embedding_model": "text-embedding-3-small", "chunk_size": "500"},
                  "metrics": {"n_chunks": 88.0, "processing_time_seconds": 9.0}},
    "compilation": {"params": {"model_name": "gemini-1.5-flash", "optimizer": "BootstrapFewShot"},
                    "metrics": {"compilation_success": 1.0}},
    "commit message": {"params": {"commit_message": "Fix the loader of maps in the reading room"},
                       "metrics": {"rmse": 0.3}},
    "daily job": {"params": {"task": "daily load of the loans table", "source": "s3://x/y"},
                  "tags": {"status": "success"}, "metrics": {"duration_seconds": 40.0}},
    "a batch": {"params": {"llm": "gpt-4o", "num_docs": "120"},
                "metrics": {"total_tokens": 81000.0, "total_time_seconds": 600.0}},
    "training that ended": {"params": {"base_model": "llama-3-8b", "status": "completed"},
                            "metrics": {"duration_seconds": 900.0}},
    "start of an application": {"params": {"llm_model": "gpt-4o", "status": "started"}},
    "result of a study": {"params": {"model": "gpt-4o"}, "metrics": {"avg_score": 0.8},
                          "texts": {"result.json": '{"note": "It was better than the last one."}'}},
    "empty": {},
}  # fmt: skip


@pytest.mark.parametrize("kind", CALLS)
def test_a_call_becomes_a_trace(kind: str) -> None:
    made = plan(run("r", **{"run_name": "r", **CALLS[kind]}))
    assert len(made.traces) == 1, made.reasons


@pytest.mark.parametrize("kind", NO_CALLS)
def test_other_work_stays_a_run(kind: str) -> None:
    made = plan(run("r", **{"run_name": "r", **NO_CALLS[kind]}))
    assert made.traces == (), made.reasons


# ------------------------------------------------------------------------------------ models


def model_of(made: TracePlan) -> object:
    return value(made.spans[0], conv.SPAN_MODEL)


@pytest.mark.parametrize(
    ("params", "model"),
    [
        ({"model": "OpenAI", "llm_model": "gpt-4o"}, "gpt-4o"),
        ({"model_version": "claude-3-haiku"}, "claude-3-haiku"),
        ({"openai_deployment_name": "gpt-4o-mini"}, "gpt-4o-mini"),
        ({"embedding_model": "text-embedding-3-small", "qa_model": "google/flan-t5-base"},
         "google/flan-t5-base"),
        ({"config": '{"llm": {"model": "gemini-1.5-pro"}}'}, "gemini-1.5-pro"),
        ({"config": "{'model': 'mistral-large', 'k': 3}"}, "mistral-large"),
        ({"settings": "llm:\n  model: qwen2.5:7b\n  temperature: 0.1"}, "qwen2.5:7b"),
        ({"config.llm.model": "llama3.1"}, "llama3.1"),
        ({"written_by": "gpt-4o-2024-08-06"}, "gpt-4o-2024-08-06"),
        ({"model_name": "loans-helper", "generator": "grok-2"}, "grok-2"),
        ({"model": "OpenAI"}, "OpenAI"),
        ({"llm_provider": "anthropic"}, "anthropic"),
        ({"llm_backend": "ollama"}, "ollama"),
        ({"llm_backend": "rules"}, None),
        ({"embedding_model": "all-MiniLM-L6-v2"}, None),
        ({"model_type": "linear", "engine": "sqlite", "dataset": "alpaca-52k"}, None),
    ],
)  # fmt: skip
def test_the_model_is_the_value_that_names_one(params: dict[str, str], model: str | None) -> None:
    made = trace(run("r", params={"question": ASKED, "answer": ANSWER, **params}))
    assert model_of(made) == model


def test_a_workflows_model_is_on_its_span_where_no_step_names_one() -> None:
    step = {"texts": {"prompt.txt": PROMPT, "response.txt": ANSWER}}
    made = trace(run("root", params={"model": "gpt-4o"}), run("kid", "root", **step))
    assert value(span(made, "root"), conv.SPAN_MODEL) == "gpt-4o"
    named = trace(run("root", params={"model": "gpt-4o"}), run("kid", "root", **LLM))
    assert conv.SPAN_MODEL not in span(named, "root").attributes


def test_a_vendor_is_the_model_of_a_step_that_names_no_other_and_of_no_workflow() -> None:
    vendor = {"llm_provider": "openai"}
    step = run("step", "root", params=vendor, metrics={"answer_words": 41, "latency_seconds": 3})
    made = trace(run("root", params=vendor), step)
    assert value(span(made, "step"), conv.SPAN_MODEL) == "openai"
    flow = {"workflow_name": "w", "schema_version": "1", "node_count": "1"}
    root = run("flow", params={**flow, "global_provider": "google"})
    by_others = trace(root, run("node_a", "flow", **LLM), run("wait", "flow"))
    assert conv.SPAN_MODEL not in span(by_others, "wait").attributes
    assert conv.SPAN_MODEL not in span(made, "root").attributes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("retrieve", "RETRIEVER"), ("node_retrieve_documents", "RETRIEVER"),
        ("1. retrieval", "RETRIEVER"), ("document_retrieval", "RETRIEVER"),
        ("step_2_rerank", "RERANKER"), ("node:judge", "EVALUATOR"), ("embed query", "EMBEDDING"),
        ("evaluate_retrieval", "EVALUATOR"), ("embed_query", "EMBEDDING"),
        ("taskforce", "UNKNOWN"), ("embedded_task", "UNKNOWN"),
    ],
)  # fmt: skip
def test_type_of_a_step_by_its_name(name: str, expected: str) -> None:
    made = trace(run("root", **LLM), run(name, "root", params={"k": "3"}))
    assert span(made, name).type == expected


def test_a_failure_that_a_later_step_made_good_is_not_the_workflow_s() -> None:
    root = run("root", params={"question": ASKED})
    failed = run("try 1", "root", end=500, status="FAILED", tags={"error": "Timeout after 30 s"})
    again = run("try 2", "root", start=600, texts={"response.txt": ANSWER})
    made = trace(root, failed, again)
    assert (made.status, made.response_preview) == ("OK", ANSWER)
    assert trace(root, run("first", "root", end=90, **LLM), failed).status == "ERROR"


# ------------------------------------------------------------------------------------- chats

CHAT = (
    '[{"role": "user", "content": "Is the map room open?"},'
    ' {"role": "assistant", "content": "Yes, until six."},'
    ' {"role": "user", "content": "And on Sunday?"},'
    ' {"role": "assistant", "content": "It is closed on Sundays."}]'
)


@pytest.mark.parametrize(
    ("params", "asked", "answer"),
    [
        ({}, None, "It is closed on Sundays."),
        ({"user_message": "And on Sunday?"}, "And on Sunday?", "It is closed on Sundays."),
        ({"user_message": "Is the map room open?"}, "Is the map room open?", "Yes, until six."),
        ({"user_message": "And on Monday?"}, "And on Monday?", None),
        ({"user_message": "And on Sunday?", "agent_plan": "I will look up the hours of Sunday."},
         "And on Sunday?", "I will look up the hours of Sunday."),
    ],
)  # fmt: skip
def test_the_answer_is_the_last_one_to_the_runs_own_question(
    params: dict[str, str], asked: str | None, answer: str | None
) -> None:
    made = trace(run("r", params=params, texts={"chat/chat_history.json": CHAT}))
    only = made.spans[0]
    assert value(only, conv.SPAN_OUTPUTS) == answer
    if asked is not None:
        assert value(only, conv.SPAN_INPUTS) == {"user_message": asked}
    assert made.request_preview == (asked or "And on Sunday?")


def test_the_preview_shows_question_and_answer_of_one_call() -> None:
    made = trace(
        run(
            "r",
            texts={
                "queries/query_1.txt": "Question: Who?\nAnswer: Ana.",
                "queries/query_2.txt": "Question: When?\nAnswer: Today.",
            },
        )
    )
    assert made.request_preview is not None and made.response_preview is not None
    assert ("Who" in made.request_preview) == ("Ana" in made.response_preview)


# ----------------------------------------------------------------- siblings, loops and failures


def with_known_names(known: KnownNames, **given: Any) -> int:
    record = run("r", **given)
    tree = RunTree(record.run_id, {record.run_id: record}, {}, {}, known)
    return len(plan_tree(tree, PROFILES, PlanOptions(), {}).traces)


def test_the_name_of_a_recognised_step_is_evidence_for_a_flat_run() -> None:
    runs = [run("tour_flow"), run("plan_the_tour_maps", "tour_flow", **LLM)]
    known = recognised_names(runs, plan(*runs))
    assert with_known_names(known, run_name="tour_flow") == 1
    assert with_known_names(known, run_name="plan_the_tour_globes ") == 1
    assert with_known_names(known, run_name="count_loans") == 0
    assert with_known_names(KnownNames(), run_name="tour_flow") == 0


def test_a_failed_run_with_the_name_of_a_recognised_call_is_a_call() -> None:
    call = run("chat_17", **LLM)
    known = recognised_names([call], plan(call))
    assert with_known_names(known, run_name="chat_18", status="FAILED") == 1
    assert with_known_names(known, run_name="chat_18") == 0


def test_a_pipeline_that_failed_in_its_first_stage_is_none_of_an_llm() -> None:
    trained = [
        run("Tree_Pipeline_0301"),
        run("load", "Tree_Pipeline_0301"),
        run("fit", "Tree_Pipeline_0301", params={"max_depth": "3", "n_estimators": "9"}),
    ]
    known = recognised_names(trained, plan(*trained))
    root, stage = run("Tree_Pipeline_0302", status="FAILED"), run("load 2", "Tree_Pipeline_0302")
    runs, children = {each.run_id: each for each in (root, stage)}, {root.run_id: (stage.run_id,)}

    def made(names: KnownNames) -> tuple[Role, int]:
        tree = RunTree(root.run_id, runs, children, {}, names)
        plan = plan_tree(tree, PROFILES, PlanOptions(), {})
        return plan.role, len(plan.traces)

    assert made(known) == (Role.PIPELINE, 0)
    assert made(KnownNames()) == (Role.WORKFLOW, 1)
    workflow = [run("Tree_Pipeline_0303"), run("ask", "Tree_Pipeline_0303", **LLM)]
    assert made(known | recognised_names(workflow, plan(*workflow))) == (Role.WORKFLOW, 1)


def test_made_up_names_are_no_evidence() -> None:
    call = run("calm-fox-12", **LLM)
    known = recognised_names([call], plan(call))
    assert not known.of_trees and not known.of_calls


def test_a_failed_run_with_the_params_of_a_recognised_call_is_a_call() -> None:
    params = {"model": "gpt-4o", "prompt_length": "48", "stream": "no"}
    call = run("calm-fox-12", params=params, texts={"response.txt": "Paris is the capital."})
    known = recognised_names([call], plan(call))
    failed = {"run_name": "bold-ox-7", "status": "FAILED"}
    begun = {"model": "gpt-4o", "prompt_length": "20"}
    assert with_known_names(known, params=begun, **failed) == 1
    assert with_known_names(known, params=begun, run_name="bold-ox-7") == 0
    assert with_known_names(known, params={**begun, "epochs": "3"}, **failed) == 0
    assert with_known_names(KnownNames(), params=begun, **failed) == 0


TOLD = {"tool_used": "MapTool", "task_input": ASKED}
SEARCHED = {"query": ASKED, "index": "titles"}


def known_of(*params: dict[str, str]) -> KnownNames:
    known = KnownNames()
    for number, each in enumerate(params):
        one = run(f"bold-ox-{number}", params=each)
        known |= recognised_names([one], plan(one))
    return known


def test_most_runs_with_the_same_params_are_calls_and_so_are_the_others() -> None:
    few = {**SEARCHED, "query": "map loans"}
    mostly_asked = known_of(SEARCHED, SEARCHED, few)
    assert with_known_names(mostly_asked, params=few) == 1
    assert with_known_names(mostly_asked, params={**few, "query": "SELECT 1 FROM a.b"}) == 0
    assert with_known_names(mostly_asked, params=few, tags={"mlflow.source.name": "b.py"}) == 0
    assert with_known_names(mostly_asked, params={**few, "hits": "3"}) == 0


def test_the_log_of_a_search_engine_has_a_few_questions_and_no_calls() -> None:
    few = {**SEARCHED, "query": "map loans"}
    assert with_known_names(known_of(SEARCHED, few, few), params=few) == 0


def test_one_recognised_run_of_an_agent_tells_of_those_with_the_same_params() -> None:
    few = {**TOLD, "task_input": "reverse abc"}
    assert with_known_names(known_of(TOLD, few, few), params=few) == 1
    assert with_known_names(known_of(few, few), params=few) == 0


@pytest.mark.parametrize(
    ("told", "inputs"),
    [
        ("reverse abc", {"task_input": "reverse abc"}),
        ("CI/CD", {"task_input": "CI/CD"}),
        ("data/CI", None),
        ("src/app/main", None),
    ],
)
def test_a_few_words_under_a_name_that_asks_are_the_input_of_a_trace(
    told: str, inputs: object
) -> None:
    only = run("r", params={"task_input": told, "tool_used": "TextTool"})
    tree = RunTree(only.run_id, {only.run_id: only}, {}, {}, KnownNames())
    included = PlanOptions(include=frozenset({"flat"}))
    (made,) = plan_tree(tree, PROFILES, included, {}).traces
    only_span = span(made, "r")
    has_inputs = "mlflow.spanInputs" in only_span.attributes
    assert (value(only_span, "mlflow.spanInputs") if has_inputs else None) == inputs


def test_runs_with_the_params_of_most_calls_need_one_sign_of_an_llm() -> None:
    asked = {"model": "gpt-4o", "language": "Spanish", "input_text": REQUEST}
    plain = {"model": "gpt-4o", "language": "French", "input_text": "Hi"}
    assert with_known_names(known_of(asked, asked), params=plain) == 1
    assert with_known_names(known_of(plain, plain), params=plain) == 0


def test_runs_with_the_params_of_most_calls_may_hold_only_the_length_of_a_text() -> None:
    known = known_of({"provider": "x", "query": ASKED}, {"provider": "x", "query": ASKED})
    few = {"provider": "x", "query": "7"}
    assert with_known_names(known, params=few, metrics={"output_chars": 410.0}) == 1
    assert with_known_names(known, params=few, metrics={"output_rows": 410.0}) == 0


def test_a_grid_of_totals_is_no_workflow_though_its_root_holds_a_text() -> None:
    trials = [
        run(f"cfg_{n}", "root", params={"model": "gpt-4o", "budget": str(n)},
            metrics={"avg_latency": 2.0, "success_rate": 1.0})
        for n in range(3)
    ]  # fmt: skip
    root = run("root", params={"preference_summary": "Likes maps of the sea and no others."})
    assert plan(root, *trials).role is Role.SWEEP


def test_the_prompt_that_was_sent_is_the_input_beside_its_template() -> None:
    made = trace(
        run(
            "r",
            params={"raw_prompt_template": "Sum up in a line: {text}", "model": "gpt-4o",
                    "full_input_prompt": f"Sum up in a line: {ANSWER}"},
            texts={"generated_summary.txt": "Renew it at the desk."},
        )
    )  # fmt: skip
    assert value(made.spans[0], "mlflow.spanInputs") == {
        "full_input_prompt": f"Sum up in a line: {ANSWER}"
    }


def test_a_text_that_was_cut_within_a_word_gives_way_to_the_whole() -> None:
    cut = f"{ANSWER} {ANSWER}"[:76]
    texts = {"summary_input.txt": f"{ANSWER} {ANSWER}", "summary_answer.txt": "At the desk."}
    made = trace(run("r", params={"user_question": cut}, texts=texts))
    assert value(made.spans[0], "mlflow.spanInputs") == {"summary_input": f"{ANSWER} {ANSWER}"}


def test_a_file_of_outputs_holds_the_answer_and_a_tag_the_task() -> None:
    asked = {"llm_inputs.json": '{"messages": [{"role": "user", "content": "Where is it?"}]}',
             "llm_outputs.json": '{"content": "It is in room four."}'}  # fmt: skip
    made = trace(run("r", tags={"llm.model": "gpt-4o-mini"}, texts=asked))
    assert value(made.spans[0], "mlflow.spanOutputs") == {"content": "It is in room four."}
    task = {"engine": "claude-code", "task_description": "Fix the form so that it keeps the date"}
    made = trace(run("r", tags=task, metrics={"total_tokens": 5321.0}))
    assert value(made.spans[0], "mlflow.spanInputs") == {
        "task_description": "Fix the form so that it keeps the date"
    }


def test_one_word_of_the_latin_alphabet_is_no_answer() -> None:
    params = {"idioma": "francés", "modelo": "gpt-4o"}
    made = trace(run("r", params=params, metrics={"prompt_tokens": 4.0, "completion_tokens": 2.0}))
    assert "mlflow.spanOutputs" not in made.spans[0].attributes


def test_a_loop_that_asks_and_answers_is_a_workflow() -> None:
    rounds = [
        run(f"iteration_{n}", "root", params={"iteration": str(n)}, metrics={"score": n})
        for n in range(3)
    ]
    judged = [run(f"judge_{n}", f"iteration_{n}", **LLM) for n in range(3)]
    assert plan(run("root"), *rounds, *judged).role is Role.WORKFLOW
    assert plan(run("root"), *rounds).role is Role.SWEEP


def test_a_failed_root_has_the_error_text_of_the_step_that_failed() -> None:
    error = {"status": "FAILED", "tags": {"error": "RateLimitError: slow down"}}
    made = trace(run("root", status="FAILED"), run("kid", "root", **{**LLM, **error}))
    assert span(made, "root").status_message == "RateLimitError: slow down"


def test_tokens_in_histories_of_unequal_length_are_all_counted() -> None:
    counts = {"prompt_tokens": [(1, 5, 0), (2, 6, 0)], "completion_tokens": [(3, 7, 0)]}
    made = trace(run("r", metrics=counts, texts={"prompt.txt": PROMPT, "response.txt": ANSWER}))
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens) == (11, 7)
    equal = {"prompt_tokens": [(1, 5, 0), (2, 6, 0)], "completion_tokens": [(1, 7, 0), (2, 8, 0)]}
    paired = trace(run("r", metrics=equal, texts={"prompt.txt": PROMPT, "response.txt": ANSWER}))
    assert conv.SPAN_USAGE not in paired.spans[0].attributes
    assert paired.usage is not None
    assert (paired.usage.input_tokens, paired.usage.output_tokens) == (11, 15)


def test_a_failed_tree_that_was_logged_afterwards_is_laid_end_to_end() -> None:
    made = trace(
        run("root", status="FAILED", end=60, params={"query": ASKED}),
        run("find", "root", start=10, end=20, metrics={"latency_ms": 1250}),
        run("sort", "root", start=25, end=35, metrics={"latency_ms": 400}),
        run("write", "root", start=40, end=50, status="FAILED", **LLM),
    )
    find, sort, write = (span(made, name) for name in ("find", "sort", "write"))
    assert find.end_ns <= sort.start_ns < sort.end_ns <= write.start_ns
    assert find.end_ns - find.start_ns == 1_250_000_000
