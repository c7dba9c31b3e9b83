"""Completes a trace when it has ended, before it is written: calls, totals, masks.

All spans are known by then, so a call that a node reported can be told from one that a span below
has recorded already, and every sum is taken from the same spans. It runs where traces are written,
in the background, so the workflow doesn't wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import (
    AssessmentSource,
    AssessmentSourceType,
    Feedback,
    Span,
    SpanStatusCode,
    Trace,
    TraceData,
    TraceState,
)
from mlflow.tracing import utils as tracing_utils
from mlflow.tracing.utils import build_otel_context, decode_id, dump_span_attribute_value
from mlflow.tracing.utils.truncation import set_request_response_preview
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status, StatusCode

from migrator import conventions as conv
from migrator import encoding
from migrator.model import SpanType
from migrator.tracker.costs import Totals, cost_attribute, totals
from migrator.tracker.masking import Masker, may_need_masking
from migrator.tracker.prices import Cost, PriceTable
from migrator.tracker.usage import (
    CALLS,
    NO_TOKENS,
    REPORTED,
    UNPRICED,
    Call,
    Usage,
    model_of,
    usage_of,
)

Calls = Mapping[str, Sequence[Call]]  # by the id of the span that reported them

# Attributes that make a span a span, and entries of a trace that tie things together: not masked.
STRUCTURE = frozenset(
    {conv.SPAN_REQUEST_ID, conv.SPAN_EXPERIMENT_ID, conv.SPAN_TYPE, conv.SPAN_USAGE, conv.SPAN_COST}
    | {conv.ARTIFACT_LOCATION, conv.SPANS_LOCATION, conv.SCHEMA_VERSION, conv.SIZE_STATS}
    | {conv.SIZE_BYTES, conv.TRACE_USAGE, conv.TRACE_COST, conv.SOURCE_RUN, conv.LINKED_PROMPTS}
)
EVALUATION_TAG = "mlflow.eval.requestId"  # how mlflow.genai.evaluate finds the trace
INPUTS_METADATA, OUTPUTS_METADATA = conv.TRACE_INPUTS, conv.TRACE_OUTPUTS
UNKNOWN = "unknown"  # stands for the name of a model that nobody said
# LangGraph's GraphBubbleUp and what is derived from it; those that wait for a person.
WAITS = frozenset({"GraphInterrupt", "NodeInterrupt"})
GRAPH_CONTROL = WAITS | {"GraphBubbleUp", "GraphDrained", "ParentCommand"}
INTERRUPTS = "__interrupt__"  # key of a graph's result that says what it waits for
MODEL_TYPES = ("LLM", "CHAT_MODEL", "EMBEDDING")


@dataclass(slots=True)
class Draft:
    """A span with what is to be changed of it."""

    span: Any
    changes: dict[str, Any] = field(default_factory=dict)
    replaced: dict[str, Any] = field(default_factory=dict)  # events and status, as OpenTelemetry's
    dropped: set[str] = field(default_factory=set)
    children: list[Draft] = field(default_factory=list)
    parent: Draft | None = None
    is_call: bool = False  # made here, of a call that its parent reported
    has_tokens: bool = False  # on itself or below; known once its children are placed

    def get(self, key: str) -> Any:
        """Read an attribute."""
        if key in self.changes:
            return self.changes[key]
        return None if key in self.dropped else self.span.get_attribute(key)

    def set(self, values: Mapping[str, Any]) -> None:
        """Change attributes that aren't so already."""
        for key, value in values.items():
            if self.get(key) != value:
                self.changes[key] = value

    @property
    def usage(self) -> Usage | None:
        """The tokens that the span says itself."""
        return usage_of(self.get(conv.SPAN_USAGE))

    @property
    def has_tokens_below(self) -> bool:
        """Whether a span below has tokens."""
        return any(child.has_tokens for child in self.children)

    @property
    def is_node(self) -> bool:
        """Whether the span is a node or a workflow of the tracker: one that reports calls."""
        return self.get("node_id") is not None or self.get("workflow_name") is not None

    @property
    def is_model_call(self) -> bool:
        """Whether the span is a call of a model that something else than a node recorded."""
        return self.span.span_type in MODEL_TYPES and not self.is_node

    def built(self, end_ns: int | None) -> Any:
        """Build the changed span. One that is still open ends at ``end_ns`` in what is written."""
        old = self.span._span
        is_open = old.end_time is None
        if not (self.changes or self.dropped or self.replaced or is_open):
            return self.span
        kept = {key: text for key, text in old.attributes.items() if key not in self.dropped}
        kept |= {key: dump_span_attribute_value(value) for key, value in self.changes.items()}
        end = old.end_time
        if is_open:
            kept[conv.MIGRATOR_UNFINISHED] = dump_span_attribute_value("true")
            end = max(old.start_time, end_ns or old.start_time)
        return _copy(old, attributes=kept, end_time=end, **self.replaced)


