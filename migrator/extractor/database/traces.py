"""Reading traces that MLflow wrote: rows, and spans from rows or from ``traces.json``.

From 3.5 on MLflow keeps spans in table ``spans``, before in an artifact below the location in tag
``mlflow.artifactLocation``. Upgrading a database moves none, so both are looked for.
"""

from __future__ import annotations

import json
import re
from typing import Any

from migrator import conventions
from migrator.extractor.database import rows as r
from migrator.extractor.database.artifacts import ArtifactFolders
from migrator.extractor.database.assets import read_links
from migrator.extractor.database.connection import Database
from migrator.extractor.database.rows import Fields, RowLog
from migrator.extractor.database.schema import CHILDREN, KNOWN
from migrator.extractor.filestore.artifacts import find_artifact_dir
from migrator.extractor.filestore.scanning import scan
from migrator.extractor.filestore.traces import SPANS, SpanReader
from migrator.issues import Code, Kind
from migrator.model import AssessmentRecord, Extracted, Json, SpanRecord, TraceEntry, TraceRecord

_STATES = frozenset({"OK", "ERROR", "IN_PROGRESS", "STATE_UNSPECIFIED"})
_TOKENS = (
    *("input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens"),
    *("cache_creation_input_tokens", "cache_creation_input_tokens_above_1hr"),
)
_COSTS = ("input_cost", "output_cost", "total_cost")
OF_TRACE = "c.source_type = 'trace'"
_HEX_ID = re.compile(r"[0-9a-f]{16}")


