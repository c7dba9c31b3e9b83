"""Any YAML, by PyYAML, without ever running into what it may hold.

There is a look at its events first: aliases and deep nesting are refused, because the one can blow
up and the other overflows the C stack of libyaml's loader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

MAX_DEPTH = 60
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may be built without libyaml

# Types that an unquoted word may seem to have. ``=`` and ``<<`` have one that can't be loaded.
_SEEMING_TYPES = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "timestamp", "value", "merge")
)


class Unsafe(ValueError):
    """A document that must not be loaded."""


class Damaged(ValueError):
    """A text that is not YAML; as text it is what PyYAML says, which may quote the file."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.why = _why(error)


class Parsed(NamedTuple):
    """A mapping. ``written`` has the same keys, and of each scalar the text in the file."""

    values: Mapping[str, Any]
    written: Mapping[str, Any]
    twice: list[str]  # keys


def parse(text: str) -> Parsed | str | None:
    """Parse a mapping. A text says what else there is, and None that there is nothing.

    Raises Unsafe and Damaged.
    """
    try:
        _check(text)
        return _parse(text)
    except Unsafe:
        raise
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Damaged(error) from error


def _parse(text: str) -> Parsed | str | None:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if not isinstance(node, yaml.MappingNode):
            return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        if node.tag != "tag:yaml.org,2002:map":
            loader.construct_document(node)  # raises: nothing but plain values is loaded
        keys = [_key(key) for key, _ in node.value]
        loader.flatten_mapping(node)
        values = {_key(key): _value(loader, value) for key, value in node.value}
        written = {_key(key): _as_written(value) for key, value in node.value}
    finally:
        loader.dispose()
    twice = sorted({key for key in keys if keys.count(key) > 1}) if len(keys) < 1000 else []
    return Parsed(values, written, twice)


def _value(loader: Any, node: yaml.Node) -> Any:
    """Construct a value; one that only seems to have its type is the text that is written."""
    try:
        return loader.construct_object(node, deep=True)
    except (ValueError, TypeError, OverflowError):  # not a real date, thousands of digits
        return _as_written(node)
    except yaml.constructor.ConstructorError:
        if isinstance(node, yaml.ScalarNode) and node.tag in _SEEMING_TYPES:
            return node.value
        raise


def _as_written(node: yaml.Node) -> Any:
    """Construct a value in which every scalar is the text that stands in the file."""
    if isinstance(node, yaml.MappingNode):
        return {_key(key): _as_written(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_as_written(item) for item in node.value]
    return node.value


def _key(node: yaml.Node) -> str:
    written = _as_written(node)
    return written if isinstance(written, str) else json.dumps(written, ensure_ascii=False)


def _why(error: Exception) -> str:
    """Describe an error and its place, without the file's own words that PyYAML quotes."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"{error.reason} (character {error.position})"
    if not isinstance(error, yaml.MarkedYAMLError):
        return "a value can't be read as its type"
    problem = re.sub(r"(['\"]).*\1", "…", " ".join(str(error.problem or "damaged").split()))
    mark = error.problem_mark
    where = "" if mark is None else f", in line {mark.line + 1}, column {mark.column + 1}"
    return problem[:200] + where


def _check(text: str) -> None:
    """Raise ``Unsafe`` for aliases and deep nesting, ``yaml.YAMLError`` for what is not YAML."""
    too_deep = f"it is nested more than {MAX_DEPTH} deep"
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent):
                raise Unsafe("it has aliases")
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
                if depth > MAX_DEPTH:
                    raise Unsafe(too_deep)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                depth -= 1
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in str(error.problem):  # PyYAML 6.0.4's libyaml looks for it, too
            raise Unsafe(too_deep) from error
        raise
