"""A conversion that finds nothing new says so, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from migrator.cli import main
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
    assert MlflowClient("sqlite:///m.db").get_experiment("1").name == "talk"


def test_what_was_rejected_is_reported_each_time(store: Path) -> None:
    storekit.write_values(store / "1" / ("a" * 32) / "metrics", {"bad": b"no number\n"})
    assert convert()[0] == 3
    code, text = convert()
    assert code == 3 and "Nothing new; database unchanged" in text
    assert Path("m.db.report-2.rejects.jsonl").exists()
