"""What a scan or a conversion found and decided, as plain data for text, page, JSON and CSV.

An ``Outcome`` has a ledger (counts and issues) and a summary per experiment. Summaries of parts of
the work, made by different workers, are added up.
"""

from __future__ import annotations

import sys
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from typing import Any

from migrator.conventions import DEFAULT_WORKSPACE, in_workspace
from migrator.issues import Kind
from migrator.model import ExperimentPlan, Json, RootChange, RunRecord, TracePlan, TreePlan
from migrator.outcome.examples import Examples
from migrator.outcome.ledger import Ledger
from migrator.paths import readable_path

MOST_DECISIONS = 50  # different decisions kept for an experiment
MOST_TREES = 10  # biggest trees kept for an experiment
MOST_PREFIXES = 5  # beginnings of recorded locations that are reported
WEEK_MS = 7 * 86_400_000
MONDAY = date(1970, 1, 5)  # week 0 began then; weeks begin on Mondays, UTC
MONDAY_MS = 4 * 86_400_000
YEAR_10000_MS = 253_402_300_800_000  # Python's dates end before it


@dataclass(slots=True)
class Decision:
    """What became of trees of one kind, and why. Equal decisions are counted together."""

    role: str
    profile: str | None
    left_as_runs: str | None
    reasons: tuple[str, ...]
    trees: int = 0
    traces: int = 0
    example: str = ""  # root run id of the first such tree

    @property
    def what(self) -> tuple[str, str | None, str | None]:
        """Role, profile and result, without the reasons."""
        return self.role, self.profile, self.left_as_runs


@dataclass(slots=True)
class Week:
    """Runs and traces that started in a week."""

    runs: int = 0
    traces: int = 0  # rebuilt from runs, and written by MLflow
    input_tokens: int = 0  # of these traces
    output_tokens: int = 0

    def add(self, other: Week) -> None:
        """Add the counts of another part of the sources for the same week."""
        self.runs += other.runs
        self.traces += other.traces
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens


@dataclass(slots=True)
class TreeSize:
    """The size of a tree of nested runs, for the list of the biggest trees."""

    root_run_id: str
    name: str
    runs: int
    depth: int
    role: str
    traces: int
    spans: int
    tokens: int
    start_ms: int | None

    @property
    def rank(self) -> tuple[int, int, str]:
        """A sort key: the biggest tree first, independent of the order of reading."""
        return -self.runs, -self.tokens, self.root_run_id


