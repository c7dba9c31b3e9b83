"""One node of a trace to its span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from migrator import conventions as conv
from migrator import encoding
from migrator.model import Json, Role, RunRecord, SpanEvent, SpanPlan, SpanType
from migrator.transformer.found import Found, Status
from migrator.transformer.node_sources import Content
from migrator.transformer.nodes import Node
from migrator.transformer.profile_index import shape_of
from migrator.transformer.run_view import RunView
from migrator.transformer.text_names import judges
from migrator.transformer.values import last_value

CUT_LENGTHS = frozenset({250, 500, 503, 5000, 6000, 8000})  # limits of params and tags, by version

OF_DOCUMENTS = (SpanType.RETRIEVER, SpanType.RERANKER)
"""Types of spans whose outputs are documents."""


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What holds for a whole trace."""

    trace_id: str
    role: Role
    parent: RunView | None  # the run above the root, when that run becomes no span itself
    session: str | None  # of the session whose turn the trace is
    version: str  # of this program, for a tag; empty: no tag


def plan_span(node: Node, trace: TraceFacts) -> SpanPlan:
    """Plan the span of a node that all passes have been over.

    Sets what the previews of the trace need of the node: its inputs and outputs, and what they are.
    """
    assert node.start_ns is not None and node.end_ns is not None
    source, status = node.source, node.status
    content = source.content()
    node.origins.update(content.origins)
    span_type = _type(node, content)
    node.inputs, node.outputs = content.inputs, content.outputs
    node.is_for_next_step = content.is_for_next_step
    node.is_judgement = content.is_judgement or span_type == SpanType.EVALUATOR or judges(node.name)
    if span_type in OF_DOCUMENTS and (documents := source.documents()):
        node.outputs = documents[0]
        node.origins["outputs"] = documents[1].origin
    if node.inputs is None and node.previous is not None and node.previous.outputs is not None:
        node.inputs = node.previous.outputs  # siblings are planned in the order in which they ran
        node.origins["inputs"] = f"outputs of {node.previous.name}"
        node.inferences.append(f"inputs: what {node.previous.name} answered before it")
    node.origins["status"] = status.because
    attributes: dict[str, Json] = {
        conv.SPAN_REQUEST_ID: trace.trace_id,
        conv.SPAN_TYPE: span_type,
    }
    if node.inputs is not None:
        attributes[conv.SPAN_INPUTS] = node.inputs
    if node.outputs is not None:
        attributes[conv.SPAN_OUTPUTS] = node.outputs
    attributes.update(_usage(node))
    attributes.update(_own_attributes(node))
    attributes.update(_model_and_cost(node, span_type))
    attributes.update(_legacy(node, content.used, trace))
    events = _moved(source.events(), node.shift_ns)
    message = ""
    if status.word == "ERROR":
        failure = _exception(status, node.end_ns)
        events = (*events, failure)
        message = _status_message(failure)
    return SpanPlan(
        span_id=node.span_id,
        parent_span_id=node.parent_span_id,
        name=node.name,
        type=span_type,
        status=status.word,
        status_message=message,
        start_ns=node.start_ns,
        end_ns=node.end_ns,
        attributes=encoding.encode_all(attributes),
        events=events,
        run_id=source.run.run_id,
        origins=dict(node.origins),
    )


def _type(node: Node, content: Content) -> str:
    answer = node.source.type(node.place, content, has_usage=bool(node.usage))
    if answer.origin:
        node.origins["type"] = answer.origin
    return answer.text


def _usage(node: Node) -> dict[str, Json]:
    """Token counts under MLflow's key. It has none for reasoning tokens: they get a plain one."""
    if not node.usage:
        return {}
    usage, details = dict(node.usage), node.source.token_details()
    attributes: dict[str, Json] = {conv.SPAN_USAGE: usage}
    if "cached_tokens" in details:
        usage[conv.USAGE_CACHED] = int(details["cached_tokens"])
    if "reasoning_tokens" in details:
        attributes[conv.PLAIN_REASONING] = int(details["reasoning_tokens"])
    return attributes


def _own_attributes(node: Node) -> dict[str, Json]:
    """The attributes that the profile's ``[attributes]`` name, as the run logged them."""
    if not (node.source.is_run or node.is_root):
        return {}
    attributes: dict[str, Json] = {}
    for name, sources in node.view.profile.attributes.items():
        if found := node.view.first_at(sources):
            attributes[name] = found.value
            node.origins[name] = found.origin
    return attributes


