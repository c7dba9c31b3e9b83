"""``convert --to http://…``: a real MLflow server, asked through its API."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.entities import RunTag, Trace, ViewType

from migrator import pipeline
from migrator.cli import main
from migrator.issues import Code
from migrator.loader.rest import connection, lock, models
from migrator.verification import verify as compared
from tests.convert.test_two_sources import GROWN, OTHERS
from tests.support import fixturekit, spanlesskit, storekit
from tests.support.faulty_proxy import Answer, proxied
from tests.support.http_servers import Quiet, serving
from tests.support.mlflow_server import IN_COLUMNS, RELEASE, Server, differences
from tests.support.ports import free_port

pytestmark = [pytest.mark.xdist_group("targets_rest"), pytest.mark.long]

FAMILIES = ("1.30.1-classic", "2.4.2-datasets", "2.22.5-registry-traces", "3.5.1-genai")
MARKED = {"3.5.1-genai"}  # a NaN metric of a logged model is refused: exit code 3


@pytest.fixture
def server(running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(lock, "_GONE_S", 1.0)  # some are killed
    monkeypatch.setattr(lock, "_LOOK_S", 0.1)
    running.empty()
    return running


def convert(source: Path | str, to: str, *more: str) -> Result:
    result = CliRunner().invoke(main, ["convert", str(source), "--to", to, *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def verify(source: Path, server: str, *more: str) -> Result:
    result = CliRunner().invoke(main, ["verify", str(source), "--against", server, *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def report(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_server_holds_what_a_database_holds_and_twice_is_once(
    family: str, server: Server, tmp_path: Path
) -> None:
    store = fixturekit.materialise(family, tmp_path)
    code = 3 if family in MARKED else 0
    database = f"sqlite:///{tmp_path}/there.db"
    assert convert(store, database, "-q").exit_code == 0
    first = convert(store, server.uri, "--report", "first.json")
    assert first.exit_code == code, first.output
    assert not (found := differences(database, server)), "\n".join(found)
    verified = verify(store, server.uri)
    assert verified.exit_code == 0, verified.output
    assert "No difference." in verified.output
    assert "Not counted as differences, because the server's API can't keep them" in verified.output
    rows = server.rows()
    assert convert(store, server.uri, "--report", "again.json").exit_code == code
    assert server.rows() == rows
    before, after = report(tmp_path / "first.json"), report(tmp_path / "again.json")
    for old, new in zip(before["ledger"], after["ledger"], strict=True):
        assert new["converted"] == 0, new
        assert new["already_there"] == old["converted"] + old["already_there"]
        assert (new["rejected"], new["merged"]) == (old["rejected"], old["merged"])
    assert after["rebuilt_new"] == {}
    assert len(before["server"]["ids"]["run"]) == next(
        row["converted"] for row in before["ledger"] if row["kind"] == "run"
    )


# ------------------------------------------------------------------ cut off, and completed

LISTED = {"name": "shop", "version": 4}  # as MLflow lists a model's version in a tag of the model
OF_ANOTHER_RUN = f"runs:/{'a' * 32}/model"
WRITES = ("create_", "log_", "set_", "update_", "delete_", "start_", "link_", "finalize_", "trans")


def small_store(root: Path) -> Path:
    """Write a store with something of each kind that is written in several steps."""
    storekit.write_experiment(root, "1", "one", tags={"team": "a"})
    storekit.write_experiment(root, "2", "gone", deleted=True)
    parent, child, deleted = "a" * 32, "b" * 32, "c" * 32
    storekit.write_run(
        root, "1", parent, name="root", params={"prompt": "Wie geht's?"},
        artifacts={"prompt.txt": "Wie geht's?", "empty.txt": b""},
    )  # fmt: skip
    storekit.write_run(
        root, "1", child, name="step", parent=parent, params={"prompt": "p", "model": "gpt-4o"},
        metrics={"prompt_tokens": [(9, 3, 0)], "loss": [(1, 0.5, 0), (2, "nan", 1)]},
        artifacts={"response.txt": "gut"},
    )  # fmt: skip
    storekit.write_run(
        root, "1", deleted, deleted=True, params={"a": "b"}, metrics={"x": [(1, 2, 0)]}
    )
    storekit.write_run(root, "2", "d" * 32, params={"a": "b"}, deleted=True)
    storekit.write_logged_model(
        root, "1", "m-" + "1" * 32, source_run_id=deleted, metrics={"x": [(1, 2, 0, deleted)]},
        params={"depth": "3"}, artifacts={"MLmodel": "flavors: {}"}, output_step=2,
        tags={"mlflow.modelVersions": json.dumps([{"name": "gone", "version": 7}, LISTED])},
    )  # fmt: skip
    storekit.write_logged_model(root, "1", "m-" + "2" * 32, lifecycle_stage="deleted", status=3)
    storekit.write_registered_model(
        root, "shop", aliases={"champion": 3}, tags={"a": "b"},
        versions=[
            {"run_id": child, "source": f"runs:/{child}/model", "current_stage": "Archived"},
            {"current_stage": "Deleted_Internal"},
            {"run_id": child, "source": "s3://models/shop", "tags": {"x": "y"}},
            {"run_id": deleted, "source": f"models:/m-{'1' * 32}"},
            {"run_id": child, "source": OF_ANOTHER_RUN},
        ],
    )  # fmt: skip
    return root


def cut_after(
    monkeypatch: pytest.MonkeyPatch,
    writes: int,
    cut: Callable[[], None],
    names: tuple[str, ...] = WRITES,
) -> None:
    """Do ``cut`` when the server has done so many writes, before its answer is read."""
    original, done = connection.Connection.call, [0]

    def call(self: Any, ask: Any, *arguments: Any, **named: Any) -> Any:
        answer = original(self, ask, *arguments, **named)
        name = getattr(ask, "__name__", getattr(getattr(ask, "func", None), "__name__", ""))
        done[0] += name.startswith(names)
        if done[0] == writes and name.startswith(names):
            cut()
        return answer

    monkeypatch.setattr(connection.Connection, "call", call)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_conversion_that_is_cut_off_again_and_again_is_complete_in_the_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small_store(tmp_path / "mlruns")
    database = f"sqlite:///{tmp_path}/there.db"
    assert convert(store, database, "-q").exit_code == 0
    for _attempt in range(40):
        with monkeypatch.context() as patch:
            patch.setattr(connection, "_SETTLE_S", 0.0)
            cut_after(patch, 6, interrupt)
            result = convert(store, server.uri, "-q", "--report", "r.json")
        if result.exit_code == 0:
            break
        assert result.exit_code == 130
        assert "convert again, and the rest is added" in result.output
    else:
        pytest.fail("it never ended")
    assert _attempt > 5
    assert not (found := differences(database, server)), "\n".join(found)
    rows = server.rows()
    assert convert(store, server.uri, "-q").exit_code == 0
    assert server.rows() == rows


def test_a_model_has_its_list_of_versions_also_where_the_server_has_just_written_over_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small_store(tmp_path / "mlruns")
    database = f"sqlite:///{tmp_path}/there.db"
    assert convert(store, database, "-q").exit_code == 0
    with monkeypatch.context() as patch:  # version 2 is made, too, and deleted
        cut_after(patch, 4, interrupt, ("create_model_version",))
        assert convert(store, server.uri, "-q").exit_code == 130
    assert server.ask("SELECT MAX(version) FROM model_versions") == [(4,)]
    assert convert(store, server.uri, "-q").exit_code == 0
    assert not (found := differences(database, server)), "\n".join(found)


def test_a_server_that_goes_away_is_one_sentence_and_the_next_conversion_completes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small_store(tmp_path / "mlruns")
    database = f"sqlite:///{tmp_path}/there.db"
    assert convert(store, database, "-q").exit_code == 0
    with monkeypatch.context() as patch:
        cut_after(patch, 17, server.kill)
        result = convert(store, server.uri, "-q")
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert "nothing listens there (connection refused). By then it had been given" in line
    assert "convert again, and the rest is added" in line
    server.start()
    assert convert(store, server.uri, "-q").exit_code == 0
    assert not (found := differences(database, server)), "\n".join(found)


def test_a_killed_process_is_completed_by_the_next(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SETTLE_S", 8.0)  # other tests keep the machine busy
    store = fixturekit.materialise("2.4.2-datasets", tmp_path)
    database = f"sqlite:///{tmp_path}/there.db"
    assert convert(store, database, "-q").exit_code == 0
    command = [sys.executable, "-m", "migrator.cli", "convert", str(store), "--to", server.uri]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while len(server.rows()["runs"]) < 3:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert convert(store, server.uri, "-q").exit_code == 0
    assert not (found := differences(database, server)), "\n".join(found)


def test_a_request_that_the_server_was_still_at_work_on_makes_no_second_run(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, late, waits = small_store(tmp_path / "mlruns"), "e" * 32, list[float]()
    monkeypatch.setattr(connection, "_SETTLE_S", 600.0)  # more than all before it can take
    monkeypatch.setattr(connection, "sleep", waits.append)
    database = f"sqlite:///{tmp_path}/there.db"
    for to in (database, server.uri, server.uri):
        assert convert(store, to, "-q").exit_code == 0
    assert not waits  # nothing was to be made where something was already
    storekit.write_run(store, "1", late, name="late", params={"a": "b"})
    assert convert(store, database, "-q").exit_code == 0
    info = MlflowClient(database).get_run(late).info
    ((experiment,),) = server.ask("SELECT experiment_id FROM experiments WHERE name = 'one'")
    there, tag = connection.Connection(server.uri).store, RunTag("migrator.source_run_id", late)

    def arrive(seconds: float) -> None:
        waits.append(seconds)
        there.create_run(str(experiment), info.user_id, info.start_time, [tag], "late")

    monkeypatch.setattr(connection, "sleep", arrive)
    assert convert(store, server.uri, "-q").exit_code == 0
    assert len(waits) == 1 and 0 < waits[0] <= 600
    assert not (found := differences(database, server)), "\n".join(found)


def test_what_the_source_has_got_since_is_added(server: Server, tmp_path: Path) -> None:
    store = small_store(tmp_path / "mlruns")
    database = f"sqlite:///{tmp_path}/there.db"
    assert convert(store, server.uri, "-q").exit_code == 0
    run = store / "1" / ("b" * 32)
    storekit.write_values(run / "params", {"late": "1"})
    storekit.write_values(run / "metrics", {"loss": b"1 0.5 0\n2 nan 1\n3 0.3 2\n"})
    storekit.write_values(run / "artifacts", {"late.txt": "spät"})
    storekit.write_run(store, "1", "e" * 32, name="late", parent="a" * 32)
    assert convert(store, server.uri, "-q", "--report", "r.json").exit_code == 0
    ledger = {row["kind"]: row["converted"] for row in report(tmp_path / "r.json")["ledger"]}
    assert (ledger["run"], ledger["param"], ledger["metric point"]) == (1, 1, 1)
    assert convert(store, database, "-q").exit_code == 0
    assert not (found := differences(database, server)), "\n".join(found)


@pytest.mark.parametrize("name", OTHERS)
def test_another_entity_of_one_id_is_rejected_whole(
    name: str, server: Server, tmp_path: Path
) -> None:
    first, second = OTHERS[name]
    first(tmp_path / "one")
    second(tmp_path / "two")
    assert convert(tmp_path / "one", server.uri, "-q").exit_code == 0
    before = server.rows()
    said = convert(tmp_path / "two", server.uri)
    assert server.rows() == before
    assert said.exit_code == 3 and "entity-clashes" in said.stdout
    again = convert(tmp_path / "one", server.uri, "-q")
    assert again.exit_code == 0 and server.rows() == before


@pytest.mark.parametrize("name", GROWN)
def test_an_entity_that_went_on_is_completed(name: str, server: Server, tmp_path: Path) -> None:
    first, second = GROWN[name]
    first(tmp_path / "one")
    second(tmp_path / "two")
    convert(tmp_path / "one", server.uri, "-q")
    said = convert(tmp_path / "two", server.uri)
    assert said.exit_code == 0 and "entity-clashes" not in said.stdout


def test_verify_sees_what_was_changed_on_the_server(server: Server, tmp_path: Path) -> None:
    store = small_store(tmp_path / "mlruns")
    assert convert(store, server.uri, "-q", "--report", "r.json").exit_code == 0
    assert verify(store, server.uri).exit_code == 0
    ids = report(tmp_path / "r.json")["server"]["ids"]
    client = MlflowClient(server.uri)
    client.set_tag(ids["run"]["b" * 32], "mlflow.user", "bob")
    client.log_metric(ids["run"]["b" * 32], "loss", 0.1, 99, 7)
    client.set_terminated(ids["run"]["a" * 32], "KILLED", 5)
    client.set_trace_tag("tr-" + "a" * 32, "migrator.role", "batch")
    client.delete_logged_model(ids["logged model"]["m-" + "1" * 32])
    client.set_registered_model_alias("shop", "champion", "1")
    client.set_experiment_tag(client.get_experiment_by_name("one").experiment_id, "team", "b")
    found = json.loads(verify(store, server.uri, "--json").stdout)
    fields = {(each["kind"], each["field"]) for each in found["differences"]}
    assert fields >= {
        ("run", "tag mlflow.user"),
        ("run", "metric loss, step 7, time 99"),
        ("run", "status"),
        ("run", "end_time"),
        ("trace", "tag migrator.role"),
        ("logged model", "logged model"),
        ("registered model", "alias champion"),
        ("experiment", "tag team"),
    }
    assert found["exceptions"]["run-id"] == 4


def test_a_source_that_the_server_refuses_costs_the_source_alone(
    server: Server, tmp_path: Path
) -> None:
    store = small_store(tmp_path / "mlruns")
    assert convert(store, server.uri, "-q", "--report", "r.json").exit_code == 0
    said = report(tmp_path / "r.json")
    ids = said["server"]["ids"]
    versions = {
        int(each.version): each
        for each in MlflowClient(server.uri).search_model_versions("name='shop'")
    }
    assert versions[4].source == f"models:/{ids['logged model']['m-' + '1' * 32]}"
    counts = {limit["name"]: limit["count"] for limit in said["server"]["cannot_keep"]}
    assert counts["version-source"] == 1
    changed = [each for each in said["issues"] if each["code"] == "server-source-changed"]
    if RELEASE >= IN_COLUMNS:
        assert versions[5].source == f"migrator-source:/{OF_ANOTHER_RUN}"
        assert [each["id"] for each in changed] == ["shop/5"]
    else:
        assert versions[5].source == f"runs:/{ids['run']['a' * 32]}/model"
        assert not changed
    assert json.loads(versions[5].tags["migrator.source_fields"])["source"] == OF_ANOTHER_RUN
    assert verify(store, server.uri).exit_code == 0


NAMED = "tr-" + "ab" * 16
STEP = "tr-" + "a" * 32
COST = {"input_cost": 1e-6, "output_cost": 0.0, "total_cost": 1e-6}
DEAR = {"input_cost": 1e-6, "output_cost": 0.0, "total_cost": 2.0}


def write_named(root: Path) -> None:
    """Write a trace of spans that name model or provider in other words than MLflow's."""
    attributes: dict[str, dict[str, Any]] = {
        "named": {
            "mlflow.spanInputs": {"model": "gpt-4o", "q": "?"},
            "mlflow.llm.cost": {"total_cost": 0.5},
            "mlflow.chat.tokenUsage": {"input_tokens": 3},
        },
        "worded": {"gen_ai.request.model": "gpt-4o"},
        "provided": {"mlflow.llm.model": "gpt-4o", "gen_ai.system": "acme"},
    }
    spans: list[dict[str, Any]] = [
        {
            "name": name, "context": {"span_id": f"{number:016x}", "trace_id": "ab" * 16},
            "parent_id": f"{1:016x}" if number > 1 else None,
            "start_time": storekit.START_MS * 10**6, "end_time": storekit.START_MS * 10**6 + 5,
            "status_code": "OK", "status_message": "", "events": [],
            "attributes": {
                key: json.dumps(value) for key, value in {"mlflow.spanType": "LLM", **own}.items()
            },
        }
        for number, (name, own) in enumerate(attributes.items(), 1)
    ]  # fmt: skip
    storekit.write_trace(root, "1", NAMED, spans=spans)


