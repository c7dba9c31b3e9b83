"""The loader's checks of its target, and what it makes of odd records."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from migrator import empty_database
from migrator.errors import LedgerError, OptionError, TargetError
from migrator.issues import Code, Kind
from migrator.loader import Writer, open_target, schema
from migrator.loader.rows import COLUMNS, metric_rows
from migrator.loader.sqlite.target import open_sqlite
from migrator.model import InputRecord, LoggedModelMetric, MetricPoint
from tests.support.loaderkit import (
    T0,
    codes,
    copy_template,
    dataset,
    execute,
    experiment,
    hex_id,
    load,
    logged_model,
    names_beside,
    query,
    registered_model,
    run,
    tables,
    trace,
)

# ---------------------------------------------------------------------------- the target


def refusal(uri: str, schema: str | None = "3.9") -> str:
    with pytest.raises(TargetError) as caught:
        open_target(uri, schema)
    assert caught.value.todo, "says what to do"
    return str(caught.value)


def test_importing_the_loader_imports_neither_mlflow_nor_sqlalchemy() -> None:
    code = (
        "import sys, migrator.loader;"
        "print([m for m in ('mlflow', 'sqlalchemy', 'alembic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_file_is_a_new_target(tmp_path: Path) -> None:
    target = open_sqlite(f"sqlite:///{tmp_path}/new.db", schema.MLFLOW_39)
    assert not target.exists
    assert target.revision is None
    assert target.experiments() == ()
    assert names_beside(tmp_path / "x") == []


def test_relative_uris_and_plain_paths_mean_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in ("sqlite:///my.db", "my.db", f"sqlite:///{tmp_path}/my.db", f"{tmp_path}/my.db"):
        target = open_target(uri, "3.9")
        assert target.path == str(tmp_path / "my.db")
        assert target.uri == f"sqlite:///{tmp_path}/my.db"


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("mssql+pyodbc://me:s3cr3t@host/db", "mssql"),
        ("oracle://me:s3cr3t@host/db", "oracle"),
        ("http://localhost:5000", "http"),
        ("sqlite://", "not the form"),
        ("sqlite:///", "no file"),
        ("sqlite:///:memory:", "no file"),
        ("sqlite:///a.db?mode=ro", "options"),
        ("mlruns", "not a database URI"),
    ],
)
def test_uris_that_are_no_sqlite_file_are_refused_with_the_right_form(uri: str, word: str) -> None:
    message = refusal(uri)
    assert word in message
    assert "sqlite:///mlflow.db" in message
    assert "s3cr3t" not in message


def test_a_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert "mkdir -p" in refusal(f"sqlite:///{tmp_path}/no/such/my.db")


def test_a_target_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    assert "a directory" in refusal(f"sqlite:///{tmp_path}/../{tmp_path.name}/../{tmp_path.name}")


def test_a_file_that_is_no_database_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are my notes\n" * 100)
    assert "not a SQLite database" in refusal(f"sqlite:///{path}")
    assert path.read_text() == "these are my notes\n" * 100
    assert names_beside(path) == ["notes.db"]


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    execute(path, "CREATE TABLE alembic_version (version_num TEXT)", "CREATE TABLE runs (x)")
    assert "not one of MLflow's" in refusal(f"sqlite:///{path}")


FIRST_TABLES = [
    f"CREATE TABLE {name} (x)" for name in ("experiments", "runs", "tags", "params", "metrics")
]
REVISION = "CREATE TABLE alembic_version (version_num TEXT)"
ROW = "INSERT INTO experiments VALUES (1)"


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (FIRST_TABLES, "unfinished"),
        (FIRST_TABLES[:1], "unfinished"),
        ([*FIRST_TABLES, REVISION], "unfinished"),
        (
            [*FIRST_TABLES, REVISION, "INSERT INTO alembic_version VALUES ('0584bdc529eb')"],
            "unfinished",
        ),
        ([*FIRST_TABLES, ROW], "mlflow db upgrade sqlite:///"),
        ([*FIRST_TABLES, REVISION, ROW], "alembic_version has 0 rows instead of one"),
        (
            [*FIRST_TABLES, REVISION, ROW, "INSERT INTO alembic_version VALUES ('a'), ('b')"],
            "alembic_version has 2 rows instead of one",
        ),
        ([*FIRST_TABLES, "CREATE TABLE orders (x)", ROW], "alembic_version has 0 rows"),
        (FIRST_TABLES[1:3], "not one of MLflow's"),
    ],
)
def test_tables_that_mlflow_has_not_finished_are_called_so(
    statements: list[str], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "my.db"
    execute(path, *statements)
    before = path.read_bytes()
    text = refusal(f"sqlite:///{path}", "3.9")
    assert said in text
    assert ("Remove the file" in text) == (said == "unfinished")
    assert path.read_bytes() == before


def test_an_empty_file_is_a_new_target_and_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    assert not open_target(f"sqlite:///{path}", "3.9").exists
    assert load(path).converted[Kind.RUN] == 2
    assert len(query(path, "SELECT * FROM runs")) == 2


def test_an_older_schema_is_refused_with_the_command_to_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "my.db"
    load(path)
    execute(path, "UPDATE alembic_version SET version_num = '0584bdc529eb'")
    message = refusal(f"sqlite:///{path}")
    assert "older schema (schema 0584bdc529eb, MLflow 2.22)" in message
    assert f"mlflow-migrate upgrade sqlite:///{path}" in message


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my.db"
    load(path)
    execute(path, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    assert "newer MLflow (schema ffffffffffff)" in refusal(f"sqlite:///{path}")


@pytest.mark.skipif(schema.chain()[-1] == schema.MLFLOW_39, reason="needs MLflow 3.10 or newer")
def test_a_database_at_39_is_refused_by_a_newer_mlflow_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "my.db"
    load(path)
    message = refusal(f"sqlite:///{path}", "latest")
    assert "--schema 3.9" in message
    assert "mlflow db upgrade" in message
    assert open_target(f"sqlite:///{path}", "3.9").exists


@pytest.mark.parametrize("lock", ["EXCLUSIVE", "IMMEDIATE"])
def test_a_locked_database_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    monkeypatch.setattr("migrator.loader.sqlite.files._WAIT_SECONDS", 0.1)
    monkeypatch.setattr("migrator.loader.sqlite.files.connect.__defaults__", (0.1,))
    path = tmp_path / "my.db"
    load(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"BEGIN {lock}")
        assert "locked by another process" in refusal(f"sqlite:///{path}")
        other.execute("ROLLBACK")
    assert open_target(f"sqlite:///{path}", "3.9").exists


def test_leftovers_of_a_vanished_database_are_refused(tmp_path: Path) -> None:
    (tmp_path / "my.db-wal").write_bytes(b"x")
    assert "my.db-wal is left over" in refusal(f"sqlite:///{tmp_path}/my.db")


def test_an_unknown_schema_is_refused_with_those_that_are_allowed() -> None:
    with pytest.raises(OptionError, match=r"3\.9 and latest"):
        open_target("sqlite:///x.db", "3.8")


def test_the_chain_read_from_files_is_mlflows_own() -> None:
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    script = ScriptDirectory.from_config(utils._get_alembic_config("sqlite://"))
    assert list(schema.chain()) == [r.revision for r in script.walk_revisions()][::-1]


def test_an_existing_target_tells_its_experiments(tmp_path: Path) -> None:
    path = tmp_path / "my.db"
    load(path)
    target = open_sqlite(f"sqlite:///{path}", schema.MLFLOW_39)
    there = [(each.target_id, each.name) for each in target.experiments()]
    assert there == [(0, "Default"), (1, "agents")]
    assert target.revision == schema.MLFLOW_39


# --------------------------------------------------------------------------- the records


def test_our_column_lists_name_every_column_of_mlflow_39(tmp_path: Path) -> None:
    load(tmp_path / "my.db")
    with closing(sqlite3.connect(tmp_path / "my.db")) as db:
        for table, columns in COLUMNS.items():
            info = db.execute(f"PRAGMA table_xinfo({table})").fetchall()
            there = {row[1] for row in info if row[6] == 0}
            of_310 = set(columns) if table == "workspaces" else {"workspace"}
            assert there == set(columns) - of_310, table


def test_counts_tell_each_kind_and_keep_rebuilt_traces_apart(tmp_path: Path) -> None:
    result = load(tmp_path / "my.db")
    assert result.issues == []
    assert result.already_there == {}
    assert result.merged == {}
    assert result.converted == {
        Kind.EXPERIMENT: 2,
        Kind.EXPERIMENT_TAG: 1,
        Kind.RUN: 2,
        Kind.PARAM: 2,
        Kind.METRIC_POINT: 4,
        Kind.TAG: 4,
        Kind.DATASET: 1,
        Kind.INPUT: 2,
        Kind.OUTPUT: 1,
        Kind.LOGGED_MODEL: 1,
        Kind.LOGGED_MODEL_PARAM: 1,
        Kind.LOGGED_MODEL_METRIC: 1,
        Kind.LOGGED_MODEL_TAG: 1,
        Kind.REGISTERED_MODEL: 1,
        Kind.REGISTERED_MODEL_TAG: 1,
        Kind.ALIAS: 1,
        Kind.MODEL_VERSION: 2,
        Kind.MODEL_VERSION_TAG: 1,
        Kind.TRACE: 1,
        Kind.TRACE_TAG: 3,
        Kind.TRACE_METADATA: 6,
        Kind.SPAN: 4,
        Kind.ASSESSMENT: 1,
    }
    assert result.rebuilt == {
        Kind.TRACE: 1,
        Kind.TRACE_TAG: 3,
        Kind.TRACE_METADATA: 6,
        Kind.SPAN: 4,
        Kind.ASSESSMENT: 1,
        Kind.TRACE_LINK: 1,
    }


def test_tags_of_ours_on_experiments_are_written_but_not_counted(tmp_path: Path) -> None:
    def fill(writer: Writer) -> None:
        plan = experiment(1, tags={"a": "1"}, plan_tags={"a": "1", "migrator.x": "2"})
        writer.add_experiment(plan)
        writer.set_experiment_tag(1, "mlflow.experimentKind", "genai_development")
        writer.set_experiment_tag(1, "a", "never")

    result = load(tmp_path / "my.db", fill)
    assert result.converted[Kind.EXPERIMENT_TAG] == 1
    assert query(tmp_path / "my.db", "SELECT key, value FROM experiment_tags ORDER BY 1") == [
        ("a", "1"),
        ("migrator.x", "2"),
        ("mlflow.experimentKind", "genai_development"),
    ]


def latest(*points: tuple[int, float, int]) -> object:
    row = metric_rows("r", "k", tuple(MetricPoint(*p) for p in points))[1]
    assert row is not None
    return row[1:5]


def test_the_latest_metric_is_the_greatest_step_then_time_then_value() -> None:
    assert latest((9, 1.0, 0), (1, 2.0, 3), (5, 0.5, 3)) == (0.5, 5, 3, False)
    assert latest((1, 2.0, 0), (1, 3.0, 0), (1, 1.0, 0)) == (3.0, 1, 0, False)


def test_nan_counts_as_the_zero_that_is_stored_when_the_latest_is_sought() -> None:
    nan = float("nan")
    assert latest((1, nan, 0), (1, -1.0, 0)) == (0.0, 1, 0, True)
    assert latest((1, nan, 0), (1, 1.0, 0)) == (1.0, 1, 0, False)
    assert latest((1, 0.0, 0), (1, nan, 0)) == (0.0, 1, 0, False)  # the first of equals stays


def test_equal_points_are_one_point_and_counted_as_merged(tmp_path: Path) -> None:
    points = tuple(MetricPoint(T0, v, 0) for v in (1.0, 1.0, float("inf"), 1.7976931348623157e308))

    def fill(writer: Writer) -> None:
        writer.add_experiment(experiment())
        writer.add_run(run(metrics={"m": points}), 1)

    result = load(tmp_path / "my.db", fill)
    assert result.converted[Kind.METRIC_POINT] == 2
    assert result.merged == {Kind.METRIC_POINT: 2}


@pytest.mark.parametrize("is_written", [False, True])
def test_a_second_run_of_one_id_is_refused_whole_and_the_first_kept(
    is_written: bool, tmp_path: Path
) -> None:
    def fill(writer: Writer) -> None:
        writer.add_experiment(experiment())
        writer.add_run(run(params={"a": "1"}, metrics={}), 1)
        if is_written:  # the second one comes in a later batch
            writer._rows.flush()
        writer.add_run(run(params={"a": "2", "b": "3"}, metrics={}), 1)

    result = load(tmp_path / "my.db", fill)
    assert query(tmp_path / "my.db", "SELECT key, value FROM params") == [("a", "1")]
    assert result.converted[Kind.PARAM] == 1
    assert {(i.kind, i.count) for i in result.issues} == {
        (Kind.RUN, 1),
        (Kind.PARAM, 2),
        (Kind.TAG, 2),
    }
    assert set(codes(result.issues)) == {"load-duplicate"}


def test_a_second_trace_model_or_registered_model_of_one_id_is_refused(tmp_path: Path) -> None:
    def fill(writer: Writer) -> None:
        writer.add_experiment(experiment())
        writer.add_run(run(), 1)
        for _ in range(2):
            writer.add_trace(trace(), 1)
            writer.add_logged_model(logged_model(), 1)
            writer.add_registered_model(registered_model())

    result = load(tmp_path / "my.db", fill)
    refused = {i.kind: i.count for i in result.issues}
    assert refused[Kind.TRACE] == refused[Kind.LOGGED_MODEL] == refused[Kind.REGISTERED_MODEL] == 1
    assert refused[Kind.SPAN] == 4
    assert result.rebuilt[Kind.SPAN] == 4


def test_one_row_that_the_database_refuses_costs_that_row_only(tmp_path: Path) -> None:
    def fill(writer: Writer) -> None:
        writer.add_experiment(experiment())
        bad = {"m": (MetricPoint(T0, 1.0, 0), MetricPoint(2**70, 1.0, 0))}
        writer.add_run(run(metrics=bad), 1)
        writer.add_run(run("odd", status="CONFUSED", params={"p": "1"}, tags={}, metrics={}), 1)
        writer.add_run(run("fine", metrics={}), 1)

    result = load(tmp_path / "my.db", fill)
    assert result.converted[Kind.RUN] == 2
    assert result.converted[Kind.METRIC_POINT] == 1
    assert sorted((i.code.value, i.kind, i.count) for i in result.issues) == [
        ("load-refused", Kind.METRIC_POINT, 1),
        ("load-refused", Kind.RUN, 1),
        ("load-without-parent", Kind.PARAM, 1),
    ]
    assert any(hex_id("odd") in i.message for i in result.issues)
    assert query(tmp_path / "my.db", "SELECT timestamp FROM latest_metrics") == [(T0,)]


def test_half_characters_become_question_marks(tmp_path: Path) -> None:
    def fill(writer: Writer) -> None:
        writer.add_experiment(experiment())
        writer.add_run(run(params={"p": "a\ud800b", "q": "ok"}, metrics={}), 1)

    result = load(tmp_path / "my.db", fill)
    assert query(tmp_path / "my.db", "SELECT value FROM params ORDER BY key") == [("a?b",), ("ok",)]
    assert codes(result.issues) == ["load-text-repaired"]
    assert result.converted[Kind.PARAM] == 2


def test_an_input_without_its_dataset_is_refused_and_named(tmp_path: Path) -> None:
    def fill(writer: Writer) -> None:
        writer.add_experiment(experiment())
        writer.add_run(run(inputs=(InputRecord("DATASET", "gone"),)), 1)

    result = load(tmp_path / "my.db", fill)
    assert [(i.code, i.kind) for i in result.issues] == [(Code.LOAD_WITHOUT_PARENT, Kind.INPUT)]
    assert Kind.INPUT not in result.converted


def test_a_dataset_may_come_after_the_run_that_used_it(tmp_path: Path) -> None:
    def fill(writer: Writer) -> None:
        writer.add_run(run(inputs=(InputRecord("DATASET", "d" * 32, {"k": "v"}),)), 1)
        writer.add_dataset(dataset(), 1)
        writer.add_experiment(experiment())

    assert load(tmp_path / "my.db", fill).converted[Kind.INPUT] == 1
    assert query(
        tmp_path / "my.db",
        "SELECT t.value FROM input_tags t JOIN inputs i USING (input_uuid) "
        "JOIN datasets d ON d.dataset_uuid = i.source_id",
    ) == [("v",)]


def test_a_models_metric_of_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    def fill(writer: Writer) -> None:
        writer.add_experiment(experiment())
        writer.add_logged_model(logged_model(), 1)

    result = load(tmp_path / "my.db", fill)
    assert [(i.code, i.kind) for i in result.issues] == [
        (Code.LOAD_WITHOUT_PARENT, Kind.LOGGED_MODEL_METRIC)
    ]
    assert Kind.LOGGED_MODEL_METRIC not in result.converted


def test_nan_of_a_models_metric_is_written_as_mlflow_does_and_reported(tmp_path: Path) -> None:
    point = LoggedModelMetric("acc", T0, float("nan"), 0, hex_id("run"), None, None)
    other = dataclasses.replace(point, value=1.0)

    def fill(writer: Writer) -> None:
        writer.add_experiment(experiment())
        writer.add_run(run(), 1)
        writer.add_logged_model(logged_model(metrics=(point, point, other)), 1)

    result = load(tmp_path / "my.db", fill)
    assert query(tmp_path / "my.db", "SELECT metric_value FROM logged_model_metrics") == [(0.0,)]
    assert codes(result.issues) == ["load-model-nan", "load-model-nan", "load-refused"]
    assert result.merged == {Kind.LOGGED_MODEL_METRIC: 1}


def test_values_longer_than_mlflows_columns_are_carried_in_full(tmp_path: Path) -> None:
    def fill(writer: Writer) -> None:
        writer.add_experiment(experiment(name="e" * 900))
        writer.add_run(run(name="n" * 900, params={"k" * 400: "v" * 20_000}, metrics={}), 1)

    load(tmp_path / "my.db", fill)
    assert query(tmp_path / "my.db", "SELECT length(key), length(value) FROM params") == [
        (400, 20_000)
    ]
    assert query(tmp_path / "my.db", "SELECT length(name) FROM runs") == [(900,)]


def test_the_order_of_adding_does_not_matter(tmp_path: Path) -> None:
    def forwards(writer: Writer) -> None:
        writer.add_experiment(experiment())
        writer.add_run(run("a"), 1)
        writer.add_run(run("b"), 1)
        writer.add_trace(trace("a"), 1)

    def backwards(writer: Writer) -> None:
        writer.add_trace(trace("a"), 1)
        writer.add_run(run("b"), 1)
        writer.add_run(run("a"), 1)
        writer.add_experiment(experiment())

    load(tmp_path / "a.db", forwards)
    load(tmp_path / "b.db", backwards)
    assert tables(tmp_path / "a.db") == tables(tmp_path / "b.db")


def test_rows_that_vanish_from_the_staging_file_stop_the_publishing(tmp_path: Path) -> None:
    with Writer(open_target(f"sqlite:///{tmp_path}/my.db", "3.9")) as writer:
        writer.add_experiment(experiment())
        writer.add_run(run(), 1)
        writer._rows.flush()
        writer._ready().execute("DELETE FROM params")
        with pytest.raises(LedgerError, match="params holds 0 rows where 2 were written"):
            writer.finish()
        with pytest.raises(LedgerError, match="not finished"):
            # finish() counted before it checked; publishing must not go by that
            writer.publish()
    assert names_beside(tmp_path / "my.db") == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_directory_without_write_permission_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    tmp_path.chmod(0o500)
    try:
        assert "no permission" in refusal(f"sqlite:///{tmp_path}/my.db")
    finally:
        tmp_path.chmod(0o700)


def test_a_failure_to_make_the_schema_is_reported_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, revision: str) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(empty_database, "create", fail)
    with pytest.raises(TargetError, match="disk is full"):
        load(tmp_path / "my.db")
    assert names_beside(tmp_path / "my.db") == []


def test_the_template_of_these_tests_is_what_the_schema_module_makes(tmp_path: Path) -> None:
    empty_database.create(str(tmp_path / "new.db"))
    copy_template(str(tmp_path / "copy.db"))

    def definitions(name: str) -> list[tuple[str, list[str]]]:
        found = query(tmp_path / name, "SELECT name, sql FROM sqlite_master ORDER BY 1")
        # Alembic writes a table's constraints in no fixed order.
        return [(table, sorted((sql or "").split())) for table, sql in found]

    assert definitions("new.db") == definitions("copy.db")
    assert query(tmp_path / "new.db", "SELECT * FROM alembic_version") == [(schema.MLFLOW_39,)]