def _model_and_cost(node: Node, span_type: str) -> dict[str, Json]:
    """Model, provider and cost under MLflow's keys and under plain ones (3.9 hides its own)."""
    source = node.source
    attributes: dict[str, Json] = {}
    has_usage = bool(node.usage)
    model = source.model(
        span_type, node.place, has_usage=has_usage, is_named_below=node.is_model_below
    )
    if model is not None:
        name = str(model.value).strip()
        attributes[conv.SPAN_MODEL] = attributes[conv.PLAIN_MODEL] = name
        node.origins["model"] = model.origin
        provider = source.provider()
        if provider is not None:
            name = str(provider.value).strip()
            attributes[conv.SPAN_PROVIDER] = attributes[conv.PLAIN_PROVIDER] = name
            node.origins["provider"] = provider.origin
    if node.cost:
        attributes[conv.SPAN_COST] = dict(node.cost)
        attributes[conv.PLAIN_COST] = node.cost["total_cost"]
    if tools := source.tools():
        attributes[f"{conv.LEGACY}tools"] = tools.value
    return attributes


def _legacy(node: Node, used: Sequence[Found], trace: TraceFacts) -> dict[str, Json]:
    """Attributes ``legacy.…``: all that was logged and stands nowhere else, and how it was read.

    What a run logged stands on its own span, or on the root when the trace is a call in it.
    """
    source = node.source
    legacy: dict[str, Json] = {}
    for key, value in source.facts().items():
        legacy[f"{conv.LEGACY}{key}"] = value
    node.inferences.extend(source.notes())
    if source.is_run or node.is_root:
        legacy.update(_run_facts(node, used))
        if node.is_root and trace.parent is not None:
            prefix = f"{conv.LEGACY}parent."
            legacy[f"{prefix}run_id"] = trace.parent.run.run_id
            legacy.update(_logged(trace.parent.run, prefix, ()))
        if cut := [found.origin for found in used if is_cut(found)]:
            legacy[f"{conv.LEGACY}truncated"] = cut
            node.inferences.append(f"text: {', '.join(cut)} looks cut by the logger")
    if node.implausible:
        for name, time_ms in zip(("start", "end"), source.recorded_ms(), strict=True):
            if time_ms is not None:
                legacy[f"{conv.LEGACY}recorded_{name}_ms"] = time_ms
    if node.inferences:
        legacy[f"{conv.LEGACY}inferences"] = list(dict.fromkeys(node.inferences))
    legacy[f"{conv.LEGACY}status_from"] = node.status.because
    return legacy


def _run_facts(node: Node, used: Sequence[Found]) -> dict[str, Json]:
    run = node.source.run
    facts: dict[str, Json] = {
        f"{conv.LEGACY}run_id": run.run_id,
        f"{conv.LEGACY}run_status": run.status,
    }
    facts.update(_logged(run, conv.LEGACY, used))
    if traces := node.source.native_traces():
        facts[f"{conv.LEGACY}native_traces"] = list(traces)
        node.inferences.append("MLflow traced this run itself: tokens and cost are counted there")
    return facts


def _logged(run: RunRecord, prefix: str, used: Sequence[Found]) -> dict[str, Json]:
    """All that a run logged, by key, except for the params and tags that were used."""
    taken = {(found.place, found.key) for found in used if not found.inside}
    facts: dict[str, Json] = {}
    keys = shape_of(run).sorted_keys
    for key in keys["param"]:
        if ("param", key) not in taken:
            facts[f"{prefix}param.{key}"] = run.params[key]
    for key in keys["metric"]:
        facts[f"{prefix}metric.{key}"] = last_value(run.metrics[key])
    for key in keys["tag"]:
        if ("tag", key) not in taken:
            facts[f"{prefix}tag.{key}"] = run.tags[key]
    if run.artifacts:
        facts[f"{prefix}artifacts"] = [artifact.path for artifact in run.artifacts]
    return facts


def is_cut(found: Found) -> bool:
    """Whether a param or tag looks cut: it ends in dots, or exactly at a known limit."""
    value = found.value
    if found.place not in ("param", "tag") or not isinstance(value, str):
        return False
    return len(value) in CUT_LENGTHS or (len(value) > 100 and value.endswith("..."))


def _moved(events: tuple[SpanEvent, ...], by_ns: int) -> tuple[SpanEvent, ...]:
    """Move events along with their span."""
    if not by_ns:
        return events
    return tuple(replace(event, time_ns=event.time_ns + by_ns) for event in events)


def _exception(status: Status, time_ns: int) -> SpanEvent:
    """The event without which MLflow 3.9 draws a failed span as a healthy one."""
    attributes: dict[str, Json] = {
        "exception.message": status.error_message or f"no error text was logged ({status.because})",
        "exception.type": status.error_type or "Error",
    }
    if status.stack_trace:  # an empty one would be an empty box in MLflow's page
        attributes["exception.stacktrace"] = status.stack_trace
    return SpanEvent(
        "exception", time_ns, {key: encoding.sanitize(value) for key, value in attributes.items()}
    )


def _status_message(failure: SpanEvent) -> str:
    """The text of a span's status: type and message of its exception."""
    message = str(failure.attributes["exception.message"])
    kind = str(failure.attributes["exception.type"])
    text = message if message.startswith(kind) else f"{kind}: {message}"
    return encoding.cut(text, conv.PREVIEW_CHARS)
