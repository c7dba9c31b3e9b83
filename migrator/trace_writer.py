"""Writes traces through an MLflow store: one that is half there is completed, a whole one stays.

MLflow has no request that writes a trace at once. It makes one of the spans that it gets, with
times, state and token counts of its own, and adds to the counts each time. ``start_trace``
overwrites these with the trace's own fields, its *head*, in one transaction. So spans are sent
first and the head last, and a trace without its head, or with too few spans, was cut off.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from migrator import conventions as conv

SPANS_A_CALL = 200
RELEASE_TRIES = 3  # of a server that is slow to tell its release
_SESSION = "session.id"  # of OpenTelemetry's conventions: MLflow makes metadata of it
_COUNTS = ("input_tokens", "output_tokens", "total_tokens")
# What a text of JSON begins with as JSON: an object, a list, a string, or blanks before it.
_BEFORE_JSON = ('"{', '"[', '"\\', '" ')
# Tags of the store itself, which it refuses or would write twice.
STORE_TAGS = (conv.ARTIFACT_LOCATION, conv.SPANS_LOCATION)
# Tags of ours that say how a trace came. One that came another way is whole without them.
_WAY_TAGS = (conv.MIGRATOR_VERSION, conv.MIGRATOR_SOURCE_LOCATION)

Send = Callable[..., Any]  # calls its first argument with the others, which sends one request


def send_at_once(ask: Callable[..., Any], *values: Any, **named: Any) -> Any:
    """Make a request without further ado."""
    return ask(*values, **named)


class Delivered(Enum):
    """What was done with a trace."""

    NEW = "new"
    COMPLETED = "completed"
    THERE = "there already"


@dataclass(frozen=True, slots=True)
class OutgoingTrace:
    """A trace as it is to be in a store, in MLflow's entities."""

    info: Any  # its location is the experiment in that store
    spans: Sequence[Any]
    run_ids: Sequence[str] = ()  # runs of that store that it is linked to
    prompts: Sequence[Any] = ()  # objects with a name and a version
    mark: str = ""  # tag migrator.digest, written last: the trace is complete

    @property
    def trace_id(self) -> str:
        """Its id, the same in every store."""
        trace_id: str = self.info.trace_id
        return trace_id


