"""Which profile reads a tree of runs, and what the tree was: the first decisions of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from migrator.errors import OptionError
from migrator.issues import Code, Issue, Kind
from migrator.model import Role, RunRecord
from migrator.transformer import roles
from migrator.transformer.found import Step
from migrator.transformer.profiles import Profile
from migrator.transformer.run_view import RunView
from migrator.transformer.steps import STEPS, read_steps
from migrator.transformer.trees import RunTree, preorder, without
from migrator.transformer.values import natural

CATEGORY = {
    Role.SWEEP: "sweeps",
    Role.PIPELINE: "pipelines",
    Role.CALL: "flat",
    Role.TRAINING: "flat",
}
"""The word of ``--include`` and ``--exclude`` for a role; the others go by their own name."""

STAY_RUNS = (Role.SWEEP, Role.PIPELINE, Role.TRAINING)
"""The roles of trees that stay runs unless they are included."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the user decided about roles and profiles.

    ``include`` and ``exclude`` hold ``sweeps``, ``pipelines``, ``flat``, ``deleted`` or a role's
    name. ``roles`` forces the role of every tree of an experiment, by the source's experiment id
    or, where several sources have one of that id, by its directory.
    """

    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    profile: str | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)
    version: str = ""

    def asks_for(self, profile: Profile) -> bool:
        """Whether a profile may take trees: always, unless it waits to be asked for."""
        if profile.opt_in in self.exclude:
            return False
        is_waiting = profile.opt_in is not None and profile.opt_in not in self.include
        return not is_waiting or profile.name == self.profile

    def should_drop(self, run: RunRecord) -> bool:
        """Whether a deleted run is left out of its trace."""
        if not run.deleted or "deleted" in self.include:
            return False
        return not run.deleted_with_experiment or "deleted" in self.exclude

    def why_runs(self, role: Role) -> str | None:
        """Why trees of a role stay runs: the word that includes them. None: they become traces."""
        category = CATEGORY.get(role, role.value)
        names = {role.value, category}
        stays = role in STAY_RUNS and not names & self.include
        return category if stays or names & self.exclude else None

    def forced_role(self, run: RunRecord) -> Role | None:
        """The role that the user gave to a run's experiment."""
        if not self.roles:
            return None
        return self.roles.get(str(PurePath(run.path).parent)) or self.roles.get(run.experiment_id)


@dataclass(frozen=True, slots=True)
class LiveTree:
    """The runs of a tree that count: siblings in the order in which they ran, none deleted.

    A tree in which every run was deleted is kept as it is.
    """

    runs: Mapping[str, RunRecord]
    tops: tuple[str, ...]  # one root, or several where their common parent was deleted
    children: Mapping[str, tuple[str, ...]]
    inferred: Mapping[str, str]  # runs whose parent is a guess: why
    is_deleted: bool  # every run was deleted

    @classmethod
    def of(cls, tree: RunTree, run_ids: Sequence[str], options: PlanOptions) -> LiveTree:
        """Leave the deleted runs out of a tree; ``run_ids`` are those that could be read."""
        live = [run_id for run_id in run_ids if not options.should_drop(tree.runs[run_id])]
        tops, children = without(tree.root_id, tree.children, live or run_ids)
        return cls(
            tree.runs,
            tuple(_as_they_ran(tops, tree.runs)),
            {run_id: tuple(_as_they_ran(ids, tree.runs)) for run_id, ids in children.items()},
            tree.inferred,
            is_deleted=not live,
        )

    def run_ids(self) -> list[str]:
        """All run ids, parents before children."""
        ids: list[str] = []
        for top in self.tops:
            ids += preorder(top, self.children)
        return ids


@dataclass(frozen=True, slots=True)
class ReadTree:
    """A tree whose runs are read through one profile."""

    live: LiveTree
    profile: Profile
    tops: tuple[str, ...]
    views: Mapping[str, RunView]  # parents before children
    _steps: dict[str, tuple[Step, ...]] = field(default_factory=dict)

    def steps_of(self, view: RunView) -> tuple[Step, ...]:
        """The steps that a run's files tell of, if its profile knows such files."""
        steps = self._steps.get(view.run.run_id)
        if steps is None:
            self._steps[view.run.run_id] = steps = read_steps(view)
        return steps

    def subtree(self, top: str) -> ReadTree:
        """The part of the tree from one run down."""
        views = {run_id: self.views[run_id] for run_id in preorder(top, self.live.children)}
        return ReadTree(self.live, self.profile, (top,), views, self._steps)


@dataclass(frozen=True, slots=True)
class Choice:
    """How a tree is read, and what it was."""

    tree: ReadTree
    verdict: roles.Verdict
    waiting: str | None  # the word of --include with which another profile would take the tree
    issues: tuple[Issue, ...]


def choose(live: LiveTree, profiles: Sequence[Profile], options: PlanOptions) -> Choice:
    """Choose a profile for a tree and decide its role.

    Raises OptionError when the options name a profile that does not exist.
    """
    return _Chooser(live, profiles, options).choose()


