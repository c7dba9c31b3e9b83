"""Databases with workspaces (MLflow 3.10 and later): kept where the target has workspaces too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import ViewType

from migrator import pipeline
from migrator.errors import SourceError, TargetError
from migrator.issues import Code, Kind
from migrator.outcome.summary import Outcome
from migrator.verification import verify
from tests.support import databasekit, fixturekit
from tests.support.databasekit import execute, rows
from tests.support.marks import long
from tests.support.mlflow_server import RELEASE
from tests.support.sql_servers import Server
from tests.support.storekit import write_experiment

OPTIONS = pipeline.Options(workers=1, artifacts="keep")
TABLES = (
    *("experiments", "registered_models", "registered_model_tags", "registered_model_aliases"),
    *("model_versions", "model_version_tags", "evaluation_datasets", "webhooks"),
)

with_workspaces = pytest.mark.skipif(RELEASE < (3, 10), reason="workspaces began with MLflow 3.10")


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
    """Convert into a database that has no workspaces."""
    return pipeline.convert([str(source)], f"sqlite:///{target}", OPTIONS, schema="3.9")


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
    assert rows(target, "SELECT experiment_id FROM experiments ORDER BY 1") == [(0,), (2,)]
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
    if RELEASE < (3, 10):  # a newer MLflow does not open the target
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
    of_model = f"FROM registered_models WHERE name = '{name}'"
    ((description,),) = rows(tmp_path / "new.db", f"SELECT description {of_model}")
    versions = rows(
        tmp_path / "new.db", f"SELECT version FROM model_versions WHERE name = '{name}'"
    )
    is_of_team_a = workspace == "team-a"
    assert (description == "of team-a") == is_of_team_a
    assert ((7,) in versions) == is_of_team_a
    assert (versions == [(7,)]) == is_of_team_a


@with_workspaces
def test_in_place_each_workspace_gets_its_traces(tmp_path: Path) -> None:
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
    before = rows(source, "SELECT experiment_id, name, workspace FROM experiments ORDER BY 1")
    outcome = pipeline.convert([str(source)], options=pipeline.Options(workers=1), in_place=True)
    assert outcome.exit_code == 0
    (default, team_a) = rows(source, by_workspace)
    assert default[0] == "default" and default[1]
    assert team_a[0] == "team-a" and team_a[1]
    after = rows(source, "SELECT experiment_id, name, workspace FROM experiments ORDER BY 1")
    assert after == before


# --------------------------------------------------------- a target that has workspaces as well

WORKSPACES = ("default", "team-a", "team-b")
PUBLIC = "https://8.8.8.8/hook"  # MLflow looks up the name of a host


@contextmanager
def workspaces_enabled(uri: str) -> Iterator[Callable[[str], MlflowClient]]:
    """A function that gives MLflow's client on a database in one of its workspaces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
        # MLflow's functions change these; they are what they were afterwards.
        patch.setenv("MLFLOW_WORKSPACE", "default")
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("MLFLOW_REGISTRY_URI", uri)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)

        def client_in(workspace: str) -> MlflowClient:
            mlflow.set_workspace(workspace)
            return MlflowClient(uri, uri)

        try:
            yield client_in
        finally:
            mlflow.set_workspace(None)
            mlflow.set_tracking_uri(before)
            mlflow.set_registry_uri(None)  # that of the tracking URI, as in all other tests


