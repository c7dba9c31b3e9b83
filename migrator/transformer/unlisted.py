"""Values of a run under names that its profile does not list: whole calls, and texts.

They count for less than listed ones: a whole call is known by its shape, and a text is taken for
part of a call only beside the name of an LLM, or as a question and an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from migrator.model import RunRecord
from migrator.transformer.found import Found
from migrator.transformer.logged_tables import tables_by_tag
from migrator.transformer.payloads import (
    answer_of,
    only_row,
    parsed_payload,
    parts_of,
    response_facts,
)
from migrator.transformer.profile_index import ProfileIndex, shape_of
from migrator.transformer.profiles import UNLISTED, may_hold_call, normalise
from migrator.transformer.prose import Prose, asks, kind_of_text
from migrator.transformer.values import parse_json, transcript, words

LAST = 1_000_000  # rank of what a profile does not list
NOT_A_TEXT_OF_CALLS = words(
    "error exception commit status log template expected reference ground gold golden target truth "
    "judge default max min description desc note notes comment comments remark remarks reason "
    "purpose hypothesis conclusion changes changelog title abstract readme docs license citation "
    "command cmd code sql script source path file dir folder url uri schema config settings "
    "feature features column columns label labels dataset data class classes author team project "
    "experiment prompt prompts system persona instructions version variant warning traceback stack"
)
"""Words of keys whose texts no user asked and no model answered."""

OF_THE_MODEL = words("generated predicted answer response reply output")
"""Words of keys whose value the model wrote, be it code, SQL or data."""
CODE = words("sql code script command cmd")
LEAST_CODE_WORDS = 4

USERS = words("user customer client patient student caller visitor guest sender")
"""Words of keys whose texts someone asked or told a model."""

PLATFORM_TAGS = ("mlflow.", "azureml.", "_azureml.", "_aml_", "_databricks")
"""Beginnings of tags that say where a run ran, Azure's with the pipeline's parameters."""

TEXT_FILES = (".txt", ".md")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value that a field gets, below all that the profile lists for it."""

    field: str
    found: Found


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


def call_entries(run: RunRecord, index: ProfileIndex, *, is_table_a_call: bool) -> list[Entry]:
    """What whole calls in values under unlisted names give to the fields.

    ``is_table_a_call``: whether a table with one row is one.
    """
    if not index.lists(UNLISTED):
        return []
    entries: list[Entry] = []
    for place, key, text in _unlisted(run, index):
        if place == "artifact" and not may_hold_call(key):
            continue
        value = parsed_payload(text)
        if is_table_a_call:
            value = only_row(value)
        if value is not None:
            for part in parts_of(value, index.fields_of_param):
                entries.append(Entry(part.field, Found(part.value, place, key, part.inside)))
        elif "\n" in text and transcript(text)[1] is not None:
            entries.append(Entry("calls", Found(text, place, key)))
    return entries


def facts_of_responses(founds: Sequence[Found]) -> list[Entry]:
    """Model and tokens of listed values that are the bodies of an API's responses."""
    entries: list[Entry] = []
    for found in founds:
        body = parse_json(found.value) if isinstance(found.value, str) else found.value
        if isinstance(body, dict) and answer_of(body) is not None:
            for part in response_facts(body):
                entries.append(
                    Entry(part.field, Found(part.value, found.place, found.key, part.inside))
                )
    return entries


def loose_texts(run: RunRecord, index: ProfileIndex, *, names_llm: bool) -> LooseTexts:
    """The texts of a run under unlisted names.

    Without the name of an LLM only one question with one other text counts.
    """
    if not index.lists(UNLISTED):
        return NO_TEXTS
    texts: list[Found] = []
    for place, key, text in _unlisted(run, index):
        if _may_be_text(text) and not is_about_something_else(place, key):
            kind = kind_of_text(text)
            is_text = kind >= Prose.PROSE or (kind and (asks(text) or not text.isascii()))
            if is_text or (kind is Prose.NOTHING and _is_written_code(key, text)):
                texts.append(Found(text, place, key))
    questions = tuple(found for found in texts if asks(str(found.value)))
    others = tuple(found for found in texts if found not in questions)
    if not names_llm:
        is_pair = len(questions) == len(others) == 1
        return LooseTexts(questions, others) if is_pair else NO_TEXTS
    if questions:
        return LooseTexts(questions[:1], others[:1])
    requests = [found for found in others if kind_of_text(str(found.value)) is Prose.REQUEST]
    if len(others) == 2 and len(requests) == 1:
        return LooseTexts(tuple(requests), tuple(each for each in others if each not in requests))
    if len(others) == 1:
        is_request = kind_of_text(str(others[0].value)) is Prose.REQUEST
        is_of_user = not USERS.isdisjoint(others[0].stem.split("_"))
        return LooseTexts(asked=others) if is_request or is_of_user else LooseTexts(answered=others)
    return LooseTexts(unclear=others)


def _unlisted(run: RunRecord, index: ProfileIndex) -> Iterator[tuple[str, str, str]]:
    """Place, key and text of params, tags and read files that no field lists."""
    unlisted = index.program(shape_of(run)).unlisted
    for key in unlisted["param"]:
        yield "param", key, run.params[key]
    for key in unlisted["tag"]:
        if not key.startswith(PLATFORM_TAGS):
            yield "tag", key, run.tags[key]
    for path in index.files(tuple(run.texts), tables_by_tag(run)).unlisted:
        yield "artifact", path, run.texts[path]


def _is_written_code(key: str, text: str) -> bool:
    """Whether code or data stands under a name that says that the model wrote it."""
    is_named = not OF_THE_MODEL.isdisjoint(normalise(key).split("_"))
    return is_named and len(text.split()) >= LEAST_CODE_WORDS


def _may_be_text(text: str) -> bool:
    """A quick look: a text has several words, or letters of a script without spaces."""
    return len(text) >= 4 and (" " in text or not text.isascii())


@lru_cache(maxsize=10_000)
def is_about_something_else(place: str, key: str) -> bool:
    if place == "artifact":
        is_text_file = key.lower().endswith(TEXT_FILES)
        if not is_text_file or not may_hold_call(key):
            return True
        key = key.rpartition("/")[2].rpartition(".")[0]
    parts = set(normalise(key).split("_"))
    if not OF_THE_MODEL.isdisjoint(parts):
        parts -= CODE
    return not NOT_A_TEXT_OF_CALLS.isdisjoint(parts)
