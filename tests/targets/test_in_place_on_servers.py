"""``convert postgresql://… --in-place``: one transaction for each experiment, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.errors import OptionError, TargetError
from migrator.outcome.summary import Outcome
from tests.support import fixturekit
from tests.support.sql_servers import PASSWORD, Server

pytestmark = [pytest.mark.xdist_group("database_servers"), pytest.mark.long]
OPTIONS = pipeline.Options(workers=1)
ADDED = {
    *("trace_info", "trace_tags", "trace_request_metadata", "trace_metrics", "spans"),
    *("span_metrics", "assessments", "entity_associations", "experiment_tags", "migrator_seen"),
}
Rows = dict[str, list[tuple[object, ...]]]


@pytest.fixture(params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The SQLite database whose runs the servers get; reports go to the current directory."""
    monkeypatch.chdir(tmp_path)
    return fixturekit.database("2.9.2-database", tmp_path / "source")


def with_runs(server: Server, made: Path) -> tuple[str, str]:
    """Make a database with nested runs and without their traces; return its name and URI."""
    name = server.fresh()
    options = pipeline.Options(workers=1, traces=False)
    pipeline.convert([str(made)], server.uri(name), options)
    return name, server.uri(name)


def in_place(uri: str, **settings: Any) -> Outcome:
    return pipeline.convert([uri], options=OPTIONS, in_place=True, **settings)


def check_only_added(before: Rows, after: Rows) -> None:
    """No row is changed or removed, and only tables of traces have new ones."""
    for table, rows in before.items():
        assert set(rows) <= set(after[table]), f"rows of {table} were changed or removed"
        if table not in ADDED:
            assert rows == after[table], table


def test_traces_are_added_and_nothing_else_changes(server: Server, made: Path) -> None:
    name, uri = with_runs(server, made)
    before = server.rows(name)
    outcome = in_place(uri)
    assert outcome.exit_code == 0 and outcome.backup is None
    after = server.rows(name)
    check_only_added(before, after)
    assert len(after["trace_info"]) == 33 and len(after["spans"]) == 74
    assert [row for row in outcome.ledger.as_rows() if row["already_there"] != row["found"]] == []
    assert PASSWORD not in str(outcome.as_dict(values=True))
    in_place(uri)
    assert server.rows(name) == after, "twice is not once"
    client = MlflowClient(uri)
    traces = client.search_traces(locations=["3"])
    assert traces
    for trace in traces:
        run = client.get_run(trace.info.trace_id.removeprefix("tr-"))
        assert trace.info.request_time == run.info.start_time and trace.data.spans


def test_the_traces_are_those_of_a_conversion_into_another_database(
    server: Server, made: Path
) -> None:
    name, uri = with_runs(server, made)
    other = server.fresh()
    pipeline.convert([uri], server.uri(other), OPTIONS)
    in_place(uri)
    mine, theirs = server.rows(name), server.rows(other)
    for table in ("trace_info", "spans", "trace_tags", "trace_request_metadata", "assessments"):
        assert mine[table] == theirs[table], table


def test_an_interrupted_conversion_leaves_whole_experiments_and_is_resumed(
    server: Server, made: Path
) -> None:
    name, uri = with_runs(server, made)
    before = server.rows(name)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "publishing experiments" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="2 of 8 experiments were written completely"):
        in_place(uri, progress=stop)
    half = server.rows(name)
    check_only_added(before, half)
    begun = {str(row[0]) for row in server.query("SELECT request_id FROM trace_info", name)}
    with_spans = {str(row[0]) for row in server.query("SELECT trace_id FROM spans", name)}
    assert begun == with_spans and 0 < len(begun) < 33
    in_place(uri)
    after = server.rows(name)
    check_only_added(half, after)
    assert len(after["trace_info"]) == 33


def test_a_dry_run_writes_nothing(server: Server, made: Path) -> None:
    name, uri = with_runs(server, made)
    before = server.rows(name)
    outcome = in_place(uri, dry_run=True)
    assert sum(outcome.ledger.rebuilt.values()) > 0
    assert server.rows(name) == before


def test_an_older_schema_is_refused_with_the_command_that_upgrades_it(
    server: Server, made: Path
) -> None:
    name, uri = with_runs(server, made)
    server.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'", database=name)
    before = server.rows(name)
    with pytest.raises(TargetError) as error:
        in_place(uri)
    assert "Make a backup" in str(error.value) and "mlflow db upgrade" in str(error.value)
    assert PASSWORD not in str(error.value)
    assert server.rows(name) == before


def test_a_database_without_a_table_of_its_revision_is_refused(server: Server, made: Path) -> None:
    name, uri = with_runs(server, made)
    server.execute("DROP TABLE input_tags", database=name)
    with pytest.raises(Exception, match="input_tags"):
        in_place(uri)
    assert server.query("SELECT COUNT(*) FROM trace_info", name) == [(0,)]


def test_without_in_place_the_same_database_is_refused_with_the_hint(
    server: Server, made: Path
) -> None:
    name, uri = with_runs(server, made)
    for to in (uri, server.uri(name, driver=""), uri.replace("127.0.0.1", "LOCALHOST")):
        with pytest.raises(OptionError, match="--in-place"):
            pipeline.convert([uri], to, OPTIONS)