def write_alike(client: MlflowClient, workspace: str) -> None:
    """Write an experiment, a model, a prompt, a dataset and a webhook of the same names."""
    experiment_id = client.create_experiment("support", tags={"team": workspace})
    root = client.create_run(experiment_id, run_name=f"workflow of {workspace}", start_time=1000)
    for number in range(2):
        tags = {"mlflow.parentRunId": root.info.run_id}
        run = client.create_run(experiment_id, 1001 + number, tags, f"call {number}")
        client.log_param(run.info.run_id, "model", "gpt-4o")
        client.log_param(run.info.run_id, "prompt", f"What says {workspace}?")
        client.log_param(run.info.run_id, "response", f"Answer {number}")
        client.log_metric(run.info.run_id, "prompt_tokens", 10 + number, 1002)
        client.set_terminated(run.info.run_id, end_time=2000)
    client.set_terminated(root.info.run_id, end_time=2001)
    client.create_registered_model("iris", {"team": workspace}, f"of {workspace}")
    for _ in range(WORKSPACES.index(workspace) + 1):
        version = client.create_model_version(
            "iris", f"file:///models/{workspace}", root.info.run_id, {"team": workspace}
        )
    client.set_registered_model_alias("iris", "champion", version.version)
    client.register_prompt("greeting", f"Hello {{{{name}}}}, {workspace} here")
    dataset = client.create_dataset("golden", experiment_id, {"team": workspace})
    dataset.merge_records([{"inputs": {"question": workspace}}])
    client.create_webhook("hook", f"{PUBLIC}/{workspace}", ["registered_model.created"])


def made_by_three_teams(folder: Path) -> str:
    """A database in a folder of its own; its URI."""
    folder.mkdir()
    uri = f"sqlite:///{folder}/mlflow.db"
    with workspaces_enabled(uri) as client_in:
        client_in("default")
        mlflow.create_workspace("team-a", description="The first team")
        mlflow.create_workspace("team-b", default_artifact_root="file:///artifacts/b")
        for workspace in WORKSPACES:
            write_alike(client_in(workspace), workspace)
    return uri


def shown_in(client: MlflowClient) -> dict[str, object]:
    """What MLflow shows in the workspace of a client, without the traces of runs."""
    experiments = client.search_experiments(ViewType.ALL)
    ids = [each.experiment_id for each in experiments]
    runs = client.search_runs(ids, run_view_type=ViewType.ALL, order_by=["attributes.start_time"])
    models = client.search_registered_models()
    (dataset,) = client.search_datasets()
    return {
        "experiments": [(e.experiment_id, e.name, e.tags.get("team")) for e in experiments],
        "runs": [(dict(r.info), r.data.to_dictionary()) for r in runs],
        "models": [(m.name, m.description, m.tags, m.aliases) for m in models],
        "versions": [
            (v.name, v.version, v.source, v.run_id, v.tags)
            for v in client.search_model_versions("name = 'iris'")
        ],
        "prompt": client.get_prompt_version("greeting", "1").template,
        "dataset": (dataset.dataset_id, dataset.name, dataset.tags, dataset.records[0].inputs),
        "webhooks": [(w.webhook_id, w.name, w.url) for w in client.list_webhooks()],
    }


def shown(uri: str) -> dict[str, object]:
    """What MLflow shows in each workspace of a database, and of the workspaces themselves."""
    with workspaces_enabled(uri) as client_in:
        found: dict[str, object] = {w: shown_in(client_in(w)) for w in WORKSPACES}
        found["workspaces"] = [repr(each) for each in client_in("default").list_workspaces()]
    return found


def convert_all(source: str, target: str) -> Outcome:
    return pipeline.convert([source], target, OPTIONS)


