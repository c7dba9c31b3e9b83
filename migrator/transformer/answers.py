"""Which of a run's values is its answer, by what is known of the names and the values.

The sources that a profile lists come first (``find_answers``). ``structured_answer`` and
``answer_in_note`` are what is left where no text answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from migrator.conventions import NOTE
from migrator.model import Json, RunRecord
from migrator.transformer.chat_messages import Turn
from migrator.transformer.found import Found
from migrator.transformer.loose_texts import worked_on
from migrator.transformer.media import descriptions_of, media_of
from migrator.transformer.model_names import ModelKind, kind_of_model
from migrator.transformer.payloads import are_texts_by_key, texts_in
from migrator.transformer.profile_index import ProfileIndex
from migrator.transformer.profiles import Profile, normalise
from migrator.transformer.prose import Prose, is_statement, kind_of_text
from migrator.transformer.text_names import (
    PREDICTED_WORDS,
    SHORT_ANSWERS,
    USER_WORDS,
    draft_rank,
    is_by_model,
    is_chat_with_question,
    is_check,
    is_for_next_step,
    is_given_to_model,
    is_neither,
    is_no_answer,
    is_product,
    messages_at,
    number_of_step,
    retrieval_key,
)
from migrator.transformer.unlisted import logged_objects, statements

_LONG_WORD = re.compile(r"\w{5,}")


class Reading(Protocol):
    """What is asked of a run that is read through a profile (``run_view.RunView``)."""

    run: RunRecord
    profile: Profile
    index: ProfileIndex

    def every(self, name: str) -> Sequence[Found]: ...

    def ranked(self, name: str) -> list[tuple[int, Found]]: ...

    def best_of(self, ranked: Sequence[tuple[int, Found]]) -> tuple[Found, ...]: ...

    def maybe(self, name: str, least: Prose = ...) -> list[Found]: ...

    def number(self, name: str) -> tuple[float, Found] | None: ...

    def model(self) -> Found | None: ...

    def turn(self) -> tuple[Turn, Found] | None: ...

    def listed_inputs(self) -> tuple[Json, tuple[Found, ...]]: ...


def find_answers(view: Reading) -> tuple[Found, ...]:
    """The values that the outputs are made of: of a chat's history only the run's answer."""
    ranked = view.ranked("outputs")
    histories = [each for each in ranked if messages_at(each[1])]
    ranked = [each for each in ranked if each not in histories]
    of_tools = [each for each in ranked if is_given_to_model(each[1])]
    listed = view.best_of([each for each in ranked if each not in of_tools])
    if listed:
        uncertain = view.maybe("maybe_outputs") if len(listed) > 1 else []
        final = [found for found in (*listed, *uncertain) if draft_rank(found) == 0]
        return tuple(final[:1]) if final else listed
    if candidates := _uncertain_answers(view):
        return (min(candidates, key=_rank),)
    if names_llm(view) and media_of(view.run) and (described := descriptions_of(view.run)):
        return described[:1]
    if (turn := view.turn()) is not None and turn[0].answer is not None:
        return (turn[1]._replace(value=turn[0].answer),)
    others = [*histories, *view.ranked("maybe_outputs")]
    unasked = [each for each in others if _is_without_question(each[1])]
    if not unasked and not _is_llm_asked(view):
        return view.best_of(of_tools)
    return view.best_of(unasked)


def _is_llm_asked(view: Reading) -> bool:
    """Whether the run is a question to an LLM, and not the work of a tool."""
    asked = view.listed_inputs()[1]
    return any(not is_given_to_model(found) for found in asked) and names_llm(view)


def _is_without_question(found: Found) -> bool:
    return bool(messages_at(found)) and not is_chat_with_question(found)


def _uncertain_answers(view: Reading) -> list[Found]:
    """The values under uncertain names that may be the answer, and do not repeat the question."""
    given = view.listed_inputs()[1]
    least = Prose.WORD if given else Prose.TERMS
    texts = [found for found in view.maybe("maybe_outputs") if not messages_at(found)]
    by_model = [found for found in view.maybe("maybe_inputs") if is_by_model(found)]
    asked = {found.value for found in given if isinstance(found.value, str)}
    candidates = [*texts, *by_model, *short_answers(view, least), *_statements(view, given)]
    if _is_llm_asked(view):
        candidates = [found for found in candidates if not is_given_to_model(found)]
    if retrieval_key(view.run) is not None:
        candidates = [found for found in candidates if not is_for_next_step(found)]
    last = _last_step(view)
    return [
        found
        for found in candidates
        if not (isinstance(found.value, str) and found.value in asked)
        and not (number_of_step(found) or last) < last
    ]


def _last_step(view: Reading) -> int:
    """The greatest number of a step or version among the names of the run's files; 0: none."""
    files = (Found(None, "artifact", path) for path in view.run.texts)
    return max((number_of_step(found) or 0 for found in files), default=0)


def short_answers(view: Reading, least: Prose) -> list[Found]:
    """A few words under the name of an answer, beside the name of an LLM."""
    if not names_llm(view):
        return []
    by_model = [found for found in view.maybe("maybe_inputs", least) if is_by_model(found)]
    named = [
        found
        for found in view.maybe("maybe_outputs", least)
        if found.stem.rpartition("_")[2] in SHORT_ANSWERS
    ]
    return [*named, *by_model]


