"""Artifacts of a source that lie in a bucket, behind a server, or where the user says."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.errors import MigrateError, OptionError, SourceError
from migrator.extractor.artifact_proxy import PROXY_API, ArtifactProxy
from migrator.extractor.mirrors import Mirror, NotServed, Object, fetch, place
from migrator.issues import Code, Issue, Kind
from migrator.loader import copy_to_object_store
from migrator.model import ArtifactCopy
from migrator.outcome.summary import Outcome
from migrator.verification import verify
from tests.support import databasekit, fixturekit, objectkit, trackerkit
from tests.support.certificates import self_signed
from tests.support.mlflow_server import Server
from tests.support.objectkit import BUCKET, ObjectStore
from tests.support.storekit import write_experiment, write_run

pytestmark = pytest.mark.xdist_group("sources_buckets")

pytest.importorskip("moto", reason="the extra mlflow-migrate[test] has moto and s3fs")
pytest.importorskip("s3fs", reason="the extra mlflow-migrate[test] has moto and s3fs")

OLD = "/tmp/ana/project/mlruns"  # where the fixture's artifacts were
NATIVE = "tr-e10c0824b8fd4ab88aa50790689ac3b5"  # its spans are in a traces.json
QUESTION = {"inputs.json": '{"question": "When?"}', "outputs.json": '{"answer": "In May"}'}
PROMPT = {"prompt.txt": "When?", "response.txt": "In May", "more/model.bin": "0" * 2000}
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("trace_tags", "value"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    trackerkit.database(tmp_path_factory.mktemp("template"))  # made outside of what is watched
    with objectkit.running() as store:
        yield store


@pytest.fixture
def bucket(
    server: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ObjectStore]:
    """The bucket, empty; whatever is fetched goes below ``tmp_path``, and must be gone after."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    yield server
    server.clear()
    assert list(folder.iterdir()) == []


class Recorded(NamedTuple):
    """A database that MLflow wrote, with a workflow of one call."""

    path: Path
    root: str  # run ids
    call: str

    @property
    def trace(self) -> str:
        return f"tr-{self.root}"


def recorded(tmp_path: Path, location: str, *, client: MlflowClient | None = None) -> Recorded:
    """Let MLflow log a workflow, whose artifacts it writes below ``location``."""
    folder = tmp_path / "project"
    folder.mkdir()
    client = client or MlflowClient(trackerkit.database(folder, "mlflow.db"))
    experiment = client.create_experiment("agents", artifact_location=location or None)
    root = client.create_run(experiment).info.run_id
    call = client.create_run(experiment, tags={"mlflow.parentRunId": root}).info.run_id
    client.log_metric(call, "prompt_tokens", 7)
    for run_id, files in ((root, QUESTION), (call, PROMPT)):
        for name, text in files.items():
            client.log_text(run_id, text, name)
        client.set_terminated(run_id)
    return Recorded(folder / "mlflow.db", root, call)


def database_at(root: str, tmp_path: Path) -> tuple[Path, Path]:
    """A database of 2.22 whose locations begin with ``root``, and its artifacts' directory."""
    path = fixturekit.database("2.22.5-database", tmp_path)
    files = (path.parent / "mlruns").rename(tmp_path / "files")
    databasekit.execute(
        path,
        *(
            f"UPDATE {table} SET {column} = replace({column}, '{OLD}', '{root}')"
            for table, column in LOCATIONS
        ),
    )
    return path, files


def convert(
    source: Path, *, at: tuple[str, ...] = (), artifacts: str = "auto", **choice: Any
) -> Outcome:
    options = pipeline.Options(
        workers=1, include="flat", artifacts=artifacts, artifacts_at=at, **choice
    )
    outcome = pipeline.convert([str(source)], target_of(source), options)
    assert outcome.ledger.gaps() == []
    result = verify([str(source)], target_of(source), options)
    assert result.same, result.as_text()
    assert b"mlflow-migrate-" not in Path(target_of(source)[10:]).read_bytes()
    return outcome


def target_of(source: Path) -> str:
    return f"sqlite:///{source.parent.parent / 'new.db'}"


