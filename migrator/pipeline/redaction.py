"""Masking of text that must not be written: ``--redact PATTERN``.

Every text of a record is masked: values, keys, names of files, JSON within JSON. A new field of a
record is masked without being named here. What stays is listed below: identifiers that tie entities
together, locations of files, and MLflow's own keys and words. Where one of those matches a pattern
it is counted, so that the user is told.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar

from migrator.errors import OptionError
from migrator.issues import Issue
from migrator.model import Extracted, MetricPoint, SpanType

MASK = "[REDACTED]"
KEY_MASK = "REDACTED"  # in keys and file names: MLflow's API refuses brackets there
T = TypeVar("T")

_IDENTIFIERS = frozenset(
    {"run_id", "experiment_id", "trace_id", "span_id", "parent_span_id", "model_id", "dataset_id"}
    | {"source_run_id", "assessment_id", "overrides", "digest", "dataset_digest"}
    | {"InputRecord.source_id", "ExperimentRecord.name", "RegisteredModelRecord.name"}
    | {"LinkRecord.target_id", "LinkRecord.kind", "record_id", "scorer_id", "webhook_id"}
    | {"input_hash", "ScorerRecord.name", "workspace", "WorkspaceRecord.name"}
    | {"EvaluationDatasetRecord.name", "ModelVersionRecord.name", "Issue.kind", "Issue.entity_id"}
    | {"Difference.entity_id"}
    | {"WebhookEventRecord.entity", "WebhookEventRecord.action"}
)
_LOCATIONS = frozenset(
    {"artifact_dir", "spans_path", "artifact_uri", "artifact_location", "storage_location"}
    | {"ExperimentRecord.path", "RunRecord.path", "LoggedModelRecord.path"}
    | {"RegisteredModelRecord.path", "TraceRecord.path", "EvaluationDatasetRecord.path"}
    | {"ScorerRecord.path", "WebhookRecord.path", "WorkspaceRecord.path"}
    | {"default_artifact_root", "trace_archival_location", "trace_archival_retention"}
)
_STAYS = _IDENTIFIERS | _LOCATIONS
_JSON_TEXTS = frozenset(
    {f"EvaluationItemRecord.{name}" for name in ("inputs", "expectations", "outputs", "tags")}
    | {"EvaluationItemRecord.source", "ScorerVersionRecord.serialized"}
    | {"EvaluationDatasetRecord.schema", "EvaluationDatasetRecord.profile"}
)
_KEYS_OF_IDENTIFIERS = frozenset(
    {"mlflow.parentRunId", "mlflow.sourceRun", "mlflow.artifactLocation", "mlflow.modelId"}
    | {"mlflow.trace_schema.version", "mlflow.traceRequestId", "mlflow.linkedPrompts"}
    | {"mlflow.prompt.is_prompt", "mlflow.experimentKind"}
)
_OWN_KEYS = "mlflow."  # MLflow's own keys are no secrets, and it doesn't know them by other names
_WORD_FIELDS = frozenset(
    {"status", "lifecycle_stage", "source_type", "type", "current_stage", "mlflow.spanType"}
)
_WORDS = frozenset(
    {"RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED", "active", "deleted"}
    | {"NOTEBOOK", "JOB", "LOCAL", "PROJECT", "UNKNOWN", "DATASET", "MODEL"}
    | {"OK", "ERROR", "UNSET", "IN_PROGRESS", "STATE_UNSPECIFIED"}
    | {"feedback", "expectation", "HUMAN", "AI_JUDGE", "LLM_JUDGE", "CODE"}
    | {"SOURCE_TYPE_UNSPECIFIED", "None", "Staging", "Production", "Archived", "Deleted_Internal"}
    | {"ACTIVE", "DISABLED", "PENDING_REGISTRATION", "FAILED_REGISTRATION", "READY"}
    | {word for name, word in vars(SpanType).items() if name.isupper()}
)


def compiled(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    """Compile a regular expression. Raises OptionError for a text that is not one."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise OptionError(
            f"--redact {pattern!r} is not a valid regular expression: {error}.",
            todo="Put a backslash before characters that stand for themselves.",
        ) from error


class Redactor:
    """Masks what matches any of the patterns, and counts it."""

    def __init__(self, patterns: Sequence[re.Pattern[str]]) -> None:
        self.counts: Counter[str] = Counter()  # masked texts by kind of record
        self.stayed = 0  # identifiers and locations that match
        self._patterns = patterns

    def blank(self) -> Redactor:
        """A redactor with the same patterns that has counted nothing yet."""
        other = copy.copy(self)
        other.counts, other.stayed = Counter(), 0
        return other

    def add(self, other: Redactor) -> None:
        """Add the counts of another redactor."""
        self.counts.update(other.counts)
        self.stayed += other.stayed

    def mask(self, extracted: Extracted[T]) -> Extracted[T]:
        """Mask an extracted record and its issues, and count the masked texts."""
        if not self._patterns:
            return extracted
        walk = _Walk(self._patterns)
        record = extracted.record
        masked: Any = None if record is None else walk.record(record)
        if walk.masked:
            self.counts[_kind_of(record)] += walk.masked
        self.stayed += walk.stayed
        return replace(extracted, record=masked, issues=tuple(self.issues(extracted.issues)))

    def issues(self, issues: Iterable[Issue]) -> list[Issue]:
        """Mask every text of issues, paths too, except ids. Nothing is counted."""
        return [self.value(issue) for issue in issues]

    def value(self, value: T) -> T:
        """Mask a value of any kind that is about to be shown. Nothing is counted."""
        if not self._patterns:
            return value
        masked: T = _Walk(self._patterns).value(value)
        return masked


