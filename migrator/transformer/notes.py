"""Notes: texts in which headings say what was asked and what was answered.

Headings are lines such as ``Question: …``, ``Q: …``, ``**Answer:** …``, ``## User query``,
``=== RESPONSE ===`` and ``[Prompt]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from migrator.transformer.profiles import normalise
from migrator.transformer.values import words

ASKED = words(
    "question query prompt user human customer input request instruction instructions q "
    "pregunta pergunta frage domanda"
)
ANSWERED = words(
    "answer response output assistant agent bot chatbot ai reply completion a reponse respuesta "
    "resposta antwort risposta"
)
OTHERS = words(
    "sources source context contexts documents metadata latency time duration timestamp date model "
    "tokens cost session top_k system score scores rating feedback evaluation confidence settings "
    "parameters"
)
"""Headings of other sections, which end an answer."""

LOOKED_UP = words("sources source context contexts documents")
"""Those of them that may have more words: ``Retrieved context``."""

EXPECTED = words("expected correct truth reference gold golden target")
"""Words of the headings of what the answer should have been."""

JUDGED = EXPECTED | words("score scores rating feedback evaluation")
"""Words of headings that stand beside the cases of an evaluation."""

INITIALS = words("q a")
MOST_WORDS = 3  # of a heading
MOST_LINES_BEFORE = 4  # a title and the like; a longer text before the question is not a note

_NAME = r"(?P<name{0}>[^\W\d_][\w /'-]{{0,39}}?)"
_HEADING = re.compile(
    "|".join(
        (
            rf"^[ \t]*#{{1,6}}[ \t]+(?:\d+[.)][ \t]*)?\**{_NAME.format(1)}\**[ \t]*:?\**[ \t]*$",
            rf"^[ \t]*[=~*-]{{2,}}[ \t]*{_NAME.format(2)}[ \t]*:?[ \t]*[=~*-]{{2,}}[ \t]*$",
            rf"^[ \t]*\[{_NAME.format(3)}\][ \t]*:?[ \t]*",
            rf"^[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)?(?:#{{1,6}}[ \t]+)?\*{{0,2}}{_NAME.format(4)}"
            r"[ \t]*(?::\*\*|\*\*[ \t]*:|:)[ \t]*",
        )
    ),
    re.MULTILINE,
)

_RULES = re.compile(r"\A[ \t]*[=~*_-]{3,}[ \t]*(?:\n|\Z)|(?:\n|\A)[ \t]*[=~*_-]{3,}[ \t]*\Z")
"""Lines between sections: ``----``."""


class NotedTurn(NamedTuple):
    """What a note says that was asked and answered, by its (normalised) headings."""

    asked: Mapping[str, str]
    answered_under: str
    answer: str
    turns: int = 1  # so many the note has, of which this is the last
    are_judged: bool = False  # it has scores, or says what was expected


class _Section(NamedTuple):
    name: str  # normalised
    text: str


def noted_turn(text: str) -> NotedTurn | None:
    """Find what was asked and answered in a note; None unless it has a question and its answer.

    Of several turns it is the last one that has an answer.
    """
    asked: dict[str, str] = {}
    turns: list[NotedTurn] = []
    is_answered = False
    sections = list(_sections(text))
    for section in sections:
        kind = _kind(section.name)
        if kind is ASKED and (is_answered or section.name in asked):
            asked, is_answered = {}, False
        if kind is ASKED:
            asked[section.name] = section.text
        elif kind is ANSWERED and asked and not is_answered:
            turns.append(NotedTurn(asked, section.name, section.text))
            is_answered = True
    if not turns:
        return None
    are_judged = any(not JUDGED.isdisjoint(each.name.split("_")) for each in sections)
    return turns[-1]._replace(turns=len(turns), are_judged=are_judged)


def _sections(text: str) -> Iterator[_Section]:
    """Yield the sections of a note that have a text; nothing if much stands before the first."""
    marks = [mark for mark in _HEADING.finditer(text) if _kind(_name(mark)) is not None]
    if not {_name(mark) for mark in marks} >= INITIALS:  # "A:" of "B:" and "C:" is a choice
        marks = [mark for mark in marks if _name(mark) not in INITIALS]
    kinds = [_kind(_name(mark)) for mark in marks]
    if ASKED not in kinds or ANSWERED not in kinds:
        return
    before = text[: marks[0].start()].strip()
    if before.count("\n") >= MOST_LINES_BEFORE:
        return
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=True):
        body = _RULES.sub("", text[mark.end() : end].strip()).strip()
        if body:
            yield _Section(_name(mark), body)


def _name(mark: re.Match[str]) -> str:
    """The normalised name in a heading, whatever its form."""
    return normalise(next(filter(None, mark.groups())))


def _kind(name: str) -> frozenset[str] | None:
    """What a section of a name holds: one of the three sets; None for any other heading."""
    parts = [part for part in name.split("_") if not part.isdigit()]  # "Question 1"
    if not parts:
        return None
    last = parts[-1]
    if len(parts) > MOST_WORDS or (last in INITIALS and len(parts) > 1):
        return None
    if name in OTHERS or last in LOOKED_UP or not EXPECTED.isdisjoint(parts):
        return OTHERS
    is_answer = not ANSWERED.isdisjoint(parts)
    if last in ("message", "text", "said"):
        last = parts[0]
    if last in ANSWERED or (is_answer and last in ("result", "text")):
        return ANSWERED
    return ASKED if last in ASKED else None