def client_of(source: Path) -> MlflowClient:
    return MlflowClient(target_of(source), target_of(source))


def check_native(source: Path) -> None:
    """Check that a native trace has the spans of its ``traces.json``."""
    spans = client_of(source).get_trace(NATIVE).data.spans
    assert [span.name for span in spans] == ["agent", "search", "llm", "format"]


def check(made: Recorded, tmp_path: Path) -> None:
    """Check that the rebuilt trace has what lies in the artifacts, and that they download."""
    root = client_of(made.path).get_trace(made.trace).data.spans[0]
    assert (root.inputs, root.outputs) == ({"question": "When?"}, {"answer": "In May"})
    for run_id, files in ((made.root, QUESTION), (made.call, PROMPT)):
        target = tmp_path / f"download-{run_id}"
        target.mkdir(exist_ok=True)
        found = Path(client_of(made.path).download_artifacts(run_id, "", str(target)))
        texts = {p.relative_to(found).as_posix(): p.read_text() for p in found.rglob("*.*")}
        assert texts == files


def named(outcome: Outcome, code: Code) -> list[Issue]:
    return [issue for issue in outcome.ledger.issues if issue.code is code]


# ------------------------------------------------------------------------- read where they are


def test_a_database_reads_artifacts_where_the_user_says(tmp_path: Path) -> None:
    made = recorded(tmp_path, (tmp_path / "old" / "1").as_uri())
    (tmp_path / "old").rename(tmp_path / "new")
    outcome = convert(made.path, at=(f"{tmp_path / 'old'}={tmp_path / 'new'}",))
    check(made, tmp_path)
    assert outcome.artifacts.hollow == {}
    uri = client_of(made.path).get_run(made.root).info.artifact_uri
    assert uri == (tmp_path / "new" / "1" / made.root / "artifacts").as_uri()


def test_native_traces_of_a_database_are_read_where_the_user_says(tmp_path: Path) -> None:
    source, files = database_at("mlflow-artifacts:", tmp_path)
    outcome = convert(source, at=(f"mlflow-artifacts:/={files}",))
    check_native(source)
    assert not named(outcome, Code.SPANS_MISSING) or len(named(outcome, Code.SPANS_MISSING)) == 1


