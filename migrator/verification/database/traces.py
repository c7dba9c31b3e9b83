"""Compares traces with their spans, assessments, token counts and links."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from migrator import conventions
from migrator.issues import Kind
from migrator.model import LinkRecord, SpanPlan, SpanType, TracePlan
from migrator.verification.database.assets import compare_links
from migrator.verification.database.opening import Database
from migrator.verification.findings import MISSING, NOTHING, Entity, Findings
from migrator.verification.reading import Unreadable, read_entity
from migrator.verification.traces import client_of, compare_assessment, compare_search
from migrator.verification.values import canonical, is_same_from_column, span_count

_TRACES_PER_CHUNK = 200
_SPANS_PER_CHUNK = 5000
_SERVED_FROM_COLUMNS = {
    conventions.TRACE_SESSION,
    conventions.TRACE_USAGE,
    conventions.TRACE_COST,
}


class TraceComparison:
    """Compares traces in chunks."""

    def __init__(self, database: Database, findings: Findings) -> None:
        self._tracking = database.tracking
        self._client = client_of(database.tracking, database.uri)
        self._findings = findings
        self._traces: list[tuple[TracePlan, int]] = []
        self._spans = 0
        self.trace_ids: dict[int, set[str]] = defaultdict(set)  # found, by experiment

    def add(self, plan: TracePlan, experiment_id: int) -> None:
        """Expect a trace."""
        self._traces.append((plan, experiment_id))
        self._spans += len(plan.spans)
        if len(self._traces) >= _TRACES_PER_CHUNK or self._spans >= _SPANS_PER_CHUNK:
            self._compare_traces()

    def flush(self) -> None:
        """Compare what is still buffered."""
        self._compare_traces()

    def search(self, experiment_ids: Iterable[int]) -> None:
        """Run MLflow's search on these experiments, and on those of the traces."""
        for experiment_id in sorted({*experiment_ids, *self.trace_ids}):
            name = str(experiment_id)
            search = partial(read_entity, self._client.search_traces, locations=[name])
            compare_search(self._findings, search, name, self.trace_ids[experiment_id])

    def _compare_traces(self) -> None:
        traces, self._traces, self._spans = self._traces, [], 0
        found = self._find_traces([plan.trace_id for plan, _ in traces])
        rows = self._trace_rows(list(found))
        for plan, experiment_id in traces:
            self._findings.count_recounted(plan)
            entity = found[plan.trace_id]
            of = self._findings.entity(Kind.TRACE, plan.trace_id, entity)
            if of is None:
                self._findings.count(Kind.SPAN, len(plan.spans))
                continue
            self.trace_ids[experiment_id].add(plan.trace_id)
            self._compare_trace(of, plan, experiment_id, entity.info)
            self._compare_assessments(of, plan, entity.info)
            self._compare_tokens(of, plan, rows.tokens[plan.trace_id])
            self._compare_spans(plan, experiment_id, entity.data.spans, rows.spans[plan.trace_id])
            of.count(Kind.TRACE_LINK, len(plan.all_links))
            compare_links(of, _links_of(plan), rows.links[plan.trace_id])

    def _find_traces(self, trace_ids: Sequence[str]) -> dict[str, Any]:
        """Return MLflow's traces by id.

        A trace that MLflow can't give whole (a span row is missing or can't be parsed) is not in
        the batch, or makes it fail. It is then read alone, with the spans that MLflow still gives.
        """
        if not trace_ids:
            return {}
        batch = read_entity(self._tracking.batch_get_traces, list(trace_ids))
        whole = () if isinstance(batch, Unreadable) else batch
        found = {trace.info.trace_id: trace for trace in whole}
        for trace_id in trace_ids:
            if trace_id not in found:
                found[trace_id] = self._find_trace(trace_id)
        return found

    def _find_trace(self, trace_id: str) -> Any:
        from mlflow.entities import Trace, TraceData

        trace = read_entity(self._tracking.get_trace, trace_id, allow_partial=True)
        if not isinstance(trace, Unreadable):
            return trace
        info = read_entity(self._tracking.get_trace_info, trace_id)
        if info is None or isinstance(info, Unreadable):
            return info
        return Trace(info=info, data=TraceData(spans=[]))

    def _trace_rows(self, trace_ids: Sequence[str]) -> _TraceRows:
        """Return the columns that searches and charts read, and that no entity carries."""
        from mlflow.store.tracking.dbmodels import models

        rows = _TraceRows()
        info, span = models.SqlTraceInfo, models.SqlSpan
        with self._tracking.ManagedSessionMaker() as session:
            for row in session.query(
                span.trace_id,
                span.experiment_id,
                span.span_id,
                span.parent_span_id,
                span.name,
                span.type,
                span.status,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
            ).filter(span.trace_id.in_(trace_ids)):
                rows.spans[row.trace_id][row.span_id] = row
            link = models.SqlEntityAssociation
            of_traces = (link.source_type == "trace", link.source_id.in_(trace_ids))
            for row in session.query(link).filter(*of_traces):
                key = (row.destination_type, row.destination_id)
                rows.links[row.source_id][key] = row.created_time
            if hasattr(info, "input_tokens"):  # 3.17 and later keep the token counts in columns
                query = session.query(
                    info.request_id, info.input_tokens, info.output_tokens, info.total_tokens
                ).filter(info.request_id.in_(trace_ids))
                for row in query:
                    counts = row._asdict()
                    trace_id = counts.pop("request_id")
                    rows.tokens[trace_id] = {k: v for k, v in counts.items() if v is not None}
            else:
                metrics = models.SqlTraceMetrics
                for row in session.query(metrics).filter(metrics.request_id.in_(trace_ids)):
                    rows.tokens[row.request_id][row.key] = row.value
        return rows

    def _compare_trace(self, of: Entity, plan: TracePlan, experiment_id: int, info: Any) -> None:
        of.check("experiment_id", str(experiment_id), info.experiment_id)
        of.check("timestamp_ms", plan.timestamp_ms, info.request_time)
        of.check("execution_ms", plan.execution_ms, info.execution_duration)
        of.check("status", plan.status, info.state.value)
        of.check("client_request_id", plan.client_request_id, info.client_request_id)
        of.check("request_preview", plan.request_preview, info.request_preview)
        of.check("response_preview", plan.response_preview, info.response_preview)
        of.mapping(Kind.TRACE_TAG, "tag", plan.tags, info.tags)
        metadata = dict(info.trace_metadata)
        from_columns = _SERVED_FROM_COLUMNS if self._serves_from_columns else set()
        for key in from_columns & plan.metadata.keys() & metadata.keys():
            if is_same_from_column(plan.metadata[key], metadata[key]):
                metadata[key] = plan.metadata[key]
        # Token usage is served even where only its rows were written.
        usage = from_columns & {conventions.TRACE_USAGE} if plan.usage else set()
        of.mapping(Kind.TRACE_METADATA, "metadata", plan.metadata, metadata, allowed=usage)
        stats = info.trace_metadata.get(conventions.SIZE_STATS)
        if stats is not None:
            of.check("number of spans in size stats", len(plan.spans), span_count(stats))

    @property
    def _serves_from_columns(self) -> bool:
        from mlflow.store.tracking.dbmodels.models import SqlTraceInfo

        return hasattr(SqlTraceInfo, "session_id")

    def _compare_assessments(self, of: Entity, plan: TracePlan, info: Any) -> None:
        found = {item.assessment_id: item for item in info.assessments}
        expected = {item.assessment_id for item in plan.assessments}
        for assessment_id in sorted(found.keys() - expected):
            of.differs(f"assessment {assessment_id}", NOTHING, found[assessment_id].name)
        for record in plan.assessments:
            item = found.get(record.assessment_id)
            name = f"{plan.trace_id}/{record.assessment_id}"
            compare_assessment(self._findings.entity(Kind.ASSESSMENT, name, item), record, item)

    def _compare_tokens(self, of: Entity, plan: TracePlan, found: Mapping[str, float]) -> None:
        usage = plan.usage
        expected: dict[str, int] = {}
        if usage is not None:
            counts = {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "total_tokens": usage.total_tokens,
            }
            expected = {key: count for key, count in counts.items() if count is not None}
        for key in sorted(expected.keys() | found.keys()):
            of.check(f"token metric {key}", expected.get(key, NOTHING), found.get(key, MISSING))

    def _compare_spans(
        self, plan: TracePlan, experiment_id: int, found: Sequence[Any], rows: Mapping[str, Any]
    ) -> None:
        by_id = {span.span_id: span for span in found}
        expected = {span.span_id for span in plan.spans}
        for span_id in sorted((by_id.keys() | rows.keys()) - expected):
            name = by_id[span_id].name if span_id in by_id else rows[span_id].name
            self._findings.differs(
                Kind.SPAN, f"{plan.trace_id}/{span_id}", "span", NOTHING, str(name)
            )
        for span in plan.spans:
            name = f"{plan.trace_id}/{span.span_id}"
            of = self._findings.entity(Kind.SPAN, name, by_id.get(span.span_id))
            if of is not None:
                _compare_span(of, plan, span, by_id[span.span_id])
                _compare_span_row(of, span, experiment_id, rows.get(span.span_id))


