"""Plans for traces that MLflow itself wrote (2.14 and later).

They are carried over, and changed only where MLflow 3.9 would not open them. What 3.9 needs of a
trace is in its ``SqlAlchemyStore`` and its web pages.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from migrator import conventions as conv
from migrator import encoding
from migrator.issues import Code, Issue, Kind
from migrator.model import (
    AssessmentRecord,
    Json,
    SpanEvent,
    SpanPlan,
    SpanRecord,
    SpanType,
    TokenUsage,
    TracePlan,
    TraceRecord,
)
from migrator.transformer import trace_totals
from migrator.transformer.values import as_number

MS = 1_000_000  # ns
STATES = ("OK", "ERROR", "IN_PROGRESS", "STATE_UNSPECIFIED")


def plan_native_trace(
    record: TraceRecord, version: str = ""
) -> tuple[TracePlan, tuple[Issue, ...]]:
    """Plan a native trace, with an issue for each change that was needed.

    The id becomes ``tr-`` and 32 hex digits; the old id stays in metadata, and as the client's
    request id if that is empty. The trace has exactly one root, every span an end, and values that
    break MLflow's API become text.

    A trace without spans gets a root span made of what the trace says itself, and is marked. Its
    spans are then in the database like those of all others: MLflow would otherwise open the
    recorded location, and one that can't be opened breaks the default ``search_traces`` of the
    whole experiment.
    """
    return _Native(record, version).plan()


def native_trace_id(trace_id: str) -> str:
    """The id under which a native trace is written."""
    digits = trace_id.removeprefix("tr-")
    if re.fullmatch(r"[0-9a-fA-F]{32}", digits):
        return f"tr-{digits.lower()}"
    return f"tr-{hashlib.sha256(trace_id.encode()).hexdigest()[:32]}"


@dataclass(slots=True)
class _Open:
    """A span whose place in the tree is being found."""

    record: SpanRecord
    span_id: str
    parent_id: str | None


class _Native:
    """Plans one trace. ``tags`` and ``metadata`` begin as recorded, and grow."""

    def __init__(self, record: TraceRecord, version: str) -> None:
        self.record = record
        self.version = version
        self.trace_id = native_trace_id(record.trace_id)
        self.issues: list[Issue] = []
        self.tags = _clean(record.tags)
        self.metadata = _clean(record.metadata)

    def plan(self) -> tuple[TracePlan, tuple[Issue, ...]]:
        record = self.record
        name = self.tags.get(conv.TRACE_NAME) or None
        recorded_usage = _usage_of(self.metadata.get(conv.TRACE_USAGE))
        spans = self._spans(name)
        execution_ms = record.execution_ms
        if not spans:
            spans = (self._inferred_root(name, recorded_usage),)
            self.tags[conv.MIGRATOR_INFERENCES] = conv.INFERRED_ROOT
        elif execution_ms is None and not self._has_inferred_root():
            execution_ms = max(0, spans[0].end_ns // MS - spans[0].start_ns // MS)
        root = spans[0]
        client_id = self._client_request_id()
        contents = trace_totals.contents_of(self.trace_id, spans)
        usage = recorded_usage or trace_totals.total_usage(spans)
        self._add_tags(name or root.name)
        self._add_metadata(spans, contents, usage)
        linked = [link.target_id for link in record.links if link.kind == "run"]
        run_ids = [self.metadata.get(conv.SOURCE_RUN), *linked]
        plan = TracePlan(
            trace_id=self.trace_id,
            experiment_id=record.experiment_id,
            timestamp_ms=record.timestamp_ms,
            execution_ms=execution_ms,
            status=self._state(root),
            name=name or root.name,
            client_request_id=client_id,
            request_preview=self._request_preview(root),
            response_preview=self._response_preview(root),
            tags=self.tags,
            metadata=self.metadata,
            usage=usage,
            spans=spans,
            assessments=self._assessments(),
            run_ids=tuple(dict.fromkeys(run_id for run_id in run_ids if run_id)),
            prompts=trace_totals.linked_prompts(self.tags.get(conv.LINKED_PROMPTS)),
            links=record.links,
            native=True,
            contents=contents,
        )
        return plan, tuple(self.issues)

    def _has_inferred_root(self) -> bool:
        """True if an earlier conversion made the only span, which has no time of its own."""
        return self.tags.get(conv.MIGRATOR_INFERENCES) == conv.INFERRED_ROOT

    def _client_request_id(self) -> str | None:
        """The client's id, or the recorded trace id where MLflow can't keep that."""
        record = self.record
        client_id = record.client_request_id
        if self.trace_id != record.trace_id:
            self.metadata[conv.MIGRATOR_SOURCE_TRACE] = record.trace_id
            client_id = client_id or record.trace_id
            self._issue(
                Code.TRACE_ID_CHANGED,
                f"Trace {record.trace_id} becomes {self.trace_id}.",
                f"the old id, in metadata {conv.MIGRATOR_SOURCE_TRACE}",
            )
        if client_id is not None and len(client_id) > conv.ID_COLUMN_CHARS:
            self._changed("its client request id is longer than 50 characters")
            client_id = client_id[: conv.ID_COLUMN_CHARS]
        return client_id

    def _add_tags(self, name: str) -> None:
        self.tags[conv.TRACE_NAME] = name
        self.tags[conv.SPANS_LOCATION] = conv.SPANS_IN_DATABASE
        if self.version:
            self.tags[conv.MIGRATOR_VERSION] = self.version

    def _add_metadata(
        self, spans: Sequence[SpanPlan], contents: Sequence[str], usage: TokenUsage | None
    ) -> None:
        self.metadata[conv.SCHEMA_VERSION] = "3"
        _add_sizes(self.metadata, contents)
        if usage is not None:
            self.metadata.setdefault(conv.TRACE_USAGE, trace_totals.usage_json(usage))
        if conv.TRACE_COST not in self.metadata and (cost := trace_totals.total_cost(spans)):
            self.metadata[conv.TRACE_COST] = encoding.encode(cost)

    def _assessments(self) -> tuple[AssessmentRecord, ...]:
        """The recorded assessments in the order of their ids, with values that MLflow can send."""
        return tuple(
            replace(each, value=encoding.sanitize(each.value), error=encoding.sanitize(each.error))
            for each in sorted(self.record.assessments, key=lambda each: each.assessment_id)
        )

    def _issue(self, code: Code, message: str, kept: str) -> None:
        self.issues.append(
            Issue(code, self.record.path, message, kept, Kind.TRACE, self.record.trace_id)
        )

    def _changed(self, what: str) -> None:
        self._issue(Code.TRACE_VALUE_CHANGED, f"Trace {self.record.trace_id}: {what}.", "as text")

    def _state(self, root: SpanPlan) -> str:
        """The trace's state. An open trace is closed, because 3.9 polls an open one for ever."""
        state = self.record.status if self.record.status in STATES else "STATE_UNSPECIFIED"
        if state != "IN_PROGRESS":
            return state
        self.tags[conv.MIGRATOR_UNFINISHED] = "true"
        closed = root.status if root.status != "UNSET" else "STATE_UNSPECIFIED"
        self._issue(
            Code.TRACE_SPAN_CLOSED,
            f"Trace {self.record.trace_id} was still in progress when it was last written.",
            f"its state as {closed}",
        )
        return closed

    def _request_preview(self, root: SpanPlan) -> str | None:
        own = self.record.request_preview
        if own:
            return _cut_preview(own)
        if conv.SPAN_INPUTS in root.attributes:
            return trace_totals.request_preview(trace_totals.decoded(root, conv.SPAN_INPUTS))
        recorded = self.metadata.get(conv.TRACE_INPUTS)
        return encoding.preview(recorded) if recorded else own

    def _response_preview(self, root: SpanPlan) -> str | None:
        own = self.record.response_preview
        if own:
            return _cut_preview(own)
        if conv.SPAN_OUTPUTS in root.attributes:
            return trace_totals.response_preview(trace_totals.decoded(root, conv.SPAN_OUTPUTS))
        recorded = self.metadata.get(conv.TRACE_OUTPUTS)
        return encoding.preview(recorded) if recorded else own

    # ------------------------------------------------------------------------------ spans

    def _spans(self, name: str | None) -> tuple[SpanPlan, ...]:
        """Plan the recorded spans, parents before children; nothing when there are none."""
        opened = self._with_unique_ids()
        if not opened:
            return ()
        tops, below = self._tree(opened)
        order = _parents_first(tops, below)
        ends = self._ends(order, below)
        added = self._added_root(name, tops, ends)
        spans = [added] if added is not None else []
        top_ids = {span.span_id for span in tops}
        for span in order:
            parent_id = span.parent_id
            if span.span_id in top_ids:
                parent_id = added.span_id if added is not None else None
            spans.append(self._plan_span(span.record, span.span_id, parent_id, ends[span.span_id]))
        return tuple(spans)

    def _ends(self, order: Sequence[_Open], below: Mapping[str, Sequence[_Open]]) -> dict[str, int]:
        """The end of each span in ns; a span without a usable one ends with its last child."""
        ends: dict[str, int] = {}
        closed = 0
        for span in reversed(order):
            end_ns = span.record.end_ns
            if end_ns is None or end_ns < span.record.start_ns:
                children = [ends[child.span_id] for child in below.get(span.span_id, ())]
                events = [event.time_ns for event in span.record.events]
                end_ns = max([span.record.start_ns, *children, *events])
                closed += 1
            ends[span.span_id] = end_ns
        if closed:
            spans = "1 span has" if closed == 1 else f"{closed} spans have"
            self._issue(
                Code.TRACE_SPAN_CLOSED,
                f"Trace {self.record.trace_id}: {spans} no usable end.",
                "closed at the last child or event",
            )
        return ends

    def _added_root(
        self, name: str | None, tops: Sequence[_Open], ends: Mapping[str, int]
    ) -> SpanPlan | None:
        """A root above several topmost spans; None where one span can be the root."""
        if len(tops) == 1:
            if tops[0].record.parent_span_id:
                self._issue(
                    Code.TRACE_ROOT_ADDED,
                    f"Trace {self.record.trace_id}: the parent of its topmost span is missing.",
                    "all spans; the topmost one is the root",
                )
            return None
        self._issue(
            Code.TRACE_ROOT_ADDED,
            f"Trace {self.record.trace_id} has {len(tops)} spans without a parent in it.",
            "all spans, below one that is named after the trace",
        )
        return self._root_span(
            name or tops[0].record.name,
            min(span.record.start_ns for span in tops),
            max(ends.values()),
            {conv.SPAN_TYPE: encoding.encode(SpanType.CHAIN)},
        )

    def _inferred_root(
        self,
        name: str | None,
        usage: TokenUsage | None,
    ) -> SpanPlan:
        """Make the only span of a trace without spans, from what the trace itself says.

        The extractor has named the trace: it knows why there are none.
        """
        record = self.record
        attributes = {f"{conv.LEGACY}inferences": encoding.encode([conv.INFERRED_ROOT])}
        for attribute, key, preview in (
            (conv.SPAN_INPUTS, conv.TRACE_INPUTS, record.request_preview),
            (conv.SPAN_OUTPUTS, conv.TRACE_OUTPUTS, record.response_preview),
        ):
            text = _json_of((self.metadata.get(key), self.tags.get(key), preview))
            if text is not None:
                attributes[attribute] = text
        if usage is not None:
            attributes[conv.SPAN_USAGE] = trace_totals.usage_json(usage)
        length_ms = max(0, record.execution_ms or 0)
        return self._root_span(
            name or "trace",
            _ns(record.timestamp_ms),
            _ns(record.timestamp_ms + length_ms),
            attributes,
        )

    def _root_span(
        self, name: str, start_ns: int, end_ns: int, attributes: Mapping[str, str]
    ) -> SpanPlan:
        """Make a root span that MLflow did not write; its status is the trace's."""
        span_id = encoding.span_id_of(self.trace_id, "root")
        status = self.record.status if self.record.status in ("OK", "ERROR") else "UNSET"
        events: tuple[SpanEvent, ...] = ()
        if status == "ERROR":  # without the event MLflow's page shows the span as healthy
            unknown: dict[str, Json] = {
                "exception.message": "no error text was recorded",
                "exception.type": "Error",
            }
            events = (SpanEvent("exception", end_ns, unknown),)
        record = SpanRecord(span_id, None, name, start_ns, end_ns, status, "", attributes, events)
        return self._plan_span(record, span_id, None, end_ns)

    def _with_unique_ids(self) -> list[_Open]:
        seen: dict[str, SpanRecord] = {}
        opened: list[_Open] = []
        for record in self.record.spans:
            span_id = _span_id(self.trace_id, record.span_id)
            if span_id in seen:
                if seen[span_id] == record:
                    continue
                self._changed(f"two spans have the id {record.span_id}")
                number = len(seen)
                span_id = encoding.span_id_of(self.trace_id, f"{record.span_id}/{number}")
            seen[span_id] = record
            parent = record.parent_span_id
            opened.append(
                _Open(record, span_id, _span_id(self.trace_id, parent) if parent else None)
            )
        return opened

    def _tree(self, opened: Sequence[_Open]) -> tuple[list[_Open], dict[str, list[_Open]]]:
        """The topmost spans (no parent, or it is missing, or a cut cycle); the others by parent."""

        def key(span: _Open) -> tuple[int, str]:
            return (span.record.start_ns, span.span_id)

        ids = {span.span_id for span in opened}
        by_parent: dict[str, list[_Open]] = {}
        tops: list[_Open] = []
        for span in sorted(opened, key=key):
            if span.parent_id is None or span.parent_id not in ids:
                tops.append(span)
            else:
                by_parent.setdefault(span.parent_id, []).append(span)
        reached: set[str] = set()
        for start in [*tops, *sorted(opened, key=key)]:
            if start.span_id in reached:
                continue
            if start.parent_id in ids:  # not reached from any top: part of a circle
                by_parent[start.parent_id].remove(start)
                tops.append(start)
            stack = [start]
            while stack:
                span = stack.pop()
                reached.add(span.span_id)
                stack.extend(by_parent.get(span.span_id, ()))
        return tops, by_parent

    def _plan_span(
        self, record: SpanRecord, span_id: str, parent_id: str | None, end_ns: int
    ) -> SpanPlan:
        attributes = {conv.SPAN_REQUEST_ID: encoding.encode(self.trace_id)}
        for key, text in record.attributes.items():
            if key != conv.SPAN_REQUEST_ID:
                attributes[encoding.clean_text(key)] = self._harmless(key, text)
        attributes.setdefault(conv.SPAN_TYPE, encoding.encode(SpanType.UNKNOWN))
        try:
            kind = json.loads(attributes[conv.SPAN_TYPE])
        except ValueError:
            kind = attributes[conv.SPAN_TYPE]
        status = record.status if record.status in ("OK", "ERROR", "UNSET") else "UNSET"
        events = tuple(
            SpanEvent(
                encoding.clean_text(event.name),
                event.time_ns,
                {encoding.clean_text(k): encoding.sanitize(v) for k, v in event.attributes.items()},
            )
            for event in record.events
        )
        return SpanPlan(
            span_id=span_id,
            parent_span_id=parent_id,
            name=encoding.clean_text(record.name),
            type=kind if isinstance(kind, str) and kind else SpanType.UNKNOWN,
            status=status,
            status_message=encoding.clean_text(record.status_message),
            start_ns=record.start_ns,
            end_ns=end_ns,
            attributes=attributes,
            events=events,
        )

    def _harmless(self, key: str, text: str) -> str:
        """An attribute's JSON text, unchanged unless it breaks MLflow's API."""
        try:
            value = json.loads(text)
        except ValueError:
            return encoding.clean_text(text)  # MLflow hands it out as it is
        except RecursionError:
            self._changed(f"attribute {key} is nested too deeply")
            return json.dumps(encoding.clean_text(text), ensure_ascii=False)
        harmless = encoding.sanitize(value)
        if harmless == value:
            return encoding.clean_text(text)
        self._changed(f"attribute {key} holds a value that MLflow's API can't send")
        return encoding.encode(harmless)


