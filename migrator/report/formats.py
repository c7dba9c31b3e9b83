"""How numbers, sizes, dates and tables look in text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

FIRST_COLUMN = frozenset({0})
COMMANDS = ("    mlflow-migrate ", "    mlflow server ")  # how lines with a command begin
LEAST_NAME = 12  # characters that a shortened first column keeps


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], left: Iterable[int] = FIRST_COLUMN
) -> str:
    """Return an aligned table with a line below its header.

    ``left`` are the numbers of the left-aligned columns; the others are right-aligned.
    """
    lefts = set(left)
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = []
    for line in lines:
        cells = []
        for number, (cell, width) in enumerate(zip(line, widths, strict=True)):
            cells.append(cell.ljust(width) if number in lefts else cell.rjust(width))
        aligned.append("  ".join(cells).rstrip())
    aligned.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(aligned)


def hanging_table(header: Sequence[str], rows: Iterable[Sequence[str]], width: int | None) -> str:
    """An aligned table; where it is wider than ``width``, the last column goes on below itself."""
    lines = [list(row) for row in rows]
    before = sum(2 + max(map(len, column)) for column in [*zip(header, *lines, strict=True)][:-1])
    broken = []
    for *cells, last in lines:
        room = max(LEAST_NAME, len(last) if width is None else width - before)
        first, *rest = textwrap.wrap(last, room, break_on_hyphens=False) or [""]
        broken.append([*cells, first])
        broken += [["" for _ in cells] + [more] for more in rest]
    return table(header, broken, left=range(len(header)))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table that fits a width.

    Columns with rank 0 are always shown. Of the others the one with the highest rank is left out
    first where the table is too wide.
    """

    title: str
    is_left: bool = False
    rank: int = 0


def fitted_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> tuple[str, list[str]]:
    """An aligned table of at most ``width`` characters, and the titles of the columns left out.

    Where leaving columns out is not enough, the first column is shortened. None is any width.
    """
    kept = list(range(len(columns)))
    hidden: list[str] = []
    while width is not None and _table_width(columns, rows, kept) > width:
        least = max(kept, key=lambda number: columns[number].rank)
        if columns[least].rank == 0:
            break
        kept.remove(least)
        hidden.append(columns[least].title)
    shown = [[row[number] for number in kept] for row in rows]
    excess = 0 if width is None else _table_width(columns, rows, kept) - width
    if kept and excess > 0:
        longest = max(len(row[0]) for row in shown)
        for row in shown:
            row[0] = shorten(row[0], max(LEAST_NAME, longest - excess))
    left = [place for place, number in enumerate(kept) if columns[number].is_left]
    return table([columns[number].title for number in kept], shown, left), hidden


def _table_width(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], kept: Sequence[int]
) -> int:
    width = 2 * (len(kept) - 1)
    for number in kept:
        texts = [columns[number].title, *(row[number] for row in rows)]
        width += max(map(len, texts))
    return width


def wrapped(text: str, width: int | None) -> str:
    """Break lines that are longer than ``width`` between words; None breaks nothing.

    A continued line is indented as the line that it continues. A word that is too long, such as a
    URL, stays whole, and so does a command, which people copy.
    """
    if width is None:
        return text
    lines: list[str] = []
    for line in text.split("\n"):
        if len(line) <= width or line.startswith(COMMANDS):
            lines.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            expand_tabs=False,
        )
    return "\n".join(lines)


def size(size_bytes: int) -> str:
    """Return a number of bytes in binary units: ``900 B``, ``1.5 KiB``."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    value = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def duration(seconds: float) -> str:
    """``5 s``, ``3 min`` or ``2 h 10 min``, at least 1 s."""
    whole = max(1, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def shorten(text: str, limit: int) -> str:
    """Return a text on one line, cut to ``limit`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def date_range(first_ms: int | None, last_ms: int | None) -> str:
    """Return ``2024-05-01 … 2024-05-03`` (UTC), one date, or "" if a time is missing."""
    if first_ms is None or last_ms is None:
        return ""
    first, last = iso_time(first_ms)[:10], iso_time(last_ms)[:10]
    return first if first == last else f"{first} … {last}"


def iso_time(time_ms: int) -> str:
    """Return a time in ms since 1970 as ``2024-05-01T12:00:00.000Z``; at most the year 9999."""
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return "9999-12-31T23:59:59.000Z"
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}Z"
