"""One trace through the API: spans, links, and last what is known of the whole.

MLflow makes a trace of the spans that it gets, with times, state and token counts of its own, and
adds counts each time. What ``start_trace`` says is written over that, in one step, assessments
with their ids and times included. So spans go first, and a trace that was cut off is sent again.
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
from migrator.loader.rest.experiment_index import Home
from migrator.loader.rest.limits import TRACE_METADATA_CHARS, TRACE_TAG_CHARS, lacks_counts
from migrator.loader.rest.tally import Tally, digest_of
from migrator.model import AssessmentRecord, SpanPlan, TracePlan

_SPANS_A_CALL = 200
_SESSION = "session.id"  # of OpenTelemetry's conventions
# MLflow 3.17 keeps these numbers of a trace in columns, and what is not said of one stays as it
# summed it up of the spans, a cost that no span has as 0.0.
_IN_COLUMNS = (3, 17)
_NUMBERS = {
    conventions.TRACE_USAGE: (
        "input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens",
        "cache_creation_input_tokens", "cache_creation_input_tokens_above_1hr",
    ),
    conventions.TRACE_COST: ("input_cost", "output_cost", "total_cost"),
}  # fmt: skip
_TOLD = (conventions.SPAN_USAGE, _SESSION)
# The server's own, which it refuses or would write twice.
_NOT_SENT = (conventions.ARTIFACT_LOCATION, conventions.SPANS_LOCATION)


@dataclass(slots=True)
class TraceJob:
    """A trace on its way to the server."""

    plan: TracePlan
    home: Home
    mark: str
    tally: Tally = field(default_factory=Tally)


def mark_of(plan: TracePlan) -> str:
    """Return the mark of a trace: the same for every release of ours that makes the same of it."""
    skipped = {conventions.MIGRATOR_VERSION, *_NOT_SENT}
    tags = {key: value for key, value in plan.tags.items() if key not in skipped}
    return digest_of(plan, frozenset({"tags"})) + digest_of(_Tags(tags), frozenset())[:8]


@dataclass(frozen=True, slots=True)
class _Tags:
    tags: Mapping[str, str]


def count(plan: TracePlan, tally: Tally, *, new: bool) -> None:
    """Count a trace and all that is in it."""
    if plan.native:
        counts = tally.converted if new else tally.already_there
    else:
        counts = tally.rebuilt if new else tally.rebuilt_already_there
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

    What the server refuses is one rejected trace.
    """
    plan = job.plan
    try:
        there = _there(server, plan.trace_id)
        if there is not None and there.experiment_id != job.home.experiment_id:
            count(plan, job.tally, new=False)
            job.tally.issue(
                Code.TARGET_DIFFERS, Kind.TRACE, plan.trace_id,
                f"Trace {plan.trace_id} is in experiment {there.experiment_id} of the target.",
                kept="what the target has",
            )  # fmt: skip
            return
        if there is not None and _are_other_spans(there.tags, plan.tags):
            count(plan, job.tally, new=False)
            job.tally.issue(
                Code.TARGET_DIFFERS, Kind.TRACE, plan.trace_id,
                f"Of trace {plan.trace_id}, only one of target and source has spans by MLflow. "
                "To have the source's, delete the trace in the target and convert again.",
                kept="what the target has",
            )  # fmt: skip
            return
        if there is not None and plan.native and (why := clashes.of_trace(server, plan, there)):
            raise clashes.AnotherEntity(f"the target has another one: {why}")
        spans = [_span(plan, span, job.home.experiment_id) for span in plan.spans]
        for at in range(0, len(spans), _SPANS_A_CALL):
            part = spans[at : at + _SPANS_A_CALL]
            server.call(server.store.log_spans, job.home.experiment_id, part)
        info = _info(job, runs)
        if there is not None or _is_told_more(plan):
            # What stands there and is not said again would be an error in MLflow 3.9.
            there = server.call(server.store.get_trace_info, plan.trace_id)
            info.trace_metadata = {
                **there.trace_metadata,
                **info.trace_metadata,
                **_usage(there.trace_metadata, plan.metadata),
            }
            own = {key: value for key, value in there.tags.items() if key not in _NOT_SENT}
            info.tags = {**own, **info.tags}
        if server.release >= _IN_COLUMNS:
            info.trace_metadata.update(_unknown_as_null(plan.metadata))
        _link(server, job, runs)
        server.call(server.store.start_trace, info)
    except Refused as error:
        _refuse(job, error.code, f"Trace {plan.trace_id}: {error}.")
    else:
        count(plan, job.tally, new=True)


def _there(server: Connection, trace_id: str) -> Any:
    try:
        return server.call(server.store.get_trace_info, trace_id)
    except Refused as error:
        if "not found" in str(error):
            return None
        raise


def _are_other_spans(there: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether either side has an inferred root where the other has spans: no call takes one out."""
    if conventions.SPANS_LOCATION not in there or conventions.MIGRATOR_DIGEST not in there:
        return False
    inferred = [tags.get(conventions.MIGRATOR_INFERENCES) for tags in (there, wanted)]
    return inferred.count(conventions.INFERRED_ROOT) == 1


def _is_told_more(plan: TracePlan) -> bool:
    """Tell whether MLflow makes metadata of the spans that the plan does not have."""
    has = {key for span in plan.spans for key in _TOLD if key in span.attributes}
    if conventions.SPAN_USAGE in has and lacks_counts(plan):
        return True
    return _SESSION in has and conventions.TRACE_SESSION not in plan.metadata


def _usage(there: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the token counts to write, if those that stand there are more than the plan knows.

    MLflow 3.9 writes 0 for a count that no span has, and fails when that is not said again.
    """
    key = conventions.TRACE_USAGE
    if key not in there or key not in wanted:
        return {}
    unknown = dict.fromkeys(json.loads(there[key]), 0)
    return {key: json.dumps({**unknown, **json.loads(wanted[key])})}


def _unknown_as_null(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return token counts and cost so that they say also what is not known."""
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
    counted = Tally()
    count(job.plan, counted, new=True)
    for kind, n in (+counted.converted + counted.rebuilt).items():
        of_source = kind if job.plan.native else None  # what we made ourselves was not found
        job.tally.refuse(code, of_source, job.plan.trace_id, message, n)


def _link(server: Connection, job: TraceJob, runs: Mapping[str, str]) -> None:
    plan = job.plan
    for run_id in dict.fromkeys(runs[each] for each in plan.run_ids if each in runs):
        server.call(server.store.link_traces_to_run, [plan.trace_id], run_id)
    if plan.prompts:
        versions = [_Prompt(*prompt.rsplit("/", 1)) for prompt in plan.prompts]
        server.call(server.store.link_prompts_to_trace, plan.trace_id, versions)


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What MLflow's client reads of a prompt version to link it."""

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
        trace_location=TraceLocation.from_experiment_id(job.home.experiment_id),
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
            job.tally.issue(
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
