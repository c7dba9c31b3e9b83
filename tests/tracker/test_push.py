"""``push`` sends everything that a local database holds, completes what was cut off, once."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.entities import (
    AssessmentSource,
    Dataset,
    DatasetInput,
    InputTag,
    RunTag,
    ViewType,
)
from mlflow.exceptions import RestException
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracing.client import TracingClient

from migrator.cli import main
from migrator.trace_writer import send_at_once
from migrator.tracker.place import Place
from tests.support import trackerkit
from tests.support.mlflow_server import Server, differences

pytestmark = [pytest.mark.xdist_group("tracker_push"), pytest.mark.long]

EXPERIMENT = "pushed"
START_MS = 1_700_000_000_000


@pytest.fixture
def server(running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running.empty()
    with trackerkit.restored():
        yield running


def workflows(folder: Path, number: int = 1, nodes: int = 3) -> str:
    """Track workflows with labels and feedback into a new database; return its URI."""
    track = trackerkit.tracker(folder, experiment_name=EXPERIMENT)
    for k in range(number):
        with track.track_workflow({"q": k}, session=f"s-{k}", user="ana", tags={"team": "x"}):
            for i in range(nodes):
                with track.track_node(f"n{i}", "gpt-4o-mini"):
                    track.log_node_metrics(10, 5, "gpt-4o-mini", prompt="p", response="r")
            track.feedback("helpful", True, source="HUMAN", source_id="bob")
            track.finalize_workflow({"a": "b"})
    assert track.flush(120)
    return str(track.status().tracking_uri)


def runs_and_models(uri: str) -> dict[str, str]:
    """Add what MLflow keeps beside traces; return the ids of the runs by their names."""
    client = MlflowClient(uri)
    mlflow.set_tracking_uri(uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    assert found is not None
    identity = found.experiment_id
    client.set_experiment_tag(identity, "team", "nlp")
    ids: dict[str, str] = {}
    for number, name in enumerate(("outer", "inner", "dead")):
        tags = {"mlflow.parentRunId": ids["outer"]} if name == "inner" else {}
        run = client.create_run(identity, START_MS + number, tags, run_name=name)
        ids[name] = run.info.run_id
        client.log_param(run.info.run_id, "p", name)
        client.log_metric(run.info.run_id, "loss", 0.5, timestamp=START_MS + 7, step=number)
    dataset = Dataset("ds", "abc", "local", "{}", "{}", "{}")
    client.log_inputs(ids["inner"], [DatasetInput(dataset, [InputTag("mlflow.data.context", "t")])])
    client.set_terminated(ids["inner"], "FAILED", end_time=START_MS + 9)
    client.set_terminated(ids["dead"], "FINISHED", end_time=START_MS + 9)
    client.delete_run(ids["dead"])  # outer is still running
    model = client.create_logged_model(identity, name="mod", source_run_id=ids["inner"])
    client.finalize_logged_model(model.model_id, "READY")
    mlflow.genai.register_prompt("greeting", "Hello {{name}}")
    client.create_registered_model("registered")
    client.create_model_version("registered", f"models:/{model.model_id}", ids["inner"])
    return ids


def belongs_to(uri: str, trace_id: str, run_id: str) -> None:
    """Let a trace be one that MLflow wrote while the run was active."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as db:
        row = ("mlflow.sourceRun", run_id, trace_id)
        db.execute(
            "INSERT INTO trace_request_metadata (key, value, request_id) VALUES (?, ?, ?)", row
        )
        db.commit()


def push(uri: str, server: Server) -> Result:
    return CliRunner().invoke(main, ["push", uri, "--to", server.uri])


def counts(result: Result) -> tuple[int, str]:
    """The exit code, and the last line."""
    return result.exit_code, result.output.strip().splitlines()[-1]


def check_same(uri: str, server: Server) -> None:
    ours = "tags/migrator.version:"  # on each trace that a conversion wrote
    found = [line for line in differences(uri, server) if ours not in line]
    assert not found, "\n".join(found)


def one_trace(uri: str) -> Any:
    (trace,) = trackerkit.stored(uri, EXPERIMENT)
    return trace


