"""``convert mlflow.db --in-place``: traces of runs are added to the database that holds them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base

from migrator import pipeline
from migrator.cli import main
from migrator.errors import MigrateError, OptionError, TargetError
from migrator.outcome.summary import Outcome
from tests.support import fixturekit
from tests.support.databasekit import execute, rows, without_constraints

OPTIONS = pipeline.Options(workers=1)


def upgraded(name: str, folder: Path) -> Path:
    """A fixture's database at MLflow's installed schema."""
    path = fixturekit.database(name, folder)
    pipeline.upgrade(f"sqlite:///{path}")
    for backup in path.parent.glob("*.backup-*"):
        backup.unlink()
    return path


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return upgraded("2.9.2-database", tmp_path)


def in_place(path: Path, *, dry_run: bool = False) -> Outcome:
    return pipeline.convert([str(path)], options=OPTIONS, in_place=True, dry_run=dry_run)


def statements(path: Path) -> Counter[str]:
    """Every row of a database as SQL."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return Counter(line for line in db.iterdump() if line.startswith("INSERT"))


def tables(lines: Counter[str]) -> Counter[str]:
    """How many rows of each table there are."""
    found: Counter[str] = Counter()
    for line, number in lines.items():
        found[line.split('"')[1]] += number
    return found


@pytest.mark.parametrize(
    ("name", "traces", "spans"),
    [
        ("1.30.1-database", 3, 7),
        ("2.9.2-database", 33, 74),
        ("2.22.5-database", 0, 0),
        ("3.5.1-database", 1, 2),
    ],
)
def test_traces_are_added_and_nothing_else_changes(
    name: str, traces: int, spans: int, tmp_path: Path
) -> None:
    path = upgraded(name, tmp_path)
    before = statements(path)
    outcome = in_place(path)
    assert outcome.exit_code == 0
    after = statements(path)
    assert before - after == Counter(), "a row was changed or removed"
    added = tables(after - before)
    assert (added["trace_info"], added["spans"]) == (traces, spans)
    allowed = {
        "trace_info", "trace_tags", "trace_request_metadata", "trace_metrics", "spans",
        "assessments", "entity_associations", "experiment_tags", "migrator_seen",
    }  # fmt: skip
    assert {table for table in added if not table.startswith("span_metrics")} <= allowed
    assert [row for row in outcome.ledger.as_rows() if row["already_there"] != row["found"]] == []
    backups = list(path.parent.glob("*.backup-*"))
    assert len(backups) == 1 and statements(backups[0]) == before


