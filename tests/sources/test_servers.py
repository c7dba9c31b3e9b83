"""Tracking servers as sources: real servers of the installed MLflow, and faults before them.

Not carried from a server, but from its SQLite file, is what ``WITHHELD`` says for each fixture.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from migrator import extractor, pipeline
from migrator.cli import main
from migrator.errors import OptionError, SourceError
from migrator.extractor.rest import assets as rest_assets
from migrator.extractor.rest import reader
from migrator.issues import Code, Kind
from migrator.outcome.summary import Outcome
from migrator.verification import verify
from tests.support import databasekit, fixturekit
from tests.support.faulty_proxy import Answer, Proxy, proxied
from tests.support.http_servers import Quiet, serving
from tests.support.mlflow_server import Server, View, compare
from tests.support.ports import free_port

pytestmark = [pytest.mark.xdist_group("sources_servers"), pytest.mark.long]

RECORDED = ("/tmp/ana/project/mlruns/", "./mlruns/")  # where the fixtures were written
ONE_WORKER = pipeline.Options(workers=1, artifacts="keep")
AGENTS, GENAI = "2.9.2-database", "3.5.1-database"
FIXTURES = ("1.30.1-database", AGENTS, "2.22.5-database", GENAI)
# A deleted logged model, which the API does not show. (It does not show deleted versions of
# registered models either, but nor does MLflow's client that compares here.)
WITHHELD = {GENAI: ["/experiments/1/models/m-73374cb509384011a7d856fd26280057"]}


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # without a netrc of the machine
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("USERNAME", "PASSWORD", "TOKEN", "INSECURE_TLS", "SERVER_CERT_PATH"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)


_UPGRADED: dict[str, Path] = {}


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Databases of fixtures at the installed MLflow's schema, as a server would have them."""

    def make(name: str) -> Path:
        if name not in _UPGRADED:
            path = fixturekit.database(name, tmp_path_factory.mktemp("upgraded"))
            pipeline.upgrade(f"sqlite:///{path}")
            _serve_artifacts(path)
            _UPGRADED[name] = path
        return _UPGRADED[name]

    return make


def _serve_artifacts(path: Path) -> None:
    """Give a database the locations that a server with --artifacts-destination records."""
    (path.parent / "mlruns").rename(path.parent / "mlartifacts")
    with contextlib.closing(sqlite3.connect(path)) as db:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "source"),
            ("model_versions", "storage_location"),
            ("trace_tags", "value"),
        ):
            for old in RECORDED:
                db.execute(
                    f"UPDATE {table} SET {column} = 'mlflow-artifacts:/' || substr({column}, ?) "
                    f"WHERE {column} LIKE ?",
                    (len(old) + 1, f"{old}%"),
                )
        db.commit()


def fill(server: Server, path: Path) -> str:
    """Let a server have the contents of a database, and the artifacts beside it."""
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(server.path)) as target,
    ):
        source.backup(target)
    shutil.rmtree(server.folder / "artifacts", ignore_errors=True)
    shutil.copytree(path.parent / "mlartifacts", server.folder / "artifacts")
    return server.uri


@pytest.fixture
def genai(running: Server, upgraded: Callable[[str], Path]) -> str:
    """The address of a server with what 3.5 wrote."""
    return fill(running, upgraded(GENAI))


@pytest.fixture
def agents(running: Server, upgraded: Callable[[str], Path]) -> str:
    """The address of a server with LLM work that 2.9 wrote."""
    return fill(running, upgraded(AGENTS))


@pytest.fixture
def proxy(genai: str) -> Iterator[Proxy]:
    with proxied(genai) as running:
        yield running


def converted(source: str, target: Path, **options: Any) -> Outcome:
    chosen = pipeline.Options(**{"workers": 1, "artifacts": "keep", **options})
    return pipeline.convert([source], f"sqlite:///{target}", chosen, report=f"{target}.json")


