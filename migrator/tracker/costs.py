"""Tokens and dollars of a trace, migrated or new, by node, model and provider.

Counted is what MLflow counts: of spans that lie inside one another and both have tokens, the outer
one. The tracker writes no such pairs; some integrations do (an agent's span with the sum of its
calls).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.tracing.client import TracingClient
from mlflow.tracking import MlflowClient

from migrator import conventions as conv
from migrator.tracker.usage import CALLS, NO_TOKENS, UNPRICED, Usage, usage_of

TRACES_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class Stored:
    """Where traces are stored."""

    tracking_uri: str
    experiment_id: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Tokens and dollars of a whole trace."""

    tokens: Usage = NO_TOKENS
    input_usd: float | None = None  # None: no price is known
    output_usd: float | None = None
    unpriced: tuple[str, ...] = ()  # models whose calls the dollars leave out

    def usage(self) -> dict[str, int]:
        """Convert to the form of ``mlflow.trace.tokenUsage``."""
        return self.tokens.as_attribute()

    def cost(self) -> dict[str, float] | None:
        """Convert to the form of ``mlflow.trace.cost``; None where no price is known."""
        if self.input_usd is None or self.output_usd is None:
            return None
        return cost_attribute(self.input_usd, self.output_usd)


def cost_attribute(input_usd: float, output_usd: float) -> dict[str, float]:
    """Convert dollars to the form of ``mlflow.llm.cost``, rounded to a billionth."""
    return {
        "input_cost": round(input_usd, 9),
        "output_cost": round(output_usd, 9),
        "total_cost": round(input_usd + output_usd, 9),
    }


def summary(tracking_uri: str, trace_id: str) -> dict[str, Any]:
    """Sum up a stored trace, see ``sums``. Raises ``MlflowException`` when it isn't there."""
    return {"trace_id": trace_id, **sums([TracingClient(tracking_uri).get_trace(trace_id)])}


def summary_of_many(place: Stored, session: str | None, user: str | None) -> dict[str, Any]:
    """Sum up an experiment's traces, see ``sums``; of one session or user where these are given.

    ``traces`` is how many they are. Raises ``MlflowException`` when they can't be read.
    """
    wanted = {conv.TRACE_SESSION: session, conv.TRACE_USER: user}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    # A value with a quote can't be asked for: it is only compared below.
    conditions = [f"metadata.`{k}` = '{v}'" for k, v in wanted.items() if "'" not in str(v)]
    client = MlflowClient(place.tracking_uri)
    found: list[Any] = []
    page_token = None
    while True:
        page = client.search_traces(
            locations=[place.experiment_id],
            filter_string=" AND ".join(conditions) or None,
            max_results=TRACES_A_PAGE,
            page_token=page_token,
        )
        for trace in page:
            if all(trace.info.trace_metadata.get(key) == value for key, value in wanted.items()):
                found.append(trace)
        page_token = page.token
        if not page_token:
            return {"traces": len(found), **sums(found)}


def span_usage(span: Any) -> Usage | None:
    """Read a span's tokens; None where it has none. Migrated spans keep reasoning tokens apart."""
    usage = usage_of(span.get_attribute(conv.SPAN_USAGE))
    reasoning = span.get_attribute(conv.PLAIN_REASONING)
    if usage is None or usage.reasoning_tokens or not isinstance(reasoning, int):
        return usage
    return usage._replace(reasoning_tokens=min(reasoning, usage.output_tokens))


def counted(spans: Sequence[Any]) -> list[Any]:
    """Choose the spans whose tokens count: those with tokens and none around them that has some."""
    parents = {span.span_id: span.parent_id for span in spans}
    with_tokens = {
        span.span_id for span in spans if usage_of(span.get_attribute(conv.SPAN_USAGE)) is not None
    }
    inside: dict[str, bool] = {}  # by span: whether it or one around it has tokens
    chosen = []
    for span in spans:
        if span.span_id in with_tokens and not _is_inside(
            span.parent_id, parents, with_tokens, inside
        ):
            chosen.append(span)
    return chosen


def _is_inside(
    span_id: str | None, parents: Mapping[str, str | None], with_tokens: set[str],
    inside: dict[str, bool],
) -> bool:  # fmt: skip
    """Return True if this span, or one around it, has tokens; ``inside`` keeps the answers."""
    path: list[str] = []
    answer = False
    while span_id is not None and span_id in parents:
        if span_id in inside:
            answer = inside[span_id]
            break
        path.append(span_id)
        if span_id in with_tokens:
            answer = True
            break
        span_id = parents[span_id]
    for each in path:
        inside[each] = answer
    return answer


