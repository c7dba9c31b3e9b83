"""File stores in archives give the rows of the unpacked store, and nothing leaves the archive."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from migrator import pipeline
from migrator.cli import main
from migrator.errors import OptionError, SourceError
from migrator.extractor import archives
from migrator.issues import Code, Issue
from migrator.outcome.summary import Outcome
from migrator.verification import verify
from tests.support import fixturekit
from tests.support.storekit import write_experiment, write_run

RUN = "0123456789abcdef0123456789abcdef"
ONE = pipeline.Options(workers=1)
ENDINGS = ("tar", "tar.gz", "tgz", "tar.xz", "zip")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where archives are unpacked; nothing must be left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def packed(folder: Path, archive: Path, name: str = "mlruns") -> Path:
    """Pack a folder; in the archive it is called ``name``, "" for the top."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in sorted(folder.rglob("*")):
                zipped.write(path, str(Path(name, path.relative_to(folder))))
    else:
        mode = {"gz": "w:gz", "tgz": "w:gz", "xz": "w:xz"}.get(archive.name.split(".")[-1], "w")
        with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]  # a text mode
            tar.add(folder, name or ".")
    return archive


def convert(source: Path, to: Path, artifacts: str = "auto") -> Outcome:
    options = pipeline.Options(workers=1, artifacts=artifacts)
    outcome = pipeline.convert([str(source)], f"sqlite:///{to}", options)
    assert verify([str(source)], f"sqlite:///{to}", options).same
    assert b"mlflow-migrate-" not in to.read_bytes()
    return outcome


def small_store(root: Path) -> Path:
    write_experiment(root, "1", "chat")
    texts = {"prompt.txt": "Why?", "response.txt": "So.", "model.bin": "0" * 5000}
    write_run(root, "1", RUN, params={"model": "m"}, artifacts=texts)
    return root


def named(outcome: Outcome, code: Code) -> list[Issue]:
    return [issue for issue in outcome.ledger.issues if issue.code is code]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_archive_gives_what_the_store_gives(ending: str, tmp_path: Path) -> None:
    store = fixturekit.materialise("2.22.5-registry-traces", tmp_path / "x")
    archive = packed(store, tmp_path / f"batch.{ending}")
    before = archive.read_bytes()
    there = convert(archive, tmp_path / "there.db")
    here = pipeline.scan([str(store)], ONE)
    assert there.ledger.found == here.ledger.found
    assert there.ledger.rejected == here.ledger.rejected
    assert there.ledger.files == here.ledger.files
    assert there.sources == (f"{archive}/mlruns",)
    assert archive.read_bytes() == before


@pytest.mark.parametrize("name", ["", "mlruns", "job-7/output/mlruns", "job-7/old runs"])
@pytest.mark.parametrize("ending", ["tar.gz", "zip"])
def test_the_store_may_be_anywhere_in_the_archive(ending: str, name: str, tmp_path: Path) -> None:
    store = small_store(tmp_path / "mlruns")
    archive = packed(store, tmp_path / f"batch.{ending}", name)
    convert(archive, tmp_path / "new.db")
    client = MlflowClient(f"sqlite:///{tmp_path / 'new.db'}")
    assert client.get_run(RUN).data.params == {"model": "m"}
    (span,) = client.get_trace(f"tr-{RUN}").data.spans
    assert span.outputs == "So."
    recorded = f"file:///home/ana/mlruns/1/{RUN}/artifacts"
    assert client.get_run(RUN).info.artifact_uri == recorded


@pytest.mark.parametrize("ending", ["tar", "zip"])
def test_artifacts_of_an_archive_are_copied(ending: str, tmp_path: Path) -> None:
    archive = packed(small_store(tmp_path / "mlruns"), tmp_path / f"batch.{ending}")
    outcome = convert(archive, tmp_path / "new.db", f"copy:{tmp_path / 'copies'}")
    assert outcome.artifacts.files_copied == 3
    client = MlflowClient(f"sqlite:///{tmp_path / 'new.db'}")
    found = Path(client.download_artifacts(RUN, "", str(tmp_path)))
    assert (found / "model.bin").read_text() == "0" * 5000
    with pytest.raises(OptionError, match="MLflow can't open artifacts in the archive"):
        pipeline.convert([str(archive)], "sqlite:///x.db", pipeline.Options(artifacts="relocate"))


def test_all_commands_take_an_archive(tmp_path: Path) -> None:
    archive = packed(small_store(tmp_path / "mlruns"), tmp_path / "batch.tar.gz")
    for arguments in (
        ("scan", str(archive)),
        ("show", RUN[:8], str(archive)),
        ("export", str(archive), "--otlp", str(tmp_path / "t.jsonl")),
    ):
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == 0, result.output
    assert "So." in (tmp_path / "t.jsonl").read_text()


# ------------------------------------------------------------------------- what is refused


