"""The ledger: for every kind of entity, what was found and what became of it.

It closes when found = converted + already there + merged + rejected + left out, for every kind,
and when every regular file of the sources was read, is an artifact that is referred to, or was
named as ignored. What is *found* comes from directory listings, the other columns from what the
stages did, so a loss between them shows.
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
    ExperimentRecord,
    Extracted,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    SourceIndex,
    TracePlan,
    TraceRecord,
)
from migrator.paths import readable_path


@singledispatch
def counts_of(item: object) -> Counts:
    """Return how many entities of each kind a record holds.

    Raises TypeError for what is not a record.
    """
    raise TypeError(f"no entity: {type(item).__name__}")


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
    return Counter(
        {
            Kind.TRACE: 1,
            Kind.TRACE_TAG: len(item.tags),
            Kind.TRACE_METADATA: len(item.metadata),
            Kind.SPAN: len(item.spans),
            Kind.ASSESSMENT: len(item.assessments),
        }
    )


def trace_counts_of(plan: TracePlan) -> Counts:
    """Return what a planned trace, native or rebuilt, adds to the target."""
    return Counter(
        {
            Kind.TRACE: 1,
            Kind.TRACE_TAG: len(plan.tags),
            Kind.TRACE_METADATA: len(plan.metadata),
            Kind.SPAN: len(plan.spans),
            Kind.ASSESSMENT: len(plan.assessments),
        }
    )


@dataclass(slots=True)
class Ledger:
    """What was found in the sources and what became of it; see the module's docstring."""

    found: Counter[Kind] = field(default_factory=Counter)
    converted: Counter[Kind] = field(default_factory=Counter)
    already_there: Counter[Kind] = field(default_factory=Counter)
    merged: Counter[Kind] = field(default_factory=Counter)
    rejected: Counter[Kind] = field(default_factory=Counter)
    left_out: Counter[Kind] = field(default_factory=Counter)
    rebuilt: Counter[Kind] = field(default_factory=Counter)  # planned from runs
    rebuilt_new: Counter[Kind] = field(default_factory=Counter)  # of those, new in the target
    files: int = 0
    files_read: int = 0
    files_referred: int = 0
    files_ignored: int = 0
    files_left_out: int = 0
    folders_missed: int = 0  # named by a listing, and never looked into: a defect
    size_bytes: int = 0
    issues: list[Issue] = field(default_factory=list)

    def add_index(self, index: SourceIndex) -> None:
        """Take in what one store's walk found outside the entities."""
        self.files += index.files
        self.size_bytes += index.size_bytes
        self.files_ignored += index.ignored_files
        for issue in index.issues:  # what the walk itself rejects has no reading that counts it
            if issue.severity is Severity.REJECTED and issue.kind is not None:
                self.found[issue.kind] += issue.count
        self.add_issues(index.issues)

    def add_extracted(self, extracted: Extracted[Any]) -> None:
        """Take in what reading one entity's directory found, merged and rejected."""
        for kind, count in extracted.found.items():  # Counter.update is several times slower
            self.found[kind] += count
        for kind, count in extracted.merged.items():
            self.merged[kind] += count
        self.files_read += extracted.files_read
        self.files_referred += extracted.files_referred
        self.files_ignored += extracted.files_ignored
        self.add_issues(extracted.issues)

    def add_files_found(self, extracted: Extracted[Any]) -> None:
        """Take in the files of a directory that the walk over the store has not counted."""
        self.files += extracted.files_found
        self.folders_missed += extracted.folders_missed
        self.size_bytes += extracted.size_bytes

    def add(self, other: Ledger) -> None:
        """Take in what another ledger holds: that of a part of the sources."""
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, name, mine + theirs)

    def add_issues(self, issues: tuple[Issue, ...] | list[Issue]) -> None:
        """Keep issues; those that reject entities fill the rejected column.

        Their paths become text here: whoever names something gives the path that can be opened.
        """
        for issue in issues:
            self.issues.append(
                issue if issue.path.isascii() else replace(issue, path=readable_path(issue.path))
            )
            if issue.severity is Severity.REJECTED and issue.kind is not None:
                self.rejected[issue.kind] += issue.count

    def join_notes(self) -> None:
        """Make one note of all that name the same key of a kind; it has the path of the first."""
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
        """Return how many of ``kind`` are accounted for."""
        columns = (self.converted, self.already_there, self.merged, self.rejected, self.left_out)
        return sum(column[kind] for column in columns)

    def gaps(self) -> list[str]:
        """Return a sentence for every count that does not close; an empty list when all do."""
        sentences = [
            f"{kind.value}: found {self.found[kind]}, accounted for {self.outcome(kind)}"
            for kind in Kind
            if self.found[kind] != self.outcome(kind)
        ]
        if self.files != self.files_met:
            sentences.append(f"files: found {self.files}, accounted for {self.files_met}")
        if self.folders_missed:
            sentences.append(f"directories: {self.folders_missed} were not looked into")
        return sentences

    @property
    def files_met(self) -> int:
        """How many files were read, referred to, ignored or left out."""
        return self.files_read + self.files_referred + self.files_ignored + self.files_left_out

    @property
    def has_rejects(self) -> bool:
        """Whether anything was not converted, entities that could not be counted included."""
        return any(issue.severity is Severity.REJECTED for issue in self.issues)

    def issues_by_code(self) -> dict[str, list[Issue]]:
        """Return the issues grouped by code, rejections first, then by code."""
        order = {Severity.REJECTED: 0, Severity.DEGRADED: 1, Severity.NOTE: 2}
        groups: dict[str, list[Issue]] = {}
        for issue in sorted(self.issues, key=lambda i: (order[i.severity], i.code.value, i.path)):
            groups.setdefault(issue.code.value, []).append(issue)
        return groups

    def as_rows(self) -> list[dict[str, str | int]]:
        """Return one row per kind that was found, for tables and JSON."""
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
        """Take in what the loader reports to have written and to have found there."""
        self.converted.update(converted)
        self.already_there.update(already_there)
