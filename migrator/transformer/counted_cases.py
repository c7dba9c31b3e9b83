"""Numbers of a run that are of many cases: counts of them, and totals or averages over them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from migrator.model import RunRecord
from migrator.transformer.profiles import normalise
from migrator.transformer.text_names import PROMPT_WORDS, RETRIEVAL, SIMILARITY
from migrator.transformer.values import as_number, last_value

MANY_CASES = re.compile(
    r"^(avg|average|mean|median|p50|p90|p95|p99|pass)_|_(avg|average|mean|median|rate|std|p95|p99)$"
)
"""Names of metrics that are taken over many cases."""

CASE_COUNT = re.compile(
    r"^((num|n|total|count|number_of)_)?(queries|questions|samples|cases|examples|requests|rows"
    r"|tests|iterations|trials|prompts|calls|conversations|count)(_count)?$|^n$"
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

OF_LOOKED_UP = re.compile(rf"^{SIMILARITY}$")
"""Metrics over the documents that were looked up for one request."""

TEXT_LENGTH = re.compile(
    r"^(?!max_|min_|avg_|mean_)(\w+_)?(length|len|chars|characters|words|word_count|char_count)$"
    r"|^len(gth)?_(of_)?(the_)?(question|query|answer|response|reply|output|text|context)$"
)


def has_many_cases(run: RunRecord, *, is_asked: bool) -> bool:
    """Whether a run holds totals or averages over several cases.

    ``is_asked``: whether it holds what was asked, for which several documents were looked up.
    """
    for key in run.metrics:
        name = normalise(key)
        if MANY_CASES.search(name) and not (is_asked and OF_LOOKED_UP.match(name)):
            return True
    is_of_one_text = any(is_text_length(key) for key in run.metrics)
    if not is_of_one_text and any(n > 1 and CASE_COUNT.match(name) for name, n in _numbers(run)):
        return True
    return counts_many(run)


def counts_many(run: RunRecord) -> bool:
    """Whether a run counts documents, responses or results, and more than one request has."""
    for name, count in _numbers(run):
        if count >= LEAST_BULK and (BULK_COUNT.match(name) or RESULT_COUNT.match(name)):
            return True
    return False


def counts_things(run: RunRecord) -> bool:
    """Whether a run counts more things, of any name, than one call has."""
    for name, count in _numbers(run):
        is_of_one = OF_ONE_CALL.search(name) or RETRIEVAL.match(name)
        if count >= LEAST_BULK and COUNT_OF_THINGS.match(name) and not is_of_one:
            return True
    return False


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
