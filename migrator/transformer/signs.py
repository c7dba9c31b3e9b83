"""Evidence in single runs: signs of LLM work, and signs of ordinary machine learning.

The rules are in ``llm_signs`` and ``ml_signs``; what they look at is in ``evidence``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from migrator.transformer.counted_cases import (
    counts_many,
    has_many_cases,
    holds_lengths_of_call,
    is_spread,
)
from migrator.transformer.evidence import FAIR_TEXT, Evidence, Rule, Sign
from migrator.transformer.llm_signs import CONTEXT_RULES, LLM_RULES
from migrator.transformer.ml_signs import ML_RULES, works_on_data
from migrator.transformer.run_view import RunView

TEST_NAME = re.compile(
    r"(?i)(^|[\s_-])(smoke|test|health_?check|ping|warm_?up|dummy|sanity|debug)(?=$|[\s_-])"
)


class Signs(NamedTuple):
    """What one run shows of being LLM work (``llm``) or ordinary training (``ml``)."""

    llm: tuple[Sign, ...]
    ml: tuple[Sign, ...]
    own_text: bool  # it holds what a user asked, or an answer
    is_only_prompt: bool  # a prompt is all there is of a call
    many_cases: bool  # totals or averages over many cases
    has_failed: bool
    data_job: Sign | None  # it works on data, and nothing in it speaks of an LLM


def signs_of(view: RunView) -> Signs:
    """Weigh one run by itself."""
    evidence = Evidence.of(view)
    llm = _hits(LLM_RULES, evidence)
    is_timed = any(sign.kind == "time" for sign in llm)
    is_call = evidence.is_llm or evidence.text_points or evidence.tokens.are_known or is_timed
    if is_call or holds_lengths_of_call(view.run):
        llm += _hits(CONTEXT_RULES, evidence)
    is_asked = evidence.asked_points > 0 and not evidence.is_only_prompt
    many_cases = has_many_cases(view.run, is_asked=is_asked)
    return Signs(
        llm=tuple(llm),
        ml=tuple(_hits(ML_RULES, evidence)),
        own_text=_has_own_text(evidence, llm, many_cases=many_cases),
        is_only_prompt=evidence.is_only_prompt,
        many_cases=evidence.holds_many_answers or many_cases,
        has_failed=bool(evidence.failure),
        data_job=works_on_data(evidence),
    )


def _has_own_text(evidence: Evidence, llm: Sequence[Sign], *, many_cases: bool) -> bool:
    """Whether a run holds what one user asked, or one answer."""
    if max(evidence.asked_points, evidence.answer_points) < FAIR_TEXT:
        return False
    if evidence.is_only_report and many_cases:
        return False  # what was found over many cases
    if not evidence.answer_points and is_spread(evidence.run):
        return False  # it was asked many times
    is_looked_up = any(sign.kind == "retrieval" for sign in llm)
    is_item = evidence.is_only_question and not is_looked_up  # of a survey, or of a benchmark
    return not (is_item and counts_many(evidence.run))


def _hits(rules: Sequence[Rule], evidence: Evidence) -> list[Sign]:
    signs = [rule(evidence) for rule in rules]
    return [sign for sign in signs if sign is not None]
