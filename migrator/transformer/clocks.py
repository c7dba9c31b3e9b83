"""Clocks that disagree: which recorded times of a trace can't be true beside its root's.

Times are ns. A live child starts after its root, and work that the root left behind may go on for
a while. So a time is not believed when it lies outside the trace (the root and all that adjoins
it) by more than a slack, and by more than the time in which anything in the trace ran.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MS = 1_000_000  # ns
SECOND = 1_000_000_000
EARLIEST_MS = 100_000_000_000  # 1973; an earlier time is nonsense, or in seconds
LATEST_MS = 9_000_000_000_000  # 2255; a later time does not fit into 64 bits as ns
BEFORE = SECOND  # nothing starts before its root, but for what two clocks differ by
AFTER = 60 * SECOND  # work that a root left behind begins within a minute
LONGEST = 7 * 86_400 * SECOND  # work above a week is not believed, nor is such a pause


class Recorded(NamedTuple):
    """When a node of a trace ran, as recorded. Parents come before children."""

    parent: int | None  # index of the parent, None for the root
    start_ns: int | None
    end_ns: int | None
    is_open: bool = False  # more may have been recorded after its end


class Window(NamedTuple):
    """A stretch of time."""

    start_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        return self.end_ns - self.start_ns

    def covers(self, other: Window) -> bool:
        return self.start_ns <= other.start_ns and other.end_ns <= self.end_ns

    def gap_ns(self, other: Window) -> int:
        """Length of the pause between two windows; 0 when they meet."""
        return max(0, other.start_ns - self.end_ns, self.start_ns - other.end_ns)

    def shifted(self, by_ns: int) -> Window:
        return Window(self.start_ns + by_ns, self.end_ns + by_ns)


@dataclass(frozen=True, slots=True)
class Correction:
    """Where a node is put instead, and how far its recorded time lies from the trace's."""

    window: Window
    shift_ns: int  # 0 when only one end of it was wrong
    gap_ns: int


def corrections(nodes: Sequence[Recorded]) -> dict[int, Correction]:
    """Correct the nodes that an odd clock dated, by their index. The root never is one of them."""
    windows = {index: window for index, node in enumerate(nodes) if (window := _window(node))}
    root = _root_window(windows)
    if root is None or len(windows) < 2:
        return {}
    if all(map(root.covers, windows.values())):
        return {}  # nearly every trace
    longest_ns = max(LONGEST, root.length_ns)
    corrected: dict[int, Correction] = {}
    for index, window in windows.items():
        if index and window.length_ns > longest_ns:
            believed = _nearer_end(window, root)
            gap_ns = max(root.start_ns - window.start_ns, window.end_ns - root.end_ns)
            corrected[index] = Correction(believed, 0, gap_ns)
    windows.update({index: correction.window for index, correction in corrected.items()})
    pauses = _pauses(nodes[0], windows)
    trace = _grown(root, windows.values(), pauses)
    gaps = {index: gap for index, window in windows.items() if (gap := trace.gap_ns(window))}
    if gaps:
        moved = _Placement(nodes, windows, trace, pauses).moved(gaps)
        corrected.update(moved)
    return corrected


@dataclass(frozen=True, slots=True)
class _Pauses:
    """The longest pauses in which nothing of a trace runs that are believed."""

    before_ns: int
    after_ns: int
    of_a_clock_ns: int  # between two nodes that an odd clock dated


def _window(node: Recorded) -> Window | None:
    start_ns = node.start_ns if node.start_ns is not None else node.end_ns
    end_ns = node.end_ns if node.end_ns is not None else node.start_ns
    return Window(start_ns, end_ns) if start_ns is not None and end_ns is not None else None


