"""When spans started and ended, in ns: from run times, logged durations, metrics and children.

Passes over a trace's nodes (parents before children), none of them recursive: own times, and
those of odd clocks corrected (``clocks``); what is missing from the leaves up; ties told apart from
the root down; ends from the leaves up again, so that a parent always covers its children.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from migrator.transformer import clocks
from migrator.transformer.run_view import RunView, Step

MS = 1_000_000  # ns
TICK = 1_000  # 1 µs: what the UI shows, and the least length of a span
POST_HOC = 0.5  # a run shorter than this part of its logged duration was written afterwards
LONGEST_MS = 7 * 86_400_000.0  # a logged duration above a week is not believed
EARLIEST_MS = 100_000_000_000  # 1973: smaller metric times are seconds or nonsense
LATEST_MS = 9_000_000_000_000  # 2255: in ns, later ones do not fit into 64 bits


@dataclass(slots=True)
class Node:
    """A span in the making: a run of the trace, or one of several calls that a run recorded."""

    view: RunView
    parent: int | None  # index into the trace's nodes, always smaller than the node's own
    step: Step | None = None
    children: list[int] = field(default_factory=list)
    start_ns: int | None = None
    end_ns: int | None = None
    post_hoc_ms: float | None = None  # the duration by which its start was moved back
    no_end: bool = False
    shift_ns: int = 0  # by which it was moved into its parent, with all that is dated in it
    implausible: str = ""  # what is wrong with its recorded time; empty: nothing
    inferences: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)


def set_times(nodes: Sequence[Node]) -> bool:
    """Give every node a start and an end. Returns False when nothing in the trace has a time."""
    for node in nodes:
        _own_times(node, has_steps=any(nodes[i].step is not None for i in node.children))
    _correct_clocks(nodes)
    for node in reversed(nodes):
        if node.step is None and (node.start_ns is None or node.end_ns is None):
            _fill_times(node, [nodes[i] for i in node.children])
    for node in nodes:
        _lay_end_to_end(node, [nodes[i] for i in node.children])
    _cover_starts(nodes)
    root = nodes[0]
    known = root.start_ns is not None
    if root.start_ns is None:
        root.start_ns = root.end_ns = 0
    for node in nodes:
        assert node.start_ns is not None
        _order_children(node.start_ns, [nodes[i] for i in node.children])
    for node in reversed(nodes):
        assert node.start_ns is not None
        ends = [end for i in node.children if (end := nodes[i].end_ns) is not None]
        node.end_ns = max(node.start_ns + TICK, node.end_ns or 0, *ends)
    return known


def _own_times(node: Node, *, has_steps: bool) -> None:
    """Read the times that a run or step recorded itself; what it lacks stays None."""
    if node.step is not None:
        _step_times(node, node.step)
        return
    run = node.view.run
    start_ms, end_ms = _usable(run.start_ms), _usable(run.end_ms)
    for name, recorded, used in (("start", run.start_ms, start_ms), ("end", run.end_ms, end_ms)):
        if recorded and used is None:
            node.inferences.append(
                f"{name}: the run's, {recorded} ms, is none that a span can have"
            )
    if start_ms is not None and end_ms is not None:
        if start_ms < EARLIEST_MS <= end_ms:  # a clock that was set while the run was open
            node.implausible = f"starts at {start_ms} ms, before 1973, and ends at {end_ms} ms"
            node.inferences.append("start: before 1973, and the end is not")
            start_ms = None
        elif end_ms < start_ms:
            node.inferences.append("end: the run's end lies before its start")
            end_ms = start_ms
    if start_ms is not None:
        node.start_ns = start_ms * MS
        node.origins["start"] = "run start_time"
    if end_ms is not None:
        node.end_ns = end_ms * MS
        node.origins["end"] = "run end_time"
    if node.start_ns is not None and node.end_ns is not None and not has_steps:
        _move_back(node)


def _fill_times(node: Node, children: Sequence[Node]) -> None:
    """Take the start or end that a run lacks from its metrics and children."""
    times_ns = [time_ns + node.shift_ns for time_ns in _metric_times_ns(node)]
    if node.start_ns is None:
        child_starts = [c.start_ns for c in children if c.start_ns is not None]
        if candidates := [*times_ns, *child_starts]:
            node.start_ns = min(candidates)
            node.origins["start"] = "first metric or child"
            node.inferences.append("start: the run has none; its first metric or child is taken")
        elif node.end_ns is not None:
            node.start_ns = node.end_ns
            node.origins["start"] = node.origins["end"]
            node.inferences.append("start: the run has none; its end is taken")
    if node.start_ns is None:
        return
    if node.end_ns is None:
        node.no_end = True
        child_ends = [c.end_ns for c in children if c.end_ns is not None]
        node.end_ns = max([node.start_ns, *times_ns, *child_ends])
        node.origins["end"] = "last metric or child"
        node.inferences.append("end: the run has none; its last metric or child is taken")
    if not any(child.step is not None for child in children):
        _move_back(node)


def _metric_times_ns(node: Node) -> list[int]:
    return [
        point.timestamp_ms * MS
        for points in node.view.run.metrics.values()
        for point in points
        if EARLIEST_MS <= point.timestamp_ms <= LATEST_MS
    ]


def _move_back(node: Node) -> None:
    """Move the start of a run that was written after the call back by its logged duration."""
    assert node.start_ns is not None and node.end_ns is not None
    length_ms = (node.end_ns - node.start_ns) / MS
    found = node.view.duration_ms(length_ms)
    if found is None:
        return
    duration_ms, source, assumed = found
    if length_ms < POST_HOC * duration_ms <= POST_HOC * LONGEST_MS:
        node.post_hoc_ms = duration_ms
        if not node.no_end:  # an open run's end is when the call's metrics were written
            node.end_ns = node.start_ns
            node.origins["end"] = node.origins["start"]
        node.start_ns = node.end_ns - round(duration_ms * MS)
        node.origins["start"] = f"{node.origins['end']} less {source.origin}"
        node.inferences.append(
            f"times: the run was open for {length_ms:.0f} ms, {source.origin} says "
            f"{duration_ms:.0f} ms: it was written after the call"
        )
    if assumed:
        node.inferences.append(f"duration: {assumed}")


def _correct_clocks(nodes: Sequence[Node]) -> None:
    """Correct the times that can't be true beside the root's, or the root's beside the others'."""
    root = nodes[0]
    recorded = [_recorded(node, nodes) for node in nodes]
    others_are_later = any(_is_since_1973(each.start_ns) for each in recorded)
    if (
        root.start_ns is not None
        and not _is_since_1973(root.start_ns)
        and (others_are_later or _metric_times_ns(root))
    ):
        root.implausible = "is dated before 1973, and what was recorded in and below it is not"
        root.inferences.append("times: before 1973; those in and below it are taken")
        root.start_ns = root.end_ns = root.post_hoc_ms = None
        recorded[0] = _recorded(root, nodes)
    for index, correction in clocks.corrections(recorded).items():
        _correct(nodes[index], correction)


def _is_since_1973(time_ns: int | None) -> bool:
    return time_ns is not None and time_ns >= EARLIEST_MS * MS


def _recorded(node: Node, nodes: Sequence[Node]) -> clocks.Recorded:
    start_ns, end_ns = node.start_ns, node.end_ns
    if start_ns is None and end_ns is None and (times_ns := _metric_times_ns(node)):
        start_ns, end_ns = min(times_ns), max(times_ns)
    is_open = node.view.run.status in ("RUNNING", "SCHEDULED")
    records_calls = any(nodes[i].step is not None for i in node.children)
    return clocks.Recorded(node.parent, start_ns, end_ns, is_open or records_calls)


def _correct(node: Node, correction: clocks.Correction) -> None:
    seconds = correction.gap_ns / clocks.SECOND
    node.implausible = f"is dated {seconds:,.0f} s outside the time of its trace's root"
    node.shift_ns = correction.shift_ns
    has_times = node.start_ns is not None or node.end_ns is not None  # not those of metrics alone
    if node.start_ns is not None or not has_times:
        node.start_ns = correction.window.start_ns
        node.origins["start"] = f"{node.origins.get('start', 'first metric')}, corrected"
    if node.end_ns is not None or not has_times:
        node.end_ns = correction.window.end_ns
        node.origins["end"] = f"{node.origins.get('end', 'last metric')}, corrected"
    node.inferences.append(
        "times: too far outside its root's to be true; moved into its parent's"
        if correction.shift_ns
        else "times: longer than a week and than its root; one of its two ends is not believed"
    )


def _usable(time_ms: int | None) -> int | None:
    """Return a run's time if it is one, and a span can have it."""
    return time_ms if time_ms is not None and 0 < time_ms <= LATEST_MS else None


