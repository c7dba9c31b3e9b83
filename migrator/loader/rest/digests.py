"""Digests of records and plans: an item on the server with the same digest is complete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any


def digest_of(item: Any, left_out: frozenset[str]) -> str:
    """Return 32 hex digits of a record's or plan's content, without the fields in ``left_out``."""
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