def _copy(old: Any, **changed: Any) -> Any:
    values = {
        "name": old.name, "context": old.context, "parent": old.parent, "resource": old.resource,
        "attributes": old.attributes, "events": old.events, "links": old.links, "kind": old.kind,
        "status": old.status, "start_time": old.start_time, "end_time": old.end_time,
    }  # fmt: skip
    return Span(ReadableSpan(**(values | changed)))


@dataclass(frozen=True, slots=True)
class Finisher:
    """Completes the traces of one tracker."""

    prices: PriceTable
    provider: str | None  # the workflow's, for calls that don't say theirs
    masker: Masker

    # ------------------------------------------------------------------------------ traces
    def trace(self, trace: Any, calls: Calls) -> Any:
        """Complete a whole trace: its spans, its totals in metadata and feedback, its masks."""
        root = next((span for span in trace.data.spans if span.parent_id is None), None)
        end_ns = root.end_time_ns if root else None
        if end_ns is None and trace.info.execution_duration is not None:  # the root is open
            end_ns = (trace.info.request_time + trace.info.execution_duration) * 1_000_000
        spans = self._unmasked(trace.data.spans, calls, end_ns)
        _settle_state(trace.info, spans)
        write_totals(trace.info, totals(spans), self.prices.source)
        finished = Trace(trace.info, TraceData([self._masked(span) for span in spans]))
        self._mask_info(finished)
        return finished

    def spans(self, spans: Sequence[Any], calls: Calls) -> list[Any]:
        """Complete spans of a trace whose root is written elsewhere, or was written before."""
        return [self._masked(span) for span in self._unmasked(spans, calls, None)]

    def assessment(self, assessment: Any) -> Any:
        """Mask an assessment."""
        if self.masker.is_active:
            _mask_assessment(assessment, self.masker)
        return assessment

    # ------------------------------------------------------------------------------ calls
    def _unmasked(self, spans: Sequence[Any], calls: Calls, end_ns: int | None) -> list[Any]:
        drafts = list(_tree(spans))
        made: list[Draft] = []
        for draft in reversed(drafts):  # children before their parents
            _settle_interrupts(draft)
            reported = calls.get(draft.span.span_id)
            if reported:
                made += self._place(draft, reported)
            elif (usage := _usage_with_kinds(draft)) is not None:
                self._complete(draft, usage)
            draft.has_tokens = draft.usage is not None or draft.has_tokens_below
        return [draft.built(end_ns) for draft in [*drafts, *made]]

    def _place(self, draft: Draft, reported: Sequence[Call]) -> list[Draft]:
        """Put a span's calls where they count once.

        That is on the span itself; or, where spans with tokens are below it, in child spans.
        """
        own, repeated = _split(reported, _model_spans_below(draft))
        if repeated:
            draft.set({REPORTED: _total(repeated).as_attribute()})
        if own and draft.has_tokens_below:
            return [
                self._child(draft, call, number)
                for number, call in enumerate(own, 1)
                if call.usage.total_tokens or call.prompt is not None or call.response is not None
            ]
        self._on_itself(draft, own)
        return []

    def _on_itself(self, draft: Draft, calls: Sequence[Call]) -> None:
        model, provider = draft.get(conv.PLAIN_MODEL), draft.get(conv.PLAIN_PROVIDER)
        for call in reversed(calls):  # the first call's word goes first
            model, provider = call.model or model, call.provider or provider
        draft.set(self._names(model, provider))
        priced = [(call.model or model, call.usage) for call in calls if call.usage.total_tokens]
        if priced:
            draft.set(_usage_attributes(_total(calls)) | {CALLS: len(priced)})
            draft.set(self._costs(priced, draft.get(conv.SPAN_PROVIDER)))

    def _child(self, draft: Draft, call: Call, number: int) -> Draft:
        """Make a child span of one call, with its model, tokens, cost, prompt and answer."""
        old = draft.span._span
        model = call.model or draft.get(conv.PLAIN_MODEL)
        provider = call.provider or draft.get(conv.PLAIN_PROVIDER)
        attributes: dict[str, Any] = {
            key: draft.span.get_attribute(key)
            for key in (conv.SPAN_REQUEST_ID, conv.SPAN_EXPERIMENT_ID)
            if draft.span.get_attribute(key) is not None
        }
        attributes[conv.SPAN_TYPE] = SpanType.CHAT_MODEL
        attributes |= self._names(model, provider)
        if call.prompt is not None:
            attributes[conv.SPAN_INPUTS] = {"prompt": call.prompt}
        if call.response is not None:
            attributes[conv.SPAN_OUTPUTS] = call.response
        if call.usage.total_tokens:
            attributes |= _usage_attributes(call.usage)
            attributes |= self._costs([(model, call.usage)], attributes.get(conv.SPAN_PROVIDER))
        span_id = encoding.span_id_of(draft.span.trace_id, f"{draft.span.span_id}/call/{number}")
        span = _copy(
            old,
            name=f"{draft.span.name} call {number}",
            context=build_otel_context(old.context.trace_id, decode_id(span_id)),
            parent=build_otel_context(old.context.trace_id, old.context.span_id),
            attributes={key: dump_span_attribute_value(v) for key, v in attributes.items()},
            events=(),
            links=(),
            status=Status(StatusCode.OK),
            start_time=call.start_ns,
            end_time=max(call.start_ns, call.end_ns),
        )
        child = Draft(span, parent=draft, is_call=True, has_tokens=True)
        draft.children.append(child)
        return child

    def _names(self, model: str | None, provider: str | None) -> dict[str, Any]:
        names: dict[str, Any] = {}
        provider = provider or self._provider_of(model)
        if model:
            names |= {conv.PLAIN_MODEL: model, conv.SPAN_MODEL: model}
        if provider:
            names |= {conv.PLAIN_PROVIDER: provider, conv.SPAN_PROVIDER: provider}
        return names

    def _provider_of(self, model: str | None) -> str | None:
        """The workflow's provider, else the one that the price table names."""
        if self.provider is not None or model is None:
            return self.provider
        price = self.prices.price(model)
        return price.provider if price else None

    def _costs(self, calls: Sequence[tuple[str | None, Usage]], provider: Any) -> dict[str, Any]:
        """Cost attributes of calls, each at the price of its model, and the models without one."""
        input_usd = output_usd = 0.0
        is_priced = False
        unpriced: set[str] = set()
        for model, usage in calls:
            cost = self._cost(model, usage, provider) if model else None
            if cost is None:
                unpriced.add(model or UNKNOWN)
                continue
            is_priced = True
            input_usd += cost.input_usd
            output_usd += cost.output_usd
        attributes = _cost_attributes(cost_attribute(input_usd, output_usd)) if is_priced else {}
        return attributes | ({UNPRICED: sorted(unpriced)} if unpriced else {})

    def _cost(self, model: str, usage: Usage, provider: Any) -> Cost | None:
        """Price a call; by MLflow's own table where ours lacks the model.

        MLflow 3.10 and later would write that cost itself, to the span and nowhere else.
        """
        cost = self.prices.cost(model, usage)
        calculate = getattr(tracing_utils, "calculate_cost_by_model_and_token_usage", None)
        if cost is not None or calculate is None:
            return cost
        of_mlflow = calculate(model, usage.as_attribute(), provider)
        if not of_mlflow:
            return None
        return Cost(of_mlflow["input_cost"], of_mlflow["output_cost"])

    def _complete(self, draft: Draft, usage: Usage) -> None:
        """Fill in model, provider and cost of a span that an integration of MLflow wrote."""
        model = _model(draft)
        provider = (
            draft.get(conv.PLAIN_PROVIDER)
            or draft.get(conv.SPAN_PROVIDER)
            or _of(draft.get("metadata"), "ls_provider")
        )
        draft.set(_usage_attributes(usage))
        draft.set(self._names(model, provider if isinstance(provider, str) else None))
        cost = draft.get(conv.SPAN_COST)
        is_priced = isinstance(cost, Mapping) and cost.get("total_cost") is not None
        if is_priced and (not _is_of_mlflows_table(draft) or self._lacks(model)):
            draft.set({conv.PLAIN_COST: cost["total_cost"]})
        else:
            draft.set(self._costs([(model, usage)], draft.get(conv.SPAN_PROVIDER)))

    def _lacks(self, model: str | None) -> bool:
        """Return True if the table has no price for a model."""
        return model is None or self.prices.price(model) is None

    # ------------------------------------------------------------------------------ late spans
    def separated(self, spans: Sequence[Any]) -> list[Any]:
        """Move a span's own calls into a child where spans with tokens came below it later.

        Takes all stored spans of a trace; returns those that change and those that are new.
        """
        drafts = list(_tree(spans))
        written: list[Any] = []
        for draft in reversed(drafts):
            usage, is_above = draft.usage, draft.has_tokens_below
            draft.has_tokens = usage is not None or is_above
            if usage is None or not is_above or draft.get(CALLS) is None:
                continue
            cost = draft.get(conv.SPAN_COST)
            call = Call(
                usage, draft.get(conv.PLAIN_MODEL), draft.get(conv.PLAIN_PROVIDER),
                draft.span.start_time_ns, draft.span.end_time_ns or draft.span.start_time_ns,
                _of(draft.span.inputs, "prompt"), draft.span.outputs,
            )  # fmt: skip
            child = self._child(draft, call, 1)
            child.set({CALLS: draft.get(CALLS)})
            if isinstance(cost, Mapping):  # of several models, each at its price
                child.set(_cost_attributes(cost))
            if (unpriced := draft.get(UNPRICED)) is not None:
                child.set({UNPRICED: unpriced})
            draft.dropped |= {conv.SPAN_USAGE, conv.PLAIN_REASONING, CALLS}
            draft.dropped |= {conv.SPAN_COST, conv.PLAIN_COST, UNPRICED}
            written += [draft.built(None), child.built(None)]
        return written

    # ------------------------------------------------------------------------------ masks
    def _masked(self, span: Any) -> Any:
        masker, old = self.masker, span._span
        if not masker.is_active:
            return span
        changed: dict[str, Any] = {}
        looked_at = {
            key: span.get_attribute(key)
            for key, encoded in old.attributes.items()
            if key not in STRUCTURE and _needs_look(masker, key, encoded)
        }
        clean = masker.entries(looked_at)
        if clean != looked_at:
            kept = {
                key: encoded
                for key, encoded in old.attributes.items()
                if key not in looked_at or (key in clean and clean[key] == looked_at[key])
            }
            masked = {k: dump_span_attribute_value(v) for k, v in clean.items() if k not in kept}
            changed["attributes"] = kept | masked
        if old.events:
            changed["events"] = tuple(_masked_event(event, masker) for event in old.events)
        if masker.searches_texts:
            changed["name"] = masker.text(old.name)
            if old.status.description:
                text = masker.text(old.status.description)
                changed["status"] = Status(old.status.status_code, text)
        return _copy(old, **changed) if changed else span

    def _mask_info(self, trace: Any) -> None:
        """Mask what the trace says beside its spans: previews, tags, session, user, feedback."""
        if not self.masker.is_active:
            return
        info, masker = trace.info, self.masker
        kept = STRUCTURE | {EVALUATION_TAG, INPUTS_METADATA, OUTPUTS_METADATA}
        for entries in (info.tags, info.trace_metadata):
            masked = masker.entries({k: v for k, v in entries.items() if k not in kept})
            whole = {key: value for key, value in entries.items() if key in kept}
            entries.clear()
            entries.update(whole | masked)
        root = next((span for span in trace.data.spans if span.parent_id is None), None)
        if root is not None:
            self._mask_previews(info, trace.data, root)
        if isinstance(info.client_request_id, str):
            info.client_request_id = masker.text(info.client_request_id)
        for assessment in info.assessments:
            _mask_assessment(assessment, masker)

    def _mask_previews(self, info: Any, data: Any, root: Any) -> None:
        """Take previews from the masked root; one that the user set is masked as a text."""
        copies = (
            (INPUTS_METADATA, conv.SPAN_INPUTS),
            (OUTPUTS_METADATA, conv.SPAN_OUTPUTS),
        )
        for key, attribute in copies:
            if info.trace_metadata.get(key):
                encoded = root._span.attributes.get(attribute) or ""
                info.trace_metadata[key] = encoding.cut(encoded, conv.METADATA_CHARS)
        previews = (info.request_preview, info.response_preview)
        info.request_preview = info.response_preview = None
        set_request_response_preview(info, data)
        computed = (info.request_preview, info.response_preview)
        info.request_preview = _preview(previews[0], computed[0], self.masker)
        info.response_preview = _preview(previews[1], computed[1], self.masker)