def contents(path: Path) -> list[str]:
    """All rows of a database as SQL, sorted; not what it remembers, which depends on the source."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        lines = [line for line in db.iterdump() if line.startswith("INSERT")]
        return sorted(line for line in lines if '"migrator_seen"' not in line)


# ------------------------------------------------------------------------- the same history


@pytest.mark.parametrize("name", FIXTURES)
def test_a_server_gives_what_its_database_gives(
    name: str, running: Server, upgraded: Callable[[str], Path], tmp_path: Path
) -> None:
    path = upgraded(name)
    served, direct = tmp_path / "served.db", tmp_path / "direct.db"
    outcome = converted(fill(running, path), served)
    assert outcome.exit_code == 0
    assert outcome.ledger.gaps() == []
    converted(str(path), direct)
    here, there = (
        View(f"sqlite:///{each}", path.parent / "mlartifacts") for each in (direct, served)
    )
    found = list(compare("", here.everything(), there.everything()))
    expected = WITHHELD.get(name, [])
    assert [difference.split(":")[0] for difference in found] == expected, found


def test_what_is_found_is_counted(genai: str, running: Server, tmp_path: Path) -> None:
    found = converted(genai, tmp_path / "new.db").ledger.found
    shown = {kind.value: number for kind, number in found.items()}
    for kind, query in (
        ("run", "SELECT COUNT(*) FROM runs"),
        ("metric point", "SELECT COUNT(*) FROM metrics"),
        ("run tag", "SELECT COUNT(*) FROM tags"),
        ("run input", "SELECT COUNT(*) FROM inputs WHERE source_type <> 'RUN_OUTPUT'"),
        ("run output", "SELECT COUNT(*) FROM inputs WHERE source_type = 'RUN_OUTPUT'"),
        ("logged model", "SELECT COUNT(*) FROM logged_models WHERE lifecycle_stage = 'active'"),
        ("model version", "SELECT COUNT(*) FROM model_versions"),
        ("span", "SELECT COUNT(*) FROM spans"),
        ("assessment", "SELECT COUNT(*) FROM assessments"),
    ):
        assert shown[kind] == running.ask(query)[0][0] > 0, kind


def test_nothing_on_the_server_changes(genai: str, running: Server, tmp_path: Path) -> None:
    before = running.rows()
    converted(genai, tmp_path / "new.db")
    assert running.rows() == before


ASSETS = (
    *("evaluation_datasets", "evaluation_dataset_tags", "evaluation_dataset_records"),
    *("scorers", "scorer_versions", "webhooks", "webhook_events"),
)


@pytest.fixture
def assets(genai: str, running: Server) -> str:
    """The address of a server that has evaluation datasets, scorers and webhooks as well."""
    digest = "UPDATE evaluation_datasets SET digest = 'abc'"  # MLflow fails at one without
    databasekit.execute(Path(running.path), *databasekit.ASSETS, digest)
    return genai


def test_evaluation_datasets_scorers_and_webhooks_are_carried(
    assets: str, running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reader, rest_assets):
        monkeypatch.setattr(module, "_PAGE", 1)
    outcome = converted(assets, tmp_path / "new.db")
    assert outcome.exit_code == 0
    found = {kind.value: number for kind, number in outcome.ledger.found.items()}
    for kind, query in (
        ("evaluation dataset", "SELECT COUNT(*) FROM evaluation_datasets"),
        ("evaluation dataset tag", "SELECT COUNT(*) FROM evaluation_dataset_tags"),
        ("evaluation record", "SELECT COUNT(*) FROM evaluation_dataset_records"),
        ("evaluation dataset link", "SELECT COUNT(*) FROM entity_associations "
         "WHERE source_type = 'evaluation_dataset'"),
        ("scorer", "SELECT COUNT(*) FROM scorers"),
        ("scorer version", "SELECT COUNT(*) FROM scorer_versions"),
        ("webhook", "SELECT COUNT(*) FROM webhooks WHERE deleted_timestamp IS NULL"),
        ("webhook event", "SELECT COUNT(*) FROM webhook_events"),
    ):  # fmt: skip
        assert found[kind] == running.ask(query)[0][0] > 0, kind
    here, there = (_assets_by_mlflow(Path(path)) for path in (tmp_path / "new.db", running.path))
    assert here == there
    assert verify([assets], f"sqlite:///{tmp_path}/new.db", ONE_WORKER).differences == ()


def _assets_by_mlflow(path: Path) -> dict[str, Any]:
    """What MLflow's own store reads, but for the links' times and the hashes of records."""
    store = SqlAlchemyStore(f"sqlite:///{path}", str(path.parent / "artifacts"))
    registry = Registry(f"sqlite:///{path}")
    datasets, scorers = {}, []
    for each in store.search_datasets():
        records, _ = store._load_dataset_records(each.dataset_id)
        links = sorted(store.get_dataset_experiment_ids(each.dataset_id))
        facts = (each.name, each.tags, each.schema, each.profile, each.digest, each.created_by)
        times = (each.created_time, each.last_update_time)
        datasets[each.dataset_id] = (facts, times, links, [r.to_dict() for r in records])
    for experiment in ("1", "2"):
        for each in store.list_scorers(experiment):
            for version in store.list_scorer_versions(experiment, each.scorer_name):
                scorers.append((version.scorer_id, version.scorer_version, version.creation_time,
                                version._serialized_scorer))  # fmt: skip
    webhooks = [
        (each.webhook_id, each.name, each.url, each.description, str(each.status),
         each.creation_timestamp, sorted(map(str, each.events)))
        for each in registry.list_webhooks()
    ]  # fmt: skip
    return {"datasets": datasets, "scorers": scorers, "webhooks": webhooks}


def test_what_a_login_may_not_list_is_named(proxy: Proxy, tmp_path: Path) -> None:
    def forbidden(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        is_hidden = path.partition("?")[0].endswith("/webhooks")
        return Answer(403, b'{"message": "Only for admins"}') if is_hidden else None

    proxy.fault = forbidden
    outcome = converted(proxy.uri, tmp_path / "new.db")
    assert outcome.exit_code == 0
    messages = [i.message for i in outcome.ledger.issues if i.code is Code.SERVER_WITHHOLDS]
    assert "This login may not list webhooks: Only for admins." in messages


def test_small_pages_and_cut_histories_lose_nothing(
    agents: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted(agents, tmp_path / "large.db")
    for name, value in (
        ("_PAGE", 3), ("_TRACES_A_PAGE", 2), ("_MODELS_A_PAGE", 2),
        ("_EXPERIMENTS_A_SEARCH", 2), ("_RUNS_A_HISTORY", 2), ("_POINTS", 2),
    ):  # fmt: skip
        monkeypatch.setattr(reader, name, value)
    converted(agents, tmp_path / "small.db")
    assert contents(tmp_path / "small.db") == contents(tmp_path / "large.db")


def test_a_history_that_lacks_its_last_point_is_asked_for_again(
    proxy: Proxy, tmp_path: Path
) -> None:
    converted(proxy.uri, tmp_path / "whole.db")

    def without_points(path: str, body: bytes) -> bytes:
        return b'{"metrics": []}' if path.endswith("get-history-bulk") else body

    proxy.changed = without_points
    converted(proxy.uri, tmp_path / "again.db")
    assert contents(tmp_path / "again.db") == contents(tmp_path / "whole.db")


def test_several_processes_read_the_same(genai: str, tmp_path: Path) -> None:
    converted(genai, tmp_path / "one.db")
    converted(genai, tmp_path / "two.db", workers=2)
    assert contents(tmp_path / "two.db") == contents(tmp_path / "one.db")


def test_texts_of_artifacts_come_through_the_server(agents: str, tmp_path: Path) -> None:
    converted(agents, tmp_path / "new.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "new.db")) as db:
        ((inputs,),) = db.execute(
            "SELECT json_extract(content, '$.attributes.\"mlflow.spanInputs\"') FROM spans s "
            "JOIN trace_info t ON t.request_id = s.trace_id WHERE t.experiment_id = 10 "
            "AND s.parent_span_id IS NULL"
        )
    fixture = fixturekit.FIXTURES / AGENTS / "mlruns" / "10"
    assert next(fixture.glob("*/artifacts/prompt.txt")).read_text() in inputs


def test_artifacts_are_copied_through_the_server(
    genai: str, running: Server, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    converted(genai, tmp_path / "new.db", artifacts=f"copy:{copies}")
    files = {
        str(path.relative_to(running.folder / "artifacts")): path.read_bytes()
        for path in (running.folder / "artifacts").rglob("*")
        if path.is_file() and path.name != "traces.json"  # written anew from the API's answer
    }
    assert len(files) > 15
    for name, content in files.items():
        assert (copies / name).read_bytes() == content, name
    with contextlib.closing(sqlite3.connect(tmp_path / "new.db")) as db:
        uris = [row[0] for row in db.execute("SELECT artifact_uri FROM runs")]
    assert copies.joinpath("1", "c50168571efd43fc8befb3c802d9ea1e", "artifacts").as_uri() in uris


def test_locations_stay_those_of_the_server(genai: str, running: Server, tmp_path: Path) -> None:
    converted(genai, tmp_path / "new.db", artifacts="auto")
    with contextlib.closing(sqlite3.connect(tmp_path / "new.db")) as db:
        found = sorted(db.execute("SELECT run_uuid, artifact_uri FROM runs"))
        sources = sorted(db.execute("SELECT name, version, source FROM model_versions"))
    assert found == sorted(running.ask("SELECT run_uuid, artifact_uri FROM runs"))
    assert sources == sorted(running.ask("SELECT name, version, source FROM model_versions"))


def test_a_place_that_the_user_tells_is_written(genai: str, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    told = f"mlflow-artifacts:/={tmp_path}/kept"
    converted(genai, tmp_path / "new.db", artifacts="auto", artifacts_at=told)
    with contextlib.closing(sqlite3.connect(tmp_path / "new.db")) as db:
        uris = {row[0] for row in db.execute("SELECT artifact_uri FROM runs")}
    assert all(uri.startswith((tmp_path / "kept").as_uri()) for uri in uris)


# --------------------------------------------------------------------------- other commands


def run(*words: str) -> Result:
    result = CliRunner().invoke(main, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def test_scan_show_export_and_verify_take_a_server(genai: str, tmp_path: Path) -> None:
    scanned = run("scan", genai)
    assert scanned.exit_code == 0
    assert f"{genai}: 7 runs, 4 traces" in scanned.stdout
    shown = run("show", "c5016857", genai)
    assert "greeter" in shown.stdout and "node_greet" in shown.stdout
    sent = run("export", genai, "--otlp", str(tmp_path / "traces.jsonl"))
    assert "Sent 5 traces with 9 spans" in sent.stdout
    run("convert", genai, "--to", f"sqlite:///{tmp_path}/new.db")
    same = run("verify", genai, "--against", f"sqlite:///{tmp_path}/new.db")
    assert same.exit_code == 0 and "No difference" in same.stdout
    with contextlib.closing(sqlite3.connect(tmp_path / "new.db")) as db:
        db.execute("UPDATE params SET value = 'other' WHERE key = 'workflow_name'")
        db.commit()
    assert verify([genai], f"sqlite:///{tmp_path}/new.db").differences


def test_what_the_api_withholds_is_said_before_anything_is_read(
    proxy: Proxy, tmp_path: Path
) -> None:
    seen_then: list[list[str]] = []
    said: list[str] = []

    def say(text: str) -> None:
        seen_then.append(list(proxy.seen))
        said.append(text)

    target = f"sqlite:///{tmp_path}/new.db"
    outcome = pipeline.convert([proxy.uri], target, ONE_WORKER, report="r.json", say=say)
    assert seen_then == [["POST /api/2.0/mlflow/experiments/search", "GET /version"]]
    assert "Deleted logged models are not shown." in said[0]
    noted = {each.message for each in outcome.ledger.issues if each.code is Code.SERVER_WITHHOLDS}
    assert noted and all(message in said[0] for message in noted)
    assert "server-withholds" in Path("r.json").read_text()


@pytest.mark.parametrize("command", ["scan", "show", "convert", "verify", "export"])
def test_each_command_says_what_the_api_withholds(command: str, genai: str, tmp_path: Path) -> None:
    words = {
        "scan": ["scan", genai],
        "show": ["show", _any_run(genai), genai],
        "convert": ["convert", genai, "--to", f"sqlite:///{tmp_path}/new.db"],
        "verify": ["verify", genai, "--against", f"sqlite:///{tmp_path}/new.db"],
        "export": ["export", genai, "--otlp", f"{tmp_path}/traces.jsonl"],
    }[command]
    if command == "verify":
        converted(genai, tmp_path / "new.db")
    result = CliRunner().invoke(main, words)
    assert f"What the API of {genai} does not give:" in result.stderr
    assert "Deleted logged models are not shown." in result.stderr
    if command in ("verify", "export"):
        (tmp_path / "traces.jsonl").unlink(missing_ok=True)
        assert "does not give" not in CliRunner().invoke(main, [*words, "-q"]).stderr


def _any_run(uri: str) -> str:
    with pipeline.fetched([uri], ONE_WORKER) as places:
        (store,) = pipeline.open_stores(places)
        return store.index.runs[0].entity_id


def test_no_more_requests_at_once_than_allowed(proxy: Proxy) -> None:
    pipeline.scan([proxy.uri], pipeline.Options(workers=1, requests=2))
    assert proxy.at_once == 2
    proxy.at_once = 0
    pipeline.scan([proxy.uri], pipeline.Options(workers=1, requests=1))
    assert proxy.at_once == 1
    with pytest.raises(OptionError, match="--requests 0"):
        pipeline.Options(requests=0)


def test_only_experiments_that_are_chosen_are_read(proxy: Proxy, tmp_path: Path) -> None:
    pipeline.convert([proxy.uri], f"sqlite:///{tmp_path}/one.db",
                     pipeline.Options(workers=1, experiments=("chat",)))  # fmt: skip
    chosen = [path for path in proxy.seen if path.endswith("/runs/get")]
    assert len(chosen) == 3  # of seven
    with contextlib.closing(sqlite3.connect(tmp_path / "one.db")) as db:
        assert db.execute("SELECT COUNT(*) FROM runs").fetchone() == (3,)
        assert db.execute("SELECT COUNT(*) FROM trace_info").fetchone() == (4,)


def test_a_server_without_the_newer_parts_of_the_api(proxy: Proxy, tmp_path: Path) -> None:
    """As 2.22 has it: traces by the API of 2.14, no logged models, no bulk histories."""
    whole = converted(proxy.uri, tmp_path / "whole.db").ledger.found

    def missing(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        parts = ("/api/3.0/", "/logged-models/", "get-history-bulk")
        if path == "/version":
            return Answer(200, b"2.22.5")
        return Answer(404, b"<p>Not Found</p>") if any(part in path for part in parts) else None

    proxy.fault = missing
    found = converted(proxy.uri, tmp_path / "older.db").ledger.found
    lost = {kind.value for kind, number in whole.items() if found[kind] != number}
    assert {"logged model", "run input", "assessment"} <= lost
    of_models = {"logged model param", "logged model tag", "logged model metric", "run output"}
    assert lost <= {"logged model", "run input", "assessment"} | of_models
    assert found[Kind.TRACE] == 4


# ----------------------------------------------------------------------------------- in place


def test_in_place_adds_traces_and_changes_nothing_else(agents: str, running: Server) -> None:
    before = running.rows()
    outcome = pipeline.convert([agents], options=pipeline.Options(workers=1), in_place=True)
    assert outcome.exit_code == 0
    after = running.rows()
    added = {}
    for table, rows in before.items():
        assert set(map(repr, rows)) <= set(map(repr, after[table])), table
        added[table] = len(after[table]) - len(rows)
    assert (added["trace_info"], added["spans"]) == (32, 72)  # without the deleted experiment
    assert {table for table, number in added.items() if number} <= {
        "trace_info", "trace_tags", "trace_request_metadata", "trace_metrics", "spans",
        "span_metrics", "assessments", "entity_associations", "experiment_tags",
    }  # fmt: skip
    linked = running.ask(
        "SELECT COUNT(*) FROM trace_request_metadata m JOIN runs r ON r.run_uuid = m.value "
        "WHERE m.key = 'mlflow.sourceRun'"
    )
    assert linked == [(32,)]
    ledger = outcome.ledger.as_rows()
    assert [row for row in ledger if row["already_there"] != row["found"]] == []
    again = pipeline.convert([agents], options=pipeline.Options(workers=1), in_place=True)
    assert running.rows() == after
    assert sum(again.ledger.rebuilt_new.values()) == 0
    assert again.ledger.rebuilt_already_there[Kind.TRACE] == 32


def test_in_place_is_completed_after_an_interruption(agents: str, running: Server) -> None:
    pipeline.convert([agents], options=pipeline.Options(workers=1), in_place=True)
    whole = _sizes(running.rows())
    _empty_traces(running)
    sent = 0

    def dies(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        nonlocal sent
        sent += method == "POST" and path == "/v1/traces"
        return Answer(0) if sent >= 9 else None

    with proxied(agents) as proxy:
        proxy.fault = dies
        with pytest.raises(Exception, match="convert again"):
            pipeline.convert([proxy.uri], options=pipeline.Options(workers=1), in_place=True)
    halfway = len(running.rows()["trace_info"])
    assert 0 < halfway < 32
    pipeline.convert([agents], options=pipeline.Options(workers=1), in_place=True)
    assert _sizes(running.rows()) == whole


def _empty_traces(server: Server) -> None:
    with contextlib.closing(sqlite3.connect(server.path)) as db:
        for table in ("trace_info", "trace_tags", "trace_request_metadata", "trace_metrics",
                      "spans", "assessments", "entity_associations"):  # fmt: skip
            db.execute(f"DELETE FROM {table}")
        db.execute("DELETE FROM experiment_tags WHERE key LIKE 'migrator.%'")
        db.execute("DELETE FROM experiment_tags WHERE key = 'mlflow.experimentKind'")
        db.commit()


def _sizes(rows: dict[str, list[tuple[Any, ...]]]) -> dict[str, int]:
    """How many rows of each table there are."""
    return {table: len(found) for table, found in rows.items()}


def test_in_place_writes_nothing_in_a_dry_run(agents: str, running: Server) -> None:
    before = running.rows()
    chosen = pipeline.Options(workers=1)
    outcome = pipeline.convert([agents], options=chosen, in_place=True, dry_run=True)
    assert outcome.ledger.already_there[Kind.RUN] == 79  # without the deleted experiment's
    assert outcome.ledger.rebuilt[Kind.TRACE] == 32
    assert running.rows() == before


def test_a_server_is_not_its_own_target(genai: str) -> None:
    other = genai.replace("127.0.0.1", "localhost")
    result = run("convert", genai, "--to", f"{other}/")
    assert result.exit_code == 2
    assert "is the source itself" in result.stderr and "--in-place" in result.stderr


def test_a_server_is_not_compared_with_itself(genai: str) -> None:
    result = run("verify", genai, "--against", f"{genai}/")
    assert result.exit_code == 2 and "is the source itself" in result.stderr


def test_in_place_refuses_what_is_deleted(genai: str) -> None:
    result = run("convert", genai, "--in-place", "--include", "deleted")
    assert result.exit_code == 2
    assert "--include deleted" in result.stderr


# -------------------------------------------------------------------------- servers that fail


def refused(uri: str, tmp_path: Path) -> str:
    """The one sentence with which a server is refused: exit code 1, and nothing is written."""
    result = run("convert", uri, "--to", f"sqlite:///{tmp_path}/never.db")
    assert result.exit_code == 1, result.output
    assert not list(tmp_path.glob("never.db*"))
    assert "Traceback" not in result.stderr
    error = result.stderr[result.stderr.index("Error:") :]
    return " ".join(error.split())


def always(answer: Answer) -> Callable[[str, str, Mapping[str, str]], Answer | None]:
    return lambda method, path, headers: answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, b"<html>Welcome</html>"), "it is not an MLflow server"),
        (Answer(200, b'{"status": "ok"}'), "it is not an MLflow server"),
        (Answer(404, b"not here"), "it is not an MLflow server"),
        (Answer(501, b"Unsupported method"), "it is not an MLflow server"),
        (Answer(401, b"no"), "it refuses the login (401). Set MLFLOW_TRACKING_USERNAME"),
        (Answer(403, b"no"), "it refuses the login (403)"),
        (Answer(302, headers={"Location": "https://sso.example.org/login"}), "it redirects to"),
        (Answer(500, b"boom"), "it answers 500"),
        (Answer(429, headers={"Retry-After": "0"}), "it answers 429: too many requests"),
        (Answer(0), "no connection"),
    ],
    ids=["page", "json", "404", "501", "401", "403", "redirect", "500", "429", "closed"],
)
def test_what_is_not_a_usable_server_is_refused(
    answer: Answer, words: str, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.fault = always(answer)
    assert words in refused(proxy.uri, tmp_path)


def test_a_server_that_is_too_old_is_refused(proxy: Proxy, tmp_path: Path) -> None:
    proxy.fault = lambda method, path, headers: (
        Answer(200, b"2.8.1") if path == "/version" else None
    )
    error = refused(proxy.uri, tmp_path)
    assert "the server is MLflow 2.8.1" in error and "mlruns directory" in error


def test_nothing_listens(tmp_path: Path) -> None:
    assert "Connection refused" in refused(f"http://127.0.0.1:{free_port()}", tmp_path)
    assert "can't be read" in refused("http://no-such-host.invalid:5000", tmp_path)


@pytest.mark.parametrize(
    "part",
    [
        "/api/2.0/mlflow/experiments/search", "/api/2.0/mlflow/runs/search",
        "/api/2.0/mlflow/runs/get", "/api/2.0/mlflow/metrics/get-history",
        "/api/3.0/mlflow/traces/search", "/api/2.0/mlflow/logged-models/search",
        "/api/2.0/mlflow/registered-models/search", "/api/2.0/mlflow/model-versions/search",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "answer", [Answer(500, b'{"message": "boom"}'), Answer(0)], ids=["500", "gone"]
)
def test_a_page_that_is_lost_ends_it(
    part: str, answer: Answer, proxy: Proxy, tmp_path: Path
) -> None:
    asked = 0

    def fault(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        nonlocal asked
        asked += path.partition("?")[0] == part
        is_probe = part.endswith("experiments/search") and asked == 1
        return answer if path.partition("?")[0] == part and not is_probe else None

    proxy.fault = fault
    error = refused(proxy.uri, tmp_path)
    assert (f"it answers 500 to {part}: boom" if answer.status else "no connection") in error


def test_a_busy_server_is_asked_again(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    monkeypatch.setattr("migrator.http_client.BACKOFF_S", 0.0)
    refusals = {"/api/2.0/mlflow/runs/search": 2, "/api/3.0/mlflow/traces/search": 1}

    def busy(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        refusals[path] = refusals.get(path, 0) - 1
        return Answer(503, headers={"Retry-After": "0"}) if refusals[path] >= 0 else None

    proxy.fault = busy
    assert converted(proxy.uri, tmp_path / "new.db").exit_code == 0


def test_answers_are_utf8_whatever_type_they_claim(
    genai: str, proxy: Proxy, tmp_path: Path
) -> None:
    """MLflow 3.17 sends spans as a text, for which HTTP's own encoding would be Latin-1."""

    def as_text(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        if "get-trace-artifact" not in path:
            return None
        spans = json.loads(requests.get(genai + path, timeout=60).content)
        body = json.dumps(spans, ensure_ascii=False).encode()
        return Answer(200, body, {"Content-Type": "text/plain"})

    converted(genai, tmp_path / "whole.db")
    proxy.fault = as_text
    converted(proxy.uri, tmp_path / "text.db")
    assert contents(tmp_path / "text.db") == contents(tmp_path / "whole.db")


def test_spans_and_artifacts_that_the_server_refuses_cost_only_themselves(
    proxy: Proxy, tmp_path: Path
) -> None:
    proxy.fault = lambda method, path, headers: (
        Answer(500) if "get-trace-artifact" in path or "artifacts/list" in path else None
    )
    outcome = converted(proxy.uri, tmp_path / "new.db")
    codes = [issue.code for issue in outcome.ledger.issues]
    assert codes.count(Code.SPANS_MISSING) == 4
    assert codes.count(Code.SERVER_ARTIFACTS_UNREADABLE) == 7
    assert not outcome.ledger.has_rejects


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["../../../../evil.json"], "leads out"),
        (["/evil.json"], "leads out"),
        (["plots", "plots/evil.json"], "can't have this name"),
        (["e" * 300], "can't have this name"),
    ],
    ids=["above", "root", "file and folder", "long"],
)
def test_a_file_name_that_is_unusable_costs_only_the_file(
    paths: list[str], words: str, proxy: Proxy, tmp_path: Path
) -> None:
    def evil(path: str, body: bytes) -> bytes:
        if not path.endswith("artifacts/list"):
            return body
        return json.dumps({"files": [{"path": each, "file_size": 2} for each in paths]}).encode()

    proxy.changed = evil
    outcome = converted(proxy.uri, tmp_path / "new.db")
    named = [i for i in outcome.ledger.issues if i.code is Code.SERVER_ARTIFACTS_UNREADABLE]
    assert len(named) == 7 and all(words in issue.message for issue in named)