@dataclass(slots=True)
class ExperimentSummary:
    """The numbers of one experiment of one source, and what became of its runs."""

    source: str
    experiment_id: str
    name: str  # after that of a workspace other than the default one
    target_id: int
    target_name: str  # likewise
    lifecycle_stage: str
    workspace: str = DEFAULT_WORKSPACE
    runs: int = 0
    deleted_runs: int = 0
    trees: int = 0  # roots, with or without children
    nested_trees: int = 0
    depth: int = 0
    profiles: Counter[str] = field(default_factory=Counter)
    decisions: dict[tuple[object, ...], Decision] = field(default_factory=dict)
    traces: int = 0  # rebuilt from runs
    spans: int = 0  # of rebuilt traces
    native_traces: int = 0  # written by MLflow itself
    native_spans: int = 0  # of these
    input_tokens: int = 0
    output_tokens: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    size_bytes: int = 0
    weeks: dict[int, Week] = field(default_factory=dict)  # number since MONDAY -> its counts
    biggest: list[TreeSize] = field(default_factory=list)  # at most MOST_TREES, by rank
    # (feedback or expectation, name) -> type of the value -> number of assessments
    assessments: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    examples: Examples = field(default_factory=Examples)

    @classmethod
    def of(cls, source: str, plan: ExperimentPlan) -> ExperimentSummary:
        """Create the empty summary of a planned experiment."""
        return cls(
            source=source,
            experiment_id=plan.record.experiment_id,
            name=in_workspace(plan.record.workspace, plan.record.name),
            target_id=plan.target_id,
            target_name=in_workspace(plan.record.workspace, plan.target_name),
            lifecycle_stage=plan.record.lifecycle_stage,
            workspace=plan.record.workspace,
        )

    @property
    def roles(self) -> Counter[str]:
        """The number of trees by role."""
        counts: Counter[str] = Counter()
        for decision in self.decisions.values():
            counts[decision.role] += decision.trees
        return counts

    @property
    def left_as_runs(self) -> Counter[str]:
        """The number of trees kept as runs by reason."""
        counts: Counter[str] = Counter()
        for decision in self.decisions.values():
            if decision.left_as_runs is not None:
                counts[decision.left_as_runs] += decision.trees
        return counts

    def blank(self) -> ExperimentSummary:
        """The summary of the same experiment in which nothing is counted yet."""
        return ExperimentSummary(
            self.source,
            self.experiment_id,
            self.name,
            self.target_id,
            self.target_name,
            self.lifecycle_stage,
            self.workspace,
        )

    def add_run(self, run: RunRecord) -> None:
        """Count a run, and extend the date range to its start and end."""
        self.runs += 1
        self.deleted_runs += run.deleted
        self._week(run.start_ms or 0).runs += 1
        self._widen(run.start_ms)
        self._widen(run.end_ms)
        self.size_bytes += sum(artifact.size_bytes for artifact in run.artifacts)

    def add_tree(self, plan: TreePlan, root: RunRecord | None = None) -> None:
        """Count a tree whose root run is in this experiment."""
        self.trees += 1
        if len(plan.run_ids) > 1:
            self.nested_trees += 1
            self._rank_tree(plan, root)
        self.depth = max(self.depth, plan.depth)
        if plan.profile is not None and plan.traces:
            self.profiles[plan.profile] += 1
        self._add_decision(
            Decision(
                role=plan.role.value,
                profile=plan.profile,
                left_as_runs=plan.left_as_runs,
                reasons=plan.reasons,
                trees=1,
                traces=len(plan.traces),
                example=plan.root_run_id,
            )
        )

    def _rank_tree(self, plan: TreePlan, root: RunRecord | None) -> None:
        """Put a tree into the list of the biggest, if it is one of them."""
        runs = len(plan.run_ids)
        if len(self.biggest) >= MOST_TREES and runs < self.biggest[-1].runs:
            return
        usages = [trace.usage for trace in plan.traces if trace.usage is not None]
        input_tokens = sum(usage.input_tokens or 0 for usage in usages)
        output_tokens = sum(usage.output_tokens or 0 for usage in usages)
        tree = TreeSize(
            root_run_id=plan.root_run_id,
            name="" if root is None else root.name,
            runs=runs,
            depth=plan.depth,
            role=plan.role.value,
            traces=len(plan.traces),
            spans=sum(len(trace.spans) for trace in plan.traces),
            tokens=input_tokens + output_tokens,
            start_ms=None if root is None else root.start_ms,
        )
        insort(self.biggest, tree, key=lambda each: each.rank)
        del self.biggest[MOST_TREES:]

    def _week(self, time_ms: int) -> Week:
        """Return the week to count in; without a valid time, one that is not kept."""
        if not 0 < time_ms < YEAR_10000_MS:
            return Week()
        number = (time_ms - MONDAY_MS) // WEEK_MS
        week = self.weeks.get(number)
        if week is None:
            week = self.weeks[number] = Week()
        return week

    def _add_decision(self, new: Decision) -> None:
        """Count a decision; after ``MOST_DECISIONS`` different ones, without its reasons."""
        reasons = tuple(map(sys.intern, new.reasons))  # those of most experiments are the same
        key: tuple[object, ...] = (*new.what, reasons)
        if key not in self.decisions and len(self.decisions) >= MOST_DECISIONS:
            key, reasons = new.what, ()
        decision = self.decisions.get(key)
        if decision is None:
            decision = self.decisions[key] = Decision(*new.what, reasons, example=new.example)
        decision.trees += new.trees
        decision.traces += new.traces

    def add_trace(self, plan: TracePlan) -> None:
        """Count a trace of this experiment, with its spans, tokens and assessments."""
        if plan.native:
            self.native_traces += 1
            self.native_spans += len(plan.spans)
        else:
            self.traces += 1
            self.spans += len(plan.spans)
        week = self._week(plan.timestamp_ms)
        week.traces += 1
        if plan.usage is not None:
            self.input_tokens += plan.usage.input_tokens or 0
            self.output_tokens += plan.usage.output_tokens or 0
            week.input_tokens += plan.usage.input_tokens or 0
            week.output_tokens += plan.usage.output_tokens or 0
        self._widen(plan.timestamp_ms)
        self.examples.consider(plan, self.name)
        for judged in plan.assessments:
            if judged.value is not None:
                types = self.assessments.setdefault((judged.type, judged.name), Counter())
                types[_type_of(judged.value)] += 1

    def add(self, other: ExperimentSummary) -> None:
        """Add the summary of another part of the same experiment, of up to MOST_DECISIONS trees."""
        for decision in other.decisions.values():
            self._add_decision(decision)
        for name in (
            "runs", "deleted_runs", "trees", "nested_trees", "traces", "spans", "native_traces",
            "native_spans", "input_tokens", "output_tokens", "size_bytes",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for number, week in other.weeks.items():
            self.weeks.setdefault(number, Week()).add(week)
        self.biggest = sorted([*self.biggest, *other.biggest], key=lambda tree: tree.rank)
        del self.biggest[MOST_TREES:]
        self.depth = max(self.depth, other.depth)
        self.profiles.update(other.profiles)
        for key, types in other.assessments.items():
            self.assessments.setdefault(key, Counter()).update(types)
        self.examples.add(other.examples)
        self._widen(other.first_ms)
        self._widen(other.last_ms)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the biggest trees, which the outcome lists."""
        plain = _field_values(self)
        del plain["biggest"], plain["assessments"], plain["examples"]
        return {
            **plain,
            "roles": dict(self.roles),
            "profiles": dict(self.profiles),
            "left_as_runs": dict(self.left_as_runs),
            "decisions": [_field_values(decision) for decision in self.decisions.values()],
            "weeks": weeks_as_list(self.weeks),
        }

    def _widen(self, time_ms: int | None) -> None:
        if time_ms is None or time_ms <= 0:
            return
        self.first_ms = time_ms if self.first_ms is None else min(self.first_ms, time_ms)
        self.last_ms = time_ms if self.last_ms is None else max(self.last_ms, time_ms)


def _type_of(value: Json) -> str:
    """Return the type of an assessment's value, of those that MLflow's charts distinguish."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else "JSON"


def _field_values(item: Decision | Week | TreeSize | ExperimentSummary) -> dict[str, Any]:
    """Return the fields by name. ``asdict`` would copy their values, ten times slower."""
    return {each.name: getattr(item, each.name) for each in fields(item)}


def monday(week: int) -> date:
    """Return the first day of a week, given its number since ``MONDAY``."""
    return MONDAY + timedelta(weeks=week)


def weeks_as_list(weeks: Mapping[int, Week]) -> list[dict[str, str | int]]:
    """Return plain values for JSON, in order: ``{"week": "2024-03-04", "runs": 3, ...}``."""
    return [
        {"week": monday(number).isoformat(), **_field_values(week)}
        for number, week in sorted(weeks.items())
    ]


@dataclass(slots=True)
class Prefixes:
    """Beginnings of recorded locations, and how many locations of each were found here."""

    recorded: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)

    def add(self, prefix: str, *, is_found: bool) -> None:
        """Count a location. One without a recorded value has no prefix."""
        if prefix:
            self.recorded[prefix] += 1
            self.found[prefix] += is_found

    def add_all(self, other: Prefixes) -> None:
        """Add the counts of another part of the sources."""
        self.recorded.update(other.recorded)
        self.found.update(other.found)

    def commonest(self, most: int) -> list[tuple[str, int, int]]:
        """The commonest prefixes with their numbers of locations, recorded and found."""
        ranked = sorted(self.recorded.items(), key=lambda each: (-each[1], each[0]))
        return [(prefix, n, self.found[prefix]) for prefix, n in ranked[:most]]


