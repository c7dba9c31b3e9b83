"""Numbers with their nouns, in singular or plural, and lists in a sentence."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number and its noun: ``counted(3, "trace")`` is ``3 traces``.

    Without ``plural`` the noun gets an s. A verb may go with the noun:
    ``counted(1, "tree was kept", "trees were kept")`` is ``1 tree was kept``.
    """
    if number == 1:
        return f"1 {singular}"
    return f"{number:,} {plural or singular + 's'}"


def listed(parts: Sequence[str]) -> str:
    """Join parts of a sentence: ``a``, ``a and b``, ``a, b and c``."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
