"""Writes one trace through the API: spans, links, and last the trace's own fields.

MLflow makes a trace of the spans that it gets, with times, state and token counts of its own, and
adds to the counts each time. ``start_trace`` overwrites these in one step, with assessments, their
ids and times. So spans go first, and an interrupted trace is sent again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from migrator import conventions, encoding
from migrator.issues import Code, Kind
from migrator.loader.rest import clashes
from migrator.loader.rest.connection import Connection, Refused
from migrator.loader.rest.digests import digest_of
from migrator.loader.rest.experiment_index import TargetExperiment
from migrator.loader.rest.limits import TRACE_METADATA_CHARS, TRACE_TAG_CHARS, lacks_counts
from migrator.model import AssessmentRecord, SpanPlan, TracePlan
from migrator.outcome.written import Written

_SPANS_A_CALL = 200
_SESSION = "session.id"  # of OpenTelemetry's conventions
# MLflow 3.17 keeps these numbers of a trace in columns. One that is not sent stays the sum over the
# spans: 0.0 for a cost that no span has.
_IN_COLUMNS = (3, 17)
_NUMBERS = {
    conventions.TRACE_USAGE: (
        "input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens",
        "cache_creation_input_tokens", "cache_creation_input_tokens_above_1hr",
    ),
    conventions.TRACE_COST: ("input_cost", "output_cost", "total_cost"),
}  # fmt: skip
_DERIVED_FROM = (conventions.SPAN_USAGE, _SESSION)
# Tags of the server itself, which it refuses or would write twice.
_NOT_SENT = (conventions.ARTIFACT_LOCATION, conventions.SPANS_LOCATION)


@dataclass(slots=True)
class TraceJob:
    """A trace on its way to the server."""

    plan: TracePlan
    experiment: TargetExperiment
    mark: str
    written: Written = field(default_factory=Written)


def mark_of(plan: TracePlan) -> str:
    """Return the mark of a trace: equal for all of our releases that plan the same trace."""
    skipped = {conventions.MIGRATOR_VERSION, *_NOT_SENT}
    tags = {key: value for key, value in plan.tags.items() if key not in skipped}
    return digest_of(plan, frozenset({"tags"})) + digest_of(_Tags(tags), frozenset())[:8]


@dataclass(frozen=True, slots=True)
class _Tags:
    tags: Mapping[str, str]


def count(plan: TracePlan, written: Written, *, new: bool) -> None:
    """Count a trace and all of its parts."""
    if plan.native:
        counts = written.converted if new else written.already_there
    else:
        counts = written.rebuilt if new else written.rebuilt_already_there
    counts.update(
        {
            Kind.TRACE: 1,
            Kind.TRACE_TAG: len(plan.tags),
            Kind.TRACE_METADATA: len(plan.metadata),
            Kind.SPAN: len(plan.spans),
            Kind.ASSESSMENT: len(plan.assessments),
        }
    )


def write(server: Connection, job: TraceJob, runs: Mapping[str, str]) -> None:
    """Write a trace; ``runs`` are the new ids of runs by their old ones. Raises TargetError.

    If the server refuses a request, the trace is rejected, with an issue.
    """
    plan = job.plan
    try:
        there = _there(server, plan.trace_id)
        difference = "" if there is None else _difference(job, there)
        if difference:
            count(plan, job.written, new=False)
            job.written.issue(
                Code.TARGET_DIFFERS, Kind.TRACE, plan.trace_id, difference,
                kept="what the target has",
            )  # fmt: skip
            return
        if there is not None and plan.native and (why := clashes.of_trace(server, plan, there)):
            raise clashes.AnotherEntity(f"the target has another one: {why}")
        _send(server, job, runs, is_there=there is not None)
    except Refused as error:
        _refuse(job, error.code, f"Trace {plan.trace_id}: {error}.")
    else:
        count(plan, job.written, new=True)


def _difference(job: TraceJob, there: Any) -> str:
    """Return why a trace of the server can't be completed, an empty text if it can."""
    trace_id = job.plan.trace_id
    if there.experiment_id != job.experiment.experiment_id:
        return f"Trace {trace_id} is in experiment {there.experiment_id} of the target."
    if _are_other_spans(there.tags, job.plan.tags):
        return (
            f"Only one of target and source has spans by MLflow for trace {trace_id}. To have the "
            "source's, delete the trace in the target and convert again."
        )
    return ""


