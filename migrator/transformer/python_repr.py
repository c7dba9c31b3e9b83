"""Objects that a program logged by ``str()``: Python's dicts and lists, and responses of libraries.

``str(response)`` is ``content='Paris.' additional_kwargs={} …`` of LangChain's messages and
``candidates=[Candidate(…)] …`` of Google's client, in the form that pydantic gives its models; of
the clients of OpenAI and Anthropic it is ``ChatCompletion(id='…', choices=[Choice(…)])``.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from migrator.model import Json
from migrator.transformer.payloads import answer_of
from migrator.transformer.values import as_number, parse_json

MOST_CHARS = 200_000  # a longer text is not parsed
LEAST_FIELDS = 2  # one alone is as well an assignment
NUMBERS = ("nan", "inf")
"""What Python writes for numbers that have no literal."""

_EXPRESSION = re.compile(r"\s*(?:[\[{]|[A-Z]\w*\([a-z_]\w*=)")
_ARGUMENTS = re.compile(r"\s*[a-z_]\w*=(?:['\"\[]|None\s)")
_FIELDS = re.compile(r"\s*[a-z_]\w*=(?:['\"\[{<]|[A-Z]\w*\(|(?:None|True|False|-?\d[\d.]*)\s)")
_KEY = re.compile(r"([A-Za-z_]\w*)=(?!=)")
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_STRING_OR_ENUM = re.compile(rf"{_STRING.pattern}|(<\w[^<>]*>)", re.DOTALL)  # <Reason.STOP: 1>
_OPENING, _CLOSING = "([{", ")]}"


def parse_value(text: str) -> Json:
    """Parse a text that is JSON or the repr of an object; any other text comes back unchanged.

    An object of a class is its arguments, with the name of the class under ``type``.
    """
    value = parse_json(text)
    if value is not text or len(text) > MOST_CHARS:
        return value
    if _EXPRESSION.match(text):
        tree = _parsed(text.strip())
        return text if tree is None else tree.value(tree.node)
    if _ARGUMENTS.match(text):
        body = _arguments(text.strip())
        return text if answer_of(body) is None else body
    return text


def fields_in(text: str) -> Mapping[str, Json] | None:
    """The fields of an object that pydantic wrote: ``answer='Paris.' sources=[]``.

    None for any other text, and for one that was cut.
    """
    if len(text) > MOST_CHARS or not _FIELDS.match(text):
        return None
    fields: dict[str, Json] = {}
    for key, given in _pairs(text.strip()):
        tree = _parsed(given)
        if tree is None:
            return None
        fields[key] = tree.value(tree.node)
    return fields if len(fields) >= LEAST_FIELDS else None


def unquoted(text: str) -> Json:
    """Parse a text like ``parse_value``, and a JSON text in its quotes as well."""
    if text.startswith('"') and text.rstrip().endswith('"'):
        try:
            value: Json = json.loads(text)
        except ValueError:
            return text
        return value
    return parse_value(text)


class _Tree(NamedTuple):
    """The syntax tree of an expression, and its code."""

    node: ast.expr
    code: str

    def value(self, node: ast.expr) -> Json:
        """The value of a part; what has no JSON stays code."""
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
            return node.value
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return [self.value(each) for each in node.elts]
        if isinstance(node, ast.Dict) and all(node.keys):
            keys = [str(self.value(key)) for key in node.keys if key is not None]
            return dict(zip(keys, map(self.value, node.values), strict=True))
        if isinstance(node, ast.Call) and node.keywords and not node.args:
            given = {each.arg or "": self.value(each.value) for each in node.keywords}
            return {"type": self._code_of(node.func), **given}
        code = self._code_of(node)  # ast.unparse exceeds the recursion limit for long sums
        number = as_number(code)
        return code if number is None else number

    def _code_of(self, node: ast.expr) -> str:
        return ast.get_source_segment(self.code, node) or ""


def _parsed(text: str) -> _Tree | None:
    """Parse a text; None when it is not Python."""
    code = _STRING_OR_ENUM.sub(lambda match: repr(match[1]) if match[1] else match[0], text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a backslash that begins no escape
            node = ast.parse(code, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return None if _has_variable(node) else _Tree(node, code)


def _has_variable(node: ast.expr) -> bool:
    """Whether an expression names a variable, which no repr does: ``[REDACTED]``."""
    called: set[ast.AST] = set()  # classes and functions, with their modules
    for each in ast.walk(node):
        if isinstance(each, ast.Call):
            called.update(ast.walk(each.func))
    names = (each for each in ast.walk(node) if isinstance(each, ast.Name))
    return any(each not in called and each.id not in NUMBERS for each in names)


def _arguments(text: str) -> Mapping[str, Json]:
    """Read ``key=value key=value``; a value whose end was cut off is what is left of it."""
    found: dict[str, Json] = {"type": "message"} if text.startswith("content=") else {}
    for key, given in _pairs(text):
        tree = _parsed(given) or _parsed(given + given[:1])
        found[key] = given if tree is None else tree.value(tree.node)
    return found


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield keys and the code of their values."""
    starts = _starts_of_arguments(text)
    ends = [*(match.start() for match in starts[1:]), len(text)]
    for match, end in zip(starts, ends, strict=True):
        yield match[1], text[match.end() : end].strip()


def _starts_of_arguments(text: str) -> list[re.Match[str]]:
    """Where arguments begin, outside of strings and brackets."""
    starts: list[re.Match[str]] = []
    depth = at = 0
    while at < len(text):
        step = 1
        if string := _STRING.match(text, at):
            step = len(string[0])
        elif depth == 0 and (key := _KEY.match(text, at)):
            starts.append(key)
            step = len(key[0])
        elif text[at] in "'\"":
            break  # a string without an end: the text was cut
        elif text[at] in _OPENING:
            depth += 1
        elif text[at] in _CLOSING:
            depth -= 1
        at += step
    return starts
