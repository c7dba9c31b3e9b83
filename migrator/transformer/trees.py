"""Trees of runs from their parent links (tag ``mlflow.parentRunId``), over one store or several.

Nothing here recurses: chains of thousands and tens of thousands of siblings are ordinary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from migrator.issues import Code, Issue, Kind
from migrator.model import RunEntry, RunRecord

_RUN_ID = re.compile(r"[\w\-]{1,64}")  # of a tag's text; anything else may be somebody's secret


@dataclass(frozen=True, slots=True)
class Tree:
    """The runs below one root. Siblings are in the order of their ids: the index knows no times."""

    root_id: str
    run_ids: tuple[str, ...]  # depth first, the root first
    children: Mapping[str, tuple[str, ...]]  # only runs that have some


@dataclass(frozen=True, slots=True)
class Forest:
    """All trees, in the order of their root ids. Every run is in exactly one.

    A tree is made when it is asked for: all trees of a large store at once would take more memory
    than everything else that is known about its runs.
    """

    root_ids: tuple[str, ...]
    children: Mapping[str, tuple[str, ...]]  # of all trees; only runs that have some
    issues: tuple[Issue, ...]

    def tree(self, root_id: str) -> Tree:
        """Make the tree below a root."""
        ids = preorder(root_id, self.children)
        return Tree(
            root_id,
            tuple(ids),
            {each: self.children[each] for each in ids if each in self.children},
        )

    def trees(self) -> Iterator[Tree]:
        """Make all the trees, one after another."""
        return map(self.tree, self.root_ids)


@dataclass(frozen=True, slots=True)
class RunTree:
    """A tree with its runs read. ``runs`` may lack some: those that could not be read."""

    root_id: str
    runs: Mapping[str, RunRecord]
    children: Mapping[str, tuple[str, ...]]
    inferred: Mapping[str, str] = field(default_factory=dict)  # runs whose parent is a guess: why


def build_forest(links: Iterable[RunEntry]) -> Forest:
    """Join runs to trees. Linear in the runs, and the same whatever their order.

    A run whose parent is in no store is a root. So is a run that names itself, and the run with
    the smallest id in a cycle of parents. Each such cut is an issue. Run ids must be unique.
    """
    entries = {entry.entity_id: entry for entry in sorted(links, key=lambda e: e.entity_id)}
    issues: list[Issue] = []
    parents: dict[str, str] = {}
    for run_id, entry in entries.items():
        parent = entry.parent_run_id
        if not parent:
            continue
        if parent == run_id:
            issues.append(_cut(entry, Code.RUN_PARENT_SELF, "names itself as its parent"))
        elif parent not in entries:
            named = f" {parent}" if _RUN_ID.fullmatch(parent) else ", which is not a run id,"
            issues.append(
                _cut(entry, Code.RUN_PARENT_MISSING, f"its parent{named} is not in the store")
            )
        else:
            parents[run_id] = parent
            if entries[parent].experiment_id != entry.experiment_id:
                issues.append(
                    Issue(
                        Code.RUN_PARENT_ELSEWHERE,
                        entry.path,
                        f"The run lies in experiment {entry.experiment_id}, "
                        f"its parent {parent} in {entries[parent].experiment_id}.",
                        "both runs where they are; the tree belongs to its root's experiment",
                        Kind.RUN,
                        run_id,
                    )
                )
    for run_id in _smallest_of_each_cycle(parents):
        issues.append(
            _cut(
                entries[run_id],
                Code.RUN_PARENT_CYCLE,
                f"it is its own ancestor by way of {parents[run_id]}",
            )
        )
        del parents[run_id]

    below: dict[str, list[str]] = {}
    for run_id, parent in parents.items():  # in the order of ids, so siblings are too
        below.setdefault(parent, []).append(run_id)
    return Forest(
        tuple(run_id for run_id in entries if run_id not in parents),
        {run_id: tuple(ids) for run_id, ids in below.items()},
        tuple(issues),
    )


def _cut(entry: RunEntry, code: Code, why: str) -> Issue:
    return Issue(
        code,
        entry.path,
        f"Run {entry.entity_id}: {why}.",
        "the run, as the root of its own tree",
        Kind.RUN,
        entry.entity_id,
    )


def _smallest_of_each_cycle(parents: Mapping[str, str]) -> list[str]:
    done: set[str] = set()
    found: list[str] = []
    for start in parents:
        path: list[str] = []
        on_path: dict[str, int] = {}
        run_id: str | None = start
        while run_id is not None and run_id not in done:
            if run_id in on_path:
                found.append(min(path[on_path[run_id] :]))
                break
            on_path[run_id] = len(path)
            path.append(run_id)
            run_id = parents.get(run_id)
        done.update(path)
    return found


def preorder(root_id: str, children: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The ids from ``root_id`` down, every parent before its children, siblings in order."""
    ids: list[str] = []
    stack = [root_id]
    while stack:
        run_id = stack.pop()
        ids.append(run_id)
        stack.extend(reversed(children.get(run_id, ())))
    return ids


def without(
    root_id: str, children: Mapping[str, tuple[str, ...]], keep: Iterable[str]
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Take runs out of a tree. Returns the roots that remain, and the children of those kept.

    The children of a run that is taken out go to its nearest ancestor that stays; without one
    they become roots.
    """
    kept = set(keep)
    roots: list[str] = []
    below: dict[str, list[str]] = {}
    stack: list[tuple[str, str | None]] = [(root_id, None)]
    while stack:
        run_id, ancestor = stack.pop()
        if run_id in kept:
            if ancestor is None:
                roots.append(run_id)
            else:
                below.setdefault(ancestor, []).append(run_id)
            ancestor = run_id
        stack.extend((child, ancestor) for child in reversed(children.get(run_id, ())))
    return tuple(roots), {run_id: tuple(ids) for run_id, ids in below.items()}
