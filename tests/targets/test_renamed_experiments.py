"""Experiments that were renamed between two conversions, on every kind of target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from migrator import pipeline
from migrator.errors import TargetError
from migrator.verification import verify
from tests.support import storekit
from tests.support.marks import long
from tests.support.mlflow_server import Server
from tests.support.sql_servers import Server as SqlServer

pytestmark = pytest.mark.xdist_group("targets_renamed")

CHAT, RAG, OLD = "959069778369319831", "7", "team_a"  # 64 bits, 32 bits, not a number
RUNS = {CHAT: "a" * 32, RAG: "b" * 32, OLD: "c" * 32}
NAMES = {CHAT: "chat", RAG: "rag", OLD: "old"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", *long("postgresql", "mysql", "server")])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/mlflow.db"
    if request.param == "server":
        server: Server = request.getfixturevalue("served")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        server.empty()
        return server.uri
    database: SqlServer = request.getfixturevalue(request.param)
    return database.uri(database.fresh())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "mlruns"
    storekit.write_experiment(root, "0", "Default")
    for number, (experiment, name) in enumerate(NAMES.items()):
        storekit.write_experiment(root, experiment, name, creation_ms=storekit.START_MS + number)
        storekit.write_run(root, experiment, RUNS[experiment], params={"lr": "0.1"})
    return root


def rename_in_source(store: Path, experiment: str, name: str) -> None:
    """Rename an experiment as MLflow's file store does."""
    meta = store / experiment / "meta.yaml"
    text = re.sub(r"(?m)^name: .*$", f"name: {name}", meta.read_text(encoding="utf-8"))
    text = re.sub(r"(?m)^last_update_time: .*\n", "", text)
    meta.write_text(f"{text}last_update_time: {storekit.START_MS + 999}\n", encoding="utf-8")


def rename_in_target(target: str, name: str, new_name: str) -> None:
    client = MlflowClient(target)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    client.rename_experiment(experiment.experiment_id, new_name)


def convert(store: Path, target: str, **choice: Any) -> list[str]:
    """Convert, check that ``verify`` agrees, and return the codes of issues about names."""
    options = pipeline.Options(**choice)
    outcome = pipeline.convert([store], target, options)
    assert outcome.exit_code == 0, outcome.ledger.issues
    result = verify([store], target, options)
    assert result.same, result.differences
    codes = [issue.code.value for issue in outcome.ledger.issues]
    return [code for code in codes if code.startswith(("experiment-name", "experiment-renamed"))]


def experiments(target: str) -> dict[str, list[str]]:
    """The names of all experiments but ``Default``, and the values of param ``lr`` in each."""
    client = MlflowClient(target)
    found: dict[str, list[str]] = {}
    for experiment in client.search_experiments(ViewType.ALL):
        runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
        if experiment.name != "Default":
            found[experiment.name] = sorted(run.data.params["lr"] for run in runs)
    return found


@pytest.mark.parametrize("experiment", NAMES)
def test_renamed_in_the_target_it_keeps_that_name_and_gets_new_runs(
    store: Path, target: str, experiment: str
) -> None:
    convert(store, target)
    rename_in_target(target, NAMES[experiment], "of the team")
    storekit.write_run(store, experiment, "d" * 32, params={"lr": "0.9"})
    assert convert(store, target) == ["experiment-name-kept"]
    others = {name: ["0.1"] for key, name in NAMES.items() if key != experiment}
    assert experiments(target) == {"of the team": ["0.1", "0.9"], **others}
    rename_in_source(store, experiment, "renamed there too")
    assert convert(store, target) == ["experiment-name-kept"]
    assert experiments(target) == {"of the team": ["0.1", "0.9"], **others}


@pytest.mark.parametrize("experiment", NAMES)
def test_renamed_in_the_source_the_name_follows_each_time(
    store: Path, target: str, experiment: str
) -> None:
    convert(store, target)
    others = {name: ["0.1"] for key, name in NAMES.items() if key != experiment}
    for name in ("first", "second"):
        rename_in_source(store, experiment, name)
        assert convert(store, target) == ["experiment-name-followed"]
        assert experiments(target) == {name: ["0.1"], **others}
        assert convert(store, target) == []
    rename_in_target(target, "second", "of the team")
    rename_in_source(store, experiment, "third")
    assert convert(store, target) == ["experiment-name-kept"]
    assert experiments(target) == {"of the team": ["0.1"], **others}


