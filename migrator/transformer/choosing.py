"""Which profile reads a tree of runs, and what the tree was: the first decisions of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from migrator.counting import counted
from migrator.errors import OptionError
from migrator.issues import Code, Issue, Kind
from migrator.model import Role, RunRecord
from migrator.transformer import roles
from migrator.transformer.field_values import MANY_FILLED, FieldValues
from migrator.transformer.found import Step
from migrator.transformer.logged_tables import likely_tables, tables_by_tag
from migrator.transformer.profiles import BUILT_IN_ORIGIN, UNLISTED, Profile
from migrator.transformer.run_view import RunView
from migrator.transformer.siblings import NO_NAMES, KnownNames
from migrator.transformer.signs import signs_of
from migrator.transformer.steps import STEPS, TABLE_ROWS, read_steps
from migrator.transformer.trees import RunTree, preorder, without
from migrator.transformer.values import natural

CATEGORY = {
    Role.SWEEP: "sweeps",
    Role.PIPELINE: "pipelines",
    Role.CALL: "flat",
    Role.TRAINING: "flat",
}
"""The word of ``--include`` and ``--exclude`` for a role; the others go by their own name."""

TABLES = "tables"
"""The word of ``--include`` that makes a trace of each row of a table."""

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
    known_names: KnownNames = NO_NAMES  # of recognised runs of the experiment

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
            known_names=tree.known_names,
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
    rows: ReadTree | None = None  # the same runs, whose tables become traces beside the tree's


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
        stays = verdict.role in STAY_RUNS
        is_bare = not stays and not _has_content(tree)
        other = self._opt_in(_has_likely_tables(tree, is_bare))
        if other is None:
            self._report_tables(tree)
            return Choice(tree, verdict, None, tuple(self._issues))
        rows = self._read(other) if self._options.asks_for(other) else None
        if rows is None:
            if is_bare:
                why = "its runs hold no text of their own, only tables"
                verdict = roles.Verdict(Role.TRAINING, (why, *verdict.reasons))
                stays = True
            if not stays:
                self._report_tables(tree)
            return Choice(tree, verdict, other.opt_in if stays else None, tuple(self._issues))
        if stays or not _has_answer(tree, rows):
            verdict = decide_role(rows, self._options)
            return Choice(rows, verdict, other.opt_in, tuple(self._issues))
        return Choice(tree, verdict, None, tuple(self._issues), rows)

    def _report_tables(self, tree: ReadTree) -> None:
        """Name the tables of a tree that no trace shows, unless the user asked for their rows."""
        if TABLES in self._options.include or tree.profile.steps == TABLE_ROWS:
            return
        unused: list[str] = []
        for view in tree.views.values():
            tagged = tables_by_tag(view.run)
            if not tagged:
                continue
            shown = {found.key for found in (*view.inputs()[1], *view.outputs()[1])}
            for path in sorted(tagged - shown):
                if all(each.field == UNLISTED for each in view.index.sources_at(path)):
                    unused.append(f"{view.run.run_id}: {path}")
        if not unused:
            return
        root = self._live.runs[self._live.tops[0]]
        self._issues.append(
            Issue(
                Code.TABLES_UNUSED,
                root.path,
                f"The tree of run {root.run_id} logged {counted(len(unused), 'table')} that no "
                f"trace shows: {', '.join(unused[:3])}{', …' if len(unused) > 3 else ''}.",
                "the files as artifacts",
                Kind.RUN,
                root.run_id,
            )
        )

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
            return next(
                profile
                for profile in self._profiles
                if not profile.recognise and profile.opt_in is None
            )
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

    def _opt_in(self, has_likely_tables: bool) -> Profile | None:
        """The first profile that would take the tree if the user asked for it, or that does."""
        for profile in self._profiles:
            if profile.opt_in is None or profile.name == self._options.profile:
                continue
            is_asked = self._options.asks_for(profile)
            is_by_name = profile.steps == TABLE_ROWS and profile.origin == BUILT_IN_ORIGIN
            if not is_asked and is_by_name and not has_likely_tables:
                continue  # its files were not read, and their names say nothing
            if profile.recognise and not self._recognises(profile):
                continue
            if not is_asked:
                return profile
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


def _has_likely_tables(tree: ReadTree, is_bare: bool) -> bool:
    """Whether a run of a tree lists tables of evaluations, by tag and name; they were not read.

    In a bare tree every table that was logged as one is likely.
    """
    for view in tree.views.values():
        likely, tagged = likely_tables(view.run), tables_by_tag(view.run)
        if (is_bare and tagged) or (likely and not tagged.isdisjoint(likely)):
            return True
        if likely and not signs_of(view).ml:
            return True
    return False


def _has_content(tree: ReadTree) -> bool:
    """Whether a run of a tree has a text, tokens or calls beside its tables."""
    for view in tree.views.values():
        has_text = view.inputs()[0] is not None or view.outputs()[0] is not None
        if has_text or view.usage()[0].are_known or tree.steps_of(view):
            return True
    return False


def _has_answer(tree: ReadTree, rows: ReadTree) -> bool:
    """Whether a run of a tree has an answer or calls beside its tables, which ``rows`` reads."""
    for run_id, view in tree.views.items():
        _, got = view.outputs()
        tables = {found.key for found in rows.views[run_id].every("tables")}
        tables |= tables_by_tag(view.run)
        if any(found.key not in tables for found in got) or tree.steps_of(view):
            return True
    return False


def _read_tree(live: LiveTree, profile: Profile) -> ReadTree:
    views: dict[str, RunView] = {}
    filled: list[FieldValues] | None = [] if len(live.runs) > MANY_FILLED else None
    for top in live.tops:
        root = views[top] = RunView(live.runs[top], profile, filled=filled)
        for run_id in preorder(top, live.children)[1:]:
            views[run_id] = RunView(live.runs[run_id], profile, root, filled=filled)
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
        return roles.role_of_call(root, tree.live.known_names)
    tops = [tree.views[run_id] for run_id in children]
    return roles.role_of_tree(root, below, tops, tree.live.known_names)


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
