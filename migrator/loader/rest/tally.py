"""What has become of what was handed over, and digests that tell what is complete."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from migrator.issues import Code, Issue, Kind


@dataclass(slots=True)
class Tally:
    """Counts of one item, or of all; ``rebuilt`` are of traces made from runs."""

    converted: Counter[Kind] = field(default_factory=Counter)
    already_there: Counter[Kind] = field(default_factory=Counter)
    merged: Counter[Kind] = field(default_factory=Counter)
    rebuilt: Counter[Kind] = field(default_factory=Counter)
    rebuilt_already_there: Counter[Kind] = field(default_factory=Counter)
    issues: list[Issue] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in another's counts."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            mine.extend(theirs) if isinstance(mine, list) else mine.update(theirs)

    def count(self, kind: Kind, n: int, *, new: bool) -> None:
        """Count what was written, or was there."""
        if n:
            (self.converted if new else self.already_there)[kind] += n

    def issue(
        self,
        code: Code,
        kind: Kind,
        entity_id: str,
        message: str,
        *,
        path: str = "",
        kept: str = "",
        count: int = 1,
    ) -> None:
        """Keep an issue; one that rejects is a count as well."""
        self.issues.append(Issue(code, path, message, kept, kind, entity_id, count))

    def refuse(
        self, code: Code, kind: Kind | None, entity_id: str, message: str, count: int = 1
    ) -> None:
        """Keep an issue that rejects; of what was not found in the source with ``kind`` None."""
        self.issues.append(Issue(code, "", message, "", kind, entity_id, count))


def digest_of(item: Any, left_out: frozenset[str]) -> str:
    """Return 32 hex digits of what a record or plan says, but for the fields in ``left_out``."""
    digest = hashlib.sha256()
    for each in fields(item):
        if each.name not in left_out:
            text = repr((each.name, _plain(getattr(item, each.name))))
            digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def _plain(value: Any) -> Any:
    """Return a value whose ``repr`` depends on its content alone."""
    if isinstance(value, Mapping):
        return sorted((str(key), _plain(item)) for key, item in value.items())
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return [(each.name, _plain(getattr(value, each.name))) for each in fields(value)]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value
