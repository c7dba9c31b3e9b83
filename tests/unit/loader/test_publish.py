"""The target is whole or untouched: publishing, merging, and every way of being interrupted."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import TargetError
from migrator.issues import Code, Kind
from migrator.loader import Writer, open_target, schema, upgrade_database
from migrator.loader.sqlite import audit, merge, newer_columns, staging
from migrator.model import InputRecord, MetricPoint
from tests.support.loaderkit import (
    T0,
    codes,
    copy_template,
    dataset,
    execute,
    experiment,
    fill,
    hex_id,
    load,
    names_beside,
    query,
    run,
    tables,
    trace,
)

NEWER = schema.chain()[-1] != schema.MLFLOW_39
SCHEMAS = ["3.9", "latest"] if NEWER else ["3.9"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mlflow.db"


# ------------------------------------------------------------------------------- new target


def test_the_target_appears_only_when_it_is_published(path: Path) -> None:
    with Writer(open_target(f"sqlite:///{path}", "3.9")) as writer:
        fill(writer)
        writer.finish()
        assert names_beside(path) == [f".mlflow.db.migrating-{os.getpid()}"]
        writer.publish()
        assert names_beside(path) == ["mlflow.db"]
    assert names_beside(path) == ["mlflow.db"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(path: Path, error: type[BaseException]) -> None:
    with (
        pytest.raises(error),
        Writer(open_target(f"sqlite:///{path}", "3.9")) as writer,
    ):
        fill(writer)
        writer._rows.flush()
        raise error
    assert names_beside(path) == []


def test_a_file_that_appears_meanwhile_is_not_overwritten(path: Path) -> None:
    with Writer(open_target(f"sqlite:///{path}", "3.9")) as writer:
        fill(writer)
        writer.finish()
        path.write_bytes(b"mine")
        with pytest.raises(TargetError, match="appeared while"):
            writer.publish()
    assert path.read_bytes() == b"mine"
    assert names_beside(path) == ["mlflow.db"]


def test_a_file_system_without_hard_links_will_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    load(path)
    assert len(query(path, "SELECT * FROM runs")) == 2
    assert names_beside(path) == ["mlflow.db"]


def test_a_link_to_a_target_is_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    path.symlink_to(tmp_path / "disk" / "real.db")
    load(path)
    assert path.is_symlink()
    assert len(query(path, "SELECT * FROM runs")) == 2
    assert names_beside(tmp_path / "disk" / "real.db") == ["real.db"]


# --------------------------------------------------------------------------- existing target


@pytest.mark.parametrize("version", SCHEMAS)
def test_converting_again_adds_nothing_and_leaves_the_file_byte_for_byte(
    path: Path, version: str
) -> None:
    first = load(path, schema=version)
    before = path.read_bytes()
    again = load(path, schema=version)
    assert path.read_bytes() == before
    assert again.converted == again.rebuilt == {}
    assert again.already_there == first.converted
    assert again.rebuilt_already_there == first.rebuilt
    assert again.issues == []
    assert again.backup_path is None
    assert names_beside(path) == ["mlflow.db"]


@pytest.mark.parametrize("version", SCHEMAS)
def test_what_is_missing_is_added_to_a_database_that_has_half_of_it(
    path: Path, tmp_path: Path, version: str
) -> None:
    whole = tmp_path / "whole.db"
    first = load(whole, schema=version)
    load(path, schema=version)
    execute(
        path,
        "DELETE FROM metrics WHERE step = 1",
        "DELETE FROM latest_metrics WHERE key = 'loss'",
        "DELETE FROM params WHERE key = 'lr'",
        f"DELETE FROM assessments WHERE trace_id = '{trace('native').trace_id}'",
        f"DELETE FROM spans WHERE trace_id = '{trace('native').trace_id}'",
        *(
            f"DELETE FROM {table} WHERE request_id = '{trace('native').trace_id}'"
            for table in ("trace_tags", "trace_request_metadata", "trace_metrics", "trace_info")
        ),
        "DELETE FROM model_versions WHERE version = 2",
        "DELETE FROM migrator_seen",  # otherwise people would have deleted it
    )
    again = load(path, schema=version)
    assert again.converted == {
        Kind.PARAM: 1,
        Kind.METRIC_POINT: 1,
        Kind.MODEL_VERSION: 1,
        Kind.TRACE: 1,
        Kind.TRACE_TAG: 3,
        Kind.TRACE_METADATA: 6,
        Kind.SPAN: 4,
        Kind.ASSESSMENT: 1,
    }
    assert again.rebuilt == {}
    for kind, n in first.converted.items():
        assert again.converted.get(kind, 0) + again.already_there.get(kind, 0) == n, kind
    assert tables(path) == tables(whole)


def test_a_database_in_use_keeps_what_it_has_and_gets_the_rest(path: Path) -> None:
    def others(writer: Writer) -> None:
        writer.add_experiment(experiment(0, "Default"))
        writer.add_experiment(experiment(7, "others"))
        writer.add_run(run("other", experiment_id="7"), 7)
        writer.add_trace(trace("other"), 7)

    load(path, others)
    before = tables(path)
    result = load(path)
    after = tables(path)
    for table, rows in before.items():
        assert all(row in after[table] for row in rows), table
    assert result.already_there == {Kind.EXPERIMENT: 1}
    assert result.converted[Kind.RUN] == 2
    assert result.issues == []
    assert len(after["runs"]) == 3


def test_a_backup_of_the_state_before_lies_beside_the_target(path: Path) -> None:
    load(path, lambda w: w.add_experiment(experiment(7, "others")))
    before = tables(path)
    first = load(path)
    assert first.backup_path == f"{path}.backup-{schema.MLFLOW_39}-1"
    assert tables(Path(first.backup_path)) == before
    middle = tables(path)
    second = load(path, lambda w: w.add_experiment(experiment(8, "more")))
    assert second.backup_path == f"{path}.backup-{schema.MLFLOW_39}-2"
    assert tables(Path(second.backup_path)) == middle
    third = load(path, lambda w: w.add_experiment(experiment(9, "third")), backup=False)
    assert third.backup_path is None
    assert len(names_beside(path)) == 3


def test_rows_with_other_values_stay_as_the_target_has_them_and_are_reported(path: Path) -> None:
    load(path)
    execute(
        path,
        "UPDATE tags SET value = 'mine' WHERE key = 'note'",
        "UPDATE runs SET status = 'KILLED', end_time = 1 WHERE name = 'child'",
        "UPDATE spans SET name = 'renamed' WHERE name = 'call'",
    )
    result = load(path)
    assert [(i.code, i.kind) for i in result.issues] == [(Code.TARGET_DIFFERS, Kind.SPAN)], (
        "people changed the others"
    )
    execute(path, "DROP TABLE migrator_seen")  # of an older version
    result = load(path)
    assert {(i.code, i.kind, i.count) for i in result.issues} == {
        (Code.TARGET_DIFFERS, Kind.TAG, 2),
        (Code.TARGET_DIFFERS, Kind.RUN, 1),
        (Code.TARGET_DIFFERS, Kind.SPAN, 2),
    }
    [of_run] = [i for i in result.issues if i.kind == Kind.RUN]
    assert hex_id("child") in of_run.message
    before = path.read_bytes()
    assert load(path).unchanged and path.read_bytes() == before


def test_an_experiment_that_joins_one_of_the_target_is_not_compared(path: Path) -> None:
    load(path, lambda w: w.add_experiment(experiment(1, "agents", tags={"a": "theirs"})))

    def joining(writer: Writer) -> None:
        plan = experiment(1, "agents", tags={"a": "ours", "b": "2"}, merged=True)
        writer.add_experiment(dataclasses.replace(plan, artifact_location="/elsewhere"))
        writer.set_experiment_tag(1, "a2", "3")
        writer.add_run(run(), 1)

    result = load(path, joining)
    assert [(i.code, i.kind) for i in result.issues] == [(Code.TARGET_DIFFERS, Kind.EXPERIMENT_TAG)]
    assert query(path, "SELECT artifact_location FROM experiments") == [("/store/1",)]
    assert query(path, "SELECT key, value FROM experiment_tags ORDER BY 1") == [
        ("a", "theirs"),
        ("a2", "3"),
        ("b", "2"),
    ]
    assert result.already_there == {Kind.EXPERIMENT: 1, Kind.EXPERIMENT_TAG: 1}


def test_an_experiment_name_that_another_id_has_is_refused_before_any_change(path: Path) -> None:
    load(path, lambda w: w.add_experiment(experiment(7, "agents")))
    before = path.read_bytes()
    with pytest.raises(TargetError, match="'agents' of its own \\(id 7"):
        load(path)
    assert path.read_bytes() == before
    assert names_beside(path) == ["mlflow.db"]


def test_latest_metrics_are_right_after_older_and_newer_points_are_merged(path: Path) -> None:
    def points(**metrics: tuple[tuple[int, float, int], ...]) -> Any:
        def fill(writer: Writer) -> None:
            writer.add_experiment(experiment())
            keys = {k: tuple(MetricPoint(*p) for p in v) for k, v in metrics.items()}
            writer.add_run(run(metrics=keys, status="RUNNING"), 1)

        return fill

    load(path, points(a=((T0, 1.0, 5),), b=((T0, 1.0, 5),)))
    result = load(path, points(a=((T0, 9.0, 4),), b=((T0, 2.0, 6), (T0, 1.0, 5)), c=((1, 1.0, 1),)))
    assert result.converted == {Kind.METRIC_POINT: 3}
    assert query(path, "SELECT key, value, step FROM latest_metrics ORDER BY key") == [
        ("a", 1.0, 5),
        ("b", 2.0, 6),
        ("c", 1.0, 1),
    ]


def test_datasets_and_inputs_keep_the_targets_own_ids(path: Path) -> None:
    def using(name: str) -> Any:
        def fill(writer: Writer) -> None:
            writer.add_experiment(experiment())
            writer.add_dataset(dataset(), 1)
            for each in {"run", name}:
                source = InputRecord("DATASET", "d" * 32, {"context": "a", each: "b"})
                writer.add_run(run(each, inputs=(source,), metrics={}), 1)

        return fill

    load(path, using("run"))
    execute(
        path,
        "UPDATE datasets SET dataset_uuid = 'theirs'",
        "UPDATE inputs SET source_id = 'theirs', input_uuid = 'their input'",
        "UPDATE input_tags SET input_uuid = 'their input'",
    )
    result = load(path, using("second"))
    assert result.issues == []
    assert query(path, "SELECT dataset_uuid FROM datasets") == [("theirs",)]
    assert query(path, "SELECT DISTINCT source_id FROM inputs") == [("theirs",)]
    assert query(path, "SELECT count(*) FROM inputs") == [(2,)]
    assert query(
        path, "SELECT name FROM input_tags WHERE input_uuid = 'their input' ORDER BY 1"
    ) == [("context",), ("run",)]


def test_a_target_that_writes_ahead_is_merged_into_as_well(path: Path) -> None:
    load(path, lambda w: w.add_experiment(experiment(7, "others")))
    execute(path, "PRAGMA journal_mode=WAL")
    result = load(path)
    assert result.converted[Kind.RUN] == 2
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    assert query(path, "SELECT count(*) FROM runs") == [(2,)]
    assert load(path).converted == {}


def test_a_target_locked_for_too_long_is_refused_and_unchanged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "_WAIT_MS", 100)
    load(path, lambda w: w.add_experiment(experiment(7, "others")))
    before = path.read_bytes()
    with Writer(open_target(f"sqlite:///{path}", "3.9")) as writer:
        fill(writer)
        writer.finish()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(TargetError, match="locked"):
                writer.publish()
            other.execute("ROLLBACK")
    assert path.read_bytes() == before
    assert names_beside(path) == ["mlflow.db"]


def test_a_target_upgraded_meanwhile_is_left_alone(path: Path) -> None:
    load(path, lambda w: w.add_experiment(experiment(7, "others")))
    with Writer(open_target(f"sqlite:///{path}", "3.9")) as writer:
        fill(writer)
        writer.finish()
        execute(path, "UPDATE alembic_version SET version_num = 'f'")
        with pytest.raises(TargetError, match="upgraded while"):
            writer.publish()


def test_a_failure_amid_the_merge_rolls_back_and_takes_the_backup_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(path, lambda w: w.add_experiment(experiment(7, "others")))
    before = path.read_bytes()

    def fail(_: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(merge, "_update_latest", fail)
    with pytest.raises(KeyboardInterrupt):
        load(path)
    assert tables(path)["experiments"][0]["name"] == "others"
    assert path.read_bytes() == before
    assert names_beside(path) == ["mlflow.db"]


# ---------------------------------------------------------------------------------- kill -9

KILLED = """
    import os, signal, sys
    from unittest.mock import patch
    from migrator import empty_database
    from migrator.loader import schema, writer
    from migrator.loader.sqlite import audit, merge, staging
    from tests.support import loaderkit as samples

    def die(*_a, **_k):
        os.kill(os.getpid(), signal.SIGKILL)

    def then_die(function):
        def wrapped(*a, **k):
            function(*a, **k)
            die()
        return wrapped

    import shutil
    samples.copy_template = empty_database.create = lambda path, _: (
        shutil.copyfile(sys.argv[3], path)
    )
    samples._template = lambda: sys.argv[3]
    where = sys.argv[2]
    place, name, when = where.split(" ")
    holder = {"os": os, "audit": audit, "merge": merge, "staging": staging,
              "schema": schema, "Writer": writer.Writer, "RowBuffer": writer.RowBuffer}[place]
    original = getattr(holder, name)
    setattr(holder, name, die if when == "before" else then_die(original))
    samples.load(samples.Path(sys.argv[1]))
    print("not killed")
