"""Lookups in a profile from a run's side: a run has a few keys, a profile hundreds of sources.

``index_of`` makes one index for each profile and process. Runs repeat the same few keys and file
names, so an index remembers its answers: without that, planning takes half as long again.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from migrator.transformer.profiles import Profile, Source, normalise, sources_beside_fields

MOST_NAMES = 10_000  # single keys and paths that a memo holds
MOST_KEY_SETS = 1_000  # sets of a run's keys that a memo holds,
MOST_KEYS = 200  # of no more keys than this


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
    """A key of a run that is a source of a field; the key is spelled as the run spells it."""

    field: str
    rank: int
    key: str


class JudgingSource(NamedTuple):
    """A source of an assessment: the number of its rule, and its own number in the rule."""

    rule: int
    source: int


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
        self.judging_elsewhere = tuple(
            each for each in self._judging_sources() if not _is_own_key(self._source_at(each))
        )
        """Sources of assessments that are patterns, files, fields or the root's."""
        self._fields_by_name: dict[tuple[str, str], tuple[FieldAt, ...]] = {}
        self._fields_by_names: dict[tuple[str, tuple[str, ...]], tuple[FieldKey, ...]] = {}
        self._unlisted_by_names: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        self._sources_by_path: dict[str, tuple[FieldSource, ...]] = {}
        self._judging_by_names: dict[tuple[str, tuple[str, ...]], tuple[JudgingSource, ...]] = {}

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
            if len(self._fields_by_name) < MOST_NAMES:
                self._fields_by_name[place, key] = found
        return found

    def fields_among(self, place: str, names: tuple[str, ...]) -> tuple[FieldKey, ...]:
        """Look up the fields that any of a run's own keys are sources of, by normalised key."""
        found = self._fields_by_names.get((place, names))
        if found is None:
            entries: list[FieldKey] = []
            for plain, name in sorted(spellings(names).items()):
                fields = self.fields_of(place, plain)
                entries += [FieldKey(each.field, each.rank, name) for each in fields]
            found = tuple(entries)
            if _has_room(self._fields_by_names, names):
                self._fields_by_names[place, names] = found
        return found

    def lists(self, field: str) -> bool:
        """Whether the profile has sources for a field."""
        return field in self.profile.fields

    def fields_of_param(self, name: str) -> list[str]:
        """Look up the fields that a param of a name, as it is spelled, is a source of."""
        return [each.field for each in self.fields_of("param", normalise(name))]

    def unlisted_among(self, place: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Look up which of a run's own keys are sources of no field."""
        found = self._unlisted_by_names.get((place, names))
        if found is None:
            listed = {each.key for each in self.fields_among(place, names)}
            found = tuple(
                name
                for name in sorted(names)
                if name not in listed and not self._is_used_elsewhere(place, normalise(name))
            )
            if _has_room(self._unlisted_by_names, names):
                self._unlisted_by_names[place, names] = found
        return found

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

    def judging_among(self, place: str, names: tuple[str, ...]) -> tuple[JudgingSource, ...]:
        """Look up the sources of assessments that any of a run's own keys are."""
        found = self._judging_by_names.get((place, names))
        if found is None:
            plain = spellings(names)
            entries: list[JudgingSource] = []
            for each in self._judging_sources():
                source = self._source_at(each)
                if _is_own_key(source) and source.place == place and source.key in plain:
                    entries.append(each)
            found = tuple(entries)
            if _has_room(self._judging_by_names, names):
                self._judging_by_names[place, names] = found
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
    is_own = source.place in ("param", "metric", "tag") and not source.of_root
    return is_own and source.pattern is None


# ------------------------------------------------------------ keys of runs, whatever the profile

_spellings: dict[tuple[str, ...], Mapping[str, str]] = {}


def spellings(names: tuple[str, ...]) -> Mapping[str, str]:
    """Map the normalised form of each name to the name; of equal forms the first name wins."""
    known = _spellings.get(names)
    if known is None:
        known = {normalise(name): name for name in sorted(names, reverse=True)}
        if _has_room(_spellings, names):
            _spellings[names] = known
    return known


_matching: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}


def matching(source: Source, names: tuple[str, ...]) -> tuple[str, ...]:
    """List the names that a source with a pattern matches, sorted by their normalised form."""
    known = _matching.get((source.key, names))
    if known is None:
        assert source.pattern is not None
        plain = spellings(names)
        known = tuple(plain[key] for key in sorted(plain) if source.pattern.match(key))
        if _has_room(_matching, names):
            _matching[source.key, names] = known
    return known


def _has_room(memo: Mapping[Any, object], names: tuple[str, ...]) -> bool:
    """Whether a memo that is keyed by all keys of a run should take one more entry."""
    return len(memo) < MOST_KEY_SETS and len(names) < MOST_KEYS
