"""One workflow through the legacy tracker, migrated, and through the new one: the same answers.

The legacy side is what the replica of the legacy tracker recorded on MLflow 2.9.2 and 2.22.5
(``fixtures/``), converted by the pipeline. The new side runs the same workflows through
``MLFlowTracker``. One set of queries is asked of both.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import SpanStatusCode
from mlflow.entities.trace_metrics import AggregationType, MetricAggregation, MetricViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from migrator import conventions as conv
from migrator import encoding, pipeline
from migrator.tracker import MLFlowTracker
from migrator.tracker.costs import summary
from tests.support import fixturekit, storekit, trackerkit

FLASH, PRO, MINI = "gemini-1.5-flash", "gemini-1.5-pro", "gpt-4o-mini"
TOPIC = "Größe der Städte – 都市の大きさ"
STEPS = {  # of fixtures/writers/agents.py: model, tools, tokens, prompt, response
    "research": (
        FLASH, ["serper_search", "web_fetch"], (412, 187), f"Research this topic: {TOPIC}",
        json.dumps({"notes": ["Zürich grows", "東京 is large"]}, ensure_ascii=False),
    ),
    "write": (
        PRO, None, (1530, 904), f"Write an article about {TOPIC}.\n\n" + "Use the notes. " * 45,
        json.dumps({"article": "Cities grow. " * 60}),
    ),
    "edit": (
        FLASH, [], (1102, 640), "Edit:\r\nCities grow.", json.dumps({"article": "Cities.\n"}),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=["2.9.2-agents", "2.22.5-agents"])
def migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the legacy tracker recorded on one MLflow, converted."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('migrated') / 'mlflow.db'}"
    pipeline.convert([str(fixturekit.store(request.param))], uri, pipeline.Options())
    return uri


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same workflows through the new tracker."""
    folder = tmp_path_factory.mktemp("new")
    with trackerkit.restored():
        uri = trackerkit.database(folder)
        article(folder)
        failed(folder)
        translate(folder)
        yield uri


def walk(track: MLFlowTracker, upto: int) -> None:
    for node, (model, tools, tokens, prompt, response) in list(STEPS.items())[:upto]:
        with track.track_node(node, model, tools):
            track.log_node_metrics(*tokens, model, 2, prompt, response)


def article(folder: Path) -> None:
    track = trackerkit.tracker(folder)
    with track.track_workflow({"topic": TOPIC, "words": 800}):
        walk(track, 3)
        track.finalize_workflow({"topic": TOPIC, "words": 800, "article": "Cities.\n"})
    assert track.flush(120)


def failed(folder: Path) -> None:
    track = trackerkit.tracker(folder)
    with suppress(RuntimeError), track.track_workflow({"topic": "fails"}):
        walk(track, 1)
        with track.track_node("write", PRO):
            raise RuntimeError(
                "Node 'write': LLM call failed: 429 Resource has been exhausted (e.g. Übernutzung)"
            )
    assert track.flush(120)


def translate(folder: Path) -> None:
    track = trackerkit.tracker(folder, "translate")
    for text in ("Guten Tag", "Gute Nacht"):
        with track.track_workflow({"text": text}):
            with track.track_node("translate", MINI):
                track.log_node_metrics(20, 5, MINI, 0, text, '{"text": "Good ..."}')
            track.finalize_workflow({"text": "Good ..."})
    assert track.flush(120)


# --------------------------------------------------------------------------------- queries
class Dollars(float):
    """An amount, equal to one within a millionth: the legacy tracker rounded to that."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(self - other) <= 1.01e-6

    __hash__ = None  # type: ignore[assignment]


def amount(name: str, value: float) -> Dollars:
    """A feedback's value as dollars, or as a plain number if it is about something else."""
    is_micro = name == conv.FEEDBACK_COST_MICRO
    return Dollars(value / 1_000_000 if is_micro else value)


def by_name(uri: str, name: str, inputs: Mapping[str, Any]) -> Any:
    """Return the first trace of a name whose workflow was given ``inputs``.

    (The fixture has later ones of the same inputs: with zero tokens, and with hardly anything.)
    """
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(trackerkit.EXPERIMENT)
    assert experiment is not None
    found = client.search_traces(
        locations=[experiment.experiment_id], filter_string=f"trace.name = '{name}'",
        max_results=100, order_by=["timestamp_ms ASC"],
    )  # fmt: skip
    return next(trace for trace in found if trace.data.spans[0].inputs == inputs)


def shape(trace: Any) -> list[tuple[Any, ...]]:
    """Name, type, parent and status of each span, in the order of the views."""
    names = {span.span_id: span.name for span in trace.data.spans}
    return [
        (span.name, span.span_type, names.get(span.parent_id), span.status.status_code)
        for span in trace.data.spans
    ]


def content(trace: Any) -> list[tuple[Any, ...]]:
    return [(span.name, span.inputs, span.outputs) for span in trace.data.spans]


