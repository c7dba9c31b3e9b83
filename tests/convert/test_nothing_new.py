"""A conversion that finds nothing new says so, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from migrator.cli import main
from migrator.extractor.filestore import fingerprint
from tests.support import storekit


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "mlruns"
    storekit.write_experiment(root, "1", "chat")
    storekit.write_run(root, "1", "a" * 32, params={"lr": "0.1"})
    return root


def convert(*more: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["convert", "mlruns", "--to", "sqlite:///m.db", *more])
    return result.exit_code, result.output


def opened() -> MlflowClient:
    return MlflowClient(f"sqlite:///{Path('m.db').absolute()}")  # MLflow keeps stores by address


def test_the_database_is_the_same_and_there_is_no_report_and_no_backup(store: Path) -> None:
    code, text = convert()
    assert code == 0 and "Nothing new" not in text
    before, files = Path("m.db").read_bytes(), sorted(Path().iterdir())
    code, text = convert()
    assert code == 0 and "Nothing new; database unchanged" in text
    assert "Report:" not in text and "backup:" not in text
    assert Path("m.db").read_bytes() == before and sorted(Path().iterdir()) == files
    convert("--report", "asked.json")
    assert sorted(Path().iterdir()) == sorted([*files, Path("asked.json")])


def test_a_new_run_or_a_rename_is_new(store: Path) -> None:
    convert()
    storekit.write_run(store, "1", "b" * 32)
    code, text = convert()
    assert code == 0 and "Nothing new" not in text and Path("m.db.report-2.json").exists()
    meta = store / "1" / "meta.yaml"
    meta.write_text(meta.read_text(encoding="utf-8").replace("name: chat", "name: talk"))
    code, text = convert()
    assert code == 0 and "Nothing new" not in text and Path("m.db.report-3.json").exists()
    assert opened().get_experiment("1").name == "talk"


def test_what_was_rejected_is_reported_each_time(store: Path) -> None:
    storekit.write_values(store / "1" / ("a" * 32) / "metrics", {"bad": b"no number\n"})
    assert convert()[0] == 3
    code, text = convert()
    assert code == 3 and "Nothing new; database unchanged" in text
    assert Path("m.db.report-2.rejects.jsonl").exists()


# ---------------------------------------------------------------- known without reading

UNREAD = "by their sizes and times, no file of"
RUN = "a" * 32


@pytest.fixture
def settled(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose files count as old, although they were just written."""
    monkeypatch.setattr(fingerprint, "CLOCK_NS", -(10**18))
    storekit.write_values(store / "1" / RUN / "metrics", {"loss": b"1000 0.5 0\n"})
    storekit.write_values(store / "1" / RUN / "tags", {"stage": b"one"})
    convert()
    return store


def test_an_unchanged_store_is_not_read(settled: Path) -> None:
    before, files = Path("m.db").read_bytes(), sorted(Path().iterdir())
    code, text = convert()
    assert code == 0 and text.startswith("Nothing new; database unchanged") and UNREAD in text
    assert Path("m.db").read_bytes() == before and sorted(Path().iterdir()) == files
    code, text = convert("--check-all")
    assert code == 0 and "Nothing new; database unchanged: 1 run is in" in text
    assert Path("m.db").read_bytes() == before and sorted(Path().iterdir()) == files


def rewrite_with_old_times(path: Path, value: bytes) -> None:
    """Change a file, and set its size and times of before, as some tools do."""
    old = path.stat()
    assert len(value) == old.st_size
    path.write_bytes(value)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


def replace_with_old_times(path: Path, value: bytes) -> None:
    """Put another file of the same size and times in a file's place."""
    other = path.with_name("other")
    other.write_bytes(value)
    shutil.copystat(path, other)
    other.replace(path)


def appended(store: Path) -> None:
    with (store / "1" / RUN / "metrics" / "loss").open("ab") as file:
        file.write(b"2000 0.25 1\n")


