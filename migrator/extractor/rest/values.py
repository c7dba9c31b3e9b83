"""Values in the JSON of MLflow's REST API, as MLflow's tables hold them.

The API is protobuf's JSON: 64-bit integers are numbers or texts, times are texts of RFC 3339, and
NaN is a text. A value of an unknown form stays as it is; the reader of the tables names it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z")
_DURATION = re.compile(r"(-?)(\d+)(?:\.(\d+))?s")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def integer(value: Any) -> Any:
    """A whole number that may be a text."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value):
        return int(value)
    return value


def time_ms(value: Any) -> Any:
    """A time such as ``2025-06-16T09:00:08.322Z`` in ms since 1970."""
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return integer(value)
    whole = datetime.fromisoformat(found[1]).replace(tzinfo=timezone.utc)
    return (whole - _EPOCH) // timedelta(milliseconds=1) + _ms(found[2])


def duration_ms(value: Any) -> Any:
    """A duration such as ``1.104s`` in ms."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return integer(value)
    ms = int(found[2]) * 1000 + _ms(found[3])
    return -ms if found[1] else ms


def _ms(fraction: str | None) -> int:
    return int((fraction or "").ljust(3, "0")[:3])


def metric_value(value: Any) -> tuple[Any, int]:
    """Columns ``value`` and ``is_nan`` of a metric point."""
    if isinstance(value, str):
        value = _NUMBERS.get(value, value)
    elif isinstance(value, int):
        value = float(value)
    if isinstance(value, float) and math.isnan(value):
        return 0.0, 1
    return value, 0


def parsed(value: Any) -> Any:
    """A value that may be given as JSON text; other text stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def fields(value: Any) -> Mapping[str, Any]:
    """The fields of an object; none where there is no object."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; nothing where there is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def pairs(value: Any) -> Iterable[tuple[Any, Any]]:
    """Keys and values: of a list of ``{"key", "value"}``, or of an object. An empty value is not
    sent by some releases."""
    if isinstance(value, dict):
        return value.items()
    return [(each.get("key"), each.get("value", "")) for each in items(value)]
