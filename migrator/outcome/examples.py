"""Traces that a report draws as trees with times: the biggest, the slowest and a failed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from migrator.model import SpanPlan, TracePlan

MOST_SPANS = 40  # kept of a trace; the first ones, parents before their children


@dataclass(frozen=True, slots=True)
class ExampleSpan:
    """A span of an example; ``start_ns`` is relative to the root's."""

    name: str
    type: str
    is_error: bool
    depth: int  # 0 for the root
    start_ns: int
    length_ns: int


@dataclass(frozen=True, slots=True)
class ExampleTrace:
    """A trace with its first spans. ``spans_count`` counts all of them."""

    trace_id: str
    experiment: str
    start_ns: int
    length_ns: int
    is_error: bool
    spans_count: int
    spans: tuple[ExampleSpan, ...]

    @classmethod
    def of(cls, plan: TracePlan, experiment: str) -> ExampleTrace:
        """Take from a trace what is drawn."""
        root = plan.spans[0]
        return cls(
            trace_id=plan.trace_id,
            experiment=experiment,
            start_ns=root.start_ns,
            length_ns=_length_ns(plan),
            is_error=plan.status == "ERROR",
            spans_count=len(plan.spans),
            spans=tuple(_spans_of(plan)),
        )


def _spans_of(plan: TracePlan) -> Iterator[ExampleSpan]:
    """The first spans as they are drawn: each below its parent, siblings by start."""
    root, below = plan.spans[0], dict[str, list[SpanPlan]]()
    for span in plan.spans[1:]:
        below.setdefault(span.parent_span_id or root.span_id, []).append(span)
    waiting, shown = [(root, 0)], 0
    while waiting and shown < MOST_SPANS:
        span, depth = waiting.pop()
        shown += 1
        yield ExampleSpan(
            span.name, span.type, span.status == "ERROR", depth,
            span.start_ns - root.start_ns, span.end_ns - span.start_ns,
        )  # fmt: skip
        children = sorted(below.get(span.span_id, ()), key=lambda each: each.start_ns)
        waiting += [(child, depth + 1) for child in reversed(children)]


@dataclass(slots=True)
class Examples:
    """The examples of one experiment, or of all. Traces of one span are not worth a drawing."""

    biggest: ExampleTrace | None = None
    slowest: ExampleTrace | None = None
    failed: ExampleTrace | None = None

    def consider(self, plan: TracePlan, experiment: str) -> None:
        """Keep a trace where it goes before the one that is kept."""
        size, length_ns = len(plan.spans), _length_ns(plan)
        if size < 2:
            return
        is_biggest = _goes_before(self.biggest, (size, plan.trace_id), _size_of)
        is_slowest = _goes_before(self.slowest, (length_ns, plan.trace_id), _slowness_of)
        is_failed = plan.status == "ERROR" and _goes_before(
            self.failed, (size, plan.trace_id), _size_of
        )
        if is_biggest or is_slowest or is_failed:
            example = ExampleTrace.of(plan, experiment)
            self.biggest = example if is_biggest else self.biggest
            self.slowest = example if is_slowest else self.slowest
            self.failed = example if is_failed else self.failed

    def add(self, other: Examples) -> None:
        """Keep the better of two examples of each kind."""
        self.biggest = _better(self.biggest, other.biggest, _size_of)
        self.slowest = _better(self.slowest, other.slowest, _slowness_of)
        self.failed = _better(self.failed, other.failed, _size_of)


Rank = tuple[int, str]
"""A number, and the trace id where two have the same: the order of reading does not matter."""


def _size_of(example: ExampleTrace) -> Rank:
    return example.spans_count, example.trace_id


def _slowness_of(example: ExampleTrace) -> Rank:
    return example.length_ns, example.trace_id


def _goes_before(
    kept: ExampleTrace | None, rank: Rank, rank_of: Callable[[ExampleTrace], Rank]
) -> bool:
    return kept is None or rank > rank_of(kept)


def _better(
    one: ExampleTrace | None, other: ExampleTrace | None, rank_of: Callable[[ExampleTrace], Rank]
) -> ExampleTrace | None:
    return max(filter(None, (one, other)), key=rank_of, default=None)


def _length_ns(plan: TracePlan) -> int:
    return plan.spans[0].end_ns - plan.spans[0].start_ns if plan.spans else 0
