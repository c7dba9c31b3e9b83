"""Turns whatever a caller hands over into JSON values of a bounded size.

A tracker sees objects that it knows nothing about: their ``__repr__`` may raise, they may hold half
a million keys or a video. What is recorded is cut before it is walked, so it never costs the
workflow more than some milliseconds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from migrator import encoding
from migrator.counting import counted

MAX_ITEMS = 20_000  # keys and list items of one recorded value
MAX_CHARS = 1_000_000  # characters of its texts in all, and of its keys
MAX_KEY_CHARS = 1_000
MAX_DEPTH = 60
MEDIA_CHARS = 4_096  # encoded bytes of at least this length are kept out
_DATA_URL = re.compile(r"data:[\w/+.-]{0,80}(?:;[\w=.-]{1,80}){0,4};base64,")
_ENCODED_START = re.compile(r"[A-Za-z0-9+/_-]{1000}")
_PART_CHARS = 1_000_000
CUT_KEY = "…"  # stands for the keys that were left out


def plain(value: Any) -> Any:
    """Convert ``value`` to JSON values that MLflow's REST layer can carry.

    Models and dataclasses become their fields, other objects their text, and an object that can't
    be shown its type. Bytes become their size and digest. What exceeds ``MAX_ITEMS`` or
    ``MAX_CHARS`` is left out, and the value says so. Never raises an ``Exception``.
    """
    if value is None or value is True or value is False:
        return value
    return encoding.sanitize(_Reader().read(value, 0))


def text_of(value: Any) -> str:
    """Convert ``value`` to a text: ``str(value)``, or its type where that raises."""
    if type(value) is str:
        return value
    try:
        return str(value)
    except Exception:  # noqa: BLE001  the caller's own code; it must not stop the workflow
        return _type_name(value)


def attribute_of(holder: Any, *keys: str) -> Any:
    """Follow a path of keys or attributes. None where it ends, or where reading it raises."""
    for key in keys:
        try:
            holder = holder.get(key) if isinstance(holder, Mapping) else getattr(holder, key, None)
        except Exception:  # noqa: BLE001  a property of the caller's
            return None
        if holder is None:
            return None
    return holder


def items_of(values: Any) -> list[Any]:
    """List the items of an iterable; empty where it can't be iterated."""
    try:
        return list(islice(values, MAX_ITEMS))
    except Exception:  # noqa: BLE001  the caller's __iter__
        return []


class _Reader:
    """Reads one value, within the limits."""

    def __init__(self) -> None:
        self._items_left = MAX_ITEMS
        self._chars_left = MAX_CHARS
        self._key_chars_left = MAX_CHARS  # a long text takes no room from the keys behind it

    def read(self, value: Any, depth: int) -> Any:
        """Convert a value; an object whose own code raises becomes its type's name."""
        try:
            return self._read(value, depth)
        except Exception:  # noqa: BLE001  __repr__, __iter__, properties: the caller's code
            return _type_name(value)

    def _read(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return _of_bytes(bytes(value))
        if depth > MAX_DEPTH:
            return self._text(str(value))
        if isinstance(value, Mapping):
            return self._mapping(value.items(), len(value), depth)
        if isinstance(value, list | tuple | set | frozenset | deque):
            return self._sequence(value, depth)
        return self._object(value, depth)

    def _text(self, text: str) -> str:
        if len(text) >= MEDIA_CHARS and (kept := _without_media(text)) is not None:
            text = kept
        if len(text) > self._chars_left:
            total = len(text)
            text = f"{text[: self._chars_left]}… ({total:,} characters)"
        self._chars_left = max(0, self._chars_left - len(text))
        return text

    def _mapping(self, pairs: Iterable[tuple[Any, Any]], total: int, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for taken, (key, item) in enumerate(pairs):
            if self._items_left <= 0 or self._key_chars_left <= 0:
                result[CUT_KEY] = counted(total - taken, "more key")
                break
            self._items_left -= 1
            shown = text_of(key)[:MAX_KEY_CHARS]
            self._key_chars_left -= len(shown)
            result[shown] = self.read(item, depth + 1)
        return result

    def _sequence(self, values: Any, depth: int) -> list[Any]:
        result: list[Any] = []
        for item in values:
            if self._items_left <= 0:
                result.append(f"… {counted(len(values) - len(result), 'more item')}")
                break
            self._items_left -= 1
            result.append(self.read(item, depth + 1))
        return result

    def _object(self, value: Any, depth: int) -> Any:
        if isinstance(value, type):
            return self._encoded(value)
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
        elif isinstance(getattr(type(value), "model_fields", None), Mapping):  # pydantic
            names = [*_shown_fields(type(value).model_fields), *(value.model_extra or {})]
        else:
            return self._encoded(value)
        pairs = [(name, getattr(value, name)) for name in names]
        return self._mapping(pairs, len(pairs), depth)

    def _encoded(self, value: Any) -> Any:
        from mlflow.tracing.utils import TraceJSONEncoder

        try:
            shown = json.loads(json.dumps(value, cls=TraceJSONEncoder))
        except (TypeError, ValueError, RecursionError):
            shown = str(value)
        return self._text(shown) if isinstance(shown, str) else shown


def _shown_fields(fields: Mapping[str, Any]) -> list[str]:
    """List a model's fields without those that it keeps out of its own dumps."""
    return [name for name, field in fields.items() if not field.exclude]


def _type_name(value: Any) -> str:
    kind = type(value)
    return f"<{kind.__module__}.{kind.__qualname__}>"


def _of_bytes(content: bytes) -> str:
    return f"<{len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()[:16]}>"


def _without_media(text: str) -> str | None:
    """Shorten a text that is encoded bytes to its size and digest; None for any other text."""
    url = _DATA_URL.match(text)
    if url is None and _ENCODED_START.match(text) is None:
        return None
    body = text if url is None else text[url.end() :]
    if not body.isascii() or (url is None and _has_blanks(body)):
        return None
    digest = hashlib.sha256()
    for start in range(0, len(body), _PART_CHARS):  # in parts, so that no whole copy is made
        digest.update(body[start : start + _PART_CHARS].encode("ascii"))
    head = "" if url is None else url.group()
    return f"{head}<{len(body):,} encoded characters, sha256 {digest.hexdigest()[:16]}>"


def _has_blanks(text: str) -> bool:
    return any(blank in text for blank in " \n\t")
