"""A run as a profile reads it: values by field, with the places where they were logged."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter

from migrator import encoding
from migrator.issues import Code, Issue, Kind
from migrator.model import Json, MetricPoint, RunRecord, SpanEvent
from migrator.transformer.found import Duration, Found, Tokens
from migrator.transformer.profile_index import ProfileIndex, index_of, matching, spellings
from migrator.transformer.profiles import AssessmentRule, Profile, Source, parse_source
from migrator.transformer.values import (
    EMPTY_WORDS,
    as_number,
    last_value,
    natural,
    parse_chat,
    parse_json,
    transcript,
)

SYSTEM_STEMS = frozenset({"system_prompt", "system_message", "system"})
USER_STEMS = frozenset({"user_prompt", "user_message", "user_input", "user_query", "prompt"})
DOCUMENT_TEXTS = ("page_content", "content", "text", "chunk", "document")
EVENT_FILE = re.compile(r"(.+?)[_-](\d{12,13})")  # a name, and ms since the epoch

_rank = itemgetter(0)


@dataclass(slots=True)
class RunView:
    """A run read through a profile. What was found once is remembered."""

    run: RunRecord
    profile: Profile
    root: RunView | None = None  # None for the root itself
    issues: list[Issue] = field(default_factory=list)
    index: ProfileIndex = field(init=False)
    _keys: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _fields: dict[str, Sequence[Found]] | None = None  # by field, in the order of its sources
    _ranks: dict[str, Sequence[int]] = field(default_factory=dict)  # of fields with several values
    _of_root: list[tuple[str, int, Found]] | None = None
    _inputs_made: tuple[Json, tuple[Found, ...]] | None = None
    _outputs_made: tuple[Json, tuple[Found, ...]] | None = None
    _parsed: dict[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = index_of(self.profile)

    # ------------------------------------------------------------------ looking up

    def all(self, source: Source) -> list[Found]:
        """Every value at ``source``; artifacts in the order of their paths."""
        if source.of_root and self.root is not None:
            return self.root.all(source)
        if source.place == "field":
            found = self.first(source.key)
            return [found] if found else []
        if source.place == "artifact":
            assert source.pattern is not None
            paths = [path for path in self.run.texts if source.pattern.match(path)]
            inside = [self._artifact(path, source.path) for path in sorted(paths, key=natural)]
            return [found for found in inside if found is not None]
        names: Sequence[str]
        if source.pattern is None:  # nearly always, and nearly always there is nothing
            name = self._spelling(source.place).get(source.key)
            names = () if name is None else (name,)
        else:
            names = matching(source, tuple(self._names(source.place)))
        return [Found(self._value(source.place, name), source.place, name) for name in names]

    def has(self, source: Source) -> bool:
        """Whether ``source`` has a value, or an artifact of that name is listed."""
        if source.place == "artifact" and source.pattern is not None and not source.path:
            run = self.root.run if source.of_root and self.root is not None else self.run
            return any(source.pattern.match(artifact.path) for artifact in run.artifacts)
        if source.place in ("field", "artifact"):
            return bool(self.all(source))
        view = self.root if source.of_root and self.root is not None else self
        if source.pattern is None:
            return source.key in view._spelling(source.place)
        return bool(matching(source, tuple(view._names(source.place))))

    def judging(self) -> list[tuple[AssessmentRule, Source]]:
        """The assessment rules that may find something, with the source, in the profile's order."""
        index = self.index
        places = list(index.judging_elsewhere)
        for place in ("param", "metric", "tag"):
            places += index.judging_among(place, tuple(self._names(place)))
        rules = self.profile.assessments
        return [(rules[rule], rules[rule].sources[source]) for rule, source in sorted(places)]

    def every(self, name: str) -> Sequence[Found]:
        """All that the field's sources find, in their order."""
        if self._fields is None:
            self._fields = self._collect()
        return self._fields.get(name, ())

    def best(self, name: str) -> Sequence[Found]:
        """All that the first source of the field finds that finds a value at all."""
        said: list[Found] = []
        best_rank: int | None = None
        ranks = self._ranks_of(name)
        for found, rank in zip(self.every(name), ranks, strict=True):
            if found.value is None or found.value == "":
                continue
            if best_rank is None:
                best_rank = rank
            if rank == best_rank:
                said.append(found)
        return said

    def _ranks_of(self, name: str) -> Sequence[int]:
        """The rank of the source of each value of a field."""
        found = self.every(name)
        return self._ranks.get(name, (0,) * len(found))

    def _collect(self) -> dict[str, Sequence[Found]]:
        """Find the values of all fields at once, from the run's keys and files."""
        run, index = self.run, self.index
        fields: dict[str, list[tuple[int, Found]]] = {}
        for name, rank, key in index.fields_among("param", tuple(run.params)):
            fields.setdefault(name, []).append((rank, Found(run.params[key], "param", key)))
        for name, rank, key in index.fields_among("metric", tuple(run.metrics)):
            last = Found(last_value(run.metrics[key]), "metric", key)
            fields.setdefault(name, []).append((rank, last))
        for name, rank, key in index.fields_among("tag", tuple(run.tags)):
            fields.setdefault(name, []).append((rank, Found(run.tags[key], "tag", key)))
        for path in sorted(run.texts, key=natural):
            for name, rank, source in index.sources_at(path):
                if (inside := self._artifact(path, source.path)) is not None:
                    fields.setdefault(name, []).append((rank, inside))
        for name, rank, found in (self.root or self)._at_root():
            fields.setdefault(name, []).append((rank, found))
        return {name: self._in_order(name, entries) for name, entries in fields.items()}

    def _in_order(self, name: str, entries: list[tuple[int, Found]]) -> Sequence[Found]:
        """Sort a field's values by the rank of their source, each value once."""
        if len(entries) == 1:
            return (entries[0][1],)
        entries.sort(key=_rank)  # stable: natural order within a source
        unique: dict[tuple[str, str, int], tuple[int, Found]] = {}
        for rank, found in entries:  # two values of one JSON file are two, one value twice is one
            unique.setdefault((found.place, found.key, id(found.value)), (rank, found))
        self._ranks[name] = [rank for rank, _ in unique.values()]
        return [found for _, found in unique.values()]

    def _at_root(self) -> list[tuple[str, int, Found]]:
        """What the sources that begin with ``root.`` find here, in the tree's root."""
        if self._of_root is None:
            self._of_root = []
            for name, rank, source in self.index.of_root:
                self._of_root += [(name, rank, found) for found in self.all(source)]
        return self._of_root

    def first(self, name: str) -> Found | None:
        """The first value of a field that says something; "none", "0" and the like do not."""
        for found in self.every(name):
            if not (isinstance(found.value, str) and found.value.strip().lower() in EMPTY_WORDS):
                return found
        return None

    def number(self, name: str) -> tuple[float, Found] | None:
        """The first finite number of a field, and where it was logged."""
        for found in self.every(name):
            if (number := as_number(found.value)) is not None:
                return number, found
        return None

    def text(self, name: str, limit: int | None = None) -> str:
        """A field's first value as text, cut at ``limit`` characters; empty when it has none."""
        found = self.first(name)
        if found is None:
            return ""
        value = found.value
        text = value if isinstance(value, str) else encoding.encode(value)
        text = encoding.clean_text(text).strip()
        return text if limit is None else text[:limit]

    def history(self, name: str) -> tuple[str, tuple[MetricPoint, ...]] | None:
        """The key and points of a field's first metric that has several points."""
        for found in self.every(name):
            if found.place == "metric" and len(points := self.run.metrics[found.key]) > 1:
                return found.key, points
        return None

    def fill(self, template: str) -> str | None:
        """Fill ``{param:node_id}`` and the like; None when one of them has no value."""
        missing = False

        def put(match: re.Match[str]) -> str:
            nonlocal missing
            found = next(iter(self.all(_source(match[1]))), None)
            value = "" if found is None else str(found.value).strip()
            missing = missing or not value
            return value

        text = re.sub(r"\{([^}]*)\}", put, template)
        return None if missing else text

    def _names(self, place: str) -> Mapping[str, object]:
        if place == "param":
            return self.run.params
        return self.run.metrics if place == "metric" else self.run.tags

    def _spelling(self, place: str) -> Mapping[str, str]:
        known = self._keys.get(place)
        if known is None:
            self._keys[place] = known = spellings(tuple(self._names(place)))
        return known

    def _value(self, place: str, key: str) -> Json:
        if place == "metric":
            return last_value(self.run.metrics[key])
        return (self.run.params if place == "param" else self.run.tags)[key]

    def _artifact(self, path: str, inside: tuple[str, ...]) -> Found | None:
        value = self.parsed(path)
        for step in inside:
            if not isinstance(value, Mapping) or step not in value:
                return None
            value = value[step]
        return Found(value, "artifact", path)

    def parsed(self, path: str) -> Json:
        """A text artifact: as JSON when it is an object or a list, else as text."""
        if path not in self._parsed:
            text = self.run.texts[path]
            self._parsed[path] = value = parse_json(text)
            if value is text and path.lower().endswith(".json") and text.strip():
                self.issues.append(
                    Issue(
                        Code.ARTIFACT_NOT_JSON,
                        f"{self.run.artifact_dir}/{path}" if self.run.artifact_dir else path,
                        f"{path} of run {self.run.run_id} does not parse as JSON.",
                        "its text, as it is",
                        Kind.RUN,
                        self.run.run_id,
                    )
                )
        return self._parsed[path]

    # ----------------------------------------------------------------- inputs and outputs

    def inputs(self) -> tuple[Json, tuple[Found, ...]]:
        """The span's inputs and the values they were made of; None when there are none."""
        if self._inputs_made is None:
            self._inputs_made = self._inputs()
        return self._inputs_made

    def outputs(self) -> tuple[Json, tuple[Found, ...]]:
        """The span's outputs and the values they were made of; None when there are none."""
        if self._outputs_made is None:
            self._outputs_made = self._outputs()
        return self._outputs_made

    def _inputs(self) -> tuple[Json, tuple[Found, ...]]:
        ignored = {(found.place, found.key) for found in self.every("not_inputs")}
        candidates = [
            found for found in self.every("inputs") if (found.place, found.key) not in ignored
        ]
        parts: dict[str, Found] = {}
        for found in candidates:
            value = found.value
            if value is None:
                continue
            if not isinstance(value, str):
                is_chat = encoding.is_chat(value)
                if is_chat or found.place == "artifact":  # it says all by itself, or nothing
                    if parts:
                        continue
                    return ({"messages": value} if is_chat else value), (found,)
                value = encoding.encode(value)
            if _is_new(value, found.stem, parts):
                parts[found.stem] = Found(parse_chat(value), found.place, found.key)
        if parts:
            return _joined(parts), tuple(parts.values())
        asked, _, note = self._note()
        if asked and note:
            return dict(asked), (note,)
        return None, ()

    def _outputs(self) -> tuple[Json, tuple[Found, ...]]:
        founds = tuple(self.best("outputs"))
        if len(founds) > 1:
            return {found.stem: found.value for found in founds}, founds
        if founds:
            value = founds[0].value
            return (parse_json(value) if isinstance(value, str) else value), founds
        _, answer, note = self._note()
        if answer is not None and note:
            return answer, (note,)
        return None, ()

    def _note(self) -> tuple[Mapping[str, str], str | None, Found | None]:
        """Question and answer of the run's note, if it has exactly one and that holds a call."""
        notes = self.every("calls")
        if len(notes) != 1 or not isinstance(notes[0].value, str):
            return {}, None, None
        return (*transcript(notes[0].value), notes[0])

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
        """Retrieved documents in the form of MLflow's retriever view, and their file."""
        for found in self.every("documents"):
            value = found.value
            if isinstance(value, Sequence) and not isinstance(value, str) and value:
                documents = [_document(item) for item in value]
                if all(document is not None for document in documents):
                    return documents, found
        return None

    # ------------------------------------------------------------------- tokens, cost, time

    def usage(self) -> tuple[Tokens, str]:
        """Token counts as logged last, and where."""
        founds = [self.number(f"{name}_tokens") for name in ("input", "output", "total")]
        where = ", ".join(found[1].origin for found in founds if found)
        return Tokens(*(found[0] if found else None for found in founds)), where

    def duration_ms(self, length_ms: float | None) -> Duration | None:
        """The logged duration. ``length_ms`` is how long the run itself was open, if known."""
        if (found := self.number("duration_ms")) and found[0] >= 0:
            return Duration(found[0], found[1], "")
        if (found := self.number("duration_s")) and found[0] >= 0:
            return Duration(found[0] * 1000, found[1], "")
        if (found := self.number("duration_unknown")) and found[0] >= 0:
            factor, unit = guess_unit(found[0], length_ms)
            assumed = f"{found[1].origin} is taken to be in {unit}"
            return Duration(found[0] * factor, found[1], assumed)
        return None


