"""Numbers of a run that are of many cases: counts of them, and totals or averages over them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from migrator.model import RunRecord
from migrator.transformer.profiles import normalise
from migrator.transformer.text_names import OF_LOOKED_UP, PROMPT_WORDS, is_of_retrieval
from migrator.transformer.values import as_number, last_value

MANY_CASES = re.compile(
    r"^(avg|average|mean|median|p50|p90|p95|p99|pass)_|_(avg|average|mean|median|rate|std|p95|p99)$"
    r"|(_at_|@)k?\d*$|(^|_)(mrr|ndcg)(_|$)"
)
"""Names of metrics that are taken over many cases."""

CASE_COUNT = re.compile(
    r"^((actual|target)_)?((num|n|total|count|number_of)_)?(queries|questions|samples|cases"
    r"|examples|requests|rows|tests|iterations|trials|prompts|calls|conversations|count)"
    r"(_(count|requested|evaluated|tested|scored))?$|^n$"
)
"""Names of params and metrics that count cases, if the number is above 1."""

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

TEXT_LENGTH = re.compile(
    r"^(?!max_|min_|avg_|mean_)(\w+_)?(length|len|chars|characters|words|word_count|char_count)$"
    r"|^len(gth)?_(of_)?(the_)?(question|query|answer|response|reply|output|text|context)$"
)


def has_averages(run: RunRecord, *, is_one: bool) -> bool:
    """Whether a run holds averages over several cases.

    ``is_one``: whether it tells of one request, for which several documents were looked up.
    """
    for key in run.metrics:
        name = normalise(key)
        if MANY_CASES.search(name) and not (is_one and OF_LOOKED_UP.match(name)):
            return True
    return False


def counts_cases(run: RunRecord) -> bool:
    """Whether a run counts several cases, and not the characters of one text."""
    if has_text_length(run):
        return False
    return any(n > 1 and CASE_COUNT.match(name) for name, n in _numbers(run))


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


def _numbers(run: RunRecord) -> Iterator[tuple[str, float]]:
    """The metrics and the params of a run that are numbers, with normalised keys."""
    for key, points in run.metrics.items():
        yield normalise(key), last_value(points)
    for key, text in run.params.items():
        yield normalise(key), as_number(text) or 0
