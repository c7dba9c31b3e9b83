"""Completes spans as they end: model, provider and cost beside tokens, totals on the trace.

Works on spans of any origin, the tracker's and those of MLflow's integrations, so that both are
counted by one rule: tokens count on leaves only. A node that says its tokens while a model call
below it has said them, too, is counted once.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import AssessmentSource, AssessmentSourceType, Feedback
from mlflow.tracing.trace_manager import InMemoryTraceManager

from migrator import conventions as conv
from migrator import encoding
from migrator.tracker.config import Redact
from migrator.tracker.delivery import now_ms
from migrator.tracker.prices import Cost, PriceTable
from migrator.tracker.usage import Usage, model_of, usage_of

MAX_OPEN_TRACES = 10_000
# Attributes that make a span a span; redaction leaves them alone.
STRUCTURE = frozenset(
    {conv.SPAN_REQUEST_ID, conv.SPAN_EXPERIMENT_ID, conv.SPAN_TYPE, conv.SPAN_USAGE, conv.SPAN_COST}
)
SECRETS = (
    r"[\w.+-]+@[\w-]+\.[\w.-]*\w",  # mail addresses
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}",  # OpenAI, Anthropic, Stripe
    r"\bAIza[A-Za-z0-9_-]{30,}",  # Google
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",  # GitHub
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",  # Slack
    r"\bAKIA[A-Z0-9]{16}\b",  # AWS
    r"(?i)\bbearer\s+[\w.~+/=-]{8,}",
)
SECRET_KEYS = re.compile(
    r"(?i)(?:^|_)(?:password|passwd|secret|api_?key|access_?token|authorization)$"
)
REDACTED = "[redacted]"
NO_TOKENS = Usage(0, 0)


@dataclass(slots=True)
class Tally:
    """Tokens and dollars of the calls below a span."""

    usage: Usage = NO_TOKENS
    input_usd: float = 0.0
    output_usd: float = 0.0
    priced: bool = False

    def add(self, other: Tally) -> None:
        """Add another."""
        self.usage = self.usage.plus(other.usage)
        self.input_usd += other.input_usd
        self.output_usd += other.output_usd
        self.priced = self.priced or other.priced

    def cost(self) -> dict[str, float]:
        """Return what stands under ``mlflow.llm.cost`` and ``mlflow.trace.cost``."""
        return as_cost(Cost(self.input_usd, self.output_usd))


@dataclass(slots=True)
class Meter:
    """Sums of the traces that are open in this process."""

    prices: PriceTable
    provider: str | None  # the workflow's, where a call doesn't say
    _below: OrderedDict[str, dict[str, Tally]] = field(default_factory=OrderedDict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def provider_of(self, model: str | None) -> str | None:
        """Return who sells a model: the workflow's provider, else that of the price table."""
        if self.provider is not None or model is None:
            return self.provider
        price = self.prices.price(model)
        return price.provider if price else None

    def tally(self, calls: Sequence[tuple[str | None, Usage]]) -> Tally:
        """Return the sum of calls, each by the price of its model."""
        total: Tally | None = None
        for model, usage in calls:
            one = Tally(usage)
            cost = self.prices.cost(model, *usage) if model else None
            if cost is not None:
                one.input_usd, one.output_usd, one.priced = cost.input_usd, cost.output_usd, True
            if total is None:
                total = one
            else:
                total.add(one)
        return total or Tally()

    def has_below(self, trace_id: str | None, span_id: str | None) -> bool:
        """Tell whether a span that ended below this one has tokens."""
        return span_id in self._below.get(trace_id or "", ())

    def complete(self, span: Any, model_around: Callable[[], str | None]) -> None:
        """Fill in what a span with tokens lacks, and add it to the sums of those above it.

        ``model_around`` says the model of the node around a call that doesn't say its own.
        """
        own = self._own(span, model_around)
        self.sum_up(span.trace_id, span.span_id, span.parent_id, own)

    def sum_up(self, trace_id: Any, span_id: Any, parent_id: str | None, own: Tally | None) -> None:
        """Add what a span that ends has used to the sums of those above it."""
        with self._lock:
            sums = self._below.setdefault(trace_id, {})
            total = sums.pop(span_id, None) or own
            if parent_id is not None and total is not None:
                sums.setdefault(parent_id, Tally()).add(total)
            if parent_id is None or not sums:
                self._below.pop(trace_id, None)
            while len(self._below) > MAX_OPEN_TRACES:
                self._below.popitem(last=False)
        if parent_id is None and total is not None:
            _say_totals(trace_id, total)

    def _own(self, span: Any, model_around: Callable[[], str | None]) -> Tally | None:
        usage = usage_of(span.get_attribute(conv.SPAN_USAGE))
        if usage is None:
            return None
        attributes: dict[str, Any] = {}
        model = span.get_attribute(conv.PLAIN_MODEL) or span.get_attribute(conv.SPAN_MODEL)
        if not model:  # LangChain's and OpenAI's integrations on 3.9 keep it elsewhere
            model = (
                model_of(span.get_attribute("invocation_params"))
                or _of(span.get_attribute("metadata"), "ls_model_name")
                or model_of(span.inputs)
                or model_of(span.outputs)
                or model_of(_langchain_message(span.outputs))
                or model_around()
            )
        if isinstance(model, str):
            attributes[conv.SPAN_MODEL] = attributes[conv.PLAIN_MODEL] = model
        provider = (
            span.get_attribute(conv.PLAIN_PROVIDER)
            or span.get_attribute(conv.SPAN_PROVIDER)
            or _of(span.get_attribute("metadata"), "ls_provider")
            or self.provider_of(model if isinstance(model, str) else None)
        )
        if isinstance(provider, str):
            attributes[conv.SPAN_PROVIDER] = attributes[conv.PLAIN_PROVIDER] = provider
        tally = self.tally([(model if isinstance(model, str) else None, usage)])
        said = span.get_attribute(conv.SPAN_COST)
        if isinstance(said, Mapping) and "total_cost" in said:
            tally.input_usd = float(said.get("input_cost", said["total_cost"]))
            tally.output_usd = float(said["total_cost"]) - tally.input_usd
            tally.priced = True
        if tally.priced:
            attributes[conv.SPAN_COST] = tally.cost()
            attributes[conv.PLAIN_COST] = tally.cost()["total_cost"]
        for key, value in attributes.items():
            if span.get_attribute(key) != value:
                span.set_attribute(key, value)
        return tally


