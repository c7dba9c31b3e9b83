"""Links of traces, evaluation datasets, scorers and webhooks of a database, in every target."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from migrator import pipeline
from migrator.outcome.summary import Outcome
from migrator.verification import verify
from tests.support import databasekit, fixturekit
from tests.support.databasekit import execute, rows
from tests.support.marks import long
from tests.support.mlflow_server import Server as ServerProcess
from tests.support.sql_servers import Server

pytestmark = pytest.mark.xdist_group("database_servers")
OPTIONS = pipeline.Options(workers=1, artifacts="keep")
KINDS = (
    *("trace link", "evaluation dataset", "evaluation dataset tag", "evaluation record"),
    *("evaluation dataset link", "scorer", "scorer version", "webhook", "webhook event"),
)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of 3.5.1 with some of each."""
    monkeypatch.chdir(tmp_path)  # reports on servers go there
    path = fixturekit.database("3.5.1-database", tmp_path / "source")
    execute(path, *databasekit.ASSETS)
    return path


@pytest.fixture(params=["sqlite", *long("postgresql", "mysql")])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of a new database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new.db"
    server: Server = request.getfixturevalue(request.param)
    return server.uri(server.fresh())


def by_kind(outcome: Outcome, column: str) -> dict[str, Any]:
    counts = {str(row["kind"]): row[column] for row in outcome.ledger.as_rows()}
    return {kind: counts.get(kind, 0) for kind in KINDS}


def test_everything_is_carried_through_two_conversions(
    source: Path, target: str, tmp_path: Path
) -> None:
    found = {kind: databasekit.counts(source)[kind] for kind in KINDS}
    assert all(found.values())
    outcome = pipeline.convert([str(source)], target, OPTIONS)
    assert outcome.exit_code == 0
    assert by_kind(outcome, "found") == by_kind(outcome, "converted") == found
    assert verify([str(source)], target, OPTIONS).differences == ()
    again = pipeline.convert([str(source)], target, OPTIONS)
    assert by_kind(again, "already_there") == found
    assert [each.code.value for each in again.ledger.issues if "differs" in each.code.value] == []

    third = tmp_path / "third.db"
    outcome = pipeline.convert([target], f"sqlite:///{third}", OPTIONS)
    assert outcome.exit_code == 0
    assert by_kind(outcome, "found") == by_kind(outcome, "converted")
    assert verify([target], f"sqlite:///{third}", OPTIONS).differences == ()
    links = "SELECT source_id, destination_type, destination_id, created_time FROM "
    links += "entity_associations WHERE association_id LIKE 'a-%'"
    carried = rows(third, links.partition(" WHERE")[0])
    assert {row[1:] for row in rows(source, links)} <= {row[1:] for row in carried}


def test_mlflow_reads_them(source: Path, target: str) -> None:
    pipeline.convert([str(source)], target, OPTIONS)
    client = MlflowClient(target)
    store = SqlAlchemyStore(target, "/tmp")
    dataset = client.get_dataset("d-1")
    assert (dataset.name, dataset.tags) == ("questions", {"team": "a", "hard": "yes"})
    assert (dataset.created_time, dataset.created_by) == (1760000000000, "ada")
    assert sorted(store.get_dataset_experiment_ids("d-1")) == ["1", "2"]
    records, _ = store._load_dataset_records("d-1", max_results=10)
    by_id = {record.dataset_record_id: record for record in records}
    assert by_id["r-1"].inputs == {"question": "Who?"}
    assert by_id["r-1"].expectations == {"answer": "Ada"}
    assert by_id["r-2"].created_time == 1760000000004
    versions = store.list_scorer_versions("1", "polite")
    assert sorted(each.scorer_version for each in versions) == [1, 2]
    webhook = Registry(target).get_webhook("w-1")
    assert (webhook.url, len(webhook.events)) == ("https://example.com/hook", 2)
    (linked,) = {str(row[0]) for row in rows(source, "SELECT source_id FROM entity_associations "
                                             "WHERE association_id = 'a-3'")}  # fmt: skip
    assert store.search_entities_by_source(linked, "trace", "run").to_list() == ["f00d"]


