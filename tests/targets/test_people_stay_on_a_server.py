"""What people deleted on a server stays away, as far as tags can remember it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from migrator import pipeline, verification
from migrator.issues import Code, Kind
from migrator.outcome.summary import Outcome
from tests.support import storekit
from tests.support.mlflow_server import Server

pytestmark = [pytest.mark.xdist_group("targets_people_server"), pytest.mark.long]

FLOW, OTHER, LATE = "a" * 32, "b" * 32, "c" * 32
NATIVE = "tr-" + "1" * 32
MODEL = "m-" + "3" * 32


@pytest.fixture
def client(running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running.empty()
    return MlflowClient(running.uri)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "mlruns"
    storekit.write_experiment(root, "7", "rag", tags={"team": "blue"})
    for run_id in (FLOW, OTHER):
        storekit.write_run(
            root, "7", run_id, params={"model": "gpt-4o"},
            artifacts={"prompt.txt": "P", "response.txt": "R"},
        )  # fmt: skip
    storekit.write_trace(root, "7", NATIVE)
    storekit.write_logged_model(root, "7", MODEL)
    storekit.write_registered_model(root, "clf", versions=[{}, {}], aliases={"prod": 1, "old": 2})
    return root


def convert(store: Path, client: MlflowClient, **choice: Any) -> Outcome:
    options = pipeline.Options(**choice)
    outcome = pipeline.convert([store], client.tracking_uri, options)
    assert outcome.exit_code == 0, outcome.ledger.issues
    return outcome


def runs(client: MlflowClient, experiment: str) -> dict[str, str]:
    """The stage of each run by its id in the source."""
    found = client.search_runs([experiment], run_view_type=ViewType.ALL)
    return {r.data.tags["migrator.source_run_id"]: r.info.lifecycle_stage for r in found}


def experiment_id(client: MlflowClient) -> str:
    experiments = client.search_experiments(ViewType.ALL)
    return str(next(e.experiment_id for e in experiments if e.name == "rag"))


def test_what_people_deleted_on_a_server_stays_away(store: Path, client: MlflowClient) -> None:
    convert(store, client)
    rag = experiment_id(client)
    other = next(
        r.info.run_id for r in client.search_runs([rag])
        if r.data.tags["migrator.source_run_id"] == OTHER
    )  # fmt: skip
    client.delete_traces(rag, trace_ids=[f"tr-{FLOW}", NATIVE])
    client.delete_run(other)
    client.delete_logged_model(client.search_logged_models([rag])[0].model_id)
    client.delete_experiment_tag(rag, "team")
    client.delete_registered_model_alias("clf", "old")
    client.delete_model_version("clf", "1")
    for night in range(2):
        if night:
            (store / "7" / OTHER / "tags" / "late").write_text("1")
            (store / "7" / FLOW / "tags" / "late").write_text("1")
            (store / "models" / "clf" / "aliases" / "new").write_text("2")
        outcome = convert(store, client)
        assert outcome.ledger.left_out[Kind.TRACE] == 1
        deleted = {i.kind for i in outcome.ledger.issues if i.code is Code.TARGET_DELETED}
        assert {Kind.TRACE, Kind.LOGGED_MODEL, Kind.EXPERIMENT_TAG} <= deleted
        assert [t.info.trace_id for t in client.search_traces(locations=[rag])] == [f"tr-{OTHER}"]
        assert runs(client, rag) == {FLOW: "active", OTHER: "deleted"}
        assert client.search_logged_models([rag]) == []
        assert "team" not in client.get_experiment(rag).tags
    assert client.get_run(other).data.tags["late"] == "1"
    aliases = client.get_registered_model("clf").aliases
    assert "old" not in aliases and int(aliases["new"]) == 2
    assert [int(v.version) for v in client.search_model_versions("name='clf'")] == [2]
    convert(store, client, restore=True)
    assert {t.info.trace_id for t in client.search_traces(locations=[rag])} == {
        f"tr-{FLOW}", f"tr-{OTHER}", NATIVE,
    }  # fmt: skip
    assert runs(client, rag) == {FLOW: "active", OTHER: "active"}
    assert client.get_experiment(rag).tags["team"] == "blue"
    assert len(client.search_logged_models([rag])) == 1


def test_a_deleted_experiment_of_a_server_gets_new_runs_and_stays_deleted(
    store: Path, client: MlflowClient
) -> None:
    convert(store, client)
    rag = experiment_id(client)
    client.delete_experiment(rag)
    storekit.write_run(store, "7", LATE)
    convert(store, client)
    assert client.get_experiment(rag).lifecycle_stage == "deleted"
    assert runs(client, rag).keys() == {FLOW, OTHER, LATE}
    convert(store, client, restore=True)
    assert client.get_experiment(rag).lifecycle_stage == "active"


def test_the_trace_of_a_run_in_progress_is_replaced_when_the_run_ends(
    store: Path, client: MlflowClient
) -> None:
    flow: dict[str, Any] = {
        "params": {"model": "gpt-4o"},
        "artifacts": {"prompt.txt": "P", "response.txt": "half"},
    }
    storekit.write_run(store, "7", LATE, status=1, end_ms=None, **flow)
    convert(store, client)
    trace = client.get_trace(f"tr-{LATE}")
    assert trace.info.tags["migrator.unfinished"] == "true"
    client.set_trace_tag(f"tr-{LATE}", "mine", "1")
    flow["artifacts"]["response.txt"] = "R"
    storekit.write_run(store, "7", LATE, end_ms=storekit.START_MS + 700, **flow)
    convert(store, client)
    trace = client.get_trace(f"tr-{LATE}")
    assert (trace.info.state.value, trace.info.execution_duration) == ("OK", 700)
    assert "R" in str(trace.data.spans[0].outputs) and trace.info.tags["mine"] == "1"
    assert "migrator.unfinished" not in trace.info.tags


def names(client: MlflowClient) -> list[str]:
    return sorted(model.name for model in client.search_registered_models())


def issues(outcome: Outcome, code: Code) -> list[str]:
    return [issue.kept for issue in outcome.ledger.issues if issue.code is code]


def test_a_model_that_people_renamed_on_a_server_keeps_its_name(
    store: Path, client: MlflowClient
) -> None:
    convert(store, client)
    client.rename_registered_model("clf", "classifier")
    (store / "models" / "clf" / "aliases" / "new").write_text("2")
    for _ in range(2):
        outcome = convert(store, client)
        assert names(client) == ["classifier"]
        assert issues(outcome, Code.MODEL_NAME_KEPT) == ['the model, as "classifier"']
        assert int(client.get_registered_model("classifier").aliases["new"]) == 2
    found = verification.verify([store], client.tracking_uri)
    assert found.same, found.as_text()
    rename(store, "clf", "judge")
    convert(store, client)
    assert names(client) == ["classifier"]


def rename(store: Path, old: str, new: str) -> None:
    (store / "models" / old).rename(store / "models" / new)
    for meta in (store / "models" / new).rglob("meta.yaml"):
        meta.write_text(meta.read_text().replace(f"name: {old}", f"name: {new}"))


def test_a_model_that_was_renamed_in_the_source_is_renamed_on_the_server(
    store: Path, client: MlflowClient
) -> None:
    convert(store, client)
    rename(store, "clf", "judge")
    outcome = convert(store, client)
    assert names(client) == ["judge"]
    assert issues(outcome, Code.MODEL_NAME_FOLLOWED) == ['the model, as "judge"']
    assert {int(v.version) for v in client.search_model_versions("name='judge'")} == {1, 2}
    assert not issues(convert(store, client), Code.MODEL_NAME_FOLLOWED)


def test_two_models_of_one_moment_are_not_taken_for_one_another(
    store: Path, client: MlflowClient, tmp_path: Path
) -> None:
    convert(store, client)
    other = tmp_path / "other"
    storekit.write_experiment(other, "8", "else")
    for name in ("one", "two"):
        storekit.write_registered_model(other, name, versions=[{}])
    convert(other, client)
    assert names(client) == ["clf", "one", "two"]


def test_one_conversion_is_enough_to_remember_an_experiment_that_it_merged_into(
    store: Path, client: MlflowClient
) -> None:
    rag = client.create_experiment("rag", tags={"made": "here"})
    convert(store, client, on_conflict="merge")
    before = client.get_experiment(rag).tags
    client.delete_experiment_tag(rag, "team")
    convert(store, client, on_conflict="merge")
    after = client.get_experiment(rag).tags
    assert "team" not in after
    assert after == {key: value for key, value in before.items() if key != "team"}
