"""Plans for trees of runs: which become traces, and what stands in them.

Pure: what is decided here depends on the records, the profiles and the options, and on nothing
else, so that ``scan``, ``show`` and ``convert`` say the same, today and tomorrow.

A tree takes four steps: ``choosing`` finds the profile and the role, ``nodes`` makes a node for
each span, ``timing`` and ``passes`` fill the nodes in, ``spans`` and ``traces`` make plans of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from migrator.issues import Issue
from migrator.model import Role, TracePlan, TreePlan
from migrator.transformer.choosing import (
    Choice,
    LiveTree,
    PlanOptions,
    ReadTree,
    choose,
    decide_role,
)
from migrator.transformer.node_sources import NativeTraces
from migrator.transformer.nodes import stories
from migrator.transformer.profiles import Profile
from migrator.transformer.run_view import RunView
from migrator.transformer.signs import signs_of
from migrator.transformer.spans import TraceFacts
from migrator.transformer.steps import TABLE_ROWS
from migrator.transformer.traces import plan_trace
from migrator.transformer.trees import RunTree, preorder


def plan_tree(
    tree: RunTree,
    profiles: Sequence[Profile],
    options: PlanOptions,
    native: Mapping[str, tuple[str, ...]],
    known_traces: frozenset[str] = frozenset(),
) -> TreePlan:
    """Decide what becomes of one tree of runs.

    ``native`` gives the ids of MLflow's own traces by the run that they were written in;
    ``known_traces`` all ids of the source, for runs that name theirs in a tag, a param or a file.

    Raises OptionError when the options name a profile that does not exist.
    """
    run_ids = [i for i in preorder(tree.root_id, tree.children) if i in tree.runs]
    if not run_ids:
        return _unreadable(tree)
    live = LiveTree.of(tree, run_ids, options)
    choice = choose(live, profiles, options)
    natives = NativeTraces(native, known_traces)
    made = _plan(choice, options, natives)
    views = list(choice.tree.views.values())
    if choice.rows is not None and not live.is_deleted:
        _add_rows(made, choice.rows, options, natives)
        views += choice.rows.views.values()
    issues = [*choice.issues, *made.issues]
    for view in views:
        issues += view.issues
    return TreePlan(
        root_run_id=tree.root_id if tree.root_id in tree.runs else run_ids[0],
        run_ids=tuple(run_ids),
        depth=_depth(tree),
        role=made.role,
        profile=choice.tree.profile.name,
        reasons=(*_guessed_parents(tree), *made.notes, *choice.verdict.reasons),
        traces=tuple(made.traces),
        left_as_runs=made.left,
        issues=tuple(issues),
    )


@dataclass(slots=True)
class _Made:
    """What became of a tree."""

    role: Role
    traces: list[TracePlan] = field(default_factory=list)
    left: str | None = None  # why it stays runs, in one word
    notes: list[str] = field(default_factory=list)  # reasons beside those of its role
    issues: list[Issue] = field(default_factory=list)


def _plan(choice: Choice, options: PlanOptions, natives: NativeTraces) -> _Made:
    tree, role = choice.tree, choice.verdict.role
    if tree.live.is_deleted:
        return _Made(role, left="deleted")
    if left := options.why_runs(role):
        return _Made(role, left=choice.waiting or left)
    if len(tree.tops) > 1:
        made = _plan_orphaned(tree, options, natives)
    else:
        made = _plan_traces(tree, role, options, natives)
    if made.left == "native":
        made.notes.insert(0, "a trace is linked to it")
    return made


def _add_rows(made: _Made, rows: ReadTree, options: PlanOptions, natives: NativeTraces) -> None:
    """Add the traces of the rows of a tree's tables to the traces of the tree itself."""
    added = _plan_traces(rows, Role.BATCH, options, natives)
    made.traces += added.traces
    made.issues += added.issues
    if added.traces:
        made.left = None
        made.notes.append(f"profile {rows.profile.name}: a trace for each row of its tables")


def _plan_orphaned(tree: ReadTree, options: PlanOptions, natives: NativeTraces) -> _Made:
    """Plan each live subtree of a deleted parent by itself."""
    parts: list[_Made] = []
    for top in tree.tops:
        subtree = tree.subtree(top)
        role = decide_role(subtree, options).role
        left = options.why_runs(role)
        part = _Made(role, left=left) if left else _plan_traces(subtree, role, options, natives)
        parts.append(part)
    shown = next((part for part in parts if options.why_runs(part.role) is None), parts[0])
    made = _Made(shown.role, notes=["their parent was deleted: each is a tree of its own"])
    for part in parts:
        made.traces += part.traces
        made.issues += part.issues
    if not made.traces:
        made.left = next((part.left for part in parts if part.left), None)
    return made


def _plan_traces(tree: ReadTree, role: Role, options: PlanOptions, natives: NativeTraces) -> _Made:
    """Plan the traces of a tree with one root. Runs that MLflow traced itself make none."""
    made = _Made(role)
    units, parent = _units(tree, role)
    if not units:
        made.left = "no-rows"
        return made
    if parent is None or not natives.of(parent):
        session = _session(parent) if role is Role.SESSION else None
        for unit in units:
            if natives.of(tree.views[unit]):
                continue
            if parent is not None and role is Role.SESSION:
                tree.views[unit].inherit_model(parent)
            for story in stories(tree, unit, natives):
                facts = TraceFacts(story.trace_id, role, parent, session, options.version)
                made.traces.append(plan_trace(story.nodes, facts, made.issues))
    if not made.traces:
        made.left = "native"
    return made


def _session(parent: RunView | None) -> str | None:
    """The session whose turns hang from a run: by its name for it, else by its run id."""
    if parent is None:
        return None
    found = parent.first("session")
    return str(found.value) if found else parent.run.run_id


def _units(tree: ReadTree, role: Role) -> tuple[list[str], RunView | None]:
    """The runs that become roots of traces, and the run above them that becomes no span."""
    top = tree.tops[0]
    if tree.profile.steps == TABLE_ROWS:  # whatever the runs are to each other
        return [run_id for run_id, view in tree.views.items() if tree.steps_of(view)], None
    below = tree.live.children.get(top, ())
    if below and _has_traces_of_its_own(tree, role, below):
        return list(below), tree.views[top]
    return [top], None


def _has_traces_of_its_own(tree: ReadTree, role: Role, below: Sequence[str]) -> bool:
    """Whether each child of the root is a trace: turns, cases, and trials that hold a text."""
    if role in (Role.SESSION, Role.BATCH):
        return True
    return role is Role.SWEEP and all(signs_of(tree.views[run_id]).own_text for run_id in below)


def _unreadable(tree: RunTree) -> TreePlan:
    return TreePlan(
        root_run_id=tree.root_id,
        run_ids=(),
        depth=0,
        role=Role.TRAINING,
        profile=None,
        reasons=("no run of it could be read",),
        traces=(),
        left_as_runs="unreadable",
    )


def _guessed_parents(tree: RunTree) -> list[str]:
    """A reason for each way in which parents were guessed, with the number of runs."""
    counts = Counter(tree.inferred.values())
    return [f"{n} of its runs: {why}" for why, n in sorted(counts.items(), reverse=True)]


def _depth(tree: RunTree) -> int:
    """The number of levels of the tree that have a run."""
    depth = 0
    level = [tree.root_id]
    while level:
        depth += any(run_id in tree.runs for run_id in level)
        below: list[str] = []
        for run_id in level:
            below += tree.children.get(run_id, ())
        level = below
    return depth
