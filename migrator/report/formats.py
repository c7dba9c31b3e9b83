"""How numbers, sizes, dates and tables look in text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

FIRST_COLUMN = frozenset({0})


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
