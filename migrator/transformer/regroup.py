"""Parents for runs that recorded none, found by time. Only done when the user asks for it.

Four cases occur. Steps that were each written after the fact as a flat run, with the workflow
written last: its logged duration covers theirs. A server's run for each request, beside the run of
the workflow that answered it. And steps that lost their workflow: the parent is gone, or MLflow 2.9
ended it when an inner run was ended by hand, so that later siblings became roots. And calls that
were logged from threads, which know no active run, while the run of the workflow was open.
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from migrator.model import Role, RunRecord, TreePlan
from migrator.transformer.profiles import Profile
from migrator.transformer.run_view import RunView
from migrator.transformer.timing import POST_HOC
from migrator.transformer.trees import RunTree

SLACK_MS = 500.0  # between two readings of the clock, and for the work between them
COVERED = 0.5  # the part of a workflow's duration that its steps fill, at least
SURPLUS = 1.1  # and at most: more means that they ran beside it
NO_USER = frozenset({"", "unknown"})  # what MLflow writes where it knows no user
ADOPTION_MS = 60_000.0  # how long after the last step of a workflow its next may start


@dataclass(frozen=True, slots=True)
class Moment:
    """When and by whom a tree was logged, and what it is: all that re-grouping looks at."""

    run_id: str
    experiment: str  # its directory
    user: str
    name: str
    start_ms: float
    end_ms: float  # of the last run in the tree
    post_hoc_ms: float | None  # the duration of a flat run that was written after the fact
    is_workflow: bool  # it may adopt
    is_live: bool  # LLM work that was logged while it ran
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
    """Reduce a tree to what re-grouping needs; None when the tree could take no part in it.

    Without params fewer trees are kept: enough to say whether re-grouping would change anything.
    """
    root = tree.runs.get(tree.root_id)
    if root is None or root.deleted or root.start_ms is None:
        return None
    is_alone = len(tree.runs) == 1
    post_hoc_ms = _post_hoc_ms(root, plan, profiles) if is_alone else None
    is_workflow = plan.role in (Role.WORKFLOW, Role.SESSION) and not parent_is_missing
    is_lost = parent_is_missing or plan.profile == "configurable-agents-node"
    is_request = is_alone and plan.profile == "configurable-agents-server"
    is_llm_work = (plan.role is Role.CALL or is_workflow) and not is_request
    was_logged_live = post_hoc_ms is None and bool(root.end_ms)
    is_live = is_llm_work and was_logged_live and bool(plan.traces)
    takes_part = is_live or is_workflow or is_lost or is_request or post_hoc_ms is not None
    if not takes_part and not (is_alone and with_params):
        return None
    children = [tree.runs[each] for each in _children_of_root(tree) if each in tree.runs]
    return Moment(
        run_id=root.run_id,
        # One string for each experiment and user: the moments of all trees are held in memory.
        experiment=sys.intern(os.path.dirname(root.path)),  # noqa: PTH120  # no Path for each
        user=sys.intern(root.tags.get("mlflow.user") or root.user_id),
        name=root.name.strip(),
        start_ms=root.start_ms,
        end_ms=max(run.end_ms or run.start_ms or 0 for run in tree.runs.values()),
        post_hoc_ms=post_hoc_ms,
        is_workflow=is_workflow,
        is_live=is_live,
        is_lost=is_lost,
        is_request=is_request,
        params=_shared(frozenset(root.params)) if with_params else frozenset(),
        step_params=frozenset(_shared(frozenset(child.params)) for child in children),
    )


def _children_of_root(tree: RunTree) -> Sequence[str]:
    return tree.children.get(tree.root_id, ())


def _post_hoc_ms(root: RunRecord, plan: TreePlan, profiles: Sequence[Profile]) -> float | None:
    """The duration that a flat run logged, if the run itself was written after the fact."""
    if plan.role not in (Role.CALL, Role.TRAINING) or root.start_ms is None or not root.end_ms:
        return None
    profile = next((each for each in profiles if each.name == plan.profile), None)
    if profile is None:
        return None
    length_ms = root.end_ms - root.start_ms
    logged = RunView(root, profile).duration_ms(length_ms)
    if logged is None or not 0 <= length_ms < POST_HOC * logged.ms:
        return None
    return logged.ms


@lru_cache(maxsize=10_000)
def _shared(keys: frozenset[str]) -> frozenset[str]:
    """Use one object for equal sets: a store repeats the same few over many runs."""
    return keys


def group_by_time(moments: Iterable[Moment]) -> dict[str, str]:
    """Find parents by time: run id to the run id of its new parent.

    A flat run becomes a workflow when it was written after at least two others whose logged
    durations lie within its own and fill at least half of it, one after the other. Its name
    differs from theirs. A workflow that ran within exactly one request of the same experiment goes
    below that request, if it is the only one there. Of live runs that overlap, all
    go below the one that encloses them, if no other of them has its name.
    """
    moments = list(moments)
    parents = _answered(moments)
    for group in _by_writer(m for m in moments if m.post_hoc_ms is not None):
        for workflow in sorted(group, key=lambda m: (m.post_hoc_ms or 0, m.run_id)):
            free = [moment for moment in group if moment.run_id not in parents]
            for step in _steps_of(workflow, free):
                parents[step.run_id] = workflow.run_id
    for run_id, parent in _enclosed(moments).items():
        parents.setdefault(run_id, parent)
    return parents


def _steps_of(workflow: Moment, others: Iterable[Moment]) -> list[Moment]:
    """The runs whose logged durations lie within a run's own, if they fill enough of it."""
    length_ms = workflow.post_hoc_ms or 0
    begin_ms = workflow.start_ms - length_ms - SLACK_MS
    steps: list[Moment] = []
    for other in others:
        is_within = begin_ms <= other.start_ms - (other.post_hoc_ms or 0)
        is_before = other.start_ms <= workflow.start_ms
        has_own_name = _plain(other.name) != _plain(workflow.name)
        if is_within and is_before and has_own_name:
            steps.append(other)
    filled_ms = sum(step.post_hoc_ms or 0 for step in steps)
    is_filled = COVERED * length_ms <= filled_ms <= SURPLUS * length_ms
    return steps if len(steps) >= 2 and is_filled else []