def _compare_span(of: Entity, plan: TracePlan, span: SpanPlan, found: Any) -> None:
    """Compare a span with what MLflow makes of its content."""
    from mlflow.tracing.otel.translation import translate_loaded_span

    attributes = dict(translate_loaded_span({"attributes": dict(span.attributes)})["attributes"])
    data = found.to_dict()
    of.check("trace_id", plan.trace_id, found.trace_id)
    of.check("parent", span.parent_span_id, found.parent_id)
    of.check("name", span.name, found.name)
    of.check("type", span.type, found.span_type or SpanType.UNKNOWN)
    of.check("status", span.status, found.status.status_code.value)
    if span.status == "ERROR":
        of.check("status message", span.status_message, found.status.description or "")
    of.check("start_ns", span.start_ns, found.start_time_ns)
    of.check("end_ns", span.end_ns, found.end_time_ns)
    of.mapping(Kind.SPAN, "attribute", attributes, data["attributes"], counted=False)
    of.check(
        "events",
        [(event.name, event.time_ns, canonical(event.attributes)) for event in span.events],
        [(event.name, event.timestamp, canonical(event.attributes)) for event in found.events],
    )


def _compare_span_row(of: Entity, span: SpanPlan, experiment_id: int, row: Any) -> None:
    """Compare a span with the columns that span filters and charts read."""
    if row is None:
        of.differs("row", "one", MISSING)
        return
    of.check("column experiment_id", experiment_id, row.experiment_id)
    of.check("column parent_span_id", span.parent_span_id, row.parent_span_id)
    of.check("column name", span.name, row.name)
    of.check("column type", span.type, row.type)
    of.check("column status", span.status, row.status)
    of.check("column start_time_unix_nano", span.start_ns, row.start_time_unix_nano)
    of.check("column end_time_unix_nano", span.end_ns, row.end_time_unix_nano)


@dataclass(slots=True)
class _TraceRows:
    spans: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    tokens: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    links: dict[str, dict[tuple[str, str], int]] = field(default_factory=lambda: defaultdict(dict))


def _links_of(plan: TracePlan) -> tuple[LinkRecord, ...]:
    """The links of a trace. Only the source's have a time: MLflow dates others by its clock."""
    undated = [replace(link, created_ms=None) for link in plan.all_links if link not in plan.links]
    return (*plan.links, *undated)
