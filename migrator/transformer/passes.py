"""Passes over the nodes of a trace that find status, tokens, cost and name of every node.

Parents come before children in the nodes, so that a pass from the leaves up is one in reverse.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrator import encoding
from migrator.transformer.found import Status, Tokens
from migrator.transformer.node_sources import Counted, RunSource, has_only_zeros, usage_of
from migrator.transformer.nodes import Node
from migrator.transformer.values import as_number


def set_span_ids(nodes: Sequence[Node], trace_id: str) -> None:
    """Derive the span ids from the keys of the nodes, so that they are the same in every run."""
    for node in nodes:
        node.span_id = encoding.span_id_of(trace_id, node.source.key())
        for child in node.children:
            child.parent_span_id = node.span_id


def set_names(nodes: Sequence[Node]) -> None:
    """Name the spans by their profile's rules or by their runs."""
    for node in nodes:
        name = node.source.name(node.place)
        node.name = name.text
        node.origins["name"] = name.origin


# ---------------------------------------------------------------------------------- status


def set_statuses(nodes: Sequence[Node]) -> None:
    """Find how each run or call ended: by itself first, then in view of those below it."""
    for node in nodes:
        node.status = node.source.status()
        if _is_error_of_mlflow(node.status):
            node.inferences.append("status: the error is MLflow's own, not the application's")
    _place_failed_step(nodes)
    for node in reversed(nodes):
        below = [child.status for child in node.children]
        node.status, inference = node.source.settle(node.status, below)
        if inference:
            node.inferences.append(inference)


def _is_error_of_mlflow(status: Status) -> bool:
    message = status.error_message
    return "Run with UUID" in message and "is already active" in message


def _place_failed_step(nodes: Sequence[Node]) -> None:
    """Put a workflow's error on the step that its message names, or that logged nothing."""
    root = nodes[0].status
    profile = nodes[0].view.profile
    if root.word != "ERROR" or profile.failed_step is None or profile.failed_step_is is None:
        return
    steps = [(node, node.source) for node in nodes[1:] if isinstance(node.source, RunSource)]
    if any(node.status.word == "ERROR" for node, _ in steps):
        return
    match = profile.failed_step.search(root.error_message)
    named: list[Node] = []
    if match is not None:
        at, name = profile.failed_step_is, match[1]
        named = [node for node, source in steps if source.is_step_named(at, name)]
    if named:
        _blame(named[-1], root, "the workflow's error names it")
        return
    silent = [node for node, source in steps if source.is_silent()]
    if silent:
        _blame(silent[-1], root, "it logged nothing, and the workflow failed")


def _blame(node: Node, root: Status, because: str) -> None:
    node.status = Status(
        "ERROR", because, False, root.error_type, root.error_message, root.stack_trace
    )
    node.inferences.append(f"status: {because}")


def set_previous(nodes: Sequence[Node]) -> None:
    """Name for each step the one before it, where its profile says that steps go on from one."""
    for parent in nodes:
        before: Node | None = None
        for child in parent.children:
            if not child.source.is_run:
                continue
            if child.view.profile.inputs_from_sibling:
                child.previous = before
            before = child


# ----------------------------------------------------------------------------------- models


def set_models(nodes: Sequence[Node]) -> None:
    """Find for each node whether a span below it names a model, so that it need not do so."""
    for node in reversed(nodes):
        node.is_model_below = any(
            child.is_model_below or child.source.names_model() for child in node.children
        )


# ------------------------------------------------------------------------- tokens and cost


def set_usage(nodes: Sequence[Node]) -> None:
    """Find the tokens of each span: a run's own count only where no span below it has one."""
    for node in reversed(nodes):
        whole = _whole_tokens(node)
        if whole is not None:  # a span's usage covers all below it
            for child in node.children:
                child.usage = {}
        counts = [total for child in node.children if (total := _total(child)) is not None]
        node.tokens_below = sum(counts) if counts else None
        counted = Counted() if node.has_own_call else node.source.usage(node.tokens_below)
        if whole is not None:
            why = "tokens: some counts belong to no single call; the run's span has the whole"
            counted = Counted(whole, "metric histories", why)
        node.usage = usage_of(counted.tokens)
        if counted.inference:
            node.inferences.append(counted.inference)
        elif not node.usage and has_only_zeros(counted.tokens):
            node.inferences.append("tokens: all counts are 0, taken as not captured")
        if node.usage:
            node.origins["tokens"] = counted.origin


def _whole_tokens(node: Node) -> Tokens | None:
    """The tokens of all calls of a run that can't be assigned, unless runs below it count too."""
    for child in node.children:
        if child.source.is_run and (child.usage or child.tokens_below is not None):
            return None
    return node.whole_tokens


def _total(node: Node) -> float | None:
    """The tokens of a node and all below it; None when none of them has a usage."""
    own = as_number(node.usage.get("total_tokens"))
    if own is not None:
        return own
    if node.tokens_below is None and node.usage:
        return 0.0  # it has a count, but not the total
    return node.tokens_below


def set_costs(nodes: Sequence[Node]) -> None:
    """Find the cost of each span: a run's own only where no span below it has one."""
    for node in reversed(nodes):
        node.is_cost_below = any(child.is_cost_below or child.cost for child in node.children)
        priced = node.source.cost(is_counted_below=node.is_cost_below)
        node.cost = dict(priced.cost)
        if node.cost:
            node.origins["cost"] = priced.origin
