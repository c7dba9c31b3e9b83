"""The cells of a table: their types, also where a file has only text."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Sequence
from enum import Enum

from migrator.model import Json
from migrator.transformer.logged_tables import Row
from migrator.transformer.steps.column_words import (
    ANSWER,
    ANSWERS,
    EXPECTED,
    IDS,
    QUESTIONS,
    REASONS,
    SCORES,
    plain_name,
)
from migrator.transformer.values import as_number, parse_json
from migrator.transformer.verdicts import plain_words, verdict

SURE_VERDICTS = frozenset(
    {"yes", "no", "y", "n", "true", "false", "pass", "passed", "fail", "failed", "👍", "👎"}
)
"""Words that say yes or no in a column of any name."""


class Cells(Enum):
    """The type of most cells of a column."""

    EMPTY = "empty"
    YES_NO = "yes-no"
    NUMBER = "number"
    WORD = "word"  # short texts
    TEXT = "text"
    STRUCTURE = "structure"  # lists and objects


def typed_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Give cells their types where a file has only text: numbers, yes and no, lists.

    A column becomes numbers if all its cells are; what is surely a text (ids, questions, answers)
    stays one. Empty cells and NaN are left out.
    """
    made: list[dict[str, Json]] = [{} for _ in rows]
    for name in column_names(rows):
        cells = [row.get(name) for row in rows]
        is_all_text = all(isinstance(cell, str) for cell in cells if cell is not None)
        if is_all_text:
            texts = ["" if cell is None else str(cell).strip() for cell in cells]
            cells = _typed(name, texts, cells)
        for row, cell in zip(made, cells, strict=True):
            if not is_empty(cell):
                row[name] = cell
    return tuple(made)


def column_names(rows: Iterable[Row]) -> tuple[str, ...]:
    """The names of all columns, in the order in which the rows have them first."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return tuple(names)


def is_empty(cell: Json) -> bool:
    """Whether a cell holds nothing: no value, an empty text, list or object, or NaN."""
    if isinstance(cell, float):
        return math.isnan(cell)
    return cell is None or cell in ("", [], {})


def _typed(name: str, texts: Sequence[str], cells: Sequence[Json]) -> list[Json]:
    filled = [text for text in texts if text and text.lower() not in ("nan", "none", "null")]
    plain = plain_name(name)
    is_score = SCORES.search(plain) is not None and not REASONS.search(plain)
    if not is_score and _is_any(plain, (EXPECTED, QUESTIONS, IDS)):
        return [_structure(cell) for cell in cells]
    is_of_outputs = name.lower().startswith("outputs.")
    if not is_score and not is_of_outputs and _is_any(plain, (ANSWERS, ANSWER, REASONS)):
        return list(cells)
    if filled and all(as_number(text) is not None for text in filled):
        return [_number(text) for text in texts]
    if filled and all(_is_yes_or_no(text, is_score=is_score) for text in filled):
        return [verdict(text) if text else None for text in texts]
    return [_structure(cell) for cell in cells]


def _is_yes_or_no(text: str, *, is_score: bool) -> bool:
    """Whether a text is a verdict. ``positive`` is one of a score, else it may be a class."""
    word = plain_words(text)
    return verdict(text) is not None and (is_score or word in SURE_VERDICTS)


def _is_any(name: str, patterns: Iterable[re.Pattern[str]]) -> bool:
    """Whether a name fits one of the patterns."""
    return any(pattern.search(name) for pattern in patterns)


def _number(text: str) -> Json:
    number = as_number(text)
    if number is None:
        return None
    return int(text) if re.fullmatch(r"[+-]?\d{1,15}", text) else number


def _structure(cell: Json) -> Json:
    """Read a text that is a JSON list or the repr of a Python list (as pandas writes into CSV)."""
    if not isinstance(cell, str) or not cell.startswith("["):
        return cell
    value = parse_json(cell)
    if value is not cell:
        return value
    try:
        read = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell
    is_plain = isinstance(read, list) and all(isinstance(each, str) for each in read)
    return read if is_plain else cell


def cell_type(cells: Iterable[Json]) -> Cells:
    """The type of a column's cells: the widest one that occurs."""
    kinds = {_type_of(cell) for cell in cells if not is_empty(cell)}
    if len(kinds) == 1:
        return kinds.pop()
    for kind in (Cells.TEXT, Cells.STRUCTURE, Cells.WORD, Cells.NUMBER, Cells.YES_NO):
        if kind in kinds:
            return kind
    return Cells.EMPTY


def _type_of(cell: Json) -> Cells:
    if isinstance(cell, bool):
        return Cells.YES_NO
    if isinstance(cell, (int, float)):
        return Cells.NUMBER
    if isinstance(cell, str):
        if cell.startswith(("{", "[")) and parse_json(cell) is not cell:
            return Cells.STRUCTURE
        return Cells.WORD if len(cell.split()) <= 3 and len(cell) <= 40 else Cells.TEXT
    return Cells.STRUCTURE
