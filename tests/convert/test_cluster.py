"""A real Dask cluster on this machine: a scheduler, and workers that are processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from migrator import pipeline
from migrator.cli import main
from migrator.errors import OptionError, WorkerError
from tests.convert.test_workers import STORES, comparable, data
from tests.support.fixturekit import database, store

pytest.importorskip("distributed", reason="the extra mlflow-migrate[dask] is not installed")

from migrator.workers import dask

pytestmark = [pytest.mark.xdist_group("convert_cluster"), pytest.mark.long]

ROOT = str(Path(__file__).resolve().parent.parent.parent)
SOURCES = [str(store(name)) for name in STORES]


class Cluster:
    """A scheduler and its workers, each a process."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "scheduler.json"
        self.directory = directory
        self.workers: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self.file)
        )
        until = time.monotonic() + 60
        while not self.is_described():
            assert time.monotonic() < until and self.scheduler.poll() is None
            time.sleep(0.05)

    def is_described(self) -> bool:
        """Whether the scheduler has written its file: it is there, and empty, before that."""
        return self.file.exists() and self.file.read_text().rstrip().endswith("}")

    @property
    def address(self) -> str:
        return dask._address(str(self.file))

    def start(self, what: str, *arguments: str, path: str = ROOT) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    f"distributed.cli.dask_{what}",
                    *arguments,
                    "--no-dashboard",
                ],
                env={**os.environ, "PYTHONPATH": path},
                cwd=self.directory,
                stdout=log,
                stderr=log,
            )

    def add(self, count: int, path: str = ROOT) -> None:
        for _ in range(count):
            arguments = ("--scheduler-file", str(self.file), "--nthreads", "1", "--no-nanny")
            self.workers.append(self.start("worker", *arguments, path=path))

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@contextmanager
def running(directory: Path, workers: int) -> Iterator[Cluster]:
    made = Cluster(directory)
    try:
        made.add(workers)
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def small_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrator.pipeline.sinks.Discard.lot_runs", 3)
    monkeypatch.setattr("migrator.loader.Writer.lot_runs", 3)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    target = tmp_path_factory.mktemp("one") / "one.db"
    told = pipeline.convert(
        SOURCES, f"sqlite:///{target}", pipeline.Options(workers=1), schema="3.9"
    )
    return data(target), comparable(told)


def by_cluster(made: Cluster, target: Path, progress: Any = pipeline.no_progress) -> Any:
    with dask.connect(made.address) as executor:
        told = pipeline.convert(
            SOURCES,
            f"sqlite:///{target}",
            pipeline.Options(executor=executor, workers=2),
            schema="3.9",
            progress=progress,
        )
    return data(target), comparable(told)


def test_three_workers_write_the_rows_of_one_process(tmp_path: Path, one_process: Any) -> None:
    with running(tmp_path, 3) as made:
        assert by_cluster(made, tmp_path / "new.db") == one_process
    assert sum(map(len, one_process[0].values())) > 500


def test_a_database_is_shared_by_several_workers(tmp_path: Path) -> None:
    source = database("2.9.2-database", tmp_path / "source")
    targets = [f"sqlite:///{tmp_path}/{name}.db" for name in ("alone", "shared")]
    pipeline.convert([str(source)], targets[0], pipeline.Options(workers=1), schema="3.9")
    with running(tmp_path, 2) as made, dask.connect(made.address) as executor:
        options = pipeline.Options(executor=executor, workers=2)
        pipeline.convert([str(source)], targets[1], options, schema="3.9")
    alone, shared = data(tmp_path / "alone.db"), data(tmp_path / "shared.db")
    assert alone == shared and sum(map(len, alone.values())) > 500


def test_a_worker_killed_midway_loses_nothing(tmp_path: Path, one_process: Any) -> None:
    with running(tmp_path, 3) as made:
        killed: list[int] = []

        def kill(stage: str, done: int, total: int) -> None:
            if stage == "runs" and done >= 9 and not killed:
                made.workers[1].kill()
                made.workers[1].wait()
                killed.append(done)

        assert by_cluster(made, tmp_path / "new.db", kill) == one_process
        assert killed and made.workers[0].poll() is None


def test_all_workers_killed_is_an_error_that_says_so_and_no_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask, "PATIENCE_SECONDS", 2.0)
    target = tmp_path / "target" / "new.db"
    target.parent.mkdir()
    with running(tmp_path, 2) as made:

        def kill(stage: str, done: int, total: int) -> None:
            if stage == "runs" and done >= 9:
                for worker in made.workers:
                    worker.kill()
                    worker.wait()

        with pytest.raises(WorkerError, match="no worker for 2 s"):
            by_cluster(made, target, kill)
    assert list(target.parent.iterdir()) == []


