"""Texts under names that no profile lists: which of them was asked, and which answers.

They are sorted by their form, by what their names say, and by where they were logged. Without the
name of an LLM only a question counts: one whose name says so, or one with one other text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from migrator.model import RunRecord
from migrator.transformer.found import Found
from migrator.transformer.profile_index import ProfileIndex
from migrator.transformer.prose import Prose, asks, kind_of_text
from migrator.transformer.text_names import (
    ASKED_AT_LAST,
    QUESTIONS,
    SURE_QUESTION_WORDS,
    is_by_model,
    is_given_to_model,
    is_participle,
    number_of_step,
)
from migrator.transformer.unlisted import is_named_by_model, unlisted_texts, written_notes
from migrator.transformer.values import words

USERS = words("user customer client patient student caller visitor guest sender")
"""Words of keys whose texts someone asked or told a model."""

GIVEN = words("transcript transcription document review dialogue body")
"""Words of keys whose texts a model was given to work on,"""

ASKING = QUESTIONS | SURE_QUESTION_WORDS | words("prompt")
"""Words of keys whose text, if it asks, is a question to a model: ``query_as_typed``."""

WORKED_ON = GIVEN | words("article email essay post story")
"""and of those which it was given if an answer stands beside them."""


@dataclass(frozen=True, slots=True)
class LooseTexts:
    """Texts under unlisted names, by what their form says of them."""

    asked: tuple[Found, ...] = ()
    answered: tuple[Found, ...] = ()
    unclear: tuple[Found, ...] = ()  # several texts, none of which asks

    def all(self) -> tuple[Found, ...]:
        """All of them."""
        return (*self.asked, *self.answered, *self.unclear)


NO_TEXTS = LooseTexts()


@dataclass(frozen=True, slots=True)
class KnownParts:
    """What is known of a run's call before its loose texts are read."""

    names_llm: bool
    is_asked: bool = False
    is_answered: bool = False


def loose_texts(run: RunRecord, index: ProfileIndex, known: KnownParts) -> LooseTexts:
    """The texts of a run under unlisted names, as far as they complete what is known.

    Without the name of an LLM only a question counts: one whose name says so, or one with one other
    text.
    """
    texts = unlisted_texts(run, index)
    if not texts and known.is_asked and known.names_llm and not known.is_answered:
        notes = written_notes(run, index)
        return LooseTexts(answered=notes) if len(notes) == 1 else NO_TEXTS
    if not texts:
        return NO_TEXTS
    if known.is_answered:
        asked = _by_form(texts).asked or _worked_on(texts)
        return LooseTexts(asked=asked or (_only_param(texts) if known.names_llm else ()))
    if known.is_asked:
        texts = tuple(found for found in texts if not is_given_to_model(found))
        answered = _by_model(texts)[:1]
        if known.names_llm and (last := _last_step(texts)) is not None:
            answered = (last,)
        if not answered and known.names_llm:
            answered = _by_form(texts).answered
        return LooseTexts(answered=answered)
    if known.names_llm:
        return _by_form(texts)
    questions = _questions(texts)
    others = tuple(found for found in texts if found not in questions)
    if len(questions) == len(others) == 1:
        return LooseTexts(questions, others)
    named = tuple(found for found in questions if _is_named(found, ASKING))
    return LooseTexts(asked=named) if len(named) == 1 else NO_TEXTS


def worked_on(run: RunRecord, index: ProfileIndex) -> tuple[Found, ...]:
    """The one text under an unlisted name which says that a model was given it to work on."""
    return _worked_on(unlisted_texts(run, index))


def _by_form(texts: Sequence[Found]) -> LooseTexts:
    """Sort the texts of a run that names an LLM."""
    questions = _questions(texts)
    others = tuple(found for found in texts if found not in questions)
    by_model = _by_model(others)
    if questions:
        others = tuple(found for found in others if not is_given_to_model(found))
        last = _last_step(others)
        answered = (last,) if last is not None else by_model or others
        return LooseTexts(questions[:1], answered[:1])
    if len(others) == 1:
        return _of_one(others[0])
    if len(others) == 2:
        for rule in PAIR_RULES:
            if len(asked := rule(others)) == 1:
                return LooseTexts(asked, tuple(found for found in others if found not in asked))
    if (last := _last_step(others)) is not None:
        return LooseTexts(answered=(last,))
    if len(by_model) == 1:
        return LooseTexts(answered=by_model, unclear=tuple(e for e in others if e not in by_model))
    return LooseTexts(unclear=others)


def _of_one(text: Found) -> LooseTexts:
    """A text alone: asked if it requests something, or if its name says so."""
    is_request = kind_of_text(str(text.value)) is Prose.REQUEST and not is_by_model(text)
    is_given = _is_named(text, USERS | GIVEN | ASKED_AT_LAST)
    is_input = is_request or (is_given and not is_named_by_model(text.key))
    return LooseTexts(asked=(text,)) if is_input else LooseTexts(answered=(text,))


def _worked_on(texts: Sequence[Found]) -> tuple[Found, ...]:
    """The one text whose name says that a model was given it to work on."""
    given = [found for found in texts if _is_named(found, WORKED_ON)]
    return tuple(given) if len(given) == 1 else ()


def _only_param(texts: Sequence[Found]) -> tuple[Found, ...]:
    """The one text in a param or tag whose name does not say that a model wrote it."""
    params = [found for found in _params(texts) if not is_named_by_model(found.key)]
    return tuple(params) if len(params) == 1 else ()


def _is_named(found: Found, nouns: frozenset[str]) -> bool:
    """Whether a name has one of some nouns, in singular or plural."""
    return any(part in nouns or part.removesuffix("s") in nouns for part in found.stem.split("_"))


def _unchanged(texts: Sequence[Found]) -> tuple[Found, ...]:
    """The texts whose names have no participle: the ``original`` beside the ``simplified``."""
    return tuple(found for found in texts if not _is_made_of_another(found))


def _is_made_of_another(found: Found) -> bool:
    return any(map(is_participle, found.stem.split("_")))


def _requests(texts: Sequence[Found]) -> tuple[Found, ...]:
    return tuple(found for found in texts if kind_of_text(str(found.value)) is Prose.REQUEST)


def _params(texts: Sequence[Found]) -> tuple[Found, ...]:
    """What was given is a param or a tag, and what was made a file."""
    return tuple(found for found in texts if found.place != "artifact")


def _recorded(texts: Sequence[Found]) -> tuple[Found, ...]:
    """Transcripts and documents. An ``email_body`` is written by models, too."""
    return tuple(found for found in texts if _is_named(found, GIVEN - {"body"}))


PAIR_RULES: tuple[Callable[[Sequence[Found]], tuple[Found, ...]], ...] = (
    _recorded,
    _params,
    _worked_on,
    _unchanged,
    _requests,
)
"""Rules that find what was asked among two texts. The first one that finds one text decides."""


def _last_step(texts: Sequence[Found]) -> Found | None:
    """The text of the last step or version, where all but one of several texts are numbered so."""
    numbered = [(number, found) for found in texts if (number := number_of_step(found)) is not None]
    if len(numbered) < 2 or len(numbered) < len(texts) - 1:
        return None
    return max(numbered, key=lambda each: each[0])[1]


def _questions(texts: Sequence[Found]) -> tuple[Found, ...]:
    return tuple(found for found in texts if asks(str(found.value)))


def _by_model(texts: Sequence[Found]) -> tuple[Found, ...]:
    return tuple(found for found in texts if is_named_by_model(found.key))
