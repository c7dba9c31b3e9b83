"""Stores in a bucket give the rows of their local copy, and nothing of the way there is seen.

The bucket is moto's, on this machine, behind a door that counts, delays and refuses.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from migrator import pipeline, transformer
from migrator.cli import main
from migrator.errors import SourceError
from migrator.extractor import mirrors
from migrator.extractor.filestore.must_fetch import must_fetch
from migrator.issues import Code
from migrator.outcome.summary import Outcome
from migrator.pipeline import Options
from migrator.verification import verify
from tests.support import fixturekit, objectkit, oracle, storekit
from tests.support.marks import every_store
from tests.support.objectkit import BUCKET, ObjectStore

pytestmark = pytest.mark.xdist_group("sources_buckets")

pytest.importorskip("moto", reason="the extra mlflow-migrate[test] has moto and s3fs")
pytest.importorskip("s3fs", reason="the extra mlflow-migrate[test] has moto and s3fs")

ROOT = Path(__file__).resolve().parent.parent.parent
ONE = Options(workers=1)
RUN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with objectkit.running() as store:
        yield store


@pytest.fixture
def bucket(
    server: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ObjectStore]:
    """The bucket, empty; whatever is mirrored goes below ``tmp_path``, and must be gone after."""
    mirrors = tmp_path / "temporary"
    mirrors.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(mirrors))
    monkeypatch.setenv("TMPDIR", str(mirrors))
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    yield server
    server.clear()
    assert list(mirrors.iterdir()) == []


def convert(
    source: str | list[str], to: Path, options: Options = ONE, *, schema: str = "3.9", **how: Any
) -> Outcome:
    """Convert into a database that only a test's ``sqlite3`` reads, unless ``schema`` is latest."""
    sources = [source] if isinstance(source, str) else source
    return pipeline.convert(sources, f"sqlite:///{to}", options, schema=schema, **how)


def rows(database: Path, old: tuple[str, ...] = (), new: str = "") -> dict[str, list[Any]]:
    """Return every row of every table, sorted, with ``new`` in the place of the texts ``old``."""

    def named(value: Any) -> Any:
        for text in old if isinstance(value, str) else ():
            value = value.replace(text, new)
        return value

    with sqlite3.connect(database) as db:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        found = {
            table: sorted(
                (tuple(map(named, row)) for row in db.execute(f'SELECT * FROM "{table}"')),
                key=repr,
            )
            for table in tables
        }
    db.close()
    if "migrator_seen" in found:  # digests of locations, and which store it was, follow the item
        remembered = [row for row in found["migrator_seen"] if row[2]]  # 0: the store's own state
        found["migrator_seen"] = sorted(row[:1] for row in remembered)
    return found


