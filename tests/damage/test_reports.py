"""Reports by ending, the rejects file and converting from it, stopping, secrets and masking."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from migrator.cli import main
from migrator.issues import Kind
from tests.support.storekit import (
    START_MS,
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
    write_trace,
)

FIRST, SECOND, THIRD = "1" * 32, "2" * 32, "3" * 32
SECRET = "sk-live-0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three runs in two experiments; one has a damaged metric line."""
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    write_experiment(root, "2", "two")
    write_run(root, "1", FIRST, params={"lr": "1"}, metrics={"m": b"1700000000000 1 0\noops\n"})
    write_run(root, "1", SECOND, params={"lr": "2"})
    write_run(root, "2", THIRD, params={"lr": "3"})
    return root


def run(*args: object) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert "Traceback" not in result.output
    return result


def convert(store: Path, *options: object, to: str = "m.db") -> Result:
    target = f"sqlite:///{store.parent}/{to}"
    return run("convert", store, "--to", target, "--schema", "3.9", *options)


def document(result: Result) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(result.stdout)
    parsed["ledger"] = {row["kind"]: row for row in parsed["ledger"]}
    return parsed


def rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as db:
        return list(db.execute(sql))


# ---------------------------------------------------------------------------- reports


def test_a_report_has_the_format_of_its_ending(store: Path, tmp_path: Path) -> None:
    for number, ending in enumerate(("json", "html", "txt")):
        path = tmp_path / f"report.{ending}"
        result = convert(store, "--report", path, to=f"{number}.db")
        assert result.exit_code == 3, result.output
        text = path.read_text(encoding="utf-8")
        assert "metric-line-malformed" in text
        if ending == "json":
            assert json.loads(text)["exit_code"] == 3
        elif ending == "html":
            assert text.startswith("<!doctype html>")
        else:
            assert "found" in text and str(store / "1" / FIRST / "metrics" / "m") in text


def test_a_report_of_another_ending_is_refused_before_any_work(store: Path, tmp_path: Path) -> None:
    result = convert(store, "--report", tmp_path / "report.pdf")
    assert result.exit_code == 2
    assert ".json, .html" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {"mlruns"}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.addresses.update(value or "" for name, value in attrs if name == "href")


def test_an_html_report_escapes_whatever_the_store_is_called_and_holds(
    store: Path, tmp_path: Path
) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    write_experiment(store, "3", attack)
    write_run(store, "3", "4" * 32, params={"p": b"\xff" + attack.encode()})
    name = attack.replace("/", "")
    (store / "3" / ("4" * 32) / "params" / name).write_bytes(b"\xff")
    (store / f"stray {name}").write_text("x")
    path = tmp_path / "r.html"
    assert convert(store, "--report", path, "--values").exit_code == 3
    text = path.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert not tags.seen & {"script", "img", "iframe", "link"}
    assert not {name for name in tags.attributes if name.startswith("on") or name == "src"}
    assert "&lt;script&gt;alert(1)" in text
    local = ("#", "http://127.0.0.1:5000/#/experiments/")
    assert all(address.startswith(local) for address in tags.addresses)
    assert "https://" not in text


# ------------------------------------------------------------------- rejects and --only


def test_the_rejects_file_names_what_was_rejected(store: Path, tmp_path: Path) -> None:
    result = convert(store, "--report", tmp_path / "r.html")
    assert str(tmp_path / "r.rejects.jsonl") in result.output
    (line,) = (tmp_path / "r.rejects.jsonl").read_text().splitlines()
    reject = json.loads(line)
    assert reject["path"] == str(store / "1" / FIRST / "metrics" / "m")
    assert (reject["entity"], reject["id"]) == (Kind.METRIC_POINT.value, FIRST)
    assert reject["code"] == "metric-line-malformed"
    assert set(reject) == {"path", "entity", "id", "code", "message", "kept"}


def test_a_conversion_without_rejects_writes_no_list(store: Path, tmp_path: Path) -> None:
    (store / "1" / FIRST / "metrics" / "m").write_text("1700000000000 1 0\n")
    assert convert(store).exit_code == 0
    assert not list(tmp_path.glob("*.rejects.jsonl"))


