"""Databases with workspaces (MLflow 3.10 and later): one is read, the others are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from migrator import pipeline
from migrator.errors import SourceError
from migrator.issues import Code, Kind
from migrator.outcome.summary import Outcome
from migrator.verification import verify
from tests.support import databasekit, fixturekit
from tests.support.databasekit import execute, rows
from tests.support.mlflow_server import RELEASE

OPTIONS = pipeline.Options(workers=1, artifacts="keep")
TABLES = (
    *("experiments", "registered_models", "registered_model_tags", "registered_model_aliases"),
    *("model_versions", "model_version_tags", "evaluation_datasets", "webhooks"),
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A database of 3.5.1 with the columns of 3.10, and experiment 1 in another workspace."""
    path = fixturekit.database("3.5.1-database", tmp_path / "source")
    execute(path, *databasekit.ASSETS, *databasekit.workspace_columns(*TABLES))
    execute(
        path,
        *databasekit.WORKSPACES,
        "UPDATE experiments SET workspace = 'team-a' WHERE experiment_id = 1",
        "UPDATE evaluation_datasets SET workspace = 'team-a' WHERE dataset_id = 'd-1'",
        "UPDATE webhooks SET workspace = 'team-a' WHERE webhook_id = 'w-2'",
    )
    return path


def converted(source: Path, target: Path) -> Outcome:
    return pipeline.convert([str(source)], f"sqlite:///{target}", OPTIONS)


def in_experiment(source: Path, table: str, experiment_id: int) -> int:
    ((number,),) = rows(
        source, f"SELECT COUNT(*) FROM {table} WHERE experiment_id = {experiment_id}"
    )
    assert isinstance(number, int)
    return number


