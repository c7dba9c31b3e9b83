"""One run, read from every schema that MLflow's databases have had."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base

from migrator import extractor
from migrator.extractor.database.schema import REVISIONS
from migrator.loader import schema
from migrator.model import MetricPoint, RunRecord
from tests.support.databasekit import execute

RUN = "0" * 31 + "1"
WRITTEN = (  # with the columns of the first schema (MLflow 0.9)
    "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
    "VALUES (1, 'old', './mlruns/1', 'active')",
    "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, "
    "status, start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id) "
    f"VALUES ('{RUN}', '', 'LOCAL', 'train.py', '', 'ana', 'FINISHED', 1559000000000, "
    f"1559000005000, '', 'active', './mlruns/1/{RUN}/artifacts', 1)",
    f"INSERT INTO params (key, value, run_uuid) VALUES ('lr', '0.1', '{RUN}')",
    f"INSERT INTO tags (key, value, run_uuid) VALUES ('mlflow.runName', 'first', '{RUN}')",
    # the next revision adds it from the column
    f"INSERT INTO tags (key, value, run_uuid) VALUES ('mlflow.user', 'ana', '{RUN}')",
    "INSERT INTO metrics (key, value, timestamp, run_uuid) "
    f"VALUES ('loss', 0.5, 1559000001000, '{RUN}')",
    "INSERT INTO metrics (key, value, timestamp, run_uuid) "
    f"VALUES ('loss', 0.25, 1559000002000, '{RUN}')",
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database of the first schema, with a run."""
    path = tmp_path / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    engine.dispose()
    artifacts = tmp_path / "mlruns" / "1" / RUN / "artifacts"
    artifacts.mkdir(parents=True)
    (artifacts / "prompt.txt").write_text("Hello")
    execute(path, *WRITTEN)
    return path


@contextlib.contextmanager
def opened(path: Path) -> Iterator[extractor.Source]:
    with extractor.open_source(f"sqlite:///{path}") as source:
        yield source


def record(source: extractor.Source) -> RunRecord:
    (entry,) = source.index().runs
    run = source.read_run(entry, lambda path: True)
    assert run.record is not None and run.issues == ()
    return run.record


def test_a_run_is_the_same_in_every_schema(database: Path) -> None:
    uri = f"sqlite:///{database}"
    config = _get_alembic_config(uri)
    with opened(database) as source:
        first = record(source)
    assert first.name == "first" and first.status == "FINISHED"
    assert first.params == {"lr": "0.1"} and first.texts == {"prompt.txt": "Hello"}
    assert first.metrics == {
        "loss": (MetricPoint(1559000001000, 0.5, 0), MetricPoint(1559000002000, 0.25, 0))
    }
    for revision in schema.chain():
        command.upgrade(config, revision)
        with opened(database) as source:
            index = source.index()
            assert [str(issue.code.value) for issue in index.issues] == [], revision
            assert record(source) == first, revision
    execute(database, "UPDATE metrics SET is_nan = 1, value = 0 WHERE value = 0.5")
    with opened(database) as source:
        values: list[Any] = [point.value for point in record(source).metrics["loss"]]
    assert math.isnan(values[0]) and values[1] == 0.25


def test_every_revision_of_the_installed_mlflow_is_known() -> None:
    assert set(schema.chain()) <= set(REVISIONS)
