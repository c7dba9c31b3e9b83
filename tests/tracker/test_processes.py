"""Several processes, and how they end: one trace over two of them, nothing lost at an exit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import trackerkit

SETUP = """
import json, os, sys, time
from migrator.tracker import MLFlowTracker
tracker = MLFlowTracker({"enabled": True, "tracking_uri": sys.argv[1]}, {"flow": {"name": "far"}})
"""
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield


def process(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Run ``SETUP`` and ``code`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SETUP + code, *arguments],
        stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


REMOTE = """
with tracker.continued(json.loads(sys.argv[2])):
    with tracker.track_node("remote", "gpt-4o-mini"):
        with tracker.tool("lookup"):
            pass
        tracker.log_node_metrics(100, 10, "gpt-4o-mini", 0, "far prompt", "far answer")
assert tracker.flush(120)
with tracker.continued({}), tracker.track_workflow({"own": True}):  # nothing was sent along
    pass
"""


@pytest.mark.parametrize("ends_first", ["there", "here"])
def test_tokens_that_are_all_of_another_process_are_counted(
    ends_first: str, tmp_path: Path
) -> None:
    track = trackerkit.tracker(tmp_path)
    with track.track_workflow({}), track.track_node("local"):
        headers = json.dumps(track.headers())
        if ends_first == "there":
            assert process(REMOTE, track.config.tracking_uri, headers).wait() == 0
    assert track.flush(120)
    if ends_first == "here":
        assert process(REMOTE, track.config.tracking_uri, headers).wait() == 0
    (trace,) = [
        each for each in trackerkit.traces(track) if each.info.trace_id == track.last_trace_id
    ]
    feedback = {each.name: each.value for each in trace.info.assessments}
    assert feedback == {
        "total_tokens": 110,
        "cost_usd": pytest.approx(2.1e-05),
        "cost_usd_micro": pytest.approx(21),
    }
    assert trace.info.token_usage["total_tokens"] == 110
    cost = json.loads(trace.info.trace_metadata["mlflow.trace.cost"])
    assert cost["total_cost"] == pytest.approx(2.1e-05)
    assert track.cost_summary()["total"]["cost_usd"] == pytest.approx(2.1e-05)


def test_two_processes_write_one_trace(tmp_path: Path) -> None:
    track = trackerkit.tracker(tmp_path)
    with track.track_workflow({"here": True}):
        with track.track_node("local", "gpt-4o-mini"):
            headers = track.headers()
            assert set(headers) == {"traceparent"}
            upper = {"Traceparent": headers["traceparent"]}  # as some servers spell it
            child = process(REMOTE, str(track.config.tracking_uri), json.dumps(upper))
            assert child.wait(180) == 0
        with track.track_node("after", "gpt-4o-mini"):
            track.log_node_metrics(1, 2, "gpt-4o-mini")
    here, own = sorted(trackerkit.traces(track), key=lambda trace: len(trace.data.spans))[::-1]
    assert own.data.spans[0].inputs == {"own": True}
    assert set(trackerkit.spans(here)) == {
        "workflow_article_writer", "local", "remote", "lookup", "after"
    }  # fmt: skip
    assert trackerkit.parent(here, "remote") == "local"
    assert trackerkit.parent(here, "lookup") == "remote"
    assert trackerkit.spans(here)["remote"].inputs == {"prompt": "far prompt"}
    assert here.info.token_usage["total_tokens"] == 113
    assert json.loads(here.info.trace_metadata["mlflow.trace.sizeStats"])["num_spans"] == 5
    assert {a.name: a.feedback.value for a in here.info.assessments}["total_tokens"] == 113
    assert track.cost_summary()["total"]["total_tokens"] == 113


ENDS = """
for index in range(30):
    with tracker.track_workflow({"n": index}), tracker.track_node("a", "m"):
        pass
with tracker.track_workflow({"n": "last"}):
    with tracker.track_node("bad", "m"):
        raise RuntimeError("nobody catches this")
"""


def test_nothing_is_lost_when_the_process_ends_or_fails(tmp_path: Path) -> None:
    uri = trackerkit.database(tmp_path)
    assert process(ENDS, uri).wait(180) == 1
    found = trackerkit.stored(uri)
    assert len(found) == 31
    (last,) = [trace for trace in found if trace.data.spans[0].inputs == {"n": "last"}]
    assert last.info.state == "ERROR"


LEFT_OPEN = """
import threading
is_open = threading.Event()
def work():
    with tracker.track_workflow({"n": "daemon"}):
        with tracker.track_node("done", "m"):
            tracker.log_node_metrics(1, 2, "gpt-4o-mini", 0, "p", "r")
        with tracker.track_node("open", "m"):
            is_open.set()
            time.sleep(60)
threading.Thread(target=work, daemon=True).start()
is_open.wait()
tracker.track_workflow({"n": "no end"}).__enter__()
"""


def test_workflows_that_are_open_when_the_process_ends_are_written(tmp_path: Path) -> None:
    uri = trackerkit.database(tmp_path)
    assert process(LEFT_OPEN, uri).wait(180) == 0
    found = {trace.data.spans[0].inputs["n"]: trace for trace in trackerkit.stored(uri)}
    assert set(found) == {"daemon", "no end"}
    assert {trace.info.state for trace in found.values()} == {"ERROR"}
    daemon = trackerkit.spans(found["daemon"])
    assert daemon["done"].status.status_code == "OK"
    (event,) = daemon["open"].events
    assert event.attributes["exception.message"] == "the process ended before it did"
    assert found["daemon"].info.token_usage["total_tokens"] == 3


TERMINATED = """
from migrator.tracker import exit
assert exit.MAX_WAIT_S < 10  # container runtimes kill 10 s after they have asked
exit.MAX_WAIT_S = 100  # this machine may be busy
with tracker.track_workflow({"n": 1}):
    with tracker.track_node("done", "m"):
        tracker.log_node_metrics(1, 2, "gpt-4o-mini", 0, "p", "r")
    with tracker.track_node("open", "m"):
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
@pytest.mark.usefixtures("default_signals")
def test_nothing_is_lost_at_sigterm_and_the_process_ends_by_it(tmp_path: Path) -> None:
    uri = trackerkit.database(tmp_path)
    child = process(TERMINATED, uri)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(120) == -signal.SIGTERM
    (trace,) = trackerkit.stored(uri)
    found = trackerkit.spans(trace)
    assert trace.info.state == "ERROR"
    assert found["done"].status.status_code == "OK"
    assert found["done"].outputs == "r"
    for name in ("open", "workflow_far"):
        (event,) = found[name].events
        assert "SIGTERM" in event.attributes["exception.message"]
    assert trace.info.token_usage["total_tokens"] == 3
