"""Rows with objects and lists in their cells, as columns of plain cells.

Many tools write a sample as nested JSON: promptfoo has the answer in ``response.output`` beside its
tokens, lm-eval the question in ``doc`` and the answer in lists of lists (``resps``), DSPy scripts
one row with a list of all questions and another of all answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

from migrator.model import Json
from migrator.transformer.logged_tables import Row
from migrator.transformer.model_names import VENDORS
from migrator.transformer.prose import Prose, kind_of_text
from migrator.transformer.steps.cells import column_names, is_empty
from migrator.transformer.steps.column_words import (
    EXPECTED,
    NEUTRAL,
    QUESTIONS,
    SCORE_OBJECTS,
    SCORES,
    is_name_of_answer,
    plain_name,
)

NAMES = ("id", "name", "model", "label")
"""Keys of an object that say which provider or model it is."""
_USAGE = re.compile(r"(?:\A|_)(?:usage|tokens?)\Z")
_INTERFACE = re.compile(r"\A(?:chat|completions?|messages|responses|assistants?):")
"""How promptfoo says that a provider was called, as in ``openai:chat:gpt-4o``."""
MOST_KEYS = 30  # of an object; one with more is data by names of its own
ARGUMENTS = "arguments"  # lm-eval: what the model was called with, the text first
RESPONSES = "resps"  # lm-eval: what the model answered, in a list for each request
PROMPT_TEXTS = ("raw", "text", "content")
"""Keys of the text in an object that is a prompt."""


def plain_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Bring nested rows into plain ones; what already is plain stays as it is."""
    rows = _unfolded(rows)
    answers: set[str] = set()
    opened: set[str] = set()
    taken = {plain_name(name) for name in column_names(rows)}
    for name in column_names(rows):
        cells = [row[name] for row in rows if not is_empty(row.get(name))]
        if not cells or not all(isinstance(cell, Mapping) for cell in cells):
            continue
        if _USAGE.search(plain_name(name)):
            opened.add(name)
        elif is_name_of_answer(plain_name(name)) and all(_answer_key(cell) for cell in cells):
            answers.add(name)
        elif _is_of_sample(name, cells):
            opened.add(name)
    return tuple(_Row(row, answers, opened, taken).plain() for row in rows)


class _Row:
    """Makes one plain row. ``taken`` are the plain names of the table's own columns."""

    def __init__(self, row: Row, answers: set[str], opened: set[str], taken: set[str]) -> None:
        self.row = row
        self.answers = answers
        self.opened = opened
        self.taken = taken
        self.made: dict[str, Json] = {}

    def plain(self) -> Row:
        for name, cell in self.row.items():
            if name in self.answers and isinstance(cell, Mapping):
                self._answer(name, cell)
            elif name in self.opened and isinstance(cell, Mapping):
                for key, inner in cell.items():
                    self._add(self._name_in(name, key, inner), inner)
            else:
                own = "response" if name == RESPONSES else name
                self.made[own] = _plain_cell(name, cell)
        return self.made

    def _name_in(self, name: str, key: str, inner: Json) -> str:
        """The name of a column for an entry of an object: its own, where nothing else has it."""
        if _USAGE.search(plain_name(name)):
            is_number = isinstance(inner, (int, float))
            return f"{name}.{key}" if is_number else f"metadata.{name}.{key}"
        return key if plain_name(key) not in self.taken else f"{name}.{key}"

    def _answer(self, name: str, cell: Mapping[str, Json]) -> None:
        """Put the answer of a response under its name, and the rest beside it."""
        answer = _answer_key(cell)
        for key, inner in cell.items():
            if key == answer:
                self.made[name] = inner
            elif isinstance(inner, Mapping):
                for last, number in inner.items():
                    self._add(f"metadata.{name}.{key}.{last}", number)
            else:
                self._add(f"metadata.{name}.{key}", inner)

    def _add(self, name: str, cell: Json) -> None:
        """Add a cell, unless it is a text or object that stands in the row by itself."""
        is_said = isinstance(cell, (str, Mapping, list)) and cell in self.row.values()
        if not is_said and not is_empty(cell):
            self.made[name] = cell