def test_answers_of_another_shape_are_no_crash(proxy: Proxy, tmp_path: Path) -> None:
    def odd(path: str, body: bytes) -> bytes:
        if not path.endswith("/runs/search"):
            return body
        answer = json.loads(body)
        answer["runs"] += ["text", {"info": ["list"]}, {"info": {"run_id": 7, "status": {}}}]
        return json.dumps(answer).encode()

    proxy.changed = odd
    outcome = converted(proxy.uri, tmp_path / "new.db")
    assert outcome.ledger.converted[Kind.RUN] == 7
    assert outcome.exit_code == 3


# ------------------------------------------------------------------------------------- login


def with_login(expected: str) -> Callable[[str, str, Mapping[str, str]], Answer | None]:
    """A server that takes one login only, and repeats what it got."""

    def check(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        given = headers.get("Authorization")
        return None if given == expected else Answer(401, f"not {given}".encode())

    return check


BASIC = "Basic YW5hOnMzY3JldC1wdw=="  # ana:s3cret-pw


def test_the_login_of_mlflows_environment(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.fault = with_login(BASIC)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ana")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-pw")
    error = refused(proxy.uri, tmp_path)
    assert "it refuses the login (401)" in error and "wrong-pw" not in error
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret-pw")
    assert run("scan", proxy.uri).exit_code == 0
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    proxy.fault = with_login("Bearer t0ken-1")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken-1")
    assert run("scan", proxy.uri).exit_code == 0


def test_the_login_of_files_and_addresses(proxy: Proxy, tmp_path: Path) -> None:
    proxy.fault = with_login(BASIC)
    result = run("scan", proxy.uri.replace("//", "//ana:s3cret-pw@"))
    assert result.exit_code == 0 and "s3cret-pw" not in result.output
    saved = tmp_path / ".mlflow" / "credentials"
    saved.parent.mkdir()
    saved.write_text(
        "[mlflow]\nmlflow_tracking_username = ana\nmlflow_tracking_password = s3cret-pw\n"
    )
    assert run("scan", proxy.uri).exit_code == 0
    saved.unlink()
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login ana password s3cret-pw\n")
    netrc.chmod(0o600)
    assert run("scan", proxy.uri).exit_code == 0


def test_a_certificate_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = tmp_path / "own.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem, "-out",
         tmp_path / "cert.pem", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1"],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("needs openssl")
    pem.write_bytes(pem.read_bytes() + (tmp_path / "cert.pem").read_bytes())

    class Handler(Quiet):
        def do_POST(self) -> None:
            self.send_response(404)
            self.end_headers()

    with serving(Handler, pem) as uri:
        error = refused(uri, tmp_path)
        assert "certificate is not trusted" in error
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in error
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "cert.pem"))
        assert "it is not an MLflow server" in refused(uri, tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "none.pem"))
        assert "none.pem does not exist" in refused(uri, tmp_path)


def test_addresses_with_a_slip_are_explained(tmp_path: Path) -> None:
    for text, words in (
        ("http:/host:5000", "Write http://host:5000"),
        ("http://host:5000/?a=b", "is not the address of a server"),
    ):
        with (
            pytest.raises(SourceError) as error,
            extractor.open_source(text) as source,
        ):
            source.index()
        assert words in str(error.value)