@pytest.fixture(params=["sqlite", *long("postgresql", "mysql")])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a new database."""
    monkeypatch.chdir(tmp_path)  # reports of servers go there
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new.db"
    server = request.getfixturevalue(request.param)
    return str(server.uri(server.fresh()))


def asked(uri: str, query: str) -> list[tuple[object, ...]]:
    """The rows of a query."""
    engine = sqlalchemy.create_engine(uri)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.exec_driver_sql(query)]
    engine.dispose()
    return found


@with_workspaces
def test_each_workspace_is_read_back_as_it_was(target: str, tmp_path: Path) -> None:
    source = made_by_three_teams(tmp_path / "old")
    expected = shown(source)
    outcome = convert_all(source, target)
    assert outcome.exit_code == 0 and outcome.ledger.gaps() == []
    assert outcome.ledger.issues == []
    assert outcome.ledger.converted[Kind.WORKSPACE] == 2
    assert outcome.ledger.converted[Kind.REGISTERED_MODEL] == 6
    assert shown(target) == expected
    assert "of team-b" in str(expected["team-b"]) and "of team-a" not in str(expected["team-b"])
    assert verify([source], target, OPTIONS).same
    traces = asked(
        target, "SELECT e.workspace, COUNT(*) FROM trace_info t JOIN experiments e "
        "ON e.experiment_id = t.experiment_id GROUP BY 1 ORDER BY 1",
    )  # fmt: skip
    assert traces == [(workspace, 1) for workspace in WORKSPACES]


@with_workspaces
def test_converting_again_changes_nothing(target: str, tmp_path: Path) -> None:
    source = made_by_three_teams(tmp_path / "old")
    convert_all(source, target)
    before = shown(target)
    outcome = convert_all(source, target)
    assert not any(outcome.ledger.converted.values())
    assert outcome.unchanged or not target.startswith("sqlite")
    assert shown(target) == before


@with_workspaces
def test_what_was_deleted_in_one_workspace_stays_in_the_other(target: str, tmp_path: Path) -> None:
    source = made_by_three_teams(tmp_path / "old")
    convert_all(source, target)
    with workspaces_enabled(target) as client_in:
        client_in("team-a").delete_registered_model("iris")
        client_in("team-b").delete_model_version("iris", "2")
    with workspaces_enabled(source) as client_in:
        client_in("default").update_registered_model("iris", "Described anew")
        client_in("team-b").rename_registered_model("iris", "lily")
    outcome = convert_all(source, target)
    assert outcome.exit_code == 0 and outcome.ledger.gaps() == []
    assert outcome.ledger.left_out[Kind.REGISTERED_MODEL] == 1
    found = asked(
        target, "SELECT workspace, name, description FROM registered_models "
        "WHERE name <> 'greeting' ORDER BY 1",
    )  # fmt: skip
    assert found == [("default", "iris", "Described anew"), ("team-b", "lily", "of team-b")]
    assert verify([source], target, OPTIONS).same


@with_workspaces
def test_a_workspace_that_was_deleted_stays_away(target: str, tmp_path: Path) -> None:
    source = made_by_three_teams(tmp_path / "old")
    convert_all(source, target)
    with workspaces_enabled(target) as client_in:
        client_in("default")
        mlflow.delete_workspace("team-a", mode="CASCADE")
    with workspaces_enabled(source) as client_in:
        client_in("team-a").create_experiment("new in team-a")
        client_in("team-a").create_registered_model("new in team-a")
        client_in("team-b").create_registered_model("new in team-b")
    outcome = convert_all(source, target)
    assert outcome.exit_code == 0 and outcome.ledger.gaps() == []
    assert outcome.ledger.left_out[Kind.WORKSPACE] == 1
    assert outcome.ledger.left_out[Kind.EXPERIMENT] == 2
    assert outcome.ledger.converted[Kind.REGISTERED_MODEL] == 1
    for table in ("experiments", "registered_models", "evaluation_datasets", "webhooks"):
        found = asked(target, f"SELECT DISTINCT workspace FROM {table} ORDER BY 1")
        assert found == [("default",), ("team-b",)]
    assert asked(target, "SELECT name FROM workspaces ORDER BY 1") == [("default",), ("team-b",)]


@with_workspaces
def test_a_workspace_gets_what_it_lacks(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = made_by_three_teams(tmp_path / "old")
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team-a")
    outcome = convert_all(source, target)
    assert outcome.ledger.converted[Kind.WORKSPACE] == 1
    found = asked(target, "SELECT workspace, name FROM registered_models ORDER BY 1, 2")
    assert found == [("team-a", "greeting"), ("team-a", "iris")]
    monkeypatch.delenv("MLFLOW_WORKSPACE")
    outcome = convert_all(source, target)
    assert outcome.ledger.already_there[Kind.REGISTERED_MODEL] == 2
    assert outcome.ledger.converted[Kind.REGISTERED_MODEL] == 4
    assert shown(target) == shown(source)


@with_workspaces
def test_names_of_a_folder_are_those_of_the_default_workspace(target: str, tmp_path: Path) -> None:
    source = made_by_three_teams(tmp_path / "old")
    write_experiment(tmp_path / "mlruns", "7", "support")
    convert_all(source, target)
    with pytest.raises(TargetError, match=r"'support' of its own|clashes"):
        convert_all(str(tmp_path / "mlruns"), target)
    options = replace(OPTIONS, on_conflict="rename")
    outcome = pipeline.convert([str(tmp_path / "mlruns")], target, options)
    assert outcome.exit_code == 0
    names = asked(target, "SELECT name, workspace FROM experiments WHERE experiment_id = 7")
    assert names == [("support (7)", "default")]


@with_workspaces
@pytest.mark.long
def test_a_server_s_database_gives_all_its_workspaces(
    postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = postgresql.uri(postgresql.fresh())
    convert_all(made_by_three_teams(tmp_path / "old"), server)
    target = f"sqlite:///{tmp_path}/back.db"
    outcome = convert_all(server, target)
    assert outcome.exit_code == 0 and outcome.ledger.gaps() == []
    assert shown(target) == shown(server)


@with_workspaces
@pytest.mark.parametrize(
    ("statements", "place", "rejected"),
    [
        (["UPDATE workspaces SET name = X'ff' WHERE name = 'team-a'"], "/workspaces/b'", 1),
        (
            ["UPDATE registered_models SET workspace = X'ff' WHERE workspace = 'team-a'"],
            "/registered_models.workspace",
            2,
        ),
    ],
    ids=["of its row", "of its models"],
)
def test_a_workspace_that_is_not_a_text_is_named(
    statements: list[str], place: str, rejected: int, tmp_path: Path
) -> None:
    source = made_by_three_teams(tmp_path / "old")
    execute(tmp_path / "old" / "mlflow.db", *statements)
    outcome = convert_all(source, f"sqlite:///{tmp_path}/new.db")
    assert outcome.exit_code == 3 and outcome.ledger.gaps() == []
    (issue,) = (each for each in outcome.ledger.issues if each.code is Code.ROW_DAMAGED)
    assert place in issue.path and issue.count == rejected


@with_workspaces
def test_a_default_workspace_that_was_changed_is_named(tmp_path: Path) -> None:
    source = made_by_three_teams(tmp_path / "old")
    with workspaces_enabled(source) as client_in:
        client_in("default")
        mlflow.update_workspace("default", description="For everybody")
    outcome = convert_all(source, f"sqlite:///{tmp_path}/new.db")
    (issue,) = (each for each in outcome.ledger.issues if each.code is Code.TABLE_NOT_CARRIED)
    assert issue.path.endswith("/workspaces/default")


@with_workspaces
def test_a_workspace_may_have_any_name(tmp_path: Path) -> None:
    """MLflow allows few letters, but the column any text."""
    source = made_by_three_teams(tmp_path / "old")
    for table in TABLES:
        change = f"UPDATE {table} SET workspace = '../x y' WHERE workspace = 'team-a'"
        execute(tmp_path / "old" / "mlflow.db", change)
    target = f"sqlite:///{tmp_path}/new.db"
    assert convert_all(source, target).exit_code == 0
    for table in TABLES:
        names = f"SELECT DISTINCT workspace FROM {table} ORDER BY 1"
        assert asked(target, names) == [("../x y",), ("default",), ("team-b",)]


@with_workspaces
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "UPDATE experiments SET workspace = '' WHERE workspace = 'team-a'",
            "has the name of experiment",
        ),
        ("DROP TABLE workspaces", "has this table, but it is not there"),
    ],
)
def test_a_database_with_damaged_workspaces_is_not_changed(
    change: str, message: str, tmp_path: Path
) -> None:
    source = made_by_three_teams(tmp_path / "old")
    path = tmp_path / "old" / "mlflow.db"
    execute(path, change)
    before = path.read_bytes()
    with pytest.raises(SourceError, match=message):
        pipeline.convert([source], options=OPTIONS, in_place=True)
    assert path.read_bytes() == before
