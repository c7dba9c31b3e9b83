"""Signs: the evidence of single runs, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from migrator.transformer import load_profiles
from migrator.transformer.llm_signs import CONTEXT_RULES, LLM_RULES
from migrator.transformer.ml_signs import ML_RULES
from migrator.transformer.run_view import RunView
from migrator.transformer.signs import signs_of
from tests.support.planskit import run

GENERIC = next(profile for profile in load_profiles() if profile.name == "generic")
EPOCHS = [(0, 1, 0), (1, 1, 1), (2, 1, 2)]  # ms, value, step
TOKENS = {"input_tokens": 10.0, "output_tokens": 5.0}


REPORT = "The new model was put into four regions without errors."


def shown(**given: Any) -> list[tuple[str, int]]:
    signs = signs_of(RunView(run("r", **given), GENERIC))
    return [(sign.kind, sign.points) for sign in (*signs.llm, *signs.ml)]


@pytest.mark.parametrize(
    ("given", "signs"),
    [
        ({"metrics": TOKENS}, [("tokens", 4)]),
        ({"metrics": {"total_tokens": 15.0}}, [("tokens", 3)]),
        ({"metrics": {"input_tokens": 0.0}}, [("tokens", 2)]),
        ({"texts": {"prompt.txt": "Say hello"}}, [("text", 4)]),
        ({"params": {"query": "hello"}}, []),
        ({"params": {"model": "gpt-4o"}}, [("model", 2)]),
        ({"params": {"model": "medgemma-27b"}}, [("model", 2)]),
        ({"params": {"model": "biobert-large"}}, []),
        ({"params": {"model": "resnet50"}}, []),
        ({"params": {"engine_level": "o1"}}, [("model", 2)]),
        ({"params": {"fp16_opt_level": "O1"}}, []),
        ({"tags": {"node_kind": "llm"}}, [("kind", 2)]),
        ({"metrics": {**TOKENS, "cost_usd": 0.1}}, [("tokens", 4), ("cost", 1)]),
        ({"metrics": {"cost_usd": 0.1}}, []),
        ({"params": {"session_id": "7"}, "metrics": TOKENS}, [("tokens", 4), ("session", 1)]),
        ({"params": {"session_id": "7"}}, []),
        ({"params": {"model": "llava:7b", "photo": "a/1.JPG"}}, [("model", 2), ("media", 2)]),
        ({"params": {"model": "resnet50", "photo": "a/1.JPG"}}, []),
        ({"params": {"model": "llava:7b", "loss_plot": "1.png"}}, [("model", 2)]),
        ({"params": {"max_depth": "3"}}, [("hyper", -2)]),
        ({"params": {"max_depth": "3", "question": "Why does it rain?"},
          "texts": {"answer.txt": "Because warm air rises and cools."}},
         [("text", 4)]),
        ({"metrics": {"val_loss": EPOCHS}}, [("training", -2), ("epochs", -2)]),
        ({"params": {"learning_rate": "0.1"}}, [("hyper", -2)]),
        ({"params": {"predicted_label": "spam"}}, [("class", -4)]),
        ({"params": {"input_text": "How do I win a prize?", "prediction": "spam"}},
         [("text", 4), ("class", -4)]),
        ({"params": {"input_text": "I loved this film from start to end."},
          "metrics": {"prediction": 1.0}}, [("text", 3), ("class", -4)]),
        ({"params": {"user_question": "How do I win a prize?", "prediction": "spam"}},
         [("text", 4)]),
        ({"params": {"user_input": "I love this phone, it is great", "prediction_label": "good"}},
         [("text", 4), ("class", -4)]),
        ({"params": {"predicted_label": "spam", "llm_model": "gpt-4o"}}, [("model", 2)]),
        # Something answered beside the class.
        ({"params": {"ticket_text": "The app closes when I open a bill", "predicted_rank": "high"},
          "metrics": {"response_length": 310.0}}, [("text", 3), ("lengths", 1)]),
        # What a plan hopes for was not trained.
        ({"metrics": {"plan.estimated_accuracy": 0.8}}, []),
        ({"tags": {"mlflow.autologging": "sklearn"}}, [("flavor", -3)]),
        ({"params": {"model_name": "electra_small", "prompt": "Print the key of the house"}},
         [("text", 4), ("other model", -2)]),
        ({"params": {"model_name": "electra_small", "question": "Who prints the key?"}},
         [("text", 4)]),
        # A report alone says little; a topic and a report are asked and answered.
        ({"texts": {"summary.md": REPORT}}, [("text", 1)]),
        ({"params": {"message": "Deploy the new ranking model to all regions"},
          "texts": {"summary.md": REPORT}}, [("text", 1)]),
        ({"params": {"topic": "rankings of regions"}, "texts": {"report.md": REPORT}},
         [("text", 4)]),
        ({"params": {"llm_model": "gpt-4o"}, "texts": {"summary.md": REPORT}},
         [("text", 3), ("model", 2)]),
        # Metrics whose last words are those of a duration.
        ({"texts": {"answer.txt": REPORT}, "metrics": {"runtime_ms": 5100.0}},
         [("text", 4), ("latency", 1)]),
        ({"texts": {"answer.txt": REPORT},
          "metrics": {"llm_time_seconds": 4.0, "total_response_time_seconds": 4.3}},
         [("text", 4), ("work", 2), ("latency", 1)]),
        # The time of an LLM opens the door to what says nothing alone.
        ({"tags": {"status": "success"},
          "metrics": {"latency_ms_llm": 3900.0, "total_time_ms": 4100.0, "answer_length": 90.0}},
         [("work", 2), ("latency", 1), ("status", 1), ("lengths", 1)]),
        ({"metrics": {"llm_latency_avg_s": 0.4}}, []),
        ({"metrics": {"llm_seconds": 88.0, "total_transactions": 900}}, []),
        ({"texts": {"answer.txt": REPORT}, "metrics": {"retrieval_time_seconds": 4.0}},
         [("text", 4)]),
        # A few documents beside an LLM were looked up for a request, the many of an index were not.
        ({"params": {"llm_model": "gpt-4o"}, "metrics": {"num_chunks": 3.0, "latency_ms": 9e3}},
         [("model", 2), ("latency", 1), ("looked up", 1)]),
        ({"params": {"llm_model": "gpt-4o"}, "metrics": {"num_chunks": 400.0, "latency_ms": 9e3}},
         [("model", 2), ("latency", 1)]),
        ({"params": {"llm_model": "gpt-4o", "chunk_size": "500"},
          "metrics": {"num_chunks": 3.0, "latency_ms": 9e3}},
         [("model", 2), ("latency", 1)]),
        ({"params": {"llm_model": "gpt-4o"}, "metrics": {"num_chunks": 3.0}}, [("model", 2)]),
        ({"params": {"query_length": "44"}, "metrics": {"sources_count": 3.0, "latency_ms": 9e3}},
         [("latency", 1), ("looked up", 2), ("lengths", 1)]),
        ({"metrics": {"num_chunks": 3.0, "latency_ms": 9e3}}, []),
        # How long a question or an answer was, and what was looked up for it.
        ({"params": {"question_length": "51"},
          "metrics": {"source_chunks_retrieved": 4.0, "latency_ms": 9e3}},
         [("latency", 1), ("looked up", 2), ("lengths", 1)]),
        ({"params": {"question_length": "51"}, "metrics": {"latency_ms": 9e3}}, []),
        ({"params": {"llm_model": "gpt-4o", "retrieval_k": "4"}, "metrics": {"answer_chars": 310}},
         [("model", 2), ("looked up", 1), ("lengths", 1)]),
        ({"params": {"llm_model": "gpt-4o", "retrieval_k": "4"}, "metrics": {"latency_ms": 9e3}},
         [("model", 2), ("latency", 1)]),
        ({"metrics": {"question_length": 51, "answer_length": 310, "latency_ms": 9e3}},
         [("latency", 1), ("lengths", 2)]),
        # Similarities of the documents that were looked up for one query.
        ({"params": {"query": "hazards of the enamel"},
          "metrics": {"latency_ms": 9e3, "top_similarity": 0.7, "total_chunks": 5.0}},
         [("text", 1), ("latency", 1), ("retrieval", 3)]),
        ({"params": {"llm_model": "gpt-4o"}, "metrics": {"avg_similarity": 0.7}},
         [("model", 2)]),
        # A few calls of an LLM; many are those of a benchmark.
        ({"metrics": {"llm_calls": 3.0, "tool_calls": 2.0, "total_time": 6.1}},
         [("work", 3), ("latency", 1)]),
        ({"metrics": {"llm_call_count": 210.0, "total_time": 6.1}}, []),
        ({"metrics": {"avg_llm_calls": 3.0, "total_time": 6.1}}, []),
        # Tokens of a step and its time; not the totals of a run.
        ({"metrics": {"draft_tokens": 240.0, "draft_latency_sec": 2.2, "ner_latency_sec": 0.4}},
         [("work", 4)]),
        ({"metrics": {"draft_tokens": 240.0, "ner_latency_sec": 0.4}}, []),
        ({"metrics": {"num_tokens": 2.4e6, "total_time_s": 90.0}}, []),
        ({"metrics": {"embedding_tokens": 240.0, "embedding_latency_sec": 0.4}}, []),
        # A question under an unlisted name that says so; any other text that asks says nothing.
        ({"params": {"query_as_typed": "Who keeps the keys of the house?"}}, [("text", 2)]),
        ({"params": {"query_preview": "Who keeps the keys of the house?"}}, [("text", 4)]),
        ({"params": {"greeting_preview": "Who keeps the keys of the house?"}}, []),
        # Models of two steps, or one and its vendor; a kind of generator is none.
        ({"params": {"planner_model": "gpt-4o", "writer_model": "gpt-4o-mini"}},
         [("model", 2), ("models", 1)]),
        ({"params": {"llm_model": "gpt-4o", "llm_provider": "openai"}},
         [("model", 2), ("models", 1)]),
        ({"params": {"llm_model": "gpt-4o"}, "tags": {"generator_type": "Riddles"}},
         [("model", 2)]),
    ],
)  # fmt: skip
def test_a_run_shows_these_signs(given: dict[str, Any], signs: list[tuple[str, int]]) -> None:
    assert shown(**given) == signs


def test_each_rule_is_listed_once() -> None:
    rules = [*LLM_RULES, *CONTEXT_RULES, *ML_RULES]
    assert len(set(rules)) == len(rules) == 23


def test_cases_beside_the_length_of_one_text_are_not_those_of_an_evaluation() -> None:
    many = {"cases": 31.0, "accuracy": 0.8}
    one = {"cases": 31.0, "response_length": 900.0}
    assert signs_of(RunView(run("r", metrics=many), GENERIC)).many_cases
    assert not signs_of(RunView(run("r", metrics=one), GENERIC)).many_cases


@pytest.mark.parametrize(
    ("key", "is_many"),
    [
        ("num_riddles_requested", False),
        ("num_questions_requested", True),
        ("actual_questions_count", True),
        ("total_rows_scored", True),
        ("tool_calls", False),
    ],
)
def test_names_of_counts_of_cases(key: str, *, is_many: bool) -> None:
    counted = run("r", params={"llm_model": "gpt-4o", key: "10"})
    assert signs_of(RunView(counted, GENERIC)).many_cases is is_many


@pytest.mark.parametrize(("value", "is_many"), [(0.0, False), (1.0, False), (0.4, True)])
def test_a_rate_of_0_or_1_may_be_how_one_call_ended(value: float, *, is_many: bool) -> None:
    ended = run("r", params={"model": "gpt-4o"}, metrics={"error_rate": value})
    assert signs_of(RunView(ended, GENERIC)).many_cases is is_many


@pytest.mark.parametrize("metric", ["recall_at_5", "ndcg@10", "MRR", "precision_at_k"])
def test_measures_of_a_search_are_taken_over_many_queries(metric: str) -> None:
    measured = run("r", metrics={**TOKENS, metric: 0.8})
    assert signs_of(RunView(measured, GENERIC)).many_cases


@pytest.mark.parametrize(
    ("folders", "is_many"),
    [(("scan_1", "scan_2"), True), (("turn_1", "turn_2"), False), (("scan_1",), False)],
)
def test_folders_with_a_prompt_and_a_response_each_are_cases(
    folders: tuple[str, ...], *, is_many: bool
) -> None:
    texts = {f"predictions/{name}/response.json": '{"holds_names": true}' for name in folders}
    texts |= {f"predictions/{name}/prompt.txt": "Does the scan hold names?" for name in folders}
    signs = signs_of(RunView(run("r", texts=texts), GENERIC))
    assert (signs.many_cases, signs.own_text) == (is_many, not is_many)


@pytest.mark.parametrize(
    ("folders", "is_many"),
    [
        (("t1", "t2"), True),
        (("agent1", "agent2"), False),
        (("query_1", "query_2"), False),
        (("draft", "final"), False),
    ],
)
def test_numbered_folders_with_an_output_each_are_cases(
    folders: tuple[str, ...], *, is_many: bool
) -> None:
    texts = {f"{name}/output.txt": "The area of the circle is 4." for name in folders}
    signs = signs_of(RunView(run("r", texts=texts), GENERIC))
    assert (signs.many_cases, signs.own_text) == (is_many, not is_many)


def test_files_of_what_was_expected_are_of_several_cases() -> None:
    def is_of_many(numbers: tuple[int, ...]) -> bool:
        texts = {f"query_{n}_prompt.txt": "Write SQL: all orders of May" for n in numbers}
        texts |= {f"query_{n}_generated_sql.txt": "SELECT a FROM b WHERE c = 5" for n in numbers}
        expected = {f"query_{n}_expected_sql.txt": "SELECT a FROM b" for n in numbers}
        return signs_of(RunView(run("r", texts={**texts, **expected}), GENERIC)).many_cases

    assert is_of_many((1, 2))
    assert not is_of_many((1,))


def test_a_prompt_that_a_benchmark_asked_again_and_again_is_no_text_of_a_call() -> None:
    asked = {"model": "qwen2.5:7b", "prompt": "Explain why the tides come twice a day."}
    often = run("r", params={**asked, "num_requests": "8"}, metrics={"mean_latency_s": 1.2})
    assert not signs_of(RunView(often, GENERIC)).own_text
    once = run("r", params=asked, metrics={"latency_s": 1.2})
    assert signs_of(RunView(once, GENERIC)).own_text


@pytest.mark.parametrize(
    "known",
    [{"metrics": TOKENS}, {"metrics": {"answer_length": 210.0}}, {"params": {"query": "Why ice?"}}],
)
@pytest.mark.parametrize("metric", ["retrieval_score_avg", "mean_retrieval_score", "min_distance"])
def test_statistics_of_what_was_looked_up_for_one_request(
    known: dict[str, Any], metric: str
) -> None:
    def is_of_many(metrics: dict[str, float]) -> bool:
        given = {**known, "metrics": {**known.get("metrics", {}), **metrics}}
        return signs_of(RunView(run("r", **given), GENERIC)).many_cases

    assert not is_of_many({metric: 0.4})
    assert is_of_many({metric: 0.4, "avg_faithfulness": 0.8})


@pytest.mark.parametrize(
    ("params", "metric", "is_many"),
    [
        ({"query": "hazards of the enamel"}, "avg_similarity", False),
        ({"query": "hazards of the enamel"}, "average_relevance_score", False),
        ({"query": "hazards of the enamel"}, "avg_faithfulness", True),
        ({"llm_model": "gpt-4o"}, "avg_similarity", True),
        ({"prompt": "Answer the question: {question}"}, "avg_similarity", True),
    ],
)
def test_an_average_similarity_is_of_the_documents_for_one_question(
    params: dict[str, str], metric: str, is_many: bool
) -> None:
    asked = run("r", params=params, metrics={metric: 0.7})
    assert signs_of(RunView(asked, GENERIC)).many_cases is is_many


@pytest.mark.parametrize(
    ("params", "metrics", "is_many"),
    [
        # Averages over the documents or tools of the call whose question has a length.
        ({"query_len": "41"}, {"cache_hit_rate": 0.6}, False),
        ({}, {"answer_length": 312.0, "mean_retrieval_score": 0.4}, False),
        ({"query_len": "41"}, {"avg_latency_ms": 2100.0}, True),
        ({"query_len": "41"}, {"avg_correctness": 0.6}, True),
        ({"context_length": "4096"}, {"avg_score": 0.6}, True),
        ({}, {"average_trajectory_length": 4.0, "task_completion_rate": 0.8}, True),
        ({}, {"avg_score": 0.6}, True),
        # The rounds of a loop that has a limit.
        ({"max_iterations": "5"}, {"total_iterations": 2.0}, False),
        ({}, {"total_iterations": 2.0}, True),
        ({"max_iterations": "5"}, {"total_questions": 2.0}, True),
        ({"max_samples": "50"}, {"num_samples": 50.0}, True),
        # Averages over the LLM's calls that the run counts, and over what its steps made.
        ({}, {"llm_calls": 3.0, "avg_llm_latency_ms": 1210.0}, False),
        ({}, {"avg_llm_latency_ms": 1210.0}, True),
        (
            {},
            {"cook_tokens": 900.0, "cook_time_s": 4.0, "avg_health": 7.5, "iterations": 2.0},
            False,
        ),
        ({}, {"cook_time_s": 4.0, "avg_health": 7.5}, True),
        ({}, {"cook_time_s": 4.0, "iterations": 2.0}, True),
    ],
)
def test_numbers_of_one_call_are_not_over_many_cases(
    params: dict[str, str], metrics: dict[str, float], is_many: bool
) -> None:
    measured = run("r", params=params, metrics=metrics)
    assert signs_of(RunView(measured, GENERIC)).many_cases is is_many
