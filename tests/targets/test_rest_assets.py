"""Evaluation datasets, scorers and webhooks of a database that is converted into a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.issues import Code
from migrator.loader.rest import connection
from migrator.outcome.summary import Outcome
from migrator.verification import verify
from tests.support import databasekit, fixturekit
from tests.support.databasekit import execute
from tests.support.mlflow_server import Server
from tests.targets.test_rest import cut_after, interrupt

pytestmark = [pytest.mark.xdist_group("targets_rest_assets"), pytest.mark.long]

OPTIONS = pipeline.Options(workers=1, artifacts="keep")
KINDS = (
    *("evaluation dataset", "evaluation dataset tag", "evaluation record"),
    *("evaluation dataset link", "scorer", "scorer version", "webhook", "webhook event"),
)
WRITES = ("create_", "set_dataset", "add_dataset", "upsert_", "register_scorer", "delete_scorer")
WITHOUT_LINK = "DELETE FROM entity_associations WHERE destination_id = 'f00d'"  # to a run


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    # Else MLflow 3.17 resolves the names of hosts.
    server.start({"MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"})
    yield server
    server.kill()


@pytest.fixture
def server(running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(connection, "_SETTLE_S", 0.0)
    running.empty()
    return running


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = fixturekit.database("3.5.1-database", tmp_path / "source")
    execute(path, *databasekit.ASSETS, WITHOUT_LINK)
    return path


def convert(source: Path, server: Server, **options: Any) -> Outcome:
    chosen = pipeline.Options(**{"workers": 1, "artifacts": "keep", **options})
    return pipeline.convert([str(source)], server.uri, chosen)


def ledger(outcome: Outcome, column: str) -> dict[str, int]:
    rows = {row["kind"]: row for row in outcome.as_dict()["ledger"]}
    return {kind: rows[kind][column] for kind in KINDS if rows[kind][column]}


def seen_by_mlflow(server: Server) -> dict[str, Any]:
    """What MLflow's client says, without what a server draws itself."""
    client = MlflowClient(server.uri)
    store = client._tracking_client.store
    old = {}
    scorers = {}
    for each in client.search_experiments():
        old[each.experiment_id] = each.tags.get("migrator.source_experiment_id", "0")
        for scorer in store.list_scorers(each.experiment_id):
            for version in store.list_scorer_versions(each.experiment_id, scorer.scorer_name):
                key = (old[each.experiment_id], version.scorer_name, version.scorer_version)
                scorers[key] = json.loads(version._serialized_scorer)
    datasets = {}
    for each in client.search_datasets():
        records, _ = store._load_dataset_records(each.dataset_id)
        tags = {key: v for key, v in each.tags.items() if not key.startswith("migrator.")}
        experiments = store.get_dataset_experiment_ids(each.dataset_id)
        links = sorted(old[number] for number in experiments)
        datasets[each.name] = (tags, links, sorted((_record(r) for r in records), key=repr))
    webhooks = {}
    for each in client.list_webhooks():
        events = sorted(f"{event.entity}.{event.action}" for event in each.events)
        webhooks[each.name] = (each.url, each.description, str(each.status), events)
    return {"datasets": datasets, "scorers": scorers, "webhooks": webhooks}


def _record(record: Any) -> tuple[Any, ...]:
    tags = {key: value for key, value in record.tags.items() if not key.startswith("migrator.")}
    source = None if record.source is None else record.source.to_dict()
    return (record.inputs, record.expectations, record.outputs, tags, source)


EXPECTED: dict[str, Any] = {
    "datasets": {
        "questions": (
            {"team": "a", "hard": "yes"},
            ["1", "2"],
            [
                ({"question": "Wann?"}, None, None, {}, None),
                (
                    {"question": "Who?"}, {"answer": "Ada"}, {"answer": "Bob"}, {"hard": "yes"},
                    {"source_type": "HUMAN", "source_data": {}},
                ),
            ],
        ),
        "empty": ({}, [], []),
    },
    "scorers": {
        ("1", "polite", 1): {"name": "polite"},
        ("1", "polite", 2): {"name": "polite", "v": 2},
        ("2", "short", 1): {},
    },
    "webhooks": {
        "notify": (
            "https://example.com/hook", "tells us", "ACTIVE",
            ["model_version.created", "prompt_alias.deleted"],
        ),
    },
}  # fmt: skip