def _step_times(node: Node, step: Step) -> None:
    run = node.view.run
    start_ms, end_ms = (
        ms if ms is not None and EARLIEST_MS <= ms <= LATEST_MS else None
        for ms in (step.start_ms, step.end_ms)
    )
    if start_ms is not None:
        node.origins["start"] = "metric timestamp"
    if end_ms is not None:
        node.origins["end"] = "metric timestamp"
    node.origins.update({key: step.origins[key] for key in ("start", "end") if key in step.origins})
    if end_ms is None:
        end_ms = (
            start_ms if start_ms is not None else (_usable(run.end_ms) or _usable(run.start_ms))
        )
        if start_ms is None:
            node.inferences.append("end: the call has no time of its own; its run's is taken")
    if end_ms is None:
        return
    node.end_ns = round(end_ms * MS)
    if start_ms is not None:
        node.start_ns = min(round(start_ms * MS), node.end_ns)
    elif step.duration_ms is not None and 0 <= step.duration_ms <= LONGEST_MS:
        node.start_ns = node.end_ns - round(step.duration_ms * MS)
        node.origins["start"] = "metric timestamp less its duration"
    else:
        node.start_ns = node.end_ns
        node.inferences.append("start: the call's duration is not known")


def _lay_end_to_end(parent: Node, children: Sequence[Node]) -> None:
    """Put steps that were written in one burst after the other, if they fit their parent so.

    Moved back by its own duration alone, each would end at the same moment as the others.
    """
    moved = [c for c in children if c.post_hoc_ms is not None]
    if len(moved) < 2 or len(moved) != len(children):
        return
    found = parent.view.duration_ms(None)
    if found is None or sum(c.post_hoc_ms or 0 for c in moved) > 1.1 * found[0]:
        return
    limit: int | None = None
    for child in sorted(moved, key=lambda c: _order_key(c), reverse=True):
        assert child.start_ns is not None and child.end_ns is not None
        if limit is not None and child.end_ns > limit:
            length = child.end_ns - child.start_ns
            child.end_ns, child.start_ns = limit, limit - length
            child.inferences.append("times: put before the step that was written after it")
        limit = child.start_ns


