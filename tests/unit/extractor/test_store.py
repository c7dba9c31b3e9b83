"""Finding a store from what a user types, and the index of what lies in it."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import urllib.parse
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import SourceError
from migrator.extractor.filestore import FileStoreSource
from migrator.extractor.filestore.index import index_store
from migrator.extractor.filestore.layout import find_artifact_roots
from migrator.extractor.filestore.opening import open_store
from migrator.issues import Code
from migrator.model import RunRecord, SourceIndex
from tests.support import fixturekit
from tests.support.ledgerkit import assert_census, assert_closed, read_all
from tests.support.storekit import (
    experiment_dir,
    write_dataset,
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
    write_trace,
    write_values,
)

RUN = "a" * 32
RUN2 = "b" * 32
MODEL = "m-" + "c" * 32
TRACE = "tr-" + "d" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with one of everything, in a directory named mlruns."""
    root = tmp_path / "project" / "mlruns"
    write_experiment(root, "0", "Default")
    write_experiment(root, "7", "agents", tags={"team": "a"})
    write_run(root, "7", RUN, params={"a/b": "1"}, artifacts={"x/metrics/meta.yaml": "no: store"})
    write_run(root, "7", RUN2, parent=RUN, metrics={"m": [(1_700_000_000_000, 0.5, 0)]})
    write_dataset(root, "7", "train", "d1", runs=[RUN])
    write_logged_model(root, "7", MODEL, source_run_id=RUN, output_step=2)
    write_registered_model(root, "prompt", aliases={"best": 1}, tags={"t": "1"})
    write_trace(root, "7", TRACE, source_run_id=RUN)
    write_experiment(root, "8", "gone", deleted=True)
    write_run(root, "8", "e" * 32)
    return root


def closed(root: Path) -> SourceIndex:
    """Index a store, read all of it, and assert both sums."""
    index = index_store(str(root))
    results = list(read_all(index))
    for result in results:
        assert_closed(result)
    assert_census(index, results)
    assert index.files == sum(len(files) for _, _, files in os.walk(root))
    return index


def codes(index: SourceIndex) -> set[Code]:
    return {issue.code for issue in index.issues}


# ------------------------------------------------------------------------- open_source


def test_a_store_its_parent_and_its_uris_all_open_the_same_store(root: Path) -> None:
    expected = str(root)
    for location in (
        str(root),
        str(root) + "/",
        str(root.parent),
        f"file://{root}",
        f"file:{root}",
        f"file://localhost{root}",
        root.as_uri(),
        root.parent.as_uri(),
    ):
        assert open_store(location) == expected, location


