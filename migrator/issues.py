"""Issue codes: everything that can be wrong with a source, named once.

A code is stable: users filter reports by it. ``docs/reference/issue-codes.md`` is generated from
``CATALOG``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """What an issue means for the entity it names."""

    NOTE = "note"  # nothing is lost: equal metric points, an ignored editor file, …
    DEGRADED = "degraded"  # converted, but something of it was repaired, cut or guessed
    REJECTED = "rejected"  # not converted: exit code 3


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One issue code: its severity, and the two sentences that the reference page prints."""

    severity: Severity
    meaning: str
    action: str  # what a user can do about it


class Code(str, Enum):
    """Stable names of issues; see ``CATALOG`` for what each means."""

    # A stage's author adds members here, each with its entry below.
    FILE_IGNORED = "file-ignored"

    # transformer: trees of runs
    RUN_PARENT_MISSING = "run-parent-missing"
    RUN_PARENT_SELF = "run-parent-self"
    RUN_PARENT_CYCLE = "run-parent-cycle"
    RUN_PARENT_ELSEWHERE = "run-parent-elsewhere"
    # transformer: traces rebuilt from runs
    ARTIFACT_NOT_JSON = "artifact-not-json"
    PROFILE_AMBIGUOUS = "profile-ambiguous"
    RUN_WITHOUT_TIME = "run-without-time"
    SPAN_ENDS_BEFORE_START = "span-ends-before-start"
    SESSION_ID_CHANGED = "session-id-changed"
    # transformer: traces that MLflow wrote
    TRACE_ID_CHANGED = "trace-id-changed"
    TRACE_WITHOUT_SPANS = "trace-without-spans"
    TRACE_ROOT_ADDED = "trace-root-added"
    TRACE_SPAN_CLOSED = "trace-span-closed"
    TRACE_VALUE_CHANGED = "trace-value-changed"
    # transformer: experiments
    EXPERIMENT_ID_CHANGED = "experiment-id-changed"
    EXPERIMENT_RENAMED = "experiment-renamed"
    EXPERIMENT_MERGED = "experiment-merged"


CATALOG: dict[Code, CatalogEntry] = {
    Code.FILE_IGNORED: CatalogEntry(
        Severity.NOTE,
        "A file that is not part of MLflow's layout (an editor's, a sync tool's, a README).",
        "Nothing; it stays where it is.",
    ),
    Code.RUN_PARENT_MISSING: CatalogEntry(
        Severity.NOTE,
        "A run names a parent that is not in the store (deleted for good, or in another store).",
        "If the parent lies in another store, convert both in one call.",
    ),
    Code.RUN_PARENT_SELF: CatalogEntry(
        Severity.NOTE, "A run names itself as its parent.", "Nothing; it is a root now."
    ),
    Code.RUN_PARENT_CYCLE: CatalogEntry(
        Severity.DEGRADED,
        "Runs name one another as parents in a circle.",
        "Correct the tag mlflow.parentRunId of the run that should be the root, and convert again.",
    ),
    Code.RUN_PARENT_ELSEWHERE: CatalogEntry(
        Severity.NOTE,
        "A run and its parent lie in different experiments.",
        "Nothing; the trace belongs to the root's experiment.",
    ),
    Code.ARTIFACT_NOT_JSON: CatalogEntry(
        Severity.NOTE,
        "A .json artifact that a trace is made from does not parse as JSON.",
        "Nothing; its text is in the trace as it is.",
    ),
    Code.PROFILE_AMBIGUOUS: CatalogEntry(
        Severity.NOTE,
        "More than one profile recognises a tree of runs; the first one took it.",
        "Name the profile with --profile, or make its [[recognise]] stricter.",
    ),
    Code.RUN_WITHOUT_TIME: CatalogEntry(
        Severity.DEGRADED,
        "A run has no start time, and nothing in it or around it has a time either.",
        "Nothing can be done; its trace stands at the start of 1970.",
    ),
    Code.SPAN_ENDS_BEFORE_START: CatalogEntry(
        Severity.DEGRADED,
        "A run's end lies before its start (a clock was set back).",
        "Nothing; its span ends where it starts.",
    ),
    Code.SESSION_ID_CHANGED: CatalogEntry(
        Severity.DEGRADED,
        "A session or user id that MLflow can't open: over 250 characters, or with a quote in it.",
        "Look for the id that the message gives.",
    ),
    Code.TRACE_ID_CHANGED: CatalogEntry(
        Severity.NOTE,
        "A trace's id is not in MLflow 3's form, without which its pages do not open.",
        "Search for the old id in metadata migrator.source_trace_id.",
    ),
    Code.TRACE_WITHOUT_SPANS: CatalogEntry(
        Severity.DEGRADED,
        "A trace has no spans: they were never written, or its traces.json was not found.",
        "Put the traces.json where the message says, and convert again.",
    ),
    Code.TRACE_ROOT_ADDED: CatalogEntry(
        Severity.DEGRADED,
        "A trace has several roots, or spans whose parent is missing; MLflow needs one root.",
        "Nothing; a span named after the trace holds them together.",
    ),
    Code.TRACE_SPAN_CLOSED: CatalogEntry(
        Severity.DEGRADED,
        "A span or trace was never closed, or ends before it starts.",
        "Nothing; it ends at its last child or event.",
    ),
    Code.TRACE_VALUE_CHANGED: CatalogEntry(
        Severity.DEGRADED,
        "A value in a trace breaks MLflow's API (an integer beyond 64 bits, deep nesting, …) or is "
        "longer than it lets through.",
        "Nothing; the value is kept as text, cut where the message says so.",
    ),
    Code.EXPERIMENT_ID_CHANGED: CatalogEntry(
        Severity.NOTE,
        "An experiment's id is not a number that the database can hold, or is taken there.",
        "Search for the old id in the experiment's tag migrator.source_experiment_id.",
    ),
    Code.EXPERIMENT_RENAMED: CatalogEntry(
        Severity.NOTE,
        "An experiment's name is taken, or longer than 256 characters.",
        "The old name is in the experiment's tag migrator.source_experiment_name.",
    ),
    Code.EXPERIMENT_MERGED: CatalogEntry(
        Severity.NOTE,
        "Two experiments of one name from different sources became one.",
        "Convert the sources into separate databases if they should stay apart.",
    ),
}


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing found wrong, where, and what was kept of it.

    ``count`` is the number of entities of ``kind`` concerned (lines of a metric file, say);
    a REJECTED issue's count goes into the ledger's rejected column.
    """

    code: Code
    path: str  # absolute path of the file or directory; "" when there is none
    message: str  # what was found, with the facts
    kept: str = ""  # what was kept or done; empty when nothing was
    kind: str | None = None  # a ``model.Kind`` value, None for a plain file
    entity_id: str = ""
    count: int = 1

    @property
    def severity(self) -> Severity:
        return CATALOG[self.code].severity
