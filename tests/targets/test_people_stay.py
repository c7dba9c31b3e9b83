"""What people deleted or changed in the target stays so, however often the source is converted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, Feedback, ViewType
from mlflow.tracing.client import TracingClient

from migrator import databases, pipeline
from migrator.issues import Code, Kind
from migrator.loader.networked.connection import connecting
from migrator.loader.networked.dialects import dialect_of
from migrator.outcome.summary import Outcome
from tests.support import storekit
from tests.support.loaderkit import execute, tables
from tests.support.marks import long
from tests.support.sql_servers import Server as SqlServer

pytestmark = pytest.mark.xdist_group("targets_people")

RAG = "7"
FLOW, OTHER, OPEN = "a" * 32, "b" * 32, "c" * 32
NATIVE, NATIVE_2 = "tr-" + "1" * 32, "tr-" + "2" * 32
MODEL = "m-" + "3" * 32
OURS = {Code.TARGET_DELETED, Code.TARGET_CHANGED, Code.TARGET_UPDATED, Code.TARGET_RESTORED}


@pytest.fixture(params=["sqlite", *long("postgresql", "mysql")])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/mlflow.db"
    database: SqlServer = request.getfixturevalue(request.param)
    return database.uri(database.fresh())


def write_flow(store: Path, run_id: str, **changes: Any) -> None:
    """A run that becomes a trace."""
    given: dict[str, Any] = {
        "params": {"model": "gpt-4o"},
        "tags": {"stage": "dev", "note": "n"},
        "artifacts": {"prompt.txt": "P", "response.txt": "R"},
    }
    storekit.write_run(store, RAG, run_id, **{**given, **changes})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "mlruns"
    storekit.write_experiment(root, "0", "Default")
    storekit.write_experiment(root, RAG, "rag", tags={"team": "blue"})
    write_flow(root, FLOW)
    write_flow(root, OTHER)
    storekit.write_run(
        root, RAG, OPEN, name="open", status=1, end_ms=None,
        metrics={"loss": [(storekit.START_MS, 1, 0)]},
    )  # fmt: skip
    for trace_id in (NATIVE, NATIVE_2):
        storekit.write_trace(root, RAG, trace_id, tags={"k": "1"})
    storekit.write_logged_model(root, RAG, MODEL, tags={"k": "1"})
    version = {"tags": {"k": "1"}, "run_id": OTHER}
    storekit.write_registered_model(
        root, "clf", versions=[version, version], tags={"k": "1"}, aliases={"prod": 1, "old": 2}
    )
    storekit.write_registered_model(root, "gone", versions=[version])
    return root


def convert(store: Path, target: str, **choice: Any) -> Outcome:
    outcome = pipeline.convert([store], target, pipeline.Options(**choice))
    assert outcome.exit_code == 0, outcome.ledger.issues
    return outcome


def said(outcome: Outcome) -> dict[Code, set[tuple[Kind | None, int]]]:
    found: dict[Code, set[tuple[Kind | None, int]]] = {}
    for issue in outcome.ledger.issues:
        if issue.code in OURS:
            found.setdefault(issue.code, set()).add((issue.kind, issue.count))
    return found


def state(target: str) -> dict[str, Any]:
    """What MLflow shows of everything that the tests delete or change."""
    client = MlflowClient(target)
    experiment = client.get_experiment(RAG)
    traces = client.search_traces(locations=[RAG])
    models = client.search_registered_models()
    runs = client.search_runs([RAG], run_view_type=ViewType.ALL)
    return {
        "experiment": (experiment.lifecycle_stage, experiment.tags.get("team")),
        "runs": {
            run.info.run_id[0]: (run.info.lifecycle_stage, run.data.tags.get("stage"))
            for run in runs
        },
        "traces": {t.info.trace_id[3:4]: t.info.tags.get("k") for t in traces},
        "registered": {
            model.name: (
                dict(client.get_registered_model(model.name).aliases),
                model.tags.get("k"),
                sorted(
                    (version.version, version.tags.get("k"), version.run_id)
                    for version in client.search_model_versions(f"name='{model.name}'")
                ),
            )
            for model in models
        },
        "models": {m.model_id: m.tags.get("k") for m in client.search_logged_models([RAG])},
    }


def delete_much(target: str) -> None:
    client = MlflowClient(target)
    client.delete_run(OTHER)
    client.delete_tag(FLOW, "stage")
    client.delete_experiment_tag(RAG, "team")
    client.delete_traces(RAG, trace_ids=[f"tr-{FLOW}", NATIVE])
    client.delete_trace_tag(NATIVE_2, "k")
    client.delete_registered_model("gone")
    client.delete_registered_model_alias("clf", "old")
    client.delete_registered_model_tag("clf", "k")
    client.delete_model_version_tag("clf", "2", "k")
    client.delete_model_version("clf", "1")
    client.delete_logged_model_tag(MODEL, "k")


DELETED = {
    (Kind.TAG, 1),
    (Kind.EXPERIMENT_TAG, 1),
    (Kind.TRACE, 2),
    (Kind.TRACE_TAG, 1),
    (Kind.REGISTERED_MODEL, 1),
    (Kind.ALIAS, 1),
    (Kind.REGISTERED_MODEL_TAG, 1),
    (Kind.MODEL_VERSION_TAG, 1),
    (Kind.MODEL_VERSION, 1),
    (Kind.LOGGED_MODEL_TAG, 1),
}


def test_what_people_deleted_stays_away_until_it_is_asked_for(store: Path, target: str) -> None:
    convert(store, target)
    whole = state(target)
    delete_much(target)
    after = state(target)
    assert after != whole
    for _ in range(2):
        outcome = convert(store, target)
        assert outcome.unchanged
        assert said(outcome) == {Code.TARGET_DELETED: DELETED}
        assert state(target) == after
    storekit.write_run(store, RAG, "d" * 32, tags={"stage": "new"})
    (store / RAG / FLOW / "tags" / "late").write_text("1")
    convert(store, target)
    assert state(target) == {**after, "runs": {**after["runs"], "d": ("active", "new")}}
    assert MlflowClient(target).get_run(FLOW).data.tags["late"] == "1"
    outcome = convert(store, target, restore=True)
    assert said(outcome) == {Code.TARGET_RESTORED: {(Kind.RUN, 1), (Kind.MODEL_VERSION, 1)}}
    assert state(target) == {**whole, "runs": {**whole["runs"], "d": ("active", "new")}}
    assert convert(store, target).unchanged


def test_a_deleted_experiment_stays_deleted_and_gets_what_is_new(store: Path, target: str) -> None:
    convert(store, target)
    client = MlflowClient(target)
    client.delete_logged_model(MODEL)
    client.delete_experiment(RAG)
    assert convert(store, target).unchanged
    write_flow(store, "d" * 32)
    convert(store, target)
    assert client.get_experiment(RAG).lifecycle_stage == "deleted"
    assert client.get_run("d" * 32).info.experiment_id == RAG
    convert(store, target, restore=True)
    assert client.get_experiment(RAG).lifecycle_stage == "active"
    assert [m.model_id for m in client.search_logged_models([RAG])] == [MODEL]
    assert {stage for stage, _ in state(target)["runs"].values()} == {"active"}


def test_values_follow_the_side_that_changed_them(store: Path, target: str) -> None:
    convert(store, target)
    client = MlflowClient(target)
    client.set_tag(FLOW, "note", "of people")
    client.set_tag(FLOW, "stage", "of people")
    client.set_registered_model_alias("clf", "prod", "2")
    client.update_registered_model("clf", "of people")
    client.set_trace_tag(NATIVE, "k", "of people")
    outcome = convert(store, target)
    assert outcome.unchanged and said(outcome) == {}

    tags = {"stage": "prod", "note": "n"}
    write_flow(store, FLOW, tags=tags)
    write_flow(store, OTHER, tags=tags)
    storekit.write_trace(store, RAG, NATIVE, tags={"k": "2"})
    storekit.write_trace(store, RAG, NATIVE_2, tags={"k": "2"})
    (store / "models" / "clf" / "aliases" / "old").write_text("1")
    outcome = convert(store, target)
    assert said(outcome) == {
        Code.TARGET_UPDATED: {(Kind.TAG, 1), (Kind.TRACE_TAG, 1), (Kind.ALIAS, 1)},
        Code.TARGET_CHANGED: {(Kind.TAG, 1), (Kind.TRACE_TAG, 1)},
    }
    assert convert(store, target).unchanged
    runs = {run_id: client.get_run(run_id).data.tags for run_id in (FLOW, OTHER)}
    assert (runs[FLOW]["stage"], runs[FLOW]["note"]) == ("of people", "of people")
    assert (runs[OTHER]["stage"], runs[OTHER]["note"]) == ("prod", "n")
    model = client.get_registered_model("clf")
    aliases = {alias: int(version) for alias, version in model.aliases.items()}
    assert (aliases, model.description) == ({"prod": 2, "old": 1}, "of people")
    traces = {t.info.trace_id: t.info.tags["k"] for t in client.search_traces(locations=[RAG])
              if "k" in t.info.tags}  # fmt: skip
    assert traces == {NATIVE: "of people", NATIVE_2: "2"}


def test_a_run_in_progress_goes_on_and_keeps_what_people_gave_it(store: Path, target: str) -> None:
    convert(store, target)
    client = MlflowClient(target)
    client.update_run(OPEN, name="of people")
    client.set_tag(OPEN, "mine", "1")
    client.set_tag(OPEN, "both", "of people")
    start = storekit.START_MS
    storekit.write_run(
        store, RAG, OPEN, name="open", end_ms=start + 9, tags={"late": "1", "both": "2"},
        metrics={"loss": [(start, 1, 0), (start + 5, 0.5, 1)]},
    )  # fmt: skip
    convert(store, target)
    run = client.get_run(OPEN)
    assert (run.info.status, run.info.end_time) == ("FINISHED", start + 9)
    assert run.info.run_name == "of people" and run.data.tags["mlflow.runName"] == "of people"
    assert (run.data.tags["mine"], run.data.tags["late"]) == ("1", "1")
    assert run.data.tags["both"] == "of people"
    assert run.data.metrics == {"loss": 0.5}
    assert len(client.get_metric_history(OPEN, "loss")) == 2


def test_the_trace_of_a_run_in_progress_is_replaced_when_the_run_ends(
    store: Path, target: str
) -> None:
    half = {"prompt.txt": "P", "response.txt": "half"}
    write_flow(store, OPEN, status=1, end_ms=None, artifacts=half)
    convert(store, target)
    client = MlflowClient(target)
    assert client.get_run(OPEN).info.status == "RUNNING"
    first = client.get_trace(f"tr-{OPEN}")
    assert first.info.tags["migrator.unfinished"] == "true"
    client.set_trace_tag(f"tr-{OPEN}", "mine", "1")
    write_flow(store, OPEN, end_ms=storekit.START_MS + 700)
    convert(store, target)
    trace = client.get_trace(f"tr-{OPEN}")
    assert (trace.info.state.value, trace.info.execution_duration) == ("OK", 700)
    assert [s.span_id for s in trace.data.spans] == [s.span_id for s in first.data.spans]
    assert "R" in str(trace.data.spans[0].outputs)
    assert "migrator.unfinished" not in trace.info.tags and trace.info.tags["mine"] == "1"
    write_flow(store, OPEN, status=1, end_ms=None)
    convert(store, target)
    assert client.get_run(OPEN).info.status == "RUNNING"


def test_an_assessment_that_people_deleted_stays_away(store: Path, target: str) -> None:
    assessment: dict[str, Any] = {
        "assessment_id": "a-" + "5" * 32,
        "assessment_name": "good",
        "trace_id": NATIVE,
        "feedback": {"value": True},
        "source": {"source_type": "HUMAN", "source_id": "ana"},
        "create_time": "2023-11-14T22:13:20Z",
        "last_update_time": "2023-11-14T22:13:20Z",
        "valid": True,
    }
    assessments = {str(assessment["assessment_id"]): assessment}
    storekit.write_trace(store, RAG, NATIVE, assessments=assessments)
    convert(store, target)
    client = TracingClient(target)
    client.delete_assessment(NATIVE, str(assessment["assessment_id"]))
    mine = Feedback(name="mine", value=1, source=AssessmentSource("HUMAN", "bo"))
    client.log_assessment(NATIVE, mine)
    assert said(convert(store, target)) == {Code.TARGET_DELETED: {(Kind.ASSESSMENT, 1)}}
    assert [each.name for each in client.get_trace(NATIVE).info.assessments] == ["mine"]
    convert(store, target, restore=True)
    names = {each.name for each in client.get_trace(NATIVE).info.assessments}
    assert names == {"mine", "good"}


def collect_garbage(target: str) -> None:
    """``mlflow gc``: deletes for good what is marked as deleted."""
    command = ["-m", "mlflow", "gc", "--backend-store-uri", target, "--tracking-uri", target]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)


def test_what_mlflow_gc_deleted_for_good_stays_away(
    store: Path, target: str, tmp_path: Path
) -> None:
    storekit.write_experiment(store, "8", "other")
    storekit.write_run(store, "8", "e" * 32)
    convert(store, target, artifacts=f"copy:{tmp_path}/artifacts")
    client = MlflowClient(target)
    client.delete_run(OTHER)
    client.delete_experiment("8")
    collect_garbage(target)
    mine = client.create_experiment("other")
    storekit.write_run(store, "8", "f" * 32)
    outcome = convert(store, target, artifacts=f"copy:{tmp_path}/artifacts")
    assert said(outcome) == {Code.TARGET_DELETED: {(Kind.EXPERIMENT, 1), (Kind.RUN, 3)}}
    assert [run.info.run_id for run in client.search_runs([mine])] == []
    assert {run.info.run_id for run in client.search_runs([RAG])} == {FLOW, OPEN}
    options = {"restore": True, "on_conflict": "rename"}
    convert(store, target, artifacts=f"copy:{tmp_path}/artifacts", **options)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert {run.info.run_id[0] for run in runs} == set("abcef")


def test_a_registered_model_that_people_made_anew_is_theirs(store: Path, target: str) -> None:
    convert(store, target)
    client = MlflowClient(target)
    client.delete_registered_model("clf")
    client.create_registered_model("clf", description="of people")
    outcome = convert(store, target)
    assert said(outcome) == {Code.TARGET_DELETED: {(Kind.REGISTERED_MODEL, 1)}}
    assert client.get_registered_model("clf").description == "of people"
    assert list(client.search_model_versions("name='clf'")) == []


def test_a_database_of_an_older_version_goes_on(store: Path, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    target = f"sqlite:///{database}"
    convert(store, target)
    client = MlflowClient(target)
    client.delete_traces(RAG, trace_ids=[NATIVE])
    client.set_tag(FLOW, "stage", "of people")
    execute(database, "DROP TABLE migrator_seen")
    outcome = convert(store, target)
    assert outcome.ledger.converted[Kind.TRACE] == 1, "nobody knows that it was there"
    assert client.get_run(FLOW).data.tags["stage"] == "of people"
    client.delete_traces(RAG, trace_ids=[NATIVE])
    assert convert(store, target).unchanged


def test_two_stores_of_one_run_leave_the_first_ones_values(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    for name, stage in (("one", "dev"), ("two", "prod")):
        storekit.write_experiment(tmp_path / name, RAG, "rag", tags={"team": name})
        storekit.write_run(tmp_path / name, RAG, FLOW, tags={"stage": stage})
    convert(tmp_path / "one", f"sqlite:///{database}")
    before = tables(database)
    for name in ("two", "one", "two"):
        outcome = convert(tmp_path / name, f"sqlite:///{database}")
        assert outcome.unchanged and tables(database) == before


# ------------------------------------------------------------- registered models with other names


def rename_model_in_source(store: Path, name: str, new_name: str) -> None:
    """Rename a registered model as MLflow's file store does."""
    (store / "models" / name).rename(store / "models" / new_name)
    for meta in (store / "models" / new_name).rglob("meta.yaml"):
        text = meta.read_text(encoding="utf-8").replace(f"name: {name}\n", f"name: {new_name}\n")
        meta.write_text(text, encoding="utf-8")


