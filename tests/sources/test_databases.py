"""Tracking databases as sources: of several releases, damaged ones, and ones that are refused."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from migrator import extractor, pipeline
from migrator.cli import main
from migrator.errors import OptionError, SourceError
from migrator.extractor.database.connection import Database, Row
from migrator.issues import Issue, Kind, Severity
from migrator.outcome.summary import Outcome
from migrator.verification import verify
from tests.support import databasekit, fixturekit
from tests.support.databasekit import DAMAGES, HARMLESS, LLM, NEW, OLD, Damage, execute, rows

# What is converted here has the schema of 3.9, which verify opens with 3.9 only. Beside newer
# releases test_database_revisions and test_in_place read databases.
pytestmark = pytest.mark.skipif(
    not version("mlflow").startswith("3.9."), reason="verify opens the schema of 3.9 with 3.9 only"
)

ONE_WORKER = pipeline.Options(workers=1)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The database of LLM work that 2.9 wrote."""
    return fixturekit.database(LLM, tmp_path)


def converted(source: Path, target: Path) -> Outcome:
    """Convert into a new SQLite file of 3.9."""
    return pipeline.convert([str(source)], f"sqlite:///{target}", ONE_WORKER, schema="3.9")


def contents(path: Path) -> list[str]:
    """All rows of a database as SQL, sorted, but for those that remember a source's state."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = sorted(line for line in db.iterdump() if line.startswith("INSERT"))
    return [row for row in rows if not ("migrator_seen" in row and row.endswith(",0);"))]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# ---------------------------------------------------------------------------- whole databases


@pytest.mark.parametrize("name", fixturekit.databases())
def test_everything_in_a_database_is_carried(name: str, tmp_path: Path) -> None:
    source = fixturekit.database(name, tmp_path / "source")
    before = snapshot(source.parent)
    target = tmp_path / "new.db"
    outcome = converted(source, target)
    assert outcome.exit_code == 0
    found = {row["kind"]: row["found"] for row in outcome.ledger.as_rows()}
    counted = databasekit.counts(source)
    assert {kind: found.get(kind) for kind in counted} == counted
    for row in outcome.ledger.as_rows():
        assert row["converted"] == row["found"], row
    assert snapshot(source.parent) == before, "the source was changed"
    assert verify([str(source)], f"sqlite:///{target}", ONE_WORKER).differences == ()
    again = converted(source, target)
    assert sum(again.ledger.converted.values()) == 0


@pytest.mark.parametrize("name", fixturekit.databases())
def test_rows_are_a_superset_of_those_of_an_upgrade(name: str, tmp_path: Path) -> None:
    """MLflow's own way for a database is the witness for everything that is not a trace."""
    from mlflow.store.db.utils import _upgrade_db
    from sqlalchemy import create_engine

    source = fixturekit.database(name, tmp_path / "source")
    theirs = tmp_path / "theirs.db"
    shutil.copy(source, theirs)
    engine = create_engine(f"sqlite:///{theirs}")
    _upgrade_db(engine)
    engine.dispose()
    ours = tmp_path / "ours.db"
    converted(source, ours)
    for table, columns in (
        ("experiments", "experiment_id, name, lifecycle_stage, creation_time, last_update_time"),
        ("experiment_tags", "experiment_id, key, value"),
        (
            "runs",
            "run_uuid, name, source_type, source_name, entry_point_name, user_id, status, "
            "start_time, end_time, source_version, lifecycle_stage, experiment_id, deleted_time",
        ),
        ("params", "run_uuid, key, value"),
        ("tags", "run_uuid, key, value"),
        ("metrics", "run_uuid, key, value, timestamp, step, is_nan"),
        ("latest_metrics", "run_uuid, key, value, timestamp, step, is_nan"),
        ("datasets", "experiment_id, name, digest, dataset_source_type, dataset_source"),
        ("registered_models", "name, creation_time, last_updated_time, description"),
        ("registered_model_tags", "name, key, value"),
        ("registered_model_aliases", "name, alias, version"),
        ("model_versions", "name, version, current_stage, run_id, status, description"),
        ("model_version_tags", "name, version, key, value"),
        ("logged_models", "model_id, name, creation_timestamp_ms, status, lifecycle_stage"),
        ("logged_model_params", "model_id, param_key, param_value"),
        ("logged_model_tags", "model_id, tag_key, tag_value"),
        ("logged_model_metrics", "model_id, metric_name, metric_value, metric_step, run_id"),
    ):
        query = f"SELECT {columns} FROM {table}"
        missing = set(rows(theirs, query)) - set(rows(ours, query))
        assert not missing, (table, missing)