def calls(trace: Any) -> list[tuple[Any, ...]]:
    """Model, provider, tokens and cost of each span that has them."""
    return [
        (
            span.name,
            span.get_attribute("model"),
            span.get_attribute("mlflow.llm.model"),
            span.get_attribute("provider"),
            span.get_attribute("mlflow.llm.provider"),
            span.get_attribute("mlflow.chat.tokenUsage"),
            Dollars(span.get_attribute("cost_usd")),
            Dollars(span.get_attribute("mlflow.llm.cost")["total_cost"]),
        )
        for span in trace.data.spans
        if span.get_attribute("mlflow.chat.tokenUsage")
    ]


def totals(trace: Any) -> tuple[Any, ...]:
    cost = json.loads(trace.info.trace_metadata["mlflow.trace.cost"])
    return (trace.info.state, trace.info.token_usage, Dollars(cost["total_cost"]))


def session(trace: Any) -> Any:
    return trace.info.trace_metadata.get("mlflow.trace.session")


def feedback(trace: Any) -> dict[str, tuple[Any, ...]]:
    """What 3.9's quality view charts."""
    return {
        each.name: (
            amount(each.name, each.feedback.value),
            each.source.source_type,
            each.source.source_id,
            each.assessment_id == encoding.assessment_id_of(
                trace.info.trace_id, each.name, conv.FEEDBACK_SOURCE
            ),
        )
        for each in trace.info.assessments
    }  # fmt: skip


def errors(trace: Any) -> list[tuple[Any, ...]]:
    return [
        (span.name, event.attributes["exception.type"], event.attributes["exception.message"])
        for span in trace.data.spans
        if span.status.status_code == SpanStatusCode.ERROR
        for event in span.events
        if event.name == "exception"
    ]


ARTICLE = ("workflow_article_writer", {"topic": TOPIC, "words": 800})
FAILED = ("workflow_article_writer", {"topic": "fails"})
GREETING = ("workflow_translate", {"text": "Guten Tag"})
GOOD_NIGHT = ("workflow_translate", {"text": "Gute Nacht"})


@pytest.mark.parametrize("query", [shape, content, calls, totals, feedback, session, errors])
@pytest.mark.parametrize("which", [ARTICLE, GREETING, GOOD_NIGHT])
def test_migrated_and_new_traces_answer_alike(
    query: Callable[[Any], Any], which: tuple[str, dict[str, Any]], migrated: str, new: str
) -> None:
    old_answer, new_answer = query(by_name(migrated, *which)), query(by_name(new, *which))
    assert old_answer == new_answer
    if query is not session and query is not errors:
        assert old_answer


@pytest.mark.parametrize("query", [shape, calls, totals, feedback, session, errors])
def test_failed_workflows_answer_alike(
    query: Callable[[Any], Any], migrated: str, new: str
) -> None:
    """The node that failed, its error and that of the workflow: the legacy run said FINISHED."""
    assert query(by_name(migrated, *FAILED)) == query(by_name(new, *FAILED))


def test_cost_summary_answers_alike(migrated: str, new: str) -> None:
    sums = [summary(uri, by_name(uri, *ARTICLE).info.trace_id) for uri in (migrated, new)]
    for kind in ("by_node", "by_model", "by_provider"):
        rows = [
            {
                name: {**row, "cost_usd": Dollars(row["cost_usd"])}
                for name, row in each[kind].items()
            }
            for each in sums
        ]
        assert rows[0] == rows[1]
    assert sums[0]["total"]["total_tokens"] == sums[1]["total"]["total_tokens"] == 4775


def test_search_by_what_stands_in_a_span_finds_both(migrated: str, new: str) -> None:
    for uri in (migrated, new):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(trackerkit.EXPERIMENT)
        assert experiment is not None
        for question in (
            "span.type = 'AGENT' AND trace.status = 'OK'",
            "span.name = 'edit'",
            "span.attributes.model LIKE '%gemini-1.5-pro%'",
            "span.attributes.provider LIKE '%google%' AND span.type = 'LLM'",
            "feedback.total_tokens = '4775'",
            "metadata.`mlflow.trace.tokenUsage` IS NOT NULL",
            "metadata.`mlflow.trace.cost` IS NOT NULL",
            "trace.name = 'workflow_article_writer' AND span.status = 'OK'",
        ):
            found = client.search_traces(
                locations=[experiment.experiment_id], filter_string=question, max_results=100
            )
            assert by_name(uri, *ARTICLE).info.trace_id in {t.info.trace_id for t in found}


def charted(uri: str, trace: Any) -> dict[str, float]:
    """Ask what MLflow's quality view asks: the mean of each feedback on a trace."""
    points = SqlAlchemyStore(uri, "unused").query_trace_metrics(
        experiment_ids=[trace.info.experiment_id],
        view_type=MetricViewType.ASSESSMENTS,
        metric_name="assessment_value",
        aggregations=[MetricAggregation(AggregationType.AVG)],
        dimensions=["assessment_name"],
        start_time_ms=trace.info.request_time,
        end_time_ms=trace.info.request_time,
    )
    found = {p.dimensions["assessment_name"]: p.values["AVG"] for p in points}
    return {name: amount(name, value) for name, value in found.items()}