def names(target: str) -> set[str]:
    return {model.name for model in MlflowClient(target).search_registered_models()}


def add_version(store: Path, name: str, number: int) -> None:
    meta = (store / "models" / name / "version-1" / "meta.yaml").read_text(encoding="utf-8")
    folder = store / "models" / name / f"version-{number}"
    folder.mkdir()
    text = meta.replace("version: 1\n", f"version: {number}\n")
    (folder / "meta.yaml").write_text(text, encoding="utf-8")


@pytest.fixture
def one_model(store: Path) -> Path:
    shutil.rmtree(store / "models" / "gone")
    return store


def test_a_registered_model_keeps_the_name_that_people_gave_it(
    one_model: Path, target: str
) -> None:
    convert(one_model, target)
    client = MlflowClient(target)
    client.rename_registered_model("clf", "of people")
    client.delete_registered_model_alias("of people", "old")
    outcome = convert(one_model, target)
    codes = [issue.code for issue in outcome.ledger.issues]
    assert Code.MODEL_NAME_KEPT in codes and outcome.unchanged
    add_version(one_model, "clf", 3)
    for _ in range(2):
        convert(one_model, target)
        assert names(target) == {"of people"}
    rename_model_in_source(one_model, "clf", "renamed there too")
    convert(one_model, target)
    assert names(target) == {"of people"}
    versions = client.search_model_versions("name='of people'")
    assert {int(version.version) for version in versions} == {1, 2, 3}
    assert client.get_registered_model("of people").aliases.keys() == {"prod"}


