"""What MLflow does not know in its own files: each key and value is kept or named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.extractor.filestore.index import index_store as index
from migrator.extractor.filestore.models import read_logged_model, read_registered_model
from migrator.extractor.filestore.runs import read_experiment, read_run
from migrator.extractor.filestore.traces import read_trace
from migrator.issues import Code, Issue, Kind
from migrator.model import Extracted, RunRecord, TraceRecord
from tests.support.storekit import (
    START_MS,
    write_dataset,
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
    write_trace,
    write_yaml,
)

RUN, OTHER, MODEL, TRACE = "a1" * 16, "b2" * 16, "m-" + "c3" * 16, "tr-" + "d4" * 16
NOTE = "mlflow.note.content"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_experiment(tmp_path, "1", "one")
    return tmp_path


def messages(issues: Sequence[Issue], code: Code) -> list[str]:
    return sorted(issue.message for issue in issues if issue.code is code)


def run_of(root: Path) -> tuple[RunRecord, Extracted[RunRecord]]:
    result = read_run(index(str(root)).runs[0], lambda path: False)
    assert result.record is not None
    return result.record, result


def trace_of(root: Path) -> tuple[TraceRecord, Extracted[TraceRecord]]:
    result = read_trace(index(str(root)).traces[0])
    assert result.record is not None
    return result.record, result


# ------------------------------------------------------------------------------ unknown keys


def test_a_description_is_kept_as_mlflows_note(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one", description="what it is for")
    write_run(root, "1", RUN, description="why we ran this")
    write_run(root, "1", OTHER, description="another", tags={NOTE: "the note"})
    outcome = pipeline.convert([str(root)], str(tmp_path / "out.db"), pipeline.Options())
    client = MlflowClient(f"sqlite:///{tmp_path}/out.db")
    assert client.get_experiment("1").tags[NOTE] == "what it is for"
    assert client.get_run(RUN).data.tags[NOTE] == "why we ran this"
    assert client.get_run(OTHER).data.tags[NOTE] == "the note"
    assert messages(outcome.ledger.issues, Code.META_KEY_UNKNOWN) == [
        "Key 'description' (of kind run) has no place in MLflow's database."
    ]
    assert outcome.ledger.gaps() == []


def test_there_is_one_note_for_each_unknown_key_and_kind(root: Path) -> None:
    for number in range(5):
        write_run(root, "1", f"{number:032x}", new_thing={"a": 1}, empty=None, workspace="default")
    write_experiment(root, "2", "two", new_thing=[1])
    ledger = pipeline.scan([str(root)], pipeline.Options()).ledger
    notes = [issue for issue in ledger.issues if issue.code is Code.META_KEY_UNKNOWN]
    assert sorted((note.kind, note.count, note.path) for note in notes) == [
        ("experiment", 1, str(root / "2" / "meta.yaml")),
        ("run", 5, str(root / "1" / ("0" * 32) / "meta.yaml")),
    ]
    assert all("'new_thing'" in note.message for note in notes)


def test_unknown_keys_of_every_file_are_named(root: Path) -> None:
    write_run(root, "1", RUN, tags=None, odd=1)
    dataset = write_dataset(root, "1", "train", "d1", runs=[RUN])
    for file in (root / "1").rglob("meta.yaml"):
        if file.parent.parent.name in ("inputs", "datasets"):
            file.write_text(file.read_text() + "odd: 1\n")
    write_logged_model(root, "1", MODEL, source_run_id=RUN, odd=1)
    write_registered_model(root, "reg", versions=[{"odd": 1, "model_id": MODEL}], odd=1)
    feedback = {"value": True, "odd": 1}
    source = {"source_type": "HUMAN", "source_id": "ana", "odd": 1}
    assessment = {"assessment_name": "a", "feedback": feedback, "source": source, "odd": 1}
    write_trace(root, "1", TRACE, odd=1, assessments={"a-1": assessment})
    ledger = pipeline.scan([str(root)], pipeline.Options()).ledger
    named = messages(ledger.issues, Code.META_KEY_UNKNOWN)
    kinds = ("run", "dataset", "run input", "logged model", "registered model", "model version")
    assert dataset and named == sorted(
        f"Key '{key}' (of kind {kind}) has no place in MLflow's database."
        for key, kind in (
            *(("odd", kind) for kind in (*kinds, "trace", "assessment")),
            *(("feedback.odd", "assessment"), ("source.odd", "assessment")),
            ("model_id", "model version"),
        )
    )


def test_what_mlflow_itself_writes_has_no_unknown_keys(root: Path) -> None:
    write_experiment(root, "2", "new", effective_trace_archival_retention=None, workspace="default",
                     trace_location=None, tags={"a": "b"})  # fmt: skip
    write_run(root, "1", RUN, layout="1.26")
    write_run(root, "1", OTHER, deleted=True, layout="3")
    write_logged_model(root, "1", MODEL, lifecycle_stage="active")
    version: dict[str, Any] = {
        "aliases": [],
        "metrics": None,
        "params": None,
        "storage_location": "s3://x",
    }
    version |= {"model_id": MODEL, "source": f"models:/{MODEL}", "deployment_job_state": None}
    write_registered_model(
        root, "reg", versions=[version], deployment_job_id=None, aliases={"a": 1}
    )
    write_trace(root, "1", "e5" * 16, schema=2, assessments=None)
    write_trace(root, "1", TRACE)
    ledger = pipeline.scan([str(root)], pipeline.Options()).ledger
    assert messages(ledger.issues, Code.META_KEY_UNKNOWN) == []


# ---------------------------------------------------------------------------- unknown values


@pytest.mark.parametrize("source_type", ["FOO", "HUGGING_FACE", "7"])
def test_an_input_of_unknown_type_is_what_has_its_id(root: Path, source_type: str) -> None:
    write_run(root, "1", RUN)
    dataset_id = write_dataset(root, "1", "train", "d1", runs=[RUN])
    (file,) = (root / "1" / RUN / "inputs").rglob("meta.yaml")
    file.write_text(file.read_text().replace("DATASET", source_type))
    run, result = run_of(root)
    assert [(each.source_type, each.source_id) for each in run.inputs] == [("DATASET", dataset_id)]
    assert [issue.code for issue in result.issues] == [Code.META_VALUE_UNKNOWN]


def test_an_input_that_nothing_tells_of_is_rejected(root: Path) -> None:
    write_run(root, "1", RUN)
    data = {"source_type": "FOO", "source_id": "nowhere", "destination_type": "RUN", "tags": {}}
    write_yaml(root / "1" / RUN / "inputs" / "x" / "meta.yaml", data)
    run, result = run_of(root)
    assert run.inputs == () and result.found[Kind.INPUT] == 1
    assert [(i.code, i.kind) for i in result.issues] == [(Code.INPUT_DAMAGED, "run input")]


@pytest.mark.parametrize(
    ("meta", "code"),
    [
        ({"source_type": 99}, Code.META_VALUE_UNKNOWN),
        ({"source_type": "MOON"}, Code.META_VALUE_UNKNOWN),
        ({"lifecycle_stage": "archived"}, Code.META_VALUE_UNUSABLE),
        ({"status": 99}, Code.STATUS_UNKNOWN),
        ({"status": "DONE"}, Code.STATUS_UNKNOWN),
    ],
)
def test_an_unknown_value_of_a_run_is_named(root: Path, meta: dict[str, Any], code: Code) -> None:
    write_run(root, "1", RUN, **meta)
    run, result = run_of(root)
    assert [issue.code for issue in result.issues] == [code]
    assert run.status == "FINISHED" and run.lifecycle_stage == "active"


@pytest.mark.parametrize("status", [99, -1, "DONE"])
def test_an_unknown_status_of_a_logged_model_is_named(root: Path, status: object) -> None:
    write_logged_model(root, "1", MODEL, status=status)
    result = read_logged_model(index(str(root)).logged_models[0])
    assert result.record is not None and result.record.status == 0
    assert [issue.code for issue in result.issues] == [Code.META_VALUE_UNKNOWN]
    assert result.issues[0].sample == repr(str(status))


def test_an_unknown_stage_of_an_experiment_or_model_is_named(root: Path) -> None:
    write_experiment(root, "1", "one", lifecycle_stage="frozen")
    write_logged_model(root, "1", MODEL, lifecycle_stage="frozen")
    entries = index(str(root))
    for result in (
        read_experiment(entries.experiments[0]),
        read_logged_model(entries.logged_models[0]),
    ):
        assert result.record is not None and result.record.lifecycle_stage == "active"
        assert [issue.code for issue in result.issues] == [Code.META_VALUE_UNUSABLE]


def test_an_unknown_stage_of_a_version_is_kept(root: Path) -> None:
    write_registered_model(root, "reg", versions=[{"current_stage": "Canary"}])
    result = read_registered_model(index(str(root)).registered_models[0])
    assert result.record is not None and result.record.versions[0].current_stage == "Canary"


# ------------------------------------------------------------------------------------ traces


def span(**overrides: object) -> dict[str, object]:
    start = START_MS * 10**6
    times = {"start_time_unix_nano": start, "end_time_unix_nano": start + 10}
    return {"name": "step", "span_id": "00000000000000a1", **times, **overrides}


def test_malformed_events_are_kept_and_named(root: Path) -> None:
    odd = [5, {"name": 3, "time_unix_nano": "soon", "attributes": [1]}, {"name": "fine"}]
    write_trace(root, "1", TRACE, spans=[span(events=odd)])
    trace, result = trace_of(root)
    events = [(event.name, dict(event.attributes)) for event in trace.spans[0].events]
    assert events == [
        ("event", {"migrator.malformed": 5}),
        ("event", {"migrator.malformed": {"name": 3, "time_unix_nano": "soon", "attributes": [1]}}),
        ("fine", {}),
    ]
    assert {event.time_ns for event in trace.spans[0].events} == {START_MS * 10**6}
    assert [issue.code for issue in result.issues] == [Code.SPAN_REPAIRED]


@pytest.mark.parametrize("events", ["x", {"a": 1}, 7])
def test_events_that_are_no_list_are_kept_and_named(root: Path, events: object) -> None:
    write_trace(root, "1", TRACE, spans=[span(events=events)])
    trace, result = trace_of(root)
    assert len(trace.spans[0].events) == 1
    assert [issue.code for issue in result.issues] == [Code.SPAN_REPAIRED]


@pytest.mark.parametrize("start", [-5, -(10**18), "1969-12-31T23:00:00Z"])
def test_a_span_before_1970_begins_with_its_end_or_its_trace(root: Path, start: object) -> None:
    begin = START_MS * 10**6
    spans = [span(start_time_unix_nano=start), span(span_id="00000000000000b2",
             start_time_unix_nano=start, end_time_unix_nano=-1)]  # fmt: skip
    write_trace(root, "1", TRACE, spans=spans)
    trace, result = trace_of(root)
    assert [each.start_ns for each in trace.spans] == [begin + 10, begin]
    assert {issue.code for issue in result.issues} == {Code.SPAN_REPAIRED}


def test_an_unknown_status_of_a_span_or_trace_is_named(root: Path) -> None:
    write_trace(root, "1", TRACE, state="DREAMING", spans=[span(status={"code": "MAYBE"})])
    trace, result = trace_of(root)
    assert (trace.status, trace.spans[0].status) == ("STATE_UNSPECIFIED", "UNSET")
    codes = sorted(issue.code for issue in result.issues)
    assert codes == sorted([Code.SPAN_REPAIRED, Code.STATUS_UNKNOWN])


@pytest.mark.parametrize(
    ("value", "text"),
    [(float("nan"), "NaN"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity")],
)
def test_a_value_that_is_not_finite_is_kept_as_text(root: Path, value: float, text: str) -> None:
    base = {"assessment_name": "a", "create_time": "2023-11-14T22:13:20Z"}
    base["source"] = {"source_type": "HUMAN", "source_id": "ana"}  # type: ignore[assignment]
    write_trace(
        root, "1", TRACE, spans=[span()],
        assessments={
            "a-1": {**base, "feedback": {"value": value}},
            "a-2": {**base, "expectation": {"value": {"x": [value, 1.5]}}},
        },
    )  # fmt: skip
    trace, result = trace_of(root)
    assert [each.value for each in trace.assessments] == [text, {"x": [text, 1.5]}]
    assert [issue.code for issue in result.issues] == [Code.ASSESSMENT_REPAIRED] * 2


def test_an_unknown_source_of_an_assessment_is_named(root: Path) -> None:
    source = {"source_type": "ORACLE", "source_id": "x"}
    assessment = {"assessment_name": "a", "feedback": {"value": 1}, "source": source}
    assessment["create_time"] = "2023-11-14T22:13:20Z"
    write_trace(root, "1", TRACE, spans=[span()], assessments={"a-1": assessment})
    trace, result = trace_of(root)
    assert trace.assessments[0].source_type == "CODE"
    (issue,) = result.issues
    assert (issue.code, issue.sample) == (Code.META_VALUE_UNKNOWN, "'ORACLE'")
