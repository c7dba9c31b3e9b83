"""Work in threads and thread pools lies below the span that started it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tests.support import trackerkit
from tests.support.trackerkit import only, parent, traces, tracker

MINI = "gpt-4o-mini"


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield


def ask(name: str) -> None:
    """Do what an integration of MLflow does for a model call."""
    with mlflow.start_span(name, span_type="CHAT_MODEL") as span:
        span.set_attribute(
            "mlflow.chat.tokenUsage", {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11}
        )


def in_pool(pool: ThreadPoolExecutor, name: str) -> None:
    pool.submit(ask, name).result()


def in_map(pool: ThreadPoolExecutor, name: str) -> None:
    list(pool.map(ask, [name]))


def in_thread(pool: ThreadPoolExecutor, name: str) -> None:
    thread = threading.Thread(target=ask, args=(name,))
    thread.start()
    thread.join()


@pytest.mark.parametrize("start", [in_pool, in_map, in_thread])
def test_model_calls_join_the_node_that_started_them(start: Any, tmp_path: Path) -> None:
    """Two workflows share a pool, so that nothing but the carried context tells them apart."""
    track = tracker(tmp_path)
    nodes = {name: threading.Barrier(2, timeout=120) for name in ("opened", "called")}

    with ThreadPoolExecutor(1) as pool:

        def workflow(name: str) -> None:
            with track.track_workflow({}), track.track_node(f"node {name}", MINI):
                nodes["opened"].wait()
                start(pool, f"call {name}")
                nodes["called"].wait()

        threads = [threading.Thread(target=workflow, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = traces(track)
    assert len(found) == 2
    calls = {span.name: parent(trace, span.name) for trace in found for span in trace.data.spans}
    assert {name: above for name, above in calls.items() if name.startswith("call")} == {
        "call a": "node a",
        "call b": "node b",
    }
    assert [trace.info.token_usage["total_tokens"] for trace in found] == [11, 11]


def test_pool_outlives_the_workflow_that_filled_it(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        with track.track_workflow({}), track.track_node("a", MINI):
            pool.submit(ask, "inside").result()
        pool.submit(ask, "outside").result()
    names = sorted([span.name for span in trace.data.spans] for trace in traces(track))
    assert names == [["outside"], ["workflow_article_writer", "a", "inside"]]


def test_nothing_else_is_carried_into_a_thread(tmp_path: Path) -> None:
    """A pool's own context variables, such as those of its initializer, stay what they were."""
    track = tracker(tmp_path)
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    with (
        ThreadPoolExecutor(1, initializer=lambda: variable.set("the pool's")) as pool,
        track.track_workflow({}),
    ):
        variable.set("the caller's")
        assert pool.submit(variable.get).result() == "the pool's"
        assert pool.submit(variable.get).result() == "the pool's"
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result()


def test_unsampled_workflow_leaves_nothing_behind_in_a_pool(tmp_path: Path) -> None:
    track = tracker(tmp_path, sampling_ratio=0)
    with ThreadPoolExecutor(1) as pool, track.track_workflow({}):
        pool.submit(ask, "call").result()
    assert traces(track) == []


def _warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was warned of, but for servers: trackers of earlier tests may still try theirs."""
    return [
        record
        for record in caplog.records
        if record.levelno >= logging.WARNING
        and not record.name.startswith("urllib3")
        and "http://" not in record.getMessage()
    ]


def test_span_that_is_left_in_another_context_is_left_quietly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A web framework reads each item of a response in a context of its own."""
    track = tracker(tmp_path)

    def stream() -> Iterator[str]:
        with track.track_workflow({}), track.track_node("stream", MINI):
            yield "a"
            yield "b"

    items = stream()
    read = []
    for _ in range(3):
        read.append(contextvars.copy_context().run(next, items, None))
    with track.track_workflow({}), track.track_node("after", MINI):
        pass
    assert read == ["a", "b", None]
    assert _warnings(caplog) == []
    assert track.status().errors == 0
    streamed, after = traces(track)
    assert [span.name for span in streamed.data.spans] == ["workflow_article_writer", "stream"]
    assert [span.name for span in after.data.spans] == ["workflow_article_writer", "after"]


def test_span_that_a_task_ends_for_its_starter_is_no_longer_around_the_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    track = tracker(tmp_path)

    async def main() -> None:
        with track.track_workflow({}):
            node = track.track_node("a", MINI)
            node.__enter__()

            async def finish() -> None:
                node.__exit__(None, None, None)
                with mlflow.start_span("b"):
                    pass

            await asyncio.create_task(finish())

    asyncio.run(main())
    assert _warnings(caplog) == []
    assert parent(only(track), "b") == "workflow_article_writer"


def test_async_stream_that_nobody_reads_on_is_left_quietly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    track = tracker(tmp_path)

    async def stream() -> AsyncIterator[str]:
        with track.track_node("stream", MINI):
            yield "a"
            yield "b"

    async def main() -> None:
        with track.track_workflow({}):
            async for _ in stream():
                break

    asyncio.run(main())  # ends the stream in a task of its own
    assert _warnings(caplog) == []
    assert track.status().errors == 0
    assert [span.name for span in only(track).data.spans] == ["workflow_article_writer", "stream"]
