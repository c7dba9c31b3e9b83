"""Values of a run under names that its profile does not list: whole calls, and texts.

They count for less than listed ones: a whole call is known by its shape, and a text is taken for
part of a call only beside the name of an LLM, or as a question and an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath

from migrator.model import RunRecord
from migrator.transformer.found import Found
from migrator.transformer.logged_tables import tables_by_tag
from migrator.transformer.model_names import ModelKind, kind_of_model
from migrator.transformer.notes import noted_turn
from migrator.transformer.payloads import (
    USAGES,
    Part,
    answer_of,
    only_row,
    parsed_payload,
    parts_of,
    response_facts,
)
from migrator.transformer.profile_index import ProfileIndex, Shape, shape_of
from migrator.transformer.profiles import UNLISTED, may_hold_call, normalise
from migrator.transformer.prose import Prose, asks, has_latin_word, is_statement, kind_of_text
from migrator.transformer.python_repr import parse_value
from migrator.transformer.text_names import is_by_model, is_product
from migrator.transformer.values import is_error, parse_json, words

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

NOTES = words("description desc note comment comments title abstract script conclusion")
"""Those of them under which a file may hold an answer, where nothing else answers."""

OF_THE_MODEL = words(
    "generated predicted answer response reply output final "
    "ausgabe antwort salida respuesta saida resposta sortie reponse uscita risposta 回答 出力 응답"
)
"""Words of keys whose value the model wrote, be it code, SQL or data."""
CODE = words("sql code script command cmd")
LEAST_CODE_WORDS = 4

PLATFORM_TAGS = ("mlflow.", "azureml.", "_azureml.", "_aml_", "_databricks")
"""Beginnings of tags that say where a run ran, Azure's with the pipeline's parameters."""

TEXT_FILES = (".txt", ".md")
ASKING_FIELDS = ("inputs", "maybe_inputs")
PYTHON_OBJECTS = ("{'", "[{'")
"""Beginnings of what ``str()`` makes of a dict."""

UNSPECIFIC = words("text message content body")
"""Keys in an object that say nothing of who wrote their text."""


TOKEN_KEYS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(
        rf"(?:^|_)(?:(?:{words_of})_tokens?|tokens?_(?:{words_of}))(?:_(?:count|used))?$"
    )
    for name, words_of in {
        "input_tokens": "prompt|input|in",
        "output_tokens": "completion|output|out|response|generated|candidates",
        "total_tokens": "total",
    }.items()
}
"""Last words of metrics that count tokens, by the field."""

TOKEN_WORDS = words("token tokens")
TOKEN_SIDES = {
    "input": "input_tokens", "prompt": "input_tokens", "in": "input_tokens",
    "output": "output_tokens", "completion": "output_tokens", "out": "output_tokens",
}  # fmt: skip
"""Words of such metrics, wherever they stand, by the field."""

OF_MANY_CALLS = words(
    "avg average mean median min max std p50 p90 p95 p99 per rate cost usd price train training "
    "judge eval cached estimate estimated limit budget"
)
"""Words of such metrics that say that they count something else."""


_LENGTH = "latency|duration|elapsed|runtime|time|took|wall|clock|total"
DURATION_KEYS: Mapping[str, re.Pattern[str]] = {
    "duration_ms": re.compile(rf"(?:^|_)(?:{_LENGTH})_(?:ms|msec|millis|milliseconds)$"),
    "duration_s": re.compile(rf"(?:^|_)(?:{_LENGTH})_(?:s|sec|secs|seconds)$|(?:^|_)seconds$"),
    "duration_unknown": re.compile(
        r"(?:^|_)(?:latency|duration|elapsed|runtime|turnaround|took|(?<!end_)time)$"
        r"|(?:^|_)time_(?:taken|elapsed|total)$|(?:^|_)latency_(?:total|e2e)$"
    ),
}
"""Last words of metrics that are durations, by the field."""

OF_A_PART = words(
    "retrieval retrieve retriever search embed embedding index indexing load loading rerank audio "
    "video speech stt tts asr timeout first ttft sql db database tool wait queue start startup "
    "begin finish created updated event date last next up train training fit build setup deploy "
    "deployment compile install download upload save export import"
)
"""Words of such metrics that say that they are of a part of the work only, or times of day."""

OF_THE_WHOLE = words("total overall request response workflow pipeline end e2e wall")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value that a field gets, below all that the profile lists for it."""

    field: str
    found: Found


