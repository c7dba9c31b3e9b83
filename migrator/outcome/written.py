"""What a loader did with everything that it was given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from migrator.issues import Code, Issue, Kind


class RenamedModel(NamedTuple):
    """A registered model of the target that got another name."""

    workspace: str
    old: str
    new: str


@dataclass(slots=True)
class Written:
    """Counts by kind of what was written, was there already, or was refused.

    One result for every kind of target, and for a part of a conversion as well: ``add`` joins two.
    ``rebuilt…`` count traces made from runs (with their tags, spans, …), the other counters what
    the source had. Tags of ours on experiments are not counted at all. ``rejected`` holds only what
    the target itself made the loader leave out; everything refused is in ``issues``.
    """

    converted: Counter[Kind] = field(default_factory=Counter)
    already_there: Counter[Kind] = field(default_factory=Counter)
    merged: Counter[Kind] = field(default_factory=Counter)  # added twice, kept once
    rejected: Counter[Kind] = field(default_factory=Counter)
    left_out: Counter[Kind] = field(default_factory=Counter)  # people deleted it in the target
    rebuilt: Counter[Kind] = field(default_factory=Counter)
    rebuilt_already_there: Counter[Kind] = field(default_factory=Counter)
    rebuilt_rejected: Counter[Kind] = field(default_factory=Counter)
    rebuilt_left_out: Counter[Kind] = field(default_factory=Counter)
    issues: list[Issue] = field(default_factory=list)
    renamed_models: list[RenamedModel] = field(default_factory=list)  # in the target
    backup_path: str | None = None  # of an existing SQLite file
    unchanged: bool = False  # a database lacked nothing, and is as it was
    files_sent: int = 0  # to an MLflow server
    bytes_sent: int = 0
    ids: Mapping[Kind, Mapping[str, str]] = field(default_factory=dict)  # old to new, of a server

    def add(self, other: Written) -> None:
        """Add another result's counts, issues and sent files to this one."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
        self.issues += other.issues
        self.renamed_models += other.renamed_models
        self.files_sent += other.files_sent
        self.bytes_sent += other.bytes_sent

    def count(self, kind: Kind, number: int, *, new: bool) -> None:
        """Count what was written (``new``) or was there already."""
        if number:
            counter = self.converted if new else self.already_there
            counter[kind] += number

    def issue(
        self,
        code: Code,
        kind: Kind | None,
        entity_id: str,
        message: str,
        *,
        path: str = "",
        kept: str = "",
        count: int = 1,
    ) -> None:
        """Keep an issue. One that rejects is a count as well, unless ``kind`` is None.

        ``kind`` is None for what was not found in the source.
        """
        self.issues.append(Issue(code, path, message, kept, kind, entity_id, count))

    def reject_parts(
        self, code: Code, entity_id: str, message: str, parts: Mapping[Kind, int], path: str = ""
    ) -> None:
        """Keep an issue that rejects for each kind of which an entity has any parts."""
        for kind, number in parts.items():
            if number:
                self.issue(code, kind, entity_id, message, path=path, count=number)
