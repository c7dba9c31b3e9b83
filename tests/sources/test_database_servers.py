"""Databases on PostgreSQL and MySQL servers as sources."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest

from migrator import extractor, pipeline
from migrator.errors import OptionError, SourceError
from migrator.issues import Code
from migrator.verification import verify
from tests.support import fixturekit
from tests.support.sql_servers import PASSWORD, Server

pytestmark = [pytest.mark.xdist_group("database_servers"), pytest.mark.long]
OPTIONS = pipeline.Options(workers=1)


@pytest.fixture(params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports go to the current directory."""
    monkeypatch.chdir(tmp_path)


def contents(path: Path) -> list[str]:
    """All rows of a database as SQL, sorted."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return sorted(line for line in db.iterdump() if line.startswith("INSERT"))


def carried(server: Server, source: Path) -> str:
    """Convert a database into a new one on a server,; return its URI."""
    uri = server.uri(server.fresh())
    options = pipeline.Options(workers=1, artifacts="keep")
    pipeline.convert([str(source)], uri, options)
    return uri


@pytest.mark.parametrize("name", ["2.9.2-database", "3.5.1-database"])
def test_a_server_gives_what_a_file_gives(name: str, server: Server, tmp_path: Path) -> None:
    """The same history by way of a server: nothing is lost, and nothing is added."""
    source = fixturekit.database(name, tmp_path / "source")
    uri = carried(server, source)
    before = server.rows(uri.rpartition("/")[2])
    direct, through = tmp_path / "direct.db", tmp_path / "through.db"
    keep = pipeline.Options(workers=1, artifacts="keep")
    pipeline.convert([str(source)], f"sqlite:///{direct}", keep)
    outcome = pipeline.convert([uri], f"sqlite:///{through}", keep)
    assert outcome.exit_code == 0
    assert PASSWORD not in str(outcome.as_dict(values=True))
    assert [row for row in outcome.ledger.as_rows() if row["converted"] != row["found"]] == []
    assert verify([uri], f"sqlite:///{through}", keep).differences == ()
    assert server.rows(uri.rpartition("/")[2]) == before
    tables = ("params", "metrics", "tags", "latest_metrics", "registered_models", "inputs",
              "logged_model_params", "registered_model_aliases", "spans")  # fmt: skip
    for table in tables:
        mine = [line for line in contents(through) if line.startswith(f'INSERT INTO "{table}"')]
        other = [line for line in contents(direct) if line.startswith(f'INSERT INTO "{table}"')]
        assert mine == other, table


def test_one_snapshot_is_read(server: Server, tmp_path: Path) -> None:
    """What a server writes meanwhile does not tear what is read."""
    source = fixturekit.database("2.9.2-database", tmp_path / "source")
    uri = carried(server, source)
    with extractor.open_source(uri) as opened:
        index = opened.index()
        name = uri.rpartition("/")[2]
        server.execute("DELETE FROM params", "DELETE FROM latest_metrics", database=name)
        read = list(opened.read_runs(index.runs, lambda path: False))
    assert sum(len(run.record.params) for run in read if run.record is not None) == 195


def test_the_same_database_is_refused_whoever_logs_in(server: Server) -> None:
    uri = server.uri(server.fresh())
    for to in (uri, uri.replace("127.0.0.1", "localhost")):
        with pytest.raises(OptionError, match="is the source itself") as error:
            pipeline.convert([uri], to, OPTIONS)
        assert PASSWORD not in str(error.value) and quote(PASSWORD, safe="") not in str(error.value)


def test_a_wrong_password_and_an_unknown_database_are_refused(
    server: Server, tmp_path: Path
) -> None:
    uri = server.uri(server.fresh())
    wrong = uri.replace(quote(PASSWORD, safe=""), "wr0ng-s3cret")
    for bad in ([wrong] if wrong != uri else []) + [uri.rpartition("/")[0] + "/nowhere"]:
        with pytest.raises(SourceError) as error:
            pipeline.convert([bad], f"sqlite:///{tmp_path}/never.db", OPTIONS)
        assert "wr0ng" not in str(error.value) and "s3cr3t" not in str(error.value)
        assert not (tmp_path / "never.db").exists()


def test_a_database_that_is_not_mlflows_is_refused(server: Server, tmp_path: Path) -> None:
    uri = server.uri(server.empty())
    with pytest.raises(SourceError, match="not one of MLflow's tracking store"):
        pipeline.convert([uri], f"sqlite:///{tmp_path}/never.db", OPTIONS)


def test_a_table_that_may_not_be_read_is_refused(postgresql: Server, tmp_path: Path) -> None:
    name = postgresql.fresh()
    postgresql.execute(
        "DO $$ BEGIN CREATE ROLE reader LOGIN PASSWORD 'r3ader'; EXCEPTION WHEN "
        "duplicate_object THEN NULL; END $$"
    )
    postgresql.execute("GRANT SELECT ON experiments, runs, tags, metrics TO reader", database=name)
    host = postgresql.uri(name).rpartition("@")[2]
    with pytest.raises(SourceError) as error:
        pipeline.convert(
            [f"postgresql://reader:r3ader@{host}"], f"sqlite:///{tmp_path}/never.db", OPTIONS
        )
    assert "let the user read all of MLflow's tables" in str(error.value)
    assert "r3ader" not in str(error.value)


def test_damage_on_a_server_is_named_with_table_and_key(postgresql: Server, tmp_path: Path) -> None:
    source = fixturekit.database("2.9.2-database", tmp_path / "source")
    uri = carried(postgresql, source)
    name = uri.rpartition("/")[2]
    postgresql.execute(
        "ALTER TABLE params DROP CONSTRAINT IF EXISTS params_run_uuid_fkey",
        "INSERT INTO params (key, value, run_uuid) VALUES ('a', 'b', 'gone')",
        database=name,
    )
    outcome = pipeline.convert([uri], f"sqlite:///{tmp_path}/new.db", OPTIONS)
    (issue,) = [each for each in outcome.ledger.issues if each.code is Code.ROW_LEFT_OVER]
    assert issue.path.endswith("/params") and "gone" in issue.message
    assert outcome.exit_code == 0 and PASSWORD not in issue.path
