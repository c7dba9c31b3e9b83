"""What can't be written besides the database, and where nothing may be written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from migrator import signals as interrupts
from migrator.cli import main
from migrator.loader.sqlite import merge, staging
from migrator.pipeline import conversion
from migrator.pipeline.closing import Walked
from migrator.report import files
from tests.damage.test_damage import tree_hash
from tests.support.damagekit import Spot, build
from tests.support.loaderkit import copy_template, names_beside, query


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "mlruns"
    spot = Spot(root, 1)
    build(spot)
    with (spot.train / "metrics" / "loss").open("a") as file:
        file.write("oops\n" * 5)
    return root


def convert(store: Path, *options: object) -> Result:
    target = f"sqlite:///{store.parent}/m.db"
    args = ["convert", store, "--to", target, "--schema", "3.9", *options]
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def runs(store: Path) -> int:
    return int(query(store.parent / "m.db", "SELECT count(*) FROM runs")[0][0])


def test_a_report_whose_directory_vanished_leaves_a_complete_database(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "reports", files.write_report
    folder.mkdir()

    def vanish(*args: Any) -> None:
        shutil.rmtree(folder)
        real(*args)

    monkeypatch.setattr(conversion, "write_report", vanish)
    result = convert(store, "--report", folder / "r.html")
    assert result.exit_code == 3
    assert "The database" in result.stderr and "is complete" in result.stderr
    assert f"could not be written to {folder / 'r.html'}" in result.stderr
    assert "metric-line-malformed" in result.stdout and "-v shows all" not in result.stdout
    assert "Report:" not in result.stdout and "convert --only" not in result.stdout
    assert runs(store) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("ending", ["json", "html", "txt"])
def test_a_report_on_a_full_disk_leaves_a_complete_database(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    (store / "1001" / Spot(store, 1).id("train") / "metrics" / "loss").write_text("1 1 1\n")
    report, opened = tmp_path / f"r.{ending}", os.open

    def full(path: Path | str, flags: int, *mode: int) -> int:
        handle = opened(path, flags, *mode)
        if ".partial-" in str(path):
            os.dup2(opened("/dev/full", os.O_WRONLY), handle)
        return handle

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        result = convert(store, "--report", report, "--json")
    assert result.exit_code == 3
    assert not report.exists() and not list(tmp_path.glob(".*"))
    assert "No space left" in result.stderr
    document = json.loads(result.stdout)
    assert document["exit_code"] == 3 and "No space left" in document["report_problem"]
    assert runs(store) == 3
    assert convert(store).exit_code == 0, "converting again is all that is needed"


def test_a_report_that_may_not_be_written_is_refused_before_any_work(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "reports", os.access
    folder.mkdir()
    monkeypatch.setattr(
        os, "access", lambda path, mode: str(path) != str(folder) and real(path, mode)
    )
    result = convert(store, "--report", folder / "r.txt")
    assert result.exit_code == 2
    assert f"no permission to write to {folder}" in result.output
    assert not (tmp_path / "m.db").exists()


@pytest.mark.parametrize("option", ["--to", "--report"])
@pytest.mark.parametrize("through_link", [False, True])
def test_nothing_is_written_into_a_source(
    store: Path, tmp_path: Path, option: str, through_link: bool
) -> None:
    before = tree_hash(store)
    inside = store
    if through_link:
        inside = tmp_path / "link"
        inside.symlink_to(store)
    value = {"--to": f"sqlite:///{inside}/m.db", "--report": f"{inside}/r.json"}[option]
    result = convert(store, option, value)
    assert result.exit_code == 2
    assert "lies inside the source" in result.output
    assert tree_hash(store) == before
    assert names_beside(tmp_path / "m.db") == (["link"] if through_link else []) + ["mlruns"]


def test_no_page_is_written_into_a_source(store: Path) -> None:
    before = tree_hash(store)
    result = CliRunner().invoke(main, ["scan", str(store), "--html", f"{store}/r.html"])
    assert result.exit_code == 2 and "lies inside the source" in result.output
    assert tree_hash(store) == before


def interrupted(call: Callable[..., Any], number: signal.Signals) -> Callable[..., Any]:
    def then(*args: Any, **options: Any) -> Any:
        result = call(*args, **options)
        os.kill(os.getpid(), number)
        return result

    return then


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("number", interrupts.ENDING_SIGNALS)
def test_a_signal_comes_too_late_once_the_target_is_there(
    store: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, existing: bool
) -> None:
    if existing:
        copy_template(str(store.parent / "m.db"))
    with monkeypatch.context() as patch:
        room, name = (merge, "merge") if existing else (staging, "publish_new")
        patch.setattr(room, name, interrupted(getattr(room, name), number))
        patch.setattr(conversion, "write_report", interrupted(files.write_report, number))
        result = convert(store)
    assert result.exit_code == 3 and "Interrupted" not in result.output
    assert runs(store) == 3
    assert len(list(store.parent.glob("*.report.json"))) == 1
    with pytest.raises(KeyboardInterrupt):  # as before: nothing is ignored for good
        signal.raise_signal(signal.SIGINT)


def test_a_signal_before_the_target_is_there_leaves_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Walked.check_written
    monkeypatch.setattr(Walked, "check_written", interrupted(check, signal.SIGTERM))
    result = convert(store)
    assert result.exit_code == 130 and "untouched" in result.output
    assert names_beside(tmp_path / "m.db") == ["mlruns"]


@pytest.mark.parametrize("options", [(), ("--no-backup",)])
def test_a_read_only_target_is_refused_before_any_work(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """SQLite begins a write transaction on it without a word, and fails at the first row."""
    target, real = tmp_path / "m.db", os.access
    copy_template(str(target))
    before = target.read_bytes()
    monkeypatch.setattr(
        os, "access", lambda path, mode: str(path) != str(target) and real(path, mode)
    )
    result = convert(store, *options)
    assert result.exit_code == 1
    assert "Give write permission" in result.output
    assert target.read_bytes() == before
    assert names_beside(target) == ["m.db", "mlruns"]


def test_artifacts_nested_a_thousand_deep_are_copied(store: Path, tmp_path: Path) -> None:
    folder = Spot(store, 1).train / "artifacts"
    try:
        for _ in range(1200):
            folder = folder / "d"
            folder.mkdir()
        (folder / "weights.bin").write_bytes(b"1")
        result = convert(store, "--artifacts", f"copy:{tmp_path}/copies")
        assert result.exit_code == 3, result.output
        copies = tmp_path / "copies" / "1001" / Spot(store, 1).id("train") / "artifacts"
        assert copies.joinpath(*["d"] * 1200, "weights.bin").read_bytes() == b"1"
    finally:  # shutil.rmtree recurses
        for path in (store, tmp_path / "copies"):
            subprocess.run(["rm", "-rf", str(path)], check=True)
