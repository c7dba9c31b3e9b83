"""Forked workers write what they track, and leave their parent's traces alone."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from migrator.tracker import MLFlowTracker, forks
from migrator.tracker.place import Place
from tests.support import trackerkit
from tests.support.trackerkit import only, parent, spans, tracker

MINI = "gpt-4o-mini"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

_tracker: MLFlowTracker | None = None  # as a server has it when it forks its workers


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield


def own_workflow(name: str) -> int:
    """What a worker does with the tracker that it inherited."""
    assert _tracker is not None
    with _tracker.track_workflow({"name": name}), _tracker.track_node("node", MINI):
        _tracker.log_node_metrics(10, 1, MINI)
    return os.getpid()


def own_node(name: str) -> int:
    """A part of the workflow that is open in the parent."""
    assert _tracker is not None
    with _tracker.track_node(name, MINI):
        _tracker.log_node_metrics(10, 1, MINI)
    return os.getpid()


def in_fork(work: Callable[[], Any], seconds: float = 120) -> None:
    """Do ``work`` in a child that ends without any handler, as pre-forking servers' may."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    deadline = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the forked child hangs")
        time.sleep(0.01)


def prepared(tmp_path: Path) -> MLFlowTracker:
    """A tracker whose delivery thread runs."""
    global _tracker
    _tracker = tracker(tmp_path)
    own_workflow("parent")
    return _tracker


def names(track: MLFlowTracker) -> list[str]:
    return sorted(trace.data.spans[0].inputs["name"] for trace in trackerkit.traces(track))


def test_bare_fork_writes_its_workflow_and_says_so_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    track = prepared(tmp_path)

    def work() -> None:
        own_workflow("child 1")
        own_workflow("child 2")
        status = track.status()
        sys.stderr.write(f"pending {status.pending} errors {status.errors}\n")
        sys.stderr.flush()

    in_fork(work)
    assert names(track) == ["child 1", "child 2", "parent"]
    assert "pending 0 errors 0" in capfd.readouterr().err


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_of_a_pool_write_their_workflows(method: str, tmp_path: Path) -> None:
    if method == "spawn":
        prepared(tmp_path)
        worker = multiprocessing.get_context("spawn").Process(
            target=spawned, args=(str(tmp_path), "spawned")
        )
        worker.start()
        worker.join(120)
        assert worker.exitcode == 0
        assert names(_known()) == ["parent", "spawned"]
        return
    track = prepared(tmp_path)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(own_workflow, [f"child {index}" for index in range(6)]))
    process = context.Process(target=own_workflow, args=("process",))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert names(track) == [*(f"child {index}" for index in range(6)), "parent", "process"]


def spawned(folder: str, name: str) -> None:
    global _tracker
    _tracker = tracker(Path(folder))
    own_workflow(name)


def _known() -> MLFlowTracker:
    assert _tracker is not None
    return _tracker


def test_nodes_of_forked_workers_belong_to_the_open_workflow_and_count(tmp_path: Path) -> None:
    global _tracker
    track = _tracker = tracker(tmp_path)
    context = multiprocessing.get_context("fork")
    with track.track_workflow({"name": "parent"}), track.track_node("pool", MINI):
        track.log_node_metrics(100, 10, MINI)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            pids = set(pool.map(own_node, [f"child {index}" for index in range(4)]))
    assert os.getpid() not in pids
    trace = only(track)
    assert {parent(trace, f"child {index}") for index in range(4)} == {"pool"}
    assert set(spans(trace)) == {
        "workflow_article_writer", "pool", "pool call 1", *(f"child {index}" for index in range(4))
    }  # fmt: skip
    assert trace.info.token_usage["total_tokens"] == 154
    assert {a.name: a.value for a in trace.info.assessments}["total_tokens"] == 154
    assert track.cost_summary()["total"]["total_tokens"] == 154
    assert trace.info.state == "OK"


def test_fork_while_traces_are_written_neither_hangs_nor_loses(tmp_path: Path) -> None:
    track = prepared(tmp_path)
    for index in range(10):
        for _ in range(3):
            with track.track_workflow({"name": f"busy {index}"}):
                for number in range(20):
                    with track.track_node(f"node {number}"):
                        pass
        in_fork(lambda index=index: own_workflow(f"child {index}"))  # type: ignore[misc]
    assert track.flush(120)
    found = names(track)
    assert len(found) == 1 + 30 + 10
    assert [name for name in found if name.startswith("child")] == [f"child {i}" for i in range(10)]
    assert (track.status().lost, track.status().errors) == (0, 0)


def test_fork_waits_for_a_database_longer_than_for_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A child that is made while SQLite holds its locks hangs at its first connection.
    monkeypatch.setattr(forks, "MAX_WAIT_S", 0)
    writing, opened = threading.Event(), threading.Event()
    write = Place.write

    def held(place: Place, *values: Any, **named: Any) -> None:
        writing.set()
        assert opened.wait(120)
        write(place, *values, **named)

    monkeypatch.setattr(Place, "write", held)
    track = tracker(tmp_path)
    with track.track_workflow({"name": "slow"}):
        pass
    assert writing.wait(120)
    stopped: list[bool] = []

    def fork() -> None:
        forks._before()
        stopped.append(opened.is_set())
        forks._after_in_parent()

    forking = threading.Thread(target=fork)
    forking.start()
    forking.join(0.2)  # on a busy machine too short to see it fail, never too short to pass
    opened.set()
    forking.join(120)
    assert stopped == [True]
    assert track.flush(120) and track.status().delivered == 1


def test_child_that_is_terminated_does_not_end_its_parents_spans(tmp_path: Path) -> None:
    track = prepared(tmp_path)
    with track.track_workflow({"name": "open"}):
        in_fork(lambda: os.kill(os.getpid(), 15))
    (trace,) = [t for t in trackerkit.traces(track) if t.data.spans[0].inputs["name"] == "open"]
    assert trace.info.state == "OK"
    assert [event.name for event in trace.data.spans[0].events] == []


def test_totals_get_feedback_where_all_tokens_are_another_processs(tmp_path: Path) -> None:
    track = prepared(tmp_path)
    with track.track_workflow({"name": "open"}):
        in_fork(lambda: own_node("child"))
    (trace,) = [t for t in trackerkit.traces(track) if t.data.spans[0].inputs["name"] == "open"]
    marks = {a.name: a.value for a in trace.info.assessments}
    assert marks == {
        "total_tokens": 11,
        "cost_usd": pytest.approx(2.1e-06),
        "cost_usd_micro": pytest.approx(2.1),
    }
    assert trace.info.token_usage["total_tokens"] == 11