def _preview(given: str | None, computed: str | None, masker: Masker) -> str | None:
    """Choose the preview that was given, masked, if masking can't have changed its meaning."""
    if given is None or given == computed:
        return computed
    if may_need_masking(given):
        return computed
    return masker.text(given)


# ------------------------------------------------------------------------------ totals
def write_totals(info: Any, found: Totals, prices: str | None = None) -> None:
    """Write a trace's totals where MLflow's views read them: metadata, and feedback to chart.

    The feedback on dollars says which models they leave out and, in its metadata, whose ``prices``
    they are.
    """
    if not found.tokens.total_tokens:
        return
    metadata = info.trace_metadata
    metadata[conv.TRACE_USAGE] = encoding.encode(found.usage())
    _write_feedback(info, conv.FEEDBACK_TOKENS, found.tokens.total_tokens)
    cost = found.cost()
    if cost is not None:
        metadata[conv.TRACE_COST] = encoding.encode(cost)
        for name, value in encoding.cost_feedback(cost["total_cost"]).items():
            feedback = _write_feedback(info, name, value)
            if found.unpriced:
                unpriced = ", ".join(found.unpriced)
                feedback.rationale = f"Without calls of {unpriced}: no price is known."
            if prices is not None:
                feedback.metadata = {"prices": prices}


