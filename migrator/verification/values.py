"""How MLflow stores and serves values: metric points, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from migrator import conventions
from migrator.model import Json, MetricPoint

_MAX_FLOAT = 1.7976931348623157e308  # what MLflow stores for infinity

# Timestamp in ms, step, encoded value, whether it is NaN: a row of MLflow's table of metrics.
Point: TypeAlias = tuple[int, int, float, bool]


def expected_point(point: MetricPoint) -> Point:
    """Return the row that MLflow's SQL store makes of a point (``sanitize_metric_value``)."""
    if math.isnan(point.value):
        return point.timestamp_ms, point.step, 0.0, True
    value = min(max(float(point.value), -_MAX_FLOAT), _MAX_FLOAT)
    return point.timestamp_ms, point.step, value, False


def found_point(metric: Any) -> Point:
    value = metric.value
    if value is None or math.isnan(value):
        return metric.timestamp, metric.step, 0.0, True
    return metric.timestamp, metric.step, value, False


def model_metric_name(metric: Any) -> str:
    """Return the name of a logged model's series, from our record or from MLflow's ``Metric``."""
    parts = (metric.key, metric.run_id, metric.dataset_name or "", metric.dataset_digest or "")
    return " ".join(parts).strip()


def point_order(point: Point) -> tuple[int, int, float]:
    timestamp_ms, step, value, _ = point
    return step, timestamp_ms, value


def point_text(point: Point) -> str:
    timestamp_ms, step, value, is_nan = point
    return f"{'nan' if is_nan else value} (step {step}, time {timestamp_ms})"


def canonical(value: Json) -> str:
    """Return JSON text for comparing values of any shape; 1 and 1.0 differ."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=dict)


def without_none(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if item is not None}
    return value


def is_same_from_column(expected: str, found: str) -> bool:
    """Return True if MLflow 3.17, which keeps ``expected`` in columns, would serve ``found``."""
    try:
        old, new = json.loads(expected), json.loads(found)
    except (ValueError, RecursionError):
        return expected[: conventions.METADATA_CHARS] == found
    if not isinstance(old, dict) or not isinstance(new, dict):
        return expected[: conventions.METADATA_CHARS] == found
    return {key: value for key, value in old.items() if key in new} == new


def span_count(stats: str) -> object:
    try:
        return json.loads(stats).get("num_spans")
    except (ValueError, AttributeError):
        return stats
