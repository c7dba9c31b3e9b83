"""The ledger: for every kind of entity, how many were found and what became of them.

It balances when found = converted + already there + merged + rejected + left out for every kind,
and every regular file of the sources was read, is a listed artifact, or was ignored. *Found* comes
from directory listings, the other columns from what the stages did, so that no loss between them
goes unnoticed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import Any

from migrator.issues import Code, Issue, Kind, Severity
from migrator.model import (
    Counts,
    DatasetRecord,
    EvaluationDatasetRecord,
    ExperimentRecord,
    Extracted,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    ScorerRecord,
    SourceIndex,
    TracePlan,
    TraceRecord,
    WebhookRecord,
    WorkspaceRecord,
)
from migrator.paths import readable_path


@singledispatch
def counts_of(item: object) -> Counts:
    """Return the number of entities of each kind in a record, such as a run and its params.

    Raises TypeError for anything that is not a record.
    """
    raise TypeError(f"not a record: {type(item).__name__}")


@counts_of.register
def _(item: ExperimentRecord) -> Counts:
    return Counter({Kind.EXPERIMENT: 1, Kind.EXPERIMENT_TAG: len(item.tags)})


@counts_of.register
def _(item: RunRecord) -> Counts:
    return {
        Kind.RUN: 1,
        Kind.PARAM: len(item.params),
        Kind.TAG: len(item.tags),
        Kind.METRIC_POINT: sum(map(len, item.metrics.values())),
        Kind.INPUT: len(item.inputs),
        Kind.OUTPUT: len(item.outputs),
    }


@counts_of.register
def _(item: DatasetRecord) -> Counts:
    return Counter({Kind.DATASET: 1})


@counts_of.register
def _(item: LoggedModelRecord) -> Counts:
    return Counter(
        {
            Kind.LOGGED_MODEL: 1,
            Kind.LOGGED_MODEL_PARAM: len(item.params),
            Kind.LOGGED_MODEL_TAG: len(item.tags),
            Kind.LOGGED_MODEL_METRIC: len(item.metrics),
        }
    )


@counts_of.register
def _(item: RegisteredModelRecord) -> Counts:
    return Counter(
        {
            Kind.REGISTERED_MODEL: 1,
            Kind.REGISTERED_MODEL_TAG: len(item.tags),
            Kind.ALIAS: len(item.aliases),
            Kind.MODEL_VERSION: len(item.versions),
            Kind.MODEL_VERSION_TAG: sum(len(version.tags) for version in item.versions),
        }
    )


@counts_of.register
def _(item: TraceRecord) -> Counts:
    return _trace_counts(item, len(item.links))


@counts_of.register
def _(item: EvaluationDatasetRecord) -> Counts:
    return Counter(
        {
            Kind.EVALUATION_DATASET: 1,
            Kind.EVALUATION_DATASET_TAG: len(item.tags),
            Kind.EVALUATION_ITEM: len(item.items),
            Kind.EVALUATION_DATASET_LINK: len(item.links),
        }
    )


@counts_of.register
def _(item: ScorerRecord) -> Counts:
    return Counter({Kind.SCORER: 1, Kind.SCORER_VERSION: len(item.versions)})


@counts_of.register
def _(item: WebhookRecord) -> Counts:
    return Counter({Kind.WEBHOOK: 1, Kind.WEBHOOK_EVENT: len(item.events)})


@counts_of.register
def _(item: WorkspaceRecord) -> Counts:
    return Counter({Kind.WORKSPACE: 1})


def trace_counts_of(plan: TracePlan) -> Counts:
    """Return the number of entities of each kind that a planned trace adds to the target."""
    return _trace_counts(plan, len(plan.all_links))


def _trace_counts(trace: TraceRecord | TracePlan, links: int) -> Counts:
    return Counter(
        {
            Kind.TRACE: 1,
            Kind.TRACE_TAG: len(trace.tags),
            Kind.TRACE_METADATA: len(trace.metadata),
            Kind.SPAN: len(trace.spans),
            Kind.ASSESSMENT: len(trace.assessments),
            Kind.TRACE_LINK: links,
        }
    )


@dataclass(slots=True)
class Ledger:
    """Counts of what was found in the sources and what became of it, and the issues."""

    found: Counter[Kind] = field(default_factory=Counter)
    converted: Counter[Kind] = field(default_factory=Counter)
    already_there: Counter[Kind] = field(default_factory=Counter)
    merged: Counter[Kind] = field(default_factory=Counter)
    rejected: Counter[Kind] = field(default_factory=Counter)
    left_out: Counter[Kind] = field(default_factory=Counter)
    rebuilt: Counter[Kind] = field(default_factory=Counter)  # traces and spans made from runs
    rebuilt_new: Counter[Kind] = field(default_factory=Counter)  # of these, new in the target
    rebuilt_already_there: Counter[Kind] = field(default_factory=Counter)  # and not new
    files: int = 0
    files_read: int = 0
    files_referred: int = 0
    files_ignored: int = 0
    files_left_out: int = 0
    folders_missed: int = 0  # listed but never read: a defect of this program
    size_bytes: int = 0
    issues: list[Issue] = field(default_factory=list)

    def add_index(self, index: SourceIndex) -> None:
        """Add what the walk over a store found: its files, and issues outside of entities."""
        self.files += index.files
        self.size_bytes += index.size_bytes
        self.files_ignored += index.ignored_files
        self.files_referred += index.artifact_files
        for issue in index.issues:  # nothing else counts an entity that the walk itself rejects
            if issue.severity is Severity.REJECTED and issue.kind is not None:
                self.found[issue.kind] += issue.count
        self.add_issues(index.issues)

    def add_extracted(self, extracted: Extracted[Any]) -> None:
        """Add the counts and issues from reading one entity's directory."""
        for kind, count in extracted.found.items():  # several times faster than Counter.update
            self.found[kind] += count
        for kind, count in extracted.merged.items():
            self.merged[kind] += count
        self.files_read += extracted.files_read
        self.files_referred += extracted.files_referred
        self.files_ignored += extracted.files_ignored
        self.add_issues(extracted.issues)

    def add_files_found(self, extracted: Extracted[Any]) -> None:
        """Add the files of a directory that the walk over the store did not count."""
        self.files += extracted.files_found
        self.folders_missed += extracted.folders_missed
        self.size_bytes += extracted.size_bytes

    def add(self, other: Ledger) -> None:
        """Add the counts and issues of another ledger, such as that of another worker."""
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, name, mine + theirs)

    def add_issues(self, issues: tuple[Issue, ...] | list[Issue]) -> None:
        """Add issues, and count the rejected entities.

        Paths become readable text here. Until then an issue has the path that can be opened.
        """
        for issue in issues:
            self.issues.append(
                issue if issue.path.isascii() else replace(issue, path=readable_path(issue.path))
            )
            if issue.severity is Severity.REJECTED and issue.kind is not None:
                self.rejected[issue.kind] += issue.count

    def join_notes(self) -> None:
        """Join the notes about the same unknown key of YAML files; the first path is kept."""
        joined: dict[str, Issue] = {}
        others: list[Issue] = []
        for issue in self.issues:
            if issue.code is not Code.META_KEY_UNKNOWN:
                others.append(issue)
                continue
            first = joined.get(issue.message)
            if first is None:
                joined[issue.message] = issue
                continue
            nearest = min(first, issue, key=lambda each: each.path)
            count = first.count + issue.count
            joined[issue.message] = replace(nearest, entity_id="", count=count)
        self.issues = [*others, *joined.values()]

    def outcome(self, kind: Kind) -> int:
        """Return the number of entities of this kind whose result is known."""
        columns = (self.converted, self.already_there, self.merged, self.rejected, self.left_out)
        return sum(column[kind] for column in columns)

    def gaps(self) -> list[str]:
        """Return a sentence for every count that does not balance."""
        sentences = [
            f"{kind.value}: found {self.found[kind]}, accounted for {self.outcome(kind)}"
            for kind in Kind
            if self.found[kind] != self.outcome(kind)
        ]
        if self.files != self.files_met:
            sentences.append(f"files: found {self.files}, accounted for {self.files_met}")
        if self.folders_missed:
            sentences.append(f"directories: {self.folders_missed} not read")
        return sentences

    @property
    def files_met(self) -> int:
        """The number of files that were read, referred to, ignored or left out."""
        return self.files_read + self.files_referred + self.files_ignored + self.files_left_out

    @property
    def has_rejects(self) -> bool:
        """True if anything was rejected, even if it could not be counted."""
        return any(issue.severity is Severity.REJECTED for issue in self.issues)

    def issues_count(self, severity: Severity) -> int:
        """The number of items that have an issue of this severity; one may be counted twice."""
        return sum(issue.count for issue in self.issues if issue.severity is severity)

    def issues_by_code(self) -> dict[str, list[Issue]]:
        """Return the issues by code: rejections first, then degradations, then notes."""
        order = {Severity.REJECTED: 0, Severity.DEGRADED: 1, Severity.NOTE: 2}
        groups: dict[str, list[Issue]] = {}
        for issue in sorted(self.issues, key=lambda i: (order[i.severity], i.code.value, i.path)):
            groups.setdefault(issue.code.value, []).append(issue)
        return groups

    def as_rows(self) -> list[dict[str, str | int]]:
        """Return a row per kind that was found, for tables and JSON."""
        return [
            {
                "kind": kind.value,
                "found": self.found[kind],
                "converted": self.converted[kind],
                "already_there": self.already_there[kind],
                "merged": self.merged[kind],
                "rejected": self.rejected[kind],
                "left_out": self.left_out[kind],
            }
            for kind in Kind
            if self.found[kind] or self.outcome(kind)
        ]

    def add_outcome(self, converted: Mapping[Kind, int], already_there: Mapping[Kind, int]) -> None:
        """Add the numbers of entities that the loader wrote, and that the target already had."""
        self.converted.update(converted)
        self.already_there.update(already_there)