TEXTS = {
    "object": '{"a": 1}', "list": "[1, 2]", "string": '"quoted"', "twice": '"{\\"a\\": 1}"',
    "padded": '  {"a": 1}\n', "number": "17", "flag": "true", "word": "word", "half": '{"a": ',
    "empty": "",
}  # fmt: skip


def test_texts_that_are_json_stay_texts(server: Server, tmp_path: Path) -> None:
    """MLflow's stores decode such an attribute once."""
    root = tmp_path / "mlruns"
    storekit.write_experiment(root, "1", "texts")
    values = {**TEXTS, "mlflow.spanInputs": TEXTS["object"], "mlflow.spanOutputs": TEXTS["list"]}
    span: dict[str, Any] = {
        "name": "root", "context": {"span_id": f"{1:016x}", "trace_id": "ab" * 16},
        "parent_id": None, "status_code": "OK", "status_message": "", "events": [],
        "start_time": storekit.START_MS * 10**6, "end_time": storekit.START_MS * 10**6 + 5,
        "attributes": {key: json.dumps(value) for key, value in values.items()},
    }  # fmt: skip
    storekit.write_trace(root, "1", NAMED, spans=[span])
    assert convert(root, server.uri).exit_code == 0
    (found,) = MlflowClient(server.uri).get_trace(f"tr-{NAMED.removeprefix('tr-')}").data.spans
    assert {key: found.get_attribute(key) for key in TEXTS} == TEXTS
    assert (found.inputs, found.outputs) == (TEXTS["object"], TEXTS["list"])
    checked = verify(root, server.uri)
    assert checked.exit_code == 0, checked.output


