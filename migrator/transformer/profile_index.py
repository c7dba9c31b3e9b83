"""What a profile reads from a run, compiled once for each shape: each set of keys that runs have.

A run has a few keys, a profile hundreds of sources, and runs of one tracker repeat the same few
sets of keys and file names. So ``shape_of`` gives runs with the same keys the same ``Shape``, and
``ProfileIndex.program`` says which keys of a shape a profile reads, found out once. ``index_of``
makes one index for each profile and process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from migrator.model import RunRecord
from migrator.transformer.profiles import (
    UNLISTED,
    AssessmentRule,
    Profile,
    Recognition,
    Source,
    SpanRule,
    normalise,
    sources_beside_fields,
    without_cut,
)
from migrator.transformer.values import natural

TEXTS = ("inputs", "maybe_inputs", "outputs", "maybe_outputs")
"""The fields that a param or tag also fills where its name says that it was cut."""

TABLE_FIELDS = ("tables", "documents")
"""The fields that a table of ``mlflow.log_table`` may fill."""

MOST_NAMES = 10_000  # single keys and paths that a memo holds
MOST_SHAPES = 1_000  # shapes that are kept for the next run,
MOST_KEYS = 400  # of no more keys than this


class FieldAt(NamedTuple):
    """A field that a key is a source of, and the place of that source in the field's list."""

    field: str
    rank: int


class FieldSource(NamedTuple):
    """A source with the field it belongs to, and its place in the field's list."""

    field: str
    rank: int
    source: Source


class FieldKey(NamedTuple):
    """A run's key that a field reads; it is spelled as the run spells it."""

    rank: int  # the place of its source in the field's list
    place: str
    key: str


class JudgingSource(NamedTuple):
    """A source of an assessment: the number of its rule, and its own number in the rule."""

    rule: int
    source: int


class Program(NamedTuple):
    """What a profile reads from runs of one shape."""

    fields: Mapping[str, tuple[FieldKey, ...]]  # in the order of the field's sources, each key once
    judging: tuple[tuple[AssessmentRule, Source], ...]  # that may find something
    spans: tuple[SpanRule, ...]  # whose keys the runs have; ``has`` is what else they need
    unlisted: Mapping[str, tuple[str, ...]]  # by place, the keys that the profile does not use


class FileSource(NamedTuple):
    """A source with its field and place, and the file of a run that it matches."""

    path: str
    field: str
    rank: int
    source: Source


class Files(NamedTuple):
    """What a profile reads from a set of files."""

    listed: tuple[FileSource, ...]  # in the natural order of the paths
    unlisted: tuple[str, ...]  # files that may hold a whole call or a text


class Shape:
    """The keys of a run, and what is known of them. Runs with the same keys share one."""

    __slots__ = ("_matching", "programs", "recognitions", "sorted_keys", "spelled")

    def __init__(self, names: Mapping[str, tuple[str, ...]]) -> None:
        self.spelled: Mapping[str, Mapping[str, str]] = {
            place: _spelled(each) for place, each in names.items()
        }
        """By place, the run's own spelling of each normalised key."""
        self.sorted_keys: Mapping[str, tuple[str, ...]] = {
            place: tuple(sorted(each)) for place, each in names.items()
        }
        self.programs: dict[ProfileIndex, Program] = {}
        self.recognitions: dict[ProfileIndex, tuple[Recognition, ...]] = {}
        self._matching: dict[tuple[str, str], tuple[str, ...]] = {}

    def keys_at(self, source: Source) -> tuple[str, ...]:
        """The keys that a source of params, metrics or tags matches, by their normalised form."""
        spelled = self.spelled[source.place]
        if source.pattern is None:
            key = spelled.get(source.key)
            return () if key is None else (key,)
        known = self._matching.get((source.place, source.key))
        if known is None:
            match = source.pattern.match
            known = tuple(spelled[plain] for plain in sorted(spelled) if match(plain))
            self._matching[source.place, source.key] = known
        return known


def _spelled(names: tuple[str, ...]) -> dict[str, str]:
    """Map the normalised form of each name to the name; of equal forms the first name wins."""
    return {normalise(name): name for name in sorted(names, reverse=True)}


_shapes: dict[tuple[tuple[str, ...], ...], Shape] = {}


