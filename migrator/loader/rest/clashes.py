"""Checks that an entity which an earlier conversion wrote is the one that the source has now.

The rule is that of ``migrator.loader.sqlite.clashes``: what MLflow never changes once it is
written must not contradict the source (start or creation time, params, metric points, spans).
Each function returns a description of the contradiction, an empty text if there is none.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from migrator import conventions, encoding
from migrator.issues import Code
from migrator.loader.rest.connection import Connection, Refused
from migrator.model import LoggedModelRecord, ModelVersionRecord, RegisteredModelRecord, TracePlan

_OPEN_RUN = ("RUNNING", "SCHEDULED")


class AnotherEntity(Refused):
    """The server has another entity under the id or name of this one."""

    code = Code.ENTITY_CLASHES


def of_run(
    there: Any,
    start_ms: int | None,
    params: Mapping[str, str],
    points: Mapping[str, Collection[object]],
    points_there: Mapping[str, Collection[object]],
) -> str:
    """Compare a run of the server with the source's; ``params`` are cut to the API's limit."""
    if _differ(there.info.start_time, start_ms):
        return "it started at another time there"
    if _params_differ(there.data.params, params):
        return "it has other params there"
    if there.info.status not in _OPEN_RUN:
        for key, known in points_there.items():
            if set(known) - set(points[key]) and set(points[key]) - set(known):
                return "it has other metric points there"
    return ""


def of_trace(server: Connection, plan: TracePlan, there: Any) -> str:
    """Compare a native trace of the server with the source's. Raises TargetError."""
    key = conventions.SCHEMA_VERSION
    is_cut_off = key in plan.metadata and key not in there.trace_metadata  # times of its spans
    if there.request_time != plan.timestamp_ms and not is_cut_off:
        return "it began at another time there"
    if plan.client_request_id and _differ(there.client_request_id or None, plan.client_request_id):
        return "it is of another request there"
    if there.state.value == "IN_PROGRESS" or not plan.spans:
        return ""
    try:
        trace = server.call(server.store.get_trace, plan.trace_id, allow_partial=True)
    except Refused:  # its spans are not in the database
        return ""
    ours = encoding.span_id_of(plan.trace_id, "root")
    spans_there = {span.span_id for span in trace.data.spans} - {ours}
    spans = {span.span_id for span in plan.spans} - {ours}
    return "it has other spans there" if spans and spans_there and not spans & spans_there else ""


def of_logged_model(record: LoggedModelRecord, there: Any) -> str:
    """Compare a logged model of the server with the source's."""
    if _differ(_fields(there.tags).get("creation_ms"), record.creation_ms):
        return "it was created at another time there"
    if _params_differ(there.params or {}, record.params):
        return "it has other params there"
    return ""


def of_registered_model(record: RegisteredModelRecord, there: Any, tags: Mapping[str, str]) -> str:
    """Compare a registered model of the server, with all its tags, with the source's."""
    fields = _fields(tags)
    created_ms = fields.get("creation_ms") if fields else there.creation_timestamp
    if _differ(created_ms, record.creation_ms):
        return "it was created at another time there"
    return ""


def of_version(record: ModelVersionRecord, there: Any) -> str:
    """Compare a version of the server with the source's."""
    fields = _fields(there.tags)
    created_ms = fields.get("creation_ms") if fields else there.creation_timestamp
    if _differ(created_ms, record.creation_ms):
        return "it was created at another time there"
    return ""


def _fields(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the source's fields that a tag keeps because the API has no field for them."""
    fields: dict[str, Any] = json.loads(tags.get(conventions.MIGRATOR_SOURCE_FIELDS, "{}"))
    return fields


def _differ(there: int | str | None, source: int | str | None) -> bool:
    return bool(there) and bool(source) and there != source


def _params_differ(there: Mapping[str, str], source: Mapping[str, str]) -> bool:
    if any(there[key] != source[key] for key in there.keys() & source.keys()):
        return True
    return bool(there.keys() - source.keys()) and bool(source.keys() - there.keys())