def call_entries(run: RunRecord, index: ProfileIndex, *, is_table_a_call: bool) -> list[Entry]:
    """What whole calls in values under unlisted names give to the fields.

    ``is_table_a_call``: whether a table with one row is one.
    """
    entries: list[Entry] = []
    for place, key, text in _unlisted(run, index):
        is_usual = place == "artifact" and not may_hold_call(key)
        value = parsed_payload(text)
        if value is None and text.startswith(PYTHON_OBJECTS):
            written = parse_value(text)
            value = None if isinstance(written, str) else written
        if is_table_a_call:
            value = only_row(value)
        if value is not None:
            is_by_model = is_named_by_model(key)
            parts = parts_of(value, index.fields_of_param)
            if is_usual:
                parts = _of_own_question(run, parts)
            answers = any(_is_answer(part, place, key) for part in parts)
            is_made = not answers and is_product(PurePath(key).stem)
            for part in parts:
                field = part.field
                if is_made and field in ASKING_FIELDS:
                    continue  # what a model found in a text
                is_unspecific = normalise(part.inside).rpartition("_")[2] in UNSPECIFIC
                if is_by_model and is_unspecific and field in ASKING_FIELDS:
                    field = "maybe_outputs"  # {"text": …} in a response is its text
                entries.append(Entry(field, Found(part.value, place, key, part.inside, True)))
        elif not is_usual and "\n" in text and noted_turn(text) is not None:
            entries.append(Entry("calls", Found(text, place, key)))
    return entries


def _is_answer(part: Part, place: str, key: str) -> bool:
    """Whether a part of an object answers, by its field or by its name: ``translated_text``."""
    found = Found(part.value, place, key, part.inside)
    return part.field.endswith("outputs") or is_by_model(found)


def _of_own_question(run: RunRecord, parts: Sequence[Part]) -> list[Part]:
    """The question and its sure answer in an object, if a param or tag holds that question too."""
    known = {*run.params.values(), *run.tags.values()}
    texts = [part for part in parts if isinstance(part.value, str)]
    asked = [part for part in texts if part.field == "inputs" and part.value in known]
    answered = [part for part in texts if part.field == "outputs"]
    return [*asked, *answered] if asked and answered else []


def facts_of_responses(founds: Sequence[Found]) -> list[Entry]:
    """Model and tokens in listed values that are bodies of an API, or tell of an LLM like those."""
    entries: list[Entry] = []
    for found in founds:
        body = parse_value(found.value) if isinstance(found.value, str) else found.value
        if not isinstance(body, dict):
            continue
        facts = response_facts(body)
        names_llm = any(
            part.field == "model" and kind_of_model(str(part.value)) is ModelKind.LLM
            for part in facts
        )
        has_usage = any(isinstance(body.get(holder), dict) for holder in USAGES)
        if not names_llm and not has_usage and answer_of(body) is None:
            continue
        for part in facts:
            inside = Found(part.value, found.place, found.key, part.inside, True)
            entries.append(Entry(part.field, inside))
    return entries


@lru_cache(1 << 10)
def counts_under_other_names(shape: Shape) -> Mapping[str, str]:
    """The metrics whose last words say which tokens they count, where only one of them does."""
    keys: dict[str, str] = {}
    for name, pattern in TOKEN_KEYS.items():
        matching = [
            key
            for plain, key in shape.spelled["metric"].items()
            if pattern.search(plain) and OF_MANY_CALLS.isdisjoint(plain.split("_"))
        ]
        if len(matching) == 1:
            keys[name] = matching[0]
    return keys


