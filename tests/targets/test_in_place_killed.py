"""A conversion in place that is killed, or runs beside a server, leaves all or nothing."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.errors import TargetError
from tests.support import fixturekit
from tests.support.databasekit import rows
from tests.support.mlflow_server import Server

pytestmark = pytest.mark.long

OPTIONS = pipeline.Options(workers=1)
NAME = "2.9.2-database"

# Converts in place, and kills itself at a moment. A tiny cache makes SQLite write pages into the
# database before the transaction is committed, so that only its journal can take them back.
KILLED = """
import os, signal, sys
from migrator import pipeline
from migrator.loader.sqlite import merge
from migrator.pipeline import conversion

path, moment = sys.argv[1:]

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def progress(stage, done, total):
    if stage == moment:
        die()

insert = merge._insert

def insert_some(db, target, tables, missing):
    db.execute("PRAGMA target.cache_size=2")
    names = [table.name for table in tables]
    if moment.startswith("after table "):
        wanted = names.index(moment.removeprefix("after table ")) + 1
        insert(db, target, tables[:wanted], missing)
        die()
    insert(db, target, tables, missing)

merge._insert = insert_some
if moment == "before the commit":
    merge._update_latest = die
if moment == "during the backup":
    merge.staging.publish_new = die
if moment == "after the commit":
    conversion._ReportSettings.write = die
options = pipeline.Options(workers=1)
pipeline.convert([path], options=options, in_place=True, progress=progress)
"""
MOMENTS = (
    *("walking", "runs", "checking", "publishing", "during the backup"),
    *("after table trace_info", "after table spans", "before the commit", "after the commit"),
)


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a database at MLflow's schema, with nested runs and no traces."""
    path = fixturekit.database(NAME, tmp_path_factory.mktemp("source"))
    pipeline.upgrade(f"sqlite:///{path}")
    for backup in path.parent.glob("*.backup-*"):
        backup.unlink()
    return path.parent


@pytest.fixture
def database(upgraded: Path, tmp_path: Path) -> Path:
    shutil.copytree(upgraded, tmp_path / "copy")
    return tmp_path / "copy" / "mlflow.db"


def statements(path: Path) -> Counter[str]:
    """Every row of a database as SQL; opening it takes an unfinished transaction back."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return Counter(line for line in db.iterdump() if line.startswith("INSERT"))


@pytest.fixture(scope="module")
def complete(upgraded: Path, tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """What the database holds after a conversion that nobody disturbs."""
    copy = tmp_path_factory.mktemp("complete") / "copy"
    shutil.copytree(upgraded, copy)
    pipeline.convert([str(copy / "mlflow.db")], options=OPTIONS, in_place=True)
    return statements(copy / "mlflow.db")


def kill_at(path: Path, moment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), moment], capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_it_is_all_or_nothing(
    moment: str, database: Path, complete: Counter[str]
) -> None:
    before = statements(database)
    kill_at(database, moment)
    is_done = moment == "after the commit"
    assert statements(database) == (complete if is_done else before)
    pipeline.convert([str(database)], options=OPTIONS, in_place=True)
    assert statements(database) == complete
    hidden = [path.name for path in database.parent.iterdir() if path.name.startswith(".")]
    assert hidden == [], "something was left behind"


def test_killed_again_and_again_it_ends_complete(database: Path, complete: Counter[str]) -> None:
    before = statements(database)
    for moment in MOMENTS[1:-1]:
        kill_at(database, moment)
    assert statements(database) == before
    pipeline.convert([str(database)], options=OPTIONS, in_place=True)
    assert statements(database) == complete


# ------------------------------------------------------------------------- beside a real server


@pytest.fixture
def server(upgraded: Path, tmp_path: Path) -> Iterator[Server]:
    """An MLflow server on such a database."""
    running = Server(tmp_path)
    shutil.copytree(upgraded / "mlruns", tmp_path / "mlruns")
    shutil.copy(upgraded / "mlflow.db", running.path)
    running.start()
    yield running
    running.kill()


def test_beside_a_server_that_writes_it_works_or_is_refused(server: Server) -> None:
    database = Path(server.path)
    client = MlflowClient(server.uri)
    written: list[str] = []
    stop = threading.Event()

    def log_runs() -> None:
        while not stop.is_set():
            run_id = client.create_run("3", run_name="beside").info.run_id
            client.log_param(run_id, "lr", "0.1")
            client.log_metric(run_id, "loss", 0.5)
            client.set_terminated(run_id)
            written.append(run_id)

    writer = threading.Thread(target=log_runs)
    writer.start()
    refused = 0
    try:
        while len(written) < 3:
            stop.wait(0.05)
        for _ in range(3):
            try:
                pipeline.convert([str(database)], options=OPTIONS, in_place=True)
            except TargetError as error:
                assert "locked" in str(error)
                refused += 1
            ((traces,),) = rows(database, "SELECT COUNT(*) FROM trace_info")
            assert traces in (0, 33)
    finally:
        stop.set()
        writer.join(60)
    if refused == 3:
        pipeline.convert([str(database)], options=OPTIONS, in_place=True)
    assert rows(database, "SELECT COUNT(*) FROM trace_info") == [(33,)]
    assert rows(database, "SELECT COUNT(*) FROM spans") == [(74,)]
    beside = rows(database, "SELECT run_uuid, status FROM runs WHERE name = 'beside'")
    assert set(beside) == {(run_id, "FINISHED") for run_id in written}
    statements(database)
    assert len(client.search_traces(locations=["3"])) > 0
