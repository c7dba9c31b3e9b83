"""Names of steps and workflows that were recognised, as evidence for flat runs beside them.

A tracker that once logged a step without nesting it wrote the same name as later, when it nested
it. Such a run may hold no more than a status; its name says what it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from migrator import conventions as conv
from migrator.model import Role, TreePlan

SHARED_WORDS = 3  # names that begin with so many words alike are those of one kind of step
_MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d+")  # MLflow's own: "funny-shoat-566"


@dataclass(frozen=True, slots=True)
class KnownNames:
    """Names of recognised runs of one experiment, in plain form."""

    of_trees: frozenset[str] = frozenset()
    of_calls: frozenset[str] = frozenset()  # flat runs; evidence only for runs that failed

    def __or__(self, other: KnownNames) -> KnownNames:
        return KnownNames(self.of_trees | other.of_trees, self.of_calls | other.of_calls)

    def __bool__(self) -> bool:
        return bool(self.of_trees or self.of_calls)


NO_NAMES = KnownNames()


def recognised_names(names: Sequence[str], plan: TreePlan) -> KnownNames:
    """The names of a planned tree's runs, if it is a call, or nested runs that name a model."""
    if plan.role is Role.CALL and plan.traces:
        return KnownNames(of_calls=kinds_of_names(names))
    has_model = any(
        conv.SPAN_MODEL in span.attributes for trace in plan.traces for span in trace.spans
    )
    if len(names) < 2 or not has_model:
        return NO_NAMES
    return KnownNames(of_trees=kinds_of_names(names))


def kinds_of_names(names: Iterable[str]) -> frozenset[str]:
    """The plain forms of names, each also by its first words."""
    kinds: set[str] = set()
    for name in names:
        kinds.update(_plain_forms(name))
    return frozenset(kinds)


def is_known_name(name: str, known: frozenset[str]) -> bool:
    """Whether a name, or its first words, are those of a recognised run."""
    return not known.isdisjoint(_plain_forms(name))


@lru_cache(maxsize=10_000)
def _plain_forms(name: str) -> tuple[str, ...]:
    """A name without numbers and punctuation, and its first words; nothing for a made-up name."""
    if _MADE_UP.fullmatch(name.strip()):
        return ()
    parts = re.findall(r"[^\W\d_]+", name.casefold())
    if not parts:
        return ()
    forms = [" ".join(parts)]
    if len(parts) > SHARED_WORDS:
        forms.append(" ".join(parts[:SHARED_WORDS]) + " …")
    return tuple(forms)