def test_a_database_reads_the_artifacts_in_the_bucket_that_it_records(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    bucket.calls.clear()
    outcome = convert(made.path)
    check(made, tmp_path)
    assert outcome.artifacts.hollow == {}
    assert outcome.artifacts.roots == {}
    uri = client_of(made.path).get_run(made.root).info.artifact_uri
    assert uri == f"s3://{BUCKET}/mlflow/1/{made.root}/artifacts"


def test_native_traces_are_read_in_the_bucket_that_they_record(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    source, files = database_at(f"s3://{BUCKET}/mlflow", tmp_path)
    bucket.upload(files, "mlflow")
    shutil.rmtree(files)
    convert(source)
    check_native(source)


def test_a_bucket_that_moved_is_read_and_recorded_where_it_is_now(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/old/1")
    for key in bucket.state():
        body = bucket.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        bucket.put(key.replace("old/", "new/place/"), body)
        bucket.client.delete_object(Bucket=BUCKET, Key=key)
    outcome = convert(made.path, at=(f"s3://{BUCKET}/old=s3://{BUCKET}/new/place",))
    check(made, tmp_path)
    (root,) = outcome.artifacts.as_dict()["roots"]
    assert root == {
        "old": f"s3://{BUCKET}/old",
        "new": f"s3://{BUCKET}/new/place",
        "told": True,
        "locations": 2,
    }


def test_only_what_a_profile_or_trace_needs_is_fetched(bucket: ObjectStore, tmp_path: Path) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    asked: list[str] = []
    bucket.fault = lambda what, path: asked.append(path) if what == "get" else None
    pipeline.scan([str(made.path)], pipeline.Options(workers=1))
    names = sorted(path.rpartition("/")[2] for path in asked)
    assert names == ["inputs.json", "outputs.json", "prompt.txt", "response.txt"]
    asked.clear()
    pipeline.scan([str(made.path)], pipeline.Options(workers=1, traces=False))
    pipeline.scan([str(made.path)], pipeline.Options(workers=1, fetch_limit=0))
    pipeline.scan([str(made.path)], pipeline.Options(workers=1, not_experiments="agents"))
    assert asked == []
    assert bucket.calls["list"] == 1


def test_a_store_on_disk_reads_its_artifacts_in_the_bucket(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    source = tmp_path / "project" / "mlruns"
    run = "1123456789abcdef0123456789abcdef"
    write_experiment(source, "7", "chat", artifact_location=f"s3://{BUCKET}/chat")
    write_run(source, "7", run, artifact_uri=f"s3://{BUCKET}/chat/{run}/artifacts")
    bucket.put(f"chat/{run}/artifacts/prompt.txt", b"Why?")
    bucket.put(f"chat/{run}/artifacts/response.txt", b"So.")
    convert(source)
    (span,) = client_of(source).get_trace(f"tr-{run}").data.spans
    assert span.outputs == "So."


@pytest.mark.parametrize("above", ["", "/team"])
def test_an_experiment_is_in_the_bucket_that_the_user_says(
    above: str, bucket: ObjectStore, tmp_path: Path
) -> None:
    source = tmp_path / "project" / "mlruns"
    run = "1123456789abcdef0123456789abcdef"
    write_experiment(source, "7", "chat", artifact_location=f"s3://gone{above}")
    write_run(source, "7", run, artifact_uri=f"s3://gone{above}/{run}/artifacts")
    bucket.put(f"chat{above}/{run}/artifacts/prompt.txt", b"Why?")
    convert(source, at=(f"s3://gone=s3://{BUCKET}/chat",))
    client = client_of(source)
    assert client.get_experiment("7").artifact_location == f"s3://{BUCKET}/chat{above}"
    assert [file.path for file in client.list_artifacts(run)] == ["prompt.txt"]


# ------------------------------------------------------------------------- behind a server


@pytest.fixture(scope="module", params=["file", "s3"])
def proxy(
    request: pytest.FixtureRequest, server: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A real server that serves artifacts from its disk or from the bucket."""
    folder = tmp_path_factory.mktemp("server")
    destination = f"s3://{BUCKET}/served" if request.param == "s3" else None
    started = Server(folder, destination).start(server.env())
    try:
        yield started
    finally:
        started.kill()


def test_artifacts_behind_a_server_are_read_and_open_with_mlflow(
    proxy: Server, bucket: ObjectStore, tmp_path: Path
) -> None:
    made = recorded(tmp_path, "", client=MlflowClient(proxy.uri))
    made = made._replace(path=Path(shutil.copy(proxy.path, made.path)))
    at = (f"mlflow-artifacts:/={proxy.uri}",)
    outcome = convert(made.path, at=at)
    check(made, tmp_path)
    assert outcome.artifacts.hollow == {}
    uri = client_of(made.path).get_run(made.root).info.artifact_uri
    assert uri.startswith(f"{proxy.uri}/api/2.0/mlflow-artifacts/artifacts/")


def test_native_traces_behind_a_server_are_read(
    proxy: Server, bucket: ObjectStore, tmp_path: Path
) -> None:
    source, files = database_at("mlflow-artifacts:", tmp_path)
    bucket.upload(files, "served")  # one of the two is what the server has
    shutil.copytree(files, proxy.folder / "artifacts", dirs_exist_ok=True)
    shutil.rmtree(files)
    convert(source, at=(f"mlflow-artifacts:/={proxy.uri}",))
    check_native(source)


@pytest.mark.parametrize(
    ("variables", "header"),
    [
        (
            {"MLFLOW_TRACKING_USERNAME": "ana", "MLFLOW_TRACKING_PASSWORD": "pw"},
            "Basic YW5hOnB3",
        ),
        ({"MLFLOW_TRACKING_TOKEN": "abc"}, "Bearer abc"),
    ],
)
def test_a_server_gets_the_login_of_mlflows_variables(
    variables: dict[str, str], header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    asked: list[str | None] = []
    with contextmanager(answering)(200, '{"files": []}', asked) as address:
        assert ArtifactProxy(f"{address}{PROXY_API}").files_below("1") == []
    assert asked == [header]


def test_a_listing_that_leads_elsewhere_stays_below(tmp_path: Path) -> None:
    listing = '{"files": [{"path": "../.."}, {"path": "/etc/passwd"}, {"path": 7}, "x", {}]}'
    with contextmanager(answering)(200, listing) as address:
        found = ArtifactProxy(f"{address}{PROXY_API}").files_below("1/run/artifacts")
    assert found == [("1/run/artifacts/passwd", None)]


def test_artifacts_in_a_bucket_are_sent_to_a_server(
    proxy: Server, bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the report of a server goes there
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    options = pipeline.Options(workers=1, rename={"agents": f"sent to {proxy.port}"})
    outcome = pipeline.convert([str(made.path)], proxy.uri, options)
    assert outcome.server is not None
    assert outcome.server.files_sent == 5
    new_id = outcome.server.ids["run"][made.call]
    (tmp_path / "sent").mkdir()
    target = str(tmp_path / "sent")
    found = Path(MlflowClient(proxy.uri).download_artifacts(new_id, "", target))
    texts = {p.relative_to(found).as_posix(): p.read_text() for p in found.rglob("*.*")}
    assert texts == PROMPT


def test_what_exceeds_the_limit_is_not_sent_but_traces_have_their_texts(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    options = pipeline.Options(fetch_limit=1000)
    with pipeline.fetched(str(made.path), options, whole=True) as opened:
        (store,) = pipeline.open_stores(opened)
        codes = [issue.code for issue in store.index.issues]
        assert codes == [Code.ARTIFACTS_BEYOND_LIMIT]
        runs = {entry.entity_id: entry for entry in store.index.runs}
        call = store.source.read_run(runs[made.call], lambda path: True).record
        assert call is not None
        assert call.texts == {name: PROMPT[name] for name in ("prompt.txt", "response.txt")}
        assert [file.path for file in call.artifacts] == ["prompt.txt", "response.txt"]
    with (
        pytest.raises(SourceError, match="Give a higher --fetch-limit"),
        pipeline.fetched(
            str(made.path),
            pipeline.Options(
                fetch_limit=1000, artifacts=COPIES, artifacts_at=f"s3://{BUCKET}=s3://{BUCKET}"
            ),
            whole=True,
        ) as opened,
    ):
        pipeline.open_stores(opened)


def test_a_location_with_dots_is_not_followed(bucket: ObjectStore, tmp_path: Path) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    uri = f"s3://{BUCKET}/mlflow/../1/{made.root}/artifacts"
    databasekit.execute(
        made.path, f"UPDATE runs SET artifact_uri = '{uri}' WHERE run_uuid = '{made.root}'"
    )
    outcome = convert(made.path)
    assert outcome.exit_code == 0
    assert client_of(made.path).get_run(made.root).info.artifact_uri == uri


# ------------------------------------------------------------------------- copied


COPIES = f"copy:s3://{BUCKET}/new/mlflow"


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_artifacts_are_copied_to_a_bucket(place: str, bucket: ObjectStore, tmp_path: Path) -> None:
    at: tuple[str, ...] = ()
    if place == "disk":
        made = recorded(tmp_path, (tmp_path / "old" / "1").as_uri())
    else:
        made = recorded(tmp_path, f"s3://{BUCKET}/old/1")
        at = (f"s3://{BUCKET}/old=s3://{BUCKET}/old",)
    outcome = convert(made.path, artifacts=COPIES, at=at)
    assert (outcome.artifacts.files_copied, outcome.artifacts.files_there) == (5, 0)
    client = client_of(made.path)
    experiment = client.get_run(made.root).info.experiment_id
    location = f"s3://{BUCKET}/new/mlflow/{experiment}"
    assert client.get_experiment(experiment).artifact_location == location
    assert client.get_run(made.root).info.artifact_uri == f"{location}/{made.root}/artifacts"
    shutil.rmtree(tmp_path / "old", ignore_errors=True)
    for key in bucket.state():
        if key.startswith("old/"):
            bucket.client.delete_object(Bucket=BUCKET, Key=key)
    check(made, tmp_path)


def test_a_copy_to_a_bucket_that_was_killed_continues(bucket: ObjectStore, tmp_path: Path) -> None:
    made = recorded(tmp_path, (tmp_path / "old" / "1").as_uri())
    sent, killed = list[str](), threading.Event()

    def hold(what: str, path: str) -> tuple[int, str] | None:
        if what == "put":
            sent.append(path)
        if what != "put" or path in sent[:2]:
            return None
        killed.wait(120)
        return 503, "SlowDown"

    bucket.fault = hold
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "migrator.cli", "convert", str(made.path)),
            *(f"--to={target_of(made.path)}", f"--artifacts={COPIES}"),
        ],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    # All five are on their way, so that none can arrive after the kill.
    while not (len(sent) == 5 and len(bucket.state()) == 2):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    child.kill()
    child.wait()
    killed.set()
    bucket.fault = None
    assert len(bucket.state()) == 2 and not Path(target_of(made.path)[10:]).exists()
    outcome = convert(made.path, artifacts=COPIES)
    assert (outcome.artifacts.files_there, outcome.artifacts.files_copied) == (2, 3)
    check(made, tmp_path)
    again = convert(made.path, artifacts=COPIES)
    assert (again.artifacts.files_there, again.artifacts.files_copied) == (5, 0)


def test_a_copy_that_differs_is_replaced_and_verify_sees_it(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    made = recorded(tmp_path, (tmp_path / "old" / "1").as_uri())
    convert(made.path, artifacts=COPIES)
    (key,) = [key for key in bucket.state() if key.endswith("prompt.txt")]
    bucket.put(key, b"Whom")  # as long as the artifact is
    options = pipeline.Options(workers=1, include="flat", artifacts=COPIES)
    result = verify([str(made.path)], target_of(made.path), options)
    assert [each.field for each in result.differences] == ["artifact prompt.txt"]
    outcome = convert(made.path, artifacts=COPIES)
    (issue,) = named(outcome, Code.ARTIFACT_COPY_REPLACED)
    assert issue.path == f"{BUCKET}/{key}"
    check(made, tmp_path)


def test_an_object_whose_checksum_says_nothing_is_read_back() -> None:
    pytest.importorskip("fsspec")
    import fsspec

    memory = fsspec.filesystem("memory")
    copies = [ArtifactCopy(Kind.RUN, "r", "unused", "unused", "memory://lab/1/r/artifacts")]
    files = [("a.txt", __file__, Path(__file__).stat().st_size)]
    first = copy_to_object_store(copies, "memory://lab", lambda copy: files)
    second = copy_to_object_store(copies, "memory://lab", lambda copy: files)
    assert (first.files, second.files, second.already_there) == (1, 0, 1)
    memory.pipe("/lab/1/r/artifacts/a.txt", b"x" * files[0][2])
    third = copy_to_object_store(copies, "memory://lab", lambda copy: files)
    assert (third.files, len(third.issues)) == (1, 1)
    memory.rm("/lab", recursive=True)


def test_a_bucket_that_takes_no_copies_leaves_no_database(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    made = recorded(tmp_path, (tmp_path / "old" / "1").as_uri())
    with pytest.raises(MigrateError, match="s3://not-there/x"):
        convert(made.path, artifacts="copy:s3://not-there/x")
    assert not Path(target_of(made.path)[10:]).exists()


def test_a_told_place_that_can_not_be_read_ends_a_copy(bucket: ObjectStore, tmp_path: Path) -> None:
    made = moved_to_proxy(tmp_path)
    with pytest.raises(SourceError, match="nothing listens there"):
        convert(made.path, artifacts=COPIES, at=("mlflow-artifacts:/=http://127.0.0.1:9",))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("copy:http://host/x", "not to any other URI"),
        ("copy:file:///x", "not to any other URI"),
        ("copy:s3://", "not to any other URI"),
        ("copy:s3:/new/mlflow", "not to any other URI"),
        ("copy:sftp://ana:secret@host/x", "holds a password"),
    ],
)
def test_other_places_for_copies_are_refused(given: str, words: str) -> None:
    with pytest.raises(OptionError) as refused:
        pipeline.Options(artifacts=given)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


# ------------------------------------------------------------------------- what goes wrong


def hollow(source: Path, *at: str) -> tuple[Outcome, str]:
    """Convert a workflow whose artifacts can't be read; the outcome and the issue's message."""
    outcome = convert(source, at=at)
    assert outcome.exit_code == 0
    assert sum(outcome.artifacts.hollow.values()) == 1
    (issue,) = named(outcome, Code.ARTIFACTS_NOT_LOOKED_AT)
    assert issue.message.startswith("The artifacts of 2 locations were not looked at. ")
    return outcome, issue.message


def test_without_credentials_the_run_converts(
    bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", "/nonexistent")
    outcome, message = hollow(made.path)
    assert f"s3://{BUCKET} can't be read: NoCredentialsError" in message
    assert "Check the credentials and the network (a login is read from AWS_PROFILE, " in message
    assert outcome.artifacts.hollow == {f"s3://{BUCKET}/mlflow": 1}


def test_without_the_extra_the_run_converts(bucket: ObjectStore, tmp_path: Path) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    code = "import sys; sys.modules['s3fs'] = None\nfrom migrator.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, "scan", str(made.path), "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["artifacts"]["hollow_traces"] == {f"s3://{BUCKET}/mlflow": 1}
    assert "pip install 'mlflow-migrate[s3]'" in done.stdout


@pytest.mark.parametrize("refused", ["list", "get"])
def test_a_bucket_that_refuses_is_named(refused: str, bucket: ObjectStore, tmp_path: Path) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    bucket.fault = lambda what, path: (403, "AccessDenied") if what == refused else None
    _, message = hollow(made.path)
    assert "access is denied" in message


@pytest.mark.parametrize("place", ["s3://not-there/x", f"s3://{BUCKET}/not-there"])
def test_a_told_place_that_does_not_exist_is_refused(
    place: str, bucket: ObjectStore, tmp_path: Path
) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    with pytest.raises(OptionError, match=f"{place} does not exist"):
        convert(made.path, at=(f"s3://{BUCKET}={place}",))
    assert not Path(target_of(made.path)[10:]).exists()


def test_a_recorded_bucket_that_does_not_exist_is_named(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    for table, column in LOCATIONS[:2]:
        change = f"replace({column}, '{BUCKET}', 'not-there')"
        databasekit.execute(made.path, f"UPDATE {table} SET {column} = {change}")
    outcome, message = hollow(made.path)
    assert "s3://not-there does not exist" in message
    assert outcome.artifacts.hollow == {"s3://not-there/mlflow": 1}


@pytest.mark.parametrize(
    "place", ["wasbs://box@ana.blob.core.windows.net/x", "abfss://box@ana.dfs.core.windows.net/x"]
)
def test_without_the_extra_of_azure_it_is_named(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    _, message = hollow(moved_to_proxy(tmp_path).path, f"mlflow-artifacts:/={place}")
    assert "pip install 'mlflow-migrate[azure]'" in message


def test_an_object_that_vanishes_costs_that_one(bucket: ObjectStore, tmp_path: Path) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")

    def fault(what: str, path: str) -> tuple[int, str] | None:
        return (404, "NoSuchKey") if what == "get" and path.endswith("outputs.json") else None

    bucket.fault = fault
    outcome = convert(made.path)
    (issue,) = named(outcome, Code.ARTIFACT_UNREADABLE)
    assert issue.path == f"s3://{BUCKET}/mlflow/1/{made.root}/artifacts/outputs.json"
    root = client_of(made.path).get_trace(made.trace).data.spans[0]
    assert (root.inputs, root.outputs) == ({"question": "When?"}, None)


def test_an_object_that_changes_is_read_as_it_is_then(bucket: ObjectStore, tmp_path: Path) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    changed: list[str] = []
    later = b'{"answer": "No, in June"}'

    def fault(what: str, path: str) -> None:
        if what == "get" and path.endswith("outputs.json") and not changed:
            changed.append(path)
            bucket.put(f"mlflow/1/{made.root}/artifacts/outputs.json", later)

    bucket.fault = fault
    outcome = pipeline.scan([str(made.path)], pipeline.Options(workers=1))
    (issue,) = named(outcome, Code.ARTIFACT_CHANGED)
    assert issue.path == f"s3://{BUCKET}/mlflow/1/{made.root}/artifacts/outputs.json"


def test_the_limit_on_size_is_kept_and_named(bucket: ObjectStore, tmp_path: Path) -> None:
    made = recorded(tmp_path, f"s3://{BUCKET}/mlflow/1")
    bucket.put(f"mlflow/1/{made.root}/artifacts/inputs.json", b'{"question": "W%s"}' % (b"o" * 500))
    outcome = convert(made.path, fetch_limit="200")
    (issue,) = named(outcome, Code.ARTIFACTS_BEYOND_LIMIT)
    assert issue.message == "1 file would exceed the limit of 200 bytes."
    root = client_of(made.path).get_trace(made.trace).data.spans[0]
    assert (root.inputs, root.outputs) == (None, {"answer": "In May"})
    assert not named(outcome, Code.ARTIFACT_NOT_TEXT)  # which a file without content would be


def answering(
    status: int,
    text: str,
    asked: list[str | None] | None = None,
    certificate: Path | None = None,
) -> Iterator[str]:
    """The address of a server that answers everything alike, and notes the logins in ``asked``."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if asked is not None:
                asked.append(self.headers["Authorization"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as httpd:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        scheme = "http" if certificate is None else "https"
        yield f"{scheme}://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (503, "Endpoint disabled: --serve-artifacts", "has no artifact proxy (503). Start the"),
        (404, "not found", "has no artifact proxy (404). Start the server with --serve-artifacts"),
        (401, "who?", "refuses the login (401). Set MLFLOW_TRACKING_USERNAME"),
        (403, "no", "refuses the login (403). Set MLFLOW_TRACKING_USERNAME"),
        (200, "<html>", "it is not an MLflow server with an artifact proxy. Give its address"),
    ],
)
def test_a_server_that_can_not_list_artifacts_is_named(
    status: int, text: str, words: str, tmp_path: Path
) -> None:
    made = moved_to_proxy(tmp_path)
    with contextmanager(answering)(status, text) as address:
        _, message = hollow(made.path, f"mlflow-artifacts:/={address}")
    assert words in message


def test_an_interrupt_while_threads_are_started_stops_those_that_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, submit = threading.Event(), ThreadPoolExecutor.submit
    stopped: list[str] = []

    class Large:
        at_once = 2

        def get(self, key: str, to: str, check: Callable[[], None]) -> None:
            began.set()
            for _ in range(200):
                try:
                    check()
                except BaseException:
                    stopped.append(key)
                    raise
                time.sleep(0.05)

    def interrupted(self: ThreadPoolExecutor, *work: Any) -> Any:
        if began.is_set():
            raise KeyboardInterrupt
        future = submit(self, *work)
        assert began.wait(10)
        return future

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    mirror = Mirror("http://host", str(tmp_path), "")
    placed, _ = place(mirror, [Object("a.txt", "a.txt", 1), Object("b.txt", "b.txt", 1)])
    with pytest.raises(KeyboardInterrupt):
        fetch(Large(), mirror, placed, lambda stage, done, total: None)
    assert stopped == ["a.txt"] and list(tmp_path.iterdir()) == []


def test_a_file_that_a_server_fails_to_send_costs_that_one(tmp_path: Path) -> None:
    with contextmanager(answering)(500, "Internal Server Error") as address:
        remote = ArtifactProxy(f"{address}{PROXY_API}")
        with pytest.raises(NotServed, match=r"the server answers 500 for /1/%C3%BC\.txt"):
            remote.get("1/ü.txt", str(tmp_path / "file"), lambda: None)

    class Partly:
        at_once = 1

        def get(self, key: str, to: str, check: Callable[[], None]) -> None:
            if key == "ü.txt":
                raise NotServed("no")
            Path(to).write_text("x")

    mirror = Mirror("http://host", str(tmp_path), "")
    placed, _ = place(mirror, [Object("ü.txt", "ü.txt", 1), Object("a.txt", "a.txt", 1)])
    fetched = fetch(Partly(), mirror, placed, lambda stage, done, total: None)
    assert [object_.key for object_, _ in fetched.lost] == ["ü.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    (tmp_path / "ü.txt").touch()
    with pytest.raises(NotServed):  # where nothing is sent, the server is at fault
        fetch(Partly(), mirror, placed[1:], lambda stage, done, total: None)


@pytest.mark.long
def test_nobody_listens(tmp_path: Path) -> None:
    made = moved_to_proxy(tmp_path)
    _, message = hollow(made.path, "mlflow-artifacts:/=http://127.0.0.1:9")
    assert "http://127.0.0.1:9 can't be read: nothing listens there" in message


@pytest.mark.long
def test_a_server_without_tls_is_named(tmp_path: Path) -> None:
    made = moved_to_proxy(tmp_path)
    with contextmanager(answering)(200, "{}") as address:
        _, message = hollow(made.path, f"mlflow-artifacts:/={address.replace('http', 'https')}")
    assert "its certificate or TLS is not accepted (" in message
    assert "give http:// for a server without TLS" in message


@pytest.mark.long
def test_a_certificate_that_fails_is_named(
    bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    made = moved_to_proxy(tmp_path)
    with contextmanager(answering)(200, '{"files": []}', certificate=certificate) as address:
        _, message = hollow(made.path, f"mlflow-artifacts:/={address}")
        assert "(certificate verify failed: self-signed certificate)" in message
        assert "Set MLFLOW_TRACKING_SERVER_CERT_PATH" in message
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        assert ArtifactProxy(f"{address}{PROXY_API}").files_below("1") == []
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        options = pipeline.Options(artifacts_at="mlflow-artifacts:/=s3://lab")
        (issue,) = named(pipeline.scan([str(made.path)], options), Code.ARTIFACTS_NOT_LOOKED_AT)
        assert "the certificate of its server is not accepted" in issue.message
        assert "AWS_CA_BUNDLE" in issue.message


def moved_to_proxy(tmp_path: Path) -> Recorded:
    """A database whose artifacts are gone, and recorded as served by a server."""
    made = recorded(tmp_path, (tmp_path / "old" / "1").as_uri())
    old = (tmp_path / "old").as_uri()
    for table, column in LOCATIONS[:2]:
        change = f"replace({column}, '{old}', 'mlflow-artifacts:')"
        databasekit.execute(made.path, f"UPDATE {table} SET {column} = {change}")
    shutil.rmtree(tmp_path / "old")
    return made


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("s3://a", "it has no equals sign"),
        ("s3://a=/not/there", "/not/there does not exist"),
        ("s3://a=s3://", "is neither the address of an object store nor"),
        ("mlflow-artifacts:/=http://u:secret@host:5000", "holds a password"),
        ("mlflow-artifacts:/=http://host:port", "is neither the address of an object store nor"),
        ("mlflow-artifacts:/=nonsense://host", "is neither the address of an object store nor"),
    ],
)
def test_a_mapping_that_can_not_be_is_refused(given: str, words: str) -> None:
    with pytest.raises(OptionError) as refused:
        pipeline.Options(artifacts_at=given)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "expected"), [("500", 500), ("1.5GB", 1_500_000_000), ("20 mb", 20_000_000), (0, 0)]
)
def test_a_limit_is_a_number_of_bytes(given: str | int, expected: int) -> None:
    assert pipeline.Options(fetch_limit=given).fetch_limit == expected


@pytest.mark.parametrize("given", ["", "much", "-1", "5XB"])
def test_other_limits_are_refused(given: str) -> None:
    with pytest.raises(OptionError, match="is not a number of bytes"):
        pipeline.Options(fetch_limit=given)