def test_a_relative_path_and_a_relative_uri_are_resolved(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    for location in ("mlruns", "./mlruns", ".", "file:mlruns", "file:./mlruns", "file://mlruns"):
        assert open_store(location) == str(root), location


@pytest.mark.parametrize("name", ["with space", "50% off", "ünï#1", "a?b", "a%20b"])
def test_percent_escapes_and_raw_characters_in_uris(tmp_path: Path, name: str) -> None:
    root = tmp_path / name / "mlruns"
    write_experiment(root, "0", "Default")
    for location in (
        str(root),
        "file://" + urllib.parse.quote(str(root)),
        "file://" + str(root),
    ):
        assert open_store(location) == str(root), location


def test_a_store_that_is_only_a_registry_or_only_trash_is_a_store(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    write_registered_model(registry, "m")
    trash = tmp_path / "trash"
    write_experiment(trash, "3", "gone", deleted=True)
    for store in (registry, trash):
        assert open_store(str(store)) == str(store)
        closed(store)


def test_a_store_without_runs_is_a_store(tmp_path: Path) -> None:
    write_experiment(tmp_path, "0", "Default")
    assert open_store(str(tmp_path)) == str(tmp_path)
    assert closed(tmp_path).runs == ()


def test_a_store_whose_experiment_has_lost_its_meta_is_a_store(tmp_path: Path) -> None:
    write_experiment(tmp_path, "5", "x")
    write_run(tmp_path, "5", RUN, params={"a": "1"})
    (tmp_path / "5" / "meta.yaml").unlink()
    assert open_store(str(tmp_path)) == str(tmp_path)
    assert [run.entity_id for run in closed(tmp_path).runs] == [RUN]


def refusal(location: str | Path) -> SourceError:
    with pytest.raises(SourceError) as caught:
        open_store(str(location))
    assert caught.value.what and caught.value.todo
    return caught.value


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "no").what
    (tmp_path / "file").write_text("x")
    assert "not a directory" in refusal(tmp_path / "file").what
    (tmp_path / "loop").symlink_to("loop")
    assert "leads nowhere" in refusal(tmp_path / "loop").what
    os.mkfifo(tmp_path / "pipe")
    assert "not a directory" in refusal(tmp_path / "pipe").what
    refusal("")
    refusal("a\0b")


@pytest.mark.parametrize(
    "location", ["sqlite:///mlflow.db", "http://localhost:5000", "s3://bucket/x", "databricks"]
)
def test_what_is_not_local_is_refused(location: str) -> None:
    refusal(location)


def test_another_machines_file_uri_is_refused() -> None:
    assert "another machine" in refusal("file://server/share/mlruns").what


def test_an_empty_directory_has_nothing_to_migrate(tmp_path: Path) -> None:
    (tmp_path / "mlruns" / ".trash").mkdir(parents=True)
    assert "nothing to migrate" in refusal(tmp_path / "mlruns").what
    assert "nothing to migrate" in refusal(tmp_path).what


ARTIFACTS_OF = {
    "runs": f"1/{RUN}/artifacts/model/MLmodel",
    "logged models": f"1/models/{MODEL}/artifacts/MLmodel",  # MLflow 3
    "nothing": ".trash",
}


@pytest.mark.parametrize("owner", ARTIFACTS_OF)
@pytest.mark.parametrize("given", [".", "mlruns"])
def test_a_directory_without_runs_leads_to_the_database_that_has_them(
    given: str, owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)  # paths are shown as seen from there
    (folder / "mlruns" / ARTIFACTS_OF[owner]).mkdir(parents=True)
    with closing(sqlite3.connect(folder / "aaa.db")) as other:
        other.execute("CREATE TABLE experiments (x)")
    (folder / "aab.db").write_text("not SQLite")
    os.mkfifo(folder / "pipe.db")
    used = fixturekit.database("2.22.5-database", tmp_path)
    shutil.copy(used, folder / "tracking.sqlite")
    with closing(sqlite3.connect(used)) as unused, unused:
        unused.execute("DELETE FROM runs")
    shutil.copy(used, folder / "mlflow.db")
    before = sorted(folder.iterdir())
    todo = refusal(folder / given).todo
    assert "mlflow-migrate scan tracking.sqlite shows" in todo
    assert "Others there: mlflow.db." in todo and "aaa.db" not in todo
    assert sorted(folder.iterdir()) == before
    shutil.rmtree(folder / "mlruns")
    assert "mlflow-migrate scan tracking.sqlite shows" in refusal(folder / given).todo


def test_directories_of_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photos" / "2023").mkdir(parents=True)
    (tmp_path / "photos" / "2023" / "a.jpg").write_bytes(b"\xff\xd8")
    refusal(tmp_path / "photos")
    write_values(tmp_path / "recipes" / "foo", {"meta.yaml": "package: {name: foo}\n"})
    refusal(tmp_path / "recipes")  # conda's meta.yaml is not MLflow's
    write_values(tmp_path / "repo" / ".git" / "refs" / "tags", {"v1": "abc"})
    write_values(tmp_path / "repo" / "src", {"main.py": ""})
    refusal(tmp_path / "repo")


def test_a_servers_artifact_directory_is_refused_as_such(tmp_path: Path) -> None:
    write_values(tmp_path / "7" / RUN / "artifacts", {"a.txt": "x"})
    assert "artifact directory" in refusal(tmp_path).what


def test_a_part_of_a_store_names_the_store(root: Path) -> None:
    for part in (root / "7", root / ".trash", root / "models"):
        assert str(root) in refusal(part).todo
    assert str(root) in refusal(root / "7" / RUN).todo


def test_several_stores_below_are_listed(tmp_path: Path) -> None:
    for day in ("01", "02"):
        write_experiment(tmp_path / "outputs" / day / "mlruns", "0", "Default")
    todo = refusal(tmp_path).todo
    assert str(tmp_path / "outputs/01/mlruns") in todo
    assert str(tmp_path / "outputs/02/mlruns") in todo


def test_a_directory_without_permission_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, root.parent)
    error = refusal(root.parent)
    assert "Permission denied" in error.what and "permission" in error.todo


