"""Masking of values that must not be written: ``--redact PATTERN``.

Only values are masked, never keys, ids, names of experiments and models, times or locations: what
ties the entities together stays whole.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from migrator.errors import OptionError
from migrator.model import Extracted, SpanRecord

MASK = "[REDACTED]"
T = TypeVar("T")

# Fields that tie entities together, say where they lie, or hold one word of a fixed set.
_KEPT_FIELDS = frozenset(
    {"run_id", "experiment_id", "trace_id", "span_id", "parent_span_id", "model_id", "dataset_id"}
    | {"source_run_id", "assessment_id", "overrides", "source_id", "digest", "dataset_digest"}
    | {"path", "artifact_dir", "spans_path", "artifact_uri", "artifact_location", "artifacts"}
    | {"status", "lifecycle_stage", "source_type", "type", "current_stage", "metrics", "outputs"}
    | {"storage_location", "run_link"}
)
_KEPT_NAMES = frozenset(
    {"ExperimentRecord", "RegisteredModelRecord", "ModelVersionRecord", "DatasetRecord"}
    | {"AssessmentRecord", "LoggedModelRecord"}
)
_KEPT_KEYS = frozenset(
    {"mlflow.parentRunId", "mlflow.sourceRun", "mlflow.artifactLocation", "mlflow.spanType"}
    | {"mlflow.trace_schema.version", "mlflow.traceRequestId", "mlflow.modelId"}
    | {"mlflow.prompt.is_prompt", "mlflow.linkedPrompts", "mlflow.experimentKind"}
)


class Redactor:
    """Masks what matches any of the patterns (Python regular expressions), and counts it.

    Raises OptionError for a pattern that is no regular expression.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.counts: Counter[str] = Counter()  # masked values by kind of record
        self._patterns: list[re.Pattern[str]] = []
        for pattern in patterns:
            try:
                self._patterns.append(re.compile(pattern))
            except re.error as error:
                raise OptionError(
                    f"--redact {pattern!r} is no regular expression: {error}.",
                    todo="Put a backslash before characters that stand for themselves.",
                ) from error

    def blank(self) -> Redactor:
        """Return one with the same patterns that has counted nothing yet."""
        other = copy.copy(self)
        other.counts = Counter()
        return other

    def mask(self, extracted: Extracted[T]) -> Extracted[T]:
        """Return a reading with its record's values masked, and those of its issues."""
        if not self._patterns:
            return extracted
        record = extracted.record
        counter: Counter[str] = Counter()
        masked = None if record is None else self._record(record, counter)
        if counter.total():
            self.counts[_kind_of(record)] += counter.total()
        issues = tuple(
            replace(i, sample=self._text(i.sample, Counter()), kept=self._text(i.kept, Counter()))
            for i in extracted.issues
        )
        return replace(extracted, record=masked, issues=issues)

    def _record(self, record: Any, counter: Counter[str]) -> Any:
        changes: dict[str, Any] = {}
        in_json = isinstance(record, SpanRecord)
        for each in fields(record):
            value = getattr(record, each.name)
            if each.name in _KEPT_FIELDS or (
                each.name == "name" and type(record).__name__ in _KEPT_NAMES
            ):
                continue
            if in_json and each.name == "attributes":
                changed: Any = {k: self._json(k, v, counter) for k, v in value.items()}
            else:
                changed = self._value(value, counter)
            if changed != value:
                changes[each.name] = changed
        return replace(record, **changes) if changes else record

    def _value(self, value: Any, counter: Counter[str]) -> Any:
        if isinstance(value, str):
            return self._text(value, counter)
        if isinstance(value, Mapping):
            return {
                key: item if key in _KEPT_KEYS else self._value(item, counter)
                for key, item in value.items()
            }
        if isinstance(value, (tuple, list)):
            return type(value)(self._value(item, counter) for item in value)
        if is_dataclass(value) and not isinstance(value, type):
            return self._record(value, counter)
        return value

    def _json(self, key: str, text: str, counter: Counter[str]) -> str:
        """Mask inside a span attribute, which is JSON text, so that it stays JSON."""
        if key in _KEPT_KEYS:
            return text
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return self._text(text, counter)
        masked = self._value(value, counter)
        return text if masked == value else json.dumps(masked, ensure_ascii=False)

    def _text(self, text: str, counter: Counter[str]) -> str:
        masked = text
        for pattern in self._patterns:
            masked = pattern.sub(MASK, masked)
        counter["values"] += masked != text
        return masked


def _kind_of(record: object) -> str:
    words = re.findall("[A-Z][a-z]+", type(record).__name__.removesuffix("Record"))
    return " ".join(words).lower()