def test_what_was_mended_is_converted_from_the_list(store: Path, tmp_path: Path) -> None:
    assert convert(store).exit_code == 3
    rejects = tmp_path / "m.db.report.rejects.jsonl"
    before = rows(tmp_path / "m.db", "SELECT count(*) FROM metrics")
    (store / "1" / FIRST / "metrics" / "m").write_text("1700000000000 1 0\n1700000000001 2 1\n")
    again = convert(store, "--only", rejects, "--json")
    assert again.exit_code == 0, again.output
    parsed = document(again)
    assert parsed["ledger"]["run"]["found"] == 1
    assert parsed["ledger"]["metric point"]["converted"] == 1
    assert parsed["ledger"]["metric point"]["already_there"] == 1
    assert parsed["files"]["left_out"] > 0
    assert rows(tmp_path / "m.db", "SELECT count(*) FROM metrics")[0][0] == before[0][0] + 1


def test_a_list_takes_models_traces_and_whole_trees(store: Path, tmp_path: Path) -> None:
    write_run(store, "2", "5" * 32, parent=THIRD)
    write_registered_model(store, "kept", aliases={"best": "x"})
    write_registered_model(store, "left")
    write_trace(store, "2", "tr-" + "6" * 32)
    write_trace(store, "2", "tr-" + "7" * 32)
    write_logged_model(store, "2", "m-" + "8" * 32, metrics={"f": [(START_MS, 1, 0, SECOND)]})
    rejects = tmp_path / "list.jsonl"
    listed = [
        {"path": str(store / "models" / "kept" / "aliases" / "best"), "id": "kept"},
        {"path": "", "id": f"{'5' * 32}/lr"},
        {"path": str(store / "2" / "traces" / ("tr-" + "6" * 32)), "id": ""},
        {"path": str(store / "2" / "models" / ("m-" + "8" * 32) / "metrics" / "f"), "id": ""},
    ]
    rejects.write_text("\n".join(map(json.dumps, listed)))
    result = convert(store, "--only", rejects, "--json")
    ledger = document(result)["ledger"]
    assert result.exit_code == 3  # the alias is still damaged
    assert ledger["run"]["found"] == 2  # the child and its parent
    assert ledger["trace"]["found"] == 1
    assert ledger["registered model"]["found"] == 1
    assert ledger["logged model metric"]["left_out"] == 1  # of a run that the list leaves out


@pytest.mark.parametrize("content", ["", '{"path": "/elsewhere", "id": "x"}', "[1]", "{"])
def test_a_list_that_fits_nothing_is_a_usage_error(
    store: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "list.jsonl").write_text(content)
    result = convert(store, "--only", tmp_path / "list.jsonl")
    assert result.exit_code == 2, result.output
    assert "list.jsonl" in result.output
    assert not (tmp_path / "m.db").exists()


# ------------------------------------------------------------------------- --on-error


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_stopping_at_the_first_reject_writes_nothing(
    store: Path, tmp_path: Path, dry: tuple[str, ...]
) -> None:
    result = convert(store, "--on-error", "stop", *dry)
    assert result.exit_code == 1
    assert "metric-line-malformed" in result.output and "Fix the lines" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {"mlruns"}


def test_stopping_counts_what_the_loader_refuses(store: Path, tmp_path: Path) -> None:
    (store / "1" / FIRST / "metrics" / "m").write_text("1700000000000 1 0\n")
    metrics = {"f": [(START_MS, 1, 0, "9" * 32)]}  # of a run that is not there
    write_logged_model(store, "2", "m-" + "8" * 32, metrics=metrics)
    result = convert(store, "--on-error", "stop")
    assert result.exit_code == 1
    assert "load-without-parent" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {"mlruns"}


# ----------------------------------------------------------------- secrets and masking


