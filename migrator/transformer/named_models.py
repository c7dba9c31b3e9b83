"""Models that the params and tags of a run name: by a key, by a version, inside settings."""

from __future__ import annotations

import re
from functools import lru_cache

from migrator.model import Json
from migrator.transformer.model_names import (
    JUDGES,
    NOT_THE_MODEL,
    ModelKey,
    ModelKind,
    kind_of_model,
    kind_of_model_key,
)
from migrator.transformer.profile_index import Shape
from migrator.transformer.profiles import normalise
from migrator.transformer.values import EMPTY_WORDS, as_number, words

MODEL_RANKS = {ModelKind.LLM: 0, ModelKind.UNKNOWN: 1, ModelKind.VENDOR: 2, ModelKind.OTHER: 3}
MOST_NAME_CHARS = 100  # longer values are no names, and differ from run to run
_SETTINGS_KEY = re.compile(
    r"config|setting|param|option|args|llm|model|agent|generat|deploy|engine"
)
_VERSIONED = re.compile(
    r"(?=.*\d)[\w./:@-]+|[\w./:@-]+-(?:large|medium|small|tiny|mini|nano|lite|pro|max|plus|ultra"
    r"|turbo|flash|latest|preview|instant|instruct|chat|opus|sonnet|haiku)(?:[.:@-][\w.:@-]*)?"
)
"""Names with a version, or with the word that stands for one in a family of models."""
NOT_A_MODEL_KEY = words(
    "dataset data tokenizer project file name group tag prefix output input base"
)
"""Words of keys whose value is not a model, though it has the name of one."""

_PAIR = re.compile(
    r"""["']?(?P<key>[\w.-]*(?:model|llm|engine|deployment|generator|name)[\w.-]*)["']?[ \t]*[:=]"""
    r"""[ \t]*["']?(?P<value>[\w./:@ -]{1,100})"""
)
MOST_SETTINGS_CHARS = 10_000  # of a longer text, so much is searched for models


def is_said(value: Json) -> bool:
    return not (isinstance(value, str) and value.strip().lower() in EMPTY_WORDS)


@lru_cache(1 << 10)
def keys_of_models(shape: Shape) -> tuple[tuple[str, str, str], ...]:
    """The params and tags that may name a model: the place, and both forms of the key."""
    keys: list[tuple[str, str, str]] = []
    for place in ("param", "tag"):
        for plain, key in shape.spelled[place].items():
            may_hold = kind_of_model_key(plain) is not None or _SETTINGS_KEY.search(plain)
            if not plain.startswith("mlflow_") and (may_hold or _may_hold_version(plain)):
                keys.append((place, plain, key))
    return tuple(keys)


def _models_at(key: str, text: str) -> tuple[tuple[int, str], ...]:
    if "{" in text[:2] or "\n" in text:
        return _models_inside(text) if _SETTINGS_KEY.search(key) else ()
    kind_of_key = kind_of_model_key(key)
    if kind_of_key is None:
        if not _is_versioned_llm(key, text):
            return ()
        is_judge = not JUDGES.isdisjoint(key.split("_"))
        kind = ModelKind.OTHER if is_judge else ModelKind.LLM  # last, where another answered
        return ((MODEL_RANKS[kind] + is_judge, text.strip()),)
    if not is_said(text) or as_number(text) is not None:
        return ()
    kind = kind_of_model(text)
    if kind_of_key is ModelKey.NOT_THE_MODEL or kind is ModelKind.OTHER:
        is_judge = kind is ModelKind.LLM and not JUDGES.isdisjoint(key.split("_"))
        return ((MODEL_RANKS[ModelKind.OTHER] + 1, text.strip()),) if is_judge else ()
    if kind is ModelKind.UNKNOWN and kind_of_key is not ModelKey.OF_LLM:
        return ()
    return ((MODEL_RANKS[kind], text.strip()),)


_model_at = lru_cache(1 << 12)(_models_at)  # thousands of runs name the same few models


def models_at(key: str, text: str) -> tuple[tuple[int, str], ...]:
    """The models that the value of a (normalised) key names, each with its rank."""
    return _model_at(key, text) if len(text) <= MOST_NAME_CHARS else _models_at(key, text)


def _is_versioned_llm(key: str, text: str) -> bool:
    """Whether a value under any name is an LLM's with its version, such as ``gpt-4o``."""
    if not 2 <= len(text) <= 60 or not text[0].isalpha() or not _VERSIONED.fullmatch(text):
        return False
    return _may_hold_version(key) and kind_of_model(text) is ModelKind.LLM


def _may_hold_version(key: str) -> bool:
    parts = key.split("_")
    return (NOT_THE_MODEL - JUDGES).isdisjoint(parts) and NOT_A_MODEL_KEY.isdisjoint(parts)


def _models_inside(text: str) -> tuple[tuple[int, str], ...]:
    """The LLMs named inside JSON, a Python dict or YAML."""
    found: list[tuple[int, str]] = []
    for match in _PAIR.finditer(text[:MOST_SETTINGS_CHARS]):
        rank_and_name = _models_at(normalise(match["key"]), match["value"].strip())
        found += [each for each in rank_and_name if each[0] == MODEL_RANKS[ModelKind.LLM]]
    return tuple(found)
