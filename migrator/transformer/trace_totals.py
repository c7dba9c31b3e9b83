"""What a trace, rebuilt or native, says about all its spans: usage, cost, sizes, previews."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from migrator import conventions as conv
from migrator import encoding
from migrator.model import AssessmentRecord, Json, SpanPlan, TokenUsage
from migrator.transformer.input_parts import SYSTEM_STEMS
from migrator.transformer.profiles import normalise
from migrator.transformer.python_repr import fields_in
from migrator.transformer.text_names import is_of_step
from migrator.transformer.values import as_number

ASKED = ("question", "query", "input", "inputs", "message", "prompt", "request", "instruction")
ANSWERED = ("answer", "response", "reply", "output", "outputs", "completion", "prediction")
"""Last words of keys, of which the first that an object has says best what was asked, answered."""

_THOUGHTS = re.compile(r"\A\s*<(think|thinking)>.*?</\1>\s*", re.DOTALL)
"""What models that reason, such as DeepSeek's R1, write before their answer."""


def decoded(span: SpanPlan, key: str) -> Json:
    """Decode an attribute's value; text that is not JSON comes back unchanged."""
    text = span.attributes.get(key)
    if text is None:
        return None
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value


def total_usage(spans: Sequence[SpanPlan]) -> TokenUsage | None:
    """Sum ``mlflow.chat.tokenUsage`` by MLflow's rule: a span's usage covers all below it.

    Like ``mlflow.tracing.utils.aggregate_usage_from_spans`` of 3.9, except that a count which no
    span has is unknown and not 0. Parents must come before children.
    """
    usages = list(_topmost(spans, conv.SPAN_USAGE))
    if not usages:
        return None
    totals: list[int | None] = []
    for key in ("input_tokens", "output_tokens", "total_tokens"):
        counts = [as_number(usage.get(key)) for usage in usages]
        known = [int(count) for count in counts if count is not None]
        totals.append(sum(known) if known else None)
    return TokenUsage(*totals)


def total_cost(spans: Sequence[SpanPlan]) -> dict[str, float] | None:
    """Sum ``mlflow.llm.cost`` likewise; input and output cost only where every part has them."""
    costs = list(_topmost(spans, conv.SPAN_COST))
    if not costs:
        return None
    total: dict[str, float] = {}
    for key in ("input_cost", "output_cost", "total_cost"):
        numbers = [as_number(cost.get(key)) for cost in costs]
        known = [number for number in numbers if number is not None]
        if len(known) == len(numbers):
            total[key] = round(sum(known), 12)
    return total or None


def totals(
    trace_id: str,
    usage: TokenUsage | None,
    cost: Mapping[str, float] | None,
    time_ms: int,
    judged: Sequence[AssessmentRecord],
) -> tuple[AssessmentRecord, ...]:
    """A rebuilt trace's sums as feedback, like the tracker's: MLflow 3.9 charts feedback.

    A name that the source itself gave feedback under (``judged``) stays the source's. Its own
    ``cost_usd`` also keeps ours in millionths away, which could contradict it.
    """
    taken = {each.name for each in judged if each.span_id is None}
    values: dict[str, float | None] = {}
    if usage is not None:
        values[conv.FEEDBACK_TOKENS] = usage.total_tokens
    if cost is not None and "total_cost" in cost and conv.FEEDBACK_COST not in taken:
        values |= encoding.cost_feedback(cost["total_cost"])
    return tuple(
        AssessmentRecord(
            assessment_id=encoding.assessment_id_of(trace_id, name, conv.FEEDBACK_SOURCE),
            name=name,
            type="feedback",
            value=value,
            error=None,
            source_type="CODE",
            source_id=conv.FEEDBACK_SOURCE,
            created_ms=time_ms,
            last_updated_ms=time_ms,
        )
        for name, value in values.items()
        if value and name not in taken
    )


def _topmost(spans: Sequence[SpanPlan], key: str) -> list[Mapping[str, Json]]:
    found: list[Mapping[str, Json]] = []
    if all(key not in span.attributes for span in spans):
        return found
    covered: set[str] = set()
    for span in spans:
        if span.parent_span_id in covered:
            covered.add(span.span_id)
            continue
        value = decoded(span, key)
        if isinstance(value, Mapping):
            covered.add(span.span_id)
            found.append(value)
    return found


def contents_of(trace_id: str, spans: Sequence[SpanPlan]) -> tuple[str, ...]:
    """The JSON text of each span, as it will be written."""
    return tuple([encoding.span_content(trace_id, span) for span in spans])


