"""Verdicts: the closed set of values that say yes or no. Everything else is not a verdict."""

from __future__ import annotations

import re
import unicodedata

from migrator.model import Json

YES = frozenset(
    {
        "yes", "y", "true", "1", "1.0", "👍", "thumbs up", "thumb up", "thumbsup", "up", "positive",
        "like", "liked", "helpful", "useful", "good", "correct", "pass", "passed",
    }
)  # fmt: skip
NO = frozenset(
    {
        "no", "n", "false", "0", "0.0", "👎", "thumbs down", "thumb down", "thumbsdown", "down",
        "negative", "dislike", "disliked", "not helpful", "unhelpful", "not useful", "not good",
        "bad", "not correct", "incorrect", "wrong", "fail", "failed",
    }
)  # fmt: skip

_SEPARATORS = re.compile(r"(?<=\w)[\s_-]+(?=\w)")
_THUMBS = re.compile("[👍👎]")
_EMOJI_VARIANTS = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff]")  # presentation and skin tone


def verdict(value: Json) -> bool | None:
    """Read a whole value as yes (True) or no (False); None when it is neither.

    The numbers 1 and 0 are verdicts. In text, case, surrounding space and closing ``.`` or ``!``
    do not matter, and a space, ``_`` and ``-`` between words are the same. A thumb before or after
    a word, as on a button (``👍 Yes``), is part of the verdict if it says the same. A sentence that
    holds one of the words is not a verdict.
    """
    if isinstance(value, (bool, int, float)):
        return bool(value) if value in (0, 1) else None
    if not isinstance(value, str):
        return None
    text = plain_words(value)
    thumbs = set(_THUMBS.findall(text))
    rest = plain_words(_THUMBS.sub(" ", text))
    said = thumbs | {rest} if rest else thumbs
    if said and said <= YES:
        return True
    return False if said and said <= NO else None


def plain_words(text: str) -> str:
    """Bring a short text into the form in which the words of this module are written."""
    text = _EMOJI_VARIANTS.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return _SEPARATORS.sub(" ", text.strip().rstrip(".!").rstrip())
