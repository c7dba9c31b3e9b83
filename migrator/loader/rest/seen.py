"""Remembers on a server what was converted: in tags, because the API has no other place.

Each item is a code of 8 characters, a hash of its kind and id. Tags ``migrator.seen.N`` of an
experiment hold those of its runs, traces and logged models, those of a registered model its
versions, aliases and tags. What is remembered and not there any more was deleted by people.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Mapping

from migrator.issues import Code, Kind
from migrator.outcome.written import Written

_PREFIX = "migrator.seen."
_CODE_CHARS = 8
_CODES_A_TAG = 600  # a tag of an experiment holds 5,000 characters
_MOST_TAGS = 40  # MLflow reads all tags of an experiment with each list of experiments


class SeenItems:
    """The items that the tags of an experiment or a registered model remember."""

    def __init__(self, tags: Mapping[str, str]) -> None:
        self._kept = {key: value for key, value in tags.items() if key.startswith(_PREFIX)}
        text = "".join(self._kept[key] for key in sorted(self._kept, key=_number_of))
        codes = [text[at : at + _CODE_CHARS] for at in range(0, len(text), _CODE_CHARS)]
        self._codes = dict.fromkeys(codes)  # in the order in which they were added

    def has(self, kind: Kind, entity_id: str) -> bool:
        """Whether an earlier conversion wrote this item."""
        return _code_of(kind, entity_id) in self._codes

    def add(self, kind: Kind, entity_id: str) -> None:
        """Remember an item, as long as there is room."""
        if len(self._codes) < _CODES_A_TAG * _MOST_TAGS:
            self._codes[_code_of(kind, entity_id)] = None

    def new_tags(self) -> dict[str, str]:
        """The tags that are to be written; none if nothing was added."""
        codes = list(self._codes)
        tags = {}
        for number, start in enumerate(range(0, len(codes), _CODES_A_TAG), 1):
            tags[f"{_PREFIX}{number}"] = "".join(codes[start : start + _CODES_A_TAG])
        return {key: value for key, value in tags.items() if self._kept.get(key) != value}


class DeletedByPeople:
    """Items that an earlier conversion wrote and the server lacks: people deleted them."""

    def __init__(self, *, restore: bool) -> None:
        """With ``restore`` nothing counts as deleted, so that it is written again."""
        self._restore = restore
        self._names: defaultdict[Kind, list[str]] = defaultdict(list)

    def has(self, seen: SeenItems, kind: Kind, entity_id: str, name: str | None = None) -> bool:
        """Whether people deleted an item that the server lacks; it is named in the end then."""
        if self._restore or not seen.has(kind, entity_id):
            return False
        self._names[kind].append(name or entity_id)
        return True

    def is_named(self, kind: Kind, name: str) -> bool:
        """Whether an item was found to be deleted."""
        return name in self._names.get(kind, ())

    def name_in(self, result: Written) -> None:
        """Add an issue for each kind."""
        for kind, names in self._names.items():
            first = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            result.issue(
                Code.TARGET_DELETED, kind, min(names),
                f"{len(names):,} of kind {kind.value} deleted in the target since the last "
                f"conversion: {first}.",
                kept="nothing; --restore brings it back", count=len(names),
            )  # fmt: skip


def _number_of(key: str) -> int:
    end = key.removeprefix(_PREFIX)
    return int(end) if end.isdecimal() else 0


def _code_of(kind: Kind, entity_id: str) -> str:
    text = f"{kind.value}/{entity_id}".encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(hashlib.sha256(text).digest()[:6]).decode()