def read_trace(
    database: Database, name: str, places: ArtifactFolders, entry: TraceEntry
) -> Extracted[TraceRecord]:
    """Read a trace's row, tags, metadata, spans and assessments."""
    trace_id = entry.entity_id
    log = RowLog(Kind.TRACE, trace_id, name)
    columns = sorted(KNOWN["trace_info"] - {"request_id"})
    found = r.select(database, "trace_info", columns, "request_id", [trace_id])
    row = r.one_row(log, entry.path, Kind.TRACE, found[trace_id])
    if row is None:
        return log.close(None)
    for child in CHILDREN:
        if child.owner == "trace_info":
            log.found[child.kind] += r.count(database, child, [trace_id]).get(trace_id, 0)
    tags = _pairs(database, log, "trace_tags", Kind.TRACE_TAG)
    metadata = _pairs(database, log, "trace_request_metadata", Kind.TRACE_METADATA)
    _add_columns(log, row, tags, metadata)
    timestamp_ms = row.integer("timestamp_ms")
    status = (row.text("status") or "").strip().upper()
    if status == "TRACE_STATUS_UNSPECIFIED":
        status = "STATE_UNSPECIFIED"
    if status not in _STATES:
        row.unknown("status", "as STATE_UNSPECIFIED")
        status = "STATE_UNSPECIFIED"
    spans, spans_path = _spans(database, log, places, entry, timestamp_ms or 0, tags)
    if spans_path is None and not spans:
        code = Code.TRACE_NEVER_ENDED if status == "IN_PROGRESS" else Code.SPANS_MISSING
        log.add(
            code,
            entry.path,
            f"The trace has no rows in table spans, and there is no {SPANS} for it.",
            kept="the trace, with a root span made of what it says itself",
            kind=Kind.TRACE,
        )
    _check_number(log, entry, metadata, len(spans))
    if timestamp_ms is None:
        timestamp_ms = min((s.start_ns // 1_000_000 for s in spans), default=0)
        log.add(
            Code.TRACE_TIME_MISSING,
            entry.path,
            "The trace does not say when it began.",
            kept=f"{timestamp_ms} ms since 1970",
            kind=Kind.TRACE,
        )
    record = TraceRecord(
        trace_id=trace_id,
        experiment_id=entry.experiment_id or "",
        timestamp_ms=timestamp_ms,
        execution_ms=row.integer("execution_time_ms"),
        status=status,
        client_request_id=row.text("client_request_id"),
        request_preview=row.text("request_preview"),
        response_preview=row.text("response_preview"),
        tags=dict(sorted(tags.items())),
        metadata=dict(sorted(metadata.items())),
        assessments=_assessments(database, log, timestamp_ms),
        spans=tuple(spans),
        path=entry.path,
        spans_path=spans_path,
        links=read_links(database, log, OF_TRACE, Kind.TRACE_LINK),
    )
    return log.close(record)


def _pairs(database: Database, log: RowLog, table: str, kind: Kind) -> dict[str, str]:
    pairs = r.select_pairs(database, table, ("key", "value"), "request_id", [log.entity_id])
    return r.key_values(log, log.place(table, log.entity_id), pairs[log.entity_id], kind)


def _add_columns(log: RowLog, row: Fields, tags: dict[str, str], metadata: dict[str, str]) -> None:
    """Add the tags and metadata that 3.17 keeps in columns of ``trace_info``."""
    name = row.text("trace_name")
    if name is not None and conventions.TRACE_NAME not in tags:
        tags[conventions.TRACE_NAME] = name
        log.found[Kind.TRACE_TAG] += 1
    tokens = {column: row.integer(column) for column in _TOKENS if row.raw(column) is not None}
    costs = {column: row.raw(column) for column in _COSTS if row.raw(column) is not None}
    for key, value in (
        (conventions.TRACE_SESSION, row.text("session_id")),
        (conventions.TRACE_USAGE, json.dumps(tokens) if tokens else None),
        (conventions.TRACE_COST, json.dumps(costs) if costs else None),
    ):
        if value is not None and key not in metadata:
            metadata[key] = value
            log.found[Kind.TRACE_METADATA] += 1


def _check_number(log: RowLog, entry: TraceEntry, metadata: dict[str, str], number: int) -> None:
    """Name a trace that has fewer spans than MLflow counted when it wrote them."""
    try:
        stats = json.loads(metadata.get(conventions.SIZE_STATS, "{}"))
    except (ValueError, RecursionError):
        return
    written = stats.get("num_spans") if isinstance(stats, dict) else None
    if isinstance(written, int) and 0 < number < written:
        log.add(
            Code.SPANS_DAMAGED,
            entry.path,
            f"MLflow wrote {written:,} spans, and {number:,} {'is' if number == 1 else 'are'} "
            "there.",
            kept="the trace, and the spans that are there",
            kind=Kind.TRACE,
        )


def _spans(
    database: Database,
    log: RowLog,
    places: ArtifactFolders,
    entry: TraceEntry,
    begin_ms: int,
    tags: dict[str, str],
) -> tuple[list[SpanRecord], str | None]:
    """A trace's spans, and the path of the artifact that holds them if they are not in rows."""
    trace_id = entry.entity_id
    columns = sorted(KNOWN["spans"] - {"trace_id"})
    found = r.select(database, "spans", columns, "trace_id", [trace_id])[trace_id]
    reader = SpanReader(log, trace_id, log.place("spans", trace_id), begin_ms)
    for position, values in enumerate(sorted(found, key=_by_start)):
        reader.add(_raw_span(log, values, position), position)
    if found:
        return reader.records, None
    location = tags.get(conventions.ARTIFACT_LOCATION, "")
    tail = places.tail(Kind.TRACE, entry)
    folder = find_artifact_dir(log, None, False, tail, places.elsewhere, location)
    path = None if folder is None else scan(folder, folder).file(SPANS)
    if path is None:
        return [], None
    reader = SpanReader(log, trace_id, path, begin_ms)
    reader.read()
    return reader.records, path


def _raw_span(log: RowLog, values: dict[str, Any], position: int) -> dict[str, Any]:
    """A row as MLflow's JSON of a span. MLflow joins by the columns, so the ids in them count;
    all else is in ``content``."""
    raw = _content(log, values, position)
    span_id, parent_id = values["span_id"], values["parent_span_id"]
    if isinstance(span_id, str) and _HEX_ID.fullmatch(span_id):
        raw["span_id"] = span_id
    if parent_id is None or (isinstance(parent_id, str) and _HEX_ID.fullmatch(parent_id)):
        raw["parent_span_id"] = parent_id
    return raw


def _content(log: RowLog, values: dict[str, Any], position: int) -> dict[str, Any]:
    content = values["content"]
    try:
        parsed = json.loads(content) if isinstance(content, (str, bytes)) else content
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        return dict(parsed)
    log.add(
        Code.SPAN_REPAIRED,
        f"{log.place('spans', log.entity_id, values['span_id'])}.content",
        f"The content of span {position} is not a JSON object.",
        kept="its name, type, status and times, from its columns",
        kind=Kind.SPAN,
    )
    attributes = {} if values["type"] is None else {conventions.SPAN_TYPE: values["type"]}
    return {
        "span_id": values["span_id"],
        "name": values["name"],
        "start_time_unix_nano": values["start_time_unix_nano"],
        "end_time_unix_nano": values["end_time_unix_nano"],
        "status": {"code": values["status"]},
        "attributes": attributes,
    }


def _by_start(values: dict[str, Any]) -> tuple[int, str]:
    start = values["start_time_unix_nano"]
    return start if isinstance(start, int) else 0, str(values["span_id"])


# --------------------------------------------------------------------------------- assessments


def _assessments(
    database: Database, log: RowLog, timestamp_ms: int
) -> tuple[AssessmentRecord, ...]:
    table, trace_id = "assessments", log.entity_id
    columns = sorted(KNOWN[table] - {"trace_id"})
    found = r.select(database, table, columns, "trace_id", [trace_id])[trace_id]
    records: dict[str, AssessmentRecord] = {}
    for values in found:
        path = log.place(table, values["assessment_id"])
        record = _assessment(log, Fields(log, path, Kind.ASSESSMENT, values), timestamp_ms)
        if record is None:
            continue
        other = records.setdefault(record.assessment_id, record)
        if other is not record:
            r.repeated(log, path, Kind.ASSESSMENT, is_equal=other == record)
    return tuple(sorted(records.values(), key=lambda a: (a.created_ms, a.assessment_id)))


def _assessment(log: RowLog, row: Fields, timestamp_ms: int) -> AssessmentRecord | None:
    kind = row.text("assessment_type")
    name, assessment_id = row.text("name"), row.text("assessment_id")
    if not name or not assessment_id or kind not in ("feedback", "expectation"):
        missing = "a type that MLflow 3.9 does not know" if name and assessment_id else "no name"
        log.add(Code.ASSESSMENT_DAMAGED, row.path, f"It has {missing}.", kind=Kind.ASSESSMENT)
        return None
    value, error = _json(log, row, "value"), _json(log, row, "error")
    if value is None and error is None:
        message = "It has neither value nor error."
        log.add(Code.ASSESSMENT_DAMAGED, row.path, message, kind=Kind.ASSESSMENT)
        return None
    metadata = _json(log, row, "assessment_metadata")
    created_ms, updated_ms = row.integer("created_timestamp"), row.integer("last_updated_timestamp")
    if created_ms is None:
        created_ms = timestamp_ms if updated_ms is None else updated_ms
        log.add(
            Code.ASSESSMENT_REPAIRED, row.path, "It does not say when it was made.",
            kept=f"as made at {created_ms} ms", kind=Kind.ASSESSMENT,
        )  # fmt: skip
    source_type = (row.text("source_type") or "").strip().upper()
    source_type = {"AI_JUDGE": "LLM_JUDGE"}.get(source_type, source_type)
    if source_type not in ("HUMAN", "LLM_JUDGE", "CODE"):
        source_type = "CODE" if kind == "feedback" else "HUMAN"  # MLflow's own defaults
        row.unknown("source_type", f"as {source_type}")
    return AssessmentRecord(
        assessment_id=assessment_id,
        name=name,
        type=kind,
        value=value,
        error=error if isinstance(error, dict) else None,
        source_type=source_type,
        source_id=row.text("source_id"),
        created_ms=created_ms,
        last_updated_ms=created_ms if updated_ms is None else updated_ms,
        run_id=row.text("run_id"),
        span_id=row.text("span_id"),
        rationale=row.text("rationale"),
        overrides=row.text("overrides"),
        valid=row.raw("valid") not in (0, False, "0", "false"),
        metadata=_texts(metadata),
    )


def _texts(value: Json) -> dict[str, str] | None:
    if not isinstance(value, dict) or not value:
        return None
    return {str(key): item if isinstance(item, str) else json.dumps(item)
            for key, item in value.items()}  # fmt: skip


def _json(log: RowLog, row: Fields, column: str) -> Json:
    """A column's JSON value; text that is not JSON is the value itself, and named."""
    text = row.text(column)
    if text is None:
        return None
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        log.add(
            Code.ASSESSMENT_REPAIRED,
            f"{row.path}.{column}",
            "The value is not JSON.",
            kept="as text",
            kind=Kind.ASSESSMENT,
        )
        return text
    return value