def as_cost(cost: Cost) -> dict[str, float]:
    """Return a cost in dollars, to a billionth, so that sums don't end in floating dust."""
    return {
        "input_cost": round(cost.input_usd, 9),
        "output_cost": round(cost.output_usd, 9),
        "total_cost": round(cost.total_usd, 9),
    }


def _say_totals(trace_id: str, total: Tally) -> None:
    """Put a trace's totals where MLflow's views read them: metadata, and feedback to chart."""
    feedback: dict[str, float | int] = {conv.FEEDBACK_TOKENS: total.usage.total_tokens}
    if total.priced:
        feedback[conv.FEEDBACK_COST] = total.cost()["total_cost"]
    with InMemoryTraceManager.get_instance().get_trace(trace_id) as trace:
        if trace is None:
            return
        if total.priced:
            trace.info.trace_metadata[conv.TRACE_COST] = encoding.encode(total.cost())
        for name, value in sorted(feedback.items()):
            trace.info.assessments.append(
                new_feedback(trace_id, name, value, AssessmentSourceType.CODE, conv.FEEDBACK_SOURCE)
            )


def new_feedback(
    trace_id: str, name: str, value: Any, source: str, source_id: str, **more: Any
) -> Any:
    """Return feedback on a trace that is still in memory, with an id of its own."""
    feedback = Feedback(
        name=name, value=value, trace_id=trace_id, create_time_ms=now_ms(),
        source=AssessmentSource(source_type=source, source_id=source_id), **more,
    )  # fmt: skip
    feedback.assessment_id = encoding.assessment_id_of(trace_id, name, source_id)
    return feedback


def _langchain_message(outputs: Any) -> Any:
    """Return the message in the outputs of a LangChain chat model's span."""
    found = _of(outputs, "generations")
    while isinstance(found, Sequence) and not isinstance(found, str) and found:
        found = found[0]
    return _of(found, "message")


def _of(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, Mapping) else None


def redactor(redact: Redact) -> Callable[[str], str] | None:
    """Return the function that takes secrets out of a text, None where nothing is redacted."""
    if callable(redact):
        return redact
    if redact is False or redact == ():
        return None
    patterns = SECRETS if redact is True else tuple(redact)
    compiled = [re.compile(pattern) for pattern in patterns]

    def apply(text: str) -> str:
        for pattern in compiled:
            text = pattern.sub(REDACTED, text)
        return text

    return apply


def redacted(value: Any, apply: Callable[[str], str]) -> Any:
    """Return ``value`` with every text in it redacted, and what stands under a secret's key."""
    if isinstance(value, str):
        return apply(value)
    if isinstance(value, Mapping):
        return {
            key: REDACTED
            if isinstance(item, str) and SECRET_KEYS.search(str(key))
            else redacted(item, apply)
            for key, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [redacted(item, apply) for item in value]
    return value


def redact_span(span: Any, apply: Callable[[str], str]) -> None:
    """Redact inputs, outputs and attributes of a span that is about to end."""
    for key, value in list(span.attributes.items()):
        if key not in STRUCTURE:
            clean = redacted(value, apply)
            if clean != value:
                span.set_attribute(key, clean)