def refuse(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Make the operating system refuse to list or open paths (tests may run as root)."""
    denied = {str(path) for path in paths}
    real_scandir, real_open = os.scandir, os.open

    def scandir(path: Any) -> Any:
        if str(path) in denied:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_scandir(path)

    def open_(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path) in denied:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "open", open_)


# ------------------------------------------------------------------------------- index


def test_every_kind_of_entity_is_found_where_it_lies(root: Path) -> None:
    index = closed(root)
    assert [e.entity_id for e in index.experiments] == ["8", "0", "7"]  # by path: .trash first
    assert [e.in_trash for e in index.experiments] == [True, False, False]
    assert [(r.entity_id, r.parent_run_id) for r in index.runs] == [
        ("e" * 32, None),
        (RUN, None),
        (RUN2, RUN),
    ]
    assert {r.experiment_id for r in index.runs} == {"7", "8"}
    assert len(index.datasets) == 1
    assert [(t.entity_id, t.source_run_id) for t in index.traces] == [(TRACE, RUN)]
    assert [m.entity_id for m in index.logged_models] == [MODEL]
    assert [m.entity_id for m in index.registered_models] == ["prompt"]
    assert index.issues == () and index.ignored_files == 0
    assert index.size_bytes == sum(f.stat().st_size for f in root.rglob("*") if f.is_file())


def test_progress_counts_files_upwards(root: Path) -> None:
    seen: list[int] = []
    index = index_store(str(root), seen.append)
    assert seen == sorted(seen) and seen[-1] <= index.files and len(seen) > 3


def test_artifacts_that_look_like_store_files_are_artifacts(root: Path) -> None:
    write_run(root, "7", "f" * 32, artifacts={"7/meta.yaml": "x", "params/a": "1", "tags/b": "2"})
    assert len(closed(root).runs) == 4


def test_strays_are_named_and_counted(root: Path) -> None:
    write_values(root, {"README.md": "hello", ".DS_Store": b"\0"})
    write_values(root / ".git" / "refs" / "tags", {"v1": "abc"})
    write_values(root / "notes", {"a.txt": "1", "b.txt": "2"})
    write_values(root / "7", {"todo.txt": "x", ".ipynb_checkpoints/x": "1"})
    write_values(root / "7" / "traces", {"stray": "x"})
    write_values(root / "models", {"stray": "x"})
    index = closed(root)
    assert index.ignored_files == 9
    assert codes(index) == {Code.FILE_IGNORED, Code.DIRECTORY_IGNORED}
    assert len(index.runs) == 3 and len(index.experiments) == 3
    named = {issue.path for issue in index.issues}
    assert str(root) in named and str(root / ".git") in named and str(root / "notes") in named


def test_an_experiment_without_meta_is_found_by_its_runs(root: Path) -> None:
    (root / "7" / "meta.yaml").unlink()
    assert "7" in {e.entity_id for e in closed(root).experiments}


def test_experiments_in_a_users_folder_are_found_and_named(root: Path) -> None:
    write_experiment(root / "old" / "2022", "12", "archive")
    write_run(root / "old" / "2022", "12", "9" * 32)
    index = closed(root)
    assert "12" in {e.entity_id for e in index.experiments}
    assert "9" * 32 in {r.entity_id for r in index.runs}
    assert Code.EXPERIMENT_IN_FOLDER in codes(index)


def test_runs_in_a_users_folder_inside_an_experiment_are_found(root: Path) -> None:
    moved = root / "7" / "archive" / ("9" * 32)
    write_run(root, "7", "9" * 32)
    moved.parent.mkdir()
    (root / "7" / ("9" * 32)).rename(moved)
    index = closed(root)
    assert "9" * 32 in {r.entity_id for r in index.runs}
    assert Code.EXPERIMENT_IN_FOLDER in codes(index)


def test_a_run_beside_the_experiments_is_one_of_the_experiment_it_names(root: Path) -> None:
    write_run(root, "7", "9" * 32, params={"a": "1"})
    (root / "7" / ("9" * 32)).rename(root / ("9" * 32))
    index = closed(root)
    assert Code.RUN_OUTSIDE_EXPERIMENT in codes(index)
    assert ("9" * 32, "7") in {(run.entity_id, run.experiment_id) for run in index.runs}


def test_a_run_whose_experiment_is_gone_is_rejected_by_name(root: Path) -> None:
    write_run(root, "7", "9" * 32, params={"a": "1"})
    shutil.move(root / "7" / ("9" * 32), root / ("9" * 32))
    meta = root / ("9" * 32) / "meta.yaml"
    meta.write_text(meta.read_text().replace("'7'", "'77'"))
    index = closed(root)
    assert Code.RUN_WITHOUT_EXPERIMENT in codes(index)
    assert "9" * 32 not in {run.entity_id for run in index.runs}


def test_one_id_may_be_active_and_deleted(root: Path) -> None:
    write_experiment(root, "8", "again")
    assert [e.entity_id for e in closed(root).experiments].count("8") == 2


def test_experiments_that_are_no_numbers_are_experiments(root: Path) -> None:
    write_experiment(root, "0_production", "hand-written")
    write_run(root, "0_production", "2fc6fe2a", params={"a": "1"})
    index = closed(root)
    assert ("2fc6fe2a", "0_production") in {(r.entity_id, r.experiment_id) for r in index.runs}


def test_a_parent_tag_with_a_line_end_still_names_its_parent(root: Path) -> None:
    tag = root / "7" / RUN2 / "tags" / "mlflow.parentRunId"
    tag.write_bytes(RUN.encode() + b"\r\n")
    index = closed(root)
    assert [r.parent_run_id for r in index.runs if r.entity_id == RUN2] == [RUN]


def test_folders_dropped_by_git_do_not_hide_runs(root: Path) -> None:
    bare = write_run(root, "7", "9" * 32)
    for folder in ("params", "metrics", "artifacts"):
        (bare / folder).rmdir()
    only_meta = write_run(root, "7", "8" * 32)
    for tag in (only_meta / "tags").iterdir():
        tag.unlink()
    for folder in ("params", "metrics", "artifacts", "tags"):
        (only_meta / folder).rmdir()
    assert {"9" * 32, "8" * 32} <= {r.entity_id for r in closed(root).runs}


def test_an_unreadable_experiment_is_named_and_the_rest_is_found(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, root / "7")
    index = index_store(str(root))
    assert Code.DIRECTORY_UNREADABLE in codes(index)
    assert "7" in {e.entity_id for e in index.experiments}
    assert "e" * 32 in {r.entity_id for r in index.runs}
    for result in read_all(index):
        assert_closed(result)


def test_an_unreadable_run_is_rejected_by_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, root / "7" / RUN)
    index = index_store(str(root))
    (entry,) = [r for r in index.runs if r.entity_id == RUN]
    result = FileStoreSource(str(root)).read_run(entry, lambda path: True)
    assert_closed(result)
    assert result.record is None
    assert {Code.DIRECTORY_UNREADABLE, Code.NOTHING_READABLE} <= {i.code for i in result.issues}


# ------------------------------------------------------------------------------- links


def test_links_out_of_the_store_are_not_followed(root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write_experiment(secret, "99", "outside")
    write_run(secret, "99", "9" * 32)
    (root / "99").symlink_to(secret / "99")
    (root / "7" / ("9" * 32)).symlink_to(secret / "99" / ("9" * 32))
    (root / "7" / RUN / "params" / "stolen").symlink_to(secret / "99" / "meta.yaml")
    (root / "7" / RUN / "artifacts" / "stolen.txt").symlink_to(secret / "99" / "meta.yaml")
    index = index_store(str(root))
    assert "99" not in {e.entity_id for e in index.experiments}
    assert "9" * 32 not in {r.entity_id for r in index.runs}
    assert [i.code for i in index.issues] == [Code.LINK_NOT_FOLLOWED] * 2
    results = list(read_all(index))
    for result in results:
        assert_closed(result)
        assert "outside" not in repr(result.record)
    assert_census(index, results)
    issues = {i.code for result in results for i in result.issues}
    assert issues == {Code.LINK_NOT_FOLLOWED, Code.ARTIFACT_LINK, Code.TRACE_WITHOUT_SPANS}


def test_loops_and_broken_links_do_not_hang(root: Path) -> None:
    (root / "7" / RUN / "artifacts" / "up").symlink_to(root)
    (root / "7" / RUN / "params" / "loop").symlink_to("loop")
    (root / "7" / RUN / "tags" / "up").symlink_to("..")
    (root / "7" / "again").symlink_to(root / "7")
    (root / "gone").symlink_to(root / "nowhere")
    index = index_store(str(root))
    results = list(read_all(index))
    for result in results:
        assert_closed(result)
    assert_census(index, results)
    assert codes(index) == {Code.LINK_INSIDE_STORE, Code.LINK_NOT_FOLLOWED}


def test_a_link_to_a_file_of_the_store_is_read(root: Path) -> None:
    """Tools that remove duplicate files put links in their place."""
    (root / "7" / RUN / "params" / "same").symlink_to(root / "7" / RUN / "params" / "a" / "b")
    parent = root / "7" / RUN2 / "tags" / "mlflow.parentRunId"
    parent.rename(root / "7" / RUN / "tags" / "kept")
    parent.symlink_to(root / "7" / RUN / "tags" / "kept")
    index = index_store(str(root))
    results = list(read_all(index))
    assert_census(index, results)
    runs = [r.record for r in results if isinstance(r.record, RunRecord) and r.record.run_id == RUN]
    assert [run.params["same"] for run in runs] == ["1"]
    assert [r.parent_run_id for r in index.runs if r.entity_id == RUN2] == [RUN]


def test_a_store_behind_a_link_is_read(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    store = open_store(str(tmp_path / "link"))
    assert len(index_store(store).runs) == 3


# ---------------------------------------------------------------------------- mlartifacts


def test_a_servers_artifacts_beside_the_store_are_found(root: Path) -> None:
    assert find_artifact_roots(str(root)) == ()
    served = root.parent / "mlartifacts"
    write_values(served / "7" / RUN2 / "artifacts", {"prompt.txt": "hi"})
    roots = find_artifact_roots(str(root))
    assert roots == (str(served),)
    (entry,) = [r for r in index_store(str(root)).runs if r.entity_id == RUN2]
    result = FileStoreSource(str(root), roots).read_run(entry, lambda path: True)
    assert_closed(result)
    assert result.record is not None and result.record.texts == {"prompt.txt": "hi"}
    assert result.record.artifact_dir == str(served / "7" / RUN2 / "artifacts")
    assert result.files_referred == 0  # they are not in the run's directory


def test_the_trash_directory_of_an_experiment_is_where_the_builder_says(root: Path) -> None:
    assert experiment_dir(root, "8") == root / ".trash" / "8"
