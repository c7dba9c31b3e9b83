"""Draws trees of runs, and beside them the traces that they become."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from migrator import conventions
from migrator.model import RunRecord, SpanPlan, TracePlan, TreePlan


def run_tree(
    root_id: str, runs: Mapping[str, RunRecord], children: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return one line per run: name, status, duration, id."""
    lines = []
    for run_id, indent in _walk(root_id, children):
        run = runs.get(run_id)
        if run is None:
            lines.append(f"{indent}{run_id} (could not be read)")
            continue
        deleted = ", deleted" if run.deleted else ""
        length = (
            duration((run.end_ms - run.start_ms) * 1_000_000)
            if run.start_ms is not None and run.end_ms is not None
            else "no end"
        )
        lines.append(f"{indent}{run.name or run_id}  [{run.status}{deleted}, {length}]  {run_id}")
    return lines


def trace_tree(trace: TracePlan) -> list[str]:
    """Return the spans of a trace: name, type, start, duration, status, tokens, origins."""
    children: dict[str, list[str]] = {}
    spans = {span.span_id: span for span in trace.spans}
    for span in trace.spans:
        if span.parent_span_id is not None:
            children.setdefault(span.parent_span_id, []).append(span.span_id)
    root = trace.spans[0]
    lines = [f"{trace.trace_id}  {trace.name or ''}  {trace.status}  {moment(root.start_ns)}"]
    for key, label in (
        (conventions.TRACE_SESSION, "session"),
        (conventions.TRACE_USER, "user"),
    ):
        if key in trace.metadata:
            lines.append(f"    {label}: {trace.metadata[key]}")
    for span_id, indent in _walk(root.span_id, children):
        span = spans[span_id]
        lines.append(indent + span_line(span, root.start_ns))
        pad = " " * len(indent)
        lines += [f"{pad}    {what} from {origin}" for what, origin in sorted(span.origins.items())]
    for assessment in trace.assessments:
        lines.append(
            f"    {assessment.type} {assessment.name} = {assessment.value!r}"
            f" ({assessment.source_type})"
        )
    return lines


def span_line(span: SpanPlan, origin_ns: int) -> str:
    """Return one span in a line; its start is relative to ``origin_ns``."""
    line = (
        f"{span.name}  {span.type}  +{duration(span.start_ns - origin_ns)}"
        f"  {duration(span.end_ns - span.start_ns)}  {span.status}"
    )
    usage = span.attributes.get(conventions.SPAN_USAGE)
    if usage is not None:
        tokens = json.loads(usage)
        line += f"  {tokens.get('input_tokens', '?')} → {tokens.get('output_tokens', '?')} tokens"
    if span.status_message:
        line += f"  ({span.status_message.splitlines()[0][:80]})"
    return line


def show_text(
    plan: TreePlan, runs: Mapping[str, RunRecord], children: Mapping[str, Sequence[str]]
) -> str:
    """Return the tree of runs, why it was taken for what it is, and the traces it becomes."""
    lines = ["Runs", *run_tree(plan.root_run_id, runs, children), ""]
    profile = f", profile {plan.profile}" if plan.profile else ""
    lines.append(f"Role: {plan.role.value}{profile}")
    lines += [f"    {reason}" for reason in plan.reasons]
    lines.append("")
    if not plan.traces:
        lines.append(f"It stays runs ({plan.left_as_runs}).")
    for trace in plan.traces:
        lines += ["Trace", *trace_tree(trace), ""]
    lines += [f"{issue.code.value}: {issue.message}" for issue in plan.issues]
    return "\n".join(lines).rstrip()


def moment(time_ns: int) -> str:
    """Return a time in ns since the epoch as UTC text with milliseconds."""
    try:
        when = datetime.fromtimestamp(time_ns // 10**9, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return f"{time_ns} ns"
    return f"{when:%Y-%m-%d %H:%M:%S}.{time_ns // 10**6 % 1000:03d} UTC"


def duration(length_ns: int) -> str:
    """Return a length of time for people."""
    if abs(length_ns) < 1_000_000:
        return f"{length_ns / 1000:.0f} µs"
    if abs(length_ns) < 1_000_000_000:
        return f"{length_ns / 1e6:.0f} ms"
    if abs(length_ns) < 120_000_000_000:
        return f"{length_ns / 1e9:.2f} s"
    return f"{length_ns / 6e10:.1f} min"


def _walk(root_id: str, children: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return every id with its indentation, parents first."""
    lines: list[tuple[str, str]] = []
    stack: list[tuple[str, str, bool, bool]] = [(root_id, "", True, True)]
    while stack:
        each, prefix, last, top = stack.pop()
        lines.append((each, "" if top else prefix + ("└─ " if last else "├─ ")))
        below = children.get(each, ())
        inner = "" if top else prefix + ("   " if last else "│  ")
        for i, child in reversed(list(enumerate(below))):
            stack.append((child, inner, i == len(below) - 1, False))
    return lines
