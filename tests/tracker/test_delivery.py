"""Delivery keeps its time, its order and its count: slow servers, servers that return."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from migrator.cli import main
from migrator.tracker import MLFlowTracker, delivery
from migrator.tracker.in_flight import InFlight
from migrator.tracker.place import Place
from tests.support import trackerkit
from tests.support.faulty_proxy import Answer, proxied
from tests.support.http_servers import Quiet, serving
from tests.support.mlflow_server import Server
from tests.tracker.test_server import run, server_tracker

pytestmark = [pytest.mark.xdist_group("tracker_delivery"), pytest.mark.long]

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    trackerkit.database(tmp_path, "fallback.db")
    with trackerkit.restored():
        yield


@pytest.fixture
def server(running: Server) -> Server:
    running.empty()
    return running


@contextmanager
def answering_probes_only(opened: threading.Event) -> Iterator[str]:
    """A server that answers a probe; any other request waits until ``opened``, and fails."""

    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            if not self.path.endswith("experiments/search"):
                opened.wait(60)
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST

    with serving(Handler) as address:
        try:
            yield address
        finally:
            opened.set()


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 180
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Gate:
    """Holds every write of a trace until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        write = Place.write

        def held(place: Place, *values: Any, **named: Any) -> None:
            assert self.opened.wait(60)
            write(place, *values, **named)

        monkeypatch.setattr(Place, "write", held)


# ------------------------------------------------------------------------------ feedback
def test_feedback_waits_behind_its_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    track = trackerkit.tracker(tmp_path, server_timeout_s=0.1)
    run(track)
    track.feedback("helpful", True, source="HUMAN", source_id="bob")
    track.expectation("answer", "42")
    assert track.status().pending == 3
    gate.opened.set()
    given = {a.name: a.value for a in trackerkit.only(track).info.assessments}
    assert given["helpful"] is True
    assert given["answer"] == "42"
    status = track.status()
    assert (status.delivered, status.pending, status.lost, status.errors) == (1, 0, 0, 0)


def test_feedback_of_one_moment_is_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_000_000_000)  # a coarse clock
    track = trackerkit.tracker(tmp_path)
    with track.track_workflow({"q": 1}):
        for value in (1, 2):
            track.feedback("score", value, source="HUMAN", source_id="bob")
    for value in (3, 4):
        track.feedback("score", value, source="HUMAN", source_id="bob")
    values = [a.value for a in trackerkit.only(track).info.assessments if a.name == "score"]
    assert sorted(values) == [1, 2, 3, 4]


# ------------------------------------------------------------------------------ killed
KILLED = """
import json, os, sys
from migrator.trace_writer import TraceWriter
from migrator.tracker import MLFlowTracker
from tests.tracker.test_delivery import label_and_run
def die(*_, **__):
    print("killed", flush=True)
    os.kill(os.getpid(), 9)
track = MLFlowTracker(json.loads(sys.argv[1]), {"flow": {"name": "cut"}})
TraceWriter.write_head = die  # the spans are there then
label_and_run(track)
track.flush(120)
"""
KILLED_EXPERIMENT = "cut"


def label_and_run(track: MLFlowTracker) -> None:
    with track.track_workflow({"q": 1}, session="s-1", user="ana", tags={"team": "x"}):
        with track.track_node("n", "gpt-4o-mini"):
            track.log_node_metrics(10, 5, "gpt-4o-mini", prompt="p", response="r")
        track.feedback("helpful", True, source="HUMAN", source_id="bob")


