"""The local database that traces go to when there is none yet: made at once, and MLflow's own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow.store.db.utils
import mlflow.store.tracking.sqlalchemy_store
import pytest
from mlflow import MlflowClient

from migrator.tracker import MLFlowTracker, local_database
from tests.support import trackerkit


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def described(path: Path) -> dict[str, Any]:
    """All that a database says of its tables, by name; constraints stand in no fixed order."""
    with closing(sqlite3.connect(path)) as db:
        objects = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        told: dict[str, Any] = {
            f"{kind} {name}": (table, sorted((sql or "").replace(",", " , ").split()))
            for kind, name, table, sql in objects
        }
        told["revision"] = db.execute("SELECT * FROM alembic_version").fetchall()
        return told


def test_it_is_the_database_that_mlflow_makes(tmp_path: Path) -> None:
    local_database.ensure(f"sqlite:///{tmp_path}/ours.db")
    MlflowClient(f"sqlite:///{tmp_path}/mlflows.db").search_experiments()
    ours, mlflows = described(tmp_path / "ours.db"), described(tmp_path / "mlflows.db")
    assert len(ours) > 100
    assert ours == mlflows


def test_fallback_does_without_mlflows_migrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("MLflow makes the database by all its migrations")

    monkeypatch.setattr(mlflow.store.db.utils, "_initialize_tables", fail)
    fallback = f"sqlite:///{tmp_path}/deeper/fallback.db"
    track = MLFlowTracker(
        {"enabled": True, "tracking_uri": "http://127.0.0.1:9", "fallback_uri": fallback},
        {"flow": {"name": "a"}},
    )
    with track.track_workflow({}):
        pass
    assert track.flush(120)
    assert track.status().in_fallback == 1
    assert names(tmp_path / "deeper") == ["fallback.db"]
    (trace,) = trackerkit.traces(track)
    assert trace.info.trace_id == track.last_trace_id


def test_database_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    path.write_bytes(b"")  # SQLite and MLflow take an empty file for an empty database
    local_database.ensure(f"sqlite:///{path}")
    assert path.read_bytes() == b""


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "http://127.0.0.1:9", "a.db"])
def test_other_places_are_left_alone(uri: str, tmp_path: Path) -> None:
    local_database.ensure(uri)
    assert names(tmp_path) == []


def test_one_of_several_that_make_it_at_once_wins(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    errors: list[BaseException] = []

    def make() -> None:
        try:
            local_database.ensure(f"sqlite:///{path}")
        except BaseException as error:  # noqa: BLE001  shown below
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names(tmp_path) == ["shared.db"]
    assert MlflowClient(f"sqlite:///{path}").create_experiment("a")