def _send(server: Connection, job: TraceJob, runs: Mapping[str, str], *, is_there: bool) -> None:
    """Send spans and links, and last the trace's own fields. Raises Refused, TargetError."""
    plan = job.plan
    experiment_id = job.experiment.experiment_id
    spans = [_span(plan, span, experiment_id) for span in plan.spans]
    for at in range(0, len(spans), _SPANS_A_CALL):
        server.call(server.store.log_spans, experiment_id, spans[at : at + _SPANS_A_CALL])
    info = _info(job, runs)
    if is_there or _derives_metadata(plan):
        # MLflow 3.9 fails if metadata that is there is not sent again.
        there = server.call(server.store.get_trace_info, plan.trace_id)
        info.trace_metadata = {
            **there.trace_metadata,
            **info.trace_metadata,
            **_usage(there.trace_metadata, plan.metadata),
        }
        own = {key: value for key, value in there.tags.items() if key not in _NOT_SENT}
        for key in sorted(own.keys() - info.tags.keys()):
            if key.startswith("migrator."):  # such as that the trace is unfinished
                server.call(server.store.delete_trace_tag, plan.trace_id, key)
                del own[key]
        info.tags = {**own, **info.tags}
    if server.release >= _IN_COLUMNS:
        info.trace_metadata.update(_unknown_as_null(plan.metadata))
    _link(server, job, runs)
    server.call(server.store.start_trace, info)


def _there(server: Connection, trace_id: str) -> Any:
    try:
        return server.call(server.store.get_trace_info, trace_id)
    except Refused as error:
        if "not found" in str(error):
            return None
        raise


