"""A planned trace as OpenTelemetry protobuf, with the GenAI semantic conventions.

Formats: ``opentelemetry/proto/trace/v1/trace.proto`` 1.x; attribute and event names of
https://opentelemetry.io/docs/specs/semconv/gen-ai/ as of ``opentelemetry-semantic-conventions``
0.58b0 (a test compares them with the installed ones). MLflow's own attributes are kept as well, so
an MLflow server that receives the trace shows the same as after a conversion.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from migrator import __version__, conventions, encoding
from migrator.model import AssessmentRecord, Json, SpanEvent, SpanPlan, TracePlan

_OPERATIONS = {
    "CHAT_MODEL": "chat",
    "LLM": "text_completion",
    "AGENT": "invoke_agent",
    "TOOL": "execute_tool",
    "EMBEDDING": "embeddings",
    "RETRIEVER": "retrieval",
    "WORKFLOW": "invoke_workflow",
}
_NAMED = {"invoke_agent": "agent", "execute_tool": "tool", "invoke_workflow": "workflow"}
_MODEL_CALLS = ("CHAT_MODEL", "LLM", "EMBEDDING")
_PROVIDERS = {  # names in use -> those of the conventions; any other stays as it is
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "xai": "x_ai",
}
_INT64 = range(conventions.INT64_MIN, conventions.INT64_MAX + 1)
_STATUS = {
    "OK": Status.STATUS_CODE_OK,
    "ERROR": Status.STATUS_CODE_ERROR,
    "UNSET": Status.STATUS_CODE_UNSET,
}


def resource_spans(plan: TracePlan, experiment: str) -> ResourceSpans:
    """Encode a trace's spans; the resource's ``service.name`` is the experiment's name."""
    scope = InstrumentationScope(name="mlflow-migrate", version=__version__)
    return ResourceSpans(
        resource=Resource(attributes=_pairs({"service.name": experiment})),
        scope_spans=[ScopeSpans(scope=scope, spans=[_span(plan, each) for each in plan.spans])],
    )


def _span(plan: TracePlan, span: SpanPlan) -> Span:
    attributes = {key: _decoded(text) for key, text in span.attributes.items()}
    is_root = span.parent_span_id is None
    said = {**attributes, **_genai(plan, span, attributes)}
    if is_root:
        said |= {f"trace.tag.{key}": value for key, value in plan.tags.items()}
        said |= {f"trace.metadata.{key}": value for key, value in plan.metadata.items()}
    assessments = [
        _assessment_event(each)
        for each in plan.assessments
        if each.span_id == span.span_id or (is_root and each.span_id is None)
    ]
    return Span(
        trace_id=bytes.fromhex(plan.trace_id.removeprefix("tr-")),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_span_id or ""),
        name=span.name,
        kind=Span.SPAN_KIND_CLIENT if span.type in _MODEL_CALLS else Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=max(span.start_ns, 0),
        end_time_unix_nano=max(span.end_ns, 0),
        attributes=_pairs(said),
        events=[
            Span.Event(
                name=event.name,
                time_unix_nano=max(event.time_ns, 0),
                attributes=_pairs(event.attributes),
            )
            for event in (*span.events, *assessments)
        ],
        status=Status(code=_STATUS[span.status], message=span.status_message),
    )


def _genai(plan: TracePlan, span: SpanPlan, own: Mapping[str, Json]) -> dict[str, Json]:
    """Make a span's attributes of the GenAI conventions; none for steps that they don't cover."""
    said = _operation(span, own)
    model, provider = own.get(conventions.SPAN_MODEL), own.get(conventions.SPAN_PROVIDER)
    if isinstance(model, str):
        said["gen_ai.request.model"] = model
    if isinstance(provider, str):
        said["gen_ai.provider.name"] = _PROVIDERS.get(provider.lower(), provider.lower())
    usage = own.get(conventions.SPAN_USAGE)
    counts = usage if isinstance(usage, Mapping) else {}
    for name in ("input_tokens", "output_tokens"):
        if isinstance(counts.get(name), int):
            said[f"gen_ai.usage.{name}"] = counts[name]
    if session := plan.metadata.get(conventions.TRACE_SESSION):
        said["gen_ai.conversation.id"] = session
    if user := plan.metadata.get(conventions.TRACE_USER):
        said["user.id"] = user
    if span.status == "ERROR":
        types = (event.attributes.get("exception.type") for event in span.events)
        said["error.type"] = next(filter(None, types), "_OTHER")
    return said