def _write_feedback(info: Any, name: str, value: float) -> Feedback:
    for given in info.assessments:
        is_ours = given.source.source_id == conv.FEEDBACK_SOURCE and given.name == name
        if is_ours and given.feedback is not None:
            given.feedback.value = given.value = value
            return given
    feedback = Feedback(
        name=name,
        value=value,
        trace_id=info.trace_id,
        create_time_ms=(info.request_time or 0) + (info.execution_duration or 0),
        source=AssessmentSource(
            source_type=AssessmentSourceType.CODE, source_id=conv.FEEDBACK_SOURCE
        ),
    )
    feedback.assessment_id = encoding.assessment_id_of(info.trace_id, name, conv.FEEDBACK_SOURCE)
    info.assessments.append(feedback)
    return feedback


def _usage_attributes(usage: Usage) -> dict[str, Any]:
    """Token attributes of a span. MLflow has no key for reasoning tokens: they get a plain one."""
    attributes: dict[str, Any] = {conv.SPAN_USAGE: usage.as_attribute()}
    if usage.reasoning_tokens:
        attributes[conv.PLAIN_REASONING] = usage.reasoning_tokens
    return attributes


def _cost_attributes(cost: Mapping[str, Any]) -> dict[str, Any]:
    return {conv.SPAN_COST: dict(cost), conv.PLAIN_COST: cost["total_cost"]}