@lru_cache(1 << 10)
def counts_of_steps(shape: Shape) -> Mapping[str, tuple[str, ...]]:
    """The metrics that count the tokens of each of several steps, by the field.

    They come in pairs whose names differ in one word: ``planner_prompt_tokens`` and
    ``planner_completion_tokens``.
    """
    pairs: dict[tuple[str, ...], dict[str, str]] = {}
    for plain, key in shape.spelled["metric"].items():
        parts = plain.split("_")
        sides = [TOKEN_SIDES[part] for part in parts if part in TOKEN_SIDES]
        is_count = not TOKEN_WORDS.isdisjoint(parts) and OF_MANY_CALLS.isdisjoint(parts)
        if is_count and len(sides) == 1:
            step = tuple(part for part in parts if part not in TOKEN_SIDES)
            pairs.setdefault(step, {})[sides[0]] = key
    whole = [pair for pair in pairs.values() if len(pair) == 2]
    return {name: tuple(pair[name] for pair in whole) for name in ("input_tokens", "output_tokens")}


_ERROR_KEY = re.compile(r"(?:^|_)(?:error|exception)$")
_OF_A_MEASURE = words("squared absolute mean standard relative percentage max min root rate margin")


def error_under_other_name(run: RunRecord, shape: Shape) -> Found | None:
    """A param or tag whose last word is that of an error, and whose value tells of one."""
    for place, key in _error_keys(shape):
        text = (run.params if place == "param" else run.tags)[key]
        if len(text.split()) > 1 and is_error(text):
            return Found(text, place, key)
    return None


@lru_cache(1 << 10)
def _error_keys(shape: Shape) -> tuple[tuple[str, str], ...]:
    keys: list[tuple[str, str]] = []
    for place in ("param", "tag"):
        for plain, key in shape.spelled[place].items():
            if _ERROR_KEY.search(plain) and _OF_A_MEASURE.isdisjoint(plain.split("_")):
                keys.append((place, key))
    return tuple(keys)


@lru_cache(1 << 10)
def duration_under_other_name(shape: Shape) -> tuple[str, str] | None:
    """The field and the metric of the whole duration, by the metric's last words.

    None: there is none, or there are several.
    """
    found: list[tuple[str, str, frozenset[str]]] = []
    for plain, key in shape.spelled["metric"].items():
        parts = frozenset(plain.split("_"))
        if parts.isdisjoint(OF_MANY_CALLS) and parts.isdisjoint(OF_A_PART):
            fields = [name for name, pattern in DURATION_KEYS.items() if pattern.search(plain)]
            found += [(name, key, parts) for name in fields]
    whole = [each for each in found if not each[2].isdisjoint(OF_THE_WHOLE)]
    candidates = whole or found
    return candidates[0][:2] if len(candidates) == 1 else None


def logged_objects(run: RunRecord, index: ProfileIndex) -> tuple[Found, ...]:
    """The JSON objects in files that no field lists, as far as their names may be an answer's."""
    objects: list[Found] = []
    for place, key, text in _unlisted(run, index):
        is_file = place == "artifact" and may_hold_call(key)
        if is_file and not _has_other_word(key.rpartition("/")[2].rpartition(".")[0]):
            value = parsed_payload(text)
            if isinstance(value, dict):
                objects.append(Found(value, place, key))
    return tuple(objects)


def statements(run: RunRecord, index: ProfileIndex) -> tuple[Found, ...]:
    """The values under unlisted names that are statements in SQL or Cypher."""
    return tuple(
        Found(text, place, key)
        for place, key, text in _unlisted(run, index)
        if is_statement(text) and _is_only_code(key)
    )