def secret_store(tmp_path: Path) -> Path:
    """A store with a secret in every value that a message could quote."""
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one", tags={"key": SECRET})
    other = SECRET.encode()
    write_run(
        root,
        "1",
        FIRST,
        name="flow",
        params={"api_key": SECRET, "bad": b"\xff" + other, "url": f"https://u:{SECRET}@host"},
        tags={"token": SECRET, "bad": b"\xff" + other},
        metrics={"m": b"1700000000000 1 0\n" + other + b"\n"},
        artifacts={"inputs.json": json.dumps({"key": SECRET}), "prompt.txt": f"use {SECRET}"},
    )
    write_run(
        root, "1", SECOND, name="call", parent=FIRST, params={"model": "gpt-4o"},
        artifacts={"prompt.txt": f"use {SECRET}", "response.txt": f"I used {SECRET}"},
    )  # fmt: skip
    span = {
        "span_id": "1" * 16,
        "name": "s",
        "start_time_unix_nano": START_MS * 10**6,
        "end_time_unix_nano": START_MS * 10**6 + 5,
        "attributes": {"mlflow.spanInputs": json.dumps({"key": f'"{SECRET}"'})},
    }
    write_trace(
        root, "1", "tr-" + "4" * 32, spans=[span], tags={"k": SECRET},
        request_preview=SECRET, metadata={"mlflow.traceInputs": SECRET},
    )  # fmt: skip
    write_trace(root, "1", "tr-" + "5" * 32, traces_json=b"not json " + other)
    write_registered_model(root, "m", description=SECRET, tags={"k": SECRET}, aliases={"a": SECRET})
    write_logged_model(root, "1", "m-" + "6" * 32, params={"k": SECRET}, tags={"k": SECRET})
    return root


def test_no_value_is_printed_unless_asked_for(tmp_path: Path) -> None:
    root = secret_store(tmp_path)
    for args in (("scan", root), ("scan", root, "-v"), ("scan", root, "--json")):
        result = run(*args)
        assert result.exit_code == 3
        assert SECRET not in result.output, args
    for ending in ("json", "html", "txt"):
        convert(root, "--report", tmp_path / f"r.{ending}", to=f"{ending}.db")
        assert SECRET not in (tmp_path / f"r.{ending}").read_text()
    assert SECRET not in (tmp_path / "r.rejects.jsonl").read_text()
    assert SECRET in run("scan", root, "-v", "--values").output
    assert SECRET in run("scan", root, "--json", "--values").output


def test_masked_values_are_nowhere_and_are_counted(tmp_path: Path) -> None:
    root = secret_store(tmp_path)
    plain = convert(root, "--json", to="plain.db")
    assert (tmp_path / "plain.db").read_bytes().count(SECRET.encode()) > 10
    result = convert(root, "--redact", r"sk-live-\w+", "--json", "--values")
    assert result.exit_code == plain.exit_code == 3
    assert SECRET.encode() not in (tmp_path / "m.db").read_bytes()
    assert SECRET not in result.output
    masked, before = document(result), document(plain)
    assert masked["ledger"] == before["ledger"]
    assert masked["rebuilt"] == before["rebuilt"]
    assert masked["redacted"]["run"] == 9
    assert masked["redacted"]["experiment"] == 1
    found = dict(rows(tmp_path / "m.db", f"SELECT key, value FROM params WHERE run_uuid='{FIRST}'"))
    assert found["api_key"] == "[REDACTED]"
    assert found["url"] == "https://u:[REDACTED]@host"
    for (content,) in rows(tmp_path / "m.db", "SELECT content FROM spans"):
        for value in json.loads(content)["attributes"].values():
            json.loads(value)


def test_a_pattern_that_is_none_is_a_usage_error(store: Path) -> None:
    result = convert(store, "--redact", "(")
    assert result.exit_code == 2
    assert "regular expression" in result.output


def test_ids_and_parents_are_never_masked(store: Path, tmp_path: Path) -> None:
    write_run(store, "2", "5" * 32, parent=THIRD)
    assert convert(store, "--redact", "[0-9a-f]").exit_code == 3
    ids = {row[0] for row in rows(tmp_path / "m.db", "SELECT run_uuid FROM runs")}
    assert ids == {FIRST, SECOND, THIRD, "5" * 32}
    parents = rows(tmp_path / "m.db", "SELECT value FROM tags WHERE key = 'mlflow.parentRunId'")
    assert parents == [(THIRD,)]