class TraceWriter:
    """Writes traces to one store, which is MLflow's client of a server, or of a database."""

    def __init__(
        self,
        store: Any,
        send: Send = send_at_once,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        """``send`` makes each request; it may raise anything, and the trace is cut off then.

        ``refusals`` are what it raises if the store works, and refuses the request.
        """
        self._store = store
        self._send = send
        self._refusals = refusals

    # ---------------------------------------------------------------------------- what is there
    def find(self, trace_id: str) -> Any:
        """Read a trace's head; None if the store has no such trace."""
        try:
            return self._send(self._store.get_trace_info, trace_id)
        except self._refusals as error:
            if "not found" in str(error):
                return None
            raise

    def lacks_head_or_spans(self, trace: OutgoingTrace, there: Any) -> bool:
        """Whether a trace that is there was cut off, or has less than ``trace``.

        Values that people changed since are not compared, so they stay.
        """
        wanted = trace.info
        is_open = "IN_PROGRESS"
        if there.state == is_open and wanted.state != is_open:
            return True
        tags = wanted.tags.keys() - {*STORE_TAGS, *_WAY_TAGS}
        if tags - there.tags.keys() or wanted.trace_metadata.keys() - there.trace_metadata.keys():
            return True
        return bool({span.span_id for span in trace.spans} - self._spans_of(there))

    def _spans_of(self, there: Any) -> set[str]:
        if there.tags.get(conv.SPANS_LOCATION) != conv.SPANS_IN_DATABASE:
            return set()
        found = self._send(self._store.get_trace, there.trace_id, allow_partial=True)
        return {span.span_id for span in found.data.spans}

    # ---------------------------------------------------------------------------------- writing
    def complete(self, trace: OutgoingTrace, there: Any) -> Delivered:
        """Write what a trace lacks, whose head in the store is ``there`` (None: no such trace)."""
        if there is None:
            self.write(trace)
            return Delivered.NEW
        if self.lacks_head_or_spans(trace, there):
            self.write(trace, there)
            return Delivered.COMPLETED
        is_changed = self._add_assessments(trace.info.assessments, there.assessments)
        return Delivered.COMPLETED if is_changed else Delivered.THERE

    def write(self, trace: OutgoingTrace, there: Any = None) -> Any:
        """Write a whole trace, over what is ``there`` of it; return its head in the store."""
        spans = [_with_texts_kept(span) for span in trace.spans]
        self.write_spans(trace.info.experiment_id, spans)
        return self.write_head(trace, is_there=there is not None)

    def write_spans(self, experiment_id: str, spans: Sequence[Any]) -> None:
        """Write spans, new ones or over old ones. Raises ConnectionError, and what ``send`` does.

        A server before 3.4, or on a file store, takes none: it keeps them as an artifact.
        """
        for at in range(0, len(spans), SPANS_A_CALL):
            self._send(self._log_spans, experiment_id, list(spans[at : at + SPANS_A_CALL]))

    def _log_spans(self, experiment_id: str, spans: Sequence[Any]) -> None:
        """Make one request, and again where MLflow's client could not tell the server's release.

        It asks for that first, waits 3 s, and remembers for good that it got no answer. Raises
        ConnectionError if the server never gives one.
        """
        unknown = None
        for _ in range(RELEASE_TRIES):
            try:
                self._store.log_spans(experiment_id, spans)
                return
            except NotImplementedError as error:
                if "could not identify" not in str(error):
                    return
                unknown = error
                self._store._get_server_version.cache_clear()
        raise ConnectionError(str(unknown)) from unknown

    def write_head(self, trace: OutgoingTrace, *, is_there: bool) -> Any:
        """Write links and a trace's own fields, after its spans; return its head in the store.

        ``is_there`` is True if others, or an earlier delivery, have written to the trace.
        """
        info = trace.info
        wanted = list(info.assessments)
        overriding = [each for each in wanted if each.overrides]
        there = None
        if is_there or _derives_metadata(trace):
            there = self._send(self._store.get_trace_info, info.trace_id)
            if trace.mark:
                self._delete_stale_tags(info, there)
            _keep(info, there)
        known = [] if there is None else there.assessments
        ids_there = {each.assessment_id for each in known}
        info.assessments = [
            each
            for each in info.assessments
            if not each.overrides or each.assessment_id in ids_there
        ]
        self._link(trace)
        if trace.mark and not overriding:
            info.tags[conv.MIGRATOR_DIGEST] = trace.mark
        head = self._send(self._store.start_trace, info)
        if overriding:
            self._add_assessments(wanted, info.assessments)
            if trace.mark:
                tag = (trace.trace_id, conv.MIGRATOR_DIGEST, trace.mark)
                self._send(self._store.set_trace_tag, *tag)
        return head

    def _delete_stale_tags(self, info: Any, there: Any) -> None:
        """Delete what an earlier conversion said and this one does not: that it is unfinished."""
        for key in sorted(there.tags.keys() - info.tags.keys() - set(STORE_TAGS)):
            if key.startswith("migrator."):
                self._send(self._store.delete_trace_tag, info.trace_id, key)
                del there.tags[key]

    def _link(self, trace: OutgoingTrace) -> None:
        for run_id in trace.run_ids:
            self._send(self._store.link_traces_to_run, [trace.trace_id], run_id)
        if trace.prompts:
            self._send(self._store.link_prompts_to_trace, trace.trace_id, list(trace.prompts))

    def _add_assessments(self, wanted: Sequence[Any], there: Sequence[Any]) -> bool:
        """Create the assessments that a trace lacks there. Returns False if it lacks none.

        An assessment becomes invalid only when one that overrides it is created, and valid again
        when the head is written. So one whose word doesn't count yet is created anew.
        """
        known = {each.assessment_id: each for each in there}
        is_changed = False
        for assessment in sorted(wanted, key=lambda each: each.create_time_ms or 0):
            overridden = known.get(assessment.overrides)
            if assessment.assessment_id in known:
                if overridden is None or overridden.valid is False:
                    continue
                ids = (assessment.trace_id, assessment.assessment_id)
                self._send(self._store.delete_assessment, *ids)
            self.create_assessment(assessment)
            is_changed = True
        return is_changed

    def create_assessment(self, assessment: Any) -> None:
        """Add an assessment. MLflow may send the request again whose answer was lost."""
        try:
            self._send(self._store.create_assessment, assessment)
        except self._refusals:
            there = self.find(assessment.trace_id)
            known = [] if there is None else there.assessments
            if assessment.assessment_id not in {each.assessment_id for each in known}:
                raise


def _with_texts_kept(span: Any) -> Any:
    """Encode once more the attributes that are texts of JSON: MLflow's stores decode these once.

    ``sanitize_attributes`` of ``mlflow.tracing.otel.translation`` does so, in 3.9 to texts of
    objects and strings, in 3.11 and later to those of lists, too.
    """
    attributes = span._span.attributes
    texts = {key: text for key, text in attributes.items() if _is_text_of_json(text)}
    if not texts:
        return span
    from mlflow.entities import Span

    content = span.to_dict()
    encoded = {key: json.dumps(text) for key, text in texts.items()}
    return Span.from_dict({**content, "attributes": {**content["attributes"], **encoded}})


def _is_text_of_json(encoded: Any) -> bool:
    """Whether an attribute is a text that is itself an object, a list or a string of JSON."""
    if not isinstance(encoded, str) or not encoded.startswith(_BEFORE_JSON):
        return False
    try:
        text = json.loads(encoded)
        return isinstance(text, str) and isinstance(json.loads(text), str | dict | list)
    except (ValueError, RecursionError):
        return False


def _keep(info: Any, there: Any) -> None:
    """Keep what a trace has ``there``: MLflow 3.9 fails if that is not sent again."""
    info.trace_metadata = {
        **there.trace_metadata,
        **info.trace_metadata,
        **_usage(there.trace_metadata, info.trace_metadata),
    }
    own = {key: value for key, value in there.tags.items() if key not in STORE_TAGS}
    info.tags = {**own, **info.tags}
    known = {each.assessment_id for each in info.assessments}
    others = [each for each in there.assessments if each.assessment_id not in known]
    info.assessments = [*info.assessments, *others]


def _derives_metadata(trace: OutgoingTrace) -> bool:
    """Return True if MLflow makes metadata of the spans that the trace itself lacks."""
    metadata = trace.info.trace_metadata
    has: set[str] = set()
    for span in trace.spans:
        has.update(key for key in (conv.SPAN_USAGE, _SESSION) if key in span._span.attributes)
    if conv.SPAN_USAGE in has and _lacks_counts(metadata.get(conv.TRACE_USAGE)):
        return True
    return _SESSION in has and conv.TRACE_SESSION not in metadata


def _lacks_counts(usage: str | None) -> bool:
    counts = json.loads(usage) if usage else {}
    return any(counts.get(key) is None for key in _COUNTS)


def _usage(there: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the token counts to write if the store has more of them than the trace.

    MLflow 3.9 writes 0 for a count that no span has, and fails if that is not sent again.
    """
    key = conv.TRACE_USAGE
    if key not in there or key not in wanted:
        return {}
    unknown = dict.fromkeys(json.loads(there[key]), 0)
    return {key: json.dumps({**unknown, **json.loads(wanted[key])})}
