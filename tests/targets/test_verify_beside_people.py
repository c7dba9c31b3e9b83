"""``verify`` lists what people changed in the target apart from what a conversion did wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from migrator import pipeline, verification
from migrator.cli import main
from migrator.verification import VerifyResult
from tests.support import storekit
from tests.support.sql_servers import Server as SqlServer

pytestmark = [pytest.mark.xdist_group("verify_people"), pytest.mark.long]

FLOW, OTHER = "a" * 32, "b" * 32
MODEL = "m-" + "3" * 32
NATIVE = "tr-" + "1" * 32


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "mlruns"
    storekit.write_experiment(root, "7", "rag", tags={"team": "blue"})
    for run_id in (FLOW, OTHER):
        storekit.write_run(
            root, "7", run_id, params={"model": "gpt-4o"}, tags={"stage": "dev", "owner": "ana"},
            artifacts={"prompt.txt": "P", "response.txt": "R"},
        )  # fmt: skip
    storekit.write_trace(root, "7", NATIVE)
    storekit.write_logged_model(root, "7", MODEL)
    storekit.write_registered_model(root, "clf", versions=[{}, {}], aliases={"prod": 1, "old": 2})
    return root


@pytest.fixture
def target(tmp_path: Path, store: Path) -> str:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    pipeline.convert([store], uri, pipeline.Options())
    return uri


def verify(store: Path, target: str) -> VerifyResult:
    return verification.verify([store], target)


def people(client: MlflowClient) -> None:
    """Everything that people do in a day."""
    client.set_tag(FLOW, "stage", "prod")
    client.delete_tag(FLOW, "owner")
    client.set_tag(FLOW, "mine", "1")
    client.update_run(OTHER, name="renamed")
    client.delete_run(OTHER)
    client.delete_traces("7", trace_ids=[f"tr-{FLOW}"])
    client.set_trace_tag(NATIVE, "seen", "yes")
    client.set_experiment_tag("7", "team", "red")
    client.delete_logged_model(MODEL)
    client.set_registered_model_alias("clf", "prod", "2")
    client.delete_registered_model_alias("clf", "old")
    client.delete_model_version("clf", "1")
    client.update_model_version("clf", "2", description="good")


CHANGED = {
    ("run", FLOW, "tag stage"),
    ("run", FLOW, "tag owner"),
    ("run", FLOW, "tag mine"),
    ("run", OTHER, "name"),
    ("run", OTHER, "lifecycle_stage"),
    ("run", OTHER, "deleted_time"),
    ("trace", f"tr-{FLOW}", "trace"),
    ("trace", NATIVE, "tag seen"),
    ("experiment", "7", "tag team"),
    ("logged model", MODEL, "lifecycle_stage"),
    ("registered model", "clf", "alias prod"),
    ("registered model", "clf", "alias old"),
    ("model version", "clf/1", "model version"),
    ("model version", "clf/2", "description"),
}
STAMPS = {"last_updated_timestamp", "last_update_time"}


def check_people(store: Path, target: str) -> VerifyResult:
    assert verify(store, target).same
    people(MlflowClient(target))
    result = verify(store, target)
    assert result.differences == (), result.as_text()
    found = {(each.kind.value, each.entity_id, each.field) for each in result.changed}
    assert {each for each in found if each[2] not in STAMPS} >= CHANGED
    assert {field for *_, field in found - CHANGED} <= {*STAMPS, "tag mlflow.runName"}
    assert result.changed_total == len(result.changed)
    return result


def test_what_people_changed_is_no_difference(store: Path, target: str) -> None:
    result = check_people(store, target)
    text = result.as_text(verbose=True)
    assert f"{result.changed_total} changes in the target since the last conversion" in text
    assert "No difference." in text and f"run {FLOW}, tag stage: the source has 'dev'" in text
    pipeline.convert([store], target, pipeline.Options())
    assert verify(store, target).same


def test_what_people_changed_in_postgresql_is_no_difference(
    store: Path, postgresql: SqlServer
) -> None:
    target = postgresql.uri(postgresql.fresh())
    pipeline.convert([store], target, pipeline.Options())
    check_people(store, target)


def test_strict_fails_on_changes_of_people_as_well(store: Path, target: str) -> None:
    def exit_code(*more: str) -> int:
        arguments = ["verify", str(store), "--against", target, *more]
        return CliRunner().invoke(main, arguments).exit_code

    assert exit_code("--strict") == 0
    MlflowClient(target).set_tag(FLOW, "stage", "prod")
    assert exit_code() == 0
    assert exit_code("--strict") == 3


def wrong_param(db: sqlite3.Connection) -> None:
    db.execute("UPDATE params SET value = 'other' WHERE run_uuid = ?", (FLOW,))


def lost_metric_row(db: sqlite3.Connection) -> None:
    db.execute("UPDATE runs SET start_time = start_time + 1 WHERE run_uuid = ?", (FLOW,))


def unremembered_tag(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM migrator_seen")
    db.execute("UPDATE tags SET value = 'x' WHERE key = 'stage' AND run_uuid = ?", (FLOW,))


@pytest.mark.parametrize(
    ("damage", "field"),
    [(wrong_param, "param model"), (lost_metric_row, "start_time"),
     (unremembered_tag, "tag stage")],
)  # fmt: skip
def test_what_people_can_not_change_or_nothing_remembers_stays_a_difference(
    store: Path, target: str, damage: Callable[[sqlite3.Connection], None], field: str
) -> None:
    with sqlite3.connect(target.removeprefix("sqlite:///")) as db:
        damage(db)
    result = verify(store, target)
    assert [each.field for each in result.differences] == [field]
    assert result.changed == ()


def test_what_the_source_changed_stays_a_difference(store: Path, target: str) -> None:
    storekit.write_values(store / "7" / FLOW / "tags", {"stage": "new", "fresh": "1"})
    result = verify(store, target)
    of_run = {each.field for each in result.differences if each.kind.value == "run"}
    assert of_run == {"tag stage", "tag fresh"}
    assert result.changed == ()


def test_what_a_conversion_wrote_wrongly_stays_a_difference(store: Path, target: str) -> None:
    (store / "7" / FLOW / "tags" / "owner").unlink()
    found = verify(store, target).differences
    (difference,) = [each for each in found if each.kind.value == "run"]
    assert (difference.field, difference.expected) == ("tag owner", "(nothing)")