# ------------------------------------------------------------------------------ the tree
def _tree(spans: Sequence[Any]) -> Iterator[Draft]:
    """Link the spans and yield them, each before its children."""
    drafts = {span.span_id: Draft(span) for span in spans}
    roots: list[Draft] = []
    for draft in drafts.values():
        draft.parent = drafts.get(draft.span.parent_id)
        (roots if draft.parent is None else draft.parent.children).append(draft)
    waiting = list(reversed(roots))
    while waiting:
        draft = waiting.pop()
        yield draft
        waiting += reversed(draft.children)


def _model_spans_below(draft: Draft) -> list[Draft]:
    """List the recorded model calls below a span, not those below an inner node."""
    found: list[Draft] = []
    waiting = list(draft.children)
    while waiting:
        child = waiting.pop()
        if child.is_node or child.is_call:
            continue
        if child.usage is not None and child.span.span_type in MODEL_TYPES:
            found.append(child)
        else:
            waiting += child.children
    return sorted(found, key=lambda each: each.span.end_time_ns or 0)


def _split(reported: Sequence[Call], recorded: Sequence[Draft]) -> tuple[list[Call], list[Call]]:
    """Tell a span's own calls from reports of calls that are recorded below it.

    A report repeats a recorded call that ended before it and has the same tokens, or all of them
    together. Each recorded call is repeated once.
    """
    own: list[Call] = []
    repeated: list[Call] = []
    left = list(recorded)
    for call in reported:
        before = [
            each for each in left if (each.span.end_time_ns or call.end_ns + 1) <= call.end_ns
        ]
        same = [each for each in before if call.usage.is_same_call(each.usage or NO_TOKENS)][:1]
        if not same and before and call.usage.is_same_call(_sum_of(before)):
            same = before
        if same and call.usage.total_tokens:
            repeated.append(call)
            left = [each for each in left if each not in same]
        else:
            own.append(call)
    return own, repeated