"""


def kill_at(path: Path, where: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path), where, str(_template(path))],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent.parent.parent,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def _template(path: Path) -> Path:
    template = path.with_name("template")
    if not template.exists():
        copy_template(str(template))
    return template


@pytest.mark.parametrize(
    "where",
    [
        "Writer _ready after",
        "RowBuffer flush after",
        "audit drop_orphans before",
        "audit check before",
        "Writer finish after",
        "staging sync before",
        "os link before",
    ],
)
def test_kill_9_before_a_new_target_is_published_leaves_none(path: Path, where: str) -> None:
    kill_at(path, where)
    assert not path.exists()
    assert any(".migrating-" in name for name in names_beside(path)), "was killed amid the work"
    load(path)
    assert names_beside(path) == ["mlflow.db", "template"]
    whole = path.with_name("whole.db")
    load(whole)
    assert tables(path) == tables(whole)


def test_kill_9_after_a_new_target_is_published_leaves_it_whole(path: Path) -> None:
    kill_at(path, "os link after")
    whole = path.with_name("whole.db")
    load(whole)
    assert tables(path) == tables(whole)
    assert load(path).converted == {}
    assert names_beside(path) == ["mlflow.db", "template", "whole.db"]


@pytest.mark.parametrize(
    "where",
    [
        "merge _adopt_ids after",
        "staging sync before",  # of the backup
        "merge back_up after",
        "merge _insert after",
        "merge _update_latest after",
    ],
)
def test_kill_9_amid_a_merge_leaves_the_target_as_it_was(path: Path, where: str) -> None:
    load(path, lambda w: w.add_experiment(experiment(7, "others")))
    before = tables(path)
    kill_at(path, where)
    assert tables(path) == before
    result = load(path)
    assert result.converted[Kind.RUN] == 2
    assert not [name for name in names_beside(path) if ".migrating-" in name]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_another_runs_staging_file_is_not_swept_away(path: Path) -> None:
    with Writer(open_target(f"sqlite:///{path}", "3.9")) as first:
        fill(first)
        first.finish()
        load(path)  # another conversion, which sweeps and wins
        with pytest.raises(TargetError, match="appeared while"):
            first.publish()
    assert len(query(path, "SELECT * FROM runs")) == 2
    assert names_beside(path) == ["mlflow.db"]


def test_files_of_other_names_are_never_swept_away(path: Path) -> None:
    others = [".mlflow.db.migrating-", ".mlflow.db.migrating-1.bak", ".other.db.migrating-1"]
    for name in others:
        path.with_name(name).touch()
    path.with_name(".mlflow.db.migrating-123").touch()
    path.with_name(".mlflow.db.migrating-123-journal").touch()
    staging.sweep(str(path))
    assert names_beside(path) == sorted(others)


# ------------------------------------------------------------------------------- full disk


def big(writer: Writer) -> None:
    writer.add_experiment(experiment())
    for i in range(30):
        writer.add_run(run(f"r{i}", params={"p": "x" * 100_000}), 1)


LIMITED = """
    import resource, sys
    from migrator.errors import TargetError
    from tests.support import loaderkit as samples
    from tests.unit.loader.test_publish import big
    samples._template = lambda: sys.argv[2]
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
    try:
        samples.load(samples.Path(sys.argv[1]), big)
    except TargetError as error:
        print(error)
