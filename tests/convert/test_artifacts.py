"""Artifact locations: moved stores, ``.trash``, servers, copies; read back through MLflow."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.utils.file_utils import path_to_local_file_uri

from migrator import pipeline
from migrator.cli import main
from migrator.errors import OptionError, TargetError
from migrator.extractor import locations
from migrator.extractor.locations import local_path, scheme_of
from migrator.loader import artifacts as copying
from migrator.model import Location
from migrator.outcome.summary import Outcome
from migrator.transformer.locations import Fate, is_metadata_only, place
from migrator.verification import verify
from tests.support import fixturekit
from tests.support.storekit import (
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
)

RUN = "0123456789abcdef0123456789abcdef"
OTHER = "1123456789abcdef0123456789abcdef"
MODEL = "m-0123456789abcdef0123456789abcdef"
FIXTURES = ["2.9.2-moved", "2.22.5-server", "3.1.4-models", "3.5.1-genai"]
FILES: dict[str, str | bytes] = {
    "notes.txt": "remember the bees",
    "sub dir/größe 1.bin": bytes(range(256)),
}


def convert(source: Path, artifacts: str = "auto", name: str = "mlflow.db") -> Outcome:
    options = pipeline.Options(artifacts=artifacts)
    return pipeline.convert([str(source)], uri_of(source, name), options)


def uri_of(source: Path, name: str = "mlflow.db") -> str:
    return f"sqlite:///{source.parent / name}"


def client_of(source: Path, name: str = "mlflow.db") -> MlflowClient:
    return MlflowClient(tracking_uri=uri_of(source, name), registry_uri=uri_of(source, name))


def as_bytes(files: Mapping[str, str | bytes]) -> dict[str, bytes]:
    return {key: v if isinstance(v, bytes) else v.encode() for key, v in files.items()}


def rows(source: Path, query: str, name: str = "mlflow.db") -> list[str]:
    with sqlite3.connect(source.parent / name) as database:
        return [value for (value,) in database.execute(query)]


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def listed(client: MlflowClient, run_id: str, path: str | None = None) -> set[str]:
    found: set[str] = set()
    for item in client.list_artifacts(run_id, path):
        found |= listed(client, run_id, item.path) if item.is_dir else {item.path}
    return found


def downloaded(client: MlflowClient, run_id: str, directory: Path) -> dict[str, bytes]:
    target = directory / f"download-{run_id}"
    target.mkdir()
    return files_below(Path(client.download_artifacts(run_id, "", str(target))))


def runs_with_files(source: Path) -> dict[str, dict[str, bytes]]:
    """Return the files of every run that has some, in the store or in ``mlartifacts``."""
    places = [*source.glob("*/*/artifacts"), *source.glob(".trash/*/*/artifacts")]
    places += (source.parent / "mlartifacts").glob("*/*/artifacts")
    found = {path.parent.name: files_below(path) for path in places}
    return {run_id: files for run_id, files in found.items() if files and len(run_id) == 32}


def digest(directory: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        total.update(str(path.relative_to(directory)).encode())
        total.update(path.read_bytes() if path.is_file() else b"")
    return total.hexdigest()


def recorded(root: Path, exp: str, *parts: str) -> str:
    return str(path_to_local_file_uri(str(root.joinpath(exp, *parts))))


def unmoved_store(root: Path) -> Path:
    """Write a store whose recorded locations exist; one experiment's files lie elsewhere."""
    custom = root.parent / "elsewhere"
    write_experiment(root, "1", "plain", artifact_location=recorded(root, "1"))
    write_experiment(root, "2", "custom", artifact_location=custom.as_uri())
    uri = recorded(root, "1", RUN, "artifacts")
    write_run(root, "1", RUN, artifacts=FILES, artifact_uri=uri)
    write_run(root, "2", OTHER, artifact_uri=f"{custom.as_uri()}/{OTHER}/artifacts")
    (custom / OTHER / "artifacts").mkdir(parents=True)
    (custom / OTHER / "artifacts" / "far.txt").write_text("far away")
    return root


def moved_store(root: Path, uri: str = "file:///home/ana/mlruns") -> Path:
    """Write a store of which nothing is where it was recorded."""
    write_experiment(root, "1", "moved", artifact_location=f"{uri}/1")
    run_uri = f"{uri}/1/{RUN}/artifacts"
    write_run(root, "1", RUN, artifacts=FILES, artifact_uri=run_uri)
    write_logged_model(
        root,
        "1",
        MODEL,
        artifacts={"MLmodel": "flavors: {}"},
        artifact_location=f"{uri}/1/models/{MODEL}/artifacts",
    )
    return root