_source = lru_cache(1 << 10)(parse_source)  # of the templates of profiles: always the same few


def _is_new(text: str, stem: str, parts: Mapping[str, Found]) -> bool:
    """Whether a text says something that the parts found so far do not say."""
    if not text.strip() or stem in parts:
        return False
    return not any(_is_same_text(text, part.value) for part in parts.values())


def _joined(parts: Mapping[str, Found]) -> Json:
    """Join the parts of an input: as a chat if they are one, else as an object by their stems."""
    if len(parts) == 1:
        (only,) = parts.values()
        if encoding.is_chat(only.value):
            return {"messages": only.value}
    if len(parts) == 2:
        system = next((stem for stem in parts if stem in SYSTEM_STEMS), None)
        user = next((stem for stem in parts if stem in USER_STEMS), None)
        if system and user:
            return {
                "messages": [
                    {"role": "system", "content": parts[system].value},
                    {"role": "user", "content": parts[user].value},
                ]
            }
    return {stem: found.value for stem, found in parts.items()}


def _is_same_text(text: str, other: Json) -> bool:
    """Whether two texts are the same one, be it that a logger cut one of them ("…...")."""
    if not isinstance(other, str):
        return False
    a, b = text.strip(), other.strip()
    return a == b or _is_cut_of(a, b) or _is_cut_of(b, a)


def _is_cut_of(cut: str, full: str) -> bool:
    return cut.endswith("...") and len(cut) > 20 and full.startswith(cut[:-3])


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