"""


def test_a_file_that_may_not_grow_is_reported_and_nothing_is_left(path: Path) -> None:
    template = _template(path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(path), str(template)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent.parent.parent,
        timeout=60,
    )
    assert "could not be written" in done.stdout, done.stderr
    assert "nothing was changed" in done.stdout
    assert names_beside(path) == ["template"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 4 MB: an empty database fits, its journal too."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no small file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_reported_and_nothing_is_left(small_disk: Path) -> None:
    with pytest.raises(TargetError, match="disk is full") as caught:
        load(small_disk / "mlflow.db", big)
    assert "Make room" in str(caught.value)
    assert names_beside(small_disk / "mlflow.db") == []


def test_a_full_disk_amid_a_merge_leaves_the_target_as_it_was(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = small_disk / "mlflow.db"
    load(path, lambda w: w.add_experiment(experiment(7, "others")))
    before = path.read_bytes()
    # The staging file on another disk, so that it is the merge that finds no room.
    claim = staging.StagingFile._claim

    def elsewhere(self: staging.StagingFile) -> tuple[int, str]:
        self._target = tmp_path / self._target.name
        return claim(self)

    monkeypatch.setattr(staging.StagingFile, "_claim", elsewhere)
    with pytest.raises(TargetError, match="disk is full"):
        load(path, big, backup=False)
    assert tables(path)["experiments"][0]["name"] == "others"
    assert path.read_bytes() == before


# -------------------------------------------------------------------------------- upgrading


def test_upgrading_what_is_at_the_newest_schema_changes_nothing(path: Path) -> None:
    load(path, schema="latest")
    before = path.read_bytes()
    result = upgrade_database(f"sqlite:///{path}")
    assert result.from_revision == result.to_revision == schema.chain()[-1]
    assert result.backup_path is None
    assert path.read_bytes() == before
    assert names_beside(path) == ["mlflow.db"]


@pytest.mark.skipif(not NEWER, reason="needs MLflow 3.10 or newer")
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_upgrading_gives_what_converting_to_the_newest_schema_gives(
    path: Path, tmp_path: Path, journal: str
) -> None:
    load(path, schema="3.9")
    execute(path, f"PRAGMA journal_mode={journal}")
    before = tables(path)
    direct = tmp_path / "direct.db"
    load(direct, schema="latest")
    result = upgrade_database(f"sqlite:///{path}")
    assert result.from_revision == schema.MLFLOW_39
    assert result.spans_filled == 2
    assert tables(path) == tables(direct)
    assert result.backup_path == f"{path}.backup-{schema.MLFLOW_39}-1"
    assert tables(Path(result.backup_path)) == before
    assert query(path, "PRAGMA journal_mode") == [(journal,)]
    assert upgrade_database(f"sqlite:///{path}").backup_path is None


@pytest.mark.skipif(not NEWER, reason="needs MLflow 3.10 or newer")
def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(path, schema="3.9")
    execute(path, "DELETE FROM trace_info")  # MLflow 3.17's migration aborts on orphaned spans
    before = path.read_bytes()
    with pytest.raises(TargetError, match="MLflow's own upgrade"):
        upgrade_database(f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert names_beside(path) == ["mlflow.db"]


def test_upgrading_what_is_not_there_or_no_database_is_refused(path: Path) -> None:
    with pytest.raises(TargetError, match="no database"):
        upgrade_database(f"sqlite:///{path}")
    path.write_text("text" * 100)
    with pytest.raises(TargetError, match="not a SQLite database"):
        upgrade_database(f"sqlite:///{path}")


def test_no_check_is_skipped_when_it_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dangling reference that slipped through stops the publishing."""

    def nothing(_: sqlite3.Connection) -> Any:
        return {}, []

    def orphan(writer: Writer) -> None:
        writer.add_run(run(), 99)

    monkeypatch.setattr(audit, "drop_orphans", nothing)
    with pytest.raises(Exception, match="refers to a row of experiments"):
        load(path, orphan)
    assert names_beside(path) == []


