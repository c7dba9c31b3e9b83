"""Evidence in single runs: signs of LLM work, and signs of ordinary machine learning.

The rules are in ``llm_signs`` and ``ml_signs``; what they look at is in ``evidence``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from migrator.transformer.counted_cases import (
    counts_cases,
    counts_many,
    has_averages,
    holds_lengths_of_call,
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
    is_measured = any(sign.kind == "work" for sign in llm)
    is_call = evidence.is_llm or evidence.text_points or evidence.tokens.are_known or is_measured
    if is_call or holds_lengths_of_call(view.run):
        llm += _hits(CONTEXT_RULES, evidence)
    own_text = max(evidence.asked_points, evidence.answer_points) >= FAIR_TEXT
    is_averaged = has_averages(view.run, is_one=evidence.is_of_one_request)
    is_of_cases, is_of_many = counts_cases(view.run), counts_many(view.run)
    many_cases = is_averaged or is_of_cases or is_of_many
    if evidence.is_only_report and many_cases:
        own_text = False  # what was found over many cases
    is_looked_up = any(sign.kind == "retrieval" for sign in llm)
    if evidence.is_only_question and not is_looked_up and is_of_many:
        own_text = False  # the item of a survey, or the query of a benchmark
    ml = _hits(ML_RULES, evidence)
    is_scored = many_cases or any(sign.kind == "training" for sign in ml)
    holds_cases = evidence.holds_cases or _holds_judged_turns(view, is_scored=is_scored)
    if holds_cases:
        own_text = False  # the texts of many cases
    if not evidence.answer_points and is_averaged and is_of_cases:
        own_text = False  # a benchmark, which asked the same again and again
    return Signs(
        llm=tuple(llm),
        ml=tuple(ml),
        own_text=own_text,
        is_only_prompt=evidence.is_only_prompt,
        many_cases=evidence.holds_many_answers or holds_cases or many_cases,
        has_failed=bool(evidence.failure),
        data_job=works_on_data(evidence),
    )


def _holds_judged_turns(view: RunView, *, is_scored: bool) -> bool:
    """Whether a note holds several questions that were judged, there or by the run's metrics."""
    turn, _ = view.note() or (None, None)
    return turn is not None and turn.turns > 1 and (turn.are_judged or is_scored)


def _hits(rules: Sequence[Rule], evidence: Evidence) -> list[Sign]:
    signs = [rule(evidence) for rule in rules]
    return [sign for sign in signs if sign is not None]
