"""Tokens and dollars of a stored trace, migrated or new, by node, model and provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.tracing.client import TracingClient

from migrator import conventions as conv
from migrator.tracker.usage import usage_of


def summary(tracking_uri: str, trace_id: str) -> dict[str, Any]:
    """Return the sums of a trace: ``total``, ``by_node``, ``by_model``, ``by_provider``.

    Each holds ``calls``, ``input_tokens``, ``output_tokens``, ``total_tokens`` and ``cost_usd``
    (None where no price is known). ``unpriced_models`` are those whose calls the cost leaves out.
    Raises ``MlflowException`` when the trace isn't there.
    """
    trace = TracingClient(tracking_uri).get_trace(trace_id)
    return {"trace_id": trace_id, **sums(trace.data.spans)}


def sums(spans: Sequence[Any]) -> dict[str, Any]:
    """Return the sums of a trace's spans; tokens count where no span below has any."""
    by_id = {span.span_id: span for span in spans}
    counted = {span.span_id for span in spans if usage_of(span.get_attribute(conv.SPAN_USAGE))}
    above: set[str] = set()  # spans with tokens below them
    for span_id in counted:
        parent = by_id.get(by_id[span_id].parent_id)
        while parent is not None and parent.span_id not in above:
            above.add(parent.span_id)
            parent = by_id.get(parent.parent_id)
    total = _row()
    by: dict[str, dict[str, dict[str, Any]]] = {"node": {}, "model": {}, "provider": {}}
    unpriced: set[str] = set()
    for span in spans:
        if span.span_id not in counted or span.span_id in above:
            continue
        model = _text(span, conv.PLAIN_MODEL, conv.SPAN_MODEL)
        names = {
            "node": _node(span, by_id),
            "model": model,
            "provider": _text(span, conv.PLAIN_PROVIDER, conv.SPAN_PROVIDER),
        }
        cost = _cost(span)
        if cost is None:
            unpriced.add(model)
        _add(total, span, cost)
        for kind, name in names.items():
            _add(by[kind].setdefault(name, _row()), span, cost)
    return {
        "total": total,
        **{f"by_{kind}": dict(sorted(rows.items())) for kind, rows in by.items()},
        "unpriced_models": sorted(unpriced),
    }


def _row() -> dict[str, Any]:
    return {
        "calls": 0, "input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cost_usd": None
    }  # fmt: skip


def _add(row: dict[str, Any], span: Any, cost: float | None) -> None:
    usage = usage_of(span.get_attribute(conv.SPAN_USAGE))
    if usage is None:
        return
    row["calls"] += 1
    row["input_tokens"] += usage.input_tokens
    row["output_tokens"] += usage.output_tokens
    row["total_tokens"] += usage.total_tokens
    if cost is not None:
        row["cost_usd"] = round((row["cost_usd"] or 0.0) + cost, 9)


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
    """Return the name of the node a span belongs to: marked so, or just below the root."""
    chain = [span]
    while (parent := by_id.get(chain[-1].parent_id)) is not None:
        chain.append(parent)
    for link in chain:
        if link.get_attribute("node_id") or link.get_attribute(f"{conv.LEGACY}param.node_id"):
            return str(link.name)
    return str(chain[max(0, len(chain) - 2)].name)
