"""Calls that a run with runs below it made itself: each gets a node of its own below the run's.

MLflow counts the tokens of a trace on the outermost spans that have any, so a span can't carry
tokens of its own beside those of the spans below it. The tracker does the same for new traces
(``tracker/finishing.py``), so the totals of a workflow agree, whether it was tracked or migrated.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrator.model import SpanType
from migrator.transformer.clocks import EARLIEST_MS
from migrator.transformer.found import Found, Step
from migrator.transformer.node_sources import RunSource, StepSource, usage_of
from migrator.transformer.nodes import Node, add_node
from migrator.transformer.values import as_number

WHY = "tokens: the run's own are not those of the runs below it: a span of its own has them"
SAME_COST_USD = 1e-9  # costs that differ by less are the same sum


def add_own_calls(nodes: list[Node]) -> None:
    """Add a node for the own call of each run whose tokens are not the sum of those below it.

    Tokens that are that sum, or that their keys call totals, were counted below already.
    """
    totals: list[float | None] = [None] * len(nodes)
    below: list[list[float]] = [[] for _ in nodes]
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        total_below = sum(below[index]) if below[index] else None
        totals[index] = _total(node, total_below)
        if total_below is not None and _makes_call(node, total_below):
            own = _own_total(node)
            totals[index] = (own or 0) + total_below
            step = _call(node)
            node.inferences.append(WHY)
            added = add_node(nodes, StepSource(node.view, node.source.natives, step), index)
            added.is_own_call = node.has_own_call = True
        total = totals[index]
        if node.parent is not None and total is not None:
            below[node.parent].append(total)


def _total(node: Node, total_below: float | None) -> float | None:
    """The tokens of a node and all below it; None when none of them has any."""
    if node.whole_tokens is not None:
        return as_number(usage_of(node.whole_tokens).get("total_tokens"))
    return _own_total(node) if total_below is None else total_below


def _own_total(node: Node) -> float | None:
    return as_number(usage_of(node.source.usage(None).tokens).get("total_tokens"))


def _makes_call(node: Node, total_below: float) -> bool:
    """Whether a run's own tokens are those of a call of its own."""
    source = node.source
    if not isinstance(source, RunSource) or node.records_calls:
        return False
    own = _own_total(node)
    if not own or own == total_below:
        return False
    view = source.view
    has_text = view.inputs()[0] is not None or view.outputs()[0] is not None
    if own < total_below:  # a sum over the runs below it would not be less than their tokens
        return not _are_totals(source) and (has_text or source.names_model())
    if _are_totals(source) or not (has_text and source.names_model()):
        return False
    return not _may_cover_uncounted(node)


def _are_totals(source: RunSource) -> bool:
    """Whether the keys of a run's tokens say that they are totals of several calls."""
    counts = [source.view.number("input_tokens"), source.view.number("output_tokens")]
    parts = [count[1] for count in counts if count is not None]
    return not parts or any(_says_total(found) for found in parts)


def _says_total(found: Found) -> bool:
    return not {"total", "sum", "cumulative", "all"}.isdisjoint(found.stem.split("_"))


def _may_cover_uncounted(node: Node) -> bool:
    """Whether a run below names a model and has no tokens: the run above may count them."""
    todo = list(node.children)
    while todo:
        child = todo.pop()
        todo += child.children
        if not child.children and child.source.names_model() and _own_total(child) is None:
            return True
    return False


def _call(node: Node) -> Step:
    """The call that a run made itself, with the run's own prompt, answer, tokens and cost."""
    source = node.source
    view = source.view
    content = source.content()
    usage = source.usage(None)
    start_ms, end_ms = _times(node)
    origins = {"tokens": usage.origin, "name": "the run's name", **content.origins}
    cost_usd = _own_cost(node)
    if cost_usd is not None:
        origins["cost"] = source.cost(is_counted_below=False).origin
    return Step(
        key="call/1",
        name=f"{source.name(node.place).text} call 1",
        type=SpanType.CHAT_MODEL,
        start_ms=start_ms,
        end_ms=end_ms,
        inputs=content.inputs,
        outputs=content.outputs,
        usage=usage.tokens,
        token_details=view.token_details(),
        cost_usd=cost_usd,
        origins=origins,
    )


def _times(node: Node) -> tuple[float | None, float | None]:
    """When the call was made: it ended when its tokens were logged, after what ended before it."""
    run = node.view.run
    if run.start_ms is None or run.end_ms is None or run.start_ms < EARLIEST_MS:
        return None, None
    logged_ms = run.end_ms
    for name in ("output_tokens", "input_tokens"):
        count = node.view.number(name)
        if count is not None and count[1].place == "metric":
            logged_ms = run.metrics[count[1].key][-1].timestamp_ms
            break
    end_ms = min(max(logged_ms, run.start_ms), run.end_ms)
    ends_ms = [child.source.run.end_ms for child in node.children]
    before_ms = [each for each in ends_ms if each is not None and run.start_ms <= each <= end_ms]
    return float(max([run.start_ms, *before_ms])), float(end_ms)


def _own_cost(node: Node) -> float | None:
    """The cost of a run's own call; None where its cost is the sum of those below it."""
    own = as_number(node.source.cost(is_counted_below=False).cost.get("total_cost"))
    if own is None or abs(own - _cost_below(node.children)) < SAME_COST_USD:
        return None
    return own


def _cost_below(children: Sequence[Node]) -> float:
    """The sum of the outermost costs of nodes."""
    total = 0.0
    todo = list(children)
    while todo:
        node = todo.pop()
        if node.children:
            todo += node.children
            continue
        cost = as_number(node.source.cost(is_counted_below=False).cost.get("total_cost"))
        total += cost or 0.0
    return total
