"""Makes MLflow's entities of a planned trace, and has them written through the API.

``migrator.trace_writer`` writes them; here it is decided what may be written at all.
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
from migrator.loader.rest.limits import TRACE_METADATA_CHARS, TRACE_TAG_CHARS
from migrator.model import AssessmentRecord, SpanPlan, TracePlan
from migrator.outcome.ledger import trace_counts_of
from migrator.outcome.written import Written
from migrator.trace_writer import STORE_TAGS, Delivered, OutgoingTrace, TraceWriter

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
_UNLINKED = "+unlinked"  # end of a mark: runs that the trace is linked to were not there


@dataclass(slots=True)
class TraceJob:
    """A trace on its way to the server."""

    plan: TracePlan
    experiment: TargetExperiment
    mark: str
    written: Written = field(default_factory=Written)
    is_refused: bool = False


def mark_of(plan: TracePlan, runs: Mapping[str, str]) -> str:
    """Return the mark of a trace: equal for all of our releases that plan the same trace.

    It is another one while runs that the trace is linked to are not among ``runs``: when they
    come, the trace is written again with its links.
    """
    skipped = {conventions.MIGRATOR_VERSION, *STORE_TAGS}
    tags = {key: value for key, value in plan.tags.items() if key not in skipped}
    left_out = frozenset({"tags"} if plan.links else {"tags", "links"})  # earlier releases had none
    mark = digest_of(plan, left_out) + digest_of(_Tags(tags), frozenset())[:8]
    linked = {*plan.run_ids, plan.metadata.get(conventions.SOURCE_RUN, "")} - {""}
    return mark if linked <= runs.keys() else mark + _UNLINKED


@dataclass(frozen=True, slots=True)
class _Tags:
    tags: Mapping[str, str]


def count(plan: TracePlan, written: Written, *, new: bool) -> None:
    """Count a trace and all of its parts."""
    if plan.native:
        counts = written.converted if new else written.already_there
    else:
        counts = written.rebuilt if new else written.rebuilt_already_there
    counts.update(trace_counts_of(plan))


def count_there(plan: TracePlan, written: Written, runs: Mapping[str, str]) -> None:
    """Count a trace that is complete on the server, but for links that the API can't make."""
    count(plan, written, new=False)
    _refuse_links(plan, written, runs, new=False)


def write(server: Connection, job: TraceJob, runs: Mapping[str, str]) -> None:
    """Write a trace; ``runs`` are the new ids of runs by their old ones. Raises TargetError.

    If the server refuses a request, the trace is rejected, with an issue.
    """
    plan = job.plan
    try:
        writer = TraceWriter(server.store, server.call, (Refused,))
        there = writer.find(plan.trace_id)
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
        is_new = _deliver(writer, _outgoing(server, job, runs), there)
    except Refused as error:
        _refuse(job, error.code, f"Trace {plan.trace_id}: {error}.")
    else:
        count(plan, job.written, new=is_new)
        _refuse_links(plan, job.written, runs, new=is_new)


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


def _deliver(writer: TraceWriter, outgoing: OutgoingTrace, there: Any) -> bool:
    """Write a trace, or what it lacks. Returns False if it lacked nothing.

    One that a conversion marked is written whole again, because its source has changed since.
    Raises Refused, TargetError.
    """
    if there is not None and conventions.MIGRATOR_DIGEST in there.tags:
        writer.write(outgoing, there)
        return True
    return writer.complete(outgoing, there) is not Delivered.THERE


def _outgoing(server: Connection, job: TraceJob, runs: Mapping[str, str]) -> OutgoingTrace:
    plan = job.plan
    info = _info(job, runs)
    if server.release >= _IN_COLUMNS:
        info.trace_metadata.update(_unknown_as_null(plan.metadata))
    experiment_id = job.experiment.experiment_id
    linked = [link.target_id for link in plan.all_links if link.kind == "run"]
    prompts = [link.target_id for link in plan.all_links if link.kind == "prompt_version"]
    return OutgoingTrace(
        info,
        [_span(plan, span, experiment_id) for span in plan.spans],
        tuple(dict.fromkeys(runs[each] for each in linked if each in runs)),
        tuple(_Prompt(*prompt.rsplit("/", 1)) for prompt in prompts if "/" in prompt),
        job.mark,
    )


def _are_other_spans(there: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Return True if one side has an inferred root, the other spans: no call removes a span."""
    if conventions.SPANS_LOCATION not in there or conventions.MIGRATOR_DIGEST not in there:
        return False
    inferred = [tags.get(conventions.MIGRATOR_INFERENCES) for tags in (there, wanted)]
    return inferred.count(conventions.INFERRED_ROOT) == 1


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
    job.is_refused = True
    counted = Written()
    count(job.plan, counted, new=True)
    trace_id = job.plan.trace_id
    job.written.reject_parts(code, trace_id, message, counted.converted)
    for number in (+counted.rebuilt).values():  # what we made ourselves was not found
        job.written.issue(code, None, trace_id, message, count=number)


def _refuse_links(plan: TracePlan, written: Written, runs: Mapping[str, str], *, new: bool) -> None:
    """Reject the source's links that the API can't make: to other things, or runs that it lacks.

    They were counted with the trace, as written (``new``) or there already.
    """
    counted = written.converted if new else written.already_there
    for link in plan.links:
        if link.kind == "prompt_version" or (link.kind == "run" and link.target_id in runs):
            continue
        counted[Kind.TRACE_LINK] -= 1
        written.issue(
            Code.SERVER_REFUSED, Kind.TRACE_LINK, plan.trace_id,
            f"Trace {plan.trace_id} is linked to {link.kind.replace('_', ' ')} {link.target_id}, "
            "which the server has not.",
        )  # fmt: skip


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
    tags = {key: value for key, value in plan.tags.items() if key not in STORE_TAGS}
    location = plan.tags.get(conventions.ARTIFACT_LOCATION)
    if location and conventions.MIGRATOR_SOURCE_LOCATION not in tags:
        tags[conventions.MIGRATOR_SOURCE_LOCATION] = location
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
