"""The roles of trees of runs, with their numbers, as a person would say them."""

from __future__ import annotations

from collections import Counter

from migrator.counting import counted

NOUNS = {
    "batch": ("batch", "batches"),
    "training": ("single run", "single runs"),  # trained models, evaluations and the rest
}
"""Role to its noun in singular and plural, where these are not regular."""


def trees_of_role(number: int, role: str) -> str:
    """``1 workflow``, ``2 workflows``, ``3 single runs``."""
    singular, plural = NOUNS.get(role, (role, ""))
    return counted(number, singular, plural)


def roles_text(roles: Counter[str]) -> str:
    """``5 calls, 1 workflow``: the commonest role comes first."""
    return ", ".join(trees_of_role(number, role) for role, number in roles.most_common())