def _operation(span: SpanPlan, own: Mapping[str, Json]) -> dict[str, Json]:
    """What a span did, to what, with which result; nothing for steps without an operation."""
    operation = _OPERATIONS.get(span.type)
    if operation is None:
        return {}
    inputs, outputs = own.get(conventions.SPAN_INPUTS), own.get(conventions.SPAN_OUTPUTS)
    if operation == "text_completion" and encoding.is_chat(_messages_of(inputs)):
        operation = "chat"
    said: dict[str, Json] = {"gen_ai.operation.name": operation}
    if operation in _NAMED:
        said[f"gen_ai.{_NAMED[operation]}.name"] = span.name
    if operation == "execute_tool":
        texts = {"gen_ai.tool.call.arguments": inputs, "gen_ai.tool.call.result": outputs}
    elif operation == "retrieval":
        texts = {"gen_ai.retrieval.documents": outputs}
    else:
        texts = {
            "gen_ai.input.messages": _parts(inputs, "user"),
            "gen_ai.output.messages": _parts(outputs, "assistant"),
        }
    return said | _texts(texts)


def _messages_of(value: Json) -> Json:
    """Find the list of messages in inputs or outputs; without one, return the value itself."""
    return value.get("messages", value) if isinstance(value, Mapping) else value


def _parts(value: Json, role: str) -> Json:
    """Convert inputs or outputs to the conventions' list of messages; None stays None."""
    messages = _messages_of(value)
    if messages is None:
        return None
    if not encoding.is_chat(messages):
        return [{"role": role, "parts": [{"type": "text", "content": _as_text(messages)}]}]
    assert isinstance(messages, list)
    return [
        {
            "role": message["role"],
            "parts": [{"type": "text", "content": _as_text(message["content"])}],
        }
        for message in messages
        if isinstance(message, Mapping)
    ]


def _as_text(value: Json) -> str:
    return value if isinstance(value, str) else encoding.encode(value)


def _texts(values: Mapping[str, Json]) -> dict[str, Json]:
    """Convert values to JSON text, which every receiver accepts; leave out those that are None."""
    return {key: _as_text(value) for key, value in values.items() if value is not None}


def _assessment_event(record: AssessmentRecord) -> SpanEvent:
    """Convert an assessment to an event; the conventions have one for feedback only."""
    said: dict[str, Json] = {
        "gen_ai.evaluation.name": record.name,
        "assessment.type": record.type,
        "assessment.source.type": record.source_type,
    }
    if record.source_id:
        said["assessment.source.id"] = record.source_id
    if record.rationale:
        said["gen_ai.evaluation.explanation"] = record.rationale
    if isinstance(record.value, bool | int | float):
        said["gen_ai.evaluation.score.value"] = float(record.value)
    if record.value is not None and (
        isinstance(record.value, bool) or not isinstance(record.value, int | float)
    ):
        said["gen_ai.evaluation.score.label"] = _as_text(record.value)
    if record.error is not None:
        said["error.type"] = _as_text(record.error)
    name = "gen_ai.evaluation.result" if record.type == "feedback" else "assessment"
    return SpanEvent(name, record.created_ms * 1_000_000, said)


def _decoded(text: str) -> Json:
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value


def _pairs(values: Mapping[str, Json]) -> Iterator[KeyValue]:
    return (KeyValue(key=key, value=_any(value)) for key, value in values.items())


def _any(value: Json) -> AnyValue:
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if value in _INT64 else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    found = AnyValue()
    if isinstance(value, str):
        found.string_value = encoding.clean_text(value)
    elif isinstance(value, Mapping):
        found.kvlist_value.values.extend(_pairs(value))
    else:
        found.array_value.values.extend(_any(each) for each in value)
    return found
