"""Servers that are down, hang, fail, refuse, or go away: the workflow runs on, nothing is lost."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from migrator.cli import main
from migrator.loader.rest.connection import Connection
from migrator.tracker import MLFlowTracker
from migrator.tracker.place import why_silent
from tests.support import trackerkit
from tests.support.http_servers import Quiet, serving
from tests.support.mlflow_server import Server
from tests.support.ports import free_port

pytestmark = [pytest.mark.xdist_group("tracker_server"), pytest.mark.long]

LIMIT_S = 5.0  # a server of a test may take long to answer on a busy machine
SLACK_S = 60.0  # what a busy machine may add; MLflow's own retries take minutes


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    trackerkit.database(tmp_path, "fallback.db")
    with trackerkit.restored():
        yield


@contextmanager
def closed_port() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def black_hole() -> Iterator[str]:
    """Accepts every connection and never says a word."""
    held: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)

        def swallow() -> None:
            with suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        threading.Thread(target=swallow, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    for connection in held:
        connection.close()


@contextmanager
def closing_what_it_keeps_open() -> Iterator[str]:
    """Answers the first request of each connection, keeps that open, and drops it at the next."""

    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            if not self.close_connection:
                self.rfile.read(1)  # of the next request
                self.close_connection = True

    with serving(Handler) as address:
        yield address


@contextmanager
def answering(code: int, body: bytes = b"{}") -> Iterator[str]:
    """Answers every request alike."""

    class Handler(Quiet):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(code)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

    with serving(Handler) as address:
        yield address


def no_name() -> Any:
    @contextmanager
    def named() -> Iterator[str]:
        yield "http://no-such-host.invalid:5000"

    return named()


def server_tracker(folder: Path, uri: str, **settings: Any) -> MLFlowTracker:
    settings = {"server_timeout_s": LIMIT_S, **settings}
    return trackerkit.tracker(
        folder, tracking_uri=uri, fallback_uri=f"sqlite:///{folder / 'fallback.db'}", **settings
    )


def run(track: MLFlowTracker, name: str = "a") -> None:
    with track.track_workflow({"name": name}), track.track_node(name, "gpt-4o-mini"):
        track.log_node_metrics(1, 2, "gpt-4o-mini", 0, "p", "r")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "migrator.tracker"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (closed_port, "connection refused"),
        (black_hole, "doesn't answer within 5 s"),
        (lambda: answering(500), "answers 500"),
        (lambda: answering(401), "refuses the login (401)"),
        (lambda: answering(403), "refuses the login (403)"),
        (lambda: answering(200, b"<html>hello</html>"), "is not an MLflow"),
        (no_name, "can't be reached"),
    ],
    ids=["closed", "black hole", "500", "401", "403", "no mlflow", "no name"],
)
def test_server_that_cannot_take_traces_is_replaced_in_time_with_one_warning(
    broken: Callable[[], Any], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with broken() as uri:
        start = time.monotonic()
        track = server_tracker(tmp_path, uri)
        assert time.monotonic() - start < LIMIT_S + SLACK_S
        assert warnings(caplog)  # said before the workflow begins
        run(track)
        run(track, "b")
        again = server_tracker(tmp_path, uri)  # as applications do for each workflow
        run(again, "c")
        assert [t.data.spans[0].inputs["name"] for t in trackerkit.traces(track)] == ["a", "b", "c"]
        (said,) = warnings(caplog)
    assert reason in said and "\n" not in said
    assert uri in said and "fallback.db" in said and "mlflow-migrate push" in said
    status = track.status()
    assert status.configured_uri == uri
    assert status.tracking_uri == f"sqlite:///{tmp_path / 'fallback.db'}"
    assert status.fallback_reason is not None and reason in status.fallback_reason
    assert (status.in_fallback, status.lost, status.errors) == (3, 0, 0)


def test_a_connection_that_the_server_is_closing_does_not_look_like_a_server_that_is_gone() -> None:
    with closing_what_it_keeps_open() as uri:
        connection = Connection(uri)
        for _ in range(3):
            assert why_silent(uri, 5) is None
            assert connection.find_problem() is None


def test_limit_is_three_seconds_unless_told_otherwise(tmp_path: Path) -> None:
    with black_hole() as uri:
        start = time.monotonic()
        track = server_tracker(tmp_path, uri, server_timeout_s=3)
        assert 2.9 < time.monotonic() - start < 3 + SLACK_S
    assert "within 3 s" in str(track.status().fallback_reason)


def test_neither_place_can_be_written_and_the_workflow_still_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with closed_port() as uri:
        track = trackerkit.tracker(
            tmp_path, tracking_uri=uri, fallback_uri=f"sqlite:///{tmp_path}/file/x.db"
        )
    run(track)
    assert not track.status().enabled
    assert track.status().errors == 1
    assert "set up tracking" in caplog.text


def test_trace_that_no_place_takes_is_counted_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from migrator.tracker.place import Place

    def full(*args: Any, **options: Any) -> None:
        raise OSError("disk full")

    track = trackerkit.tracker(tmp_path, fallback_uri=f"sqlite:///{tmp_path / 'fallback.db'}")
    monkeypatch.setattr(Place, "write", full)
    run(track)
    assert track.flush(30)
    assert (track.status().lost, track.status().delivered) == (1, 0)
    assert "disk full" in caplog.text


def test_database_that_cannot_be_opened_is_replaced_by_the_fallback(tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    track = server_tracker(tmp_path, f"sqlite:///{tmp_path / 'broken.db'}")
    run(track)
    assert len(trackerkit.traces(track)) == 1
    assert track.status().fallback_reason is not None
    assert (tmp_path / "broken.db").read_bytes().startswith(b"this is no database")


# ------------------------------------------------------------------------------ a real server
@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server")).start()
    yield started
    started.kill()


def test_real_server_gets_traces_with_feedback_costs_and_sessions(
    server: Server, tmp_path: Path
) -> None:
    track = server_tracker(tmp_path, server.uri, server_timeout_s=60, experiment_name="over http")
    with track.track_workflow({"topic": "Städte"}, session="s", user="u"):
        track.feedback("good", True)
        with track.track_node("a", "gpt-4o-mini"):
            track.log_node_metrics(1000, 1000, "gpt-4o-mini", 0, "p", "r")
    track.feedback("later", 0.5)
    assert track.flush(120)
    status = track.status()
    assert (status.delivered, status.in_fallback, status.errors) == (1, 0, 0), status
    trace = trackerkit.only(track)
    assert trace.info.token_usage["total_tokens"] == 2000
    assert trace.info.trace_metadata["mlflow.trace.session"] == "s"
    assert {a.name for a in trace.info.assessments} == {
        "good", "later", "cost_usd", "cost_usd_micro", "total_tokens"
    }  # fmt: skip
    assert track.cost_summary()["total"]["cost_usd"] == pytest.approx(0.00075)


def test_server_killed_midway_loses_nothing_and_push_sends_it_on(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # A request that was given up must not arrive after all, when the server is back.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    track = server_tracker(tmp_path, server.uri, server_timeout_s=60, experiment_name="killed")
    run(track, "before")
    assert track.flush(120) and track.status().delivered == 1
    with track.track_workflow({"name": "during"}), track.track_node("during", "gpt-4o-mini"):
        server.kill()
        track.log_node_metrics(3, 4, "gpt-4o-mini")
    run(track, "after")
    assert track.flush(120)
    status = track.status()
    assert (status.delivered, status.in_fallback, status.lost) == (1, 2, 0)
    assert len(warnings(caplog)) == 1 and "connection refused" in warnings(caplog)[0]
    fallback = status.tracking_uri
    assert fallback is not None
    kept = trackerkit.stored(fallback, "killed")
    assert [t.data.spans[0].inputs["name"] for t in kept] == ["during", "after"]
    _with_a_run(fallback)

    server.start()
    for sent in ("Sent 2 traces and 2 runs", "Sent 0 traces and 0 runs"):  # twice is once
        result = CliRunner().invoke(main, ["push", fallback, "--to", server.uri])
        assert (result.exit_code, sent in result.output) == (0, True), result.output
    there = {t.info.trace_id: t for t in trackerkit.stored(server.uri, "killed")}
    assert len(there) == 3
    for trace in kept:
        pushed = there[trace.info.trace_id]
        assert [s.to_dict() for s in pushed.data.spans] == [s.to_dict() for s in trace.data.spans]
        assert pushed.info.request_time == trace.info.request_time
        assert pushed.info.execution_duration == trace.info.execution_duration
        assert pushed.info.token_usage == trace.info.token_usage
        assert {a.name for a in pushed.info.assessments} == {a.name for a in trace.info.assessments}
    _check_runs(server.uri)


def _with_a_run(uri: str) -> None:
    """Add a run and its child to a database."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name("killed")
    assert found is not None
    outer = client.create_run(found.experiment_id, start_time=1_700_000_000_000, run_name="outer")
    inner = client.create_run(
        found.experiment_id, start_time=1_700_000_001_000, run_name="inner",
        tags={"mlflow.parentRunId": outer.info.run_id},
    )  # fmt: skip
    client.log_param(inner.info.run_id, "p", "1")
    for step, value in enumerate((0.5, 0.25)):
        client.log_metric(inner.info.run_id, "loss", value, timestamp=1_700_000_001_500, step=step)
    for run in (inner, outer):
        client.set_terminated(run.info.run_id, "FAILED", end_time=1_700_000_002_000)