def test_a_registered_model_follows_the_name_of_the_source(one_model: Path, target: str) -> None:
    convert(one_model, target)
    client = MlflowClient(target)
    client.set_registered_model_alias("clf", "mine", "1")
    client.delete_registered_model_alias("clf", "old")
    for old, new in (("clf", "first"), ("first", "second")):
        rename_model_in_source(one_model, old, new)
        outcome = convert(one_model, target)
        assert Code.MODEL_NAME_FOLLOWED in [issue.code for issue in outcome.ledger.issues]
        assert names(target) == {new}
        assert convert(one_model, target).unchanged
    model = client.get_registered_model("second")
    assert model.aliases.keys() == {"prod", "mine"} and model.tags == {"k": "1"}
    versions = client.search_model_versions("name='second'")
    assert {int(version.version): version.tags for version in versions} == {
        1: {"k": "1"}, 2: {"k": "1"},
    }  # fmt: skip


def test_another_model_of_the_same_moment_is_not_taken_for_it(store: Path, target: str) -> None:
    convert(store, target)  # "clf" and "gone" were created in one millisecond
    MlflowClient(target).rename_registered_model("clf", "of people")
    MlflowClient(target).rename_registered_model("gone", "of people too")
    convert(store, target)
    assert names(target) == {"of people", "of people too"}


