"""Numbers of a run that are of many cases: counts of them, and totals or averages over them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from migrator.model import RunRecord
from migrator.transformer.profiles import normalise
from migrator.transformer.text_names import (
    OF_LOOKED_UP,
    PROMPT_WORDS,
    SURE_ANSWER_WORDS,
    USER_WORDS,
    is_of_retrieval,
)
from migrator.transformer.unlisted import OF_A_PART, OF_MANY_CALLS, OF_THE_WHOLE, TOKEN_WORDS
from migrator.transformer.values import as_number, last_value, words

MANY_CASES = re.compile(
    r"^(avg|average|mean|median|p50|p90|p95|p99|pass)_|_(avg|average|mean|median|rate|std|p95|p99)$"
    r"|(_at_|@)k?\d*$|(^|_)(mrr|ndcg)(_|$)"
)
"""Names of metrics that are taken over many cases."""

OUTCOME_RATE = re.compile(r"(^|_)(success|error|failure)_rate$")
"""Such names under which a single call says how it ended, as 0 or 1."""

CASE_COUNT = re.compile(
    r"^((actual|target)_)?((num|n|total|count|number_of)_)?(queries|questions|samples|cases"
    r"|examples|requests|rows|tests|iterations|trials|prompts|calls|conversations|count)"
    r"(_(count|requested|evaluated|tested|scored))?$|^n$"
)
"""Names of params and metrics that count cases, if the number is above 1."""

ROUNDS = words("iterations calls")
"""What the loop of an agent counts, if a param limits it; of a benchmark it may be the cases."""

BULK_COUNT = re.compile(
    r"^(num|n|total|count|number_of)_(docs|documents|files|items|records|pages|emails|articles)$"
    r"|^((num|n|total|count|number_of)_)?"
    r"(responses|answers|respondents|participants|votes|ratings)$"
)
COUNT_OF_THINGS = re.compile(r"^(num|n|total|count|number_of)_\w+s$")
LEAST_BULK = 20  # fewer may be those that one request looked at
RESULT_COUNT = re.compile(
    r"^(num|n|total|count|number_of|samples|cases|items|questions|tests|responses)_"
    r"(generated|processed|passed|failed|correct|completed|evaluated|scored|successful|errors)$"
)
OF_ONE_CALL = re.compile(
    r"time|latency|duration|seconds|second|elapsed|_ms$|_s$|tokens?|cost|price|length|len|chars"
    r"|characters|words?|count|size|status|success|error|retries|attempts|temperature|top_[pk]"
)
"""Metrics that one call has, and no score."""

LOOKED_UP = re.compile(
    r"^((num|n|number_of|total)_)?((retrieved|source|context|relevant|reranked)_)?"
    r"((chunks|docs|documents|sources|contexts|passages)(_(retrieved|used|found))?"
    r"|(chunk|doc|document|source|context|passage)s?_count)$"
)
TIME_WORDS = words("latency duration time elapsed took ms seconds secs sec s")
CALL_WORDS = words("call calls invocations requests")
NO_STEPS = OF_THE_WHOLE | words("num n number of count used input output prompt completion in out")
"""Words of metrics that don't name the step which they are of."""

OF_EACH_CALL = TIME_WORDS | words(
    "tokens token cost usd faithfulness relevancy correctness groundedness accuracy quality"
)
"""Words of what is measured or judged of each call, so that its average is over many calls."""

TEXT_LENGTH = re.compile(
    r"^(?!max_|min_|avg_|average_|mean_)(\w+_)?(length|len|chars|characters|words|word_count|char_count)$"
    r"|^len(gth)?_(of_)?(the_)?(question|query|answer|response|reply|output|text|context)$"
)


def has_averages(run: RunRecord, *, is_one: bool) -> bool:
    """Whether a run holds averages over several cases.

    ``is_one``: whether it tells of one request, for which several documents were looked up.
    """
    has_length = any(map(is_length_of_call, (*run.metrics, *run.params)))
    has_steps = _has_steps_of_llm(run)
    for key, points in run.metrics.items():
        name = normalise(key)
        is_of_part = (has_length or has_steps) and OF_EACH_CALL.isdisjoint(name.split("_"))
        is_of_part |= has_steps and "llm" in name.split("_")
        is_outcome = OUTCOME_RATE.search(name) is not None and last_value(points) in (0, 1)
        is_looked_up = is_one and OF_LOOKED_UP.match(name) is not None
        is_of_one = is_of_part or is_outcome or is_looked_up
        if MANY_CASES.search(name) and not is_of_one:
            return True
    return False


def calls_of_llm(run: RunRecord) -> str | None:
    """The metric that counts the few calls of an LLM which a run made; None without one."""
    for key, points in run.metrics.items():
        if _counts_calls_of_llm(key) and 1 <= last_value(points) < LEAST_BULK:
            return key
    return None


def _has_steps_of_llm(run: RunRecord) -> bool:
    return calls_of_llm(run) is not None or bool(steps_with_tokens(run))