def test_mlflows_charts_show_tokens_and_cost_of_both(migrated: str, new: str) -> None:
    old, now = (charted(uri, by_name(uri, *ARTICLE)) for uri in (migrated, new))
    assert old == now
    assert set(old) == {"total_tokens", "cost_usd", "cost_usd_micro"}
    assert old["total_tokens"] == 4775.0


def test_session_and_user_find_both(tmp_path: Path) -> None:
    """The legacy tracker knew neither; a tag on its workflow's run did."""
    source = tmp_path / "mlruns"
    storekit.write_experiment(source, "1", trackerkit.EXPERIMENT)
    storekit.write_run(
        source, "1", "a" * 32, name="support_20240101_120000",
        params={"workflow_name": "support", "schema_version": "1.0", "node_count": "1"},
        tags={"session_id": "s-17", "user_id": "ana"},
    )  # fmt: skip
    storekit.write_run(
        source, "1", "b" * 32, name="node_reply", params={"node_id": "reply", "node_model": MINI},
        metrics={"input_tokens": [(1, 20, 0)], "output_tokens": [(1, 5, 0)]},
        tags={"mlflow.parentRunId": "a" * 32},
    )  # fmt: skip
    old = f"sqlite:///{tmp_path / 'migrated.db'}"
    pipeline.convert([str(source)], old, pipeline.Options())
    with trackerkit.restored():
        track = trackerkit.tracker(tmp_path, "support")
        with (
            track.track_workflow({}, session="s-17", user="ana"),
            track.track_node("reply", MINI),
        ):
            track.log_node_metrics(20, 5, MINI)
        assert track.flush(120)
    answers = []
    for uri in (old, str(track.config.tracking_uri)):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(trackerkit.EXPERIMENT)
        assert experiment is not None
        (found,) = client.search_traces(
            locations=[experiment.experiment_id],
            filter_string="metadata.`mlflow.trace.session` = 's-17'"
            " AND metadata.`mlflow.trace.user` = 'ana'",
        )
        answers.append((found.info.tags["mlflow.traceName"], found.info.token_usage))
    assert answers[0] == answers[1]


# ------------------------------------------------------- what the legacy tracker mixed or lost
def test_parallel_nodes_that_were_mixed_or_lost_are_told_apart_now(
    migrated: str, tmp_path: Path
) -> None:
    """On 2.9 one node got the other's metrics as well; on 2.22 neither was recorded."""
    old = by_name(migrated, "workflow_parallel", {"parts": 2})
    told = {span.name: span.get_attribute("mlflow.chat.tokenUsage") for span in old.data.spans}
    right = {"input_tokens": 120, "output_tokens": 340, "total_tokens": 460}
    assert [told.get("p0"), told.get("p1")] != [right, right]  # the recorded fault

    with trackerkit.restored():
        track = trackerkit.tracker(tmp_path, "parallel")
        steps = threading.Barrier(2)

        def node(index: int) -> None:
            tracked = track.track_node(f"p{index}", FLASH)
            steps.wait(120)
            with tracked:
                steps.wait(120)  # both are open, then both log
                track.log_node_metrics(
                    120, 340, FLASH, 0, f"part {index}", json.dumps({"part": index})
                )
                steps.wait(120)

        with track.track_workflow({"parts": 2}), ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(node, index) for index in (0, 1)]:
                future.result(60)
            track.finalize_workflow({"parts": [0, 1]})
        trace = trackerkit.only(track)
    found = trackerkit.spans(trace)
    for index in (0, 1):
        assert trackerkit.parent(trace, f"p{index}") == "workflow_parallel"
        assert found[f"p{index}"].get_attribute("mlflow.chat.tokenUsage") == right
        assert found[f"p{index}"].outputs == {"part": index}
    assert trace.info.token_usage["total_tokens"] == 920


def test_node_failure_that_was_swallowed_is_an_error_now(migrated: str, tmp_path: Path) -> None:
    """The legacy tracker went on, and its workflow said it had succeeded."""
    old = by_name(migrated, "workflow_support", {"ticket": "My order is late"})
    assert old.info.state == "OK"  # as recorded: no word of the failure's cost to the workflow

    with trackerkit.restored():
        track = trackerkit.tracker(tmp_path, "support")
        with (
            pytest.raises(ValueError, match="does not fit"),
            track.track_workflow({"ticket": "My order is late"}),
            track.track_node("classify", FLASH),
        ):
            raise ValueError("output does not fit the schema")
        trace = trackerkit.only(track)
    assert trace.info.state == "ERROR"
    assert errors(trace)[-1] == ("classify", "ValueError", "output does not fit the schema")