def _root_window(windows: Mapping[int, Window]) -> Window | None:
    """The root's window; for a root without times, that of the node in the middle."""
    if 0 in windows or not windows:
        return windows.get(0)
    by_start = sorted(windows.values(), key=lambda window: window.start_ns)
    believed = [window for window in by_start if window.length_ns <= LONGEST] or by_start
    return believed[len(believed) // 2]


def _nearer_end(window: Window, root: Window) -> Window:
    """The end of a window that lies nearer to the root's, as a window without length."""
    first = Window(window.start_ns, window.start_ns)
    last = Window(window.end_ns, window.end_ns)
    return first if root.gap_ns(first) <= root.gap_ns(last) else last


def _pauses(root: Recorded, windows: Mapping[int, Window]) -> _Pauses:
    busy_ns = _busy_ns(windows.values())
    before_ns = LONGEST if root.start_ns is None else BEFORE
    after_ns = LONGEST if root.end_ns is None or root.is_open else AFTER
    return _Pauses(max(busy_ns, before_ns), max(busy_ns, after_ns), max(busy_ns, AFTER))


def _busy_ns(windows: Iterable[Window]) -> int:
    """Length of the time in which at least one of the windows is open."""
    total_ns = 0
    last_ns: int | None = None
    for window in sorted(windows, key=lambda each: each.start_ns):
        begin_ns = window.start_ns if last_ns is None else max(window.start_ns, last_ns)
        total_ns += max(0, window.end_ns - begin_ns)
        last_ns = window.end_ns if last_ns is None else max(window.end_ns, last_ns)
    return total_ns


def _grown(root: Window, windows: Iterable[Window], pauses: _Pauses) -> Window:
    """Grow the root's window by all that adjoins it, with pauses that are believed."""
    start_ns, end_ns = root.start_ns, root.end_ns
    windows = list(windows)
    for window in sorted(windows, key=lambda each: each.start_ns):
        if window.end_ns >= root.start_ns and window.start_ns - end_ns <= pauses.after_ns:
            end_ns = max(end_ns, window.end_ns)
    for window in sorted(windows, key=lambda each: each.end_ns, reverse=True):
        if window.start_ns <= root.end_ns and start_ns - window.end_ns <= pauses.before_ns:
            start_ns = min(start_ns, window.start_ns)
    return Window(start_ns, end_ns)


class _Placement:
    """Moves nodes that an odd clock dated into their parents."""

    def __init__(
        self,
        nodes: Sequence[Recorded],
        windows: Mapping[int, Window],
        trace: Window,
        pauses: _Pauses,
    ) -> None:
        self._nodes = nodes
        self._recorded = windows
        self._pauses = pauses
        self._trace = trace
        self._moved: dict[int, Correction] = {}

    def moved(self, gaps: Mapping[int, int]) -> dict[int, Correction]:
        """Correct the nodes whose distance from the trace is in ``gaps``.

        Durations, and the order and distances of siblings of one clock, stay as recorded; the
        distances shrink where they would not fit into the parent. What a node's own clock dated
        below it moves along with it.
        """
        siblings: defaultdict[int, list[int]] = defaultdict(list)
        for index in sorted(gaps):
            siblings[self._nodes[index].parent or 0].append(index)
        for parent in sorted(siblings):  # parents before children
            strangers = []
            for index in siblings[parent]:
                above = self._moved.get(parent)
                if above is not None and self._is_of_one_clock(parent, index):
                    self._move(index, above.shift_ns, gaps)
                else:
                    strangers.append(index)
            for group in self._of_one_clock(strangers):
                self._place(group, parent, gaps)
        return self._moved

    def _is_of_one_clock(self, index: int, other: int) -> bool:
        gap_ns = self._recorded[index].gap_ns(self._recorded[other])
        return gap_ns <= self._pauses.of_a_clock_ns

    def _of_one_clock(self, siblings: Sequence[int]) -> Iterable[list[int]]:
        """Yield siblings in groups of which each follows the other without a long pause."""
        group: list[int] = []
        end_ns = 0
        for index in sorted(siblings, key=lambda each: self._recorded[each].start_ns):
            window = self._recorded[index]
            if group and window.start_ns - end_ns > self._pauses.of_a_clock_ns:
                yield group
                group = []
            end_ns = max(end_ns, window.end_ns) if group else window.end_ns
            group.append(index)
        if group:
            yield group

    def _place(self, group: Sequence[int], parent: int, gaps: Mapping[int, int]) -> None:
        room = self._room(parent)
        windows = [self._recorded[index] for index in group]
        first_ns = windows[0].start_ns
        part = 1.0
        if all(window.length_ns <= room.length_ns for window in windows):
            for window in windows:
                if (offset_ns := window.start_ns - first_ns) > 0:
                    part = min(part, (room.length_ns - window.length_ns) / offset_ns)
        for index, window in zip(group, windows, strict=True):
            offset_ns = window.start_ns - first_ns
            start_ns = room.start_ns + int(offset_ns * part)
            self._move(index, start_ns - window.start_ns, gaps)

    def _room(self, parent: int) -> Window:
        """The window of a parent, or of the nearest node above it that has one."""
        at = parent
        while at:
            if at in self._moved:
                return self._moved[at].window
            if at in self._recorded:
                return self._recorded[at]
            at = self._nodes[at].parent or 0
        return self._trace

    def _move(self, index: int, shift_ns: int, gaps: Mapping[int, int]) -> None:
        window = self._recorded[index].shifted(shift_ns)
        self._moved[index] = Correction(window, shift_ns, gaps[index])