class _Chooser:
    def __init__(self, live: LiveTree, profiles: Sequence[Profile], options: PlanOptions) -> None:
        self._live = live
        self._profiles = profiles
        self._options = options
        self._read_by: dict[str, ReadTree] = {}  # by the profile's name
        self._issues: list[Issue] = []

    def choose(self) -> Choice:
        tree = self._read(self._profile())
        verdict = decide_role(tree, self._options)
        waiting = None
        if verdict.role in STAY_RUNS and (other := self._opt_in()) is not None:
            waiting = other.opt_in
            if self._options.asks_for(other):
                tree = self._read(other)
                verdict = decide_role(tree, self._options)
        return Choice(tree, verdict, waiting, tuple(self._issues))

    def _profile(self) -> Profile:
        """The profile that the user named, else the first that recognises the tree."""
        if self._options.profile is not None:
            return self._named(self._options.profile)
        keyed = [roles.Keyed.of(self._live.runs[run_id]) for run_id in self._live.run_ids()]
        takers = [
            profile
            for profile in self._profiles
            if profile.opt_in is None
            and roles.may_recognise(profile, keyed[0], keyed[1:])
            and self._recognises(profile)
        ]
        if not takers:
            return next(profile for profile in self._profiles if not profile.recognise)
        if not _knows_all(takers[0], takers[1:]):
            self._issues.append(self._ambiguous(takers))
        return takers[0]

    def _named(self, name: str) -> Profile:
        for profile in self._profiles:
            if profile.name == name:
                return profile
        names = ", ".join(profile.name for profile in self._profiles)
        raise OptionError(f'There is no profile "{name}".', todo=f"There are {names}.")

    def _recognises(self, profile: Profile) -> bool:
        root, below = _root_and_below(self._read(profile))
        return roles.recognises(profile, root, below)

    def _ambiguous(self, takers: Sequence[Profile]) -> Issue:
        root = self._live.runs[self._live.tops[0]]
        names = ", ".join(profile.name for profile in takers)
        return Issue(
            Code.PROFILE_AMBIGUOUS,
            root.path,
            f"The tree of run {root.run_id} is recognised by {names}.",
            f"{takers[0].name} took it",
            Kind.RUN,
            root.run_id,
        )

    def _opt_in(self) -> Profile | None:
        """The first profile that would take the tree if the user asked for it."""
        for profile in self._profiles:
            if profile.opt_in is None or not self._recognises(profile):
                continue
            if not self._options.asks_for(profile):
                return profile  # by the names of its files: they were not read
            tree = self._read(profile)
            has_no_reader = profile.steps not in STEPS
            if has_no_reader or any(tree.steps_of(view) for view in tree.views.values()):
                return profile
            for view in tree.views.values():
                self._issues += view.issues  # why it takes none
        return None

    def _read(self, profile: Profile) -> ReadTree:
        """Read all runs through a profile, once."""
        read = self._read_by.get(profile.name)
        if read is None:
            self._read_by[profile.name] = read = _read_tree(self._live, profile)
        return read


def _read_tree(live: LiveTree, profile: Profile) -> ReadTree:
    views: dict[str, RunView] = {}
    for top in live.tops:
        root = views[top] = RunView(live.runs[top], profile)
        for run_id in preorder(top, live.children)[1:]:
            views[run_id] = RunView(live.runs[run_id], profile, root)
    return ReadTree(live, profile, live.tops, views)


def decide_role(tree: ReadTree, options: PlanOptions) -> roles.Verdict:
    """Decide what a tree was: by the user's word, by its profile, or by its signs."""
    forced = options.forced_role(tree.live.runs[tree.tops[0]])
    if forced is not None:
        return roles.Verdict(forced, ("the role was given for the experiment",))
    if not _is_recognised(tree, options):
        return _by_signs(tree)
    profile = tree.profile
    why = [f"profile {profile.name} recognises it"]
    steps = sum(len(tree.steps_of(view)) for view in tree.views.values())
    if steps:
        why.append(f"its files tell of {steps} call{'s' if steps > 1 else ''}")
    if profile.role is not None:
        return roles.Verdict(profile.role, tuple(why))
    verdict = _by_signs(tree)
    if verdict.role is Role.TRAINING:  # the profile knows better
        reasons = () if steps else verdict.reasons
        return roles.Verdict(Role.CALL, (*why, *reasons))
    return roles.Verdict(verdict.role, (*why, *verdict.reasons))


def _is_recognised(tree: ReadTree, options: PlanOptions) -> bool:
    """Whether the profile takes trees like this one, and not only because nothing else does."""
    if not tree.profile.recognise:
        return False
    if options.profile is None:
        return True
    root, below = _root_and_below(tree)
    return roles.recognises(tree.profile, root, below)


def _by_signs(tree: ReadTree) -> roles.Verdict:
    root, below = _root_and_below(tree)
    if len(tree.tops) > 1:  # the parent is gone, its children are roots of their own
        tops = [tree.views[top] for top in tree.tops]
        return roles.role_of_tree(None, [root, *below], tops)
    children = tree.live.children.get(tree.tops[0])
    if not children:
        return roles.role_of_call(root)
    return roles.role_of_tree(root, below, [tree.views[run_id] for run_id in children])


def _root_and_below(tree: ReadTree) -> tuple[RunView, list[RunView]]:
    root, *below = tree.views.values()
    return root, below


def _knows_all(first: Profile, others: Iterable[Profile]) -> bool:
    """Whether a profile extends all the others, and so knows what they know."""
    return all(other.name in first.extends for other in others)


def _as_they_ran(ids: Iterable[str], runs: Mapping[str, RunRecord]) -> list[str]:
    """Sort siblings as they happened; at equal times by end, name and id."""

    def key(run_id: str) -> tuple[int, int, tuple[tuple[int, int, str], ...], str]:
        run = runs[run_id]
        return (run.start_ms or 0, run.end_ms or 0, natural(run.name), run_id)

    return sorted(ids, key=key)
