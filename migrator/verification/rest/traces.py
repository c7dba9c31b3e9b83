"""Compares traces with their metadata, assessments, spans and links to runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from migrator import conventions, encoding
from migrator.issues import Kind
from migrator.model import AssessmentRecord, SpanPlan, TracePlan
from migrator.verification.findings import MISSING, NOTHING, Entity
from migrator.verification.rest.served import Server, ServerExperiment
from migrator.verification.traces import compare_assessment
from migrator.verification.values import canonical

_TAG_CHARS, _METADATA_CHARS = 4096, 250
_LINKED_TRACES = 500  # an answer
_COSTS = ("input_cost", "output_cost", "total_cost")
# Beginnings of the attributes with which other conventions name models and providers.
_OTHER_CONVENTIONS = ("gen_ai.", "llm.", "embedding.")


def compare_trace(server: Server, experiment: ServerExperiment | None, plan: TracePlan) -> None:
    """Compare a trace; ``experiment`` is None if the server lacks it."""
    server.findings.count_recounted(plan)
    info = server.read(server.store.get_trace_info, plan.trace_id)
    of = server.findings.entity(Kind.TRACE, plan.trace_id, info)
    if of is None or experiment is None:
        return
    experiment.traces.add(plan.trace_id)
    number = experiment.found.experiment_id
    of.check("experiment_id", number, info.experiment_id)
    of.check("request_time", plan.timestamp_ms, info.request_time)
    of.check("execution_duration", plan.execution_ms, info.execution_duration)
    of.check("state", plan.status, info.state.value)
    of.check("client_request_id", plan.client_request_id or "", info.client_request_id or "")
    of.check("request_preview", plan.request_preview or "", info.request_preview or "")
    of.check("response_preview", plan.response_preview or "", info.response_preview or "")
    left_out = (conventions.ARTIFACT_LOCATION, conventions.SPANS_LOCATION)
    tags = {key: value for key, value in plan.tags.items() if key not in left_out}
    found_tags = {k: v for k, v in info.tags.items() if k != conventions.SPANS_LOCATION}
    server.compare_texts(of, Kind.TRACE_TAG, tags, found_tags, _TAG_CHARS)
    spans = _spans_of(server, plan)
    _compare_metadata(server, of, plan, info, spans)
    _compare_assessments(server, of, plan, info)
    for span_id in sorted(spans.keys() - {span.span_id for span in plan.spans}):
        of.differs(f"span {span_id}", NOTHING, spans[span_id].name)
    for span in plan.spans:
        name = f"{plan.trace_id}/{span.span_id}"
        of_span = server.findings.entity(Kind.SPAN, name, spans.get(span.span_id))
        if of_span is not None:
            expected = _expected_span(plan, span, number)
            served = spans[span.span_id].to_dict()
            if span.status != "ERROR":  # its message is not served
                expected["status"]["message"] = served["status"]["message"]
            _compare_span(server, of_span, expected, served)
    for run_id in plan.run_ids:
        if run_id in server.runs:
            _compare_link(server, of, number, run_id)


def _spans_of(server: Server, plan: TracePlan) -> dict[str, Any]:
    traces = server.read(server.store.batch_get_traces, [plan.trace_id]) or ()
    if not traces:
        return {}
    return {span.span_id: span for span in traces[0].data.spans}


def _compare_metadata(
    server: Server, of: Entity, plan: TracePlan, info: Any, spans: Mapping[str, Any]
) -> None:
    metadata = {key: _in_key_order(value) for key, value in plan.metadata.items()}
    source_run = metadata.get(conventions.SOURCE_RUN, "")
    if source_run in server.runs:
        metadata[conventions.SOURCE_RUN] = server.runs[source_run]
    found = {key: _in_key_order(value) for key, value in info.trace_metadata.items()}
    cost = conventions.TRACE_COST
    if cost not in metadata and _is_sum(_decoded(found.get(cost, "")), spans):
        del found[cost]  # the spans' own costs are what is counted
    usage = conventions.TRACE_USAGE
    if usage in found and found[usage] != metadata.get(usage):
        server.exceptions["token-counts"] += 1
        found[usage] = _without_zeros(found[usage])
        metadata[usage] = _without_zeros(metadata.get(usage, "{}"))
    server.compare_texts(of, Kind.TRACE_METADATA, metadata, found, _METADATA_CHARS)


def _compare_link(server: Server, of: Entity, experiment_id: str, run_id: str) -> None:
    traces, _ = server.read(
        server.store.search_traces,
        locations=[experiment_id],
        filter_string=f"attributes.run_id = '{server.runs[run_id]}'",
        max_results=_LINKED_TRACES,
    )
    if of.entity_id not in {trace.trace_id for trace in traces}:
        of.differs(f"link to run {run_id}", "one", MISSING)


def _compare_assessments(server: Server, of: Entity, plan: TracePlan, info: Any) -> None:
    found = {item.assessment_id: item for item in info.assessments}
    expected = {record.assessment_id for record in plan.assessments}
    for assessment_id in sorted(found.keys() - expected):
        of.differs(f"assessment {assessment_id}", NOTHING, found[assessment_id].name)
    for record in plan.assessments:
        item = found.get(record.assessment_id)
        name = f"{plan.trace_id}/{record.assessment_id}"
        of_assessment = server.findings.entity(Kind.ASSESSMENT, name, item)
        is_lossy = record.valid is False or record.run_id is not None
        server.exceptions["assessment-fields"] += is_lossy
        if item is not None:
            compare_assessment(of_assessment, _served_assessment(server, record, item), item)


def _served_assessment(server: Server, record: AssessmentRecord, found: Any) -> AssessmentRecord:
    """Return the record as the API can serve it: with the found values of fields that it lacks.

    Those are counted as exceptions, and are not differences.
    """
    served = replace(record, run_id=found.run_id, valid=found.valid)
    value = getattr(getattr(found, record.type, None), "value", None)
    if value != encoding.sanitize(record.value):
        return served
    is_other_number = canonical(value) != canonical(record.value)  # 13 is served as 13.0
    server.exceptions["assessment-numbers"] += is_other_number
    return replace(served, value=value)


# -------------------------------------------------------------------------------------- spans


def _expected_span(plan: TracePlan, span: SpanPlan, experiment_id: str) -> dict[str, Any]:
    """Return the span's content with the experiment id of the server."""
    content: dict[str, Any] = json.loads(encoding.span_content(plan.trace_id, span))
    if conventions.SPAN_EXPERIMENT_ID in content["attributes"]:
        number = encoding.encode(experiment_id)
        content["attributes"][conventions.SPAN_EXPERIMENT_ID] = number
    return content


