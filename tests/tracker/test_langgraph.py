"""Manual and automatic tracing together, on a real LangGraph graph with an offline chat model."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, TypedDict

import mlflow
import pytest

pytest.importorskip("langgraph", reason="needs langgraph (the extra `langgraph`)")
pytest.importorskip("langchain", reason="needs langchain (the extra `langgraph`)")
pytest.importorskip("langchain_core", reason="needs langchain-core (the extra `langgraph`)")

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from mlflow.entities import SpanStatusCode, TraceState

from migrator.tracker import MLFlowTracker
from tests.support import trackerkit

MINI = "gpt-4o-mini"
USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


class State(TypedDict):
    """What the branches add to."""

    parts: Annotated[list[str], operator.add]


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import mlflow

    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield
    mlflow.langchain.autolog(disable=True)


class OfflineModel(GenericFakeChatModel):  # type: ignore[misc,unused-ignore]  # has no types
    """LangChain's own offline model, which says its name where real chat models do."""

    model: str


def answer(text: str, named: bool = True) -> AIMessage:
    """Ask an offline model; without ``named`` only its answer says which it is."""
    reply = AIMessage(
        content=text, usage_metadata=USAGE, response_metadata={"model_name": MINI}
    )  # fmt: skip
    messages = iter([reply])
    model = (
        OfflineModel(messages=messages, model=MINI)
        if named
        else GenericFakeChatModel(messages=messages)
    )
    return model.invoke(f"question of {text}")


def graph(track: MLFlowTracker, manual: bool, branches: int = 3) -> Any:
    """A graph whose branches run in parallel, each with a model call, then one that joins."""

    def branch(index: int) -> Any:
        def run(state: State) -> dict[str, list[str]]:
            if not manual:
                return {"parts": [str(answer(f"part {index}").content)]}
            with track.track_node(f"node{index}", MINI):
                message = answer(f"part {index}")
                track.log_node_metrics(
                    model=MINI, prompt=f"p{index}", response=str(message.content), usage=message
                )
                return {"parts": [str(message.content)]}

        return run

    builder = StateGraph(State)
    for index in range(branches):
        builder.add_node(f"branch{index}", branch(index))
        builder.add_edge(START, f"branch{index}")
        builder.add_edge(f"branch{index}", "join")
    builder.add_node("join", lambda state: {"parts": []})
    builder.add_edge("join", END)
    return builder.compile()


def run(track: MLFlowTracker, manual: bool) -> Any:
    with track.track_workflow({"topic": "cities"}):
        out = graph(track, manual).invoke({"parts": []})
        track.finalize_workflow(out)
    assert sorted(out["parts"]) == ["part 0", "part 1", "part 2"]
    return trackerkit.only(track)


def chain(trace: Any, span: Any) -> list[str]:
    """The names from a span up to the root."""
    by_id = {each.span_id: each for each in trace.data.spans}
    names = []
    while span is not None:
        names.append(span.name)
        span = by_id.get(span.parent_id)
    return names


def test_manual_and_automatic_spans_are_one_tree_without_doubles(tmp_path: Path) -> None:
    trace = run(trackerkit.tracker(tmp_path, autolog_enabled=True), manual=True)
    models = [span for span in trace.data.spans if span.span_type == "CHAT_MODEL"]
    assert len(models) == 3
    for span in models:
        content = str(span.outputs)
        (index,) = [number for number in range(3) if f"part {number}" in content]
        assert chain(trace, span)[1:] == [
            f"node{index}", f"branch{index}", "LangGraph", "workflow_article_writer"
        ]  # fmt: skip
        assert span.get_attribute("model") == MINI
        assert span.get_attribute("mlflow.chat.tokenUsage")["total_tokens"] == 15
    nodes = [span for span in trace.data.spans if span.get_attribute("node_id")]
    assert len(nodes) == 3
    assert all(node.get_attribute("mlflow.chat.tokenUsage") is None for node in nodes)
    assert trace.info.token_usage["total_tokens"] == 45
    assert {a.name: a.feedback.value for a in trace.info.assessments}["total_tokens"] == 45