def test_the_traces_are_those_of_a_conversion_into_another_database(
    database: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    pipeline.convert([str(database)], f"sqlite:///{other}", OPTIONS)
    in_place(database)
    for table in ("trace_info", "spans", "trace_tags", "trace_request_metadata", "assessments"):
        query = f"SELECT * FROM {table}"
        assert sorted(rows(database, query), key=repr) == sorted(rows(other, query), key=repr)


def test_mlflow_reads_them_beside_their_runs(database: Path) -> None:
    in_place(database)
    client = MlflowClient(f"sqlite:///{database}")
    traces = client.search_traces(locations=["3"])
    assert [trace.info.trace_id for trace in traces]
    for trace in traces:
        run = client.get_run(trace.info.trace_id.removeprefix("tr-"))
        assert trace.info.request_time == run.info.start_time
        assert trace.data.spans


def test_twice_is_once_and_new_runs_get_traces(database: Path) -> None:
    in_place(database)
    once = statements(database)
    in_place(database)
    assert statements(database) == once
    execute(
        database,
        "INSERT INTO runs SELECT 'f' || substr(run_uuid, 2), name, source_type, source_name, "
        "entry_point_name, user_id, status, start_time, end_time, source_version, "
        "lifecycle_stage, artifact_uri, experiment_id, deleted_time FROM runs "
        "WHERE experiment_id = 6",
        "INSERT INTO params SELECT key, value, 'f' || substr(run_uuid, 2) FROM params "
        "WHERE run_uuid IN (SELECT run_uuid FROM runs WHERE experiment_id = 6 AND "
        "substr(run_uuid, 1, 1) <> 'f')",
        "INSERT INTO params SELECT 'question', 'What is new?', run_uuid FROM runs "
        "WHERE experiment_id = 6 AND substr(run_uuid, 1, 1) = 'f'",
    )
    before = rows(database, "SELECT COUNT(*) FROM trace_info")
    in_place(database)
    assert rows(database, "SELECT COUNT(*) FROM trace_info") > before


def test_a_dry_run_writes_nothing(database: Path) -> None:
    data = database.read_bytes()
    outcome = in_place(database, dry_run=True)
    assert sum(outcome.ledger.rebuilt.values()) > 0
    assert database.read_bytes() == data
    assert sorted(path.name for path in database.parent.iterdir()) == ["mlflow.db", "mlruns"]


def test_a_database_in_wal_mode(database: Path) -> None:
    execute(database, "PRAGMA journal_mode = WAL")
    before = statements(database)
    in_place(database)
    assert before - statements(database) == Counter()
    assert rows(database, "SELECT COUNT(*) FROM trace_info") == [(33,)]


def test_only_one_experiment(database: Path) -> None:
    options = pipeline.Options(workers=2, experiments="assistant")
    pipeline.convert([str(database)], options=options, in_place=True)
    assert rows(database, "SELECT DISTINCT experiment_id FROM trace_info") == [(4,)]


# ------------------------------------------------------------------------------------ refusals


def refused(path: Path) -> str:
    """The message of the refusal; the database must stay byte for byte."""
    data = path.read_bytes()
    with pytest.raises(MigrateError) as error:
        in_place(path)
    assert path.read_bytes() == data
    assert not list(path.parent.glob("*.backup-*"))
    return str(error.value)


def test_an_older_schema_is_refused_with_the_command_that_upgrades_it(tmp_path: Path) -> None:
    path = fixturekit.database("2.9.2-database", tmp_path)
    assert f"mlflow-migrate upgrade sqlite:///{path}" in refused(path)


def test_a_database_that_mlflow_cannot_upgrade_is_left_and_the_other_way_is_named(
    tmp_path: Path,
) -> None:
    """Before ``latest_metrics`` (1.2) a run may have two last values at one step and time."""
    path = tmp_path / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    engine.dispose()
    command.upgrade(_get_alembic_config(f"sqlite:///{path}"), "7ac759974ad8")
    execute(
        path,
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage) "
        "VALUES (1, 'old', 'active')",
        "INSERT INTO runs (run_uuid, name, status, lifecycle_stage, experiment_id, start_time) "
        "VALUES ('f00d', '', 'FINISHED', 'active', 1, 1)",
        "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES "
        "('loss', 0.0, 5, 'f00d', 1, 1), ('loss', -5.0, 5, 'f00d', 1, 0)",
    )
    data = path.read_bytes()
    with pytest.raises(TargetError) as error:
        pipeline.upgrade(f"sqlite:///{path}")
    assert "UNIQUE constraint failed" in str(error.value)
    assert f"mlflow-migrate convert {path} --to" in str(error.value)
    assert path.read_bytes() == data
    assert [each.name for each in tmp_path.iterdir()] == ["mlflow.db"]
    pipeline.convert([str(path)], f"sqlite:///{tmp_path}/migrated.db", OPTIONS)
    assert rows(tmp_path / "migrated.db", "SELECT COUNT(*) FROM metrics") == [(2,)]
    execute(path, "DELETE FROM metrics WHERE is_nan")
    result = pipeline.upgrade(f"sqlite:///{path}")
    assert result.backup_path is not None and Path(result.backup_path).exists()
    assert rows(path, "SELECT value FROM latest_metrics") == [(-5.0,)]


def test_the_upgrade_of_a_half_upgraded_database_fails_and_changes_nothing(database: Path) -> None:
    """Its tables are those of 3.9, and its revision is that of 2.22."""
    execute(database, "UPDATE alembic_version SET version_num = '0584bdc529eb'")
    assert "mlflow-migrate upgrade" in refused(database)
    data = database.read_bytes()
    with pytest.raises(TargetError, match=r"already exists|duplicate column") as error:
        pipeline.upgrade(f"sqlite:///{database}")
    assert f"mlflow-migrate convert {database} --to" in str(error.value)
    assert database.read_bytes() == data
    assert sorted(path.name for path in database.parent.iterdir()) == ["mlflow.db", "mlruns"]