def shape_of(run: RunRecord) -> Shape:
    """The shape of a run, the same for all runs with the same keys."""
    names = (tuple(run.params), tuple(run.metrics), tuple(run.tags))
    known = _shapes.get(names)
    if known is None:
        known = Shape(dict(zip(("param", "metric", "tag"), names, strict=True)))
        if len(_shapes) < MOST_SHAPES and sum(map(len, names)) < MOST_KEYS:
            _shapes[names] = known
    return known


class ProfileIndex:
    """The sources of one profile, by the keys and paths of runs that they match."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.kinds: frozenset[str] = frozenset().union(*(rule.kinds for rule in profile.spans))
        self._by_key: dict[tuple[str, str], tuple[FieldAt, ...]] = {}
        self._to_search: list[FieldSource] = []
        for name, sources in profile.fields.items():
            for rank, source in enumerate(sources):
                self._add(FieldSource(name, rank, source))
        self.of_root = tuple(each for each in self._to_search if each.source.of_root)
        """Sources that begin with ``root.``."""
        self._judging_elsewhere: list[JudgingSource] = []  # patterns, files, fields, the root's
        self._judging_by_key: dict[tuple[str, str], list[JudgingSource]] = {}
        for each in self._judging_sources():
            source = self._source_at(each)
            if _is_own_key(source):
                self._judging_by_key.setdefault((source.place, source.key), []).append(each)
            else:
                self._judging_elsewhere.append(each)
        self._fields_by_name: dict[tuple[str, str], tuple[FieldAt, ...]] = {}
        self._sources_by_path: dict[str, tuple[FieldSource, ...]] = {}
        self._files: dict[tuple[tuple[str, ...], frozenset[str]], Files] = {}

    def _add(self, entry: FieldSource) -> None:
        source = entry.source
        if source.pattern is None and not source.of_root:
            key = (source.place, source.key)
            self._by_key[key] = (*self._by_key.get(key, ()), FieldAt(entry.field, entry.rank))
        else:
            self._to_search.append(entry)

    def knows(self, place: str, key: str) -> bool:
        """Whether a field lists exactly this (normalised) key of a place."""
        return (place, key) in self._by_key

    def fields_of(self, place: str, key: str) -> tuple[FieldAt, ...]:
        """Look up the fields that a run's own (normalised) key is a source of."""
        found = self._fields_by_name.get((place, key))
        if found is None:
            searched = [
                FieldAt(each.field, each.rank)
                for each in self._to_search
                if _matches(each.source, place, key)
            ]
            found = (*self._by_key.get((place, key), ()), *searched)
            whole = without_cut(key)
            if not found and whole != key and place != "metric":
                found = tuple(each for each in self.fields_of(place, whole) if each.field in TEXTS)
            if len(self._fields_by_name) < MOST_NAMES:
                self._fields_by_name[place, key] = found
        return found

    def program(self, shape: Shape) -> Program:
        """What the profile reads from runs of a shape."""
        known = shape.programs.get(self)
        if known is None:
            shape.programs[self] = known = self._compiled(shape)
        return known

    def recognitions(self, shape: Shape) -> tuple[Recognition, ...]:
        """The ways to recognise a tree whose root has a shape: the keys they name are there."""
        known = shape.recognitions.get(self)
        if known is None:
            known = tuple(
                group
                for group in self.profile.recognise
                if all(shape.keys_at(source) for source in group.root_has if _is_of_run(source))
            )
            shape.recognitions[self] = known
        return known

    def _compiled(self, shape: Shape) -> Program:
        fields: dict[str, dict[tuple[str, str], FieldKey]] = {}
        listed: set[tuple[str, str]] = set()
        for found, key in sorted(self._fields_among(shape), key=lambda each: each[0].rank):
            keys = fields.setdefault(found.field, {})
            keys.setdefault((key.place, key.key), key)
            listed.add((key.place, key.key))
        rules = self.profile.assessments
        judging = [*self._judging_elsewhere]
        for place in shape.spelled:
            judging += self.judging_among(place, shape.spelled[place])
        return Program(
            {name: tuple(keys.values()) for name, keys in fields.items()},
            tuple((rules[rule], rules[rule].sources[at]) for rule, at in sorted(judging)),
            tuple(self._span_rules(shape)),
            {place: self._unlisted(shape, place, listed) for place in shape.spelled},
        )

    def _unlisted(
        self, shape: Shape, place: str, listed: Collection[tuple[str, str]]
    ) -> tuple[str, ...]:
        """The keys of a place that are sources of no field, and used for nothing else."""
        return tuple(
            key
            for plain, key in sorted(shape.spelled[place].items(), key=itemgetter(1))
            if (place, key) not in listed and not self._is_used_elsewhere(place, plain)
        )

    def _fields_among(self, shape: Shape) -> Iterator[tuple[FieldAt, FieldKey]]:
        for place, spelled in shape.spelled.items():
            for plain in sorted(spelled):
                for found in self.fields_of(place, plain):
                    yield found, FieldKey(found.rank, place, spelled[plain])

    def _span_rules(self, shape: Shape) -> Iterator[SpanRule]:
        for rule in self.profile.spans:
            own = [source for source in rule.has if _is_of_run(source)]
            if all(map(shape.keys_at, own)):
                yield replace(rule, has=tuple(each for each in rule.has if each not in own))

    def lists(self, field: str) -> bool:
        """Whether the profile has sources for a field."""
        return field in self.profile.fields

    def fields_of_param(self, name: str) -> list[str]:
        """Look up the fields that a param of a name, as it is spelled, is a source of."""
        return [each.field for each in self.fields_of("param", normalise(name))]

    def _is_used_elsewhere(self, place: str, key: str) -> bool:
        """Whether a (normalised) key is for an assessment, an attribute or a tag of the trace."""
        return any(
            source.place == place and (source.key == key or _matches(source, place, key))
            for source in sources_beside_fields(self.profile)
        )

    def sources_at(self, path: str) -> tuple[FieldSource, ...]:
        """Look up the sources that match the path of a run's own artifact."""
        found = self._sources_by_path.get(path)
        if found is None:
            found = tuple(
                each for each in self._to_search if _matches(each.source, "artifact", path)
            )
            if len(self._sources_by_path) < MOST_NAMES:
                self._sources_by_path[path] = found
        return found

    def files(self, paths: tuple[str, ...], tables: frozenset[str]) -> Files:
        """What the profile reads from a run's own files, of which some are logged tables.

        A table is a source of ``TABLE_FIELDS`` only: a whole table is nobody's prompt.
        """
        known = self._files.get((paths, tables))
        if known is None:
            known = Files(
                tuple(self._listed_files(paths, tables)), tuple(self._unlisted_files(paths, tables))
            )
            if len(self._files) < MOST_SHAPES and len(paths) < MOST_KEYS:
                self._files[paths, tables] = known
        return known

    def _listed_files(
        self, paths: tuple[str, ...], tables: Collection[str]
    ) -> Iterator[FileSource]:
        for path in sorted(paths, key=natural):
            for name, rank, source in self.sources_at(path):
                if name != UNLISTED and (path not in tables or name in TABLE_FIELDS):
                    yield FileSource(path, name, rank, source)

    def _unlisted_files(self, paths: tuple[str, ...], tables: Collection[str]) -> Iterator[str]:
        for path in sorted(paths):
            fields = {each.field for each in self.sources_at(path)}
            if fields == {UNLISTED} or (UNLISTED in fields and path in tables):
                yield path

    def judging_among(self, place: str, plain: Iterable[str]) -> list[JudgingSource]:
        """Look up the sources of assessments that any of a run's own (normalised) keys are."""
        found: list[JudgingSource] = []
        for key in plain:
            found += self._judging_by_key.get((place, key), ())
        return found

    def _judging_sources(self) -> list[JudgingSource]:
        entries: list[JudgingSource] = []
        for number, rule in enumerate(self.profile.assessments):
            entries += [JudgingSource(number, at) for at in range(len(rule.sources))]
        return entries

    def _source_at(self, each: JudgingSource) -> Source:
        return self.profile.assessments[each.rule].sources[each.source]


@lru_cache(maxsize=1_000)
def index_of(profile: Profile) -> ProfileIndex:
    """Get the index of a profile. Profiles are told apart by identity."""
    return ProfileIndex(profile)


def _matches(source: Source, place: str, key: str) -> bool:
    if source.place != place or source.of_root or source.pattern is None:
        return False
    return source.pattern.match(key) is not None


def _is_own_key(source: Source) -> bool:
    """Whether a source is one key of the run itself, not a pattern, a file or a field."""
    return _is_of_run(source) and source.pattern is None


def _is_of_run(source: Source) -> bool:
    """Whether a source is a param, a metric or a tag of the run itself."""
    return source.place in ("param", "metric", "tag") and not source.of_root
