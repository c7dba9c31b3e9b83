"""Names and keys of runs that were recognised, as evidence for runs beside them that hold little.

A tracker that once logged a step without nesting it wrote the same name as later, when it nested
it. Such a run may hold no more than a status; its name says what it was. A call that failed before
anything was asked or answered has at least the params that the tracker logs first, and a pipeline
that failed in its first stage has the name of those that went on to train.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from migrator import conventions as conv
from migrator.model import Role, RunRecord, TreePlan
from migrator.transformer.profiles import normalise
from migrator.transformer.values import words

SHARED_WORDS = 3  # names that begin with so many words alike are those of one kind of step
LEAST_PARAMS = 2  # one param is no evidence of the same tracker
TOOLS = words("tool tools")
"""Words of params that an agent logs beside what it was told."""

_MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d+")  # MLflow's own: "funny-shoat-566"


class Logged(NamedTuple):
    """What runs have in common that one piece of code logged: its script, and the params."""

    source: str
    params: frozenset[str]

    @classmethod
    def of(cls, run: RunRecord) -> Logged:
        script = run.tags.get("mlflow.source.name") or run.source_name
        return cls(script, frozenset(run.params))


@dataclass(frozen=True, slots=True)
class KnownNames:
    """Names of recognised runs of one experiment, in plain form."""

    of_trees: frozenset[str] = frozenset()
    of_jobs: frozenset[str] = frozenset()  # roots of pipelines and sweeps
    of_calls: frozenset[str] = frozenset()  # flat runs; evidence only for runs that failed
    params_of_calls: frozenset[frozenset[str]] = frozenset()  # the keys; likewise
    calls: Counter[Logged] = field(default_factory=Counter)  # flat runs that were recognised,
    flat: Counter[Logged] = field(default_factory=Counter)  # and all flat runs that were read

    def __or__(self, other: KnownNames) -> KnownNames:
        return KnownNames(
            self.of_trees | other.of_trees,
            self.of_jobs | other.of_jobs,
            self.of_calls | other.of_calls,
            self.params_of_calls | other.params_of_calls,
            self.calls + other.calls,
            self.flat + other.flat,
        )

    def __bool__(self) -> bool:
        return bool(self.of_trees or self.of_jobs or self.of_calls or self.params_of_calls)

    def has_only_jobs_like(self, root: RunRecord) -> bool:
        """Whether trees with the root's name are pipelines or sweeps, and none a workflow."""
        is_of_job = is_known_name(root.name, self.of_jobs)
        return is_of_job and not is_known_name(root.name, self.of_trees)

    def is_among_calls(self, run: RunRecord) -> bool:
        """Whether runs with the same params by the same script are calls: most, or of an agent.

        The log of a search engine has queries that happen to read as questions, too, but few.
        """
        logged = Logged.of(run)
        n_calls = self.calls[logged]
        is_of_agent = any(not TOOLS.isdisjoint(normalise(key).split("_")) for key in run.params)
        return n_calls > 0 and (is_of_agent or n_calls * 2 >= self.flat[logged])

    def has_call_like(self, run: RunRecord) -> bool:
        """Whether a run has the name of a recognised call, or no params but those of one."""
        if is_known_name(run.name, self.of_calls):
            return True
        params = frozenset(run.params)
        return len(params) >= LEAST_PARAMS and any(
            params <= of_call for of_call in self.params_of_calls
        )


NO_NAMES = KnownNames()


def recognised_names(runs: Sequence[RunRecord], plan: TreePlan) -> KnownNames:
    """The names of a planned tree's runs, if it is a call, or nested runs that name a model.

    Of a pipeline or a sweep only the root's name.
    """
    if plan.role in (Role.PIPELINE, Role.SWEEP):
        roots = [run.name for run in runs if run.run_id == plan.root_run_id]
        return KnownNames(of_jobs=kinds_of_names(roots))
    names = [run.name for run in runs]
    logged = Counter(map(Logged.of, runs)) if len(runs) == 1 else Counter()
    if plan.role is Role.CALL and not plan.traces:
        return NO_NAMES  # MLflow traced it
    if plan.role is Role.CALL:
        params = frozenset(frozenset(run.params) for run in runs)
        return KnownNames(
            of_calls=kinds_of_names(names), params_of_calls=params, calls=logged, flat=logged
        )
    has_model = any(
        conv.SPAN_MODEL in span.attributes for trace in plan.traces for span in trace.spans
    )
    if len(names) < 2 or not has_model:
        return KnownNames(flat=logged)
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
