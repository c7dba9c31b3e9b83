"""Reading the traces that MLflow itself wrote (2.14 and later), with their spans.

A trace's directory holds ``trace_info.yaml`` (``mlflow.entities.TraceInfoV2`` up to 3.1,
``TraceInfo`` from 3.2 on), ``request_metadata/``, ``tags/``, ``assessments/`` (3.2 and later) and
``artifacts/traces.json``. The spans have three forms there (``mlflow.entities.span``): that of 2.x
(``context``, times in ``start_time``), that of OpenTelemetry (3.x, ids in base64 or hex), and
what people wrote by hand (``{info, data: {spans}}``, inputs and outputs beside the attributes).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from migrator import conventions, encoding
from migrator.counting import counted
from migrator.extractor.filestore.artifacts import NO_PLACES, ArtifactPlaces, find_artifact_dir
from migrator.extractor.filestore.junk_names import is_junk
from migrator.extractor.filestore.layout import store_of
from migrator.extractor.filestore.read_log import ReadLog
from migrator.extractor.filestore.scanning import FileTooLarge, read_bytes, reason, scan
from migrator.extractor.filestore.yamlfile import Meta, clean, iso_ms, read_meta, whole
from migrator.issues import Code, Kind
from migrator.model import (
    AssessmentRecord,
    Extracted,
    Json,
    SpanEvent,
    SpanRecord,
    TraceEntry,
    TraceRecord,
)

INFO = "trace_info.yaml"
SPANS = "traces.json"
SPANS_LIMIT_BYTES = 256 << 20
_FOLDERS = frozenset({"request_metadata", "tags", "artifacts", "assessments"})
_INFO_KEYS = frozenset(
    {"request_id", "trace_id", "timestamp_ms", "request_time", "status", "state"}
    | {"execution_time_ms", "execution_duration_ms", "trace_location", "experiment_id"}
)
_KNOWN_OF_TRACE = _INFO_KEYS | {
    *("execution_duration", "client_request_id", "request_preview", "response_preview"),
    "assessments",
}
_KNOWN_OF_LOCATION = frozenset({"type", "mlflow_experiment"})
_KNOWN_OF_ASSESSMENT = frozenset(
    {"assessment_id", "assessment_name", "name", "trace_id", "source", "feedback", "expectation"}
    | {"create_time", "create_time_ms", "last_update_time", "metadata", "rationale"}
    | {"run_id", "span_id", "overrides", "valid"}
)
_KNOWN_OF_SOURCE = frozenset({"source_type", "source_id"})
_KNOWN_OF_CONTENT = frozenset({"value", "serialized_value", "error"})
_STATES = {
    "0": "STATE_UNSPECIFIED",
    "1": "OK",
    "2": "ERROR",
    "3": "IN_PROGRESS",
    "OK": "OK",
    "ERROR": "ERROR",
    "IN_PROGRESS": "IN_PROGRESS",
    "STATE_UNSPECIFIED": "STATE_UNSPECIFIED",
    "TRACE_STATUS_UNSPECIFIED": "STATE_UNSPECIFIED",
}
_SPAN_STATUS = {"0": "UNSET", "1": "OK", "2": "ERROR", "OK": "OK", "ERROR": "ERROR"}
_SPAN_STATUS |= {"": "UNSET", "UNSET": "UNSET", "UNSPECIFIED": "UNSET"}


def read_trace(entry: TraceEntry, places: ArtifactPlaces = NO_PLACES) -> Extracted[TraceRecord]:
    """Read a trace's directory, and its spans from where they lie. Never raises.

    ``traces.json`` is looked for in the trace's own ``artifacts/``, then in ``places``, and at
    the recorded location. Without it, or where it is damaged, the trace has the spans that could
    be read.
    """
    log = ReadLog(Kind.TRACE, entry.entity_id, store_of(entry, 3))
    listing = log.with_stand_ins(log.list(entry.path), entry.path, INFO, _FOLDERS)
    info = read_meta(log, listing.file(INFO), os.path.join(entry.path, INFO))
    folders = log.own_folders(entry.path, listing, _FOLDERS, INFO)
    tags = log.values(folders.get("tags"), Kind.TRACE_TAG)
    metadata = log.values(folders.get("request_metadata"), Kind.TRACE_METADATA)

    state = _STATES.get(_given_state(info).strip().upper())
    spans_path = _find_spans(log, entry, folders.get("artifacts"), places, tags)
    timestamp_ms = info.ms("timestamp_ms")
    if timestamp_ms is None:
        timestamp_ms = info.iso("request_time")
    reader = SpanReader(log, entry.entity_id, spans_path or "", timestamp_ms or 0)
    _refer(log, folders.get("artifacts"))
    if spans_path is not None:
        reader.read()
    else:
        log.add(
            Code.TRACE_NEVER_ENDED if state == "IN_PROGRESS" else Code.SPANS_MISSING,
            entry.path,
            f"There is no {SPANS} for the trace.",
            kept="the trace, with a root span made of what it says itself",
            kind=Kind.TRACE,
        )
    spans = tuple(reader.records)
    has_info = not _INFO_KEYS.isdisjoint(info.values)
    if not (has_info or tags or metadata or spans or folders.get("assessments")):
        log.reject_empty(Code.TRACE_EMPTY, entry.path, "The directory holds nothing of a trace.")
        return log.close(None)
    _name_what_info_adds(info, entry.entity_id)
    if timestamp_ms is None:
        timestamp_ms = _first_start_ms(log, entry, spans)
    if state is None:
        state = _unknown_state(log, info, has_info)
    if not has_info:
        state = _state_of_root(spans) or state
        log.add(
            Code.TRACE_REBUILT,
            entry.path,
            f"Its {INFO} has no facts. Found: {counted(len(tags), 'tag')}, {len(metadata)} "
            f"metadata and {counted(len(spans), 'span')}.",
            kept=f"as a trace made from them, with state {state}",
            kind=Kind.TRACE,
        )
    record = TraceRecord(
        trace_id=entry.entity_id,
        experiment_id=entry.experiment_id or "",
        timestamp_ms=timestamp_ms,
        execution_ms=_execution_ms(info),
        status=state,
        client_request_id=info.text("client_request_id"),
        request_preview=info.text("request_preview"),
        response_preview=info.text("response_preview"),
        tags=tags,
        metadata=metadata,
        assessments=_assessments(log, folders.get("assessments"), info, timestamp_ms),
        spans=spans,
        path=entry.path,
        spans_path=spans_path,
    )
    return log.close(record)


def _given_state(info: Meta) -> str:
    return info.text("state") or info.text("status") or ""


def _name_what_info_adds(info: Meta, trace_id: str) -> None:
    """Name keys of a trace_info.yaml that are unknown or contradict the directory."""
    info.name_unknown(_KNOWN_OF_TRACE, Kind.TRACE)
    if info.values.get("trace_location"):
        location = info.nested("trace_location")
        location.name_unknown(_KNOWN_OF_LOCATION, Kind.TRACE, inside="trace_location.")
        location.expect("type", "MLFLOW_EXPERIMENT")
    info.same_id(("request_id", "trace_id"), trace_id)


def _first_start_ms(log: ReadLog, entry: TraceEntry, spans: Sequence[SpanRecord]) -> int:
    """When the first span began, in place of a trace's own time; an issue names that."""
    first_ms = min((span.start_ns // 1_000_000 for span in spans), default=0)
    log.add(
        Code.TRACE_TIME_MISSING,
        entry.path,
        "The trace does not say when it began.",
        kept=f"{first_ms} ms since 1970",
        kind=Kind.TRACE,
    )
    return first_ms


def _unknown_state(log: ReadLog, info: Meta, has_info: bool) -> str:
    """The state of a trace with none that MLflow knows; an issue names it if a file has one."""
    if has_info:
        log.add(
            Code.STATUS_UNKNOWN,
            info.path,
            "MLflow does not know its state.",
            kept="as STATE_UNSPECIFIED",
            kind=Kind.TRACE,
            sample=_given_state(info)[:100],
        )
    return "STATE_UNSPECIFIED"


def _state_of_root(spans: Sequence[SpanRecord]) -> str | None:
    """The status of the first root span, None where it has none."""
    for span in spans:
        if span.parent_span_id is None:
            return None if span.status == "UNSET" else span.status
    return None


def _execution_ms(info: Meta) -> int | None:
    for key in ("execution_time_ms", "execution_duration_ms", "execution_duration"):
        value = info.values.get(key)
        seconds = re.fullmatch(r"(\d{1,12}(?:\.\d+)?)s", value) if isinstance(value, str) else None
        if seconds is not None:  # protobuf's Duration
            return round(float(seconds[1]) * 1000)
        if value is not None:
            return info.integer(key)
    return None


# ------------------------------------------------------------------------ where the spans lie


def _find_spans(
    log: ReadLog,
    entry: TraceEntry,
    own: str | None,
    places: ArtifactPlaces,
    tags: Mapping[str, str],
) -> str | None:
    """Find ``traces.json``; None where there is none."""
    holds_spans = own is not None and scan(own, log.bound).file(SPANS) is not None
    folder = find_artifact_dir(
        log,
        own if holds_spans else None,
        holds_spans,
        (entry.experiment_id or "", "traces", entry.entity_id, "artifacts"),
        places,
        tags.get(conventions.ARTIFACT_LOCATION, ""),
    )
    if folder is None:
        return None
    return scan(folder, log.bound if folder == own else folder).file(SPANS)


def _refer(log: ReadLog, own: str | None) -> None:
    """Count the files of the trace's own ``artifacts/``."""
    todo = [] if own is None else [own]
    while todo:
        listing = log.list(todo.pop())
        log.files_referred += len(listing.files)
        for odd in listing.special:
            log.add(Code.ARTIFACT_LINK, odd.path, f"It is {odd.what}; it was not followed.")
        todo += [child for _, child in listing.dirs]


# ---------------------------------------------------------------------------------- the spans


class SpanReader:
    """The spans of one ``traces.json``, in whatever form it has."""

    def __init__(self, log: ReadLog, trace_id: str, path: str, begin_ms: int) -> None:
        self._log = log
        self._trace_id = trace_id
        self._path = path
        self._begin_ns = begin_ms * 1_000_000  # of the trace, 0 if unknown
        self._ids: dict[str, SpanRecord] = {}
        self.records: list[SpanRecord] = []

    def read(self) -> None:
        """Read the file; what can't be read is named."""
        try:
            data = read_bytes(self._path, SPANS_LIMIT_BYTES)
        except FileTooLarge as error:
            self._damaged(f"The file is too large: {error}.")
            return
        except OSError as error:
            self._damaged(f"The file can't be read: {reason(error)}.")
            return
        for position, span in enumerate(self._parse(data)):
            self._log.found[Kind.SPAN] += 1
            if isinstance(span, dict):
                self.add(span, position)
            else:
                self._reject(f"Span {position} is not an object.")

    def _parse(self, data: bytes) -> list[Any]:
        is_text = True
        try:
            text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except UnicodeDecodeError as error:
            self._damaged(f"The file is not UTF-8: {error}.")
            is_text = False
            text = data.decode("utf-8", "replace")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            if is_text:
                self._damaged(f"The file is not JSON: {error}.", text[:60])
            return self._whole_spans(text)
        spans = _spans_in(content)
        if spans is None:
            self._damaged("The file holds no list of spans.", text[:60])
            return []
        if not spans:
            self._log.add(
                Code.TRACE_WITHOUT_SPANS,
                self._path,
                "The file holds an empty list of spans.",
                kept="the trace, with a root span made of what it says itself",
                kind=Kind.TRACE,
            )
        return spans

    def _whole_spans(self, text: str) -> list[Any]:
        """The spans of a file that is cut off, as far as they are whole."""
        match = re.search(r'"spans"\s*:\s*\[', text)
        decoder = json.JSONDecoder()
        spans: list[Any] = []
        position = len(text) if match is None else match.end()
        while position < len(text):
            start = re.compile(r"[\s,]*").match(text, position)
            position = start.end() if start else position
            if position >= len(text) or text[position] == "]":
                break
            try:
                span, position = decoder.raw_decode(text, position)
            except (ValueError, RecursionError):
                self._log.found[Kind.SPAN] += 1
                self._reject(f"Span {len(spans)} is cut off.")
                break
            spans.append(span)
        return spans

    def _damaged(self, message: str, sample: str = "") -> None:
        self._log.add(
            Code.SPANS_DAMAGED,
            self._path,
            message,
            kept="the trace, and the spans that are whole",
            kind=Kind.TRACE,
            sample=sample,
        )

    def _reject(self, message: str) -> None:
        self._log.add(Code.SPAN_DAMAGED, self._path, message, kind=Kind.SPAN)

    def _repaired(self, code: Code, message: str, kept: str) -> None:
        self._log.add(code, self._path, message, kept=kept, kind=Kind.SPAN)

    def add(self, raw: dict[str, Any], position: int) -> None:
        """Take a span; what it lacks is derived and named."""
        context = raw.get("context")
        context = context if isinstance(context, dict) else raw
        raw_id = context.get("span_id")
        span_id = _span_id(raw_id)
        if span_id is None:
            span_id = encoding.span_id_of(self._trace_id, f"#{position}")
            self._repaired(Code.SPAN_REPAIRED, f"Span {position} has no id.", f"as {span_id}")
        attributes = _attributes(raw)
        start_ns, end_ns = _first_ns(raw, _STARTS), _first_ns(raw, _ENDS)
        if start_ns is None:
            start_ns = end_ns or self._begin_ns
            self._repaired(
                Code.SPAN_REPAIRED,
                f"Span {position} has no start, or one before 1970.",
                f"starting at {start_ns} ns",
            )
        name = raw.get("name")
        if not isinstance(name, str) or not name:
            self._repaired(Code.SPAN_REPAIRED, f"Span {position} has no name.", "as 'span'")
            name = "span"
        status, message = _status(raw)
        if status is None:
            self._repaired(
                Code.SPAN_REPAIRED,
                f"Span {position} has a status that MLflow does not know.",
                "as UNSET",
            )
        events = _events(raw.get("events"), start_ns)
        if any(_MALFORMED in event.attributes for event in events):
            self._repaired(
                Code.SPAN_REPAIRED,
                f"Span {position} has events of another form than MLflow's.",
                f"what they hold, as attribute {_MALFORMED}",
            )
        if not isinstance(raw.get("attributes", {}), dict) and raw["attributes"] is not None:
            self._repaired(
                Code.SPAN_REPAIRED,
                f"Span {position} has attributes that are not keys and values.",
                f"as attribute {_MALFORMED}",
            )
        span = SpanRecord(
            span_id=span_id,
            parent_span_id=_span_id(raw.get("parent_span_id", raw.get("parent_id"))),
            name=clean(name),
            start_ns=start_ns,
            end_ns=end_ns,
            status=status or "UNSET",
            status_message=message,
            attributes=attributes,
            events=events,
        )
        other = self._ids.get(span_id)
        if other == span:
            self._log.merged[Kind.SPAN] += 1
            return
        if other is not None:
            new_id = encoding.span_id_of(self._trace_id, f"{span_id}#{position}")
            self._repaired(
                Code.SPAN_TWICE, f"Span {position} has the id {span_id} of another.", f"as {new_id}"
            )
            span = SpanRecord(
                new_id,
                span.parent_span_id,
                span.name,
                span.start_ns,
                span.end_ns,
                span.status,
                span.status_message,
                span.attributes,
                span.events,
            )
        self._ids[span.span_id] = span
        self.records.append(span)


_STARTS = ("start_time_unix_nano", "start_time", "start_time_ns")
_ENDS = ("end_time_unix_nano", "end_time", "end_time_ns")


def _spans_in(content: Any) -> list[Any] | None:
    if isinstance(content, dict):
        spans = content.get("spans")
        if spans is None and isinstance(content.get("data"), dict):
            spans = content["data"].get("spans")
        return spans if isinstance(spans, list) else None
    return content if isinstance(content, list) else None


def _span_id(raw: object) -> str | None:
    """A span's id as 16 hex digits; None where there is none.

    It is hex with ``0x`` (2.14 to 2.20), bare hex (2.21 on, and 3.5.0), base64 of eight bytes
    (3.x), or anything at all if written by hand: then its hash, so that parents still match.
    """
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 < raw < 2**64:
        return f"{raw:016x}"
    if not isinstance(raw, str) or not raw:
        return None
    digits = raw[2:] if raw[:2] in ("0x", "0X") else raw
    if re.fullmatch(r"[0-9a-fA-F]{1,16}", digits):
        span_id = digits.lower().zfill(16)
        return span_id if int(span_id, 16) else None
    if len(raw) == 12 and raw.endswith("="):
        try:
            decoded = base64.b64decode(raw, validate=True)
        except (binascii.Error, ValueError):
            decoded = b""
        if len(decoded) == 8:
            return decoded.hex() if any(decoded) else None
    return hashlib.sha256(clean(raw).encode()).hexdigest()[:16]


def _first_ns(raw: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    for key in keys:
        value = raw.get(key)
        if value is None or value == "" or value == 0:
            continue
        number = whole(value)
        milliseconds = iso_ms(value) if number is None else None
        time_ns = _to_ns(number) if number is not None else (milliseconds or 0) * 1_000_000
        if time_ns > 0 and whole(time_ns) is not None:  # MLflow can't send a negative one
            return time_ns
    return None


def _to_ns(time: int) -> int:
    """Convert a time to ns; its magnitude shows its unit.

    MLflow writes span times in ns and the times of events in ns (exceptions) or µs (all others).
    """
    if time >= 10**17 or time <= 0:
        return time
    if time >= 10**14:
        return time * 1_000
    return time * 1_000_000 if time >= 10**11 else time * 1_000_000_000


def _status(raw: Mapping[str, Any]) -> tuple[str | None, str]:
    """A span's status and its message; None for a status that MLflow does not know."""
    status = raw.get("status")
    if isinstance(status, dict):
        code = status.get("code", status.get("status_code"))
        message = status.get("message", status.get("description"))
    else:
        code = raw.get("status_code", status)
        message = raw.get("status_message")
    name = "" if code is None else str(code)[:40].strip().upper().removeprefix("STATUS_CODE_")
    text = "" if message is None or not _is_scalar(message) else clean(str(message))
    return _SPAN_STATUS.get(name), text


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, bool, float)) or whole(value) is not None


def _attributes(raw: Mapping[str, Any]) -> dict[str, str]:
    """A span's attributes as JSON text; hand-written inputs and outputs join them."""
    values = raw.get("attributes")
    if values is not None and not isinstance(values, dict):
        values = {_MALFORMED: values}
    attributes = {clean(key): _json_text(value) for key, value in (values or {}).items()}
    for key, attribute in (
        ("inputs", conventions.SPAN_INPUTS),
        ("outputs", conventions.SPAN_OUTPUTS),
        ("span_type", conventions.SPAN_TYPE),
    ):
        if raw.get(key) is not None and attribute not in attributes:
            attributes[attribute] = _dump(raw[key])
    return attributes


def _json_text(value: object) -> str:
    """An attribute as JSON text: text that is JSON stays as it is, all else is encoded."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            return _dump(value)
        return clean(value)
    return _dump(value)


def _dump(value: object) -> str:
    try:
        return clean(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError, TypeError):
        return "null"


_MALFORMED = "migrator.malformed"  # attribute that holds what MLflow has no place for


def _events(raw: object, start_ns: int) -> tuple[SpanEvent, ...]:
    """A span's events; one without a time happened when the span began.

    What is not an event, and what in an event is not of MLflow's form, is in attribute
    ``_MALFORMED``.
    """
    if raw is None:
        return ()
    if not isinstance(raw, list):
        return (SpanEvent("event", start_ns, {_MALFORMED: _plain(raw)}),)
    return tuple(_event(event, start_ns) for event in raw)


def _event(raw: object, start_ns: int) -> SpanEvent:
    if not isinstance(raw, dict):
        return SpanEvent("event", start_ns, {_MALFORMED: _plain(raw)})
    time_ns = _first_ns(raw, _EVENT_TIMES)
    given, name = raw.get("attributes"), raw.get("name")
    attributes: dict[str, Json] = dict(given) if isinstance(given, dict) else {}
    odd = {"attributes": given} if given is not None and not isinstance(given, dict) else {}
    if not isinstance(name, str) or not name:
        odd["name"] = name
    if time_ns is None:
        odd |= {key: raw[key] for key in _EVENT_TIMES if key in raw}
    if any(value is not None for value in odd.values()):
        attributes[_MALFORMED] = _plain(odd)
    return SpanEvent(
        name=clean(name) if isinstance(name, str) and name else "event",
        time_ns=start_ns if time_ns is None else time_ns,
        attributes=attributes,
    )


_EVENT_TIMES = ("time_unix_nano", "timestamp", "time", "timestamp_ns")


# --------------------------------------------------------------------------------- assessments


def _assessments(
    log: ReadLog, folder: str | None, info: Meta, timestamp_ms: int
) -> tuple[AssessmentRecord, ...]:
    """Read ``assessments/<id>.yaml`` (3.2 and later), and the list in a V2 trace_info."""
    records: list[AssessmentRecord] = []
    if folder is not None:
        listing = log.list(folder, Kind.ASSESSMENT)
        log.reject_special(listing, Kind.ASSESSMENT)
        log.ignore_files(folder, [n for n, _ in listing.files if not _is_assessment_file(n)])
        for _, child in listing.dirs:
            log.ignore_tree(child)
        for name, path in listing.files:
            if not _is_assessment_file(name):
                continue
            log.found[Kind.ASSESSMENT] += 1
            meta = read_meta(log, path, path, kind=Kind.ASSESSMENT)
            default_id = log.name(name.rsplit(".", 1)[0], path, Kind.ASSESSMENT)
            record = _assessment(log, meta, default_id, timestamp_ms)
            records += [] if record is None else [record]
    inline = info.values.get("assessments")
    written = info.written.get("assessments")
    for position, values in enumerate(inline if isinstance(inline, list) else []):
        log.found[Kind.ASSESSMENT] += 1
        words = written[position] if isinstance(written, list) else {}
        is_readable = isinstance(values, dict)
        meta = Meta(log, info.path, values, words) if is_readable else Meta(log, info.path, {})
        record = _assessment(log, meta, f"a-{position}", timestamp_ms)
        records += [] if record is None else [record]
    return tuple(records)


def _is_assessment_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) and not is_junk(name)


def _assessment(
    log: ReadLog, meta: Meta, default_id: str, timestamp_ms: int
) -> AssessmentRecord | None:
    meta.name_unknown(_KNOWN_OF_ASSESSMENT, Kind.ASSESSMENT)
    name = meta.text("assessment_name") or meta.text("name")
    feedback, expectation = meta.values.get("feedback"), meta.values.get("expectation")
    kind = "feedback" if feedback is not None else "expectation"
    value = meta.nested(kind)
    content, problem = _content(value)
    value.name_unknown(_KNOWN_OF_CONTENT, Kind.ASSESSMENT, inside=f"{kind}.")
    error = value.values.get("error") if kind == "feedback" else None
    if name is None or (content is None and error is None):
        log.add(
            Code.ASSESSMENT_DAMAGED,
            meta.path,
            "It has no name." if name is None else f"It has neither value nor error{problem}.",
            kind=Kind.ASSESSMENT,
        )
        return None
    if feedback is not None and expectation is not None:
        meta.unusable("expectation", expectation)
    repaired: list[str] = []
    times = _assessment_times(meta, timestamp_ms, repaired)
    source = meta.nested("source")
    source_type = _source_type(source, kind, repaired)
    finite = _finite(content)
    if finite != content:
        log.add(
            Code.ASSESSMENT_REPAIRED,
            meta.path,
            "Its value is not a finite number, which MLflow's API can't send.",
            kept="as text",
            kind=Kind.ASSESSMENT,
        )
    if repaired:
        log.add(
            Code.ASSESSMENT_REPAIRED,
            meta.path,
            f"It does not say {' and '.join(repaired)}.",
            kept="with those values",
            kind=Kind.ASSESSMENT,
        )
    metadata = meta.mapping("metadata") or None
    valid = meta.values.get("valid")
    span_id = meta.text("span_id")
    return AssessmentRecord(
        assessment_id=meta.text("assessment_id") or default_id,
        name=name,
        type=kind,
        value=finite,
        error=_plain(error) if isinstance(error, dict) else None,
        source_type=source_type,
        source_id=source.text("source_id"),
        created_ms=times.created_ms,
        last_updated_ms=times.updated_ms,
        run_id=meta.text("run_id") or (metadata or {}).get("mlflow.assessment.sourceRunId"),
        span_id=_span_id(span_id),
        rationale=meta.text("rationale"),
        overrides=meta.text("overrides"),
        valid=valid if isinstance(valid, bool) else True,
        metadata=metadata,
    )


class _Times(NamedTuple):
    created_ms: int
    updated_ms: int


def _assessment_times(meta: Meta, timestamp_ms: int, repaired: list[str]) -> _Times:
    """When an assessment was made and changed; what is derived is added to ``repaired``."""
    created_ms, updated_ms = meta.iso("create_time"), meta.iso("last_update_time")
    if created_ms is None:
        created_ms = meta.integer("create_time_ms")
    if created_ms is None:
        created_ms = timestamp_ms if updated_ms is None else updated_ms
        repaired.append(f"its creation time ({created_ms} ms)")
    return _Times(created_ms, created_ms if updated_ms is None else updated_ms)


def _source_type(source: Meta, kind: str, repaired: list[str]) -> str:
    """Who made an assessment; MLflow's own default is added to ``repaired``."""
    source.name_unknown(_KNOWN_OF_SOURCE, Kind.ASSESSMENT, inside="source.")
    given = source.text("source_type")
    word = (given or "").strip().upper()
    source_type = "LLM_JUDGE" if word == "AI_JUDGE" else word
    if source_type in ("HUMAN", "LLM_JUDGE", "CODE"):
        return source_type
    default = "CODE" if kind == "feedback" else "HUMAN"
    if given:
        source.unknown_value("source_type", given, f"as {default}")
    else:
        repaired.append(f"its source ({default})")
    return default


def _content(value: Meta) -> tuple[Json, str]:
    """The value of a feedback or expectation; the text says why there is none."""
    serialized = value.values.get("serialized_value")
    if serialized is None:
        return _plain(value.values.get("value")), ""
    text = serialized.get("value") if isinstance(serialized, dict) else serialized
    if not isinstance(text, str):
        return None, ": the serialized value is not text"
    try:
        content: Json = json.loads(text)
    except (ValueError, RecursionError):
        return None, ": the serialized value is not JSON"
    return content, ""


def _finite(value: Json) -> Json:
    """Replace NaN and infinities by the texts that protobuf has for them."""
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return "NaN"
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def _plain(value: Any) -> Json:
    """Convert a YAML value to a JSON value; types that JSON lacks become text."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if whole(value) is not None else hex(value)
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(_plain(key))): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, set):
        return sorted(clean(str(_plain(item))) for item in value)
    return clean(str(value))