def totals(spans: Sequence[Any]) -> Totals:
    """Add up a trace's calls."""
    tokens = NO_TOKENS
    input_usd = output_usd = 0.0
    is_priced = False
    unpriced: set[str] = set()
    for span in counted(spans):
        tokens = tokens.plus(span_usage(span) or NO_TOKENS)
        unpriced.update(_unpriced(span))
        cost = span.get_attribute(conv.SPAN_COST)
        if isinstance(cost, Mapping) and cost.get("total_cost") is not None:
            is_priced = True
            of_input = float(cost.get("input_cost", cost["total_cost"]))
            input_usd += of_input
            output_usd += float(cost["total_cost"]) - of_input
    if not is_priced:
        return Totals(tokens, unpriced=tuple(sorted(unpriced)))
    return Totals(tokens, input_usd, output_usd, tuple(sorted(unpriced)))


def _unpriced(span: Any) -> list[str]:
    """Name the models of a span's calls that have no price."""
    said = span.get_attribute(UNPRICED)
    if isinstance(said, list):
        return [str(model) for model in said]
    return [] if _cost(span) is not None else [_text(span, conv.PLAIN_MODEL, conv.SPAN_MODEL)]


def sums(traces: Iterable[Any]) -> dict[str, Any]:
    """Add up the calls of traces: ``total``, and by node, model, provider, session and user.

    Each holds ``calls``, ``input_tokens``, ``output_tokens``, ``total_tokens``, of these
    ``cache_read_tokens``, ``cache_write_tokens`` and ``reasoning_tokens``, and ``cost_usd`` (None
    where no price is known). ``unpriced_models`` are those whose calls the cost leaves out.
    """
    total = _row()
    by: dict[str, dict[str, dict[str, Any]]] = {
        "node": {}, "model": {}, "provider": {}, "session": {}, "user": {}
    }  # fmt: skip
    unpriced: set[str] = set()
    for trace in traces:
        by_id = {span.span_id: span for span in trace.data.spans}
        metadata = trace.info.trace_metadata
        for span in counted(trace.data.spans):
            names = {
                "node": _node(span, by_id),
                "model": _text(span, conv.PLAIN_MODEL, conv.SPAN_MODEL),
                "provider": _text(span, conv.PLAIN_PROVIDER, conv.SPAN_PROVIDER),
                "session": metadata.get(conv.TRACE_SESSION),
                "user": metadata.get(conv.TRACE_USER),
            }
            cost = _cost(span)
            unpriced.update(_unpriced(span))
            _add(total, span, cost)
            for kind, name in names.items():
                if name is not None:
                    _add(by[kind].setdefault(name, _row()), span, cost)
    rows = {f"by_{kind}": dict(sorted(each.items())) for kind, each in by.items()}
    return {"total": total, **rows, "unpriced_models": sorted(unpriced)}


def _row() -> dict[str, Any]:
    return {
        "calls": 0, "input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
        "cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0, "cost_usd": None,
    }  # fmt: skip


def _add(row: dict[str, Any], span: Any, cost: float | None) -> None:
    usage = span_usage(span)
    if usage is None:
        return
    row["calls"] += _calls(span)
    row["total_tokens"] += usage.total_tokens
    for kind in (
        "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
        "reasoning_tokens",
    ):  # fmt: skip
        row[kind] += getattr(usage, kind)
    if cost is not None:
        row["cost_usd"] = round((row["cost_usd"] or 0.0) + cost, 9)


def _calls(span: Any) -> int:
    said = span.get_attribute(CALLS)
    return said if isinstance(said, int) and said > 0 else 1


def _cost(span: Any) -> float | None:
    cost = span.get_attribute(conv.SPAN_COST)
    value = cost.get("total_cost") if isinstance(cost, Mapping) else None
    return float(value) if value is not None else None


def _text(span: Any, *keys: str) -> str:
    for key in keys:
        if value := span.get_attribute(key):
            return str(value)
    return "unknown"


def _node(span: Any, by_id: Mapping[str, Any]) -> str:
    """Name the node that a span belongs to: one marked as a node, or the one below the root."""
    chain = [span]
    while (parent := by_id.get(chain[-1].parent_id)) is not None:
        chain.append(parent)
    for link in chain:
        if link.get_attribute("node_id") or link.get_attribute(f"{conv.LEGACY}param.node_id"):
            return str(link.name)
    return str(chain[max(0, len(chain) - 2)].name)
