"""Tokens by kind, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.tracing import utils as tracing_utils

from migrator.tracker.usage import usage_of
from tests.support import trackerkit
from tests.support.trackerkit import only, spans, tracker


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield


@pytest.mark.parametrize(
    ("response", "counts"),
    [
        (  # OpenAI's chat completions: parts of its input and output
            {"usage": {
                "prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
                "prompt_tokens_details": {"cached_tokens": 600},
                "completion_tokens_details": {"reasoning_tokens": 30},
            }}, (1000, 50, 600, 0, 0, 30),
        ),
        (  # OpenAI's responses, as objects
            SimpleNamespace(usage=SimpleNamespace(
                input_tokens=1000, output_tokens=50, total_tokens=1050,
                input_tokens_details=SimpleNamespace(cached_tokens=600),
                output_tokens_details=SimpleNamespace(reasoning_tokens=30),
            )), (1000, 50, 600, 0, 0, 30),
        ),
        (  # Anthropic: beside its input
            SimpleNamespace(usage=SimpleNamespace(
                input_tokens=100, output_tokens=50, cache_read_input_tokens=600,
                cache_creation_input_tokens=300, cache_creation=SimpleNamespace(
                    ephemeral_5m_input_tokens=100, ephemeral_1h_input_tokens=200
                ),
            )), (1000, 50, 600, 300, 200, 0),
        ),
        (  # the same answer through LangChain, which leaves its sum of what was written at 0
            {"usage_metadata": {
                "input_tokens": 1000, "output_tokens": 50, "total_tokens": 1050,
                "input_token_details": {
                    "cache_read": 600, "cache_creation": 0,
                    "ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200,
                },
                "output_token_details": {"reasoning": 30},
            }}, (1000, 50, 600, 300, 200, 30),
        ),
        (  # Google: reasoning beside the output, cached tokens in the input
            {"usageMetadata": {
                "promptTokenCount": 1000, "candidatesTokenCount": 20, "thoughtsTokenCount": 30,
                "cachedContentTokenCount": 600, "totalTokenCount": 1050,
            }}, (1000, 50, 600, 0, 0, 30),
        ),
        (  # Bedrock: cached tokens beside the input
            {"usage": {
                "inputTokens": 100, "outputTokens": 50, "totalTokens": 1050,
                "cacheReadInputTokens": 600, "cacheWriteInputTokens": 300,
            }}, (1000, 50, 600, 300, 0, 0),
        ),
        (  # counts that contradict one another: never more of a kind than there is in all
            {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15,
             "cache_read_input_tokens": 99, "cache_creation_input_tokens": 99,
             "reasoning_tokens": 99}, (10, 5, 10, 0, 0, 5),
        ),
    ],
)  # fmt: skip
def test_kinds_of_tokens_are_read_as_their_vendor_counts_them(
    response: Any, counts: tuple[int, ...]
) -> None:
    usage = usage_of(response)
    assert usage == counts
    assert usage_of(usage.as_attribute()) == usage


def test_each_kind_of_token_has_its_price(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}):
        with track.track_node("claude", "claude-sonnet-4-5"):
            track.log_node_metrics(
                usage={
                    "model": "claude-sonnet-4-5", "input_tokens": 1000, "output_tokens": 100,
                    "cache_read_input_tokens": 5000, "cache_creation_input_tokens": 4000,
                    "cache_creation": {
                        "ephemeral_5m_input_tokens": 3000, "ephemeral_1h_input_tokens": 1000
                    },
                }
            )  # fmt: skip
        with track.track_node("o3", "o3"):
            track.log_node_metrics(
                usage={
                    "prompt_tokens": 1000, "completion_tokens": 900, "total_tokens": 1900,
                    "prompt_tokens_details": {"cached_tokens": 800},
                    "completion_tokens_details": {"reasoning_tokens": 700},
                }
            )  # fmt: skip
    trace = only(track)
    claude, o3 = (spans(trace)[name] for name in ("claude", "o3"))
    # dollars a million: input 3, read 0.3, written 3.75, written for an hour 6, output 15
    assert claude.get_attribute("mlflow.llm.cost") == {
        "input_cost": pytest.approx(0.003 + 0.0015 + 0.01125 + 0.006),
        "output_cost": pytest.approx(0.0015),
        "total_cost": pytest.approx(0.02325),
    }
    assert claude.get_attribute("mlflow.chat.tokenUsage") == {
        "input_tokens": 10_000, "output_tokens": 100, "total_tokens": 10_100,
        "cache_read_input_tokens": 5000, "cache_creation_input_tokens": 4000,
        "cache_creation_input_tokens_above_1hr": 1000,
    }  # fmt: skip
    # input 2, read 0.5, output 8
    assert o3.get_attribute("cost_usd") == pytest.approx(0.0004 + 0.0004 + 0.0072)
    assert o3.get_attribute("reasoning_tokens") == 700
    found = track.cost_summary()
    assert found["by_node"]["claude"] == {
        "calls": 1, "input_tokens": 10_000, "output_tokens": 100, "total_tokens": 10_100,
        "cache_read_tokens": 5000, "cache_write_tokens": 4000, "reasoning_tokens": 0,
        "cost_usd": pytest.approx(0.02325),
    }  # fmt: skip
    assert (found["total"]["cache_read_tokens"], found["total"]["reasoning_tokens"]) == (5800, 700)
    assert found["prices"] == "the built-in table of 2026-11-23"
    assert trace.info.token_usage["cache_read_input_tokens"] == 5800
    (cost,) = [a for a in trace.info.assessments if a.name == "cost_usd"]
    assert cost.metadata == {"prices": "the built-in table of 2026-11-23"}


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_model_that_only_mlflow_has_a_price_for_costs_the_same_everywhere(
    tmp_path: Path, is_nested: bool
) -> None:
    """MLflow 3.10 and later price a span without a cost themselves, and only there."""
    prices = tmp_path / "prices.toml"
    prices.write_text("[house]\nown-model = { input = 1, output = 2 }\n", encoding="utf-8")
    track = tracker(tmp_path, prices=str(prices))
    with track.track_workflow({}), track.track_node("a", "gpt-4o"):
        track.log_node_metrics(1000, 100)
        if is_nested:
            with track.tool("t"), track.llm("l", "gpt-4o-mini", "openai") as call:
                call.record_usage(input_tokens=1000, output_tokens=100)
    trace = only(track)
    summary = track.cost_summary()
    dollars = {each.name: each.value for each in trace.info.assessments}.get("cost_usd")
    metadata = trace.info.trace_metadata.get("mlflow.trace.cost")
    written = None if metadata is None else json.loads(metadata)["total_cost"]
    is_priced = hasattr(tracing_utils, "calculate_cost_by_model_and_token_usage")
    expected = (0.0035 + (0.00021 if is_nested else 0)) if is_priced else None
    assert (
        summary["total"]["cost_usd"] == dollars == written == (expected and pytest.approx(expected))
    )
    models = ["gpt-4o", "gpt-4o-mini"] if is_nested else ["gpt-4o"]
    assert summary["unpriced_models"] == ([] if is_priced else models)


def test_model_without_a_price_is_named(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}), track.track_node("a", "gpt-4o"):
        track.log_node_metrics(1000, 0, "gpt-4o")
        track.log_node_metrics(500, 0, "house-model")
        track.log_node_metrics(5, 0, "other-model")
    trace = only(track)
    node = spans(trace)["a"]
    assert node.get_attribute("unpriced_models") == ["house-model", "other-model"]
    assert node.get_attribute("cost_usd") == pytest.approx(0.0025)
    costs = {a.name: a for a in trace.info.assessments if a.name != "total_tokens"}
    assert set(costs) == {"cost_usd", "cost_usd_micro"}
    assert {cost.rationale for cost in costs.values()} == {
        "Without calls of house-model, other-model: no price is known."
    }
    assert track.cost_summary()["unpriced_models"] == ["house-model", "other-model"]


@pytest.mark.parametrize("is_langchain", [False, True])
def test_kinds_that_mlflows_integration_left_out_are_read_from_the_answer(
    is_langchain: bool, tmp_path: Path
) -> None:
    """MLflow 3.9 writes three counts only; the price is the tracker's, whatever MLflow's is."""
    own = tmp_path / "prices.toml"
    own.write_text('[openai]\n"gpt-4o" = { input = 10, output = 20, cache_read = 1 }\n')
    track = tracker(tmp_path, prices=str(own))
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    details = {"prompt_tokens_details": {"cached_tokens": 600}}
    outputs: dict[str, Any] = {"model": "gpt-4o", "usage": usage | details}
    if is_langchain:
        message = {"usage_metadata": usage | details, "response_metadata": {"model": "gpt-4o"}}
        outputs = {"generations": [[{"message": message}]]}
    with track.track_workflow({}), track.track_node("a", "gpt-4o"):
        with mlflow.start_span("Completions", span_type="CHAT_MODEL") as span:
            span.set_outputs(outputs)
            span.set_attribute(
                "mlflow.chat.tokenUsage",
                {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100},
            )
            span.set_attribute("mlflow.llm.model", "gpt-4o")
        with mlflow.start_span("known", span_type="CHAT_MODEL") as span:
            span.set_attribute(
                "mlflow.chat.tokenUsage",
                {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100},
            )
            span.set_attribute("mlflow.llm.cost", {"total_cost": 7.0})
    found = spans(only(track))
    assert found["Completions"].get_attribute("cost_usd") == pytest.approx(0.004 + 0.0006 + 0.002)
    assert found["known"].get_attribute("cost_usd") == 7.0  # somebody knew it


def test_embeddings_have_tokens_and_a_cost(tmp_path: Path) -> None:
    """MLflow's integrations write neither; the answer has the tokens."""
    track = tracker(tmp_path)
    answer = {
        "model": "text-embedding-3-small",
        "data": [{"embedding": [0.1], "index": 0}],
        "usage": {"prompt_tokens": 500_000, "total_tokens": 500_000},
    }
    with track.track_workflow({}), track.track_node("search", tools=["search"]):
        with mlflow.start_span("Embeddings", span_type="EMBEDDING") as span:
            span.set_outputs(answer)
        with mlflow.start_span("index", span_type="TOOL") as span:
            span.set_outputs(answer)  # a tool hands on what a model said: no call of its own
        track.log_node_metrics(usage=answer)  # a report of the same call
    trace = only(track)
    assert trace.info.token_usage["total_tokens"] == 500_000
    embedding = spans(trace)["Embeddings"]
    assert embedding.get_attribute("cost_usd") == pytest.approx(0.01)
    feedback = {each.name: each.value for each in trace.info.assessments}
    assert feedback == {
        "total_tokens": 500_000,
        "cost_usd": pytest.approx(0.01),
        "cost_usd_micro": pytest.approx(10_000),
    }
    assert list(track.cost_summary()["by_model"]) == ["text-embedding-3-small"]