def test_a_server_gets_them_and_twice_is_once(source: Path, server: Server) -> None:
    outcome = convert(source, server)
    assert outcome.exit_code == 0
    found = ledger(outcome, "found")
    assert found["evaluation record"] == 2 and found["scorer version"] == 3
    assert ledger(outcome, "left_out") == {"webhook": 1}, "a deleted one"
    assert ledger(outcome, "converted") == {**found, "webhook": 1}
    assert outcome.server is not None
    limits = {limit.name: limit.count for limit in outcome.server.limits}
    assert limits["evaluation-dataset-fields"] == 2
    assert limits["evaluation-record-fields"] == 2
    assert (limits["scorer-fields"], limits["webhook-fields"]) == (2, 1)
    assert limits["deleted-webhook"] == 1
    new_ids = outcome.server.ids
    assert new_ids["evaluation dataset"].keys() == {"d-1", "d-2"}
    assert new_ids["scorer"].keys() == {"s-1", "s-2"} and new_ids["webhook"].keys() == {"w-1"}
    assert seen_by_mlflow(server) == EXPECTED
    verified = verify([str(source)], server.uri, OPTIONS)
    assert verified.differences == ()
    assert {kind.value for kind in verified.compared} >= set(KINDS)
    rows = server.rows()
    again = convert(source, server)
    assert ledger(again, "already_there") == {**found, "webhook": 1}
    assert ledger(again, "converted") == {}
    assert server.rows() == rows


def test_what_the_api_draws_itself_is_kept_in_tags(source: Path, server: Server) -> None:
    convert(source, server)
    store = MlflowClient(server.uri)._tracking_client.store
    (dataset,) = [each for each in store.search_datasets() if each.name == "questions"]
    assert dataset.tags["migrator.source_dataset_id"] == "d-1"
    fields = json.loads(dataset.tags["migrator.source_fields"])
    assert fields == {
        "creation_ms": 1760000000000, "last_updated_ms": 1760000000001, "created_by": "ada",
        "last_updated_by": "bob", "digest": "abc",
    }  # fmt: skip
    records, _ = store._load_dataset_records(dataset.dataset_id)
    kept = [json.loads(record.tags["migrator.source_fields"]) for record in records]
    assert {each["record_id"]: each["creation_ms"] for each in kept} == {
        "r-1": 1760000000002,
        "r-2": 1760000000004,
    }


def test_verify_sees_what_is_other_on_the_server(source: Path, server: Server) -> None:
    convert(source, server)
    server.change("UPDATE evaluation_dataset_tags SET value = 'b' WHERE key = 'team'")
    server.change("""UPDATE evaluation_dataset_records SET outputs = '{"mlflow_wrapped": 1}'
        WHERE inputs LIKE '%Who%'""")
    server.change("UPDATE scorer_versions SET serialized_scorer = '{\"v\": 3}' "
                  "WHERE scorer_version = 2")  # fmt: skip
    server.change("UPDATE webhooks SET status = 'DISABLED'")
    server.change("DELETE FROM webhook_events WHERE entity = 'prompt_alias'")
    found = verify([str(source)], server.uri, OPTIONS).differences
    assert {(each.kind.value, each.field) for each in found} == {
        ("evaluation dataset", "tag team"),
        ("evaluation record", "outputs"),
        ("scorer version", "scorer"),
        ("webhook", "status"),
        ("webhook", "event prompt_alias/deleted"),
    }