def _compare_span(
    server: Server, of: Entity, expected: dict[str, Any], served: dict[str, Any]
) -> None:
    attributes, found_attributes = expected.pop("attributes"), served.pop("attributes")
    for key in expected:
        of.check(key, canonical(expected[key]), canonical(served.get(key)))
    limits = set()
    for key in sorted(attributes.keys() | found_attributes.keys()):
        limit = None
        if key not in attributes:
            limit = _limit_of_added(key, found_attributes)
        if limit is not None:
            limits.add(limit)
        elif key not in attributes or key not in found_attributes:
            one, other = attributes.get(key, NOTHING), found_attributes.get(key, MISSING)
            of.differs(f"attribute {key}", one, other)
        else:
            expected_value, found_value = _decoded(attributes[key]), _decoded(found_attributes[key])
            of.check(f"attribute {key}", expected_value, found_value)
    server.exceptions.update(limits)


def _limit_of_added(key: str, served: Mapping[str, str]) -> str | None:
    """If the server derived this attribute from others, return the limit that describes it.

    A model or provider must stand elsewhere in the span; a cost needs a model and token counts.
    """
    facts = {name: _decoded(text) for name, text in served.items()}
    value = facts.pop(key)
    if key in (conventions.SPAN_MODEL, conventions.SPAN_PROVIDER):
        return "span-model" if value in _named_elsewhere(facts) else None
    if key == conventions.SPAN_COST and _is_cost(value):
        is_counted = facts.get(conventions.SPAN_USAGE) and facts.get(conventions.SPAN_MODEL)
        return "span-cost" if is_counted else None
    return None


def _named_elsewhere(facts: Mapping[str, Any]) -> list[Any]:
    """Return the values from which the server may take a span's model or provider."""
    values = [value for name, value in facts.items() if name.startswith(_OTHER_CONVENTIONS)]
    for name in (conventions.SPAN_INPUTS, conventions.SPAN_OUTPUTS):
        content = facts.get(name)
        if isinstance(content, dict):
            values.append(content.get("model"))
    return values


def _is_cost(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != set(_COSTS):
        return False
    one, other, total = (value[key] for key in _COSTS)
    return min(one, other) >= 0 and math.isclose(one + other, total)


def _is_sum(cost: Any, spans: Mapping[str, Any]) -> bool:
    """Return True if a trace's cost is the sum of its spans' costs.

    A span below one that has a cost does not count.
    """
    costs = {span_id: span.get_attribute(conventions.SPAN_COST) for span_id, span in spans.items()}

    def is_below_another(span_id: str) -> bool:
        above = spans.get(spans[span_id].parent_id)
        while above is not None and not costs[above.span_id]:
            above = spans.get(above.parent_id)
        return above is not None

    parts = [each for span_id, each in costs.items() if each and not is_below_another(span_id)]
    if not parts or not all(map(_is_cost, [cost, *parts])):
        return False
    return all(math.isclose(cost[key], sum(part[key] for part in parts)) for key in _COSTS)


# ------------------------------------------------------------------------------------- values


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _in_key_order(text: str) -> str:
    """Return a JSON object with its keys in one order, any other text as it is."""
    value = _decoded(text)
    return canonical(value) if isinstance(value, dict) else text


def _without_zeros(text: str) -> str:
    return canonical({key: number for key, number in _decoded(text).items() if number})