def test_costs_are_summed_up_by_session_and_user(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    asked = [("s1", "ana", 1000), ("s1", "bob", 200), ("it's", "ana", 30), (None, None, 4)]
    for session, user, tokens in asked:
        with track.track_workflow({}, session=session, user=user), track.track_node("a", "gpt-4o"):
            track.log_node_metrics(tokens, 0, "gpt-4o")

    def tokens_by(kind: str, **chosen: Any) -> dict[str, int]:
        rows = track.cost_summary(**chosen)[f"by_{kind}"]
        return {name: row["total_tokens"] for name, row in rows.items()}

    everything = track.cost_summary(all_traces=True)
    assert (everything["traces"], everything["total"]["total_tokens"]) == (4, 1234)
    assert everything["total"]["cost_usd"] == pytest.approx(1234 * 2.5e-6)
    assert tokens_by("user", all_traces=True) == {"ana": 1030, "bob": 200}
    assert tokens_by("session", all_traces=True) == {"s1": 1200, "it's": 30}
    assert tokens_by("user", session="s1") == {"ana": 1000, "bob": 200}
    assert tokens_by("session", user="ana") == {"s1": 1000, "it's": 30}
    assert tokens_by("node", session="it's", user="ana") == {"a": 30}
    assert track.cost_summary(user="nobody")["total"]["calls"] == 0
    assert track.cost_summary()["by_user"] == {}  # of the last workflow