def tar_with(tmp_path: Path, add: Callable[[tarfile.TarFile], None]) -> Path:
    archive = packed(small_store(tmp_path / "mlruns"), tmp_path / "batch.tar")
    with tarfile.open(archive, "a") as tar:
        add(tar)
    return archive


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (member("../escaped"), "its name leads out of the archive"),
        (member("mlruns/../../escaped"), "its name leads out of the archive"),
        (member("/tmp/escaped"), "its name leads out of the archive"),
        (member("mlruns/1/out", tarfile.SYMTYPE, "/etc"), "leads out of the archive"),
        (member("mlruns/1/out", tarfile.SYMTYPE, "../../../etc"), "leads out of the archive"),
        (member("mlruns/1/hard", tarfile.LNKTYPE, "../escaped"), "leads out of the archive"),
        (member("mlruns/1/hard", tarfile.LNKTYPE, "mlruns/none"), "an entry that is not there"),
        (member("mlruns/1/null", tarfile.CHRTYPE), "it is a device or pipe"),
        (member("mlruns/1/pipe", tarfile.FIFOTYPE), "it is a device or pipe"),
        (member("mlruns/1/meta.yaml/below"), "its name can't be used here"),
        (member(f"mlruns/1/{'long' * 100}"), "its name can't be used here"),
    ],
)
def test_an_entry_that_leads_out_is_refused_and_named(
    entry: tarfile.TarInfo, words: str, tmp_path: Path
) -> None:
    archive = tar_with(tmp_path, lambda tar: tar.addfile(entry))
    outcome = convert(archive, tmp_path / "new.db")
    (issue,) = named(outcome, Code.ARCHIVE_ENTRY_REFUSED)
    assert issue.path == f"{archive}/{entry.name.lstrip('/')}"
    assert words in issue.message
    assert outcome.exit_code == 3
    assert not (tmp_path / "temporary" / "escaped").exists()
    assert not (tmp_path / "escaped").exists()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def add(tar: tarfile.TarFile) -> None:
        tar.addfile(member("mlruns/2", tarfile.SYMTYPE, str(outside)))
        content = member("mlruns/2/meta.yaml")
        content.size = 3
        tar.addfile(content, io.BytesIO(b"x: "))

    convert(tar_with(tmp_path, add), tmp_path / "new.db")
    assert list(outside.iterdir()) == []


def test_links_inside_the_archive_are_read(tmp_path: Path) -> None:
    store = small_store(tmp_path / "mlruns")
    (store / "1" / RUN / "params").rename(store / "shared")
    (store / "1" / RUN / "params").symlink_to("../../shared")
    os.link(store / "1" / RUN / "artifacts" / "prompt.txt", store / "1" / RUN / "tags" / "asked")
    convert(packed(store, tmp_path / "batch.tar.gz"), tmp_path / "new.db")
    run = MlflowClient(f"sqlite:///{tmp_path / 'new.db'}").get_run(RUN)
    assert run.data.params == {"model": "m"}
    assert run.data.tags["asked"] == "Why?"


def test_a_link_out_of_a_zip_file_is_refused(tmp_path: Path) -> None:
    archive = packed(small_store(tmp_path / "mlruns"), tmp_path / "batch.zip")
    with zipfile.ZipFile(archive, "a") as zipped:
        link = zipfile.ZipInfo("mlruns/1/out")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "/etc")
        zipped.writestr("../escaped", "x")
    outcome = convert(archive, tmp_path / "new.db")
    refused = named(outcome, Code.ARCHIVE_ENTRY_REFUSED)
    assert [issue.path for issue in refused] == [f"{archive}/../escaped", f"{archive}/mlruns/1/out"]


def refusal(archive: Path) -> str:
    with pytest.raises(SourceError) as refused:
        pipeline.scan([str(archive)], ONE)
    assert "mlflow-migrate-" not in str(refused.value)
    return f"{refused.value.what} {refused.value.todo}"


@pytest.mark.parametrize("ending", ["tar.gz", "zip"])
def test_a_bomb_is_refused(ending: str, tmp_path: Path) -> None:
    store = small_store(tmp_path / "mlruns")
    with (store / "1" / RUN / "params" / "zeros").open("wb") as file:
        file.truncate(150_000_000)
    said = refusal(packed(store, tmp_path / f"batch.{ending}"))
    assert "was not unpacked: it unpacks to more than 200 times its size" in said
    assert "If you trust it, unpack it and give the directory." in said


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("MOST_ENTRIES", 5, "it has more than 5 entries"),
        ("MOST_BYTES", 100, "more than 100 bytes of it would be unpacked"),
    ],
)
def test_too_many_entries_or_bytes_are_refused(
    limit: str, value: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, limit, value)
    assert words in refusal(packed(small_store(tmp_path / "mlruns"), tmp_path / "batch.tar"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_damaged_archive_is_refused(ending: str, tmp_path: Path) -> None:
    archive = packed(small_store(tmp_path / "mlruns"), tmp_path / f"batch.{ending}")
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    assert "damaged, cut off or encrypted" in refusal(archive) or "unpacked" in refusal(archive)
    archive.write_bytes(b"no archive at all")
    assert str(archive) in refusal(archive)


def test_an_archive_without_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("a")
    archive = packed(tmp_path / "other", tmp_path / "batch.zip", "other")
    assert f"{archive} is not an MLflow file store" in refusal(archive)
    two = tmp_path / "two"
    for name in ("a", "b"):
        small_store(two / name / "mlruns")
    said = refusal(packed(two, tmp_path / "two.tar", "two"))
    assert f"{tmp_path / 'two.tar'}/two/a/mlruns" in said


def test_only_what_is_read_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(small_store(tmp_path / "mlruns"), tmp_path / "batch.tar.gz")
    copied: list[str] = []
    real = shutil.copyfileobj

    def watch(source: IO[bytes], to: IO[bytes], length: int) -> None:
        copied.append(to.name)
        real(source, to, length)

    monkeypatch.setattr(shutil, "copyfileobj", watch)
    pipeline.scan([str(archive)], ONE)
    assert any(name.endswith("prompt.txt") for name in copied)
    assert not any(name.endswith("model.bin") for name in copied)
