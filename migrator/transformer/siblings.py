"""Names of steps and workflows that were recognised, as evidence for flat runs beside them.

A tracker that once logged a step without nesting it wrote the same name as later, when it nested
it. Such a run may hold no more than a status; its name says what it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from migrator import conventions as conv
from migrator.model import TreePlan
from migrator.transformer.trees import RunTree

SHARED_WORDS = 3  # names that begin with so many words alike are those of one kind of step
_MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d+")  # MLflow's own: "funny-shoat-566"


def recognised_names(tree: RunTree, plan: TreePlan) -> frozenset[str]:
    """The names of a nested tree's runs, in plain form, if a span of it names a model."""
    has_model = any(
        conv.SPAN_MODEL in span.attributes for trace in plan.traces for span in trace.spans
    )
    if len(tree.runs) < 2 or not has_model:
        return frozenset()
    return kinds_of_names(run.name for run in tree.runs.values())


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
