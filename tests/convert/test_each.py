"""``--each``: a directory of many stores, such as Hydra's outputs or a folder for each user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

import migrator
from migrator.cli import main
from migrator.errors import SourceError
from migrator.issues import Code
from tests.support import storekit

FIRST, SECOND = "a" * 32, "b" * 32


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two stores as Hydra leaves them, and folders that are none."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "outputs"
    write_store(root / "2024-05-01" / "12-00-00" / "mlruns", "11", FIRST)
    write_store(root / "2024-05-02" / "12-00-00" / "3" / "mlruns", "22", SECOND)
    (root / "2024-05-01" / "12-00-00" / ".hydra").mkdir()
    (root / "2024-05-02" / "mlruns").mkdir()
    return root


def write_store(root: Path, experiment_id: str, run_id: str) -> None:
    storekit.write_experiment(root, "0", "Default")
    storekit.write_experiment(root, experiment_id, "train")
    storekit.write_run(root, experiment_id, run_id, tags={"stage": "one"})


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


def opened() -> MlflowClient:
    return MlflowClient(f"sqlite:///{Path('mlflow.db').absolute()}")


def test_every_store_is_converted_and_experiments_of_one_name_are_one(outputs: Path) -> None:
    assert run("convert", "outputs", "--each")[0] == 0
    client = opened()
    train = client.get_experiment_by_name("train")
    found = client.search_runs([train.experiment_id])
    assert {each.info.run_id for each in found} == {FIRST, SECOND}
    assert sorted(each.name for each in client.search_experiments()) == ["Default", "train"]
    code, text = run("verify", "outputs", "--each")
    assert code == 0 and "No difference" in text


def test_a_store_that_joins_later_leaves_the_others_what_they_are(outputs: Path) -> None:
    run("convert", "outputs", "--each")
    third = "c" * 32
    write_store(outputs / "ana" / "mlruns", "33", third)
    first = outputs / "2024-05-01" / "12-00-00" / "mlruns" / "11" / FIRST
    storekit.write_values(first / "tags", {"stage": "two"})
    assert run("convert", "outputs", "--each")[0] == 0
    client = opened()
    assert client.get_run(third).data.tags["stage"] == "one"
    assert client.get_run(FIRST).data.tags["stage"] == "two"


def test_each_takes_a_store_as_it_is(outputs: Path) -> None:
    code, text = run("scan", "outputs/2024-05-01/12-00-00/mlruns", "--each")
    assert code == 0 and "1 run in 2 experiments" in text


def test_without_it_the_stores_are_listed(outputs: Path) -> None:
    code, text = run("scan", "outputs")
    assert code == 1 and "at least 2 below it. Take all of them with --each" in text


def test_no_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    with pytest.raises(SourceError, match="holds no MLflow file store, however deep"):
        migrator.scan(tmp_path / "empty", each=True)


def test_many_stores_are_a_number_in_the_first_line(outputs: Path) -> None:
    for number in range(2):
        write_store(outputs / "users" / str(number) / "mlruns", "44", f"{number}" * 32)
    assert run("scan", "outputs", "--each")[1].startswith("4 stores: 4 runs in ")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_a_store_elsewhere_is_named(outputs: Path, tmp_path: Path) -> None:
    write_store(tmp_path / "far" / "mlruns", "55", "d" * 32)
    (outputs / "bob").symlink_to(tmp_path / "far")
    result = migrator.scan(outputs, each=True)
    assert [(issue.code.value, issue.path) for issue in result.ledger.issues
            if issue.code.value == "link-not-followed"] == [
        ("link-not-followed", str(outputs / "bob"))
    ]  # fmt: skip
    assert result.exit_code == 3


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_can_not_be_read_is_named(outputs: Path) -> None:
    (outputs / "secret").mkdir(mode=0)
    result = migrator.scan(outputs, each=True)
    (issue,) = [each for each in result.ledger.issues if each.path == str(outputs / "secret")]
    assert issue.code.value == "directory-unreadable" and result.exit_code == 3


def test_a_store_beside_the_one_that_is_read_is_named(outputs: Path) -> None:
    folder = outputs / "2024-05-01" / "12-00-00"
    (folder / "mlruns_logs").mkdir()
    assert stores_beside(folder) == []
    write_store(folder / "mlruns_2", "66", "e" * 32)
    assert stores_beside(folder) == [str(folder / "mlruns_2")]
    assert stores_beside(folder, folder / "mlruns_2") == [], "it is read as well"
    assert stores_beside(folder / "mlruns") == [], "it was given itself"


def stores_beside(*sources: Path) -> list[str]:
    issues = migrator.scan(sources).ledger.issues
    return [issue.path for issue in issues if issue.code is Code.STORE_BESIDE]
