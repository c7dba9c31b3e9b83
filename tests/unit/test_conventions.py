"""The names against MLflow's own."""

from __future__ import annotations

import pytest
from mlflow.entities import SpanType as MlflowSpanType
from mlflow.tracing import constant
from mlflow.utils import mlflow_tags

from migrator import conventions
from migrator.model import SpanType

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
    (conventions.TRACE_MODEL_ID, constant.TraceMetadataKey.MODEL_ID),
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
