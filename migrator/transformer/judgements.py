"""Assessments of a run: values that a profile's ``[[assessments]]`` name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from migrator import encoding
from migrator.model import Json
from migrator.transformer.found import Found, Judged
from migrator.transformer.profiles import AssessmentRule, Source
from migrator.transformer.run_view import RunView
from migrator.transformer.values import as_number
from migrator.transformer.verdicts import verdict

NAME_CHARS = 250  # the length of an assessment's name and source in MLflow's table


def judgements(view: RunView) -> Iterator[Judged]:
    """Yield the assessments that the profile's rules find in a run, each value once."""
    seen: set[tuple[str, str]] = set()
    for rule, source in view.judging():
        for found in view.all(source):
            value, recorded = _read_value(found, rule.value)
            if value is None or (found.place, found.key) in seen:
                continue
            seen.add((found.place, found.key))
            yield Judged(
                name=encoding.cut(_name(rule, found), NAME_CHARS),
                value=value,
                type=rule.type,
                source_type=rule.source_type,
                source_id=encoding.cut(_text(view, rule.source_id) or found.origin, NAME_CHARS),
                rationale=_text(view, rule.rationale),
                origin=found.origin,
                recorded=recorded,
            )


def _name(rule: AssessmentRule, found: Found) -> str:
    if rule.name:
        return rule.name
    return encoding.clean_text(found.stem if found.place == "artifact" else found.key)


def _read_value(found: Found, how: str) -> tuple[Json, str]:
    """Read an assessment's value, and the recorded text when the value is a verdict made of it.

    ``how`` is one of ``profiles.ASSESSMENT_VALUES``. The value is None for an empty text and for a
    metric that is not finite.
    """
    value = as_number(found.value) if found.place == "metric" else found.value
    if value is None or value == "":
        return None, ""
    said = verdict(value) if how == "yes-no" else None
    if said is None:
        return value, ""
    recorded = f"{value:g}" if isinstance(value, float) else str(value)
    return said, recorded


def _text(view: RunView, sources: Sequence[Source]) -> str:
    """The first text or number that is not blank at the sources; empty when there is none."""
    for source in sources:
        for found in view.all(source):
            if isinstance(found.value, (str, int, float)) and str(found.value).strip():
                return encoding.clean_text(str(found.value).strip())
    return ""
