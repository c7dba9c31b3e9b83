"""Artifacts that lie apart from their runs: found by reasoning, told by the user, or missing."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from migrator import pipeline
from migrator.cli import main
from migrator.errors import OptionError
from migrator.extractor.locations import moved_locations, parts_below
from migrator.issues import Code
from migrator.model import RootChange
from migrator.outcome.summary import Outcome
from migrator.pipeline.artifact_roots import recorded_prefix
from migrator.verification import verify
from tests.support import fixturekit
from tests.support.storekit import (
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
    write_trace,
)

ROOT = "0123456789abcdef0123456789abcdef"
CALL = "1123456789abcdef0123456789abcdef"
MODEL = "m-0123456789abcdef0123456789abcdef"
TRACE = "tr-fedcba9876543210fedcba9876543210"
TREE = f"tr-{ROOT}"
SPAN: dict[str, object] = {
    "name": "native",
    "context": {"span_id": "0x0123456789abcdef", "trace_id": "0xfedcba9876543210fedcba9876543210"},
    "parent_id": None,
    "start_time": 1_709_280_000_000_000_000,
    "end_time": 1_709_280_001_000_000_000,
    "status_code": "OK",
    "status_message": "",
    "attributes": {"mlflow.spanInputs": '{"q": 1}', "mlflow.spanOutputs": '"2"'},
    "events": [],
}
QUESTION = {"inputs.json": '{"question": "When?"}', "outputs.json": '{"answer": "In May"}'}
PROMPT = {"prompt.txt": "When?", "response.txt": "In May"}


def write_tree(root: Path, base: str, place: Path | None, exp: str = "7") -> None:
    """Write a workflow with one call; its artifacts are recorded below base, and lie in place."""
    write_experiment(root, exp, f"agents {exp}", artifact_location=base)
    for run_id, parent, files in ((ROOT, None, QUESTION), (CALL, ROOT, PROMPT)):
        uri = f"{base.rstrip('/')}/{run_id}/artifacts"
        tokens = {"prompt_tokens": [(1_709_280_000_000, 7, 0)]} if parent else None
        run = write_run(root, exp, run_id, parent=parent, metrics=tokens, artifact_uri=uri)
        (run / "artifacts").rmdir()
        if place is not None:
            write_files(place / run_id / "artifacts", files)


def write_files(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)


def convert(source: Path, artifacts: str = "auto", at: tuple[str, ...] = ()) -> Outcome:
    options = pipeline.Options(artifacts=artifacts, artifacts_at=at)
    outcome = pipeline.convert([str(source)], uri_of(source), options)
    assert verify([str(source)], uri_of(source), options).same
    return outcome


def uri_of(source: Path) -> str:
    return f"sqlite:///{source.parent / 'mlflow.db'}"


def client_of(source: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=uri_of(source), registry_uri=uri_of(source))


def downloaded(source: Path, run_id: str, tmp_path: Path) -> dict[str, str]:
    target = tmp_path / f"download-{run_id}"
    target.mkdir()
    found = Path(client_of(source).download_artifacts(run_id, "", str(target)))
    return {path.name: path.read_text() for path in found.iterdir()}


def check_tree(source: Path, tmp_path: Path) -> None:
    """Check that the rebuilt trace has what lies in the artifacts, and that they download."""
    root = client_of(source).get_trace(TREE).data.spans[0]
    assert (root.inputs, root.outputs) == ({"question": "When?"}, {"answer": "In May"})
    assert downloaded(source, ROOT, tmp_path) == QUESTION
    assert downloaded(source, CALL, tmp_path) == PROMPT


# ----------------------------------------------------------------- found by reasoning


@pytest.mark.parametrize(
    ("recorded", "place", "old"),
    [
        ("file:///home/ana/proj/artifacts/1", "artifacts/1", "/home/ana/proj"),
        ("/home/ana/proj/artifacts", "artifacts", "/home/ana/proj"),
        ("C:\\Users\\ana\\proj\\artifacts\\1", "artifacts/1", "C:/Users/ana/proj"),
        ("file:///C:/Users/ana/proj/my%20files", "my files", "C:/Users/ana/proj"),
        ("file:///home/ana/old/7", "old/7", "/home/ana"),  # a server's default artifact root
        ("file:///home/ana/mlruns/", "mlruns", "/home/ana"),
        ("file:///home/ana/store-before", "mlruns", "/home/ana/store-before"),
        ("/home/ana/mlruns/7/own", "mlruns/7/own", "/home/ana"),
        ("store-before/files", "mlruns/files", "store-before"),
        ("file:///artifacts/7", "artifacts/7", "/"),  # a container's root
    ],
)
def test_artifacts_beside_or_inside_a_moved_store_are_found(
    recorded: str, place: str, old: str, tmp_path: Path
) -> None:
    project = tmp_path / "moved"
    source = project / "mlruns"
    write_tree(source, recorded, project / place)
    outcome = convert(source)
    check_tree(source, tmp_path)
    (change,) = outcome.artifacts.as_dict()["roots"]
    assert (change["old"], change["told"], change["locations"]) == (old, False, 2)
    assert (project / place).as_uri().startswith(Path(change["new"]).as_uri())
    codes = {issue.code for issue in outcome.ledger.issues}
    assert not codes & {Code.DIRECTORY_IGNORED, Code.RUNS_IGNORED}
    assert outcome.ledger.files_ignored == 0
    assert outcome.artifacts.hollow == {}


def test_a_change_of_root_also_finds_models_traces_and_versions(tmp_path: Path) -> None:
    project = tmp_path / "moved"
    source, files = project / "mlruns", project / "artifacts" / "1"
    old = "file:///home/ana/proj/artifacts/1"
    write_tree(source, old, files)
    model_uri = f"{old}/models/{MODEL}/artifacts"
    write_logged_model(source, "7", MODEL, artifact_location=model_uri)
    write_files(files / "models" / MODEL / "artifacts", {"MLmodel": "flavors: {}"})
    tags = {"mlflow.artifactLocation": f"{old}/traces/{TRACE}/artifacts"}
    trace = write_trace(source, "7", TRACE, tags=tags, spans=[SPAN])
    spans = files / "traces" / TRACE / "artifacts"
    spans.mkdir(parents=True)
    (trace / "artifacts" / "traces.json").rename(spans / "traces.json")
    write_files(project / "artifacts" / "loose", {"MLmodel": "flavors: {}"})
    versions = [
        {"version": 1, "source": f"{old}/{ROOT}/artifacts", "run_id": ROOT},
        {"version": 2, "source": "file:///home/ana/proj/artifacts/loose"},
    ]
    write_registered_model(source, "bees", versions=versions)
    convert(source)
    client = client_of(source)
    assert client.get_logged_model(MODEL).artifact_location == (
        (files / "models" / MODEL / "artifacts").as_uri()
    )
    (span,) = client.get_trace(TRACE).data.spans
    assert (span.inputs, span.outputs) == ({"q": 1}, "2")
    assert client.get_model_version("bees", "1").source == (files / ROOT / "artifacts").as_uri()
    assert client.get_model_version("bees", "2").source == (
        (project / "artifacts" / "loose").as_uri()
    )


@pytest.mark.parametrize("folder", ["artifacts", "0", ""])
@pytest.mark.parametrize("is_moved", [True, False])
def test_artifacts_of_every_kind_inside_the_store_are_no_runs_models_or_traces(
    folder: str, is_moved: bool, tmp_path: Path
) -> None:
    source = tmp_path / "mlruns"
    files = source / folder
    base = f"file:///home/ana/mlruns/{folder}" if is_moved else f"{files.as_uri()}/"
    write_experiment(source, "0", "Default")
    write_tree(source, base, files)
    model_uri = f"{base.rstrip('/')}/models/{MODEL}/artifacts"
    write_logged_model(source, "7", MODEL, artifact_location=model_uri)
    write_files(files / "models" / MODEL / "artifacts", {"MLmodel": "flavors: {}"})
    tags = {"mlflow.artifactLocation": f"{base.rstrip('/')}/traces/{TRACE}/artifacts"}
    trace = write_trace(source, "7", TRACE, tags=tags, spans=[SPAN])
    spans = files / "traces" / TRACE / "artifacts"
    spans.mkdir(parents=True)
    (trace / "artifacts" / "traces.json").rename(spans / "traces.json")
    outcome = convert(source)
    assert outcome.ledger.issues == []
    assert outcome.ledger.files_ignored == 0
    check_tree(source, tmp_path)
    client = client_of(source)
    assert {each.name for each in client.search_experiments()} == {"Default", "agents 7"}
    assert client.get_run(ROOT).info.experiment_id == "7"
    model = client.get_logged_model(MODEL)
    assert model.experiment_id == "7"
    assert Path(local_file_uri_to_path(model.artifact_location), "MLmodel").is_file()
    (span,) = client.get_trace(TRACE).data.spans
    assert (span.inputs, span.outputs) == ({"q": 1}, "2")


def test_other_files_of_a_directory_with_artifacts_stay_ignored_and_named(tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    write_tree(source, "file:///home/ana/mlruns/custom", source / "custom")
    (source / "custom" / "notes").mkdir()
    (source / "custom" / "notes" / "todo.txt").write_text("feed the bees")
    outcome = convert(source)
    (issue,) = [each for each in outcome.ledger.issues if each.code is Code.DIRECTORY_IGNORED]
    assert (issue.path, issue.count) == (str(source / "custom"), 1)
    assert "1 other file" in issue.message
    assert outcome.ledger.files_ignored == 1
    assert outcome.ledger.files_referred == 4


def test_a_directory_of_that_name_without_these_runs_is_not_taken(tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    write_tree(source, "file:///home/ana/proj/artifacts/1", None)
    write_files(tmp_path / "artifacts" / "1" / ("f" * 32) / "artifacts", QUESTION)
    outcome = convert(source)
    assert outcome.artifacts.roots == {}
    uri = client_of(source).get_run(ROOT).info.artifact_uri
    assert uri == f"file:///home/ana/proj/artifacts/1/{ROOT}/artifacts"


def test_artifacts_that_were_found_are_only_read_with_keep(tmp_path: Path) -> None:
    source, base = tmp_path / "mlruns", "file:///home/ana/proj/artifacts/1"
    write_tree(source, base, tmp_path / "artifacts" / "1")
    convert(source, "keep")
    client = client_of(source)
    assert client.get_run(ROOT).info.artifact_uri == f"{base}/{ROOT}/artifacts"
    assert client.get_trace(TREE).data.spans[0].outputs == {"answer": "In May"}


def test_artifacts_that_were_found_are_copied(tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    write_tree(source, "file:///home/ana/proj/artifacts/1", tmp_path / "artifacts" / "1")
    outcome = convert(source, f"copy:{tmp_path / 'copies'}")
    check_tree(source, tmp_path)
    assert outcome.artifacts.files_copied == 4


def test_the_files_of_a_server_are_found_where_the_user_says(tmp_path: Path) -> None:
    source = fixturekit.materialise("2.22.5-server", tmp_path)
    files = (source.parent / "mlartifacts").rename(tmp_path / "srv")
    expected = {path.parent.name for path in files.glob("*/*/artifacts") if any(path.iterdir())}
    assert expected
    convert(source, at=(f"mlflow-artifacts:/={files}",))
    client = client_of(source)
    for run_id in expected & {path.name for path in source.glob("*/*")}:
        found = Path(client.download_artifacts(run_id, ""))
        assert found.is_relative_to(files)
        assert any(found.iterdir())


@pytest.mark.parametrize(
    "base", ["file:///home/ana%00/art", "/" + "a/" * 3000, "/home/ana/../../art", "/", "./", "//"]
)
def test_odd_locations_are_kept(base: str, tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    write_tree(source, base, None)
    options = pipeline.Options(artifacts_at=[f"dbfs:/={tmp_path}"])
    write_run(source, "7", "3" * 32, artifact_uri=f"dbfs:/a%00/{'3' * 32}/artifacts")
    write_run(source, "7", "4" * 32, artifact_uri=f"dbfs:/a/{'4' * 32}/artifacts")
    outcome = pipeline.convert([str(source)], uri_of(source), options)
    assert verify([str(source)], uri_of(source), options).same
    assert not outcome.ledger.has_rejects


def test_scan_prints_what_was_concluded(tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    write_tree(source, "file:///home/ana/proj/artifacts/1", tmp_path / "artifacts" / "1")
    result = CliRunner().invoke(main, ["scan", str(source)])
    line = f"/home/ana/proj is now {tmp_path} (concluded from where files lie): 2 locations found."
    assert line in result.output.splitlines()


# ------------------------------------------------------------------- told by the user


@pytest.mark.parametrize(
    ("recorded", "old"),
    [
        ("mlflow-artifacts:/7", "mlflow-artifacts:/"),
        ("mlflow-artifacts://host:5000/7", "mlflow-artifacts://host:5000"),
        ("s3://bucket/mlflow/7", "s3://bucket/mlflow"),
        ("s3://bucket/dt=2024/7", "s3://bucket/dt=2024"),
        ("C:/Users/ana/proj/files/7", "c:\\users\\ANA\\proj\\files"),
        ("dbfs:/7", "dbfs:/"),
        ("/home/ana/files/7", "file:///home/ana/files"),
    ],
)
def test_told_locations_are_read_and_written(recorded: str, old: str, tmp_path: Path) -> None:
    source, files = tmp_path / "mlruns", tmp_path / "elsewhere" / "files"
    write_tree(source, recorded, files / "7")
    outcome = convert(source, at=(f"{old}={files}",))
    check_tree(source, tmp_path)
    experiment = client_of(source).get_experiment("7")
    assert experiment.artifact_location == (files / "7").as_uri()
    assert outcome.artifacts.roots == {RootChange(old, str(files), is_told=True): 2}
    assert outcome.artifacts.locations == {"relocated": {"experiment": 1, "run": 2}}


def test_told_artifacts_are_copied(tmp_path: Path) -> None:
    source, files = tmp_path / "mlruns", tmp_path / "elsewhere"
    write_tree(source, "s3://bucket/7", files / "7")
    outcome = convert(source, f"copy:{tmp_path / 'copies'}", at=(f"s3://bucket={files}",))
    check_tree(source, tmp_path)
    assert outcome.artifacts.files_copied == 4
    run = client_of(source).get_run(ROOT)
    assert run.info.artifact_uri == (tmp_path / "copies" / "7" / ROOT / "artifacts").as_uri()


def test_told_locations_stay_as_recorded_with_keep(tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    write_tree(source, "s3://bucket/7", tmp_path / "elsewhere" / "7")
    convert(source, "keep", at=(f"s3://bucket={tmp_path / 'elsewhere'}",))
    client = client_of(source)
    assert client.get_run(ROOT).info.artifact_uri == f"s3://bucket/7/{ROOT}/artifacts"
    assert client.get_trace(TREE).data.spans[0].outputs == {"answer": "In May"}


def test_the_longest_root_counts(tmp_path: Path) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    changes = [
        RootChange("s3://bucket", str(short), is_told=True),
        RootChange("s3://bucket/a", str(long), is_told=True),
    ]
    assert moved_locations("s3://bucket/a/7", changes) == [f"{long}/7", f"{short}/a/7"]
    assert moved_locations("s3://bucket/ab/7", changes) == [f"{short}/ab/7"]
    assert moved_locations("s3://bucket2/a/7", changes) == []


def test_a_bucket_that_was_renamed_is_written_and_not_read(tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    write_tree(source, "s3://old-bucket/ml%20flow/7", None)
    convert(source, at=("s3://old-bucket=s3://new/there",))
    uri = client_of(source).get_run(ROOT).info.artifact_uri
    assert uri == f"s3://new/there/ml%20flow/7/{ROOT}/artifacts"


def test_a_location_does_not_lead_out_of_the_told_root() -> None:
    assert parts_below("s3://bucket/../../etc", "s3://bucket") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("s3://bucket", "it has no equals sign"),
        ("=.", "a side of it is empty"),
        ("s3://bucket=", "a side of it is empty"),
        ("s3://bucket=/does/not/exist", "/does/not/exist does not exist"),
        (f"s3://bucket={__file__}", "is not a directory"),
        ("mlflow-artifacts:/=nonsense://host", "is neither the address of an object store"),
    ],
)
def test_a_bad_value_says_what_is_wrong(text: str, problem: str, tmp_path: Path) -> None:
    write_tree(tmp_path / "mlruns", "s3://bucket/7", None)
    arguments = ["scan", str(tmp_path / "mlruns"), "--artifacts-at", text]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert problem in result.output
    with pytest.raises(OptionError):
        pipeline.Options(artifacts_at=text)


def test_contradicting_roots_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(OptionError, match="contradict"):
        pipeline.Options(artifacts_at=[f"dbfs:/={tmp_path}", f"dbfs:/={tmp_path / 'other'}"])


def test_a_root_that_matches_nothing_is_an_error_with_the_commonest_prefixes(
    tmp_path: Path,
) -> None:
    source = tmp_path / "mlruns"
    write_tree(source, "s3://bucket/mlflow/7", None)
    arguments = ["convert", str(source), "--to", uri_of(source)]
    arguments += ["--artifacts-at", f"s3://buckte={tmp_path}"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "no recorded location begins with s3://buckte" in result.output
    assert "s3://bucket/mlflow  (3 locations)" in result.output
    assert not (tmp_path / "mlflow.db").exists()


# -------------------------------------------------------------------- hollow traces


def test_hollow_traces_are_counted_with_the_place_of_their_artifacts(tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    write_tree(source, "s3://bucket/mlflow/7", None)
    outcome = convert(source)
    assert outcome.artifacts.hollow == {"s3://bucket/mlflow": 1}
    line = (
        "1 rebuilt trace has neither input nor output. Artifacts of the runs, which may hold them, "
        "were not found. Recorded below: s3://bucket/mlflow (1 trace). --artifacts-at OLD=NEW says "
        "where they are now."
    )
    for arguments in (["scan", str(source)], ["verify", str(source), "--against", uri_of(source)]):
        result = CliRunner().invoke(main, arguments)
        assert line in result.output.splitlines()
        assert result.exit_code == 0
    report = json.loads(Path(outcome.report_path or "").read_text())
    assert report["artifacts"]["hollow_traces"] == {"s3://bucket/mlflow": 1}


def test_scan_lists_recorded_prefixes_and_the_command_to_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a database where the test runs would change the command
    source = tmp_path / "mlruns"
    write_tree(source, "s3://bucket/mlflow/a project/7", None)
    given = ["scan", str(source), "--adopt-orphans"]
    lines = CliRunner().invoke(main, given, env={"COLUMNS": "80"}).output.splitlines()
    assert "    2 below s3://bucket/mlflow/a project, none found" in lines
    command = lines[lines.index("If you have the files:") + 1]
    expected = f"mlflow-migrate convert {source} --adopt-orphans"
    assert command == f"    {expected} --artifacts-at 's3://bucket/mlflow/a project=DIRECTORY'"
    completed = shlex.split(command.replace("DIRECTORY", str(tmp_path)))
    assert CliRunner().invoke(main, [*completed[1:], "--dry-run"]).exit_code == 0


@pytest.mark.parametrize("has_directory", [True, False])
def test_runs_that_have_no_artifacts_make_no_hollow_trace(
    has_directory: bool, tmp_path: Path
) -> None:
    source = tmp_path / "mlruns"
    write_tree(source, "file:///home/ana/mlruns/7", None)
    write_run(source, "7", "2" * 32, artifacts={"a.txt": "a"})
    if has_directory:
        (source / "7" / ROOT / "artifacts").mkdir()
    assert convert(source).artifacts.hollow == {}


def test_a_store_without_any_artifacts_makes_hollow_traces(tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    write_tree(source, "file:///mnt/disk/mlruns/7", None)
    assert convert(source).artifacts.hollow == {"file:///mnt/disk/mlruns": 1}


@pytest.mark.parametrize(
    ("uri", "prefix"),
    [
        (f"s3://bucket/mlflow/7/{ROOT}/artifacts", "s3://bucket/mlflow"),
        (f"s3://bucket/7/traces/{TRACE}/artifacts", "s3://bucket"),
        (f"mlflow-artifacts:/7/models/{MODEL}/artifacts", "mlflow-artifacts:/"),
        (f"C:\\Users\\ana\\mlruns\\7\\{ROOT}\\artifacts", "C:\\Users\\ana\\mlruns"),
        ("file:///home/ana/artifacts/1", "file:///home/ana/artifacts"),
        ("/7", "/"),
        ("sftp://ana:secret@host/files/7", "sftp://ana:***@host/files"),
        ("", ""),
    ],
)
def test_a_prefix_is_a_location_without_its_ids(uri: str, prefix: str) -> None:
    assert recorded_prefix(uri) == prefix
