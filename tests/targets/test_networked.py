"""PostgreSQL and MariaDB as the target, on real servers: what arrives, what stays, what is said."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.errors import TargetError
from migrator.loader import schema
from migrator.loader.networked import publish
from migrator.loader.networked.connection import initialise
from migrator.outcome.summary import Outcome
from migrator.pipeline import forest
from migrator.verification import verify
from tests.convert.test_two_sources import OTHERS
from tests.support import fixturekit, spanlesskit
from tests.support.oracle import compare_stores
from tests.support.sql_servers import PASSWORD, Server

pytestmark = [pytest.mark.xdist_group("targets_networked"), pytest.mark.long]


@pytest.fixture(params=["postgresql", "mysql"])
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
def test_mlflow_reads_the_same_from_the_server(
    server: Server, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fixturekit.materialise(name, tmp_path)
    database = server.fresh()
    uri = server.uri(database)
    convert(source, uri)
    assert compare_stores(source, uri) == []
    assert differences(source, uri) == ()
    before = server.rows(database)
    monkeypatch.setattr(publish._Send, "_send", None)  # nothing is even tried
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


# ----------------------------------------------------------------------------- what doesn't fit


RUN = "0123456789abcdef0123456789abcdef"


def store_of(directory: Path, files: dict[str, str], name: str = "e") -> Path:
    """Make a store of one run, with these params, tags and metrics."""
    source = directory / "mlruns"
    experiment = source / "1"
    run = experiment / RUN
    run.mkdir(parents=True)
    (experiment / "meta.yaml").write_text(
        f"artifact_location: {experiment}\nexperiment_id: '1'\nlifecycle_stage: active\n"
        f"name: {name}\ncreation_time: 1700000000000\nlast_update_time: 1700000000000\n"
    )
    (run / "meta.yaml").write_text(
        f"artifact_uri: {run}/artifacts\nend_time: 1700000001000\nentry_point_name: ''\n"
        f"experiment_id: '1'\nlifecycle_stage: active\nrun_id: {RUN}\nrun_name: r\n"
        f"run_uuid: {RUN}\nsource_name: ''\nsource_type: 4\nsource_version: ''\n"
        "start_time: 1700000000000\nstatus: 3\ntags: []\nuser_id: me\n"
    )
    for file, text in files.items():
        path = run / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return source


def codes(outcome: Outcome) -> dict[str, int]:
    return {
        code: sum(issue.count for issue in issues)
        for code, issues in outcome.ledger.issues_by_code().items()
        if code.startswith("load-")
    }


def test_what_the_columns_cannot_hold_is_named(server: Server, tmp_path: Path) -> None:
    source = store_of(
        tmp_path,
        {
            "params/long": "x" * 9000,
            "params/nul": "a\0b",
            "params/whole": "y" * 8000,
            "params/unicode": "größe \U0001f600",
            "tags/long": "z" * 9001,
            "tags/nul": "c\0",
            f"params/{'k' * 251}": "refused",
            "metrics/m": "1700000000000 1.7976931348623157e308 0\n1700000000001 nan 1\n"
            "1700000000002 inf 2\n1700000000003 5e-324 3\n1700000000004 -inf 9223372036854775807\n",
        },
    )
    uri = server.uri(server.fresh())
    outcome = convert(source, uri)
    found = {"load-text-cut": 2, "load-refused": 1}
    if server.kind == "postgresql":
        found["load-text-repaired"] = 2
    assert codes(outcome) == found
    assert outcome.exit_code == 3
    assert outcome.ledger.gaps() == []
    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(RUN)
    nul = "" if server.kind == "postgresql" else "\0"
    assert run.data.params == {
        "long": "x" * 7997 + "...",
        "nul": f"a{nul}b",
        "whole": "y" * 8000,
        "unicode": "größe \U0001f600",
    }
    assert run.data.tags["nul"] == f"c{nul}"
    expected = {"param long", "tag long", f"param {'k' * 251}"}
    if server.kind == "postgresql":
        expected |= {"param nul", "tag nul"}
    differ = verify([str(source)], uri, pipeline.Options()).differences
    assert {difference.field for difference in differ} == expected
    largest = 1.7976931348623157e308
    values = {m.step: m.value for m in client.get_metric_history(RUN, "m")}
    assert values.pop(1) != values.get(1)  # NaN
    assert values == {0: largest, 2: largest, 3: 5e-324, 9223372036854775807: -largest}
    assert convert(source, uri).ledger.converted.total() == 0


def test_keys_that_mysql_takes_for_one(mysql: Server, tmp_path: Path) -> None:
    source = store_of(
        tmp_path,
        {
            "params/Lr": "1",
            "params/lr": "2",
            "params/other": "3",
            "metrics/Loss": "1700000000000 1 0\n",
            "metrics/loss": "1700000000000 2 0\n1700000000001 3 1\n",
        },
    )
    exact = mysql.uri(mysql.empty())
    assert codes(convert(source, exact)) == {}
    assert differences(source, exact) == ()
    uri = mysql.uri(mysql.empty("utf8mb4_general_ci"))
    outcome = convert(source, uri)
    assert codes(outcome) == {"load-refused": 3}  # a param, and two points of a metric
    assert outcome.ledger.gaps() == []
    data = MlflowClient(tracking_uri=uri).get_run(RUN).data
    assert len(data.params) == 2
    assert len(data.metrics) == 1
    assert convert(source, uri).ledger.converted.total() == 0


def test_names_that_mysql_takes_for_one(mysql: Server, tmp_path: Path) -> None:
    source = store_of(tmp_path, {}, name="LLM")
    twin = source / "2"
    twin.mkdir()
    text = (source / "1" / "meta.yaml").read_text()
    (twin / "meta.yaml").write_text(text.replace("'1'", "'2'").replace("LLM", "llm"))
    uri = mysql.uri(mysql.empty("utf8mb4_general_ci"))
    convert(source, uri)
    found = MlflowClient(tracking_uri=uri).search_experiments()
    assert {e.name for e in found} - {"Default"} == {"LLM", "llm (2)"}
    assert differences(source, uri) == ()


def test_a_database_that_is_not_unicode(mysql: Server, tmp_path: Path) -> None:
    database = mysql.empty()
    mysql.execute(f"ALTER DATABASE {database} CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    source = store_of(tmp_path, {"params/unicode": "größe \U0001f600 β"})
    with pytest.raises(TargetError, match="utf8mb4"):
        convert(source, mysql.uri(database))


# --------------------------------------------------------------------------------- resuming


_KILLED = """
import os, sys
from migrator import pipeline
from migrator.loader.networked import publish
send = publish._Send._send
def sent(self, db, experiment):
    if self.whole == 1:
        os.kill(os.getpid(), 9)
    send(self, db, experiment)
