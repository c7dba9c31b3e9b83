"""Texts that a run logged as asked: which say the same, which were made of another, their form."""

from __future__ import annotations

import re
from collections.abc import Mapping

from migrator import encoding
from migrator.model import Json
from migrator.transformer.chat_messages import messages_of
from migrator.transformer.found import Found
from migrator.transformer.payloads import is_chat_log
from migrator.transformer.python_repr import parse_value

SYSTEM_STEMS = frozenset({"system_prompt", "system_message", "system"})
LEAST_WORDS_CUT = 6  # so many words that end within one are the beginning of a longer text
LEAST_CUT = 50  # loggers cut texts at 100, 200, 250 or 500 characters
LEAST_FIXED = 10  # so many characters of a template are not its blanks
_BLANK = re.compile(r"\{\{?[^{}\n]{1,40}\}\}?")
LEAST_QUOTED_WORDS = 2  # a single word of a question may stand anywhere


def is_new(text: str, stem: str, parts: Mapping[str, Found]) -> bool:
    """Whether a text says something that the parts found so far do not say."""
    if not text.strip() or stem in parts:
        return False
    return not any(is_same_text(text, part.value) for part in parts.values())


def renderings_of(parts: Mapping[str, Found]) -> tuple[Found, ...]:
    """The parts of an input that hold all the text of another that is not a system prompt."""
    asked = [
        found
        for stem, found in parts.items()
        if stem not in SYSTEM_STEMS
        and isinstance(found.value, str)
        and len(found.value.split()) >= LEAST_QUOTED_WORDS
    ]
    return tuple(
        found for found in parts.values() if any(_is_made_of(found, other) for other in asked)
    )


def _is_made_of(prompt: Found, asked: Found) -> bool:
    """Whether a text holds all of another, and more."""
    if not isinstance(prompt.value, str) or not isinstance(asked.value, str):
        return False
    return len(prompt.value) > len(asked.value) and asked.value.strip() in prompt.value


def templates_of(parts: Mapping[str, Found]) -> list[str]:
    """The keys of the parts from which another was made by filling their blanks."""
    texts = {
        stem: found.value.strip() for stem, found in parts.items() if isinstance(found.value, str)
    }
    return [
        stem
        for stem, template in texts.items()
        if _BLANK.search(template)
        and any(_is_filled(template, other) for name, other in texts.items() if name != stem)
    ]


def _is_filled(template: str, text: str) -> bool:
    """Whether a text has all that stands between the blanks of a template, in that order."""
    pieces = _BLANK.split(template)
    if len("".join(pieces)) < LEAST_FIXED or not text.startswith(pieces[0]):
        return False
    at = 0
    for piece in pieces:
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return text.endswith(pieces[-1])


def joined(parts: Mapping[str, Found]) -> Json:
    """Join the parts of an input: as a chat if they are one, else as an object by their stems."""
    if len(parts) == 1:
        (only,) = parts.values()
        if encoding.is_chat(only.value):
            return {"messages": only.value}
    values = {stem: found.value for stem, found in parts.items()}
    framing = [stem for stem in values if stem in SYSTEM_STEMS]
    asked = [stem for stem in values if stem not in SYSTEM_STEMS]
    if (chat := framed_chat(values)) is not None:
        return {"messages": chat}
    return {stem: values[stem] for stem in (*asked, *framing)}  # what was asked comes first


def framed_chat(values: Mapping[str, Json]) -> Json:
    """A chat of a system prompt and one other text, by normalised keys; None for anything else."""
    framing = [text for stem, text in values.items() if stem in SYSTEM_STEMS]
    asked = [text for stem, text in values.items() if stem not in SYSTEM_STEMS]
    if len(framing) != 1 or len(asked) != 1 or not isinstance(asked[0], str):
        return None
    return [{"role": "system", "content": framing[0]}, {"role": "user", "content": asked[0]}]


def is_same_text(text: str, other: Json) -> bool:
    """Whether two texts are the same one, be it that a logger cut one of them."""
    if not isinstance(other, str):
        return False
    a, b = text.strip(), other.strip()
    return a == b or _is_cut_of(a, b) or _is_cut_of(b, a)


def _is_cut_of(cut: str, full: str) -> bool:
    """Whether a text is the beginning of another, cut where a logger cuts ("…...")."""
    if cut.endswith("...") and len(cut) > 20:
        return full.startswith(cut[:-3])
    if len(cut) >= len(full) or not full.startswith(cut):
        return False
    is_in_word = cut[-1:].isalnum() and full[len(cut)].isalnum()
    is_cut_off = len(cut) >= LEAST_CUT and len(cut) % LEAST_CUT == 0
    return is_cut_off or (is_in_word and len(cut.split()) >= LEAST_WORDS_CUT)


def cut_part(text: str, stem: str, parts: Mapping[str, Found]) -> str | None:
    """The part that is only the beginning of a text; None: there is none."""
    for name, part in parts.items():
        known = part.value
        if not isinstance(known, str) or not 0 < len(known) < len(text):
            continue
        is_beginning = name == stem and text.startswith(known)
        if is_beginning or _is_cut_of(known.strip(), text.strip()):
            return name
    return None


def as_chat_if_one(value: Json) -> Json:
    """A chat that was logged as text, in the form of MLflow's chats; anything else unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    parsed = parse_value(value)
    if encoding.is_chat(parsed):
        return parsed
    return [each.as_chat() for each in messages_of(parsed)] if is_chat_log(parsed) else value