def test_coroutines_of_a_graph_are_one_tree_without_doubles(tmp_path: Path) -> None:
    """By default MLflow's callbacks run beside the coroutines, and nodes have no calls below."""
    track = trackerkit.tracker(tmp_path, autolog_enabled="langgraph")

    def branch(index: int) -> Any:
        async def run(state: State) -> dict[str, list[str]]:
            with track.track_node(f"node{index}", MINI):
                await asyncio.sleep(0.02 * (3 - index))
                reply = AIMessage(content=f"part {index}", usage_metadata=USAGE)
                model = OfflineModel(messages=iter([reply]), model=MINI)
                message = await model.ainvoke("q")
                track.log_node_metrics(model=MINI, usage=message)
                return {"parts": [str(message.content)]}

        return run

    builder = StateGraph(State)
    for index in range(3):
        builder.add_node(f"branch{index}", branch(index))
        builder.add_edge(START, f"branch{index}")
        builder.add_edge(f"branch{index}", END)

    async def workflow() -> None:
        with track.track_workflow({"topic": "cities"}):
            await builder.compile().ainvoke({"parts": []})

    asyncio.run(workflow())
    trace = trackerkit.only(track)
    assert trace.info.token_usage["total_tokens"] == 45
    models = [span for span in trace.data.spans if span.span_type == "CHAT_MODEL"]
    assert sorted(chain(trace, span)[1:3] for span in models) == [
        [f"node{index}", f"branch{index}"] for index in range(3)
    ]


def test_automatic_spans_alone_are_counted_and_priced(tmp_path: Path) -> None:
    track = trackerkit.tracker(tmp_path, autolog_enabled=True)
    trace = run(track, manual=False)
    assert trace.info.token_usage["total_tokens"] == 45
    summary = track.cost_summary()
    assert summary["total"]["cost_usd"] == pytest.approx(3 * (10 * 0.15 + 5 * 0.60) / 1e6)
    assert summary["by_model"][MINI]["calls"] == 3


@pytest.mark.skipif(
    tuple(map(int, mlflow.__version__.split(".")[:2])) > (3, 9),
    reason="newer MLflows keep nothing of an answer but its text, so its model's name is lost",
)
def test_model_that_only_its_answer_names_is_priced(tmp_path: Path) -> None:
    track = trackerkit.tracker(tmp_path, autolog_enabled=True)
    with track.track_workflow({}):
        answer("part", named=False)
    assert track.cost_summary()["by_model"][MINI]["calls"] == 1


def test_parallel_branches_without_autologging_keep_apart(tmp_path: Path) -> None:
    trace = run(trackerkit.tracker(tmp_path), manual=True)
    found = trackerkit.spans(trace)
    assert set(found) == {"workflow_article_writer", "node0", "node1", "node2"}
    for index in range(3):
        assert found[f"node{index}"].inputs == {"prompt": f"p{index}"}
        assert found[f"node{index}"].outputs == f"part {index}"
        assert found[f"node{index}"].get_attribute("mlflow.chat.tokenUsage") == USAGE


def test_model_that_does_not_say_its_name_takes_the_nodes(tmp_path: Path) -> None:
    track = trackerkit.tracker(tmp_path, autolog_enabled=True)
    reply = AIMessage(content="x", usage_metadata=USAGE)
    with track.track_workflow({}), track.track_node("a", MINI):
        GenericFakeChatModel(messages=iter([reply])).invoke("q")
    assert track.cost_summary()["by_model"][MINI]["calls"] == 1


@tool  # type: ignore[untyped-decorator,unused-ignore]  # langchain may not be typed
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def consume(agent: Any, call: str) -> None:
    given = {"messages": [("user", "1 + 2")]}
    if call == "ainvoke":
        await agent.ainvoke(given)
    elif call == "astream":
        async for _ in agent.astream(given, stream_mode="updates"):
            pass
    else:
        async for _ in agent.astream_events(given, version="v2"):
            pass