def test_a_scheduler_that_is_killed_is_an_error_that_says_so(tmp_path: Path) -> None:
    target = tmp_path / "target" / "new.db"
    target.parent.mkdir()
    with running(tmp_path, 2) as made:

        def kill(stage: str, done: int, total: int) -> None:
            if stage == "runs" and done >= 9:
                made.scheduler.kill()

        began = time.monotonic()
        with pytest.raises(WorkerError):
            by_cluster(made, target, kill)
        assert time.monotonic() - began < 90
    assert list(target.parent.iterdir()) == []


def test_workers_that_are_killed_and_replaced_lose_nothing(
    tmp_path: Path, one_process: Any
) -> None:
    with running(tmp_path, 2) as made:
        killed: list[int] = []

        def replace(stage: str, done: int, total: int) -> None:
            if stage == "runs" and done >= 9 and not killed:
                made.add(2)
                for worker in made.workers[:2]:
                    worker.kill()
                killed.append(done)

        assert by_cluster(made, tmp_path / "new.db", replace) == one_process
        assert killed


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, [*arguments])
    return result.exit_code, result.output


def test_the_command_takes_an_address_or_a_scheduler_file(tmp_path: Path) -> None:
    with running(tmp_path, 1) as made:
        for number, given in enumerate((made.address, str(made.file))):
            target = tmp_path / f"{number}.db"
            code, said = run(
                "convert", SOURCES[0], "--to", f"sqlite:///{target}", "--schema", "3.9",
                "--dask", given,
            )  # fmt: skip
            assert (code, target.exists()) == (0, True), said
        assert run("scan", SOURCES[0], "--dask", given)[0] == 0


def test_a_worker_without_mlflow_migrate_is_named(tmp_path: Path) -> None:
    package = tmp_path / "other" / "migrator"
    (package / "workers").mkdir(parents=True)
    (package / "workers" / "__init__.py").touch()
    (package / "__init__.py").write_text('__version__ = "0.0.1"\n')
    for name in ("credentials.py", "errors.py"):
        (package / name).write_text((Path(ROOT) / "migrator" / name).read_text())
    whole = (Path(ROOT) / "migrator" / "workers" / "dask.py").read_text()
    # Not unlinked: an editable installation would find the module in its own place.
    none = "raise ModuleNotFoundError(__name__)"
    # A cluster for each: a scheduler takes half a minute to miss a worker that was killed.
    for module, says in ((whole, "has mlflow-migrate 0.0.1"), (none, "has none")):
        (package / "workers" / "dask.py").write_text(module)
        directory = tmp_path / says.replace(" ", "-")
        directory.mkdir()
        with running(directory, 0) as made:
            made.add(1, path=str(tmp_path / "other"))
            code, said = run("scan", SOURCES[0], "--dask", made.address)
        assert code == 1 and said.count("\n") == 1, said
        assert "The Dask worker tcp://127.0.0.1:" in said and says in said


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("tcp://127.0.0.1:9", 1, "No Dask scheduler answered at tcp://127.0.0.1:9 within 5 s"),
        ("localhost", 2, "is not a valid address"),
        ("http://127.0.0.1:8786", 2, "is not a valid address"),
        ("absent.json", 2, "can't be read as a scheduler file (FileNotFoundError"),
        ("", 2, "is not a valid address"),
    ],
)
def test_a_bad_address_is_one_sentence(given: str, code: int, said: str) -> None:
    began = time.monotonic()
    found, output = run("scan", SOURCES[0], "--dask", given)
    assert found == code and said in output and "Traceback" not in output, output
    assert time.monotonic() - began < 30


def test_what_answers_but_is_no_scheduler_is_said_to_be_none(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        code, said = run("scan", SOURCES[0], "--dask", address)
    assert code == 1 and f"No Dask scheduler answered at {address}" in said, said
    with running(tmp_path, 1) as made, dask.connect(made.address) as executor:
        client: Any = executor._client
        (worker,) = client.nthreads()
        code, said = run("scan", SOURCES[0], "--dask", worker)
    assert code == 2 and "is the address of a worker" in said, said


def test_a_cluster_without_workers_is_waited_for_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask, "PATIENCE_SECONDS", 1.0)
    with running(tmp_path, 0) as made:
        code, said = run("scan", SOURCES[0], "--dask", made.address)
    assert code == 1 and "has had no worker for 1 s" in said


def test_a_cluster_that_the_extra_is_missing_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(OptionError, match=r"pip install 'mlflow-migrate\[dask\]'"),
        dask.connect("tcp://127.0.0.1:9"),
    ):
        pass


def test_workers_and_a_cluster_exclude_one_another() -> None:
    assert run("scan", SOURCES[0], "--dask", "tcp://127.0.0.1:9", "--workers", "3")[0] == 2