def _clean(texts: Mapping[str, str]) -> dict[str, str]:
    """A copy without characters that no database can store."""
    return {key: encoding.clean_text(value) for key, value in texts.items()}


def _cut_preview(text: str) -> str:
    return encoding.cut(encoding.clean_text(text), conv.PREVIEW_CHARS)


def _parents_first(tops: Sequence[_Open], below: Mapping[str, Sequence[_Open]]) -> list[_Open]:
    """All spans, every parent before its children."""
    order: list[_Open] = []
    stack = list(reversed(tops))
    while stack:
        span = stack.pop()
        order.append(span)
        stack.extend(reversed(below.get(span.span_id, ())))
    return order


def _span_id(trace_id: str, span_id: str) -> str:
    if re.fullmatch(r"[0-9a-f]{16}", span_id) and span_id != "0" * 16:
        return span_id
    return encoding.span_id_of(trace_id, span_id)


def _ns(time_ms: int) -> int:
    """Convert a time to nanoseconds, within what a span can hold: MLflow reads 0 as no time."""
    return min(max(1, time_ms * MS), conv.INT64_MAX)


def _json_of(texts: Sequence[str | None]) -> str | None:
    """Choose the first text that is whole JSON, else the longest, quoted; None if all are empty.

    MLflow cuts what a trace says of its inputs and outputs at 250 characters, previews at 1,000.
    """
    said = [text for text in texts if text]
    for text in said:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            continue
        return text
    return encoding.encode(max(said, key=len)) if said else None


