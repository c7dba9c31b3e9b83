"""What a run says of its work in single values: model, tokens, duration, documents, events."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from migrator import encoding
from migrator.model import Json, SpanEvent
from migrator.transformer.field_values import DURATIONS_MS, FieldValues
from migrator.transformer.found import LONGEST_MS, MOST_TOKENS, NO_TOKENS, Duration, Found, Tokens
from migrator.transformer.logged_keys import values_inside
from migrator.transformer.logged_tables import read_rows
from migrator.transformer.model_names import ModelKind, kind_of_model
from migrator.transformer.named_models import (
    MODEL_RANKS,
    MOST_SETTINGS_CHARS,
    is_said,
    keys_of_models,
    models_at,
)
from migrator.transformer.profiles import UNLISTED, normalise
from migrator.transformer.unlisted import counts_of_steps
from migrator.transformer.values import last_value

DOCUMENT_TEXTS = ("page_content", "content", "text", "chunk", "document")
EVENT_FILE = re.compile(r"(.+?)[_-](\d{12,13})")  # a name, and ms since the epoch
TOKEN_DETAILS = ("cached_tokens", "reasoning_tokens")


@dataclass(slots=True)
class RunFacts(FieldValues):
    """The single values of a run, by what they mean."""

    _usage: tuple[Tokens, str] | None = None
    _models: Sequence[Found] | None = None

    def forget(self) -> None:
        """Forget what was found. It is found again when it is asked for."""
        FieldValues.forget(self)  # super() does not know a dataclass with slots
        self._usage = self._models = None

    def model(self) -> Found | None:
        """The model that did the run's work: a known LLM's name before any other.

        A vendor's name is taken only where nothing else is named, and an embedding model's only
        where it stands under the profile's own keys.
        """
        return next(iter(self.models()), None)

    def models(self) -> Sequence[Found]:
        """All models that the run names, the most telling first."""
        if self._models is None:
            self._models = self._find_models()
        return self._models

    def inherit_model(self, parent: RunFacts) -> None:
        """Take the models of the session that a turn belongs to, if it names none itself."""
        if not self.models():
            self._models = parent.models()

    def _find_models(self) -> Sequence[Found]:
        ranked: list[tuple[int, int, Found]] = []
        listed = [found for found in self.every("model") if is_said(found.value)]
        known = {(found.place, found.key) for found in listed}
        for found in listed:
            if isinstance(found.value, Mapping) or found.key.endswith((".yaml", ".yml")):
                ranked += [(rank, 2, each) for rank, each in _models_in(found)]
                continue
            rank = MODEL_RANKS[kind_of_model(str(found.value))]
            ranked.append((rank, 0, found))
        for place, plain, key in keys_of_models(self.shape):
            if (place, key) in known:
                continue
            text = (self.run.params if place == "param" else self.run.tags)[key]
            for rank, value in models_at(plain, text):
                ranked.append((rank, 1, Found(value, place, key)))
        provider = self.first("provider")
        if provider is not None and kind_of_model(str(provider.value)) is not ModelKind.UNKNOWN:
            ranked.append((MODEL_RANKS[ModelKind.VENDOR], 2, provider))  # all there may be
        ranked.sort(key=lambda each: each[:2])  # stable: the profile's order, then that of the keys
        return tuple(found for _, _, found in ranked)

    def vendor(self) -> Found | None:
        """The vendor of the model, by the profile's field or by a model's key that names one."""
        found = self.first("provider")
        if found is not None:
            return found
        named = [
            each for each in self.models() if kind_of_model(str(each.value)) is ModelKind.VENDOR
        ]
        return named[0] if named and named[0] != self.model() else None

    def usage(self) -> tuple[Tokens, str]:
        """Token counts as logged last, and where."""
        if self._usage is None:
            self._usage = self._find_usage()
        return self._usage

    def _find_usage(self) -> tuple[Tokens, str]:
        founds = [self.number(f"{name}_tokens") for name in ("input", "output", "total")]
        if not any(founds) and self.index.lists(UNLISTED):
            return self._usage_of_steps()
        where = ", ".join(found[1].origin for found in founds if found)
        return Tokens(*(found[0] if found else None for found in founds)), where

    def _usage_of_steps(self) -> tuple[Tokens, str]:
        """The sums of the tokens that a run counted for each of its steps."""
        keys = counts_of_steps(self.shape)
        given, got = keys["input_tokens"], keys["output_tokens"]
        if not given:
            return NO_TOKENS, ""
        counts = {key: last_value(self.run.metrics[key]) for key in (*given, *got)}
        sums = [sum(counts[key] for key in side) for side in (given, got)]
        if not all(0 <= each <= MOST_TOKENS for each in sums):
            return NO_TOKENS, ""
        return Tokens(sums[0], sums[1], None), f"metrics {', '.join(sorted(counts))}"

    def counts_each_call(self) -> bool:
        """Whether its token metrics have a point for each of several calls, the last no total."""
        for name in ("input", "output", "total"):
            found = self.number(f"{name}_tokens")
            if found is None or found[1].place != "metric":
                continue
            if len(self.run.metrics[found[1].key]) > 1:
                return True
        return False

    def token_details(self) -> dict[str, float]:
        """Tokens that are part of the input or output count: read from a cache, or reasoning."""
        details: dict[str, float] = {}
        for name in TOKEN_DETAILS:
            if (found := self.number(name)) and 0 <= found[0] <= MOST_TOKENS:
                details[name] = found[0]
        return details

    def duration_ms(self, length_ms: float | None) -> Duration | None:
        """The logged duration, up to a week. ``length_ms``: how long the run was open, if known."""
        for name, unit_ms in DURATIONS_MS.items():
            if (found := self.number(name)) and 0 <= found[0] * unit_ms <= LONGEST_MS:
                return Duration(found[0] * unit_ms, found[1], "")
        if (found := self.number("duration_unknown")) and found[0] >= 0:
            has_seconds = self._has_part_of_a_unit(found[1].key)
            factor, unit = guess_unit(found[0], None if has_seconds else length_ms)
            assumed = f"{found[1].origin} is taken to be in {unit}"
            if found[0] * factor <= LONGEST_MS:
                return Duration(found[0] * factor, found[1], assumed)
        return None

    def _has_part_of_a_unit(self, whole: str) -> bool:
        """Whether another duration is less than 1. Parts of a millisecond are not measured."""
        for key, points in self.run.metrics.items():
            is_duration = normalise(key).rpartition("_")[2] in ("time", "latency", "duration")
            if key != whole and is_duration and 0 < last_value(points) < 1:
                return True
        return False

    def moments(self) -> tuple[SpanEvent, ...]:
        """The files of events whose names end in ms since the epoch, as span events by time."""
        events = []
        for found in self.every("events"):
            match = EVENT_FILE.fullmatch(found.stem)
            if match is None:
                continue
            values = found.value if isinstance(found.value, Mapping) else {"value": found.value}
            attributes = {str(key): encoding.sanitize(value) for key, value in values.items()}
            events.append(SpanEvent(match[1], int(match[2]) * 1_000_000, attributes))
        return tuple(sorted(events, key=lambda event: (event.time_ns, event.name)))

    def documents(self) -> tuple[Json, Found] | None:
        """Retrieved documents in the form of MLflow's retriever view, and their file.

        The file holds a JSON list, JSON lines, CSV or a table.
        """
        for found in self.every("documents"):
            documents = _documents(found)
            if documents is not None:
                return documents, found
        return None


def _models_in(found: Found) -> list[tuple[int, Found]]:
    """The models that a file of settings names, each with its rank."""
    value = found.value
    if isinstance(value, str) and len(value) <= MOST_SETTINGS_CHARS:
        value = _read_yaml(value)
    if not isinstance(value, Mapping):
        return []
    text = "".join(f"{key}: {inner}\n" for key, inner in values_inside(value))
    return [(rank, Found(name, found.place, found.key)) for rank, name in models_at("config", text)]


def _read_yaml(text: str) -> Json:
    """The value of YAML text; None when it is not YAML."""
    try:
        value: Json = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: an impossible date
        return None
    return value


def _documents(found: Found) -> list[Json] | None:
    """The documents in a file; None when it holds none, or something else."""
    value = found.value
    if isinstance(value, Sequence) and not isinstance(value, str):
        items: Sequence[Json] = value
    else:
        items = read_rows(found.key, value).rows
    documents = [_document(item) for item in items]
    if not documents or any(document is None for document in documents):
        return None
    return documents


def _document(item: Json) -> Json:
    """Bring one retrieved document into the form of MLflow's retriever view; None if it is none."""
    if isinstance(item, str):
        return {"page_content": item}
    if not isinstance(item, Mapping):
        return None
    key = next((key for key in DOCUMENT_TEXTS if isinstance(item.get(key), str)), None)
    if key is None:
        return None
    rest = {name: value for name, value in item.items() if name != key}
    metadata = rest.get("metadata")
    return {
        "page_content": item[key],
        "metadata": metadata if isinstance(metadata, Mapping) else rest,
    }


def guess_unit(value: float, length_ms: float | None) -> tuple[float, str]:
    """Guess the unit of a duration: the one that fits the run's length, else by size.

    The result is the factor that makes ms of it, and the unit's name.
    """
    if length_ms is not None and length_ms > 0:
        for factor, unit in ((1.0, "ms"), (1000.0, "s")):
            if abs(value * factor - length_ms) <= 0.25 * length_ms:
                return factor, unit
    return (1.0, "ms") if value > 300 else (1000.0, "s")
