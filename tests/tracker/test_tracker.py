"""The tracker's calls: what each of them writes, read back through MLflow's own client."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pydantic
import pytest
from mlflow.entities import SpanStatusCode, TraceState

from migrator.tracker import MLFlowTracker, exporter
from tests.support import trackerkit
from tests.support.trackerkit import only, parent, spans, traces, tracker

FLASH, MINI = "gemini-1.5-flash", "gpt-4o-mini"


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield


# --------------------------------------------------------------------------- the legacy calls
def test_workflow_is_one_trace_with_its_nodes_below(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({"topic": "Städte"}, session="s-1", user="ana", tags={"team": "a"}):
        with track.track_node("research", FLASH, ["serper_search"]):
            track.log_node_metrics(412, 187, FLASH, 2, "Research", '{"notes": ["a"]}')
        with track.track_node("write", "gemini-1.5-pro"):
            track.log_node_metrics(1530, 904, "gemini-1.5-pro", 0, "Write", "plain text")
        track.finalize_workflow({"article": "Cities."})
    trace = only(track)
    assert trace.info.state == TraceState.OK
    assert trace.info.tags["mlflow.traceName"] == "workflow_article_writer"
    assert trace.info.tags["team"] == "a"
    assert trace.info.trace_metadata["mlflow.trace.session"] == "s-1"
    assert trace.info.trace_metadata["mlflow.trace.user"] == "ana"
    assert {name: span.span_type for name, span in spans(trace).items()} == {
        "workflow_article_writer": "WORKFLOW", "research": "AGENT", "write": "LLM"
    }  # fmt: skip
    root, research, write = trace.data.spans
    assert root.parent_id is None
    assert research.parent_id == write.parent_id == root.span_id
    assert (root.inputs, root.outputs) == ({"topic": "Städte"}, {"article": "Cities."})
    assert (research.inputs, research.outputs) == ({"prompt": "Research"}, {"notes": ["a"]})
    assert write.outputs == "plain text"
    assert research.get_attribute("tools") == ["serper_search"]
    assert research.get_attribute("retries") == 2
    assert research.get_attribute("model") == FLASH
    assert research.get_attribute("provider") == "google"
    assert research.get_attribute("mlflow.chat.tokenUsage") == {
        "input_tokens": 412, "output_tokens": 187, "total_tokens": 599
    }  # fmt: skip
    assert research.get_attribute("cost_usd") == pytest.approx(8.7e-05)
    assert root.get_attribute("mlflow.chat.tokenUsage") is None  # on leaves only
    assert trace.info.token_usage["total_tokens"] == 599 + 2434
    cost = json.loads(trace.info.trace_metadata["mlflow.trace.cost"])
    assert cost["total_cost"] == pytest.approx(8.7e-05 + 0.0064325)


def test_failing_node_is_recorded_and_raised(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    reached = False
    with pytest.raises(ValueError, match="no schema"), track.track_workflow({"ticket": "late"}):
        with track.track_node("classify", FLASH):
            raise ValueError("no schema")
        reached = True  # the legacy tracker came here
    assert not reached
    trace = only(track)
    assert trace.info.state == TraceState.ERROR
    for span in trace.data.spans:
        assert span.status.status_code == SpanStatusCode.ERROR
        (event,) = [event for event in span.events if event.name == "exception"]
        assert event.attributes["exception.type"] == "ValueError"
        assert event.attributes["exception.message"] == "no schema"
        assert "test_tracker.py" in event.attributes["exception.stacktrace"]
        assert span.start_time_ns <= event.timestamp <= span.end_time_ns


def test_a_failure_without_an_exception_has_no_empty_stack_trace(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}):
        track.finalize_workflow({}, status="gave up")
    (root,) = only(track).data.spans
    (event,) = root.events
    assert event.attributes == {"exception.type": "WorkflowError", "exception.message": "gave up"}


def test_node_failure_that_the_workflow_handles_leaves_the_workflow_well(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}):
        try:
            with track.track_node("first", FLASH):
                raise TimeoutError("slow")
        except TimeoutError:
            with track.track_node("second", FLASH):
                pass
    trace = only(track)
    assert trace.info.state == TraceState.OK
    assert spans(trace)["first"].status.status_code == SpanStatusCode.ERROR
    assert spans(trace)["second"].status.status_code == SpanStatusCode.OK


def test_workflow_that_says_it_failed_is_an_error(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}):
        track.finalize_workflow({"partial": 1}, status="quota exhausted")
    trace = only(track)
    assert trace.info.state == TraceState.ERROR
    assert [event.name for event in trace.data.spans[0].events] == ["exception"]
    assert trace.data.spans[0].outputs == {"partial": 1}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()])
def test_interrupts_are_recorded_and_go_on(error: BaseException, tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with pytest.raises(type(error)), track.track_workflow({}), track.track_node("a", FLASH):
        raise error
    assert {span.status.status_code for span in only(track).data.spans} == {SpanStatusCode.ERROR}


def test_totals_belong_to_a_workflow_not_to_the_tracker(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    for count in (20, 30):
        with track.track_workflow({}), track.track_node("translate", MINI):
            track.log_node_metrics(count, 5, MINI)
    assert [trace.info.token_usage["total_tokens"] for trace in traces(track)] == [25, 35]


USAGE = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}


@pytest.mark.parametrize(
    "response",
    [
        USAGE,
        {"usage_metadata": USAGE},
        SimpleNamespace(usage_metadata=USAGE),  # LangChain: a dictionary on an object
        SimpleNamespace(usage=SimpleNamespace(prompt_tokens=11, completion_tokens=7)),  # OpenAI
        SimpleNamespace(usage=SimpleNamespace(input_tokens=11, output_tokens=7)),  # Anthropic
        SimpleNamespace(
            usage_metadata=SimpleNamespace(prompt_token_count=11, candidates_token_count=7)
        ),  # Google
        {"usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7}},  # Gemini's REST
        {"response_metadata": {"token_usage": {"prompt_tokens": 11, "completion_tokens": 7}}},
        {"usage": {"inputTokens": 11, "outputTokens": 7}},  # Bedrock
    ],
)
def test_token_counts_are_read_from_any_response(response: Any, tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}):
        with track.track_node("a", FLASH):
            track.log_node_metrics(model=FLASH, usage=response)
        with track.track_node("b", FLASH):
            track.track_provider_call("google", FLASH, response)
    found = spans(only(track))
    for name in ("a", "b"):
        assert found[name].get_attribute("mlflow.chat.tokenUsage") == USAGE


ANTHROPIC = {
    "input_tokens": 100, "output_tokens": 20,
    "cache_read_input_tokens": 900, "cache_creation_input_tokens": 50,
}  # fmt: skip


@pytest.mark.parametrize("recorded", [100, 1050])  # MLflow 3.9 and 3.17 say of the same answer
def test_cached_tokens_of_anthropic_count_and_a_report_of_them_is_no_second_call(
    recorded: int, tmp_path: Path
) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}), track.track_node("a", "claude-sonnet-4-5"):
        with mlflow.start_span("Messages.create", span_type="CHAT_MODEL") as span:
            span.set_outputs({"model": "claude-sonnet-4-5", "usage": ANTHROPIC})
            span.set_attribute(
                "mlflow.chat.tokenUsage",
                {"input_tokens": recorded, "output_tokens": 20, "total_tokens": recorded + 20},
            )
        track.log_node_metrics(usage=SimpleNamespace(usage=SimpleNamespace(**ANTHROPIC)))
    trace = only(track)
    assert trace.info.token_usage["input_tokens"] == 1050
    assert track.cost_summary()["total"]["total_tokens"] == 1070
    assert len(trace.data.spans) == 3


def test_zero_tokens_are_not_captured_tokens(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}), track.track_node("a", FLASH):
        track.log_node_metrics(0, 0, FLASH, 0, "p", "r")
    trace = only(track)
    assert spans(trace)["a"].get_attribute("mlflow.chat.tokenUsage") is None
    assert not trace.info.token_usage
    assert trace.info.assessments == []


def test_calls_of_one_node_add_up_each_at_its_own_price(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}), track.track_node("a", FLASH):
        track.log_node_metrics(1_000_000, 0, FLASH)
        track.log_node_metrics(1_000_000, 0, MINI)
    span = spans(only(track))["a"]
    assert span.get_attribute("mlflow.chat.tokenUsage")["input_tokens"] == 2_000_000
    assert span.get_attribute("cost_usd") == pytest.approx(0.075 + 0.15)


# ------------------------------------------------------------------------- threads and tasks
def part(index: int) -> str:
    """What a node answers."""
    return json.dumps({"part": index})


def hammer_node(track: MLFlowTracker, index: int, barrier: threading.Barrier) -> None:
    """A node whose steps interleave with those of its siblings."""
    barrier.wait(120)
    with track.track_node(f"p{index}", FLASH):
        barrier.wait(120)
        with track.tool(f"t{index}"):
            barrier.wait(120)
        track.log_node_metrics(
            100 + index, index, FLASH, 0, f"part {index}", f'{{"part": {index}}}'
        )
        barrier.wait(120)


def check_hammered(trace: Any, count: int) -> None:
    found = spans(trace)
    for index in range(count):
        node = found[f"p{index}"]
        assert parent(trace, f"p{index}") == "workflow_parallel"
        assert parent(trace, f"t{index}") == f"p{index}"
        assert node.get_attribute("mlflow.chat.tokenUsage")["input_tokens"] == 100 + index
        assert node.inputs == {"prompt": f"part {index}"}
        assert node.outputs == {"part": index}
    assert trace.info.token_usage["input_tokens"] == sum(100 + index for index in range(count))


def test_nodes_in_bare_threads_belong_to_the_workflow_and_keep_apart(tmp_path: Path) -> None:
    track = tracker(tmp_path, "parallel")
    barrier = threading.Barrier(4)
    with track.track_workflow({"parts": 4}):
        threads = [
            threading.Thread(target=hammer_node, args=(track, index, barrier)) for index in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    check_hammered(only(track), 4)


def test_two_workflows_at_once_keep_their_threads_apart_when_bound(tmp_path: Path) -> None:
    track = tracker(tmp_path, "parallel")
    barrier = threading.Barrier(2)

    def run(offset: int) -> None:
        with track.track_workflow({"offset": offset}):
            barrier.wait(120)
            with ThreadPoolExecutor(2) as pool:
                for future in [pool.submit(track.bind(node), offset + index) for index in range(2)]:
                    future.result(20)
            barrier.wait(120)

    def node(number: int) -> None:
        with track.track_node(f"n{number}", FLASH):
            track.log_node_metrics(number, 1, FLASH)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(run, offset) for offset in (10, 20)]:
            future.result(60)
    found = {trace.data.spans[0].inputs["offset"]: trace for trace in traces(track)}
    assert set(found) == {10, 20}
    for offset, trace in found.items():
        assert {s.name for s in trace.data.spans[1:]} == {f"n{offset}", f"n{offset + 1}"}
        assert trace.info.token_usage["input_tokens"] == 2 * offset + 1


def test_thread_that_belongs_to_no_workflow_is_never_guessed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    track = tracker(tmp_path)
    outer = [track.track_workflow({"n": n}) for n in (1, 2)]
    contexts = [contextvars.Context() for _ in outer]
    for context, flow in zip(contexts, outer, strict=True):
        context.run(flow.__enter__)
    thread = threading.Thread(target=track.finalize_workflow, args=({"whose": "?"},))
    thread.start()
    thread.join()
    for context, flow in zip(contexts, outer, strict=True):
        context.run(flow.__exit__, None, None, None)
    assert [trace.data.spans[0].outputs for trace in traces(track)] == [None, None]
    assert "2 open workflows" in caplog.text and "bind" in caplog.text


def test_nodes_of_concurrent_tasks_keep_apart(tmp_path: Path) -> None:
    track = tracker(tmp_path, "parallel")

    async def node(index: int, gate: asyncio.Event) -> None:
        with track.track_node(f"p{index}", FLASH):
            await gate.wait()
            with track.tool(f"t{index}"):
                await asyncio.sleep(0)
            track.log_node_metrics(
                100 + index, 1, FLASH, 0, f"part {index}", f'{{"part": {index}}}'
            )
            await asyncio.sleep(0)

    async def main() -> None:
        gate = asyncio.Event()
        with track.track_workflow({}):
            tasks = [asyncio.create_task(node(index, gate)) for index in range(5)]
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(*tasks)

    asyncio.run(main())
    check_hammered(only(track), 5)


# ------------------------------------------------------------------------------- functions
def test_functions_of_every_kind_are_one_span_each(tmp_path: Path) -> None:
    track = tracker(tmp_path)

    class Writer:
        @track.trace
        def method(self, text: str) -> str:
            return text.upper()

        @track.trace(name="static")
        @staticmethod
        def shout(text: str) -> str:
            return text + "!"

        @track.trace
        @classmethod
        def make(cls, text: str) -> str:
            return cls.__name__ + text

    @track.trace(span_type="TOOL", attributes={"kind": "web"})
    async def fetch(url: str, retries: int = 0) -> dict[str, str]:
        await asyncio.sleep(0)
        return {"url": url}

    @track.trace
    def tokens(count: int) -> Iterator[str]:
        for index in range(count):
            with track.tool("inside"):
                yield f"w{index} "

    @track.trace(name="streamed", span_type="CHAT_MODEL")
    async def stream() -> AsyncIterator[str]:
        for word in ("Zü", "rich"):
            await asyncio.sleep(0)
            yield word

    async def consume() -> str:
        return "".join([word async for word in stream()])

    with track.track_workflow({}):
        assert Writer().method("a") == "A"
        assert Writer.shout("a") == "a!"
        assert Writer.make("x") == "Writerx"
        assert asyncio.run(fetch("u", retries=1)) == {"url": "u"}
        assert list(tokens(1)) == ["w0 "]
        assert asyncio.run(consume()) == "Zürich"
    trace = only(track)
    found = spans(trace)
    assert found["method"].inputs == {"text": "a"} and found["method"].outputs == "A"
    assert found["static"].outputs == "a!"
    assert found["make"].inputs == {"text": "x"} and found["make"].outputs == "Writerx"
    assert found["fetch"].span_type == "TOOL"
    assert found["fetch"].inputs == {"url": "u", "retries": 1}
    assert found["fetch"].get_attribute("kind") == "web"
    assert found["tokens"].outputs == "w0 "
    assert parent(trace, "inside") == "tokens"
    streamed = found["streamed"]
    assert streamed.outputs == "Zürich"
    assert [json.loads(event.attributes["mlflow.chunk.value"]) for event in streamed.events] == [
        "Zü", "rich"
    ]  # fmt: skip
    assert streamed.get_attribute("chunk_count") == 2
    assert set(found) == {
        "workflow_article_writer", "method", "static", "make", "fetch", "tokens", "inside",
        "streamed",
    }  # fmt: skip


def test_stream_that_is_left_early_or_fails_still_ends_its_span(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    closed = []

    @track.trace(name="left")
    def left() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    @track.trace(name="broken")
    def broken() -> Iterator[str]:
        yield "a"
        raise OSError("gone")

    @track.trace(name="two_way")
    def two_way() -> Any:
        got = yield "first"
        try:
            yield got
        except KeyError:
            yield "caught"
        return "returned"

    with track.track_workflow({}):
        stream = left()
        assert next(stream) == "a"
        stream.close()  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="gone"):
            list(broken())
        talk = two_way()
        assert (next(talk), talk.send("sent"), talk.throw(KeyError())) == (
            "first",
            "sent",
            "caught",
        )
        with pytest.raises(StopIteration) as stop:
            next(talk)
        assert stop.value.value == "returned"
        with track.tool("after"):  # a consumer's spans are no children of the stream
            pass
    trace = only(track)
    found = spans(trace)
    assert closed == [True]
    assert found["left"].status.status_code == SpanStatusCode.OK
    assert found["left"].get_attribute("closed_early") is True
    assert found["broken"].status.status_code == SpanStatusCode.ERROR
    assert found["broken"].outputs == "a"
    assert found["two_way"].outputs == "firstsentcaught"
    assert parent(trace, "after") == "workflow_article_writer"


@pytest.mark.parametrize("waits", [True, False])
def test_abandoned_async_stream_is_no_error(waits: bool, tmp_path: Path) -> None:
    track = tracker(tmp_path)

    @track.trace(name="stream")
    async def stream() -> AsyncIterator[str]:
        for word in ("a", "b", "c"):
            await asyncio.sleep(0)
            yield word

    async def main() -> None:
        with track.track_workflow({}):
            async for _ in stream():
                break
            if waits:
                await asyncio.sleep(0.05)

    asyncio.run(main())
    found = spans(only(track))
    assert found["stream"].status.status_code == SpanStatusCode.OK
    assert found["stream"].outputs == "a"
    assert found["stream"].get_attribute("closed_early") is True


def test_span_is_not_active_while_the_consumer_of_a_stream_runs(tmp_path: Path) -> None:
    track = tracker(tmp_path)

    @track.trace
    def stream() -> Iterator[int]:
        yield 1
        yield 2

    with track.track_workflow({}):
        for number in stream():
            with track.tool(f"consumer{number}"):
                pass
    trace = only(track)
    assert parent(trace, "consumer1") == parent(trace, "consumer2") == "workflow_article_writer"


# ------------------------------------------------------------------ other spans, marks, content
def test_tool_retriever_and_model_spans_have_mlflows_types(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}), track.track_node("answer", FLASH):
        with track.retriever("search", "cities") as retriever:
            retriever.set_outputs([{"page_content": "Zürich", "metadata": {"id": 1}}])
        with track.tool("web", {"q": 1}) as tool:
            tool.record_exception(TimeoutError("slow"))
        with track.llm("chat", MINI, "openai", [{"role": "user", "content": "Hi"}]) as call:
            call.record_usage({"usage": {"prompt_tokens": 10, "completion_tokens": 5}})
            call.set_outputs({"role": "assistant", "content": "Hello"})
        track.log_node_metrics(10, 5, MINI)  # the node says what its call has said
    trace = only(track)
    found = spans(trace)
    assert {name: found[name].span_type for name in ("search", "web", "chat")} == {
        "search": "RETRIEVER", "web": "TOOL", "chat": "CHAT_MODEL"
    }  # fmt: skip
    assert found["web"].status.status_code == SpanStatusCode.ERROR
    assert found["chat"].get_attribute("provider") == "openai"
    assert found["answer"].get_attribute("mlflow.chat.tokenUsage") is None
    assert found["answer"].get_attribute("reported_tokens")["total_tokens"] == 15
    assert trace.info.token_usage["total_tokens"] == 15  # once
    cost = json.loads(trace.info.trace_metadata["mlflow.trace.cost"])
    assert cost["total_cost"] == found["chat"].get_attribute("cost_usd")


def test_cost_and_tokens_are_feedback_that_3_9_charts(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}), track.track_node("a", MINI):
        track.log_node_metrics(1000, 1000, MINI)
    found = {a.name: a for a in only(track).info.assessments}
    assert found["cost_usd"].feedback.value == pytest.approx(0.00075)
    assert found["cost_usd_micro"].feedback.value == pytest.approx(750)
    assert found["total_tokens"].feedback.value == 2000
    assert {a.source.source_type for a in found.values()} == {"CODE"}


def test_feedback_and_expectations_reach_open_and_finished_traces(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}):
        track.feedback("helpful", True, source="HUMAN", source_id="bob", rationale="short")
        track.expectation("answer", {"text": "42"})
    track.feedback("score", 0.5, source="LLM_JUDGE", source_id="judge")
    found = {a.name: a for a in only(track).info.assessments}
    assert found["helpful"].feedback.value is True
    assert found["helpful"].source.source_id == "bob" and found["helpful"].rationale == "short"
    assert found["answer"].expectation.value == {"text": "42"}
    assert found["score"].feedback.value == 0.5
    assert found["score"].source.source_type == "LLM_JUDGE"


LONG = "x" * 700


@pytest.mark.parametrize(
    ("settings", "node_config", "prompt"),
    [
        ({}, None, LONG),
        ({"artifact_level": "full"}, None, LONG),
        ({"artifact_level": "minimal"}, None, "x" * 500 + "..."),
        ({"log_artifacts": False}, None, "x" * 500 + "..."),
        ({"log_artifacts": False, "log_prompts": False}, None, None),
        ({"artifact_level": "minimal", "log_prompts": False}, None, None),
        ({}, {"log_artifacts": False, "log_prompts": False}, None),
        ({"log_artifacts": False, "log_prompts": False}, {"log_artifacts": True}, LONG),
        ({"log_prompts": False}, {"log_prompts": None}, LONG),
    ],
)
def test_prompts_are_shown_as_the_legacy_settings_say(
    settings: dict[str, Any], node_config: Any, prompt: str | None, tmp_path: Path
) -> None:
    track = tracker(tmp_path, **settings)
    config = SimpleNamespace(**node_config) if node_config else None
    with track.track_workflow({"secret": 1}):
        with track.track_node("a", FLASH, node_config=config):
            track.log_node_metrics(1, 1, FLASH, 0, LONG, LONG)
        track.finalize_workflow({"state": 2})
    found = spans(only(track))
    assert found["a"].inputs == (None if prompt is None else {"prompt": prompt})
    assert found["a"].outputs == prompt
    shown = settings.get("log_artifacts", True)
    assert found["workflow_article_writer"].inputs == ({"secret": 1} if shown else None)
    assert found["workflow_article_writer"].outputs == ({"state": 2} if shown else None)


def test_full_level_records_the_nodes_configuration_whatever_it_is(tmp_path: Path) -> None:
    class Node(pydantic.BaseModel):
        id: str = "a"
        log_prompts: bool | None = None

    for level, expected in (("standard", None), ("full", {"id": "a", "log_prompts": None})):
        folder = tmp_path / level
        folder.mkdir()
        track = tracker(folder, artifact_level=level)
        with track.track_workflow({}):
            with track.track_node("a", FLASH, node_config=Node()):
                pass
            with track.track_node("b", FLASH, node_config={"id": "a", "log_prompts": None}):
                pass
        found = spans(only(track))
        assert [found[name].get_attribute("node_config") for name in "ab"] == [expected] * 2


def test_secrets_are_redacted_on_every_span_of_the_trace(tmp_path: Path) -> None:
    track = tracker(tmp_path, redact=True)
    key = "sk-abcdefghijklmnop1234"
    with pytest.raises(OSError, match="ana@example"), track.track_workflow({"password": "hunter2"}):
        with mlflow.start_span("foreign") as foreign:  # not opened by the tracker
            foreign.set_inputs({"header": f"Bearer {key}", "n": 1})
        with track.track_node("a", FLASH):
            track.log_node_metrics(1, 1, FLASH, 0, f"mail ana@example.org with {key}", "ok")
            raise OSError("no such user: ana@example.org")
    trace = only(track)
    written = json.dumps(trace.to_dict())
    for secret in ("ana@example.org", key, "hunter2"):
        assert secret not in written
    assert spans(trace)["foreign"].inputs["n"] == 1
    assert spans(trace)["a"].inputs == {"prompt": "mail [redacted] with [redacted]"}


def test_own_pattern_or_function_redacts(tmp_path: Path) -> None:
    for redact in (["Order [0-9]+"], lambda text: text.replace("Order 17", "[redacted]")):
        track = tracker(tmp_path, redact=redact)
        with track.track_workflow({"q": "where is Order 17?"}):
            pass
    assert [t.data.spans[0].inputs["q"] for t in traces(track)] == ["where is [redacted]?"] * 2


def test_unsampled_workflow_leaves_nothing_behind(tmp_path: Path) -> None:
    track = tracker(tmp_path, sampling_ratio=0)
    barrier = threading.Barrier(1)
    with track.track_workflow({}):
        hammer_node(track, 0, barrier)
        with mlflow.start_span("foreign"):
            pass
        track.finalize_workflow({})
    assert traces(track) == []
    assert track.status().errors == 0


def test_values_that_break_mlflows_rest_layer_are_made_harmless(tmp_path: Path) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no text")

    track = tracker(tmp_path)
    deep: Any = "end"
    for _ in range(80):
        deep = {"d": deep}
    with track.track_workflow({"big": 2**70, "nul": "a\x00b", "lone": "\ud800", "deep": deep}):
        with track.tool("odd", {"set": {1}, "bytes": b"x", "odd": Odd()}):
            pass
        with track.tool("fine"):
            pass
    trace = only(track)
    inputs = trace.data.spans[0].inputs
    assert (inputs["big"], inputs["nul"], inputs["lone"]) == (str(2**70), "ab", "?")
    assert "fine" in spans(trace)


# ----------------------------------------------------------------------- never the workflow's
def test_trackers_own_errors_never_reach_the_workflow_and_are_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    track = tracker(tmp_path)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("tracing is broken")

    monkeypatch.setattr(exporter, "start_span_no_context", broken)
    with caplog.at_level(logging.WARNING, "migrator.tracker"), track.track_workflow({}):
        for index in range(3):
            with track.track_node(f"n{index}", FLASH) as node:
                track.log_node_metrics(1, 1, FLASH, 0, "p", "r")
                node.set_outputs("x")
        track.finalize_workflow({})
    said = [record.getMessage() for record in caplog.records if "broken" in record.getMessage()]
    assert len(said) == 1 and "\n" not in said[0]
    assert track.status().errors == 4
    assert "RuntimeError: tracing is broken" in str(track.status().last_error)


def test_calls_outside_of_a_workflow_do_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    track = tracker(tmp_path)
    track.log_node_metrics(1, 2, FLASH)
    track.finalize_workflow({})
    track.track_provider_call("google", FLASH, USAGE)
    track.record_exception(ValueError())
    track.feedback("a", 1)
    assert track.cost_summary() == {}
    assert track.status().errors == 0
    assert "outside a node" in caplog.text
    with track.track_node("alone", FLASH):  # a trace of its own, as migrated lone nodes are
        track.log_node_metrics(1, 2, FLASH)
    assert only(track).info.tags["mlflow.traceName"] == "alone"


def test_tracing_goes_on_after_somebody_else_resets_mlflow(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}):
        pass
    mlflow.tracing.reset()
    mlflow.set_tracking_uri(trackerkit.database(tmp_path, "other.db"))
    with track.track_workflow({}):
        pass
    assert len(traces(track)) == 2


def test_traces_of_others_stay_in_their_experiment(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    mlflow.set_experiment("somebody else's")
    with mlflow.start_span("foreign"):
        pass
    with track.track_workflow({}):
        pass
    assert only(track).data.spans[0].name == "workflow_article_writer"
    uri = track.status().tracking_uri
    assert uri is not None
    assert [t.data.spans[0].name for t in trackerkit.stored(uri, "somebody else's")] == ["foreign"]


# ----------------------------------------------------------------------------------- costs
def test_cost_summary_sums_by_node_model_and_provider(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}):
        with track.track_node("a", FLASH):
            track.log_node_metrics(1_000_000, 1_000_000, FLASH)
        with track.track_node("b", MINI):
            with track.llm("one", MINI, "openai") as call:
                call.record_usage(input_tokens=1_000_000, output_tokens=0)
            with track.llm("two", "own-model", "home") as call:
                call.record_usage(input_tokens=5, output_tokens=5)
            track.log_node_metrics(1_000_005, 5, MINI)
    first = track.last_trace_id
    summary = track.cost_summary()
    assert summary["trace_id"] == first
    assert summary["total"] == {
        "calls": 3, "input_tokens": 2_000_005, "output_tokens": 1_000_005,
        "total_tokens": 3_000_010, "cost_usd": 0.525,
        "cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0,
    }  # fmt: skip
    assert {name: row["cost_usd"] for name, row in summary["by_node"].items()} == {
        "a": 0.375, "b": 0.15
    }  # fmt: skip
    assert {name: row["cost_usd"] for name, row in summary["by_model"].items()} == {
        FLASH: 0.375, MINI: 0.15, "own-model": None
    }  # fmt: skip
    assert {name: row["calls"] for name, row in summary["by_provider"].items()} == {
        "google": 1, "home": 1, "openai": 1
    }  # fmt: skip
    assert summary["unpriced_models"] == ["own-model"]
    with track.track_workflow({}):
        pass
    assert track.cost_summary()["total"]["calls"] == 0
    assert track.get_workflow_cost_summary(first) == summary


def test_relative_path_is_meant_from_the_directory_where_the_tracker_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "sqlite:///tracked.db"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        track = trackerkit.tracker(tmp_path, tracking_uri=uri)
        monkeypatch.chdir(tmp_path)
        with track.track_workflow({"of": name}):
            pass
        assert track.flush(120)
        (trace,) = trackerkit.stored(f"sqlite:///{tmp_path / name / 'tracked.db'}")
        assert trace.data.spans[0].inputs == {"of": name}


def test_traces_written_in_the_foreground_are_the_same(tmp_path: Path) -> None:
    track = tracker(tmp_path, async_logging=False)
    with track.track_workflow({}), track.track_node("a", FLASH):
        track.log_node_metrics(3, 4, FLASH)
    assert track.status().delivered == 1
    assert trackerkit.only(track).info.token_usage["total_tokens"] == 7
