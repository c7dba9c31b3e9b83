"""What MLflow's own queries break down of the traces of each profile: tokens, costs, models.

Converted at MLflow 3.9's schema; beside a newer MLflow then carried on by ``upgrade``, as a user
would. What is expected was added up from the files of the fixtures, leaves only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlflow
import pytest
from mlflow.entities.trace_metrics import AggregationType, MetricAggregation, MetricViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from migrator import pipeline
from migrator.loader import upgrade_database
from tests.support import fixturekit

pytestmark = pytest.mark.xdist_group("convert_breakdowns")

NEWER = tuple(int(part) for part in mlflow.__version__.split(".")[:2]) >= (3, 10)
newer = pytest.mark.skipif(not NEWER, reason="MLflow 3.9 knows no costs and no models")
FIXTURES = ("2.22.5-agents", "2.22.5-langchain", "2.14.3-openai", "2.9.2-tables")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlAlchemyStore]:
    folder = tmp_path_factory.mktemp("breakdowns")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    sources = [str(fixturekit.store(name)) for name in FIXTURES]
    options = pipeline.Options(include=frozenset({"tables"}), workers=1)
    pipeline.convert(sources, uri, options, schema="3.9")
    if NEWER:
        assert upgrade_database(uri).spans_filled > 20
        assert upgrade_database(uri).backup_path is None  # once is enough
    opened = SqlAlchemyStore(uri, str(folder / "artifacts"))
    yield opened
    opened.engine.dispose()


def broken_down(
    store: SqlAlchemyStore, experiment: str, metric: str, by: str, of: str = "SPANS"
) -> dict[str, float]:
    """Return what MLflow answers for a metric of an experiment, by one dimension."""
    counts = metric.endswith("_count")
    how = AggregationType.COUNT if counts else AggregationType.SUM
    found = store.get_experiment_by_name(experiment)
    points: list[Any] = store.query_trace_metrics(
        [found.experiment_id],
        MetricViewType[of],
        metric,
        [MetricAggregation(aggregation_type=how)],
        dimensions=[by],
    )
    return {point.dimensions[by]: point.values[str(how)] for point in points}


@pytest.mark.parametrize(
    ("profile", "experiment", "expected"),
    [
        (
            "configurable-agents",
            "configurable_agents",
            {
                "workflow_article_writer": 599 + 2434 + 1742 + 3 * 599,
                "workflow_deep_research": 910,
                "workflow_ended_twice": 9 + 12,
                "workflow_support": 129,
                "workflow_translate": 2 * 25,  # the second's total says 50: it holds the first's
            },
        ),
        ("typed-nodes", "rulebook", {"rulebook_loans": 227}),
        ("typed-nodes", "assistant", {"chat_session_20240307_120102": 1020}),
        (
            "generic",
            "llm calls/prod",
            {"agent resumed": 15 + 25 + 35, "call 0": 42, "call 1": 43, "call 2": 44},
        ),
        (
            "langchain-callback",
            "langchain",
            {"AgentExecutor": 4 * 42, "LLMChain": 2 * 42, "RetrievalQA": 42},
        ),
        ("openai-autolog", "openai autolog", {"Completions": 52, "Embeddings": 3}),
        ("evaluation-tables", "prompts", {"brave-owl-7 row 1": 17}),
    ],
)
def test_tokens_are_broken_down_by_trace_name(
    store: SqlAlchemyStore, profile: str, experiment: str, expected: dict[str, float]
) -> None:
    query = f"tags.`migrator.profile` = '{profile}'"
    home = store.get_experiment_by_name(experiment).experiment_id
    assert store.search_traces([home], filter_string=query)[0], "the profile took none of it"
    found = broken_down(store, experiment, "total_tokens", "trace_name", "TRACES")
    assert found == expected


@newer
@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        (
            "configurable_agents",
            {
                "gemini-1.5-flash": 4 * 8.7e-05 + 0.000275 + 1.9e-05 + 2e-06 + 1e-06,
                "gemini-1.5-pro": 0.006433 + 0.001925,
                "gpt-4o-mini": 2 * 6e-06,
            },
        ),
        ("article_writer", {"gemini-1.5-flash": 2e-05}),
        ("rulebook", {"gpt-4o-mini": 4e-05}),
        ("assistant", {"claude-3-sonnet": 0.0045}),  # logged on the session, too: counted once
    ],
)
def test_costs_are_broken_down_by_model(
    store: SqlAlchemyStore, experiment: str, expected: dict[str, float]
) -> None:
    found = broken_down(store, experiment, "total_cost", "span_model_name")
    assert found == pytest.approx(expected)


@newer
def test_costs_are_broken_down_by_provider(store: SqlAlchemyStore) -> None:
    found = broken_down(store, "configurable_agents", "total_cost", "span_model_provider")
    # The workflow's provider holds for its own models; whose gpt-4o-mini was, nothing says.
    assert found == pytest.approx({"google": 0.008996})


@newer
@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        (
            "configurable_agents",
            {"gemini-1.5-flash": 11 + 2, "gemini-1.5-pro": 4, "gpt-4o-mini": 2},
        ),
        ("llm calls/prod", {"gpt-4o-mini": 3, "gpt-4o": 4}),
        ("langchain", {"gpt-3.5-turbo-instruct": 7}),
        (
            "openai autolog",
            {"gpt-4o-mini": 4, "gpt-3.5-turbo-instruct": 1, "text-embedding-3-small": 1},
        ),
        ("prompts", {"completions-gpt4": 1}),
    ],
)
def test_spans_are_broken_down_by_model(
    store: SqlAlchemyStore, experiment: str, expected: dict[str, float]
) -> None:
    assert broken_down(store, experiment, "span_count", "span_model_name") == expected