@dataclass(slots=True)
class ArtifactSummary:
    """What became of artifact locations, and of the files if they were copied.

    ``locations`` has, for each result (a value of ``transformer.Fate``), the number of locations
    by the kind of their owner.
    """

    choice: str = "auto"
    decided: dict[str, str] = field(default_factory=dict)  # store -> relocate, keep or copy
    locations: dict[str, Counter[str]] = field(default_factory=dict)
    remote: Counter[str] = field(default_factory=Counter)  # scheme -> locations
    unserved: int = 0  # mlflow-artifacts: locations that now name the files directly
    stay_in: set[str] = field(default_factory=set)  # directories that the database points to
    has_outside: bool = False  # a place of artifacts lies outside of the sources' watched folders
    roots: Counter[RootChange] = field(default_factory=Counter)  # -> locations found by it
    prefixes: Prefixes = field(default_factory=Prefixes)
    # beginning of locations that lead nowhere -> traces without input and output because of it
    hollow: Counter[str] = field(default_factory=Counter)
    files_copied: int = 0
    files_there: int = 0  # copied by an earlier conversion
    files_failed: int = 0
    bytes_copied: int = 0

    def add(self, fate: str, kind: Kind) -> None:
        """Count the location of an entity."""
        if fate not in self.locations:
            self.locations[fate] = Counter()
        self.locations[fate][kind.value] += 1

    def add_all(self, other: ArtifactSummary) -> None:
        """Add the locations of another summary. Files are counted once, by the copying stage."""
        for fate, kinds in other.locations.items():
            self.locations.setdefault(fate, Counter()).update(kinds)
        self.remote.update(other.remote)
        self.unserved += other.unserved
        self.stay_in |= other.stay_in
        self.has_outside |= other.has_outside
        self.roots.update(other.roots)
        self.prefixes.add_all(other.prefixes)
        self.hollow.update(other.hollow)

    @property
    def changed_roots(self) -> list[tuple[RootChange, int]]:
        """The roots that changed, each with the number of locations found by it."""
        return sorted(self.roots.items(), key=lambda each: (each[0].old, each[0].new))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "choice": self.choice,
            "decided": self.decided,
            "locations": {fate: dict(kinds) for fate, kinds in sorted(self.locations.items())},
            "remote": dict(sorted(self.remote.items())),
            "stay_in": sorted(self.stay_in),
            "roots": [
                {"old": root.old, "new": root.new, "told": root.is_told, "locations": number}
                for root, number in self.changed_roots
            ],
            "prefixes": [
                {"prefix": prefix, "locations": n, "found": found}
                for prefix, n, found in self.prefixes.commonest(MOST_PREFIXES)
            ],
            "hollow_traces": dict(sorted(self.hollow.items())),
            "files_copied": self.files_copied,
            "files_there": self.files_there,
            "files_failed": self.files_failed,
            "bytes_copied": self.bytes_copied,
        }