@pytest.mark.parametrize("state", ["newer", "foreign", "truncated", "half-upgraded", "empty"])
def test_the_command_refuses_what_it_must_not_change(state: str, database: Path) -> None:
    if state == "newer":
        execute(database, "UPDATE alembic_version SET version_num = 'feedfeedfeed'")
    elif state == "foreign":
        database.unlink()
        execute(database, "CREATE TABLE songs (title TEXT)")
    elif state == "truncated":
        database.write_bytes(database.read_bytes()[:50_000])
    elif state == "half-upgraded":
        execute(database, "ALTER TABLE spans RENAME TO _alembic_tmp_spans")
    else:
        database.write_bytes(b"")
    data = database.read_bytes()
    result = run(str(database), "--in-place")
    assert result.exit_code == 1 and result.stderr.startswith("Error: "), result.output
    assert database.read_bytes() == data
    assert sorted(path.name for path in database.parent.iterdir()) == ["mlflow.db", "mlruns"]


def test_a_newer_a_foreign_and_a_half_upgraded_database_are_refused(database: Path) -> None:
    execute(database, "CREATE TABLE _alembic_tmp_runs AS SELECT * FROM runs")
    assert "Such a database is not changed" in refused(database)
    execute(database, "UPDATE alembic_version SET version_num = 'feedfeedfeed'")
    assert "feedfeedfeed" in refused(database)
    execute(database, "DROP TABLE alembic_version", "DROP TABLE experiments")
    refused(database)
    database.write_bytes(database.read_bytes()[:20_000])
    assert "damaged" in refused(database)


def test_a_missing_table_of_the_revision_is_refused(database: Path) -> None:
    execute(database, "DROP TABLE input_tags")
    assert "input_tags" in refused(database)


def test_a_database_that_a_server_is_writing_is_refused(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE runs SET name = name")
        assert "lock" in refused(database)


@pytest.mark.parametrize(
    "options",
    [
        pipeline.Options(runs=False),
        pipeline.Options(traces=False),
        pipeline.Options(redact="x"),
        pipeline.Options(shard="1/2"),
        pipeline.Options(artifacts="relocate"),
    ],
    ids=["--no-runs", "--no-traces", "--redact", "--shard", "--artifacts"],
)
def test_options_that_would_change_more_are_refused(
    options: pipeline.Options, database: Path
) -> None:
    with pytest.raises(OptionError, match="only traces are added"):
        pipeline.convert([str(database)], options=options, in_place=True)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["convert", *arguments])


def test_in_place_is_for_one_database(database: Path, tmp_path: Path) -> None:
    store = fixturekit.materialise("2.9.2-moved", tmp_path)
    assert run(str(store), "--in-place").exit_code == 2
    assert run(str(store), str(database), "--in-place").exit_code == 2
    clash = run(str(database), "--in-place", "--to", "sqlite:///x.db")
    assert clash.exit_code == 2 and "clash" in clash.stderr


def test_the_command(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(database.parent)
    hint = run("mlflow.db")
    assert hint.exit_code == 2 and "--in-place" in hint.stderr
    result = run("mlflow.db", "--in-place")
    assert result.exit_code == 0, result.output
    assert "Backup: " in result.stdout
    assert "Artifact locations" not in result.stdout


def test_what_a_store_converted_is_still_remembered_as_the_stores(tmp_path: Path) -> None:
    store, target = fixturekit.store("2.22.5-agents"), tmp_path / "mlflow.db"
    pipeline.convert([str(store)], f"sqlite:///{target}", pipeline.Options(traces=False))

    def remembered() -> set[tuple[int, int, int]]:
        with contextlib.closing(sqlite3.connect(target)) as db:
            return set(db.execute("SELECT item, content, source FROM migrator_seen"))

    before = remembered()
    done = pipeline.convert([str(target)], in_place=True)
    assert sum(done.ledger.rebuilt_new.values()) > 0
    assert before and before < remembered()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE experiments SET name = 'twin'", "has the name of experiment"),
        ("UPDATE experiments SET experiment_id = -5 WHERE experiment_id = 1", "a negative id"),
        ("UPDATE experiments SET experiment_id = 'x' WHERE experiment_id = 1", "is not a number"),
        ("UPDATE experiments SET name = CAST(X'ff41' AS TEXT)", "a text that is not UTF-8"),
        ("ALTER TABLE runs RENAME TO own_runs", "It is a view, not a table"),
    ],
)
def test_a_schema_or_experiments_that_mlflow_does_not_make_are_refused(
    change: str, message: str, database: Path
) -> None:
    execute(database, *without_constraints("experiments"), change)
    if change.startswith("ALTER"):
        execute(database, "CREATE VIEW runs AS SELECT * FROM own_runs")
    before = database.read_bytes()
    with pytest.raises(MigrateError, match=message):
        in_place(database)
    assert database.read_bytes() == before
    assert [each.name for each in database.parent.glob("*backup*")] == []
