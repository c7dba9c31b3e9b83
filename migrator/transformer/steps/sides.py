"""Rows with the answers of several models side by side: one row for each of them.

The columns of a model have its name before or behind the same words: ``gpt-4o_response`` and
``llama3_response``, ``score_a`` and ``score_b``; or it is the whole name of the answer's column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from migrator.transformer.logged_tables import Row
from migrator.transformer.model_names import ModelKind, kind_of_model
from migrator.transformer.steps.cells import column_names, is_empty
from migrator.transformer.steps.column_words import (
    is_name_of_answer,
    plain_name,
)

ANSWER = "response"  # of a column that has the name of a model and nothing else
_AT_WORDS = re.compile(r"(?<=[^A-Za-z0-9.])|(?=[^A-Za-z0-9.])")
_VARIANT = re.compile(
    r"(?:(?:model|system|side|variant|candidate|version|prompt)_?)?(?:[a-d]|[1-9])"
    r"|base(?:line)?(?:_model)?|(?:fine_?)?tuned(?:_model)?|vanilla|candidate|control|treatment"
)
"""Words for one of several systems that are compared."""


def one_model_each(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Give each model's answer a row of its own; rows with one answer stay as they are."""
    names = column_names(rows)
    answers = [name for name in names if is_name_of_answer(plain_name(name))]
    models = [name for name in names if _is_llm(name) and _holds_texts(rows, name)]
    sides = dict.fromkeys(models, ANSWER) if len(models) > 1 else _sides(answers)
    if len(sides) < 2:
        return tuple(rows)
    columns = {side: _columns_of(side, stem, sides, names) for side, stem in sides.items()}
    taken = {name for own in columns.values() for name in own}
    made: list[Row] = []
    for row in rows:
        shared = {name: cell for name, cell in row.items() if name not in taken}
        for side, own in columns.items():
            cells = {other: row[name] for name, other in own.items() if name in row}
            if not is_empty(cells.get(sides[side])):
                named = "model" if _is_llm(side) else "variant_name"
                made.append({**shared, named: side.strip("_- "), **cells})
    return tuple(made)


def _holds_texts(rows: Sequence[Row], name: str) -> bool:
    """Whether the cells of a column are texts, and not only single words."""
    cells = [row[name] for row in rows if not is_empty(row.get(name))]
    return all(isinstance(cell, str) for cell in cells) and any(" " in str(c) for c in cells)


def _sides(answers: Sequence[str]) -> dict[str, str]:
    """The models whose answers stand side by side, each with the rest of its column's name."""
    found: dict[str, dict[str, None]] = {}
    for name in answers:
        for side, stem in _splits(name):
            found.setdefault(stem, {})[side] = None
    best = max(found, key=lambda stem: len(found[stem]), default="")
    return dict.fromkeys(found.get(best, {}), best)


def _splits(name: str) -> list[tuple[str, str]]:
    """The ways in which a name is that of a model and a rest: at its beginning or its end."""
    cuts = [at.start() for at in _AT_WORDS.finditer(name)]
    found: list[tuple[str, str]] = []
    for at in cuts:
        head, tail = name[:at].strip("_-. "), name[at:].strip("_-. ")
        found += [(head, tail)] if _is_side(head) and is_name_of_answer(plain_name(tail)) else []
        found += [(tail, head)] if _is_side(tail) and is_name_of_answer(plain_name(head)) else []
    return list(dict.fromkeys(found))


def _is_side(text: str) -> bool:
    return _is_llm(text) or _VARIANT.fullmatch(plain_name(text)) is not None


def _is_llm(text: str) -> bool:
    return kind_of_model(text) is ModelKind.LLM


def _columns_of(
    side: str, stem: str, sides: dict[str, str], names: Sequence[str]
) -> dict[str, str]:
    """The columns of a model, each with its name without the model's."""
    found: dict[str, str] = {}
    for name in names:
        owner = max((each for each in sides if _is_of(each, name)), key=len, default=None)
        if owner != side:
            continue
        rest = name.replace(side, "", 1).strip("_-. ")
        found[name] = rest or stem
    return found


def _is_of(side: str, name: str) -> bool:
    """Whether a name has a model's as whole words at its beginning or its end."""
    at_start = name.startswith(side) and not name[len(side) : len(side) + 1].isalnum()
    at_end = name.endswith(side) and not name[: -len(side)][-1:].isalnum()
    return at_start or at_end