CHANGES: dict[str, tuple[Callable[[Path], object], Callable[[MlflowClient], object], object]] = {
    "a metric point": (
        appended,
        lambda client: [m.value for m in client.get_metric_history(RUN, "loss")],
        [0.5, 0.25],
    ),
    "a tag of the same size and time": (
        lambda store: rewrite_with_old_times(store / "1" / RUN / "tags" / "stage", b"two"),
        lambda client: client.get_run(RUN).data.tags["stage"],
        "two",
    ),
    "another file of the same size and time": (
        lambda store: replace_with_old_times(store / "1" / RUN / "tags" / "stage", b"six"),
        lambda client: client.get_run(RUN).data.tags["stage"],
        "six",
    ),
    "a new param": (
        lambda store: storekit.write_values(store / "1" / RUN / "params", {"depth": b"3"}),
        lambda client: client.get_run(RUN).data.params,
        {"lr": "0.1", "depth": "3"},
    ),
    "a new run": (
        lambda store: storekit.write_run(store, "1", "b" * 32),
        lambda client: sorted(run.info.run_id for run in client.search_runs(["1"])),
        [RUN, "b" * 32],
    ),
    "a new experiment": (
        lambda store: storekit.write_experiment(store, "2", "talk"),
        lambda client: client.get_experiment("2").name,
        "talk",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(settled: Path, change: str) -> None:
    make, read, value = CHANGES[change]
    make(settled)
    code, text = convert()
    assert code == 0 and UNREAD not in text
    assert read(opened()) == value
    assert UNREAD in convert()[1]


@pytest.mark.parametrize(
    "options",
    [["--dry-run"], ["--report", "r.json"], ["--restore"], ["--no-traces"], ["--shard", "1/2"],
     ["--redact", "zzz"], ["--artifacts", "keep"]],
    ids=" ".join,
)  # fmt: skip
def test_other_options_read(settled: Path, options: list[str]) -> None:
    assert UNREAD not in convert(*options)[1]
    assert UNREAD in convert()[1]


def test_what_another_conversion_wrote_since_is_checked(settled: Path) -> None:
    convert("--redact", "one")
    client = opened()
    assert client.get_run(RUN).data.tags["stage"] != "one"
    assert UNREAD not in convert()[1]
    assert client.get_run(RUN).data.tags["stage"] == "one"


def test_a_file_that_was_just_written_is_not_trusted(store: Path) -> None:
    convert()
    assert UNREAD not in convert()[1]


def test_what_was_rejected_is_read_and_listed_again(settled: Path) -> None:
    storekit.write_values(settled / "1" / RUN / "metrics", {"bad": b"no number\n"})
    storekit.write_run(settled, "1", "b" * 32)
    assert convert()[0] == 3
    code, text = convert()
    assert code == 3 and UNREAD not in text
    (settled / "1" / RUN / "metrics" / "bad").unlink()
    assert convert()[0] == 0


def test_artifacts_outside_of_the_store_are_looked_at(settled: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / "1" / ("b" * 32) / "artifacts"
    place.mkdir(parents=True)
    storekit.write_run(settled, "1", "b" * 32, artifact_uri=str(place))
    convert()
    (place / "notes.txt").write_text("new", encoding="utf-8")
    assert UNREAD not in convert()[1]


def test_what_people_deleted_stays_away_unread(settled: Path) -> None:
    client = opened()
    client.delete_tag(RUN, "stage")
    assert UNREAD in convert()[1]
    assert "stage" not in client.get_run(RUN).data.tags
    convert("--restore")
    assert client.get_run(RUN).data.tags["stage"] == "one"


def test_an_archive_is_read(settled: Path) -> None:
    with tarfile.open("store.tar", "w") as archive:
        archive.add(settled, "mlruns")
    for _ in range(2):
        result = CliRunner().invoke(main, ["convert", "store.tar", "--to", "sqlite:///a.db"])
        assert result.exit_code == 0 and UNREAD not in result.output