def _enclosed(moments: Iterable[Moment]) -> dict[str, str]:
    """The live run around others that overlap, by their ids, where one encloses all of them."""
    parents: dict[str, str] = {}
    live = [moment for moment in moments if moment.is_live]
    for group in _by_writer(live):
        for together in _overlapping(group):
            outer = together[0]  # it starts first, and of those that do it ends last
            inner = together[1:]
            end_ms = max((each.end_ms for each in inner), default=outer.end_ms + 1)
            has_twin = any(_plain(each.name) == _plain(outer.name) for each in inner)
            if end_ms <= outer.end_ms and not has_twin:
                parents.update({each.run_id: outer.run_id for each in inner})
    return parents


def _overlapping(group: Iterable[Moment]) -> Iterable[list[Moment]]:
    """Yield a writer's runs in lots that overlap in time, each by start and then longest first."""
    together: list[Moment] = []
    end_ms = 0.0
    for moment in sorted(group, key=lambda m: (m.start_ms, -m.end_ms, m.run_id)):
        if together and moment.start_ms > end_ms:
            yield together
            together, end_ms = [], 0.0
        together.append(moment)
        end_ms = max(end_ms, moment.end_ms)
    if together:
        yield together


def _answered(moments: Iterable[Moment]) -> dict[str, str]:
    """The request that each workflow answered, by the workflow's run id."""
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
    """Attach orphaned steps to the workflow that ran just before them: run id to workflow's id.

    That is the last workflow that the same user had started in the experiment, if the step began
    while it ran or within a minute of its last step. Orphaned are steps whose parent is gone, runs
    with the keys of a step, and runs with the same params as that workflow's own steps.
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
    """Yield the moments of each user of each experiment.

    ``MlflowClient.create_run``, which people use in threads, records no user: such runs are taken
    for those of the experiment's only user.
    """
    by_experiment: defaultdict[str, defaultdict[str, list[Moment]]]
    by_experiment = defaultdict(lambda: defaultdict(list))
    for moment in moments:
        by_experiment[moment.experiment][moment.user].append(moment)
    for _, by_user in sorted(by_experiment.items()):
        users = by_user.keys() - NO_USER
        if len(users) == 1:
            yield [moment for group in by_user.values() for moment in group]
        else:
            yield from (by_user[user] for user in sorted(by_user))


def _plain(name: str) -> str:
    """A name without numbers and punctuation, so that names with times or counters are equal."""
    return re.sub(r"[\W\d_]+", " ", name).strip().lower()