def unlisted_texts(run: RunRecord, index: ProfileIndex) -> tuple[Found, ...]:
    """The values under unlisted names that are texts, or code that the model wrote."""
    texts: list[Found] = []
    for place, key, text in _unlisted(run, index):
        if _may_be_text(text) and not _is_about_something_else(place, key, text):
            kind = kind_of_text(text)
            least = Prose.TERMS if is_named_by_model(key) else Prose.PROSE
            is_foreign = not text.isascii() and (kind > Prose.WORD or not has_latin_word(text))
            is_text = kind >= least or (kind and (asks(text) or is_foreign))
            if is_text or (kind is Prose.NOTHING and is_written_code(key, text)):
                texts.append(Found(text, place, key))
    return tuple(texts)


def written_notes(run: RunRecord, index: ProfileIndex) -> tuple[Found, ...]:
    """The files of prose that are called notes, a description and the like."""
    return tuple(
        Found(text, place, key)
        for place, key, text in _unlisted(run, index)
        if place == "artifact" and _is_of_notes(key) and kind_of_text(text) >= Prose.PROSE
    )


@lru_cache(maxsize=10_000)
def _is_of_notes(path: str) -> bool:
    if not path.lower().endswith(TEXT_FILES) or not may_hold_call(path):
        return False
    parts = set(normalise(path.rpartition("/")[2].rpartition(".")[0]).split("_"))
    return not NOTES.isdisjoint(parts) and (NOT_A_TEXT_OF_CALLS - NOTES).isdisjoint(parts)


def _unlisted(run: RunRecord, index: ProfileIndex) -> Iterator[tuple[str, str, str]]:
    """Place, key and text of params, tags and read files that no field lists.

    Nothing of a profile that does not take such values.
    """
    if not index.lists(UNLISTED):
        return
    unlisted = index.program(shape_of(run)).unlisted
    for key in unlisted["param"]:
        yield "param", key, run.params[key]
    for key in unlisted["tag"]:
        if not key.startswith(PLATFORM_TAGS):
            yield "tag", key, run.tags[key]
    for path in index.files(tuple(run.texts), tables_by_tag(run)).unlisted:
        yield "artifact", path, run.texts[path]


def is_named_by_model(key: str) -> bool:
    """Whether a key or path says that the model wrote what it holds."""
    return not OF_THE_MODEL.isdisjoint(normalise(key).split("_"))


def is_written_code(key: str, text: str) -> bool:
    """Whether code or data stands under a name that says that the model wrote it."""
    return is_named_by_model(key) and len(text.split()) >= LEAST_CODE_WORDS


def _may_be_text(text: str) -> bool:
    """A quick look: a text has several words, or letters of a script without spaces."""
    return len(text) >= 4 and (" " in text or not text.isascii())


def _is_about_something_else(place: str, key: str, text: str) -> bool:
    if key.lower().endswith(".json") and parse_json(text) is text:  # a text with a wrong ending
        key = f"{key[:-5]}.txt"
    return is_about_something_else(place, key)


@lru_cache(maxsize=10_000)
def is_about_something_else(place: str, key: str) -> bool:
    if place == "artifact":
        is_text_file = key.lower().endswith(TEXT_FILES) or is_named_by_model(key)
        if not is_text_file or not may_hold_call(key):
            return True
        key = key.rpartition("/")[2].rpartition(".")[0]
    return _has_other_word(key)


def _has_other_word(name: str) -> bool:
    """Whether a word of a name says that what it holds was neither asked nor answered."""
    parts = set(normalise(name).split("_"))
    if not OF_THE_MODEL.isdisjoint(parts):
        parts -= CODE | {"system"}
    return not NOT_A_TEXT_OF_CALLS.isdisjoint(parts)


def _is_only_code(name: str) -> bool:
    """Whether no word of a name but those of code says that it was neither asked nor answered."""
    return NOT_A_TEXT_OF_CALLS.isdisjoint(set(normalise(name).split("_")) - CODE)
