"""What newer schemas keep in columns of their own: moves rows of MLflow 3.9 there, fills the rest.

``promote`` does to our rows what MLflow's own migration does, many times faster. ``finish`` fills
what that leaves empty.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from migrator import conventions

# What revision 75868b020152 (MLflow 3.17) turns from rows into columns of trace_info.
PROMOTED = {
    "trace_tags": (conventions.TRACE_NAME,),
    "trace_request_metadata": (
        conventions.TRACE_SESSION,
        conventions.TRACE_USAGE,
        conventions.TRACE_COST,
    ),
    "trace_metrics": ("input_tokens", "output_tokens", "total_tokens"),
}
_TOKENS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation_input_tokens_above_1hr",
)
_COSTS = ("input_cost", "output_cost", "total_cost")
_TEXTS = ((conventions.TRACE_NAME, 4096), (conventions.TRACE_SESSION, 250))  # -> characters
_DIMENSION_CHARS = 500  # of spans.model_name and model_provider
_BATCH = 10_000  # traces


def promote(db: sqlite3.Connection) -> None:
    """Move rows of 3.9's shape into the columns that the schema of MLflow 3.17 has for them.

    As ``mlflow/store/db_migrations/versions/75868b020152`` does: a trace's name, session, tokens
    and cost go from rows into columns of ``trace_info``, and assessments get numbers that MLflow
    can sum. Does nothing in a schema without these columns.
    """
    if "trace_name" not in _columns(db, "trace_info"):
        return
    columns = ("trace_name", "session_id", *_TOKENS, *_COSTS)
    update = (
        f"UPDATE trace_info SET ({', '.join(columns)}) = ({', '.join('?' * len(columns))}) "
        "WHERE request_id = ?"
    )
    for trace_ids in _batches_of_traces(db):
        rows: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for table, keys in PROMOTED.items():
            found = db.execute(
                f"SELECT request_id, key, value FROM {table} WHERE {_is_one_of(keys)} "
                "AND request_id BETWEEN ? AND ?",
                (*keys, trace_ids[0], trace_ids[-1]),
            )
            for trace_id, key, value in found:
                rows[trace_id][key] = value
        db.executemany(update, [(*_trace_columns(found), i) for i, found in rows.items()])
    for table, keys in PROMOTED.items():
        db.execute(f"DELETE FROM {table} WHERE {_is_one_of(keys)}", keys)
    db.create_function("aggregate_value", 1, _aggregate_value, deterministic=True)
    db.create_function("is_numeric_value", 1, _is_numeric_value, deterministic=True)
    db.execute(
        "UPDATE assessments SET (experiment_id, trace_timestamp_ms) = (SELECT experiment_id, "
        "timestamp_ms FROM trace_info WHERE request_id = trace_id), aggregate_value = "
        "aggregate_value(value), is_numeric_value = is_numeric_value(value)"
    )


def _columns(db: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in db.execute(f"PRAGMA table_xinfo({table})")}


def _is_one_of(keys: Sequence[str]) -> str:
    return f"key IN ({', '.join('?' * len(keys))})"


def _batches_of_traces(db: sqlite3.Connection) -> Iterator[list[str]]:
    """Yield the ids of all traces in order."""
    last = ""
    following = "SELECT request_id FROM trace_info WHERE request_id > ? ORDER BY 1 LIMIT ?"
    while found := db.execute(following, (last, _BATCH)).fetchall():
        last = found[-1][0]
        yield [trace_id for (trace_id,) in found]


def _trace_columns(rows: Mapping[str, Any]) -> Iterator[str | int | float | None]:
    """Yield the columns of a trace that has these rows of ``PROMOTED``, by key."""
    for key, chars in _TEXTS:
        text = rows.get(key)
        yield text[:chars] if isinstance(text, str) else None
    usage = _json_object(rows.get(conventions.TRACE_USAGE))
    for name in _TOKENS:
        yield _token_count(rows.get(name, usage.get(name)))
    cost = _json_object(rows.get(conventions.TRACE_COST))
    for name in _COSTS:
        yield _cost(cost.get(name))


def _json_object(text: object) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _token_count(value: object) -> int | None:
    """The whole number of 64 bits that a JSON value or a float is, as MLflow's migration reads it.

    None for any other value.
    """
    if value is None or isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    if not number.is_finite() or number != number.to_integral_value():
        return None
    return int(number) if -(2**63) <= number < 2**63 else None


def _cost(value: Any) -> float | None:
    """The finite number that a JSON value is, as MLflow's migration reads it."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _aggregate_value(text: str | None) -> float | None:
    """The number that an assessment's JSON stands for: its own, or 1 and 0 for yes and no."""
    value = _assessed(text)
    if isinstance(value, str):
        return {"yes": 1.0, "no": 0.0}.get(value.strip().lower())
    if not isinstance(value, (bool, int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _is_numeric_value(text: str | None) -> bool:
    value = _assessed(text)
    return not isinstance(value, (bool, str)) and _aggregate_value(text) is not None


def _assessed(text: str | None) -> object:
    try:
        return json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return text


def finish(db: sqlite3.Connection) -> int:
    """Fill the columns of spans in newer schemas that MLflow's migrations leave empty.

    MLflow 3.10 and later read a span's model, provider and cost from columns of their own, which
    its migrations don't fill from the spans' content. 3.10 to 3.16 keep them in
    ``spans.dimension_attributes`` and ``span_metrics``, 3.17 and later in five columns of
    ``spans``. Returns the number of spans filled; those that hold any such value are left alone.
    """
    columns = _columns(db, "spans")
    if "model_name" in columns:
        columns_filled = (*_COSTS, "model_name", "model_provider")
        empty = " AND ".join(f"{name} IS NULL" for name in columns_filled)
    elif "dimension_attributes" in columns:
        empty = (
            "dimension_attributes IS NULL AND NOT EXISTS (SELECT 1 FROM span_metrics AS m "
            "WHERE m.trace_id = spans.trace_id AND m.span_id = spans.span_id)"
        )
    else:
        return 0
    found = []
    for trace_id, span_id, content in db.execute(
        "SELECT trace_id, span_id, content FROM spans "
        f"WHERE {empty} AND content LIKE '%\"mlflow.llm.%'"
    ):
        model, provider, costs = _llm_facts(content)
        if model or provider or any(cost is not None for cost in costs):
            found.append((model, provider, *costs, trace_id, span_id))
    if "model_name" in columns:
        db.executemany(
            "UPDATE spans SET model_name=?, model_provider=?, input_cost=?, output_cost=?, "
            "total_cost=? WHERE trace_id=? AND span_id=?",
            found,
        )
    else:
        db.executemany(
            "UPDATE spans SET dimension_attributes=? WHERE trace_id=? AND span_id=?",
            [(_dimensions(model, provider), *key) for model, provider, _, _, _, *key in found],
        )
        metrics = []
        for _, _, *costs, trace_id, span_id in found:
            for name, cost in zip(_COSTS, costs, strict=True):
                if cost is not None:
                    metrics.append((trace_id, span_id, name, cost))
        db.executemany(
            "INSERT INTO span_metrics (trace_id, span_id, key, value) VALUES (?, ?, ?, ?)", metrics
        )
    return len(found)


def _llm_facts(content: str) -> tuple[str | None, str | None, Sequence[float | None]]:
    """Return the model, the provider and the three costs in a span's content."""
    try:
        attributes = json.loads(content).get("attributes") or {}
    except (ValueError, AttributeError):
        return None, None, (None, None, None)

    def value(key: str) -> Any:
        try:
            return json.loads(attributes[key])
        except (KeyError, TypeError, ValueError):
            return None

    def text(key: str) -> str | None:
        found = value(key)
        return found[:_DIMENSION_CHARS] if isinstance(found, str) and found else None

    cost = value(conventions.SPAN_COST)
    cost = cost if isinstance(cost, dict) else {}
    return (
        text(conventions.SPAN_MODEL),
        text(conventions.SPAN_PROVIDER),
        [_number(cost.get(name)) for name in _COSTS],
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _dimensions(model: str | None, provider: str | None) -> str | None:
    pairs = {conventions.SPAN_MODEL: model, conventions.SPAN_PROVIDER: provider}
    pairs = {key: value for key, value in pairs.items() if value}
    return json.dumps(pairs) if pairs else None