def _sum_of(drafts: Sequence[Draft]) -> Usage:
    total = NO_TOKENS
    for draft in drafts:
        total = total.plus(draft.usage or NO_TOKENS)
    return total


def _total(calls: Sequence[Call]) -> Usage:
    total = NO_TOKENS
    for call in calls:
        total = total.plus(call.usage)
    return total


# ------------------------------------------------------------------------------ interrupts
def _settle_interrupts(draft: Draft) -> None:
    """Take what LangGraph raises to stop or leave a graph for what it is: not an error.

    ``interrupt()`` waits for a person: the span gets the attribute ``waiting``.
    """
    events = draft.span._span.events or ()
    raised = [event for event in events if _raised(event) in GRAPH_CONTROL]
    encoded = draft.span._span.attributes.get(conv.SPAN_OUTPUTS) or ""  # large ones aren't parsed
    is_interrupted = INTERRUPTS in encoded and bool(_of(draft.span.outputs, INTERRUPTS))
    if is_interrupted or any(_raised(event) in WAITS for event in raised):
        draft.set({conv.WAITING: True})
    if raised:
        kept = tuple(event for event in events if event not in raised)
        draft.replaced = {"events": kept, "status": Status(StatusCode.OK)}


def _raised(event: Any) -> str | None:
    """Name the class of the exception that an event records; None for any other event."""
    kind = (event.attributes or {}).get("exception.type")
    return str(kind).rpartition(".")[2] if kind else None


def _settle_state(info: Any, spans: Sequence[Any]) -> None:
    """Tag a trace that waits for a person. One that only stopped to wait has not failed."""
    if any(span.get_attribute(conv.WAITING) for span in spans):
        info.tags[conv.WAITING] = "true"
    root = next((span for span in spans if span.parent_id is None), None)
    has_failed = root is None or root.status.status_code != SpanStatusCode.OK
    if info.state == TraceState.ERROR and not has_failed:
        info.state = TraceState.OK