def put_on_spans(server: Server, values: Mapping[tuple[str, str], Any]) -> Callable[[], None]:
    """Change attributes of spans, by name and key, in a server's database; return the undo.

    None takes an attribute out.
    """
    was = dict(server.ask("SELECT name, content FROM spans"))
    contents = {name: json.loads(content) for name, content in was.items()}
    for (name, key), value in values.items():
        contents[name]["attributes"].pop(key, None)
        if value is not None:
            contents[name]["attributes"][key] = json.dumps(value)

    def write(texts: Mapping[str, str]) -> None:
        for name, text in texts.items():
            server.change("UPDATE spans SET content = ? WHERE name = ?", text, name)

    write({name: json.dumps(content) for name, content in contents.items()})
    return lambda: write(was)


def put_cost_on_trace(server: Server, trace_id: str, cost: dict[str, float]) -> None:
    if RELEASE >= IN_COLUMNS:
        sets = ", ".join(f"{key} = {value}" for key, value in cost.items())
        server.change(f"UPDATE trace_info SET {sets} WHERE request_id = ?", trace_id)
    else:
        server.change(
            "INSERT OR REPLACE INTO trace_request_metadata (key, value, request_id) "
            "VALUES ('mlflow.trace.cost', ?, ?)", json.dumps(cost), trace_id,
        )  # fmt: skip