def test_cut_off_again_and_again_it_is_complete_in_the_end(
    source: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(source, "DELETE FROM scorer_versions WHERE scorer_id = 's-1' AND scorer_version = 1")
    convert(source, server)
    expected = seen_by_mlflow(server)
    assert ("1", "polite", 1) not in expected["scorers"]
    server.empty()
    with monkeypatch.context() as patch:  # runs and models first
        cut_after(patch, 1, interrupt, ("create_dataset",))
        with pytest.raises(KeyboardInterrupt):
            convert(source, server)
    interruptions = 0
    for _ in range(20):
        with monkeypatch.context() as patch:
            cut_after(patch, 2, interrupt, WRITES)
            try:
                convert(source, server)
            except KeyboardInterrupt:
                interruptions += 1
            else:
                break
    assert 2 < interruptions < 20
    assert seen_by_mlflow(server) == expected


def test_versions_of_scorers_keep_their_numbers(source: Path, server: Server) -> None:
    execute(
        source,
        "UPDATE scorer_versions SET scorer_version = scorer_version + 2 WHERE scorer_id = 's-1'",
    )
    assert convert(source, server).exit_code == 0
    found = server.ask("SELECT scorer_version FROM scorer_versions v JOIN scorers s "
                       "ON s.scorer_id = v.scorer_id WHERE scorer_name = 'polite'")  # fmt: skip
    assert found == [(3,), (4,)]
    execute(source, "INSERT INTO scorer_versions VALUES ('s-1', 6, '{\"v\": 6}', 1)")
    outcome = convert(source, server)
    assert ledger(outcome, "converted") == {"scorer version": 1}
    store = MlflowClient(server.uri)._tracking_client.store
    (home,) = [e for e in MlflowClient(server.uri).search_experiments()
               if e.tags.get("migrator.source_experiment_id") == "1"]  # fmt: skip
    versions = store.list_scorer_versions(home.experiment_id, "polite")
    assert [version.scorer_version for version in versions] == [3, 4, 6]


def test_what_people_did_stays_and_what_is_new_comes(source: Path, server: Server) -> None:
    convert(source, server)
    store = MlflowClient(server.uri)._tracking_client.store
    datasets = {each.name: each.dataset_id for each in store.search_datasets()}
    store.delete_dataset_tag(datasets["questions"], "hard")
    server.change("DELETE FROM evaluation_dataset_records WHERE inputs LIKE '%Wann%'")
    edited = {"inputs": {"question": "Who?"}, "expectations": {"answer": "Grace"}}
    store.upsert_dataset_records(datasets["questions"], [edited])
    ((number,),) = server.ask("SELECT experiment_id FROM scorers WHERE scorer_name = 'polite'")
    store.delete_scorer(str(number), "polite", 2)
    ((other,),) = server.ask("SELECT experiment_id FROM scorers WHERE scorer_name = 'short'")
    store.delete_scorer(str(other), "short")
    execute(
        source,
        """INSERT INTO evaluation_dataset_records (dataset_record_id, dataset_id, inputs,
        input_hash) VALUES ('r-3', 'd-1', '{"question": "New?"}', 'cccc')""",
    )
    outcome = convert(source, server)
    assert outcome.exit_code == 0
    assert ledger(outcome, "converted") == {"evaluation record": 1}
    assert ledger(outcome, "left_out") == {
        "evaluation dataset tag": 1, "evaluation record": 1, "scorer": 1, "scorer version": 2,
        "webhook": 1,
    }  # fmt: skip
    codes = outcome.ledger.issues_by_code()
    assert {"deleted-in-target", "target-differs"} <= set(codes)
    seen = seen_by_mlflow(server)
    records = {each[0]["question"]: each[1] for each in seen["datasets"]["questions"][2]}
    assert records == {"Who?": {"answer": "Grace"}, "New?": None}
    assert set(seen["scorers"]) == {("1", "polite", 1)}
    rows = server.rows()
    convert(source, server)
    assert server.rows() == rows
    convert(source, server, restore=True)
    assert set(seen_by_mlflow(server)["scorers"]) == set(EXPECTED["scorers"])


def test_a_dataset_that_people_deleted_stays_away(source: Path, server: Server) -> None:
    convert(source, server)
    store = MlflowClient(server.uri)._tracking_client.store
    for each in store.search_datasets():
        if each.name == "questions":
            store.delete_dataset(each.dataset_id)
    outcome = convert(source, server)
    assert ledger(outcome, "left_out")["evaluation record"] == 2
    assert [each.name for each in store.search_datasets()] == ["empty"]


def test_what_the_server_refuses_is_named_and_costs_only_itself(
    source: Path, server: Server
) -> None:
    execute(
        source,
        "INSERT INTO scorer_versions VALUES ('s-2', 2, 'no JSON', 1), ('s-2', 3, '{\"v\": 3}', 1)",
        "UPDATE webhooks SET url = 'ftp://example.com' WHERE webhook_id = 'w-1'",
        """INSERT INTO evaluation_dataset_records (dataset_record_id, dataset_id, inputs, source,
        input_hash, created_time) VALUES
        ('r-3', 'd-1', '{"question": "Who?"}', NULL, 'cccc', 1760000000099),
        ('r-4', 'd-1', '{"question": "Whose?"}', '{"by": "hand"}', 'dddd', 1760000000099)""",
    )
    outcome = convert(source, server)
    assert outcome.exit_code == 3
    assert ledger(outcome, "rejected") == {
        "evaluation record": 1, "scorer version": 1, "webhook": 1, "webhook event": 2,
    }  # fmt: skip
    named = {i.entity_id: i.message for i in outcome.ledger.issues if i.code is Code.SERVER_REFUSED}
    assert "same inputs" in named["questions/r-3"]
    assert "not a JSON object" in named["short/2"]
    assert "scheme" in named["notify"]
    seen = seen_by_mlflow(server)
    assert {key for key in seen["scorers"] if key[1] == "short"} == {
        ("2", "short", 1),
        ("2", "short", 3),
    }
    assert [each[4] for each in seen["datasets"]["questions"][2]].count(None) == 2


def test_scorers_of_a_deleted_experiment_are_sent_once(source: Path, server: Server) -> None:
    execute(
        source,
        "UPDATE experiments SET lifecycle_stage = 'deleted' WHERE experiment_id = 2",
        "UPDATE runs SET lifecycle_stage = 'deleted' WHERE experiment_id = 2",
    )
    outcome = convert(source, server)
    assert ledger(outcome, "converted")["scorer version"] == 3
    assert outcome.server is not None
    assert "scorer-hidden" in {limit.name for limit in outcome.server.limits}
    rows = server.rows()
    again = convert(source, server)
    assert ledger(again, "already_there")["scorer version"] == 3
    assert server.rows() == rows
    verified = verify([str(source)], server.uri, OPTIONS)
    assert verified.differences == () and verified.exceptions["scorer-hidden"] == 1
