"""PostgreSQL as the target, on a real server: what arrives, what stays, what is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.errors import TargetError
from migrator.report.summary import Outcome
from migrator.verify import verify
from tests import fixturekit, serverkit
from tests.oracle import compare_stores
from tests.serverkit import PASSWORD, Server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    with serverkit.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mysql() -> Iterator[Server]:
    with serverkit.mysql() as server:
        yield server


@pytest.fixture(params=["postgresql"])
def server(request: pytest.FixtureRequest) -> Server:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Server)
    return found


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports go to the current directory."""
    monkeypatch.chdir(tmp_path)


def convert(source: Path, uri: str, **how: object) -> Outcome:
    return pipeline.convert([str(source)], uri, pipeline.Options(), **how)  # type: ignore[arg-type]


def differences(source: Path, uri: str) -> tuple[object, ...]:
    return verify([str(source)], uri, pipeline.Options()).differences


# ------------------------------------------------------------------------------- what arrives


@pytest.mark.parametrize("name", fixturekit.names())
def test_mlflow_reads_the_same_from_the_server(server: Server, name: str, tmp_path: Path) -> None:
    source = fixturekit.materialise(name, tmp_path)
    database = server.fresh()
    uri = server.uri(database)
    convert(source, uri)
    assert compare_stores(source, uri) == []
    assert differences(source, uri) == ()
    before = server.rows(database)
    again = convert(source, uri)
    assert server.rows(database) == before
    assert not any(again.ledger.converted.values())


def test_an_empty_database_gets_mlflows_tables(server: Server, tmp_path: Path) -> None:
    source = fixturekit.materialise("3.5.1-genai", tmp_path)
    uri = server.uri(server.empty())
    convert(source, uri)
    assert compare_stores(source, uri) == []
    assert differences(source, uri) == ()


def test_a_database_in_use_keeps_what_it_has(server: Server, tmp_path: Path) -> None:
    database = server.fresh()
    uri = server.uri(database)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    own = client.create_experiment("theirs")
    run = client.create_run(own)
    client.log_param(run.info.run_id, "lr", "0.1")
    client.log_metric(run.info.run_id, "loss", 0.5, step=3)
    before = server.rows(database)
    source = fixturekit.materialise("3.5.1-genai", tmp_path)
    convert(source, uri)
    after = server.rows(database)
    for table, rows in before.items():
        assert set(map(repr, rows)) <= set(map(repr, after[table])), table
    assert differences(source, uri) == ()


@pytest.mark.parametrize("driver", ["", "+psycopg2", "+psycopg"])
def test_both_drivers_of_postgresql(postgresql: Server, driver: str, tmp_path: Path) -> None:
    pytest.importorskip(driver[1:] or "psycopg2")
    source = fixturekit.materialise("3.5.1-genai", tmp_path)
    uri = postgresql.uri(postgresql.fresh(), driver)
    convert(source, uri)
    assert differences(source, uri) == ()
    assert convert(source, uri).ledger.converted.total() == 0


# ------------------------------------------------------------------------------ experiment ids


def test_experiments_of_18_digits_get_ids_of_the_column(server: Server, tmp_path: Path) -> None:
    source = fixturekit.materialise("3.5.1-genai", tmp_path)
    database = server.fresh()
    outcome = convert(source, server.uri(database))
    changed = {
        (e.experiment_id, e.target_id)
        for e in outcome.experiments
        if e.experiment_id != str(e.target_id)
    }
    assert len(changed) == 2
    assert all(1_000_000_000 <= new < 2_000_000_000 for _, new in changed)
    tags = server.query(
        "SELECT value, experiment_id FROM experiment_tags "
        "WHERE experiment_tags.key = 'migrator.source_experiment_id'".replace(".key", ".`key`")
        if server.kind == "mysql"
        else "SELECT value, experiment_id FROM experiment_tags "
        "WHERE key = 'migrator.source_experiment_id'",
        database,
    )
    assert set(tags) == changed
    for table in ("runs", "trace_info", "spans", "logged_models", "datasets"):
        ids = {row[0] for row in server.query(f"SELECT experiment_id FROM {table}", database)}
        assert ids <= {new for _, new in changed} | {0}, table