def _add_sizes(metadata: dict[str, str], contents: Sequence[str]) -> None:
    """Add the sizes of the spans where the trace says none.

    MLflow takes a trace for unfinished, and leaves it out of searches, where ``num_spans`` is not
    the number of its spans: then only that number is changed, and the old entry kept beside it.
    """
    sizes = trace_totals.size_metadata(contents)
    said = metadata.get(conv.SIZE_STATS)
    if said is not None:
        stats = _object_of(said)
        if stats.get("num_spans") != len(contents):
            metadata[conv.MIGRATOR_SOURCE_SIZE_STATS] = said
            metadata[conv.SIZE_STATS] = (
                encoding.encode({**stats, "num_spans": len(contents)})
                if stats
                else sizes[conv.SIZE_STATS]
            )
    for key, value in sizes.items():
        metadata.setdefault(key, value)


def _object_of(text: str | None) -> Mapping[str, Json]:
    """Decode a JSON object; empty for anything else."""
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, Mapping) else {}


def _usage_of(text: str | None) -> TokenUsage | None:
    value = _object_of(text)
    counts = [as_number(value.get(f"{k}_tokens")) for k in ("input", "output", "total")]
    if all(count is None for count in counts):
        return None
    return TokenUsage(*(None if count is None else int(count) for count in counts))