def printed(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def small_store(root: Path) -> Path:
    """Write a store of one run with a param, a metric, a tag and an artifact that is read."""
    storekit.write_experiment(root, "1", "chat")
    storekit.write_run(
        root, "1", RUN, params={"model": "m"}, metrics={"loss": [(storekit.START_MS, 0.5, 0)]}
    )
    storekit.write_values(root / "1" / RUN / "artifacts", {"prompt.txt": "Why?", "big.bin": b"\1"})
    return root


# ------------------------------------------------------------------------- the same rows


@pytest.mark.parametrize("name", every_store())
def test_a_bucket_gives_the_rows_of_the_local_copy(
    name: str, bucket: ObjectStore, tmp_path: Path
) -> None:
    local = fixturekit.materialise(name, tmp_path / "of project")
    if name == "2.22.5-emptied":  # a bucket can't tell an empty folder from none
        for run in local.glob(f"*/{'[0-9a-f]' * 32}/meta.yaml"):
            run.with_name("artifacts").mkdir(exist_ok=True)
    address = bucket.upload(local.parent, "of project")
    before = bucket.state()

    there = convert(f"{address}/mlruns", tmp_path / "there.db")
    here = convert(str(local), tmp_path / "here.db")

    assert bucket.state() == before
    assert bucket.calls.keys() <= {"list", "get", "head", "put"}
    expected = rows(tmp_path / "here.db", (local.parent.as_uri(), str(local.parent)), address)
    assert rows(tmp_path / "there.db") == expected
    assert there.ledger.as_rows() == here.ledger.as_rows()
    assert there.ledger.files == here.ledger.files
    assert there.ledger.size_bytes == here.ledger.size_bytes
    assert there.sources == (f"{address}/mlruns",)
    assert [str(issue).replace(str(local.parent), address) for issue in here.ledger.issues] == [
        str(issue) for issue in there.ledger.issues
    ]
    for file in tmp_path.glob("there*"):
        assert b"mlflow-migrate-" not in file.read_bytes(), file


@pytest.mark.long
@pytest.mark.parametrize("name", ["2.9.2-moved", "2.22.5-registry-traces", "3.5.1-genai"])
def test_verify_reads_the_bucket_again(name: str, bucket: ObjectStore, tmp_path: Path) -> None:
    address = bucket.upload(fixturekit.store(name).parent, name)
    convert(address, tmp_path / "x.db", schema="latest")  # which the installed MLflow reads
    result = verify([address], f"sqlite:///{tmp_path / 'x.db'}", ONE)
    assert result.same, result.as_text()
    with sqlite3.connect(tmp_path / "x.db") as db:
        db.execute("UPDATE runs SET name = name || 'x'")
    db.close()
    found = verify([address], f"sqlite:///{tmp_path / 'x.db'}", ONE)
    assert {item.field for item in found.changed} == {"name"}  # people may have done that


@pytest.mark.long
@pytest.mark.parametrize("name", ["2.22.5-registry-traces", "3.5.1-genai"])
def test_mlflow_reads_the_same_from_the_store_and_from_what_came_of_the_bucket(
    name: str, bucket: ObjectStore, tmp_path: Path
) -> None:
    local = fixturekit.materialise(name, tmp_path)
    address = bucket.upload(local.parent, name)
    convert(address, tmp_path / "x.db")
    with sqlite3.connect(tmp_path / "x.db") as db:  # the witness looks for files on this machine
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "source"),
            ("model_versions", "storage_location"),
            ("trace_tags", "value"),
        ):
            db.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                (address, local.parent.as_uri()),
            )
    db.close()
    assert oracle.compare_stores(local, f"sqlite:///{tmp_path / 'x.db'}") == []


