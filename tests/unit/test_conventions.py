"""The vocabulary against MLflow's own, and values that break its REST layer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import SpanType as MlflowSpanType
from mlflow.tracing import constant
from mlflow.utils import mlflow_tags

from migrator import conventions
from migrator.model import Json, SpanType

PAIRS = [
    (conventions.SPAN_REQUEST_ID, constant.SpanAttributeKey.REQUEST_ID),
    (conventions.SPAN_EXPERIMENT_ID, constant.SpanAttributeKey.EXPERIMENT_ID),
    (conventions.SPAN_TYPE, constant.SpanAttributeKey.SPAN_TYPE),
    (conventions.SPAN_INPUTS, constant.SpanAttributeKey.INPUTS),
    (conventions.SPAN_OUTPUTS, constant.SpanAttributeKey.OUTPUTS),
    (conventions.SPAN_USAGE, constant.SpanAttributeKey.CHAT_USAGE),
    (conventions.SPAN_TOOLS, constant.SpanAttributeKey.CHAT_TOOLS),
    (conventions.TRACE_NAME, constant.TraceTagKey.TRACE_NAME),
    (conventions.SPANS_LOCATION, constant.TraceTagKey.SPANS_LOCATION),
    (conventions.SPANS_IN_DATABASE, constant.SpansLocation.TRACKING_STORE.value),
    (conventions.LINKED_PROMPTS, constant.TraceTagKey.LINKED_PROMPTS),
    (conventions.SCHEMA_VERSION, constant.TRACE_SCHEMA_VERSION_KEY),
    (conventions.SIZE_STATS, constant.TraceMetadataKey.SIZE_STATS),
    (conventions.SIZE_BYTES, constant.TraceMetadataKey.SIZE_BYTES),
    (conventions.TRACE_USAGE, constant.TraceMetadataKey.TOKEN_USAGE),
    (conventions.TRACE_SESSION, constant.TraceMetadataKey.TRACE_SESSION),
    (conventions.TRACE_USER, constant.TraceMetadataKey.TRACE_USER),
    (conventions.SOURCE_RUN, constant.TraceMetadataKey.SOURCE_RUN),
    (conventions.PARENT_RUN_ID, mlflow_tags.MLFLOW_PARENT_RUN_ID),
    (conventions.RUN_NAME, mlflow_tags.MLFLOW_RUN_NAME),
    (conventions.ARTIFACT_LOCATION, mlflow_tags.MLFLOW_ARTIFACT_LOCATION),
]
NEWER = [  # names that 3.10 and later have; 3.9 has none of them
    (conventions.SPAN_MODEL, "SpanAttributeKey", "MODEL"),
    (conventions.SPAN_PROVIDER, "SpanAttributeKey", "MODEL_PROVIDER"),
    (conventions.SPAN_COST, "SpanAttributeKey", "LLM_COST"),
    (conventions.TRACE_COST, "TraceMetadataKey", "COST"),
]


@pytest.mark.parametrize(("ours", "mlflows"), PAIRS)
def test_a_key_is_mlflows_own(ours: str, mlflows: str) -> None:
    assert ours == mlflows


@pytest.mark.parametrize(("ours", "group", "name"), NEWER)
def test_a_newer_key_is_mlflows_own_where_it_exists(ours: str, group: str, name: str) -> None:
    if not hasattr(getattr(constant, group), name):
        pytest.skip("this MLflow does not have it yet")
    assert ours == getattr(getattr(constant, group), name)


def test_every_span_type_is_one_of_mlflows() -> None:
    ours = {value for key, value in vars(SpanType).items() if key.isupper()}
    theirs = {value for key, value in vars(MlflowSpanType).items() if key.isupper()}
    assert ours <= theirs


def test_a_trace_id_is_the_run_id_and_a_span_id_a_hash() -> None:
    run_id = "0123456789abcdef0123456789abcdef"
    trace_id = conventions.trace_id_of(run_id)
    assert trace_id == f"tr-{run_id}"
    assert len(conventions.trace_id_of("8hexabcd")) == 35
    ids = {conventions.span_id_of(trace_id, str(n)) for n in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) == 16 and int(each, 16) for each in ids)


def deep(levels: int, kind: str) -> Json:
    value: Json = "bottom"
    for _ in range(levels):
        value = {"a": value} if kind == "dict" else [value]
    return value


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_what_is_nested_too_deeply_becomes_text(kind: str) -> None:
    value = json.loads(conventions.encode(deep(200, kind)))
    levels = 0
    while isinstance(value, (dict, list)):
        value = value["a"] if isinstance(value, dict) else value[0]
        levels += 1
    assert 10 < levels <= (32 if kind == "dict" else 48)
    assert "bottom" in value


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_an_encoded_value_is_strict_json_that_utf8_and_int64_can_hold(value: Json) -> None:
    text = conventions.encode(value)
    text.encode("utf-8")

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    def fits(digits: str) -> int:
        assert -(2**63) <= int(digits) < 2**63
        return int(digits)

    json.loads(text, parse_constant=refuse, parse_int=fits)


def test_surrogates_and_nul_vanish_and_a_preview_is_cut() -> None:
    assert conventions.clean_text("a\x00b\ud800c") == "ab?c"
    assert conventions.preview("x" * 2000) == "x" * 997 + "..."
    assert conventions.preview({"q": "é"}) == '{"q": "é"}'


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_values_are_encoded_as_json_dumps_encodes_them(value: Any) -> None:
    assert conventions._ENCODE(value) == json.dumps(value, ensure_ascii=False)
    assert conventions.encode_all({"key": value}) == {"key": conventions.encode(value)}
