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

    # pipeline: the same entity more than once
    ENTITY_REPEATED = "entity-repeated"
    ENTITY_CLASHES = "entity-clashes"
    EXPERIMENT_TAG_DIFFERS = "experiment-tag-differs"


CATALOG: dict[Code, CatalogEntry] = {
    Code.FILE_IGNORED: CatalogEntry(
        Severity.NOTE,
        "A file that is not part of MLflow's layout (an editor's, a sync tool's, a README).",
        "Nothing; it stays where it is.",
    ),
    Code.ENTITY_REPEATED: CatalogEntry(
        Severity.NOTE,
        "The same run, trace, dataset or model lies in two places with the same content.",
        "Nothing; one of the two was taken.",
    ),
    Code.ENTITY_CLASHES: CatalogEntry(
        Severity.REJECTED,
        "A run, trace, dataset or model id occurs twice with different content; an id is unique in "
        "a database, so only the first (active before deleted, then by path) was taken.",
        "Decide which of the two directories is right, or give one of them another id, and convert "
        "again.",
    ),
    Code.EXPERIMENT_TAG_DIFFERS: CatalogEntry(
        Severity.REJECTED,
        "Two sources share an experiment, but one of its tags has different values in them.",
        "Set the tag to the value that you want in both, or set it in the database afterwards.",
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