def test_one_experiment_takes_what_is_linked_to_it(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.db"
    ((name,),) = rows(source, "SELECT name FROM experiments WHERE experiment_id = 1")
    options = pipeline.Options(workers=1, artifacts="keep", experiments=(str(name),))
    outcome = pipeline.convert([str(source)], f"sqlite:///{target}", options)
    assert rows(target, "SELECT dataset_id FROM evaluation_datasets") == [("d-1",)]
    assert rows(target, "SELECT scorer_id FROM scorers") == [("s-1",)]
    assert by_kind(outcome, "left_out")["evaluation dataset link"] == 1
    links = "SELECT destination_id FROM entity_associations WHERE source_id = 'd-1'"
    assert rows(target, links) == [("1",)]


def test_a_link_to_an_experiment_that_is_gone_is_named(source: Path, tmp_path: Path) -> None:
    execute(
        source,
        "UPDATE entity_associations SET destination_id = '77' WHERE association_id = 'a-1'",
        "INSERT INTO entity_associations VALUES ('a-9', 'evaluation_dataset', 'd-2', 'run', '1', "
        "9)",
    )
    target = tmp_path / "new.db"
    outcome = pipeline.convert([str(source)], f"sqlite:///{target}", OPTIONS)
    assert outcome.exit_code == 0
    (issue,) = outcome.ledger.issues_by_code()["row-left-over"]
    assert issue.path.endswith("/evaluation_datasets/d-1") and "experiment 77" in issue.message
    links = "SELECT destination_type, destination_id FROM entity_associations WHERE source_id "
    assert rows(target, f"{links} = 'd-1'") == [("experiment", "2")]
    assert rows(target, f"{links} = 'd-2'") == [("run", "1")]


def test_links_follow_experiments_that_get_another_id(source: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "new.db", fixturekit.database("2.9.2-database", tmp_path / "other")
    options = pipeline.Options(workers=1, artifacts="keep", on_conflict="rename")
    pipeline.convert([str(other)], f"sqlite:///{target}", options)
    pipeline.convert([str(source)], f"sqlite:///{target}", options)
    ((name,),) = rows(source, "SELECT name FROM experiments WHERE experiment_id = 1")
    places = rows(
        target,
        "SELECT e.name FROM entity_associations a JOIN experiments e ON e.experiment_id = "
        "a.destination_id WHERE a.source_id = 'd-1' AND a.created_time = 1760000000006",
    )
    assert len(places) == 1 and str(places[0][0]).startswith(str(name))


def test_scorers_that_the_target_has_get_its_ids(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.db"
    pipeline.convert([str(source)], f"sqlite:///{target}", OPTIONS)
    execute(
        target,
        "DELETE FROM scorer_versions WHERE scorer_version = 2",
        "UPDATE scorer_versions SET scorer_id = 's-own' WHERE scorer_id = 's-1'",
        "UPDATE scorers SET scorer_id = 's-own' WHERE scorer_id = 's-1'",
        "UPDATE evaluation_dataset_records SET dataset_record_id = 'r-own' WHERE "
        "dataset_record_id = 'r-1'",
    )
    outcome = pipeline.convert([str(source)], f"sqlite:///{target}", OPTIONS)
    assert outcome.exit_code == 0
    versions = rows(target, "SELECT scorer_id, scorer_version FROM scorer_versions ORDER BY 1, 2")
    assert versions == [("s-2", 1), ("s-own", 1), ("s-own", 2)]
    items = rows(target, "SELECT dataset_record_id FROM evaluation_dataset_records ORDER BY 1")
    assert items == [("r-2",), ("r-own",)]


def test_shards_carry_each_once(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.db"
    converted = dict.fromkeys(KINDS, 0)
    for number in (1, 2, 3):
        options = pipeline.Options(workers=1, artifacts="keep", shard=(number, 3))
        outcome = pipeline.convert([str(source)], f"sqlite:///{target}", options, backup=False)
        for kind, count in by_kind(outcome, "converted").items():
            converted[kind] += count
    assert converted == {kind: databasekit.counts(source)[kind] for kind in KINDS}


def test_redact_masks_inside_of_records(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.db"
    options = pipeline.Options(workers=1, artifacts="keep", redact="Who|Ada|polite|example")
    pipeline.convert([str(source)], f"sqlite:///{target}", options)
    ((inputs, expectations),) = rows(
        target,
        "SELECT inputs, expectations FROM evaluation_dataset_records "
        "WHERE dataset_record_id = 'r-1'",
    )
    assert inputs == '{"question": "[REDACTED]?"}'
    assert expectations == '{"answer": "[REDACTED]"}'
    scorers = rows(target, "SELECT serialized_scorer FROM scorer_versions ORDER BY 1")
    assert ('{"name": "[REDACTED]"}',) in scorers


def test_the_secret_of_a_webhook_is_never_written(source: Path, tmp_path: Path) -> None:
    execute(source, "UPDATE webhooks SET secret = 'gAAAAAB-s3cr3t'")
    target = tmp_path / "new.db"
    outcome = pipeline.convert([str(source)], f"sqlite:///{target}", OPTIONS)
    named = [each for each in outcome.ledger.issues if each.code.value == "webhook-secret-left"]
    assert len(named) == 2 and outcome.exit_code == 0
    assert rows(target, "SELECT DISTINCT secret FROM webhooks") == [(None,)]
    assert b"s3cr3t" not in target.read_bytes()
    assert "s3cr3t" not in str(outcome.as_dict(values=True))


def test_in_place_leaves_them_alone(source: Path) -> None:
    pipeline.upgrade(f"sqlite:///{source}")
    tables = ("entity_associations", "evaluation_dataset_records", "scorer_versions", "webhooks")
    execute(
        source,
        "UPDATE webhooks SET secret = 'gAAAAAB-s3cr3t'",
        "INSERT INTO scorer_versions VALUES ('s-gone', 1, '{}', 1)",
    )
    before = {table: rows(source, f"SELECT * FROM {table}") for table in tables}
    outcome = pipeline.convert([str(source)], options=pipeline.Options(workers=1), in_place=True)
    assert not {"row-left-over", "webhook-secret-left"} & set(outcome.ledger.issues_by_code())
    assert outcome.exit_code == 0
    assert by_kind(outcome, "already_there") == by_kind(outcome, "found")
    for table, there in before.items():
        assert set(there) <= set(rows(source, f"SELECT * FROM {table}"))


def test_a_server_gets_the_links(source: Path, tmp_path: Path) -> None:
    ((trace_id, home),) = rows(
        source, "SELECT request_id, experiment_id FROM trace_info ORDER BY request_id LIMIT 1"
    )
    ((run_id,),) = rows(
        source,
        f"SELECT run_uuid FROM runs WHERE experiment_id = {home} AND run_uuid NOT IN (SELECT "
        "destination_id FROM entity_associations) ORDER BY 1 LIMIT 1",
    )
    execute(
        source,
        "INSERT INTO entity_associations VALUES "
        f"('a-5', 'trace', '{trace_id}', 'run', '{run_id}', 1760000000009)",
    )
    # Else MLflow 3.17 resolves the names of hosts.
    running = ServerProcess(tmp_path).start({"MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"})
    try:
        outcome = pipeline.convert([str(source)], running.uri, OPTIONS)
        assert outcome.exit_code == 3
        assert +Counter(by_kind(outcome, "rejected")) == {"trace link": 1}, (
            "to a run that is not there"
        )
        client = MlflowClient(running.uri)
        (run,) = client.search_runs(
            [each.experiment_id for each in client.search_experiments()],
            f"tags.`migrator.source_run_id` = '{run_id}'",
        )
        linked = client.search_traces(
            locations=[run.info.experiment_id],
            filter_string=f"attributes.run_id = '{run.info.run_id}'",
        )
        assert trace_id in {trace.info.trace_id for trace in linked}
        assert verify([str(source)], running.uri, OPTIONS).differences == ()
        again = pipeline.convert([str(source)], running.uri, OPTIONS)
        assert +Counter(by_kind(again, "rejected")) == {"trace link": 1}, (
            "as in the first conversion"
        )
    finally:
        running.kill()
