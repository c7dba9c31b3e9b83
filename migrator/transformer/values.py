"""Reading of logged values: numbers, JSON, chats, words for success and failure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from migrator.model import Json, MetricPoint
from migrator.transformer.verdicts import plain_words


def words(text: str) -> frozenset[str]:
    """Split a text into the set of its words."""
    return frozenset(text.split())


EMPTY_WORDS = frozenset({"", "none", "null", "nan", "false", "no", "n/a", "[]", "{}", "0"})
OK_WORDS = words("success successful succeeded ok completed complete finished done passed")
ERROR_WORDS = words(
    "failed failure fail error errored exception timeout timed_out incomplete killed cancelled "
    "canceled aborted crashed"
)
NO_MESSAGES = ERROR_WORDS | {"true", "1"}
NO_ERROR = EMPTY_WORDS | OK_WORDS | {"no error", "no errors", "without error", "not applicable"}


def last_value(points: Sequence[MetricPoint]) -> float:
    """A metric's latest value by MLflow's rule: highest step, then time, then value."""
    if len(points) < 2:
        return points[0].value if points else math.nan
    return max(points, key=_order_of_points).value


def _order_of_points(point: MetricPoint) -> tuple[int, int, float]:
    value = -math.inf if math.isnan(point.value) else point.value
    return (point.step, point.timestamp_ms, value)


def as_number(value: Json) -> float | None:
    """Read a finite number, also from text; None for anything else (booleans too)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value.strip())
        except ValueError:
            return None
    if isinstance(value, (int, float)):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    return None


def parse_json(text: str) -> Json:
    """Parse a text that is a JSON object or list; any other text comes back unchanged.

    Python's repr of a dict is not JSON and stays text; so does what is nested too deeply to parse.
    """
    stripped = text.lstrip("\ufeff \t\r\n")
    if not stripped.startswith(("{", "[")):
        return text
    try:
        value: Json = json.loads(stripped)
    except (ValueError, RecursionError):
        return text
    return value


@lru_cache(1 << 12)  # names of files, steps and tags are the same in thousands of runs
def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``step_2`` before ``step_10``."""
    return tuple(_natural_part(part) for part in re.split(r"(\d+)", text))


def _natural_part(part: str) -> tuple[int, int, str]:
    if part.isdecimal() and len(part) < 19:
        return (0, int(part), "")
    return (1, 0, part)


def is_error(value: Json) -> bool:
    """Whether the value of an error field says that something failed ("No error" does not)."""
    if isinstance(value, str):
        return plain_words(value) not in NO_ERROR
    if isinstance(value, Mapping):
        return any(is_error(each) for each in value.values())
    return bool(value)