def _order_key(node: Node) -> tuple[int, str]:
    return (node.view.run.start_ms or 0, node.view.run.run_id)


def _cover_starts(nodes: Sequence[Node]) -> None:
    for node in nodes:  # what has no time of its own takes its parent's, from the root down
        if node.start_ns is None and node.parent is not None:
            node.start_ns = nodes[node.parent].start_ns
            node.end_ns = node.start_ns
            node.origins["start"] = node.origins["end"] = "parent"
            node.inferences.append("times: the run has none; its parent's start is taken")
    for node in reversed(nodes):
        if node.parent is not None and node.start_ns is not None:
            above = nodes[node.parent]
            if above.start_ns is None or node.start_ns < above.start_ns:
                above.start_ns = node.start_ns
                above.inferences.append("start: moved back to cover its children")


def _order_children(start_ns: int, children: Sequence[Node]) -> None:
    """Sort out equal starts of siblings (given in source order) by steps of 1 µs."""
    last: int | None = None
    for child in sorted(children, key=lambda c: c.start_ns or 0):  # stable: source order at ties
        begin = max(child.start_ns or start_ns, start_ns)
        if last is not None and begin <= last:
            begin = last + TICK
        child.start_ns = last = begin
        child.end_ns = max(child.end_ns or 0, begin + TICK)