# ------------------------------------------------------------------------------ integrations
def _usage_with_kinds(draft: Draft) -> Usage | None:
    """Read a span's tokens, with what its output says and the integration left out.

    MLflow 3.9 writes no kinds, and leaves out the tokens that Anthropic counts beside its input
    and Google beside its output. No release writes the tokens of embeddings.
    """
    usage = draft.usage
    if usage is None and (not draft.is_model_call or draft.has_tokens_below):
        return None
    outputs = draft.span.outputs
    said = usage_of(outputs) or usage_of(_langchain_message(outputs))
    if usage is None or said is None:
        return usage or said
    has_same_output = usage.output_tokens in (
        said.output_tokens, said.output_tokens - said.reasoning_tokens
    )  # fmt: skip
    if not has_same_output:  # the span's tokens are of something else
        return usage
    return Usage(*(max(counts) for counts in zip(usage, said, strict=True)))


def _is_of_mlflows_table(draft: Draft) -> bool:
    """Return True if a span's cost is what MLflow 3.10 and later calculate, from their prices.

    The tracker's own price goes before it, so that all releases and all spans of a trace have the
    same prices. A cost that somebody else gave stays.
    """
    calculate = getattr(tracing_utils, "calculate_span_cost", None)
    return calculate is not None and calculate(draft.span) == draft.span.get_attribute(
        conv.SPAN_COST
    )


def _model(draft: Draft) -> str | None:
    """Find a call's model: where the integrations put it, else that of the node around it."""
    model = draft.get(conv.PLAIN_MODEL) or draft.get(conv.SPAN_MODEL)
    if not model:  # LangChain's and OpenAI's integrations on 3.9 keep it elsewhere
        outputs = draft.span.outputs
        model = (
            model_of(draft.get("invocation_params"))
            or _of(draft.get("metadata"), "ls_model_name")
            or model_of(draft.span.inputs)
            or model_of(outputs)
            or model_of(_langchain_message(outputs))
            or _model_around(draft)
        )
    return model if isinstance(model, str) else None


def _model_around(draft: Draft) -> Any:
    around = draft.parent
    while around is not None:
        if around.is_node:
            return around.get(conv.PLAIN_MODEL)
        around = around.parent
    return None


def _langchain_message(outputs: Any) -> Any:
    """Find the message in the outputs of a LangChain chat model's span."""
    found = _of(outputs, "generations")
    while isinstance(found, Sequence) and not isinstance(found, str) and found:
        found = found[0]
    return _of(found, "message")


def _of(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, Mapping) else None


# ------------------------------------------------------------------------------ masks
def _needs_look(masker: Masker, key: str, encoded: Any) -> bool:
    """Return True unless an attribute surely holds nothing to mask."""
    if masker.searches_texts:
        return True
    return may_need_masking(key) or (isinstance(encoded, str) and may_need_masking(encoded))


def _masked_event(event: Any, masker: Masker) -> Any:
    attributes = masker.entries(event.attributes or {})
    return Event(masker.name(event.name), attributes, event.timestamp)


def _mask_assessment(assessment: Any, masker: Masker) -> None:
    is_ours = assessment.source.source_id == conv.FEEDBACK_SOURCE
    for part in (assessment.feedback, assessment.expectation):
        if part is not None:
            part.value = masker.under(assessment.name, part.value)
    if not is_ours:
        assessment.name = masker.name(assessment.name)
        assessment.source.source_id = masker.text(assessment.source.source_id or "")
    error = getattr(assessment.feedback, "error", None)
    if error is not None:
        if error.error_message:
            error.error_message = masker.text(error.error_message)
        if error.stack_trace:  # an empty one would be an empty box in MLflow's page
            error.stack_trace = masker.text(error.stack_trace)
    if assessment.rationale:
        assessment.rationale = masker.text(assessment.rationale)
    if assessment.metadata:
        assessment.metadata = masker.entries(assessment.metadata)