def _are_other_spans(there: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Return True if one side has an inferred root, the other spans: no call removes a span."""
    if conventions.SPANS_LOCATION not in there or conventions.MIGRATOR_DIGEST not in there:
        return False
    inferred = [tags.get(conventions.MIGRATOR_INFERENCES) for tags in (there, wanted)]
    return inferred.count(conventions.INFERRED_ROOT) == 1


def _derives_metadata(plan: TracePlan) -> bool:
    """Return True if MLflow derives metadata from the spans that the plan lacks."""
    has: set[str] = set()
    for span in plan.spans:
        has.update(key for key in _DERIVED_FROM if key in span.attributes)
    if conventions.SPAN_USAGE in has and lacks_counts(plan):
        return True
    return _SESSION in has and conventions.TRACE_SESSION not in plan.metadata


def _usage(there: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the token counts to write if the server has more of them than the plan.

    MLflow 3.9 writes 0 for a count that no span has, and fails if that is not sent again.
    """
    key = conventions.TRACE_USAGE
    if key not in there or key not in wanted:
        return {}
    unknown = dict.fromkeys(json.loads(there[key]), 0)
    return {key: json.dumps({**unknown, **json.loads(wanted[key])})}


def _unknown_as_null(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return token counts and costs with null for each unknown number."""
    said = {key: _object(metadata[key]) for key in _NUMBERS if key in metadata}
    return {
        key: json.dumps({**dict.fromkeys(_NUMBERS[key]), **numbers}, separators=(",", ":"))
        for key, numbers in said.items()
        if numbers
    }


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _refuse(job: TraceJob, code: Code, message: str) -> None:
    counted = Written()
    count(job.plan, counted, new=True)
    trace_id = job.plan.trace_id
    job.written.reject_parts(code, trace_id, message, counted.converted)
    for number in (+counted.rebuilt).values():  # what we made ourselves was not found
        job.written.issue(code, None, trace_id, message, count=number)


def _link(server: Connection, job: TraceJob, runs: Mapping[str, str]) -> None:
    plan = job.plan
    for run_id in dict.fromkeys(runs[each] for each in plan.run_ids if each in runs):
        server.call(server.store.link_traces_to_run, [plan.trace_id], run_id)
    if plan.prompts:
        versions = [_Prompt(*prompt.rsplit("/", 1)) for prompt in plan.prompts]
        server.call(server.store.link_prompts_to_trace, plan.trace_id, versions)


@dataclass(frozen=True, slots=True)
class _Prompt:
    """The fields of a prompt version that MLflow's client reads to link it."""

    name: str
    version: str


def _info(job: TraceJob, runs: Mapping[str, str]) -> Any:
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    plan = job.plan
    metadata = dict(plan.metadata)
    source_run = metadata.get(conventions.SOURCE_RUN, "")
    if source_run in runs:
        metadata[conventions.SOURCE_RUN] = runs[source_run]
    tags = {key: value for key, value in plan.tags.items() if key not in _NOT_SENT}
    location = plan.tags.get(conventions.ARTIFACT_LOCATION)
    if location and conventions.MIGRATOR_SOURCE_LOCATION not in tags:
        tags[conventions.MIGRATOR_SOURCE_LOCATION] = location
    tags[conventions.MIGRATOR_DIGEST] = job.mark
    return TraceInfo(
        trace_id=plan.trace_id,
        trace_location=TraceLocation.from_experiment_id(job.experiment.experiment_id),
        request_time=plan.timestamp_ms,
        execution_duration=plan.execution_ms,
        state=TraceState(plan.status),
        client_request_id=plan.client_request_id,
        request_preview=plan.request_preview,
        response_preview=plan.response_preview,
        trace_metadata=_cut(job, Kind.TRACE_METADATA, metadata, TRACE_METADATA_CHARS),
        tags=_cut(job, Kind.TRACE_TAG, tags, TRACE_TAG_CHARS),
        assessments=[_assessment(plan, each) for each in plan.assessments],
    )


def _cut(job: TraceJob, kind: Kind, values: Mapping[str, str], limit: int) -> dict[str, str]:
    plan = job.plan
    for key, value in values.items():
        if len(value) > limit:
            job.written.issue(
                Code.SERVER_VALUE_CUT, kind, f"{plan.trace_id}/{key}",
                f"{kind.value} {key} of trace {plan.trace_id} has {len(value):,} characters.",
                kept=f"the first {limit:,}",
            )  # fmt: skip
    return {key: value[:limit] for key, value in values.items()}


def _span(plan: TracePlan, span: SpanPlan, experiment_id: str) -> Any:
    from mlflow.entities import Span

    content = json.loads(encoding.span_content(plan.trace_id, span))
    if conventions.SPAN_EXPERIMENT_ID in span.attributes:
        content["attributes"][conventions.SPAN_EXPERIMENT_ID] = encoding.encode(experiment_id)
    return Span.from_dict(content)


def _assessment(plan: TracePlan, record: AssessmentRecord) -> Any:
    from mlflow.entities import AssessmentError, AssessmentSource, Expectation, Feedback

    shared: dict[str, Any] = {
        "name": record.name,
        "source": AssessmentSource(record.source_type, record.source_id),
        "trace_id": plan.trace_id,
        "span_id": record.span_id,
        "create_time_ms": record.created_ms,
        "last_update_time_ms": record.last_updated_ms,
        "metadata": dict(record.metadata) if record.metadata else None,
    }
    value = encoding.sanitize(record.value)
    made: Any
    if record.type == "expectation":
        made = Expectation(value=value, **shared)
        made.rationale = record.rationale
    else:
        error = None
        if isinstance(record.error, Mapping):
            error = AssessmentError.from_dictionary(dict(record.error))
        made = Feedback(value=value, error=error, rationale=record.rationale, **shared)
        made.overrides, made.valid = record.overrides, record.valid
    made.assessment_id = record.assessment_id
    return made