def test_everything_is_carried_and_twice_is_once(server: Server, tmp_path: Path) -> None:
    uri = workflows(tmp_path, 2)
    ids = runs_and_models(uri)
    first, second = trackerkit.stored(uri, EXPERIMENT)
    belongs_to(uri, first.info.trace_id, ids["outer"])
    belongs_to(uri, second.info.trace_id, ids["dead"])
    given = mlflow.log_feedback(
        trace_id=second.info.trace_id, name="q", value=1.0, source=AssessmentSource("HUMAN", "ann")
    )
    mlflow.override_feedback(
        trace_id=second.info.trace_id, assessment_id=given.assessment_id, value=0.5,
        source=AssessmentSource("HUMAN", "eve"),
    )  # fmt: skip
    result = push(uri, server)
    said = f"Sent 2 traces and 3 runs to {server.uri}; 0 were there already, 0 were refused."
    assert counts(result) == (0, said), result.output
    assert "ids of runs (3): the server draws them" in result.output  # before it began
    check_same(uri, server)
    _, there = trackerkit.stored(server.uri, EXPERIMENT)
    valid = {a.value: a.valid for a in there.info.assessments if a.name == "q"}
    assert valid == {1.0: False, 0.5: True}
    before = server.rows()
    said = f"Sent 0 traces and 0 runs to {server.uri}; 5 were there already, 0 were refused."
    assert counts(push(uri, server)) == (0, said)
    assert server.rows() == before


@pytest.mark.parametrize("cut", ["some spans", "all spans", "no feedback"])
def test_a_trace_that_was_cut_off_is_completed(cut: str, server: Server, tmp_path: Path) -> None:
    uri = workflows(tmp_path, nodes=300)
    trace = TracingClient(uri).get_trace(one_trace(uri).info.trace_id)
    client = MlflowClient(server.uri)
    identity = client.create_experiment(EXPERIMENT)
    sender = TracingClient(server.uri)
    spans = trace.data.spans
    sender.log_spans(identity, spans[:100] if cut == "some spans" else spans)
    if cut == "no feedback":
        trace.info.trace_location.mlflow_experiment.experiment_id = identity
        kept = [each for each in trace.info.assessments if each.name != "helpful"]
        trace.info.assessments = kept
        sender.start_trace(trace.info)
    said = f"Sent 1 trace and 0 runs to {server.uri}; 0 were there already, 0 were refused."
    assert counts(push(uri, server)) == (0, said)
    here, there = one_trace(uri), one_trace(server.uri)
    assert len(there.data.spans) == 301
    for name in ("state", "request_time", "execution_duration", "token_usage", "request_preview"):
        assert getattr(there.info, name) == getattr(here.info, name), name
    assert there.info.tags["mlflow.traceName"] == "workflow_article_writer"
    assert there.info.tags["team"] == "x"
    assert there.info.trace_metadata["mlflow.trace.session"] == "s-0"
    assert {a.assessment_id: a.value for a in there.info.assessments} == {
        a.assessment_id: a.value for a in here.info.assessments
    }
    said = f"Sent 0 traces and 0 runs to {server.uri}; 1 was there already, 0 were refused."
    assert counts(push(uri, server)) == (0, said)


def test_what_people_changed_at_the_server_stays(server: Server, tmp_path: Path) -> None:
    uri = workflows(tmp_path)
    assert push(uri, server).exit_code == 0
    client, trace_id = MlflowClient(server.uri), one_trace(uri).info.trace_id
    client.set_trace_tag(trace_id, "team", "mine")
    mlflow.set_tracking_uri(server.uri)
    mlflow.log_feedback(
        trace_id=trace_id, name="late", value=1.0, source=AssessmentSource("HUMAN", "x")
    )
    assert push(uri, server).exit_code == 0
    there = one_trace(server.uri)
    assert there.info.tags["team"] == "mine"
    # Feedback that the source has got since is added, beside what the server got.
    mlflow.set_tracking_uri(uri)
    mlflow.log_feedback(
        trace_id=trace_id, name="new", value=2.0, source=AssessmentSource("HUMAN", "y")
    )
    assert push(uri, server).exit_code == 0
    names = {a.name for a in one_trace(server.uri).info.assessments}
    assert names == {"helpful", "late", "new", "cost_usd", "cost_usd_micro", "total_tokens"}