def test_mlflow_makes_its_next_experiment(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "mlruns"
    for number in ("0", "1", "2", "7", "123456789012345678"):
        folder = source / number
        folder.mkdir(parents=True)
        (folder / "meta.yaml").write_text(
            f"artifact_location: {folder}\nexperiment_id: '{number}'\nlifecycle_stage: active\n"
            f"name: {'Default' if number == '0' else 'e' + number}\n"
        )
    uri = server.uri(server.fresh())
    convert(source, uri)
    client = MlflowClient(tracking_uri=uri)
    made = int(client.create_experiment("new"))
    assert made == 8 if server.kind == "postgresql" else 1_000_000_000 < made < 2**31
    client.create_run(str(made))


# --------------------------------------------------------------------------------- resuming


_KILLED = """
import os, sys
from migrator import pipeline
from migrator.loader import exchange
send = exchange._Push._send
def sent(self, db, experiment):
    if self.whole == 1:
        os.kill(os.getpid(), 9)
    send(self, db, experiment)
exchange._Push._send = sent
pipeline.convert([sys.argv[1]], sys.argv[2], pipeline.Options())
"""


def test_a_killed_conversion_leaves_whole_experiments(server: Server, tmp_path: Path) -> None:
    source = fixturekit.materialise("3.5.1-genai", tmp_path)
    database = server.fresh()
    uri = server.uri(database)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(source), uri],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        check=False,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL
    before = server.rows(database)
    assert len(before["experiments"]) == 1
    convert(source, uri)
    after = server.rows(database)
    for table, rows in before.items():
        assert set(map(repr, rows)) <= set(map(repr, after[table])), table
    assert compare_stores(source, uri) == []


def test_two_conversions_at_once(server: Server, tmp_path: Path) -> None:
    source = fixturekit.materialise("2.22.5-agents", tmp_path)
    database = server.fresh()
    uri = server.uri(database)
    command = [sys.executable, "-m", "migrator.cli", "convert", str(source), "--to", uri, "--json"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    running = [
        subprocess.Popen([*command, "--report", f"{n}.json"], cwd=tmp_path, env=env,
                         stdout=subprocess.PIPE, text=True)
        for n in range(3)
    ]  # fmt: skip
    results = [json.loads(each.communicate(timeout=300)[0]) for each in running]
    assert [each.returncode for each in running] == [0, 0, 0]
    rows = [{row["kind"]: row for row in result["ledger"]} for result in results]
    for kind, first in rows[0].items():
        assert sum(each[kind]["converted"] for each in rows) == first["found"] - first["merged"]
        for each in rows:
            both = each[kind]["converted"] + each[kind]["already_there"]
            assert both == first["found"] - first["merged"], kind
    assert differences(source, uri) == ()


# ------------------------------------------------------------------------------ what is said


def refusal(uri: str, tmp_path: Path) -> str:
    source = fixturekit.store("2.4.2-predictions")
    with pytest.raises(TargetError) as caught:
        convert(source, uri)
    text = str(caught.value)
    assert PASSWORD not in text
    assert "\n" not in text
    return text


def test_what_is_refused_before_any_work(server: Server, tmp_path: Path) -> None:
    wrong = server.admin.set(drivername=server.kind, password="wr0ng-password")
    text = refusal(wrong.render_as_string(hide_password=False), tmp_path)
    assert "refuses this user or password" in text
    assert "wr0ng" not in text
    assert "no such database" in refusal(server.uri("nowhere"), tmp_path)
    closed = server.admin.set(drivername=server.kind, port=1)
    assert "can't be reached" in refusal(closed.render_as_string(hide_password=False), tmp_path)
    unknown = server.admin.set(drivername=server.kind, host="no.such.host.invalid")
    assert "can't be reached" in refusal(unknown.render_as_string(hide_password=False), tmp_path)
    other = server.uri("x", "+nodriver")
    assert "not one that this tool" in refusal(other, tmp_path)
    foreign = server.empty()
    server.execute("CREATE TABLE orders (id INTEGER)", database=foreign)
    assert "not a database of MLflow" in refusal(server.uri(foreign), tmp_path)


def test_another_schema_is_refused(server: Server, tmp_path: Path) -> None:
    database = server.fresh()
    server.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'", database=database)
    assert "mlflow db upgrade" in refusal(server.uri(database), tmp_path)
    server.execute("UPDATE alembic_version SET version_num = 'abcdef123456'", database=database)
    assert "newer MLflow" in refusal(server.uri(database), tmp_path)


def test_a_dry_run_writes_nothing(server: Server, tmp_path: Path) -> None:
    database = server.empty()
    outcome = convert(fixturekit.store("3.5.1-genai"), server.uri(database), dry_run=True)
    assert outcome.ledger.converted.total() > 100
    assert server.rows(database) == {}


def test_the_report_lies_here_and_holds_no_password(server: Server, tmp_path: Path) -> None:
    database = server.fresh()
    outcome = convert(fixturekit.store("3.5.1-genai"), server.uri(database))
    report = tmp_path / f"mlflow-migrate-{database}.report.json"
    assert outcome.report_path == str(report)
    text = report.read_text()
    assert "s3cr3t" not in text
    assert json.loads(text)["target"].startswith(f"{server.admin.drivername}://mlflow:***@127.0")