def _check_runs(uri: str) -> None:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name("killed")
    assert found is not None
    runs = {run.info.run_name: run for run in client.search_runs([found.experiment_id])}
    assert set(runs) == {"outer", "inner"}
    inner = runs["inner"]
    assert inner.data.tags["mlflow.parentRunId"] == runs["outer"].info.run_id
    assert (inner.info.start_time, inner.info.end_time) == (1_700_000_001_000, 1_700_000_002_000)
    assert (inner.info.status, inner.data.params) == ("FAILED", {"p": "1"})
    history = client.get_metric_history(inner.info.run_id, "loss")
    assert [(p.value, p.step, p.timestamp) for p in sorted(history, key=lambda p: p.step)] == [
        (0.5, 0, 1_700_000_001_500), (0.25, 1, 1_700_000_001_500)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("sqlite:///nowhere.db", "nowhere.db does not exist"),
        ("./nowhere.db", "nowhere.db does not exist"),
        ("http://127.0.0.1:1", "is not a SQLite database"),
        ("localhost:5000", "is not a SQLite database"),
        ("postgresql://me:s3cret@host/db", "postgresql://me:***@host/db is not a SQLite database"),
        ("folder", "folder is not a SQLite database"),
        ("text.db", "text.db is not a SQLite database"),
        ("empty.db", "empty.db is empty"),
        ("sqlite:///other.db", "other.db is a database, but not one of MLflow's"),
    ],
)
def test_push_says_what_it_cannot_read(
    source: str, words: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("x")
    (tmp_path / "empty.db").touch()
    with closing(sqlite3.connect("other.db")) as db:
        db.executescript("CREATE TABLE a (b)")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.db")}
    result = CliRunner().invoke(main, ["push", source, "--to", server.uri])
    assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
    assert words in result.output
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.db")} == before


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("127.0.0.1:5999", "Write http://127.0.0.1:5999"),
        ("localhost:5000", "Write http://localhost:5000"),
        ("[::1]:5000/prefix", "Write http://[::1]:5000/prefix"),
        ("http:/localhost:5000", "Write http://localhost:5000"),
        ("databricks", "Databricks workspace"),
        ("databricks://profile", "Databricks workspace"),
        ("sqlite:///other.db", "mlflow server --backend-store-uri"),
        ("./other.db", "mlflow server --backend-store-uri"),
        ("file:///tmp/mlruns", "push sends to servers only"),
        ("./mlruns", "push sends to servers only"),
        ("tracking.example.com", "such as http://localhost:5000"),
        ("http://host:port", "is not the address of a server"),
        ("HTTP://127.0.0.1:1", "connection refused"),
    ],
)
def test_push_sends_to_servers_only(
    target: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = trackerkit.database(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    result = CliRunner().invoke(main, ["push", source, "--to", target])
    assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
    assert words in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_push_to_a_server_that_is_away_sends_nothing(tmp_path: Path) -> None:
    source = trackerkit.database(tmp_path)
    with closed_port() as uri:
        result = CliRunner().invoke(main, ["push", source, "--to", uri])
    assert result.exit_code == 1 and "connection refused" in result.output
