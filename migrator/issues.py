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


CATALOG: dict[Code, CatalogEntry] = {
    Code.FILE_IGNORED: CatalogEntry(
        Severity.NOTE,
        "A file that is not part of MLflow's layout (an editor's, a sync tool's, a README).",
        "Nothing; it stays where it is.",
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
