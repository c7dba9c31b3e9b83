"""Plans for trees of runs: which become traces, and what stands in each span.

Pure: what is decided here depends on the records, the profiles and the options, and on nothing
else, so that ``scan``, ``show`` and ``convert`` say the same, today and tomorrow.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from migrator import conventions as conv
from migrator import encoding
from migrator.errors import OptionError
from migrator.issues import Code, Issue, Kind
from migrator.model import (
    AssessmentRecord,
    Json,
    Role,
    RunRecord,
    SpanEvent,
    SpanPlan,
    SpanType,
    TracePlan,
    TreePlan,
)
from migrator.transformer import roles, timing
from migrator.transformer import trace_totals as assemble
from migrator.transformer.profiles import Profile, SpanRule, normalise
from migrator.transformer.run_view import (
    Found,
    RunView,
    Status,
    Step,
    as_number,
    is_cut,
    judgements,
    last_value,
    listed,
    natural,
)
from migrator.transformer.steps import chats as conversations
from migrator.transformer.steps import events, tables
from migrator.transformer.timing import MS, Node
from migrator.transformer.trees import RunTree, preorder, without

CATEGORY = {
    Role.SWEEP: "sweeps",
    Role.PIPELINE: "pipelines",
    Role.CALL: "flat",
    Role.TRAINING: "flat",
}
"""The word of ``--include`` and ``--exclude`` for a role; the others go by their own name."""

STEPS: Mapping[str, Callable[[RunView], tuple[Step, ...]]] = {
    "langchain-events": events.langchain_steps,
    "openai-files": events.openai_steps,
    "table-rows": tables.row_steps,
    "conversation": conversations.conversation_steps,
}
"""How the files of a run tell of steps, by the word of a profile's key ``steps``."""

STAY_RUNS = (Role.SWEEP, Role.PIPELINE, Role.TRAINING)
"""The roles of trees that stay runs unless they are included."""