# ------------------------------------------------------------------------------- fixtures


@pytest.mark.parametrize("name", FIXTURES)
def test_mlflow_downloads_every_artifact_of_a_moved_store(name: str, tmp_path: Path) -> None:
    source = fixturekit.materialise(name, tmp_path)
    expected = runs_with_files(source)
    assert expected, "the fixture has no artifacts"
    before = digest(source.parent)
    outcome = convert(source)
    (source.parent / "mlflow.db").rename(tmp_path / "mlflow.db")
    Path(outcome.report_path or "").unlink()
    assert digest(source.parent) == before, "the source was changed"
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    for experiment in client.search_experiments(view_type=2):  # deleted ones
        client.restore_experiment(experiment.experiment_id)
    for run_id, files in expected.items():
        assert listed(client, run_id) == set(files)
        assert downloaded(client, run_id, tmp_path) == files


@pytest.mark.parametrize("name", ["3.1.4-models", "3.5.1-genai"])
def test_logged_models_and_versions_of_a_moved_store_lead_to_their_files(
    name: str, tmp_path: Path
) -> None:
    source = fixturekit.materialise(name, tmp_path)
    convert(source)
    client = client_of(source)
    models = 0
    for path in source.glob("*/models/m-*"):
        files = files_below(path / "artifacts")
        stage = rows(
            source, f"SELECT lifecycle_stage FROM logged_models WHERE model_id='{path.name}'"
        )
        if files and stage == ["active"]:
            target = tmp_path / path.name
            target.mkdir()
            location = client.get_logged_model(path.name).artifact_location
            got = download_artifacts(artifact_uri=location, dst_path=str(target))
            assert files_below(Path(got)) == files
            models += 1
    versions = 0
    for model in client.search_registered_models():
        for version in client.search_model_versions(f"name='{model.name}'"):
            uri = client.get_model_version_download_uri(version.name, version.version)
            if uri.startswith("file:"):
                here = source / uri.partition("/mlruns/")[2]
                assert uri.startswith(source.as_uri()) == here.is_dir()  # one never had files
                versions += here.is_dir()
    assert models and versions


def test_versions_of_a_windows_store_lead_to_the_files_of_their_run(tmp_path: Path) -> None:
    source = fixturekit.materialise("2.9.2-moved", tmp_path)
    convert(source)
    sources = rows(source, "SELECT source FROM model_versions")
    assert sources
    for uri in sources:
        assert (Path(local_path(uri) or "") / "weights.txt").is_file()


def test_scan_dry_run_convert_and_verify_decide_the_same(tmp_path: Path) -> None:
    source = fixturekit.materialise("3.5.1-genai", tmp_path)
    scanned = pipeline.scan([str(source)], pipeline.Options()).artifacts
    dry = pipeline.convert([str(source)], uri_of(source), pipeline.Options(), dry_run=True)
    done = convert(source).artifacts
    assert scanned.locations["relocated"]["run"] > 0
    assert scanned == dry.artifacts == done
    assert verify([str(source)], uri_of(source), pipeline.Options()).total == 0