def has_short_answer(view: Reading) -> bool:
    """Whether a few words are an answer, or one word beside what was asked in the same object."""
    if short_answers(view, Prose.TERMS):
        return True
    files = {found.key for found in view.every("maybe_inputs") if found.is_of_call}
    return any(found.is_of_call and found.key in files for found in short_answers(view, Prose.WORD))


def _statements(view: Reading, given: tuple[Found, ...]) -> list[Found]:
    """SQL and the like under any name, beside a question in words."""
    is_asked_in_words = any(
        isinstance(found.value, str) and not _is_statement(found) for found in given
    )
    if not is_asked_in_words:
        return []
    uncertain = [*view.every("maybe_inputs"), *view.every("maybe_outputs")]
    named = [
        found
        for found in uncertain
        if found not in given and not is_neither(found) and _is_statement(found)
    ]
    return [*named, *statements(view.run, view.index)]


def _is_statement(found: Found) -> bool:
    return isinstance(found.value, str) and is_statement(found.value)


def _rank(found: Found) -> int:
    """0 for an answer that is called final, 2 for what came before the answer."""
    rank = draft_rank(found)
    return 1 if rank == 2 and _is_statement(found) else rank  # sql_query


def structured_answer(view: Reading) -> tuple[Found, ...]:
    """The one JSON value that is an answer, where no text is: counted, named, or all of texts."""
    if view.profile.steps is not None:
        return ()
    objects = _objects(view)
    counted = view.number("output_tokens")
    if counted is not None and counted[0] > 0 and len(objects) == 1:
        return tuple(objects)
    products = [found for found in objects if is_product(found.stem)]
    made = [found for found in products if not is_check(found.stem)] or products
    if len(made) == 1 and _is_product_of_llm(view, made[0]):
        return tuple(made)
    if not view.listed_inputs()[1]:
        return ()
    by_key = [found for found in objects if are_texts_by_key(found.value) and not _asks(found)]
    if len(by_key) == 1:
        return tuple(by_key)
    named = [found for found in view.every("maybe_outputs") if _is_response_of_llm(view, found)]
    return tuple(named) if len(named) == 1 else ()


def _asks(found: Found) -> bool:
    """Whether a value is what was asked, by its name: ``questions.json``."""
    return not USER_WORDS.isdisjoint(found.stem.split("_"))


def _is_response_of_llm(view: Reading, found: Found) -> bool:
    """Whether an object or list is what an LLM answered, by the name of its file."""
    is_data = isinstance(found.value, Mapping | list) and bool(found.value)
    is_named_so = found.place == "artifact" and found.stem.rpartition("_")[2] in SHORT_ANSWERS
    if not is_data or not is_named_so or is_no_answer(found):
        return False
    return names_llm(view) and not is_given_to_model(found)


def _objects(view: Reading) -> list[Found]:
    """The JSON objects that may be an answer; if some are called final, only those."""
    given = view.listed_inputs()[1]
    objects = [
        found
        for found in (*view.every("maybe_outputs"), *logged_objects(view.run, view.index))
        if found not in given and isinstance(found.value, Mapping)
    ]
    final = [found for found in objects if draft_rank(found) == 0]
    return final or objects


def _is_product_of_llm(view: Reading, product: Found) -> bool:
    """Whether an LLM made an object: the run names one, or it says more than the text it is of."""
    texts = texts_in(product.value)
    if names_llm(view):
        least = Prose.PROSE if is_check(product.stem) else Prose.WORD
        return any(kind_of_text(text) >= least for text in texts)
    sentences = [text for text in texts if kind_of_text(text) >= Prose.PROSE]
    given = worked_on(view.run, view.index)
    return bool(given) and any(text not in str(given[0].value) for text in sentences)


def predicted_class(view: Reading) -> tuple[Found, ...]:
    """The one class that an LLM found, by the name of a param or tag."""
    if not names_llm(view):
        return ()
    classes: list[Found] = []
    for place, values in (("param", view.run.params), ("tag", view.run.tags)):
        for key, text in values.items():
            is_named_so = not PREDICTED_WORDS.isdisjoint(normalise(key).split("_"))
            if is_named_so and kind_of_text(text) in (Prose.WORD, Prose.TERMS):
                classes.append(Found(text, place, key))
    return tuple(classes) if len(classes) == 1 else ()


def answer_in_note(view: Reading) -> tuple[Found, ...]:
    """The note of a run that was asked something, if the note speaks of that."""
    note = view.run.tags.get(NOTE, "")
    if kind_of_text(note) < Prose.PROSE:
        return ()
    said = _long_words(note)
    for found in view.listed_inputs()[1]:
        if isinstance(found.value, str) and not said.isdisjoint(_long_words(found.value)):
            return (Found(note, "tag", NOTE),)
    return ()


def _long_words(text: str) -> frozenset[str]:
    return frozenset(_LONG_WORD.findall(text.casefold()))


def names_llm(view: Reading) -> bool:
    """Whether the run names a model of a known family of LLMs."""
    model = view.model()
    return model is not None and kind_of_model(str(model.value)) is ModelKind.LLM