def _answer_key(cell: Json) -> str | None:
    """The key of the one text in a response that is named as the answer; None without one."""
    if not isinstance(cell, Mapping):
        return None
    for key, inner in cell.items():
        plain = plain_name(key)
        if isinstance(inner, str) and (is_name_of_answer(plain) or plain in ("text", "content")):
            return key
    return None


def _is_of_sample(name: str, cells: Sequence[Json]) -> bool:
    """Whether objects hold parts of the sample: not one input, not scores, not settings."""
    plain = plain_name(name)
    is_known = QUESTIONS.search(plain) or EXPECTED.search(plain) or is_name_of_answer(plain)
    if is_known or NEUTRAL.search(plain) or SCORES.search(plain) or plain in SCORE_OBJECTS:
        return False
    keys: set[str] = set()
    has_text = False
    for cell in cells:
        assert isinstance(cell, Mapping)
        keys.update(cell)
        has_text = has_text or any(_is_text_of_sample(key, inner) for key, inner in cell.items())
    return has_text and len(keys) <= MOST_KEYS


def _is_text_of_sample(key: str, inner: Json) -> bool:
    """Whether an entry is a text that was asked or answered, by its name or because it asks."""
    if not isinstance(inner, str):
        return False
    plain = plain_name(key)
    is_named = QUESTIONS.search(plain) is not None or is_name_of_answer(plain)
    return is_named or kind_of_text(inner) is Prose.REQUEST


def _plain_cell(name: str, cell: Json) -> Json:
    plain = plain_name(name)
    if plain in ("provider", "model"):
        return _name_of_model(cell)
    if plain == "prompt" and isinstance(cell, Mapping):
        texts = (cell[key] for key in PROMPT_TEXTS if isinstance(cell.get(key), str))
        return next(texts, cell)
    if plain == ARGUMENTS:
        return next(_texts(cell), cell)
    if isinstance(cell, list) and is_name_of_answer(plain):
        while isinstance(cell, list) and len(cell) == 1:
            (cell,) = cell
    return cell


def _name_of_model(cell: Json) -> Json:
    """The name in an object of a provider, without whose model it is and how it was called."""
    if isinstance(cell, Mapping):
        texts = (cell[key] for key in NAMES if isinstance(cell.get(key), str) and cell[key])
        cell = next(texts, cell)
    if not isinstance(cell, str):
        return cell
    vendor, _, rest = cell.partition(":")
    if vendor.lower() not in VENDORS or not rest:
        return cell
    return _INTERFACE.sub("", rest)


def _texts(cell: Json) -> Iterator[str]:
    if isinstance(cell, str):
        yield cell
    elif isinstance(cell, Mapping):
        for inner in cell.values():
            yield from _texts(inner)
    elif isinstance(cell, list):
        for inner in cell:
            yield from _texts(inner)


def _unfolded(rows: Sequence[Row]) -> Sequence[Row]:
    """Make rows of one row whose cells are lists of all questions, all answers and so on.

    Lists that are longer or shorter can't be told apart by rows: they are facts of each.
    """
    if len(rows) != 1:
        return rows
    (row,) = rows
    lists = {name: cell for name, cell in row.items() if _is_long(cell)}
    length = _length_of_pairs(row, lists)
    if length is None:
        return rows
    paired = {name: cell for name, cell in lists.items() if len(cell) == length}
    shared = {
        f"metadata.{name}" if name in lists else name: cell
        for name, cell in row.items()
        if name not in paired
    }
    made: list[Row] = []
    for at in range(length):
        made.append({**{name: cell[at] for name, cell in paired.items()}, **shared})
    return made


def _length_of_pairs(row: Row, lists: Mapping[str, Sequence[Json]]) -> int | None:
    """The number of questions in a row's lists, if a list of as many answers is beside them."""
    texts = {plain_name(name): len(cell) for name, cell in lists.items() if _is_text(cell[0])}
    asked = {length for name, length in texts.items() if QUESTIONS.search(name)}
    answered = {length for name, length in texts.items() if is_name_of_answer(name)}
    if len(asked) != 1 or not asked & answered:
        return None
    if any(_is_text(cell) and QUESTIONS.search(plain_name(name)) for name, cell in row.items()):
        return None  # one question with its contexts and candidates
    return asked.pop()


def _is_text(cell: Json) -> bool:
    return isinstance(cell, str)


def _is_long(cell: Json) -> TypeGuard[list[Json]]:
    return isinstance(cell, list) and len(cell) > 1