# ------------------------------------------------------------------------- two jobs at once


@pytest.mark.parametrize("server", long("postgresql", "mysql"))
def test_a_second_conversion_waits_for_the_first(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    store: Path,
    server: str,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)  # where the reports go
    database: SqlServer = request.getfixturevalue(server)
    target = database.uri(database.fresh())
    convert(store, target)
    write_flow(store, "d" * 32)
    command = ["-m", "migrator", "convert", str(store), "--to", target, "--quiet"]
    url = databases.server_url(target)
    with connecting(url) as (_, holder), dialect_of(url).alone(holder):
        second = subprocess.Popen([sys.executable, *command], cwd=tmp_path)
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(timeout=8)
        found = {run.info.run_id for run in MlflowClient(target).search_runs([RAG])}
        assert "d" * 32 not in found
    assert second.wait(timeout=60) == 0
    assert MlflowClient(target).get_run("d" * 32).info.experiment_id == RAG


def test_what_both_sides_deleted_comes_back_as_the_source_has_it(store: Path, target: str) -> None:
    """With --restore: the mark of the source stays, and what the source lacks is nowhere."""
    convert(store, target)
    client = MlflowClient(target)
    client.delete_run(FLOW)
    client._tracking_client.store._hard_delete_run(OTHER)  # as ``mlflow gc`` does
    client._tracking_client.store._hard_delete_run(OPEN)
    write_flow(store, FLOW, deleted=True)
    write_flow(store, OTHER, deleted=True)
    shutil.rmtree(store / RAG / OPEN)
    convert(store, target)
    shown = {run_id: stage for run_id, (stage, _) in state(target)["runs"].items()}
    assert shown == {"a": "deleted"}
    convert(store, target, restore=True)
    shown = {run_id: stage for run_id, (stage, _) in state(target)["runs"].items()}
    assert shown == {"a": "deleted", "b": "deleted"}
    assert convert(store, target, restore=True).unchanged
