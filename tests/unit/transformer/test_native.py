"""Traces that MLflow itself wrote: carried over whole, mended where MLflow 3.9 needs it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from migrator.model import (
    AssessmentRecord,
    SpanEvent,
    SpanRecord,
    TracePlan,
    TraceRecord,
)
from migrator.transformer import native_trace_id, plan_native_trace

T0 = 1_700_000_000_000
NS = T0 * 1_000_000
HEX = "0123456789abcdef0123456789abcdef"


def sp(number: int, parent: int | None = None, **given: Any) -> SpanRecord:
    attributes = {"mlflow.spanType": '"LLM"', **given.pop("attributes", {})}
    record = SpanRecord(
        span_id=given.pop("span_id", f"{number:016x}"),
        parent_span_id=None if parent is None else f"{parent:016x}",
        name=given.pop("name", f"s{number}"),
        start_ns=NS + given.pop("start", number * 10),
        end_ns=given.pop("end_ns", NS + 1000),
        status=given.pop("status", "OK"),
        status_message=given.pop("message", ""),
        attributes=attributes,
        events=given.pop("events", ()),
    )
    assert not given
    return record


def tr(*spans: SpanRecord, **given: Any) -> TraceRecord:
    fields: dict[str, Any] = {
        "trace_id": f"tr-{HEX}", "experiment_id": "1", "timestamp_ms": T0, "execution_ms": 5,
        "status": "OK", "client_request_id": None, "request_preview": None,
        "response_preview": None, "tags": {"mlflow.traceName": "ask"}, "metadata": {},
        "assessments": (), "spans": spans, "path": "/s/1/traces/x", "spans_path": "/s/t.json",
    }  # fmt: skip
    return TraceRecord(**{**fields, **given})


def mended(record: TraceRecord) -> tuple[TracePlan, list[str]]:
    made, issues = plan_native_trace(record, "test")
    return made, [issue.code.value for issue in issues]


def test_whole_trace_is_carried_over_without_an_issue() -> None:
    text = '{"q":  "é"}'  # MLflow's own spacing may differ; the text is not ours to change
    record = tr(
        sp(1, attributes={"mlflow.spanInputs": text, "mlflow.traceRequestId": f'"tr-{HEX}"'}),
        sp(2, 1),
        metadata={"mlflow.sourceRun": "r1", "mlflow.trace.session": "s"},
    )
    made, codes = mended(record)
    assert codes == []
    assert made.trace_id == f"tr-{HEX}" and made.native and made.run_ids == ("r1",)
    assert made.spans[0].attributes["mlflow.spanInputs"] == text
    assert [s.parent_span_id for s in made.spans] == [None, f"{1:016x}"]
    assert made.tags["mlflow.trace.spansLocation"] == "TRACKING_STORE"
    assert made.metadata["mlflow.trace_schema.version"] == "3"
    assert json.loads(made.metadata["mlflow.trace.sizeStats"])["num_spans"] == 2
    assert made.request_preview == "é"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"tr-{HEX}", f"tr-{HEX}"),
        (HEX, f"tr-{HEX}"),
        (HEX.upper(), f"tr-{HEX}"),
        ("0a14407cd267", None),
        ("tr-short", None),
    ],
)
def test_ids_take_the_form_that_mlflow_opens(old: str, new: str | None) -> None:
    made, codes = mended(tr(sp(1), trace_id=old))
    assert made.trace_id == (new or made.trace_id)
    assert len(made.trace_id) == 35 and made.trace_id == native_trace_id(old)
    assert json.loads(made.spans[0].attributes["mlflow.traceRequestId"]) == made.trace_id
    if old == made.trace_id:
        assert codes == [] and made.client_request_id is None
    else:
        assert codes == ["trace-id-changed"]
        assert made.metadata["migrator.source_trace_id"] == old == made.client_request_id


def test_clients_own_request_id_is_kept() -> None:
    made, _ = mended(tr(sp(1), trace_id=HEX, client_request_id="req-42"))
    assert made.client_request_id == "req-42"


def roots(made: TracePlan) -> list[str]:
    return [s.name for s in made.spans if s.parent_span_id is None]


def test_several_roots_and_orphans_get_one_root_named_after_the_trace() -> None:
    made, codes = mended(tr(sp(1), sp(2), sp(3, 99, end_ns=NS + 5000), sp(4, 3)))
    assert codes == ["trace-root-added"]
    assert roots(made) == ["ask"] and len(made.spans) == 5
    root = made.spans[0]
    assert (root.start_ns, root.end_ns, root.status) == (NS + 10, NS + 5000, "OK")
    assert [s.parent_span_id == root.span_id for s in made.spans[1:]] == [True, True, True, False]
    assert json.loads(made.metadata["mlflow.trace.sizeStats"])["num_spans"] == 5


def test_lone_orphan_becomes_the_root_itself() -> None:
    made, codes = mended(tr(sp(3, 99), sp(4, 3)))
    assert (roots(made), codes) == (["s3"], ["trace-root-added"])


def test_circle_of_spans_is_cut_and_hangs_from_the_root() -> None:
    made, codes = mended(tr(sp(1), sp(2, 3), sp(3, 2), sp(4, 2)))
    assert (roots(made), codes) == (["ask"], ["trace-root-added"])
    assert {s.name for s in made.spans} == {"ask", "s1", "s2", "s3", "s4"}


def test_every_parent_comes_before_its_children() -> None:
    made, _ = mended(tr(sp(5, 4), sp(4, 1, start=500), sp(1), sp(2, 1)))
    assert [s.name for s in made.spans] == ["s1", "s2", "s4", "s5"]


def test_spans_of_one_id_are_told_apart_and_equal_ones_are_one() -> None:
    made, codes = mended(tr(sp(1), sp(2, 1), sp(2, 1), sp(2, 1, name="other")))
    assert [s.name for s in made.spans] == ["s1", "s2", "other"]
    assert len({s.span_id for s in made.spans}) == 3 and codes == ["trace-value-changed"]


def test_open_span_ends_at_its_last_child_or_event() -> None:
    event = SpanEvent("token", NS + 3000, {})
    made, codes = mended(tr(sp(1, end_ns=None, events=(event,)), sp(2, 1, end_ns=NS + 7)))
    assert [s.end_ns - NS for s in made.spans] == [3000, 20]
    assert codes == ["trace-span-closed"]


def test_trace_in_progress_is_closed_by_its_roots_status() -> None:
    made, codes = mended(tr(sp(1, status="ERROR", message="ValueError: x"), status="IN_PROGRESS"))
    assert (made.status, codes) == ("ERROR", ["trace-span-closed"])
    assert made.tags["migrator.unfinished"] == "true"
    made, _ = mended(tr(sp(1, status="UNSET"), status="IN_PROGRESS", execution_ms=None))
    assert (made.status, made.execution_ms) == ("STATE_UNSPECIFIED", 0)


def test_native_span_gets_no_exception_event() -> None:
    made, _ = mended(tr(sp(1, status="ERROR", message="ValueError: boom")))
    assert made.spans[0].events == ()
    assert made.spans[0].status_message == "ValueError: boom"
    own = SpanEvent("exception", NS + 5, {"exception.message": "own"})
    made, _ = mended(tr(sp(1, status="ERROR", events=(own,))))
    assert made.spans[0].events == (own,)


def test_root_that_was_added_shows_that_the_trace_failed() -> None:
    made, _ = mended(tr(sp(1), sp(2), status="ERROR"))
    (event,) = made.spans[0].events
    assert (event.name, event.time_ns) == ("exception", NS + 1000)
    assert [span.events for span in made.spans[1:]] == [(), ()]


def test_trace_whose_root_was_inferred_is_planned_again_as_it_was() -> None:
    first, _ = mended(tr(spans_path=None, execution_ms=None))
    assert first.execution_ms is None
    again, _ = mended(tr(sp(1), execution_ms=None, tags=first.tags))
    assert again.execution_ms is None
    assert mended(tr(sp(1), execution_ms=None))[0].execution_ms is not None


def test_trace_without_spans_gets_a_root_of_what_it_says() -> None:
    usage = '{"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}'
    said = {"mlflow.traceOutputs": '"because"', "mlflow.trace.tokenUsage": usage}
    record = tr(spans_path=None, request_preview="why?", metadata=said)
    made, codes = mended(record)
    assert codes == []  # the extractor names the trace
    (root,) = made.spans
    assert (root.name, root.type, root.status, root.parent_span_id) == (
        "ask", "UNKNOWN", "OK", None,
    )  # fmt: skip
    assert (root.start_ns, root.end_ns) == (NS, NS + 5_000_000)
    assert root.attributes["mlflow.spanInputs"] == '"why?"'
    assert root.attributes["mlflow.spanOutputs"] == '"because"'
    assert json.loads(root.attributes["mlflow.chat.tokenUsage"]) == json.loads(usage)
    inference = "root span: made of what the trace itself says"
    assert json.loads(root.attributes["legacy.inferences"]) == [inference]
    assert made.tags["migrator.inferences"] == inference
    assert made.tags["mlflow.trace.spansLocation"] == "TRACKING_STORE"
    assert made.usage is not None and made.usage.total_tokens == 5
    assert (made.request_preview, made.response_preview) == ("why?", "because")
    assert made == mended(record)[0]


@pytest.mark.parametrize(
    ("said", "preview", "inputs"),
    [
        ('{"q": 1}', "1", '{"q": 1}'),
        ('{"q": "cut o...', '{"q": "cut off"}', '{"q": "cut off"}'),
        ('{"q": "cut o...', '{"q": "cut off la...', '"{\\"q\\": \\"cut off la..."'),
        ('{"n": NaN}', None, '{"n": "nan"}'),
        ("", "", None),
        (None, None, None),
    ],
)
def test_inputs_of_an_inferred_root_are_whole_json_or_text(
    said: str | None, preview: str | None, inputs: str | None
) -> None:
    metadata = {} if said is None else {"mlflow.traceInputs": said}
    made, _ = mended(tr(request_preview=preview, metadata=metadata))
    assert made.spans[0].attributes.get("mlflow.spanInputs") == inputs


@pytest.mark.parametrize(
    ("time_ms", "length_ms", "start_ns", "end_ns"),
    [
        (0, None, 1, 1),  # MLflow reads 0 as no time
        (-5, 7, 1, 2_000_000),
        (T0, -3, NS, NS),
        (2**62, 1, 2**63 - 1, 2**63 - 1),
    ],
)
def test_times_of_an_inferred_root_fit_into_a_span(
    time_ms: int, length_ms: int | None, start_ns: int, end_ns: int
) -> None:
    made, _ = mended(tr(timestamp_ms=time_ms, execution_ms=length_ms))
    assert (made.spans[0].start_ns, made.spans[0].end_ns) == (start_ns, end_ns)
    assert (made.timestamp_ms, made.execution_ms) == (time_ms, length_ms)


def test_sizes_are_kept_as_they_were() -> None:
    sizes = {
        "mlflow.trace.sizeBytes": "77",
        "mlflow.trace.sizeStats": '{"total_size_bytes":  77, "num_spans": 2, "p25": 1}',
    }
    made, codes = mended(tr(sp(1), sp(2, 1), metadata=sizes))
    assert {key: made.metadata[key] for key in sizes} == sizes
    assert "migrator.source_size_stats" not in made.metadata and codes == []


@pytest.mark.parametrize(
    ("stats", "others"),
    [
        ('{"num_spans": 3, "p25": 1}', {"p25": 1}),
        ('{"num_spans": "1", "x": []}', {"x": []}),
        ('{"p25": 1}', {"p25": 1}),
    ],
)
def test_another_number_of_spans_is_changed_and_kept_beside(
    stats: str, others: dict[str, Any]
) -> None:
    made, _ = mended(tr(sp(1), metadata={"mlflow.trace.sizeStats": stats}))
    assert json.loads(made.metadata["mlflow.trace.sizeStats"]) == {**others, "num_spans": 1}
    assert made.metadata["migrator.source_size_stats"] == stats


@pytest.mark.parametrize("stats", ["no JSON", "[]", "null", "7", "", "[" * 99_999])
def test_size_stats_that_break_mlflow_are_made_again(stats: str) -> None:
    made, _ = mended(tr(sp(1), metadata={"mlflow.trace.sizeStats": stats}))
    assert json.loads(made.metadata["mlflow.trace.sizeStats"])["num_spans"] == 1
    assert made.metadata["migrator.source_size_stats"] == stats


def test_usage_of_2x_traces_is_summed_by_mlflows_rule() -> None:
    def usage(n: int) -> dict[str, str]:
        text = json.dumps({"input_tokens": n, "output_tokens": 1, "total_tokens": n + 1})
        return {"mlflow.chat.tokenUsage": text}

    made, _ = mended(
        tr(
            sp(1),
            sp(2, 1, attributes=usage(10)),
            sp(3, 2, attributes=usage(7)),
            sp(4, 1, attributes=usage(5)),
        )
    )
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (
        15,
        2,
        17,
    )
    assert json.loads(made.metadata["mlflow.trace.tokenUsage"])["total_tokens"] == 17


def test_usage_in_metadata_is_not_summed_again() -> None:
    own = '{"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "cache_read_input_tokens": 9}'
    made, _ = mended(
        tr(
            sp(1, attributes={"mlflow.chat.tokenUsage": '{"input_tokens": 50}'}),
            metadata={"mlflow.trace.tokenUsage": own},
        )
    )
    assert made.usage is not None and made.usage.total_tokens == 3
    assert made.metadata["mlflow.trace.tokenUsage"] == own


def test_linked_prompts_are_name_and_version() -> None:
    tags = {"mlflow.linkedPrompts": '[{"name": "p", "version": "1"}]', "mlflow.traceName": "x"}
    assert mended(tr(sp(1), tags=tags))[0].prompts == ("p/1",)
    assert mended(tr(sp(1), tags={"mlflow.linkedPrompts": "broken["}))[0].prompts == ()


@pytest.mark.parametrize("bad", [str(2**70), '"\\ud800"', "[" * 60 + "]" * 60, "[" * 100_000])
def test_values_that_break_mlflows_api_become_text(bad: str) -> None:
    made, codes = mended(tr(sp(1, attributes={"x": bad})))
    assert codes == ["trace-value-changed"]
    text = made.spans[0].attributes["x"]
    assert text != bad
    text.encode("utf-8")
    json.loads(text)


def test_attribute_that_is_no_json_stays_as_it_is() -> None:
    made, codes = mended(tr(sp(1, attributes={"x": "plain words"})))
    assert (made.spans[0].attributes["x"], codes) == ("plain words", [])


def test_assessments_come_along() -> None:
    grade = AssessmentRecord("a-1", "grade", "feedback", 2**70, None, "HUMAN", "ana", T0, T0)
    made, _ = mended(tr(sp(1), assessments=(grade,)))
    assert made.assessments[0].value == str(2**70)


def test_order_of_spans_in_the_file_does_not_matter() -> None:
    spans = [sp(1), sp(2, 1, start=10), sp(3, 1, start=10), sp(4, 9), sp(5, 6), sp(6, 5)]
    assert plan_native_trace(tr(*spans)) == plan_native_trace(tr(*reversed(spans)))


def test_deep_native_trace_does_not_recurse() -> None:
    made, codes = mended(tr(sp(1, start=0), *(sp(i, i - 1, start=0) for i in range(2, 5000))))
    assert len(made.spans) == 4999 and codes == []


def test_a_made_root_that_failed_has_no_empty_stack_trace() -> None:
    made, _ = mended(tr(status="ERROR"))
    (event,) = made.spans[0].events
    assert event.attributes == {
        "exception.message": "no error text was recorded",
        "exception.type": "Error",
    }
