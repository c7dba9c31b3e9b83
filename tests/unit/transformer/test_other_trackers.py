"""Flat runs of trackers that nobody has seen: what they are is decided by what they hold."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.planskit import plan, run

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
    "tokens and latency": {"metrics": {"prompt_tokens": 51.0, "completion_tokens": 17.0,
                                       "latency": 1.4}},
    "prompt and tokens": {"texts": {"prompt.txt": PROMPT}, "metrics": {"total_tokens": 90.0}},
    "text only in tags": {"tags": {"question": ASKED, "answer": ANSWER}},
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
    "clustering": {"params": {"n_clusters": "8", "max_iter": "300", "text": "title"}},
    "dataset": {"params": {"dataset_description": "Loans of a library for ten years, by month",
                           "rows": "12000"}},
    "classifier": {"params": {"model": "RandomForest", "input": "data/loans.csv",
                              "target": "overdue"},
                   "metrics": {"accuracy": 0.8},
                   "texts": {"classification_report.txt": "precision recall f1 support 1 2 3"}},
    "encoder": {"params": {"model_name": "distilbert-base-uncased", "text": "a fine map, I liked it"},
                "metrics": {"f1": 0.9}},
    "ingestion": {"params": {"embedding_model": "text-embedding-3-small", "chunk_size": "500"},
                  "metrics": {"n_chunks": 88.0, "processing_time_seconds": 9.0}},
    "compilation": {"params": {"model_name": "gemini-1.5-flash", "optimizer": "BootstrapFewShot"},
                    "metrics": {"compilation_success": 1.0}},
    "commit message": {"params": {"commit_message": "Fix the loader of maps in the reading room"},
                       "metrics": {"rmse": 0.3}},
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