def times_of_llm(run: RunRecord) -> list[str]:
    """The metrics that say how long an LLM took."""
    return [key for key in run.metrics if _is_time_of_llm(key)]


def steps_with_tokens(run: RunRecord) -> list[str]:
    """The steps whose tokens and whose time a run measured: ``draft_tokens``, ``draft_time_s``."""
    counted = {_step_of(key, TOKEN_WORDS) for key in run.metrics}
    timed = {_step_of(key, TIME_WORDS) for key in run.metrics}
    return sorted((counted & timed) - {""})


@lru_cache(maxsize=10_000)
def _step_of(key: str, nouns: frozenset[str]) -> str:
    """The step that a metric measured, by its name; empty if it has none of the nouns, or no step.

    Metrics over many calls have none, nor have those of a look-up.
    """
    parts = normalise(key).split("_")
    if nouns.isdisjoint(parts) or not (OF_MANY_CALLS | OF_A_PART).isdisjoint(parts):
        return ""
    return "_".join(part for part in parts if part not in nouns | NO_STEPS)


def counts_cases(run: RunRecord) -> bool:
    """Whether a run counts several cases, and not the characters of one text.

    It passes over the rounds of a loop that has a limit: ``iterations`` beside ``max_iterations``;
    and over those of a run that measured the steps of an LLM.
    """
    if has_text_length(run):
        return False
    limits = {normalise(key) for key in run.params}
    has_steps = _has_steps_of_llm(run)
    for name, count in _numbers(run):
        noun = name.rpartition("_")[2]
        is_limited = noun in ROUNDS and (has_steps or f"max_{noun}" in limits)
        if count > 1 and CASE_COUNT.match(name) and not is_limited:
            return True
    return False


def counts_many(run: RunRecord) -> bool:
    """Whether a run counts documents, responses or results, and more than one request has."""
    for name, count in _numbers(run):
        if count >= LEAST_BULK and (BULK_COUNT.match(name) or RESULT_COUNT.match(name)):
            return True
    return False


def counts_things(run: RunRecord) -> bool:
    """Whether a run counts more things, of any name, than one call has."""
    for name, count in _numbers(run):
        is_of_one = OF_ONE_CALL.search(name) or is_of_retrieval(name)
        if count >= LEAST_BULK and COUNT_OF_THINGS.match(name) and not is_of_one:
            return True
    return False


def has_text_length(run: RunRecord) -> bool:
    """Whether a run measured how long a text was that was asked or answered."""
    return any(map(is_text_length, run.metrics))


@lru_cache(maxsize=10_000)
def is_text_length(key: str) -> bool:
    """Whether a key counts the characters or words of a text that was asked or answered."""
    name = normalise(key)
    return TEXT_LENGTH.match(name) is not None and PROMPT_WORDS.isdisjoint(name.split("_"))


def is_length_of_call(key: str) -> bool:
    """Whether a key says how long a question or an answer was."""
    return _is_length_of(key, USER_WORDS | SURE_ANSWER_WORDS)


@lru_cache(maxsize=10_000)
def _is_length_of(key: str, nouns: frozenset[str]) -> bool:
    return is_text_length(key) and not nouns.isdisjoint(normalise(key).split("_"))


def holds_lengths_of_call(run: RunRecord) -> bool:
    """Whether a run says how long a question was, and its answer or what was looked up for it."""
    keys = (*run.metrics, *run.params)
    if not any(_is_length_of(key, USER_WORDS) for key in keys):
        return False
    return says_length_of_answer(run) or count_of_looked_up(run) is not None


def says_length_of_answer(run: RunRecord) -> bool:
    """Whether a run says how long an answer was."""
    return any(_is_length_of(key, SURE_ANSWER_WORDS) for key in (*run.metrics, *run.params))


def count_of_looked_up(run: RunRecord) -> str | None:
    """The (normalised) key that counts the few documents of one look-up; None without one."""
    for name, count in _numbers(run):
        if LOOKED_UP.match(name) and 0 < count < LEAST_BULK:
            return name
    return None


@lru_cache(maxsize=10_000)
def _is_time_of_llm(key: str) -> bool:
    return _is_of_llm(key, TIME_WORDS)


@lru_cache(maxsize=10_000)
def _counts_calls_of_llm(key: str) -> bool:
    return _is_of_llm(key, CALL_WORDS) and not _is_time_of_llm(key)


def _is_of_llm(key: str, nouns: frozenset[str]) -> bool:
    """Whether a key speaks of an LLM and one of some nouns, and not of averages."""
    parts = frozenset(normalise(key).split("_"))
    return "llm" in parts and not parts.isdisjoint(nouns) and OF_MANY_CALLS.isdisjoint(parts)


def _numbers(run: RunRecord) -> Iterator[tuple[str, float]]:
    """The metrics and the params of a run that are numbers, with normalised keys."""
    for key, points in run.metrics.items():
        yield normalise(key), last_value(points)
    for key, text in run.params.items():
        yield normalise(key), as_number(text) or 0