@pytest.mark.parametrize("place", ["server", "database"])
def test_the_trace_that_a_killed_process_was_sending_is_completed(
    place: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fallback = f"sqlite:///{tmp_path / 'fallback.db'}"
    uri = request.getfixturevalue("server").uri if place == "server" else fallback
    settings = {
        "enabled": True, "tracking_uri": uri, "fallback_uri": fallback,
        "experiment_name": KILLED_EXPERIMENT, "server_timeout_s": 60,
    }  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, json.dumps(settings)]
    killed = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert (killed.returncode, killed.stdout) == (-9, "killed\n"), killed.stderr
    (cut,) = trackerkit.stored(uri, KILLED_EXPERIMENT)
    assert "team" not in cut.info.tags  # this is what has to be completed
    folder = tmp_path / "fallback.db.sending"
    assert folder.is_dir()
    (folder / f"{'0' * 8}-0-x").touch()  # another place's note

    track = MLFlowTracker(settings)
    assert (track.status().errors, track.status().lost) == (0, 0)
    if place == "server":
        assert track.status().in_fallback == 1
        assert "completes what has arrived" in caplog.text
        pushed = CliRunner().invoke(main, ["push", fallback, "--to", uri])
        assert pushed.exit_code == 0, pushed.output
    (trace,) = trackerkit.stored(uri, KILLED_EXPERIMENT)
    assert trace.info.trace_id == cut.info.trace_id
    assert len(trace.data.spans) == 2
    assert trace.info.tags["team"] == "x"
    assert trace.info.tags["mlflow.traceName"] == "workflow_cut"
    assert trace.info.trace_metadata["mlflow.trace.session"] == "s-1"
    assert trace.info.token_usage["total_tokens"] == 15
    marks = {each.name: each.value for each in trace.info.assessments}
    assert marks == {
        "helpful": True,
        "total_tokens": 15,
        "cost_usd": pytest.approx(4.5e-06),
        "cost_usd_micro": 4.5,
    }
    assert [path.name for path in folder.iterdir()] == [f"{'0' * 8}-0-x"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_only_the_owner_can_read_notes(tmp_path: Path) -> None:
    """They hold prompts. Also where the folder was there, or the file of an earlier process."""
    folder = tmp_path / "fallback.db.sending"
    track = trackerkit.tracker(tmp_path)
    run(track)
    trace = trackerkit.only(track)
    umask = os.umask(0)
    try:
        for is_there in (False, True):
            if is_there:
                folder.mkdir(mode=0o777)
            notes = InFlight("http://server", f"sqlite:///{tmp_path / 'fallback.db'}", 60)
            with notes.noted("experiment", trace):
                (note,) = folder.iterdir()
                assert (folder.stat().st_mode & 0o777, note.stat().st_mode & 0o777) == (
                    0o700,
                    0o600,
                )
            assert not folder.exists()
    finally:
        os.umask(umask)


def test_a_note_that_was_cut_off_itself_is_deleted(tmp_path: Path) -> None:
    notes = InFlight("http://server", f"sqlite:///{tmp_path / 'fallback.db'}", longest_s=60)
    track = trackerkit.tracker(tmp_path)
    run(track)
    trace = trackerkit.only(track)
    with notes.noted("experiment", trace):
        (note,) = tmp_path.glob("fallback.db.sending/*")
        assert list(notes.left_behind()) == []  # it is being written now
        text = note.read_text(encoding="utf-8")
    assert not note.exists()
    note.parent.mkdir()
    note.write_text(text, encoding="utf-8")
    os.utime(note, (0, 0))
    ((experiment, found),) = notes.left_behind()
    assert (experiment, found.to_dict()) == ("experiment", trace.to_dict())
    assert not note.exists()
    note.parent.mkdir()
    note.write_text(text[:200], encoding="utf-8")
    os.utime(note, (0, 0))
    assert list(notes.left_behind()) == []
    assert not note.exists()


def test_a_server_that_was_slow_to_tell_its_release_gets_the_trace(
    server: Server, tmp_path: Path
) -> None:
    def fault(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        is_first = path == "/version" and proxy.seen.count("GET /version") == 1
        return Answer(503) if is_first else None  # as when MLflow's client waits in vain

    with proxied(server.uri) as proxy:
        proxy.fault = fault
        track = server_tracker(tmp_path, proxy.uri, server_timeout_s=60)
        run(track)
        run(track)
        assert len(trackerkit.traces(track)) == 2
        status = track.status()
    assert (status.delivered, status.in_fallback, status.lost) == (2, 0, 0)
    assert proxy.seen.count("GET /version") == 2


# ------------------------------------------------------------------------------ promised time
def test_the_constructor_takes_the_fallback_when_its_time_is_over(tmp_path: Path) -> None:
    with answering_probes_only(threading.Event()) as uri:
        track = server_tracker(tmp_path, uri, server_timeout_s=5)
        assert track.status().fallback_reason == "it answers, but not within 5 s in all"
        run(track)
        assert len(trackerkit.traces(track)) == 1
        assert (track.status().in_fallback, track.status().lost) == (1, 0)


def test_a_synchronous_workflow_goes_on_while_its_trace_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = server_tracker(tmp_path, server.uri, server_timeout_s=60, async_logging=False)
    assert track._sink is not None
    waits: list[float | None] = []
    gate = Gate(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(track._sink.delivery, "flush", waits.append)
        run(track)
    assert waits == [60]  # seconds: what it waits at most
    assert (track.status().delivered, track.status().pending) == (0, 1)
    gate.opened.set()
    assert len(trackerkit.traces(track)) == 1
    assert (track.status().delivered, track.status().in_fallback) == (1, 0)


# ------------------------------------------------------------------------------ and back again
@pytest.mark.parametrize("resend", [True, False])
def test_a_server_that_returns_gets_what_comes_then(
    resend: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETRY_S", 0.2)
    monkeypatch.setattr(delivery, "LONGEST_RETRY_S", 0.5)
    # A request that was given up must not arrive after all, when the server is back.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    track = server_tracker(
        tmp_path, server.uri, server_timeout_s=60, experiment_name="back", resend=resend
    )
    run(track, "before")
    first = track.last_trace_id
    assert track.flush(120) and track.status().delivered == 1
    server.kill()
    for name in ("during", "still"):
        run(track, name)
    track.feedback("late", 0.5, trace_id=first)  # on a trace that only the server has
    track.feedback("kept", 0.25)
    assert track.flush(120)
    status = track.status()
    assert (status.delivered, status.in_fallback, status.pending) == (1, 2, 1)
    server.start()
    wait_until(lambda: track.status().fallback_reason is None, "it did not go back")
    run(track, "after")
    assert track.flush(120)
    if resend:
        wait_until(lambda: track.status().in_fallback == 0, "it did not send on")
    wait_until(lambda: track.status().pending == 0, "the feedback was not sent")
    status = track.status()
    expected = ["before", "during", "still", "after"] if resend else ["before", "after"]
    there = trackerkit.stored(server.uri, "back")
    assert [trace.data.spans[0].inputs["name"] for trace in there] == expected
    assert (status.delivered, status.lost) == (len(expected), 0)
    assert status.delivered + status.in_fallback == 4
    assert status.tracking_uri == server.uri
    given = {a.name: a.value for a in there[0].info.assessments}
    assert given["late"] == 0.5
    if resend:
        kept = trackerkit.stored(f"sqlite:///{tmp_path / 'fallback.db'}", "back")
        for here in kept:
            sent = next(t for t in there if t.info.trace_id == here.info.trace_id)
            assert [s.to_dict() for s in sent.data.spans] == [s.to_dict() for s in here.data.spans]
            assert sent.info.execution_duration == here.info.execution_duration
            assert {a.name: a.value for a in sent.info.assessments} == {
                a.name: a.value for a in here.info.assessments
            }


def test_spans_that_arrive_after_they_were_given_up_do_not_count_twice(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETRY_S", 0.2)
    monkeypatch.setattr(delivery, "LONGEST_RETRY_S", 0.5)
    monkeypatch.setattr(delivery, "PATIENCE", 1)
    # One that fails on a busy machine is made again at once, and not for minutes.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    arrives = threading.Event()

    def fault(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        if path == "/v1/traces" and proxy.seen.count("POST /v1/traces") == 1:
            arrives.wait(180)
        return None

    with proxied(server.uri) as proxy:
        proxy.fault = fault
        track = server_tracker(tmp_path, proxy.uri, server_timeout_s=5, resend=True)
        run(track)
        wait_until(lambda: track.status().in_fallback == 1, "it was not given up")
        monkeypatch.setattr(delivery, "PATIENCE", 20)
        wait_until(lambda: track.status().fallback_reason is None, "it did not go back")
        time.sleep(2)  # for some tries; one that comes later would pass as well
        arrives.set()
        wait_until(lambda: track.status().in_fallback == 0, "it did not send on")
        wait_until(lambda: proxy.is_idle, "a request does not end")
    (trace,) = trackerkit.stored(server.uri)
    assert (len(trace.data.spans), trace.info.token_usage["total_tokens"]) == (2, 3)
    assert (track.status().delivered, track.status().lost) == (1, 0)


def test_a_server_that_only_answers_probes_is_not_gone_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE", 1)
    with answering_probes_only(threading.Event()) as uri:
        track = server_tracker(tmp_path, uri, server_timeout_s=0.3)
        assert track._sink is not None
        track._sink.delivery._try_again()
        assert track.status().fallback_reason is not None


# ------------------------------------------------------------------------------ open spans
def test_a_workflow_that_stays_open_is_written_as_it_stands_and_again_when_it_ends(
    tmp_path: Path,
) -> None:
    track = trackerkit.tracker(tmp_path, span_timeout_s=0.2)
    uri = str(track.status().tracking_uri)
    with track.track_workflow({"q": 1}, session="s", tags={"team": "x"}):
        track.feedback("good", True)
        with track.track_node("node", "gpt-4o-mini"):
            track.log_node_metrics(10, 1, "gpt-4o-mini")
            wait_until(lambda: track.status().unfinished == 1, "it was not written")
            info, _ = MlflowClient(uri)._tracking_client.store.search_traces(
                locations=[track.status().experiment_id]
            )
            assert info[0].tags["team"] == "x"
            assert info[0].trace_metadata["mlflow.trace.session"] == "s"
            spans = trackerkit.spans(trackerkit.stored(uri)[0])
            assert spans["node"].get_attribute("migrator.unfinished") == "true"
            track.log_node_metrics(5, 1, "gpt-4o-mini")
        track.finalize_workflow({"a": "b"})
    trace = trackerkit.only(track)
    spans = trackerkit.spans(trace)
    assert trace.info.state == "OK"
    assert trace.info.token_usage["total_tokens"] == 17
    assert spans["node"].get_attribute("migrator.unfinished") is None
    assert spans["workflow_article_writer"].outputs == {"a": "b"}
    assert [a.name for a in trace.info.assessments if a.source.source_type == "CODE"].count(
        "total_tokens"
    ) == 1
    status = track.status()
    assert (status.delivered, status.unfinished, status.errors) == (1, 0, 0)


def test_a_span_that_is_left_open_is_counted_until_it_ends(tmp_path: Path) -> None:
    track = trackerkit.tracker(tmp_path)
    with track.track_workflow({"q": 1}), track.track_node("node", "gpt-4o-mini"):
        leaked = mlflow.start_span_no_context(
            "leaked", parent_span=mlflow.get_current_active_span()
        )
    spans = trackerkit.spans(trackerkit.only(track))
    assert spans["leaked"].get_attribute("migrator.unfinished") == "true"
    assert track.status().unfinished == 1
    leaked.set_outputs("done")
    leaked.end()
    spans = trackerkit.spans(trackerkit.only(track))
    assert spans["leaked"].outputs == "done"
    assert spans["leaked"].get_attribute("migrator.unfinished") is None
    assert (track.status().unfinished, track.status().delivered) == (0, 1)
