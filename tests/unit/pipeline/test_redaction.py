"""``--redact``: every text of every record, wherever it ends up, and what stays instead."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from click.testing import CliRunner, Result

from migrator import loader, transformer
from migrator.cli import main
from migrator.issues import Code, Issue
from migrator.model import (
    AssessmentRecord,
    DatasetRecord,
    EvaluationDatasetRecord,
    ExperimentPlan,
    ExperimentRecord,
    Extracted,
    LoggedModelRecord,
    MetricPoint,
    RegisteredModelRecord,
    RunRecord,
    ScorerRecord,
    SpanRecord,
    TraceRecord,
    WebhookRecord,
    WorkspaceRecord,
)
from migrator.pipeline.redaction import Redactor
from tests.support.storekit import (
    START_MS,
    write_dataset,
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
    write_trace,
)

SECRET = "s3cret-4711"
RUN, CHILD, SPAN = "1" * 32, "2" * 32, "a" * 16
TRACE, MODEL, DATASET = "tr-" + "4" * 32, "m-" + "6" * 32, "7" * 32

# What has to stay: a conversion that changed it would lose the ties between things, or files.
IDS = {
    "run_id": RUN, "experiment_id": "1", "trace_id": TRACE, "span_id": SPAN,
    "parent_span_id": None, "model_id": MODEL, "dataset_id": DATASET, "source_run_id": RUN,
    "assessment_id": "a-" + "8" * 32, "overrides": None, "digest": "d1", "dataset_digest": "d1",
    "lifecycle_stage": "active", "artifact_dir": None, "spans_path": None,
    "artifact_uri": "file:///x", "artifact_location": "file:///x", "storage_location": "file:///x",
    "InputRecord.source_id": DATASET, "InputRecord.source_type": "DATASET",
    "ExperimentRecord.name": "one", "RegisteredModelRecord.name": "bot",
    "ModelVersionRecord.name": "bot", "ModelVersionRecord.status": "READY",
    "ModelVersionRecord.current_stage": "Production",
    "RunRecord.status": "FINISHED", "RunRecord.source_type": "LOCAL", "TraceRecord.status": "OK",
    "SpanRecord.status": "OK", "AssessmentRecord.type": "feedback",
    "AssessmentRecord.source_type": "HUMAN",
    "ExperimentRecord.path": "/x", "RunRecord.path": "/x", "LoggedModelRecord.path": "/x",
    "RegisteredModelRecord.path": "/x", "TraceRecord.path": "/x",
    "LinkRecord.kind": "run", "LinkRecord.target_id": RUN, "record_id": "dr-1", "input_hash": "h",
    "scorer_id": "s-1", "webhook_id": "w-1", "EvaluationDatasetRecord.name": "questions",
    "EvaluationDatasetRecord.path": "/x", "ScorerRecord.path": "/x", "ScorerRecord.name": "polite",
    "WebhookRecord.path": "/x", "WebhookRecord.status": "ACTIVE",
    "WebhookEventRecord.entity": "prompt", "WebhookEventRecord.action": "created",
    "workspace": "team-a", "WorkspaceRecord.name": "team-a", "WorkspaceRecord.path": "/x",
    "default_artifact_root": "file:///x", "trace_archival_location": "file:///x",
    "trace_archival_retention": "30d",
}  # fmt: skip
JSON = {f"json {SECRET}": [f"in json {SECRET}", {f"{SECRET}": SECRET, "b": SECRET}]}
RECORDS = [
    ExperimentRecord, RunRecord, DatasetRecord, LoggedModelRecord, RegisteredModelRecord,
    TraceRecord, EvaluationDatasetRecord, ScorerRecord, WebhookRecord, WorkspaceRecord,
]  # fmt: skip


def drawn(kind: Any) -> Any:
    """Draw a record with the secret in every text that is not one of ``IDS``."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for each in fields(kind):
        name = f"{kind.__name__}.{each.name}"
        if name in IDS or each.name in IDS:
            values[each.name] = IDS.get(name, IDS.get(each.name))
        elif each.name == "attributes" and kind is SpanRecord:
            values[each.name] = {f"key {SECRET}": json.dumps(JSON)}
        else:
            values[each.name] = drawn_value(hints[each.name])
    return kind(**values)


def drawn_value(hint: Any) -> Any:
    if isinstance(hint, str):  # Python 3.10 leaves an alias inside of a type as its text
        return JSON
    if get_origin(hint) in (Union, UnionType):
        hint, *others = (part for part in get_args(hint) if part is not type(None))
        if others:  # Json
            return JSON
    if hint is str:
        return f"text {SECRET}"
    if hint is MetricPoint:
        return MetricPoint(START_MS, 1.0, 1)
    if hint in (int, float, bool):
        return hint(1)
    if is_dataclass(hint):
        return drawn(hint)
    if get_origin(hint) is tuple:
        return (drawn_value(get_args(hint)[0]),)
    assert get_origin(hint) is Mapping, hint
    value = get_args(hint)[1]
    return {f"k {SECRET}": drawn_value(value), f"k {SECRET} b": drawn_value(value)}


