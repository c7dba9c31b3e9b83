"""The charts of the HTML report: bars by week, computed as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from migrator.outcome.summary import Week, monday

MOST_BARS = 260  # with more weeks than that, one bar stands for several weeks
BAR_REM = 4  # the greatest width of a bar
LABEL_REM = 6.5  # the least distance of two dates
LONG_GAP = 13  # a longer time without anything is drawn as one narrow gap, in weeks
MOST_DATES = 5  # labels below a chart
DIGITS = (1, 2, 4, 5, 8)  # first digits of the number at the top of the scale


@dataclass(frozen=True, slots=True)
class Bar:
    """One or more weeks: ``first_day`` is the first Monday, None for a long gap."""

    first_day: date | None
    week: Week


@dataclass(frozen=True, slots=True)
class Block:
    """A coloured part of a bar; ``height`` in percent of the chart."""

    style: str
    height: float


@dataclass(frozen=True, slots=True)
class DateLabel:
    """A date below a bar; ``left`` in percent of the chart. Phones leave out the minor ones."""

    day: date
    left: float
    is_minor: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """Stacked bars of one or more counters of ``Week``; ``top`` is the end of the scale.

    ``stacks`` has the blocks of each bar, the upper ones first.
    """

    counters: tuple[str, ...]
    top: int
    bars: tuple[Bar, ...]
    stacks: tuple[tuple[Block, ...], ...]
    dates: tuple[DateLabel, ...]

    @property
    def width_rem(self) -> int:
        """The greatest width: a few bars must not fill the page."""
        return BAR_REM * len(self.bars)

    @property
    def marked_bars(self) -> Iterator[tuple[Bar, tuple[Block, ...]]]:
        """Each bar with its blocks."""
        return zip(self.bars, self.stacks, strict=True)


def chart(bars: Sequence[Bar], counters: tuple[str, ...]) -> Chart:
    """Make a chart of these counters of ``Week``, stacked in this order from the top."""
    heights = [_heights(bar.week, counters) for bar in bars]
    top = round_up(max(sum(numbers.values()) for numbers in heights))
    stacks = tuple(_stack(numbers, top) for numbers in heights)
    return Chart(counters, top, tuple(bars), stacks, date_labels(bars))


def _heights(week: Week, counters: Sequence[str]) -> dict[str, int]:
    return {counter: getattr(week, counter) for counter in counters}


def _stack(numbers: Mapping[str, int], top: int) -> tuple[Block, ...]:
    """The blocks of a bar, each as high as its number in percent of ``top``."""
    return tuple(Block(name, 100 * number / top) for name, number in numbers.items() if number)


def bars_of(weeks: Mapping[int, Week]) -> tuple[list[Bar], int]:
    """Make the bars from the first to the last week, and the number of weeks in each bar."""
    slots = _slots(sorted(weeks))
    weeks_per_bar = -(-len(slots) // MOST_BARS)
    bars: list[Bar] = []
    first: int | None = None  # week number of the last bar, None after a gap
    for slot in slots:
        if slot is None:
            bars.append(Bar(None, Week()))
            first = None
            continue
        if first is None or slot - first >= weeks_per_bar:
            bars.append(Bar(monday(slot), Week()))
            first = slot
        bars[-1].week.add(weeks.get(slot, Week()))
    return bars, weeks_per_bar


def _slots(numbers: Sequence[int]) -> list[int | None]:
    """List the weeks to draw, in order; None is a long gap."""
    slots: list[int | None] = []
    last: int | None = None
    for number in numbers:
        if last is None:
            slots.append(number)
        elif number - last <= LONG_GAP:
            slots += range(last + 1, number + 1)
        else:
            slots += [None, number]
        last = number
    return slots


def date_labels(bars: Sequence[Bar]) -> tuple[DateLabel, ...]:
    """Choose at most ``MOST_DATES`` bars, evenly, and put their dates below their middle.

    Where the bars are narrow, fewer, so that they don't overlap.
    """
    dated = [(place, bar.first_day) for place, bar in enumerate(bars) if bar.first_day is not None]
    fitting = max(2, int(len(bars) * BAR_REM / LABEL_REM))
    count = min(MOST_DATES, len(dated), fitting)
    last = count - 1
    labels = []
    for number in range(count):
        place, day = dated[round(number * (len(dated) - 1) / max(1, last))]
        left = 100 * (place + 0.5) / len(bars)
        if number == 0:
            left = 0.0
        elif number == last:
            left = 100.0
        labels.append(DateLabel(day, left, number not in (0, count // 2, last)))
    return tuple(labels)


def round_up(number: int) -> int:
    """Round up to the next of 1, 2, 4, 5, 8, 10, 20, 40, …"""
    power = 1
    while True:
        for digit in DIGITS:
            if digit * power >= number:
                return digit * power
        power *= 10


def short_number(number: int) -> str:
    """Write a number for a scale: ``1,500``, ``20 k``, ``4 M``, ``1 G``."""
    if number >= 1_000_000_000:
        return f"{number / 1_000_000_000:g} G"
    if number >= 1_000_000:
        return f"{number / 1_000_000:g} M"
    if number >= 10_000:
        return f"{number / 1000:g} k"
    return f"{number:,}"
