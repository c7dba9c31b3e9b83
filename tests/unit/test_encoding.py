"""Values that would break MLflow's REST layer, and the ids and texts made of values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import encoding
from migrator.model import Json, SpanPlan
from migrator.packing import PackedList


def test_a_trace_id_is_the_run_id_and_a_span_id_a_hash() -> None:
    run_id = "0123456789abcdef0123456789abcdef"
    trace_id = encoding.trace_id_of(run_id)
    assert trace_id == f"tr-{run_id}"
    assert len(encoding.trace_id_of("8hexabcd")) == 35
    ids = {encoding.span_id_of(trace_id, str(n)) for n in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) == 16 and int(each, 16) for each in ids)


def test_a_small_cost_is_readable_when_mlflow_rounds_it() -> None:
    feedback = encoding.cost_feedback(0.000123)
    assert feedback == {"cost_usd": 0.000123, "cost_usd_micro": 123.0}
    assert f"{feedback['cost_usd_micro']:.2f}" == "123.00"


def deep(levels: int, kind: str) -> Json:
    value: Json = "bottom"
    for _ in range(levels):
        value = {"a": value} if kind == "dict" else [value]
    return value


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_what_is_nested_too_deeply_becomes_text(kind: str) -> None:
    value = json.loads(encoding.encode(deep(200, kind)))
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
    text = encoding.encode(value)
    text.encode("utf-8")

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    def fits(digits: str) -> int:
        assert -(2**63) <= int(digits) < 2**63
        return int(digits)

    json.loads(text, parse_constant=refuse, parse_int=fits)


def test_surrogates_and_nul_vanish_and_a_preview_is_cut() -> None:
    assert encoding.clean_text("a\x00b\ud800c") == "ab?c"
    assert encoding.preview("x" * 2000) == "x" * 997 + "..."
    assert encoding.preview({"q": "é"}) == '{"q": "é"}'


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_values_are_encoded_as_json_dumps_encodes_them(value: Any) -> None:
    assert encoding._ENCODE(value) == json.dumps(value, ensure_ascii=False)
    assert encoding.encode_all({"key": value}) == {"key": encoding.encode(value)}


def test_written_attributes_are_those_of_the_span() -> None:
    contents: PackedList[str] = PackedList()
    attributes = {"mlflow.spanInputs": '"käse \\u0001"', "b": "1.5"}
    spans = []
    for number in range(12):
        plan = SpanPlan(f"{number:016x}", None, "s", "LLM", "OK", "", 1, 2, attributes)
        contents.append(encoding.span_content("tr-" + "0" * 32, plan))
        spans.append(encoding.WrittenAttributes(tuple(attributes), contents, number))
    assert spans[0] == spans[11] == attributes and dict(spans[11]) == attributes
    assert spans[11].get("c") is None
