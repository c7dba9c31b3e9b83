"""Draws trees of runs with the traces that are made of them."""

from __future__ import annotations

import json
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from migrator import conventions
from migrator.model import RunRecord, SpanPlan, TracePlan, TreePlan
from migrator.report.formats import shorten, wrapped
from migrator.report.printable import one_line

BAR = "  │ "  # between a run and its spans
LEAST_RUN = 20  # characters of a line that a run keeps on a narrow terminal
LEAST_BESIDE = 38  # and its spans: the id of a trace has 35
DEEPEST = 40  # levels drawn with lines; deeper runs show their depth as a number
SHOWN_ORIGINS = ("inputs", "outputs")
SHOWN_METADATA = {conventions.TRACE_SESSION: "session", conventions.TRACE_USER: "user"}


def run_tree(
    root_id: str, runs: Mapping[str, RunRecord], children: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return a line per run: name, status, duration, id."""
    ordered = _by_start(runs, children)
    return [
        f"{indent}{_run_line(runs.get(run_id), run_id)}  {run_id}"
        for run_id, indent in _walk(root_id, ordered)
    ]


def show_text(
    plan: TreePlan,
    runs: Mapping[str, RunRecord],
    children: Mapping[str, Sequence[str]],
    verbose: bool = False,
    width: int | None = None,
) -> str:
    """Return the tree of runs with the span of each run beside it, and the role with its reasons.

    Inputs and outputs are shown with their origin, and with ``verbose`` all other fields too. Lines
    longer than ``width`` go on below; None is any width.
    """
    right: defaultdict[str | None, list[str]] = defaultdict(list)
    for trace in plan.traces:
        _spans_by_run(trace, right, verbose)
    rows: list[tuple[str, str]] = []  # a run, and a line about its spans
    for run_id, indent in _walk(plan.root_run_id, _by_start(runs, children)):
        left = indent + _run_line(runs.get(run_id), run_id)
        beside = right.pop(run_id, [""])
        rows.append((left, beside[0]))
        rows += [("", line) for line in beside[1:]]
    for lines in right.values():
        rows += [("", line) for line in lines]
    drawn = _side_by_side(rows, width) if plan.traces else [left for left, _ in rows]
    profile = f", by profile {plan.profile}" if plan.profile else ""
    facts = [f"Role: {plan.role.value}{profile}"]
    facts += [f"    {reason}" for reason in plan.reasons]
    if not plan.traces:
        facts.append(f"It is kept as runs ({plan.left_as_runs}).")
    facts += [f"{issue.code.value}: {issue.message}" for issue in plan.issues]
    text = wrapped("\n".join(facts), width)
    return "\n".join([f"Run {plan.root_run_id}", *drawn, "", text])


def _side_by_side(rows: Sequence[tuple[str, str]], width: int | None) -> list[str]:
    """Draw two columns. Where ``width`` has no room, the right one goes on in the next line."""
    left_width = min(max(len(left) for left, _ in rows), 60)
    room = None
    if width is not None:
        left_width = min(left_width, max(width - len(BAR) - LEAST_BESIDE, LEAST_RUN))
        room = max(width - len(BAR) - left_width, LEAST_BESIDE)
    lines = []
    for left, right in rows:
        # a run that nothing is beside has the whole line
        cell = _cut(left, left_width) if width is not None and right else left
        for part in _broken(right, room):
            bar = BAR if len(cell) <= left_width else ""
            lines.append(f"{cell.ljust(left_width)}{bar}{part}".rstrip(" "))
            cell = ""
    return lines


def _cut(text: str, limit: int) -> str:
    """Cut a line of a tree, whose spaces count, to ``limit`` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _broken(text: str, width: int | None) -> list[str]:
    """Break a line of a tree between words; what follows is indented below its first word."""
    if width is None or len(text) <= width:
        return [text]
    indent = " " * (len(text) - len(text.lstrip(" │├└─")) + 4)
    return textwrap.wrap(
        text,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _spans_by_run(
    trace: TracePlan, lines: defaultdict[str | None, list[str]], verbose: bool
) -> None:
    """Add a line per span of a trace to the lines of the run that the span was made from."""
    below: defaultdict[str, list[str]] = defaultdict(list)
    spans = {span.span_id: span for span in trace.spans}
    for span in trace.spans:
        if span.parent_span_id is not None:
            below[span.parent_span_id].append(span.span_id)
    root = trace.spans[0]
    owner = root.run_id
    for span_id, indent in _walk(root.span_id, below):
        span = spans[span_id]
        owner = span.run_id or owner
        if span is root:
            lines[owner].append(f"{trace.trace_id}  {trace.status}  {moment(root.start_ns)}")
            for key, word in SHOWN_METADATA.items():
                if key in trace.metadata:
                    lines[owner].append(f"{word} {trace.metadata[key]}")
        lines[owner].append(indent + span_line(span, root.start_ns))
        pad = " " * len(indent) + "    "
        for field, origin in sorted(span.origins.items()):
            if verbose or field in SHOWN_ORIGINS:
                lines[owner].append(f"{pad}{field} from {origin}")
    for assessment in trace.assessments:
        lines[root.run_id].append(
            f"{assessment.type} {assessment.name} = {assessment.value!r} ({assessment.source_type})"
        )


def _run_line(run: RunRecord | None, run_id: str) -> str:
    if run is None:
        return f"{run_id} (could not be read)"
    deleted = ", deleted" if run.deleted else ""
    length = "no end"
    if run.start_ms is not None and run.end_ms is not None:
        length = duration((run.end_ms - run.start_ms) * 1_000_000)
    return f"{one_line(run.name or run_id)}  [{run.status}{deleted}, {length}]"


def _by_start(
    runs: Mapping[str, RunRecord], children: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    def start(run_id: str) -> tuple[int, str]:
        run = runs.get(run_id)
        return (run.start_ms or 0) if run is not None else 0, run_id

    return {run_id: sorted(below, key=start) for run_id, below in children.items()}


def span_line(span: SpanPlan, origin_ns: int) -> str:
    """Return a line about a span; its start is relative to ``origin_ns``."""
    line = (
        f"{one_line(span.name)}  {span.type}  +{duration(span.start_ns - origin_ns)}"
        f"  {duration(span.end_ns - span.start_ns)}  {span.status}"
    )
    usage = span.attributes.get(conventions.SPAN_USAGE)
    if usage is not None:
        tokens = json.loads(usage)
        parts = [str(tokens[key]) for key in ("input_tokens", "output_tokens") if key in tokens]
        line += f"  {' → '.join(parts) or tokens.get('total_tokens')} tokens"
    if span.status_message:
        line += f"  ({shorten(span.status_message.splitlines()[0], 80)})"
    return line


def moment(time_ns: int) -> str:
    """Return a time in ns since 1970 as UTC text with milliseconds."""
    try:
        when = datetime.fromtimestamp(time_ns // 10**9, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return f"{time_ns} ns"
    return f"{when:%Y-%m-%d %H:%M:%S}.{time_ns // 10**6 % 1000:03d} UTC"


def duration(length_ns: int) -> str:
    """Return a duration with a suitable unit: ``350 ms``, ``1.25 s``, ``3.0 min``."""
    if abs(length_ns) < 1_000_000:
        return f"{length_ns / 1000:.0f} µs"
    if abs(length_ns) < 1_000_000_000:
        return f"{length_ns / 1e6:.0f} ms"
    if abs(length_ns) < 120_000_000_000:
        return f"{length_ns / 1e9:.2f} s"
    return f"{length_ns / 6e10:.1f} min"


def _walk(root_id: str, children: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return each id with the lines drawn before it, parents first."""
    lines: list[tuple[str, str]] = []
    stack = [(root_id, "", "", 1)]  # id, lines before it, lines before its children, level
    while stack:
        each, before, inner, level = stack.pop()
        lines.append((each, before))
        below = children.get(each, ())
        for i, child in reversed(list(enumerate(below))):
            last = i == len(below) - 1
            if level < DEEPEST:
                drawn, under = ("└─ ", "   ") if last else ("├─ ", "│  ")
                stack.append((child, inner + drawn, inner + under, level + 1))
            else:
                stack.append((child, f"{inner}({level + 1}) ", inner, level + 1))
    return lines