def test_nested_runs_become_traces_with_texts_from_their_artifacts(
    made: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new.db"
    converted(made, target)
    assert rows(target, "SELECT COUNT(*) FROM trace_info") == [(33,)]
    ((inputs,),) = rows(
        target,
        "SELECT json_extract(content, '$.attributes.\"mlflow.spanInputs\"') FROM spans s "
        "JOIN trace_info t ON t.request_id = s.trace_id WHERE t.experiment_id = 10 "
        "AND s.parent_span_id IS NULL",
    )
    text = (made.parent / "mlruns" / "10").glob("*/artifacts/prompt.txt")
    assert next(text).read_text() in str(inputs)


def test_relative_locations_begin_where_the_database_is(tmp_path: Path) -> None:
    source = fixturekit.database(OLD, tmp_path)
    target = tmp_path / "new.db"
    converted(source, target)
    recorded = rows(source, "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = 1")
    assert all(str(uri).startswith("./mlruns/1/") for _, uri in recorded)
    written = {key: uri for key, uri in rows(target, "SELECT run_uuid, artifact_uri FROM runs")}
    for run_id, uri in recorded:
        assert written[run_id] == (source.parent / str(uri)).resolve().as_uri()


@pytest.mark.parametrize("workers", [1, 3])
def test_the_result_is_the_same_for_any_number_of_workers(
    workers: int, made: Path, tmp_path: Path
) -> None:
    one, several = tmp_path / "one.db", tmp_path / "several.db"
    converted(made, one)
    options = pipeline.Options(workers=workers)
    pipeline.convert([str(made)], f"sqlite:///{several}", options, schema="3.9")
    assert contents(one) == contents(several)


def test_shards_together_are_the_whole(made: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.db", tmp_path / "parts.db"
    converted(made, whole)
    for number in (2, 1):
        options = pipeline.Options(workers=1, shard=(number, 2))
        pipeline.convert([str(made)], f"sqlite:///{parts}", options, schema="3.9", backup=False)
    assert contents(whole) == contents(parts)


def test_many_flat_runs_are_read_with_few_queries(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree of one run must not cost a dozen queries of its own."""
    execute(
        made,
        "DELETE FROM tags WHERE key = 'mlflow.parentRunId'",
        *(
            "INSERT INTO runs SELECT hex(randomblob(16)), name, source_type, source_name, "
            "entry_point_name, user_id, status, start_time, end_time, source_version, "
            "lifecycle_stage, artifact_uri, experiment_id, deleted_time FROM runs "
            for _ in range(3)
        ),
    )
    asked: list[str] = []
    ask = Database.rows

    def counting(self: Database, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        asked.append(sql)
        return ask(self, sql, parameters)

    monkeypatch.setattr(Database, "rows", counting)
    outcome = pipeline.scan([str(made)], ONE_WORKER)
    assert outcome.ledger.found[Kind.RUN] == 82 * 8
    assert len(asked) < 82 * 8


def test_one_experiment_and_a_role(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.db"
    options = pipeline.Options(
        workers=1, experiments=("assistant",), roles=(("assistant", "session"),)
    )
    pipeline.convert([str(made)], f"sqlite:///{target}", options, schema="3.9")
    assert rows(target, "SELECT name FROM experiments WHERE experiment_id > 0") == [("assistant",)]
    assert rows(target, "SELECT COUNT(*) FROM runs") == [(7,)]
    # as sessions, each turn below a root is a trace of its own
    assert rows(target, "SELECT COUNT(*) FROM trace_info") != [(2,)]


def test_a_file_store_and_a_database_are_converted_in_one_call(tmp_path: Path) -> None:
    database = fixturekit.database(OLD, tmp_path)
    store = fixturekit.materialise("2.9.2-agents", tmp_path)
    options = pipeline.Options(workers=2, on_conflict="rename")
    outcome = pipeline.convert(
        [str(database), str(store)], f"sqlite:///{tmp_path}/new.db", options, schema="3.9"
    )
    assert outcome.exit_code == 0
    runs = rows(database, "SELECT COUNT(*) FROM runs")[0][0]
    assert outcome.ledger.found["run"] == int(str(runs)) + 81  # type: ignore[index]


def test_rows_that_are_only_in_the_wal_are_read(made: Path, tmp_path: Path) -> None:
    """A server on the same file may not have carried its last rows into the database itself."""
    writer = sqlite3.connect(made)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("INSERT INTO tags SELECT 'late', 'tag', run_uuid FROM runs")
    writer.commit()
    try:
        outcome = converted(made, tmp_path / "new.db")
        assert outcome.exit_code == 0
        late = rows(tmp_path / "new.db", "SELECT COUNT(*) FROM tags WHERE key = 'late'")
        assert late == [(82,)]
        # and the server can write all the time
        writer.execute("INSERT INTO tags SELECT 'later', 'tag', run_uuid FROM runs")
        writer.commit()
    finally:
        writer.close()


def test_a_database_in_wal_mode_that_nobody_uses_stays_alone(made: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(made)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    before = snapshot(made.parent)
    converted(made, tmp_path / "new.db")
    assert snapshot(made.parent) == before


def test_a_source_travels_to_other_processes(made: Path) -> None:
    with extractor.open_source(str(made)) as source:
        other = pickle.loads(pickle.dumps(source.outline()))
        entries = other.index().runs
        assert [run.record for run in other.read_runs(entries, lambda path: False)] == [
            source.read_run(entry, lambda path: False).record for entry in entries
        ]
        experiments = [entry.path for entry in source.index().experiments]
        assert other.first_unseen(experiments) is None
        missing = f"{made}/experiments/99"
        assert other.first_unseen([*experiments, missing]) == missing


# ------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_is_named_and_costs_only_itself(damage: Damage, tmp_path: Path) -> None:
    source = fixturekit.database(damage.fixture, tmp_path / "source")
    execute(source, *damage.statements)
    outcome = converted(source, tmp_path / "new.db")
    issues = [each for each in outcome.ledger.issues if each.code is damage.code]
    assert issues, outcome.ledger.issues
    named = [each for each in issues if damage.place in each.path]
    assert named and all(each.path.startswith(str(source)) for each in named), issues
    assert sum(each.count for each in named) == damage.count
    assert sum(outcome.ledger.rejected.values()) == damage.rejected, _rejections(outcome)
    assert outcome.exit_code == (3 if damage.rejected else 0)
    assert outcome.ledger.gaps() == []
    differences = verify([str(source)], f"sqlite:///{tmp_path}/new.db", ONE_WORKER).differences
    assert differences == ()


def _rejections(outcome: Outcome) -> list[Issue]:
    return [each for each in outcome.ledger.issues if each.severity is Severity.REJECTED]


@pytest.mark.parametrize("damage", HARMLESS, ids=lambda damage: damage.name)
def test_what_loses_nothing_changes_nothing(damage: Damage, tmp_path: Path) -> None:
    source = fixturekit.database(damage.fixture, tmp_path / "source")
    converted(source, tmp_path / "whole.db")
    execute(source, *damage.statements)
    outcome = converted(source, tmp_path / "new.db")
    assert outcome.exit_code == 0
    assert contents(tmp_path / "new.db") == contents(tmp_path / "whole.db")


# --------------------------------------------------------------------------------- refusals


def refused(source: str, tmp_path: Path) -> str:
    """The message of the error with which a source is refused; nothing may be written."""
    with pytest.raises(SourceError) as error:
        pipeline.convert([source], f"sqlite:///{tmp_path}/never.db", ONE_WORKER, schema="3.9")
    assert not (tmp_path / "never.db").exists()
    return str(error.value)


def test_what_is_not_a_database_is_refused(tmp_path: Path) -> None:
    text, empty = tmp_path / "text.db", tmp_path / "empty.db"
    text.write_text("no database at all, but long enough")
    empty.touch()
    (tmp_path / "folder.db").mkdir()
    assert "is not a SQLite database" in refused(str(text), tmp_path)
    text.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:52\nsize 7\n")
    assert "Fetch the file: git lfs pull" in refused(str(text), tmp_path)
    assert "is empty" in refused(f"sqlite:///{empty}", tmp_path)
    assert "is a directory" in refused(f"sqlite:///{tmp_path}/folder.db", tmp_path)
    assert "does not exist" in refused(f"sqlite:///{tmp_path}/none.db", tmp_path)
    assert "names no SQLite file" in refused("sqlite://", tmp_path)
    assert "names no SQLite file" in refused("sqlite:///:memory:", tmp_path)


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    other, bare = tmp_path / "other.db", tmp_path / "bare.db"
    execute(other, "CREATE TABLE songs (title TEXT)")
    execute(other, "CREATE TABLE experiments (id TEXT, name TEXT)")
    execute(bare, "PRAGMA user_version = 1")
    assert "it has the tables experiments, songs" in refused(str(other), tmp_path)
    assert "it has no tables" in refused(str(bare), tmp_path)


def test_a_half_of_a_database_is_refused(made: Path, tmp_path: Path) -> None:
    execute(made, "ALTER TABLE params RENAME TO _alembic_tmp_params")
    assert "an upgrade of this database was interrupted" in refused(str(made), tmp_path)
    execute(made, "DROP TABLE _alembic_tmp_params")
    assert "has no table params" in refused(str(made), tmp_path)


def test_a_column_that_every_release_has_must_be_there(made: Path, tmp_path: Path) -> None:
    execute(made, "ALTER TABLE params RENAME COLUMN value TO worth")
    assert "table params has no column value" in refused(str(made), tmp_path)


def test_a_locked_database_is_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrator.extractor.database.connection.WAIT_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(made)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert "is locked" in refused(str(made), tmp_path)


def test_a_pipe_and_a_nul_character_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.db")
    assert "is not a regular file" in refused(str(tmp_path / "pipe.db"), tmp_path)
    assert "holds a NUL character" in refused("sqlite:///a%00b.db", tmp_path)


def test_a_database_that_a_process_left_in_the_middle_of_a_write_is_refused(
    made: Path, tmp_path: Path
) -> None:
    """Reading it would need the undoing of that write, which changes the file."""
    killed = "import os, sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    killed += "db.execute('PRAGMA cache_size=1')\ndb.execute('BEGIN')\n"
    killed += "db.execute('UPDATE params SET value = 1')\n"
    killed += "db.execute('CREATE TABLE big AS SELECT randomblob(100000) FROM runs')\nos._exit(1)"
    subprocess.run([sys.executable, "-c", killed, str(made)], check=False)
    before = made.read_bytes()
    assert "was left in the middle of a write" in refused(str(made), tmp_path)
    assert made.read_bytes() == before


@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_a_truncated_database_is_refused(keep: float, made: Path, tmp_path: Path) -> None:
    data = made.read_bytes()
    made.write_bytes(data[: int(len(data) * keep)])
    assert "is a damaged SQLite database" in refused(str(made), tmp_path)


def test_a_database_with_a_broken_page_is_refused(made: Path, tmp_path: Path) -> None:
    data = bytearray(made.read_bytes())
    ((root,),) = rows(made, "SELECT rootpage FROM sqlite_master WHERE name = 'params'")
    size = int.from_bytes(data[16:18], "big")
    data[(int(str(root)) - 1) * size :][:8] = b""
    start = (int(str(root)) - 1) * size
    data[start : start + size] = b"\xff" * size
    made.write_bytes(bytes(data[: len(data) // size * size]))
    assert "is a damaged SQLite database" in refused(str(made), tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_database_without_permission_is_refused(made: Path, tmp_path: Path) -> None:
    made.chmod(0)
    assert "can't be read" in refused(str(made), tmp_path)


def test_the_source_is_not_the_target(made: Path, tmp_path: Path) -> None:
    before = made.read_bytes()
    link = tmp_path / "link.db"
    link.symlink_to(made)
    for to in (f"sqlite:///{made}", str(made), f"sqlite:///{link}"):
        with pytest.raises(OptionError, match="is the source itself"):
            pipeline.convert([str(made)], to, ONE_WORKER)
    assert made.read_bytes() == before


@pytest.mark.parametrize(
    "uri",
    ["postgresql://ana:s3cr3t@127.0.0.1:1/mlflow", "mysql://ana:s3cr3t@127.0.0.1:1/mlflow"],
)
def test_a_server_that_is_not_there_is_refused_without_the_password(
    uri: str, tmp_path: Path
) -> None:
    message = refused(uri, tmp_path)
    assert "can't be reached" in message
    assert "s3cr3t" not in message


# --------------------------------------------------------------------------- the command line


@pytest.fixture
def beside(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with MLflow's default database in it."""
    monkeypatch.chdir(made.parent)
    yield made


@pytest.mark.parametrize("mlruns", ["none", "of the database"])
def test_scan_finds_the_database_beside_no_file_store(mlruns: str, beside: Path) -> None:
    if mlruns == "none":
        shutil.rmtree(beside.parent / "mlruns")
    result = CliRunner().invoke(main, ["scan"])
    assert result.exit_code == 1
    assert "mlflow-migrate scan mlflow.db" in result.stderr


def test_the_next_command_of_scan_is_one_that_works(beside: Path) -> None:
    result = CliRunner().invoke(main, ["scan", "mlflow.db"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    command = lines[lines.index("Plan:") + 1].strip().removeprefix("mlflow-migrate ").split()
    assert CliRunner().invoke(main, [*command, "--schema", "3.9"]).exit_code == 0
    assert rows(beside.parent / "migrated.db", "SELECT COUNT(*) FROM runs") == [(82,)]
    assert "files" not in result.stdout.splitlines()[0]


def test_show_and_export_take_a_database(beside: Path) -> None:
    ((run_id,),) = rows(beside, "SELECT run_uuid FROM runs WHERE experiment_id = 3 AND "
                        "run_uuid NOT IN (SELECT run_uuid FROM tags WHERE key = "
                        "'mlflow.parentRunId')")  # fmt: skip
    shown = CliRunner().invoke(main, ["show", str(run_id), "mlflow.db"])
    assert shown.exit_code == 0 and f"tr-{run_id}" in shown.stdout
    sent = CliRunner().invoke(main, ["export", "mlflow.db", "--otlp", "traces.jsonl"])
    assert sent.exit_code == 0 and "Sent 33 traces" in sent.stdout


def test_columns_of_the_newest_schema_become_tags_and_metadata(tmp_path: Path) -> None:
    """What a newer release keeps in columns is a tag or metadata for an older one."""
    source = fixturekit.database(NEW, tmp_path / "source")
    execute(
        source,
        "ALTER TABLE trace_info ADD COLUMN trace_name TEXT",
        "ALTER TABLE trace_info ADD COLUMN session_id TEXT",
        "ALTER TABLE trace_info ADD COLUMN input_tokens BIGINT",
        "UPDATE trace_info SET trace_name = 'by column', session_id = 's-1', input_tokens = 12",
        "DELETE FROM trace_tags WHERE key = 'mlflow.traceName'",
        "DELETE FROM trace_request_metadata WHERE key IN ('mlflow.trace.session', "
        "'mlflow.trace.tokenUsage')",
    )
    target = tmp_path / "new.db"
    converted(source, target)
    native = "request_id IN (SELECT request_id FROM trace_request_metadata WHERE key = "
    native += "'mlflow.trace.session' AND value = 's-1')"
    names = rows(
        target, f"SELECT value FROM trace_tags WHERE key = 'mlflow.traceName' AND {native}"
    )
    assert names == [("by column",)] * 4
    usage = rows(
        target,
        "SELECT DISTINCT json_extract(value, '$.input_tokens') FROM trace_request_metadata "
        f"WHERE key = 'mlflow.trace.tokenUsage' AND {native}",
    )
    assert usage == [(12,)]