class ToolModel(OfflineModel):
    """An offline model that accepts tools."""

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self


@pytest.mark.parametrize("call", ["ainvoke", "astream", "astream_events"])
def test_steps_of_an_agent_in_coroutines_lie_beside_one_another(call: str, tmp_path: Path) -> None:
    track = trackerkit.tracker(tmp_path, autolog_enabled=True)
    asked = [{"name": "add", "args": {"a": 1, "b": 2}, "id": "c1"}]
    replies = [
        AIMessage(content="", usage_metadata=USAGE, tool_calls=asked),
        AIMessage(content="three", usage_metadata=USAGE),
    ]

    # A stream of the offline model would leave out what tools it asks for.
    model = ToolModel(messages=iter(replies), model=MINI, disable_streaming=True)

    async def workflow() -> None:
        with track.track_workflow({"q": "1 + 2"}):
            await consume(create_agent(model, [add]), call)

    asyncio.run(workflow())
    trace = trackerkit.only(track)
    chains = [
        chain(trace, span)[1:]
        for span in trace.data.spans
        if span.span_type in ("CHAT_MODEL", "TOOL")
    ]
    assert sorted(chains) == [
        [step, "LangGraph", "workflow_article_writer"] for step in ("model", "model", "tools")
    ]
    assert trace.info.token_usage["total_tokens"] == 30
    assert {a.name: a.value for a in trace.info.assessments}["total_tokens"] == 30


@pytest.mark.parametrize("autolog", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_graph_that_waits_for_a_person_has_not_failed(
    autolog: bool, is_async: bool, tmp_path: Path
) -> None:
    track = trackerkit.tracker(tmp_path, autolog_enabled=autolog)

    def ask(state: State) -> dict[str, list[str]]:
        with track.track_node("ask", MINI):
            return {"parts": [interrupt({"question": "go on?"})]}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    app = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}

    def invoke(given: Any) -> Any:
        return asyncio.run(app.ainvoke(given, config)) if is_async else app.invoke(given, config)

    def run_once(given: Any) -> None:
        with track.track_workflow({}):
            track.finalize_workflow(invoke(given))

    run_once({"parts": []})
    run_once(Command(resume="yes"))
    waiting, done = trackerkit.traces(track)
    assert {span.status.status_code for span in waiting.data.spans} == {SpanStatusCode.OK}
    assert (waiting.info.state, waiting.info.tags.get("waiting")) == (TraceState.OK, "true")
    node = trackerkit.spans(waiting)["ask"] if not autolog else None
    assert node is None or node.get_attribute("waiting") is True
    assert all(not span.events for span in waiting.data.spans)
    assert (done.info.state, done.info.tags.get("waiting")) == (TraceState.OK, None)


def test_model_calls_in_a_thread_pool_of_a_graphs_coroutine_lie_below_its_node(
    tmp_path: Path,
) -> None:
    track = trackerkit.tracker(tmp_path, autolog_enabled=True)

    async def fan_out(state: State) -> dict[str, list[str]]:
        with ThreadPoolExecutor(2) as pool:
            tasks = [pool.submit(answer, f"part {index}") for index in range(2)]
            return {"parts": [str(task.result().content) for task in tasks]}

    builder = StateGraph(State)
    builder.add_node("fan", fan_out)
    builder.add_edge(START, "fan")
    with track.track_workflow({}):
        asyncio.run(builder.compile().ainvoke({"parts": []}))
    trace = trackerkit.only(track)
    models = [span for span in trace.data.spans if span.span_type == "CHAT_MODEL"]
    assert len(models) == 2
    for model in models:
        assert chain(trace, model)[1:] == ["fan", "LangGraph", "workflow_article_writer"]
    assert trace.info.token_usage["total_tokens"] == 30