def test_a_version_that_the_server_refuses_costs_that_version(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small_store(tmp_path / "mlruns")
    create = models.RegistryWriter._create

    def refusing(self: Any, version: Any, source: str) -> Any:
        if version.version == 3:
            raise connection.Refused("it is a Sunday")
        return create(self, version, source)

    monkeypatch.setattr(models.RegistryWriter, "_create", refusing)
    told = []
    for _ in range(2):
        result = convert(store, server.uri, "--report", "r.json")
        assert result.exit_code == 3
        assert "Version 3 of shop can't be made: it is a Sunday." in result.output
        rows = {row["kind"]: row for row in report(tmp_path / "r.json")["ledger"]}
        told.append([rows[kind] for kind in ("registered model", "model version", "alias")])
        (tmp_path / "r.json").unlink()
    assert [(row["rejected"], row["converted"]) for row in told[0]] == [(0, 1), (1, 4), (1, 0)]
    assert [(row["rejected"], row["already_there"]) for row in told[1]] == [(0, 1), (1, 4), (1, 0)]
    client = MlflowClient(server.uri, server.uri)
    there = client.search_model_versions("name='shop'")
    assert sorted(int(version.version) for version in there) == [1, 4, 5]
    monkeypatch.setattr(models.RegistryWriter, "_create", create)
    after = convert(store, server.uri)
    assert after.exit_code == 3 and "the server has used its number already" in after.output


def test_a_stage_that_the_server_does_not_know_costs_that_stage(
    server: Server, tmp_path: Path
) -> None:
    storekit.write_experiment(tmp_path / "mlruns", "1", "one")
    storekit.write_registered_model(
        tmp_path / "mlruns", "shop", versions=[{"current_stage": "Sunday"}, {}]
    )
    for _ in range(2):
        result = convert(tmp_path / "mlruns", server.uri)
        assert result.exit_code == 3
        assert "The stage of version 1 of shop: " in result.output
    client = MlflowClient(server.uri, server.uri)
    there = client.search_model_versions("name='shop'")
    assert sorted((int(v.version), v.current_stage) for v in there) == [(1, "None"), (2, "None")]


def test_verify_forgives_just_what_a_newer_server_adds(server: Server, tmp_path: Path) -> None:
    store = small_store(tmp_path / "mlruns")
    write_named(store)
    database = f"sqlite:///{tmp_path}/there.db"
    assert convert(store, database, "-q").exit_code == 0
    assert convert(store, server.uri, "-q", "--report", "r.json").exit_code == 0
    counts = {c["name"]: c["count"] for c in report(tmp_path / "r.json")["server"]["cannot_keep"]}
    said = {name: counts[name] for name in ("span-model", "span-cost") if name in counts}
    assert said == ({"span-model": 3, "span-cost": 1} if RELEASE >= (3, 10) else {})
    assert ("token-counts" in counts) <= (RELEASE < (3, 17))
    assert not (found := differences(database, server)), "\n".join(found)

    def seen() -> tuple[set[tuple[str, str]], dict[str, int]]:
        told = json.loads(verify(store, server.uri, "--json").stdout)
        names = dict(server.ask("SELECT span_id, name FROM spans"))
        differs = {
            (names.get(each["id"].rpartition("/")[2], each["id"]), each["field"])
            for each in told["differences"]
        }
        return differs, {key: told["exceptions"].get(key, 0) for key in ("span-cost", "span-model")}

    differs, forgiven = seen()
    assert not differs
    of_newer = int(RELEASE >= IN_COLUMNS)
    assert forgiven == {"span-cost": of_newer, "span-model": 3 * of_newer}
    model, provider, cost = (f"mlflow.llm.{each}" for each in ("model", "provider", "cost"))
    undo = put_on_spans(
        server,
        {
            ("named", model): "gpt-4o", ("worded", model): "gpt-4o",
            ("provided", provider): "acme", ("step", cost): COST,
        },
    )  # fmt: skip
    put_cost_on_trace(server, STEP, COST)
    assert seen() == (set(), {"span-cost": 1, "span-model": 3})
    undo()
    for wrong in (
        {
            ("named", model): "gpt-4o-mini",  # of which the span says nothing
            ("worded", model): "gpt-4",
            ("provided", provider): "?",
            ("named", cost): None,  # which the source has
            ("worded", "mlflow.spanOutputs"): "gpt-4o",  # which no server reads out of that
            ("step", model): "gpt-4o-mini",  # which the source has
            ("step", cost): DEAR,  # which is no sum
            ("root", cost): COST,  # which has no model
        },
        {("named", cost): COST, ("step", cost): {"total_cost": 2.0}},
    ):
        undo = put_on_spans(server, wrong)
        of_spans = {each for each in seen()[0] if each[1].startswith("attribute ")}
        assert of_spans == {(span, f"attribute {key}") for span, key in wrong}
        undo()
    put_on_spans(server, {("step", cost): COST})
    put_cost_on_trace(server, STEP, {**COST, "input_cost": 0.0, "output_cost": 1e-6})
    assert seen()[0] == {(STEP, "metadata mlflow.trace.cost")}  # not that of the spans
    put_cost_on_trace(server, STEP, COST)
    put_cost_on_trace(server, NAMED, {"input_cost": 0.0, "output_cost": 0.0, "total_cost": 0.25})
    assert seen()[0] == {(NAMED, "metadata mlflow.trace.cost")}  # not that of the source


# ------------------------------------------------------------------ what is said before


def test_what_can_not_be_kept_is_said_before_anything_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small_store(tmp_path / "mlruns")
    empty = server.rows()
    dry = convert(store, server.uri, "--dry-run", "--report", "dry.json")
    assert dry.exit_code == 0
    assert "ids of runs (4): the server draws them" in dry.stdout
    assert server.rows() == empty
    before: list[str] = []
    original = click.echo

    def echo(text: str = "", **how: Any) -> None:
        if how.get("file") is sys.stderr:
            rows = server.rows()
            for name in ("registered_models", "registered_model_tags"):  # only the lock is there
                rows[name] = [row for row in rows[name] if lock.LOCK not in row]
            before.append(str(rows == empty))
        original(text, **how)

    monkeypatch.setattr(click, "echo", echo)
    result = convert(store, server.uri, "--report", "r.json")
    assert before == ["True"]
    assert "ids of runs (4): the server draws them" in result.stderr
    said = report(tmp_path / "r.json")["server"]
    counts = {limit["name"]: limit["count"] for limit in said["cannot_keep"]}
    assert counts == {
        limit["name"]: limit["count"]
        for limit in report(tmp_path / "dry.json")["server"]["cannot_keep"]
    }
    assert (counts["run-id"], counts["model-id"], counts["experiment-id"]) == (4, 2, 2)
    client = MlflowClient(server.uri)
    for old, new in said["ids"]["run"].items():
        assert client.get_run(new).data.tags["migrator.source_run_id"] == old


def test_on_error_stop_writes_nothing(server: Server, tmp_path: Path) -> None:
    store = small_store(tmp_path / "mlruns")
    storekit.write_values(store / "1" / ("b" * 32) / "metrics", {"bad": b"no number\n"})
    empty = server.rows()
    result = convert(store, server.uri, "--on-error", "stop")
    assert result.exit_code == 1
    assert "metric-line-malformed" in result.stderr
    assert server.rows() == empty


def test_experiments_of_the_server_are_others_unless_we_made_them(
    server: Server, tmp_path: Path
) -> None:
    store = small_store(tmp_path / "mlruns")
    client = MlflowClient(server.uri)
    theirs = client.create_experiment("one", tags={"team": "theirs"})
    before = server.rows()
    clash = convert(store, server.uri)
    assert clash.exit_code == 1
    assert 'Experiment "one" (1) clashes' in clash.stderr
    assert server.rows() == before
    assert convert(store, server.uri, "-q", "--on-conflict", "merge").exit_code == 0
    assert len(client.search_runs([theirs], run_view_type=ViewType.ALL)) == 3
    assert client.get_experiment(theirs).tags["team"] == "theirs"
    # What is remembered of the experiment that others made is complete after the second time.
    assert convert(store, server.uri, "-q", "--on-conflict", "merge").exit_code == 0
    rows = server.rows()
    assert convert(store, server.uri, "-q", "--on-conflict", "merge").exit_code == 0
    assert server.rows() == rows
    assert len(client.search_runs([theirs], run_view_type=ViewType.ALL)) == 3


@pytest.mark.parametrize(
    "more",
    [["--schema", "3.9"], ["--no-backup"], ["--artifacts", "copy:elsewhere"]],
    ids=lambda more: more[0],
)
def test_options_that_make_no_sense_are_refused(more: list[str], tmp_path: Path) -> None:
    store = small_store(tmp_path / "mlruns")
    result = convert(store, "http://127.0.0.1:1", *more)
    assert result.exit_code == 2
    assert "does not go with a server as the target" in result.stderr


# ------------------------------------------------------------------ bad servers


@contextmanager
def answering(code: int, body: bytes, version: bytes = b"3.9.0") -> Iterator[str]:
    """A server that is no MLflow, or not the one that it should be."""

    class Handler(Quiet):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            of_version = self.path == "/version" and code == 200
            self.send_response(code)
            self.end_headers()
            self.wfile.write(version if of_version else body)

        do_GET = do_POST = answer

    with serving(Handler) as address:
        yield address


@pytest.mark.parametrize(
    ("code", "body", "version", "says"),
    [
        (401, b"", b"", "it refuses the login (401)"),
        (403, b"", b"", "it refuses the login (403)"),
        (404, b"", b"", "it is not an MLflow server"),
        (429, b"", b"", "it answers 429: too many requests"),
        (200, b"<html>hello</html>", b"", "it is not an MLflow server"),
        (200, b'{"status": "ok"}', b"", "it is not an MLflow server"),
        (503, b"", b"", "it answers 503"),
        (200, b'{"experiments": []}', b"2.22.1", "the server is MLflow 2.22.1, and 3.9 is the"),
        (200, b"{}", b"<html>", "the server is MLflow an unknown release"),
    ],
)
def test_a_bad_server_is_one_sentence(
    code: int, body: bytes, version: bytes, says: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    store = small_store(tmp_path / "mlruns")
    with answering(code, body, version) as uri:
        result = convert(store, uri.replace("//", "//ana:geheim@"))
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert says in line
    assert "Nothing was written." in line
    assert "geheim" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["mlruns"]


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("http://", "is not the address of a server"),
        ("http://127.0.0.1:port", "is not the address of a server"),
        ("http://127.0.0.1:5000?x=1", "is not the address of a server"),
        ("http://no-such-host.invalid:5000", "there is no host of that name"),
        ("closed", "nothing listens there (connection refused)"),
        ("plain", "TLS is not accepted"),
    ],
)
def test_a_bad_address_is_one_sentence(
    uri: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    store = small_store(tmp_path / "mlruns")
    if uri == "closed":
        uri = f"http://127.0.0.1:{free_port()}"
    with answering(200, b"{}") as plain:
        result = convert(store, plain.replace("http:", "https:") if uri == "plain" else uri)
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert says in line


NEEDED = ("runs/set-tag", "runs/delete", "experiments/delete", "experiments/set-experiment-tag")


@pytest.mark.parametrize("needed", NEEDED)
def test_a_server_that_fails_at_a_needed_request_ends_the_conversion_with_a_sentence(
    needed: str, server: Server, tmp_path: Path
) -> None:
    store = fixturekit.materialise("2.4.2-datasets", tmp_path)
    database = f"sqlite:///{tmp_path}/there.db"
    assert convert(store, database, "-q").exit_code == 0
    says = json.dumps({"error_code": "BAD_REQUEST", "message": "QueuePool limit of size 5"})

    def fault(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        return Answer(400, says.encode()) if path.endswith(needed) else None

    with proxied(server.uri) as proxy:
        proxy.fault = fault
        result = convert(store, proxy.uri, "-q")
    assert result.exit_code == 1, result.output
    assert "it refuses a request: QueuePool limit of size 5. By then" in result.stderr
    again = convert(store, server.uri, "-q")
    assert again.exit_code == 0, again.output
    assert not (found := differences(database, server)), "\n".join(found)


def test_masking_and_sending_artifacts_are_refused_together(server: Server, tmp_path: Path) -> None:
    store = fixturekit.materialise("1.30.1-classic", tmp_path)
    result = convert(store, server.uri, "--redact", "secret")
    assert result.exit_code == 2 and "--artifacts keep" in result.output
    assert not server.rows()["runs"]
    result = convert(store, server.uri, "--redact", "secret", "--artifacts", "keep")
    assert result.exit_code == 0, result.output


# ------------------------------------------------------------- native traces without spans


def test_a_server_shows_every_trace_without_spans(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    spanlesskit.write_store(root)
    options = pipeline.Options()
    outcome = pipeline.convert([str(root)], server.uri, options)
    assert outcome.ledger.gaps() == []
    client = MlflowClient(server.uri)
    found: dict[str, Trace] = {}
    for name in ("one", "gone"):
        found |= spanlesskit.found_in(client, spanlesskit.handle_of(client, name))
    assert found.keys() == {spanlesskit.WHOLE, *spanlesskit.IDS.values()}
    for name, case in spanlesskit.CASES.items():
        spanlesskit.check_case(case, found[spanlesskit.IDS[name]])
    result = compared([str(root)], server.uri, options)
    assert (result.differences, result.recounted) == ((), 3)


def test_a_server_keeps_the_spans_that_it_has(server: Server, tmp_path: Path) -> None:
    for with_spans in (True, False):
        spanlesskit.write_one(tmp_path / str(with_spans), with_spans=with_spans)
    pipeline.convert([str(tmp_path / "True")], server.uri, pipeline.Options())
    outcome = pipeline.convert([str(tmp_path / "False")], server.uri, pipeline.Options())
    assert outcome.ledger.gaps() == []
    (issue,) = outcome.ledger.issues_by_code()[Code.TARGET_DIFFERS]
    assert spanlesskit.BROKEN in issue.message
    client = MlflowClient(server.uri)
    (trace,) = spanlesskit.found_in(client, spanlesskit.handle_of(client, "one")).values()
    assert [span.name for span in trace.data.spans] == ["ask"]
    assert "migrator.inferences" not in trace.info.tags
