"""A run is sent to a server in few calls, once, and without what the server refuses."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from migrator import conventions
from migrator.errors import TargetError
from migrator.issues import Code, Kind
from migrator.loader.rest import runs
from migrator.loader.rest.connection import Refused
from migrator.loader.rest.experiment_index import Found, TargetExperiment
from migrator.loader.rest.limits import PARAM_CHARS
from migrator.model import InputRecord, MetricPoint, OutputRecord, RunRecord
from tests.support.fake_server import FakeConnection, run_on_server
from tests.support.loaderkit import T0, dataset, experiment, run


def job_of(record: RunRecord, found: Found | None = None, **there: Any) -> runs.RunJob:
    target = TargetExperiment("7", experiment(), True, True, {}, False)
    edges = runs.edges_of(record, {dataset().dataset_id: dataset()})
    mark = runs.mark_of(record, False)
    return runs.RunJob(record, target, edges, mark, found, new_id="new", **there)


def fill(server: Any, job: runs.RunJob) -> None:
    assert runs.fill(server, job, None, None) == (0, 0)


def logged(server: Any) -> dict[str, list[str]]:
    """Keys that were logged, by type."""
    found: dict[str, list[str]] = {"metrics": [], "params": [], "tags": []}
    for _, *batches in server.store.named("log_batch"):
        for name, batch in zip(found, batches, strict=True):
            found[name] += [item.key for item in batch]
    return found


def test_equal_inputs_are_one_and_unknown_datasets_are_named() -> None:
    record = run(
        inputs=(
            InputRecord("DATASET", dataset().dataset_id),
            InputRecord("DATASET", dataset().dataset_id),
            InputRecord("DATASET", "e" * 32),
            InputRecord("MODEL", "m-1"),
        ),
        outputs=(OutputRecord("m-1", 3), OutputRecord("m-1", 4)),
    )
    edges = runs.edges_of(record, {dataset().dataset_id: dataset()})
    assert list(edges.datasets) == [("data", "1234")]
    assert (edges.models, edges.outputs) == (("m-1",), {"m-1": 3})
    assert (edges.merged_inputs, edges.merged_outputs) == (1, 1)
    assert edges.unknown == ("e" * 32,)


def test_points_that_a_server_keeps_as_one_are_one() -> None:
    nan, infinite = MetricPoint(T0, math.nan, 0), MetricPoint(T0, math.inf, 0)
    largest = MetricPoint(T0, 1.7976931348623157e308, 0)
    points = runs.points_of(run(metrics={"m": (nan, nan, infinite, largest)}))
    assert list(points["m"]) == [(T0, None, 0), (T0, largest.value, 0)]


def test_a_new_run_bears_its_old_id_and_a_run_without_a_name_gets_that() -> None:
    server: Any = FakeConnection()
    server.store.answers["create_run"] = run_on_server("fresh", {})
    job = job_of(run(name=""))
    runs.create(server, job)
    [(experiment_id, user, start_ms, [tag], name)] = server.store.named("create_run")
    assert job.new_id == "fresh"
    assert (experiment_id, user, start_ms) == ("7", "ada", T0)
    assert (tag.key, tag.value) == (conventions.MIGRATOR_SOURCE_RUN, job.run.run_id)
    assert name == job.run.run_id


def test_a_new_run_is_filled_and_then_marked() -> None:
    server: Any = FakeConnection()
    job = job_of(run())
    fill(server, job)
    assert logged(server)["params"] == ["lr", "λ/ β"]
    assert sorted(logged(server)["metrics"]) == ["loss", "loss", "odd", "odd"]
    assert conventions.MIGRATOR_SOURCE_FIELDS in logged(server)["tags"]
    assert server.store.calls[-1][0] == "set_tag"
    assert server.store.calls[-1][1][1].value == job.mark
    counts = job.written.converted
    assert (counts[Kind.RUN], counts[Kind.PARAM], counts[Kind.METRIC_POINT]) == (1, 2, 4)
    assert counts[Kind.TAG] == 2  # ours are not counted


def test_a_run_with_models_is_not_marked_before_they_are_there() -> None:
    server: Any = FakeConnection()
    fill(server, job_of(run(inputs=(InputRecord("MODEL", "m-1"),))))
    assert server.store.named("set_tag") == []


def test_only_what_a_run_lacks_is_sent_and_another_value_is_kept() -> None:
    server: Any = FakeConnection()
    there = run_on_server(
        "new",
        {"note": "changed by a user"},
        params={"lr": "0.1"},
        info={"status": "FINISHED", "end_time": T0 + 5000},
    )
    job = job_of(run(), Found("new", None, False), there=there)
    job.points_there = {"loss": {(T0, 1.0, 0)}}
    fill(server, job)
    assert logged(server)["params"] == ["λ/ β"]
    assert logged(server)["metrics"].count("loss") == 1
    assert "note" not in logged(server)["tags"]
    assert server.store.named("update_run_info") == []
    [issue] = job.written.issues
    assert (issue.code, issue.kept) == (Code.TARGET_DIFFERS, "what the target has")
    assert job.written.already_there[Kind.METRIC_POINT] == 1


def test_a_param_that_is_too_long_is_cut_and_named() -> None:
    server: Any = FakeConnection()
    job = job_of(run(params={"long": "x" * (PARAM_CHARS + 1)}))
    fill(server, job)
    sent = [param for _, _, params, _ in server.store.named("log_batch") for param in params]
    assert [len(param.value) for param in sent] == [PARAM_CHARS]
    assert [issue.code for issue in job.written.issues] == [Code.SERVER_VALUE_CUT]


def test_of_a_batch_that_is_refused_only_the_refused_item_is_lost() -> None:
    def refuse_one(run_id: str, metrics: list[Any], params: list[Any], tags: list[Any]) -> Any:
        if any(param.key == "bad" for param in params):
            return Refused("not this one")
        return None

    server: Any = FakeConnection()
    server.store.answers["log_batch"] = refuse_one
    job = job_of(run(params={"a": "1", "bad": "2", "c": "3"}))
    fill(server, job)
    [issue] = job.written.issues
    assert (issue.code, issue.entity_id) == (Code.SERVER_REFUSED, f"{job.run.run_id}/bad")
    assert job.written.converted[Kind.PARAM] == 2
    assert job.written.converted[Kind.METRIC_POINT] == 4


def test_a_server_that_refuses_our_own_tag_ends_the_conversion() -> None:
    server: Any = FakeConnection()
    server.store.answers["log_batch"] = Refused("no tags")
    with pytest.raises(TargetError, match="it refuses tag"):
        fill(server, job_of(run(params={}, metrics={}, tags={})))


def test_calls_stay_within_the_servers_limits() -> None:
    items = [SimpleNamespace(key=f"k{n}", value="x" * 6000) for n in range(60)]
    batches = list(runs._batches(items))
    assert [item for batch in batches for item in batch] == items
    assert all(sum(len(item.value) for item in batch) <= 150_000 for batch in batches)
    short = [SimpleNamespace(key=f"k{n}", value="x") for n in range(250)]
    assert [len(batch) for batch in runs._batches(short)] == [100, 100, 50]


def test_another_run_of_that_id_is_rejected_whole() -> None:
    server: Any = FakeConnection()
    server.store.answers["get_run"] = run_on_server("new", {}, info={"start_time": T0 - 1})
    job = job_of(run(), Found("new", None, False))
    runs.look(server, job)
    assert job.clash == "it started at another time there"
    rejected = {issue.kind: issue.count for issue in job.written.issues}
    assert rejected == {Kind.RUN: 1, Kind.PARAM: 2, Kind.TAG: 2, Kind.METRIC_POINT: 4}