@dataclass(frozen=True, slots=True)
class ServerLimit:
    """A thing that a server's API can't keep, and how often the sources have it."""

    name: str
    what: str
    count: int
    why: str
    instead: str


@dataclass(slots=True)
class ServerSummary:
    """What a conversion through a server's API could not keep, the new ids, and the files sent."""

    version: str  # of the server's MLflow
    limits: tuple[ServerLimit, ...] = ()
    ids: dict[str, dict[str, str]] = field(default_factory=dict)  # kind -> old id -> new id
    files_sent: int = 0
    bytes_sent: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "version": self.version,
            "cannot_keep": [
                {each.name: getattr(limit, each.name) for each in fields(limit)}
                for limit in self.limits
            ],
            "ids": self.ids,
            "files_sent": self.files_sent,
            "bytes_sent": self.bytes_sent,
        }


@dataclass(slots=True)
class Overall:
    """Counts and examples over all experiments. There may be very many, so this is one pass."""

    left_as_runs: Counter[str] = field(default_factory=Counter)  # trees, by the reason
    weeks: dict[int, Week] = field(default_factory=dict)
    biggest: list[tuple[ExperimentSummary, TreeSize]] = field(default_factory=list)  # by rank
    examples: Examples = field(default_factory=Examples)
    new_ids: list[ExperimentSummary] = field(default_factory=list)  # other ids in the target

    def add(self, experiment: ExperimentSummary) -> None:
        """Add an experiment."""
        self.left_as_runs.update(experiment.left_as_runs)
        for number, week in experiment.weeks.items():
            self.weeks.setdefault(number, Week()).add(week)
        trees = [*self.biggest, *((experiment, tree) for tree in experiment.biggest)]
        self.biggest = sorted(trees, key=lambda each: each[1].rank)[:MOST_TREES]
        self.examples.add(experiment.examples)
        if experiment.experiment_id != str(experiment.target_id):
            self.new_ids.append(experiment)