def test_every_issue_of_a_merge_has_a_stable_code(path: Path) -> None:
    load(path)
    execute(path, "UPDATE tags SET value = 'mine'", "DELETE FROM migrator_seen")
    assert codes(load(path).issues) == ["target-differs"]


@pytest.mark.skipif(not NEWER, reason="needs MLflow 3.10 or newer")
def test_what_is_filled_at_the_schema_of_310_is_carried_on_by_mlflows_own_migration(
    path: Path,
) -> None:
    """MLflow 3.10 keeps a span's model and cost in other places than 3.17, which moves them."""
    load(path, schema="3.9")
    schema.upgrade(str(path), "1b5f0d9ad7c1")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert newer_columns.finish(db) == 2
        assert newer_columns.finish(db) == 0
    assert query(path, "SELECT key, value FROM span_metrics ORDER BY trace_id, key LIMIT 3") == [
        ("input_cost", 0.01),
        ("output_cost", 0.02),
        ("total_cost", 0.03),
    ]
    schema.upgrade(str(path), schema.chain()[-1])
    columns = "model_name, model_provider, input_cost, output_cost, total_cost"
    row = ("gpt-4o", "openai", 0.01, 0.02, 0.03)
    assert query(path, f"SELECT {columns} FROM spans WHERE name = 'call'") == [row, row]
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert newer_columns.finish(db) == 0


def test_odd_facts_in_a_spans_content_stop_nothing() -> None:
    attributes = {
        "mlflow.llm.model": "not json",
        "mlflow.llm.provider": "5",
        "mlflow.llm.cost": '{"input_cost": NaN, "output_cost": "x", "total_cost": true}',
    }
    assert newer_columns._llm_facts("{") == (None, None, (None, None, None))
    assert newer_columns._llm_facts("[]") == (None, None, (None, None, None))
    odd = newer_columns._llm_facts(json.dumps({"attributes": attributes}))
    assert odd == (None, None, [None, None, None])
    long = newer_columns._llm_facts(
        json.dumps({"attributes": {"mlflow.llm.model": '"' + "m" * 900 + '"'}})
    )
    assert long == ("m" * 500, None, [None, None, None])