def size_metadata(contents: Sequence[str]) -> dict[str, str]:
    """The two size entries of a trace's metadata, in bytes of the spans' JSON text.

    ``num_spans`` must equal the number of rows, or MLflow 3.9 takes the trace for unfinished.
    """
    sizes = sorted(
        [len(text) if text.isascii() else len(text.encode("utf-8")) for text in contents]
    )
    if not sizes:
        return {}
    total = sum(sizes) + 2 * (len(sizes) - 1)
    stats = {
        "total_size_bytes": total,
        "num_spans": len(sizes),
        "max": sizes[-1],
        "p25": _percentile(sizes, 0.25),
        "p50": _percentile(sizes, 0.50),
        "p75": _percentile(sizes, 0.75),
    }
    return {conv.SIZE_STATS: json.dumps(stats), conv.SIZE_BYTES: str(total)}


def _percentile(sizes: Sequence[int], part: float) -> int:
    position = part * (len(sizes) - 1)
    below = int(position)
    above = min(below + 1, len(sizes) - 1)
    return int(sizes[below] + (sizes[above] - sizes[below]) * (position - below))


def usage_json(usage: TokenUsage) -> str:
    """The value of metadata ``mlflow.trace.tokenUsage``."""
    return json.dumps(usage_dict(usage))


def usage_dict(usage: TokenUsage) -> dict[str, Json]:
    """Usage under MLflow's keys, without the counts that are not known."""
    values = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    return {key: value for key, value in values.items() if value is not None}


def linked_prompts(text: str | None) -> tuple[str, ...]:
    """Read the prompt versions in tag ``mlflow.linkedPrompts``, as ``name/version``."""
    if not text:
        return ()  # nearly every run
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(value, list):
        return ()
    return tuple(
        f"{item['name']}/{item['version']}"
        for item in value
        if isinstance(item, Mapping) and "name" in item and "version" in item
    )


def request_preview(value: Json) -> str | None:
    """The text of the trace list for inputs: the last user message, what was asked, or JSON."""
    return encoding.preview(_gist(value, "user", ASKED))


def response_preview(value: Json) -> str | None:
    """The text of the trace list for outputs: the answer without the model's thoughts, or JSON."""
    said = _gist(value, "assistant", ANSWERED)
    if isinstance(said, str):
        said = _THOUGHTS.sub("", said, count=1) or said
    return encoding.preview(said)


def _gist(value: Json, role: str, names: Sequence[str]) -> Json:
    if isinstance(value, str):
        return _text_in_object(value, names) or value.strip() or None
    if not isinstance(value, Mapping):
        return value
    messages = value.get("messages")
    choices = value.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        messages = [choices[0].get("message")]
    if encoding.is_chat(messages):
        assert isinstance(messages, Sequence)
        chat = [message for message in messages if isinstance(message, Mapping)]
        last = next((m for m in reversed(chat) if m.get("role") == role), chat[-1])
        content = last.get("content")
        if isinstance(content, str) and content.strip():
            return content.strip()
    if len(value) == 1:
        (only,) = value.values()
        if isinstance(only, str) and only.strip():
            return only.strip()
    if role == "user":  # before the questions that steps of the work were asked
        of_user = {key: text for key, text in value.items() if not is_of_step(key)}
        if text := _named_text(of_user, names):
            return text
    return _named_text(value, names) or value


def _text_in_object(text: str, names: Sequence[str]) -> str | None:
    """The named text in an object of a program that was logged as text, or in its one part."""
    fields = fields_in(text)
    if fields is None:
        return None
    if named := _named_text(fields, names):
        return named
    parts = [part for part in fields.values() if isinstance(part, Mapping)]
    inside = [named for part in parts if (named := _named_text(part, names))]
    return inside[0] if len(inside) == 1 else None


def _named_text(value: Mapping[str, Json], names: Sequence[str]) -> str | None:
    """The text of an object under the first of the names, else under one that ends so.

    Beside it may stand a context, documents, settings or a rationale. None when there is no such
    text, or several whose names end alike (``gpt_answer`` and ``claude_answer``).
    """
    texts: dict[str, str] = {}
    for key, text in value.items():
        plain = normalise(key)
        if isinstance(text, str) and text.strip() and plain not in SYSTEM_STEMS:
            texts[plain] = text.strip()
    for name in names:
        if name in texts:
            return texts[name]
    for name in names:
        fitting = [text for key, text in texts.items() if key.endswith(f"_{name}")]
        if fitting:
            return fitting[0] if len(fitting) == 1 else None
    return None