def test_the_default_workspace_is_read_and_the_others_are_counted(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new.db"
    outcome = converted(source, target)
    assert outcome.exit_code == 3 and outcome.ledger.gaps() == []
    left = {
        issue.kind: issue.count
        for issue in outcome.ledger.issues
        if issue.code is Code.WORKSPACE_LEFT
    }
    runs = in_experiment(source, "runs", 1)
    models = in_experiment(source, "logged_models", 1)
    assert runs and models
    assert left == {
        Kind.EXPERIMENT: 1, Kind.RUN: runs, Kind.LOGGED_MODEL: models, Kind.SCORER: 1,
        Kind.DATASET: in_experiment(source, "datasets", 1),
        Kind.EVALUATION_DATASET: 1, Kind.WEBHOOK: 1,
    }  # fmt: skip
    assert outcome.ledger.rejected[Kind.RUN] == runs
    assert outcome.ledger.found[Kind.RUN] == len(rows(source, "SELECT 1 FROM runs"))
    (path,) = {issue.path for issue in outcome.ledger.issues if issue.code is Code.WORKSPACE_LEFT}
    assert path == f"{source}/workspaces/team-a"
    client = MlflowClient(f"sqlite:///{target}")
    assert {each.experiment_id for each in client.search_experiments(ViewType.ALL)} == {"0", "2"}
    assert rows(target, "SELECT dataset_id FROM evaluation_datasets") == [("d-2",)]
    assert rows(target, "SELECT webhook_id FROM webhooks") == [("w-1",)]
    assert rows(target, "SELECT scorer_id FROM scorers") == [("s-2",)]


def test_the_variable_of_mlflow_chooses_another(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team-a")
    target = tmp_path / "new.db"
    outcome = converted(source, target)
    assert outcome.exit_code == 0 and outcome.ledger.gaps() == []
    assert outcome.ledger.converted[Kind.RUN] == in_experiment(source, "runs", 1)
    codes = {issue.code for issue in outcome.ledger.issues}
    assert Code.WORKSPACE_NOT_CHOSEN in codes and Code.WORKSPACE_LEFT not in codes
    assert rows(target, "SELECT dataset_id FROM evaluation_datasets") == [("d-1",)]
    assert rows(target, "SELECT experiment_id FROM experiments ORDER BY 1") == [(1,)]
    monkeypatch.delenv("MLFLOW_WORKSPACE")
    assert verify([str(source)], f"sqlite:///{target}", OPTIONS).differences


def test_a_workspace_that_is_not_there_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team-b")
    with pytest.raises(SourceError, match=r"no workspace 'team-b'.* it has: default, team-a"):
        converted(source, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


def test_a_database_without_workspaces_is_read_whatever_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fixturekit.database("2.9.2-database", tmp_path / "source")
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team-a")
    outcome = converted(path, tmp_path / "new.db")
    assert outcome.exit_code == 0
    assert outcome.ledger.converted[Kind.RUN] == 82


@pytest.mark.parametrize("workspace", ["default", "team-a"])
def test_names_that_two_workspaces_have_are_not_mixed(
    workspace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fixturekit.database("3.5.1-database", tmp_path / "source")
    registry = ("registered_models", "model_versions")
    execute(
        source,
        *databasekit.without_constraints("registered_models"),
        *databasekit.without_constraints("model_versions"),
        *databasekit.workspace_columns("experiments", *registry),
        *databasekit.WORKSPACES,
        "INSERT INTO registered_models (name, description, workspace) "
        "SELECT name, 'of team-a', 'team-a' FROM registered_models WHERE name NOT IN "
        "(SELECT name FROM registered_model_tags WHERE key = 'mlflow.prompt.is_prompt') LIMIT 1",
        "INSERT INTO model_versions (name, version, source, workspace) "
        "SELECT name, 7, 's3://team-a', workspace FROM registered_models "
        "WHERE workspace = 'team-a'",
    )
    ((name,),) = rows(source, "SELECT name FROM registered_models WHERE workspace = 'team-a'")
    monkeypatch.setenv("MLFLOW_WORKSPACE", workspace)
    outcome = converted(source, tmp_path / "new.db")
    assert outcome.exit_code == 0
    model = MlflowClient(f"sqlite:///{tmp_path}/new.db").get_registered_model(str(name))
    versions = rows(
        tmp_path / "new.db", f"SELECT version FROM model_versions WHERE name = '{name}'"
    )
    is_of_team_a = workspace == "team-a"
    assert (model.description == "of team-a") == is_of_team_a
    assert ((7,) in versions) == is_of_team_a
    assert (versions == [(7,)]) == is_of_team_a


@pytest.mark.skipif(RELEASE < (3, 10), reason="workspaces began with MLflow 3.10")
def test_in_place_each_workspace_gets_its_traces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fixturekit.database("2.9.2-database", tmp_path / "source")
    pipeline.upgrade(f"sqlite:///{source}")
    of_agents = "(SELECT experiment_id FROM experiments ORDER BY experiment_id LIMIT 4)"
    execute(
        source,
        *databasekit.WORKSPACES[2:],
        f"UPDATE experiments SET workspace = 'team-a', name = 'same' || experiment_id "
        f"WHERE experiment_id IN {of_agents} AND experiment_id > 0",
        "UPDATE experiments SET name = 'same1' WHERE experiment_id = 6",
    )
    by_workspace = (
        "SELECT e.workspace, COUNT(*) FROM trace_info t JOIN experiments e "
        "ON e.experiment_id = t.experiment_id GROUP BY 1 ORDER BY 1"
    )
    outcome = pipeline.convert([str(source)], options=pipeline.Options(workers=1), in_place=True)
    assert outcome.exit_code == 3
    ((workspace, first),) = rows(source, by_workspace)
    assert workspace == "default" and isinstance(first, int)
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team-a")
    outcome = pipeline.convert([str(source)], options=pipeline.Options(workers=1), in_place=True)
    assert outcome.exit_code == 0
    (default, team_a) = rows(source, by_workspace)
    assert default == ("default", first) and team_a[0] == "team-a" and team_a[1]
