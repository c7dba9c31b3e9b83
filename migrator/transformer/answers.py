"""Which of a run's values is its answer, by what is known of the names and the values.

The sources that a profile lists come first (``find_answers``). ``structured_answer`` and
``answer_in_note`` are what is left where no text answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from migrator.transformer.found import Found
from migrator.transformer.model_names import ModelKind, kind_of_model
from migrator.transformer.prose import Prose, is_statement
from migrator.transformer.text_names import (
    SHORT_ANSWERS,
    draft_rank,
    is_by_model,
    is_chat_with_question,
    messages_at,
)
from migrator.transformer.unlisted import logged_objects, statements

if TYPE_CHECKING:
    from migrator.transformer.run_view import RunView


def find_answers(view: RunView) -> tuple[Found, ...]:
    """The values that the outputs are made of: of a chat's history only the run's answer."""
    ranked = view.ranked("outputs")
    histories = [each for each in ranked if messages_at(each[1])]
    listed = view.best_of([each for each in ranked if each not in histories])
    if listed:
        final = [found for found in listed if draft_rank(found) == 0]
        return tuple(final[:1]) if final else listed
    if uncertain := _uncertain_answers(view):
        return (min(uncertain, key=draft_rank),)
    if (turn := view.turn()) is not None and turn[0].answer is not None:
        return (turn[1]._replace(value=turn[0].answer),)
    others = [*histories, *view.ranked("maybe_outputs")]
    unasked = [each for each in others if _is_without_question(each[1])]
    return view.best_of(unasked)


def _is_without_question(found: Found) -> bool:
    return bool(messages_at(found)) and not is_chat_with_question(found)


def _uncertain_answers(view: RunView) -> list[Found]:
    """The values under uncertain names that may be the answer, and do not repeat the question."""
    given = view.listed_inputs()[1]
    least = Prose.WORD if given else Prose.TERMS
    texts = [found for found in view.maybe("maybe_outputs") if not messages_at(found)]
    by_model = [found for found in view.maybe("maybe_inputs") if is_by_model(found)]
    asked = {found.value for found in given if isinstance(found.value, str)}
    candidates = [*texts, *by_model, *short_answers(view, least), *_statements(view, given)]
    return [
        found
        for found in candidates
        if not isinstance(found.value, str) or found.value not in asked
    ]


def short_answers(view: RunView, least: Prose) -> list[Found]:
    """A few words under the name of an answer, beside the name of an LLM."""
    if not names_llm(view):
        return []
    return [
        found
        for found in view.maybe("maybe_outputs", least)
        if found.stem.rpartition("_")[2] in SHORT_ANSWERS
    ]


def _statements(view: RunView, given: tuple[Found, ...]) -> list[Found]:
    """SQL and the like under any name, beside a question in words."""
    is_asked_in_words = any(
        isinstance(found.value, str) and not is_statement(found.value) for found in given
    )
    if not is_asked_in_words:
        return []
    uncertain = [*view.every("maybe_inputs"), *view.every("maybe_outputs")]
    named = [
        found
        for found in uncertain
        if found not in given and isinstance(found.value, str) and is_statement(found.value)
    ]
    return [*named, *statements(view.run, view.index)]


def structured_answer(view: RunView) -> tuple[Found, ...]:
    """The one JSON object that the run logged, where tokens of an answer were counted."""
    counted = view.number("output_tokens")
    if counted is None or counted[0] <= 0 or view.profile.steps is not None:
        return ()
    given = view.listed_inputs()[1]
    objects = [
        found
        for found in (*view.every("maybe_outputs"), *logged_objects(view.run, view.index))
        if found not in given and isinstance(found.value, Mapping)
    ]
    return (objects[0],) if len(objects) == 1 else ()


def names_llm(view: RunView) -> bool:
    """Whether the run names a model of a known family of LLMs."""
    model = view.model()
    return model is not None and kind_of_model(str(model.value)) is ModelKind.LLM