@dataclass(slots=True)
class Outcome:
    """The result of a scan or a conversion, which ``report`` renders in several formats."""

    version: str
    sources: tuple[str, ...]
    target: str | None  # None for a scan
    dry_run: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    experiments: Sequence[ExperimentSummary] = ()
    artifacts: ArtifactSummary = field(default_factory=ArtifactSummary)
    backup: str | None = None
    unchanged: bool = False  # the database lacked nothing, and is as it was
    is_read: bool = True  # False where sizes and times of the files said that nothing is new
    report_path: str | None = None
    rejects_path: str | None = None  # JSON lines, for convert --only
    report_problem: str | None = None  # why the report could not be written
    redacted: Counter[str] = field(default_factory=Counter)  # masked texts by kind of record
    redaction_stayed: int = 0  # identifiers and locations that match --redact but can't change
    schema: str | None = None  # the revision of the target, if that is a database
    schema_release: str | None = None  # the MLflow release that has this schema
    server: ServerSummary | None = None  # if the target is an MLflow server
    left_out_experiments: int = 0  # by --experiment
    groups_by_time: tuple[int, int] = (0, 0)  # workflows and steps that --group-by-time would join
    shard: tuple[int, int] = (1, 1)  # K and N: this was part K of N
    orphans: int = 0  # steps that --adopt-orphans would attach to a workflow
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0: everything was converted. 3: an item was rejected, or the report failed."""
        return 3 if self.ledger.has_rejects or self.report_problem else 0

    @property
    def done(self) -> str:
        """The state of the target, as a sentence without its full stop."""
        if self.dry_run:
            return "Nothing was written (dry run)"
        if self.unchanged:
            return f"The database {self.target} is unchanged"
        what = "database" if self.server is None else "conversion to"
        return f"The {what} {self.target} is complete"

    @property
    def shard_text(self) -> str:
        """``2/4`` for the second of four parts; "" for the whole."""
        number, count = self.shard
        return f"{number}/{count}" if count > 1 else ""

    @property
    def overall(self) -> Overall:
        """What the experiments add up to."""
        total = Overall()
        for experiment in self.experiments:
            total.add(experiment)
        return total

    def as_dict(self, values: bool = False) -> dict[str, Any]:
        """Return plain values for JSON, with every issue.

        With ``values``, an issue also has the value that the source has, as ``sample``.
        """
        return {
            key: list(value) if isinstance(value, Iterator) else value
            for key, value in self.as_stream(values).items()
        }

    def as_stream(self, values: bool = False) -> dict[str, Any]:
        """Like ``as_dict``, but the items of long lists are made while they are iterated over."""
        ledger, overall = self.ledger, self.overall
        return {
            "tool": "mlflow-migrate",
            "version": self.version,
            "sources": list(map(readable_path, self.sources)),
            "target": self.target,
            "dry_run": self.dry_run,
            "read": self.is_read,
            "shard": self.shard_text or None,
            "schema": self.schema,
            "schema_release": self.schema_release,
            "server": None if self.server is None else self.server.as_dict(),
            "backup": self.backup,
            "rejects": self.rejects_path,
            "report_problem": self.report_problem,
            "redacted": dict(self.redacted),
            "redaction_stayed": self.redaction_stayed,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "ledger": ledger.as_rows(),
            "rebuilt": {kind.value: n for kind, n in ledger.rebuilt.items() if n},
            "rebuilt_new": {kind.value: n for kind, n in ledger.rebuilt_new.items() if n},
            "files": {
                "found": ledger.files,
                "read": ledger.files_read,
                "artifacts": ledger.files_referred,
                "ignored": ledger.files_ignored,
                "left_out": ledger.files_left_out,
                "size_bytes": ledger.size_bytes,
            },
            "artifacts": self.artifacts.as_dict(),
            "left_as_runs": dict(overall.left_as_runs),
            "weeks": weeks_as_list(overall.weeks),
            "biggest_trees": [
                {"experiment_id": e.experiment_id, "experiment": e.name, **_field_values(tree)}
                for e, tree in overall.biggest
            ],
            "could_regroup": {
                "group_by_time": {
                    "workflows": self.groups_by_time[0],
                    "steps": self.groups_by_time[1],
                },
                "adopt_orphans": {"steps": self.orphans},
            },
            "new_experiment_ids": (
                {"old": e.experiment_id, "new": e.target_id, "name": e.name, "source": e.source}
                for e in overall.new_ids
            ),
            "experiments": (experiment.as_dict() for experiment in self.experiments),
            "issues": (
                {
                    "code": issue.code.value,
                    "severity": issue.severity.value,
                    "path": issue.path,
                    "kind": issue.kind and issue.kind.value,
                    "id": issue.entity_id,
                    "count": issue.count,
                    "message": issue.message,
                    "kept": issue.kept,
                    "action": issue.code.action,
                    **({"sample": issue.sample} if values and issue.sample else {}),
                }
                for issue in ledger.issues
            ),
        }