def test_verify_with_another_choice_names_every_location(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    convert(source)
    result = verify([str(source)], uri_of(source), pipeline.Options(artifacts="keep"))
    fields = {(item.kind.value, item.field) for item in result.differences}
    assert fields == {
        ("experiment", "artifact_location"),
        ("run", "artifact_uri"),
        ("logged model", "artifact_location"),
    }


# ---------------------------------------------------------------------- what is left alone


def test_keep_keeps_every_location_of_a_moved_store(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    outcome = convert(source, "keep")
    uri = "file:///home/ana/mlruns/1"
    assert rows(source, "SELECT artifact_location FROM experiments WHERE experiment_id=1") == [uri]
    assert rows(source, "SELECT artifact_uri FROM runs") == [f"{uri}/{RUN}/artifacts"]
    assert rows(source, "SELECT artifact_location FROM logged_models") == [
        f"{uri}/models/{MODEL}/artifacts"
    ]
    assert outcome.artifacts.locations == {
        "nowhere": {"experiment": 1},
        "stale": {"run": 1, "logged model": 1},
    }


@pytest.mark.parametrize("choice", ["auto", "relocate", "keep"])
def test_a_store_that_was_not_moved_keeps_its_locations_to_the_byte(
    choice: str, tmp_path: Path
) -> None:
    source = unmoved_store(tmp_path / "my #1 mlruns")
    outcome = convert(source, choice)
    custom = (tmp_path / "elsewhere").as_uri()
    assert rows(source, "SELECT artifact_location FROM experiments WHERE experiment_id > 0") == [
        recorded(source, "1"),
        custom,
    ]
    assert set(rows(source, "SELECT artifact_uri FROM runs")) == {
        recorded(source, "1", RUN, "artifacts"),
        f"{custom}/{OTHER}/artifacts",
    }
    assert outcome.artifacts.locations == {"kept": {"experiment": 2, "run": 2}}
    assert downloaded(client_of(source), OTHER, tmp_path) == {"far.txt": b"far away"}


def test_what_leads_nowhere_is_relocated_in_a_store_of_which_a_part_is_in_place(
    tmp_path: Path,
) -> None:
    source = moved_store(unmoved_store(tmp_path / "mlruns"), "file:///home/ana/old")
    gone = f"file:///home/ana/old/3/{'a' * 32}/artifacts"
    write_experiment(source, "3", "old", artifact_location="file:///home/ana/old/3")
    write_run(source, "3", "a" * 32, artifacts={"a.txt": "a"}, artifact_uri=gone)
    outcome = convert(source)
    now = rows(source, "SELECT artifact_uri FROM runs")
    assert recorded(source, "3", "a" * 32, "artifacts") in now
    assert f"{(tmp_path / 'elsewhere').as_uri()}/{OTHER}/artifacts" in now
    assert "stale" not in outcome.artifacts.locations
    assert downloaded(client_of(source), "a" * 32, tmp_path) == {"a.txt": b"a"}
    convert(source, "keep", "second.db")
    assert gone in rows(source, "SELECT artifact_uri FROM runs", "second.db")


REMOTE = {
    "1": ("s3://bucket/mlruns/1", "s3"),
    "2": ("gs://bucket/mlruns/2", "gs"),
    "3": ("dbfs:/databricks/mlflow/3", "dbfs"),
    "4": ("mlflow-artifacts:/4", "mlflow-artifacts"),
    "5": ("http://host:5000/api/2.0/mlflow-artifacts/artifacts/5", "http"),
    "6": ("wasbs://box@host/6", "wasbs"),
}


@pytest.mark.parametrize("choice", ["auto", "relocate", "copy"])
def test_remote_locations_are_kept_and_counted_by_scheme(choice: str, tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    for exp, (uri, _) in REMOTE.items():
        write_experiment(source, exp, f"remote {exp}", artifact_location=uri)
        write_run(source, exp, exp * 32, artifact_uri=f"{uri}/{exp * 32}/artifacts")
    outcome = convert(source, f"copy:{tmp_path / 'copies'}" if choice == "copy" else choice)
    assert rows(source, "SELECT artifact_uri FROM runs ORDER BY run_uuid") == [
        f"{uri}/{exp * 32}/artifacts" for exp, (uri, _) in REMOTE.items()
    ]
    assert rows(
        source,
        "SELECT artifact_location FROM experiments WHERE experiment_id > 0 ORDER BY experiment_id",
    ) == [uri for uri, _ in REMOTE.values()]
    assert outcome.artifacts.as_dict()["remote"] == {scheme: 2 for _, scheme in REMOTE.values()}


def test_a_location_without_files_is_kept_because_it_is_the_only_clue(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    far = f"file:///mnt/disk/runs/{OTHER}/artifacts"  # the experiment's files are elsewhere
    write_experiment(source, "2", "custom", artifact_location="file:///mnt/disk/runs")
    write_run(source, "2", OTHER, artifact_uri=far)
    bare = write_run(source, "1", "b" * 32)
    (bare / "artifacts").rmdir()
    outcome = convert(source)
    assert set(rows(source, "SELECT artifact_uri FROM runs")) == {
        recorded(source, "1", RUN, "artifacts"),
        f"file:///home/ana/mlruns/1/{'b' * 32}/artifacts",
        far,
    }
    assert outcome.artifacts.locations["nowhere"]["run"] == 2


def test_metadata_without_any_artifacts_is_not_taken_for_a_moved_store(tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    write_experiment(source, "1", "metadata", artifact_location="file:///mnt/disk/mlruns/1")
    run = write_run(source, "1", RUN, artifact_uri=f"file:///mnt/disk/mlruns/1/{RUN}/artifacts")
    (run / "artifacts").rmdir()
    assert convert(source).artifacts.decided == {str(source): "keep"}


# -------------------------------------------------------------------- forms of locations


LOCAL = [
    "file:///C:/Users/ana/my project/mlruns",
    "file:C:/Users/ana/OneDrive%20-%20N/mlruns",
    "C:\\Users\\ana\\mlruns",
    "\\\\server\\share\\mlruns",
    "file://server/share/mlruns",
    "/home/ana/a b/mlruns",
    "file:///home/ana/a%20b/mlruns",
    "./mlruns",
    "mlruns",
    "file:./mlruns",
    "file:/home/ana/mlruns",
    "FILE:///home/ana/mlruns",
]


def test_local_locations_of_any_form_are_relocated(tmp_path: Path) -> None:
    stores = {}
    for number, uri in enumerate(LOCAL):
        exp, run_id, model_id = str(number + 1), f"{number:032x}", f"m-{number:032x}"
        root = stores[run_id] = tmp_path / f"store {number}" / "mlruns"
        write_experiment(root, exp, f"store {number}", artifact_location=f"{uri}/{exp}")
        where = f"{uri}/{exp}/{run_id}/artifacts"
        write_run(root, exp, run_id, artifacts=FILES, artifact_uri=where)
        where = f"{uri}/{exp}/models/{model_id}/artifacts"
        write_logged_model(root, exp, model_id, artifacts={"a": "b"}, artifact_location=where)
    database = tmp_path / "mlflow.db"
    outcome = pipeline.convert(
        [str(root) for root in stores.values()], f"sqlite:///{database}", pipeline.Options()
    )
    assert set(outcome.artifacts.decided.values()) == {"relocate"}
    assert outcome.artifacts.locations == {
        "relocated": {kind: len(LOCAL) for kind in ("experiment", "run", "logged model")}
    }
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    for number, (run_id, root) in enumerate(stores.items()):
        exp = str(number + 1)
        assert downloaded(client, run_id, tmp_path) == as_bytes(FILES), LOCAL[number]
        assert client.get_experiment(exp).artifact_location == recorded(root, exp)
        model = client.get_logged_model(f"m-{number:032x}")
        assert model.artifact_location == recorded(root, exp, "models", model.model_id, "artifacts")


def test_the_forms_of_locations_are_told_apart() -> None:
    assert scheme_of("") == ""
    assert scheme_of("C:/x") == scheme_of("x/y") == scheme_of("file:C:/x") == "file"
    assert scheme_of("S3://b") == "s3"
    assert local_path("file:///a%20b/c") == "/a b/c"
    assert local_path("/a%20b") == "/a%20b"
    assert local_path("file://localhost/a") == "/a"
    assert local_path("mlruns/0") is None
    assert local_path("mlruns/0", base="/p") == "/p/mlruns/0"
    if os.name != "nt":
        assert local_path("file:///C:/x", base="/p") is None


NAMES = ["a b", "a#b", "a%20b", "a?b", "größe 日本", "100%", "a;b&c=d", "[x]+'y'"]


@pytest.mark.parametrize("choice", ["auto", "copy"])
def test_directories_of_any_name_are_written_as_mlflow_reads_them(
    choice: str, tmp_path: Path
) -> None:
    places = {}
    sources = []
    copies = tmp_path / "-".join(NAMES)
    for number, name in enumerate(NAMES):
        exp, run_id = str(number + 1), f"{number:032x}"
        root = tmp_path / name / "mlruns"
        write_experiment(root, exp, name)
        write_run(root, exp, run_id, artifacts=FILES)
        sources.append(str(root))
        places[run_id] = (copies if choice == "copy" else root) / exp / run_id / "artifacts"
    options = pipeline.Options(artifacts=f"copy:{copies}" if choice == "copy" else choice)
    pipeline.convert(sources, f"sqlite:///{tmp_path / 'mlflow.db'}", options)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    for run_id, directory in places.items():
        uri = client.get_run(run_id).info.artifact_uri
        assert uri == path_to_local_file_uri(str(directory))
        assert listed(client, run_id) == set(FILES)
        assert downloaded(client, run_id, tmp_path) == as_bytes(FILES)


def test_a_run_without_a_recorded_location_gets_its_place_in_the_store(tmp_path: Path) -> None:
    source = unmoved_store(tmp_path / "mlruns")
    (source / "1" / RUN / "meta.yaml").write_bytes(b"")
    convert(source, "keep")
    uris = rows(source, f"SELECT artifact_uri FROM runs WHERE run_uuid='{RUN}'")
    assert uris == [recorded(source, "1", RUN, "artifacts")]


# ----------------------------------------------------------------------------- the trash


@pytest.mark.parametrize("moved", [False, True])
def test_a_deleted_experiment_has_its_artifacts_when_it_is_restored(
    moved: bool, tmp_path: Path
) -> None:
    source = tmp_path / "mlruns"
    base = "file:///home/ana/mlruns" if moved else source.as_uri()
    write_experiment(source, "1", "live", artifact_location=f"{base}/1")
    write_run(source, "1", OTHER, artifact_uri=f"{base}/1/{OTHER}/artifacts")
    write_experiment(source, "5", "gone", deleted=True, artifact_location=f"{base}/5")
    write_run(
        source,
        "5",
        RUN,
        deleted=True,
        artifacts={"a.txt": "in the trash"},
        artifact_uri=f"{base}/5/{RUN}/artifacts",
    )
    convert(source)
    client = client_of(source)
    client.restore_experiment("5")
    assert downloaded(client, RUN, tmp_path) == {"a.txt": b"in the trash"}
    live = client.get_run(OTHER).info.artifact_uri
    assert live == recorded(source, "1", OTHER, "artifacts")


# ---------------------------------------------------------------------------- a server


def test_a_servers_artifacts_can_be_left_to_a_server(tmp_path: Path) -> None:
    source = fixturekit.materialise("2.22.5-server", tmp_path)
    outcome = convert(source, "keep")
    assert all(
        uri.startswith("mlflow-artifacts:") for uri in rows(source, "SELECT artifact_uri FROM runs")
    )
    assert outcome.artifacts.remote["mlflow-artifacts"] == 6


def test_the_experiments_of_a_server_stay_where_new_runs_will_write(tmp_path: Path) -> None:
    source = fixturekit.materialise("2.22.5-server", tmp_path)
    convert(source)
    locations = rows(source, "SELECT artifact_location FROM experiments")
    assert all(location.startswith("mlflow-artifacts:/") for location in locations)


# ------------------------------------------------------------------------------- copies


@pytest.mark.parametrize("name", FIXTURES)
def test_copies_are_the_same_files_and_the_old_store_can_go(name: str, tmp_path: Path) -> None:
    source = fixturekit.materialise(name, tmp_path)
    expected = runs_with_files(source)
    copies = tmp_path / "copies"
    options = pipeline.Options(artifacts=f"copy:{copies}")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    before = digest(source.parent)
    outcome = pipeline.convert([str(source)], uri, options)
    assert digest(source.parent) == before, "the source was changed"
    assert verify([str(source)], uri, options).total == 0
    assert not outcome.artifacts.stay_in
    source.parent.rename(tmp_path / "away")
    client = MlflowClient(tracking_uri=uri)
    for experiment in client.search_experiments(view_type=2):
        client.restore_experiment(experiment.experiment_id)
    for run_id, files in expected.items():
        assert downloaded(client, run_id, tmp_path) == files
        info = client.get_run(run_id).info
        place = copies / info.experiment_id / run_id / "artifacts"
        assert info.artifact_uri == path_to_local_file_uri(str(place))
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        versions = database.execute("SELECT source, storage_location FROM model_versions")
        for text in [text for row in versions for text in row if text and "file:" in text]:
            assert Path(local_path(text) or "").is_dir() == (str(copies) in text)


def test_what_is_copied_is_not_copied_again(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    copies = tmp_path / "copies"
    first = convert(source, f"copy:{copies}").artifacts
    assert (first.files_copied, first.files_there) == (3, 0)
    old = {path: path.stat().st_ino for path in copies.rglob("*") if path.is_file()}
    second = convert(source, f"copy:{copies}").artifacts
    assert (second.files_copied, second.files_there) == (0, 3)
    assert old == {path: path.stat().st_ino for path in copies.rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage", ["half", "tampered", "empty"])
def test_half_a_copy_or_a_changed_one_is_found_and_replaced(damage: str, tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    copies = tmp_path / "copies"
    options = pipeline.Options(artifacts=f"copy:{copies}")
    convert(source, f"copy:{copies}")
    victim = copies / "1" / RUN / "artifacts" / "notes.txt"
    good = victim.read_bytes()
    victim.write_bytes({"half": good[:5], "tampered": good.upper(), "empty": b""}[damage])
    result = verify([str(source)], uri_of(source), options)
    assert [(d.entity_id, d.field) for d in result.differences] == [(RUN, "artifact notes.txt")]
    outcome = convert(source, f"copy:{copies}")
    assert outcome.artifacts.files_copied == 1
    assert [issue.path for issue in outcome.ledger.issues if "copy" in issue.code.value] == [
        str(victim)
    ]
    assert victim.read_bytes() == good
    assert verify([str(source)], uri_of(source), options).total == 0


KILLED = """
import os, signal, sys
from migrator import pipeline
from migrator.loader import artifacts
calls = []
def dying(path, original=artifacts._digest):
    calls.append(path)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(path)
artifacts._digest = dying
pipeline.convert([sys.argv[1]], sys.argv[2], pipeline.Options(artifacts="copy:" + sys.argv[3]))
"""


def test_a_killed_conversion_resumes_and_published_nothing(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    copies = tmp_path / "copies"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), uri_of(source), str(copies)],
        cwd=Path(__file__).parent.parent.parent,
        check=False,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "mlflow.db").exists()
    left = files_below(copies)
    assert len([name for name in left if name.startswith(".")]) == 1  # the one it was at
    assert len(left) == 2
    outcome = convert(source, f"copy:{copies}")
    assert (outcome.artifacts.files_there, outcome.artifacts.files_copied) == (1, 2)
    expected = {f"1/{RUN}/artifacts/{name}": data for name, data in as_bytes(FILES).items()}
    expected[f"1/models/{MODEL}/artifacts/MLmodel"] = b"flavors: {}"
    assert files_below(copies) == expected


def test_a_full_disk_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = moved_store(tmp_path / "mlruns")

    def full(path: str, target: Path, root: Path) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(copying, "_copy_through", full)
    with pytest.raises(TargetError, match="disk is full"):
        convert(source, f"copy:{tmp_path / 'copies'}")
    assert not (tmp_path / "mlflow.db").exists()


def test_room_is_looked_at_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = moved_store(tmp_path / "mlruns")

    class Usage:
        free = 10

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(TargetError, match="don't fit"):
        convert(source, f"copy:{tmp_path / 'copies'}")
    assert not (tmp_path / "copies").exists()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_file_that_cannot_be_read_costs_itself_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = moved_store(tmp_path / "mlruns")
    victim = source / "1" / RUN / "artifacts" / "notes.txt"

    def refuse(path: str, flags: int, original: Callable[[str, int], int] = os.open) -> int:
        if path == str(victim):
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path, flags)

    monkeypatch.setattr(copying, "os", _Os(refuse))
    outcome = convert(source, f"copy:{tmp_path / 'copies'}")
    assert outcome.exit_code == 3
    named = [issue for issue in outcome.ledger.issues if issue.code.value == "artifact-not-copied"]
    assert [issue.path for issue in named] == [str(victim)]
    assert outcome.artifacts.files_copied == 2
    assert outcome.artifacts.files_failed == 1


class _Os:
    """The module ``os`` with another ``open``, for the copier alone."""

    def __init__(self, opener: Callable[[str, int], int]) -> None:
        self.open = opener

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


@pytest.mark.parametrize("inside", ["", "/copies", "/1/../new"])
def test_copies_do_not_go_into_the_source(inside: str, tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    (tmp_path / "link").symlink_to(source)
    before = digest(source)
    for root in (source, tmp_path / "link"):
        with pytest.raises(OptionError, match="inside the source"):
            convert(source, f"copy:{root}{inside}")
    assert digest(source) == before
    assert not (tmp_path / "mlflow.db").exists()


def test_a_link_does_not_lead_copies_elsewhere(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "1").symlink_to(source / "1")
    before = digest(source)
    with pytest.raises(TargetError, match="through a link"):
        convert(source, f"copy:{copies}")
    assert digest(source) == before


def test_copies_into_a_servers_directory_replace_nothing_there(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    served = tmp_path / "mlartifacts"
    convert(source, f"copy:{served}")
    again = convert(source, f"copy:{served}")
    assert (again.artifacts.files_there, again.artifacts.files_copied) == (3, 0)
    assert not [issue for issue in again.ledger.issues if "two-places" in issue.code.value]
    (served / "1" / RUN / "artifacts" / "notes.txt").write_text("another run's")
    with pytest.raises(TargetError, match="in the way"):
        convert(source, f"copy:{served}", "third.db")
    assert (served / "1" / RUN / "artifacts" / "notes.txt").read_text() == "another run's"
    assert not (tmp_path / "third.db").exists()


def test_times_of_copies_are_those_of_the_artifacts(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    original = source / "1" / RUN / "artifacts" / "notes.txt"
    os.utime(original, ns=(10**18, 10**18))
    convert(source, f"copy:{tmp_path / 'copies'}")
    copy = tmp_path / "copies" / "1" / RUN / "artifacts" / "notes.txt"
    assert copy.stat().st_mtime_ns == 10**18


def test_versions_lead_into_the_copy_of_their_run(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    uri = f"file:///home/ana/mlruns/1/{RUN}/artifacts/sub dir"
    lost = f"file:///home/ana/mlruns/1/{RUN}/artifacts/no such"
    write_registered_model(
        source,
        "bees",
        versions=[
            {"version": 1, "run_id": RUN, "source": uri, "storage_location": uri},
            {"version": 2, "run_id": RUN, "source": f"models:/{MODEL}"},
            {"version": 3, "run_id": RUN, "source": f"runs:/{RUN}/sub dir"},
            {"version": 4, "run_id": RUN, "source": lost},
            {"version": 5, "source": "dummy-source"},
        ],
    )
    outcome = convert(source, f"copy:{tmp_path / 'copies'}")
    copied = recorded(tmp_path / "copies", "1", RUN, "artifacts", "sub dir")
    sources = rows(source, "SELECT source FROM model_versions ORDER BY version")
    assert sources == [copied, f"models:/{MODEL}", f"runs:/{RUN}/sub dir", lost, "dummy-source"]
    assert rows(source, "SELECT storage_location FROM model_versions WHERE version=1") == [copied]
    assert outcome.artifacts.locations["copied"]["model version"] == 1
    assert outcome.artifacts.locations["nowhere"]["model version"] == 1


def test_versions_lead_to_the_files_of_a_run_that_was_left_out(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    uri = f"file:///home/ana/mlruns/1/{RUN}/artifacts/sub dir"
    write_registered_model(source, "bees", versions=[{"run_id": RUN, "source": uri}])
    options = pipeline.Options(since="2030-01-01")
    outcome = pipeline.convert([str(source)], uri_of(source), options)
    assert not rows(source, "SELECT run_uuid FROM runs")
    here = recorded(source, "1", RUN, "artifacts", "sub dir")
    assert rows(source, "SELECT source FROM model_versions") == [here]
    assert outcome.artifacts.locations["relocated"]["model version"] == 1


# ------------------------------------------------------------------------ what is said


def test_convert_says_what_was_rewritten_and_what_to_keep(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    result = CliRunner().invoke(main, ["convert", str(source), "--to", uri_of(source)])
    assert result.exit_code == 0, result.output
    assert "to where the files are: 1 experiment, 1 run, 1 logged model" in result.output
    assert f"The database points to files in {source}; keep that directory" in result.output
    assert "--artifacts copy:DIR" in result.output


def test_the_json_report_counts_locations_and_copies(tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    copies = str(tmp_path / "copies")
    result = CliRunner().invoke(
        main,
        ["convert", str(source), "--to", uri_of(source), "--artifacts", f"copy:{copies}", "--json"],
    )
    assert json.loads(result.stdout)["artifacts"] == {
        "choice": f"copy:{copies}",
        "decided": {str(source): "copy"},
        "locations": {"copied": {"experiment": 1, "run": 1, "logged model": 1}},
        "remote": {},
        "stay_in": [],
        "files_copied": 3,
        "files_there": 0,
        "files_failed": 0,
        "bytes_copied": 284,
        "roots": [],
        "prefixes": [{"prefix": "file:///home/ana/mlruns", "locations": 2, "found": 2}],
        "hollow_traces": {},
    }


@pytest.mark.parametrize("choice", ["move", "copy", "copy:", "copy:http://host/x", "copy:file:/x"])
def test_an_unknown_choice_is_a_usage_error(choice: str, tmp_path: Path) -> None:
    source = moved_store(tmp_path / "mlruns")
    result = CliRunner().invoke(main, ["scan", str(source), "--artifacts", choice])
    assert result.exit_code == 2
    assert "--artifacts" in result.output


# --------------------------------------------------------------------- the decision alone


def at(**changes: object) -> Location:
    fields: dict[str, object] = {
        "recorded": "file:///old/1/r/artifacts",
        "scheme": "file",
        "exists": False,
        "relative": False,
        "own_form": True,
        "home": "/new/1/r/artifacts",
        "found": "/new/1/r/artifacts",
        "has_files": True,
    }
    return Location(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_store_without_directories_for_artifacts_is_metadata_only() -> None:
    assert not is_metadata_only([at()], [at(), at(found=None)])
    assert not is_metadata_only([at()], [])
    assert not is_metadata_only([at(exists=True)], [at(found=None)])
    assert is_metadata_only([at()], [at(found=None)])
    assert is_metadata_only([at()], [at(exists=True), at(found=None)])
    assert not is_metadata_only([at()], [at(scheme="s3", recorded="s3://b/r", found=None)])


def test_a_location_that_was_cut_off_decides_nothing_for_the_others() -> None:
    cut = at(exists=True, own_form=False, recorded="file:///")
    assert not is_metadata_only([at()], [cut, at()])


def test_reading_stops_at_the_first_owner_that_has_a_directory() -> None:
    def owners() -> object:
        yield at()
        raise AssertionError("read on")

    assert not is_metadata_only([at()], owners())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("location", "rewrite", "copy_to", "expected"),
    [
        (at(), True, None, ("file:///new/1/r/artifacts", Fate.RELOCATED)),
        (at(), False, None, ("file:///old/1/r/artifacts", Fate.STALE)),
        (at(exists=True), True, None, ("file:///old/1/r/artifacts", Fate.KEPT)),
        (at(exists=True), True, "/c/r", ("file:///c/r", Fate.COPIED)),
        (at(found=None, has_files=False), True, "/c", (at().recorded, Fate.NOWHERE)),
        (at(own_form=False, has_files=False), True, None, (at().recorded, Fate.NOWHERE)),
        (at(own_form=False, has_files=False), True, "/c", (at().recorded, Fate.NOWHERE)),
        (at(has_files=False), True, None, ("file:///new/1/r/artifacts", Fate.RELOCATED)),
        (at(recorded="s3://b", scheme="s3"), True, "/c", ("s3://b", Fate.REMOTE)),
        (at(recorded="", scheme="", found=None), False, None, (at().home, Fate.RELOCATED)),
    ],
)
def test_a_location_is_decided_from_what_is_known_of_it(
    location: Location, rewrite: bool, copy_to: str | None, expected: tuple[str, Fate]
) -> None:
    uri, fate = place(location, rewrite=rewrite, copy_to=copy_to)
    assert (uri.removeprefix("file://") if not location.recorded else uri, fate) == expected


_BASES = (
    *("file:///x/mlruns", "/x/mlruns", "./mlruns", "mlruns", "s3://b/p", "file:mlruns", "file:./a"),
    *(
        "file://host/x",
        "C:\\x\\mlruns",
        "file:///C:/x",
        "dbfs:/a",
        "",
        "x/../y",
        "/x//y",
        "/x/./y/..",
    ),
    *(
        "file:///x/y?z#q",
        "mlflow-artifacts:/",
        "mlflow-artifacts:",
        "/",
        "file:///",
        "file://",
        "a:",
    ),
    *("ab:", "file://localhost/x", "file://localhost", "//x", "/x/%41", "file:///x/\x00", "/x/.."),
)
_TAILS = (
    *(
        "/0/RUN/artifacts",
        "/1/RUN/artifacts",
        "/RUN/artifacts",
        "RUN/artifacts",
        "/0/RUN/artifacts/",
    ),
    *("/0/OTHER/artifacts", "/0\\RUN/artifacts", "//RUN/artifacts", "/../RUN/artifacts"),
    *("/0/RUN//artifacts", "/./RUN/artifacts", "/RUN/artifacts/RUN/artifacts"),
)


@pytest.mark.parametrize("tail", [("0", "RUN"), ("", "RUN"), ("0", "traces", "RUN")])
def test_a_location_is_the_same_whether_its_beginning_was_met_before_or_not(
    tail: tuple[str, ...],
) -> None:
    home = "/x/mlruns/0/RUN/artifacts"
    whole = (*tail, "artifacts")
    for uri in (base + end for base in _BASES for end in _TAILS):
        scheme, path, relative, parts = locations._parse(uri)
        exists = path is not None and (path == home or Path(path).exists())
        own_form = parts[-len(whole) :] == whole
        expected = Location(uri, scheme, exists, relative, own_form, home, None, False)
        assert locations.describe_location(uri, home=home, tail=whole) == expected, uri
