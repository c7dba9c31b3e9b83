"""Values of MLflow's REST API as rows of its tables."""

from __future__ import annotations

import base64
import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from migrator import extractor
from migrator.extractor.rest import rows, values
from migrator.extractor.rest.mirror import Mirror, database_in


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        ("2025-06-16T09:00:08.322Z", 1750064408322),
        ("2025-06-16T09:00:08Z", 1750064408000),
        ("2025-06-16T09:00:08.322999999Z", 1750064408322),
        ("1969-12-31T23:59:59.500Z", -500),
        (1750064408322, 1750064408322),
        ("1750064408322", 1750064408322),
        (None, None),
        ("yesterday", "yesterday"),
    ],
)
def test_times(given: Any, ms: Any) -> None:
    assert values.time_ms(given) == ms


@pytest.mark.parametrize(
    ("given", "ms"),
    [("1.104s", 1104), ("0s", 0), ("2s", 2000), ("-0.5s", -500), (7, 7), (None, None), ("x", "x")],
)
def test_durations(given: Any, ms: Any) -> None:
    assert values.duration_ms(given) == ms


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (0.5, (0.5, 0)),
        (3, (3.0, 0)),
        ("NaN", (0.0, 1)),
        (math.nan, (0.0, 1)),
        ("Infinity", (math.inf, 0)),
        ("-Infinity", (-math.inf, 0)),
        ("much", ("much", 0)),
    ],
)
def test_metric_values(given: Any, stored: tuple[Any, int]) -> None:
    assert values.metric_value(given) == stored


def test_whole_numbers_may_be_texts() -> None:
    assert [values.integer(each) for each in ("-12", 3, "x", None, "1" * 25)] == [
        -12, 3, "x", None, "1" * 25,
    ]  # fmt: skip


def test_pairs_of_both_apis() -> None:
    listed = [{"key": "a", "value": "1"}, {"key": "b"}, "odd"]
    assert list(values.pairs(listed)) == [("a", "1"), ("b", "")]
    assert list(values.pairs({"a": "1"})) == [("a", "1")]
    assert list(values.pairs(None)) == []


def test_a_trace_of_either_api_is_one_row() -> None:
    older = {
        "request_id": "ab", "experiment_id": "2", "timestamp_ms": 5, "execution_time_ms": 7,
        "status": "OK",
    }  # fmt: skip
    newer = {
        "trace_id": "ab",
        "trace_location": {"mlflow_experiment": {"experiment_id": "2"}},
        "request_time": "1970-01-01T00:00:00.005Z",
        "execution_duration": "0.007s",
        "state": "OK",
    }
    assert rows.trace(older) == rows.trace(newer)
    assert rows.trace(newer)["experiment_id"] == 2
    still_open = rows.trace({**older, "status": "IN_PROGRESS", "execution_time_ms": 0})
    assert still_open["execution_time_ms"] is None


def test_ids_of_spans_are_hex() -> None:
    span_id, parent = bytes(range(8)), bytes(range(8, 16))
    parts = rows.TraceParts({"trace_id": "tr-1", "experiment_id": "3"})
    span = {
        "span_id": base64.b64encode(span_id).decode(),
        "parent_span_id": base64.b64encode(parent).decode(),
        "status": {"code": "STATUS_CODE_OK"},
    }
    (row,) = parts.spans({"spans": [span]})
    assert (row["span_id"], row["parent_span_id"]) == (span_id.hex(), parent.hex())
    (same,) = parts.spans({"spans": [{"span_id": span_id.hex()}]})
    assert (same["span_id"], same["parent_span_id"]) == (span_id.hex(), None)


def test_values_of_assessments() -> None:
    given = [
        {"assessment_name": "f", "feedback": {"value": {"a": 1}}},
        {"assessment_name": "e", "expectation": {"value": "42"}},
        {
            "assessment_name": "s",
            "expectation": {"serialized_value": {"value": '["x", {"y": 2}]'}},
        },
        {"assessment_name": "n", "feedback": {"error": {"error_code": "E"}}, "valid": False},
    ]
    found = rows.TraceParts({"trace_id": "tr-1", "assessments": given}).assessments()
    assert [(row["assessment_type"], row["value"], row["valid"]) for row in found] == [
        ("feedback", '{"a": 1}', True),
        ("expectation", '"42"', True),
        ("expectation", '["x", {"y": 2}]', True),
        ("feedback", "null", False),
    ]
    assert json.loads(found[3]["error"]) == {"error_code": "E"}


def test_ids_that_the_api_does_not_tell_are_derived() -> None:
    first = rows.dataset({"name": "d", "digest": "1"}, "7")["dataset_uuid"]
    assert first == rows.dataset({"name": "d", "digest": "1", "source": "x"}, "7")["dataset_uuid"]
    others = [
        rows.dataset({"name": "d", "digest": "1"}, "8"),
        rows.dataset({"name": "d", "digest": "2"}, "7"),
    ]
    assert first not in [each["dataset_uuid"] for each in others]


def test_a_mirror_keeps_what_sqlite_can_not_hold(tmp_path: Path) -> None:
    mirror = Mirror(str(tmp_path))
    assert mirror.add_entity("experiments", {"experiment_id": 1, "name": "a"})
    assert not mirror.add_entity("experiments", {"experiment_id": 1, "name": "b"})
    values_given = ["\ud800", 1 << 70, {"a": [1]}, True, None]
    mirror.add("tags", [{"run_uuid": "r", "key": "k", "value": each} for each in values_given])
    mirror.add("tags", [])
    mirror.close()
    found = sqlite3.connect(database_in(str(tmp_path))).execute("SELECT value FROM tags")
    assert [row[0] for row in found] == [b"\xed\xa0\x80", str(1 << 70), '{"a": [1]}', 1, None]


def test_addresses_of_one_server() -> None:
    same = extractor.is_same_server
    assert same("http://ana:secret@localhost:5000/", "http://127.0.0.1:5000")
    assert same("http://h", "http://h:80/")
    assert same("http://h:5000/mlflow", "http://h:5000/mlflow/")
    assert not same("http://h:5000/a", "http://h:5000/b")
    assert not same("http://h:5000", "http://h:5001")
    assert not same("sqlite:///a.db", "sqlite:///a.db")