def test_mlflow_opens_the_artifacts_in_the_bucket(bucket: ObjectStore, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    address = bucket.upload(small_store(tmp_path / "mlruns"), "a b/mlruns")
    convert(address, tmp_path / "x.db")
    client = MlflowClient(f"sqlite:///{tmp_path / 'x.db'}")
    assert client.get_run(RUN).info.artifact_uri == f"{address}/1/{RUN}/artifacts"
    assert [item.path for item in client.list_artifacts(RUN)] == ["big.bin", "prompt.txt"]
    fetched = client.download_artifacts(RUN, "prompt.txt", str(tmp_path))
    assert Path(fetched).read_text() == "Why?"


def test_what_is_opened_of_a_store_is_what_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: set[str] = set()
    real = os.open

    def watch(path: Any, *args: Any, **kwargs: Any) -> int:
        opened.add(str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", watch)
    wanted = transformer.wanted_artifacts(transformer.load_profiles())
    stores = [fixturekit.store(name) for name in fixturekit.names()]
    for store in stores:
        pipeline.scan([str(store)], ONE)
    read = [Path(path) for path in opened if Path(path).is_relative_to(fixturekit.FIXTURES)]
    assert len(read) > 3000
    for path in filter(Path.exists, read):  # some are tried
        inside = path.relative_to(fixturekit.FIXTURES).as_posix()
        assert must_fetch(inside, path.stat().st_size, wanted), path
    left = [
        path
        for store in stores
        for path in store.rglob("*")
        if path.is_file()
        and not must_fetch(
            path.relative_to(fixturekit.FIXTURES).as_posix(), path.stat().st_size, wanted
        )
    ]
    assert len(left) > 50  # it does tell them apart


@pytest.mark.parametrize(
    ("path", "size_bytes", "fetched"),
    [
        (f"mlruns/1/{RUN}/meta.yaml", 500, True),
        (f"mlruns/1/{RUN}/artifacts/prompt.txt", 500, True),
        (f"mlruns/1/{RUN}/artifacts/prompt.txt", 1_000_001, False),  # too large to be read as text
        (f"mlruns/1/{RUN}/artifacts/model.bin", 500, False),
        (f"mlruns/.trash/1/{RUN}/artifacts/model.bin", 500, False),
        (f"mlartifacts/1/{RUN}/artifacts/model.bin", 500, False),
        (f"mlruns/1/models/m-{RUN}/artifacts/MLmodel", 500, False),
        (f"mlruns/1/traces/tr-{RUN}/artifacts/traces.json", 200 << 20, True),
        (f"mlruns/1/traces/tr-{RUN}/artifacts/traces.json", 300 << 20, False),
        (f"mlruns/1/{RUN}/metrics/loss", 900 << 20, True),
        (f"mlruns/1/{RUN}/metrics/loss", 2 << 30, False),
        (f"mlruns/1/{RUN}/params/{RUN}/artifacts/key", 5, True),  # a key with slashes
        ("mlruns/1/artifacts/run/meta.yaml", 5, True),  # runs in a folder of somebody's own
        ("mlruns/artifacts/1/meta.yaml", 5, True),
        ("mlruns/backup.tar", 17 << 20, False),
    ],
)
def test_which_files_are_fetched(path: str, size_bytes: int, fetched: bool) -> None:
    wanted = transformer.wanted_artifacts(transformer.load_profiles())
    assert must_fetch(path, size_bytes, wanted) is fetched


def test_traces_whose_spans_are_lost_record_what_is_known_of_their_location(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    root = small_store(tmp_path / "mlruns")
    silent, emptied, damaged = (f"tr-{letter * 32}" for letter in "abc")
    for trace_id in (silent, emptied):
        storekit.write_trace(root, "1", trace_id)
        (root / "1" / "traces" / trace_id / "artifacts" / "traces.json").unlink()
    (root / "1" / "traces" / silent / "tags" / "mlflow.artifactLocation").unlink()
    storekit.write_trace(root, "1", damaged, traces_json=b"\0\1")
    address = bucket.upload(root, "mlruns")
    convert(address, tmp_path / "x.db")
    found = rows(tmp_path / "x.db")
    assert {silent, emptied, damaged} <= {row[0] for row in found["spans"]}
    tags = {(row[2], row[0]): row[1] for row in found["trace_tags"]}
    place = "mlflow.artifactLocation"
    assert tags[damaged, place] == f"{address}/1/traces/{damaged}/artifacts"  # its file is there
    old = f"file:///home/ana/mlruns/1/traces/{emptied}/artifacts"
    assert tags[emptied, place] == old  # the only hint: a bucket has no empty folder for it
    assert (silent, place) not in tags  # it records none, and none is invented
    assert b"mlflow-migrate-" not in (tmp_path / "x.db").read_bytes()


def test_a_run_without_artifacts_has_its_place_in_the_bucket_if_others_have_theirs_there(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    root = small_store(tmp_path / "mlruns")
    bare = "f" * 32
    storekit.write_run(root, "1", bare, params={"a": "b"})
    address = bucket.upload(root, "mlruns")
    convert(address, tmp_path / "x.db")
    uris = {row[0]: row for row in rows(tmp_path / "x.db")["runs"]}
    assert f"{address}/1/{bare}/artifacts" in uris[bare]
    bucket.clear()

    for artifact in (root / "1" / RUN / "artifacts").iterdir():
        artifact.unlink()
    bucket.upload(root, "mlruns")  # now no file is in the bucket: the locations are the only clue
    convert(address, tmp_path / "y.db")
    assert all("s3://" not in str(row) for row in rows(tmp_path / "y.db")["runs"])


# ------------------------------------------------------------------------- other commands


def test_copies_are_fetched_whole(bucket: ObjectStore, tmp_path: Path) -> None:
    address = bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    options = Options(workers=1, artifacts=f"copy:{tmp_path / 'copies'}")
    outcome = convert(address, tmp_path / "x.db", options, schema="latest")
    assert outcome.artifacts.files_copied == 2
    copies = tmp_path / "copies" / "1" / RUN / "artifacts"
    assert {path.name: path.read_bytes() for path in copies.iterdir()} == {
        "prompt.txt": b"Why?",
        "big.bin": b"\1",
    }
    _, changed = bucket.state()[f"mlruns/1/{RUN}/artifacts/big.bin"]
    assert (copies / "big.bin").stat().st_mtime == changed.timestamp()
    assert verify([address], f"sqlite:///{tmp_path / 'x.db'}", options).same
    (copies / "big.bin").write_bytes(b"\2")
    result = verify([address], f"sqlite:///{tmp_path / 'x.db'}", options)
    assert [each.field for each in result.differences] == ["artifact big.bin"]


def test_artifacts_that_no_profile_reads_stay_in_the_bucket(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    asked: list[str] = []
    bucket.fault = lambda what, path: asked.append(path) if what == "get" else None
    convert(f"s3://{BUCKET}/mlruns", tmp_path / "x.db")
    assert any(path.endswith("prompt.txt") for path in asked)
    assert not any(path.endswith("big.bin") for path in asked)
    assert len(asked) == len(set(asked))


def test_a_bucket_and_a_folder_at_once(bucket: ObjectStore, tmp_path: Path) -> None:
    here = fixturekit.materialise("2.9.2-moved", tmp_path)
    there = fixturekit.store("2.22.5-sweeps")
    address = bucket.upload(there, "team/mlruns")
    code, text = printed("scan", address, str(here), address, "--json")
    assert code == 0
    assert f'"{address}",\n    "{here}"\n  ]' in text
    options = Options(workers=1, on_conflict="rename")
    convert([address, str(here)], tmp_path / "x.db", options)
    convert([str(there), str(here)], tmp_path / "y.db", options)
    assert rows(tmp_path / "x.db")["params"] == rows(tmp_path / "y.db")["params"]


def test_only_takes_the_addresses_of_a_report(bucket: ObjectStore, tmp_path: Path) -> None:
    root = small_store(tmp_path / "mlruns")
    other = "e" * 32
    storekit.write_run(root, "1", other, params={"a": "b"})
    address = bucket.upload(root, "mlruns")
    listed = tmp_path / "rejects.jsonl"
    listed.write_text(f'{{"path": "{address}/1/{other}/params/a", "id": ""}}\n')
    convert(address, tmp_path / "x.db", Options(workers=1, only=str(listed)))
    assert [row[0] for row in rows(tmp_path / "x.db")["runs"]] == [other]
    since = Options(workers=1, since="2200-01-01")
    convert(address, tmp_path / "y.db", since)
    assert rows(tmp_path / "y.db")["runs"] == []


def test_show_export_and_check_take_addresses(bucket: ObjectStore, tmp_path: Path) -> None:
    address = bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    code, text = printed("show", RUN[:8], address)
    assert (code, "prompt.txt" in text or "Why?" in text) == (0, True), text
    code, text = printed(
        "export", address, "--include", "flat", "--otlp", str(tmp_path / "t.jsonl")
    )
    assert code == 0, text
    assert "Why?" in (tmp_path / "t.jsonl").read_text()
    profile = tmp_path / "mine.toml"
    profile.write_text(printed("profiles", "new", "mine")[1])
    code, text = printed("profiles", "check", str(profile), address)
    assert (code, "of 1 tree " in text) == (0, True), text


@pytest.mark.long
def test_several_processes_read_one_mirror(
    bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from migrator.pipeline import lots

    address = bucket.upload(fixturekit.store("2.22.5-sweeps"), "mlruns")
    convert(address, tmp_path / "one.db")
    monkeypatch.setattr(lots, "FEW_RUNS", 0)
    convert(address, tmp_path / "two.db", Options(workers=2))
    assert rows(tmp_path / "one.db") == rows(tmp_path / "two.db")


def test_memory_is_a_file_system_as_well(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    root = small_store(tmp_path / "mlruns")
    memory.put(str(root), "/lab/mlruns", recursive=True)
    try:
        outcome = pipeline.scan(["memory://lab"], ONE)
    finally:
        memory.rm("/lab", recursive=True)
    assert outcome.sources == ("memory://lab/mlruns",)
    assert outcome.ledger.as_rows() == pipeline.scan([str(root)], ONE).ledger.as_rows()


# ------------------------------------------------------------------------- names of objects


def test_names_that_no_file_can_have_are_named(bucket: ObjectStore, tmp_path: Path) -> None:
    address = bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    plain = convert(address, tmp_path / "plain.db")
    inside = f"mlruns/1/{RUN}/params"
    odd = {
        f"{inside}//slashes": b"1",
        f"{inside}/../../up": b"2",
        f"{inside}/./here": b"3",
        f"{inside}/{'long' * 100}": b"4",
        f"{inside}/model/inside": b"5",  # beside the object ``model``
        "mlruns/../../../escaped": b"6",
        f"{inside}/": b"not a marker",
    }
    for key, content in odd.items():
        bucket.put(key, content)
    bucket.put("mlruns/1/")  # markers, as the provider's console makes them
    bucket.put(f"{inside}")
    bucket.put("mlruns/2/deep/er/")
    outcome = convert(address, tmp_path / "odd.db", report=str(tmp_path / "report.json"))
    refused = {i.path: i for i in outcome.ledger.issues if i.code is Code.OBJECT_NAME_UNUSABLE}
    expected = {f"s3://{BUCKET}/{key}" for key in odd} - {f"s3://{BUCKET}/{inside}/model/inside"}
    assert refused.keys() == expected | {f"s3://{BUCKET}/{inside}/model"}
    assert outcome.exit_code == 3
    assert outcome.ledger.files == plain.ledger.files + len(odd)
    params = {row[0]: row[1] for row in rows(tmp_path / "odd.db")["params"]}
    assert params == {"model/inside": "5"}
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    ("added", "refused"),
    [("params/Model", ["params/model"]), ("Params/other", ["params/model"])],
)
def test_letters_that_the_disk_does_not_tell_apart(
    added: str,
    refused: list[str],
    bucket: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    bucket.put(f"mlruns/1/{RUN}/{added}", b"M")
    outcome = convert(address, tmp_path / "exact.db")
    assert Code.OBJECT_NAME_UNUSABLE not in {issue.code for issue in outcome.ledger.issues}

    made: set[str] = set()

    def once(path: str) -> None:
        if path.lower() in made:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        made.add(path.lower())

    def mkdir(path: str, *mode: int, real: Any = os.mkdir) -> None:
        once(path)
        real(path, *mode)

    def open_new(path: str, mode: str) -> Any:
        once(path)
        return open(path, mode)  # noqa: PTH123

    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(mirrors, "open", open_new, raising=False)
    outcome = convert(address, tmp_path / "folded.db")
    named = [i.path for i in outcome.ledger.issues if i.code is Code.OBJECT_NAME_UNUSABLE]
    assert named == [f"{address}/1/{RUN}/{name}" for name in refused]


# ------------------------------------------------------------------------- what goes wrong


def failing(source: str) -> str:
    """Return the one sentence with which a scan fails."""
    code, text = printed("scan", source)
    assert code == 1, text
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1, text
    return text.strip()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("s3://lab/none", "s3://lab/none does not exist. Check the bucket and the path."),
        ("s3://not-there/mlruns", "s3://not-there/mlruns does not exist."),
        ("s3://", "names no place"),
        ("s3:///", "names no place"),
        ("s3://lab/a/..", "names no place"),
        ("s3://lab/one.txt", "is not a folder"),
        ("s3://lab/other", "s3://lab/other is not an MLflow file store"),
        ("s3://lab/mlruns/1", "is a part of a file store. Give the store itself: s3://lab/mlruns"),
        ("zip://mlruns::s3://lab/a.zip", "chain"),
        ("nonsense://lab/mlruns", "nonsense://lab/mlruns is not a local directory"),
        ("local:///tmp", "is not a local directory"),
    ],
)
def test_addresses_that_lead_to_no_store(
    source: str, words: str, bucket: ObjectStore, tmp_path: Path
) -> None:
    bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    bucket.put("one.txt", b"1")
    bucket.put("other/x/y.txt", b"1")
    assert words in failing(source)


@pytest.mark.parametrize(
    ("package", "source", "extra"),
    [("s3fs", "s3://lab/mlruns", "s3"), ("fsspec", "az://lab/mlruns", "azure")],
)
def test_a_missing_package_is_named_with_its_extra(package: str, source: str, extra: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\nfrom migrator.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, "scan", source],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"pip install 'mlflow-migrate[{extra}]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_credentials(
    bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket.put("mlruns/x", b"1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert "NoCredentialsError" in failing(f"s3://{BUCKET}/mlruns")
    bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    bucket.client.put_bucket_acl(Bucket=BUCKET, ACL="public-read")
    for key in bucket.state():
        bucket.client.put_object_acl(Bucket=BUCKET, Key=key, ACL="public-read")
    done = subprocess.run(  # fsspec reads its variables when it is imported
        [sys.executable, "-m", "migrator.cli", "scan", f"s3://{BUCKET}/mlruns", "-q"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "FSSPEC_S3_ANON": "true"},
        capture_output=True,
        text=True,
    )
    bucket.client.put_bucket_acl(Bucket=BUCKET, ACL="private")
    assert (done.returncode, done.stderr) == (0, "")


def test_nobody_listens(bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "Check the credentials and the network" in failing(f"s3://{BUCKET}/mlruns")


@pytest.mark.parametrize("denied", ["list", "get"])
def test_access_denied(denied: str, bucket: ObjectStore, tmp_path: Path) -> None:
    address = bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    bucket.fault = lambda what, path: (403, "AccessDenied") if what == denied else None
    assert "access is denied" in failing(address)


def test_one_object_denied_or_gone_costs_that_one(bucket: ObjectStore, tmp_path: Path) -> None:
    address = bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    faults = {"params/model": (403, "AccessDenied"), "metrics/loss": (404, "NoSuchKey")}

    def fault(what: str, path: str) -> tuple[int, str] | None:
        hit = [faults[end] for end in faults if path.endswith(end)]
        return hit[0] if hit and what == "get" else None

    bucket.fault = fault
    outcome = convert(address, tmp_path / "x.db")
    assert outcome.exit_code == 3
    named = {issue.code: issue.path for issue in outcome.ledger.issues}
    assert named[Code.FILE_UNREADABLE] == f"{address}/1/{RUN}/params/model"
    assert named[Code.FILE_VANISHED] == f"{address}/1/{RUN}/metrics/loss"
    found = rows(tmp_path / "x.db")
    assert [row[0] for row in found["runs"]] == [RUN]
    assert found["params"] == found["metrics"] == []
    bucket.fault = None  # again, when all can be read: what was missing is added
    assert convert(address, tmp_path / "x.db").exit_code == 0
    assert [row[:2] for row in rows(tmp_path / "x.db")["params"]] == [("model", "m")]


def test_an_object_that_changes_is_read_as_it_is_then(bucket: ObjectStore, tmp_path: Path) -> None:
    address = bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    changed: list[str] = []

    def fault(what: str, path: str) -> None:
        if path.endswith("params/model") and what == "get" and not changed:
            changed.append(path)
            bucket.put(f"mlruns/1/{RUN}/params/model", b"another, longer one")

    bucket.fault = fault
    assert convert(address, tmp_path / "x.db").exit_code == 0
    assert [row[:2] for row in rows(tmp_path / "x.db")["params"]] == [
        ("model", "another, longer one")
    ]


def test_throttling_is_waited_for(bucket: ObjectStore, tmp_path: Path) -> None:
    address = bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    seen: set[tuple[str, str]] = set()

    def fault(what: str, path: str) -> tuple[int, str] | None:
        first = (what, path) not in seen
        seen.add((what, path))
        return (503, "SlowDown") if first else None

    bucket.fault = fault
    assert convert(address, tmp_path / "x.db").exit_code == 0


@pytest.mark.parametrize("error", [(400, "ExpiredToken"), (403, "AccessDenied"), (501, "Gone")])
def test_what_goes_away_midway_for_all_ends_it(
    error: tuple[int, str], bucket: ObjectStore, tmp_path: Path
) -> None:
    address = bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    given: list[str] = []

    def fault(what: str, path: str) -> tuple[int, str] | None:
        if what == "get":
            given.append(path)
        return error if len(given) > 3 else None

    bucket.fault = fault
    with pytest.raises(SourceError, match="can't be read"):
        convert(address, tmp_path / "x.db")
    assert not (tmp_path / "x.db").exists()


def test_a_disk_too_small_is_said_before(
    bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = bucket.upload(small_store(tmp_path / "mlruns"), "mlruns")
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "bytes free. Make room, or set TMPDIR" in failing(address)


@pytest.mark.long
@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing_behind(
    number: signal.Signals, bucket: ObjectStore, tmp_path: Path
) -> None:
    root = small_store(tmp_path / "mlruns")
    storekit.write_values(root / "1" / RUN / "params", {f"p{n}": "x" for n in range(300)})
    address = bucket.upload(root, "mlruns")
    bucket.delay_seconds = 0.3
    interrupt(number, address, bucket, 40, tmp_path)


@pytest.mark.usefixtures("default_signals")
def test_a_signal_does_not_wait_for_a_large_artifact(bucket: ObjectStore, tmp_path: Path) -> None:
    root = small_store(tmp_path / "mlruns")
    (root / "1" / RUN / "artifacts" / "big.bin").write_bytes(bytes(32 << 20))
    address = bucket.upload(root, "mlruns")
    bucket.drip_seconds = 0.5  # four minutes in all
    interrupt(signal.SIGTERM, address, bucket, 5, tmp_path, f"--artifacts=copy:{tmp_path / 'c'}")


def interrupt(
    number: int, address: str, bucket: ObjectStore, after: int, tmp_path: Path, *options: str
) -> None:
    """Send a signal to a conversion after so many objects; it must go away without a trace."""
    bucket.calls.clear()
    child = subprocess.Popen(
        [sys.executable, "-m", "migrator.cli", "convert", address, "--to=sqlite:///x.db", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while bucket.calls["get"] < after and time.monotonic() < deadline:
        time.sleep(0.05)
    assert any((tmp_path / "temporary").iterdir())
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    assert (child.returncode, "Interrupted" in errors) == (130, True), errors
    assert not (tmp_path / "x.db").exists()
    assert not any((tmp_path / "temporary").iterdir())


# ------------------------------------------------------------------------- cost


@pytest.mark.long
def test_listing_is_a_few_calls_and_fetching_is_parallel(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    root = small_store(tmp_path / "mlruns")
    storekit.write_values(root / "1" / RUN / "params", {f"p{n}": "x" for n in range(1000)})
    address = bucket.upload(root, "mlruns")
    bucket.calls.clear()
    bucket.delay_seconds = 0.02
    pipeline.scan([address], ONE)
    assert bucket.calls["list"] <= 4  # a page holds 1,000
    files = [path for path in root.rglob("*") if path.is_file() and path.stat().st_size]
    assert bucket.calls["get"] == len(files) - 1  # big.bin
    assert bucket.calls["head"] <= 1  # is there an mlartifacts beside it?
    assert bucket.most_at_once >= 16


def test_local_sources_need_no_fsspec() -> None:
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from migrator import pipeline\n"
        f"pipeline.scan([{str(fixturekit.store('2.9.2-moved'))!r}], pipeline.Options())\n"
        "assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT)})


def test_azure_and_others_get_the_locations_that_mlflow_knows() -> None:
    for base, account, expected in (
        ("s3a://bucket/p", None, "s3://bucket/p/mlruns/1"),
        ("s3:/", None, "s3://mlruns/1"),
        ("gcs://bucket", None, "gs://bucket/mlruns/1"),
        ("hdfs://host:8020/p", None, "hdfs://host:8020/p/mlruns/1"),
        ("az://box/p", "lab", "wasbs://box@lab.blob.core.windows.net/p/mlruns/1"),
        ("az:/", "lab", "wasbs://mlruns@lab.blob.core.windows.net/1"),
        (
            "abfss://box@lab.dfs.core.windows.net/p",
            "lab",
            "wasbs://box@lab.blob.core.windows.net/p/mlruns/1",
        ),
    ):
        mirror = mirrors.Mirror(base, "/tmp/m", "mlruns", account)
        assert mirror.address("/tmp/m/mlruns/1") == expected
        assert mirror.address("/tmp/mirror") is None
        assert mirror.local(mirror.named("/tmp/m/mlruns/1/x")) == "/tmp/m/mlruns/1/x"


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for source in ("sftp://ana:secret@127.0.0.1:9/mlruns", "ftp://ana:secret@127.0.0.1:9/mlruns"):
        assert "secret" not in failing(source)
