"""Reading native traces: every form of their spans, and what is damaged in them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from migrator.extractor.filestore import FileStoreSource
from migrator.extractor.filestore.index import index_store
from migrator.issues import Code, Kind
from migrator.model import Extracted, SpanEvent, TraceRecord
from tests.support.ledgerkit import assert_census, assert_closed, read_all
from tests.support.storekit import START_MS, write_experiment, write_trace, write_values

TRACE = "tr-" + "ab" * 16
ROOT, CHILD = "d183df735b8a4360", "4836494c7334aa7e"
NS = START_MS * 1_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = tmp_path / "mlruns"
    write_experiment(store, "1", "one")
    return store


def read(root: Path, trace_id: str = TRACE) -> Extracted[TraceRecord]:
    """Read a trace of a store, all of which must close."""
    source = FileStoreSource.open(str(root))
    index = index_store(str(root))
    results = list(read_all(index, artifact_roots=source.artifact_roots))
    for result in results:
        assert_closed(result)
    assert_census(index, results)
    (entry,) = [trace for trace in index.traces if trace.entity_id == trace_id]
    return source.read_trace(entry)


def record(root: Path, trace_id: str = TRACE) -> TraceRecord:
    found = read(root, trace_id).record
    assert found is not None
    return found


def codes(result: Extracted[Any]) -> list[Code]:
    return [issue.code for issue in result.issues]


def b64(digits: str) -> str:
    return base64.b64encode(bytes.fromhex(digits)).decode()


def v2_span(prefix: str, span_id: str, parent: str | None, **more: Any) -> dict[str, Any]:
    """A span as MLflow 2.14 (prefix ``0x``) to 2.22 wrote it."""
    return {
        "name": "llm",
        "context": {"span_id": prefix + span_id, "trace_id": prefix + "ab" * 16},
        "parent_id": None if parent is None else prefix + parent,
        "start_time": NS,
        "end_time": NS + 5_000_000,
        "status_code": "ERROR",
        "status_message": "ValueError: no",
        "attributes": {"mlflow.spanType": '"LLM"', "mlflow.spanInputs": '{"q": "ünï"}'},
        "events": [
            {"name": "exception", "timestamp": NS + 7, "attributes": {"exception.type": "V"}},
            {"name": "first token", "timestamp": NS // 1000 + 3, "attributes": {"ms": 12}},
        ],
        **more,
    }


def v3_span(span_id: str, parent: str | None, **more: Any) -> dict[str, Any]:
    """A span as MLflow 3.x writes it, ids already encoded."""
    return {
        "trace_id": b64("ab" * 16),
        "span_id": span_id,
        "parent_span_id": parent,
        "name": "llm",
        "start_time_unix_nano": NS,
        "end_time_unix_nano": NS + 5_000_000,
        "events": [
            {"name": "exception", "time_unix_nano": NS + 7, "attributes": {"exception.type": "V"}},
            {"name": "first token", "time_unix_nano": NS // 1000 + 3, "attributes": {"ms": 12}},
        ],
        "status": {"code": "STATUS_CODE_ERROR", "message": "ValueError: no"},
        "attributes": {"mlflow.spanType": '"LLM"', "mlflow.spanInputs": '{"q": "ünï"}'},
        **more,
    }


@pytest.mark.parametrize(
    ("schema", "spans"),
    [
        pytest.param(2, [v2_span("0x", ROOT, None), v2_span("0x", CHILD, ROOT)], id="2.14"),
        pytest.param(2, [v2_span("", ROOT, None), v2_span("", CHILD, ROOT)], id="2.22"),
        pytest.param(2, [v3_span(b64(ROOT), ""), v3_span(b64(CHILD), b64(ROOT))], id="3.1"),
        pytest.param(3, [v3_span(b64(ROOT), None), v3_span(b64(CHILD), b64(ROOT))], id="3.5"),
        pytest.param(
            3,
            [
                v3_span(ROOT, None, status={"code": "ERROR", "message": "ValueError: no"}),
                v3_span(CHILD, ROOT, links=[], start_time_unix_nano=str(NS)),
            ],
            id="3.5.0",
        ),
    ],
)
def test_spans_of_every_form_are_the_same_spans(
    root: Path, schema: Any, spans: list[dict[str, Any]]
) -> None:
    write_trace(root, "1", TRACE, schema=schema, spans=spans, source_run_id="f" * 32)
    result = read(root)
    trace = result.record
    assert trace is not None and result.issues == ()
    assert [(s.span_id, s.parent_span_id) for s in trace.spans] == [(ROOT, None), (CHILD, ROOT)]
    for span in trace.spans:
        assert (span.name, span.start_ns, span.end_ns) == ("llm", NS, NS + 5_000_000)
        assert (span.status, span.status_message) == ("ERROR", "ValueError: no")
        assert span.attributes == {"mlflow.spanType": '"LLM"', "mlflow.spanInputs": '{"q": "ünï"}'}
        assert span.events == (
            SpanEvent("exception", NS + 7, {"exception.type": "V"}),
            SpanEvent("first token", NS + 3000, {"ms": 12}),
        )
    assert (trace.timestamp_ms, trace.execution_ms, trace.status) == (START_MS, 5, "OK")
    assert trace.metadata["mlflow.sourceRun"] == "f" * 32
    assert trace.tags["mlflow.traceName"] == "trace"
    assert trace.spans_path == str(root / "1" / "traces" / TRACE / "artifacts" / "traces.json")
    assert result.found[Kind.SPAN] == 2 and result.files_referred == 1


def test_a_hand_written_trace_is_read(root: Path) -> None:
    span = {
        "span_id": "0a14407cd2670000",
        "parent_id": None,
        "name": "pipeline",
        "start_time_ns": NS,
        "end_time_ns": NS + 1,
        "status": {"status_code": "OK"},
        "inputs": {"query": "x"},
        "outputs": [1],
        "attributes": {"session_id": "admin", "score": 0, "n": None, "deep": {"a": [1]}},
        "span_type": "CHAIN",
    }
    child = {**span, "span_id": "not-hex", "parent_id": "0a14407cd2670000", "events": []}
    grandchild = {**span, "span_id": 7, "parent_id": "not-hex"}
    content = {"info": {}, "data": {"spans": [span, child, grandchild]}}
    write_trace(root, "1", "0a14407cd267", traces_json=json.dumps(content).encode())
    result = read(root, "0a14407cd267")
    trace = result.record
    assert trace is not None and result.issues == ()
    first, second, third = trace.spans
    assert first.attributes == {
        "session_id": '"admin"',
        "score": "0",
        "n": "null",
        "deep": '{"a": [1]}',
        "mlflow.spanInputs": '{"query": "x"}',
        "mlflow.spanOutputs": "[1]",
        "mlflow.spanType": '"CHAIN"',
    }
    assert first.status == "OK" and first.events == ()
    assert second.parent_span_id == first.span_id and third.parent_span_id == second.span_id
    assert third.span_id == "0000000000000007" and len(second.span_id) == 16


@pytest.mark.parametrize(
    ("recorded", "status"),
    [
        ("OK", "OK"),
        ("ERROR", "ERROR"),
        ("IN_PROGRESS", "IN_PROGRESS"),
        ("TRACE_STATUS_UNSPECIFIED", "STATE_UNSPECIFIED"),
        ("STATE_UNSPECIFIED", "STATE_UNSPECIFIED"),
        (1, "OK"),
    ],
)
def test_states_are_those_of_the_target(root: Path, recorded: str | int, status: str) -> None:
    write_trace(root, "1", "ab" * 16, schema=2, status=recorded)
    write_trace(root, "1", TRACE, state=recorded)
    assert record(root, "ab" * 16).status == status
    assert record(root).status == status


def test_an_unknown_state_is_named(root: Path) -> None:
    write_trace(root, "1", TRACE, state="FINE", spans=[v3_span(ROOT, None)])
    result = read(root)
    assert result.record is not None and result.record.status == "STATE_UNSPECIFIED"
    assert codes(result) == [Code.STATUS_UNKNOWN]


def test_previews_and_the_clients_id_are_kept(root: Path) -> None:
    write_trace(
        root, "1", TRACE, client_request_id="req-42", request_preview="ünï", response_preview=""
    )
    trace = record(root)
    assert (trace.client_request_id, trace.request_preview, trace.response_preview) == (
        "req-42",
        "ünï",
        "",
    )


def test_a_duration_of_zero_is_zero_and_an_open_one_is_none(root: Path) -> None:
    write_trace(root, "1", "ab" * 16, schema=2, execution_time_ms=0)
    write_trace(root, "1", TRACE, schema=2, execution_time_ms=None, status="IN_PROGRESS")
    assert record(root, "ab" * 16).execution_ms == 0
    assert record(root).execution_ms is None


# ----------------------------------------------------------------------- where spans lie


def test_spans_among_a_servers_artifacts_are_found(root: Path) -> None:
    served = root.parent / "mlartifacts"
    write_trace(root, "1", TRACE, spans=[v2_span("", ROOT, None)], artifact_root=served)
    result = read(root)
    assert result.record is not None and len(result.record.spans) == 1
    assert result.record.spans_path == str(served / "1/traces" / TRACE / "artifacts/traces.json")


def test_spans_at_a_custom_location_are_found(root: Path, tmp_path: Path) -> None:
    custom = tmp_path / "custom"
    location = (custom / "1" / "traces" / TRACE / "artifacts").as_uri()
    write_trace(
        root,
        "1",
        TRACE,
        spans=[v2_span("", ROOT, None)],
        artifact_root=custom,
        tags={"mlflow.artifactLocation": location},
    )
    assert len(record(root).spans) == 1


def test_spans_in_trash_are_found(tmp_path: Path) -> None:
    write_experiment(tmp_path, "1", "gone", deleted=True)
    write_trace(tmp_path, "1", TRACE, spans=[v2_span("", ROOT, None)])
    assert len(record(tmp_path).spans) == 1


def test_a_trace_without_spans_is_kept_and_named(root: Path) -> None:
    path = write_trace(root, "1", TRACE)
    (path / "artifacts" / "traces.json").unlink()
    result = read(root)
    assert result.record is not None and result.record.spans == ()
    assert codes(result) == [Code.SPANS_MISSING]


def test_an_empty_list_of_spans_is_named(root: Path) -> None:
    write_trace(root, "1", TRACE, spans=[])
    assert codes(read(root)) == [Code.TRACE_WITHOUT_SPANS]


@pytest.mark.parametrize("content", [b"", bytes(range(256)), b"[", b"7"])
def test_a_useless_spans_file_is_named_once(root: Path, content: bytes) -> None:
    write_trace(root, "1", TRACE, traces_json=content)
    assert codes(read(root)) == [Code.SPANS_DAMAGED]


def test_a_trace_that_never_ended_has_no_spans_to_miss(root: Path) -> None:
    path = write_trace(root, "1", TRACE, schema=2, status="IN_PROGRESS")
    (path / "artifacts" / "traces.json").unlink()
    (path / "artifacts").rmdir()
    assert codes(read(root)) == [Code.TRACE_NEVER_ENDED]


# -------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 50,
        b"{",
        b'"text"',
        b"{}",
        b'{"spans": 5}',
        b"\xff\xfe\x00",
        b"null",
        b"[" * 100000,
        b'{"spans": {"a": 1}}',
        b"9" * 5000,
        b"version https://git-lfs...",
    ],
)
def test_a_useless_spans_file_leaves_the_trace(root: Path, content: bytes) -> None:
    write_trace(root, "1", TRACE, traces_json=content)
    result = read(root)
    assert result.record is not None and result.record.spans == ()
    assert Code.SPANS_DAMAGED in codes(result)


def test_the_whole_spans_of_a_half_written_file_are_kept(root: Path) -> None:
    spans = [v2_span("", f"{n:016x}", None) for n in range(1, 4)]
    content = json.dumps({"spans": spans}).encode()
    write_trace(root, "1", TRACE, traces_json=content[: len(content) - 200])
    result = read(root)
    assert result.record is not None and len(result.record.spans) == 2
    assert result.found[Kind.SPAN] == 3
    assert codes(result) == [Code.SPANS_DAMAGED, Code.SPAN_DAMAGED]


def test_a_span_that_is_no_object_costs_itself(root: Path) -> None:
    write_trace(root, "1", TRACE, spans=[v2_span("", ROOT, None), 5, None, ["x"]])
    result = read(root)
    assert result.record is not None and len(result.record.spans) == 1
    assert codes(result) == [Code.SPAN_DAMAGED] * 3


def test_what_a_span_lacks_is_derived_and_named(root: Path) -> None:
    write_trace(root, "1", TRACE, spans=[{}, {"events": ["x", {}], "attributes": [1]}])
    result = read(root)
    assert result.record is not None
    first, second = result.record.spans
    assert first.span_id != second.span_id and first.name == "span"
    assert first.start_ns == 1_700_000_000_000 * 1_000_000  # the trace's own
    assert second.events[0].attributes == {"migrator.malformed": "x"}
    assert set(codes(result)) == {Code.SPAN_REPAIRED}
    assert read(root).record == result.record  # derived, never drawn


def test_equal_spans_are_one_and_two_of_one_id_are_two(root: Path) -> None:
    span, other = v2_span("", ROOT, None), v2_span("", ROOT, None, name="other")
    write_trace(root, "1", TRACE, spans=[span, span, other])
    result = read(root)
    assert result.record is not None
    assert [s.name for s in result.record.spans] == ["llm", "other"]
    assert len({s.span_id for s in result.record.spans}) == 2
    assert result.merged == {Kind.SPAN: 1}
    assert codes(result) == [Code.SPAN_TWICE]


@pytest.mark.parametrize("content", [None, b"", b"\x00\xff", b"- a\n", b"foo: bar\n"])
def test_a_trace_without_info_is_rebuilt(root: Path, content: bytes | None) -> None:
    path = write_trace(root, "1", TRACE, spans=[v2_span("", ROOT, None)])
    (path / "trace_info.yaml").unlink()
    if content is not None:
        (path / "trace_info.yaml").write_bytes(content)
    result = read(root)
    trace = result.record
    assert trace is not None and len(trace.spans) == 1 and trace.tags
    assert (trace.timestamp_ms, trace.status) == (START_MS, "ERROR")
    assert Code.TRACE_REBUILT in codes(result) and Code.TRACE_TIME_MISSING in codes(result)


def test_a_trace_that_holds_nothing_is_rejected(root: Path) -> None:
    (root / "1" / "traces" / TRACE / "tags").mkdir(parents=True)
    result = read(root)
    assert result.record is None and Code.TRACE_EMPTY in codes(result)


# --------------------------------------------------------------------------- assessments


def feedback(**more: Any) -> dict[str, Any]:
    return {
        "assessment_id": "a-1",
        "assessment_name": "grade",
        "create_time": "2026-11-22T21:23:34.566Z",
        "last_update_time": "2026-11-22T21:23:35Z",
        "feedback": {"value": "no"},
        "source": {"source_id": "ana@x.y", "source_type": "HUMAN"},
        **more,
    }


def test_assessments_are_read_whole(root: Path) -> None:
    assessments: dict[str, dict[str, Any]] = {
        "a-1": feedback(
            rationale="because",
            metadata={"k": "v", "mlflow.assessment.sourceRunId": "r1"},
            span_id=ROOT,
            overrides="a-0",
            valid=False,
        ),
        "a-2": {
            **feedback(assessment_id="a-2"),
            "feedback": {"value": None, "error": {"error_code": "E", "error_message": "m"}},
        },
        "a-3": {
            key: value
            for key, value in {
                **feedback(assessment_id="a-3"),
                "expectation": {
                    "serialized_value": {
                        "serialization_format": "JSON_FORMAT",
                        "value": '["f1", {"x": 2}]',
                    }
                },
            }.items()
            if key != "feedback"
        },
    }
    write_trace(root, "1", TRACE, assessments=assessments, spans=[v3_span(ROOT, None)])
    result = read(root)
    assert result.record is not None and result.issues == ()
    first, second, third = result.record.assessments
    assert (first.type, first.value, first.source_type, first.source_id) == (
        "feedback",
        "no",
        "HUMAN",
        "ana@x.y",
    )
    assert (first.created_ms, first.last_updated_ms) == (1795382614566, 1795382615000)
    assert (first.rationale, first.span_id, first.overrides, first.valid, first.run_id) == (
        "because",
        ROOT,
        "a-0",
        False,
        "r1",
    )
    assert second.error == {"error_code": "E", "error_message": "m"} and second.valid
    assert third.type == "expectation" and third.value == ["f1", {"x": 2}]


@pytest.mark.parametrize("value", [True, False, 0, 1.0, "x", [1, "a"], {"a": 1}, ""])
def test_every_value_of_a_feedback_is_kept(root: Path, value: Any) -> None:
    write_trace(root, "1", TRACE, assessments={"a-1": feedback(feedback={"value": value})})
    assert [a.value for a in record(root).assessments] == [value]


def test_damaged_assessments_cost_themselves(root: Path) -> None:
    bad = {"serialized_value": {"value": "{"}}
    path = write_trace(
        root,
        "1",
        TRACE,
        assessments={
            "a-1": feedback(),
            "a-2": feedback(feedback={"value": None}),
            "a-3": feedback(assessment_name=None),
            "a-4": feedback(feedback=bad),
            "a-5": feedback(source=None, create_time=None),
        },
    )
    write_values(path / "assessments", {"a-6.yaml": b"\x00\xff", "notes.txt": "x"})
    result = read(root)
    assert result.record is not None
    assert [a.assessment_id for a in result.record.assessments] == ["a-1", "a-1"]
    assert codes(result).count(Code.ASSESSMENT_DAMAGED) == 4
    assert Code.ASSESSMENT_REPAIRED in codes(result) and result.files_ignored == 1