MOST_TOKENS = 10**12  # a larger number is no count of tokens


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
        """Tell whether a profile may take trees: always, unless it waits to be asked for."""
        if profile.opt_in in self.exclude:
            return False
        waits = profile.opt_in is not None and profile.opt_in not in self.include
        return not waits or profile.name == self.profile


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
    """
    return _Planner(tree, profiles, options, native, known_traces).plan()


class _Planner:
    def __init__(
        self,
        tree: RunTree,
        profiles: Sequence[Profile],
        options: PlanOptions,
        native: Mapping[str, tuple[str, ...]],
        known_traces: frozenset[str],
    ) -> None:
        self.tree = tree
        self.options = options
        self.native = native
        self.known_traces = known_traces
        self.profiles = profiles
        self.issues: list[Issue] = []
        self.views: dict[str, RunView] = {}
        self.tops: dict[str, RunView] = {}  # by profile: the first top, as it was recognised by
        self.recorded: dict[str, tuple[Step, ...]] = {}
        self.children: dict[str, tuple[str, ...]] = {}

    def plan(self) -> TreePlan:
        runs = self.tree.runs
        ids = [i for i in preorder(self.tree.root_id, self.tree.children) if i in runs]
        if not ids:
            return TreePlan(
                self.tree.root_id,
                (),
                0,
                Role.TRAINING,
                None,
                ("no run of it could be read",),
                (),
                "unreadable",
            )
        live = [i for i in ids if not self._gone(runs[i])]
        only_deleted = not live
        tops, children = without(self.tree.root_id, self.tree.children, live or ids)
        self.children = {i: tuple(self._sorted(c)) for i, c in children.items()}
        tops = tuple(self._sorted(tops))
        profile = self._profile(tops)
        self._read(tops, profile)
        verdict = self._verdict(tops, profile)
        waiting = None
        if verdict.role in STAY_RUNS and (other := self._opt_in(tops)) is not None:
            waiting = other.opt_in
            if self.options.asks_for(other):
                profile = other
                self._read(tops, profile)
                verdict = self._verdict(tops, profile)
        left = self._left(verdict.role, only_deleted)
        if waiting is not None and left is not None and left != "deleted":
            left = waiting
        traces: tuple[TracePlan, ...] = ()
        reasons = list(verdict.reasons)
        if left is None:
            if len(tops) == 1:
                units, parent = self._units(tops[0], verdict.role)
                traces, left = self._traces(units, verdict.role, parent)
            else:
                traces, left, verdict = self._traces_of_the_orphaned(tops, profile, reasons)
        if left == "native":
            reasons.insert(0, "MLflow's own trace is linked to it")
        for why, n in sorted(Counter(self.tree.inferred.values()).items()):
            reasons.insert(0, f"{n} of its runs: {why}")
        issues = (*self.issues, *(i for view in self.views.values() for i in view.issues))
        return TreePlan(
            root_run_id=self.tree.root_id if self.tree.root_id in runs else ids[0],
            run_ids=tuple(ids),
            depth=self._depth(),
            role=verdict.role,
            profile=profile.name,
            reasons=tuple(reasons),
            traces=traces,
            left_as_runs=left,
            issues=issues,
        )

    # --------------------------------------------------------------------- which and what

    def _gone(self, run: RunRecord) -> bool:
        if not run.deleted or "deleted" in self.options.include:
            return False
        return not run.deleted_with_experiment or "deleted" in self.options.exclude

    def _sorted(self, ids: Iterable[str]) -> list[str]:
        """Sort siblings as they happened; at equal times by end, name and id."""

        def key(run_id: str) -> tuple[int, int, tuple[tuple[int, int, str], ...], str]:
            run = self.tree.runs[run_id]
            return (run.start_ms or 0, run.end_ms or 0, natural(run.name), run_id)

        return sorted(ids, key=key)

    def _depth(self) -> int:
        depth = 0
        level = [self.tree.root_id]
        while level:
            depth += any(run_id in self.tree.runs for run_id in level)
            level = [child for run_id in level for child in self.tree.children.get(run_id, ())]
        return depth

    def _profile(self, tops: Sequence[str]) -> Profile:
        if self.options.profile is not None:
            for profile in self.profiles:
                if profile.name == self.options.profile:
                    return profile
            names = ", ".join(profile.name for profile in self.profiles)
            raise OptionError(
                f'There is no profile "{self.options.profile}".', todo=f"There are {names}."
            )
        root = self.tree.runs[tops[0]]
        keyed = [
            roles.Keyed.of(self.tree.runs[i]) for top in tops for i in preorder(top, self.children)
        ]
        takers = [
            profile
            for profile in self.profiles
            if profile.recognise
            and profile.opt_in is None
            and roles.may_recognise(profile, keyed[0], keyed[1:])
            and self._recognises(profile, tops)
        ]
        if len(takers) > 1 and not _related(takers):
            names = ", ".join(profile.name for profile in takers)
            self.issues.append(
                Issue(
                    Code.PROFILE_AMBIGUOUS,
                    root.path,
                    f"The tree of run {root.run_id} is recognised by {names}.",
                    f"{takers[0].name} took it",
                    Kind.RUN,
                    root.run_id,
                )
            )
        if takers:
            return takers[0]
        return next(profile for profile in self.profiles if not profile.recognise)

    def _recognises(self, profile: Profile, tops: Sequence[str]) -> bool:
        view = self.tops[profile.name] = RunView(self.tree.runs[tops[0]], profile)
        ids = [run_id for top in tops for run_id in preorder(top, self.children)]
        below = [RunView(self.tree.runs[run_id], profile, view) for run_id in ids[1:]]
        return roles.recognises(profile, view, below)

    def _opt_in(self, tops: Sequence[str]) -> Profile | None:
        """Return the first profile that would take the tree if the user asked for it."""
        for profile in self.profiles:
            if profile.opt_in is None or not self._recognises(profile, tops):
                continue
            if not self.options.asks_for(profile):
                return profile  # by the names of its files: they were not read
            runs = [self.tree.runs[i] for top in tops for i in preorder(top, self.children)]
            views = [RunView(run, profile) for run in runs]
            read = STEPS.get(profile.steps or "")
            if read is None or any(read(view) for view in views):
                return profile
            self.issues += [issue for view in views for issue in view.issues]  # why it takes none
        return None

    def _read(self, tops: Sequence[str], profile: Profile) -> None:
        for top in tops:
            ids = preorder(top, self.children)
            root = self.tops.get(profile.name) if top == tops[0] else None
            root = self.views[top] = root or RunView(self.tree.runs[top], profile)
            for run_id in ids[1:]:
                self.views[run_id] = RunView(self.tree.runs[run_id], profile, root)

    def _verdict(self, tops: Sequence[str], profile: Profile) -> roles.Verdict:
        root = tops[0]
        run = self.tree.runs[root]
        if self.options.roles:
            forced = self.options.roles.get(str(PurePath(run.path).parent))
            forced = forced or self.options.roles.get(run.experiment_id)
            if forced is not None:
                return roles.Verdict(forced, ("the role was given for the experiment",))
        recognised = bool(profile.recognise) and (
            self.options.profile is None
            or roles.recognises(
                profile, self.views[root], [v for i, v in self.views.items() if i != root]
            )
        )
        steps = sum(len(self._recorded(view)) for view in self.views.values()) if recognised else 0
        told = (f"its files tell of {steps} call{'s' if steps > 1 else ''}",) if steps else ()
        if recognised and profile.role is not None:
            return roles.Verdict(profile.role, (f"profile {profile.name} recognises it", *told))
        if len(tops) > 1:  # the parent is gone, its children are roots of their own
            views = [self.views[top] for top in tops]
            verdict = roles.role_of_tree(None, list(self.views.values()), views)
        elif self.children.get(root):
            below = [view for run_id, view in self.views.items() if run_id != root]
            verdict = roles.role_of_tree(
                self.views[root], below, [self.views[i] for i in self.children[root]]
            )
        else:
            verdict = roles.role_of_call(self.views[root])
        if recognised:
            why = f"profile {profile.name} recognises it"
            if verdict.role is Role.TRAINING:
                return roles.Verdict(Role.CALL, (why, *(told or verdict.reasons)))
            return roles.Verdict(verdict.role, (why, *told, *verdict.reasons))
        return verdict

    def _left(self, role: Role, only_deleted: bool) -> str | None:
        """Return why the tree stays runs; None if it becomes traces."""
        if only_deleted:
            return "deleted"
        names = {role.value, CATEGORY.get(role, role.value)}
        stays = role in STAY_RUNS and not names & self.options.include
        if names & self.options.exclude or stays:
            return CATEGORY.get(role, role.value)
        return None

    def _units(self, top: str, role: Role) -> tuple[list[str], RunView | None]:
        """Return the runs that become roots of traces, and the parent that becomes none."""
        below = self.children.get(top, ())
        if self.views[top].profile.steps == "table-rows":  # whatever the runs are to each other
            return [i for i in preorder(top, self.children) if self._recorded(self.views[i])], None
        apart = role in (Role.SESSION, Role.BATCH) or (
            role is Role.SWEEP and all(roles.signs_of(self.views[i]).own_text for i in below)
        )
        if apart and below:
            return list(below), self.views[top]
        return [top], None

    def _traces_of_the_orphaned(
        self, tops: Sequence[str], profile: Profile, reasons: list[str]
    ) -> tuple[tuple[TracePlan, ...], str | None, roles.Verdict]:
        """Plan each live subtree of a deleted parent by itself."""
        reasons.insert(0, "their parent was deleted: each is a tree of its own")
        traces: list[TracePlan] = []
        left: str | None = None
        verdicts: list[roles.Verdict] = []
        for top in tops:
            ids = set(preorder(top, self.children))
            saved, self.views = self.views, {i: v for i, v in self.views.items() if i in ids}
            verdict = self._verdict([top], profile)
            self.views = saved
            verdicts.append(verdict)
            why = self._left(verdict.role, False)
            if why is None:
                units, parent = self._units(top, verdict.role)
                made, why = self._traces(units, verdict.role, parent)
                traces.extend(made)
            left = left or why
        first = next((v for v in verdicts if self._left(v.role, False) is None), verdicts[0])
        return tuple(traces), None if traces else left, first

    # ------------------------------------------------------------------------- traces

    def _traces(
        self, units: Sequence[str], role: Role, parent: RunView | None
    ) -> tuple[tuple[TracePlan, ...], str | None]:
        if not units:
            return (), "no-rows"
        if parent is not None and self._native(parent.run):
            return (), "native"
        session = None
        if role is Role.SESSION and parent is not None:
            found = parent.first("session")
            session = str(found.value) if found else parent.run.run_id
        traces = [
            self._trace(trace_id, nodes, role, parent, session)
            for unit in units
            if not self._native(self.tree.runs[unit])
            for trace_id, nodes in self._stories(unit)
        ]
        return tuple(traces), None if traces else "native"

    def _native(self, run: RunRecord) -> tuple[str, ...]:
        ids = self.native.get(run.run_id, ())
        if ids or not self.known_traces:
            return ids
        named = [str(found.value).strip() for found in self.views[run.run_id].every("native_trace")]
        return tuple(
            name for name in named if name in self.known_traces or f"tr-{name}" in self.known_traces
        )

    def _stories(self, unit: str) -> Iterable[tuple[str, list[Node]]]:
        """Yield trace id and nodes of what a run and those below it tell.

        A childless run whose files tell of several calls is as many traces.
        """
        view = self.views[unit]
        steps = self._recorded(view)
        apart = not self.children.get(unit) or view.profile.steps == "table-rows"
        if not (steps and apart):
            yield encoding.trace_id_of(unit), self._nodes(unit)
            return
        rows = view.profile.steps == "table-rows"
        for number, step in enumerate(steps):
            nodes: list[Node] = []
            _add_steps(nodes, view, None, [step])
            if len(steps) > 1:
                nodes[0].inferences.append(f"one of {len(steps)} calls that the run recorded")
            alone = number == 0 and not rows
            yield encoding.trace_id_of(unit if alone else f"{unit}/{step.key}"), nodes

    def _recorded(self, view: RunView) -> tuple[Step, ...]:
        """Return the steps that the files of a run tell of, if its profile knows such files."""
        run_id = view.run.run_id
        if run_id not in self.recorded:
            read = STEPS.get(view.profile.steps or "")
            self.recorded[run_id] = read(view) if read is not None else ()
        return self.recorded[run_id]

    def _trace(
        self,
        trace_id: str,
        nodes: list[Node],
        role: Role,
        parent: RunView | None,
        session: str | None,
    ) -> TracePlan:
        top = nodes[0].view.run.run_id
        if not timing.set_times(nodes):
            self._report(nodes[0], Code.RUN_WITHOUT_TIME, "has no time, and nothing in it has", "")
        for node in nodes:
            run = node.view.run
            if node.implausible:
                what = node.implausible
                if node.step is not None:
                    what = f"holds {node.step.key}, which {what}"
                self._report(
                    node, Code.TIME_IMPLAUSIBLE, what, "a span within the time of its trace"
                )
            if node.step is None and run.start_ms and run.end_ms and run.end_ms < run.start_ms:
                self._report(
                    node,
                    Code.SPAN_ENDS_BEFORE_START,
                    f"ends at {run.end_ms}, before its start at {run.start_ms}",
                    "a span of the shortest length",
                )
        statuses = self._statuses(nodes)
        usages = self._usages(nodes)
        costs = self._costs(nodes, usages)
        names = [self._name(node) for node in nodes]
        span_ids = [encoding.span_id_of(trace_id, self._key(node)) for node in nodes]
        given: list[tuple[Json, Json]] = []
        spans = []
        for i, node in enumerate(nodes):
            span, inputs, outputs = self._span(
                node,
                trace_id,
                span_ids[i],
                None if node.parent is None else span_ids[node.parent],
                names[i],
                statuses[i],
                usages[i],
                costs[i],
                parent if i == 0 else None,
            )
            given.append((inputs, outputs))
            spans.append(span)
        return self._trace_plan(top, trace_id, role, parent, session, nodes, spans, given, statuses)

    def _key(self, node: Node) -> str:
        run_id = node.view.run.run_id
        return run_id if node.step is None else f"{run_id}/{node.step.key}"

    def _nodes(self, top: str) -> list[Node]:
        nodes: list[Node] = []
        stack: list[tuple[str, int | None]] = [(top, None)]
        while stack:
            run_id, parent = stack.pop()
            index = len(nodes)
            node = Node(self.views[run_id], parent)
            nodes.append(node)
            if run_id in self.tree.inferred:
                node.inferences.append(f"parent: {self.tree.inferred[run_id]}")
            if parent is not None:
                nodes[parent].children.append(index)
            steps = self._recorded(node.view) or node.view.calls()
            if steps:
                node.inferences.append(f"{len(steps)} calls in one run: a span for each")
            _add_steps(nodes, node.view, index, steps)
            stack.extend((child, index) for child in reversed(self.children.get(run_id, ())))
        return nodes

    def _report(self, node: Node, code: Code, what: str, kept: str, sample: str = "") -> None:
        run = node.view.run
        what = f"Run {run.run_id} {what}."
        self.issues.append(Issue(code, run.path, what, kept, Kind.RUN, run.run_id, sample=sample))

    # --------------------------------------------------------------- of all spans together

    def _statuses(self, nodes: Sequence[Node]) -> list[Status]:
        statuses = [
            node.view.status()
            if node.step is None
            else node.step.status or Status("OK", "its metrics were logged", False)
            for node in nodes
        ]
        for node, status in zip(nodes, statuses, strict=True):
            if (
                "Run with UUID" in status.error_message
                and "is already active" in status.error_message
            ):
                node.inferences.append("status: the error is MLflow's own, not the application's")
        self._place_failed_step(nodes, statuses)
        for i in range(len(nodes) - 1, -1, -1):
            node, status = nodes[i], statuses[i]
            if node.step is not None or status.explicit or status.word == "ERROR":
                continue
            below = [statuses[c] for c in node.children]
            has_output = node.view.outputs()[0] is not None
            failed = next((s for s in below if s.word == "ERROR"), None)
            if failed is not None and not has_output:
                statuses[i] = Status(
                    "ERROR", "a step below it failed, and it has no output", False,
                    failed.error_type, failed.error_message, failed.stack_trace,
                )  # fmt: skip
                node.inferences.append("status: a step below it failed, and it has no output")
            elif status.word == "UNSET" and (
                has_output or (below and all(s.word == "OK" for s in below))
            ):
                statuses[i] = Status("OK", "it has output, or steps that ended well", False)
                node.inferences.append(
                    f"status: the run was left {node.view.run.status}, but has output or good steps"
                )
        return statuses

    def _place_failed_step(self, nodes: Sequence[Node], statuses: list[Status]) -> None:
        """Put a workflow's error on the step that its message names, or that logged nothing."""
        root = statuses[0]
        profile = nodes[0].view.profile
        if root.word != "ERROR" or profile.failed_step is None or profile.failed_step_is is None:
            return
        steps = [i for i, n in enumerate(nodes) if i and n.step is None]
        if any(statuses[i].word == "ERROR" for i in steps):
            return
        match = profile.failed_step.search(root.error_message)
        source = profile.failed_step_is
        named = [
            i
            for i in steps
            if match and any(str(f.value) == match[1] for f in nodes[i].view.all(source))
        ]
        silent = [
            i for i in steps if not nodes[i].view.run.metrics and not nodes[i].view.outputs()[1]
        ]
        for i in named[-1:] or silent[-1:]:
            because = (
                "the workflow's error names it"
                if named
                else "it logged nothing, and the workflow failed"
            )
            statuses[i] = Status(
                "ERROR", because, False, root.error_type, root.error_message, root.stack_trace
            )
            nodes[i].inferences.append(f"status: {because}")

    def _usages(self, nodes: Sequence[Node]) -> list[dict[str, Json] | None]:
        """Return token usage for the spans that carry it: no span above another that has some."""
        usages: list[dict[str, Json] | None] = [None] * len(nodes)
        below = [False] * len(nodes)  # a descendant has usage
        sums = [0.0] * len(nodes)  # of the total tokens of all descendants
        for i in range(len(nodes) - 1, -1, -1):
            node = nodes[i]
            if node.step is not None:
                tokens, where = node.step.usage, node.step.origins.get("tokens", "")
            elif self.native.get(node.view.run.run_id):
                tokens, where = (None, None, None), ""
            elif below[i]:
                tokens, where = (None, None, None), ""
                self._compare_total(node, sums[i])
            else:
                tokens, where = node.view.usage()
            usage, why = _usage(tokens)
            if why:
                node.inferences.append(why)
            if usage is not None:
                node.origins["tokens"] = where
                usages[i] = usage
            if (usage is not None or below[i]) and node.parent is not None:
                below[node.parent] = True
                own = as_number(usage.get("total_tokens")) if usage is not None else None
                sums[node.parent] += sums[i] if own is None else own
        return usages

    def _compare_total(self, node: Node, below: float) -> None:
        own, _ = _usage(node.view.usage()[0])
        if own is not None and (total := own.get("total_tokens")) is not None and total != below:
            node.inferences.append(
                f"tokens: the run's total of {total} is not the sum of its steps, {below:.0f}"
            )

    def _costs(
        self, nodes: Sequence[Node], usages: Sequence[Mapping[str, Json] | None]
    ) -> list[dict[str, Json] | None]:
        costs: list[dict[str, Json] | None] = [None] * len(nodes)
        below = [False] * len(nodes)
        for i in range(len(nodes) - 1, -1, -1):
            node = nodes[i]
            cost: dict[str, Json] = {}
            if node.step is not None:
                if node.step.cost_usd:
                    cost["total_cost"] = node.step.cost_usd
                    node.origins["cost"] = node.step.origins.get("cost", "")
            elif not below[i] and not self.native.get(node.view.run.run_id):
                parts = []
                for key, name in (
                    ("input_cost", "input_cost_usd"),
                    ("output_cost", "output_cost_usd"),
                    ("total_cost", "cost_usd"),
                ):
                    if (found := node.view.number(name)) and found[0] > 0:
                        cost[key] = found[0]
                        parts.append(found[1].origin)
                if "total_cost" not in cost and len(cost) == 2:
                    cost["total_cost"] = sum(as_number(value) or 0 for value in cost.values())
                if "total_cost" in cost:
                    node.origins["cost"] = ", ".join(parts)
            if "total_cost" in cost:
                costs[i] = cost
            if (costs[i] is not None or below[i]) and node.parent is not None:
                below[node.parent] = True
        return costs

    def _name(self, node: Node) -> str:
        run = node.view.run
        if node.step is not None:
            node.origins["name"] = node.step.origins.get("name", "its place in the run")
            return encoding.clean_text(node.step.name).strip() or node.step.key
        rule = _rule(node, named=True)
        if rule is not None and rule.name is not None and (name := node.view.fill(rule.name)):
            node.origins["name"] = f"profile {node.view.profile.name}"
            return encoding.clean_text(name)
        name = encoding.clean_text(run.name).strip()
        node.origins["name"] = "run name" if name else "run id"
        return name or run.run_id

    # ------------------------------------------------------------------------ one span

    def _span(
        self,
        node: Node,
        trace_id: str,
        span_id: str,
        parent_span_id: str | None,
        name: str,
        status: Status,
        usage: Mapping[str, Json] | None,
        cost: Mapping[str, Json] | None,
        above: RunView | None,
    ) -> tuple[SpanPlan, Json, Json]:
        assert node.start_ns is not None and node.end_ns is not None
        view, run = node.view, node.view.run
        attributes: dict[str, Json] = {conv.SPAN_REQUEST_ID: trace_id}
        used: tuple[Found, ...] = ()
        inputs: Json = None
        outputs: Json = None
        if node.step is not None:
            inputs, outputs, span_type = node.step.inputs, node.step.outputs, node.step.type
            node.origins.update(
                {k: v for k, v in node.step.origins.items() if k in ("inputs", "outputs", "type")}
            )
        else:
            inputs, given = view.inputs()
            outputs, got = view.outputs()
            if not given and len(got) == 1 and encoding.is_chat(outputs):
                inputs, outputs = _split_chat(outputs)
                given = got if inputs is not None else ()
            used = (*given, *got)
            if given:
                node.origins["inputs"] = ", ".join(f.origin for f in given)
            if got:
                node.origins["outputs"] = ", ".join(f.origin for f in got)
            span_type = self._type(node, inputs, outputs, usage)
            if span_type == SpanType.RETRIEVER and (found := view.documents()):
                outputs = found[0]
                node.origins["outputs"] = found[1].origin
        node.origins["status"] = status.because
        attributes[conv.SPAN_TYPE] = span_type
        if inputs is not None:
            attributes[conv.SPAN_INPUTS] = inputs
        if outputs is not None:
            attributes[conv.SPAN_OUTPUTS] = outputs
        if usage is not None:
            attributes[conv.SPAN_USAGE] = dict(usage)
        self._model(node, span_type, usage, cost, attributes)
        if node.step is not None:
            for key, value in node.step.facts.items():
                attributes[f"{conv.LEGACY}{key}"] = value
            node.inferences.extend(node.step.inferences)
        if node.step is None or node.parent is None:
            attributes.update(self._legacy(node, used, above))
            if cut := [f.origin for f in used if is_cut(f)]:
                attributes[f"{conv.LEGACY}truncated"] = cut
                node.inferences.append(f"text: {', '.join(cut)} looks cut by the logger")
        if node.implausible:
            source = run if node.step is None else node.step
            for key, time_ms in (("start", source.start_ms), ("end", source.end_ms)):
                if time_ms is not None:
                    attributes[f"{conv.LEGACY}recorded_{key}_ms"] = time_ms
        if node.inferences:
            attributes[f"{conv.LEGACY}inferences"] = list(dict.fromkeys(node.inferences))
        attributes[f"{conv.LEGACY}status_from"] = status.because
        events: tuple[SpanEvent, ...] = ()
        message = ""
        if node.step is not None:
            events = _shifted(node.step.events, node.shift_ns)
        elif view.profile.steps is None:
            events = _shifted(view.moments(), node.shift_ns)
        if status.word == "ERROR":
            failure = _exception(status, node.end_ns)
            events = (*events, failure)
            message = _status_message(failure)
        span = SpanPlan(
            span_id=span_id,
            parent_span_id=parent_span_id,
            name=name,
            type=span_type,
            status=status.word,
            status_message=message,
            start_ns=node.start_ns,
            end_ns=node.end_ns,
            attributes=encoding.encode_all(attributes),
            events=events,
            run_id=run.run_id,
            origins=dict(node.origins),
        )
        return span, inputs, outputs

    def _type(
        self, node: Node, inputs: Json, outputs: Json, usage: Mapping[str, Json] | None
    ) -> str:
        rule = _rule(node, named=False)
        if rule is not None and rule.type is not None:
            node.origins["type"] = f"profile {node.view.profile.name}"
            return rule.type
        node.origins["type"] = "what the run holds"
        if node.children:
            return SpanType.CHAIN
        if isinstance(inputs, Mapping) and encoding.is_chat(inputs.get("messages")):
            return SpanType.CHAT_MODEL if usage or node.view.first("model") else SpanType.CHAIN
        model = node.view.first("model")
        # inputs.json and outputs.json are any step's; a prompt, a model or tokens are an LLM's.
        stems = {f.stem for f in node.view.inputs()[1]}
        if usage is not None or any("prompt" in stem for stem in stems):
            return SpanType.LLM
        if model is not None and (inputs is not None or outputs is not None):
            return SpanType.LLM
        counts = node.view.usage()[0]
        if model is not None and any(count is not None for count in counts):
            return SpanType.LLM
        if node.view.documents() is not None:
            return SpanType.RETRIEVER
        return SpanType.CHAIN if node.parent is None else SpanType.UNKNOWN

    def _model(
        self,
        node: Node,
        span_type: str,
        usage: Mapping[str, Json] | None,
        cost: Mapping[str, Json] | None,
        attributes: dict[str, Json],
    ) -> None:
        """Model, provider and cost under MLflow's keys and under plain ones (3.9 hides its own)."""
        of_model = not node.children or usage is not None
        step = node.step
        if step is not None:
            of_model = span_type in (SpanType.LLM, SpanType.CHAT_MODEL, SpanType.EMBEDDING)
        found = (step.model if step is not None else None) or node.view.first("model")
        if of_model and found is not None:
            attributes[conv.SPAN_MODEL] = attributes[conv.PLAIN_MODEL] = str(found.value).strip()
            node.origins["model"] = found.origin
            provider = (step.provider if step is not None else None) or node.view.first("provider")
            if provider is not None:
                attributes[conv.SPAN_PROVIDER] = str(provider.value).strip()
                attributes[conv.PLAIN_PROVIDER] = attributes[conv.SPAN_PROVIDER]
                node.origins["provider"] = provider.origin
        if cost is not None:
            attributes[conv.SPAN_COST] = dict(cost)
            attributes[conv.PLAIN_COST] = cost["total_cost"]
        if step is None and (tools := node.view.first("tools")):
            attributes[f"{conv.LEGACY}tools"] = tools.value

    def _legacy(self, node: Node, used: Sequence[Found], above: RunView | None) -> dict[str, Json]:
        run = node.view.run
        taken = {(found.place, found.key) for found in used}
        legacy: dict[str, Json] = {
            f"{conv.LEGACY}run_id": run.run_id,
            f"{conv.LEGACY}run_status": run.status,
        }
        legacy.update(_facts(run, conv.LEGACY, taken))
        if ids := self._native(run):
            legacy[f"{conv.LEGACY}native_traces"] = list(ids)
            node.inferences.append(
                "MLflow traced this run itself: tokens and cost are counted there"
            )
        if above is not None:
            prefix = f"{conv.LEGACY}parent."
            legacy[f"{prefix}run_id"] = above.run.run_id
            legacy.update(_facts(above.run, prefix, set()))
        return legacy

    # --------------------------------------------------------------------- the whole trace

    def _trace_plan(
        self,
        top: str,
        trace_id: str,
        role: Role,
        parent: RunView | None,
        session: str | None,
        nodes: Sequence[Node],
        spans: Sequence[SpanPlan],
        given: Sequence[tuple[Json, Json]],
        statuses: Sequence[Status],
    ) -> TracePlan:
        root = spans[0]
        views = list({node.view.run.run_id: node.view for node in nodes}.values())
        run_ids = [view.run.run_id for view in views]
        if parent is not None:
            run_ids.append(parent.run.run_id)
        request = assemble.request_preview(given[0][0])
        if request is None:
            request = next(
                (text for asked, _ in given if (text := assemble.request_preview(asked))), None
            )
        response = assemble.response_preview(given[0][1])
        if response is None and root.status == "ERROR":
            response = encoding.preview(root.status_message)
        if response is None:
            answers = sorted(
                (span.end_ns, text)
                for span, (_, answer) in zip(spans, given, strict=True)
                if (text := assemble.response_preview(answer))
            )
            response = answers[-1][1] if answers else None
        tags = {
            conv.TRACE_NAME: encoding.cut(root.name, conv.TRACE_TAG_CHARS),
            conv.SPANS_LOCATION: conv.SPANS_IN_DATABASE,
            conv.MIGRATOR_ROLE: role.value,
            conv.MIGRATOR_PROFILE: nodes[0].view.profile.name,
            conv.MIGRATOR_ROOT_RUN: top,
        }
        if self.options.version:
            tags[conv.MIGRATOR_VERSION] = self.options.version
        if inferences := _counted(node.inferences for node in nodes):
            tags[conv.MIGRATOR_INFERENCES] = encoding.cut(inferences, conv.TRACE_TAG_CHARS)
        if any(node.no_end and not node.view.run.end_ms for node in nodes):
            tags[conv.MIGRATOR_UNFINISHED] = "true"
        metadata = {conv.SCHEMA_VERSION: "3", conv.SOURCE_RUN: top}
        contents = assemble.contents_of(trace_id, spans)
        metadata.update(assemble.size_metadata(contents))
        usage = assemble.total_usage(spans)
        if usage is not None:
            metadata[conv.TRACE_USAGE] = assemble.usage_json(usage)
        if cost := assemble.total_cost(spans):
            metadata[conv.TRACE_COST] = encoding.encode(cost)
        judged = tuple(self._assessments(trace_id, nodes, spans))
        judged += assemble.totals(trace_id, usage, cost, root.end_ns // MS, judged)
        who = [*views, parent] if parent is not None else views
        prompts = sorted(
            {
                prompt
                for view in who
                for prompt in assemble.linked_prompts(view.run.tags.get(conv.LINKED_PROMPTS))
            },
            key=natural,
        )
        if prompts:
            named = [prompt.rpartition("/") for prompt in prompts]
            tags[conv.LINKED_PROMPTS] = json.dumps(
                [{"name": name, "version": version} for name, _, version in named],
                ensure_ascii=False,
            )
        if session is None and nodes[0].step is not None:
            session = nodes[0].step.session
        if session is None:
            session = next((str(f.value) for v in who if (f := v.first("session"))), None)
        user = next((str(f.value) for v in who if (f := v.first("user"))), None)
        for key, value in ((conv.TRACE_SESSION, session), (conv.TRACE_USER, user)):
            if value is not None and (fit := _fitting_id(value)):
                metadata[key] = fit
                if fit != value.strip():
                    self._report(
                        nodes[0],
                        Code.SESSION_ID_CHANGED,
                        f"has a {key.rpartition('.')[2]} id of {len(value):,} characters",
                        "one that MLflow can open",
                        f"{value:.400}, kept as {fit}",
                    )
        return TracePlan(
            trace_id=trace_id,
            experiment_id=views[0].run.experiment_id,
            timestamp_ms=root.start_ns // MS,
            execution_ms=root.end_ns // MS - root.start_ns // MS,
            status="STATE_UNSPECIFIED" if root.status == "UNSET" else root.status,
            name=root.name,
            client_request_id=None,
            request_preview=request,
            response_preview=response,
            tags=tags,
            metadata=metadata,
            usage=usage,
            spans=tuple(spans),
            assessments=judged,
            run_ids=tuple(run_ids),
            prompts=tuple(prompts),
            contents=contents,
        )

    def _assessments(
        self, trace_id: str, nodes: Sequence[Node], spans: Sequence[SpanPlan]
    ) -> Iterable[AssessmentRecord]:
        for node, span in zip(nodes, spans, strict=True):
            judged = node.step.judged if node.step is not None else judgements(node.view)
            for each in judged:
                digest = hashlib.sha256(f"{trace_id}/{span.span_id}/{each.origin}".encode())
                metadata = {"migrator.source": each.origin}
                if each.recorded:
                    metadata["migrator.value"] = each.recorded
                dated = node.step is None and not node.implausible
                created = node.view.run.end_ms if dated else None
                created = created or span.end_ns // MS
                yield AssessmentRecord(
                    assessment_id=f"a-{digest.hexdigest()[:32]}",
                    name=each.name,
                    type=each.type,
                    value=encoding.sanitize(each.value),
                    error=None,
                    source_type=each.source_type,
                    source_id=each.source_id,
                    created_ms=created,
                    last_updated_ms=created,
                    span_id=None if node.parent is None else span.span_id,
                    rationale=each.rationale or None,
                    metadata=metadata,
                )


def _related(takers: Sequence[Profile]) -> bool:
    """Tell whether the first profile extends all the others, and so knows what they know."""
    return all(other.name in takers[0].extends for other in takers[1:])


def _add_steps(nodes: list[Node], view: RunView, parent: int | None, steps: Iterable[Step]) -> None:
    """Add the steps that a run recorded, each before those below it."""
    todo = [(step, parent) for step in reversed(list(steps))]
    while todo:
        step, above = todo.pop()
        index = len(nodes)
        nodes.append(Node(view, above, step))
        if above is not None:
            nodes[above].children.append(index)
        todo.extend((below, index) for below in reversed(step.steps))


def _rule(node: Node, *, named: bool) -> SpanRule | None:
    """Return the first span rule that fits a run and gives a name (``named``) or a type."""
    view = node.view
    kind = view.first("kind")
    word = normalise(str(kind.value)) if kind is not None else None
    for rule in view.profile.spans:
        if (rule.name if named else rule.type) is None:
            continue
        if rule.root is not None and rule.root != (node.parent is None):
            continue
        if rule.leaf is not None and rule.leaf == bool(node.children):
            continue
        if rule.kinds and word not in rule.kinds:
            continue
        if rule.run_name is not None and not rule.run_name.search(view.run.name.strip()):
            continue
        if all(view.has(source) for source in rule.has):
            return rule
    return None


def _facts(run: RunRecord, prefix: str, taken: set[tuple[str, str]]) -> dict[str, Json]:
    """Return all that a run logged, by key, but for what stands in the span already."""
    facts: dict[str, Json] = {}
    for key, text in sorted(run.params.items()):
        if ("param", key) not in taken:
            facts[f"{prefix}param.{key}"] = text
    for key, points in sorted(run.metrics.items()):
        facts[f"{prefix}metric.{key}"] = last_value(points)
    for key, text in sorted(run.tags.items()):
        if ("tag", key) not in taken:
            facts[f"{prefix}tag.{key}"] = text
    if run.artifacts:
        facts[f"{prefix}artifacts"] = listed(run.artifacts)
    return facts


def _usage(
    tokens: tuple[float | None, float | None, float | None],
) -> tuple[dict[str, Json] | None, str]:
    """Return usage under MLflow's keys; zeros mean that nothing was captured."""
    given, got, total = (
        int(t) if t is not None and 0 <= t <= MOST_TOKENS else None for t in tokens
    )
    if not given and not got and not total:
        captured = any(t is not None for t in (given, got, total))
        return None, "tokens: all counts are 0, taken as not captured" if captured else ""
    if given is None and got is None:
        return {"total_tokens": total}, ""
    usage: dict[str, Json] = {}
    if given is not None:
        usage["input_tokens"] = given
    if got is not None:
        usage["output_tokens"] = got
    if given is not None and got is not None:
        usage["total_tokens"] = total or given + got
    elif total:
        usage["total_tokens"] = total
    return usage, ""


def _shifted(events: tuple[SpanEvent, ...], by_ns: int) -> tuple[SpanEvent, ...]:
    """Move events along with their span."""
    if not by_ns:
        return events
    return tuple(replace(event, time_ns=event.time_ns + by_ns) for event in events)


def _split_chat(messages: Json) -> tuple[Json, Json]:
    """Split a recorded conversation into what was asked and the last answer."""
    assert isinstance(messages, Sequence)
    last = messages[-1]
    if len(messages) > 1 and isinstance(last, Mapping) and last.get("role") == "assistant":
        return {"messages": list(messages[:-1])}, last.get("content")
    return {"messages": list(messages)}, None


def _exception(status: Status, time_ns: int) -> SpanEvent:
    """Return the event without which MLflow 3.9 draws a failed span as a healthy one."""
    attributes: dict[str, Json] = {
        "exception.message": status.error_message or f"no error text was logged ({status.because})",
        "exception.type": status.error_type or "Error",
        "exception.stacktrace": status.stack_trace,
    }
    return SpanEvent("exception", time_ns, {k: encoding.sanitize(v) for k, v in attributes.items()})


def _status_message(event: SpanEvent) -> str:
    message, kind = (
        str(event.attributes["exception.message"]),
        str(event.attributes["exception.type"]),
    )
    text = message if message.startswith(kind) else f"{kind}: {message}"
    return encoding.cut(text, conv.PREVIEW_CHARS)


def _fitting_id(value: str) -> str:
    """Return a session or user id that MLflow 3.9 can open: 250 characters, no quote.

    Of two long ones that begin alike, each stays one of its own.
    """
    fit = encoding.clean_text(value).strip().replace("'", "_")
    if len(fit) <= conv.METADATA_CHARS:
        return fit
    digest = hashlib.sha256(fit.encode()).hexdigest()[:16]
    return f"{fit[: conv.METADATA_CHARS - 17]}-{digest}"


def _counted(lists: Iterable[Sequence[str]]) -> str:
    counts = Counter(text for inferences in lists for text in dict.fromkeys(inferences))
    return "; ".join(text if n == 1 else f"{text} (x{n})" for text, n in counts.items())
