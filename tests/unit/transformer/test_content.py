"""The text of ``spans.content`` is what MLflow itself makes of the same span."""

from __future__ import annotations

import json

from migrator.encoding import encode, span_content
from tests.support.planskit import LLM, run, trace


def test_content_is_mlflows_own_text_of_the_span() -> None:
    from mlflow.entities.span import Span
    from mlflow.tracing.utils import TraceJSONEncoder

    made = trace(
        run("root"),
        run("kïd", "root", status="FAILED", params={"x": encode({"a": [1.5]})}, texts=LLM["texts"]),
    )
    for span in made.spans:
        content = span_content(made.trace_id, span)
        theirs = Span.from_dict(json.loads(content))
        again = theirs.to_dict()
        again.pop("links", None)  # MLflow 3.10 and later
        assert json.dumps(again, cls=TraceJSONEncoder, ensure_ascii=False) == content
        assert (theirs.trace_id, theirs.span_id, theirs.parent_id) == (
            made.trace_id, span.span_id, span.parent_span_id,
        )  # fmt: skip
        assert theirs.span_type == span.type
        assert theirs.status.status_code.value == span.status


def test_usage_is_what_mlflow_sums() -> None:
    from mlflow.entities.span import Span
    from mlflow.tracing.utils import aggregate_usage_from_spans

    made = trace(run("root"), run("a", "root", **LLM), run("b", "a", **LLM))
    spans = [Span.from_dict(json.loads(span_content(made.trace_id, s))) for s in made.spans]
    assert made.usage is not None
    assert aggregate_usage_from_spans(spans)["total_tokens"] == made.usage.total_tokens == 15
