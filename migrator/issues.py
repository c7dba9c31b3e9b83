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

    # loader
    TARGET_DIFFERS = "target-differs"
    LOAD_DUPLICATE = "load-duplicate"
    LOAD_REFUSED = "load-refused"
    LOAD_WITHOUT_PARENT = "load-without-parent"
    LOAD_TEXT_REPAIRED = "load-text-repaired"
    LOAD_MODEL_NAN = "load-model-nan"
    LOAD_DEFAULT_ADDED = "load-default-added"


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
    # loader
    Code.TARGET_DIFFERS: CatalogEntry(
        Severity.DEGRADED,
        "The target already holds this, with other values; it was left as the target has it.",
        "Compare the two; to take over the source's values, delete it in the target and convert "
        "again, or convert into a new database.",
    ),
    Code.LOAD_DUPLICATE: CatalogEntry(
        Severity.REJECTED,
        "The sources hold two entities of one id with different places; the first was taken.",
        "If the second is a copy there is nothing to do; otherwise convert it into a database "
        "of its own.",
    ),
    Code.LOAD_REFUSED: CatalogEntry(
        Severity.REJECTED,
        "The database refuses this row: its key is taken, or a value is outside what the column "
        "can hold.",
        "Correct the value in the source's file and convert again.",
    ),
    Code.LOAD_WITHOUT_PARENT: CatalogEntry(
        Severity.REJECTED,
        "This belongs to something that is not in the source, or was rejected itself.",
        "Restore what it belongs to and convert again.",
    ),
    Code.LOAD_TEXT_REPAIRED: CatalogEntry(
        Severity.DEGRADED,
        "Text holds half characters (lone surrogates), which no database can store; each became "
        "a question mark.",
        "Nothing; the source keeps the text as it is.",
    ),
    Code.LOAD_MODEL_NAN: CatalogEntry(
        Severity.DEGRADED,
        "A logged model's metric is NaN. MLflow's database has no NaN there and stores 0, as "
        "MLflow itself does; the run's own metric keeps NaN.",
        "Read this value from the run's metric, not from the model's.",
    ),
    Code.LOAD_DEFAULT_ADDED: CatalogEntry(
        Severity.NOTE,
        "An experiment with another id than 0 is called Default. MLflow would try to make "
        "experiment 0 of that name and fail to open the database, so that an empty, deleted "
        "experiment 0 was added.",
        "Nothing.",
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