publish._Send._send = sent
pipeline.convert([sys.argv[1]], sys.argv[2], pipeline.Options())
"""


def test_a_killed_conversion_leaves_whole_experiments(server: Server, tmp_path: Path) -> None:
    source = fixturekit.materialise("3.5.1-genai", tmp_path)
    database = server.fresh()
    uri = server.uri(database)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(source), uri],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
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
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
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


def test_shards_that_run_at_once_make_one_database(server: Server, tmp_path: Path) -> None:
    source = fixturekit.materialise("2.22.5-agents", tmp_path)
    database = server.fresh()
    uri = server.uri(database)
    command = [sys.executable, "-m", "migrator.cli", "convert", str(source), "--to", uri, "-q"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    for _ in range(2):  # a shard that runs twice changes nothing
        running = [
            subprocess.Popen([*command, "--shard", f"{n}/3"], cwd=tmp_path, env=env)
            for n in (1, 2, 3)
        ]
        assert [each.wait(300) for each in running] == [0, 0, 0]
        assert differences(source, uri) == ()
    assert compare_stores(source, uri) == []
    left = [p for p in tmp_path.glob("mlflow-migrate-*.json") if "shard" not in p.name]
    assert left == []


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
    assert "can't be used by this tool" in refusal(other, tmp_path)
    foreign = server.empty()
    server.execute("CREATE TABLE orders (id INTEGER)", database=foreign)
    assert "not a database of an MLflow tracking store" in refusal(server.uri(foreign), tmp_path)


def test_another_schema_is_refused(server: Server, tmp_path: Path) -> None:
    database = server.fresh()
    server.execute(
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (1, 'a', 'active')",
        "UPDATE alembic_version SET version_num = '0584bdc529eb'",
        database=database,
    )
    assert "mlflow db upgrade" in refusal(server.uri(database), tmp_path)
    server.execute("UPDATE alembic_version SET version_num = 'abcdef123456'", database=database)
    assert "newer MLflow" in refusal(server.uri(database), tmp_path)


@pytest.mark.parametrize("revision", ["row", "empty", "no table"])
def test_tables_that_were_never_finished_are_made_anew(
    revision: str, server: Server, tmp_path: Path
) -> None:
    """As a process leaves them that was killed while MLflow made them (MySQL, MariaDB)."""
    database = server.empty()
    url = server.admin.set(database=database)
    initialise(url, schema.chain()[20])
    if revision == "empty":
        server.execute("DELETE FROM alembic_version", database=database)
    elif revision == "no table":
        server.execute("DROP TABLE alembic_version", database=database)
    text = refusal(server.uri(database), tmp_path)
    assert "unfinished" in text and "db upgrade" not in text
    source = fixturekit.materialise("1.30.1-classic", tmp_path)
    statements = text.partition("On the server: ")[2].rpartition(" Then convert")[0]
    drop, create = statements.rstrip(".").rstrip(";").split("; ")
    assert (drop[:14], create[:16]) == ("DROP DATABASE ", "CREATE DATABASE ")
    server.execute(drop, create)
    assert convert(source, server.uri(database)).exit_code == 0
    assert differences(source, server.uri(database)) == ()


@pytest.mark.parametrize("name", ["run: value of a param", "run: with a trace", "version"])
def test_another_entity_of_one_id_is_rejected_whole(
    name: str, server: Server, tmp_path: Path
) -> None:
    database = server.fresh()
    uri = server.uri(database)
    first, second = OTHERS[name]
    first(tmp_path / "one")
    second(tmp_path / "two")
    convert(tmp_path / "one", uri)
    before = server.rows(database)
    outcome = convert(tmp_path / "two", uri)
    assert server.rows(database) == before
    assert outcome.exit_code == 3 and not outcome.ledger.gaps()
    assert "entity-clashes" in {issue.code.value for issue in outcome.ledger.issues}


def test_a_user_who_may_not_write_is_refused(server: Server, tmp_path: Path) -> None:
    database = server.fresh()
    name = f"reader_{database}"
    if server.kind == "postgresql":
        server.execute(
            f"CREATE USER {name} PASSWORD '{PASSWORD}'",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
            database=database,
        )
    else:
        server.execute(
            f"CREATE USER {name}@'%%' IDENTIFIED BY '{PASSWORD}'",
            f"GRANT SELECT ON {database}.* TO {name}@'%%'",
        )
    reader = server.admin.set(username=name, database=database)
    text = refusal(reader.render_as_string(hide_password=False), tmp_path)
    assert "may not do what a conversion needs" in text


def test_a_database_that_is_read_only_is_refused(postgresql: Server, tmp_path: Path) -> None:
    for database in (postgresql.fresh(), postgresql.empty()):
        postgresql.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        assert "is read-only" in refusal(postgresql.uri(database), tmp_path)


def test_a_missing_driver_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(schema, "wanted_revision", lambda wanted: schema.MLFLOW_39)
    for kind in ("postgresql", "mysql"):
        text = refusal(f"{kind}://me:{quote(PASSWORD, safe='')}@localhost/x", tmp_path)
        assert f"pip install 'mlflow-migrate[{kind}]'" in text


def test_uris_that_mean_no_database_are_refused(tmp_path: Path) -> None:
    for uri, word in {
        "postgres://me:{}@localhost/x": "calls this kind of server postgresql",
        "mariadb://me:{}@localhost/x": "calls this kind of server mysql",
        "postgresql://me:{}@localhost": "names no database",
        "postgresql://me:{}@localhost:port/x": "is not a database URI",
        "mysql+aiomysql://me:{}@localhost/x": "can't be used by this tool",
    }.items():
        assert word in refusal(uri.format(quote(PASSWORD, safe="")), tmp_path)


def test_upgrade_leaves_a_server_alone(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="mlflow db upgrade") as caught:
        pipeline.upgrade(f"postgresql://me:{quote(PASSWORD, safe='')}@localhost/x")
    assert quote(PASSWORD, safe="") not in str(caught.value)


def test_a_run_that_had_not_ended_is_brought_up_to_date(server: Server, tmp_path: Path) -> None:
    source = store_of(tmp_path, {"metrics/m": "1700000000000 1 0\n", "tags/t": "old"})
    meta = source / "1" / RUN / "meta.yaml"
    ended = meta.read_text()
    meta.write_text(ended.replace("status: 3", "status: 1").replace("1700000001000", "null"))
    database = server.fresh()
    uri = server.uri(database)
    convert(source, uri)
    assert MlflowClient(tracking_uri=uri).get_run(RUN).info.status == "RUNNING"
    meta.write_text(ended)
    (source / "1" / RUN / "tags" / "t").write_text("new")
    (source / "1" / RUN / "metrics" / "m").write_text("1700000000000 1 0\n1700000000001 2 1\n")
    outcome = convert(source, uri)
    assert "target-updated" in {i.code.value for i in outcome.ledger.issues}
    run = MlflowClient(tracking_uri=uri).get_run(RUN)
    assert (run.info.status, run.info.end_time) == ("FINISHED", 1700000001000)
    assert run.data.tags["t"] == "new"
    assert run.data.metrics == {"m": 2.0}
    assert differences(source, uri) == ()


def test_a_trace_that_grew_is_written_anew(server: Server, tmp_path: Path) -> None:
    source = fixturekit.materialise("2.22.5-agents", tmp_path)
    uri = server.uri(server.fresh())
    metas = sorted(source.glob("*/*/tags/mlflow.parentRunId"))
    late = metas[0].parent.parent  # a step that a first conversion doesn't see
    aside = tmp_path / "aside"
    late.rename(aside)
    convert(source, uri)
    aside.rename(late)
    convert(source, uri)
    assert differences(source, uri) == ()
    assert compare_stores(source, uri) == []


@pytest.mark.parametrize("found_first", [False, True])
def test_spans_found_once_are_kept_and_replace_an_inferred_root(
    found_first: bool, server: Server, tmp_path: Path
) -> None:
    uri = server.uri(server.fresh())
    for with_spans in (found_first, not found_first):
        store = tmp_path / str(with_spans)
        spanlesskit.write_one(store, with_spans=with_spans)
        assert convert(store, uri).ledger.gaps() == []
    trace = spanlesskit.found_in(MlflowClient(uri), "1")[spanlesskit.BROKEN]
    assert [span.name for span in trace.data.spans] == ["ask"]
    assert "migrator.inferences" not in trace.info.tags


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


def test_verify_says_in_a_sentence_that_the_server_ended_its_connection(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = postgresql.empty()
    source, uri = fixturekit.store("2.4.2-predictions"), postgresql.uri(database)
    convert(source, uri)
    trees = forest.hand_over_trees

    def end_it(*args: Any) -> Any:
        of_it = f"FROM pg_stat_activity WHERE datname = '{database}'"
        postgresql.execute(
            f"SELECT pg_terminate_backend(pid) {of_it}",
            f"ALTER DATABASE {database} RENAME TO {database}_gone",
        )
        return trees(*args)

    monkeypatch.setattr("migrator.pipeline.walk.hand_over_trees", end_it)
    with pytest.raises(TargetError) as caught:
        verify([str(source)], uri, pipeline.Options())
    text = str(caught.value)
    assert "doesn't answer any more" in text
    assert PASSWORD not in text and "\n" not in text