def masked(record: Any, pattern: str = SECRET) -> Any:
    return Redactor([re.compile(pattern)]).mask(Extracted(record, {}, {}, ())).record


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_every_text_of_a_record_is_masked(kind: Any) -> None:
    record = drawn(kind)
    assert SECRET in repr(record)
    assert SECRET not in repr(masked(record))
    assert masked(record, "nothing of it") == record


def test_every_text_of_an_issue_is_masked() -> None:
    issue = Issue(Code.FILE_IGNORED, f"/x/{SECRET}", SECRET, SECRET, None, "1", 1, SECRET)
    (found,) = Redactor([re.compile(SECRET)]).mask(Extracted(None, {}, {}, (issue,))).issues
    assert (found.path, found.entity_id, found.code) == ("/x/[REDACTED]", "1", Code.FILE_IGNORED)
    assert {found.message, found.kept, found.sample} == {"[REDACTED]"}


def test_the_secret_is_in_no_column_of_the_database(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    trace = masked(drawn(TraceRecord))
    plan, _ = transformer.plan_native_trace(trace, "1")
    experiment = masked(drawn(ExperimentRecord))
    with loader.Writer(loader.open_target(f"sqlite:///{path}", "3.9")) as writer:
        writer.add_experiment(
            ExperimentPlan(experiment, 1, experiment.name, "file:///x", experiment.tags)
        )
        writer.add_dataset(masked(drawn(DatasetRecord)), 1)
        writer.add_run(masked(drawn(RunRecord)), 1)
        writer.add_logged_model(masked(drawn(LoggedModelRecord)), 1)
        writer.add_registered_model(masked(drawn(RegisteredModelRecord)))
        writer.add_trace(plan, 1)
        assert not writer.finish().issues
        writer.publish(loader.PublishOptions(backup=False))
    held = texts(path)
    assert len([text for text in held if "REDACTED" in text]) > 40
    assert not [text for text in held if SECRET in text]
    assert SECRET.encode() not in path.read_bytes()


def texts(path: Path) -> list[str]:
    """Read every text of every table of a database."""
    with closing(sqlite3.connect(path)) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        found = []
        for (table,) in tables:
            for row in db.execute(f'SELECT * FROM "{table}"'):
                found += [value for value in row if isinstance(value, str)]
        return found


def test_keys_that_become_equal_are_numbered_and_none_is_lost() -> None:
    run = replace(drawn(RunRecord), params={"b-2": "x", "a-1": "y", "REDACTED": "z", "c": "w"})
    expected = {"REDACTED-3": "x", "REDACTED-2": "y", "REDACTED": "z", "c": "w"}
    assert masked(run, r"[ab]-\d").params == expected


def test_words_and_keys_of_mlflow_stay_and_numbers_in_json_do_not() -> None:
    span = replace(
        drawn(SpanRecord),
        attributes={"mlflow.spanType": '"LLM"', "n": '{"card": 4711, "card": 1}', "m": "4711.5"},
    )
    trace = replace(drawn(TraceRecord), spans=(span,), tags={"mlflow.user": "LLM"})
    found = masked(trace, r"LLM|4711|mlflow\.|OK|card")
    assert found.spans[0].attributes == {
        "mlflow.spanType": '"LLM"', "n": '{"REDACTED": 1}', "m": '"[REDACTED].5"',
    }  # fmt: skip
    assert found.tags == {"mlflow.user": "[REDACTED]"}
    assert found.status == found.spans[0].status == "OK"


def test_a_known_key_twice_in_json_hides_nothing() -> None:
    span = replace(drawn(SpanRecord), attributes={"n": f'{{"a": "{SECRET}", "a": 1}}'})
    trace = replace(drawn(TraceRecord), spans=(span,))
    assert masked(trace).spans[0].attributes == {"n": '{"a": 1}'}


def test_the_person_who_judged_is_masked() -> None:
    judged = replace(drawn(AssessmentRecord), source_id="ana@example.com", name="quality")
    trace = masked(replace(drawn(TraceRecord), assessments=(judged,)), r"\S+@\S+")
    assert trace.assessments[0].source_id == "[REDACTED]"
    assert trace.assessments[0].name == "quality"


# ------------------------------------------------------------------------ the command


def store(tmp_path: Path) -> Path:
    """Write a store with the secret wherever a store can hold text."""
    root, key = tmp_path / "mlruns", f"k-{SECRET}"
    write_experiment(root, "1", "one", tags={key: SECRET})
    bad = b"1700000000000 1 0\n" + SECRET.encode() + b"\n"
    write_run(
        root, "1", RUN, name=f"flow {SECRET}", params={key: SECRET, "question": f"{SECRET}?"},
        tags={key: SECRET}, metrics={key: bad}, user=SECRET, source_name=SECRET,
        artifacts={f"{SECRET}.json": json.dumps({SECRET: SECRET}), f"d/{SECRET}/a.bin": b"\0"},
    )  # fmt: skip
    write_run(
        root, "1", CHILD, name=SECRET, parent=RUN,
        params={"model": "gpt-4o", "prompt": SECRET, key: "1"},
        artifacts={f"prompt-{SECRET}.txt": SECRET, "response.txt": SECRET},
    )  # fmt: skip
    span = {
        "span_id": SPAN, "name": SECRET, "start_time_unix_nano": START_MS * 10**6,
        "end_time_unix_nano": START_MS * 10**6 + 5,
        "attributes": {key: json.dumps({SECRET: SECRET}), "mlflow.spanInputs": f'"{SECRET}"'},
        "events": [{"name": SECRET, "timestamp": START_MS * 10**6, "attributes": {key: SECRET}}],
    }  # fmt: skip
    write_trace(
        root, "1", TRACE, spans=[span], tags={key: SECRET}, request_preview=SECRET,
        metadata={key: SECRET, "mlflow.traceInputs": json.dumps({SECRET: SECRET})},
    )  # fmt: skip
    write_dataset(root, "1", SECRET, "d1", runs=[RUN], tags={key: SECRET}, schema=SECRET)
    write_registered_model(root, "bot", description=SECRET, tags={key: SECRET}, aliases={key: 1})
    write_logged_model(root, "1", MODEL, name=SECRET, params={key: SECRET}, tags={key: SECRET})
    (root / "1" / RUN / SECRET).write_text(SECRET)  # belongs to nothing
    (root / SECRET).write_text(SECRET)
    return root


def run(*args: object) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert "Traceback" not in result.output
    return result


def test_the_secret_is_in_no_file_and_no_output(tmp_path: Path) -> None:
    root = store(tmp_path)
    plain = run("scan", root, "-v", "--values").output
    assert plain.count(SECRET) > 3
    target = f"sqlite:///{tmp_path}/m.db"
    given = (root, "--redact", SECRET, "--artifacts", "keep")
    for ending in ("json", "html", "txt"):
        result = run("convert", *given, "--to", target, "--schema", "3.9", "--json", "--values",
                     "--report", tmp_path / f"r.{ending}")  # fmt: skip
        assert result.exit_code == 3, result.output
        assert SECRET not in result.output
    for args in (
        ("scan", *given, "-v", "--values"), ("scan", *given, "--csv"),
        ("scan", *given, "--tree", "one"), ("show", RUN, *given[:3]),
        ("export", *given, "--otlp", tmp_path / "e.json"),
    ):  # fmt: skip
        result = run(*args)
        assert result.exit_code in (0, 3), result.output
        assert SECRET not in result.output
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.suffix for path in files} >= {".db", ".json", ".html", ".txt", ".jsonl"}
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_verify_finds_no_difference_and_shows_no_secret(tmp_path: Path) -> None:
    root, target = store(tmp_path), f"sqlite:///{tmp_path}/m.db"
    assert run("convert", root, "--to", target, "--redact", SECRET, "-q").exit_code == 3
    result = run("verify", root, "--to", target, "--redact", SECRET)
    assert result.exit_code == 0, result.output
    assert run("convert", root, "--to", f"sqlite:///{tmp_path}/n.db", "-q").exit_code == 3
    result = run("verify", root, "--to", f"sqlite:///{tmp_path}/n.db", "--redact", SECRET, "-v")
    assert result.exit_code == 3
    assert SECRET not in result.output and "[REDACTED]" in result.output


def test_what_matches_and_stays_is_counted(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "acme")
    write_run(root, "1", RUN, params={"a": "acme"}, artifact_uri="s3://acme/x")
    result = run("convert", root, "--to", f"sqlite:///{tmp_path}/m.db", "--redact", "acme")
    assert result.exit_code == 0, result.output
    assert "Masked by --redact: 1 text in runs." in result.output
    assert "2 texts match --redact but can't be masked" in result.output


def test_copies_are_refused_because_they_would_hold_what_is_to_be_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = store(tmp_path)
    monkeypatch.chdir(tmp_path)  # where the default target is
    for command in ("convert", "scan"):
        result = run(command, root, "--redact", SECRET, "--artifacts", f"copy:{tmp_path}/c")
        assert result.exit_code == 2
        assert "copied as they are" in result.output
    assert not (tmp_path / "c").exists()
