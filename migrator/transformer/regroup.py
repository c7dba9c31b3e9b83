"""Parents for runs that have none on record, by what time says. Never done without being asked.

Three cases are met. Steps that were each written after the fact as a flat run, and last the
workflow, whose logged duration covers them. A server's run for each request, and beside it that of
the workflow which answered it. And steps that lost their workflow: MLflow 2.9 ends the outer run
when an inner one is ended by hand, so that later siblings become roots; or the parent is gone.
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from migrator.model import Role, TreePlan
from migrator.transformer.profiles import Profile
from migrator.transformer.run_view import RunView
from migrator.transformer.timing import POST_HOC
from migrator.transformer.trees import RunTree

SLACK_MS = 500.0  # a window is as sharp as its clock readings and what was done between them
COVERED = 0.5  # the part of a workflow's duration that its steps fill, at least
SURPLUS = 1.1  # and at most: more means that they ran beside it
ADOPTION_MS = 60_000.0  # how long after the last step of a workflow its next may start


@dataclass(frozen=True, slots=True)
class Moment:
    """When, by whom and as what a tree was logged: all that re-grouping looks at."""

    run_id: str
    experiment: str  # its directory
    user: str
    name: str
    start_ms: float
    end_ms: float  # of the last run in the tree
    post_hoc_ms: float | None  # the duration of a flat run that was written after the fact
    is_workflow: bool  # it may adopt
    is_lost: bool  # its parent is gone, or it is a step by its keys
    is_request: bool  # a server's run, which knows of the request but not of the work
    params: frozenset[str]
    step_params: frozenset[frozenset[str]]  # the keys of its children


def moment_of(
    tree: RunTree,
    plan: TreePlan,
    profiles: Sequence[Profile],
    *,
    parent_is_missing: bool = False,
    with_params: bool = True,
) -> Moment | None:
    """Return what re-grouping needs of a tree; None when it could take no part in it.

    Without params fewer trees are kept: enough to say whether re-grouping would do something.
    """
    root = tree.runs.get(tree.root_id)
    if root is None or root.deleted or root.start_ms is None:
        return None
    alone = len(tree.runs) == 1
    profile = next((p for p in profiles if p.name == plan.profile), None)
    post_hoc = None
    if alone and plan.role in (Role.CALL, Role.TRAINING) and root.end_ms and profile is not None:
        length = root.end_ms - root.start_ms
        found = RunView(root, profile).duration_ms(length)
        if found is not None and 0 <= length < POST_HOC * found.ms:
            post_hoc = found.ms
    is_workflow = plan.role in (Role.WORKFLOW, Role.SESSION) and not parent_is_missing
    is_lost = parent_is_missing or plan.profile == "configurable-agents-node"
    is_request = alone and plan.profile == "configurable-agents-server"
    kept = is_workflow or is_lost or is_request or (alone and with_params)
    if post_hoc is None and not kept:
        return None
    return Moment(
        run_id=root.run_id,
        # One string for all of an experiment or user: of these, all that is kept is in memory.
        experiment=sys.intern(os.path.dirname(root.path)),  # noqa: PTH120  # no Path for each
        user=sys.intern(root.tags.get("mlflow.user") or root.user_id),
        name=root.name.strip(),
        start_ms=root.start_ms,
        end_ms=max((r.end_ms or r.start_ms or 0 for r in tree.runs.values()), default=0),
        post_hoc_ms=post_hoc,
        is_workflow=is_workflow,
        is_lost=is_lost,
        is_request=is_request,
        params=_shared(frozenset(root.params)) if with_params else frozenset(),
        step_params=frozenset(
            _shared(frozenset(tree.runs[child].params))
            for child in tree.children.get(tree.root_id, ())
            if child in tree.runs
        ),
    )


@lru_cache(maxsize=10_000)
def _shared(keys: frozenset[str]) -> frozenset[str]:
    """Return one object for equal sets: a store repeats few, over many runs."""
    return keys


def group_by_time(moments: Iterable[Moment]) -> dict[str, str]:
    """Return the workflow of every flat run that time makes a step of one, by run id.

    A workflow was written after at least two others, its logged duration covers theirs, and they
    fill at least half of it, one after the other. Its name is another than theirs. A workflow that
    ran within just one request of the same experiment is put below that, and a request holds one.
    """
    moments = list(moments)
    parents = _answered(moments)
    for group in _by_writer(m for m in moments if m.post_hoc_ms is not None):
        for workflow in sorted(group, key=lambda m: (m.post_hoc_ms or 0, m.run_id)):
            length = workflow.post_hoc_ms or 0
            begin = workflow.start_ms - length - SLACK_MS
            steps = [
                m
                for m in group
                if m.run_id not in parents
                and m is not workflow
                and begin <= m.start_ms - (m.post_hoc_ms or 0)
                and m.start_ms <= workflow.start_ms
                and _plain(m.name) != _plain(workflow.name)
            ]
            filled = sum(m.post_hoc_ms or 0 for m in steps)
            if len(steps) >= 2 and COVERED * length <= filled <= SURPLUS * length:
                parents.update({m.run_id: workflow.run_id for m in steps})
    return parents


def _answered(moments: Iterable[Moment]) -> dict[str, str]:
    """Return the request that a workflow answered, by the workflow's run id."""
    parents: dict[str, str] = {}
    for group in _by_writer(moments):
        requests = [m for m in group if m.is_request]
        answers: defaultdict[str, list[str]] = defaultdict(list)
        for workflow in (m for m in group if m.is_workflow and not m.is_request):
            around = [
                request.run_id
                for request in requests
                if request.start_ms <= workflow.start_ms and workflow.end_ms <= request.end_ms
            ]
            if len(around) == 1:
                answers[around[0]].append(workflow.run_id)
        parents.update({found[0]: request for request, found in answers.items() if len(found) == 1})
    return parents


def adopt_orphans(moments: Iterable[Moment]) -> dict[str, str]:
    """Return the workflow that every lost step is put below, by run id.

    It is the last one that the same user had started in the experiment, if the step began while it
    ran or within a minute of its last step. Lost are steps whose parent is gone, those that their
    keys give away, and runs with the same params as that workflow's own steps.
    """
    parents: dict[str, str] = {}
    for group in _by_writer(moments):
        current: Moment | None = None
        last_ms = 0.0
        for moment in sorted(group, key=lambda m: (m.start_ms, m.run_id)):
            if moment.is_workflow:
                current, last_ms = moment, moment.end_ms
                continue
            if current is None or moment.start_ms > last_ms + ADOPTION_MS:
                continue
            if moment.is_lost or (moment.params and moment.params in current.step_params):
                parents[moment.run_id] = current.run_id
                last_ms = max(last_ms, moment.end_ms)
    return parents


def _by_writer(moments: Iterable[Moment]) -> Iterable[list[Moment]]:
    groups: defaultdict[tuple[str, str], list[Moment]] = defaultdict(list)
    for moment in moments:
        groups[moment.experiment, moment.user].append(moment)
    for key in sorted(groups):
        yield groups[key]


def _plain(name: str) -> str:
    """Return a name without what numbers and times add to it."""
    return re.sub(r"[\W\d_]+", " ", name).strip().lower()
