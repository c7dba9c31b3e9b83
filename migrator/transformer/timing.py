"""When spans started and ended, in ns: from run times, logged durations, metrics and children.

Passes over a trace's nodes (parents before children), none of them recursive: own times, and
those of odd clocks corrected (``clocks``); what is missing from the leaves up; ties told apart from
the root down; ends from the leaves up again, so that a parent always covers its children.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrator.transformer import clocks
from migrator.transformer.clocks import EARLIEST_MS, MS
from migrator.transformer.nodes import Node

TICK = 1_000  # 1 µs: what the UI shows, and the least length of a span
MOST_OF_PARENT = 1.1  # of the parent's duration: so much may steps take that lie end to end
POST_HOC = 0.5  # a run shorter than this part of its logged duration was written afterwards


def set_times(nodes: Sequence[Node]) -> bool:
    """Give every node a start and an end. False when nothing in the trace has a time."""
    for node in nodes:
        _set_own_times(node)
    _correct_clocks(nodes)
    for node in reversed(nodes):
        is_incomplete = node.start_ns is None or node.end_ns is None
        if node.source.is_run and is_incomplete:
            _fill_times(node)
    for node in nodes:
        _lay_end_to_end(node)
    _inherit_times(nodes)
    _cover_starts(nodes)
    root = nodes[0]
    is_known = root.start_ns is not None
    if root.start_ns is None:
        root.start_ns = root.end_ns = 0
    for node in nodes:
        assert node.start_ns is not None
        _order_children(node.start_ns, node.children)
    for node in reversed(nodes):
        assert node.start_ns is not None
        ends = [child.end_ns for child in node.children if child.end_ns is not None]
        node.end_ns = max(node.start_ns + TICK, node.end_ns or 0, *ends)
    return is_known


def _set_own_times(node: Node) -> None:
    """Take the times that a run or call recorded itself; what it lacks stays None."""
    times = node.source.times()
    node.start_ns, node.end_ns = times.start_ns, times.end_ns
    node.origins.update(times.origins)
    node.inferences += times.inferences
    node.implausible = times.implausible
    if node.start_ns is not None and node.end_ns is not None and not node.dates_calls:
        _move_back(node)


def _fill_times(node: Node) -> None:
    """Take the start or end that a run lacks from its metrics and children."""
    times_ns = [time_ns + node.shift_ns for time_ns in node.source.metric_times_ns()]
    if node.start_ns is None:
        child_starts = [child.start_ns for child in node.children if child.start_ns is not None]
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
        child_ends = [child.end_ns for child in node.children if child.end_ns is not None]
        node.end_ns = max([node.start_ns, *times_ns, *child_ends])
        node.origins["end"] = "last metric or child"
        node.inferences.append("end: the run has none; its last metric or child is taken")
    if not node.dates_calls:
        _move_back(node)


def _move_back(node: Node) -> None:
    """Move the start of a run that was written after the call back by its logged duration."""
    assert node.start_ns is not None and node.end_ns is not None
    length_ms = (node.end_ns - node.start_ns) / MS
    logged = node.source.logged_duration(length_ms)
    if logged is None:
        return
    if length_ms < POST_HOC * logged.ms:
        node.post_hoc_ms = logged.ms
        if not node.no_end:  # an open run's end is when the call's metrics were written
            node.end_ns = node.start_ns
            node.origins["end"] = node.origins["start"]
        node.start_ns = node.end_ns - round(logged.ms * MS)
        node.origins["start"] = f"{node.origins['end']} less {logged.found.origin}"
        node.inferences.append(
            f"times: the run was open for {length_ms:.0f} ms, {logged.found.origin} says "
            f"{logged.ms:.0f} ms: it was written after the call"
        )
    if logged.assumed:
        node.inferences.append(f"duration: {logged.assumed}")


def _correct_clocks(nodes: Sequence[Node]) -> None:
    """Correct the times that can't be true beside the root's, or the root's beside the others'."""
    root = nodes[0]
    recorded = [_recorded(node) for node in nodes]
    is_root_early = root.start_ns is not None and not _is_since_1973(root.start_ns)
    if is_root_early:
        others_are_later = any(_is_since_1973(each.start_ns) for each in recorded)
        if others_are_later or root.source.metric_times_ns():
            root.implausible = "is dated before 1973, and what was recorded in and below it is not"
            root.inferences.append("times: before 1973; those in and below it are taken")
            root.start_ns = root.end_ns = root.post_hoc_ms = None
            recorded[0] = _recorded(root)
    for index, correction in clocks.corrections(recorded).items():
        _correct(nodes[index], correction)


def _is_since_1973(time_ns: int | None) -> bool:
    return time_ns is not None and time_ns >= EARLIEST_MS * MS


def _recorded(node: Node) -> clocks.Recorded:
    """The times of a node for ``clocks``; without any of its own those of its metrics."""
    start_ns, end_ns = node.start_ns, node.end_ns
    if start_ns is None and end_ns is None and (times_ns := node.source.metric_times_ns()):
        start_ns, end_ns = min(times_ns), max(times_ns)
    is_open = node.source.run.status in ("RUNNING", "SCHEDULED")
    return clocks.Recorded(node.parent, start_ns, end_ns, is_open or node.dates_calls)


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


def _lay_end_to_end(parent: Node) -> None:
    """Put steps that were written in one burst after the other, if they fit their parent so.

    Moved back by its own duration alone, each would end at the same moment as the others. A tree
    that failed is treated like one that did not: the step that failed, and the parent, may have no
    duration.
    """
    steps = [child for child in parent.children if not child.is_own_call]
    if not _should_lie_end_to_end(parent, steps):
        return
    limit_ns: int | None = None
    dated = [child for child in steps if child.start_ns is not None]
    for child in sorted(dated, key=_order_key, reverse=True):
        assert child.start_ns is not None and child.end_ns is not None
        if limit_ns is not None and child.end_ns > limit_ns:
            length_ns = child.end_ns - child.start_ns
            child.end_ns, child.start_ns = limit_ns, limit_ns - length_ns
            child.inferences.append("times: put before the step that was written after it")
        limit_ns = child.start_ns


def _should_lie_end_to_end(parent: Node, steps: Sequence[Node]) -> bool:
    """Whether steps were written in one burst, and fit their parent one after the other."""
    moved = [step for step in steps if step.start_ns is not None and step.post_hoc_ms is not None]
    if len(moved) < 2:
        return False
    for step in steps:
        if step.post_hoc_ms is None and step.source.status().word != "ERROR":
            return False
    logged = parent.source.logged_duration(None)
    if logged is None:
        return parent.source.status().word == "ERROR"
    return sum(step.post_hoc_ms or 0 for step in moved) <= MOST_OF_PARENT * logged.ms


def _order_key(node: Node) -> tuple[int, str]:
    return (node.source.run.start_ms or 0, node.source.run.run_id)


def _inherit_times(nodes: Sequence[Node]) -> None:
    """Give what has no time of its own its parent's start, from the root down."""
    for parent in nodes:
        for node in parent.children:
            if node.start_ns is None:
                node.start_ns = node.end_ns = parent.start_ns
                node.origins["start"] = node.origins["end"] = "parent"
                node.inferences.append("times: the run has none; its parent's start is taken")


def _cover_starts(nodes: Sequence[Node]) -> None:
    """Move the start of parents back so that it covers their children, from the leaves up."""
    for parent in reversed(nodes):
        for node in reversed(parent.children):
            if node.start_ns is None:
                continue
            if parent.start_ns is None or node.start_ns < parent.start_ns:
                parent.start_ns = node.start_ns
                parent.inferences.append("start: moved back to cover its children")


def _order_children(start_ns: int, children: Sequence[Node]) -> None:
    """Tell siblings with equal starts (given in source order) apart, by steps of 1 µs."""
    last_ns: int | None = None
    for child in sorted(children, key=lambda node: node.start_ns or 0):  # stable: order at ties
        begin_ns = max(child.start_ns or start_ns, start_ns)
        if last_ns is not None and begin_ns <= last_ns:
            begin_ns = last_ns + TICK
        child.start_ns = last_ns = begin_ns
        child.end_ns = max(child.end_ns or 0, begin_ns + TICK)
