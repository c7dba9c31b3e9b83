"""The values of a run by the fields of a profile, with the places where they were logged."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING

from migrator import encoding
from migrator.issues import Code, Issue, Kind
from migrator.model import Json, MetricPoint, RunRecord
from migrator.transformer.found import Found
from migrator.transformer.logged_tables import tables_by_tag
from migrator.transformer.payloads import (
    TEXT_PARTS,
    Part,
    only_row,
    question_and_answer,
    texts_of_field,
)
from migrator.transformer.profile_index import ProfileIndex, Program, Shape, index_of, shape_of
from migrator.transformer.profiles import (
    UNLISTED,
    AssessmentRule,
    Profile,
    Source,
    SpanRule,
    parse_source,
)
from migrator.transformer.prose import Prose
from migrator.transformer.python_repr import parse_value, unquoted
from migrator.transformer.text_names import (
    is_no_answer,
    is_text_of_the_call,
)
from migrator.transformer.unlisted import (
    LAST,
    Entry,
    call_entries,
    counts_under_other_names,
    duration_under_other_name,
    error_under_other_name,
    facts_of_responses,
)
from migrator.transformer.values import (
    EMPTY_WORDS,
    as_number,
    last_value,
    natural,
    parse_json,
)

if TYPE_CHECKING:
    from typing_extensions import Self  # of typing from Python 3.11 on

_rank = itemgetter(0)
_PLACE_IN_TEMPLATE = re.compile(r"\{([^}]*)\}")

_source = lru_cache(1 << 10)(parse_source)  # of the templates of profiles: always the same few

DURATIONS_MS: Mapping[str, float] = {
    "duration_ms": 1.0,
    "duration_s": 1000.0,
    "duration_us": 1e-3,
    "duration_ns": 1e-6,
    "duration_min": 60_000.0,
    "duration_h": 3_600_000.0,
}
"""The fields of durations whose unit is known, with the unit in ms."""


MANY_FILLED = 5_000  # views of one tree that remember what was found in them


@dataclass(slots=True)
class FieldValues:
    """A run read through a profile. What was found once is remembered.

    In a very large tree ``filled`` has the views that remember something. So that they are not too
    many, the last one forgets when the next begins, and finds it again when it is asked. The first
    ones keep it: whoever goes through the whole tree meets each as often as the others.
    """

    run: RunRecord
    profile: Profile
    root: Self | None = None  # None for the root itself
    issues: list[Issue] = field(default_factory=list)
    filled: list[FieldValues] | None = field(default=None, repr=False, compare=False)
    index: ProfileIndex = field(init=False)
    shape: Shape = field(init=False)
    _program: Program = field(init=False)
    _fields: dict[str, Sequence[Found]] | None = None  # by field, in the order of its sources
    _ranks: dict[str, Sequence[int]] = field(default_factory=dict)  # of fields with several values
    _of_root: list[tuple[str, int, Found]] | None = None
    _parsed: dict[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = index_of(self.profile)
        self.shape = shape_of(self.run)
        self._program = self.index.program(self.shape)

    def forget(self) -> None:
        """Forget what was found. It is found again when it is asked for."""
        self._fields = None
        self._ranks = {}
        self._parsed = {}

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
        return [self._found(source.place, key) for key in self.shape.keys_at(source)]

    def has(self, source: Source) -> bool:
        """Whether ``source`` has a value, or an artifact of that name is listed."""
        if source.place == "artifact" and source.pattern is not None and not source.path:
            run = self.root.run if source.of_root and self.root is not None else self.run
            return any(source.pattern.match(artifact.path) for artifact in run.artifacts)
        if source.place in ("field", "artifact"):
            return bool(self.all(source))
        view = self.root if source.of_root and self.root is not None else self
        return bool(view.shape.keys_at(source))

    def judging(self) -> Sequence[tuple[AssessmentRule, Source]]:
        """The assessment rules that may find something, with the source, in the profile's order."""
        return self._program.judging

    def span_rules(self) -> Sequence[SpanRule]:
        """The profile's span rules that the run's own keys fit; ``has`` is what else they need."""
        return self._program.spans

    def every(self, name: str) -> Sequence[Found]:
        """All that the field's sources find, in their order."""
        if self._fields is None:
            self._fields = self._collect()
            if self.filled is not None:
                self.filled.append(self)
                if len(self.filled) > MANY_FILLED:
                    self.filled.pop(-2).forget()
        return self._fields.get(name, ())

    def best(self, name: str) -> Sequence[Found]:
        """All that the first source of the field finds that finds a value at all."""
        return self.best_of(self.ranked(name))

    def ranked(self, name: str) -> list[tuple[int, Found]]:
        """Each value of a field that says something, with the rank of its source."""
        founds = self.every(name)
        ranks = self._ranks.get(name, (0,) * len(founds))
        said = [
            (rank, found)
            for rank, found in zip(ranks, founds, strict=True)
            if found.value is not None and found.value != ""
        ]
        if name != "outputs" or "outputs" in self.profile.own:
            return said
        return [each for each in said if not is_no_answer(each[1])]

    def best_of(self, ranked: Sequence[tuple[int, Found]]) -> tuple[Found, ...]:
        """The values of the first source; ``ranked`` is in the order of the sources."""
        return tuple(found for rank, found in ranked if rank == ranked[0][0])

    def maybe(self, name: str, least: Prose = Prose.PROSE) -> list[Found]:
        """The values of a field of uncertain names that read as texts, and mean nothing else."""
        founds = self.every(name)
        if not founds:
            return []
        assert self._fields is not None
        taken: set[tuple[str, str, str]] = set()
        for other, values in self._fields.items():
            if not other.startswith("maybe_"):
                taken.update(found.at for found in values)
        return [
            found for found in founds if found.at not in taken and is_text_of_the_call(found, least)
        ]

    def first(self, name: str) -> Found | None:
        """The first value of a field that says something; "none", "0" and the like do not."""
        for found in self.every(name):
            if not (isinstance(found.value, str) and found.value.strip().lower() in EMPTY_WORDS):
                return found
        return None

    def first_at(self, sources: Sequence[Source]) -> Found | None:
        """The first value at any of the sources that is not empty."""
        for source in sources:
            for found in self.all(source):
                if found.value is not None and found.value != "":
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

        text = _PLACE_IN_TEMPLATE.sub(put, template)
        return None if missing else text

    def parsed(self, path: str) -> Json:
        """A text artifact: as JSON when it is an object or a list, else as text."""
        if path not in self._parsed:
            text = self.run.texts[path]
            self._parsed[path] = value = parse_json(text)
            if value is text and path.lower().endswith(".json") and text.strip():
                issue = Issue(
                    Code.ARTIFACT_NOT_JSON,
                    f"{self.run.artifact_dir}/{path}" if self.run.artifact_dir else path,
                    f"{path} of run {self.run.run_id} does not parse as JSON.",
                    "its text, as it is",
                    Kind.RUN,
                    self.run.run_id,
                )
                if issue not in self.issues:  # it may have been found before, and forgotten
                    self.issues.append(issue)
        return self._parsed[path]

    def _collect(self) -> dict[str, Sequence[Found]]:
        """Find the values of all fields at once, from the run's keys and files."""
        fields: dict[str, Sequence[Found]] = {}
        others = self._elsewhere()
        for name, keys in self._program.fields.items():
            founds = [self._found(each.place, each.key) for each in keys]
            ranks = [each.rank for each in keys]
            if name in TEXT_PARTS and any(map(_may_be_object, founds)):
                for rank, found in zip(ranks, founds, strict=True):
                    for entry in self._texts_in(name, found):
                        others.setdefault(entry.field, []).append((rank, entry.found))
                continue
            fields[name] = founds
            if len(keys) > 1:
                self._ranks[name] = ranks
        for name, entries in others.items():
            ranks = [each.rank for each in self._program.fields[name]] if name in fields else []
            own = zip(ranks, fields.get(name, ()), strict=True)
            fields[name] = self._in_order(name, [*own, *entries])
        for name, entries in self._calls_under_other_names(fields).items():
            known = fields.get(name, ())
            before = zip(self._ranks.get(name, (0,) * len(known)), known, strict=True)
            fields[name] = self._in_order(name, [*before, *entries])
        return fields

    def _texts_in(self, name: str, found: Found) -> list[Entry]:
        """The texts in a param or tag that holds an object; of any other one the value itself."""
        if not _may_be_object(found) or not self.index.lists(UNLISTED):
            return [Entry(name, found)]
        value = unquoted(str(found.value))
        if isinstance(value, str):
            return [Entry(name, found._replace(value=value))]
        parts = texts_of_field(name, value, self.index.fields_of_param)
        is_of_call = len({part.field.removeprefix("maybe_") for part in parts}) > 1
        if name.endswith("outputs") and isinstance(value, Mapping) and not is_of_call:
            return [Entry(name, found._replace(value=value))]  # with its sources and the like
        entries = [
            Entry(part.field, Found(part.value, found.place, found.key, part.inside, is_of_call))
            for part in parts
        ]
        return entries or [Entry(name, found)]

    def _elsewhere(self) -> dict[str, list[tuple[int, Found]]]:
        """The values of fields that are in files of the run or in the tree's root, with ranks."""
        fields: dict[str, list[tuple[int, Found]]] = {}
        files = self.index.files(tuple(self.run.texts), tables_by_tag(self.run))
        asked = {path for path, name, _, _ in files.listed if name == "inputs"}
        may_open = self.index.lists(UNLISTED) and "inputs" not in self._program.fields and not asked
        for path, name, rank, source in files.listed:
            if (inside := self._artifact(path, source.path)) is None:
                continue
            parts: list[Part] = []
            if may_open and name in ("outputs", "maybe_outputs"):
                value = inside.value
                whole = parse_value(value) if isinstance(value, str) else value
                whole = only_row(whole) if self.root is None else whole
                parts = question_and_answer(whole, self.index.fields_of_param)
            for part in parts:
                found = Found(part.value, "artifact", path, part.inside, is_of_call=True)
                fields.setdefault(part.field, []).append((rank, found))
            if not parts:
                fields.setdefault(name, []).append((rank, inside))
        for name, rank, found in (self.root or self)._at_root():
            fields.setdefault(name, []).append((rank, found))
        return fields

    def _calls_under_other_names(
        self, fields: Mapping[str, Sequence[Found]]
    ) -> dict[str, list[tuple[int, Found]]]:
        """What whole calls give to the fields: those under unlisted names, and listed responses."""
        if self.profile.steps is not None:
            return {}
        listed: list[Found] = []
        for name in ("outputs", "maybe_outputs", "inputs"):
            listed += fields.get(name, ())
        is_root = self.root is None  # tables of nested runs are evaluations, be it of one case
        entries = call_entries(self.run, self.index, is_table_a_call=is_root)
        found: dict[str, list[tuple[int, Found]]] = {}
        for entry in [*entries, *facts_of_responses(listed)]:
            found.setdefault(entry.field, []).append((LAST, entry.found))
        if not self.index.lists(UNLISTED):
            return found
        for name, key in counts_under_other_names(self.shape).items():
            if name not in fields:
                found.setdefault(name, []).append((LAST, self._found("metric", key)))
        is_timed = any(name in fields for name in (*DURATIONS_MS, "duration_unknown"))
        if not is_timed and (duration := duration_under_other_name(self.shape)) is not None:
            name, key = duration
            found.setdefault(name, []).append((LAST, self._found("metric", key)))
        error = error_under_other_name(self.run, self.shape)
        if error is not None and "error_message" not in fields:
            found.setdefault("error_message", []).append((LAST, error))
        return found

    def _in_order(self, name: str, entries: list[tuple[int, Found]]) -> Sequence[Found]:
        """Sort a field's values by the rank of their source, each value once."""
        if len(entries) == 1:
            return (entries[0][1],)
        entries.sort(key=_rank)  # stable: natural order within a source
        unique: dict[tuple[str, str, str, int], tuple[int, Found]] = {}
        for rank, found in entries:  # two values of one JSON file are two, one value twice is one
            unique.setdefault((*found.at, id(found.value)), (rank, found))
        self._ranks[name] = [rank for rank, _ in unique.values()]
        return [found for _, found in unique.values()]

    def _at_root(self) -> list[tuple[str, int, Found]]:
        """What the sources that begin with ``root.`` find here, in the tree's root."""
        if self._of_root is None:
            self._of_root = []
            for name, rank, source in self.index.of_root:
                self._of_root += [(name, rank, found) for found in self.all(source)]
        return self._of_root

    def _found(self, place: str, key: str) -> Found:
        """The value of a param, metric or tag of the run."""
        if place == "metric":
            return Found(last_value(self.run.metrics[key]), place, key)
        return Found((self.run.params if place == "param" else self.run.tags)[key], place, key)

    def _artifact(self, path: str, inside: tuple[str, ...]) -> Found | None:
        value = self.parsed(path)
        for step in inside:
            if not isinstance(value, Mapping) or step not in value:
                return None
            value = value[step]
        return Found(value, "artifact", path, ".".join(inside))


def _may_be_object(found: Found) -> bool:
    """A quick look: whether a text begins like an object, a list or a text in quotes."""
    return isinstance(found.value, str) and found.value.startswith(("{", "[", '"'))