def test_a_name_that_is_taken_in_the_target_is_not_followed(store: Path, target: str) -> None:
    convert(store, target)
    MlflowClient(target).create_experiment("theirs")
    rename_in_source(store, RAG, "theirs")
    assert convert(store, target) == ["experiment-name-kept"]
    assert experiments(target) == {"chat": ["0.1"], "rag": ["0.1"], "old": ["0.1"], "theirs": []}


@pytest.mark.parametrize("on_conflict", ["fail", "merge", "rename"])
def test_a_renamed_experiment_is_no_clash_for_any_choice(
    store: Path, target: str, on_conflict: str
) -> None:
    convert(store, target, on_conflict=on_conflict)
    rename_in_target(target, "rag", "of the team")
    convert(store, target, on_conflict=on_conflict)
    assert experiments(target) == {"chat": ["0.1"], "old": ["0.1"], "of the team": ["0.1"]}


def test_merge_never_makes_a_second_experiment(store: Path, target: str) -> None:
    MlflowClient(target).create_experiment("rag")
    with pytest.raises(TargetError, match="clashes"):
        convert(store, target)
    convert(store, target, on_conflict="merge")
    assert experiments(target)["rag"] == ["0.1"]
    rename_in_target(target, "rag", "of the team")
    storekit.write_run(store, RAG, "d" * 32, params={"lr": "0.9"})
    convert(store, target, on_conflict="merge")
    assert experiments(target) == {"chat": ["0.1"], "old": ["0.1"], "of the team": ["0.1", "0.9"]}


def test_an_old_experiment_without_a_creation_time_is_known_by_its_runs(
    store: Path, target: str
) -> None:
    storekit.write_experiment(store, "8", "of 2018", creation_ms=None)
    storekit.write_run(store, "8", "e" * 32, params={"lr": "0.5"})
    convert(store, target)
    rename_in_target(target, "of 2018", "kept")
    assert convert(store, target) == ["experiment-name-kept"]
    assert experiments(target)["kept"] == ["0.5"] and "of 2018" not in experiments(target)


def test_another_experiment_of_the_same_id_is_not_taken_for_it(tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/mlflow.db"
    for folder, name, hour in (("one", "fraud", 1), ("two", "churn", 2)):
        root = tmp_path / folder
        storekit.write_experiment(root, "1", name, creation_ms=storekit.START_MS + hour * 3600_000)
        storekit.write_run(root, "1", name[0] * 32, params={"lr": name})
    convert(tmp_path / "one", target)
    with pytest.raises(TargetError, match="clashes"):
        convert(tmp_path / "two", target)
    convert(tmp_path / "two", target, on_conflict="merge")
    assert experiments(target) == {"fraud": ["fraud"], "churn": ["churn"]}
    rename_in_target(target, "churn", "leavers")
    rename_in_source(tmp_path / "one", "1", "fraud 2")
    assert convert(tmp_path / "two", target) == ["experiment-name-kept"]
    assert convert(tmp_path / "one", target) == ["experiment-name-followed"]
    assert experiments(target) == {"fraud 2": ["fraud"], "leavers": ["churn"]}


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
def test_experiments_of_a_fixed_clock_are_told_apart_by_their_runs(
    tmp_path: Path, target: str
) -> None:
    for folder, name in (("one", "fraud"), ("two", "churn")):
        storekit.write_experiment(tmp_path / folder, "1", name)
        storekit.write_run(tmp_path / folder, "1", name[0] * 32, params={"lr": name})
    convert(tmp_path / "one", target)
    with pytest.raises(TargetError, match="clashes"):
        convert(tmp_path / "two", target)
    convert(tmp_path / "two", target, on_conflict="merge")
    assert experiments(target) == {"fraud": ["fraud"], "churn": ["churn"]}
    rename_in_source(tmp_path / "one", "1", "fraud 2")
    storekit.write_run(tmp_path / "one", "1", "e" * 32, params={"lr": "new"})
    assert convert(tmp_path / "one", target) == ["experiment-name-followed"]
    assert experiments(target) == {"fraud 2": ["fraud", "new"], "churn": ["churn"]}