def test_links_to_a_run_that_was_refused_come_with_the_run(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = workflows(tmp_path)
    ids = runs_and_models(uri)
    trace_id = one_trace(uri).info.trace_id
    belongs_to(uri, trace_id, ids["outer"])
    create = RestStore.create_run

    def refuse(
        store: Any, experiment: str, user: str, start: int, tags: list[RunTag], name: str
    ) -> Any:
        if name == "outer":
            raise RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "not this"})
        return create(store, experiment, user, start, tags, name)

    with monkeypatch.context() as patch:
        patch.setattr(RestStore, "create_run", refuse)
        result = push(uri, server)
    said = f"Sent 1 trace and 2 runs to {server.uri}; 0 were there already, 1 was refused."
    assert result.exit_code == 3 and said in result.output, result.output
    assert "server-refused" in result.output and "not this" in result.output
    assert len(one_trace(server.uri).data.spans) == 4
    said = f"Sent 1 trace and 1 run to {server.uri}; 2 were there already, 0 were refused."
    assert counts(push(uri, server)) == (0, said)
    check_same(uri, server)


def test_what_the_tracker_has_sent_on_itself_is_there_already(
    server: Server, tmp_path: Path
) -> None:
    uri = workflows(tmp_path, 2)
    local, there = Place(uri), Place(server.uri)
    for trace in trackerkit.stored(uri, EXPERIMENT):
        local.send_on(EXPERIMENT, trace.info.trace_id, there, send_at_once)
    before = server.rows()
    said = f"Sent 0 traces and 0 runs to {server.uri}; 2 were there already, 0 were refused."
    assert counts(push(uri, server)) == (0, said)
    for table in ("trace_info", "trace_tags", "assessments", "spans"):
        assert server.rows()[table] == before[table]


def test_what_the_server_failed_at_is_sent_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = workflows(tmp_path)
    runs_and_models(uri)

    def fail(*_: Any, **__: Any) -> None:
        raise RestException({"error_code": "INTERNAL_ERROR", "message": "database is locked"})

    with monkeypatch.context() as patch:
        patch.setattr(RestStore, "log_inputs", fail)
        result = push(uri, server)
    assert result.exit_code == 3 and "database is locked" in result.output, result.output
    assert "0 were there already, 1 was refused." in result.output
    assert push(uri, server).exit_code == 0
    check_same(uri, server)


def test_the_ghost_of_a_request_that_was_made_twice_is_taken_away(
    server: Server, tmp_path: Path
) -> None:
    uri = workflows(tmp_path)
    ids = runs_and_models(uri)
    client = MlflowClient(server.uri)
    identity = client.create_experiment(EXPERIMENT)
    for _ in range(2):
        client.create_run(
            identity, START_MS, {"migrator.source_run_id": ids["outer"]}, run_name="outer"
        )
    assert push(uri, server).exit_code == 0
    assert push(uri, server).exit_code == 0
    runs = client.search_runs([identity], run_view_type=ViewType.ALL)
    outer = [run for run in runs if run.info.run_name == "outer"]
    ghosts = [run for run in outer if run.info.lifecycle_stage == "deleted"]
    assert (len(outer), len(ghosts)) == (2, 1)
    assert "migrator.source_run_id" not in ghosts[0].data.tags
    (whole,) = (run for run in outer if run not in ghosts)
    assert whole.data.params == {"p": "outer"} and whole.info.status == "RUNNING"


KILLED = """
import itertools, os, signal, sys
from mlflow.utils import rest_utils
from mlflow.utils.request_utils import requests
from migrator.cli import main
source, server, number, is_before = sys.argv[1:]
send, count = requests.Session.request, itertools.count(1)
def counted(session, *values, **named):
    is_last = next(count) == int(number)
    if is_last and is_before == "True":
        os.kill(os.getpid(), signal.SIGKILL)
    answer = send(session, *values, **named)
    if is_last:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
requests.Session.request = counted
main(["push", source, "--to", server])
"""


def test_a_dozen_kills_at_random_requests(server: Server, tmp_path: Path) -> None:
    uri = workflows(tmp_path, 6, nodes=4)
    ids = runs_and_models(uri)
    for trace in trackerkit.stored(uri, EXPERIMENT)[:3]:
        belongs_to(uri, trace.info.trace_id, ids["inner"])
    chance = random.Random(21)
    kills = 0
    for _ in range(12):
        number, is_before = chance.randint(4, 24), chance.random() < 0.5
        command = [sys.executable, "-c", KILLED, uri, server.uri, str(number), str(is_before)]
        ended = subprocess.run(command, env={**os.environ}, capture_output=True, check=False)
        kills += ended.returncode == -9
    assert kills >= 4  # later ones may end before their request, when little is left
    assert push(uri, server).exit_code == 0
    check_same(uri, server)
    said = f"Sent 0 traces and 0 runs to {server.uri}; 9 were there already, 0 were refused."
    assert counts(push(uri, server)) == (0, said)