class _Walk:
    """One walk over a record. Equal records become equal ones, whatever was masked before."""

    def __init__(self, patterns: Sequence[re.Pattern[str]]) -> None:
        self.masked = 0
        self.stayed = 0
        self._patterns = patterns

    def record(self, record: Any) -> Any:
        changes: dict[str, Any] = {}
        kind = type(record).__name__
        for each in fields(record):
            value = getattr(record, each.name)
            if each.name in _STAYS or f"{kind}.{each.name}" in _STAYS:
                self._note(value)
                continue
            if each.name in _WORD_FIELDS and isinstance(value, str) and value in _WORDS:
                continue
            if kind == "ArtifactFile" and each.name == "path":
                changed: Any = self._text(value, KEY_MASK)
            elif f"{kind}.{each.name}" in _JSON_TEXTS and isinstance(value, str):
                changed = self._attribute("", value)
            elif kind == "SpanRecord" and each.name == "attributes":
                changed = self._mapping(value, self._attribute)
            elif each.name in ("attributes", "value", "error"):
                changed = self._json(value)
            else:
                changed = self.value(value)
            if changed != value:
                changes[each.name] = changed
        return replace(record, **changes) if changes else record

    def value(self, value: Any) -> Any:
        if isinstance(value, Enum):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return self._mapping(value, lambda key, item: self.value(item))
        if isinstance(value, (tuple, list)):
            if value and isinstance(value[0], MetricPoint):
                return value  # numbers, and there may be millions
            return type(value)([self.value(item) for item in value])
        if is_dataclass(value) and not isinstance(value, type):
            return self.record(value)
        return value

    def _mapping(
        self, mapping: Mapping[str, Any], mask: Callable[[str, Any], Any]
    ) -> dict[str, Any]:
        names = self._keys(mapping)
        masked = {}
        for key, item in mapping.items():
            if key in _KEYS_OF_IDENTIFIERS:
                self._note(item)
                masked[key] = item
            else:
                masked[names.get(key, key)] = mask(key, item)
        return masked

    def _keys(self, keys: Iterable[str]) -> dict[str, str]:
        """The masked name of each key that matches; keys that don't match are left out.

        Keys that become equal are numbered in the order of the keys, so that none is lost.
        """
        changed: dict[str, str] = {}
        taken = set()
        for key in keys:
            if isinstance(key, Enum) or key.startswith(_OWN_KEYS):
                self._note(key)
                taken.add(key)
                continue
            name = self._text(key, KEY_MASK)
            if name == key:
                taken.add(key)
            else:
                changed[key] = name
        for key in sorted(changed):
            name = changed[key]
            number = 1
            while changed[key] in taken:
                number += 1
                changed[key] = f"{name}-{number}"
            taken.add(changed[key])
        return changed

    def _attribute(self, key: str, text: str) -> str:
        """Mask inside a span attribute, which is JSON text, so that it stays JSON."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return self._text(text)
        if key in _WORD_FIELDS and isinstance(value, str) and value in _WORDS:
            return text
        masked = self._json(value)
        # A key that stands twice is read once: what isn't read must not stay either.
        if masked == value and not self._matches(text):
            return text
        return json.dumps(masked, ensure_ascii=False)

    def _json(self, value: Any) -> Any:
        """Mask a JSON value; a number that matches becomes text."""
        if isinstance(value, Mapping):
            return self._mapping(value, lambda key, item: self._json(item))
        if isinstance(value, (list, tuple)):
            return type(value)([self._json(item) for item in value])
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            text = str(value)
            masked = self._text(text)
            return value if masked == text else masked
        return self.value(value)

    def _text(self, text: str, mask: str = MASK) -> str:
        masked = text
        for pattern in self._patterns:
            masked = pattern.sub(mask, masked)
        self.masked += masked != text
        return masked

    def _note(self, value: object) -> None:
        self.stayed += isinstance(value, str) and self._matches(value)

    def _matches(self, text: str) -> bool:
        return any(pattern.search(text) for pattern in self._patterns)


def _kind_of(record: object) -> str:
    words = re.findall("[A-Z][a-z]+", type(record).__name__.removesuffix("Record"))
    return " ".join(words).lower()
